"""Faces drawn a second on one core, before JPEG and with it, and through the whole step.

OMP_NUM_THREADS=1 python benchmarks/synthesize.py [--size 32] [--workers 2]
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from _machine import describe

from mstkd.artifacts.atomic import write_json
from mstkd.config import SynthesizeSettings
from mstkd.data.synthetic import faces, synthesize

RESULT = Path(__file__).parent / "results" / "synthesize.json"
REPEATS = 5


def rate(count: int, work: Callable[[], object]) -> float:
    """Units a second in the best of a few runs: other programs only ever slow a run down."""
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return count / min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    machine = describe("numpy", "pillow")
    settings = SynthesizeSettings(groups=("A", "B", "C", "D"), image_size=arguments.size)
    images = len(settings.groups) * (
        settings.identities * settings.images_per_identity
        + settings.verification_identities * settings.verification_images
    )

    def draw() -> None:
        faces(settings, "A", part="train", identities=range(settings.identities))

    drawn = settings.identities * settings.images_per_identity
    with tempfile.TemporaryDirectory() as folder:
        fresh = (Path(folder, str(number)) for number in itertools.count())

        def write(workers: int) -> None:
            synthesize(settings, output=next(fresh), workers=workers)

        written = {
            f"written_{workers}_processes": round(rate(images, functools.partial(write, workers)))
            for workers in sorted({1, arguments.workers})
        }
    result = {
        "what": f"faces a second at {arguments.size} x {arguments.size}, best of {REPEATS} runs; "
        "drawn: before JPEG, in one process; written: the whole step, JPEG and disk",
        "drawn": round(rate(drawn, draw)),
        **written,
        "images_written": images,
        **machine,
    }
    for key, value in result.items():
        print(f"{key}: {value}")
    write_json(RESULT, result)


if __name__ == "__main__":
    main()
