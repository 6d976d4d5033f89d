"""What the page shows of a table of scored pairs, as numbers.

Rates are those of `measures.error_rates`, intervals those of `intervals.rates_at`. Shapes: P pairs
of which those within groups count, G groups, T thresholds.
"""

from __future__ import annotations

import math
import sys
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mstkd.errors import InputError
from mstkd.evaluation.intervals import Interval, rate_interval, rates_at
from mstkd.evaluation.measures import Rates, error_rates, fmr_insufficient
from mstkd.evaluation.scores import ScoreTable

Floats = NDArray[np.float64]

MOST_GROUPS = 64
STEPS = 1_000  # between the lowest and the highest score, about
FMRS = (0.1, 0.01, 0.001, 0.0001)  # of all groups, that a button sets the threshold for
FIRST = 0.01  # which of these it is set for first
HARDEST = 6  # pairs of a group and kind


class Curves(NamedTuple):
    """Error rates at every threshold that can be chosen."""

    thresholds: Floats  # (T,), rising; the first accepts all pairs, the last none
    rates: Rates  # (T, G), fractions
    together: Rates  # (T,), of all groups' pairs
    marks: dict[float, int]  # for each global FMR that enough pairs tell of, the lowest place


def curves(table: ScoreTable, where: str) -> Curves:
    """Error rates of each group by threshold.

    Args:
        table: checked, so that each group has pairs of both kinds.
        where: what messages call it.

    Raises:
        InputError: more than `MOST_GROUPS` groups.
    """
    if len(table.groups) > MOST_GROUPS:
        expected = f"{MOST_GROUPS} at most to look at; --group names other columns"
        raise InputError(where, found=f"{len(table.groups):,} groups", expected=expected)
    own = table.rows(table.within)
    at = even_thresholds(own.similarity)
    rates = error_rates(own.similarity, own.same, own.group1, at)
    whole = error_rates(own.similarity, own.same, np.zeros_like(own.group1), at)
    together = Rates(whole.fmr[:, 0], whole.fnmr[:, 0])
    impostors = int((~own.same).sum())
    marks = {
        fmr: int(np.argmax(together.fmr <= fmr))
        for fmr in FMRS
        if fmr == FIRST or fmr_insufficient(fmr, impostors) is None
    }
    return Curves(at, rates, together, marks)


def even_thresholds(similarity: Floats) -> Floats:
    """Thresholds (T,) in even steps of 1, 2 or 5 times a power of ten around all scores (P,).

    Each is the number nearest to its decimals, as which it is shown and asked for.
    """
    low, high = float(similarity.min()), float(similarity.max())
    finest = float(np.spacing(max(abs(low), abs(high)))) * STEPS
    width = min(max(high - low, finest), sys.float_info.max)
    power = math.floor(math.log10(width / STEPS))
    times, power = next(
        (times, exponent)
        for times, exponent in ((1, power), (2, power), (5, power), (1, power + 1), (2, power + 1))
        if float(f"{times}e{exponent}") * STEPS >= width
    )
    step = float(f"{times}e{power}")
    places = range(math.floor(low / step) - 1, math.ceil(high / step) + 2)
    values = np.unique([float(f"{place * times}e{power}") for place in places])
    begin, end = np.searchsorted(values, [low, high], side="right")
    return values[begin - 1 : end + 1]


class AtThreshold(NamedTuple):
    """Rates with intervals: of each group, and of all groups' pairs last (G + 1,)."""

    fmr: Interval
    fnmr: Interval


def at_threshold(table: ScoreTable, threshold: float) -> AtThreshold:
    """Error rates at a threshold with their 95 % intervals, for which people are the unit."""
    found = rates_at([table], threshold=threshold)
    together = rate_interval(found.together)
    return AtThreshold(
        *(
            Interval(
                *(np.append(own[0], all_[0, kind]) for own, all_ in zip(one, together, strict=True))
            )
            for kind, one in enumerate(map(rate_interval, (found.fmr, found.fnmr)))
        )
    )


def hardest(table: ScoreTable, group: int, *, genuine: bool) -> list[int]:
    """Rows of a group's genuine pairs that are least alike, or impostor pairs that are most."""
    rows = np.flatnonzero(table.within & (table.group1 == group) & (table.same == genuine))
    scores = table.similarity[rows]
    order = np.argsort(scores if genuine else -scores, kind="stable")
    return [int(row) for row in rows[order[:HARDEST]]]
