"""The law of reruns: whatever happened before, the plain command ends as a fresh run would.

    python tests/law.py --sequences 300 [--seed 0] [--steps 5] [--slurm] [--output FILE]

A sequence of edits, runs, kills, lost memory, copies, deleted files, flipped bytes and changed
images is walked from a finished run; with --slurm on a cluster of this machine, where jobs go on
when Snakemake is gone, or are cancelled. Then the plain command is given, and what it is told to do
is done, and every result is compared byte by byte, HDF5 files number by number, with that of a run
from nothing with the same config and images. Weights, packs, caches and scores that nothing reads
any more are not read by the plain command either: of those that differ `mstkd check --deep` must
say so, and what it tells to do must mend them. tests/test_law.py walks a few.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import yaml
from clusters import ON_SLURM, cluster, queued, slurm_says, wait_until_ended
from PIL import Image
from quickjobs import quick_jobs
from runs import ROOT, edited

from mstkd.artifacts.provenance import SIDECAR
from mstkd.artifacts.sealed import DAMAGE
from mstkd.bench.machine import describe

SNAKEMAKE, MSTKD = (Path(sys.executable).with_name(name) for name in ("snakemake", "mstkd"))
ADVICE = re.compile(r"(?:^|\s)rm (results/\S+)")
BASE: dict[str, Any] = {
    "groups": ["A", "B"],
    "embedding_dim": 8,
    "data": {"image_size": 16, "train": "faces/train", "verification": "faces/verification"},
    "backbones": {"tiny": {"blocks": [1, 1, 1, 1], "widths": [4, 4, 4, 4]}},
    "teachers": {
        "backbones": ["tiny"],
        "optimiser": {"epochs": 1, "batch_size": 8, "milestones": [1], "schedule_epochs": 1},
        "selection": {"folds": 3},
    },
    "adaptors": {
        "architectures": {"SL": {}},
        "optimiser": {"epochs": 1, "batch_size": 8, "milestones": [1], "schedule_epochs": 1},
    },
    "students": {
        "backbone": "tiny",
        "losses": {"a-KD": {}},
        "optimiser": {"epochs": 1, "batch_size": 8, "milestones": [1], "schedule_epochs": 1},
        "selection": {"folds": 3},
    },
    "controls": False,
    "evaluation": {"folds": 3},
}
# Each key's values; the first is the base's. The last two mean what the base says.
EDITS: dict[str, tuple[Any, ...]] = {
    "students.losses": ({"a-KD": {}}, {"a-KD": {"kd_weight": 7}}, {"EAF-KD": {}}),
    "students.optimiser.epochs": (1, 2),
    "teachers.head": ({}, {"margin": 0.3}),
    "data.train": (
        "faces/train",
        {
            "one": {"share": 0.75, "path": "faces/train"},
            "other": {"share": 0.25, "path": "faces/other"},
        },
    ),
    "teachers.foreign_share": (0, 0.5, [0, 0.5]),
    "splits.seed": (0, 1),
    "splits.by_seed": (False, True),
    "cache.dtype": ("float16", "float32"),
    "groups": (["A", "B"], ["B", "A"]),
    "report.title": ("One", "Two"),
    "adaptors.fused": (None, ["B"], [["A", "B"], ["B"]]),
    "adaptors.width": (None, 4, [4, 8]),
    "students.target_view": ("stored", "seen"),
    "teachers.optimiser.momentum": (0.9, 0.90),
    "adaptors.architectures": ({"SL": {}}, {"SL": {"architecture": "SL"}}),
}
# What the plain command is asked for; the rest is what that is made from.
TARGETS = (
    "results/tables/",
    "results/error-rates/",
    "results/figures/",
    "results/cards/",
    "results/report",
    "results/data-report",
)
PROVENANCE = ("results/provenance.html", "results/provenance.json")
LONGEST_RUN = 600  # seconds: some ten times what it takes on a busy machine
ENDED = 60  # seconds after which what should have ended counts as hanging


# ---------------------------------------------------------------- the world


def draw_faces(folder: Path) -> None:
    """Small images in the layouts of training and verification data, and others to train on."""
    other = {"share": 0.5, "synthetic": {"seed": 1}}
    sources = {"train": {"one": {"share": 0.5}, "other": other}}
    config = {**BASE, "data": {"image_size": 16, "synthetic": SYNTHETIC, **sources}}
    path = folder / "draw.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [SNAKEMAKE, "-s", ROOT / "Snakefile", "-d", folder, "--configfile", path, "-c", "1"]
    drawn = [folder / "results/data", folder / "results/data/sources/other"]
    indexes = [str((place / "index.csv").relative_to(folder)) for place in drawn]
    subprocess.run([*command, *indexes], check=True, capture_output=True)
    for part in ("train", "verification"):
        (drawn[0] / part).rename(folder / "faces" / part)
    (drawn[1] / "train").rename(folder / "faces/other")


SYNTHETIC = {
    "identities": 4,
    "images_per_identity": 4,
    "verification_identities": 6,
    "verification_images": 3,
    "folds": 3,
    "pairs_per_fold": 3,
}


class World:
    """A folder with images, a config and results, and what was done to it."""

    def __init__(self, folder: Path, *, on_slurm: bool = False) -> None:
        self.folder = folder
        self.on_slurm = on_slurm
        self.choice = dict.fromkeys(EDITS, 0)
        self.changes: list[str] = []  # of the images, in order

    def config(self) -> dict[str, Any]:
        edits = {key: EDITS[key][number] for key, number in self.choice.items()}
        return edited(copy.deepcopy(BASE), edits)

    def key(self) -> str:
        """What a fresh run's results hang on."""
        told = json.dumps([self.config(), self.changes], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def command(self, *options: str) -> list[str]:
        path = self.folder / "edited.yaml"
        path.write_text(yaml.safe_dump(self.config(), sort_keys=False))
        command = [SNAKEMAKE, "-s", ROOT / "Snakefile", "-d", self.folder, "--configfile", path]
        where = ON_SLURM if self.on_slurm else []
        return [*map(str, command), "--cores", "2", *where, *options]

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        command = self.command(*options)
        try:
            return subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=LONGEST_RUN
            )
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"{options} does not end:\n{error.stdout!r}"[-6000:]) from None

    def check_deep(self) -> str:
        """What `mstkd check --deep` says."""
        path = self.folder / "Snakefile"
        whole = str(ROOT / "workflow/Snakefile")
        path.write_text(f"include: {whole!r}\nworkflow.default_target = 'all'\n")
        command = [MSTKD, "check", "--deep", "--configfile", "edited.yaml"]
        told = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False, timeout=600
        )
        path.unlink()
        return told.stdout + told.stderr

    def files(self) -> list[Path]:
        """Every result that is compared."""
        return [path for path in sorted((self.folder / "results").rglob("*")) if self._is_one(path)]

    def _is_one(self, path: Path) -> bool:
        parts = path.relative_to(self.folder / "results").parts
        aside = parts[0] in ("logs", "benchmarks") or "events" in parts
        hidden = any(part.startswith(".") for part in parts)
        return path.is_file() and not aside and not hidden

    def digests(self) -> dict[str, str]:
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(held(path)).hexdigest()
            for path in self.files()
        }


