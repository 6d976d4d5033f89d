"""JPEG files as large as those of faces, in the layouts of the data sets."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

DISTINCT = 500  # drawn; the files are copies of them
QUALITY = 95


def draw_jpegs(side: int, count: int = DISTINCT) -> list[bytes]:
    """Blurred noise, encoded: at 112 pixels some 6 kB, as photographs of faces are."""
    random = np.random.default_rng(0)
    files = []
    for _ in range(count):
        noise = Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8))
        levels = np.asarray(noise.filter(ImageFilter.GaussianBlur(2)), np.float32)
        levels = (levels - levels.min()) / np.ptp(levels) * 255
        file = io.BytesIO()
        Image.fromarray(levels.astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
        files.append(file.getvalue())
    return files


def write_training(root: Path, count: int, side: int, *, identities: int) -> list[Path]:
    """A training folder of group A; its paths, in the order of writing."""
    files = draw_jpegs(side)
    paths = []
    for number in range(count):
        folder = root / "A" / f"m.{number % identities:05}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{number:06}.jpg"
        path.write_bytes(files[number % len(files)])
        paths.append(path)
    return paths
