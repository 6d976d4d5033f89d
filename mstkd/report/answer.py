"""What a run answers to the paper's question: in one sentence, and as a forest plot.

A forest plot has a line a comparison: the difference as a mark, its interval as a line, and 0. No
mark differs by colour alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from matplotlib.ticker import MaxNLocator

from mstkd.evaluation.claims import Measure
from mstkd.evaluation.contrasts import Verdict, scope
from mstkd.report.claims import Claims
from mstkd.report.judgements import JudgedClaim
from mstkd.report.paper import TOPIC
from mstkd.report.rounding import rounded, signed

QUESTION = (
    "Is a student of specialized teachers more accurate, and more even over the groups, than one "
    "of baseline teachers?"
)
UNANSWERED = "There are no students of both sets of teachers here, so this run does not answer it."
TOLD: dict[Measure, dict[Verdict, str]] = {
    "global_accuracy": {
        "supported": "more accurate",
        "contradicted": "less accurate",
        "undecided": "not told apart in accuracy",
    },
    "std": {
        "supported": "more even",
        "contradicted": "less even",
        "undecided": "not told apart in evenness",
    },
}
MARGIN = 4.0  # percent of the width to either side
TICKS = 4  # steps between them, at most


class Mark(NamedTuple):
    """A difference in a forest plot, and in words; places are percent of the width."""

    verdict: Verdict
    value: str
    low: str
    high: str
    paper: str  # the same of the paper's own rows, where they have it
    at: float
    begin: float
    end: float


@dataclass(frozen=True)
class Forest:
    """Lines of one mark for each column, and the columns' common axes."""

    columns: tuple[str, ...]
    ahead: tuple[str, ...]  # of each column, which side of 0 is ahead
    lines: tuple[tuple[str, tuple[Mark | None, ...]], ...]
    ticks: tuple[tuple[tuple[str, float], ...], ...]  # of each column
    zeros: tuple[float, ...]


def answer(claims: Claims) -> str:
    """One sentence: did specialized teachers help, in accuracy and in evenness, and how sure."""
    asked = _asked(claims)
    if not asked:
        return UNANSWERED
    parts = [_told(asked, measure) for measure in ("global_accuracy", "std")]
    where = scope(min(one.seeds for one in asked), models=0)
    against = "Against students of baseline teachers, those of specialized teachers are"
    return f"{against} {parts[0]}; and {parts[1]}: {where}."


def whom(claims: Claims) -> str:
    """One sentence: the groups for which students of specialized teachers are ahead or behind."""
    asked = [one for one in _asked(claims) if one.measure == "accuracy"]
    if not asked:
        return ""
    shown = []
    for verdict, words in (("supported", "more accurate"), ("contradicted", "less accurate")):
        of_losses = [
            f"{listed([str(one.group) for one in members])} with {loss}"
            for loss, of_loss in _by_loss(asked)
            if (members := [one for one in of_loss if one.verdict == verdict])
        ]
        if of_losses:
            shown.append(f"{words} on {listed(of_losses)}")
    count = sum(one.verdict == "undecided" for one in asked)
    rest = f"{count} of {len(asked)} comparisons are undecided" if count else "none is undecided"
    return f"Group by group they are {'; '.join(shown) or 'not told apart'}; {rest}."


def at_a_glance(claims: Claims) -> Forest | None:
    """Every claim on accuracy and on STD, each group at its own threshold."""
    measures: tuple[tuple[Measure, ...], ...] = (("global_accuracy", "own_group"), ("std",))
    judged = [one for one in claims.claims if one.threshold == "own"]
    lines = []
    for claim, members in itertools.groupby(judged, lambda one: one.claim):
        of_claim = list(members)
        found = [
            next((one for one in of_claim if one.measure in asked), None) for asked in measures
        ]
        lines.append((claim, found))
    return _forest(
        lines,
        ("Accuracy, points", "STD, points"),
        ("more accurate →", "← more even"),
        _published(claims),
    )


def by_group(claims: Claims) -> Forest | None:
    """Students of specialized less those of baseline teachers, a line a group."""
    asked = _asked(claims)
    losses = [loss for loss, _ in _by_loss(asked)]
    lines = [
        (
            group or "all groups",
            [
                next(
                    one
                    for one in members
                    if (one.measure, one.group)
                    == (("accuracy", group) if group else ("global_accuracy", None))
                )
                for _, members in _by_loss(asked)
            ],
        )
        for group in (*claims.groups, None)
    ]
    ahead = ("specialized ahead →",) * len(losses)
    return _forest(lines, tuple(losses), ahead, _published(claims), together=True)


