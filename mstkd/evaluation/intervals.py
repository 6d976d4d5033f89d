"""Intervals of rates at a threshold, AUC, EER and the fairness measures: identities are the unit.

Each of these measures is, to first order, a sum of the groups' mean over genuine and their mean
over impostor pairs, so that all have the one joint covariance of `uncertainty.group_rates`:

- At a threshold set by a global FMR, too many false matches by chance raise the threshold, and each
  rate moves along its curve by as much. The slope is taken over the range in which the noise of the
  global FMR puts the threshold.
- The equal error rate is where the curves of FMR and FNMR meet, and it moves as far as the mean of
  both, weighed by the other curve's slope.
- One less the area under the ROC is the mean of the shares of impostor pairs that a genuine pair
  does not exceed, and of the shares of genuine pairs that do not exceed an impostor pair: the
  placements of DeLong, DeLong & Clarke-Pearson (Biometrics 1988), whose variance by identities is
  Obuchowski's for clustered data (Biometrics 1997), here with pairs that have two identities each.

Shapes: M systems on the same pairs, P pairs, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mstkd.evaluation.fairness import (
    fdr,
    garbe,
    inequity_ratio,
    max_geometric_mean_ratio,
    max_min_ratio,
)
from mstkd.evaluation.measures import rates_at_fmr, separation
from mstkd.evaluation.scores import ScoreTable
from mstkd.evaluation.spread import DRAWS, TIES, Spread, SpreadInterval, SpreadMeasure
from mstkd.evaluation.uncertainty import (
    CONFIDENCE,
    GroupRates,
    alike,
    effective_size,
    group_rates,
    wilson,
)

Floats = NDArray[np.float64]

# Standard errors of an FMR to either side over which slopes are taken, and the least and the most
# that this may be of it: from a rate over 1 + w to the rate times 1 + w.
WINDOW = 2.0
NARROWEST, WIDEST = 0.3, 2.0


class Interval(NamedTuple):
    """Values with their limits, all of one shape."""

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, eq=False)
class ErrorRates:
    """FMR and FNMR of each group at one threshold for all, with the covariance of all."""

    joint: GroupRates  # (M, 2 G): FMR of the groups, then FNMR of the groups
    impostors: NDArray[np.int64]  # (G,), pairs
    genuine: NDArray[np.int64]  # (G,)

    @property
    def fmr(self) -> GroupRates:
        """Of each group (M, G)."""
        return self.joint.of_groups(np.arange(len(self.genuine)))

    @property
    def fnmr(self) -> GroupRates:
        """Of each group (M, G); the true accept rate TAR is one less it."""
        return self.joint.of_groups(np.arange(len(self.genuine), 2 * len(self.genuine)))

    @property
    def together(self) -> GroupRates:
        """FMR and FNMR (M, 2) of the pairs of all groups."""
        none = np.zeros(len(self.genuine))
        impostors, genuine = (one / one.sum() for one in (self.impostors, self.genuine))
        rows = np.stack([np.append(impostors, none), np.append(none, genuine)])
        pairs = np.array([self.impostors.sum(), self.genuine.sum()], np.float64)
        return self.joint.combined(rows, pairs)

    def of(self, measure: str) -> GroupRates:
        """What a measure of `FAIRNESS` is made of: one kind of rates (M, G), or both (M, 2 G)."""
        return {"fmr": self.fmr, "fnmr": self.fnmr}.get(measure.split("_")[0], self.joint)


# ---------------------------------------------------------------- rates of systems


def rates_at(
    tables: Sequence[ScoreTable], *, threshold: float | None = None, fmr: float | None = None
) -> ErrorRates:
    """Error rates of systems at a similarity, or where each system's global FMR is a target.

    The numbers are those of `measures.error_rates` and `measures.rates_at_fmr`.

    Args:
        tables: one a system, in the same order of pairs (`scores.on_pairs_of` sees to it); pairs
            across groups are left out.
        threshold: the least similarity accepted, the same of all systems.
        fmr: the global FMR instead, which other folds set the threshold at.

    Raises:
        ValueError: both or neither are given, a group without pairs of both classes; of `fmr`, as
            `rates_at_fmr`.
    """
    pairs = _Columns(tables)
    if fmr is None and threshold is not None:
        found = pairs.rates(pairs.similarity >= threshold)
        return ErrorRates(found, pairs.impostors, pairs.genuine)
    if fmr is None or threshold is not None:
        raise ValueError("a threshold or an FMR is needed, and not both")
    accepted = np.empty(pairs.similarity.shape, bool)
    for row, values in enumerate(pairs.similarity):
        at = rates_at_fmr(values, pairs.same, pairs.fold, pairs.group, fmr).thresholds[0]
        accepted[row] = values >= at[pairs.fold]
    found = pairs.rates(accepted)
    share = np.append(pairs.impostors / pairs.impostors.sum(), np.zeros(pairs.groups))
    whole = found.combined(share[None], found.pairs[:1])
    errors = np.sqrt(np.maximum(whole.variances[:, 0], 0))  # below 0 where there are few people
    slopes = [pairs.slopes(row, fmr, error) for row, error in enumerate(errors)]
    changes = np.stack([np.eye(len(share)) - np.outer(slope, share) for slope in slopes])
    moved = found.combined(changes, found.pairs)
    of_all = whole.covariance[:, 0, :, 0] / (fmr or 1.0) ** 2  # relative to the target
    folds = len(np.unique(pairs.fold))
    second = _second_order(fmr * np.stack(slopes), of_all, found.pairs, folds)
    joint = GroupRates(
        found.rates, moved.covariance + second, moved.independent + second, found.pairs
    )
    return ErrorRates(joint, pairs.impostors, pairs.genuine)


def equal_error_rates(tables: Sequence[ScoreTable]) -> GroupRates:
    """Equal error rate of each group (M, G) with the joint covariance of all.

    Of all groups together: of tables `grouped_by(())`, whose pairs across groups are left out
    before. The numbers are those of `measures.separation`; arguments and errors of `rates_at`.
    """
    pairs = _Columns(tables)
    rates = np.stack([separation(one, pairs.same, pairs.group).eer for one in pairs.similarity])
    curves = [
        [_Curve(*(values[of] for of in pairs.of(g))) for g in range(pairs.groups)]
        for values in pairs.similarity
    ]
    at = np.array([[curve.equal_at for curve in row] for row in curves])  # (M, G)
    found = pairs.rates(pairs.similarity >= at[:, pairs.group])
    errors = np.sqrt(np.maximum(found.variances, 0)).reshape(len(rates), 2, -1).max(axis=1)
    of_fmr = np.array(
        [
            [curve.part_of_fmr(*of) for curve, *of in zip(*row, strict=True)]
            for row in zip(curves, rates, errors, strict=True)
        ]
    )
    each = np.eye(pairs.groups)
    parts = np.concatenate([of_fmr[:, :, None] * each, (1 - of_fmr)[:, :, None] * each], axis=2)
    moved = found.combined(parts, (pairs.impostors + pairs.genuine).astype(np.float64))
    return GroupRates(rates, moved.covariance, moved.independent, moved.pairs)


def areas_above(tables: Sequence[ScoreTable]) -> GroupRates:
    """One less the area under each group's ROC (M, G) with the joint covariance of all.

    As `equal_error_rates`. `area_interval` makes intervals of them; contrasts of one less the area
    are those of errors, so that `accuracy_contrast` compares areas.
    """
    pairs = _Columns(tables)
    placements = np.empty(pairs.similarity.shape)
    for row, values in enumerate(pairs.similarity):
        for g in range(pairs.groups):
            genuine, impostor = pairs.of(g)
            placements[row, genuine] = 1 - _share_below(values[impostor], values[genuine])
            placements[row, impostor] = _share_below(values[genuine], values[impostor])
    found = pairs.rates(placements, decided=False)
    both = np.tile(np.eye(pairs.groups), 2)
    moved = found.combined(both, np.minimum(pairs.impostors, pairs.genuine).astype(np.float64))
    # The mean over genuine and that over impostor pairs are the same number.
    return GroupRates(
        moved.rates / 2,
        moved.covariance,
        moved.independent,
        moved.pairs,
        people=pairs.bearing(placements - found.rates[:, pairs.code]),
    )


def _second_order(moves: Floats, of_all: Floats, pairs: Floats, folds: int) -> Floats:
    """What thresholds of other folds add to the covariance (M, 2 G, M, 2 G), to second order.

    It is little, but all that there is of a group that makes nearly all false matches, which the
    target holds. With f_k the relative noise of the global FMR in each of K folds, of variance K V,
    such a rate has the mean over the folds of (1 + f_k) / (1 + f_others), which is to second order
    1 + sum_k (f_k - f)^2 / (K - 1)^2: V K / (K - 1) above 1 on average, which is left in, with a
    variance of 2 V^2 K^2 / (K - 1)^3. And how many pairs of a fold lie between its threshold and
    that of all folds, which are (f_k - f) / (K - 1) apart, is chance, that of a count (as what is
    left of a quantile's noise; Bahadur, Annals of Mathematical Statistics 1966).

    Args:
        moves: (M, 2 G), how far each rate moves where the global FMR grows by one part of itself.
        of_all: (M, M), V, and what systems have in common of it.
        pairs: (2 G,).
        folds: K.
    """
    own = np.maximum(np.diag(of_all), 0)
    both, excess = np.outer(own, own), folds / (folds - 1)
    squares = excess**2 * (both + 2 / (folds - 1) * np.square(of_all))
    whole = np.einsum("mc,nd,mn->mcnd", moves, moves, squares)
    apart = np.sqrt(2 * own / (np.pi * (folds - 1)))
    count = np.sqrt(np.abs(moves) * apart[:, None] / pairs)  # standard errors
    alike = np.divide(np.square(of_all), both, out=np.zeros_like(both), where=both > 0)
    return whole + np.einsum("mc,nd,mn,cd->mcnd", count, count, alike, np.eye(len(pairs)))


# ---------------------------------------------------------------- intervals


def rate_interval(rates: GroupRates, confidence: float = CONFIDENCE) -> Interval:
    """Wilson intervals (M, G) of FMR, FNMR or EER; of a TAR, one less them."""
    limits = wilson(rates.rates, rates.effective_sizes(), confidence, rates.freedom)
    return Interval(rates.rates, *limits)


def area_interval(above: GroupRates, confidence: float = CONFIDENCE) -> Interval:
    """Wilson intervals (M, G) of areas under the ROC, of `areas_above`.

    A few people make most of what is not the whole area. So the variance is hardly known, and the
    quantile is Student's, for as many people, less one, as would bear it were they alike (Carter,
    Schnepel & Steigerwald, Review of Economics and Statistics 2017).
    """
    sizes = effective_size(above.rates, above.variances, np.inf)
    sizes = np.where(np.isinf(sizes), above.pairs, sizes)
    low, high = wilson(above.rates, sizes, confidence, above.freedom)
    return Interval(1 - above.rates, 1 - high, 1 - low)


def fairness_intervals(
    rates: ErrorRates, confidence: float = CONFIDENCE, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, SpreadInterval]:
    """Intervals (M,) of the measures of `fairness.measures_of_rates`, under the same names."""
    found = {}
    for name, measure in FAIRNESS.items():
        found[name] = Spread(rates.of(name), measure, draws=draws, seed=seed).intervals(confidence)
    # Of FDR 1 is fair, and what is spread is one less it.
    less = found["fdr"]
    turned = less._replace(low=less.high, high=less.low)
    found["fdr"] = SpreadInterval(*(1 - one for one in turned))
    return found


def _of_both(measure: Callable[[Floats, Floats], Floats], **how: bool) -> SpreadMeasure:
    """A measure of rates (..., 2 G) of both kinds side by side."""
    return SpreadMeasure(lambda rates: measure(*np.split(rates, 2, axis=-1)), TIES, kinds=2, **how)


# By the names of `fairness.measures_of_rates`; each is least where all groups are even.
FAIRNESS: dict[str, SpreadMeasure] = {
    "fdr": _of_both(lambda fmr, fnmr: 1 - fdr(fmr, fnmr)),
    "ir": _of_both(inequity_ratio, ratio=True),
    "garbe": _of_both(garbe, gaps=True),
    **{
        f"{kind}_{name}": SpreadMeasure(of, TIES, ratio=True)
        for kind in ("fmr", "fnmr")
        for name, of in (
            ("max_min", max_min_ratio),
            ("max_geomean", max_geometric_mean_ratio),
        )
    },
}


# ---------------------------------------------------------------- pairs


class _Columns:
    """The pairs within groups, and all systems' similarities (M, P)."""

    def __init__(self, tables: Sequence[ScoreTable]) -> None:
        first = tables[0]
        inside = first.within
        self.similarity = np.stack([table.similarity[inside] for table in tables])
        self.same, self.fold = first.same[inside], first.fold[inside].astype(np.int64)
        self.group = first.group1[inside].astype(np.int64)
        self._identities = first.identity1[inside], first.identity2[inside]
        self.groups = int(self.group.max(initial=-1)) + 1
        self.code = self.group + self.groups * self.same  # of the groups' impostor, genuine pairs
        counts = np.bincount(self.group * 2 + self.same, minlength=2 * self.groups)
        self.impostors, self.genuine = counts.reshape(-1, 2).T
        if not counts.size or not counts.all():
            raise ValueError("a group without pairs of both classes")
        self._impostors = -np.sort(-self.similarity[:, ~self.same], axis=1)  # of all groups

    def of(self, group: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """A group's genuine and its impostor pairs."""
        inside = self.group == group
        return np.flatnonzero(inside & self.same), np.flatnonzero(inside & ~self.same)

    def rates(self, values: NDArray[Any], *, decided: bool = True) -> GroupRates:
        """Means (M, 2 G) over impostor and over genuine pairs: errors where pairs are accepted."""
        wrong = values != self.same if decided else values
        return group_rates(wrong, self.code, *self._identities)

    def bearing(self, residuals: Floats) -> Floats:
        """How many people alike would bear as much of the variance of a sum (M, G) of both means.

        Args:
            residuals: (M, P), of each pair from the mean of its kind.
        """
        one, other = (who * self.groups + self.group for who in self._identities)
        two = one != other
        places = np.concatenate([one, other[two]])
        size = np.append(self.impostors, self.genuine)[self.code]
        count = int(places.max()) + 1
        found = []
        for row in residuals / size:
            sums = np.bincount(places, np.append(row, row[two]), minlength=count)
            squares = np.square(sums)
            of_group = [squares[g :: self.groups] for g in range(self.groups)]
            found.append([float(alike(one)) for one in of_group])
        return np.array(found)

    def slopes(self, row: int, fmr: float, error: float) -> Floats:
        """How each rate (2 G,) of a system changes with its global FMR."""
        strict, lenient = _window(self._impostors[row], fmr, error)
        (low, at_strict), (high, at_lenient) = (self._rates(row, at) for at in (strict, lenient))
        # Of scores that are all equal there is no slope.
        return (at_lenient - at_strict) / (high - low) if high > low else np.zeros_like(at_strict)

    def _rates(self, row: int, threshold: float) -> tuple[float, Floats]:
        """The global FMR and each rate (2 G,) at a threshold."""
        accepted = self.similarity[row] >= threshold
        wrong = np.bincount(self.code, accepted != self.same, minlength=2 * self.groups)
        share = wrong / np.append(self.impostors, self.genuine)
        return float(wrong[: self.groups].sum() / self.impostors.sum()), share


class _Curve:
    """FMR and FNMR of some pairs by threshold."""

    def __init__(self, genuine: Floats, impostor: Floats) -> None:
        self._genuine, self._impostor = np.sort(genuine), -np.sort(-impostor)
        scores = np.unique(np.concatenate([genuine, impostor]))
        fmr, fnmr = self._rates(scores)
        self.equal_at = float(scores[np.abs(fmr - fnmr).argmin()])

    def _rates(self, threshold: ArrayLike) -> tuple[Floats, Floats]:
        rejected = np.searchsorted(self._genuine, threshold)
        accepted = np.searchsorted(-self._impostor, -np.asarray(threshold), side="right")
        return accepted / len(self._impostor), rejected / len(self._genuine)

    def part_of_fmr(self, rate: float, error: float) -> float:
        """The weight of the FMR in an equal error rate: the slope of the FNMR over that of both."""
        (low, above), (high, below) = map(self._rates, _window(self._impostor, rate, error))
        both = above - below + high - low
        return float((above - below) / both) if both > 0 else 0.5


def _window(falling: Floats, fmr: float, error: float) -> tuple[float, float]:
    """A strict and a lenient threshold, as far from an FMR as its standard error says.

    Args:
        falling: similarities of the impostor pairs, the highest first.
        fmr: a rate; of 0 both are the highest similarity and what lies above it.
        error: its standard error.
    """
    if fmr == 0:
        return math.inf, float(falling[0])
    times = 1 + float(np.clip(WINDOW * error / fmr, NARROWEST, WIDEST))
    strict, lenient = fmr / times * len(falling), fmr * times * len(falling)
    few, many = int(strict), min(math.ceil(lenient), len(falling))
    return float(falling[few - 1]) if few else math.inf, float(falling[max(many, 1) - 1])


def _share_below(values: Floats, of: Floats) -> Floats:
    """The share of `values` below each of the others; ties count half."""
    rising = np.sort(values)
    below, up_to = (np.searchsorted(rising, of, side=side) for side in ("left", "right"))
    return (below + up_to) / 2 / len(values)
