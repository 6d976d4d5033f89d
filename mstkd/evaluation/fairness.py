"""Fairness of a recogniser over groups: the paper's STD and SER, and the standards' measures.

Accuracies are percent, as in the paper's tables; error rates are fractions. The measures of error
rates compare groups at one shared threshold. Arrays in, numbers out: no files.
Shapes: P pairs, G groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """What the paper's tables say of one model, from a group's accuracy each."""

    global_accuracy: float  # percent; the mean over groups
    std: float  # percentage points; n - 1, which alone gives the paper's tables
    ser: float  # highest error over lowest; inf if only the lowest is 0, nan if all are


def summarize(accuracies: ArrayLike) -> Summary:
    """Mean, sample standard deviation and skewed error ratio (equation 7) over groups.

    Args:
        accuracies: (G,), percent.

    Raises:
        ValueError: fewer than two groups, or an accuracy outside 0 to 100.
    """
    percent = _check_groups(accuracies, 100.0, "accuracies")
    errors = 100 - percent
    return Summary(
        global_accuracy=float(percent.mean()),
        std=float(percent.std(ddof=1)),
        ser=_ratio(errors.max(), errors.min(), if_both_zero=np.nan),
    )


def fmr_fnmr(
    distances: ArrayLike, is_same: ArrayLike, group: ArrayLike, threshold: float
) -> tuple[Floats, Floats]:
    """False match and false non-match rate (G,) of each group at one shared threshold.

    The first is the share of a group's impostor pairs that are accepted, the second the share
    of its genuine pairs that are not (ISO/IEC 19795-1); a pair is accepted below the threshold.

    Args:
        distances: (P,), of any range.
        is_same: (P,), true for genuine pairs.
        group: (P,), whole numbers 0 to G - 1.
        threshold: of the distance.

    Raises:
        ValueError: shapes that differ, a distance or threshold that is no number, or a group
            without pairs of both classes.
    """
    distance, same, groups = np.asarray(distances), np.asarray(is_same, bool), np.asarray(group)
    if distance.ndim != 1 or not distance.shape == same.shape == groups.shape:
        shapes = f"{distance.shape}, {same.shape} and {groups.shape}"
        raise ValueError(f"distances, is_same and group of shapes {shapes}, not (P,) each")
    if not np.issubdtype(groups.dtype, np.integer) or (groups < 0).any():
        raise ValueError("group is not a whole number of at least 0 for each pair")
    if np.isnan(distance).any() or np.isnan(threshold):
        raise ValueError("a distance or the threshold is not a number")
    if not len(groups):
        raise ValueError("no pairs")
    cells = groups.astype(np.int64) * 2 + same
    count = 2 * (int(groups.max()) + 1)
    counts = np.bincount(cells, minlength=count).reshape(-1, 2)  # (G, impostor or genuine)
    wrong = np.bincount(cells[(distance < threshold) != same], minlength=count).reshape(-1, 2)
    if not counts.all():
        missing, kind = np.argwhere(counts == 0)[0]
        raise ValueError(f"group {missing} has no {('impostor', 'genuine')[kind]} pairs")
    rates = wrong / counts
    return rates[:, 0], rates[:, 1]


def garbe(fmr: ArrayLike, fnmr: ArrayLike, alpha: float = 0.5) -> float:
    """Gini aggregation rate for biometric equitability, 0 (fair) to 1 (Howard et al., 2022).

    alpha * G(FMR) + (1 - alpha) * G(FNMR) with the Gini coefficient
    G(x) = n / (n - 1) * sum_ij |x_i - x_j| / (2 n^2 mean(x)); of rates that are all 0 it is 0.
    arXiv:2203.05051.

    Args:
        fmr: (G,), fractions at one shared threshold.
        fnmr: (G,).
        alpha: weight of false matches, 0 to 1.

    Raises:
        ValueError: shapes that differ, fewer than two groups, or a value outside 0 to 1.
    """
    matches, non_matches = _check_rates(fmr, fnmr, alpha)
    return alpha * _gini(matches) + (1 - alpha) * _gini(non_matches)


def fdr(fmr: ArrayLike, fnmr: ArrayLike, alpha: float = 0.5) -> float:
    """Fairness discrepancy rate, 0 to 1 (fair) (de Freitas Pereira & Marcel, 2021).

    1 - alpha * (max - min of FMR) - (1 - alpha) * (max - min of FNMR). arXiv:2011.02395.
    Arguments and errors are those of `garbe`.
    """
    matches, non_matches = _check_rates(fmr, fnmr, alpha)
    return float(1 - alpha * np.ptp(matches) - (1 - alpha) * np.ptp(non_matches))


def inequity_ratio(fmr: ArrayLike, fnmr: ArrayLike, alpha: float = 0.5) -> float:
    """Inequity rate, 1 (fair) and up (Grother, 2021; NISTIR 8429).

    (max / min of FMR)^alpha * (max / min of FNMR)^(1 - alpha); inf if only the lowest rate of
    a kind is 0, and a kind whose rates are all 0 counts as 1. Arguments and errors are those
    of `garbe`.
    """
    matches, non_matches = _check_rates(fmr, fnmr, alpha)
    of_matches = _ratio(matches.max(), matches.min(), if_both_zero=1.0)
    of_non_matches = _ratio(non_matches.max(), non_matches.min(), if_both_zero=1.0)
    return float(of_matches**alpha * of_non_matches ** (1 - alpha))


def _gini(rates: Floats) -> float:
    if not rates.any():
        return 0.0
    count = len(rates)
    differences = np.abs(rates[:, None] - rates).sum()
    return float(differences / (2 * count * (count - 1) * rates.mean()))


def _ratio(largest: float, smallest: float, *, if_both_zero: float) -> float:
    if smallest > 0:
        return float(largest / smallest)
    return np.inf if largest > 0 else if_both_zero


def _check_rates(fmr: ArrayLike, fnmr: ArrayLike, alpha: float) -> tuple[Floats, Floats]:
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha {alpha}, outside 0 to 1")
    matches, non_matches = _check_groups(fmr, 1.0, "fmr"), _check_groups(fnmr, 1.0, "fnmr")
    if len(matches) != len(non_matches):
        raise ValueError(f"fmr of {len(matches)} groups and fnmr of {len(non_matches)}")
    return matches, non_matches


def _check_groups(values: ArrayLike, highest: float, name: str) -> Floats:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(f"{name} of shape {array.shape}, not one for each of at least two groups")
    outside = ~((array >= 0) & (array <= highest))  # true for nan
    if outside.any():
        raise ValueError(f"{name} has {array[outside][0]}, outside 0 to {highest:g}")
    return array
