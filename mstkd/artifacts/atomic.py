"""Files that appear whole or not at all: write beside, flush to disk, rename."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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
    path finds the others. On an exception the temporary files are removed and the old files
    stay as they were.
    """
    temporary = tuple(path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in paths)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
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
