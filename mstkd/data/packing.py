"""The packing steps: images of a group, of whatever format, to a pack.

A killed run is taken up where it stopped. Bad images are listed in `<output>.bad.txt`.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mstkd.artifacts.atomic import make_folder, move_into_place, write_text
from mstkd.artifacts.sources import provenance_of
from mstkd.artifacts.writers import only_writer
from mstkd.config import HeldOutSettings, ImageSettings, PackSettings, PackUnlabelledSettings
from mstkd.data.decode import BadImage, formats_of
from mstkd.data.formats.layouts import verification_folder
from mstkd.data.formats.listing import read_unlabelled
from mstkd.data.heldout import held_out_pairs
from mstkd.data.landmark_fit import A_FILE, MOST_BLACK, check_landmarks, emptiness, told_of
from mstkd.data.pack import (
    VERSION,
    Content,
    Found,
    Kind,
    Stored,
    bad_file,
    check_pack,
    create_pack,
    seal_pack,
)
from mstkd.data.partial import Bad, PartialPack, face_pixels
from mstkd.data.readers import (
    held_out_identities,
    read_training,
    read_verification_images,
    trainable,
    with_landmarks,
)
from mstkd.data.sources import FaceImage
from mstkd.errors import InputError
from mstkd.progress import say

ALIGNED_FIRST = 64  # images whose aligned pixels are looked at before all are decoded
OTHER_SIZE = re.compile(r"found \d+x\d+, expected")  # as `decode` says of an image
LISTED = 20  # bad images named in a message; the file beside the output names all
UNLABELLED = "unlabelled"  # the group of images that have none
# Bytes beside the pixels, not too few: what HDF5 takes for itself and for a text beside its
# letters; and an image's identity, digest, checksum, offset and doubt, and its part of the journal.
HDF5_BYTES, TEXT_BYTES, IMAGE_BYTES = 1 << 15, 48, 116


class Pairs(NamedTuple):
    """Pairs of images."""

    rows: NDArray[np.int32]  # (P, 2), of images
    same: NDArray[np.bool_]  # (P,)
    fold: NDArray[np.int16] | None = None  # (P,)
    blocks: int | None = None  # parts of equal size that they lie in, fold after fold, if known


def pack_train(settings: PackSettings, *, output: Path, workers: int = 1) -> None:
    """Pack the training images of a group, less the identities that are held out.

    With `on_bad_image: skip` bad images are left out, and with them an identity that has no
    other.

    Raises:
        InputError: a fault of the data, no images, or bad ones.
    """
    found = read_training(settings)
    images = trainable(found, settings)
    if settings.heldout is not None:
        held_out = held_out_identities(images, settings.heldout, settings.group)
        images = [image for image in images if image.identity not in held_out]
    packing = _Packing("train", settings, settings.group, output, found)
    packing.pack(images, workers=workers)


def pack_heldout(settings: PackSettings, *, output: Path, workers: int = 1) -> None:
    """Pack pairs of the training identities that are held out, as a verification pack.

    With `on_bad_image: skip` the pairs with a bad image are left out.

    Raises:
        InputError: a fault of the data, too few identities for the folds, or bad images.
    """
    if not isinstance(settings.heldout, HeldOutSettings):
        raise InputError("--settings: heldout", found="no pairs", expected="what to hold out")
    images = trainable(read_training(settings), settings)
    held_out = held_out_identities(images, settings.heldout, settings.group)
    images = [image for image in images if image.identity in held_out]
    identity = _numbered(images)[1]
    try:
        pairs, same = held_out_pairs(
            identity,
            set(identity.tolist()),
            pairs=settings.heldout.pairs,
            folds=settings.heldout.folds,
            seed=settings.heldout.seed,
            group=settings.group,
        )
    except ValueError as error:
        found = f"group {settings.group}: {error}"
        raise InputError("data.heldout", found=found, expected="a larger share") from None
    used, rows = np.unique(pairs, return_inverse=True)
    chosen = [images[row] for row in used]
    packing = _Packing("verification", settings, settings.group, output, images)
    own = Pairs(rows.reshape(-1, 2).astype(np.int32), same, blocks=settings.heldout.folds)
    packing.pack(chosen, own, workers=workers)


def pack_verification(settings: PackSettings, *, output: Path, workers: int = 1) -> None:
    """Pack the verification images and pairs of a group.

    Bad images are an error always: accuracies on fewer pairs could not be compared.

    Raises:
        InputError: a fault of the data, or bad images.
    """
    found = read_verification_images(settings)
    strict = settings.model_copy(update={"on_bad_image": "error"})
    packing = _Packing("verification", strict, settings.group, output, found.images)
    if found.left_out:
        packing.say(f"{found.left_out:,} pairs across groups are left out")
    packing.pack(found.images, Pairs(found.pairs, found.same, found.fold), workers=workers)


def pack_unlabelled(settings: PackUnlabelledSettings, *, output: Path, workers: int = 1) -> None:
    """Pack all images below a folder, for losses that need neither identity nor group.

    Raises:
        InputError: no images, or bad ones.
    """
    images = read_unlabelled(settings.root, settings.more_suffixes)
    images = with_landmarks(images, settings.alignment, UNLABELLED)
    _Packing("unlabelled", settings, UNLABELLED, output, images).pack(images, workers=workers)


class _Packing:
    """What all packing steps share; `found` are the images of the group before any is left out."""

    def __init__(
        self,
        kind: Kind,
        settings: ImageSettings,
        group: str,
        output: Path,
        found: Sequence[FaceImage],
    ) -> None:
        self._kind, self._settings, self._group, self._output = kind, settings, group, output
        self._found = Found(len(found), len({image.identity for image in found}))
        self._bad_file = bad_file(output)
        self._formats = formats_of(settings.more_suffixes)
        self._doubt: NDArray[np.float32] | None = None  # of the landmarks, (N,)

    def pack(
        self, images: Sequence[FaceImage], pairs: Pairs | None = None, *, workers: int
    ) -> None:
        """Decode the images and write the pack, less what is bad if the settings allow that."""
        settings = self._settings
        # Without further endings the work of versions that knew none is taken over.
        left_out = {"on_bad_image"} | ({"more_suffixes"} if not settings.more_suffixes else set())
        make_folder(self._output.parent)
        partial = PartialPack(
            self._output,
            images=images,
            image_size=settings.image_size,
            storage=settings.storage,
            alignment=settings.alignment,
            formats=self._formats,
            settings={
                "version": VERSION,
                "kind": self._kind,
                "found": self._found,
                "pairs": None
                if pairs is None
                else [array.tolist() for array in pairs[:3] if array is not None],
            }
            | settings.model_dump(mode="json", exclude=left_out),
        )
        with only_writer(self._output, f"{partial.key} {settings.on_bad_image}") as turn:
            if turn.finished and self._is_whole():
                self.say("another process has packed the same images meanwhile")
                return
            self._write(partial, images, pairs, resume=turn.alone, workers=workers)
            partial.remove()

    def _write(
        self,
        partial: PartialPack,
        images: Sequence[FaceImage],
        pairs: Pairs | None,
        *,
        resume: bool,
        workers: int,
    ) -> None:
        settings, content = self._settings, self._content(images, pairs)
        self._doubt = self._check_landmarks(images)
        taken = partial.resume() if resume else 0
        if taken:
            self.say(f"{taken:,} of {len(images):,} images taken over from an earlier run")
        if settings.storage == "pixels":
            left = (len(images) - taken) * settings.image_size**2 * 3
            self._check_room(left + _sealing_bytes(content) + (0 if taken else _bytes(content)))
        if not taken:
            aligned = settings.alignment is not None
            partial.begin(lambda path: create_pack(path, content, aligned=aligned))
        self._tell_cropped(images)
        bad = partial.decode(f"pack {self._kind} {self._group}", workers)
        self._list_bad(images, bad)
        if bad and (settings.on_bad_image == "error" or len(bad) == len(images)):
            raise self._bad_images(images, bad)
        self._tell_doubtful(images, partial.emptiness())
        if bad or settings.storage == "encoded":
            self._copy(partial, images, pairs, bad)
        else:
            self._check_room(_sealing_bytes(content))
            stored = Stored(partial.digests(), partial.checksums(), None, self._doubt)
            seal_pack(partial.path, content, stored)
            self._publish(partial.path)

    def _publish(self, whole: Path) -> None:
        """Rename a sealed pack to the output if it holds what the images were decoded to."""
        try:
            check_pack(whole)
        except InputError as error:
            expected = "what was decoded; pack again"
            raise InputError(self._output, found=error.found, expected=expected) from None
        move_into_place(whole, self._output)

    def _is_whole(self) -> bool:
        try:
            check_pack(self._output)
        except InputError as error:
            self.say(f"{error}; packing anew")
            return False
        return True

    def _copy(
        self,
        partial: PartialPack,
        images: Sequence[FaceImage],
        pairs: Pairs | None,
        bad: Sequence[Bad],
    ) -> None:
        """Write the pack of the good images alone, from what was decoded."""
        partial.copied.unlink(missing_ok=True)  # of a run that was killed
        good = np.setdiff1d(np.arange(len(images)), [row for row, _ in bad])
        if bad and pairs is not None:
            pairs = _among(pairs, good, len(images))
        content = self._content([images[row] for row in good], pairs)
        encoded = partial.sizes()[good] if self._settings.storage == "encoded" else None
        pixels = len(good) * self._settings.image_size**2 * 3
        kept = pixels if encoded is None else int(encoded.sum())
        self._check_room(kept + _bytes(content) + _sealing_bytes(content))
        doubt = None if self._doubt is None else self._doubt[good]
        stored = Stored(partial.digests()[good], partial.checksums()[good], encoded, doubt)
        try:
            begin = create_pack(partial.copied, content, encoded, aligned=doubt is not None)
            partial.copy(good, partial.copied, begin)
            seal_pack(partial.copied, content, stored)
            self._publish(partial.copied)
        finally:
            partial.copied.unlink(missing_ok=True)
        if bad:
            self.say(f"{_count(bad)} of {len(images):,} left out, see {self._bad_file}")

    def _check_room(self, needed: int) -> None:
        """Refuse to begin what does not fit the disk, before hours are spent on it.

        And before HDF5 fills the disk: it then raises riddles, and crashes at the end.
        """
        folder = self._output.parent
        free = shutil.disk_usage(folder).free
        if free < needed:
            found = f"{free:,} bytes free on the disk"
            raise InputError(folder, found=found, expected=f"{needed:,}, to pack {self._group}")

    def _content(self, images: Sequence[FaceImage], pairs: Pairs | None) -> Content:
        names, identity = _numbered(images)
        return Content(
            kind=self._kind,
            group=self._group,
            image_size=self._settings.image_size,
            paths=[image.name for image in images],
            identity_names=names,
            identity=identity,
            found=self._found,
            pairs=None if pairs is None else pairs.rows,
            same=None if pairs is None else pairs.same,
            fold=None if pairs is None else pairs.fold,
            sources=self._sources(),
            made=provenance_of(self._step, self._settings, {}, self._output),
        )

    def _check_landmarks(self, images: Sequence[FaceImage]) -> NDArray[np.float32] | None:
        """How doubtful the landmarks of each image are, (N,); None where none are used.

        Raises:
            InputError: most of them are no face's, or lie outside of the pictures.
        """
        alignment = self._settings.alignment
        if alignment is None:
            return None
        where = alignment.landmarks
        if not isinstance(where, Path):
            where = (
                verification_folder(Path(self._root()))
                / f"txts/{self._group}/{self._group}_lmk.txt"
            )
        doubt = check_landmarks(images, where)
        known = [image for image in images if image.points is not None]
        black = []
        for row in np.linspace(0, len(known) - 1, min(ALIGNED_FIRST, len(known))).astype(int):
            with contextlib.suppress(BadImage):  # told with all the others
                side = self._settings.image_size
                pixels = face_pixels(known[row], side, alignment, self._formats)
                black.append(emptiness(pixels))
        if len(black) >= A_FILE and np.median(black) >= MOST_BLACK:
            found = (
                f"landmarks of group {self._group} outside of the pictures: of {len(black)} images "
                f"aligned, {100 * np.median(black):.0f} % is black or one colour in the median"
            )
            raise InputError(where, found=found, expected="pixels of these pictures, x before y")
        return doubt.astype(np.float32)

    def _tell_doubtful(self, images: Sequence[FaceImage], black: NDArray[np.float64]) -> None:
        """List the images whose landmarks look wrong, the worst first."""
        listing = self._output.with_name(f"{self._output.name}.doubtful.txt")
        listing.unlink(missing_ok=True)
        if self._doubt is None:
            return
        self._doubt = np.maximum(self._doubt, (black / MOST_BLACK).astype(np.float32))
        worst = [row for row in np.argsort(-self._doubt, kind="stable") if self._doubt[row] >= 1]
        if worst:
            lines = (f"{images[row].name}\t{told_of(images[row], black[row])}\n" for row in worst)
            write_text(listing, "".join(lines))
            share = f"{len(worst):,} of {len(images):,} images have landmarks unlike a face's"
            self.say(f"{share}, see {listing}")

    def _tell_cropped(self, images: Sequence[FaceImage]) -> None:
        """List the images of which the middle is taken, since nobody knows where the face is."""
        listing = self._output.with_name(f"{self._output.name}.cropped.txt")
        listing.unlink(missing_ok=True)
        alignment = self._settings.alignment
        if alignment is None or alignment.without_landmarks != "centre_crop":
            return
        cropped = [image.name for image in images if image.points is None]
        if cropped:
            write_text(listing, "".join(f"{name}\n" for name in cropped))
            share = f"{len(cropped):,} of {len(images):,} images have no landmarks"
            self.say(f"{share}, their middle is taken, see {listing}")

    def _list_bad(self, images: Sequence[FaceImage], bad: Sequence[Bad]) -> None:
        if bad:
            lines = (f"{self._path(images[row])}\t{reason}\n" for row, reason in bad)
            write_text(self._bad_file, "".join(lines))
        else:
            self._bad_file.unlink(missing_ok=True)

    def _bad_images(self, images: Sequence[FaceImage], bad: Sequence[Bad]) -> InputError:
        lines = [f"  {images[row].name}: {reason}\n" for row, reason in bad[:LISTED]]
        if len(bad) > LISTED:
            more = len(bad) - LISTED
            lines.append(f"  and {more:,} more, all listed in {self._bad_file}\n")
        if self._settings.alignment is None:
            expected = (
                f"whole images of {self._settings.image_size}x{self._settings.image_size} pixels"
            )
            other_sizes = sum(OTHER_SIZE.match(reason) is not None for _, reason in bad)
            if 2 * other_sizes > len(images):
                key = "verification" if self._kind == "verification" else "train"
                expected += (
                    f"; most are of other sizes and seem not to be aligned: data.{key}_alignment "
                    "takes landmarks of them, which mstkd detect-landmarks writes"
                )
                found = f"{_count(bad)} of {len(images):,}\n{''.join(lines)}"
                return InputError(self._root(), found=found, expected=expected)
        else:
            expected = "whole images with landmarks"
        if self._kind == "verification" and not self._held_out:
            expected += (
                "; on_bad_image: skip is for training images, "
                "verification needs both images of every pair"
            )
        else:
            expected += ", or data.on_bad_image: skip to leave some out"
        found = f"{_count(bad)} of {len(images):,}\n{''.join(lines)}"
        return InputError(self._root(), found=found, expected=expected)

    @property
    def _step(self) -> str:
        paired = self._kind == "verification" and self._held_out
        return "pack-heldout" if paired else f"pack-{self._kind}"

    @property
    def _held_out(self) -> bool:
        return isinstance(self._settings, PackSettings) and self._settings.heldout is not None

    def _root(self) -> Path | str:
        if isinstance(self._settings, PackSettings):
            return self._settings.where()
        assert isinstance(self._settings, PackUnlabelledSettings)
        return self._settings.root

    def _sources(self) -> tuple[str, ...]:
        """The sources that an identity is named after, if there are several."""
        return (
            tuple(self._settings.of_sources()) if isinstance(self._settings, PackSettings) else ()
        )

    def _path(self, image: FaceImage) -> Path:
        return image.source if isinstance(image.source, Path) else self._root() / Path(image.name)

    def say(self, message: str) -> None:
        """Tell something of this pack."""
        say(f"pack {self._kind} {self._group}: {message}")


def _numbered(images: Sequence[FaceImage]) -> tuple[list[str], NDArray[np.int32]]:
    """The names of the identities, sorted, and the row of each image's in them (N,)."""
    names = sorted({image.identity for image in images})
    number_of = {name: number for number, name in enumerate(names)}
    return names, np.array([number_of[image.identity] for image in images], np.int32)


