"""The teachers behind a model's scores, found by the records beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mstkd.artifacts.confined import inside
from mstkd.artifacts.records import ModelRecord, read_record
from mstkd.artifacts.standing import RECORD, WEIGHTS
from mstkd.artifacts.told import made_by
from mstkd.errors import InputError

if TYPE_CHECKING:
    from mstkd.evaluation.traced import Fusion

EXPECTED = "the scores of a student of several teachers, or of an adaptor"


def fusion_of(scores: Path, folder: Path) -> Fusion:
    """The files whose fused embeddings a student was taught, or an adaptor makes.

    Args:
        scores: scores.h5 beside the weights.
        folder: nothing out of it is opened.

    Raises:
        InputError: scores of another kind, of other weights than lie there, or files that are
            gone or lie elsewhere.
    """
    from mstkd.evaluation.traced import find_fusion  # with torch, on the first click

    weights, path = scores.with_name(WEIGHTS), scores.with_name(RECORD)
    if scores.suffix != ".h5" or not path.is_file():
        raise InputError(scores, found=f"no {RECORD} beside it", expected=EXPECTED)
    record = read_record(ModelRecord, inside(path, folder))
    made = made_by(scores)
    if record.weights_sha256 not in {one.sha256 for one in (made.sources if made else [])}:
        found = f"scores of other weights than {path} is of"
        raise InputError(scores, found=found, expected=EXPECTED)
    kind = record.subject.kind
    if kind == "adaptor":
        return find_fusion(adaptor=weights, within=folder)
    if kind != "student" or "adaptor" not in record.inputs:
        found = f"those of a {kind}" + (" of no adaptor" if kind == "student" else "")
        raise InputError(scores, found=found, expected=EXPECTED)
    return find_fusion(student=weights, within=folder)
