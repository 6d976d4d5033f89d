"""How long it takes to see that no image of a large data set has changed.

python benchmarks/watching.py [--files 1250000]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from _machine import describe

from mstkd.artifacts.atomic import write_json
from mstkd.data.watched import listing

RESULT = Path(__file__).parent / "results" / "watching.json"
GROUPS, EACH = "ABCD", 45  # images of an identity
MOST_SECONDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=1_250_000)
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    machine = describe("numpy")
    with tempfile.TemporaryDirectory() as folder:
        for number in range(-(-arguments.files // EACH)):
            identity = Path(folder, GROUPS[number % len(GROUPS)], f"m.{number:06}")
            identity.mkdir(parents=True)
            for image in range(EACH):
                os.close(os.open(identity / f"{image}.jpg", os.O_CREAT | os.O_WRONLY))
        seconds, processor = [], []
        for _ in range(3):
            begin, begun = time.perf_counter(), time.process_time()
            files = sum(listing([Path(folder, group)]).files for group in GROUPS)
            seconds.append(round(time.perf_counter() - begin, 2))
            processor.append(round(time.process_time() - begun, 2))
    result = {
        "what": "to list all files with size and time, group by group, in one process; the files "
        "are empty and their entries in memory; processor_seconds are the user's and the system's, "
        "which other programs disturb less",
        "files": files,
        "seconds": sorted(seconds),
        "processor_seconds": sorted(processor),
        "target": f"at most {MOST_SECONDS} processor seconds",
        "target_met": sorted(processor)[1] <= MOST_SECONDS,
        **machine,
    }
    write_json(arguments.output, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
