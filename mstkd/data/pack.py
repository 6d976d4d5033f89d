"""Packs: the images of one group, decoded once, in one HDF5 file.

The pixels lie contiguous and uncompressed in it and are read through a memory map: random
batches come some thirty times faster than through h5py and faster still than by decoding.
Shapes: N images, H side in pixels, P pairs.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from mstkd import __version__
from mstkd.atomic import replacing, write_text
from mstkd.config import PackSettings
from mstkd.data.decode import BadImage, decode
from mstkd.data.layouts import read_training_folder, read_verification
from mstkd.data.packing import CHUNK, Bad, PartialPack
from mstkd.data.sources import FaceImage
from mstkd.errors import InputError

__all__ = ["BadImage", "Pack", "decode", "open_pack", "pack_train", "pack_verification"]

FORMAT, VERSION = "mstkd-pack", 1
LISTED = 20  # bad images named in a message; the file beside the output names all
UNFINISHED = "0" * 64
Kind = Literal["train", "verification"]


@dataclass(frozen=True, eq=False)
class Pack:
    """An open pack; images are read from disk when they are indexed.

    `images` uint8 (N, H, H, 3) RGB, read-only; `identity` int32 (N,) holds rows of
    `identity_names`; `pairs` int32 (P, 2) holds rows of `images` and `same` bool (P,) is True
    for genuine pairs, both None in a training pack. `sha256` tells contents apart: it does not
    depend on how, where or when the pack was written.
    """

    path: Path
    kind: Kind
    group: str
    image_size: int
    sha256: str
    images: NDArray[np.uint8]
    identity: NDArray[np.int32]
    identity_names: tuple[str, ...]
    pairs: NDArray[np.int32] | None
    same: NDArray[np.bool_] | None

    def image_paths(self) -> tuple[str, ...]:
        """What each image is called where it was read, in the order of `images`."""
        with h5py.File(self.path, "r") as file:
            return tuple(file["paths"].asstr()[:].tolist())


@dataclass(frozen=True, eq=False)
class _Content:
    """What a pack holds, less the pixels."""

    kind: Kind
    group: str
    image_size: int
    images: Sequence[FaceImage]
    names: list[str]
    identity: NDArray[np.int32]
    pairs: NDArray[np.int32] | None = None
    same: NDArray[np.bool_] | None = None


# ---------------------------------------------------------------- writing


def pack_train(settings: PackSettings, *, output: Path, workers: int = 1) -> None:
    """Pack the training images of a group, `<root>/<group>/<identity>/<image>`.

    Bad images are listed in `<output>.bad.txt`; with `on_bad_image: skip` they are left out,
    and with them an identity that has no other. A killed run is taken up where it stopped.

    Raises:
        InputError: no images, or bad ones.
    """
    images = read_training_folder(settings.root, settings.group)
    content = _content("train", settings, images)
    partial, bad = _decode_all(content, settings, output=output, workers=workers)
    if bad and settings.on_bad_image == "skip" and len(bad) < len(images):
        kept = np.setdiff1d(np.arange(len(images)), [row for row, _ in bad])
        content = _content("train", settings, [images[row] for row in kept])
        with replacing(output) as (part,):
            offset = _create(part, content)
            digests = partial.copy_rows(kept, part, offset)
            _seal(part, _digest(content, digests))
        partial.remove()
        listing = _bad_file(output)
        _say(content, f"{_count(bad)} of {len(images):,} left out, see {listing}")
    elif bad:
        size = f"{settings.image_size}x{settings.image_size}"
        expected = f"whole images of {size} pixels, or data.on_bad_image: skip to leave some out"
        raise _bad_images(content, settings, bad, output=output, expected=expected)
    else:
        _publish(content, partial, output)


def pack_verification(settings: PackSettings, *, output: Path, workers: int = 1) -> None:
    """Pack the verification images and pairs of a group in RFW's layout.

    Bad images are listed in `<output>.bad.txt` and are an error always: accuracies on fewer
    pairs could not be compared. A killed run is taken up where it stopped.

    Raises:
        InputError: a fault of the folders or the pairs file, or bad images.
    """
    found = read_verification(settings.root, settings.group)
    content = _content("verification", settings, found.images, pairs=found.pairs, same=found.same)
    partial, bad = _decode_all(content, settings, output=output, workers=workers)
    if bad:
        size = f"{settings.image_size}x{settings.image_size}"
        expected = (
            f"whole images of {size} pixels; on_bad_image: skip is for training images, "
            "verification needs both images of every pair"
        )
        raise _bad_images(content, settings, bad, output=output, expected=expected)
    _publish(content, partial, output)


def _content(
    kind: Kind,
    settings: PackSettings,
    images: Sequence[FaceImage],
    *,
    pairs: NDArray[np.int32] | None = None,
    same: NDArray[np.bool_] | None = None,
) -> _Content:
    names = sorted({image.identity for image in images})
    number_of = {name: number for number, name in enumerate(names)}
    return _Content(
        kind=kind,
        group=settings.group,
        image_size=settings.image_size,
        images=images,
        names=names,
        identity=np.array([number_of[image.identity] for image in images], np.int32),
        pairs=pairs,
        same=same,
    )


def _decode_all(
    content: _Content, settings: PackSettings, *, output: Path, workers: int
) -> tuple[PartialPack, list[Bad]]:
    """Decode what no earlier run has; list the bad images, or remove the list of old ones."""
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = PartialPack(
        output,
        images=content.images,
        image_size=content.image_size,
        settings={"kind": content.kind}
        | settings.model_dump(mode="json", exclude={"on_bad_image"}),
    )
    taken = partial.resume()
    if taken:
        total = len(content.images)
        _say(content, f"{taken:,} of {total:,} images taken over from an earlier run")
    else:
        partial.begin(lambda path: _create(path, content))
    bad = partial.decode(f"pack {content.kind} {content.group}", workers)
    listing = _bad_file(output)
    if bad:
        lines = (f"{settings.root / content.images[row].name}\t{reason}\n" for row, reason in bad)
        write_text(listing, "".join(lines))
    else:
        listing.unlink(missing_ok=True)
    return partial, bad


def _image_names(content: _Content) -> list[str]:
    return [image.name for image in content.images]


def _create(path: Path, content: _Content) -> int:
    """Write all but the pixels and their digest; the offset of the pixels in bytes."""
    text = h5py.string_dtype("utf-8")
    side = content.image_size
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple((len(content.images), side, side, 3))
    with h5py.File(path, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        file.attrs["kind"] = content.kind
        file.attrs["group"] = content.group
        file.attrs["image_size"] = side
        file.attrs["package_version"] = __version__
        # Of its final length, so that sealing overwrites it in place.
        file.attrs["sha256"] = np.bytes_(UNFINISHED)
        file.create_dataset("identity", data=content.identity)
        file.create_dataset("identity_names", data=content.names, dtype=text)
        file.create_dataset("paths", data=_image_names(content), dtype=text)
        if content.pairs is not None:
            file.create_dataset("pairs", data=content.pairs)
            file.create_dataset("same", data=content.same)
        images = h5py.h5d.create(file.id, b"images", h5py.h5t.STD_U8LE, space, layout)
        return int(images.get_offset())


def _digest(content: _Content, chunks: Sequence[str]) -> str:
    """SHA-256 of a pack's content; `chunks` are those of every `CHUNK` images' pixels."""
    head = {
        "kind": content.kind,
        "group": content.group,
        "image_size": content.image_size,
        "names": content.names,
        "paths": _image_names(content),
        "pairs": None if content.pairs is None else len(content.pairs),
        "chunk": CHUNK,
        "pixels": list(chunks),
    }
    digest = hashlib.sha256(json.dumps(head).encode())
    digest.update(content.identity.astype("<i4").tobytes())
    if content.pairs is not None and content.same is not None:
        digest.update(content.pairs.astype("<i4").tobytes())
        digest.update(content.same.astype("u1").tobytes())
    return digest.hexdigest()


def _seal(path: Path, sha256: str) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs.modify("sha256", np.bytes_(sha256))


def _publish(content: _Content, partial: PartialPack, output: Path) -> None:
    _seal(partial.path, _digest(content, partial.digests()))
    with replacing(output) as (part,):
        partial.path.rename(part)
    partial.remove()


def _bad_file(output: Path) -> Path:
    return output.with_name(f"{output.name}.bad.txt")


def _bad_images(
    content: _Content, settings: PackSettings, bad: list[Bad], *, output: Path, expected: str
) -> InputError:
    lines = [f"  {content.images[row].name}: {reason}\n" for row, reason in bad[:LISTED]]
    more = len(bad) - LISTED
    if more > 0:
        lines.append(f"  and {more:,} more, all listed in {_bad_file(output)}\n")
    found = f"{_count(bad)} of {len(content.images):,}\n{''.join(lines)}"
    return InputError(settings.root, found=found, expected=expected)


def _count(bad: list[Bad]) -> str:
    return "1 bad image" if len(bad) == 1 else f"{len(bad):,} bad images"


def _say(content: _Content, message: str) -> None:
    print(f"pack {content.kind} {content.group}: {message}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------- reading


def open_pack(path: Path, kind: Kind | None = None) -> Pack:
    """Open a pack, of `kind` if that is given.

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
            return _read(path, file, kind)
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        found = f"a damaged file ({' '.join(str(error).split())})"
        raise InputError(path, found=found, expected="a whole pack; pack anew") from None


