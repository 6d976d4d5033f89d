from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mstkd.data.heldout import held_out_pairs, hold_out

seeds = st.integers(0, 99)
image_counts = st.lists(st.integers(0, 7), min_size=4, max_size=30)


def shuffled_images(counts: list[int]) -> np.ndarray:
    """Each identity's number as often as it has images, in no order."""
    identity = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    return np.random.default_rng(len(counts)).permutation(identity)


def names(count: int) -> list[str]:
    return [f"m.{number:03d}" for number in range(count)]


# ---------------------------------------------------------------- identities


@given(image_counts, st.floats(0.01, 0.99), seeds)
def test_a_rounded_share_is_kept_out(counts: list[int], share: float, seed: int) -> None:
    able = {name for name, count in zip(names(len(counts)), counts, strict=True) if count >= 2}
    assume(len(able) >= 2)
    kept = hold_out(names(len(counts)), shuffled_images(counts), group="A", share=share, seed=seed)
    assert list(kept) == sorted(set(kept))
    assert set(kept) <= able
    assert 2 <= len(kept) <= len(counts) - 2
    nearest = abs(len(kept) - share * len(counts)) <= 0.5 + 1e-9
    assert nearest or len(kept) in (2, len(able), len(counts) - 2)


@pytest.mark.parametrize(
    ("share", "number"), [(0.05, 2), (0.126, 5), (0.124, 5), (0.9, 36), (0.99, 38)]
)
def test_the_share_is_of_all_identities(share: float, number: int) -> None:
    identity = shuffled_images([3] * 40)
    assert len(hold_out(names(40), identity, group="A", share=share, seed=0)) == number


def test_the_draw_depends_on_seed_and_group_and_names_alone() -> None:
    identity = shuffled_images([3] * 40)

    def draw(group: str = "A", seed: int = 0) -> tuple[str, ...]:
        return hold_out(names(40), identity, group=group, share=0.3, seed=seed)

    assert draw() == draw()
    assert len({draw(), draw(seed=1), draw(seed=2), draw(group="B")}) == 4
    backwards = hold_out(names(40)[::-1], identity[:-1], group="A", share=0.3, seed=0)
    assert backwards == draw()


def test_every_identity_is_as_likely() -> None:
    identity = shuffled_images([2, 9, 30, 2, 2, 2, 2, 2])
    drawn = [
        name
        for seed in range(400)
        for name in hold_out(names(8), identity, group="A", share=0.5, seed=seed)
    ]
    often = [drawn.count(name) for name in names(8)]
    assert min(often) > 160 and max(often) < 240  # of 400 by one half: 4 standard deviations


@pytest.mark.parametrize("counts", [[5, 5, 5], [5, 1, 1, 1, 0], [1, 1, 1, 1]])
def test_too_few_identities_are_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="group A has"):
        hold_out(names(len(counts)), shuffled_images(counts), group="A", share=0.5, seed=0)


# ---------------------------------------------------------------- pairs


def check_folds(
    identity: np.ndarray, rows: np.ndarray, same: np.ndarray, folds: int
) -> list[set[int]]:
    """Check what holds of all pairs; the identities of each fold."""
    assert rows.dtype == np.int32 and rows.shape == (len(same), 2)
    assert same.dtype == np.bool_
    np.testing.assert_array_equal(same, identity[rows[:, 0]] == identity[rows[:, 1]])
    unordered = {frozenset(pair) for pair in rows.tolist()}
    assert len(unordered) == len(rows) and all(len(pair) == 2 for pair in unordered)
    each = len(rows) // folds // 2
    assert each >= 1 and len(rows) == 2 * each * folds
    one_fold = [True] * each + [False] * each
    assert same.tolist() == one_fold * folds
    used = [set(identity[part].ravel().tolist()) for part in rows.reshape(folds, -1, 2)]
    assert sum(map(len, used)) == len(set().union(*used)), "an identity in two folds"
    return used


