"""Tables of scored pairs in, every measure and comparison out: `mstkd.audit`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from mstkd.errors import InputError
from mstkd.evaluation.auditing import measured
from mstkd.evaluation.auditing.all_impostors import ImpostorRow
from mstkd.evaluation.auditing.systems import ALL, Lists, names_of, on_their_lists
from mstkd.evaluation.auditing.tables import (
    Difference,
    Evenness,
    Row,
    Tested,
    as_frame,
    differences,
    evenness_rows,
    measure_rows,
)
from mstkd.evaluation.fairness import differential, measures_of_rates
from mstkd.evaluation.foreign import GroupRates, is_rates, read_rates
from mstkd.evaluation.scorefiles import check_telling, read_scores
from mstkd.evaluation.scores import ScoreTable
from mstkd.evaluation.spread import DRAWS

FMRS = (1e-2, 1e-3, 1e-4)
REPORTED = "as reported; no interval, for rates alone do not say what they rest on"

Scores = ScoreTable | pd.DataFrame | Path | str


@dataclass(frozen=True, eq=False)
class Audit:
    """Every measure of some systems, and every comparison of two of them.

    `measures` and `comparisons` are the data frames of measures.csv and comparisons.csv
    (docs/audit.md).
    """

    systems: tuple[str, ...]
    groups: tuple[str, ...]
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    evenness: tuple[Evenness, ...]  # of measures over groups: what noise adds to them
    impostors: tuple[ImpostorRow, ...] = ()  # where embeddings are known
    lists: tuple[tuple[str, ...], ...] = ()  # the systems on each list of pairs

    @cached_property
    def measures(self) -> pd.DataFrame:
        """A row a system, group, measure and place."""
        return as_frame(self.rows, Row)

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """A row for every two systems, group, measure and place."""
        return as_frame(self.differences, Difference)


def audit(
    scores: Scores | Sequence[Scores] | Mapping[str, Scores],
    *,
    thresholds: Iterable[float] = (),
    fmrs: Iterable[float] = (),
    draws: int = DRAWS,
    seed: int = 0,
) -> Audit:
    """Measure one system or several on scored pairs, with intervals, and compare them.

    Systems on the same pairs are compared on these, those on other pairs as independent.

    Args:
        scores: a table of scored pairs (docs/scores.md), as a data frame with the columns of a CSV,
            as a `ScoreTable` or its file; or several: as a sequence, or by names that are to be
            told. A CSV or data frame `system,group,fmr,fnmr` of rates by group gives the measures
            of rates alone, without intervals.
        thresholds: similarities at which error rates are taken.
        fmrs: global false match rates at which error rates are taken; 1e-2, 1e-3 and 1e-4 unless
            given.
        draws: of the noise of measures over groups.
        seed: of the draws.

    Raises:
        InputError: a fault of a file, tables that share pairs and are not of the same, a group
            without pairs of both kinds, a threshold that is no number or an FMR outside 0 to 1.
    """
    if isinstance(scores, Mapping):
        named: Mapping[str, Scores] = scores
    else:
        listed = [scores] if isinstance(scores, Scores) else list(scores)
        named = _named(listed)
    read = {
        name: Path(one) if isinstance(one, str) else one
        for name, one in named.items()
        if not isinstance(one, ScoreTable)
    }
    if len(named) == 1:
        for name, one in read.items():
            if is_rates(one):
                return audit_rates(read_rates(one, name))
    tables = {
        name: one if isinstance(one, ScoreTable) else read_scores(read[name], name=name)
        for name, one in named.items()
    }
    for name in tables.keys() - read.keys():
        check_telling(tables[name], name)
    paths = {name: one for name, one in read.items() if isinstance(one, Path)}
    lists = on_their_lists(tables, paths)
    return audit_systems(lists, thresholds=thresholds, fmrs=fmrs, draws=draws, seed=seed)


def _named(scores: Sequence[Scores]) -> dict[str, Scores]:
    """Files by what tells them apart; others are numbered where there are several."""
    paths = names_of([Path(one) for one in scores if isinstance(one, Path | str)])
    others = len(scores) - len(paths)
    numbers = [f"system {n + 1}" for n in range(others)] if others > 1 else ["system"]
    names = {True: iter(paths), False: iter(numbers)}
    return {next(names[isinstance(one, Path | str)]): one for one in scores}


def audit_systems(
    lists: Lists,
    *,
    thresholds: Iterable[float] = (),
    fmrs: Iterable[float] = (),
    draws: int = DRAWS,
    seed: int = 0,
) -> Audit:
    """What `audit` says of systems that were read; arguments and errors are its."""
    given, targets = similarities(thresholds), targeted(fmrs)
    tested = []
    for number, systems in enumerate(lists.systems):
        # Draws of its own for each list, as what is drawn is independent.
        noise = {"draws": draws, "seed": seed + number}
        found = itertools.chain(
            measured.of_protocol(systems, "own", **noise),
            measured.of_protocol(systems, "shared", **noise),
            measured.of_separation(systems),
            *(measured.of_threshold(systems, one, **noise) for one in given),
            *(measured.of_fmr(systems, one, **noise) for one in targets),
        )
        tested.append(Tested(systems, list(found)))
    rows = [row for one in tested for row in measure_rows(one.systems, one.found)]
    evenness = [row for one in tested for row in evenness_rows(one.systems, one.found)]
    return Audit(
        systems=lists.names,
        groups=lists.groups,
        rows=tuple(sorted(rows, key=lambda row: lists.names.index(row.system))),
        differences=tuple(differences(lists.names, tested)),
        evenness=tuple(sorted(evenness, key=lambda row: lists.names.index(row.system))),
        lists=tuple(one.names for one in lists.systems),
    )


def audit_rates(rates: GroupRates) -> Audit:
    """The measures of rates by group that came without scores: no intervals, no comparisons."""
    rows: list[Row] = []

    def add(system: str, group: str, measure: str, value: float) -> None:
        none = np.nan
        row = Row(system, group, measure, "shared", value, none, none, none, "", none, none, "")
        rows.append(row._replace(note=REPORTED))

    measures = measures_of_rates(rates.fmr, rates.fnmr)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = {kind: differential(getattr(rates, kind)) for kind in ("fmr", "fnmr")}
    for s, system in enumerate(rates.systems):
        for name, values in (("fmr", rates.fmr), ("fnmr", rates.fnmr), ("tar", 1 - rates.fnmr)):
            for group, value in zip(rates.groups, values[s], strict=True):
                add(system, group, name, float(value))
        for name, values in measures.items():
            add(system, ALL, name, float(values[s]))
        for kind, values in relative.items():
            for group, value in zip(rates.groups, values[s], strict=True):
                add(system, group, f"{kind}_differential", float(value))
    return Audit(
        systems=rates.systems,
        groups=rates.groups,
        rows=tuple(rows),
        differences=(),
        evenness=(),
    )


def similarities(values: Iterable[float]) -> list[float]:
    """Thresholds, each once.

    Raises:
        InputError: one that is no number.
    """
    given = list(dict.fromkeys(map(float, values)))
    for one in given:
        if not math.isfinite(one):
            raise InputError("threshold", found=one, expected="a similarity, a finite number")
    return given


def targeted(values: Iterable[float]) -> list[float]:
    """Global FMRs, each once; those of `FMRS` where there are none.

    Raises:
        InputError: one outside 0 to 1.
    """
    targets = list(dict.fromkeys(map(float, values))) or list(FMRS)
    for one in targets:
        if not 0 < one < 1:
            raise InputError("fmr", found=one, expected="a fraction between 0 and 1")
    return targets