def _bytes(content: Content) -> int:
    """What a pack takes on the disk beside the images, at most, before it is sealed."""
    texts = [*content.paths, *content.identity_names]
    letters = sum(len(text.encode()) for text in texts)
    pairs = 0 if content.pairs is None else 11 * len(content.pairs)
    return HDF5_BYTES + letters + TEXT_BYTES * len(texts) + pairs


def _sealing_bytes(content: Content) -> int:
    return HDF5_BYTES + IMAGE_BYTES * len(content.paths)


def _among(pairs: Pairs, good: NDArray[np.int64], count: int) -> Pairs:
    """The pairs whose two images are both good, as rows of the good ones.

    Those in blocks get these as folds of their own: by the order alone what is left would be cut
    elsewhere, and identities lie in two folds.

    Raises:
        InputError: nothing is left of a block.
    """
    new = np.full(count, -1, np.int32)
    new[good] = np.arange(len(good))
    rows = new[pairs.rows]
    whole = np.all(rows >= 0, axis=1)
    fold = pairs.fold
    if fold is None and pairs.blocks is not None and not whole.all():
        fold = np.repeat(np.arange(pairs.blocks, dtype=np.int16), len(whole) // pairs.blocks)
        empty = np.setdiff1d(fold, fold[whole])
        if len(empty):
            found = f"no pair left in fold {empty[0] + 1} once bad images are left out"
            raise InputError("data.heldout", found=found, expected="pairs in each of its folds")
    return Pairs(rows[whole], pairs.same[whole], None if fold is None else fold[whole])


def _count(bad: Sequence[Bad]) -> str:
    return "1 bad image" if len(bad) == 1 else f"{len(bad):,} bad images"
