"""Paths that records and lists name, kept within the folders that a person named."""

from __future__ import annotations

from pathlib import Path

from mstkd.errors import InputError


def inside(path: Path, *folders: Path) -> Path:
    """The file that a path leads to, all links followed, if it lies below one of some folders.

    Raises:
        InputError: it does not, or its links go round.
    """
    expected = f"a file below {' or '.join(map(str, folders))}"
    try:
        real = path.resolve()
        roots = [folder.resolve() for folder in folders]
    except (OSError, RuntimeError, ValueError) as error:  # a loop, a name too long, a zero byte
        raise InputError(path, found=str(error), expected=expected) from None
    if not any(real.is_relative_to(root) for root in roots):
        raise InputError(path, found="a file that lies elsewhere", expected=expected)
    return real
