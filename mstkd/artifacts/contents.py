"""What HDF5 files say of themselves: the hash of their content, and what made them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py

from mstkd.artifacts.provenance import parse
from mstkd.artifacts.records import Provenance, file_sha256
from mstkd.artifacts.sealed import DAMAGE, attribute_of, reading

ATTRIBUTE = "provenance"


def content_sha256(path: Path) -> str:
    """The content hash that a pack or cache carries, of other files that of their bytes.

    What is carried is believed: `sealed.is_as_written` and those who open the file compare it.
    """
    with contextlib.suppress(*DAMAGE):  # a damaged one has the hash of its bytes: that of no pack
        if h5py.is_hdf5(path):
            with reading(path, tried=False) as file:
                carried = attribute_of(file, "sha256")
            if carried is not None:
                return str(carried)
    return file_sha256(path)


def format_of(path: Path) -> str | None:
    """Which of our formats an HDF5 file says that it has; None of other and damaged files."""
    with contextlib.suppress(*DAMAGE):
        if h5py.is_hdf5(path):
            with reading(path, look=_format) as file:
                return _format_told(file)
    return None


def _format(path: Path) -> str | None:
    with h5py.File(path, "r", locking=False) as file:
        return _format_told(file)


def _format_told(file: Any) -> str | None:
    told = attribute_of(file, "format")
    return told if isinstance(told, str) else None


def hashed_contents(paths: Iterable[Path]) -> dict[Path, str]:
    """The content hash of each file."""
    return {path: content_sha256(path) for path in paths}


def attribute(made: Provenance) -> str:
    """A record as the attribute `ATTRIBUTE` of an HDF5 file."""
    return made.model_dump_json()


def read_attribute(path: Path, file: Any) -> Provenance | None:
    """The record in an open HDF5 file, None where there is none.

    Raises:
        InputError: the attribute holds something else.
        ValueError: it is of variable length.
    """
    text = attribute_of(file, ATTRIBUTE)
    return None if text is None else parse(text, path)
