"""What Snakemake takes for a finished run of ten thousand jobs, ours beside a bare workflow's.

python benchmarks/finished_dag.py [--seeds 156] [--folder FOLDER] [--before CHECKOUT]

Both have as many jobs, and no job is run between the measurements. With --before the code of
another checkout is measured on the same files. The finished runs stay in FOLDER, if one is given.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import _finished_runs as runs
from _machine import describe

from mstkd.artifacts.atomic import write_json

RESULT = Path(__file__).parent / "results" / "finished_dag.json"
LEAST_JOBS, MOST_CHECK_SECONDS = 10_000, 30
NOTHING, EDITED_WEIGHT = "Nothing to be done", 11


class Side:
    """A finished run and the workflow that is asked about it."""

    def __init__(self, folder: Path, snakefile: Path, package: Path | None = None) -> None:
        self.folder, self.snakefile = folder, snakefile
        self._environment = {**os.environ, "PYTHONPATH": str(package or runs.OURS.parent)}

    def snakemake(self, *options: str) -> tuple[float, str]:
        """Processor seconds of a command, and what it said."""
        return self.measured(runs.command(self.snakefile, self.folder, *options))

    def measured(self, command: Sequence[str], codes: tuple[int, ...] = (0,)) -> tuple[float, str]:
        begin = _children()
        told = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=self._environment,
            cwd=self.folder,
        )
        seconds = _children() - begin
        text = told.stdout + told.stderr
        if told.returncode not in codes:
            raise SystemExit(text)
        return seconds, text


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def dry_runs(sides: dict[str, Side], repeats: int, *, nothing: bool) -> dict[str, list[float]]:
    """Processor seconds of dry runs, the sides in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            spent, told = side.snakemake("--dry-run")
            if (NOTHING in told) != nothing:
                raise SystemExit(f"{name}: {told}")
            seconds[name].append(round(spent, 2))
    return seconds


def told(seconds: dict[str, list[float]]) -> dict[str, object]:
    """Medians, what is ours of them, and each measurement."""
    medians = {name: round(statistics.median(spent), 2) for name, spent in seconds.items()}
    more = {
        f"{name}_less_bare": round(median - medians["bare"], 2)
        for name, median in medians.items()
        if name != "bare"
    }
    return {**medians, **more, "each": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=156)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--before", type=Path, help="a checkout of another version")
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    machine = describe("snakemake")
    with contextlib.ExitStack() as held:
        folder = arguments.folder or Path(held.enter_context(tempfile.TemporaryDirectory()))
        ours, bare = folder.absolute() / "ours", folder.absolute() / "bare"
        jobs = runs.made(ours, arguments.seeds, runs.make_ours)
        if jobs != runs.made(bare, arguments.seeds, runs.make_bare):
            raise SystemExit("the bare workflow has another number of jobs")
        sides = {"ours": Side(ours, runs.OURS), "bare": Side(bare, runs.BARE)}
        if arguments.before is not None:
            checkout = arguments.before.absolute()
            sides["before"] = Side(ours, checkout / "Snakefile", checkout)
        result: dict[str, object] = {
            "what": "processor seconds (user and system) from start to end, medians, the sides in "
            "turn; bare: a workflow of as many jobs and files without code of ours",
            "jobs": jobs,
            "nothing_changed": told(dry_runs(sides, arguments.repeats, nothing=True)),
        }
        for where, config in ((ours, runs.our_config), (bare, runs.bare_config)):
            runs.write_config(where, config(arguments.seeds, EDITED_WEIGHT))
        result["one_lambda_edited"] = told(dry_runs(sides, arguments.repeats, nothing=False))
        spent = {name: sides[name].snakemake("--touch")[0] for name in ("ours", "bare")}
        result["touch_after_the_edit"] = told({name: [round(s, 2)] for name, s in spent.items()})
        if NOTHING in sides["ours"].snakemake("--dry-run")[1]:
            raise SystemExit("--touch hid an edit")
        for where, config in ((ours, runs.our_config), (bare, runs.bare_config)):
            runs.write_config(where, config(arguments.seeds))
        # As in a checkout, where there is a Snakefile.
        target = 'workflow.default_target = "all"'
        (ours / "Snakefile").write_text(f'include: "{runs.OURS}"\n\n\n{target}\n')
        check = [str(Path(sys.executable).with_name("mstkd")), "check"]
        check += ["--configfile", "config.yaml"]
        seconds = [round(sides["ours"].measured(check)[0], 2) for _ in range(arguments.repeats)]
        median = statistics.median(seconds)
        result["check"] = {
            "processor_seconds": median,
            "each": seconds,
            "target": f"at most {MOST_CHECK_SECONDS} s",
            "target_met": jobs >= LEAST_JOBS and median <= MOST_CHECK_SECONDS,
        }
    write_json(arguments.output, {**result, **machine})
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
