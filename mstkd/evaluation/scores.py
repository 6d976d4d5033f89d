"""The table of scored pairs: one row a pair, whatever system scored it.

`scorefiles` reads and writes it. Shapes: P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mstkd.errors import InputError

Codes = NDArray[np.int32]


class Attribute(NamedTuple):
    """A further column: a value for each side of a pair, or one for both."""

    first: Codes  # (P,), positions in `names`
    second: Codes  # (P,), the same where the column is one for both
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scored pairs of one system.

    `similarity` float64 (P,), higher for more alike; `same` bool (P,), True for genuine pairs;
    `fold` int16 (P,), 0 to K - 1; `group1` and `group2` int16 (P,), positions in `groups`, which
    are equal where a pair lies within one group; `identity1` and `identity2` int32 (P,), positions
    in `identities`; `image1` and `image2` int32 (P,), positions in `images`, or None where the
    images have no names.

    Raises:
        ValueError: shapes, types or codes that are not so.
    """

    similarity: NDArray[np.float64]
    same: NDArray[np.bool_]
    fold: NDArray[np.int16]
    group1: NDArray[np.int16]
    group2: NDArray[np.int16]
    groups: tuple[str, ...]
    identity1: Codes
    identity2: Codes
    identities: tuple[str, ...]
    image1: Codes | None = None
    image2: Codes | None = None
    images: tuple[str, ...] = ()
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pairs = len(self.similarity)
        for name, dtype in (
            ("similarity", np.float64),
            ("same", np.bool_),
            ("fold", np.int16),
            ("group1", np.int16),
            ("group2", np.int16),
            ("identity1", np.int32),
            ("identity2", np.int32),
        ):
            _check_column(name, getattr(self, name), pairs, dtype)
        if not np.isfinite(self.similarity).all():
            raise ValueError("a similarity is not finite")
        if pairs and self.fold.min() < 0:
            raise ValueError("a fold below 0")
        _check_codes("group", (self.group1, self.group2), self.groups)
        _check_codes("identity", (self.identity1, self.identity2), self.identities)
        if (self.image1 is None) != (self.image2 is None):
            raise ValueError("image1 without image2, or the other way round")
        if self.image1 is not None and self.image2 is not None:
            for name, codes in (("image1", self.image1), ("image2", self.image2)):
                _check_column(name, codes, pairs, np.int32)
            _check_codes("image", (self.image1, self.image2), self.images)
        for name, one in self.attributes.items():
            for codes in (one.first, one.second):
                _check_column(name, codes, pairs, np.int32)
            _check_codes(name, (one.first, one.second), one.names)

    def __len__(self) -> int:
        return len(self.similarity)

    @property
    def within(self) -> NDArray[np.bool_]:
        """Which pairs (P,) lie within one group."""
        return self.group1 == self.group2

    @property
    def folds(self) -> int:
        """The number of folds K."""
        return int(self.fold.max()) + 1 if len(self) else 0

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> ScoreTable:
        """The chosen pairs alone, in that order; all names stay."""
        arrays: dict[str, Any] = {
            one.name: value[chosen]
            for one in fields(self)
            if isinstance(value := getattr(self, one.name), np.ndarray)
        }
        kept = {
            name: Attribute(one.first[chosen], one.second[chosen], one.names)
            for name, one in self.attributes.items()
        }
        return replace(self, **arrays, attributes=kept)

    def grouped_by(self, columns: Sequence[str]) -> ScoreTable:
        """The same pairs with groups made of columns: of several, of every combination that occurs.

        Args:
            columns: `group`, or names of further columns; without any, all pairs are one group.

        Raises:
            KeyError: no such column.
        """
        own = Attribute(self.group1.astype(np.int32), self.group2.astype(np.int32), self.groups)
        known = {"group": own, **self.attributes}
        if not columns:
            none = np.zeros(len(self), np.int16)
            return replace(self, groups=("all",), group1=none, group2=none)
        names, (first, second) = combined([known[name] for name in columns])
        return replace(
            self, groups=names, group1=first.astype(np.int16), group2=second.astype(np.int16)
        )


def _check_column(name: str, values: Any, pairs: int, dtype: type) -> None:
    if not isinstance(values, np.ndarray) or values.shape != (pairs,) or values.dtype != dtype:
        found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values)
        raise ValueError(f"{name} is {found}, not {np.dtype(dtype)} ({pairs},)")


def _check_codes(name: str, codes: Sequence[NDArray[Any]], names: Sequence[str]) -> None:
    for part in codes:
        if part.size and (part.min() < 0 or part.max() >= len(names)):
            raise ValueError(f"{name} outside 0 to {len(names) - 1}")


def combined(columns: Sequence[Attribute]) -> tuple[tuple[str, ...], tuple[Codes, Codes]]:
    """The combinations of values that occur, in the order of the values, joined by "/"."""
    sizes = [len(column.names) for column in columns]
    first, second = (
        np.ravel_multi_index(s, sizes) for s in zip(*(c[:2] for c in columns), strict=True)
    )
    used, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    places = np.unravel_index(used, sizes)
    names = tuple(
        "/".join(column.names[place] for column, place in zip(columns, at, strict=True))
        for at in zip(*places, strict=True)
    )
    own, other = np.split(codes.astype(np.int32), 2)
    return names, (own, other)


