"""Two models on the same pairs, compared by what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mstkd.errors import InputError
from mstkd.evaluation.auditing.audit import Audit, audit
from mstkd.evaluation.auditing.systems import names_of
from mstkd.inference.model import FaceModel


def compare(
    first: FaceModel,
    second: FaceModel,
    pairs: Path,
    *,
    fmrs: Sequence[float] = (),
    folds: int = 10,
    names: tuple[str, str] | None = None,
) -> Audit:
    """Every measure of two models on verification pairs, and what the first has less the second.

    Args:
        first: a model.
        second: another that takes images of the same size.
        pairs: as `FaceModel.evaluate` takes them.
        fmrs: global false match rates at which error rates are taken.
        folds: of lists that have none.
        names: of the models; what tells their files apart unless given.

    Raises:
        InputError: models of two image sizes, or a fault of the pairs.
    """
    sizes = [model.card.image_size for model in (first, second)]
    if sizes[0] != sizes[1]:
        found = f"{sizes[1]} pixels"
        raise InputError(second.path, found=found, expected=f"{sizes[0]} pixels as {first.path}")
    called = names or names_of([first.path, second.path])
    with first.packs(pairs) as packs:
        tables = [model.score(packs, folds=folds).table for model in (first, second)]
    return audit(dict(zip(called, tables, strict=True)), fmrs=fmrs)
