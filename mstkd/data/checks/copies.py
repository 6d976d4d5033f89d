"""Images that occur again, equal in every pixel: in training and verification, or in training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from mstkd.artifacts.findings import EXAMPLES, Finding, Severity
from mstkd.data.checks.evidence import Packs, Place, counted, finding_of, image_names


def copied_images(packs: Packs) -> list[list[Place]]:
    """Sets of two images or more that are equal in every pixel, in the order of the packs."""
    digests = np.concatenate([pack.digests for pack in packs])
    keys = digests.view(f"S{digests.shape[1]}").ravel()
    _, which, times = np.unique(keys, return_inverse=True, return_counts=True)
    starts = np.cumsum([0, *(len(pack.images) for pack in packs)])
    sets: dict[int, list[Place]] = {}
    for index in np.flatnonzero(times[which] > 1).tolist():
        number = int(np.searchsorted(starts, index, side="right")) - 1
        place = packs[number], index - int(starts[number])
        sets.setdefault(int(which[index]), []).append(place)
    return list(sets.values())


def copies_across(copies: Iterable[Sequence[Place]], severity: Severity) -> list[Finding]:
    """Images of verification that are in training too."""
    sets = []
    for places in copies:
        trained = [place for place in places if place[0].kind == "train"]
        tested = [place for place in places if place[0].kind == "verification"]
        if trained and tested:
            sets.append((trained, tested))
    if not sets:
        return []
    trained_images, tested_images = (sum(len(both[i]) for both in sets) for i in (0, 1))
    message = (
        f"{counted(tested_images, 'verification image')} and "
        f"{counted(trained_images, 'training image')} are copies of each other, pixel for pixel."
    )
    return [_copies("image overlap", severity, message, [(a[0], b[0]) for a, b in sets])]


def copies_in_training(copies: Iterable[Sequence[Place]], *, within_one: bool) -> list[Finding]:
    """Training images that occur again: all under one identity, or under two or more."""
    sets = []
    for places in copies:
        trained = [place for place in places if place[0].kind == "train"]
        identities = {(pack.group, int(pack.identity[row])) for pack, row in trained}
        if len(trained) > 1 and (len(identities) == 1) == within_one:
            sets.append(trained)
    if not sets:
        return []
    images = sum(map(len, sets))
    if within_one:
        again = counted(images - len(sets), "training image")
        message = f"Copies of another image of the same identity, pixel for pixel: {again}."
        shown = [(places[0], places[1]) for places in sets]
        return [_copies("copies of one identity", "note", message, shown)]
    message = (
        f"{images:,} training images are copies of each other ({counted(len(sets), 'picture')}) "
        "under two identities or more."
    )
    shown = [(places[0], _other_identity(places)) for places in sets]
    return [_copies("copies of two identities", "warning", message, shown)]


def _other_identity(places: Sequence[Place]) -> Place:
    first, row = places[0]
    return next(
        (pack, other)
        for pack, other in places
        if (pack.group, pack.identity[other]) != (first.group, first.identity[row])
    )


def _copies(
    check: str, severity: Severity, message: str, pairs: Sequence[tuple[Place, Place]]
) -> Finding:
    names = iter(image_names([place for pair in pairs[:EXAMPLES] for place in pair]))
    examples = [f"{one} = {other}" for one, other in zip(names, names, strict=True)]
    seen = [place for pair in pairs for place in pair]
    return finding_of(check, severity, message, examples, seen)
