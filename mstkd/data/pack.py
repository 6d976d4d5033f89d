"""Packs: the images of one group, decoded once, in one HDF5 file.

The pixels lie contiguous and uncompressed in it and are read through a memory map: random
batches come some thirty times faster than through h5py and faster still than by decoding.
Shapes: N images, H side in pixels, P pairs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import h5py
import numpy as np
from numpy.typing import NDArray

from mstkd import __version__
from mstkd.artifacts.contents import ATTRIBUTE, attribute
from mstkd.artifacts.records import Provenance
from mstkd.artifacts.sealed import (
    CHECKSUMS,
    DAMAGE,
    OFFSETS,
    Sealed,
    as_bytes,
    as_texts,
    attribute_of,
    create,
    reading,
    reserve,
    seal,
    writing,
)
from mstkd.data.encoded import EncodedImages
from mstkd.data.pixels import PixelImages
from mstkd.errors import InputError, anew

FORMAT, VERSION = "mstkd-pack", 2
UNFINISHED = "0" * 64
MOST_SIDE = 4_096  # pixels
WHOLE = "a whole pack"
Kind = Literal["train", "unlabelled", "verification"]
Images = PixelImages | EncodedImages  # uint8 (N, H, H, 3), to be indexed by rows


class Found(NamedTuple):
    """What the data held of a group before any image was left out."""

    images: int
    identities: int


@dataclass(frozen=True, eq=False)
class Pack:
    """An open pack; images are read from disk when they are indexed, and compared then.

    `images` uint8 (N, H, H, 3) RGB, read-only; `digests` uint8 (N, 16) are equal where all
    pixels are; `identity` int32 (N,) holds rows of `identity_names`; `pairs` int32 (P, 2) holds
    rows of `images` and `same` bool (P,) is True for genuine pairs, both None but in a
    verification pack; `fold` int16 (P,) is None where folds are made of the order. `sha256` tells
    contents apart: it does not depend on how, where or when the pack was written.
    """

    path: Path
    kind: Kind
    group: str
    image_size: int
    sha256: str
    images: Images
    digests: NDArray[np.uint8]
    identity: NDArray[np.int32]
    identity_names: tuple[str, ...]
    paths: tuple[str, ...]
    found: Found
    pairs: NDArray[np.int32] | None
    same: NDArray[np.bool_] | None
    fold: NDArray[np.int16] | None = None
    # Of training images, if there are several: identities are then called `<source>/<name>`.
    sources: tuple[str, ...] = ()

    def source_of(self, identity: str) -> tuple[str, str]:
        """The source of an identity, "" where there is but one, and its name there."""
        source, _, name = identity.partition("/") if self.sources else ("", "", identity)
        return source, name

    def image_paths(self) -> tuple[str, ...]:
        """What each image is called where it was read, in the order of `images`."""
        return self.paths


@dataclass(frozen=True, eq=False)
class Content:
    """What a pack holds, less the pixels; the fields are those of `Pack`."""

    kind: Kind
    group: str
    image_size: int
    paths: Sequence[str]
    identity_names: Sequence[str]
    identity: NDArray[np.int32]
    found: Found
    pairs: NDArray[np.int32] | None = None
    same: NDArray[np.bool_] | None = None
    fold: NDArray[np.int16] | None = None
    sources: Sequence[str] = ()
    made: Provenance | None = None


class Stored(NamedTuple):
    """What is known of the images once they are decoded."""

    digests: NDArray[np.uint8]  # (N, 16), of the pixels
    checksums: NDArray[np.uint64]  # (N,), of what is kept: pixels, or the encoded image
    sizes: NDArray[np.int64] | None  # (N,), bytes of each encoded image; None for pixels
    # (N,), how far the landmarks are from a face's, 1 and more is none; None where none are used
    doubt: NDArray[np.float32] | None = None


# ---------------------------------------------------------------- writing


def create_pack(
    path: Path, content: Content, sizes: NDArray[np.int64] | None = None, *, aligned: bool = False
) -> int:
    """Write all but the images and what comes of decoding them.

    Args:
        path: the file to write.
        content: what it holds.
        sizes: bytes of each encoded image, (N,); None where pixels are kept.
        aligned: whether by landmarks, which may be doubtful.

    Returns:
        The byte at which the images begin: pixels, or encoded images end to end.
    """
    side, count = content.image_size, len(content.paths)
    doubt = np.zeros(count, np.float32) if aligned else None
    unknown = Stored(np.zeros((count, 16), np.uint8), np.zeros(count, np.uint64), sizes, doubt)
    attributes, datasets = _head(content, unknown)
    attributes["sha256"] = UNFINISHED
    with writing(path, "w") as file:
        create(file, attributes, datasets)
        if sizes is None:
            return reserve(file, "images", (count, side, side, 3), "u1")
        return reserve(file, "encoded", (int(sizes.sum()),), "u1")


def seal_pack(path: Path, content: Content, stored: Stored) -> None:
    """Write the digests and checksums, and that of all content.

    The pack is whole if its images are on the disk, which `check_pack` sees.
    """
    with writing(path, "r+") as file:
        seal(file, *_head(content, stored))


def check_pack(path: Path) -> None:
    """Read all of a pack and compare it with its checksums.

    Raises:
        InputError: as `open_pack`; or an image is not what was written.
    """
    open_pack(path)
    with reading(path) as file:
        Sealed(path, file).compare_large()


def _head(content: Content, stored: Stored) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Attributes and data sets but for the images."""
    attributes: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "kind": content.kind,
        "group": content.group,
        "image_size": content.image_size,
        "package_version": __version__,
        "found": content.found,
        "sha256": _sha256(content, stored.digests),
    }
    if content.sources:
        attributes["sources"] = " ".join(content.sources)
    if content.made is not None:
        attributes[ATTRIBUTE] = attribute(content.made)
    datasets: dict[str, NDArray[Any]] = {
        "identity": content.identity.astype(np.int32),
        "identity_names": as_bytes(content.identity_names),
        "paths": as_bytes(content.paths),
        "digests": stored.digests,
        CHECKSUMS: stored.checksums,
    }
    if content.pairs is not None and content.same is not None:
        datasets["pairs"] = content.pairs.astype(np.int32)
        datasets["same"] = content.same.astype(np.bool_)
    if content.fold is not None:
        datasets["fold"] = content.fold.astype(np.int16)
    if stored.doubt is not None:
        datasets["doubt"] = stored.doubt.astype(np.float32)
    if stored.sizes is not None:
        ends = np.cumsum(stored.sizes, dtype=np.int64)
        datasets[OFFSETS] = np.concatenate([[0], ends])
    return attributes, datasets


