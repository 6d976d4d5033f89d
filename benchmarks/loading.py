"""Random batches of a pack, of pixels and of encoded images, against a Dataset of JPEG files.

OMP_NUM_THREADS=1 python benchmarks/loading.py [--images 4000] [--batch 128] [--size 112]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _faces import draw_jpegs
from _machine import describe
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mstkd.artifacts.atomic import write_json
from mstkd.config import PackSettings
from mstkd.data.loader import FaceBatches
from mstkd.data.pack import Pack, open_pack
from mstkd.data.packing import pack_train

RESULT = Path(__file__).parent / "results" / "loading.json"
REPEATS = 7
IDENTITIES = 40
TARGET = 20


class JpegFiles(Dataset[Tensor]):
    """Each image opened, decoded, flipped and normalised by itself, as is common.

    By hand, in fewer steps than torchvision's transforms take, so that it is no straw man.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._random = np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: int) -> Tensor:
        with Image.open(self._paths[row]) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB")))
        if self._random.random() < 0.5:
            pixels = pixels.flip(1)
        return pixels.permute(2, 0, 1).float().div_(127.5).sub_(1.0)


def write_faces(root: Path, count: int, size: int) -> list[Path]:
    """A training folder; its files in the order of writing."""
    paths = []
    for number, jpeg in enumerate(draw_jpegs(size, count)):
        path = root / "A" / f"m.{number % IDENTITIES:02}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg)
        paths.append(path)
    return paths


def packed(root: Path, folder: Path, *, size: int, storage: Any) -> Pack:
    settings = PackSettings(
        root=root, group="A", image_size=size, on_bad_image="error", storage=storage
    )
    pack_train(settings, output=folder / f"{storage}.h5")
    return open_pack(folder / f"{storage}.h5", "train")


def reading(pack: Pack, batch: int) -> Callable[[], Iterator[np.ndarray]]:
    """Random batches as they lie in the pack, uint8 arrays."""
    random = np.random.default_rng(0)

    def read() -> Iterator[np.ndarray]:
        order = random.permutation(len(pack.images))
        for begin in range(0, len(order) - batch + 1, batch):
            yield pack.images[order[begin : begin + batch]]

    return read


def training(pack: Pack, batch: int) -> Callable[[], Iterator[Any]]:
    """Random batches as training gets them: flipped, normalised float32 tensors."""
    batches = FaceBatches([pack], split=None, batch_size=batch, seed=0, device=torch.device("cpu"))
    epochs = iter(range(1_000_000))
    return lambda: batches.epoch(next(epochs))


def images_a_second(read: Callable[[], Iterator[Any]], batch: int, seconds: float) -> float:
    """Of whole passes that take about so long or longer, by the processor's time.

    Everything runs in one thread and no disk is waited for, so this is the rate of one core, and
    other programs on the machine disturb it little.
    """
    batches = 0
    begin = time.process_time()
    while (elapsed := time.process_time() - begin) < seconds:
        batches += sum(1 for _ in read())
    return batches * batch / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=112)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    machine = describe("numpy", "torch", "torchvision", "pillow")
    batch, size = arguments.batch, arguments.size
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = write_faces(folder / "faces", arguments.images, size)
        jpeg_bytes = sum(path.stat().st_size for path in paths)
        pixels = packed(folder / "faces", folder, size=size, storage="pixels")
        encoded = packed(folder / "faces", folder, size=size, storage="encoded")
        if not np.array_equal(pixels.images[:], encoded.images[:]):
            raise SystemExit("the packs differ")
        loader = DataLoader(JpegFiles(paths), batch, shuffle=True, drop_last=True)
        kinds: dict[str, Callable[[], Iterator[Any]]] = {
            "jpeg_dataset": lambda: iter(loader),
            "pack_read": reading(pixels, batch),
            "pack_training": training(pixels, batch),
            "encoded_pack_read": reading(encoded, batch),
            "encoded_pack_training": training(encoded, batch),
        }
        for read in kinds.values():  # all files in the page cache, all code loaded
            sum(1 for _ in read())
        for _ in range(REPEATS):  # in turns, so that other programs disturb all alike
            for name, read in kinds.items():
                rates.setdefault(name, []).append(images_a_second(read, batch, 0.5))
        pack_bytes = {pack.path.stem: pack.path.stat().st_size for pack in (pixels, encoded)}
    best = {name: max(values) for name, values in rates.items()}
    median = {name: float(np.median(values)) for name, values in rates.items()}
    dataset = "jpeg_dataset"
    result = {
        "what": "images a second of processor time in random batches in one thread, page cache "
        f"warm; best of {REPEATS} runs in turns. jpeg_dataset: a Dataset that opens, decodes "
        "(Pillow), flips and normalises each file; read: uint8 arrays; training: flipped, "
        "normalised tensors",
        "images": arguments.images,
        "batch": batch,
        "image_size": size,
        "mean_jpeg_bytes": round(jpeg_bytes / arguments.images),
        "pack_bytes_per_image": {
            name: round(total / arguments.images) for name, total in pack_bytes.items()
        },
        "images_a_second": {name: round(value) for name, value in best.items()},
        "images_a_second_median": {name: round(value) for name, value in median.items()},
        "times_as_fast_as_the_dataset": {
            name: round(value / best[dataset], 1) for name, value in best.items() if name != dataset
        },
        "times_as_fast_by_medians": {
            name: round(value / median[dataset], 1)
            for name, value in median.items()
            if name != dataset
        },
        "target_of_pack_read": TARGET,
        "target_met": best["pack_read"] >= TARGET * best[dataset],
        **machine,
    }
    write_json(RESULT, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
