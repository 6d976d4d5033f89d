"""The small experiment again and again, with faults: do memory, files or descriptors grow?

    PYTHONPATH=.:tests python tests/hard_times/soak.py --minutes 120 [--output FILE]

One process gives every `mstkd` of the runs, forks of itself (tests/quickjobs), and lives as long as
the soak. Each round is a fault of tests/law.py (kills, flips, edits, deletions) and a plain run,
which must end. After each are recorded: the descriptors and memory of that process, the files of
the folder besides those of TensorBoard, what is left over of killed runs, and the processes
left in the end. The results must be those of a fresh run then.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from law import EVENTS, Walks, World, differing, mend, settle
from processes import kill_marked, marked, new_mark
from quickjobs import quick_jobs

LEFT_OVER = (".tmp", ".partial", ".lock", ".unfinished")


def of_server(mark: str) -> dict[str, int]:
    """Descriptors and memory of the process that all steps are forks of."""
    (process,) = [one for one, words in marked(mark).items() if "quickjobs/server.py" in words]
    status = Path(f"/proc/{process}/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return {
        "descriptors": len(list(Path(f"/proc/{process}/fd").iterdir())),
        "megabytes": int(kilobytes) // 1024,
    }


def of_folder(world: World) -> dict[str, int]:
    """How many results there are, and what should not lie about."""
    files = [path for path in (world.folder / "results").rglob("*") if path.is_file()]
    kept = [path for path in files if "events" not in path.parts]
    left = [path.name for path in files if path.name.endswith(LEFT_OVER)]
    return {"files": len(kept), "left_over": len(left)}


def soak(folder: Path, *, seconds: float, seed: int, mark: str) -> dict[str, Any]:
    chance, rounds, faults = random.Random(seed), [], []
    begin = time.monotonic()
    with quick_jobs():
        walks = Walks(folder)
        world = World(folder / "world")
        shutil.copytree(walks.start, world.folder)
        events, weights = zip(*EVENTS, strict=True)
        while time.monotonic() - begin < seconds or not rounds:
            (event,) = chance.choices(events, weights)
            happened = event.__name__
            try:
                happened = event(world, chance)
                settle(world)
            except AssertionError as error:
                faults.append(f"{happened}: {str(error)[-2000:]}")
                break
            seen = {"event": event.__name__, **of_server(mark), **of_folder(world)}
            rounds.append(seen)
            print(seen, flush=True)
        try:
            different = differing(world.digests(), walks.of_fresh_run(world))
            if different:
                mend(world, different)
                different = differing(world.digests(), walks.of_fresh_run(world))
            assert not different, f"{different} differ in the end"
        except AssertionError as error:
            faults.append(str(error)[-2000:])
    told = {}
    for name in ("descriptors", "megabytes", "files", "left_over") if rounds else ():
        values = [one[name] for one in rounds]
        told[name] = {"first": values[0], "last": values[-1], "most": max(values)}
    return {
        "rounds": len(rounds),
        "minutes": round((time.monotonic() - begin) / 60, 1),
        **told,
        "faults": faults,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    mark = new_mark()
    os.environ[mark] = "1"
    with tempfile.TemporaryDirectory() as folder:
        result = soak(Path(folder), seconds=60 * given.minutes, seed=given.seed, mark=mark)
    result["processes_left"] = len(marked(mark))
    kill_marked(mark)
    print(json.dumps(result, indent=2))
    if given.output:
        given.output.write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(bool(result["faults"] or result["processes_left"]))


if __name__ == "__main__":
    main()
