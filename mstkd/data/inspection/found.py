"""What an inspection tells of a group, whatever its kind: counts, headers of a sample, problems."""

from __future__ import annotations

import os
import statistics
import struct
import warnings
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mstkd.config.data import Suffixes
from mstkd.data.decode import called, formats_of
from mstkd.data.formats.layouts import (
    SYSTEM_FOLDERS,
    ending,
    how_to_read,
    is_image,
    is_utf8,
    leads_to_folder,
)
from mstkd.data.pairing import WITH_FOLDS, in_two_blocks
from mstkd.data.sources import Source
from mstkd.errors import InputError, printable

SAMPLED = 64  # images of a group whose headers are read
EXAMPLES = 5  # problems of one sort that are told in full
FOLDS = 10  # that are made of a list unless the settings say otherwise
NAMED = 20  # identities named in one problem: RFW has 13 in two groups

Item = TypeVar("Item")
Sample = Sequence[tuple[str, Source]]  # what to call an image, and where it lies


@dataclass(frozen=True)
class Headers:
    """What the headers of a sample of images say, most frequent first."""

    sampled: int
    sizes: Mapping[str, int]  # "<width>x<height>" in pixels to a number of images
    modes: Mapping[str, int]  # Pillow's names, "RGB", "L", ...


@dataclass(frozen=True)
class GroupFound:
    """A group; None where its kind of data does not tell."""

    name: str
    images: int
    identities: int | None
    images_an_identity: tuple[int, float, int] | None  # smallest, median, largest number
    single: int | None  # identities with one image
    genuine: int | None
    impostor: int | None
    folds: (
        int | None
    )  # that a list tells, or that blocks of as many genuine, then impostor pairs do
    headers: Headers


@dataclass(frozen=True)
class Inspection:
    """What was found at `path`; every problem is one line that names a file or a line.

    Notes are what is worth knowing and may be as it should be.
    """

    path: Path
    kind: str
    groups: tuple[GroupFound, ...]
    problems: list[str]
    notes: list[str]


class Problems:
    """Problems as they are found: the first few of each sort, and how many there were.

    `notes` are kept apart. `more` are further endings of images that are read.
    """

    def __init__(self, more: Suffixes = None) -> None:
        self.more = more
        self._count: Counter[str] = Counter()
        self._first: defaultdict[str, list[str]] = defaultdict(list)
        self._notes: Problems | None = None

    @property
    def notes(self) -> Problems:
        if self._notes is None:
            self._notes = Problems()
        return self._notes

    def add(self, sort: str, line: str) -> None:
        self._count[sort] += 1
        if len(self._first[sort]) < EXAMPLES:
            self._first[sort].append(printable(line))

    def fault(self, fault: InputError) -> None:
        self.add("faults", str(fault))

    def take(self, others: Problems) -> None:
        if others._notes is not None:
            self.notes.take(others._notes)
        self._count.update(others._count)
        for sort, first in others._first.items():
            self._first[sort] = (self._first[sort] + first)[:EXAMPLES]

    def lines(self) -> list[str]:
        lines = []
        for sort, first in self._first.items():
            lines += first
            if self._count[sort] > len(first):
                lines.append(f"... and {self._count[sort] - len(first):,} more {sort}")
        return lines


def entries_of(folder: Path, problems: Problems) -> tuple[list[str], list[str]]:
    """Names of the folders, sorted, and of the images in `folder`, hidden ones passed over.

    The kind of an entry comes with its name: no file is looked at by itself.
    """
    folders: list[str] = []
    images: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                if name in SYSTEM_FOLDERS:
                    problems.notes.add(
                        "folders", f"{folder / name}: a system's folder, passed over"
                    )
                    continue
                if not is_utf8(name):
                    problems.add("names", f"{folder}: the name {name!r} is not UTF-8")
                elif is_image(entry, problems.more):
                    images.append(name)
                elif leads_to_folder(entry):
                    folders.append(name)
                elif other := ending(name, problems.more):
                    line = f"{folder / name}: an image of a format that is not read, passed over"
                    line += how_to_read([other])
                    problems.add("images of other formats", line)
    except OSError as error:
        problems.add("unreadable folders", f"{folder}: {error.strerror}")
    return sorted(folders), images


def spread(items: Sequence[Item]) -> list[Item]:
    """At most `SAMPLED` items, evenly spread."""
    taken = min(SAMPLED, len(items))
    return [items[place * len(items) // taken] for place in range(taken)]


def describe(
    name: str,
    counts: Sequence[int] | None,
    sample: Sample,
    problems: Problems,
    *,
    images: int = 0,
    same: NDArray[np.bool_] | None = None,
) -> GroupFound:
    """`counts` are the images of each identity; without it, `images` is their number."""
    if same is not None and len(same) >= FOLDS and in_two_blocks(same):
        text = f"{name}: all pairs of one kind come first: contiguous folds have one kind alone. "
        problems.add("pairs in two blocks", text + f"{WITH_FOLDS}.")
    return GroupFound(
        name=name,
        images=images if counts is None else sum(counts),
        identities=None if counts is None else len(counts),
        images_an_identity=(
            (min(counts), float(statistics.median(counts)), max(counts)) if counts else None
        ),
        single=None if counts is None else counts.count(1),
        genuine=None if same is None else int(same.sum()),
        impostor=None if same is None else int((~same).sum()),
        folds=None if same is None else _folds(same),
        headers=_headers(sample, problems),
    )


def _folds(same: NDArray[np.bool_]) -> int | None:
    edges = np.flatnonzero(same[1:] != same[:-1]) + 1
    runs = np.diff([0, *edges, len(same)])
    if same.any() and same[0] and len(runs) % 2 == 0 and runs[0] > 1 and (runs == runs[0]).all():
        return len(runs) // 2
    return None


def _headers(sample: Sample, problems: Problems) -> Headers:
    sizes: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    formats = formats_of(problems.more)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # nothing is decoded
        for name, source in sample:
            try:
                # From a file Pillow reads as much as it needs for the header.
                file = source if isinstance(source, Path) else BytesIO(source.read_bytes())
                with Image.open(file, formats=formats) as image:
                    sizes[f"{image.width}x{image.height}"] += 1
                    modes[image.mode] += 1
                continue
            except UnidentifiedImageError:
                reason = f"no {called(formats)} image"
                reason += how_to_read([ending(name, problems.more)])
            except Image.DecompressionBombError as error:
                reason = str(error)
            except OSError as error:
                reason = error.strerror or str(error)
            except (SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
                reason = f"damaged: {error}"
            where = source if isinstance(source, Path) else name
            problems.add("unreadable headers", f"{where}: its header cannot be read: {reason}")
    return Headers(len(sample), dict(sizes.most_common()), dict(modes.most_common()))


def name_shared(where: Path, groups: Mapping[str, Iterable[str]], problems: Problems) -> None:
    """Add the identities that stand under several of `groups` as one problem."""
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for group, identities in groups.items():
        for identity in identities:
            homes[identity].append(group)
    shared = [f"{name} ({', '.join(own)})" for name, own in homes.items() if len(own) > 1]
    if shared:
        text = f"{where}: {len(shared):,} identities in more than one group: {some(sorted(shared))}"
        problems.add("identities in two groups", text)


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
