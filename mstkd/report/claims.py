"""The step that judges the paper's claims (section 5) by the scores of an experiment's models.

No outcome is written here: the core (`mstkd.evaluation.claims`) judges, and a claim that is
contradicted is told in the same words as one that is supported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mstkd import __version__
from mstkd.artifacts.contents import hashed_contents
from mstkd.artifacts.provenance import hashed
from mstkd.artifacts.records import Provenance, SealedRecord
from mstkd.artifacts.sources import provenance_of
from mstkd.config import ClaimsSettings, Threshold
from mstkd.evaluation.claims import Cell, Claim, Judged, Question, judge
from mstkd.evaluation.contrasts import Contrast, mcnemar, scope
from mstkd.evaluation.coverage import NOTES
from mstkd.evaluation.measures import fold_decisions
from mstkd.evaluation.power import needed, smallest_difference
from mstkd.evaluation.uncertainty import CONFIDENCE
from mstkd.report.caveats import STARTED, of_given
from mstkd.report.estimates import models_told
from mstkd.report.judgements import (
    JudgedCell,
    JudgedClaim,
    Judgement,
    ModelTold,
    Needed,
    Power,
    PublishedTold,
    finite,
    sentence,
)
from mstkd.report.paper import (
    ASSUMPTION,
    PUBLISHED_GROUPS,
    TOPIC,
    paper_claims,
    published_effects,
    published_models,
)
from mstkd.report.scored import Scored, read_scored, scores_path

Truths = NDArray[np.bool_]


class Claims(SealedRecord):
    """claims.json: what the scores say about the paper's claims."""

    format: Literal["mstkd-claims"] = "mstkd-claims"
    claims: list[JudgedClaim]
    models: list[ModelTold]
    published: PublishedTold
    note: str  # what the intervals cover
    # What was chosen on the pairs that are scored here, and what was not trained here; empty where
    # nothing was.
    caution: str
    groups: list[str]
    seeds: list[int]
    folds: int
    pairs: int
    group_pairs: dict[str, int]  # of `groups`
    identities: int
    draws: int
    confidence: float = CONFIDENCE
    provenance: Provenance | None = None
    package_version: str = __version__


def compute_claims(settings: ClaimsSettings, *, metrics: Sequence[Path], output: Path) -> Claims:
    """Judge the paper's claims by the models of an experiment and write claims.json.

    Args:
        settings: how many draws of noise STD and SER are set against.
        metrics: metrics.json files of teachers and students, in any order, each with its scores.h5
            beside it.
        output: path of claims.json.

    Raises:
        InputError: a file is missing or is not what it must be, files differ in groups or pairs, or
            scores are not those of the metrics.
    """
    scored = read_scored(metrics)
    rates = scored.rates()
    claims = paper_claims(scored.subjects, scored.groups)
    judged = judge(claims, rates, scored.groups, draws=settings.draws)
    first = scored.tables[0]
    inside = first.rows(first.within)
    caution = _caution(settings)
    seeds = sorted({subject.seed for subject in scored.subjects})
    read = hashed(metrics) | hashed_contents(map(scores_path, metrics))
    told = Claims(
        claims=_told(claims, judged, _Decisions(scored)),
        models=models_told(scored, rates, settings.draws),
        published=_published(settings.draws),
        note=f"{_note(seeds, bool(settings.splits_by_seed))} {caution}".rstrip(),
        caution=caution,
        groups=list(scored.groups),
        seeds=seeds,
        folds=inside.folds,
        pairs=len(inside),
        group_pairs=scored.group_pairs,
        identities=len(np.union1d(inside.identity1, inside.identity2)),
        draws=settings.draws,
        provenance=provenance_of("compute-claims", settings, read, output),
    )
    told.write(output)
    return told


def _caution(settings: ClaimsSettings) -> str:
    """What the intervals leave out: epochs chosen on the pairs that are scored, models given."""
    parts = []
    if settings.chosen_on_test:
        names = {"teachers": "each teacher", "students": "each student"}
        if settings.given:
            names["teachers"] += " that was trained here"
        whose = " and ".join(names[one] for one in settings.chosen_on_test)
        parts.append(
            f"The epoch of {whose} was chosen by looking at the very pairs that are scored here. "
            "So accuracies are too high by what the best of several epochs gains by chance, and "
            "neither intervals nor p-values allow for it."
        )
    parts += [of_given(settings.given)] if settings.given else []
    parts += [STARTED] if settings.started else []
    return " ".join(parts)


def _note(seeds: Sequence[int], splits_by_seed: bool) -> str:
    text = (
        "Intervals and p-values allow for identities drawn anew, so pairs that share a person are "
        "not taken for independent, and for thresholds chosen on the folds. Those of STD and SER "
        "are of what is not noise, so a difference as it stands may lie outside. Of "
        f"differences of STD, {NOTES['difference of std']}; of SER, {NOTES['difference of ser']}. "
    )
    if len(seeds) > 1:
        text += (
            f"Differences are paired by seed, and how the {len(seeds)} seeds differ is in the "
            "interval, so they speak of training done anew, as far as so many seeds can, on the "
            "same images, with identities dealt to the teachers "
            + ("anew for each seed." if splits_by_seed else "as they were here.")
        )
    else:
        text += (
            "Each model was trained once, so nothing is known of training done anew: what is said "
            f"holds {scope(1, models=0)}."
        )
    return text + (
        " p-values are adjusted by Holm: of all claims on one measure at one threshold together, "
        "and of the comparisons of each claim."
    )