@settings(max_examples=300, deadline=None)
@given(image_counts, st.data(), st.integers(1, 5), st.integers(2, 400), seeds)
def test_pairs_are_balanced_distinct_and_folds_share_no_identity(
    counts: list[int], data: st.DataObject, folds: int, pairs: int, seed: int
) -> None:
    identity = shuffled_images(counts)
    kept = data.draw(st.sets(st.integers(0, len(counts) - 1)))
    present = [counts[number] for number in kept if counts[number]]
    possible = (
        len(present) >= 2 * folds
        and sum(count >= 2 for count in present) >= folds
        and pairs >= 2 * folds
    )
    options = {"pairs": pairs, "folds": folds, "seed": seed, "group": "A"}
    if not possible:
        with pytest.raises(ValueError, match="folds"):
            held_out_pairs(identity, kept, **options)
        return
    rows, same = held_out_pairs(identity, kept, **options)
    used = check_folds(identity, rows, same, folds)
    assert len(rows) <= pairs
    assert set().union(*used) <= kept
    again = held_out_pairs(identity, sorted(kept, reverse=True), **options)
    np.testing.assert_array_equal(again[0], rows)


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6), st.integers(2, 200), seeds)
def test_one_fold_has_as_many_pairs_as_there_are(counts: list[int], pairs: int, seed: int) -> None:
    assume(max(counts) >= 2)
    identity = shuffled_images(counts)
    every = [identity[a] == identity[b] for a, b in combinations(range(len(identity)), 2)]
    poorer = min(sum(every), len(every) - sum(every))
    rows, _ = held_out_pairs(
        identity, set(range(len(counts))), pairs=pairs, folds=1, seed=seed, group="A"
    )
    assert len(rows) == 2 * min(pairs // 2, poorer)


def test_every_possible_pair_can_be_drawn() -> None:
    identity = np.array([0, 0, 0, 1, 1, 2], np.int32)
    seen: set[frozenset[int]] = set()
    for seed in range(60):
        rows, _ = held_out_pairs(identity, {0, 1, 2}, pairs=4, folds=1, seed=seed, group="A")
        seen |= {frozenset(pair) for pair in rows.tolist()}
    # Two images an identity are enough for two genuine pairs; over the seeds each is used.
    assert seen == {frozenset(pair) for pair in combinations(range(6), 2)}


def test_folds_are_dealt_alike_and_a_large_identity_does_not_fill_one() -> None:
    counts = [400, *[6] * 39]
    identity = shuffled_images(counts)
    rows, same = held_out_pairs(identity, set(range(40)), pairs=600, folds=4, seed=0, group="A")
    used = check_folds(identity, rows, same, 4)
    assert len(rows) == 600
    assert all(len(own) == 10 for own in used)
    genuine = np.bincount(identity[rows[same, 0]])
    assert genuine.max() <= 6 * genuine[genuine > 0].mean()
    assert genuine[0] <= 36  # pairs of nine images, where 400 would have given 79,800


@pytest.mark.parametrize("seed", range(5))
def test_folds_are_dealt_so_that_the_poorest_can_make_many_pairs(seed: int) -> None:
    identity = shuffled_images([2, 5, 3, 4])
    rows, _ = held_out_pairs(identity, {0, 1, 2, 3}, pairs=1000, folds=2, seed=seed, group="A")
    # 5 and 2 images in one fold, 4 and 3 in the other: 11 and 9 genuine pairs, 10 and 12 impostor
    assert len(rows) == 2 * 2 * 9


@pytest.mark.parametrize("seed", range(5))
def test_every_fold_gets_an_identity_with_two_images(seed: int) -> None:
    options = {"pairs": 100, "folds": 3, "seed": seed, "group": "A"}
    rows, _ = held_out_pairs(shuffled_images([1, 1, 1, 2, 2, 2]), set(range(6)), **options)
    assert len(rows) == 6
    with pytest.raises(ValueError, match="6 identities of group A are kept out, 2 of them"):
        held_out_pairs(shuffled_images([1, 1, 1, 1, 2, 2]), set(range(6)), **options)


def test_other_groups_and_seeds_draw_other_pairs() -> None:
    identity = shuffled_images([5] * 30)
    drawn = {
        held_out_pairs(identity, set(range(30)), pairs=60, folds=3, seed=seed, group=group)[
            0
        ].tobytes()
        for seed, group in [(0, "A"), (0, "A"), (1, "A"), (0, "B")]
    }
    assert len(drawn) == 3


def test_seven_hundred_identities_take_no_list_of_all_pairs() -> None:
    identity = np.repeat(np.arange(7000, dtype=np.int32), 50)
    kept = set(range(0, 7000, 10))
    rows, same = held_out_pairs(identity, kept, pairs=6000, folds=10, seed=0, group="A")
    check_folds(identity, rows, same, 10)
    assert len(rows) == 6000


def test_fewer_pairs_than_folds_need_are_refused() -> None:
    with pytest.raises(ValueError, match="5 pairs for 3 folds"):
        held_out_pairs(
            shuffled_images([4] * 20), set(range(20)), pairs=5, folds=3, seed=0, group="A"
        )
