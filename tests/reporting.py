"""Result files made up for the tests of the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mstkd.artifacts.records import Fairness, GroupScore, Metrics, ModelRecord, Subject
from mstkd.artifacts.sealed import piece_checksum
from mstkd.data.pack import Content, Found, Stored, create_pack, seal_pack
from mstkd.data.partial import pixel_digest

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
        std=float(np.std(list(accuracies.values()), ddof=1)),
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
    **subject: Any,
) -> Path:
    """A metrics.json of a student, or of what `kind` says; accuracies in percent."""
    whole = {"kind": "student", "backbone": "iresnet34", **subject}
    identity = Subject(set=set_, name=name, loss=loss, seed=seed, **whole)
    scores = fairness(folds or spread_folds(accuracies, spread=spread, seed=seed))
    path = folder / "-".join(
        str(part) for part in (*whole.values(), set_, name, loss, f"seed{seed}.json")
    )
    Metrics(
        subject=identity, weights_sha256="0" * 64, own_threshold=scores, shared_threshold=scores
    ).write(path)
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
