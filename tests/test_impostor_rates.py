"""Rates over all impostor pairs: their noise against pair-by-pair sums, and against new people."""

import itertools

import numpy as np
import pytest
from scipy import sparse
from test_calibration import but_for_chance

from mstkd.evaluation.impostor_rates import AllRates, Genuine, all_rates, of_parts, slopes
from mstkd.evaluation.impostors import HALF, count_impostors, false_matches
from mstkd.evaluation.intervals import rate_interval
from mstkd.evaluation.uncertainty import GroupRates, group_rates

DIM = 16
# How near the people of each group lie to each other.
NEAR = (0.5, 0.9)


def images(random, people, each=3, near=NEAR):
    """Embeddings of people of groups, of which some are more like all others of their group."""
    vectors, identity, group = [], [], []
    for number, closeness in enumerate(near):
        towards = np.eye(DIM)[number % 2]
        like = closeness + 0.25 * random.standard_normal((people, 1))
        person = random.standard_normal((people, DIM)) / np.sqrt(DIM) + like * towards
        of_image = np.repeat(person, each, axis=0)
        noise = random.standard_normal(of_image.shape) / np.sqrt(DIM)
        vectors.append(of_image + 0.5 * noise)
        identity.append(np.repeat(np.arange(people), each) + number * people)
        group.append(np.full(people * each, number))
    return np.concatenate(vectors), np.concatenate(identity), np.concatenate(group)


def genuine_pairs(embeddings, identity, group):
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    rows = np.flatnonzero(identity[:-1] == identity[1:])
    score = np.einsum("pd,pd->p", unit[rows], unit[rows + 1])
    return Genuine(score, identity[rows], group[rows])


def levels_of(counts, threshold=None, fmr=None):
    if fmr is None:
        return np.full((1, 1, 3), threshold)
    return np.append(counts.at_fmr(fmr).thresholds, np.nan)[None, None]


def rates_of(given, threshold=None, fmr=None):
    """All rates at a threshold, or where the global FMR is a target."""
    counts, genuine = count_impostors(*given), genuine_pairs(*given)
    levels = levels_of(counts, threshold, fmr)
    if fmr is None:
        [found] = false_matches([given[0]], *given[1:], part=counts.part, levels=levels)
        return all_rates(found, genuine, (genuine.similarity < threshold)[None])
    rates = of_parts(by_part([given[0]], given[1:], counts.part, levels[0], [genuine]))
    error = np.sqrt(rates.together().variances[0, 0])
    return rates.with_threshold(slopes(counts, genuine, fmr, error)[None])


def by_part(shown, who, part, level, genuine):
    """The rates of each part of the people at thresholds (M, S + 1)."""
    apart = [np.where(np.arange(3) == one, level, np.nan) for one in range(2)]
    found = false_matches(shown, *who, part=part, levels=apart)
    part_of = dict(zip(who[0], part, strict=True))
    own = np.array([part_of[person] for person in genuine[0].person])
    missed = np.stack([one.similarity for one in genuine]) < level[:, own]
    return [
        all_rates(of, genuine[0].of(own == one), missed[:, own == one])
        for one, of in enumerate(found)
    ]


@pytest.mark.parametrize("fmr", [None, 0.05])
def test_covariance_is_that_of_a_list_of_all_pairs(fmr):
    given = images(np.random.default_rng(3), people=20, near=(0.5, 0.9, 0.6))
    counts, genuine = count_impostors(*given), genuine_pairs(*given)
    levels = levels_of(counts, 0.5, fmr)
    [found] = false_matches([given[0]], *given[1:], part=counts.part, levels=levels)
    vectors, identity, group = given
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cell = {pair: n for n, pair in enumerate(itertools.combinations_with_replacement(range(3), 2))}
    rows = []
    for one, other in itertools.combinations(range(len(unit)), 2):
        same_part = counts.part[one] == counts.part[other]
        limit = levels[0, 0, counts.part[one] if same_part else 2]
        if identity[one] != identity[other] and not np.isnan(limit):
            place = cell[tuple(sorted((group[one], group[other])))]
            rows.append((unit[one] @ unit[other] >= limit, place, identity[one], identity[other]))
    part_of = dict(zip(identity, counts.part, strict=True))
    missed = genuine.similarity < levels[0, 0, [part_of[person] for person in genuine.person]]
    listed = [np.array(column) for column in zip(*rows, strict=True)]
    plain = group_rates(
        np.append(listed[0], missed),
        np.append(listed[1], len(cell) + genuine.group),
        np.append(listed[2], genuine.person),
        np.append(listed[3], genuine.person),
    )
    rates = all_rates(found, genuine, missed[None])
    np.testing.assert_allclose(rates.pairs, plain.pairs, rtol=1e-12)
    np.testing.assert_allclose(rates.joint.rates, plain.rates, rtol=1e-12)
    np.testing.assert_allclose(rates.joint.covariance, plain.covariance, rtol=1e-9, atol=1e-15)
    within = np.array([a == b for a, b in cell])
    shares = np.bincount(listed[1].astype(int))[within] / np.isin(listed[1], [0, 3, 5]).sum()
    whole = shares @ plain.rates[0, : len(cell)][within]
    assert rates.together().rates[0] == pytest.approx([whole, missed.mean()])


