"""Verification of pairs by a threshold on the squared distance of unit embeddings.

The k-fold protocol is RFW's and LFW's, as the public code for both has it (D25): the accuracies
of the paper's tables. ROC and TAR at a FAR stand beside it. Arrays in, arrays out: no files.
Shapes: P pairs, D embedding dimension, K folds, G groups.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

STEP = 0.01
THRESHOLDS = np.arange(0, 4, STEP)  # of the squared distance of unit vectors
ROWS = 64  # pairs at a time, few enough to stay in the processor's cache

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def kfold_accuracy(
    embeddings1: ArrayLike, embeddings2: ArrayLike, is_same: ArrayLike, folds: int = 10
) -> Floats:
    """Accuracy (folds,) of each fold as a fraction, at the best threshold of the other folds.

    Folds are contiguous and unshuffled. A pair counts as same if its squared distance is
    strictly below the threshold; of equally good thresholds the first is taken.

    Args:
        embeddings1: (P, D), of any length above zero.
        embeddings2: (P, D), the other face of each pair.
        is_same: (P,), true for genuine pairs.
        folds: number of folds, 2 to P.

    Raises:
        ValueError: shapes that differ, an embedding that is zero or not finite, fewer pairs than
            folds, fewer than two folds, or pairs of one class only.
    """
    distances = squared_distances(embeddings1, embeddings2)
    return fold_accuracies(distances, is_same, fold_of_pairs(len(distances), folds))


def fold_accuracies(distances: ArrayLike, is_same: ArrayLike, fold: ArrayLike) -> Floats:
    """Accuracy (K,) of each fold as a fraction, at the best threshold of the other folds.

    Args:
        distances: (P,), squared distances of unit vectors, 0 to 4.
        is_same: (P,), true for genuine pairs.
        fold: (P,), whole numbers 0 to K - 1.

    Raises:
        ValueError: shapes that differ, a distance that is not finite, pairs of one class only,
            fewer than two folds, or a fold without pairs.
    """
    distance, same = _check_pairs(distances, is_same)
    folds = _check_indices(fold, len(same), "fold")
    return _held_out(distance, same, folds, np.zeros_like(folds))[0]


def shared_fold_accuracies(
    distances: ArrayLike, is_same: ArrayLike, fold: ArrayLike, group: ArrayLike
) -> Floats:
    """Accuracy (G, K) of each group and fold as a fraction, at one threshold for all groups.

    A fold's threshold is the best on the pairs of all groups in the other folds. With one
    group these are the values of `fold_accuracies`.

    Args:
        distances: (P,), squared distances of unit vectors, 0 to 4.
        is_same: (P,), true for genuine pairs.
        fold: (P,), whole numbers 0 to K - 1.
        group: (P,), whole numbers 0 to G - 1.

    Raises:
        ValueError: as for `fold_accuracies`, or a group without pairs in some fold.
    """
    distance, same = _check_pairs(distances, is_same)
    groups = _check_indices(group, len(same), "group", least=1)
    return _held_out(distance, same, _check_indices(fold, len(same), "fold"), groups)


def squared_distances(embeddings1: ArrayLike, embeddings2: ArrayLike) -> Floats:
    """Squared distance (P,) of each pair of rows once both have unit length, 0 to 4.

    Args:
        embeddings1: (P, D), of any length above zero.
        embeddings2: (P, D).

    Raises:
        ValueError: shapes that differ or are not (P, D), or a row that is zero or not finite.
    """
    first, second = np.asarray(embeddings1), np.asarray(embeddings2)
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"embeddings of shapes {first.shape} and {second.shape}, not (P, D) twice")
    dots = np.empty((3, len(first)))
    with np.errstate(over="ignore", invalid="ignore"):
        for begin in range(0, len(first), ROWS):
            rows = slice(begin, begin + ROWS)
            one = first[rows].astype(np.float64, copy=False)
            two = second[rows].astype(np.float64, copy=False)
            for pair, out in zip(((one, one), (two, two), (one, two)), dots, strict=True):
                np.vecdot(*pair, out=out[rows])
    if not np.isfinite(dots).all():
        raise ValueError("an embedding is not finite")
    if not dots[:2].all():
        raise ValueError("an embedding is zero and has no direction")
    norms = np.sqrt(dots[:2])
    distances: Floats = 2 - 2 * dots[2] / (norms[0] * norms[1])
    # Where rounding could move a pair over a threshold, or leave a small distance no digits, the
    # squares of the differences are summed, as the public code does for every pair.
    steps = distances / STEP
    close = np.flatnonzero(np.abs(steps - np.rint(steps)) < 1e-7)
    one, two = (
        part[close] / norm[close, None] for part, norm in zip((first, second), norms, strict=True)
    )
    distances[close] = np.square(one - two).sum(axis=1)
    return distances


def fold_of_pairs(pairs: int, folds: int) -> Integers:
    """Fold (pairs,) of each pair: contiguous, unshuffled, the first folds one larger if need be.

    Raises:
        ValueError: fewer than two folds, or fewer pairs than folds.
    """
    if folds < 2:
        raise ValueError(f"{folds} folds, fewer than 2")
    if pairs < folds:
        raise ValueError(f"{pairs} pairs, fewer than the {folds} folds")
    return np.repeat(np.arange(folds), pairs // folds + (np.arange(folds) < pairs % folds))


def roc(distances: ArrayLike, is_same: ArrayLike) -> tuple[Floats, Floats]:
    """False match rate and true accept rate (N,) of all thresholds that decide differently.

    Both rise from 0 to 1; the n-th point accepts the n smallest distinct distances.

    Args:
        distances: (P,), of any range.
        is_same: (P,), true for genuine pairs.

    Raises:
        ValueError: shapes that differ, a distance that is not finite, or one class only.
    """
    distance, same = _check_pairs(distances, is_same)
    order = np.argsort(distance, kind="stable")
    last_of_equals = np.flatnonzero(np.diff(distance[order], append=np.inf))
    genuine = np.concatenate([[0], np.cumsum(same[order])[last_of_equals]])
    accepted = np.concatenate([[0], last_of_equals + 1])
    return (accepted - genuine) / np.sum(~same), genuine / np.sum(same)


def tar_at_far(distances: ArrayLike, is_same: ArrayLike, far: float) -> float:
    """Highest true accept rate whose false match rate is at most `far`; nothing is interpolated.

    Args:
        distances: (P,), of any range.
        is_same: (P,), true for genuine pairs.
        far: the false match rate allowed, 0 to 1.

    Raises:
        ValueError: as for `roc`, or `far` outside 0 to 1.
    """
    if not 0 <= far <= 1:
        raise ValueError(f"a false accept rate of {far}, outside 0 to 1")
    fmr, tar = roc(distances, is_same)
    return float(tar[np.searchsorted(fmr, far, side="right") - 1])


def _held_out(distance: Floats, same: NDArray[np.bool_], fold: Integers, group: Integers) -> Floats:
    """Accuracies (G, K), from counts of the pairs that each threshold decides rightly."""
    folds, groups = int(fold.max()) + 1, int(group.max()) + 1
    thresholds = len(THRESHOLDS)
    # A pair is accepted by the thresholds from its bin on; by none if the bin is the last.
    bins = np.searchsorted(THRESHOLDS, distance, side="right")
    cells = ((group * folds + fold) * 2 + same) * (thresholds + 1) + bins
    counts = np.bincount(cells, minlength=groups * folds * 2 * (thresholds + 1))
    counts = counts.reshape(groups, folds, 2, thresholds + 1)
    sizes = counts.sum(axis=(2, 3))  # (G, K)
    if not sizes.all():
        g, k = np.argwhere(sizes == 0)[0]
        raise ValueError(f"no pairs in fold {k}" + (f" of group {g}" if groups > 1 else ""))
    accepted = counts[..., :-1].cumsum(axis=3)  # (G, K, 2, thresholds)
    impostors = counts[:, :, 0].sum(axis=2, keepdims=True)  # (G, K, 1)
    correct = impostors - accepted[:, :, 0] + accepted[:, :, 1]  # (G, K, thresholds)
    of_fold = correct.sum(axis=0)  # (K, thresholds)
    best = np.argmax(of_fold.sum(axis=0) - of_fold, axis=1)  # (K,), the first of equals
    return correct[:, np.arange(folds), best] / sizes


def _check_pairs(distances: ArrayLike, is_same: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    distance, same = np.asarray(distances, np.float64), np.asarray(is_same, np.bool_)
    if distance.ndim != 1 or distance.shape != same.shape:
        raise ValueError(f"pairs of shapes {distance.shape} and {same.shape}, not (P,) twice")
    if not np.isfinite(distance).all():
        raise ValueError("a distance is not finite")
    if same.all() or not same.any():
        raise ValueError("pairs of one class only; both genuine and impostor pairs are needed")
    return distance, same


def _check_indices(values: ArrayLike, pairs: int, name: str, least: int = 2) -> Integers:
    indices = np.asarray(values)
    if indices.shape != (pairs,) or not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(f"{name} is not one whole number for each of the {pairs} pairs")
    if indices.min() < 0:
        raise ValueError(f"{name} {indices.min()} is below 0")
    if indices.max() + 1 < least:
        raise ValueError(f"one {name} only, at least {least} are needed")
    return indices.astype(np.int64)
