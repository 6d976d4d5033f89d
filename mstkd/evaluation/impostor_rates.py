"""Error rates that rest on all impostor pairs among images, with the noise of who was tested.

As in `uncertainty` identities are the unit: the covariance of all rates is the sum over people of
the products of their pairs' residuals, less what pairs of two people count twice. Of all pairs
among images this is the variance of a U-statistic (Hoeffding, Annals of Mathematical Statistics
1948), and few people make it large however many pairs there are.

Shapes: M systems on the same images and genuine pairs; G groups; C cells, every two groups once,
(0, 0), (0, 1), ... as `numpy.triu_indices` has them; P genuine pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mstkd.evaluation.impostors import HALF, FalseMatches, ImpostorCounts
from mstkd.evaluation.intervals import NARROWEST, WIDEST, WINDOW, ErrorRates
from mstkd.evaluation.uncertainty import MOST_SHARED, GroupRates

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Genuine:
    """Genuine pairs within groups, all (P,)."""

    similarity: Floats
    person: Integers  # by the numbers that images have
    group: Integers

    def errors(self, thresholds: Floats | float) -> Floats:
        """FNMR of each group (G,) at one threshold, or one for each pair."""
        missed = self.similarity < thresholds
        sizes = np.bincount(self.group)
        return np.bincount(self.group, missed, minlength=len(sizes)) / sizes


@dataclass(frozen=True, eq=False)
class AllRates:
    """FMR of every two groups and FNMR of every group, each system at one threshold for all.

    `joint` has the FMR of the cells, then the FNMR of the groups, (M, C + G); where there are no
    pairs, a rate of 0 as of one. `pairs` int64 (C + G,) and `errors` int64 (M, C + G).
    """

    joint: GroupRates
    pairs: Integers
    errors: Integers
    cells: tuple[Integers, Integers]  # the two groups of each

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
        kept = np.append(groups, genuine)
        joint = self.joint
        systems = np.arange(len(joint.rates))
        of = np.ix_(systems, kept, systems, kept)
        own = GroupRates(
            joint.rates[:, kept], joint.covariance[of], joint.independent[of], joint.pairs[kept]
        )
        return ErrorRates(own, self.pairs[groups], self.pairs[genuine])

    def together(self) -> GroupRates:
        """FMR and FNMR (M, 2) of the pairs within all groups."""
        cells = len(self.within)
        genuine = self.pairs * (np.arange(len(self.pairs)) >= cells)
        rows = np.stack([self.share, genuine / genuine.sum()])
        pairs = np.array([self.pairs[:cells][self.within].sum(), genuine.sum()], np.float64)
        return self.joint.combined(rows, pairs)

    def with_threshold(self, slopes: Floats) -> AllRates:
        """The same where the global FMR sets the threshold.

        Too many false matches by chance raise it, and each rate moves along its curve by as much.
        Either half of the people is judged by the other's threshold: what one half has too many of
        by chance, c times the rate, the other has too few of, and the mean of both, 1 + c and
        1 / (1 + c) times it, is too high by c^2 / 2. The square of that, 3 / 4 of the variance of c
        squared, is added.

        Args:
            slopes: (M, C + G), of `slopes`.
        """
        each = np.eye(slopes.shape[1])
        by_share = np.multiply.outer(slopes, self.share)
        moved = self.joint.combined(each - by_share, self.joint.pairs)
        apart = self.joint.combined(each + by_share, self.joint.pairs)
        rates, own = self.joint.rates, np.maximum(apart.variances, 0)
        second = np.zeros_like(own)
        np.divide(0.75 * own**2, rates**2, out=second, where=rates > 0)
        covariance = moved.covariance + np.diag(second.ravel()).reshape(moved.covariance.shape)
        joint = GroupRates(self.joint.rates, covariance, moved.independent, self.joint.pairs)
        return AllRates(joint, self.pairs, self.errors, self.cells)


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
    residuals = sparse.hstack(
        [
            by_person(of[by_cell] * -found.pairs + matches, wrong - of[len(first) + genuine.group])
            for of, matches, wrong in zip(rates, found.matches, missed, strict=True)
        ]
    )
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

    independent = np.diag((rates * (1 - rates) / np.maximum(pairs, 1)).ravel()).reshape(shape)
    joint = GroupRates(rates, covariance, independent, np.maximum(pairs, 1).astype(np.float64))
    return AllRates(joint, pairs, errors, cells)


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
