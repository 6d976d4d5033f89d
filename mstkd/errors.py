"""Faults the user can mend, told in one line."""

from __future__ import annotations

import shlex


class InputError(Exception):
    """A file, a key or a value that is not what it must be.

    Args:
        where: the file or the config key at fault.
        found: what stands there.
        expected: what should stand there.
    """

    def __init__(self, where: object, *, found: object, expected: object) -> None:
        self.where, self.found, self.expected = str(where), str(found), str(expected)
        super().__init__(f"{self.where}: found {self.found}; expected {self.expected}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.where, self.found, self.expected)


def anew(expected: str, path: object) -> str:
    """What to expect of a result that cannot be used, with the command that helps."""
    return f"{expected}; rm {shlex.quote(str(path))} and run again"


def _rebuild(where: str, found: str, expected: str) -> InputError:
    """Unpickling calls the class with its message alone; a worker process must tell all three."""
    return InputError(where, found=found, expected=expected)


class RankError(Exception):
    """One of the processes that train together ended, so the others were ended too."""
