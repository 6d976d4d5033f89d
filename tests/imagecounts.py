"""How many images an experiment has, made up for the tests of what it costs."""

from __future__ import annotations

from collections.abc import Iterable

from mstkd.bench.work import Count, Counts


def a_hundred_of_each(groups: Iterable[str]) -> Counts:
    """100 images of 10 identities to train on, and 50 in the pairs, of each group."""
    names = list(groups)
    return Counts(
        train={group: Count(images=100, identities=10) for group in names},
        verification=dict.fromkeys(names, 50),
        heldout={},
        unlabelled=0,
        source="",
    )
