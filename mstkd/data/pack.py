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
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from mstkd import __version__
from mstkd.artifacts.contents import ATTRIBUTE, attribute
from mstkd.artifacts.records import Provenance
from mstkd.data.encoded import EncodedImages
from mstkd.errors import InputError

FORMAT, VERSION = "mstkd-pack", 1
UNFINISHED = "0" * 64
Kind = Literal["train", "unlabelled", "verification"]
Images = NDArray[np.uint8] | EncodedImages  # uint8 (N, H, H, 3), to be indexed by rows


class Found(NamedTuple):
    """What the data held of a group before any image was left out."""

    images: int
    identities: int


@dataclass(frozen=True, eq=False)
class Pack:
    """An open pack; images are read from disk when they are indexed.

    `images` uint8 (N, H, H, 3) RGB, read-only; `digests` uint8 (N, 16) are equal where all
    pixels are; `identity` int32 (N,) holds rows of `identity_names`; `pairs` int32 (P, 2) holds
    rows of `images` and `same` bool (P,) is True for genuine pairs, both None but in a
    verification pack. `sha256` tells contents apart: it does not depend on how, where or when
    the pack was written.
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
    found: Found
    pairs: NDArray[np.int32] | None
    same: NDArray[np.bool_] | None

    def image_paths(self) -> tuple[str, ...]:
        """What each image is called where it was read, in the order of `images`."""
        with h5py.File(self.path, "r") as file:
            return tuple(file["paths"].asstr()[:].tolist())


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
    made: Provenance | None = None


# ---------------------------------------------------------------- writing


def create_pack(
    path: Path, content: Content, encoded_sizes: NDArray[np.int64] | None = None
) -> int:
    """Write all but the images and their digests.

    Args:
        path: the file to write.
        content: what it holds.
        encoded_sizes: bytes of each encoded image, (N,); None where pixels are kept.

    Returns:
        The byte at which the images begin: pixels, or encoded images end to end.
    """
    text = h5py.string_dtype("utf-8")
    side, count = content.image_size, len(content.paths)
    with h5py.File(path, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        file.attrs["kind"] = content.kind
        file.attrs["group"] = content.group
        file.attrs["image_size"] = side
        file.attrs["package_version"] = __version__
        file.attrs["found"] = content.found
        if content.made is not None:
            file.attrs[ATTRIBUTE] = attribute(content.made)
        # Of its final length, so that sealing overwrites it in place.
        file.attrs["sha256"] = np.bytes_(UNFINISHED)
        file.create_dataset("identity", data=content.identity)
        file.create_dataset("identity_names", data=content.identity_names, dtype=text)
        file.create_dataset("paths", data=content.paths, dtype=text)
        file.create_dataset("digests", (count, 16), np.uint8)
        if content.pairs is not None:
            file.create_dataset("pairs", data=content.pairs)
            file.create_dataset("same", data=content.same)
        if encoded_sizes is None:
            return _reserve(file, "images", (count, side, side, 3))
        offsets = np.concatenate([[0], np.cumsum(encoded_sizes)])
        file.create_dataset("offsets", data=offsets.astype(np.int64))
        return _reserve(file, "encoded", (int(offsets[-1]),))


def seal_pack(path: Path, content: Content, digests: NDArray[np.uint8]) -> None:
    """Write the images' digests (N, 16) and the digest of all content: the pack is whole."""
    with h5py.File(path, "r+") as file:
        file["digests"][:] = digests
        file.attrs.modify("sha256", np.bytes_(_sha256(content, digests)))


