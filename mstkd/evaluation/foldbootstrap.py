"""Paired bootstrap over verification folds: how far a difference may be chance of the pairs.

Legend of shapes: S seeds, R draws, G groups, F folds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def fold_weights(*, draws: int, groups: int, folds: int, seed: int) -> Array:
    """How much each fold counts in each draw: (R, G, F), sums over folds 1.

    A draw takes `folds` folds with replacement, of each group on its own: no pair of images is
    of two groups, so the groups' pairs are independent samples.
    """
    generator = np.random.default_rng(seed)
    even = np.full(folds, 1 / folds)
    return generator.multinomial(folds, even, size=(draws, groups)) / folds


def resampled_summaries(fold_accuracies: Array, weights: Array) -> Array:
    """Global accuracy, STD and SER of every draw, averaged over seeds.

    Args:
        fold_accuracies: (S, G, F), percent.
        weights: (R, G, F) of `fold_weights`; the same for models that are compared.

    Returns:
        (R, 3); SER is infinite in draws where a group has no error.
    """
    accuracies = np.einsum("rgf,sgf->srg", weights, fold_accuracies)
    return summaries(accuracies).mean(axis=0)


def summaries(accuracies: Array) -> Array:
    """Global accuracy, STD (sample) and SER along the last axis: (..., G) -> (..., 3)."""
    errors = np.round(100 - accuracies, 9)  # a sum of folds at 100 may miss 100 by its last bit
    worst, best = errors.max(axis=-1), errors.min(axis=-1)
    ser = np.full(best.shape, np.inf)
    np.divide(worst, best, out=ser, where=best > 0)
    return np.stack([accuracies.mean(axis=-1), accuracies.std(axis=-1, ddof=1), ser], axis=-1)


def interval(differences: Array, confidence: float = 0.95) -> tuple[float, float] | None:
    """Percentile interval of draws (R,); None where it is not finite."""
    tail = (1 - confidence) / 2
    with np.errstate(invalid="ignore"):
        low, high = np.quantile(np.round(differences, 9), [tail, 1 - tail])
    if not np.isfinite([low, high]).all():
        return None
    return float(low), float(high)
