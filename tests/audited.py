"""Small tables of scored pairs for the tests of audits."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from mstkd.evaluation.scorefiles import read_scores
from mstkd.evaluation.scores import ScoreTable

GROUPS = ("north", "south", "west")


def scored_pairs(
    pairs: int = 400, folds: int = 5, seed: int = 0, shift: float = 0.0
) -> pd.DataFrame:
    """Pairs of three groups, which differ in difficulty; identities occur in several pairs."""
    random = np.random.default_rng(seed)
    frames = []
    for number, group in enumerate(GROUPS):
        fold = np.arange(pairs) * folds // pairs
        same = np.arange(pairs) * folds * 2 // pairs % 2 == 0
        first = random.integers(0, 30, pairs)
        second = np.where(same, first, (first + random.integers(1, 30, pairs)) % 30)
        hard = random.normal(0, 0.08, 30)
        mean = np.where(same, 0.52 - 0.04 * number, 0.08)
        score = mean + hard[first] * same + random.normal(0, 0.14, pairs)
        person = [f"{group}/{f}/{{}}" for f in fold]
        frames.append(
            pd.DataFrame(
                {
                    "group": group,
                    "identity1": [p.format(one) for p, one in zip(person, first, strict=True)],
                    "identity2": [p.format(one) for p, one in zip(person, second, strict=True)],
                    "same": same.astype(int),
                    "similarity": np.clip(score, -1, 1),
                    "fold": fold,
                    "image1": [f"{group}/{n}a.jpg" for n in range(pairs)],
                    "image2": [f"{group}/{n}b.jpg" for n in range(pairs)],
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def written(folder: Path, frame: pd.DataFrame, name: str = "scores.csv") -> Path:
    """The frame as a CSV in a folder."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)
    return path


def table_of(frame: pd.DataFrame) -> ScoreTable:
    """The frame as a table of scores, by way of a file."""
    with tempfile.TemporaryDirectory() as folder:
        return read_scores(written(Path(folder), frame))