def _reserve(file: Any, name: str, shape: tuple[int, ...]) -> int:
    """A contiguous data set of bytes that are written later; where it begins."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple(shape)
    data = h5py.h5d.create(file.id, name.encode(), h5py.h5t.STD_U8LE, space, layout)
    return int(data.get_offset())


def _sha256(content: Content, digests: NDArray[np.uint8]) -> str:
    head = {
        "kind": content.kind,
        "group": content.group,
        "image_size": content.image_size,
        "names": list(content.identity_names),
        "paths": list(content.paths),
        "pairs": None if content.pairs is None else len(content.pairs),
    }
    digest = hashlib.sha256(json.dumps(head).encode())
    digest.update(digests.tobytes())
    digest.update(content.identity.astype("<i4").tobytes())
    if content.pairs is not None and content.same is not None:
        digest.update(content.pairs.astype("<i4").tobytes())
        digest.update(content.same.astype("u1").tobytes())
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
        with h5py.File(path, "r") as file:
            return _read(path, file, kinds)
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        found = f"a damaged file ({' '.join(str(error).split())})"
        raise InputError(path, found=found, expected="a whole pack; pack anew") from None


def _read(path: Path, file: Any, kinds: tuple[Kind, ...]) -> Pack:
    attributes = dict(file.attrs)
    if attributes.get("format") != FORMAT:
        found = f"HDF5 with format {attributes.get('format')!r}"
        raise InputError(path, found=found, expected=f"a pack, format {FORMAT!r}")
    if attributes.get("version") != VERSION:
        found = f"a pack of version {attributes.get('version')}"
        raise InputError(path, found=found, expected=f"version {VERSION}; pack anew")
    if kinds and attributes["kind"] not in kinds:
        expected = f"a {' or '.join(kinds)} pack"
        raise InputError(path, found=f"a {attributes['kind']} pack", expected=expected)
    sha256 = bytes(attributes["sha256"]).decode("ascii")
    if sha256 == UNFINISHED:
        raise InputError(path, found="an unfinished pack", expected="a whole pack; pack anew")
    side = int(attributes["image_size"])
    pairs, same = None, None
    if attributes["kind"] == "verification":
        pairs = file["pairs"][:].astype(np.int32)
        same = file["same"][:].astype(np.bool_)
    pack = Pack(
        path=path,
        kind=attributes["kind"],
        group=str(attributes["group"]),
        image_size=side,
        sha256=sha256,
        images=_images(path, file, side),
        digests=file["digests"][:],
        identity=file["identity"][:].astype(np.int32),
        identity_names=tuple(file["identity_names"].asstr()[:].tolist()),
        found=Found(*attributes["found"].tolist()),
        pairs=pairs,
        same=same,
    )
    _check_rows(pack)
    return pack


def _images(path: Path, file: Any, side: int) -> Images:
    if "encoded" in file:
        data = _map(path, file["encoded"])
        return EncodedImages(data, file["offsets"][:], image_size=side, where=path)
    dataset = file["images"]
    shape = dataset.shape
    if dataset.dtype != np.uint8 or len(shape) != 4 or shape[1:] != (side, side, 3):
        found = f"images {dataset.dtype} {shape}"
        raise InputError(path, found=found, expected=f"images uint8 (N, {side}, {side}, 3)")
    return _map(path, dataset)


def _map(path: Path, dataset: Any) -> NDArray[np.uint8]:
    offset = dataset.id.get_offset()
    in_place = dataset.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
    if not in_place or offset is None or dataset.external is not None:
        found = "images that do not lie contiguous in the file"
        raise InputError(path, found=found, expected="contiguous images; pack anew")
    return np.memmap(path, np.uint8, "r", offset=offset, shape=dataset.shape)


def _check_rows(pack: Pack) -> None:
    for what, rows, limit in (
        ("identity", pack.identity, len(pack.identity_names)),
        ("pairs", pack.pairs, len(pack.images)),
    ):
        if rows is not None and rows.size and (rows.min() < 0 or rows.max() >= limit):
            raise ValueError(f"{what} outside 0 to {limit - 1}")
    for what, count in (("identities", len(pack.identity)), ("digests", len(pack.digests))):
        if count != len(pack.images):
            raise ValueError(f"{count} {what} for {len(pack.images)} images")
    if pack.pairs is not None and pack.same is not None and len(pack.pairs) != len(pack.same):
        raise ValueError(f"{len(pack.pairs)} pairs, {len(pack.same)} labels")
