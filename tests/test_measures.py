"""Measures against plain loops, scikit-learn, closed forms and the protocol's own module."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from sklearn.metrics import roc_auc_score, roc_curve

from mstkd.evaluation import measures, verification
from mstkd.evaluation.measures import (
    BOUNDS,
    det_thresholds,
    error_rates,
    fmr_insufficient,
    fmr_matrix,
    fold_accuracies,
    fold_decisions,
    rate_insufficient,
    rates_at_fmr,
    separation,
)

SEEDS = st.integers(0, 2**32 - 1)


def pairs(seed, *, count=240, groups=3, folds=4, digits=2, spread=0.3):
    """Similarities (rounded, so that some are equal), same, fold and group, in a random order."""
    random = np.random.default_rng(seed)
    number = np.arange(count)
    same = number % 2 == 0
    fold, group = number // 2 % folds, number // (2 * folds) % groups
    similarity = np.clip(random.normal(np.where(same, 0.4, 0.1), spread), -1, 1).round(digits)
    order = random.permutation(count)
    return tuple(array[order] for array in (similarity, same, fold, group))


def some_weights(seed, count=240, draws=3):
    """Whole numbers, so that sums are exact, and some zero."""
    return np.random.default_rng(seed + 1).poisson(1, (draws, count))


# ---------------------------------------------------------------- accuracy


@settings(deadline=None)
@given(SEEDS, st.integers(2, 7))
def test_unweighted_accuracies_are_the_protocols_to_the_last_bit(seed, folds):
    similarity, same, fold, group = pairs(seed, folds=folds)
    own = fold_accuracies(similarity, same, fold, group)
    for g in range(3):
        here = group == g
        parts = 2 - 2 * similarity[here], same[here], fold[here]
        expected = verification.fold_accuracies(*parts)
        assert own.folds[g].tolist() == expected.tolist()
        assert own.groups[g] == expected.mean()
    shared = fold_accuracies(similarity, same, fold, group, threshold="shared")
    expected = verification.shared_fold_accuracies(2 - 2 * similarity, same, fold, group)
    assert shared.folds.tolist() == expected.tolist()
    assert shared.groups.tolist() == expected.mean(axis=1).tolist()


def looped(similarity, same, fold, group, weights, shared):
    """The weighted protocol, threshold by threshold (G, K)."""
    accepted = (2 - 2 * similarity)[:, None] < np.arange(0, 4, 0.01)  # (P, T)
    right = (accepted == same[:, None]) * weights[:, None]
    found = np.empty((3, fold.max() + 1))
    for g, k in np.ndindex(found.shape):
        others = (fold != k) if shared else (fold != k) & (group == g)
        best = int(np.argmax(right[others].sum(axis=0)))
        here = (fold == k) & (group == g)
        found[g, k] = (
            right[here, best].sum() / weights[here].sum() if weights[here].sum() else np.nan
        )
    return found


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.booleans())
def test_weighted_accuracies_by_loops(seed, shared):
    similarity, same, fold, group = pairs(seed)
    weights = some_weights(seed)
    threshold = "shared" if shared else "own"
    found = fold_accuracies(similarity, same, fold, group, weights, threshold=threshold)
    sizes = np.array([[((group == g) & (fold == k)).sum() for k in range(4)] for g in range(3)])
    for draw, each in enumerate(weights):
        expected = looped(similarity, same, fold, group, each, shared)
        np.testing.assert_allclose(found.folds[draw], expected, rtol=1e-14)
        totals = [[each[(group == g) & (fold == k)].sum() for k in range(4)] for g in range(3)]
        parts = np.array(totals) / sizes
        mean = np.nansum(parts * expected, axis=1) / parts.sum(axis=1)
        np.testing.assert_allclose(found.groups[draw], mean, rtol=1e-14)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.booleans())
def test_weights_that_are_no_whole_numbers(seed, shared):
    """Thresholds that tie do so still, though sums round."""
    similarity, same, fold, group = pairs(seed)
    weights = np.random.default_rng(seed).exponential(1, (2, 240))
    threshold = "shared" if shared else "own"
    found = fold_accuracies(similarity, same, fold, group, weights, threshold=threshold)
    for draw, each in enumerate(weights):
        expected = looped(similarity, same, fold, group, each, shared)
        np.testing.assert_allclose(found.folds[draw], expected, rtol=1e-12)


def test_weights_of_folds_weigh_the_folds():
    similarity, same, fold, group = pairs(3)
    each = np.array([2.0, 0.0, 1.0, 1.0])
    plain = fold_accuracies(similarity, same, fold, group)
    found = fold_accuracies(similarity, same, fold, group, each[fold])
    assert np.isnan(found.folds[:, 1]).all()
    # Thresholds move with the weights; where they stay, the mean is that of the weights.
    np.testing.assert_allclose(
        found.groups, (found.folds[:, [0, 2, 3]] * each[[0, 2, 3]]).sum(axis=1) / 4
    )
    twice = fold_accuracies(similarity, same, fold, group, np.full((2, 240), 2.0))
    assert twice.groups.tolist() == [plain.groups.tolist()] * 2


@pytest.mark.parametrize("threshold", ["own", "shared"])
def test_decisions_are_those_behind_the_accuracies(threshold):
    similarity, same, fold, group = pairs(5)
    accuracies = fold_accuracies(similarity, same, fold, group, threshold=threshold)
    decisions = fold_decisions(similarity, same, fold, group, threshold=threshold)
    for g, k in np.ndindex(3, 4):
        here = (group == g) & (fold == k)
        assert decisions.right[here].mean() == accuracies.folds[g, k]
        threshold = decisions.thresholds[g, k]
        sure = here & (np.abs(similarity - threshold) > 1e-12)  # the protocol's is of distances
        assert (((similarity >= threshold) == same) == decisions.right)[sure].all()


def test_scores_that_are_no_cosines_have_thresholds_of_their_own():
    similarity, same, fold, group = pairs(7)
    scores = np.exp(3 * similarity)
    found = fold_accuracies(scores, same, fold, group)
    values = -np.unique(-scores)
    for g, k in np.ndindex(3, 4):
        others, here = (fold != k) & (group == g), (fold == k) & (group == g)
        right = [((scores[others] >= value) == same[others]).sum() for value in values]
        best = values[int(np.argmax(right))]
        assert found.folds[g, k] == ((scores[here] >= best) == same[here]).mean()
    assert len(measures.accepting([1.0000001, -0.3])[1]) == 400  # cosines in single precision
    many = np.random.default_rng(0).normal(size=5000) * 10
    first, thresholds = measures.accepting(many)
    assert len(thresholds) == measures.RANKS and (np.diff(thresholds) < 0).all()
    for t in (0, 500, 999):
        assert ((first <= t) == (many >= thresholds[t])).all()


def test_thresholds_of_cosines_accept_what_lies_strictly_below():
    edges = 1 - verification.THRESHOLDS / 2
    scores = np.concatenate(
        [np.nextafter(edges, -2), edges, np.nextafter(edges, 2), [-1, -1 - 5e-7]]
    )
    accepted = (2 - 2 * scores)[:, None] < verification.THRESHOLDS
    expected = np.where(accepted.any(axis=1), accepted.argmax(axis=1), 400)
    np.testing.assert_array_equal(measures.accepting(scores)[0], expected)


# ---------------------------------------------------------------- error rates


def test_error_rates_are_shares_of_their_own_class():
    """Group 0: 1 of 3 impostors accepted, 1 of 2 genuine rejected; group 1: 0 of 1, 1 of 4."""
    distance = [0.4, 1.0, 1.2, 0.3, 1.0, 1.5, 0.1, 0.2, 0.3, 2.0]
    same = [False] * 3 + [True] * 2 + [False] + [True] * 4
    group = [0] * 5 + [1] * 5
    similarity = 1 - np.array(distance)
    fmr, fnmr = error_rates(similarity, same, group, 1e-9)
    assert fmr.tolist() == [1 / 3, 0]
    assert fnmr.tolist() == [1 / 2, 1 / 4]
    fmr, fnmr = error_rates(similarity, same, group, 0)  # what is at the threshold is accepted
    assert fmr.tolist() == [2 / 3, 0]
    assert fnmr.tolist() == [0, 1 / 4]


@given(SEEDS, st.lists(st.sampled_from([-1.0, -0.2, 0.1, 0.25, 0.30, 0.31, 0.9, 2.0]), max_size=4))
def test_error_rates_by_loops(seed, thresholds):
    similarity, same, _, group = pairs(seed)
    weights = some_weights(seed)
    plain = error_rates(similarity, same, group.astype(np.int8), thresholds)
    weighted = error_rates(similarity, same, group, thresholds, weights)
    assert plain.fmr.shape == (len(thresholds), 3)
    for (t, threshold), g in itertools.product(enumerate(thresholds), range(3)):
        impostor, genuine = (group == g) & ~same, (group == g) & same
        assert plain.fmr[t, g] == np.mean(similarity[impostor] >= threshold)
        assert plain.fnmr[t, g] == np.mean(similarity[genuine] < threshold)
        for draw, each in enumerate(weights):
            repeated = np.repeat(similarity[impostor] >= threshold, each[impostor])
            assert weighted.fmr[draw, t, g] == np.mean(repeated)
            repeated = np.repeat(similarity[genuine] < threshold, each[genuine])
            assert weighted.fnmr[draw, t, g] == np.mean(repeated)


@pytest.mark.parametrize(
    ("similarity", "same", "group", "threshold", "message"),
    [
        ([1, 2], [True, False], [0], 1, "one whole number for each of the 2"),
        ([1, 2], [True, False], [0, -1], 1, "group -1 is below 0"),
        ([1, 2], [True, False], [0.0, 1.0], 1, "one whole number for each"),
        ([1, math.nan], [True, False], [0, 0], 1, "not finite"),
        ([1, 2], [True, False], [0, 0], math.nan, "not a number"),
        ([1, 2, 3], [True, False, True], [0, 0, 1], 1, "group 1 has no impostor pairs"),
        ([1, 2], [True, False], [1, 1], 1, "group 0 has no impostor pairs"),
        ([1, 2], [False, False], [0, 0], 1, "group 0 has no genuine pairs"),
        (np.empty(0), np.empty(0), np.empty(0, int), 1, "no pairs"),
    ],
)
def test_faults_of_error_rates(similarity, same, group, threshold, message):
    with pytest.raises(ValueError, match=message):
        error_rates(similarity, same, group, threshold)


def test_rates_without_any_weight_are_no_numbers():
    similarity, same, _, group = pairs(0)
    rates = error_rates(similarity, same, group, 0.2, np.where(group == 1, 0, 1))
    assert np.isnan([rates.fmr[1], rates.fnmr[1]]).all() and np.isfinite(rates.fmr[[0, 2]]).all()


@pytest.mark.parametrize("measure", [error_rates, fold_accuracies, rates_at_fmr, separation])
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(239), "not .W, 240. or .240,."),
        (np.ones((2, 3, 240)), "weights of shape .2, 3, 240."),
        (-np.ones(240), "below 0"),
        (np.full(240, np.nan), "not finite"),
    ],
)
def test_faults_of_weights(measure, weights, message):
    similarity, same, fold, group = pairs(0)
    arguments = {
        error_rates: (similarity, same, group, 0.2),
        fold_accuracies: (similarity, same, fold, group),
        rates_at_fmr: (similarity, same, fold, group, [0.1]),
        separation: (similarity, same, group),
    }
    with pytest.raises(ValueError, match=message):
        measure(*arguments[measure], weights)


# ---------------------------------------------------------------- at a false match rate


def lowest_threshold(scores, target):
    """By trial: the lowest of all thresholds that can matter whose FMR is at most the target."""
    tried = [-np.inf, *np.nextafter(np.unique(scores), np.inf)]
    return min(t for t in tried if np.mean(scores >= t) <= target)


@settings(deadline=None, max_examples=30)
@given(SEEDS)
def test_rates_at_an_fmr_by_loops(seed):
    """Repeated pairs say the same as weights; the scores are rounded, so there are ties."""
    similarity, same, fold, group = pairs(seed)
    targets = [0.05, 0.29, 0, 1]
    weights = some_weights(seed)
    plain = rates_at_fmr(similarity, same, fold, group, targets)
    found = rates_at_fmr(similarity, same, fold, group, targets, weights)
    for draw, each in [(None, np.ones(240, int)), *enumerate(weights)]:
        rates = plain if draw is None else type(found)(*(values[draw] for values in found))
        for t, target in enumerate(targets):
            accepted = np.empty(240, bool)
            for k in range(4):
                chosen = ~same & (fold != k)
                threshold = lowest_threshold(np.repeat(similarity[chosen], each[chosen]), target)
                if 0 < target < 1:
                    assert rates.thresholds[t, k] == threshold
                accepted[fold == k] = similarity[fold == k] >= rates.thresholds[t, k]
            for g in range(3):
                impostor, genuine = (group == g) & ~same, (group == g) & same
                fmr = np.mean(np.repeat(accepted[impostor], each[impostor]))
                fnmr = np.mean(np.repeat(~accepted[genuine], each[genuine]))
                assert (rates.fmr[t, g], rates.fnmr[t, g]) == (fmr, fnmr)
            assert rates.global_fmr[t] == np.mean(np.repeat(accepted[~same], each[~same]))
            assert rates.global_fnmr[t] == np.mean(np.repeat(~accepted[same], each[same]))
        assert rates.global_fmr[3] == 1 and rates.global_fnmr[3] == 0


def test_no_pair_has_a_say_in_its_own_threshold():
    similarity, same, fold, group = pairs(1)
    before = rates_at_fmr(similarity, same, fold, group, [0.1]).thresholds
    changed = np.where((fold == 2) & ~same, 1.0, similarity)
    after = rates_at_fmr(changed, same, fold, group, [0.1]).thresholds
    assert after[0, 2] == before[0, 2]
    assert (np.delete(after[0], 2) > np.delete(before[0], 2)).all()


def test_an_fmr_holds_where_thresholds_meet_new_pairs():
    """Of 1,800 impostor pairs 18 may be accepted; of new ones those above the 19th score are.

    By the mean of the order statistic that is 19 / 1,801. Fitted on its own pairs it would be 0.01
    in every set.
    """
    random, found = np.random.default_rng(0), []
    same, group = np.arange(4000) % 2 == 0, np.arange(4000) // 2 % 2
    fold = np.arange(4000) * 10 // 4000
    for _ in range(200):
        similarity = np.tanh(random.normal(np.where(same, 1, 0), 0.3))
        found.append(rates_at_fmr(similarity, same, fold, group, [0.01]).global_fmr[0])
    error = np.std(found) / math.sqrt(200)
    assert 0 < 4 * error < 2e-4
    assert np.mean(found) == pytest.approx(19 / 1801, abs=4 * error)


def test_the_first_scores_decide_unless_weights_lie_elsewhere():
    random = np.random.default_rng(0)
    similarity = random.uniform(-1, 1, 20000)
    same, fold = np.arange(20000) % 2 == 0, np.arange(20000) % 5
    weights = np.where(similarity > 0, 0, 1)  # the upper half of the impostors weighs nothing
    found = rates_at_fmr(similarity, same, fold, np.zeros(20000, int), [0.001], weights)
    left = similarity <= 0
    alone = rates_at_fmr(
        similarity[left], same[left], fold[left], np.zeros(left.sum(), int), [0.001]
    )
    assert found.thresholds.tolist() == alone.thresholds.tolist()


def test_faults_of_rates_at_fmr():
    similarity, same, fold, group = pairs(0)
    with pytest.raises(ValueError, match="an FMR outside 0 to 1"):
        rates_at_fmr(similarity, same, fold, group, [0.1, 1.1])
    with pytest.raises(ValueError, match="one fold only"):
        rates_at_fmr(similarity, same, fold * 0, group, [0.1])


@settings(deadline=None)
@given(SEEDS)
def test_matrix_of_false_match_rates_by_loops(seed):
    similarity, same, fold, group = pairs(seed)
    other = (group + (fold == 1)) % 3
    group, other = np.where(group == 1, 2, group), np.where(other == 1, 2, other)  # none of group 1
    weights = some_weights(seed)
    matrix = fmr_matrix(similarity, same, group, other, 0.2)
    weighted = fmr_matrix(similarity, same, group, other, 0.2, weights)
    assert np.isnan(matrix[1]).all() and np.isnan(matrix[:, 1]).all()
    for a, b in itertools.product((0, 2), repeat=2):
        here = ~same & (((group == a) & (other == b)) | ((group == b) & (other == a)))
        assert matrix[a, b] == np.mean(similarity[here] >= 0.2)
        for draw, each in enumerate(weights):
            assert weighted[draw, a, b] == np.mean(np.repeat(similarity[here] >= 0.2, each[here]))


# ---------------------------------------------------------------- all thresholds


@settings(deadline=None, max_examples=40)
@given(SEEDS)
def test_separation_against_scikit_learn(seed):
    similarity, same, _, group = pairs(seed)
    weights = some_weights(seed, draws=2)
    found = separation(similarity, same, group, weights)
    plain = separation(similarity, same, group)
    for g in range(3):
        here = group == g
        for values, each in (
            (plain, np.ones(240)),
            *((_row(found, i), weights[i]) for i in (0, 1)),
        ):
            each = each[here]
            area = roc_auc_score(same[here], similarity[here], sample_weight=each)
            assert values.auc[g] == pytest.approx(area, abs=1e-12)
            fmr, tar, _ = roc_curve(
                same[here], similarity[here], sample_weight=each, drop_intermediate=False
            )
            equal = optimize.brentq(lambda x: 1 - x - np.interp(x, fmr, tar), 0, 1)  # noqa: B023
            assert values.eer[g] == pytest.approx(equal, abs=1e-9)


def _row(values, row):
    return type(values)(*(part[row] for part in values))


def test_separation_of_normal_scores():
    """Of two unit normals d apart: AUC = Phi(d / sqrt 2), EER = Phi(-d / 2)."""
    random, d = np.random.default_rng(0), 1.5
    same = np.arange(400_000) % 2 == 0
    found = separation(random.normal(d * same), same, np.zeros(400_000, int))
    assert found.auc[0] == pytest.approx(stats.norm.cdf(d / math.sqrt(2)), abs=0.003)
    assert found.eer[0] == pytest.approx(stats.norm.cdf(-d / 2), abs=0.003)


def test_separation_that_is_perfect_reversed_or_none():
    same = np.arange(10) % 2 == 0
    for scores, auc, eer in ((same, 1, 0), (~same, 0, 1), (same * 0, 0.5, 0.5)):
        found = separation(scores, same, np.zeros(10, int))
        assert (found.auc[0], found.eer[0]) == (auc, eer)


def test_thresholds_of_a_curve():
    similarity, same, _, _ = pairs(0, digits=6)
    thresholds = det_thresholds(similarity, same, points=50)
    fmr = error_rates(similarity, same, np.zeros(240, int), thresholds).fmr[:, 0]
    assert fmr[0] == 1 / 120 and fmr[-1] == 1
    assert (np.diff(thresholds) < 0).all() and (np.diff(fmr) > 0).all() and len(thresholds) <= 50
    steps = np.diff(np.log(fmr))
    assert steps[-10:].max() < 2 * steps[-10:].min()


# ---------------------------------------------------------------- too few errors


def test_bounds_are_those_of_a_poisson_mean():
    exact = stats.chi2.ppf(0.95, 2 * (np.arange(10) + 1)) / 2
    np.testing.assert_allclose(BOUNDS, exact, atol=0.005)


def test_an_fmr_needs_ten_expected_false_matches():
    assert fmr_insufficient(1e-3, 10_000) is None
    assert fmr_insufficient(1e-2, 1_000) is None
    found = fmr_insufficient(1e-3, 3_000)  # one group of RFW
    assert (found.errors, found.pairs, found.bound) == (3, 3000, 0.001)
    assert str(found) == "insufficient: 3 errors of 3,000 pairs, 10 needed; below 0.001"
    assert fmr_insufficient(1e-4, 12_000) is not None  # all four


def test_a_rate_of_few_errors_is_a_bound():
    assert rate_insufficient(10, 3_000) is None
    assert rate_insufficient(0, 3_000).bound == 0.001  # the rule of three
    assert rate_insufficient(4, 1_000).bound == 9.15 / 1000
    assert rate_insufficient(1, 2).bound == 1
