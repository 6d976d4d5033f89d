"""What the results say: differences with intervals, and the paper's statements counted (§5).

No outcome is written here: every sentence is made of the numbers of the metrics files, and a
statement that does not hold is told in the same words as one that does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from mstkd import __version__
from mstkd.artifacts.provenance import hashed, provenance_of
from mstkd.artifacts.records import Provenance, SealedRecord
from mstkd.evaluation.foldbootstrap import fold_weights
from mstkd.report.comparisons import CONFIDENCE, Comparison, compare, describe, pairs, sample_of
from mstkd.report.rows import SUMMARIES, read_rows
from mstkd.report.statements import (
    Statement,
    adaptor_statements,
    comparison_statements,
    teacher_statements,
)


class Claims(SealedRecord):
    """claims.json: what the metrics say about the paper's statements."""

    format: Literal["mstkd-claims"] = "mstkd-claims"
    statements: list[Statement]
    comparisons: list[Comparison]
    note: str  # what the intervals cover
    groups: list[str]
    seeds: list[int]
    folds: int
    draws: int
    confidence: float = CONFIDENCE
    provenance: Provenance | None = None
    package_version: str = __version__


def compute_claims(
    metrics: Sequence[Path], output: Path, *, draws: int = 2000, seed: int = 0
) -> Claims:
    """Compare the models of an experiment and write claims.json.

    Args:
        metrics: metrics.json files of teachers and students, in any order.
        output: path of claims.json.
        draws: bootstrap draws.
        seed: of the bootstrap; all models share the draws.

    Raises:
        InputError: a file is not a record of metrics, or files differ in groups or folds.
    """
    rows = read_rows(metrics)
    groups = tuple(rows[0].runs[0].own_threshold.groups)
    folds = len(rows[0].runs[0].own_threshold.groups[groups[0]].fold_accuracies)
    weights = fold_weights(draws=draws, groups=len(groups), folds=folds, seed=seed)
    students = [sample_of(row, groups, weights) for row in rows if row.subject.kind == "student"]
    several = len({s.row.subject.backbone for s in students if s.row.subject.set != "none"}) > 1
    label = partial(describe, with_backbone=several)
    comparisons = [
        compare(topic, first, second, measure=measure, describe=label)
        for topic, first, second in pairs(students)
        for measure in SUMMARIES
    ]
    statements = [
        *teacher_statements([row for row in rows if row.subject.kind == "teacher"], groups),
        *comparison_statements(comparisons),
        *adaptor_statements(students),
    ]
    seeds = sorted({run.subject.seed for row in rows for run in row.runs})
    claims = Claims(
        statements=statements,
        comparisons=comparisons,
        note=_note(comparisons, seeds=seeds, folds=folds, draws=draws),
        groups=list(groups),
        seeds=seeds,
        folds=folds,
        draws=draws,
        provenance=provenance_of("compute-claims", None, hashed(metrics), output),
    )
    claims.write(output)
    return claims


def claim_sentences(claims: Claims) -> list[str]:
    """Every claim as a sentence with its verdict, the general ones first, the note last."""
    told: list[Statement | Comparison] = [*claims.statements, *claims.comparisons]
    return [*(f"{claim.sentence} [{claim.verdict}]" for claim in told), claims.note]


def _note(
    comparisons: Sequence[Comparison], *, seeds: Sequence[int], folds: int, draws: int
) -> str:
    text = (
        f"Intervals hold the middle 95 % of {draws:,} bootstrap draws over the {folds} "
        "verification folds; each group's folds are drawn on their own, and both models get the "
        "same folds. They cover the sampling of verification folds only, not the randomness of "
        "training: "
    )
    if len(seeds) > 1:
        text += (
            f"the values are means over {len(seeds)} seeds, and the spread of a difference over "
            "the seeds is given beside it."
        )
    else:
        text += "with one seed trained, a second training may turn the sign of a small difference."
    by_chance = round(len(comparisons) * (1 - CONFIDENCE))
    if by_chance:
        text += (
            f" Of {len(comparisons)} intervals, about {by_chance} would exclude 0 by chance if "
            "no model differed from another."
        )
    return text
