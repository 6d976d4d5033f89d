"""Result files made up for the tests of the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mstkd.records import Fairness, GroupScore, Metrics, Subject

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