def test_two_systems_have_the_covariance_of_a_list_of_all_pairs():
    """Differences of systems rest on what both accept alike, pair by pair."""
    random = np.random.default_rng(7)
    vectors, identity, group = images(random, people=12)
    shown = [vectors, vectors + 0.3 * random.standard_normal(vectors.shape)]
    part, limit = count_impostors(vectors, identity, group).part, np.full((1, 2, 3), 0.5)
    [found] = false_matches(shown, identity, group, part=part, levels=limit)
    genuine = [genuine_pairs(one, identity, group) for one in shown]
    missed = np.stack([one.similarity for one in genuine]) < 0.5
    one, two = np.triu_indices(len(identity), 1)
    other = identity[one] != identity[two]
    one, two = one[other], two[other]
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in shown]
    matched = np.stack([np.einsum("pd,pd->p", v[one], v[two]) >= 0.5 for v in unit])
    person = genuine[0].person
    plain = group_rates(
        np.concatenate([matched, missed], axis=1),
        np.append(group[one] + group[two], 3 + genuine[0].group),  # cells (0, 0), (0, 1), (1, 1)
        np.append(identity[one], person),
        np.append(identity[two], person),
    )
    joint = all_rates(found, genuine[0], missed).joint
    np.testing.assert_allclose(joint.rates, plain.rates, rtol=1e-12)
    np.testing.assert_allclose(joint.covariance, plain.covariance, rtol=1e-9, atol=1e-15)


def test_parts_have_the_covariance_of_their_own_lists():
    """Each pair is held against the rate of its own part, where thresholds are its part's."""
    random = np.random.default_rng(8)
    vectors, identity, group = images(random, people=14)
    shown = [vectors, vectors + 0.3 * random.standard_normal(vectors.shape)]
    counts = [count_impostors(one, identity, group) for one in shown]
    part, level = counts[0].part, np.array([[0.4, 0.6, np.nan], [0.5, 0.45, np.nan]])
    genuine = [genuine_pairs(one, identity, group) for one in shown]
    rates = of_parts(by_part(shown, (identity, group), part, level, genuine))
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in shown]
    one, two = np.triu_indices(len(identity), 1)
    person = genuine[0].person
    owner = np.array([part[identity == name][0] for name in person])
    plain, sizes = [], []
    for half in (0, 1):
        inside = (identity[one] != identity[two]) & (part[one] == half) & (part[two] == half)
        a, b, own = one[inside], two[inside], owner == half
        matched = [np.vecdot(v[a], v[b]) >= at for v, at in zip(unit, level[:, half], strict=True)]
        missed = [g.similarity[own] < at for g, at in zip(genuine, level[:, half], strict=True)]
        cell = np.append(group[a] + group[b], 3 + genuine[0].group[own])
        who = [np.append(identity[side], person[own]) for side in (a, b)]
        plain.append(group_rates(np.concatenate([matched, missed], axis=1), cell, *who))
        sizes.append(np.bincount(cell))
    weights = np.array(sizes) / np.sum(sizes, axis=0)
    expected = sum(w * found.rates for w, found in zip(weights, plain, strict=True))
    np.testing.assert_allclose(rates.joint.rates, expected, rtol=1e-12)
    covariance = sum(
        w[:, None, None] * found.covariance * w for w, found in zip(weights, plain, strict=True)
    )
    np.testing.assert_allclose(rates.joint.covariance, covariance, rtol=1e-9, atol=1e-15)