# ---------------------------------------------------------------- folds


class TooFewPairsError(ValueError):
    """A group has fewer pairs of a kind than there are folds."""

    def __init__(self, pairs: int, kind: str, group: int) -> None:
        super().__init__(f"{pairs} {kind} pairs of group {group}")
        self.pairs, self.kind, self.group = pairs, kind, group


def stratified_folds(
    same: NDArray[np.bool_], group1: NDArray[np.integer], group2: NDArray[np.integer], folds: int
) -> NDArray[np.int16]:
    """Folds (P,) for pairs that come without: contiguous in a group's pairs of each kind.

    Of a list in RFW's layout, fold after fold with as many pairs of each kind, they are its folds.

    Raises:
        ValueError: fewer than two folds.
        TooFewPairsError: a group has fewer genuine or impostor pairs than folds.
    """
    if folds < 2:
        raise ValueError(f"{folds} folds, fewer than 2")
    highest = int(max(group1.max(initial=0), group2.max(initial=0))) + 1
    low, high = np.minimum(group1, group2), np.maximum(group1, group2)
    stratum = (low.astype(np.int64) * highest + high) * 2 + same
    fold = np.empty(len(same), np.int16)
    for number in np.unique(stratum):
        rows = np.flatnonzero(stratum == number)
        if len(rows) < folds and low[rows[0]] == high[rows[0]]:
            kind = "genuine" if same[rows[0]] else "impostor"
            raise TooFewPairsError(len(rows), kind, int(low[rows[0]]))
        # As `fold_of_pairs`: the first folds are one larger if need be.
        sizes = len(rows) // folds + (np.arange(folds) < len(rows) % folds)
        fold[rows] = np.repeat(np.arange(folds), sizes)
    return fold


# ---------------------------------------------------------------- several systems


def same_pairs(first: ScoreTable, second: ScoreTable) -> bool:
    """Whether two tables hold the same pairs, row by row, as far as their names tell.

    Identities, groups and which pairs are genuine are compared, and images where both name them;
    which image of a pair comes first is not.
    """
    return len(first) == len(second) and _keys(first, second) == _keys(second, first)


def shared_pairs(first: ScoreTable, second: ScoreTable) -> float:
    """Which part of the shorter table's pairs the other has too, as far as their names tell."""
    if _same_columns(first, second):
        return 1.0
    one, other = set(_keys(first, second)), set(_keys(second, first))
    return len(one & other) / min(len(one), len(other))


def on_pairs_of(first: ScoreTable, second: ScoreTable, where: str) -> ScoreTable:
    """The scores of `second` on the pairs of `first`: its rows, names and folds.

    Args:
        first: the pairs to compare on.
        second: another system's scores of the same pairs, in any order if images have names.
        where: what messages call `second`.

    Raises:
        InputError: not the same pairs.
    """
    if _same_columns(first, second):  # without a look at names, pair by pair
        return replace(first, similarity=second.similarity)
    wanted, there = _keys(first, second), _keys(second, first)
    if wanted == there:
        return replace(first, similarity=second.similarity)
    place = {key: row for row, key in enumerate(there)}
    missing = sum(key not in place for key in wanted)
    expected = "the same pairs of every system"
    if missing or len(wanted) != len(there):
        found = f"{len(there):,} pairs; of the first system's {len(wanted):,}, {missing:,} missing"
        raise InputError(where, found=found, expected=expected)
    if len(place) < len(there):
        found = "pairs in another order, and no names of images to tell them apart by"
        raise InputError(where, found=found, expected=expected)
    order = np.array([place[key] for key in wanted])
    return replace(first, similarity=second.similarity[order])


def _same_columns(first: ScoreTable, second: ScoreTable) -> bool:
    names = ("groups", "identities", "images")
    columns = ("same", "group1", "group2", "identity1", "identity2", "image1", "image2")
    return all(getattr(first, one) == getattr(second, one) for one in names) and all(
        np.array_equal(getattr(first, one), getattr(second, one)) for one in columns
    )


def _keys(table: ScoreTable, other: ScoreTable) -> list[tuple[Any, ...]]:
    """What tells each row's pair: of both sides the names that both tables have."""
    named: list[tuple[tuple[str, ...], Any, Any]] = [
        (table.groups, table.group1, table.group2),
        (table.identities, table.identity1, table.identity2),
    ]
    if table.images and other.images:
        named.insert(0, (table.images, table.image1, table.image2))
    texts = [(np.array(names, object), first, second) for names, first, second in named]
    one = zip(*(names[first] for names, first, _ in texts), strict=True)
    two = zip(*(names[second] for names, _, second in texts), strict=True)
    rows = zip(table.same.tolist(), one, two, strict=True)
    return [(same, min(a, b), max(a, b)) for same, a, b in rows]
