"""Files that appear whole or not at all: write beside, flush to disk, rename."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mstkd.artifacts.writers import only_renamer

SUFFIX = ".tmp"  # of the temporary names


def own_name(path: Path, suffix: str) -> Path:
    """A hidden name beside a file that no other process takes, on whatever machine."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{suffix}")


def left_over(path: Path, suffix: str) -> list[Path]:
    """What lies beside a file under such names, of processes alive or dead."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]+{re.escape(suffix)}")
    return sorted(one for one in path.parent.iterdir() if name.fullmatch(one.name))


def remove_left_over(path: Path, suffix: str) -> None:
    """Remove what dead processes left under such names; only where no other is at work."""
    for left in left_over(path, suffix):
        remove(left)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let a fault of the disk name the file, which the system does not of an open one."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Give a temporary name for each path; rename them all, in order, if the block succeeds.

    The renames follow each other directly, the last path last: a reader that finds the last
    path finds the others, and two writers do not mix theirs. On an exception the temporary files
    are removed and the old files stay as they were; so are those of processes that were killed.
    """
    temporary = tuple(own_name(path, SUFFIX) for path in paths)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    with only_renamer(paths[-1]) as turn:
        if turn.alone:
            for path in paths:
                remove_left_over(path, SUFFIX)
        try:
            yield temporary
            for part in temporary:
                _sync(part)
            for part, path in zip(temporary, paths, strict=True):
                part.replace(path)
        finally:
            for part in temporary:
                part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as (part,):
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
