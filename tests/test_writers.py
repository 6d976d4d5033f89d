"""One writer an output: real processes that want the same file."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts import Start, scripts

from mstkd.artifacts import writers
from mstkd.artifacts.atomic import replacing, write_text
from mstkd.artifacts.writers import Turn, only_writer

# Says how its turn is, writes what it is told to, and ends when its input does.
WRITER = """
import sys
from pathlib import Path
from mstkd.artifacts.atomic import write_text
from mstkd.artifacts.writers import only_writer
output, work, text = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
with only_writer(output, work) as turn:
    print(turn.alone, turn.finished, flush=True)
    sys.stdin.read()
    if text:
        write_text(output, text)
"""
COUNTER = """
import sys
from pathlib import Path
from mstkd.artifacts.writers import only_writer
output = Path(sys.argv[1])
for _ in range(100):
    with only_writer(output) as turn:
        assert turn == turn.__class__(alone=True)
        output.write_text(str(int(output.read_text()) + 1))
"""
PAIRS = """
import sys
from pathlib import Path
from mstkd.artifacts.atomic import replacing
folder, own = Path(sys.argv[1]), sys.argv[2]
for _ in range(50):
    with replacing(folder / "one", folder / "two") as parts:
        for part in parts:
            part.write_text(own)
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from mstkd.artifacts.atomic import replacing
with replacing(*map(Path, sys.argv[1:])) as parts:
    for part in parts:
        part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def start() -> Iterator[Start]:
    with scripts() as start:
        yield start


@pytest.mark.parametrize(
    ("first", "second", "text", "finished"),
    [
        ("a", "a", "new", "True"),
        ("a", "b", "new", "False"),  # other work
        ("a", "a", "", "False"),  # the first wrote nothing: what is there is older
    ],
)
def test_the_second_waits_and_learns_if_its_work_is_done(
    tmp_path: Path, start: Start, first: str, second: str, text: str, finished: str
) -> None:
    output = tmp_path / "a.h5"
    output.write_text("old")
    writer = start(WRITER, output, first, text)
    assert writer.says() == "True False"
    waiting = start(WRITER, output, second, "")
    line = waiting.complains()
    assert line == f"{output}: waiting for process {writer.pid} on {os.uname().nodename}, " + (
        "which writes it"
    )
    writer.end()
    assert waiting.says() == f"True {finished}"
    waiting.end()
    assert list(tmp_path.iterdir()) == [output]


def test_a_killed_writer_holds_nobody_up(tmp_path: Path, start: Start) -> None:
    output = tmp_path / "a.h5"
    writer = start(WRITER, output, "a", "new")
    assert writer.says() == "True False"
    waiting = start(WRITER, output, "a", "new")
    assert "waiting for process" in waiting.complains()
    writer.kill()
    assert waiting.says() == "True False"
    waiting.end()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["new"]


def test_a_lock_that_a_dead_process_left_means_nothing(tmp_path: Path) -> None:
    (tmp_path / ".a.h5.lock").write_text('{"work": "a", "host": "x", "process": 1}')
    with only_writer(tmp_path / "a.h5", "a") as turn:
        assert turn == Turn(alone=True)
    assert list(tmp_path.iterdir()) == []


def test_many_take_turns(tmp_path: Path, start: Start) -> None:
    """Each removes the lock that others wait for, and none is lost or held twice."""
    count = tmp_path / "count"
    count.write_text("0")
    for process in [start(COUNTER, count) for _ in range(4)]:
        process.end()
    assert count.read_text() == "400"
    assert list(tmp_path.iterdir()) == [count]


def test_files_that_belong_together_come_from_one_writer(tmp_path: Path, start: Start) -> None:
    for process in [start(PAIRS, tmp_path, own) for own in "abc"]:
        process.end()
    assert (tmp_path / "one").read_text() == (tmp_path / "two").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, tmp_path / "a.csv", tmp_path / "b.csv"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    others = {tmp_path / ".c.csv.0a1b2c3d.tmp", tmp_path / ".a.csv.notes.tmp"}
    for path in others:
        path.touch()
    assert len(list(tmp_path.iterdir())) == 5
    with replacing(tmp_path / "a.csv", tmp_path / "b.csv") as parts:
        for part in parts:
            part.write_text("whole")
    assert set(tmp_path.iterdir()) == others | {tmp_path / "a.csv", tmp_path / "b.csv"}


def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(writers.fcntl, "flock", refuse)


def test_where_there_are_no_locks_what_lies_about_may_be_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_locks(monkeypatch)
    output, other = tmp_path / "a.h5", tmp_path / ".a.h5.0a1b2c3d.tmp"
    other.touch()
    with only_writer(output, "a") as turn:
        assert turn == Turn(alone=False)
        write_text(output, "new")
    assert f"{output}: the file system has no locks" in capsys.readouterr().err
    assert set(tmp_path.iterdir()) == {output, other}


def test_another_fault_of_the_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(OSError, match=r"Input/output error: '.*/\.a\.h5\.lock'"),
        only_writer(tmp_path / "a.h5"),
    ):
        pass


def test_a_lock_is_not_followed_to_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    (tmp_path / ".a.h5.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match=r"a\.h5"), only_writer(tmp_path / "a.h5", "a"):
        pass
    assert (tmp_path / "precious").read_text() == "x"
