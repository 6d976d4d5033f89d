"""Shares by group against plain means, and their intervals against a simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mstkd.evaluation.shares import PairShares, mean_shares


def test_means_over_faces_and_the_interval_of_means_of_people():
    """With as many faces of each, the interval is that of the means of people."""
    generator = np.random.default_rng(0)
    people, faces = 12, 4
    own = generator.normal(0.3, 0.2, (people, 1, 2))
    values = own + generator.normal(0, 0.05, (people, faces, 2))
    found = mean_shares(values.reshape(-1, 2), np.repeat(np.arange(people), faces))
    of_people = values.mean(axis=1)
    np.testing.assert_allclose(found.value, of_people.mean(axis=0))
    error = of_people.std(axis=0, ddof=1) / np.sqrt(people)
    half = stats.t.ppf(0.975, people - 1) * error
    np.testing.assert_allclose(found.high - found.value, half, rtol=1e-9)
    np.testing.assert_allclose(found.value - found.low, half, rtol=1e-9)


def pairs_of(generator, people=40, a_kind=3):
    """Pairs with effects of people, the values of two components; genuine pairs first."""
    one = np.tile(np.arange(people), 2 * a_kind)
    same = np.repeat([True, False], people * a_kind)
    two = np.where(same, one, (one + 1 + generator.integers(0, people - 1, len(one))) % people)
    effect = generator.normal(0, 0.1, (people, 2))
    values = (effect[one] + effect[two]) / 2 + generator.normal(0, 0.05, (len(one), 2))
    return values + np.where(same[:, None], [0.5, 0.1], [0.1, 0.0]), same, one, two


def test_shares_of_pairs_are_plain_means_and_their_ratios():
    values, same, one, two = pairs_of(np.random.default_rng(1))
    found = PairShares(values, same, one, two)
    genuine, impostor = values[same].mean(axis=0), values[~same].mean(axis=0)
    np.testing.assert_allclose(found.of("genuine").value, genuine)
    np.testing.assert_allclose(found.of("impostor").value, impostor)
    apart = genuine - impostor
    np.testing.assert_allclose(found.of("separation").value, apart / apart.sum())


def test_the_ratios_interval_is_that_of_pairs_which_share_people():
    """The sum over all pairs of pairs, of what each moves the ratio by, written out."""
    values, same, one, two = pairs_of(np.random.default_rng(2), people=60)
    found = PairShares(values, same, one, two).of("separation")
    genuine, impostor = values[same].mean(axis=0), values[~same].mean(axis=0)
    moved = np.where(
        same[:, None],
        (values - genuine) / same.sum(),
        -(values - impostor) / (~same).sum(),
    )
    moved = (moved - found.value * moved.sum(axis=1, keepdims=True)) / (genuine - impostor).sum()
    ends = np.stack([one, two], axis=1)
    shared = (ends[:, None, :, None] == ends[None, :, None, :]).any(axis=(2, 3))
    expected = np.sqrt(np.einsum("pc,pq,qc->c", moved, shared, moved))
    half = (found.high - found.low) / 2 / stats.t.ppf(0.975, 59)
    # The core allows for residuals from a mean that the pairs themselves made.
    np.testing.assert_allclose(half, expected, rtol=0.1)


@pytest.mark.parametrize(
    ("measure", "truth", "least"),
    # Person effects cancel in a separation, and what is left is known worse: docs/tracing.md.
    [("genuine", [0.5, 0.1], 0.93), ("separation", [0.8, 0.2], 0.9)],
)
def test_intervals_hold_the_truth_as_often_as_they_say(measure, truth, least):
    generator = np.random.default_rng(3)
    runs, held = 500, np.zeros(2)
    for _ in range(runs):
        found = PairShares(*pairs_of(generator, people=80)).of(measure)
        held += (found.low <= truth) & (truth <= found.high)
    assert (held / runs > least).all() and (held / runs < 0.97).all(), held / runs


def test_one_value_only_has_no_width():
    found = mean_shares(np.full((4, 1), 0.25), [0, 0, 1, 1])
    assert [float(part[0]) for part in found] == pytest.approx([0.25] * 3)
