"""Memory and time as identities and images grow.

python benchmarks/scaling.py [--identities 7000 28000 100000 1000000] [--images 10000 40000 160000]

Every size in a fresh process. Head: a step with cross entropy, forward and backward. Packs: opened,
made into batches, one batch taken. Caches: read into memory, one batch taken.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _files import write_noise_cache, write_pixels
from _machine import describe
from _memory import rise_in_mib

from mstkd.artifacts.atomic import write_json
from mstkd.config import HeadSettings, SamplingSettings
from mstkd.data.loader import FaceBatches, epoch_order
from mstkd.data.pack import Content, Found, open_pack
from mstkd.embeddings.cache import open_cache
from mstkd.losses.head_loss import build_head_loss

RESULT = Path(__file__).parent / "results" / "scaling.json"
DIM, BATCH, TEACHERS, SIDE = 512, 128, 4, 32
IMAGES_AN_IDENTITY = 40
REPEATS = 5

Measured = dict[str, float]


def exact_head(classes: int) -> Measured:
    """A step that looks at all identities."""
    return head_step(classes, SamplingSettings(above=classes))


def sampled_head(classes: int) -> Measured:
    """A step that looks at the share of identities that is drawn by default."""
    return head_step(classes, SamplingSettings(above=0))


def head_step(classes: int, sampling: SamplingSettings) -> Measured:
    """MiB on top of the head itself, and seconds, of a step."""
    settings = HeadSettings(sampling=sampling)

    def make(classes: int) -> Callable[[], None]:
        torch.manual_seed(0)
        head = build_head_loss(settings, DIM, classes, torch.Generator().manual_seed(0))
        embeddings = torch.randn(BATCH, DIM, requires_grad=True)
        labels = torch.randint(classes, (BATCH,))

        def step() -> None:
            head(embeddings, labels).backward()
            head.zero_grad(set_to_none=True)
            embeddings.grad = None

        return step

    make(500)()  # libraries load their parts once
    step = make(classes)
    mib = rise_in_mib(step)
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    return {
        "weight_mib": round(classes * DIM * 4 / 2**20, 1),
        "step_mib": round(mib, 1),
        "step_seconds": round(min(seconds), 4),
    }


def write_pack(path: Path, images: int) -> None:
    identities = images // IMAGES_AN_IDENTITY
    content = Content(
        kind="train",
        group="A",
        image_size=SIDE,
        paths=[f"A/m.{row % identities:06}/{row:07}.jpg" for row in range(images)],
        identity_names=[f"m.{number:06}" for number in range(identities)],
        identity=(np.arange(images) % identities).astype(np.int32),
        found=Found(images, identities),
    )
    random = np.random.default_rng(0)
    sizes = [min(10_000, images - begin) for begin in range(0, images, 10_000)]
    chunks = (random.integers(0, 256, (rows, SIDE, SIDE, 3), np.uint8) for rows in sizes)
    write_pixels(path, content, chunks)


def open_and_take(path: Path) -> tuple[Any, Any]:
    batches = FaceBatches(
        [open_pack(path, "train")], split=None, batch_size=BATCH, seed=0, device=torch.device("cpu")
    )
    return batches, next(batches.epoch(0))


def opening(
    images: int, write: Callable[[Path, int], None], take: Callable[[Path], tuple[Any, Any]]
) -> Measured:
    """MiB and seconds of opening a file of so many images and of a batch, page cache warm."""
    with tempfile.TemporaryDirectory() as folder:
        for name, count in (("small", 4 * BATCH), ("large", images)):
            write(Path(folder) / f"{name}.h5", count)
        take(Path(folder) / "small.h5")  # libraries load their parts once
        path = Path(folder) / "large.h5"
        begin = time.perf_counter()
        mib = rise_in_mib(lambda: take(path))
        seconds = time.perf_counter() - begin
        size = path.stat().st_size
    return {
        "file_mib": round(size / 2**20, 1),
        "open_and_batch_mib": round(mib, 1),
        "open_and_batch_seconds": round(seconds, 4),
    }


def pack_batch(images: int) -> Measured:
    return opening(images, write_pack, open_and_take)


def write_cache(path: Path, images: int) -> None:
    write_noise_cache(path, np.arange(images) // IMAGES_AN_IDENTITY, TEACHERS * DIM)


def read_and_take(path: Path) -> tuple[Any, Any]:
    cached = open_cache(path)
    rows = epoch_order(len(cached.labels), 0, 0)[:BATCH]
    return cached, torch.from_numpy(cached.embeddings)[torch.from_numpy(rows)].float()


def cache_batch(images: int) -> Measured:
    """The whole cache is read into memory."""
    return opening(images, write_cache, read_and_take)


MEASURES: dict[str, Callable[[int], Measured]] = {
    "head_exact": exact_head,
    "head_sampled": sampled_head,
    "pack": pack_batch,
    "cache": cache_batch,
}


def in_a_fresh_process(measure: str, size: int) -> Measured:
    command = [sys.executable, __file__, "--measure", measure, "--size", str(size)]
    measured: Measured = json.loads(subprocess.check_output(command, text=True))
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--identities", type=int, nargs="+", default=[7_000, 28_000, 100_000, 1_000_000]
    )
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 40_000, 160_000])
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(MEASURES[arguments.measure](arguments.size)))
        return
    machine = describe("torch", "numpy", "h5py")

    def of(measure: str, sizes: list[int]) -> dict[str, Measured]:
        return {str(size): in_a_fresh_process(measure, size) for size in sizes}

    result = {
        "what": "a fresh process each; MiB: rise of VmHWM, page cache not counted but mapped pages "
        f"that were read; seconds of the head: best of {REPEATS}, else one run, page cache warm",
        "batch": BATCH,
        "dim": DIM,
        "image_size_of_packs": SIDE,
        "teachers_of_caches": TEACHERS,
        "torch_threads": torch.get_num_threads(),
        "head_exact_by_identities": of("head_exact", arguments.identities),
        "sampled_share": SamplingSettings().share,
        "head_sampled_by_identities": of("head_sampled", arguments.identities),
        "pack_by_images": of("pack", arguments.images),
        "cache_by_images": of("cache", arguments.images),
        **machine,
    }
    write_json(arguments.output, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
