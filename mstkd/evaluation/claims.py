"""Claims about models as contrasts: one number each, an interval and a verdict, the cells beneath.

A claim says that some models are more accurate and more even than others. It is judged by the mean
over its cells, comparisons of like with like, from the one joint covariance of all models' rates:
so cells that share a teacher or a control are not counted as if they did not. Families are tested
by Holm: all claims on one measure at one threshold are one, and the cells of a claim another.

Which claims there are is for others to say. Shapes: M models, each trained with one seed; S seeds;
G groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mstkd.config import Threshold
from mstkd.evaluation.contrasts import (
    Contrast,
    Verdict,
    accuracy_contrast,
    holm,
    least,
    spread_contrast,
    verdict,
)
from mstkd.evaluation.spread import DRAWS, SER, STD, Spread
from mstkd.evaluation.uncertainty import GroupRates

Floats = NDArray[np.float64]
Measure = Literal["global_accuracy", "accuracy", "every_group", "own_group", "std", "ser"]
MORE_IS_BETTER: dict[Measure, bool] = {
    "global_accuracy": True,
    "accuracy": True,  # of one group
    "every_group": True,  # of the group that gains least
    "own_group": True,  # of the group that each cell says
    "std": False,
    "ser": False,
}


@dataclass(frozen=True, eq=False)
class Cell:
    """One comparison of like with like."""

    label: str
    # By seed: how much each model counts, (M,); where the claim is of own groups, (M, G).
    weights: Mapping[int, Floats]


@dataclass(frozen=True, eq=False)
class Claim:
    """What is claimed: that the first models of the cells are better than the second."""

    topic: str
    text: str
    # Usually one set of cells; several where the claim is of being ahead of each of several rivals.
    rivals: tuple[tuple[Cell, ...], ...]
    better: bool = True  # False where it is claimed that the first are no better
    of_own_groups: bool = False

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Those of all rivals."""
        return tuple(cell for rival in self.rivals for cell in rival)


class Question(NamedTuple):
    """What a claim is judged on."""

    threshold: Threshold
    measure: Measure
    group: str | None  # of "accuracy"


@dataclass(frozen=True)
class Judged:
    """A claim on one measure at one threshold, or one of its cells."""

    topic: str
    text: str
    question: Question
    contrast: Contrast  # percentage points; of SER a difference of ratios
    p_adjusted: float
    verdict: Verdict
    cells: tuple[Judged, ...] = ()


def judge(
    claims: Sequence[Claim],
    rates: Mapping[Threshold, GroupRates],
    groups: Sequence[str],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Judged]:
    """Judge claims on every measure at every threshold, in the order of the claims.

    Args:
        claims: whose weights are of the models of `rates`.
        rates: by threshold, the error rates of all models.
        groups: names.
        draws: for spread measures.
        seed: of the draws.
    """
    models = {name: _Models(found, groups, draws, seed) for name, found in rates.items()}
    asked = [
        (claim, Question(threshold, measure, group))
        for claim in claims
        for threshold in rates
        for measure, group in _measures(claim, groups)
    ]
    contrasts = [
        models[question.threshold].contrast(claim.rivals, question, _sign(claim, question))
        for claim, question in asked
    ]
    adjusted = np.empty(len(asked))
    families = [(question.threshold, question.measure) for _, question in asked]
    for family in set(families):
        members = [place for place, one in enumerate(families) if one == family]
        adjusted[members] = holm([contrasts[place].p for place in members])
    return [
        Judged(
            topic=claim.topic,
            text=claim.text,
            question=question,
            contrast=contrast,
            p_adjusted=float(p),
            verdict=verdict(contrast, float(p), _sign(claim, question)),
            cells=_judged_cells(claim, question, models[question.threshold]),
        )
        for (claim, question), contrast, p in zip(asked, contrasts, adjusted, strict=True)
    ]


def _judged_cells(claim: Claim, question: Question, models: _Models) -> tuple[Judged, ...]:
    cells, sign = claim.cells, _sign(claim, question)
    contrasts = [models.contrast(((cell,),), question, sign) for cell in cells]
    adjusted = holm([contrast.p for contrast in contrasts])
    return tuple(
        Judged(
            topic=claim.topic,
            text=cell.label,
            question=question,
            contrast=contrast,
            p_adjusted=float(p),
            verdict=verdict(contrast, float(p), sign),
        )
        for cell, contrast, p in zip(cells, contrasts, adjusted, strict=True)
    )


def _measures(claim: Claim, groups: Sequence[str]) -> list[tuple[Measure, str | None]]:
    if claim.of_own_groups:
        return [("own_group", None)]
    return [
        ("global_accuracy", None),
        *(("accuracy", group) for group in groups),
        ("every_group", None),
        ("std", None),
        ("ser", None),
    ]


def _sign(claim: Claim, question: Question) -> Literal[1, -1]:
    return 1 if MORE_IS_BETTER[question.measure] == claim.better else -1


class _Models:
    """All models at one threshold; the draws of spread measures are made once."""

    def __init__(self, rates: GroupRates, groups: Sequence[str], draws: int, seed: int) -> None:
        self._rates, self._groups, self._draws, self._seed = rates, list(groups), draws, seed

    @cached_property
    def _spreads(self) -> dict[str, Spread]:
        return {
            name: Spread(self._rates, measure, draws=self._draws, seed=self._seed)
            for name, measure in (("std", STD), ("ser", SER))
        }

    def contrast(
        self, rivals: Sequence[Sequence[Cell]], question: Question, sign: Literal[1, -1]
    ) -> Contrast:
        """The mean over the cells, or the least of those of several rivals."""
        seeds = _common_seeds([cell for rival in rivals for cell in rival])
        return least([self._of_cells(cells, seeds, question, sign) for cells in rivals], sign)

    def _of_cells(
        self,
        cells: Sequence[Cell],
        seeds: Sequence[int] | None,
        question: Question,
        sign: Literal[1, -1],
    ) -> Contrast:
        rows = np.mean(
            [[cell.weights[s] for s in seeds or (next(iter(cell.weights)),)] for cell in cells],
            axis=0,
        )  # (S, M) or (S, M, G)
        if question.measure in ("std", "ser"):
            return spread_contrast(self._spreads[question.measure], rows)
        if question.measure == "own_group":
            return accuracy_contrast(self._rates, rows)
        each = np.eye(len(self._groups))
        if question.measure == "global_accuracy":
            each = each.mean(axis=0, keepdims=True)
        elif question.measure == "accuracy":
            each = each[[self._groups.index(str(question.group))]]
        of_groups = [accuracy_contrast(self._rates, rows[:, :, None] * one) for one in each]
        return least(of_groups, sign)


def _common_seeds(cells: Sequence[Cell]) -> list[int] | None:
    """The seeds that every cell has; None where there is none: then each has its first."""
    seeds = [seed for seed in cells[0].weights if all(seed in cell.weights for cell in cells)]
    return seeds or None
