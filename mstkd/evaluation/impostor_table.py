"""The step that counts all impostor pairs among the verification images, for models of a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mstkd.artifacts.atomic import replacing
from mstkd.artifacts.provenance import beside, sidecar
from mstkd.artifacts.sources import provenance_of
from mstkd.config import EvaluationSettings, ImpostorSettings
from mstkd.evaluation.auditing.all_impostors import EmbeddedImages, ImpostorRow, all_impostors
from mstkd.evaluation.auditing.tables import as_frame
from mstkd.evaluation.evaluate import score_packs


def score_impostors(
    settings: ImpostorSettings,
    *,
    models: Sequence[Path],
    packs: Sequence[Path],
    output: Path,
    threads: int = 1,
    device: str = "auto",
) -> None:
    """Write error rates within and across groups over all impostor pairs of images.

    Args:
        settings: the false match rate of all groups together where rates are taken.
        models: weights of teachers or students.
        packs: verification packs, in the experiment's group order.
        output: CSV to write: who the model is (`kind` to `seed`), then the columns of impostors.csv
            of an audit.
        threads: CPU threads.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: as `evaluate`.
    """
    asked = EvaluationSettings(folds=settings.folds, deterministic=settings.deterministic)
    frames: list[pd.DataFrame] = []
    read: dict[Path, str] = {}
    for model in models:
        found, _, record = score_packs(
            asked, model=model, packs=packs, threads=threads, device=device
        )
        read[model] = record.weights_sha256
        packed = {pack.path: pack.sha256 for pack in found.packs}
        images = EmbeddedImages(np.concatenate(found.embeddings), found.person, found.group)
        of_all = all_impostors(
            {str(model): (found.table, images)},
            thresholds=(),
            fmrs=(settings.fmr,),
            draws=settings.draws,
        )
        frame = as_frame(of_all.rows, ImpostorRow).drop(columns="system")
        who = record.subject.model_dump()
        frames.append(pd.DataFrame(who, index=frame.index).join(frame))
    text = pd.concat(frames).to_csv(index=False, lineterminator="\n")
    made = provenance_of("score-impostors", settings, read | packed, output)
    with replacing(sidecar(output), output) as (beside_it, part):
        beside_it.write_text(beside(text, made), encoding="utf-8")
        part.write_text(text, encoding="utf-8")
