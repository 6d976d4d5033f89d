"""A list of verification pairs made from folders of images, as `data.verification` reads it."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mstkd.artifacts.atomic import write_text
from mstkd.config.data import Suffixes
from mstkd.data.formats.layouts import read_training_folder, training_groups
from mstkd.data.heldout import held_out_pairs
from mstkd.data.sources import FaceImage
from mstkd.errors import InputError

WITH_FOLDS = "A CSV with a column fold may give others, or mix the list"
COLUMNS = ("path1", "path2", "same", "group", "fold", "identity1", "identity2")


def in_two_blocks(same: NDArray[np.bool_]) -> bool:
    """Whether all pairs (P,) of one kind come before all of the other."""
    return int((same[1:] != same[:-1]).sum()) == 1


def make_pairs(
    root: Path,
    *,
    output: Path,
    groups: Sequence[str] = (),
    pairs: int = 6000,
    folds: int = 10,
    seed: int = 0,
    more: Suffixes = None,
) -> None:
    """Write a CSV of pairs within each group: balanced, and no identity in two folds of a group.

    Every group gets as many pairs, half of them genuine, fold after fold as in RFW's lists. Depends
    on the names of groups, identities and images and on `seed`, and on nothing else.

    Args:
        root: a folder <group>/<identity>/<image>.
        output: the CSV; paths in it are told from its own folder, in which `root` must lie.
        groups: folders of `root`; all of them if none is given.
        pairs: of a group; fewer where the poorest fold of a group has not so many.
        folds: parts of equal size.
        seed: of the draw.
        more: further endings of images.

    Raises:
        InputError: a fault of the folders, too few identities for the folds, or a `root` outside
            the folder of `output`.
    """
    inside = Path(os.path.relpath(root.resolve(), output.parent.resolve()))
    if ".." in inside.parts:
        found = f"a list in {output.parent}"
        raise InputError(output, found=found, expected=f"one in {root} or a folder above it")
    names = groups or training_groups(root)
    images = {group: read_training_folder(root, group, more) for group in names}
    drawn = {group: _draw(own, group, root, pairs, folds, seed) for group, own in images.items()}
    fewest = min(map(len, drawn.values()))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for group, own in images.items():
        rows = drawn[group]
        if len(rows) > fewest:
            rows = _draw(own, group, root, fewest, folds, seed)
        for number, (one, other) in enumerate(rows):
            ends = own[one], own[other]
            same = ends[0].identity == ends[1].identity
            paths = [(inside / image.name).as_posix() for image in ends]
            fold = number * folds // len(rows)
            persons = [image.identity for image in ends]
            writer.writerow([*paths, int(same), group, fold, *persons])
    write_text(output, text.getvalue())


def _draw(
    images: Sequence[FaceImage], group: str, root: Path, pairs: int, folds: int, seed: int
) -> list[list[int]]:
    """Rows of `images`, a pair each (P, 2)."""
    names = sorted({image.identity for image in images})
    number_of = {name: number for number, name in enumerate(names)}
    identity = np.array([number_of[image.identity] for image in images], np.int32)
    try:
        drawn, _ = held_out_pairs(
            identity, range(len(names)), pairs=pairs, folds=folds, seed=seed, group=group
        )
    except ValueError:
        able = int((np.bincount(identity) >= 2).sum())
        found = f"{len(names)} identities, {able} of them with two images or more"
        expected = f"{2 * folds} and {folds} for {folds} folds, and {2 * folds} pairs or more"
        raise InputError(root / group, found=found, expected=expected) from None
    return drawn.tolist()
