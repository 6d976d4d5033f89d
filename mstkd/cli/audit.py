"""What `mstkd audit` is given, made into tables of scores where it is none yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mstkd.config import AuditSettings
from mstkd.errors import InputError
from mstkd.evaluation.auditing.all_impostors import (
    AllImpostors,
    EmbeddedImages,
    all_impostors,
    uncounted,
)
from mstkd.evaluation.auditing.audit import similarities, targeted
from mstkd.evaluation.auditing.systems import names_of
from mstkd.evaluation.scores import ScoreTable
from mstkd.report.audit import write_audit
from mstkd.report.audit_answer import answer

if TYPE_CHECKING:
    from mstkd.inference.model import FaceModel

# Of the path of a system and that of its table of scores, which is written.
Scored = Callable[[Path, Path], tuple[ScoreTable, EmbeddedImages | str]]


def audit(
    settings: AuditSettings,
    *,
    scores: Sequence[Path],
    embeddings: Sequence[Path],
    models: Sequence[Path],
    pairs: Path | None,
    attributes: Path | None,
    output: Path,
    threads: int,
    device: str,
) -> str:
    """Audit systems by their scores, embeddings or weights; the answer in a sentence.

    Raises:
        InputError: none of the three, or several; and as what is called.
    """
    ways = {"SCORES": scores, "--embeddings": embeddings, "--model": models}
    given = [name for name, paths in ways.items() if paths]
    if len(given) != 1:
        found = " and ".join(given) or "nothing"
        raise InputError("audit", found=found, expected=f"one of {', '.join(ways)}")
    if not scores and pairs is None:
        raise InputError("audit", found=f"{given[0]} alone", expected="--pairs too")
    if scores and pairs is not None:
        found = "--pairs with tables of scores"
        raise InputError("audit", found=found, expected="--embeddings or --model with it")
    if pairs is None:
        return answer(write_audit(settings, scores=scores, output=output, attributes=attributes))
    thresholds, fmrs = similarities(settings.thresholds), targeted(settings.fmrs)
    if embeddings:
        scored = _by_embeddings(settings, pairs, attributes)
    else:
        scored = _by_models(settings, pairs, models[0], output / "packs", threads, device)
    systems = [*embeddings, *models]
    tables: list[Path] = []
    counted: dict[str, tuple[ScoreTable, EmbeddedImages]] = {}
    impostors = AllImpostors(())
    for name, path in zip(names_of(systems), systems, strict=True):
        tables.append(output / "scores" / f"{name}.h5")  # the file's name is the system's
        table, images = scored(path, tables[-1])
        if isinstance(images, str):  # so of every system
            rows = uncounted(name, thresholds, fmrs, images)
            impostors = AllImpostors((*impostors.rows, *rows))
        else:
            counted[name] = table, images
    if counted:
        impostors = all_impostors(
            counted,
            thresholds=thresholds,
            fmrs=fmrs,
            draws=settings.draws,
            seed=settings.seed,
        )
    return answer(write_audit(settings, scores=tables, output=output, impostors=impostors))


def _by_embeddings(settings: AuditSettings, pairs: Path, attributes: Path | None) -> Scored:
    from mstkd.evaluation.embedded import score_embeddings

    return lambda path, table: score_embeddings(
        settings, embeddings=path, pairs=pairs, output=table, attributes=attributes
    )


def _by_models(
    settings: AuditSettings, pairs: Path, first: Path, made: Path, threads: int, device: str
) -> Scored:
    from mstkd.inference.loading import load  # it loads torch
    from mstkd.inference.pairs import verification_packs
    from mstkd.inference.scored import score_model

    @lru_cache(maxsize=1)  # of the first, whose size is asked before its scores
    def loaded(path: Path) -> FaceModel:
        return load(path, threads=threads, device=device)

    size = loaded(first).card.image_size
    packs = verification_packs(pairs, image_size=size, output=made, threads=threads)
    return lambda path, table: score_model(settings, model=loaded(path), packs=packs, output=table)
