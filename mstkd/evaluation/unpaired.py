"""Comparisons of systems that were tested on other pairs: as independent, so that variances add.

What makes the pairs of one list harder than those of the other is part of such a difference.
"""

from __future__ import annotations

import math

import numpy as np

from mstkd.evaluation.contrasts import Contrast, Noise, spread_difference
from mstkd.evaluation.spread import Spread
from mstkd.evaluation.uncertainty import CONFIDENCE


def unpaired_contrast(
    first: Contrast, second: Contrast, confidence: float = CONFIDENCE
) -> Contrast:
    """The difference of two measures, each of one trained system.

    Args:
        first: of one system alone: its measure, with one seed.
        second: of the other.
        confidence: of the interval.
    """
    noise = _noise(first.noise, second.noise)
    value = first.value - second.value
    half = noise.reach((1 - confidence) / 2)
    return Contrast(value, value, value - half, value + half, noise.p_value(value), noise)


def unpaired_spread_contrast(
    first: Spread, second: Spread, models: tuple[int, int], confidence: float = CONFIDENCE
) -> Contrast:
    """The difference of a spread measure of two systems, by the method of `spread_contrast`.

    Args:
        first: the measure of the systems on one list of pairs.
        second: of those on the other, of other draws.
        models: which of the first and which of the second.
        confidence: of the interval.
    """
    sums = tuple(
        spread.sum_of([model], [1.0]) for spread, model in zip((first, second), models, strict=True)
    )
    noises = []
    for spread, model, one in zip((first, second), models, sums, strict=True):
        gradient = spread.gradient([model])
        independent, whole = (
            float(np.einsum("mg,mgnh,nh->", gradient, of, gradient))
            for of in spread.noise_of([model])
        )
        error = float(one.drawn.std(ddof=1))
        share = min(max(independent / whole, 0.0), 1.0) if whole > 0 else 1.0
        noises.append(Noise(0.0, error, error, share, 1))
    return spread_difference((sums[0], sums[1]), _noise(*noises), confidence=confidence)


def _noise(first: Noise, second: Noise) -> Noise:
    error = math.hypot(first.error, second.error)
    of_pairs = first.of_pairs * first.error**2 + second.of_pairs * second.error**2
    return Noise(0.0, error, error, of_pairs / error**2 if error else 1.0, 1)
