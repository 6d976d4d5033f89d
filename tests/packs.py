"""Small folders of images for the tests of packs."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mstkd.config import PackSettings
from mstkd.data.packing import pack_verification

SIZE = 16
IDENTITIES = ("m.0a", "zoë b", "m.0c")
Pixels = dict[str, np.ndarray]


def write_faces(root: Path) -> Pixels:
    """Write 21 training images, three identities of seven; their pixels by path."""
    random = np.random.default_rng(0)
    pixels = {}
    for identity in IDENTITIES:
        (root / "A" / identity).mkdir(parents=True)
        for number in range(7):
            path = f"A/{identity}/ü {number}.png"
            pixels[path] = random.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
            Image.fromarray(pixels[path]).save(root / path)
    return pixels


def write_rfw(root: Path) -> PackSettings:
    """Write two identities of three images, 1 to 3, and four pairs."""
    random = np.random.default_rng(1)
    for identity in ("m.0a", "m.0b"):
        (root / "data/A" / identity).mkdir(parents=True)
        for number in (1, 2, 3):
            pixels = random.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
            path = root / "data/A" / identity / f"{identity}_{number:04d}.jpg"
            Image.fromarray(pixels).save(path)
    (root / "txts/A").mkdir(parents=True)
    pairs = "m.0b\t1\t3\nm.0a\t1\t2\nm.0a\t1\tm.0b\t3\nm.0b\t1\tm.0a\t2\n"
    (root / "txts/A/A_pairs.txt").write_text(pairs)
    return settings_of(root)


def settings_of(root: Path, **changes: Any) -> PackSettings:
    """Settings of a pack of group A."""
    settings = {"root": root, "group": "A", "image_size": SIZE, "on_bad_image": "error"}
    return PackSettings.model_validate(settings | changes)


def bin_pack(folder: Path, group: str, same: Sequence[bool] = (True, False, True, False)) -> Path:
    """A verification pack of a file `test.bin`, which names neither persons nor images."""
    folder = folder / group
    folder.mkdir(parents=True)
    random, images = np.random.default_rng(ord(group)), []
    for _ in range(2 * len(same)):
        data = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (SIZE, SIZE, 3), np.uint8)).save(data, "PNG")
        images.append(data.getvalue())
    (folder / "test.bin").write_bytes(pickle.dumps((images, list(same))))
    settings = settings_of(folder / "test.bin", group=group)
    pack_verification(settings, output=folder / "pack.h5")
    return folder / "pack.h5"