# ---------------------------------------------------------------- claims


class _Decisions:
    """Which pairs each model decides wrongly, worked out where it is asked for."""

    def __init__(self, scored: Scored) -> None:
        first = scored.tables[0]
        self._inside = first.within
        self._columns = first.same, first.fold, first.group1
        self._scored = scored
        self._wrong = cache(self._decided)

    def _decided(self, model: int, threshold: Threshold) -> Truths:
        similarity = self._scored.tables[model].similarity
        columns = [one[self._inside] for one in (similarity, *self._columns)]
        return ~fold_decisions(*columns, threshold=threshold).right

    def mcnemar(self, cell: Cell, question: Question) -> float | None:
        """Exact p-value of a cell's accuracies; None but of two models, each trained once."""
        if question.measure not in ("global_accuracy", "accuracy", "own_group"):
            return None
        if len(cell.weights) > 1:
            return None
        (weights,) = cell.weights.values()  # (M,) or (M, G)
        models = _models_of(cell)
        if len(models) != 2:
            return None
        groups = np.arange(len(self._scored.groups))
        if question.measure == "accuracy":
            groups = np.array([self._scored.groups.index(str(question.group))])
        elif question.measure == "own_group":
            groups = np.flatnonzero(weights.any(axis=0))
        asked = np.isin(self._columns[2][self._inside], groups)
        one, other = (self._wrong(model, question.threshold)[asked] for model in models)
        return mcnemar(one, other)


def _models_of(cell: Cell) -> list[int]:
    """The models that a cell compares, of its first seed."""
    weights = next(iter(cell.weights.values()))
    return np.flatnonzero(weights.reshape(len(weights), -1).any(axis=1)).tolist()


def _told(
    claims: Sequence[Claim], judged: Sequence[Judged], decisions: _Decisions | None
) -> list[JudgedClaim]:
    """Judged claims with their cells; without these where there are no decisions of pairs."""
    by_text = {claim.text: claim for claim in claims}
    effects = published_effects()
    return [_one_told(by_text[one.text], one, decisions, effects) for one in judged]


def _one_told(
    claim: Claim, judged: Judged, decisions: _Decisions | None, effects: Mapping[str, float]
) -> JudgedClaim:
    question, contrast = judged.question, judged.contrast
    numbers = _numbers(judged)
    effect = None
    if claim.topic == TOPIC:
        effect = effects.get(question.measure)
    cells = []
    if decisions is not None:
        cells = [
            JudgedCell(
                **_numbers(one).model_dump(),
                label=one.text,
                mcnemar=decisions.mcnemar(cell, question),
            )
            for cell, one in zip(claim.cells, judged.cells, strict=True)
        ]
    return JudgedClaim(
        **numbers.model_dump(),
        topic=claim.topic,
        claim=claim.text,
        threshold=question.threshold,
        measure=question.measure,
        group=question.group,
        seeds=contrast.seeds,
        power=Power(
            smallest=smallest_difference(contrast),
            observed=_needed(contrast, contrast.value),
            published=None if effect is None else _needed(contrast, effect),
        ),
        sentence=sentence(
            claim.text,
            numbers,
            threshold=question.threshold,
            measure=question.measure,
            group=question.group,
            rivals=len(claim.rivals),
            cells=len(claim.cells),
            seeds=contrast.seeds,
            models=len({place for cell in claim.cells for place in _models_of(cell)}),
            alike=not contrast.is_of_training,
        ),
        cells=cells,
    )


def _numbers(judged: Judged) -> Judgement:
    contrast = judged.contrast
    return Judgement(
        value=contrast.value,
        corrected=contrast.corrected,
        low=contrast.low,
        high=contrast.high,
        p=contrast.p,
        p_adjusted=judged.p_adjusted,
        verdict=judged.verdict,
    )


def _needed(contrast: Contrast, effect: float) -> Needed:
    found = needed(contrast, effect)
    return Needed(
        effect=effect,
        identities=finite(found.identities),
        pairs=finite(found.pairs),
        seeds=found.seeds,
    )


@cache
def _published(draws: int) -> PublishedTold:
    """What the paper's own rows support by the same rules."""
    subjects, rates = published_models()
    claims = paper_claims(subjects, PUBLISHED_GROUPS)
    judged = judge(claims, {"own": rates}, PUBLISHED_GROUPS, draws=draws)
    return PublishedTold(
        assumption=ASSUMPTION,
        groups=list(PUBLISHED_GROUPS),
        claims=_told(claims, judged, None),
    )
