"""Two models against each other: differences with intervals over verification folds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mstkd.artifacts.records import Record
from mstkd.config.grids import split_variant
from mstkd.errors import InputError
from mstkd.evaluation.foldbootstrap import Array, interval, resampled_summaries
from mstkd.report.rows import SUMMARIES, Measure, Row

Verdict = Literal["better", "worse", "no difference seen", "undefined"]
Topic = Literal["teachers", "specialized or baseline", "adaptors", "distillation", "single teacher"]

CONFIDENCE = 0.95
WORDS = {"global_accuracy": "global accuracy", "std": "STD", "ser": "SER"}
UNITS = {"global_accuracy": " points", "std": " points", "ser": ""}  # percentage points
HIGHER_IS_BETTER = {"global_accuracy": True, "std": False, "ser": False}


class Comparison(Record):
    """One measure of two models: `first` minus `second`, and how sure its sign is."""

    topic: Topic
    first: str
    second: str
    measure: Measure
    first_value: float | None  # percent; percentage points for STD; a ratio for SER
    second_value: float | None
    difference: float | None  # None where SER is undefined: a group without error
    low: float | None  # 95 % interval over verification folds
    high: float | None
    seed_std: float | None  # of the difference, where both have the same seeds, two or more
    verdict: Verdict  # of `first`
    sentence: str


@dataclass(frozen=True)
class Sample:
    """A row with its summaries as recorded and as resampled."""

    row: Row
    scores: Array  # (S, 3)
    draws: Array  # (R, 3)


def sample_of(row: Row, groups: Sequence[str], weights: Array) -> Sample:
    """A row and its draws under `weights` (R, G, F); InputError if a file has not F folds."""
    folds = weights.shape[-1]
    accuracies = []
    for run, path in zip(row.runs, row.paths, strict=True):
        per_group = [run.own_threshold.groups[group].fold_accuracies for group in groups]
        for found in map(len, per_group):
            if found != folds:
                raise InputError(path, found=f"{found} folds", expected=f"{folds}, as elsewhere")
        accuracies.append(per_group)
    draws = resampled_summaries(np.array(accuracies), weights)
    return Sample(row, row.scores(groups)[:, len(groups) :], draws)


def pairs(students: Sequence[Sample]) -> Iterator[tuple[Topic, Sample, Sample]]:
    """Who is compared with whom: sets of teachers, then each distilled student and a control.

    Where the config has lists, like is compared with like: the values of both are the same.
    """

    def of(*sets: str) -> list[Sample]:
        return [student for student in students if student.row.subject.set in sets]

    def alike(first: Sample, second: Sample, *keys: str) -> bool:
        one, other = first.row.subject, second.row.subject
        return all(getattr(one, key) == getattr(other, key) for key in keys)

    def agree(first: Sample, second: Sample) -> bool:
        """Of the values of lists, a control without distillation has the student's alone."""
        one, other = (split_variant(x.row.subject.loss or "").values for x in (first, second))
        return all(one[key] == other[key] for key in one.keys() & other.keys())

    for first, second in itertools.product(of("specialized"), of("baseline")):
        if alike(first, second, "backbone", "name", "loss"):
            yield "specialized or baseline", first, second
    for first, second in itertools.product(of("specialized", "baseline", "single"), of("none")):
        if agree(first, second):
            yield "distillation", first, second
    for first, second in itertools.product(of("specialized", "baseline"), of("single")):
        if alike(first, second, "backbone", "loss"):
            yield "single teacher", first, second


def describe(sample: Sample, *, with_backbone: bool) -> str:
    """What a sentence calls a student."""
    subject = sample.row.subject
    if subject.set == "none":
        return sample.row.title
    parts = [f"{subject.set} {subject.name}", str(split_variant(subject.loss or ""))]
    if subject.set == "single":
        parts[0] = sample.row.label
    backbone = str(split_variant(subject.backbone)) if with_backbone else ""
    return ", ".join(part for part in (*parts, backbone) if part)


def compare(
    topic: Topic,
    first: Sample,
    second: Sample,
    *,
    measure: Measure,
    describe: Callable[[Sample], str],
) -> Comparison:
    """Take `second` from `first`; `describe` names them. All draws must share their weights."""
    column = SUMMARIES.index(measure)
    values = [_finite(sample.scores[:, column].mean()) for sample in (first, second)]
    with np.errstate(invalid="ignore"):  # infinite minus infinite SER
        bounds = interval(first.draws[:, column] - second.draws[:, column], CONFIDENCE)
    difference = None if values[0] is None or values[1] is None else values[0] - values[1]
    if difference is None:
        bounds = None
    seed_std = None
    if len(first.row.seeds) > 1 and first.row.seeds == second.row.seeds:
        seed_std = _finite((first.scores[:, column] - second.scores[:, column]).std(ddof=1))
    verdict = _verdict(bounds, higher_is_better=HIGHER_IS_BETTER[measure])
    names = describe(first), describe(second)
    return Comparison(
        topic=topic,
        first=names[0],
        second=names[1],
        measure=measure,
        first_value=values[0],
        second_value=values[1],
        difference=difference,
        low=bounds[0] if bounds else None,
        high=bounds[1] if bounds else None,
        seed_std=seed_std,
        verdict=verdict,
        sentence=_sentence(names, measure, difference, bounds),
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _verdict(bounds: tuple[float, float] | None, *, higher_is_better: bool) -> Verdict:
    if bounds is None:
        return "undefined"
    low, high = bounds
    if low <= 0 <= high:
        return "no difference seen"
    return "better" if (low > 0) == higher_is_better else "worse"


def _sentence(
    names: tuple[str, str],
    measure: str,
    difference: float | None,
    bounds: tuple[float, float] | None,
) -> str:
    head = f"{names[0]} against {names[1]}: {WORDS[measure]}"
    if difference is None:
        return f"{head} has no finite difference, as a group without error leaves it undefined."
    text = f"{head} differs by {difference:+.2f}{UNITS[measure]}"
    if bounds is None:
        return f"{text}; its interval is not finite."
    return f"{text} (95 % interval {bounds[0]:+.2f} to {bounds[1]:+.2f})."