def held(path: Path) -> bytes:
    """A file's bytes; of HDF5, which has some that mean nothing, all that it says."""
    if path.suffix == ".h5":
        with contextlib.suppress(*DAMAGE), h5py.File(path, "r") as file:
            told = [(name, repr(file.attrs[name])) for name in sorted(file.attrs)]
            return repr(told).encode() + b"".join(
                f"{name} {file[name].dtype} {file[name].shape}".encode() + file[name][...].tobytes()
                for name in sorted(file)
            )
    return path.read_bytes()


def differing(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Results that are not a fresh run's.

    One that was deleted and that nothing needs is not missed, and what lies beside it speaks of
    nothing; the page of provenance says so.
    """
    gone = {name for name in expected if name not in found}
    found = {name: one for name, one in found.items() if name.removesuffix(SIDECAR) not in gone}
    needed = {name for name in gone if name.startswith(TARGETS)}
    excused = PROVENANCE if gone - needed else ()
    differs = {name for name in found if name in expected and found[name] != expected[name]}
    return sorted(needed | differs.difference(excused))


def mend(world: World, different: list[str]) -> list[str]:
    """What `mstkd check --deep` says is to be done about results, done."""
    told = world.check_deep()
    advice = list(dict.fromkeys(ADVICE.findall(told)))
    # The page of provenance was made when it was so, and says so.
    unseen = set(different) - set(advice) - set(PROVENANCE)
    assert not unseen, f"{sorted(unseen)} differ, and mstkd check --deep says\n{told[-3000:]}"
    for name in advice:
        (world.folder / name).unlink()
    return [*(f"rm {name}" for name in advice), *settle(world)]


def settle(world: World) -> list[str]:
    """The plain command, and what it says is to be done, until it ends well; what was done."""
    done: list[str] = []
    for _ in range(12):
        told = world.run()
        if told.returncode == 0:
            return done
        text = told.stdout + told.stderr
        if "unlock" in text:
            world.run("--unlock")
            done.append("--unlock")
            continue
        for log in sorted((world.folder / "results/logs").rglob("*.log")):
            text += log.read_text(errors="replace")
        assert "Traceback" not in text, text
        advice = ADVICE.findall(text)
        assert advice, f"no advice in\n{text[-6000:]}"
        for name in dict.fromkeys(advice):
            (world.folder / name).unlink(missing_ok=True)
            done.append(f"rm {name}")
    raise AssertionError(f"still not done after {done}")


# ---------------------------------------------------------------- what may happen


def edit(world: World, chance: random.Random) -> str:
    key = chance.choice(list(EDITS))
    world.choice[key] = chance.randrange(len(EDITS[key]))
    return f"edit {key} to {EDITS[key][world.choice[key]]}"


def plain_run(world: World, chance: random.Random) -> str:
    return f"run {settle(world)}"


def killed_run(world: World, chance: random.Random) -> str:
    """Snakemake, or it and its jobs, killed after so many lines; orphans end, or go on."""
    return _killed(world, chance, lines=chance.randrange(1, 60))


def killed_after(world: World, chance: random.Random, seconds: float) -> str:
    """The same after so many seconds, wherever it is then."""
    return _killed(world, chance, seconds=seconds)


def _killed(
    world: World, chance: random.Random, *, lines: int = 0, seconds: float = float("inf")
) -> str:
    number = chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    whole_group = chance.random() < 0.4
    # Told to end, Snakemake waits for its jobs; killed, it leaves them, and we may wait or not.
    wait = number != signal.SIGKILL or chance.random() < 0.5
    world.run("--unlock")
    # To a file: Snakemake hangs when nobody reads it any more, and its jobs write there too.
    told = world.folder / "told.txt"
    with told.open("w") as file:
        started = subprocess.Popen(
            world.command(),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # In a shell's background SIGINT is ignored, here and in all that is started.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    begin = time.monotonic()
    deadline = begin + LONGEST_RUN
    while started.poll() is None and time.monotonic() < begin + seconds:
        if lines and told.read_text().count("\n[") >= lines:
            break
        assert time.monotonic() < deadline, told.read_text()
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if whole_group else os.kill)(started.pid, number)
    hung = ""
    try:
        started.wait(ENDED)
    except subprocess.TimeoutExpired:
        # Snakemake 9.27 waits for itself where the signal comes while it chooses jobs.
        started.kill()
        started.wait(ENDED)
        hung = ", which hung until SIGKILL"
    if wait:
        wait_for_group(started.pid)
    if world.on_slurm:
        hung += after_a_kill_on_slurm(world, chance, wait)
    who = "all" if whole_group else "snakemake"
    after = lines or f"{seconds:.2f} s"
    return f"run, {number.name} to {who} after {after}{hung}{'' if wait else ', jobs go on'}"


def after_a_kill_on_slurm(world: World, chance: random.Random, wait: bool) -> str:
    """The cluster's jobs go on without Snakemake, and one or all of them may be cancelled."""
    going = queued(world.folder)
    cancelled = chance.sample(going, chance.choice([0, min(1, len(going)), len(going)]))
    if cancelled:
        slurm_says("scancel", *cancelled)
    if wait:
        wait_until_ended(world.folder)
    return f", {len(going)} jobs on SLURM, {len(cancelled)} cancelled" if going else ""


def wait_for_group(leader: int) -> None:
    deadline = time.monotonic() + ENDED
    while time.monotonic() < deadline:
        try:
            os.killpg(leader, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise AssertionError("jobs of a killed run do not end")


def lose_memory(world: World, chance: random.Random) -> str:
    shutil.rmtree(world.folder / ".snakemake", ignore_errors=True)
    return "rm .snakemake"


def copy_results(world: World, chance: random.Random) -> str:
    """To another place and back, as `cp -r` or `mv` would."""
    results, other = world.folder / "results", world.folder / "elsewhere"
    if not results.is_dir():
        return "nothing to copy"
    with_times = chance.random() < 0.5
    shutil.copytree(results, other, copy_function=shutil.copy2 if with_times else shutil.copy)
    shutil.rmtree(results)
    other.rename(results)
    if chance.random() < 0.5:
        lose_memory(world, chance)
    return f"copy results{' with times' if with_times else ''}"


def delete_results(world: World, chance: random.Random) -> str:
    files = world.files()
    chosen = chance.sample(files, min(len(files), chance.randrange(1, 6)))
    for path in chosen:
        path.unlink()
    return f"rm {' '.join(str(path.relative_to(world.folder)) for path in chosen)}"


def delete_room(world: World, chance: random.Random) -> str:
    room = chance.choice(["packs", "embeddings", "splits", "teachers", "adaptors", "tables"])
    shutil.rmtree(world.folder / "results" / room, ignore_errors=True)
    return f"rm -r results/{room}"


def flip_byte(world: World, chance: random.Random) -> str:
    files = [path for path in world.files() if path.stat().st_size]
    if not files:
        return "nothing to flip"
    path = chance.choice(files)
    data = bytearray(path.read_bytes())
    place = chance.randrange(len(data))
    data[place] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    return f"flip byte {place} of {path.relative_to(world.folder)}"


def change_images(world: World, chance: random.Random) -> str:
    """Replace, add or remove a training image, or touch one."""
    folder = world.folder / "faces/train"
    group = chance.choice(["A", "B"])
    images = sorted((folder / group).rglob("*.jpg"))
    path = chance.choice(images)
    name = str(path.relative_to(folder))
    what = chance.choice(["replace", "add", "remove", "touch"])
    if what == "touch":
        os.utime(path)
        return f"touch {name}"
    if what == "replace":
        shade = chance.randrange(256)
        Image.new("RGB", (16, 16), (shade, 255 - shade, 128)).save(path)
        world.changes.append(f"replace {name} by {shade}")
    elif what == "add":
        # Of the same bytes as another's, or check-data would tell a copy: turned.
        added = path.with_name(f"added{len(world.changes)}.jpg")
        with Image.open(path) as image:
            image.rotate(90).save(added, quality=100)
        world.changes.append(f"add {added.name} of {name}")
    else:
        if len(list(path.parent.iterdir())) < 3:
            return "no image to spare"
        path.unlink()
        world.changes.append(f"remove {name}")
    return world.changes[-1]


def touch_results(world: World, chance: random.Random) -> str:
    files = world.files()
    for path in chance.sample(files, min(len(files), 5)):
        os.utime(path)
    return "touch results"


Event = Callable[[World, random.Random], str]
EVENTS: tuple[tuple[Event, int], ...] = (
    (edit, 5),
    (plain_run, 3),
    (killed_run, 5),
    (lose_memory, 1),
    (copy_results, 1),
    (delete_results, 2),
    (delete_room, 1),
    (flip_byte, 3),
    (change_images, 2),
    (touch_results, 1),
)


# ---------------------------------------------------------------- walks


class Walks:
    """Sequences from one finished run, and the fresh runs that they are compared with."""

    def __init__(self, folder: Path, *, on_slurm: bool = False) -> None:
        self._folder, self._number, self._on_slurm = folder, 0, on_slurm
        self._fresh: dict[str, dict[str, str]] = {}
        self.start = folder / "start"
        (self.start / "faces").mkdir(parents=True)
        draw_faces(self.start)
        shutil.rmtree(self.start / ".snakemake")
        shutil.rmtree(self.start / "results")
        shutil.copytree(self.start / "faces", folder / "faces")
        world = World(self.start)
        settle(world)
        self._fresh[world.key()] = world.digests()

    def walk(self, events: list[tuple[Event, random.Random]]) -> list[str]:
        """One sequence of events, each with what decides its details, and its end.

        Raises:
            AssertionError: the plain command does not end, or not as a fresh run does.
        """
        self._number += 1
        world = World(self._folder / f"walk{self._number}", on_slurm=self._on_slurm)
        shutil.copytree(self.start, world.folder)
        happened: list[str] = []
        try:
            happened += [event(world, chance) for event, chance in events]
            happened.append(f"in the end {settle(world)}")
            fresh = self.of_fresh_run(world)
            different = differing(world.digests(), fresh)
            if different:
                happened.append(f"after mstkd check --deep {mend(world, different)}")
                different = differing(world.digests(), fresh)
            assert not different, f"{different} after {happened}"
            again = world.run("--dry-run")
            assert "Nothing to be done" in again.stdout + again.stderr, again.stdout[-3000:]
        except AssertionError as error:
            raise AssertionError(f"{happened}\n{error}") from error
        finally:
            if self._on_slurm and (left := queued(world.folder)):
                slurm_says("scancel", *left)
                wait_until_ended(world.folder)
            shutil.rmtree(world.folder, ignore_errors=True)
        return happened

    def of_fresh_run(self, world: World) -> dict[str, str]:
        """What a run from nothing with the same config and images gives."""
        if world.key() not in self._fresh:
            fresh = World(self._folder / f"fresh{world.key()}")
            fresh.choice, fresh.changes = dict(world.choice), list(world.changes)
            fresh.folder.mkdir()
            shutil.copytree(world.folder / "faces", fresh.folder / "faces")
            told = fresh.run()
            assert told.returncode == 0, told.stdout + told.stderr
            self._fresh[world.key()] = fresh.digests()
            shutil.rmtree(fresh.folder)
        return self._fresh[world.key()]


def drawn(seed: int, steps: int) -> list[tuple[Event, random.Random]]:
    """The events of a seed; one stream decides them all."""
    chance = random.Random(seed)
    names, weights = zip(*EVENTS, strict=True)
    return [(event, chance) for event in chance.choices(names, weights, k=steps)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sequences", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0, help="of the first sequence")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--slurm", action="store_true", help="on a cluster of this machine")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    failed: list[str] = []
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as around:
        # What SLURM ends are the jobs themselves, not forks of another process.
        around.enter_context(cluster() if arguments.slurm else quick_jobs())
        walks = Walks(Path(folder), on_slurm=arguments.slurm)
        for seed in range(arguments.seed, arguments.seed + arguments.sequences):
            try:
                print(seed, " | ".join(walks.walk(drawn(seed, arguments.steps))), flush=True)
            except AssertionError as error:
                failed.append(str(error))
                print(f"FAILED {seed} {error}", flush=True)
    result = {
        "what": "sequences of events from a finished run, each ended by the plain command and "
        "compared byte by byte with a run from nothing (tests/law.py)",
        "sequences": arguments.sequences,
        "on_slurm": arguments.slurm,
        "first_seed": arguments.seed,
        "events_in_each": arguments.steps,
        "failed": len(failed),
        "minutes": round((time.monotonic() - begin) / 60, 1),
        **describe("snakemake", "torch"),
    }
    print(json.dumps(result, indent=2))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
