"""Clustered covariances by their definition, Wilson by scipy, thresholds by refits."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mstkd.evaluation.uncertainty import (
    REFIT_EXCESS,
    binomial_rates,
    effective_size,
    fold_weights,
    group_rates,
    kept_folds,
    normal_factor,
    threshold_covariance,
    wilson,
)
from mstkd.evaluation.verification import fold_accuracies, shared_fold_accuracies

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def some_pairs(seed, pairs=60, people=15, groups=2, models=3):
    """Pairs that share identities, some of them across groups."""
    random = np.random.default_rng(seed)
    first = random.integers(people, size=pairs)
    same = random.random(pairs) < 0.4
    second = np.where(same, first, (first + random.integers(1, people, pairs)) % people)
    wrong = random.random((models, pairs)) < 0.3
    return wrong, random.integers(groups, size=pairs), first, second, random.uniform(1, 3, pairs)


@pytest.mark.parametrize("seed", range(3))
def test_covariance_is_the_sum_over_pairs_that_share_an_identity(seed):
    """The definition (Aronow, Samii & Assenova 2015, equation 3), by a loop over pairs of pairs."""
    wrong, group, first, second, weights = some_pairs(seed)
    found = group_rates(wrong, group, first, second, weights)
    models, pairs, groups = 3, 60, 2
    rates = np.zeros((models, groups))
    influence = np.zeros((models, groups, pairs))
    for m in range(models):
        for g in range(groups):
            inside = group == g
            rates[m, g] = np.average(wrong[m, inside], weights=weights[inside])
            share = np.where(inside, weights, 0) / weights[inside].sum()
            influence[m, g] = share * (wrong[m] - rates[m, g])
    expected = np.zeros((models, groups, models, groups))
    independent = np.zeros_like(expected)
    for p in range(pairs):
        for q in range(pairs):
            product = np.multiply.outer(influence[:, :, p], influence[:, :, q])
            if {first[p], second[p]} & {first[q], second[q]}:
                expected += product
            if p == q:
                independent += product
    shared = np.zeros(groups)
    for p, q in np.ndindex(pairs, pairs):
        if group[p] == group[q] and {first[p], second[p]} & {first[q], second[q]}:
            shared[group[p]] += weights[p] * weights[q]
    kept = 1 - shared / np.bincount(group, weights) ** 2
    assert (kept > 0.5).all()
    expected /= np.sqrt(np.multiply.outer(kept, kept))[None, :, None, :]
    np.testing.assert_allclose(found.rates, rates)
    np.testing.assert_allclose(found.independent, independent, atol=1e-15)
    np.testing.assert_allclose(found.covariance, expected, atol=1e-15)
    np.testing.assert_allclose(
        found.pairs,
        [weights[group == g].sum() ** 2 / (weights[group == g] ** 2).sum() for g in (0, 1)],
    )


def test_pairs_of_people_of_their_own_are_a_binomial_sample():
    wrong = np.zeros((1, 400), bool)
    wrong[0, :20] = wrong[0, 200:260] = True
    group = np.arange(400) // 200
    people = np.arange(800)
    found = group_rates(wrong, group, people[::2], people[1::2])
    np.testing.assert_allclose(found.rates, [[0.1, 0.3]])
    expected = binomial_rates([[0.1, 0.3]], [200, 200])
    np.testing.assert_allclose(found.independent, expected.covariance, atol=1e-18)
    # The sample variance of 200, n - 1 and all.
    np.testing.assert_allclose(found.covariance, expected.covariance * 200 / 199, atol=1e-18)
    np.testing.assert_allclose(found.effective_sizes(), [[199, 199]])
    together = found.together()
    np.testing.assert_allclose(together.rates, [[0.2]])
    np.testing.assert_allclose(together.variances, [[(0.09 + 0.21) / 199 / 4]])


def test_people_whose_pairs_all_err_count_as_one():
    """Ten pairs each, all right or all wrong: the variance is that of people."""
    wrong = np.repeat(np.arange(30) < 6, 10)
    people = np.repeat(np.arange(30), 10)
    found = group_rates(wrong, np.zeros(300, int), people, people)
    np.testing.assert_allclose(found.variances, 0.2 * 0.8 / 29)
    np.testing.assert_allclose(found.independent.ravel(), 0.2 * 0.8 / 300)
    np.testing.assert_allclose(found.effective_sizes(), 29)


def test_draws_do_not_hang_on_which_eigenvectors_a_library_gives(monkeypatch):
    """Their signs, and their directions where eigenvalues are equal, differ between processors."""
    covariance = np.kron(np.diag([1.0, 4.0]), np.full((3, 3), 0.3) + 0.7 * np.eye(3))
    found = normal_factor(covariance)
    errors = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(found @ found.T * np.outer(errors, errors), covariance, atol=1e-14)
    real = np.linalg.eigh

    def turned(matrix):
        values, vectors = real(matrix)
        same = np.isclose(values, values[0])  # four eigenvalues of 0.7
        other = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))[0]
        vectors[:, same] = vectors[:, same] @ other
        return values, vectors * np.where(np.arange(len(values)) % 2, 1, -1)

    monkeypatch.setattr(np.linalg, "eigh", turned)
    np.testing.assert_allclose(normal_factor(covariance), found, atol=1e-14)


def test_chosen_models_keep_their_covariance():
    wrong, group, first, second, weights = some_pairs(5)
    every = group_rates(wrong, group, first, second, weights)
    some = every.chosen([2, 0])
    alone = group_rates(wrong[[2, 0]], group, first, second, weights)
    np.testing.assert_allclose(some.rates, alone.rates)
    np.testing.assert_allclose(some.covariance, alone.covariance)
    np.testing.assert_allclose(some.independent, alone.independent)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"group": np.zeros(59, int)}, "group is not one whole number for each of 60"),
        ({"identity1": np.zeros(60)}, "identity1 is not one whole number"),
        ({"weights": np.zeros(60)}, "weights are not one number above 0"),
        ({"group": np.full(60, 2)}, "no pairs of group 0"),
    ],
)
def test_faults_are_told(change, words):
    wrong, group, first, second, weights = some_pairs(0)
    given = {"group": group, "identity1": first, "identity2": second, "weights": weights} | change
    with pytest.raises(ValueError, match=words):
        group_rates(wrong, **given)


# ---------------------------------------------------------------- chosen thresholds


@pytest.fixture
def simulated(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _verification_sets as sets

    random = np.random.default_rng(3)
    pairs = sets.draw_pairs(sets.DEMO, random)
    models = sets.models_of([[90, 92, 91, 94], [88, 93, 90, 91]], (0.08, 0.06, 0.03, 0.05))
    return sets, pairs, sets.draw_similarities(models, pairs, random)


@pytest.mark.parametrize("threshold", ["own", "shared"])
def test_simulated_sets_follow_the_protocol_of_verification(simulated, threshold):
    """Rates, and refits without each fold, are those of the one fold at a time."""
    sets, pairs, similarity = simulated
    found = sets.rates_of(similarity, pairs, threshold)
    of_folds, refitted = np.zeros((2, 4, 10)), np.zeros((2, 10, 4))
    for m, values in enumerate(similarity):
        of_folds[m] = accuracies(2 - 2 * values, pairs, threshold)
        for left_out in range(10):
            kept = pairs.fold != left_out
            fold = pairs.fold[kept] - (pairs.fold[kept] > left_out)
            part = pairs._replace(same=pairs.same[kept], fold=fold, group=pairs.group[kept])
            refitted[m, left_out] = accuracies((2 - 2 * values)[kept], part, threshold).mean(axis=1)
    np.testing.assert_allclose(found.rates, 1 - of_folds.mean(axis=2), atol=1e-12)
    added = threshold_covariance(
        1 - of_folds, 1 - refitted, kept_folds(10), shared=threshold == "shared"
    )
    correct = np.zeros((2, len(pairs.same)), bool)
    for m, values in enumerate(similarity):
        correct[m] = decided(2 - 2 * values, pairs, threshold)
    plain = group_rates(
        ~correct,
        pairs.group,
        pairs.identity1,
        pairs.identity2,
        fold_weights(pairs.fold, pairs.group),
    )
    np.testing.assert_allclose(plain.rates, found.rates, atol=1e-12)
    np.testing.assert_allclose(found.covariance, plain.covariance + added, atol=1e-12)


def accuracies(distances, pairs, threshold):
    if threshold == "shared":
        return shared_fold_accuracies(distances, pairs.same, pairs.fold, pairs.group)
    parts = [pairs.group == g for g in range(4)]
    return np.stack([fold_accuracies(distances[p], pairs.same[p], pairs.fold[p]) for p in parts])


def decided(distances, pairs, threshold):
    """Whether each pair is decided rightly, by a search over thresholds as the protocol is told."""
    right = np.zeros(len(distances), bool)
    steps = np.arange(0, 4, 0.01)
    for g in range(4):
        for k in range(10):
            others = (pairs.fold != k) & (threshold == "shared" or pairs.group == g)
            counts = [np.sum((distances[others] < t) == pairs.same[others]) for t in steps]
            here = (pairs.fold == k) & (pairs.group == g)
            right[here] = (distances[here] < steps[np.argmax(counts)]) == pairs.same[here]
    return right


def test_threshold_noise_is_a_jackknife_of_the_moves():
    """Of one model and two groups, by hand: moves -1, 1, 0 and 0, 3, 0 from what was chosen."""
    of_folds = np.array([[[4.0, 6, 8], [1, 1, 1]]])
    as_chosen = np.array([[7, 1], [6, 1], [5, 1]])  # the mean of the two other folds
    moves = np.array([[-1.0, 0], [1, 3], [0, 0]])
    kept = kept_folds(3)
    assert kept.tolist() == [[False, True, True], [True, False, True], [True, True, False]]
    added = threshold_covariance(of_folds, (as_chosen + moves)[None], kept, shared=True)
    centred = moves - moves.mean(axis=0)
    expected = centred.T @ centred * 2 / 3 / REFIT_EXCESS
    np.testing.assert_allclose(added[0, :, 0], expected)
    own = threshold_covariance(of_folds, (as_chosen + moves)[None], kept, shared=False)
    np.testing.assert_allclose(own[0, :, 0], np.diag(np.diag(expected)))
    stays = threshold_covariance(of_folds, as_chosen[None], kept, shared=True)
    assert not stays.any()


def test_many_folds_are_left_out_by_tenths():
    kept = kept_folds(25)
    assert kept.shape == (10, 25)
    assert ((~kept).sum(axis=0) == 1).all()
    assert set((~kept).sum(axis=1)) == {2, 3}
    with pytest.raises(ValueError, match="2 folds, fewer than 3"):
        kept_folds(2)


def test_fold_weights_make_the_mean_over_folds():
    random = np.random.default_rng(0)
    fold, group = random.integers(5, size=300), random.integers(2, size=300)
    wrong = random.random(300) < 0.3
    people = np.arange(300)
    found = group_rates(wrong, group, people, people, fold_weights(fold, group))
    expected = [
        np.mean([wrong[(fold == k) & (group == g)].mean() for k in range(5)]) for g in range(2)
    ]
    np.testing.assert_allclose(found.rates[0], expected)


# ---------------------------------------------------------------- intervals of rates


@pytest.mark.parametrize(("errors", "pairs"), [(0, 50), (3, 3000), (30, 3000), (50, 50)])
def test_wilson_is_scipys(errors, pairs):
    expected = stats.binomtest(errors, pairs).proportion_ci(method="wilson")
    low, high = wilson(errors / pairs, pairs)
    np.testing.assert_allclose([low, high], [expected.low, expected.high], atol=1e-12)


def test_effective_size_is_at_most_the_pairs():
    sizes = effective_size([0.1, 0.1, 0.1, 0, 1], [0.09 / 50, 0.09 / 500, 0, 0, 0], 100)
    np.testing.assert_allclose(sizes, [50, 100, 100, 100, 100])