def test_halves_that_set_each_others_thresholds_add_what_draws_show():
    """Of two systems in whose first group nearly all false matches are."""
    random = np.random.default_rng(9)
    rates = np.array([[0.1, 0.001, 0.004, 0.2, 0.3], [0.08, 0.002, 0.005, 0.1, 0.2]])
    pairs, cells = np.array([1000, 2000, 1000, 100, 100]), np.triu_indices(2)
    mixing = np.eye(10) + 0.4 * random.standard_normal((10, 10))
    covariance = (mixing @ mixing.T) * np.outer(rates, rates) * 0.003
    joint = GroupRates(rates, covariance.reshape(2, 5, 2, 5), np.zeros((2, 5, 2, 5)), pairs * 1.0)
    given = AllRates(joint, pairs, np.zeros((2, 5), int), cells, [sparse.csr_array((1, 5))] * 2)
    power = np.array([[0.95, 1.5, 1.7, -0.3, -0.4], [0.9, 1.4, 1.6, -0.2, -0.5]])
    share = given.share
    whole = rates @ share
    moved = given.with_threshold(power * rates / whole[:, None])
    # Either half has twice the variance, and is judged by the threshold of the other.
    halves = random.multivariate_normal(np.zeros(10), 2 * covariance, (2, 400_000))
    halves = halves.reshape(2, -1, 2, 5)
    of_all = 1 + halves @ share / whole  # (2, draws, M)
    drawn = (rates + halves) * of_all[::-1, :, :, None] ** -power
    shown = np.cov(drawn.mean(axis=0).reshape(-1, 10).T)
    scale = np.sqrt(np.diag(shown))
    found = moved.joint.covariance.reshape(10, 10)
    np.testing.assert_allclose(np.sqrt(np.diag(found)) / scale, 1, atol=0.05)
    np.testing.assert_allclose(*(one / np.outer(scale, scale) for one in (found, shown)), atol=0.1)
    first = np.eye(5) - np.multiply.outer(power * rates / whole[:, None], share)
    alone = joint.combined(first, joint.pairs).variances
    assert alone[0, 0] < 0.5 * shown[0, 0]  # so that the second order is seen


def test_a_person_in_two_groups_is_one_person():
    """Her images' pairs in either group are chance of the same person."""
    random = np.random.default_rng(5)
    vectors, identity, group = images(random, people=12, near=(0.5, 0.5))
    identity = identity % 12  # everyone in both groups
    part = count_impostors(vectors, identity, group).part
    [found] = false_matches([vectors], identity, group, part=part, levels=[[[0.4] * 3]])
    genuine = genuine_pairs(vectors, identity, group)
    rates = all_rates(found, genuine, random.random((1, len(genuine.person))) < 0.3)
    assert rates.joint.covariance[0, 0, 0, 2] != 0  # FMR within either group
    assert rates.joint.covariance[0, 3, 0, 4] != 0  # FNMR


@pytest.mark.parametrize("fmr", [None, 0.02])
def test_intervals_cover_the_rates_of_all_people(fmr):
    """New people each time; the truth is that of ten thousand."""
    random = np.random.default_rng(11)
    crowd = images(random, people=5000, each=1)
    everyone = genuine_pairs(*images(random, people=20_000, each=2))
    counts = count_impostors(*crowd, parts=1)
    threshold = 0.62
    if fmr is not None:
        own = np.einsum("sggb->b", counts.histogram)
        threshold = np.argmax(own[::-1].cumsum()[::-1] <= fmr * own.sum()) / HALF - 1
    above = counts.histogram[..., round((threshold + 1) * HALF) :].sum(axis=(0, 3)) / counts.pairs
    truth = np.append(above[np.triu_indices(2)], everyone.errors(threshold))
    sets, inside, seen, said = 100, [], [], []
    for _ in range(sets):
        rates = rates_of(images(random, people=150), None if fmr else threshold, fmr)
        _, low, high = rate_interval(rates.joint)
        inside.append((low[0] <= truth) & (truth <= high[0]))
        seen.append(rates.joint.rates[0])
        said.append(rates.joint.variances[0])
    share = np.mean(inside, axis=0)
    low, high = but_for_chance(sets)
    assert ((low <= share) & (share <= high)).all()
    assert low <= share[[0, 2, 3, 4]].mean() <= high
    # Of the group that makes nearly all false matches too, which its own threshold holds.
    ratio = np.mean(said, axis=0) / np.var(seen, axis=0, ddof=1)
    assert (abs(ratio - 1) < 3 * np.sqrt(2 / sets) + 0.1).all(), ratio
