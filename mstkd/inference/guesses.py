"""Whether images are shown to a model as it was trained: every usual way, tried.

No file says in which order of colours and range a network was trained, and a wrong guess is silent:
faces are embedded all the same, only worse. On pairs the right way separates best.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from mstkd.config import InputSettings
from mstkd.config.inference import NORMALISATIONS, Colours
from mstkd.data.pack import open_pack
from mstkd.evaluation.intervals import area_interval, areas_above
from mstkd.inference.model import FaceModel

FACES = 64  # of the first pack, whose embeddings are compared


class Guess(NamedTuple):
    """A way of showing images to a model."""

    seen: InputSettings
    similarity: float  # mean cosine of faces shown so and as it is said
    auc: float  # of all pairs together; nan without pairs
    low: float
    high: float


def every_guess(
    model: FaceModel, *, faces: Sequence[Path] = (), pairs: Path | None = None
) -> list[Guess]:
    """The usual orders of colours and normalisations, what is said of the model first.

    Args:
        model: whose input is not in its graph.
        faces: aligned faces; those of the pairs unless given.
        pairs: as `FaceModel.evaluate` takes them; without, nothing says which way is right, but
            how far an embedding hangs on it.

    Raises:
        InputError: a fault of the faces or the pairs.
    """
    said = model.card.seen
    colours = sorted(get_args(Colours), key=lambda one: one != said.colours)
    ways = [
        InputSettings(colours=order, normalisation=normalisation)
        for normalisation in dict.fromkeys((said.normalisation, *NORMALISATIONS))
        for order in colours
    ]
    if pairs is None:
        return _guesses(model, ways, list(faces), ())
    with model.packs(pairs) as packs:
        first = open_pack(packs[0], "verification").images[:FACES]
        return _guesses(model, ways, list(faces) or first, packs)


def doubt(guesses: Sequence[Guess]) -> str | None:
    """Why what is said of a model may be wrong; None where no other way is clearly better."""
    said, *others = guesses
    best = max(others, key=lambda one: one.auc)
    if not best.low > said.high:  # nor where there are no pairs
        return None
    return (
        f"the model may want other images: shown {spelt(best.seen)} its AUC is {best.auc:.4f} "
        f"({best.low:.4f} to {best.high:.4f}), and {said.auc:.4f} as is said, {spelt(said.seen)}"
    )


def spelt(seen: InputSettings) -> str:
    """A way of showing images, for people."""
    return f"{seen.colours} {seen.normalisation}"


def _guesses(
    model: FaceModel,
    ways: Sequence[InputSettings],
    faces: list[Path] | NDArray[np.uint8],
    packs: Sequence[Path],
) -> list[Guess]:
    found: list[Guess] = []
    vectors: list[NDArray[np.float32]] = []
    for way in ways:
        other = model.shown(way)
        auc = low = high = float("nan")
        if packs:
            whole = other.score(packs).table.grouped_by(())
            auc, low, high = (float(part[0, 0]) for part in area_interval(areas_above([whole])))
        vectors.append(other.embed(faces))
        similarity = float(np.vecdot(vectors[0], vectors[-1]).mean())  # the first is as is said
        found.append(Guess(way, similarity, auc, low, high))
    return found
