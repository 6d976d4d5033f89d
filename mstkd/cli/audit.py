"""What `mstkd audit` is given, made into tables of scores where it is none yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mstkd.config import AuditSettings
from mstkd.errors import InputError
from mstkd.evaluation.auditing.systems import names_of
from mstkd.report.audit import write_audit
from mstkd.report.audit_answer import answer


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
    if scores:
        tables = list(scores)
    else:
        # The name of the file is that of the system.
        names = names_of([*embeddings, *models])
        tables = [output / "scores" / f"{name}.h5" for name in names]
    for path, table in zip(embeddings, tables, strict=False):
        from mstkd.evaluation.embedded import score_embeddings

        assert pairs is not None
        score_embeddings(
            settings, embeddings=path, pairs=pairs, output=table, attributes=attributes
        )
    if models:
        from mstkd.evaluation.modelled import score_model, verification_packs  # they load torch

        assert pairs is not None
        packs = verification_packs(pairs, model=models[0], output=output / "packs", threads=threads)
        for path, table in zip(models, tables, strict=True):
            score_model(
                settings, model=path, packs=packs, output=table, threads=threads, device=device
            )
    return answer(
        write_audit(
            settings, scores=tables, output=output, attributes=attributes if scores else None
        )
    )
