"""Result files made up for the tests of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mstkd.artifacts.records import (
    Fairness,
    GroupScore,
    Metrics,
    ModelRecord,
    Provenance,
    Subject,
)
from mstkd.artifacts.sealed import piece_checksum
from mstkd.data.pack import Content, Found, Stored, create_pack, seal_pack
from mstkd.data.partial import pixel_digest
from mstkd.evaluation.measures import fold_accuracies
from mstkd.evaluation.scorefiles import write_scores
from mstkd.evaluation.scores import ScoreTable

PAIRS = 6000


def fairness(folds: Mapping[str, np.ndarray]) -> Fairness:
    """The record of accuracies (folds,) in percent, by equation 7 written out."""
    accuracies = {group: float(np.mean(values)) for group, values in folds.items()}
    errors = [100 - accuracy for accuracy in accuracies.values()]
    best = min(errors)
    return Fairness(
        groups={
            group: GroupScore(
                accuracy=accuracies[group], fold_accuracies=list(map(float, values)), pairs=PAIRS
            )
            for group, values in folds.items()
        },
        global_accuracy=float(np.mean(list(accuracies.values()))),
        std=float(np.std(list(accuracies.values()), ddof=1)) if len(accuracies) > 1 else None,
        ser=None if best == 0 else max(errors) / best,
    )


def spread_folds(accuracies: Mapping[str, float], *, spread: float, seed: int) -> dict[str, Any]:
    """Ten folds a group that average to its accuracy; `spread` in percentage points."""
    generator = np.random.default_rng(seed)
    folds = {}
    for group, accuracy in accuracies.items():
        noise = generator.normal(0, spread, 10) if spread else np.zeros(10)
        folds[group] = accuracy + noise - noise.mean()
    return folds


def write_metrics(
    folder: Path,
    accuracies: Mapping[str, float],
    *,
    set_: str = "specialized",
    name: str = "SL",
    loss: str | None = "a-KD",
    seed: int = 0,
    spread: float = 0.0,
    folds: Mapping[str, np.ndarray] | None = None,
    provenance: Provenance | None = None,
    **subject: Any,
) -> Path:
    """A metrics.json of a student, or of what `kind` says; accuracies in percent."""
    whole = {"kind": "student", "backbone": "iresnet34", **subject}
    identity = Subject(set=set_, name=name, loss=loss, seed=seed, **whole)
    scores = fairness(folds or spread_folds(accuracies, spread=spread, seed=seed))
    path = folder / f"{_named(identity)}.json"
    Metrics(
        subject=identity,
        weights_sha256="0" * 64,
        own_threshold=scores,
        shared_threshold=scores,
        provenance=provenance,
    ).write(path)
    return path


def _named(subject: Subject) -> str:
    parts = (subject.kind, subject.backbone, subject.set, subject.name, subject.loss)
    return "-".join(map(str, (*parts, f"seed{subject.seed}")))


def verification_pairs(
    groups: Sequence[str], *, folds: int = 10, identities: int = 6, pairs: int = 12
) -> ScoreTable:
    """Pairs without scores: as many genuine as impostor ones a fold and group, `pairs` in all.

    Folds and groups share no identities; pairs of a fold do.
    """
    half = pairs // 2
    columns: dict[str, list[int]] = {"one": [], "two": [], "same": [], "fold": [], "group": []}
    for block in range(len(groups) * folds):
        for number in range(pairs):
            first = number % identities
            apart = 1 + number // identities % (identities - 1)
            second = first if number < half else (first + apart) % identities
            columns["one"].append(block * identities + first)
            columns["two"].append(block * identities + second)
            columns["same"].append(number < half)
            columns["fold"].append(block % folds)
            columns["group"].append(block // folds)
    group = np.array(columns["group"], np.int16)
    people = len(groups) * folds * identities
    return ScoreTable(
        similarity=np.zeros(len(group)),
        same=np.array(columns["same"]),
        fold=np.array(columns["fold"], np.int16),
        group1=group,
        group2=group,
        groups=tuple(groups),
        identity1=np.array(columns["one"], np.int32),
        identity2=np.array(columns["two"], np.int32),
        identities=tuple(f"person {number}" for number in range(people)),
    )


def errors(pairs: ScoreTable, accuracies: Mapping[str, float], *, seed: int) -> np.ndarray:
    """Which pairs (P,) a model of these accuracies (percent) decides wrongly, drawn at random."""
    generator = np.random.default_rng(seed)
    wrong = np.zeros(len(pairs), np.bool_)
    for place, group in enumerate(pairs.groups):
        inside = np.flatnonzero(pairs.group1 == place)
        count = round(len(inside) * (1 - accuracies[group] / 100))
        wrong[generator.choice(inside, count, replace=False)] = True
    return wrong


def write_scored(
    folder: Path,
    pairs: ScoreTable,
    wrong: np.ndarray,
    *,
    similarity: np.ndarray | None = None,
    provenance: Provenance | None = None,
    **subject: Any,
) -> Path:
    """metrics.json with scores.h5 beside it, of a model that decides these pairs wrongly.

    Unless scores are given, all lie at 0.5 and -0.5, and any threshold between tells them apart.
    """
    if similarity is None:
        similarity = np.where(pairs.same != wrong, 0.5, -0.5)
    table = replace(pairs, similarity=similarity)
    whole = {"kind": "student", "backbone": "iresnet34", "set": "specialized", "name": "SL"}
    identity = Subject(**({"loss": "a-KD", "seed": 0} | whole | subject))
    found = {
        threshold: 100
        * fold_accuracies(
            table.similarity, table.same, table.fold, table.group1, threshold=threshold
        ).folds
        for threshold in ("own", "shared")
    }
    path = folder / _named(identity) / "metrics.json"
    Metrics(
        subject=identity,
        weights_sha256="0" * 64,
        own_threshold=fairness(dict(zip(pairs.groups, found["own"], strict=True))),
        shared_threshold=fairness(dict(zip(pairs.groups, found["shared"], strict=True))),
        provenance=provenance,
    ).write(path)
    write_scores(table, path.with_name("scores.h5"))
    return path


def write_model(
    folder: Path,
    *,
    accuracies: list[float | None],
    set_: str = "specialized",
    name: str = "SL",
    loss: str | None = "a-KD",
    kind: str = "student",
    seed: int = 0,
) -> Path:
    """A model.json with a history.csv beside it; the best epoch is the one kept."""
    known = {epoch: value for epoch, value in enumerate(accuracies, 1) if value is not None}
    chosen = max(known, key=lambda epoch: known[epoch]) if known else len(accuracies)
    subject = Subject(kind=kind, backbone="small", set=set_, name=name, loss=loss, seed=seed)
    path = folder / "-".join(map(str, (kind, set_, name, loss, seed))) / "model.json"
    ModelRecord(
        subject=subject,
        settings={},
        image_size=32,
        inputs={},
        weights_sha256="0" * 64,
        chosen_epoch=chosen,
        chosen_by="the best",
    ).write(path)
    lines = ["epoch,learning_rate,loss,kd,accuracy"]
    for epoch, value in enumerate(accuracies, 1):
        loss_value = 20 / epoch + (seed + len(name)) / 4
        lines.append(f"{epoch},0.1,{loss_value},0.5,{'' if value is None else value}")
    path.with_name("history.csv").write_text("\n".join(lines) + "\n")
    return path


def write_pack(path: Path, group: str, *, identities: int = 8, images: int = 3) -> Path:
    """A training pack; the image of identity i, take j is all (16 i, 64 j, 100)."""
    count = identities * images
    identity = np.repeat(np.arange(identities, dtype=np.int32), images)
    take = np.tile(np.arange(images), identities)
    colours = np.stack([identity * 16, take * 64, np.full(count, 100)], axis=1).astype(np.uint8)
    pixels = np.ascontiguousarray(np.broadcast_to(colours[:, None, None], (count, 32, 32, 3)))
    content = Content(
        kind="train",
        group=group,
        image_size=32,
        paths=[f"{group}/{row}" for row in range(count)],
        identity_names=[f"{group}{number:02}" for number in range(identities)],
        identity=identity,
        found=Found(count, identities),
    )
    begin = create_pack(path, content)
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(pixels.data)
    checksums = np.array([piece_checksum(image) for image in pixels], np.uint64)
    digests = np.frombuffer(b"".join(map(pixel_digest, pixels)), np.uint8).reshape(count, -1)
    seal_pack(path, content, Stored(digests, checksums, None))
    return path
