"""Fairness of a recogniser over groups: the paper's STD and SER, and the standards' measures.

Accuracies are percent, as in the paper's tables; error rates are fractions, those of all groups at
one threshold. Arrays in, numbers out: no files. The groups lie along the last axis, and what is
returned has the axes before it: of the draws of a bootstrap, one value each. Shapes: G groups.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

DIGITS = 9  # of a mean over folds, whose last bits may miss 100 where there is no error


class Summary(NamedTuple):
    """What the paper's tables say of one model, from a group's accuracy each."""

    global_accuracy: float | Floats  # percent; the mean over groups
    std: float | Floats  # percentage points; n - 1, which alone gives the paper's tables
    ser: float | Floats  # highest error over lowest; inf if only the lowest is 0, nan if all are


def summarize(accuracies: ArrayLike) -> Summary:
    """Mean, sample standard deviation and skewed error ratio (equation 7) over groups.

    Args:
        accuracies: (..., G), percent.

    Raises:
        ValueError: fewer than two groups, or an accuracy outside 0 to 100.
    """
    percent = _check_groups(accuracies, 100.0, "accuracies")
    errors = np.round(100 - percent, DIGITS)
    values = (
        percent.mean(axis=-1),
        percent.std(axis=-1, ddof=1),
        _ratio(errors.max(axis=-1), errors.min(axis=-1), if_both_zero=np.nan),
    )
    return Summary(*(float(value) if percent.ndim == 1 else value for value in values))


# ---------------------------------------------------------------- of one kind of error rate


def max_min_ratio(rates: ArrayLike) -> Floats:
    """The highest rate over the lowest, 1 (fair) and up (NISTIR 8280; NISTIR 8429).

    inf if only the lowest is 0; of rates that are all 0 it is 1.

    Args:
        rates: (..., G), fractions.

    Raises:
        ValueError: fewer than two groups, or a value outside 0 to 1.
    """
    values = _check_groups(rates, 1.0, "rates")
    return _ratio(values.max(axis=-1), values.min(axis=-1), if_both_zero=1.0)


def max_geometric_mean_ratio(rates: ArrayLike) -> Floats:
    """The highest rate over the geometric mean of all, 1 (fair) and up (Grother, NISTIR 8429).

    Unlike `max_min_ratio` it does not rest on the group with the fewest errors alone. inf if some
    rate is 0 but not all; of rates that are all 0 it is 1. Arguments and errors are those of
    `max_min_ratio`.
    """
    values = _check_groups(rates, 1.0, "rates")
    return _ratio(values.max(axis=-1), _geometric_mean(values), if_both_zero=1.0)


def differential(rates: ArrayLike, reference: int | None = None) -> Floats:
    """Each group's rate over that of a reference (..., G), 1 where they are equal.

    With FMR it is what ISO/IEC 19795-10:2024 calls a false positive differential, with FNMR a false
    negative differential, as the ratio of NISTIR 8280. (The standard's own text we have not seen.)
    The reference is a group, or with None the geometric mean over groups (NISTIR 8429), which
    favours none. inf where the reference alone is 0, nan where both are.

    Args:
        rates: (..., G), fractions.
        reference: a group's position, or None.

    Raises:
        ValueError: as `max_min_ratio`, or a position that is none.
    """
    values = _check_groups(rates, 1.0, "rates")
    if reference is None:
        return _ratio(values, _geometric_mean(values)[..., None], if_both_zero=np.nan)
    if not 0 <= reference < values.shape[-1]:
        raise ValueError(f"reference {reference}, not one of {values.shape[-1]} groups")
    return _ratio(values, values[..., reference, None], if_both_zero=np.nan)


# ---------------------------------------------------------------- of both kinds


def garbe(fmr: ArrayLike, fnmr: ArrayLike, alpha: float = 0.5) -> Floats:
    """Gini aggregation rate for biometric equitability, 0 (fair) to 1 (Howard et al., 2022).

    alpha * G(FMR) + (1 - alpha) * G(FNMR) with the Gini coefficient
    G(x) = n / (n - 1) * sum_ij |x_i - x_j| / (2 n^2 mean(x)); of rates that are all 0 it is 0.
    arXiv:2203.05051.

    Args:
        fmr: (..., G), fractions at one shared threshold.
        fnmr: (..., G).
        alpha: weight of false matches, 0 to 1.

    Raises:
        ValueError: shapes that differ, fewer than two groups, or a value outside 0 to 1.
    """
    matches, non_matches = _check_rates(fmr, fnmr, alpha)
    return alpha * _gini(matches) + (1 - alpha) * _gini(non_matches)


def fdr(fmr: ArrayLike, fnmr: ArrayLike, alpha: float = 0.5) -> Floats:
    """Fairness discrepancy rate, 0 to 1 (fair) (de Freitas Pereira & Marcel, 2021).

    1 - alpha * (max - min of FMR) - (1 - alpha) * (max - min of FNMR). arXiv:2011.02395.
    Arguments and errors are those of `garbe`.
    """
    matches, non_matches = _check_rates(fmr, fnmr, alpha)
    return 1 - alpha * np.ptp(matches, axis=-1) - (1 - alpha) * np.ptp(non_matches, axis=-1)


def inequity_ratio(fmr: ArrayLike, fnmr: ArrayLike, alpha: float = 0.5) -> Floats:
    """Inequity rate, 1 (fair) and up (Grother, 2021; NISTIR 8429).

    (max / min of FMR)^alpha * (max / min of FNMR)^(1 - alpha); inf if only the lowest rate of
    a kind is 0, and a kind whose rates are all 0 counts as 1. Arguments and errors are those
    of `garbe`.
    """
    matches, non_matches = _check_rates(fmr, fnmr, alpha)
    return max_min_ratio(matches) ** alpha * max_min_ratio(non_matches) ** (1 - alpha)


def measures_of_rates(fmr: ArrayLike, fnmr: ArrayLike) -> dict[str, Floats]:
    """All that error rates by group say of fairness, by the names of `measures.csv` (...).

    Arguments and errors are those of `garbe`; false matches and false non-matches weigh the same.
    """
    return {
        "fdr": fdr(fmr, fnmr),
        "ir": inequity_ratio(fmr, fnmr),
        "garbe": garbe(fmr, fnmr),
        "fmr_max_min": max_min_ratio(fmr),
        "fmr_max_geomean": max_geometric_mean_ratio(fmr),
        "fnmr_max_min": max_min_ratio(fnmr),
        "fnmr_max_geomean": max_geometric_mean_ratio(fnmr),
    }


def _gini(rates: Floats) -> Floats:
    count = rates.shape[-1]
    # sum_ij |x_i - x_j| of sorted x is 2 sum_i (2 i - n - 1) x_i.
    ranks = 2 * np.arange(1, count + 1) - count - 1
    differences = 2 * (ranks * np.sort(rates, axis=-1)).sum(axis=-1)
    mean = rates.mean(axis=-1)
    return np.divide(
        differences, 2 * count * (count - 1) * mean, out=np.zeros_like(mean), where=mean > 0
    )


def _geometric_mean(rates: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.exp(np.log(rates).mean(axis=-1))


def _ratio(largest: Floats, smallest: Floats, *, if_both_zero: float) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = largest / smallest
    return np.where((largest == 0) & (smallest == 0), if_both_zero, ratio)[()]


def _check_rates(fmr: ArrayLike, fnmr: ArrayLike, alpha: float) -> tuple[Floats, Floats]:
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha {alpha}, outside 0 to 1")
    matches, non_matches = _check_groups(fmr, 1.0, "fmr"), _check_groups(fnmr, 1.0, "fnmr")
    if matches.shape != non_matches.shape:
        shapes = f"fmr of {matches.shape[-1]} groups and fnmr of {non_matches.shape[-1]}"
        raise ValueError(shapes if matches.ndim == non_matches.ndim == 1 else f"{shapes}, or draws")
    return matches, non_matches


def _check_groups(values: ArrayLike, highest: float, name: str) -> Floats:
    array = np.asarray(values, np.float64)
    if array.ndim < 1 or array.shape[-1] < 2:
        raise ValueError(f"{name} of shape {array.shape}, not one for each of at least two groups")
    outside = ~((array >= 0) & (array <= highest))  # true for nan
    if outside.any():
        raise ValueError(f"{name} has {array[outside][0]}, outside 0 to {highest:g}")
    return array
