"""The two pictures of a pair: of the packs that its scores were made of, or of a folder of images.

No path is followed that leads out of the folders which a person named.
"""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mstkd.artifacts.confined import inside
from mstkd.artifacts.contents import format_of
from mstkd.artifacts.told import made_by
from mstkd.config.data import Suffixes
from mstkd.data.decode import BadImage, decode, formats_of
from mstkd.data.formats.layouts import ending, how_to_read
from mstkd.data.pack import FORMAT, Pack, open_pack
from mstkd.errors import InputError
from mstkd.evaluation.scores import ScoreTable

MOST_SIDE = 224  # pixels of a picture on the page

Pixels = NDArray[np.uint8]


class Folders(NamedTuple):
    """What may be read: the results, and images elsewhere if they were named.

    `more` are endings of further formats of those images.
    """

    results: Path
    images: Path | None = None
    more: Suffixes = None

    @property
    def named(self) -> list[Path]:
        return [self.results, *([] if self.images is None else [self.images])]


class Pictures(Protocol):
    """Where the pictures of a table's pairs are."""

    def pixels(self, pair: int, side: int) -> Pixels:
        """The picture uint8 (H, W, 3), RGB, of one side, 0 or 1, of the pair in a row.

        Raises:
            InputError: it cannot be had.
        """
        ...


class OfPacks:
    """Pictures in the packs whose pairs, one after the other, are the rows of a table."""

    def __init__(self, packs: Sequence[Pack]) -> None:
        self._packs = packs
        sizes = [0 if pack.pairs is None else len(pack.pairs) for pack in packs]
        self._ends = list(itertools.accumulate(sizes, initial=0))
        self.pairs = self._ends[-1]

    def pixels(self, pair: int, side: int) -> Pixels:
        place = int(np.searchsorted(self._ends, pair, side="right")) - 1
        pack = self._packs[place]
        assert pack.pairs is not None, "a verification pack"
        row = int(pack.pairs[pair - self._ends[place], side])
        return np.asarray(pack.images[row : row + 1][0])


class OfFolder:
    """Pictures below a folder, by the names that a table has for them."""

    def __init__(self, folder: Path, table: ScoreTable, more: Suffixes = None) -> None:
        self._folder, self._table, self._more = folder, table, more

    def pixels(self, pair: int, side: int) -> Pixels:
        codes = (self._table.image1, self._table.image2)[side]
        assert codes is not None, "a table with images' names"
        named = self._folder / self._table.images[int(codes[pair])]
        path, expected = inside(named, self._folder), "a picture"
        if not path.is_file():
            raise InputError(named, found="no such file", expected=expected)
        try:
            return decode(path, formats=formats_of(self._more))
        except BadImage as bad:
            hint = how_to_read([ending(path.name, self._more)])
            raise InputError(named, found=bad.reason, expected=expected + hint) from None


def pictures_of(scores: Path, table: ScoreTable, folders: Folders) -> Pictures:
    """Where the pictures of a table's pairs are.

    Args:
        scores: the table's file.
        table: as it was read.
        folders: what may be read.

    Raises:
        InputError: nowhere, as far as the table says, or out of the folders.
    """
    packs = _packs(scores, folders) if scores.suffix == ".h5" else []
    if packs:
        found = OfPacks(packs)
        if found.pairs != len(table):
            told = f"{found.pairs:,} pairs in the packs that it was made of"
            raise InputError(scores, found=told, expected=f"its {len(table):,}")
        return found
    if folders.images is not None and table.images:
        return OfFolder(folders.images, table, folders.more)
    told = "images without a folder" if table.images else "neither packs nor names of images"
    raise InputError(scores, found=told, expected="--images, where the named images lie")


def _packs(scores: Path, folders: Folders) -> list[Pack]:
    """The verification packs that scores say they were made of."""
    made = made_by(scores)
    packs = []
    for source in [] if made is None else made.sources:
        if not source.path.endswith(".h5"):
            continue
        path = inside(Path(os.path.normpath(scores.parent / source.path)), *folders.named)
        if path.is_file() and format_of(path) != FORMAT:
            continue  # the cache, of the fused spaces
        pack = open_pack(path, "verification")
        if pack.sha256 != source.sha256:
            expected = f"the pack that {scores} was made of"
            raise InputError(path, found="another pack", expected=expected)
        packs.append(pack)
    return packs


def png(pixels: Pixels) -> bytes:
    """A picture as PNG, made smaller if it is larger than `MOST_SIDE`."""
    image = Image.fromarray(pixels)
    image.thumbnail((MOST_SIDE, MOST_SIDE))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