def _read(path: Path, file: Any, kind: Kind | None) -> Pack:
    attributes = dict(file.attrs)
    if attributes.get("format") != FORMAT:
        found = f"HDF5 with format {attributes.get('format')!r}"
        raise InputError(path, found=found, expected=f"a pack, format {FORMAT!r}")
    if attributes.get("version") != VERSION:
        found = f"a pack of version {attributes.get('version')}"
        raise InputError(path, found=found, expected=f"version {VERSION}; pack anew")
    if kind is not None and attributes["kind"] != kind:
        raise InputError(path, found=f"a {attributes['kind']} pack", expected=f"a {kind} pack")
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
        images=_map_images(path, file["images"], side),
        identity=file["identity"][:].astype(np.int32),
        identity_names=tuple(file["identity_names"].asstr()[:].tolist()),
        pairs=pairs,
        same=same,
    )
    _check_rows(pack)
    return pack


def _map_images(path: Path, dataset: Any, side: int) -> NDArray[np.uint8]:
    shape = dataset.shape
    if dataset.dtype != np.uint8 or len(shape) != 4 or shape[1:] != (side, side, 3):
        found = f"images {dataset.dtype} {shape}"
        raise InputError(path, found=found, expected=f"images uint8 (N, {side}, {side}, 3)")
    offset = dataset.id.get_offset()
    in_place = dataset.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
    if not in_place or offset is None or dataset.external is not None:
        found = "images that do not lie contiguous in the file"
        raise InputError(path, found=found, expected="contiguous images; pack anew")
    return np.memmap(path, np.uint8, "r", offset=offset, shape=shape)


def _check_rows(pack: Pack) -> None:
    for what, rows, limit in (
        ("identity", pack.identity, len(pack.identity_names)),
        ("pairs", pack.pairs, len(pack.images)),
    ):
        if rows is not None and rows.size and (rows.min() < 0 or rows.max() >= limit):
            raise ValueError(f"{what} outside 0 to {limit - 1}")
    if len(pack.identity) != len(pack.images):
        raise ValueError(f"{len(pack.identity)} identities for {len(pack.images)} images")
    if pack.pairs is not None and pack.same is not None and len(pack.pairs) != len(pack.same):
        raise ValueError(f"{len(pack.pairs)} pairs, {len(pack.same)} labels")
