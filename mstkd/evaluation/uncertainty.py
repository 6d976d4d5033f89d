"""How far rates of groups may be chance of the people tested: identities are the unit.

Pairs that share a person err together, so 6,000 pairs tell less than 6,000 independent ones. The
covariance of groups' rates is the dyadic cluster-robust one (Aronow, Samii & Assenova, Political
Analysis 2015; for matching Fogliato, Patil & Perona, IJCV 2024, arXiv:2306.01198): the sum of the
products of the residuals of all pairs of pairs that share an identity. That is the sum over
identities of the squared sums of their pairs' residuals, less what impostor pairs, which have two
identities, count twice. Rates of everything that was decided on the same pairs have one joint
covariance, from which every difference and contrast follows. A rate's interval is Wilson's, for as
many independent pairs as would have that variance.

Arrays in, arrays out: no files. Shapes: M models, or whatever else decides the same pairs;
P pairs; G groups; K folds; J refits.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]
Truths = NDArray[np.bool_]

CONFIDENCE = 0.95
REFITS = 10  # of thresholds, each without a tenth of the folds
# The best threshold is a place of steps, and refits move it further than new identities do: the
# jackknife's variance is that many times too large (measured, docs/uncertainty.md).
REFIT_EXCESS = 3.0
MOST_SHARED = 0.5  # of a group's pairs of pairs, beyond which nothing is corrected further


@dataclass(frozen=True, eq=False)
class GroupRates:
    """Rates of errors, as fractions, with their joint covariance."""

    rates: Floats  # (M, G)
    covariance: Floats  # (M, G, M, G), of identities drawn anew
    independent: Floats  # (M, G, M, G), what it were if no two pairs shared an identity
    pairs: Floats  # (G,), as many as count: fewer than there are where their weights differ
    people: Floats | None = None  # (M, G), how many alike would bear each variance, where known
    _drawn: dict[tuple[int, int], Floats] = field(default_factory=dict, init=False, repr=False)

    @property
    def variances(self) -> Floats:
        """Variance (M, G) of each rate."""
        return np.einsum("mgmg->mg", self.covariance)

    @property
    def freedom(self) -> Floats | float:
        """Degrees of freedom (M, G) of the variances; inf where nothing is known of them."""
        return np.inf if self.people is None else np.maximum(self.people - 1, 1)

    def effective_sizes(self) -> Floats:
        """Independent pairs (M, G) that would tell as much of each rate.

        At most as many as if no two shared an identity: a rate that is held by a threshold is surer
        than its own pairs make it, and one of several strata too.
        """
        alone = effective_size(self.rates, np.einsum("mgmg->mg", self.independent), np.inf)
        most = np.where(np.isinf(alone), self.pairs, alone)
        return effective_size(self.rates, self.variances, most)

    def noise(self, draws: int, seed: int) -> Floats:
        """Standard normal draws (M, G, B), correlated as the rates are, for whoever asks the same.

        They take a decomposition of the covariance, which grows with the cube of the models.
        """
        if (draws, seed) not in self._drawn:
            factor = normal_factor(self.covariance.reshape(self.rates.size, self.rates.size))
            normal = np.random.default_rng(seed).standard_normal((draws, self.rates.size))
            self._drawn[draws, seed] = (factor @ normal.T).reshape(*self.rates.shape, draws)
        return self._drawn[draws, seed]

    def chosen(self, models: ArrayLike) -> GroupRates:
        """The same of some models, in that order."""
        of = np.asarray(models)
        covariance, independent = (one[of][:, :, of] for one in (self.covariance, self.independent))
        people = None if self.people is None else self.people[of]
        return replace(
            self,
            rates=self.rates[of],
            covariance=covariance,
            independent=independent,
            people=people,
        )

    def of_groups(self, groups: ArrayLike) -> GroupRates:
        """The same of some groups, in that order."""
        of = np.asarray(groups)
        return GroupRates(
            self.rates[:, of],
            self.covariance[:, of][:, :, :, of],
            self.independent[:, of][:, :, :, of],
            self.pairs[of],
            None if self.people is None else self.people[:, of],
        )

    def together(self) -> GroupRates:
        """The mean over groups, as of one group (M, 1)."""
        groups = len(self.pairs)
        return self.combined(np.full((1, groups), 1 / groups), self.pairs.sum(keepdims=True))

    def combined(self, rows: Floats, pairs: Floats) -> GroupRates:
        """Weighted sums (H,) of each model's rates; how many people bear their noise is not known.

        Args:
            rows: (H, G), or (M, H, G) where they differ by model.
            pairs: (H,), as many as count.
        """
        each = np.broadcast_to(rows, (len(self.rates), *rows.shape[-2:]))
        covariance, independent = (
            np.einsum("mhg,mgnf,nef->mhne", each, one, each, optimize=True)
            for one in (self.covariance, self.independent)
        )
        return GroupRates(np.einsum("mhg,mg->mh", each, self.rates), covariance, independent, pairs)

    def with_noise(self, covariance: Floats) -> GroupRates:
        """The same with a further covariance (M, G, M, G), as of chosen thresholds."""
        return replace(self, covariance=self.covariance + covariance)


def group_rates(
    wrong: ArrayLike,
    group: ArrayLike,
    identity1: ArrayLike,
    identity2: ArrayLike,
    weights: ArrayLike | None = None,
) -> GroupRates:
    """The share of each group's pairs that a model decides wrongly, with the joint covariance.

    Args:
        wrong: (M, P) or (P,), True where a pair is decided wrongly; or another number from 0 to 1
            of which the means are taken.
        group: (P,), whole numbers 0 to G - 1.
        identity1: (P,), whole numbers; those of a genuine pair are equal.
        identity2: (P,).
        weights: (P,), how much each pair counts in its group; None for evenly. `fold_weights` are
            those of a mean over folds.

    Raises:
        ValueError: shapes that differ, a weight that is not above 0, or a group without pairs.
    """
    decided = np.atleast_2d(np.asarray(wrong, np.float64))
    groups, first, second = (np.asarray(one) for one in (group, identity1, identity2))
    count = np.ones(decided.shape[1]) if weights is None else np.asarray(weights, np.float64)
    for name, one in (("group", groups), ("identity1", first), ("identity2", second)):
        if one.shape != decided.shape[1:] or not np.issubdtype(one.dtype, np.integer):
            raise ValueError(f"{name} is not one whole number for each of {decided.shape[1]} pairs")
    if count.shape != groups.shape or not (count > 0).all():
        raise ValueError("weights are not one number above 0 for each pair")
    size = int(groups.max(initial=-1)) + 1
    totals = np.bincount(groups, count, minlength=size)
    if not size or not totals.all():
        raise ValueError(f"no pairs of group {int(np.argmin(totals)) if size else 0}")
    share = count / totals[groups]
    rates: Floats = np.stack([np.bincount(groups, share * row, minlength=size) for row in decided])
    rates = np.minimum(rates, 1)  # which rounding may exceed
    residuals = (decided - rates[:, groups]) * share  # (M, P)
    sharing = _Sharing(groups, first, second)
    # Residuals from a rate that the pairs themselves made are too small, by as much of the group as
    # a pair shares identities with; it tells where there are few people.
    kept = 1 - np.minimum(np.einsum("gg->g", sharing.products(share[None])[0, :, 0]), MOST_SHARED)
    scale = np.sqrt(np.multiply.outer(kept, kept))[None, :, None, :]
    covariance = sharing.products(residuals) / scale
    independent = np.zeros_like(covariance)
    for g in range(size):
        inside = residuals[:, groups == g]
        independent[:, g, :, g] = inside @ inside.T
    pairs = 1 / np.bincount(groups, share**2, minlength=size)
    return GroupRates(rates, covariance, independent, pairs)


def binomial_rates(rates: ArrayLike, pairs: ArrayLike) -> GroupRates:
    """Rates of which nothing but the number of pairs is known: as if all pairs were independent.

    Neither is what pairs share an identity allowed for, which would widen intervals, nor that
    models were tested on the same pairs, which would narrow those of differences.

    Args:
        rates: (M, G), fractions.
        pairs: (G,).
    """
    values, count = np.atleast_2d(np.asarray(rates, np.float64)), np.asarray(pairs, np.float64)
    variances = values * (1 - values) / count
    covariance = np.zeros((*values.shape, *values.shape))
    places = np.indices(values.shape)
    covariance[*places, *places] = variances
    return GroupRates(values, covariance, covariance, count)


def fold_weights(fold: ArrayLike, group: ArrayLike) -> Floats:
    """Weights (P,) of pairs in a mean over folds: one over the pairs of their group and fold."""
    folds, groups = np.asarray(fold, np.int64), np.asarray(group, np.int64)
    cells = groups * (int(folds.max(initial=0)) + 1) + folds
    return 1.0 / np.bincount(cells)[cells]


def normal_factor(covariance: Floats) -> Floats:
    """A matrix (N, N) that makes standard normal numbers correlated as a covariance (N, N) says.

    The symmetric root, for there is one only: which eigenvectors a library gives differs between
    processors, and draws would with them. What has no variance is correlated with nothing.
    """
    errors = np.sqrt(np.maximum(np.diag(covariance), 0))
    correlations, both = np.eye(len(errors)), np.outer(errors, errors)
    np.divide(covariance, both, out=correlations, where=both > 0)
    # A sum that impostor pairs were taken from need not be one of squares.
    values, vectors = np.linalg.eigh(correlations)
    factor: Floats = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return factor / np.linalg.norm(factor, axis=1, keepdims=True)


class _Sharing:
    """Which pairs share identities, to sum products over all pairs of pairs that do."""

    def __init__(
        self, group: NDArray[Any], identity1: NDArray[Any], identity2: NDArray[Any]
    ) -> None:
        self._group, self._groups = group, int(group.max()) + 1
        self._two = identity1 != identity2
        low, high = np.minimum(identity1, identity2), np.maximum(identity1, identity2)
        ones = np.concatenate([low, high[self._two]])
        people, self._identities = np.unique(ones, return_inverse=True)
        one, other = self._identities[: len(low)][self._two], self._identities[len(low) :]
        self._couples = np.unique(one * len(people) + other, return_inverse=True)[1]

    def products(self, values: Floats) -> Floats:
        """Sums (M, G, M, G) of the products of values (M, P) of pairs that share an identity."""
        every, two = np.arange(len(self._two)), np.flatnonzero(self._two)
        # Pairs that share both identities were summed for either.
        by_identity = self._squared(values, np.append(every, two), self._identities)
        return by_identity - self._squared(values, two, self._couples)

    def _squared(self, values: Floats, pairs: NDArray[Any], codes: NDArray[Any]) -> Floats:
        """Products (M, G, M, G), summed over codes, of the sums over the pairs of each code.

        Models are summed one by one, for of a thousand those sums are most of what is in memory.
        """
        models, groups = len(values), self._groups
        count = int(codes.max(initial=-1)) + 1
        cells = codes * groups + self._group[pairs]
        sums = np.empty((count, models, groups))
        for m, row in enumerate(values):
            of_codes = np.bincount(cells, row[pairs], minlength=count * groups)
            sums[:, m] = of_codes.reshape(count, groups)
        flat = sums.reshape(count, models * groups)
        return (flat.T @ flat).reshape(models, groups, models, groups)


# ---------------------------------------------------------------- chosen thresholds


def kept_folds(folds: int) -> Truths:
    """Which folds (J, K) each refit of the thresholds keeps: all but one, or all but a tenth.

    Raises:
        ValueError: fewer than three folds: without one, there are none to choose thresholds on.
    """
    if folds < 3:
        raise ValueError(f"{folds} folds, fewer than 3")
    left_out = np.array_split(np.arange(folds), min(folds, REFITS))
    return np.stack([~np.isin(np.arange(folds), block) for block in left_out])


def threshold_covariance(
    of_folds: ArrayLike, refitted: ArrayLike, kept: ArrayLike, *, shared: bool
) -> Floats:
    """What choosing thresholds adds to the covariance (M, G, M, G) of rates over folds.

    A delete-folds jackknife of the choice alone: without some folds, how far does each rate move
    because thresholds are chosen anew? The best threshold converges with the cube root of the pairs
    (Kim & Pollard, Annals of Statistics 1990), where the jackknife is too large: by `REFIT_EXCESS`.

    Args:
        of_folds: (M, G, K), each fold's rate at the threshold chosen on all others; nan where a
            group has no pairs in a fold.
        refitted: (M, J, G), each group's rate over the kept folds, each fold at the threshold
            chosen on the other kept ones.
        kept: (J, K), of `kept_folds`.
        shared: whether thresholds are shared by the groups; where each group has its own, those
            of two groups have nothing in common.
    """
    folds, others = np.asarray(of_folds, np.float64), np.asarray(kept, np.bool_)
    known = ~np.isnan(folds)
    weight = np.einsum("jk,mgk->mjg", others.astype(np.float64), known.astype(np.float64))
    as_chosen = np.einsum("jk,mgk->mjg", others.astype(np.float64), np.nan_to_num(folds))
    moved = np.asarray(refitted, np.float64) - as_chosen / weight  # (M, J, G)
    moved = moved - moved.mean(axis=1, keepdims=True)
    refits = len(others)
    added = np.einsum("mjg,njh->mgnh", moved, moved) * (refits - 1) / refits / REFIT_EXCESS
    if not shared:
        added *= np.eye(folds.shape[1])[None, :, None, :]
    return added


# ---------------------------------------------------------------- intervals of rates


def effective_size(rate: ArrayLike, variance: ArrayLike, pairs: ArrayLike) -> Floats:
    """Independent pairs that would give a rate this variance; at most `pairs`.

    Where there is no error or nothing else, there is no variance to go by, and it is `pairs`.
    """
    rates, variances, most = np.broadcast_arrays(
        *(np.asarray(one, np.float64) for one in (rate, variance, pairs))
    )
    sizes = np.array(most)
    np.divide(rates * (1 - rates), variances, out=sizes, where=variances > 0)
    return np.where(rates * (1 - rates) > 0, np.minimum(sizes, most), most)


def alike(squares: ArrayLike) -> Floats:
    """How many terms of one size have as large a sum, and sum of squares, as these (N, ...).

    inf where all are 0.
    """
    values = np.asarray(squares, np.float64)
    second, fourth = np.square(values.sum(axis=0)), np.square(values).sum(axis=0)
    found = np.full(np.shape(second), np.inf)
    np.divide(second, fourth, out=found, where=fourth > 0)
    return found


def wilson(
    rate: ArrayLike,
    size: ArrayLike,
    confidence: ArrayLike = CONFIDENCE,
    freedom: ArrayLike = np.inf,
) -> tuple[Floats, Floats]:
    """Wilson's interval of a rate that rests on `size` independent pairs (JASA 1927).

    Args:
        rate: fractions, of any shape.
        size: effective sizes, of the same shape.
        confidence: of the interval.
        freedom: of Student's quantile, where sizes come of a variance that is hardly known.
    """
    rates, sizes = np.asarray(rate, np.float64), np.asarray(size, np.float64)
    z = special.stdtrit(freedom, 0.5 + np.asarray(confidence, np.float64) / 2)
    shrink = 1 + z**2 / sizes
    centre = (rates + z**2 / (2 * sizes)) / shrink
    half = z / shrink * np.sqrt(rates * (1 - rates) / sizes + z**2 / (4 * sizes**2))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)
