"""Scores as others write them: their kinds, attributes in another file, rates without scores.

Shapes: P pairs, S systems, G groups.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray

from mstkd.config import ScoreKind
from mstkd.data.formats.columns import (
    TextColumns,
    first_names,
    frame_columns,
    read_text_columns,
)
from mstkd.errors import InputError, printable

if TYPE_CHECKING:
    import pandas as pd

SCORE_KINDS: tuple[ScoreKind, ...] = get_args(ScoreKind)


def with_attributes(file: TextColumns, attributes: TextColumns) -> TextColumns:
    """The columns of another file beside a file's: by pair where it has two images, else by image.

    Args:
        file: with the columns `image1` and `image2`.
        attributes: a row a pair, with `image1` and `image2` as in FaVFA's; or a row an image, with
            `image`, `path` or `img`, of which every other column becomes one for either side.

    Raises:
        InputError: an image or pair that the other file has not, or has twice.
    """
    for name in ("image1", "image2"):
        if name not in file:
            found = f"the columns {printable(', '.join(file.columns))}"
            raise InputError(
                file.header, found=found, expected=f"{name}, to join {attributes.path}"
            )
    if {"image1", "image2"} <= set(attributes.columns):
        ends = list(zip(attributes.texts("image1"), attributes.texts("image2"), strict=True))
        row_of = _places(attributes, ends)
        wanted = list(zip(file.texts("image1"), file.texts("image2"), strict=True))
        rows = _found(file, attributes, row_of, wanted)
        added = {name: values[rows] for name, values in attributes.columns.items()}
    else:
        key = next((name for name in ("image", "path", "img") if name in attributes), None)
        if key is None:
            found = f"the columns {', '.join(attributes.columns)}"
            raise InputError(attributes.header, found=found, expected="image, or image1 and image2")
        row_of = _places(attributes, list(attributes.texts(key)))
        added = {}
        for side in ("1", "2"):
            rows = _found(file, attributes, row_of, list(file.texts(f"image{side}")))
            added |= {
                f"{name}{side}": values[rows]
                for name, values in attributes.columns.items()
                if name != key
            }
    return replace(file, columns={**added, **file.columns})


def similarities(values: NDArray[np.float64], kind: ScoreKind) -> NDArray[np.float64]:
    """Scores (P,) as similarities: as they are, negated, or the cosine of unit vectors.

    The squared Euclidean distance of unit vectors is 2 - 2 cos.
    """
    match kind:
        case "similarity":
            return values
        case "distance":
            return -values
        case "euclidean":
            return 1 - np.square(values) / 2
        case "squared-euclidean":
            return 1 - values / 2


# ---------------------------------------------------------------- rates without scores


@dataclass(frozen=True, eq=False)
class GroupRates:
    """Error rates of systems by group at a threshold of each system's, as fractions (S, G)."""

    systems: tuple[str, ...]
    groups: tuple[str, ...]
    fmr: NDArray[np.float64]
    fnmr: NDArray[np.float64]


RATES = ("system", "group", "fmr", "fnmr")


def is_rates(path: Path | pd.DataFrame) -> bool:
    """Whether a CSV has the columns of rates by group, by its first line; or a data frame."""
    names = first_names(path) if isinstance(path, Path) else path.columns
    return set(RATES) <= set(names)


def read_rates(path: Path | pd.DataFrame, name: str = "frame") -> GroupRates:
    """Rates by group from a CSV `system,group,fmr,fnmr`, as reports of standards bodies print them.

    `fairness.measures_of_rates` says what follows from them. Systems and groups keep the order in
    which they come; further columns are passed over.

    Args:
        path: the file, or a data frame with its columns.
        name: what messages call a data frame.

    Raises:
        InputError: a fault of the file or a field, a rate outside 0 to 1, a system and group twice,
            a system without a group that another has, or one group only.
    """
    file = read_text_columns(path) if isinstance(path, Path) else frame_columns(path, name)
    for name in RATES:
        if name not in file:
            found = f"the columns {printable(', '.join(file.columns))}"
            raise InputError(file.header, found=found, expected=f"{name} among them")
    places = _places(file, list(zip(file.texts("system"), file.texts("group"), strict=True)))
    systems, groups = (tuple(dict.fromkeys(file.columns[name])) for name in ("system", "group"))
    if len(groups) < 2:
        raise InputError(file.path, found=f"one group, {groups[0]!r}", expected="two or more")
    rows = np.array([[places.get((one, group), -1) for group in groups] for one in systems])
    if (rows < 0).any():
        system, group = (int(place) for place in np.argwhere(rows < 0)[0])
        found = f"no rates of {systems[system]!r} for group {groups[group]!r}"
        raise InputError(file.path, found=found, expected="every group for every system")
    rates = []
    for name in ("fmr", "fnmr"):
        values = file.numbers(name)
        outside = np.flatnonzero((values < 0) | (values > 1))
        if len(outside):
            raise file.fault(name, int(outside[0]), "a fraction, 0 to 1 (not percent)")
        rates.append(values[rows])
    return GroupRates(systems, groups, *rates)


def _places(file: TextColumns, keys: Sequence[Hashable]) -> dict[Hashable, int]:
    places: dict[Hashable, int] = {}
    for row, key in enumerate(keys):
        if places.setdefault(key, row) != row:
            found = f"{_name(key)} again, as on {file.line(places[key])}"
            raise InputError(file.at(row), found=found, expected="it once")
    return places


def _found(
    file: TextColumns,
    other: TextColumns,
    places: Mapping[Hashable, int],
    keys: Sequence[Hashable],
) -> NDArray[np.int64]:
    rows = np.array([places.get(key, -1) for key in keys])
    missing = np.flatnonzero(rows < 0)
    if len(missing):
        row = int(missing[0])
        raise InputError(
            file.at(row),
            found=f"{_name(keys[row])}, which {other.path} has not",
            expected="attributes of every image or pair",
        )
    return rows


def _name(key: Hashable) -> str:
    return " and ".join(map(repr, key)) if isinstance(key, tuple) else repr(key)
