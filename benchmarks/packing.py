"""Packing JPEG files on all cores against Pillow that decodes the same images and does no more.

OMP_NUM_THREADS=1 python benchmarks/packing.py [--images 6000] [--size 112]
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import io
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from _faces import DISTINCT, draw_jpegs
from _machine import describe
from PIL import Image

from mstkd.artifacts.atomic import write_json
from mstkd.config import PackSettings
from mstkd.data.pack import open_pack
from mstkd.data.packing import pack_train
from mstkd.data.partial import CHUNK

RESULT = Path(__file__).parent / "results" / "packing.json"
REPEATS = 3
REPEATS_HERE = 15  # of seven, a busy neighbour can spoil four
IDENTITIES = 40
STORAGES = ("pixels", "encoded")
TARGET = 0.8
SECONDS_BETWEEN_SAMPLES = 0.02

# In a process of its own, whose memory is nobody else's. Imports are over when the clock starts,
# the workers' are not.
CHILD = """
import json, resource, sys, time
from pathlib import Path
from mstkd.config import PackSettings
from mstkd.data.packing import pack_train

root, output, size, storage, workers = sys.argv[1:]
settings = PackSettings(
    root=root, group="A", image_size=size, on_bad_image="error", storage=storage
)
if __name__ == "__main__":
    begin, begin_cpu = time.perf_counter(), time.process_time()
    pack_train(settings, output=Path(output), workers=int(workers))
    seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps([seconds, cpu + children.ru_utime + children.ru_stime]))
"""


class Run(NamedTuple):
    seconds: float
    cpu_seconds: float  # of all processes
    peak_bytes: int = 0  # of all processes, pages that they share counted for each


def write_faces(root: Path, jpegs: list[bytes], count: int) -> list[Path]:
    """A training folder; its files in the order in which they are packed."""
    paths = [root / "A" / f"m.{n % IDENTITIES:02}" / f"{n:06}.jpg" for n in range(count)]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpegs[number % DISTINCT])
    return sorted(paths)


# ---------------------------------------------------------------- Pillow alone

_in_memory: dict[Path, bytes] = {}


def load(paths: list[Path]) -> None:
    _in_memory.update((path, path.read_bytes()) for path in paths)


def decode_memory(paths: list[Path]) -> float:
    """Decode images whose bytes the process has already; seconds of the processor."""
    begin = time.process_time()
    for path in paths:
        with Image.open(io.BytesIO(_in_memory[path])) as image:
            np.asarray(image.convert("RGB"))
    return time.process_time() - begin


def decode_files(paths: list[Path]) -> float:
    """Decode images from the page cache; seconds of the processor."""
    begin = time.process_time()
    for path in paths:
        with Image.open(path) as image:
            np.asarray(image.convert("RGB"))
    return time.process_time() - begin


def decode_all(pool: concurrent.futures.Executor, decode: Any, paths: list[Path]) -> Run:
    """Decode all images in chunks of the packing's size."""
    chunks = [paths[begin : begin + CHUNK] for begin in range(0, len(paths), CHUNK)]
    begin = time.perf_counter()
    cpu_seconds = sum(pool.map(decode, chunks))
    return Run(time.perf_counter() - begin, cpu_seconds)


# ---------------------------------------------------------------- packing