def _sha256(content: Content, digests: NDArray[np.uint8]) -> str:
    head = {
        "kind": content.kind,
        "group": content.group,
        "image_size": content.image_size,
        "names": list(content.identity_names),
        "paths": list(content.paths),
        "pairs": None if content.pairs is None else len(content.pairs),
        **({"sources": list(content.sources)} if content.sources else {}),
    }
    digest = hashlib.sha256(json.dumps(head).encode())
    digest.update(digests.tobytes())
    digest.update(content.identity.astype("<i4").tobytes())
    if content.pairs is not None and content.same is not None:
        digest.update(content.pairs.astype("<i4").tobytes())
        digest.update(content.same.astype("u1").tobytes())
    if content.fold is not None:
        digest.update(content.fold.astype("<i2").tobytes())
    return digest.hexdigest()


def bad_file(pack: Path) -> Path:
    """The list of bad images beside a pack: a line for each, its path, a tab, the reason."""
    return pack.with_name(f"{pack.name}.bad.txt")


# ---------------------------------------------------------------- reading


def open_pack(path: Path, *kinds: Kind) -> Pack:
    """Open a pack, of one of `kinds` if any are given.

    Raises:
        InputError: not a pack, one of another kind or version, or one that is cut off or
            otherwise damaged.
    """
    if not path.is_file():
        raise InputError(path, found="no such file", expected="a pack")
    if not h5py.is_hdf5(path):
        raise InputError(path, found="not an HDF5 file", expected="a pack")
    try:
        with reading(path) as file:
            return _read(path, file, kinds)
    except DAMAGE as error:
        found = f"a damaged file ({' '.join(str(error).split())})"
        raise InputError(path, found=found, expected=anew(WHOLE, path)) from None


