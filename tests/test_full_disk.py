"""A disk without room: one line with the file, what it needs and what is free; no crash."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from disks import fill, small_disk
from networks import save_teacher, subject
from packs import settings_of, write_faces, write_rfw

from mstkd.artifacts.atomic import NoRoomError, no_room, replacing, write_text
from mstkd.artifacts.sealed import writing
from mstkd.data.packing import pack_train, pack_verification
from mstkd.embeddings.cache import write_cache
from mstkd.progress import say
from mstkd.training.checkpoint import Checkpoint
from mstkd.training.events import Events


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "512k") as folder:
        yield folder


def cache(path: Path) -> None:
    blocks = [np.ones((64, 256), np.float16) for _ in range(4)]
    told = dict.fromkeys(("teachers", "weights", "packs", "subject"), "x" * 20_000)
    with replacing(path) as (part,):
        write_cache(
            part,
            told,
            np.zeros(256, np.int64),
            blocks,
            sizes=[64] * 4,
            columns=256,
            dtype="float16",
        )


def checkpoint(path: Path) -> None:
    state = {"weights": torch.zeros(30_000), "list": [torch.zeros(10)], "epoch": 3}
    Checkpoint(path.with_name("model.safetensors"), "run").save(state)


def checkpoint_of_texts(path: Path) -> None:
    """Of which only writing it tells the size."""
    Checkpoint(path.with_name("model.safetensors"), "run").save({"text": "x" * 150_000})


def text(path: Path) -> None:
    write_text(path, "x" * 150_000)


def model(path: Path) -> None:
    save_teacher(path.parent, subject("T-A"), [], dim=4000)


WRITERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "cache": (cache, "file"),
    "checkpoint": (checkpoint, "checkpoint.pt"),
    "checkpoint of texts": (checkpoint_of_texts, "checkpoint.pt"),
    "text": (text, "file"),
    "model": (model, "model.safetensors"),
}


@pytest.mark.parametrize("free", [4, 12, 24, 48])
@pytest.mark.parametrize(("write", "name"), WRITERS.values(), ids=WRITERS)
def test_every_writer_names_file_needed_and_free(
    disk: Path, write: Callable[[Path], None], name: str, free: int
) -> None:
    filler = fill(disk, free=free)
    with pytest.raises(NoRoomError) as error:
        write(disk / "file")
    assert Path(error.value.filename).name == name
    line = error.value.line()
    assert line.startswith(f"{error.value.filename}: found ") and "\n" not in line
    assert "bytes free on the disk (No space left on device); expected" in line
    left = {path for path in disk.rglob("*") if path.is_file()} - {filler}
    assert not left  # neither half a file nor a lock
    filler.unlink()
    write(disk / "file")


def test_needed_is_the_whole_file_where_that_is_known(disk: Path) -> None:
    fill(disk, free=8)
    with pytest.raises(NoRoomError) as error:
        text(disk / "file")
    assert error.value.line().endswith("; expected 150,000")


@pytest.mark.parametrize("free", [0, 4, 8, 12])
def test_hdf5_ends_quietly_on_a_full_disk(disk: Path, free: int) -> None:
    """In a process of its own: HDF5 would try again, and crash, when the process ends."""
    fill(disk, free=free)
    code = f"""
import numpy as np
from pathlib import Path
from mstkd.artifacts.sealed import create, writing
try:
    with writing(Path({str(disk / "a.h5")!r}), "w") as file:
        create(file, {{"a": 1}}, {{"x": np.arange(10_000)}})
except OSError as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"[Errno 28] No space left on device: '{disk}/a.h5'\n"


def test_events_name_their_folder(disk: Path) -> None:
    fill(disk, free=0)
    with pytest.raises(OSError, match="events") as error, Events(disk / "events", []) as events:
        for epoch in range(1000):
            events.add({"epoch": epoch, "loss": 1.0})
    assert no_room(error.value) is not None


def test_a_log_that_cannot_grow_ends_no_work(disk: Path) -> None:
    with (disk / "log").open("w") as log:
        fill(disk, free=0)
        say("x" * 10_000, log)
        (disk / "filler").unlink()
        say("y", log)


def test_a_step_tells_it_in_a_line(tmp_path: Path, disk: Path) -> None:
    pack_verification(write_rfw(tmp_path / "rfw"), output=tmp_path / "A.h5")
    weights = save_teacher(tmp_path, subject("T-A"), [tmp_path / "A.h5"])
    fill(disk, free=4)
    step = [
        *(sys.executable, "-c", "from mstkd.cli.app import main; main()", "evaluate"),
        *("--settings", json.dumps({"folds": 2})),
        *("--model", str(weights), "--packs", str(tmp_path / "A.h5"), "--device", "cpu"),
        *("--scores", str(disk / "scores.h5"), "--metrics", str(disk / "metrics.json")),
    ]
    ended = subprocess.run(step, capture_output=True, text=True)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"mstkd: error: {disk}/scores.h5: found 4,096 bytes free on the disk")
    assert list(disk.glob("*")) == [disk / "filler"]


# ---------------------------------------------------------------- file systems without locks


def test_what_another_process_has_locked_is_read_and_written(tmp_path: Path) -> None:
    """Where there are no locks HDF5 fails as it does where another process holds one."""
    write_faces(tmp_path / "faces")
    pack_train(settings_of(tmp_path / "faces"), output=tmp_path / "A.h5")
    code = f"""
import sys
from pathlib import Path
from mstkd.artifacts.contents import content_sha256
from mstkd.artifacts.sealed import is_as_written, writing
from mstkd.data.pack import check_pack, open_pack
from mstkd.report.samples import read_faces
path = Path({str(tmp_path / "A.h5")!r})
open_pack(path).images[:]
check_pack(path)
assert is_as_written(path, large=True) and len(content_sha256(path)) == 64
read_faces(path, count=4)
with writing(path, "r+") as file:
    file.attrs["more"] = 1
with writing(path, "w") as file:
    file.attrs["more"] = 1
"""
    with (tmp_path / "A.h5").open() as held:
        import fcntl

        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="lock"):
            h5py.File(tmp_path / "A.h5", "r", locking=True)
        subprocess.run([sys.executable, "-c", code], check=True)
    with writing(tmp_path / "A.h5", "r+") as file:
        assert file.attrs["more"] == 1
