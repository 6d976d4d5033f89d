"""Judged claims as records: their numbers, and the sentences that say them."""

from __future__ import annotations

import math

from mstkd.artifacts.records import Record, Subject
from mstkd.config import Threshold
from mstkd.evaluation.claims import Measure
from mstkd.evaluation.contrasts import Verdict, scope
from mstkd.report.rounding import signed

WORDS: dict[Measure, str] = {
    "global_accuracy": "global accuracy",
    "accuracy": "accuracy on {group}",
    "every_group": "accuracy on every group, by the one least in favour",
    "own_group": "accuracy on the own group",
    "std": "STD",
    "ser": "SER",
}
UNITS: dict[Measure, str] = dict.fromkeys(WORDS, " points") | {"ser": ""}  # percentage points
THRESHOLDS: dict[Threshold, str] = {
    "own": "each group at its own threshold",
    "shared": "one threshold for all groups",
}


class Needed(Record):
    """What would show an effect in four of five cases, one thing changed and all else as it is."""

    effect: float  # percentage points; of SER a difference of ratios
    identities: float | None  # times as many, with as many pairs each; None where none would do
    pairs: float | None  # times as many, of the same identities
    seeds: int | None  # None too with one seed, where the spread of training is not known


class Power(Record):
    """What this test set can tell of a claim."""

    smallest: float  # difference that is seen in four of five cases
    observed: Needed
    published: Needed | None  # of the paper's own effect, where it states one


class Judgement(Record):
    """A difference of models, and what it says of a claim."""

    value: float  # percentage points; of SER a difference of ratios; the mean over seeds
    corrected: float  # less what noise adds to STD and SER; of accuracies `value`
    low: float  # of the interval
    high: float
    p: float  # two-sided
    p_adjusted: float  # by Holm
    verdict: Verdict


class JudgedCell(Judgement):
    """One comparison of like with like."""

    label: str
    # Exact p-value, for comparison with the literature; None but of the accuracies of two models
    # that are each trained once.
    mcnemar: float | None


class JudgedClaim(Judgement):
    """A claim on one measure at one threshold: the mean over its cells, or the nearest rival."""

    topic: str
    claim: str
    threshold: Threshold
    measure: Measure
    group: str | None  # of "accuracy"
    seeds: int
    power: Power
    sentence: str
    cells: list[JudgedCell]


class Interval(Record):
    """An estimate with its limits."""

    value: float
    low: float
    high: float


class SpreadTold(Record):
    """STD or SER of one model, and how much of it is noise."""

    value: float | None  # None of SER where a group has no error
    low: float
    high: float | None  # None as `value`
    corrected: float  # the value that would show `value` on average
    floor: float  # what an even system shows on these pairs on average
    floor_high: float  # and stays below in 19 of 20 cases


class ModelTold(Record):
    """One trained model at one threshold, with intervals; accuracies in percent."""

    subject: Subject
    label: str
    threshold: Threshold
    groups: dict[str, Interval]
    global_accuracy: Interval
    std: SpreadTold
    ser: SpreadTold


class RowTold(Record):
    """A row of the tables at one threshold: one model, the mean over its seeds, with intervals."""

    subject: Subject  # of the first seed
    seeds: int
    threshold: Threshold
    groups: dict[str, Interval]  # percent
    global_accuracy: Interval
    std: Interval | None  # of what is not noise
    ser: Interval | None  # None where a group has no error


class PublishedTold(Record):
    """The same claims on the rows that the paper prints."""

    assumption: str
    groups: list[str]
    claims: list[JudgedClaim]  # without cells


def p_text(p: float) -> str:
    """A p-value in words of two digits."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def sentence(
    claim: str,
    judged: Judgement,
    *,
    threshold: Threshold,
    measure: Measure,
    group: str | None,
    rivals: int,
    cells: int,
    seeds: int,
    models: int,
    alike: bool = False,
) -> str:
    """A claim, its number and its verdict; with one seed, or equal ones, of these models alone."""
    of = f", mean of {cells} comparisons" if cells > 1 else ""
    if rivals > 1:
        of = f", against the nearest of {rivals} rivals"
    if measure in ("std", "ser"):
        of = f", {signed(judged.corrected)} without noise{of}"
    return (
        f"{claim}: {WORDS[measure].format(group=group)} {signed(judged.value)}{UNITS[measure]}{of} "
        f"(95 % interval {signed(judged.low)} to {signed(judged.high)}, "
        f"{p_text(judged.p_adjusted)} after Holm, {THRESHOLDS[threshold]}): "
        f"{judged.verdict} {scope(seeds, models, alike=alike)}."
    )


def needs(needed: Needed, *, with_seeds: bool) -> str:
    """What an effect would need, in words."""
    if needed.identities is not None and needed.identities <= 1:
        return "no more than there is"
    ways = [
        f"{_times(count)} {what}"
        for count, what in (
            (needed.identities, "the identities"),
            (needed.pairs, "the pairs of the same identities"),
        )
        if count is not None
    ]
    if needed.seeds is not None:
        ways.append(f"{needed.seeds} seeds")
    if ways:
        return " or ".join(ways)
    return "more than any number of pairs" + (" or seeds" if with_seeds else "")


def _times(count: float) -> str:
    return f"{count:.1f} ×" if count < 100 else f"{count:,.0f} ×"


def finite(value: float) -> float | None:
    """The value, None where it is infinite."""
    return float(value) if math.isfinite(value) else None
