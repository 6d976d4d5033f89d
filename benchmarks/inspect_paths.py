"""Seconds and memory of `inspect` on a training folder of a million empty files.

python benchmarks/inspect_paths.py [--groups 4] [--identities 5000] [--images 50]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _machine import describe

from mstkd.artifacts.atomic import write_json

RESULT = Path(__file__).parent / "results" / "inspect_paths.json"
REPEATS = 3
CHILD = """
import json, sys, time
from pathlib import Path
begin = time.perf_counter()
from mstkd.data.inspection.inspect import inspect
from mstkd.data.inspection.text import report_lines
found = inspect(Path(sys.argv[1]))
report_lines(found)
seconds = time.perf_counter() - begin
print(json.dumps([seconds, [[group.identities, group.images] for group in found.groups]]))
"""


def make_tree(root: Path, groups: int, identities: int, images: int) -> None:
    for group in range(groups):
        for identity in range(identities):
            # Names are as long as those of BUPT-Balancedface.
            folder = root / f"group{group}" / f"m.{group}{identity:06}"
            folder.mkdir(parents=True)
            for image in range(images):
                (folder / f"{image:03}-FaceId-0_align.jpg").touch()


def list_only(root: Path) -> float:
    """Seconds that `find` takes to list the names, for comparison."""
    begin = time.perf_counter()
    subprocess.run(["find", root, "-name", "*.jpg", "-printf", ""], check=True)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--identities", type=int, default=5000, help="per group")
    parser.add_argument("--images", type=int, default=50, help="per identity")
    arguments = parser.parse_args()
    machine = describe("pillow")
    shape = (arguments.groups, arguments.identities, arguments.images)
    expected = [[arguments.identities, arguments.identities * arguments.images]] * arguments.groups

    seconds, whole, find = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        make_tree(Path(folder), *shape)
        making = time.perf_counter() - begin
        for _ in range(REPEATS):
            find.append(list_only(Path(folder)))
            begin = time.perf_counter()
            run = subprocess.run(
                [sys.executable, "-c", CHILD, folder], check=True, capture_output=True, text=True
            )
            whole.append(time.perf_counter() - begin)
            taken, found = json.loads(run.stdout)
            if found != expected:
                raise SystemExit(f"found {found}, expected {expected}")
            seconds.append(taken)
    # Of the largest child, in kB on Linux: find takes a few MB.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    result = {
        "what": "seconds for inspect on a training folder of empty files just made (in the file "
        f"cache), in a fresh process, imports included; slowest of {REPEATS} runs; the target is "
        "20 s and 1 GB",
        "paths": arguments.groups * arguments.identities * arguments.images,
        "groups": arguments.groups,
        "identities_a_group": arguments.identities,
        "images_an_identity": arguments.images,
        "inspect_seconds": round(max(seconds), 2),
        "process_seconds": round(max(whole), 2),
        "find_seconds": round(max(find), 2),
        "peak_memory_mb": round(peak / 1000, 1),
        "making_the_tree_seconds": round(making, 1),
        "counts_right": True,
        **machine,
    }
    write_json(RESULT, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
