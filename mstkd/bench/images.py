"""Images to measure with: the experiment's packs, or made-up ones of the same size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mstkd.config import Config, PackSettings
from mstkd.data.loader import one_image_size
from mstkd.data.pack import Pack, open_pack
from mstkd.data.packing import pack_train
from mstkd.errors import InputError

IDENTITIES = 8
COARSE = 12  # pixels of noise across an image; enlarged, its JPEG is as large as a face's
JPEG_QUALITY = 95


def bench_packs(config: Config, packs: Path, temporary: Path, *, images: int) -> list[Pack]:
    """The training packs below `packs`, if all groups have one, else one of made-up images.

    Args:
        config: groups, image size and storage.
        packs: the experiment's folder of packs.
        temporary: an existing folder to make images in.
        images: how many to make.

    Raises:
        InputError: packs that are not whole, or of another image size.
    """
    paths = [packs / "train" / f"{group}.h5" for group in config.groups]
    if not all(path.exists() for path in paths):
        return [make_up_pack(config, temporary, images=images)]
    opened = [open_pack(path, "train") for path in paths]
    if one_image_size(opened) != config.data.image_size:
        raise InputError(
            paths[0],
            found=f"{opened[0].image_size} pixels",
            expected=f"{config.data.image_size} pixels as the config says",
        )
    return opened


def make_up_pack(config: Config, folder: Path, *, images: int) -> Pack:
    """A training pack of smooth noise: written as JPEG files first, as faces are."""
    random = np.random.default_rng(0)
    side = config.data.image_size
    for number in range(images):
        coarse = Image.fromarray(random.integers(0, 256, (COARSE, COARSE, 3), np.uint8))
        path = folder / "made-up" / "A" / f"m.{number % IDENTITIES}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((side, side)).save(path, quality=JPEG_QUALITY)
    settings = PackSettings(
        root=folder / "made-up",
        group="A",
        image_size=side,
        on_bad_image="error",
        storage=config.data.storage,
    )
    pack_train(settings, output=folder / "made-up.h5")
    return open_pack(folder / "made-up.h5", "train")
