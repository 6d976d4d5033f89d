"""Which identities of several sources are trained on, where each gives a share.

Shares are of identities, as splits and heads count them, and hold in every group: a mixture is as
balanced over groups as its sources are. arXiv:2408.17399 (Neto et al., 2024) mixes 70 % of real and
30 % of synthetic faces group by group; whether it counts identities or images is not known to us.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from mstkd.errors import InputError
from mstkd.seeds import seed_from


def parts(shares: Mapping[str, float], identities: int) -> dict[str, int]:
    """How many of so many identities each source gives: its share, to the nearest identity.

    They sum to `identities`: what rounding down leaves goes to the largest remainders, of equal
    ones to the source that is named first.
    """
    exact = {name: share * identities for name, share in _exact(shares).items()}
    counts = {name: math.floor(one) for name, one in exact.items()}
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: identities - sum(counts.values())]:
        counts[name] += 1
    return counts


def most(shares: Mapping[str, float], counts: Mapping[str, int]) -> int:
    """The most identities of which no source's share exceeds what it has."""
    return min(math.floor(counts[name] / share) for name, share in _exact(shares).items())


def draw(
    names: Mapping[str, Sequence[str]],
    shares: Mapping[str, float],
    *,
    identities: int | None,
    seed: int,
    group: str,
) -> dict[str, frozenset[str]]:
    """The identities of a group that are trained on, by source.

    Those of a source are shuffled by `seed`, its name and the group's, and the first are taken: a
    larger number takes what a smaller one takes, and more, whatever the other sources are.

    Args:
        names: all identities of the group, by source.
        shares: of each source, that sum to 1.
        identities: of all sources together; None takes the most that the shares allow.
        seed: of the draw.
        group: its name.

    Raises:
        InputError: a source has fewer identities than its share, or its share is none.
    """
    available = {name: len(own) for name, own in names.items()}
    total = most(shares, available) if identities is None else identities
    needed = parts(shares, total)
    for name, count in needed.items():
        if available[name] < count or not count:
            share = f"{100 * shares[name]:g} % of {total:,}"
            raise InputError(
                f"data.train.{name}: group {group}",
                found=f"{available[name]:,} identities" if count else f"a share of none, {share}",
                expected=f"{count:,} or more, {share}" if count else "one identity or more",
            )
    return {name: _first(names[name], needed[name], seed, group, name) for name in names}


def _first(names: Sequence[str], count: int, seed: int, group: str, source: str) -> frozenset[str]:
    ordered = sorted(names)
    random = np.random.default_rng(seed_from("source", seed, group, source))
    return frozenset(ordered[i] for i in random.permutation(len(ordered))[:count])


def _exact(shares: Mapping[str, float]) -> dict[str, Fraction]:
    """Shares as they are written, in tenths say, that sum to 1 without rounding."""
    written = {name: Fraction(str(share)) for name, share in shares.items()}
    return {name: share / sum(written.values()) for name, share in written.items()}
