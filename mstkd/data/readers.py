"""From a setting to the images of a group, whatever holds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mstkd.config import AlignmentSettings, HeldOutIdentities, Mixture, PackSettings
from mstkd.config.data import file_kind
from mstkd.data.formats.bins import group_bins, read_bin
from mstkd.data.formats.landmarks import read_landmarks_csv, read_rfw_landmarks
from mstkd.data.formats.layouts import (
    VerificationList,
    composed,
    read_training_folder,
    read_verification,
    verification_folder,
    verification_identities,
)
from mstkd.data.formats.listing import read_listing
from mstkd.data.formats.pairlists import pair_list_identities, read_pair_list
from mstkd.data.formats.record_groups import read_record_training
from mstkd.data.heldout import hold_out
from mstkd.data.mixture import draw
from mstkd.data.sources import FaceImage, Points
from mstkd.errors import InputError
from mstkd.progress import say


def read_training(settings: PackSettings) -> list[FaceImage]:
    """All training images of a group, with their landmarks.

    Of several sources those of the identities that are drawn. Each bears its source's name before
    its own, so that persons of one name in two sources are two.

    Raises:
        InputError: a fault of the folder, listing or records, or of the landmarks; or a source has
            too few identities for its share.
    """
    root, group = settings.root, settings.group
    if isinstance(root, Mixture):
        return _drawn(root, settings)
    kind = file_kind(root)
    if kind == "rec":
        if settings.groups is None:
            raise InputError(root, found="no train_groups", expected="a .lst or a CSV of groups")
        images = read_record_training(root, settings.groups, group)
    elif kind == "csv":
        images = read_listing(root, group)
    else:
        images = read_training_folder(root, group, settings.more_suffixes)
    return with_landmarks(images, settings.alignment, group)


def _drawn(mixture: Mixture, settings: PackSettings) -> list[FaceImage]:
    found = {name: trainable(read_training(o), o) for name, o in settings.of_sources().items()}
    names = {name: sorted({image.identity for image in own}) for name, own in found.items()}
    drawn = draw(
        names,
        {name: source.share for name, source in mixture.sources.items()},
        identities=mixture.identities,
        seed=mixture.seed,
        group=settings.group,
    )
    counts = (f"{len(drawn[name]):,} of {len(names[name]):,} of {name}" for name in drawn)
    say(f"{settings.group}: identities by source: {', '.join(counts)}")
    return [
        image._replace(name=f"{name}/{image.name}", identity=f"{name}/{image.identity}")
        for name, own in found.items()
        for image in own
        if image.identity in drawn[name]
    ]


def trainable(images: Sequence[FaceImage], settings: PackSettings) -> list[FaceImage]:
    """The images whose identities the verification data have not, where the settings ask that.

    Of several sources they are left out before identities are drawn.

    Raises:
        InputError: none is left.
    """
    if settings.exclude is None or isinstance(settings.root, Mixture):
        return list(images)
    excluded = (
        pair_list_identities(settings.exclude)
        if file_kind(settings.exclude) == "csv"
        else verification_identities(settings.exclude)
    )
    left = [image for image in images if composed(image.identity) not in excluded]
    if not left:
        found = f"no identity of group {settings.group} that {settings.exclude} has not"
        raise InputError(settings.where(), found=found, expected="identities to train on")
    return left


def held_out_identities(
    images: Sequence[FaceImage], settings: HeldOutIdentities, group: str
) -> frozenset[str]:
    """The identities of a group that no network is trained on, to choose epochs by.

    Raises:
        InputError: there are too few.
    """
    counts = Counter(image.identity for image in images)
    names = sorted(counts)
    identity = np.repeat(np.arange(len(names)), [counts[name] for name in names]).astype(np.int32)
    try:
        kept_out = hold_out(names, identity, group=group, share=settings.share, seed=settings.seed)
    except ValueError as error:
        raise InputError("data.heldout", found=str(error), expected="a smaller share") from None
    return frozenset(kept_out)


def read_verification_images(settings: PackSettings) -> VerificationList:
    """The verification images and pairs of a group, with their landmarks.

    `root` is a `.bin` file, a folder of `<group>_test.bin` files, a CSV of pairs, or in RFW's
    layout.

    Raises:
        InputError: a fault of the files, or of the landmarks.
    """
    root, group = settings.root, settings.group
    if isinstance(root, Mixture):
        raise InputError("--settings: root", found="several sources", expected="a path")
    binary = root if file_kind(root) == "bin" else group_bins(root).get(group)
    if file_kind(root) == "csv":
        found = read_pair_list(root, group)
    else:
        found = (
            read_verification(root, group, settings.more_suffixes)
            if binary is None
            else read_bin(binary)
        )
    lmk = verification_folder(root) / "txts" / group / f"{group}_lmk.txt"
    return replace(found, images=with_landmarks(found.images, settings.alignment, group, rfw=lmk))


def with_landmarks(
    images: list[FaceImage],
    alignment: AlignmentSettings | None,
    group: str,
    *,
    rfw: Path | None = None,
) -> list[FaceImage]:
    """The images with the points that the settings name, where they have any.

    A CSV calls an image `<group>/<identity>/<image>`, or what the listing or the folder of
    unlabelled images calls it.
    """
    if alignment is None:
        return images
    points: dict[str, Points]
    key: Callable[[FaceImage], str]
    if alignment.landmarks == "rfw":
        if rfw is None:
            raise InputError("landmarks", found="'rfw'", expected="a CSV of landmarks")
        points = _composed(read_rfw_landmarks(rfw, group))
        key = _last_two_parts
    else:
        points = _composed(read_landmarks_csv(Path(alignment.landmarks)))
        key = _name_in_group
    found = [image._replace(points=points.get(composed(key(image)))) for image in images]
    if not any(image.points for image in found):
        raise InputError(
            rfw if alignment.landmarks == "rfw" else alignment.landmarks,
            found=f"landmarks of other images, {next(iter(points))} say",
            expected=f"landmarks of {key(found[0])} and others",
        )
    return found


def _composed(points: dict[str, Points]) -> dict[str, Points]:
    """By names in one spelling, whatever system wrote them."""
    if all(map(str.isascii, points)):
        return points
    return {composed(name): own for name, own in points.items()}


def _last_two_parts(image: FaceImage) -> str:
    return "/".join(image.name.split("/")[-2:])


def _name_in_group(image: FaceImage) -> str:
    return image.name.removeprefix("data/")
