"""A model's scores of verification pairs, written as a table for an audit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mstkd.artifacts.sources import provenance_of
from mstkd.config import AuditSettings
from mstkd.evaluation.auditing.all_impostors import EmbeddedImages
from mstkd.evaluation.scorefiles import write_scores
from mstkd.evaluation.scores import ScoreTable
from mstkd.inference.model import FaceModel


def score_model(
    settings: AuditSettings, *, model: FaceModel, packs: Sequence[Path], output: Path
) -> tuple[ScoreTable, EmbeddedImages]:
    """Write the cosines of a model's pairs as a table of scores.

    Args:
        settings: the number of folds of lists that have none.
        model: whose scores.
        packs: verification packs, one a group.
        output: the table, ending in .h5.

    Returns:
        The table, and all images of the packs.

    Raises:
        InputError: a fault of a pack.
    """
    found = model.score(packs, folds=settings.folds)
    read = {model.path: model.card.sha256} | {one.path: one.sha256 for one in found.packs}
    write_scores(found.table, output, provenance_of("audit", settings, read, output))
    images = EmbeddedImages(np.concatenate(found.embeddings), found.person, found.group)
    return found.table, images