def worth(claims: Claims) -> str:
    """How many pairs the groups have, and what one pair is worth."""
    by_count: dict[int, list[str]] = {}
    for group, count in claims.group_pairs.items():
        by_count.setdefault(count, []).append(group)
    parts = [
        f"{listed(groups)} {'have' if len(groups) > 1 else 'has'} {count:,} pairs"
        f"{' each' if len(groups) > 1 else ''}, of which one is {_points(100 / count)} points of "
        "the group's accuracy"
        for count, groups in by_count.items()
    ]
    of_all = max(100 / count for count in by_count) / len(claims.groups)
    return f"{'; '.join(parts)}, and {_points(of_all)} of the global one at most."


# ---------------------------------------------------------------- words


def _asked(claims: Claims) -> list[JudgedClaim]:
    """The judgements on the question, each group at its own threshold."""
    return [one for one in claims.claims if (one.topic, one.threshold) == (TOPIC, "own")]


def _loss(judged: JudgedClaim) -> str:
    return judged.claim.rpartition(", ")[2]


def _by_loss(judged: Iterable[JudgedClaim]) -> list[tuple[str, list[JudgedClaim]]]:
    by_loss: dict[str, list[JudgedClaim]] = {}
    for one in judged:
        by_loss.setdefault(_loss(one), []).append(one)
    return list(by_loss.items())


def _told(asked: Sequence[JudgedClaim], measure: Measure) -> str:
    """The verdicts on a measure, those of one kind together."""
    judged = [one for one in asked if one.measure == measure]
    parts = []
    for verdict, words in TOLD[measure].items():
        found = [_with_numbers(one) for one in judged if one.verdict == verdict]
        if found:
            parts.append(f"{words} {listed(found)}")
    return listed(parts)


def _with_numbers(one: JudgedClaim) -> str:
    """The loss, with difference and interval."""
    name, unit = ("STD ", "") if one.measure == "std" else ("", " points")
    interval = f"{signed(one.low)} to {signed(one.high)}"
    return f"with {_loss(one)} ({name}{signed(one.value)}{unit}, {interval})"


def listed(words: Sequence[str]) -> str:
    """Words in a sentence: one, two and three."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _points(value: float) -> str:
    return rounded(value, 2 if value >= 0.1 else 3)


# ---------------------------------------------------------------- plots


def _published(claims: Claims) -> dict[tuple[str, Measure], str]:
    """What the paper's own rows show of a claim, in words."""
    return {
        (one.claim, one.measure): f"{signed(one.value)}, {one.verdict}"
        for one in claims.published.claims
        if one.group is None
    }


def _forest(
    lines: Sequence[tuple[str, Sequence[JudgedClaim | None]]],
    columns: tuple[str, ...],
    ahead: tuple[str, ...],
    published: Mapping[tuple[str, Measure], str],
    *,
    together: bool = False,
) -> Forest | None:
    """The plot, with an axis for each column, or one for all `together`; None without lines."""
    if not lines or not columns:
        return None
    by_column = [[line[place] for _, line in lines] for place in range(len(columns))]
    axes = [_Axis(itertools.chain.from_iterable(by_column) if together else of) for of in by_column]
    return Forest(
        columns,
        ahead,
        tuple(
            (
                name,
                tuple(
                    axis.mark(one, published.get((one.claim, one.measure), "")) if one else None
                    for axis, one in zip(axes, line, strict=True)
                ),
            )
            for name, line in lines
        ),
        tuple(axis.ticks for axis in axes),
        tuple(axis.place(0) for axis in axes),
    )


class _Axis:
    """Where differences stand, with room for all intervals of a column and for 0."""

    def __init__(self, judged: Iterable[JudgedClaim | None]) -> None:
        limits = [0.0]
        for one in judged:
            limits += [] if one is None else filter(math.isfinite, (one.value, one.low, one.high))
        self._least, self._most = min(limits), max(limits)
        if self._least == self._most:
            self._least, self._most = -1.0, 1.0
        steps = MaxNLocator(TICKS, steps=[1, 2, 5, 10]).tick_values(self._least, self._most)
        inside = [float(one) for one in steps if self._least <= one <= self._most]
        self.ticks = tuple(
            (f"{one:+g}".replace("-", "−") if one else "0", self.place(one)) for one in inside
        )

    def place(self, value: float) -> float:
        share = (min(max(value, self._least), self._most) - self._least) / (
            self._most - self._least
        )
        return round(MARGIN + (100 - 2 * MARGIN) * share, 2)

    def mark(self, one: JudgedClaim, paper: str) -> Mark:
        return Mark(
            verdict=one.verdict,
            value=signed(one.value),
            low=signed(one.low),
            high=signed(one.high),
            paper=paper,
            at=self.place(one.value),
            begin=self.place(one.low),
            end=self.place(one.high),
        )