def _read(path: Path, file: Any, kinds: tuple[Kind, ...]) -> Pack:
    form = attribute_of(file, "format")
    if form != FORMAT:
        found = f"HDF5 with format {form!r}"
        raise InputError(path, found=found, expected=f"a pack, format {FORMAT!r}")
    version = attribute_of(file, "version")
    if version != VERSION:
        found = f"a pack of version {version}"
        raise InputError(path, found=found, expected=anew(f"version {VERSION}", path))
    sealed = Sealed(path, file)
    attributes = sealed.attributes
    kind = attributes["kind"]
    if kinds and kind not in kinds:
        expected = f"a {' or '.join(kinds)} pack"
        raise InputError(path, found=f"a {kind} pack", expected=expected)
    if attributes["sha256"] == UNFINISHED:
        raise InputError(path, found="an unfinished pack", expected=anew(WHOLE, path))
    _check_shapes(path, sealed, kind)
    read = sealed.datasets
    pack = Pack(
        path=path,
        kind=kind,
        group=str(attributes["group"]),
        image_size=int(attributes["image_size"]),
        sha256=str(attributes["sha256"]),
        images=_images(path, sealed, int(attributes["image_size"])),
        digests=read["digests"],
        identity=read["identity"],
        identity_names=as_texts(read["identity_names"]),
        paths=as_texts(read["paths"]),
        found=Found(*map(int, attributes["found"])),
        pairs=read.get("pairs"),
        same=read.get("same"),
        fold=read.get("fold"),
        sources=tuple(str(attributes.get("sources", "")).split()),
    )
    _check_rows(pack)
    sealed.compare()
    return pack


def _check_shapes(path: Path, sealed: Sealed, kind: str) -> None:
    """Refuse data sets of another type or shape than a pack has, too few and too many."""
    if kind not in get_args(Kind):
        raise ValueError(f"a pack of kind {kind}")
    side = int(sealed.attributes["image_size"])
    if not 0 < side <= MOST_SIDE:
        raise ValueError(f"images of {side} pixels")
    rows = sealed.datasets.get(OFFSETS)
    count = len(sealed.large) if rows is None else len(rows) - 1
    expected: dict[str, tuple[Any, tuple[int | None, ...]]] = {
        "identity": (np.int32, (count,)),
        "identity_names": (np.uint8, (None,)),
        "paths": (np.uint8, (None,)),
        "digests": (np.uint8, (count, 16)),
        CHECKSUMS: (np.uint64, (count,)),
    }
    if "doubt" in sealed.datasets:
        expected["doubt"] = (np.float32, (count,))
    if kind == "verification":
        pairs = len(sealed.datasets.get("pairs", ()))
        expected |= {"pairs": (np.int32, (pairs, 2)), "same": (np.bool_, (pairs,))}
        if "fold" in sealed.datasets:
            expected["fold"] = (np.int16, (pairs,))
    if sealed.name == "encoded":
        expected |= {OFFSETS: (np.int64, (count + 1,)), "encoded": (np.uint8, (None,))}
    else:
        expected["images"] = (np.uint8, (None, side, side, 3))
    sealed.expect(expected)


def _images(path: Path, sealed: Sealed, side: int) -> Images:
    if sealed.name == "encoded":
        offsets = sealed.datasets[OFFSETS]
        return EncodedImages(
            sealed.large, offsets, image_size=side, where=path, pieces=sealed.pieces()
        )
    return PixelImages(sealed.large, sealed.pieces(), where=path)


def _check_rows(pack: Pack) -> None:
    for what, rows, limit in (
        ("identity", pack.identity, len(pack.identity_names)),
        ("pairs", pack.pairs, len(pack.images)),
    ):
        if rows is not None and rows.size and (rows.min() < 0 or rows.max() >= limit):
            raise ValueError(f"{what} outside 0 to {limit - 1}")
    if len(pack.paths) != len(pack.images):
        raise ValueError(f"{len(pack.paths)} paths for {len(pack.images)} images")
