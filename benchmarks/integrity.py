"""What it costs to compare what is read with its checksums, as a share of an epoch.

OMP_NUM_THREADS=1 python benchmarks/integrity.py [--images 8000] [--samples 40000] [--size 112]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from _files import write_noise_cache
from _machine import describe
from loading import packed, write_faces

from mstkd.artifacts import sealed
from mstkd.artifacts.atomic import write_json
from mstkd.data.pack import Pack, open_pack
from mstkd.training.checkpoint import Checkpoint

RESULTS = Path(__file__).parent / "results"
REPEATS, BATCH = 7, 128
TARGET = 1.0  # percent of an epoch
CACHE_COLUMNS = 4 * 512
CHECKPOINT_NUMBERS = 40_000_000


def processor_seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def epoch(pack: Pack, order: np.ndarray) -> Callable[[], None]:
    """All images of a pack in random batches."""

    def read() -> None:
        for begin in range(0, len(order), BATCH):
            pack.images[order[begin : begin + BATCH]]

    return read


def of_a_pack(path: Path) -> dict[str, float]:
    """Microseconds an image in the first epoch, which compares, and in the next; and of opening."""
    first, later, opening = [], [], []
    for seed in range(REPEATS):
        begin = time.process_time()
        pack = open_pack(path)
        opening.append(time.process_time() - begin)
        order = np.random.default_rng(seed).permutation(len(pack.images))
        first.append(processor_seconds(epoch(pack, order)))
        later.append(processor_seconds(epoch(pack, order)))
    count = len(pack.images)
    # A difference of two medians: what else the machine does touches both alike.
    compared = max(0.0, float(np.median(first) - np.median(later)))
    return {
        "read_and_compare_us_an_image": round(float(np.median(first)) / count * 1e6, 2),
        "read_us_an_image": round(float(np.median(later)) / count * 1e6, 2),
        "compare_us_an_image": round(compared / count * 1e6, 2),
        "open_us_an_image": round(float(np.median(opening)) / count * 1e6, 2),
    }


def of_a_cache(path: Path, samples: int) -> dict[str, float]:
    """Microseconds a sample of reading it into memory, with and without the comparison."""

    def read() -> None:
        with h5py.File(path) as file:
            held = sealed.Sealed(path, file)
            held.compare()
            held.compare_large(into=np.empty(held.large.shape, held.large.dtype))

    def plain() -> None:
        with h5py.File(path) as file:
            np.array(sealed.Sealed(path, file).large)

    for work in (read, plain):
        work()
    compared = [processor_seconds(read) for _ in range(REPEATS)]
    plainly = [processor_seconds(plain) for _ in range(REPEATS)]
    scale = 1e6 / samples
    return {
        "read_and_compare_us_a_sample": round(float(np.median(compared)) * scale, 2),
        "read_us_a_sample": round(float(np.median(plainly)) * scale, 2),
        "compare_us_a_sample": round(
            max(0.0, float(np.median(compared) - np.median(plainly))) * scale, 2
        ),
    }


def of_a_checkpoint(folder: Path) -> dict[str, float]:
    """Seconds of saving and loading, with the digest and without."""
    state = {"weights": torch.randn(CHECKPOINT_NUMBERS), "epoch": 1}
    checkpoint = Checkpoint(folder / "model.safetensors", "benchmark")
    plain = folder / "plain.pt"
    works: dict[str, Callable[[], object]] = {
        "save": lambda: checkpoint.save(state),
        "save_without_digest": lambda: torch.save(state, plain),
        "load": checkpoint.load,
        "load_without_digest": lambda: torch.load(plain, weights_only=True),
    }
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(REPEATS):
        for name, work in works.items():
            taken[name].append(processor_seconds(work))
    seconds = {f"{name}_seconds": round(float(np.median(t)), 3) for name, t in taken.items()}
    return {"megabytes": round(4 * CHECKPOINT_NUMBERS / 1e6), **seconds}


def epochs(packs: dict[str, Any], cache: dict[str, float]) -> Iterator[tuple[str, float, float]]:
    """Epochs that were measured: their samples a second, and what comparing one costs."""
    cpu = json.loads((RESULTS / "training_step.json").read_text())["on_cpu"]
    gpu = json.loads((RESULTS / "gpu.json").read_text())
    iresnet18 = cpu["iresnet18, 112 pixels, 28,000 identities"]["ours_images_a_second"]
    teacher = gpu["loop"]["teacher, resident images"]["images_a_second"]
    for storage, costs in packs.items():
        cost = costs["compare_us_an_image"]
        yield f"iresnet18, 2 cores, {storage}", iresnet18, cost
        yield f"iresnet34, {gpu['gpu']}, {storage}", teacher, cost
    cost = cache["compare_us_a_sample"]
    for batch in (128, 512):
        rate = gpu["loop"][f"adaptor DuL, batch {batch}"]["images_a_second"]
        yield f"adaptor DuL, batch {batch}, {gpu['gpu']}, cache", rate, cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--samples", type=int, default=40_000, help="of the cache")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--output", type=Path, default=RESULTS / "integrity.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    machine = describe("numpy", "torch", "h5py", "xxhash")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_faces(folder / "faces", arguments.images, arguments.size)
        packs = {
            storage: of_a_pack(
                packed(folder / "faces", folder, size=arguments.size, storage=storage).path
            )
            for storage in ("pixels", "encoded")
        }
        write_noise_cache(folder / "cache.h5", np.arange(arguments.samples), CACHE_COLUMNS)
        cache = of_a_cache(folder / "cache.h5", arguments.samples)
        checkpoint = of_a_checkpoint(folder)
    first_epochs = [
        {
            "epoch": name,
            "samples_a_second": round(rate, 1),
            "compare_us_a_sample": compare,
            "percent": round(100 * compare * rate / 1e6, 3),
        }
        for name, rate, compare in epochs(packs, cache)
    ]
    result = {
        "what": f"processor time of one thread, medians of {REPEATS}, all in the page cache. "
        "compare: the first epoch less the second, which compares nothing and finds the file "
        "mapped; percent: that over the time of an epoch, whose rate is of training_step.json or "
        "gpu.json, as if nothing ran beside it",
        "images": arguments.images,
        "image_size": arguments.size,
        "batch": BATCH,
        "packs": packs,
        "cache": {"samples": arguments.samples, "columns": CACHE_COLUMNS, **cache},
        "checkpoint": checkpoint,
        "first_epochs": first_epochs,
        "target_percent": TARGET,
        "target_met": all(one["percent"] <= TARGET for one in first_epochs),
        **machine,
    }
    write_json(arguments.output, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
