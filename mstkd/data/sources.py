"""Where an encoded image lies: a file, a record of a larger file, or bytes already in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, Protocol

READ_AT_ONCE = 1 << 18  # bytes

Points = tuple[tuple[float, float], ...]  # five landmarks (x, y), in pixels of the image


class Source(Protocol):
    """A `Path` is one. Sources are sent to worker processes, so they are small and picklable."""

    def read_bytes(self) -> bytes:
        """The encoded image.

        Raises:
            OSError: it cannot be read.
        """
        ...


class FaceImage(NamedTuple):
    """An image of an identity. Identities are named within their group."""

    source: Source
    name: str  # what lists and messages call it; no two images of a group share one
    identity: str
    points: Points | None = None  # left eye, right eye, nose, left and right corner of the mouth


def file_of(source: Source) -> Path:
    """The file that holds the image."""
    return source if isinstance(source, Path) else Path(source.path)  # type: ignore[attr-defined]


def read(source: Source) -> bytes:
    """The encoded image: `source.read_bytes()`, of a file with half the calls to the system.

    Raises:
        OSError: it cannot be read.
    """
    if not isinstance(source, Path):
        return source.read_bytes()
    descriptor = os.open(source, os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(descriptor, READ_AT_ONCE), b""))
    finally:
        os.close(descriptor)
