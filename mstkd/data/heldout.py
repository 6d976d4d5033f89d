"""Verification pairs of training identities kept out, so that no epoch is chosen on the test set.

Pairs are laid out as RFW's: fold after fold, in each the genuine pairs and then as many impostor
pairs; no identity is in two folds. Shapes: N images, F images of a fold, P pairs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from mstkd.seeds import seed_from

Integers = NDArray[np.int64]


def hold_out(
    identity_names: Sequence[str],
    identity: NDArray[np.int32],
    *,
    group: str,
    share: float,
    seed: int,
) -> tuple[str, ...]:
    """Names of the identities of a group that are kept out of training, sorted.

    A random `share` of all identities, rounded, but at least two, and two at least are left. They
    are drawn by name among those with two images or more, and are all of these where there are
    fewer. Depends on nothing but the arguments, and not on the order of identities or images.

    Args:
        identity_names: all identities of the group.
        identity: each image's row of `identity_names`, (N,).
        group: its name.
        share: above 0 and below 1.
        seed: of the draw.

    Raises:
        ValueError: fewer than four identities, or fewer than two with two images or more.
    """
    images = np.bincount(identity, minlength=len(identity_names))
    able = sorted(name for name, count in zip(identity_names, images, strict=True) if count >= 2)
    if len(identity_names) < 4 or len(able) < 2:
        raise ValueError(
            f"group {group} has {len(identity_names)} identities, {len(able)} of them with two "
            "images or more; four and two are the fewest to keep some out"
        )
    number = min(max(2, int(share * len(identity_names) + 0.5)), len(identity_names) - 2, len(able))
    random = np.random.default_rng(seed_from("held out", seed, group))
    return tuple(sorted(able[i] for i in random.permutation(len(able))[:number]))


def held_out_pairs(
    identity: NDArray[np.int32],
    kept: Collection[int],
    *,
    pairs: int,
    folds: int,
    seed: int,
    group: str,
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Pairs int32 (P, 2), rows of `identity`, and bool (P,), which of them are genuine.

    P is `pairs`, rounded down so that all folds are of one size and half genuine, or what the
    poorest fold allows. No more images of an identity are used than that takes, so that no
    identity with many images fills a fold.

    Args:
        identity: each image's identity, (N,).
        kept: the identities to make pairs of.
        pairs: how many are wanted.
        folds: how many parts of equal size.
        seed: of the draw.
        group: part of the seed, so that groups are drawn apart.

    Raises:
        ValueError: a genuine and an impostor pair for every fold cannot be had.
    """
    random = np.random.default_rng(seed_from("held-out pairs", seed, group))
    rows = random.permutation(np.flatnonzero(np.isin(identity, list(kept))))
    rows = rows[np.argsort(identity[rows], kind="stable")]  # by identity, at random within it
    _, begins, counts = np.unique(identity[rows], return_index=True, return_counts=True)
    if pairs < 2 * folds:
        raise ValueError(f"{pairs} pairs for {folds} folds, fewer than two a fold")
    able = int((counts >= 2).sum())
    if len(counts) < 2 * folds or able < folds:
        raise ValueError(
            f"{len(counts)} identities of group {group} are kept out, {able} of them with two "
            f"images or more; {folds} folds need {2 * folds} and {folds}"
        )
    dealt = _deal(counts, folds, random)
    each = min(pairs // (2 * folds), *(min(_possible(counts[own])) for own in dealt))
    drawn = []
    for own in dealt:
        sizes = _fewest_images(counts[own], each)
        used = [rows[begins[i] : begins[i] + size] for i, size in zip(own, sizes, strict=True)]
        drawn.append(np.concatenate(used)[_draw(sizes, each, random)])
    same = np.tile(np.arange(2 * each) < each, folds)
    return np.concatenate(drawn).astype(np.int32), same


def _deal(counts: Integers, folds: int, random: np.random.Generator) -> list[Integers]:
    """Positions in `counts`, the numbers of images, by fold.

    Those with most images go first, one to each fold in turn, the largest of a turn to the fold
    that can make the fewest genuine pairs so far: so every fold gets one with two images.
    """
    order = random.permutation(len(counts))
    order = order[np.argsort(-counts[order], kind="stable")]
    dealt: list[list[int]] = [[] for _ in range(folds)]
    genuine = np.zeros(folds, np.int64)
    for begin in range(0, len(order), folds):
        poorest = np.argsort(genuine, kind="stable")
        for fold, position in zip(poorest, order[begin : begin + folds], strict=False):
            dealt[fold].append(int(position))
            genuine[fold] += counts[position] * (counts[position] - 1) // 2
    return [np.array(own) for own in dealt]


def _possible(sizes: Integers) -> tuple[int, int]:
    """How many genuine and impostor pairs identities with so many images can make."""
    genuine = int((sizes * (sizes - 1)).sum()) // 2
    images = int(sizes.sum())
    return genuine, images * (images - 1) // 2 - genuine


def _fewest_images(counts: Integers, each: int) -> Integers:
    """Images to use of each identity: at most one number, the least that makes enough pairs."""
    most = 2
    while min(_possible(np.minimum(counts, most))) < each:
        most += 1
    return np.minimum(counts, most)


def _draw(sizes: Integers, each: int, random: np.random.Generator) -> Integers:
    """Pairs (2 * each, 2) of the images of a fold, which lie identity by identity.

    All possible pairs are numbered without being listed: an image's genuine partners are those
    from it to the end of its identity, its impostor partners those from there on.
    """
    images = np.arange(sizes.sum())  # (F,)
    next_identity = np.repeat(np.cumsum(sizes), sizes)  # (F,)
    parts = []
    for first, end in (
        (images + 1, next_identity),
        (next_identity, np.full(len(images), len(images))),
    ):
        total = np.cumsum(end - first)  # (F,), the pairs of an image and of those before it
        number = random.choice(total[-1], each, replace=False)
        image = np.searchsorted(total, number, side="right")
        partner = end[image] - (total[image] - number)
        parts.append(np.stack([image, partner], axis=1))
    return np.concatenate(parts)
