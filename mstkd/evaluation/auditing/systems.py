"""Who is audited: systems by name, on one list of pairs or each on its own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mstkd.errors import InputError
from mstkd.evaluation.scorefiles import read_scores
from mstkd.evaluation.scores import ScoreTable, on_pairs_of, shared_pairs

ALL = ""  # the group of all pairs together
ALL_PAIRS = ", all impostor pairs"  # after where it is, in comparisons.csv
MIXED = 0.5  # of a list's pairs that another has too, above which both are meant to be one

Floats = NDArray[np.float64]
Truths = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Systems:
    """Systems and their scores of the same pairs, all of which lie within groups.

    Shapes: M systems, P pairs, G groups.
    """

    names: tuple[str, ...]
    tables: tuple[ScoreTable, ...]  # (M,), in one order of pairs
    left_out: int = 0  # pairs across groups

    @property
    def pairs(self) -> ScoreTable:
        """The pairs, with the scores of the first system."""
        return self.tables[0]

    @property
    def groups(self) -> tuple[str, ...]:
        """Names (G,)."""
        return self.pairs.groups

    @cached_property
    def similarity(self) -> Floats:
        """Of all systems, (M, P)."""
        return np.stack([table.similarity for table in self.tables])

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Impostor and genuine pairs of each group, (2, G)."""
        cells = self.pairs.same * len(self.groups) + self.pairs.group1
        return np.bincount(cells, minlength=2 * len(self.groups)).reshape(2, -1)

    def pairs_of(self, group: str) -> NDArray[np.int64]:
        """Impostor and genuine pairs of a group, or of all for `ALL`."""
        if group == ALL:
            return self.counts.sum(axis=1)
        return self.counts[:, self.groups.index(group)]


@dataclass(frozen=True, eq=False)
class Lists:
    """Systems by the list of pairs that they were tested on; all lists have the same groups."""

    names: tuple[str, ...]  # of all systems, as they were given
    systems: tuple[Systems, ...]  # of each list

    @property
    def groups(self) -> tuple[str, ...]:
        """Names (G,)."""
        return self.systems[0].groups


def on_their_lists(
    tables: Mapping[str, ScoreTable], paths: Mapping[str, Path] | None = None
) -> Lists:
    """Systems on the same pairs together, and those on other pairs apart.

    Args:
        tables: by the systems' names.
        paths: where those came from that were read, for messages.

    Raises:
        InputError: as `on_one_list`; two lists that share more than half of their pairs and yet are
            not the same, or that have other groups.
    """
    where = {name: str((paths or {}).get(name, name)) for name in tables}
    lists: list[dict[str, ScoreTable]] = []
    for name, table in tables.items():
        for members in lists:
            first = next(iter(members.values()))
            if shared_pairs(first, table) > MIXED:
                members[name] = on_pairs_of(first, table, where[name])
                break
        else:
            lists.append({name: _regrouped(table, lists[0], where[name]) if lists else table})
    return Lists(tuple(tables), tuple(on_one_list(members, paths) for members in lists or [{}]))


def _regrouped(table: ScoreTable, members: Mapping[str, ScoreTable], where: str) -> ScoreTable:
    """A table with its groups in the order of the first list's."""
    name, first = next(iter(members.items()))
    if set(table.groups) != set(first.groups):
        found, expected = (", ".join(map(repr, one.groups)) for one in (table, first))
        raise InputError(where, found=f"the groups {found}", expected=f"{expected}, as of {name}")
    places = np.array([first.groups.index(group) for group in table.groups], np.int16)
    group1, group2 = places[table.group1], places[table.group2]
    return replace(table, groups=first.groups, group1=group1, group2=group2)


def on_one_list(
    tables: Mapping[str, ScoreTable], paths: Mapping[str, Path] | None = None
) -> Systems:
    """Systems on the pairs, folds and groups of the first, less pairs across groups.

    Args:
        tables: by the systems' names.
        paths: where those came from that were read, for messages.

    Raises:
        InputError: no system, not the same pairs, one fold, or a group without pairs of both kinds.
    """
    if not tables:
        raise InputError("scores", found="no table", expected="one or more")
    where = {name: str((paths or {}).get(name, name)) for name in tables}
    (name, first), *others = tables.items()
    aligned = [first, *(on_pairs_of(first, table, where[other]) for other, table in others)]
    inside = tuple(table.rows(table.within) for table in aligned)
    systems = Systems(tuple(tables), inside, left_out=int((~first.within).sum()))
    for kind, counts in zip(("impostor", "genuine"), systems.counts, strict=True):
        if not counts.all():
            found = f"no {kind} pairs within group {systems.groups[int(np.argmin(counts))]!r}"
            raise InputError(where[name], found=found, expected="pairs of both kinds in each group")
    if first.folds < 2:
        raise InputError(where[name], found="one fold", expected="two at least")
    return systems


def read_systems(paths: Sequence[Path], **options: Any) -> Lists:
    """Tables of scores by their lists of pairs, systems named by what tells their paths apart.

    Args:
        paths: CSV or HDF5 files.
        options: those of `scorefiles.read_scores`, for each.

    Raises:
        InputError: as `read_scores` and `on_their_lists`, or a file given twice.
    """
    named = dict(zip(names_of(paths), paths, strict=True))
    tables = {name: read_scores(path, **options) for name, path in named.items()}
    return on_their_lists(tables, named)


def names_of(paths: Sequence[Path]) -> list[str]:
    """What tells files apart, without what their paths begin and end with in common.

    `a/seed0/scores.h5` and `b/seed0/scores.h5` are `a` and `b`; one file goes by its own name.

    Raises:
        InputError: a file given twice.
    """
    whole = [path.resolve() for path in paths]
    for number, path in enumerate(whole):
        if path in whole[:number]:
            raise InputError(paths[number], found="the same file twice", expected="it once")
    parts = [[*(Path.cwd() / path).parent.parts, _stem(path.name)] for path in paths]
    if len(parts) == 1:
        return [parts[0][-1]]
    start = _alike(parts)
    end = _alike([part[start:][::-1] for part in parts])
    names = ["/".join(part[start : len(part) - end]) for part in parts]
    if len({name for name in names if name}) < len(names):  # a.csv and a.h5, say
        return [path.as_posix() for path in paths]
    return names


def _alike(sequences: Sequence[Sequence[str]]) -> int:
    """How many members sequences begin with in common."""
    together = zip(*sequences, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda one: len(set(one)) == 1, together))


def _stem(name: str) -> str:
    for ending in (".csv.gz", ".csv", ".h5", ".npz", ".safetensors"):
        name = name.removesuffix(ending)
    return name
