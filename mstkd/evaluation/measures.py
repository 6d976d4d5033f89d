"""What is measured on scored pairs, for many weightings of the pairs at once.

Every function is pure: arrays of a `ScoreTable` in, numbers out. `weights` says how much each pair
counts: None is once each, (P,) gives one value of a measure, and (W, P) gives W of them, the first
axis of what is returned. Draws of a bootstrap are such weights. They are taken in blocks, so that
2,000 weightings of 24,000 pairs need no more memory than the weights themselves.

A pair is accepted at a threshold if its similarity is at least that (ISO/IEC 19795-1, NIST). Error
rates are fractions: the false match rate FMR is the weight of the accepted impostor pairs over that
of all impostor pairs, the false non-match rate FNMR that of the genuine pairs that are not accepted
over that of all genuine pairs. Pairs across groups are to be left out, but for `fmr_matrix`.

Shapes: P pairs, W weightings, G groups, K folds, T thresholds or rates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mstkd.evaluation.verification import STEP, THRESHOLDS

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Truths = NDArray[np.bool_]

ROUNDING = 1e-6  # of cosines in single precision, which may exceed 1
RANKS = 1000  # thresholds among scores that are no cosines
BLOCK = 1 << 20  # numbers in a block of weights or of counts, 8 MB
ENOUGH = 10  # errors that a rate must rest on
# One-sided 95 % bounds of a Poisson mean of which 0, 1, ... events were seen: chi-square quantiles
# over 2 with 2 (n + 1) degrees of freedom. The first is the rule of three (Hanley & Lippman-Hand,
# JAMA 1983; ISO/IEC 19795-1, annex B).
BOUNDS = (3.0, 4.74, 6.30, 7.75, 9.15, 10.51, 11.84, 13.15, 14.43, 15.71)


# ---------------------------------------------------------------- accuracy over folds


def accepting(similarity: ArrayLike) -> tuple[Integers, Floats]:
    """Which of T thresholds accept each pair, and the thresholds, from strict to lenient.

    Of cosines these are the 400 of RFW's and LFW's protocol (D25): squared distances of unit
    vectors, 0 to 3.99 by 0.01, each accepting what lies strictly below. Similarities of which one
    is outside -1 to 1 are no cosines: their thresholds are the scores themselves, or of more than
    `RANKS` distinct ones as many of even ranks.

    Returns:
        The first threshold (P,) that accepts each pair, T where none does; and the least
        similarity (T,) that each threshold accepts.
    """
    scores = np.asarray(similarity, np.float64)
    if np.abs(scores).max(initial=0) <= 1 + ROUNDING:
        distance = 2 - 2 * scores
        near = np.rint(distance / STEP).astype(np.int64).clip(0, len(THRESHOLDS) - 1)
        return near + (THRESHOLDS[near] <= distance), np.nextafter(1 - THRESHOLDS / 2, np.inf)
    falling = -np.unique(-scores)
    if len(falling) > RANKS:
        falling = falling[np.linspace(0, len(falling) - 1, RANKS).round().astype(int)]
    return np.searchsorted(-falling, -scores, side="left"), falling


class FoldAccuracies(NamedTuple):
    """Accuracies as fractions, each group and fold at a threshold chosen on the other folds."""

    folds: Floats  # (..., G, K), nan where no pair has weight
    groups: Floats  # (..., G), the mean over folds


def fold_accuracies(
    similarity: ArrayLike,
    same: ArrayLike,
    fold: ArrayLike,
    group: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    threshold: Literal["own", "shared"] = "own",
) -> FoldAccuracies:
    """Accuracy of each group over folds: RFW's protocol, at a threshold each or at one for all.

    A fold is judged at the threshold that is best on the other folds, the first of equals: on the
    pairs of its own group, or on those of all groups. Cosines that all weigh 1 give the very
    numbers of `verification.fold_accuracies` and `shared_fold_accuracies`. A group's accuracy is
    the mean over its folds. With weights w it is sum_i w_i c_i / n_i over sum_i w_i / n_i, where
    c_i says whether pair i is decided rightly and n_i is the number of pairs of its group and fold,
    so that weights of whole folds weigh the folds.

    Args:
        similarity: (P,).
        same: (P,), True for genuine pairs.
        fold: (P,), whole numbers 0 to K - 1.
        group: (P,), whole numbers 0 to G - 1.
        weights: as the module says.
        threshold: "own" is the paper's protocol.

    Raises:
        ValueError: shapes that differ, a similarity or weight that is not finite, a weight below 0,
            fewer than two folds, or a group without pairs.
    """
    pairs = _Pairs(similarity, same, group, fold)
    protocol = _Protocol(pairs, threshold)
    of_folds, of_groups = [], []
    for block in _blocks(weights, len(pairs.same), protocol.size):
        right, weight, _ = protocol.judged(block)
        with np.errstate(invalid="ignore"):
            of_folds.append(right / weight)
        each = np.divide(weight, pairs.sizes, out=np.zeros_like(weight), where=pairs.sizes > 0)
        with np.errstate(invalid="ignore"):
            of_groups.append(np.nansum(each * of_folds[-1], axis=-1) / each.sum(axis=-1))
    return FoldAccuracies(_joined(of_folds, weights), _joined(of_groups, weights))


class Decisions(NamedTuple):
    """What the protocol decides of each pair where all weigh 1."""

    right: Truths  # (P,)
    thresholds: Floats  # (G, K), the least similarity accepted


def fold_decisions(
    similarity: ArrayLike,
    same: ArrayLike,
    fold: ArrayLike,
    group: ArrayLike,
    *,
    threshold: Literal["own", "shared"] = "own",
) -> Decisions:
    """Which pairs `fold_accuracies` decides rightly, and at which thresholds.

    Arguments and errors are those of `fold_accuracies`.
    """
    pairs = _Pairs(similarity, same, group, fold)
    protocol = _Protocol(pairs, threshold)
    best = protocol.judged(np.ones((1, len(pairs.same))))[2][0]
    accepted = protocol.first <= best[pairs.group, pairs.fold]
    return Decisions(accepted == pairs.same, protocol.thresholds[best])


class _Protocol:
    """Counts of the pairs that each threshold decides rightly, and the choice of thresholds."""

    def __init__(self, pairs: _Pairs, threshold: Literal["own", "shared"]) -> None:
        if pairs.folds < 2:
            raise ValueError("one fold only, at least two are needed")
        if not pairs.sizes.any(axis=1).all():
            raise ValueError(f"no pairs of group {int(np.argmin(pairs.sizes.any(axis=1)))}")
        self._shared = threshold == "shared"
        self._same = pairs.same
        self.first, self.thresholds = accepting(pairs.similarity)
        # Between thresholds that no pair tells apart the first is taken, so others need no look.
        self._looked_at = np.union1d(self.first[self.first < len(self.thresholds)], 0)
        step = np.searchsorted(self._looked_at, self.first)  # those no threshold accepts lie beyond
        shape = (len(self._looked_at) + 1, pairs.groups, pairs.folds)
        self._by_step = _Cells((step, pairs.group, pairs.fold), shape)
        self._by_class = _Cells((pairs.same, pairs.group, pairs.fold), (2, *shape[1:]))
        self._others = 1.0 - np.eye(pairs.folds)
        self.size = self._by_step.size

    def judged(self, weights: Floats) -> tuple[Floats, Floats, Integers]:
        """Of each group and fold (w, G, K): what is decided rightly, its weight, the threshold.

        Threshold after threshold is tried, the weightings side by side in the last axis, where the
        processor takes several at once.
        """
        impostor, genuine = self._by_class.sums(weights)  # (G, K, w)
        right = impostor.copy()  # of a threshold that accepts nothing
        best = np.full_like(right, -np.inf)
        chosen, at = np.empty_like(right), np.zeros(right.shape, np.int64)
        signed = np.where(self._same, weights, -weights)
        for step, change in enumerate(self._by_step.sums(signed)[:-1]):
            right += change
            # A sum over the others, not the total less one: thresholds that differ in the fold left
            # out alone stay equal to the last bit.
            others = self._others @ (right.sum(axis=0) if self._shared else right)
            better = np.broadcast_to(
                others > best[0] if self._shared else others > best, best.shape
            )
            np.copyto(best, others, where=better)
            np.copyto(chosen, right, where=better)
            at[better] = step
        threshold = np.moveaxis(self._looked_at[at], -1, 0)
        return np.moveaxis(chosen, -1, 0), np.moveaxis(impostor + genuine, -1, 0), threshold


# ---------------------------------------------------------------- error rates at thresholds


class Rates(NamedTuple):
    """Error rates as fractions, nan where no pair has weight."""

    fmr: Floats
    fnmr: Floats


def error_rates(
    similarity: ArrayLike,
    same: ArrayLike,
    group: ArrayLike,
    thresholds: ArrayLike,
    weights: ArrayLike | None = None,
) -> Rates:
    """FMR and FNMR of each group at given thresholds (..., T, G), at one (..., G).

    Of all pairs together: `group` of zeros. ISO/IEC 19795-1.

    Args:
        similarity: (P,).
        same: (P,), True for genuine pairs.
        group: (P,), whole numbers 0 to G - 1.
        thresholds: (T,) or one; pairs of at least that similarity are accepted.
        weights: as the module says.

    Raises:
        ValueError: shapes that differ, what is not finite, a weight below 0, or a group without
            pairs of both classes.
    """
    pairs = _Pairs(similarity, same, group)
    pairs.check_both_classes()
    given = np.asarray(thresholds, np.float64)
    if given.ndim > 1 or np.isnan(given).any():
        raise ValueError(f"thresholds of shape {given.shape}, or one that is not a number")
    rising, place = np.unique(given, return_inverse=True)
    # A pair's cell: how many of the rising thresholds accept it.
    accepted_by = np.searchsorted(rising, pairs.similarity, side="right")
    shape = (pairs.groups, 2, len(rising) + 1)
    cells = _Cells((pairs.group, pairs.same, accepted_by), shape)
    fmr, fnmr = [], []
    for block in _blocks(weights, len(pairs.same), cells.size):
        counts = np.moveaxis(cells.sums(block), -1, 0)  # (w, G, 2, T + 1)
        rejected = np.cumsum(counts, axis=-1)  # by threshold t: the pairs that t or fewer accept
        wrong = np.stack([rejected[..., 0, -1:] - rejected[..., 0, :-1], rejected[..., 1, :-1]])
        with np.errstate(invalid="ignore"):
            shares = wrong / np.moveaxis(rejected[..., -1:], 2, 0)  # (2, w, G, T)
        by_threshold = np.swapaxes(shares[..., place.ravel()], 2, 3)  # (2, w, T, G)
        fmr.append(by_threshold[0])
        fnmr.append(by_threshold[1])
    rates = Rates(_joined(fmr, weights), _joined(fnmr, weights))
    return rates if given.ndim else Rates(rates.fmr[..., 0, :], rates.fnmr[..., 0, :])


class RatesAtFmr(NamedTuple):
    """Error rates at thresholds set by a global FMR; nan where no pair has weight."""

    fmr: Floats  # (..., T, G)
    fnmr: Floats  # (..., T, G); the true accept rate TAR is 1 - FNMR
    global_fmr: Floats  # (..., T), of the pairs of all groups together
    global_fnmr: Floats  # (..., T)
    thresholds: Floats  # (..., T, K), the least similarity accepted in each fold


def rates_at_fmr(
    similarity: ArrayLike,
    same: ArrayLike,
    fold: ArrayLike,
    group: ArrayLike,
    fmrs: ArrayLike,
    weights: ArrayLike | None = None,
) -> RatesAtFmr:
    """FMR and FNMR of each group where one threshold for all holds the global FMR at a target.

    The threshold of a fold is the lowest at which the impostor pairs of all groups in the other
    folds have an FMR of at most the target, nothing interpolated; so no pair has a say in the
    threshold it is judged by, and the FMR found differs from the target by chance. Whether a target
    can be held at all, `fmr_insufficient` says.

    Args:
        similarity: (P,).
        same: (P,), True for genuine pairs.
        fold: (P,), whole numbers 0 to K - 1.
        group: (P,), whole numbers 0 to G - 1.
        fmrs: (T,), the targets, 0 to 1.
        weights: as the module says.

    Raises:
        ValueError: as `error_rates`, fewer than two folds, or a target outside 0 to 1.
    """
    pairs = _Pairs(similarity, same, group, fold)
    pairs.check_both_classes()
    if pairs.folds < 2:
        raise ValueError("one fold only, at least two are needed")
    targets = np.atleast_1d(np.asarray(fmrs, np.float64))
    if targets.ndim != 1 or not ((targets >= 0) & (targets <= 1)).all():
        raise ValueError(f"an FMR outside 0 to 1 among {targets.tolist()}")
    falling = np.argsort(-pairs.similarity, kind="stable")
    impostors = falling[~pairs.same[falling]]
    others = [impostors[pairs.fold[impostors] != k] for k in range(pairs.folds)]
    impostors_of = np.zeros((len(pairs.same), pairs.folds))  # one where a pair sets a threshold
    for k, rows in enumerate(others):
        impostors_of[rows, k] = 1
    cells = pairs.in_cells(falling)
    parts: list[list[Floats]] = [[] for _ in RatesAtFmr._fields]
    for block in _blocks(weights, len(pairs.same), len(pairs.same)):
        thresholds = np.stack(
            [
                _at_fmr(pairs.similarity[rows], block, rows, total, targets)
                for rows, total in zip(others, (block @ impostors_of).T, strict=True)
            ],
            axis=-1,
        )  # (w, T, K)
        wrong = np.zeros((2, len(block), len(targets), pairs.groups))
        total = np.zeros((2, len(block), 1, pairs.groups))
        for (g, k, c), rows in cells:
            accepted = np.zeros((len(block), len(rows) + 1))
            np.cumsum(np.take(block, rows, axis=1), axis=1, out=accepted[:, 1:])
            # Counted from the highest score down, to the last that is at least the threshold.
            count = np.searchsorted(-pairs.similarity[rows], -thresholds[..., k], side="right")
            taken = np.take_along_axis(accepted, count, axis=1)  # (w, T)
            wrong[c, ..., g] += accepted[:, -1:] - taken if c else taken
            total[c, ..., g] += accepted[:, -1:]
        with np.errstate(invalid="ignore"):
            of_groups, of_all = wrong / total, wrong.sum(axis=-1) / total.sum(axis=-1)
        for part, value in zip(parts, (*of_groups, *of_all, thresholds), strict=True):
            part.append(value)
    return RatesAtFmr(*(_joined(part, weights) for part in parts))


def _at_fmr(
    falling: Floats, weights: Floats, rows: Integers, total: Floats, targets: Floats
) -> Floats:
    """The lowest threshold (w, T) that accepts at most a share of impostor pairs.

    Args:
        falling: their similarities, the highest first, (N,).
        weights: of all pairs, (w, P).
        rows: the impostor pairs' places among these, (N,).
        total: their weight, (w,).
        targets: the shares, (T,).
    """
    # Only the first few decide, unless the weights lie elsewhere.
    few = int(4 * targets.max() * len(rows)) + 100
    while True:
        few = min(few, len(rows))
        with np.errstate(invalid="ignore"):
            share = np.cumsum(np.take(weights, rows[:few], axis=1), axis=1) / total[:, None]
        if few == len(rows) or (share[:, -1] > targets.max()).all():
            break
        few *= 4
    count = (share[:, None, :] <= targets[:, None]).sum(axis=2)  # (w, T), the pairs accepted
    # Just above the first that is not, and so above all that equal it.
    refused = np.append(falling, -np.inf)[count]
    return np.where(count < len(rows), np.nextafter(refused, np.inf), -np.inf)


def fmr_matrix(
    similarity: ArrayLike,
    same: ArrayLike,
    group1: ArrayLike,
    group2: ArrayLike,
    threshold: float,
    weights: ArrayLike | None = None,
) -> Floats:
    """FMR of impostor pairs between any two groups (..., G, G), nan where there are none.

    Symmetric, for the order of a pair's images says nothing. As in NIST's reports on demographics
    (NISTIR 8280). Arguments and errors are those of `error_rates`, but that a group may
    have no pairs; `group1` and `group2` are of each pair's images.
    """
    first, second = np.asarray(group1), np.asarray(group2)
    groups = int(max(first.max(initial=0), second.max(initial=0))) + 1
    low, high = np.minimum(first, second).astype(np.int64), np.maximum(first, second)
    pairs = _Pairs(similarity, same, low * groups + high)
    accepted = pairs.similarity >= threshold
    shape = (groups, groups, 2)
    chosen = ~pairs.same
    cells = _Cells((low[chosen], high[chosen], accepted[chosen]), shape)
    parts = []
    for block in _blocks(weights, len(chosen), len(chosen)):
        counts = np.moveaxis(cells.sums(block[:, chosen]), -1, 0)  # (w, G, G, 2)
        counts = counts + counts.transpose(0, 2, 1, 3)  # twice the diagonal, of which rates stay
        with np.errstate(invalid="ignore"):
            parts.append(counts[..., 1] / counts.sum(axis=-1))
    return _joined(parts, weights)


# ---------------------------------------------------------------- all thresholds


class Separation(NamedTuple):
    """How well similarities part genuine from impostor pairs, whatever the threshold."""

    auc: Floats  # (..., G), the area under the ROC
    eer: Floats  # (..., G), the equal error rate


def separation(
    similarity: ArrayLike, same: ArrayLike, group: ArrayLike, weights: ArrayLike | None = None
) -> Separation:
    """Area under the ROC and equal error rate of each group; `group` of zeros for all together.

    The ROC goes straight from one distinct score to the next. So the area is the probability that
    a genuine pair scores above an impostor pair, a tie counting half (Hanley & McNeil, Radiology
    1982), and the equal error rate is where the ROC has FMR = FNMR.

    Args:
        similarity: (P,).
        same: (P,), True for genuine pairs.
        group: (P,), whole numbers 0 to G - 1.
        weights: as the module says.

    Raises:
        ValueError: as `error_rates`.
    """
    pairs = _Pairs(similarity, same, group)
    pairs.check_both_classes()
    falling = np.argsort(-pairs.similarity, kind="stable")
    curves = [_Curve(pairs, falling[pairs.group[falling] == g]) for g in range(pairs.groups)]
    auc, eer = [], []
    for block in _blocks(weights, len(pairs.same), len(pairs.same)):
        both = [curve.area_and_equal_error(block) for curve in curves]
        auc.append(np.stack([area for area, _ in both], axis=-1))
        eer.append(np.stack([equal for _, equal in both], axis=-1))
    return Separation(_joined(auc, weights), _joined(eer, weights))


class _Curve:
    """The ROC of some pairs: its n-th point accepts those of the n highest distinct scores."""

    def __init__(self, pairs: _Pairs, falling: Integers) -> None:
        self._rows = [falling[pairs.same[falling] == c] for c in (False, True)]
        below = [-pairs.similarity[rows] for rows in self._rows]
        distinct = np.unique(-pairs.similarity[falling])
        # How many impostor and genuine pairs each point accepts.
        self._accepted = [
            np.concatenate([[0], np.searchsorted(one, distinct, side="right")]) for one in below
        ]
        # How many impostor pairs score above each genuine pair, and at least as high.
        self._above = [np.searchsorted(below[0], below[1], side=side) for side in ("left", "right")]

    def area_and_equal_error(self, weights: Floats) -> tuple[Floats, Floats]:
        """Area under the curve and equal error rate (w,)."""
        own = [np.take(weights, rows, axis=1) for rows in self._rows]
        running = [np.zeros((len(weights), len(rows) + 1)) for rows in self._rows]
        for one, out in zip(own, running, strict=True):
            np.cumsum(one, axis=1, out=out[:, 1:])
        impostors, genuine = running
        strictly, at_least = (np.take(impostors, places, axis=1) for places in self._above)
        with np.errstate(invalid="ignore"):
            lost = np.vecdot(own[1], strictly + at_least) / 2
            area = 1 - lost / (impostors[:, -1] * genuine[:, -1])
        # FMR - FNMR goes from -1 to 1 and never falls: by halves to the first point not below 0.
        low, high = np.zeros(len(weights), np.int64), np.full(len(weights), self._points - 1)
        while (high - low > 1).any():
            middle = (low + high) // 2
            fmr, fnmr = self._rates(running, middle)
            low, high = np.where(fmr < fnmr, middle, low), np.where(fmr < fnmr, high, middle)
        (fmr, fnmr), (next_fmr, next_fnmr) = (self._rates(running, at) for at in (low, high))
        with np.errstate(invalid="ignore"):
            part = (fnmr - fmr) / (fnmr - fmr + next_fmr - next_fnmr)
        return area, fmr + part * (next_fmr - fmr)

    @property
    def _points(self) -> int:
        return len(self._accepted[0])

    def _rates(self, running: list[Floats], point: Integers) -> tuple[Floats, Floats]:
        """FMR and FNMR (w,) at a point (w,) of each weighting."""
        every = np.arange(len(point))
        impostor, genuine = (
            one[every, places[point]] for one, places in zip(running, self._accepted, strict=True)
        )
        with np.errstate(invalid="ignore"):
            return impostor / running[0][:, -1], 1 - genuine / running[1][:, -1]


def det_thresholds(similarity: ArrayLike, same: ArrayLike, points: int = 200) -> Floats:
    """Thresholds (T,) for ROC and DET curves, from strict to lenient.

    They are set at FMRs of `points` even steps of the logarithm, from one false match to all; equal
    ones stand there once. `error_rates` at them gives the curves of all groups and weightings.

    Args:
        similarity: (P,).
        same: (P,), True for genuine pairs.
        points: how many at most.
    """
    impostors = -np.sort(-np.asarray(similarity, np.float64)[~np.asarray(same, bool)])
    places = np.geomspace(1, len(impostors), points).round().astype(int) - 1
    return impostors[np.unique(places)]


# ---------------------------------------------------------------- too few errors


@dataclass(frozen=True)
class Insufficient:
    """A rate that rests on too few errors to be told as a number."""

    errors: float  # seen, or expected
    pairs: int  # that could have been errors
    bound: float  # the rate is below it with 95 % confidence, were pairs independent

    def __str__(self) -> str:
        return (
            f"insufficient: {self.errors:.3g} errors of {self.pairs:,} pairs, {ENOUGH} needed; "
            f"below {self.bound:.2g}"
        )


def fmr_insufficient(fmr: float, impostors: int) -> Insufficient | None:
    """Why no threshold can be set at an FMR: too few impostor pairs would be accepted, if so.

    The bound is the rule of three, 3 / N: the least FMR that no false match among N shows.
    """
    expected = fmr * impostors
    if expected >= ENOUGH * (1 - 1e-9):  # 1e-3 of 10,000 is enough, however it is rounded
        return None
    return Insufficient(expected, impostors, min(1.0, BOUNDS[0] / max(impostors, 1)))


def rate_insufficient(errors: int, pairs: int) -> Insufficient | None:
    """Why a rate is no number: it rests on fewer than ten errors.

    The bound is the one-sided 95 % bound of a Poisson mean, the rule of three where there are none.
    """
    if errors >= ENOUGH:
        return None
    return Insufficient(errors, pairs, min(1.0, BOUNDS[errors] / max(pairs, 1)))


# ---------------------------------------------------------------- pairs, cells and blocks


class _Pairs:
    """Checked arrays; `sizes` is the number of pairs of each group and fold (G, K)."""

    def __init__(
        self,
        similarity: ArrayLike,
        same: ArrayLike,
        group: ArrayLike,
        fold: ArrayLike | None = None,
    ) -> None:
        self.similarity = np.asarray(similarity, np.float64)
        self.same = np.asarray(same, np.bool_)
        if self.similarity.ndim != 1 or self.similarity.shape != self.same.shape:
            shapes = f"{self.similarity.shape} and {self.same.shape}"
            raise ValueError(f"similarity and same of shapes {shapes}, not (P,) twice")
        if not len(self.same):
            raise ValueError("no pairs")
        if not np.isfinite(self.similarity).all():
            raise ValueError("a similarity is not finite")
        self.group = _numbers(group, len(self.same), "group")
        self.fold = np.zeros_like(self.group)
        if fold is not None:
            self.fold = _numbers(fold, len(self.same), "fold")
        self.groups, self.folds = int(self.group.max()) + 1, int(self.fold.max()) + 1
        cells = self.group * self.folds + self.fold
        counts = np.bincount(cells, minlength=self.groups * self.folds)
        self.sizes = counts.reshape(self.groups, self.folds)

    def check_both_classes(self) -> None:
        counts = np.bincount(self.group * 2 + self.same, minlength=2 * self.groups).reshape(-1, 2)
        if not counts.all():
            group, kind = np.argwhere(counts == 0)[0]
            raise ValueError(f"group {group} has no {('impostor', 'genuine')[kind]} pairs")

    def in_cells(self, order: Integers) -> list[tuple[tuple[int, int, int], Integers]]:
        """Group, fold and class of each cell that has pairs, and these in an order of all."""
        shape = (self.groups, self.folds, 2)
        codes = np.ravel_multi_index((self.group, self.fold, self.same.astype(np.int64)), shape)
        by_cell = order[np.argsort(codes[order], kind="stable")]
        used, starts = np.unique(codes[by_cell], return_index=True)
        places = zip(*(index.tolist() for index in np.unravel_index(used, shape)), strict=True)
        return list(zip(places, np.split(by_cell, starts[1:]), strict=True))


def _numbers(values: ArrayLike, pairs: int, name: str) -> Integers:
    numbers = np.asarray(values)
    if numbers.shape != (pairs,) or not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"{name} is not one whole number for each of the {pairs} pairs")
    if numbers.min() < 0:
        raise ValueError(f"{name} {numbers.min()} is below 0")
    return numbers.astype(np.int64)


class _Cells:
    """Pairs in the cells of a table, to sum weights by."""

    def __init__(self, places: tuple[NDArray[Any], ...], shape: tuple[int, ...]) -> None:
        codes = np.ravel_multi_index(tuple(place.astype(np.int64) for place in places), shape)
        self._order = np.argsort(codes, kind="stable")
        self._used, self._starts = np.unique(codes[self._order], return_index=True)
        self._shape, self.size = shape, int(np.prod(shape))

    def sums(self, weights: Floats) -> Floats:
        """The sum of each cell (*shape, w) of weights (w, P): the weightings last."""
        table = np.zeros((self.size, len(weights)))
        if len(self._used):
            ordered = np.take(weights.T, self._order, axis=0)
            table[self._used] = np.add.reduceat(ordered, self._starts, axis=0)
        return table.reshape(*self._shape, len(weights))


def _blocks(weights: ArrayLike | None, pairs: int, numbers: int) -> Iterator[Floats]:
    """Weights (w, P) a block at a time, so that a block of w times `numbers` stays small."""
    if weights is None:
        yield np.ones((1, pairs))
        return
    given = np.atleast_2d(np.asarray(weights))
    if given.ndim != 2 or given.shape[1] != pairs:
        raise ValueError(f"weights of shape {given.shape}, not (W, {pairs}) or ({pairs},)")
    rows = max(1, BLOCK // max(pairs, numbers))
    for begin in range(0, len(given), rows):
        block = given[begin : begin + rows].astype(np.float64)
        if not np.isfinite(block).all() or (block < 0).any():
            raise ValueError("a weight is below 0 or not finite")
        yield block


def _joined(parts: list[Floats], weights: ArrayLike | None) -> Floats:
    values = np.concatenate(parts)
    return values if weights is not None and np.ndim(weights) == 2 else values[0]
