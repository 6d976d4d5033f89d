"""Error rates that rest on all impostor pairs among images, with the noise of who was tested.

As in `uncertainty` identities are the unit: the covariance of all rates is the sum over people of
the products of their pairs' residuals, less what pairs of two people count twice. Of all pairs
among images this is the variance of a U-statistic (Hoeffding, Annals of Mathematical Statistics
1948), and few people make it large however many pairs there are. A few who are like many others
bear most of it, so it is hardly known, and a rate's interval has Student's quantile, for as many
people, less one, as would bear it were they alike (as that of an AUC, in `intervals`).

Where a global FMR sets the threshold, either half of the people is judged by the other's. To first
order each rate moves along its curve with the global FMR's noise. To second order it moves also
with the products of one half's noise and the other's: with e and f the relative noise of a rate and
of the global FMR, s the rate's slope on logarithms, the mean over the halves of
(1 + e1) / (1 + f2)^s and (1 + e2) / (1 + f1)^s has, beside its first order,

    (s + 1) s / 4 (f1^2 + f2^2) - s / 2 (e1 f2 + e2 f1).

What makes nearly all false matches is held by the target (e = f, s = 1), so that this is all its
noise, (f1 - f2)^2 / 2: above 0, and so the rate is somewhat too high on average.

Shapes: M systems on the same images and genuine pairs; G groups; C cells, every two groups once,
(0, 0), (0, 1), ... as `numpy.triu_indices` has them; P genuine pairs; H persons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mstkd.evaluation.impostors import HALF, FalseMatches, ImpostorCounts
from mstkd.evaluation.intervals import NARROWEST, WIDEST, WINDOW, ErrorRates
from mstkd.evaluation.uncertainty import MOST_SHARED, GroupRates, alike

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Genuine:
    """Genuine pairs within groups, all (P,)."""

    similarity: Floats
    person: Integers  # by the numbers that images have
    group: Integers

    def of(self, chosen: NDArray[np.bool_]) -> Genuine:
        """Some of the pairs."""
        return Genuine(self.similarity[chosen], self.person[chosen], self.group[chosen])

    def errors(self, thresholds: Floats | float) -> Floats:
        """FNMR of each group (G,) at one threshold, or one for each pair."""
        missed = self.similarity < thresholds
        sizes = np.bincount(self.group)
        return np.bincount(self.group, missed, minlength=len(sizes)) / sizes


@dataclass(frozen=True, eq=False)
class AllRates:
    """FMR of every two groups and FNMR of every group, each system at one threshold for all.

    `joint` has the FMR of the cells, then the FNMR of the groups, (M, C + G); where there are no
    pairs, a rate of 0 as of one. `pairs` int64 (C + G,) and `errors` int64 (M, C + G). `by_person`
    has a sparse table (H, C + G) of each system: what the pairs of each person add to the rates, in
    excess of the average.
    """

    joint: GroupRates
    pairs: Integers
    errors: Integers
    cells: tuple[Integers, Integers]  # the two groups of each
    by_person: Sequence[Any]

    @property
    def within(self) -> NDArray[np.bool_]:
        """Which cells (C,) are of one group."""
        return self.cells[0] == self.cells[1]

    @property
    def share(self) -> Floats:
        """The weight (C + G,) of each rate in the global FMR: that of its pairs within a group."""
        own = np.zeros(len(self.pairs))
        own[: len(self.within)] = self.pairs[: len(self.within)] * self.within
        return own / max(own.sum(), 1)

    @property
    def of_groups(self) -> ErrorRates:
        """FMR and FNMR of the groups, for the measures that follow of them."""
        groups = np.flatnonzero(self.within)
        genuine = np.arange(len(self.within), len(self.pairs))
        own = self.joint.of_groups(np.append(groups, genuine))
        return ErrorRates(own, self.pairs[groups], self.pairs[genuine])

    def together(self) -> GroupRates:
        """FMR and FNMR (M, 2) of the pairs within all groups."""
        cells = len(self.within)
        genuine = self.pairs * (np.arange(len(self.pairs)) >= cells)
        rows = np.stack([self.share, genuine / genuine.sum()])
        pairs = np.array([self.pairs[:cells][self.within].sum(), genuine.sum()], np.float64)
        of_fmr = [alike(np.square(one @ self.share)) for one in self.by_person]
        people = np.stack([of_fmr, np.full(len(of_fmr), np.inf)], axis=1)
        return replace(self.joint.combined(rows, pairs), people=people)

    def with_threshold(self, slopes: Floats) -> AllRates:
        """The same where the global FMR sets the threshold of either half of the people.

        The noise of first and of second order, as above; of both, the halves' own variances are
        twice those of the whole.

        Args:
            slopes: (M, C + G), of `slopes`.
        """
        joint, share = self.joint, self.share
        each = np.eye(slopes.shape[1]) - np.multiply.outer(slopes, share)
        moved = joint.combined(each, joint.pairs)

        whole = joint.rates @ share  # (M,)
        relative = np.zeros_like(joint.rates)
        np.divide(1, joint.rates, out=relative, where=joint.rates > 0)
        s = slopes * whole[:, None] * relative
        of_whole = np.einsum("c,mcnd,d->mn", share, joint.covariance, share)
        with_whole = np.einsum("mcnd,d->mcn", joint.covariance, share) * relative[:, :, None]
        ee = joint.covariance * np.multiply.outer(relative, relative)
        positive = np.where(whole > 0, whole, 1)
        ff = of_whole / np.outer(positive, positive)
        ef = with_whole / positive
        products = ee * ff[:, None, :, None] + np.einsum("mcn,ndm->mcnd", ef, ef)
        squares = np.multiply.outer(s + 1, s + 1) * np.square(ff)[:, None, :, None]
        scale = np.multiply.outer(s * joint.rates, s * joint.rates)
        second = scale * (2 * products + squares)

        by_person = [
            one - sparse.csr_array(one @ share[:, None]) * sparse.csr_array(row[None])
            for one, row in zip(self.by_person, slopes, strict=True)
        ]
        people = _people(by_person, len(self.within))
        found = replace(
            moved,
            rates=joint.rates,
            covariance=moved.covariance + second,
            independent=moved.independent + second,
            people=people,
        )
        return AllRates(found, self.pairs, self.errors, self.cells, by_person)


def all_rates(found: FalseMatches, genuine: Genuine, missed: NDArray[np.bool_]) -> AllRates:
    """Rates of the counted impostor pairs and of genuine pairs, with their joint covariance.

    Args:
        found: false matches by person.
        genuine: at least one pair of every group.
        missed: (M, P), which of these are not accepted.
    """
    systems, _, groups = found.matches.shape
    first, second = np.triu_indices(groups)
    cell_of = np.zeros((groups, groups), np.int64)
    cell_of[first, second] = cell_of[second, first] = np.arange(len(first))
    count = len(first) + groups

    by_cell = cell_of[found.group]  # (U, G)

    def summed(values: Integers, of_genuine: NDArray[np.bool_]) -> Integers:
        """Over the units of each cell, with both of which a pair stands; then over genuine."""
        sums = np.zeros(len(first), np.int64)
        np.add.at(sums, by_cell, values)
        of_groups = np.bincount(genuine.group, of_genuine, minlength=groups)
        return np.append(sums // 2, of_groups.astype(np.int64))

    pairs = summed(found.pairs, np.ones(missed.shape[1], np.bool_))
    errors = np.stack([summed(*both) for both in zip(found.matches, missed, strict=True)])
    rates = errors / np.maximum(pairs, 1)  # (M, C + G)

    people, unit_of = np.unique(np.append(found.person, genuine.person), return_inverse=True)
    units = len(found.person)

    def by_person(of_units: Floats, of_genuine: Floats) -> Any:
        """Sums (people, C + G) of what pairs count in the rates."""
        rows = np.append(np.repeat(unit_of[:units], groups), unit_of[units:])
        columns = np.append(by_cell.ravel(), len(first) + genuine.group)
        whole = np.append(of_units.ravel(), of_genuine) / np.maximum(pairs, 1)[columns]
        return sparse.csr_array((whole, (rows, columns)), shape=(len(people), count))

    cells = first, second
    square = np.square(np.maximum(pairs[: len(first)], 1).astype(np.float64))
    p = rates[:, : len(first)]
    each = [
        by_person(of[by_cell] * -found.pairs + matches, wrong - of[len(first) + genuine.group])
        for of, matches, wrong in zip(rates, found.matches, missed, strict=True)
    ]
    residuals = sparse.hstack(each)
    shape = (systems, count, systems, count)
    covariance = (residuals.T @ residuals).toarray().reshape(shape)
    products, sizes = found.products[:, *cells], found.sizes[cells]
    twice = (
        found.squares[:, :, *cells]
        - p[:, None] * products
        - p * products[:, None]
        + p[:, None] * p * sizes
    )
    place = np.arange(len(first))
    covariance[:, place, :, place] -= np.moveaxis(twice / square, -1, 0)
    # As in `uncertainty.group_rates`: residuals from a rate that the pairs themselves made are too
    # small, by the share of pairs of pairs that share a person.
    shares = by_person(found.pairs.astype(np.float64), np.ones(missed.shape[1]))
    of_two = np.zeros(count)
    of_two[: len(first)] = sizes / square
    kept = 1 - np.minimum(np.asarray(shares.power(2).sum(axis=0)).ravel() - of_two, MOST_SHARED)
    covariance /= np.sqrt(np.outer(kept, kept))[None, :, None, :]

    return _joined(pairs, errors, cells, covariance, each)


def of_parts(parts: Sequence[AllRates]) -> AllRates:
    """Rates over people who were dealt into parts, each with thresholds of its own.

    That the parts' rates differ is chance in their thresholds, not in people: each person is held
    against their own part.

    Args:
        parts: of the same systems; nobody is in two.
    """
    pairs, errors = (
        np.sum([getattr(one, name) for one in parts], axis=0) for name in ("pairs", "errors")
    )
    weights = [one.pairs / np.maximum(pairs, 1) for one in parts]
    each = list(zip(parts, weights, strict=True))
    covariance = sum(one.joint.covariance * w[:, None, None] * w for one, w in each)
    by_person = [
        sparse.vstack([one.by_person[m].multiply(w) for one, w in each], format="csr")
        for m in range(len(errors))
    ]
    return _joined(pairs, errors, parts[0].cells, covariance, by_person)


def _joined(
    pairs: Integers,
    errors: Integers,
    cells: tuple[Integers, Integers],
    covariance: Floats,
    by_person: Sequence[Any],
) -> AllRates:
    """Rates of counts, with a covariance (M, C + G, M, C + G)."""
    counted = np.maximum(pairs, 1)
    rates = errors / counted
    independent = np.diag((rates * (1 - rates) / counted).ravel()).reshape(covariance.shape)
    people = _people(by_person, len(cells[0]))
    joint = GroupRates(rates, covariance, independent, counted.astype(np.float64), people)
    return AllRates(joint, pairs, errors, cells, by_person)


def _people(by_person: Sequence[Any], cells: int) -> Floats:
    """How many people alike would bear each FMR's variance (M, C + G).

    FNMR is left out, which nobody has many pairs of: its variance is known well enough.
    """
    found = np.stack([alike(np.square(one.toarray())) for one in by_person])
    found[:, cells:] = np.inf
    return found


def slopes(counts: ImpostorCounts, genuine: Genuine, fmr: float, error: float) -> Floats:
    """How each rate (C + G,) changes with the global FMR that sets the threshold.

    Over the range in which the noise of the global FMR puts the threshold, as in `intervals`.

    Args:
        counts: whose pairs within parts are looked at.
        genuine: pairs.
        fmr: the global FMR, above 0.
        error: its standard error.
    """
    within = counts.histogram[:-1]
    groups = within.shape[1]
    own = np.einsum("sggb->b", within)
    accepted = np.append(own[::-1].cumsum()[::-1], 0)  # at the lower edge of each bin
    times = 1 + float(np.clip(WINDOW * error / fmr, NARROWEST, WIDEST))
    strict = int(np.argmax(accepted <= fmr / times * accepted[0]))
    lenient = int(np.argmax(accepted <= fmr * times * accepted[0]))
    lenient = min(lenient, strict - 1)
    apart = (accepted[lenient] - accepted[strict]) / accepted[0]
    first, second = np.triu_indices(groups)
    between = within[..., lenient:strict].sum(axis=(0, 3))[first, second]
    pairs = within.sum(axis=(0, 3))[first, second]
    missed = genuine.errors(strict / HALF - 1) - genuine.errors(lenient / HALF - 1)
    moved = np.append(between / np.maximum(pairs, 1), -missed)
    return moved / apart if apart > 0 else np.zeros_like(moved)
