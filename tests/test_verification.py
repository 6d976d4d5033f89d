"""The k-fold protocol and ROC against scikit-learn and against the protocol written as loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, roc_curve
from sklearn.model_selection import KFold
from sklearn.preprocessing import normalize

from mstkd.evaluation.verification import (
    fold_accuracies,
    fold_of_pairs,
    kfold_accuracy,
    roc,
    shared_fold_accuracies,
    squared_distances,
    tar_at_far,
)


def protocol(distance, same, folds):
    """The public protocol, threshold by threshold; gives accuracies and chosen thresholds."""
    thresholds = np.arange(0, 4, 0.01)
    accuracies, chosen = [], []
    for train, test in KFold(n_splits=folds, shuffle=False).split(distance):
        on_train = [np.mean(same[train] == (distance[train] < t)) for t in thresholds]
        chosen.append(thresholds[np.argmax(on_train)])
        accuracies.append(accuracy_score(same[test], distance[test] < chosen[-1]))
    return np.array(accuracies), np.array(chosen)


def reference_distances(first, second):
    return np.sum(np.square(normalize(first) - normalize(second)), axis=1)


def pairs(rng, count, dim, *, likeness=1.0):
    same = rng.random(count) < 0.5
    same[:2] = True, False
    first, second = rng.normal(size=(2, count, dim))
    second[same] += likeness * first[same]
    return first * rng.uniform(0.1, 30, (count, 1)), second, same


@pytest.mark.parametrize(
    ("count", "dim", "folds", "likeness"),
    [(200, 8, 10, 1.0), (203, 3, 10, 0.5), (60, 64, 7, 0.3), (11, 2, 11, 1.0), (9, 5, 2, 0.0)],
)
def test_accuracies_are_the_protocols(count, dim, folds, likeness):
    first, second, same = pairs(np.random.default_rng(count), count, dim, likeness=likeness)
    found = kfold_accuracy(first, second, same, folds)
    assert found.dtype == np.float64
    expected, _ = protocol(reference_distances(first, second), same, folds)
    np.testing.assert_array_equal(found, expected)  # to the last digit


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.integers(0, 2**32 - 1), st.integers(0, 30))
def test_distances_on_thresholds(folds, seed, more):
    """Distances that are thresholds, or a rounding away, with ties between best thresholds."""
    rng = np.random.default_rng(seed)
    count = folds + more
    distance = rng.choice(np.arange(0, 4, 0.01), count) if more % 2 else rng.integers(0, 5, count)
    distance = np.nextafter(distance, distance + rng.integers(-1, 2, count))
    same = rng.random(count) < 0.5
    same[:2] = True, False
    expected, _ = protocol(distance, same, folds)
    found = fold_accuracies(distance, same, fold_of_pairs(count, folds))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dim", [2, 3, 16, 512])
def test_exact_angles_fall_on_the_same_side_as_in_the_public_code(dim):
    """Distances 0, 2 and 4 up to rounding, which decide at the thresholds 0 and 2."""
    rng = np.random.default_rng(dim)
    first = rng.integers(0, 2, (60, dim)) * 2.0 - 1
    first[:, 0] = rng.integers(1, 9, 60)
    second = first.copy()  # distance 0
    second[20:40, 0], second[20:40, 1] = -first[20:40, 1], first[20:40, 0]
    first[20:40, 2:] = second[20:40, 2:] = 0  # right angles: distance 2
    second[40:] *= -3.0  # distance 4
    expected = reference_distances(first, second)
    found = squared_distances(first, second)
    np.testing.assert_allclose(found, expected, rtol=0, atol=4e-15)
    grid = np.arange(0, 4, 0.01)
    np.testing.assert_array_equal(
        np.searchsorted(grid, found, side="right"), np.searchsorted(grid, expected, side="right")
    )


def test_a_threshold_accepts_only_what_is_strictly_below():
    """A distance of exactly a threshold is rejected by it and accepted by the next."""
    below, above = np.arange(0, 4, 0.01)[200:202]
    distance = np.array([below, below, above, above] * 2)
    same = np.array([True, True, False, False] * 2)
    fold = np.repeat([0, 1], 4)
    assert fold_accuracies(distance, same, fold).tolist() == [1, 1]
    distance[4:6] = above  # now beyond reach: fold 0 has chosen the threshold `above`
    assert fold_accuracies(distance, same, fold).tolist() == [0.5, 0.5]


def test_first_of_equal_thresholds():
    """Every threshold above 0.5 is as good on fold 1; the first rejects fold 0's pair at 1."""
    distance, same = np.array([1.0, 3.5, 0.5, 3.5]), np.array([True, False, True, False])
    assert fold_accuracies(distance, same, [0, 0, 1, 1])[0] == 0.5