def pack(root: Path, output: Path, *, size: int, storage: str, workers: int) -> Run:
    """Pack a folder in a new process."""
    command = [sys.executable, str(root.parent / "child.py"), str(root), str(output)]
    Path(command[1]).write_text(CHILD, encoding="utf-8")
    with subprocess.Popen(
        [*command, str(size), storage, str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        peak = 0

        def watch() -> None:
            nonlocal peak
            while process.poll() is None:
                peak = max(peak, tree_bytes(process.pid))
                time.sleep(SECONDS_BETWEEN_SAMPLES)

        watcher = threading.Thread(target=watch)
        watcher.start()
        told, _ = process.communicate()
        watcher.join()
    if process.returncode:
        raise SystemExit(f"packing {root} failed")
    return Run(*json.loads(told), peak)


def tree_bytes(pid: int) -> int:
    """Resident memory of a process and all below it."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.NoSuchProcess:  # one has just ended: the next sample counts
        return 0
    return total


# ---------------------------------------------------------------- both


def measure(folder: Path, count: int, size: int, workers: int) -> dict[str, Any]:
    """All runs of each kind, made in turns, and the mean size of a file."""
    jpegs = draw_jpegs(size)
    paths = write_faces(folder / "once", jpegs, count)
    write_faces(folder / "twice", jpegs, 2 * count)
    runs = one_process(folder, paths, size)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        workers, context, initializer=load, initargs=(paths,)
    ) as pool:
        decode_all(pool, decode_memory, paths)  # processes started, code and files read
        for _ in range(REPEATS):  # in turns, so that other programs disturb all alike
            for name, decode in (("memory", decode_memory), ("files", decode_files)):
                runs.setdefault(name, []).append(decode_all(pool, decode, paths))
            for storage in STORAGES:
                for part in ("once", "twice"):
                    output = folder / f"{storage}.{part}.h5"
                    run = pack(folder / part, output, size=size, storage=storage, workers=workers)
                    runs.setdefault(f"{storage} {part}", []).append(run)
    for part, images in (("once", count), ("twice", 2 * count)):
        pixels, encoded = (open_pack(folder / f"{storage}.{part}.h5") for storage in STORAGES)
        if len(pixels.images) != images or pixels.sha256 != encoded.sha256:
            raise SystemExit("the packs differ")
    return {"jpeg_bytes": sum(map(len, jpegs)) / DISTINCT, "runs": runs}


def one_process(folder: Path, paths: list[Path], size: int) -> dict[str, list[Run]]:
    """Decoding and packing here, where no process has to start."""
    runs: dict[str, list[Run]] = {}
    load(paths)
    for _ in range(REPEATS_HERE):
        for name, decode in (("memory", decode_memory), ("files", decode_files)):
            runs.setdefault(f"{name} here", []).append(Run(0, decode(paths)))
        for storage in STORAGES:
            settings = PackSettings(
                root=folder / "once",
                group="A",
                image_size=size,
                on_bad_image="error",
                storage=storage,
            )
            begin = time.process_time()
            with contextlib.redirect_stderr(io.StringIO()):
                pack_train(settings, output=folder / "here.h5")
            run = Run(0, time.process_time() - begin)
            runs.setdefault(f"{storage} here", []).append(run)
    return runs


def summary(runs: dict[str, list[Run]], storage: str, count: int) -> dict[str, Any]:
    """Rates of one storage by the clock and by the processor, and its memory."""
    once, twice = (runs[f"{storage} {part}"] for part in ("once", "twice"))
    here = best_cpu_seconds(runs[f"{storage} here"])
    rates = {
        "whole_run": count / best_seconds(once),
        "whole_run_of_twice_as_many": 2 * count / best_seconds(twice),
    }
    packing = runs[f"{storage} here"]
    shares = {
        name: statistics.quantiles(
            alone.cpu_seconds / run.cpu_seconds
            for alone, run in zip(runs[turn], packing, strict=True)
        )
        for name, turn in (
            ("decoding_from_memory", "memory here"),
            ("decoding_files", "files here"),
        )
    }
    return {
        "images_a_second": {name: round(rate) for name, rate in rates.items()},
        "share_of_the_rate_of_decoding_files": {
            name: round(rate * best_seconds(runs["files"]) / count, 3)
            for name, rate in rates.items()
        },
        "cpu_microseconds_an_image": round(here / count * 1e6, 1),
        "share_by_cpu_time": {name: round(share[1], 3) for name, share in shares.items()},
        "quartiles_of_share_by_cpu_time": {
            name: [round(share[0], 3), round(share[2], 3)] for name, share in shares.items()
        },
        "peak_memory_mb": round(max(run.peak_bytes for run in once) / 1e6),
        "peak_memory_mb_of_twice_as_many": round(max(run.peak_bytes for run in twice) / 1e6),
        "target_met": shares["decoding_files"][1] >= TARGET,
    }


def best_seconds(runs: list[Run]) -> float:
    return min(run.seconds for run in runs)


def best_cpu_seconds(runs: list[Run]) -> float:
    return min(run.cpu_seconds for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--size", type=int, default=112)
    arguments = parser.parse_args()
    workers = os.cpu_count() or 1
    machine = describe("numpy", "pillow", "h5py")
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), arguments.images, arguments.size, workers)
    runs, count = measured["runs"], arguments.images
    result = {
        "what": "images a second of pack-train from a folder of JPEG files in the page cache to "
        "a pack synced to disk, all cores, against Pillow decoding the same files to arrays in "
        f"as many processes started before, in the same chunks; best of {REPEATS} runs in turns. "
        "whole_run counts the start of the workers, which a run of a million does not notice: "
        "the target is judged by processor time in one process, the median of "
        f"{REPEATS_HERE} turns with decoding, which other programs disturb less too. Memory is "
        "that of all processes together",
        "images": count,
        "image_size": arguments.size,
        "mean_jpeg_bytes": round(measured["jpeg_bytes"]),
        "processes": workers,
        "decode": {
            name: {
                "images_a_second": round(count / best_seconds(runs[name])),
                "cpu_microseconds_an_image": round(
                    best_cpu_seconds(runs[f"{name} here"]) / count * 1e6, 1
                ),
            }
            for name in ("memory", "files")
        },
        **{storage: summary(runs, storage, count) for storage in STORAGES},
        "target_share_of_decode_rate": TARGET,
        **machine,
    }
    write_json(RESULT, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
