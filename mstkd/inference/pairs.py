"""Verification pairs of any layout that the pipeline packs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py

from mstkd.config import PackSettings, validate
from mstkd.config.data import Suffixes, file_kind
from mstkd.data.formats.bins import group_bins
from mstkd.data.formats.layouts import training_groups, verification_folder
from mstkd.data.formats.pairlists import is_pair_list, pair_list_groups
from mstkd.data.packing import pack_verification
from mstkd.errors import InputError

PAIRS = (
    "a verification pack or a folder of them, RFW's folder, a CSV of pairs, a .bin, or a folder "
    "of <group>_test.bin"
)


def verification_packs(
    pairs: Path, *, image_size: int, output: Path, threads: int = 1, more: Suffixes = None
) -> list[Path]:
    """The verification packs of some pairs, made where there are none yet.

    Args:
        pairs: a verification pack or a folder of them; or, to be packed, aligned images in one of
            the layouts of verification data (docs/real-data.md).
        image_size: of what is packed, in pixels.
        output: a folder for what is packed.
        threads: CPU threads.
        more: further endings of images.

    Raises:
        InputError: a fault of the pairs or of an image.
    """
    if pairs.is_file() and h5py.is_hdf5(pairs):
        return [pairs]
    if pairs.is_dir() and (found := sorted(pairs.glob("*.h5"))):
        return found
    sources = _groups(pairs)
    made = []
    for group, root in sources.items():
        given = {"root": root, "group": group, "image_size": image_size, "on_bad_image": "error"}
        given["more_suffixes"] = more
        settings = validate(PackSettings, given, str(pairs))
        made.append(output / f"{group}.h5")
        pack_verification(settings, output=made[-1], workers=threads)
    return made


def _groups(pairs: Path) -> Mapping[str, Path]:
    """Where the pairs of each group lie."""
    if not pairs.exists():
        raise InputError(pairs, found="no such file or folder", expected=PAIRS)
    if pairs.is_file() and file_kind(pairs) == "bin":
        return {pairs.stem.removesuffix("_test"): pairs}
    if pairs.is_file() and is_pair_list(pairs):
        return dict.fromkeys(pair_list_groups(pairs), pairs)
    if pairs.is_dir() and group_bins(pairs):
        return dict.fromkeys(group_bins(pairs), pairs)
    root = verification_folder(pairs)
    if (root / "txts").is_dir() and (groups := training_groups(root / "data")):
        return dict.fromkeys(groups, pairs)
    raise InputError(pairs, found="something else", expected=PAIRS)