def test_small_distances_keep_their_digits():
    first = np.array([[1.0, 0.0], [3.0, 4.0], [1.0, 1.0]])
    second = first + np.array([[0.0, 1e-9], [0.0, 0.0], [1e-7, 0.0]])
    expected = [1e-18, 0, (1e-7) ** 2 / 4]
    np.testing.assert_allclose(squared_distances(first, second), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_distances(dtype):
    first, second = np.random.default_rng(0).normal(size=(2, 300, 32)).astype(dtype)
    found = squared_distances(first, second)
    expected = reference_distances(first.astype(np.float64), second.astype(np.float64))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    angle = np.deg2rad([0, 60, 90, 180])
    turned = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 5
    east = np.tile([2.0, 0.0], (4, 1))
    np.testing.assert_allclose(squared_distances(east, turned), [0, 1, 2, 4], atol=1e-15)


@given(st.integers(2, 12), st.integers(0, 40))
def test_folds_are_scikit_learns(folds, more):
    pairs = folds + more
    expected = np.empty(pairs, int)
    for number, (_, test) in enumerate(KFold(folds, shuffle=False).split(np.zeros(pairs))):
        expected[test] = number
    assert fold_of_pairs(pairs, folds).tolist() == expected.tolist()


def test_shared_thresholds_are_chosen_on_all_groups_and_applied_to_each():
    rng = np.random.default_rng(4)
    groups, folds, count = 3, 5, 240
    group, fold = rng.integers(0, groups, count), rng.integers(0, folds, count)
    same = rng.random(count) < 0.5
    distance = rng.uniform(0.5, 1.2, count) + 0.6 * ~same + 0.5 * group
    found = shared_fold_accuracies(distance, same, fold, group)
    thresholds = np.arange(0, 4, 0.01)
    expected = np.empty((groups, folds))
    for k in range(folds):
        others = fold != k
        best = np.argmax([np.mean(same[others] == (distance[others] < t)) for t in thresholds])
        for g in range(groups):
            here = (fold == k) & (group == g)
            expected[g, k] = accuracy_score(same[here], distance[here] < thresholds[best])
    np.testing.assert_array_equal(found, expected)
    own = [
        fold_accuracies(distance[group == g], same[group == g], fold[group == g]) for g in (0, 2)
    ]
    assert np.mean(own) > found[[0, 2]].mean()  # the groups' distances differ, so sharing costs


def test_one_group_shares_with_itself():
    rng = np.random.default_rng(5)
    distance, same = rng.uniform(0, 4, 50), rng.random(50) < 0.5
    fold = fold_of_pairs(50, 5)
    shared = shared_fold_accuracies(distance, same, fold, np.zeros(50, np.int8))
    np.testing.assert_array_equal(shared, [fold_accuracies(distance, same, fold)])


@pytest.mark.parametrize("distinct", [5, 10**9])
def test_roc_is_scikit_learns(distinct):
    rng = np.random.default_rng(6)
    distance, same = rng.integers(0, distinct, 80) / distinct, rng.random(80) < 0.4
    fmr, tar = roc(distance, same)
    expected_fmr, expected_tar, _ = roc_curve(same, -distance, drop_intermediate=False)
    np.testing.assert_allclose(fmr, expected_fmr)
    np.testing.assert_allclose(tar, expected_tar)


def test_tar_at_far():
    distance = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    same = np.array([True, True, False, True, False, True, False, False])
    rates = [tar_at_far(distance, same, far) for far in (0, 0.24, 0.25, 0.49, 0.5, 1)]
    assert rates == [0.5, 0.5, 0.75, 0.75, 1, 1]
    # A tie of both classes is accepted whole or not at all.
    assert tar_at_far([1, 1, 2, 2], [True, False, True, False], 0.4) == 0


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_tar_at_far_is_the_best_point_of_the_curve(seed, far):
    rng = np.random.default_rng(seed)
    distance, same = rng.integers(0, 20, 30), np.arange(30) % 3 == 0
    allowed = [
        np.mean(distance[same] < t) for t in range(21) if np.mean(distance[~same] < t) <= far
    ]
    assert tar_at_far(distance, same, far) == max(allowed)


ONES = np.ones((4, 2))
SAME = np.array([True, False, True, False])


@pytest.mark.parametrize(
    ("first", "second", "same", "folds", "message"),
    [
        (ONES, np.ones((4, 3)), SAME, 2, r"shapes \(4, 2\) and \(4, 3\)"),
        (np.ones(4), np.ones(4), SAME, 2, r"not \(P, D\) twice"),
        (ONES, ONES, SAME[:3], 2, r"shapes \(4,\) and \(3,\)"),
        (ONES * [1, np.nan], ONES, SAME, 2, "not finite"),
        (ONES, ONES * np.inf, SAME, 2, "not finite"),
        (ONES, ONES * 0, SAME, 2, "zero and has no direction"),
        (ONES, ONES, SAME, 1, "1 folds, fewer than 2"),
        (ONES, ONES, SAME, 5, "4 pairs, fewer than the 5 folds"),
        (ONES, ONES, SAME | True, 2, "one class only"),
        (ONES, ONES, SAME & False, 2, "one class only"),
    ],
)
def test_faults_of_kfold_accuracy(first, second, same, folds, message):
    with pytest.raises(ValueError, match=message):
        kfold_accuracy(first, second, same, folds)


@pytest.mark.parametrize(
    ("distance", "fold", "group", "message"),
    [
        ([1, 1, 1, np.nan], [0, 0, 1, 1], [0] * 4, "a distance is not finite"),
        ([1] * 4, [0, 0, 2, 2], [0] * 4, "no pairs in fold 1"),
        ([1] * 4, [0, 0, 0, 0], [0] * 4, "one fold only, at least 2"),
        ([1] * 4, [0, 0, -1, 1], [0] * 4, "fold -1 is below 0"),
        ([1] * 4, [0.0, 0, 1, 1], [0] * 4, "fold is not one whole number"),
        ([1] * 4, [0, 1], [0] * 4, "fold is not one whole number"),
        ([1] * 4, [0, 0, 1, 1], [0, 0, 0, 1], "no pairs in fold 0 of group 1"),
    ],
)
def test_faults_of_the_parts(distance, fold, group, message):
    with pytest.raises(ValueError, match=message):
        shared_fold_accuracies(distance, SAME, fold, group)
    if len(set(group)) == 1:
        with pytest.raises(ValueError, match=message):
            fold_accuracies(distance, SAME, fold)


@pytest.mark.parametrize("far", [-0.1, 1.1, np.nan])
def test_faults_of_tar_at_far(far):
    with pytest.raises(ValueError, match="outside 0 to 1"):
        tar_at_far([0, 1], [True, False], far)
