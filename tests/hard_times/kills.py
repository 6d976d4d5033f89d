"""Steps and whole runs are killed at moments drawn by chance: how many bytes differ in the end?

    PYTHONPATH=.:tests python tests/hard_times/kills.py --steps 300 --runs 10 [--output FILE]

A step is killed by SIGKILL, SIGTERM or SIGINT, it alone or with all that it started, up to three
times; after each, its results are absent, old, new or refused by name. Then it is let end. A whole
run of Snakemake is killed so again and again and then given once more. All results must be those
of a run that nobody killed, byte by byte (HDF5 files number by number).
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import torch
from disklog import lay_out, tree_of
from law import Walks, World, differing, killed_after, settle, wait_for_group
from packs import settings_of
from power_loss import (
    STEPS,
    PowerCutError,
    Recording,
    call,
    contents,
    faults_after,
    look,
    nothing,
    small_parts,
)
from processes import kill_marked, marked, new_mark
from quickjobs import quick_jobs

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MOST_IN_A_ROW = 3
LONGEST = 600  # seconds after which a step counts as hanging, on a busy machine too
ENDED_WELL = ("(100%) done", "Nothing to be done")  # says Snakemake


def pack_in_two_processes(base: Path, folder: Path) -> None:
    settings = settings_of(base / "faces").model_dump_json()
    call("pack-train", "--settings", settings, "--output", folder / "A.h5", "--threads", 2)


KILLED = {
    **STEPS,
    "pack in two processes": replace(STEPS["pack"], before=nothing, run=pack_in_two_processes),
}


@dataclass
class Count:
    """What came of the kills."""

    kills: collections.Counter[str] = field(default_factory=collections.Counter)
    found: collections.Counter[str] = field(default_factory=collections.Counter)
    late: int = 0  # no kills: the step or run had ended
    ends: int = 0  # results compared in the end
    faults: list[str] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        return {
            "kills": sum(self.kills.values()),
            "by_signal": dict(sorted(self.kills.items())),
            "came_too_late": self.late,
            "results_found": dict(sorted(self.found.items())),
            "compared_in_the_end": self.ends,
            "differing_or_lost": len(self.faults),
        }


# ---------------------------------------------------------------- steps


def in_a_child(step: Callable[[], None], log: Path) -> int:
    """Start a step in a fork, the leader of a group; its process."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        with contextlib.suppress(PermissionError, ProcessLookupError):  # both, whoever comes first
            os.setpgid(child, child)
        return child
    code = 1
    try:
        os.setpgid(0, 0)
        for number in SIGNALS[1:]:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        step()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def ended(child: int, seconds: float) -> int | None:
    """The exit code of a child that ends in such a time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def kill_steps(name: str, where: Path, *, kills: int, seed: int) -> Count:
    """Kill a step so many times, and compare what it gives in the end."""
    chance, count, step = random.Random(f"{name} {seed}"), Count(), KILLED[name]
    base, folder, log = where / "base", where / "folder", where / "log"
    where.mkdir(parents=True)
    with contextlib.chdir(where):
        for path in (base, folder):
            path.mkdir()
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            step.prepare(base)
            step.before(base, folder)
            before, held_before = tree_of(folder), contents(step, folder)
            step.run(base, folder)  # in this process: the forks import nothing
        lay_out(before, folder)
        begin = time.monotonic()
        child = in_a_child(lambda: step.run(base, folder), log)
        assert ended(child, LONGEST) == 0, log.read_text()
        seconds = time.monotonic() - begin
        made = Recording(step, base, folder, None, held_before, contents(step, folder))
        while sum(count.kills.values()) < kills:
            lay_out(before, folder)
            one_end(made, count, chance, seconds, log)
    return count


def one_end(
    made: Recording, count: Count, chance: random.Random, seconds: float, log: Path
) -> None:
    """Kill a step up to three times, then let it end."""
    done = []
    for _ in range(chance.randint(1, MOST_IN_A_ROW)):
        number, to_all = chance.choice(SIGNALS), chance.random() < 0.5
        after = chance.uniform(0, seconds)
        child = in_a_child(lambda: made.step.run(made.base, made.folder), log)
        code = ended(child, after)
        told = f"{number.name} to {'all' if to_all else 'one'}"
        if code is not None:
            count.late += 1
            continue
        done.append(f"{told} after {after:.3f} s")
        count.kills[told] += 1
        (os.killpg if to_all else os.kill)(child, number)
        if ended(child, LONGEST) is None:
            count.faults.append(f"{done}: hangs")
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return
        wait_for_group(child)
        for name in made.step.outputs:
            try:
                count.found[look(made, name)] += 1
            except PowerCutError as fault:
                count.faults.append(f"{done}: {fault}")
    code = ended(in_a_child(lambda: made.step.run(made.base, made.folder), log), LONGEST)
    count.ends += len(made.after)
    if code != 0:
        count.faults.append(f"{done}: the next run ends with {code}: {log.read_text()[-500:]}")
    count.faults += [f"{done}: {fault}" for fault in faults_after(made)]


# ---------------------------------------------------------------- whole runs


def kill_runs(where: Path, *, runs: int, seed: int, longest: float = 12) -> Count:
    """Kill Snakemake, or it and its jobs, again and again in runs from nothing."""
    count = Count()
    with quick_jobs():
        walks = Walks(where)
        for run in range(seed, seed + runs):
            chance = random.Random(f"run {run}")
            world = World(where / f"run{run}")
            world.folder.mkdir()
            shutil.copytree(walks.start / "faces", world.folder / "faces")
            happened = []
            try:
                for _ in range(chance.randint(2, 5)):
                    happened.append(killed_after(world, chance, chance.uniform(0.5, longest)))
                    said = (world.folder / "told.txt").read_text()
                    if any(words in said for words in ENDED_WELL):
                        count.late += 1
                        continue
                    count.kills[happened[-1].removeprefix("run, ").partition(" after")[0]] += 1
                happened += settle(world)
                different = differing(world.digests(), walks.of_fresh_run(world))
            except AssertionError as error:
                count.faults.append(f"run {run}: {happened}: {error}")
                continue
            count.ends += len(world.files())
            if different:
                count.faults.append(f"run {run}: {happened}: {different} differ")
            shutil.rmtree(world.folder)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="kills of single steps, in all")
    parser.add_argument("--runs", type=int, default=10, help="whole runs, killed 2 to 5 times each")
    parser.add_argument("--only", nargs="+", choices=KILLED, default=list(KILLED))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    resource_tracker.ensure_running()  # Python's own: unmarked, it ends with this process
    begin, mark = time.monotonic(), new_mark()
    os.environ[mark] = "1"
    result: dict[str, Any] = {"steps": {}}
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.only if given.steps else ():
            kills = -(-given.steps // len(given.only))
            with small_parts():
                place = Path(folder).resolve() / name.replace(" ", "-")
                count = kill_steps(name, place, kills=kills, seed=given.seed)
            result["steps"][name] = count.told()
            faults += [f"{name}: {fault}" for fault in count.faults]
            print(f"{name}: {count.told()}", *count.faults, sep="\n  ", flush=True)
        if given.runs:
            count = kill_runs(Path(folder).resolve() / "runs", runs=given.runs, seed=given.seed)
            result["runs"] = count.told()
            faults += count.faults
            print(f"whole runs: {count.told()}", *count.faults, sep="\n  ", flush=True)
    del os.environ[mark]
    result["processes_left"] = len(marked(mark))
    kill_marked(mark)
    result["minutes"] = round((time.monotonic() - begin) / 60, 1)
    print(json.dumps(result, indent=2))
    if given.output:
        given.output.write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(bool(faults or result["processes_left"]))


if __name__ == "__main__":
    main()
