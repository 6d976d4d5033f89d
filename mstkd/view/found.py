"""The tables of scored pairs below a folder, known by their names and first lines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mstkd.artifacts.contents import format_of
from mstkd.config import AuditSettings
from mstkd.data.formats.columns import first_names
from mstkd.data.formats.pairlists import ALIASES
from mstkd.errors import InputError
from mstkd.evaluation.scorefiles import FORMAT, SCORES

OURS = "scores.h5"  # what the steps call it
MOST = 5_000  # tables to choose from


class Found(NamedTuple):
    """A table, and what it is called: where it lies from the folder."""

    path: Path
    name: str


def score_tables(folder: Path, settings: AuditSettings) -> list[Found]:
    """The tables of scored pairs below a folder, in the order of their names.

    HDF5 files of this program's format and CSVs (plain or .gz) with a column of scores. Links and
    hidden folders are passed over.

    Raises:
        InputError: no such folder, none in it, or more than `MOST`.
    """
    if not folder.is_dir():
        raise InputError(folder, found="no such folder", expected="a folder of results")
    tables: list[Found] = []
    for path in _files(folder):
        if _is_table(path, settings):
            where = path.parent if path.name == OURS else path
            tables.append(Found(path, where.relative_to(folder).as_posix()))
        if len(tables) > MOST:
            found = f"more than {MOST:,} tables of scored pairs"
            raise InputError(folder, found=found, expected="a folder with fewer")
    if not tables:
        expected = f"{OURS}, or a CSV of pairs with a column similarity or distance"
        raise InputError(folder, found="no table of scored pairs below it", expected=expected)
    return sorted(tables, key=lambda one: one.name)


def _files(folder: Path) -> Iterator[Path]:
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(above, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _is_table(path: Path, settings: AuditSettings) -> bool:
    if path.suffix == ".h5":  # those of the steps are not opened: a study has thousands
        return path.name == OURS or format_of(path) == FORMAT
    if not path.name.endswith((".csv", ".csv.gz")):
        return False
    scores = {*SCORES, *(alias for name in SCORES for alias in ALIASES[name]), settings.score}
    return not scores.isdisjoint(first_names(path))
