"""The files of an audit: measures.csv, comparisons.csv, audit.json and audit.html."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from mstkd.artifacts.atomic import replacing
from mstkd.artifacts.cells import csv_of
from mstkd.artifacts.contents import hashed_contents
from mstkd.artifacts.provenance import beside, embedded, sidecar
from mstkd.artifacts.records import Provenance, Record, SealedRecord
from mstkd.artifacts.sources import provenance_of
from mstkd.config import AuditSettings
from mstkd.errors import InputError
from mstkd.evaluation.auditing.all_impostors import AllImpostors, ImpostorRow
from mstkd.evaluation.auditing.audit import Audit, audit_rates, audit_systems
from mstkd.evaluation.auditing.systems import Systems, read_systems
from mstkd.evaluation.auditing.tables import Tested, as_frame, differences
from mstkd.evaluation.foreign import is_rates, read_rates
from mstkd.report.audit_answer import answer
from mstkd.report.audit_matrix import matrices
from mstkd.report.audit_page import PairList, audit_page

STEP = "audit"


class AuditedGroup(Record):
    """A group, and the pairs within it."""

    name: str
    genuine: int
    impostor: int


class AuditedList(Record):
    """A list of pairs that some of the systems were tested on."""

    systems: list[str]
    groups: list[AuditedGroup]
    folds: int
    left_out: int  # pairs across groups


class NoiseFloor(Record):
    """What noise adds to a measure over groups."""

    system: str
    measure: str
    at: str
    value: float
    corrected: float  # less what noise adds
    floor: float  # of a perfectly even system on these pairs, on average
    floor_limit: float  # and what it stays within in 95 of 100


class GroupMatrix(Record):
    """FMR of every two groups over all impostor pairs of a system's images."""

    system: str
    at: str
    threshold: float | None  # the least similarity accepted; None where there is none
    groups: list[str]
    fmr: list[list[float | None]]  # None where it rests on too few errors
    note: str  # why there is no number


class AuditRecord(SealedRecord):
    """audit.json: what was audited, how, and the answer; the numbers stand in the CSV files."""

    format: Literal["mstkd-audit"] = "mstkd-audit"
    answer: str
    systems: list[str]
    groups: list[AuditedGroup]  # of the first list of pairs; empty where rates came without scores
    folds: int | None
    left_out: int  # pairs across groups
    further_lists: list[AuditedList]  # where systems were tested on others
    noise: list[NoiseFloor]
    # FMR within and across groups over all impostor pairs; None where embeddings are not known.
    impostors: list[GroupMatrix] | None = None
    provenance: Provenance


def write_audit(
    settings: AuditSettings,
    *,
    scores: Sequence[Path],
    output: Path,
    attributes: Path | None = None,
    impostors: AllImpostors | None = None,
) -> Audit:
    """Audit systems from their files of scores, and write what was found.

    Args:
        settings: how the files are read, and where error rates are taken.
        scores: a table of scored pairs each (docs/scores.md), or one CSV of rates by group.
        output: the folder to write to.
        attributes: a CSV of further columns of the pairs.
        impostors: what was found over all impostor pairs, of the same systems in the same order,
            where their embeddings are known.

    Returns:
        What was found.

    Raises:
        InputError: a fault of a file or a setting.
    """
    rates = [path for path in scores if is_rates(path)]
    if rates and len(scores) > 1:
        found = "rates by group beside other files"
        raise InputError(rates[0], found=found, expected="rates alone, all systems in one file")
    tested: list[AuditedList] = []
    if rates:
        audit = audit_rates(read_rates(rates[0]))
    else:
        systems = read_systems(
            scores,
            group=settings.group,
            score=settings.score,
            kind=settings.kind,
            attributes=attributes,
            folds=settings.folds,
        )
        audit = audit_systems(
            systems,
            thresholds=settings.thresholds,
            fmrs=settings.fmrs,
            draws=settings.draws,
            seed=settings.seed,
        )
        tested = [_listed(one) for one in systems.systems]
        if impostors is not None:
            further = differences(systems.names, [Tested(systems.systems[0], impostors.found)])
            both = (*audit.differences, *further)
            audit = replace(audit, impostors=impostors.rows, differences=both)
    read = hashed_contents([*scores, *([] if attributes is None else [attributes])])
    _write(audit, settings, tested, read, output)
    return audit


def _listed(systems: Systems) -> AuditedList:
    groups = [
        AuditedGroup(name=name, genuine=int(genuine), impostor=int(impostor))
        for name, (impostor, genuine) in zip(systems.groups, systems.counts.T, strict=True)
    ]
    return AuditedList(
        systems=list(systems.names),
        groups=groups,
        folds=systems.pairs.folds,
        left_out=systems.left_out,
    )


def _write(
    audit: Audit,
    settings: AuditSettings,
    tested: Sequence[AuditedList],
    read: dict[Path, str],
    output: Path,
) -> None:
    paths = {name: output / name for name in ("measures.csv", "comparisons.csv", "audit.html")}
    texts = {}
    frames = {"measures.csv": audit.measures, "comparisons.csv": audit.comparisons}
    if audit.impostors:
        paths["impostors.csv"] = output / "impostors.csv"
        frames["impostors.csv"] = as_frame(audit.impostors, ImpostorRow)
    for name, frame in frames.items():
        text = csv_of(frame)
        texts[sidecar(paths[name])] = beside(text, _made(settings, read, paths[name]))
        texts[paths[name]] = text
    lists = [
        PairList(
            tuple(one.systems),
            one.folds,
            tuple((group.name, group.genuine, group.impostor) for group in one.groups),
        )
        for one in tested
    ]
    page = audit_page(audit, lists=lists)
    made = _made(settings, read, paths["audit.html"])
    texts[paths["audit.html"]] = embedded(page, made, ".html")
    record = AuditRecord(
        answer=answer(audit),
        systems=list(audit.systems),
        groups=tested[0].groups if tested else [],
        folds=tested[0].folds if tested else None,
        left_out=tested[0].left_out if tested else 0,
        further_lists=list(tested[1:]),
        noise=[
            NoiseFloor.model_validate(one._asdict())
            for one in audit.evenness
            if np.isfinite([one.value, one.corrected, one.floor]).all()
        ],
        impostors=[GroupMatrix.model_validate(one._asdict()) for one in matrices(audit)] or None,
        provenance=_made(settings, read, output / "audit.json"),
    )
    texts[output / "audit.json"] = record.text()
    with replacing(*texts) as parts:
        for part, text in zip(parts, texts.values(), strict=True):
            part.write_text(text, encoding="utf-8")


def _made(settings: AuditSettings, read: dict[Path, str], path: Path) -> Provenance:
    return provenance_of(STEP, settings, read, path)
