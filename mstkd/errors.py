"""Faults the user can mend, told in one line."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def printable(text: str) -> str:
    """A text of others in one line, with signs that would steer a terminal told by number."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


class InputError(Exception):
    """A file, a key or a value that is not what it must be.

    Args:
        where: the file or the config key at fault.
        found: what stands there.
        expected: what should stand there.
    """

    def __init__(self, where: object, *, found: object, expected: object) -> None:
        self.where = printable(str(where))
        self.found, self.expected = (
            "\n".join(map(printable, str(text).split("\n"))) for text in (found, expected)
        )
        self.faults: tuple[InputError, ...] = (self,)
        super().__init__(f"{self.where}: found {self.found}; expected {self.expected}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.where, self.found, self.expected)


class ManyFaultsError(InputError):
    """Several of them, a line each; `where`, `found` and `expected` are the first's."""

    def __init__(self, faults: Sequence[InputError]) -> None:
        first = faults[0]
        super().__init__(first.where, found=first.found, expected=first.expected)
        self.faults = tuple(faults)
        self.args = ("\n".join(map(str, faults)),)

    def __reduce__(self) -> tuple[object, ...]:
        return ManyFaultsError, (self.faults,)


def anew(expected: str, path: object) -> str:
    """What to expect of a result that cannot be used, with the command that helps."""
    return f"{expected}; rm {shlex.quote(str(path))} and run again"


def _rebuild(where: str, found: str, expected: str) -> InputError:
    """Unpickling calls the class with its message alone; a worker process must tell all three."""
    return InputError(where, found=found, expected=expected)


class RankError(Exception):
    """One of the processes that train together ended, so the others were ended too."""
