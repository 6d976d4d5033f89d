"""The power fails after each call of a step: what lies there, and what makes the next run of it?

    PYTHONPATH=.:tests python tests/hard_times/power_loss.py [--only NAME ...] [--output FILE]

A step runs once under strace(1), which records each write, sync, rename, link and removal
(disklog.py). After each of them the power fails: what was not synced is lost, all of it or parts.
Of every such folder each result must be absent, what it was before, what it shall be, or refused by
name; the same step again must end with the same results as one that was never cut; what a run had
made sure to keep must be kept; and after the last call the results are there, whatever was lost.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from disklog import Disk, Tree, can_record, lay_out, recorded, told, tree_of
from flips import all_of_a_cache, all_of_a_pack, all_of_scores
from law import held
from networks import save_teacher, subject, teacher_settings
from packs import settings_of, write_faces, write_rfw
from PIL import Image
from reporting import write_metrics
from runs import ROOT

from mstkd.artifacts.records import Metrics, ModelRecord, read_record
from mstkd.artifacts.told import told_by
from mstkd.cli.app import app
from mstkd.data import partial
from mstkd.data.packing import pack_verification
from mstkd.data.splits import read_split
from mstkd.errors import InputError
from mstkd.models.weights import load_backbone
from mstkd.training.checkpoint import Checkpoint

WHOLE = 1_000  # progress
ABSENT, OLD, NEW, REFUSED = "absent", "old", "new", "refused"
Reader = Callable[[Path], Any]


@dataclass(frozen=True)
class Step:
    """A step, and what is to be there before it and after it; `base` is not replayed."""

    prepare: Callable[[Path], None]  # what it reads, in `base`
    before: Callable[[Path, Path], None]  # what lies in the folder already
    run: Callable[[Path, Path], None]
    outputs: dict[str, Reader]  # each reader raises InputError where the file is no result
    progress: Callable[[Path, Path], int] = lambda base, folder: 0  # that is not lost again
    kept: int = 0  # progress that is sure before there are results


@contextlib.contextmanager
def small_parts() -> Iterator[None]:
    """A pack of 21 images is made in six parts."""
    before, partial.CHUNK = partial.CHUNK, 4
    try:
        yield
    finally:
        partial.CHUNK = before


def call(*words: object) -> None:
    """A step as a rule calls it, in this process."""
    app([str(word) for word in words], standalone_mode=False)


def nothing(base: Path, folder: Path) -> None:
    pass


def fresh_state() -> None:
    """As in a new process."""
    torch.manual_seed(0)


# ---------------------------------------------------------------- packs


def faces(base: Path) -> None:
    write_faces(base / "faces")
    write_rfw(base / "rfw")


def pack_train(storage: str, name: str = "A.h5") -> Callable[[Path, Path], None]:
    def run(base: Path, folder: Path) -> None:
        settings = settings_of(base / "faces", storage=storage, on_bad_image="skip")
        call("pack-train", "--settings", settings.model_dump_json(), "--output", folder / name)

    return run


def old_pack(base: Path, folder: Path) -> None:
    """A pack of other images, whose place is taken."""
    path = next((base / "faces/A").rglob("*.png"))
    kept = path.read_bytes(), path.stat()
    Image.new("RGB", (16, 16), (200, 10, 30)).save(path)
    pack_train("pixels")(base, folder)
    path.write_bytes(kept[0])
    os.utime(path, ns=(kept[1].st_atime_ns, kept[1].st_mtime_ns))


def spoilt_faces(base: Path) -> None:
    """One image of 21 is bad."""
    faces(base)
    next((base / "faces/A").rglob("*.png")).write_bytes(b"no picture")


def packed(base: Path, folder: Path) -> int:
    """Images that the next run would not decode again; all if there is a whole pack."""
    with contextlib.suppress(InputError, OSError):
        all_of_a_pack(folder / "A.h5")
        return WHOLE
    journals = list(folder.glob(".A.h5.*.partial/journal"))
    return max((_lines(path) for path in journals), default=0)


def _lines(journal: Path) -> int:
    """Of parts that are there: of encoded ones each has a file."""
    lines = journal.read_text(errors="replace").splitlines()[1:]
    if (journal.with_name("pack")).exists():
        return len(lines)
    return sum(journal.with_name(f"{number:06}").exists() for number in range(len(lines)))


def bad_list(path: Path) -> str:
    return path.read_text()


# ---------------------------------------------------------------- models


def teacher(base: Path) -> None:
    faces(base)
    pack_train("pixels")(base, base)
    split(0)(base, base)
    pack_verification(settings_of(base / "rfw"), output=base / "V.h5")


def train_teacher(base: Path, folder: Path) -> None:
    fresh_state()
    output = folder / "T-A/seed0/model.safetensors"
    output.parent.mkdir(parents=True, exist_ok=True)  # as Snakemake does
    call(
        *("train-teacher", "--settings", teacher_settings().model_dump_json()),
        *("--packs", base / "A.h5", "--split", base / "new/BT-1.csv", "--output", output),
        *("--selection", base / "V.h5"),
        *("--backbone", "tiny", "--set", "specialized", "--name", "T-A", "--seed", 0),
        *("--device", "cpu"),
    )


def trained(base: Path, folder: Path) -> int:
    """Epochs that the next run would not train again."""
    output = folder / "T-A/seed0/model.safetensors"
    with contextlib.suppress(InputError, OSError):
        load_backbone(output)
        return WHOLE
    if not output.parent.is_dir():
        return 0
    checkpoint = Checkpoint(output, "")
    epochs = 0
    for path in (checkpoint.path, checkpoint.path.with_name("checkpoint.previous.pt")):
        with contextlib.suppress(Exception):
            body = path.read_bytes()[len(b"mstkd-checkpoint 4 ") + 33 :]
            content = torch.load(io.BytesIO(body), weights_only=True)
            epochs = max(epochs, content["state"]["epoch"])
    return epochs


def model(path: Path) -> Any:
    return load_backbone(path)[1]


def record(path: Path) -> Any:
    return read_record(ModelRecord, path)


def history(path: Path) -> Any:
    """As `mstkd provenance` sees it."""
    found = told_by(path)
    if found is None or found.unchanged is not True:
        raise InputError(path, found="other contents than were written", expected="a history")
    return found


def embedded(base: Path) -> None:
    teacher(base)
    save_teacher(base, subject("T-A"), [base / "A.h5"], weights_seed=1)
    save_teacher(base / "other", subject("T-A"), [base / "A.h5"], weights_seed=2)


def cache(where: str) -> Callable[[Path, Path], None]:
    def run(base: Path, folder: Path) -> None:
        weights = base / where / "specialized/T-A/seed0/model.safetensors"
        call(
            *("cache-embeddings", "--settings", "{}", "--teachers", weights),
            *("--packs", base / "A.h5", "--output", folder / "cache.h5", "--device", "cpu"),
        )

    return run


def evaluate(where: str) -> Callable[[Path, Path], None]:
    def run(base: Path, folder: Path) -> None:
        weights = base / where / "specialized/T-A/seed0/model.safetensors"
        call(
            *("evaluate", "--settings", '{"folds": 2}', "--model", weights, "--device", "cpu"),
            *("--packs", base / "V.h5", "--scores", folder / "scores.h5"),
            *("--metrics", folder / "metrics.json"),
        )

    return run


def metrics(path: Path) -> Any:
    return read_record(Metrics, path)


# ---------------------------------------------------------------- texts


def split(seed: int) -> Callable[[Path, Path], None]:
    def run(base: Path, folder: Path) -> None:
        outputs = folder / "new/BT-1.csv", folder / "new/BT-2.csv"
        settings = json.dumps({"seed": seed})
        call("split", "--settings", settings, "--packs", base / "A.h5", "--outputs", *outputs)

    return run


def scored(base: Path) -> None:
    for folder, shift in ((base / "one", 0.0), (base / "two", 1.0)):
        folder.mkdir()
        write_metrics(folder, {group: 90 + shift + n for n, group in enumerate("AB")}).rename(
            folder / "metrics.json"
        )


def table(which: str) -> Callable[[Path, Path], None]:
    def run(base: Path, folder: Path) -> None:
        settings = {"groups": ["A", "B"], "caption": "A table"}
        call(
            *("render-table", "--settings", json.dumps(settings)),
            *("--metrics", base / which / "metrics.json"),
            *("--outputs", *(folder / f"table.{kind}" for kind in ("csv", "md", "tex", "html"))),
        )

    return run


def as_told(path: Path) -> Any:
    found = told_by(path)
    if found is None or found.unchanged is not True:
        raise InputError(path, found="other contents than were written", expected="a table")
    return found


def synthesize(base: Path, folder: Path) -> None:
    settings = {
        **{"groups": ["A", "B"], "image_size": 16, "seed": 0, "identities": 2},
        **{"images_per_identity": 2, "verification_identities": 4, "verification_images": 2},
        **{"folds": 2, "pairs_per_fold": 2},
    }
    call("synthesize", "--settings", json.dumps(settings), "--output", folder)


def drawn_face(path: Path) -> Any:
    """Where the index stands, everything does; without it nobody reads the faces."""
    if not (path.parents[3] / "index.csv").is_file():
        raise InputError(path, found="no index", expected="all faces")
    with Image.open(path) as image:
        return image.tobytes()


PACK = {"A.h5": all_of_a_pack}
STEPS = {
    "pack": Step(faces, nothing, pack_train("pixels"), PACK, packed, 6),
    "pack over another": Step(faces, old_pack, pack_train("pixels"), PACK, packed),
    "pack with a bad image": Step(
        spoilt_faces, nothing, pack_train("pixels"), {**PACK, "A.h5.bad.txt": bad_list}, packed, 6
    ),
    "pack encoded": Step(faces, nothing, pack_train("encoded"), PACK, packed, 6),
    "train-teacher": Step(
        teacher,
        nothing,
        train_teacher,
        {
            "T-A/seed0/model.safetensors": model,
            "T-A/seed0/model.json": record,
            "T-A/seed0/history.csv": history,
        },
        trained,
        1,
    ),
    "cache-embeddings": Step(embedded, cache("other"), cache(""), {"cache.h5": all_of_a_cache}),
    "evaluate": Step(
        embedded,
        evaluate("other"),
        evaluate(""),
        {"scores.h5": all_of_scores, "metrics.json": metrics},
    ),
    "split": Step(
        teacher,
        split(1),
        split(0),
        {"new/BT-1.csv": read_split, "new/BT-2.csv": read_split},
    ),
    "split into a new folder": Step(
        teacher, nothing, split(0), {"new/BT-1.csv": read_split, "new/BT-2.csv": read_split}
    ),
    "render-table": Step(
        scored,
        table("one"),
        table("two"),
        {f"table.{kind}": as_told for kind in ("csv", "md", "tex", "html")},
    ),
    "synthesize": Step(
        lambda base: None,
        nothing,
        synthesize,
        {"index.csv": as_told, "train/A/A.t00000/000.jpg": drawn_face},
    ),
}


# ---------------------------------------------------------------- a cut


class PowerCutError(AssertionError):
    """What a power cut did that it must not."""


@dataclass
class Recording:
    """One run of a step, and all that it did."""

    step: Step
    base: Path
    folder: Path
    disk: Disk
    before: dict[str, bytes]
    after: dict[str, bytes]


def record_runs(names: Sequence[str], where: Path) -> dict[str, Recording]:
    """Run steps under strace, in a process of its own."""
    command = [sys.executable, __file__, "--where", where, "--record", *names]
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **paths}
    )
    assert done.returncode == 0, done.stderr
    return {name: _recording(STEPS[name], place(where, name)) for name in names}


def place(where: Path, name: str) -> Path:
    """The folder of one step."""
    return where / name.replace(" ", "-")


def _recording(step: Step, where: Path) -> Recording:
    base, folder, log = where / "base", where / "folder", where / "log"
    before, again = tree_of(where / "before"), where / "again"
    lay_out(before, again)
    disk = Disk(folder, before, log, cwd=where)
    return Recording(step, base, folder, disk, contents(step, again), contents(step, folder))


def record_in_this_process(name: str, where: Path) -> None:
    where.mkdir()
    os.chdir(where)
    step = STEPS[name]
    base, folder = where / "base", where / "folder"
    for path in (base, folder):
        path.mkdir()
    step.prepare(base)
    step.before(base, folder)
    shutil.copytree(folder, where / "before")
    step.run(base, folder)  # so that all is imported that it takes
    lay_out(tree_of(where / "before"), folder)
    with recorded(where / "log"):
        step.run(base, folder)


def contents(step: Step, folder: Path) -> dict[str, bytes]:
    """What each result holds, of those that are there."""
    return {name: held(folder / name) for name in step.outputs if (folder / name).is_file()}


def look(made: Recording, name: str) -> str:
    """What a result is after a cut.

    Raises:
        PowerCutError: it is not what it should be, and its reader takes it.
    """
    path = made.folder / name
    if not path.exists():
        return ABSENT
    now = held(path)
    try:
        made.step.outputs[name](path)
    except InputError as error:
        if "\n" in str(error):
            raise PowerCutError(f"{name}: more than a line: {error}") from None
        return REFUSED
    if now == made.after.get(name):
        return NEW
    if now == made.before.get(name):
        return OLD
    raise PowerCutError(f"{name} is shown as good")


def faults_after(made: Recording) -> Iterator[str]:
    """What is wrong with what the next run leaves."""
    now = contents(made.step, made.folder)
    if different := sorted(name for name in made.after if now.get(name) != made.after[name]):
        yield f"after the next run {', '.join(different)} differ"
    if left := [path.name for end in ("*.tmp", "*.partial") for path in made.folder.rglob(end)]:
        yield f"the next run leaves {left}"


def try_cut(made: Recording, tree: Tree, *, promised: int) -> dict[str, str]:
    """Put what is left of a cut into the folder, look at it, and run the step again."""
    lay_out(tree, made.folder)
    found = {name: look(made, name) for name in made.step.outputs}
    kept = made.step.progress(made.base, made.folder)
    if kept < promised:
        raise PowerCutError(f"{kept} is left of a progress of {promised} that was kept already")
    try:
        made.step.run(made.base, made.folder)
    except (SystemExit, InputError) as error:
        raise PowerCutError(f"the next run ends with {error}") from None
    for fault in faults_after(made):
        raise PowerCutError(fault)
    return found


@dataclass
class Cuts:
    """What came of the cuts of a step."""

    events: int
    folders: int = 0  # that differ
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    faults: tuple[str, ...] = ()


def key_of(tree: Tree) -> str:
    digest = hashlib.sha256()
    for path in sorted(tree):
        content = tree[path]
        digest.update(f"{path}\0{'folder' if content is None else len(content)}\0".encode())
        digest.update(content or b"")
    return digest.hexdigest()


def all_cuts(made: Recording, *, seed: int, drawn: int) -> Iterator[tuple[int, str, Tree, int]]:
    """Events done, what is left, the folder, and the progress that was made sure of before."""
    chance, seen, promised, last = random.Random(seed), set(), 0, ""
    sure_before_the_end = 0
    for number in made.disk.after_each():
        sure = made.disk.guaranteed()
        if (key := key_of(sure)) != last:
            last = key
            lay_out(sure, made.folder)
            promised = max(promised, made.step.progress(made.base, made.folder))
            if promised < WHOLE:
                sure_before_the_end = promised
        for kind, tree in made.disk.cuts(chance, drawn):
            if (key := key_of(tree)) not in seen:
                seen.add(key)
                yield number, kind, tree, promised
    if sure_before_the_end < made.step.kept:
        told_of = f"a progress of {sure_before_the_end} only is sure of {made.step.kept}"
        raise PowerCutError(told_of)


def cut(made: Recording, *, seed: int = 0, drawn: int = 4, most: int | None = None) -> Cuts:
    """Cut the power after every event of a step; at most so many folders, drawn by chance."""
    with small_parts():
        return _cut(made, seed, drawn, most)


def _cut(made: Recording, seed: int, drawn: int, most: int | None) -> Cuts:
    result = Cuts(len(made.disk.events), 0, collections.Counter())
    every = list(all_cuts(made, seed=seed, drawn=drawn))
    if most is not None and len(every) > most:
        every = random.Random(seed).sample(every[:-1], most - 1) + every[-1:]
    faults: list[str] = []
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        for number, kind, tree, promised in every:
            result.folders += 1
            try:
                found = try_cut(made, tree, promised=promised)
            except PowerCutError as fault:
                event = told(made.disk.events[number - 1]) if number else "nothing"
                faults.append(f"after event {number} ({event}), {kind}: {fault}")
                continue
            result.outcomes.update(found.values())
            if number == len(made.disk.events) and set(found.values()) != {NEW}:
                faults.append(f"after the end, {kind}: {found}")
    result.faults = tuple(faults)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS), metavar="NAME")
    parser.add_argument("--drawn", type=int, default=4, help="folders by chance, of each event")
    parser.add_argument("--most", type=int, help="folders of each step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON to write")
    parser.add_argument("--record", nargs="+", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--where", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.record:
        with small_parts():
            for name in given.record:
                record_in_this_process(name, place(given.where, name))
        return
    assert can_record(), "strace is needed, and a system that lets it look on"
    figures: dict[str, Any] = {}
    for name in given.only:
        with tempfile.TemporaryDirectory() as folder:
            made = record_runs([name], Path(folder).resolve())[name]
            found = cut(made, seed=given.seed, drawn=given.drawn, most=given.most)
        figures[name] = {
            "events": found.events,
            "folders": found.folders,
            **{kind: found.outcomes[kind] for kind in (ABSENT, OLD, NEW, REFUSED)},
            "faults": len(found.faults),
        }
        print(f"{name}: {figures[name]}", flush=True)
        for fault in found.faults[:20]:
            print(f"  {fault}", flush=True)
    if given.output:
        given.output.write_text(json.dumps(figures, indent=2) + "\n")
    sys.exit(any(one["faults"] for one in figures.values()))


if __name__ == "__main__":
    main()
