"""The paper's statements (section 5), counted: in how many cases do the results agree?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np

from mstkd.artifacts.records import Record
from mstkd.report.comparisons import HIGHER_IS_BETTER, WORDS, Comparison, Sample, Topic
from mstkd.report.rows import SUMMARIES, Row

Outcome = Literal["holds", "holds in part", "does not hold"]


class Statement(Record):
    """A general statement and how often the results agree with it."""

    topic: Topic
    holds: int  # by the estimates
    of: int
    clear: int | None  # of `holds`: those whose interval excludes 0
    opposite: int | None  # cases that are clearly the other way
    verdict: Outcome
    sentence: str


def _outcome(holds: int, of: int) -> Outcome:
    if holds == of:
        return "holds"
    return "holds in part" if holds else "does not hold"


def _counted(topic: Topic, text: str, cases: Sequence[bool], unit: str) -> list[Statement]:
    """A statement of estimates alone, or none if there is no case to count."""
    holds, of = sum(cases), len(cases)
    if of == 0:
        return []
    return [
        Statement(
            topic=topic,
            holds=holds,
            of=of,
            clear=None,
            opposite=None,
            verdict=_outcome(holds, of),
            sentence=f"{text}: {holds} of {of} {unit}.",
        )
    ]


def teacher_statements(teachers: Sequence[Row], groups: Sequence[str]) -> list[Statement]:
    """The first statement of section 5.1, in both of its readings."""
    across_teachers, across_groups = [], []
    specialized = [row for row in teachers if row.subject.set == "specialized"]
    for row in specialized:
        own = row.own_group(groups)
        if own is None:
            continue
        position = groups.index(own)
        scores = row.scores(groups).mean(axis=0)[: len(groups)]
        across_groups.append(bool(scores[position] > np.delete(scores, position).max()))
        rivals = [
            other.scores(groups).mean(axis=0)[position]
            for other in specialized
            if other is not row and other.subject.backbone == row.subject.backbone
        ]
        if rivals:
            across_teachers.append(bool(scores[position] > max(rivals)))
    return [
        *_counted(
            "teachers",
            "On its own group a specialized teacher is the best of the specialized teachers",
            across_teachers,
            "teachers",
        ),
        *_counted(
            "teachers",
            "A specialized teacher scores higher on its own group than on any other",
            across_groups,
            "teachers",
        ),
    ]


STATEMENTS: dict[Topic, str] = {
    "specialized or baseline": "Students of specialized teachers have a {} than their baseline",
    "distillation": "Distilled students have a {} than the student without distillation",
    "single teacher": "Students of several teachers have a {} than that of the single teacher",
}


def comparison_statements(comparisons: Sequence[Comparison]) -> list[Statement]:
    """How often a difference is of the sign that the statement says, and how often surely."""
    statements = []
    for (topic, text), measure in itertools.product(STATEMENTS.items(), SUMMARIES):
        cases = [
            comparison
            for comparison in comparisons
            if (comparison.topic, comparison.measure) == (topic, measure)
            and comparison.difference is not None
        ]
        higher = HIGHER_IS_BETTER[measure]
        signs = [np.sign(case.difference or 0) for case in cases]
        better = [bool(sign == (1 if higher else -1)) for sign in signs]
        clear = sum(case.verdict == "better" for case in cases)
        opposite = sum(case.verdict == "worse" for case in cases)
        words = f"{'higher' if higher else 'lower'} {WORDS[measure]}"
        for counted in _counted(topic, text.format(words), better, "pairs"):
            sentence = (
                f"{counted.sentence[:-1]} by the estimates "
                f"(interval clear of 0: {clear} this way, {opposite} the other way)."
            )
            update = {"clear": clear, "opposite": opposite, "sentence": sentence}
            statements.append(counted.model_copy(update=update))
    return statements


def adaptor_statements(students: Sequence[Sample]) -> list[Statement]:
    """Sections 5.2 and 5.3: the simplest adaptor is the best."""
    contests: dict[tuple[str | None, ...], list[Sample]] = {}
    for student in students:
        subject = student.row.subject
        if subject.set in ("specialized", "baseline"):
            contests.setdefault((subject.backbone, subject.set, subject.loss), []).append(student)
    statements = []
    for measure in SUMMARIES[:2]:
        column, sign = SUMMARIES.index(measure), 1 if HIGHER_IS_BETTER[measure] else -1
        cases = []
        for contest in contests.values():
            values = {s.row.subject.name: sign * s.scores[:, column].mean() for s in contest}
            if "SL" in values and len(values) > 1:
                cases.append(values.pop("SL") > max(values.values()))
        text = f"SL is the adaptor with the {'highest' if sign > 0 else 'lowest'} {WORDS[measure]}"
        statements += _counted("adaptors", text, cases, "sets of students")
    return statements
