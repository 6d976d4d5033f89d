"""A step on several processes: real processes over gloo, and the ways they end."""

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from networks import teacher_settings
from processes import STUCK_SECONDS, read_line, started, wait_for

from mstkd.compute.interruption import Interrupted, asked_to_end
from mstkd.compute.parallel import TORCHRUN, run
from mstkd.errors import InputError, RankError

TESTS = str(Path(__file__).parent)
# What the tests' own process starts: a step on two ranks.
MAIN = """
import sys; sys.path.insert(0, {tests!r})
from test_parallel import *
begin({step})
"""


def add_up(*, ranks, threads, device, output):
    """A step: each rank adds its number, and the first writes what came out."""
    total = ranks.add(torch.tensor([1.0 + ranks.rank])).item()
    print(f"rank {ranks.rank} speaks")
    if ranks.is_first:
        output.write_text(f"{total} {ranks.size} {threads} {device} {torch.get_num_threads()}")


def fail(*, ranks, threads, device, how):
    """A step that goes wrong on one rank or on all."""
    if how == "all":
        raise InputError("packs/A.h5", found="nothing", expected="a pack")
    if ranks.is_first:
        ranks.largest(0)  # the other never comes
        return
    if how == "slowly":
        atexit.register(leave_slowly)
    if how in ("disk", "slowly"):
        raise OSError(28, "No space left on device", "model.safetensors")
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError("a fault of ours")


def leave_slowly():
    """Say goodbye to the other rank, which fails of it, and stay until the parent ends both."""
    dist.destroy_process_group()
    signal.pause()


def listen(*, ranks, threads, device):
    """A step that ends when asked to, all ranks at the same step."""
    with asked_to_end() as signalled:
        os.write(1, b"begun\n")  # whole: the other writes to the same pipe
        steps = 0
        while not (number := ranks.largest(signalled())):
            steps += 1
    agreed = ranks.gather(torch.tensor([steps])).unique()
    raise Interrupted(number, f"{len(agreed)} opinions of when")


def do_not_listen(*, ranks, threads, device):
    """A step of which the first rank does not hear the signal, and the other dies of it."""
    if ranks.is_first:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ranks.largest(0)
    os.write(1, b"begun\n")
    while True:
        ranks.largest(0)


def begin(step, **arguments):
    """Run a step on two ranks; exit as the command line does."""
    try:
        run(step, ranks=2, threads=2, device="cpu", **arguments)
    except Interrupted as interrupted:
        print(interrupted, flush=True)
        sys.exit(interrupted.exit_code)
    except RankError:
        sys.exit(1)


def test_one_rank_is_this_process(tmp_path, capfd):
    for ranks in (0, 1):
        run(add_up, ranks=ranks, threads=3, device="cpu", output=tmp_path / "out")
        assert (tmp_path / "out").read_text().startswith("1.0 1 3 cpu ")
    assert capfd.readouterr().out == "rank 0 speaks\n" * 2


def test_two_ranks_share_the_threads_and_one_speaks(tmp_path, capfd):
    run(add_up, ranks=2, threads=4, device="cpu", output=tmp_path / "out")
    assert (tmp_path / "out").read_text().startswith("3.0 2 2 cpu ")
    assert capfd.readouterr().out == "rank 0 speaks\n"


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("how", "error", "told"),
    [
        ("all", InputError, r"^packs/A.h5: found nothing; expected a pack$"),
        slow("disk", OSError, r"No space left on device: 'model.safetensors'$"),
        slow("slowly", OSError, r"No space left on device: 'model.safetensors'$"),
        slow("killed", RankError, r"^rank 1 of 2 was ended by SIGKILL$"),
        slow("ours", RankError, r"^rank 1 of 2 failed; what it says stands above$"),
    ],
)
def test_a_fault_ends_all_ranks_and_is_told_once(how, error, told, capfd):
    with pytest.raises(error, match=told):
        run(fail, ranks=2, threads=2, device="cpu", how=how)
    traceback = capfd.readouterr().err
    assert ("ValueError: a fault of ours" in traceback) == (how == "ours")
    assert "InputError" not in traceback and "No space" not in traceback


@pytest.mark.slow
def test_a_rank_s_traceback_is_one_system_call():
    """Else those of two ranks mix, and an unbuffered one does word by word."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    here.settimeout(STUCK_SECONDS)
    command = [sys.executable, "-c", MAIN.format(tests=TESTS, step="fail, how='ours'")]
    unbuffered = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with here, started(command, stderr=there, env=unbuffered):
        there.close()
        texts = list(iter(lambda: here.recv(1 << 16).decode(), ""))
    (told,) = [text for text in texts if "ValueError" in text]
    assert told.startswith("rank 1 of 2: Traceback (most recent call last):\n")
    assert told.endswith("ValueError: a fault of ours\n")


@contextlib.contextmanager
def launched(step):
    """The parent of two ranks, as a process of its own, once both have begun the step."""
    command = [sys.executable, "-c", MAIN.format(tests=TESTS, step=step)]
    with started(command, stdout=subprocess.PIPE, bufsize=0) as process:
        assert [read_line(process.stdout) for _ in range(2)] == ["begun\n"] * 2
        yield process


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_all_ranks_at_one_step(number):
    with launched("listen") as parent:
        parent.send_signal(number)
        assert read_line(parent.stdout) == "1 opinions of when\n"
        assert parent.wait(STUCK_SECONDS) == 128 + number


@pytest.mark.slow
def test_a_signal_ends_ranks_that_do_not_listen():
    """One of them before the other, which fails of it; the signal is told all the same."""
    with launched("do_not_listen") as parent:
        parent.send_signal(signal.SIGTERM)
        assert read_line(parent.stdout) == "SIGTERM received outside of training\n"
        assert parent.wait(STUCK_SECONDS) == 128 + signal.SIGTERM


@pytest.mark.slow
def test_no_rank_outlives_a_killed_parent():
    with launched("listen") as parent:
        parent.kill()
        # Their ends of the pipe close when they are gone, however they end.
        assert read_line(parent.stdout) == ""


@pytest.mark.slow
def test_torchrun_s_processes_join_its_group(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {TESTS!r})\n"
        "import test_parallel as here; from pathlib import Path\n"
        "here.run(here.add_up, ranks=1, threads=4, device='cpu', output=Path(sys.argv[1]))\n"
    )
    script = tmp_path / "job.py"
    script.write_text(code)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *command, script, tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_text().startswith("3.0 2 2 cpu ")


def test_torchrun_and_another_number_of_ranks(monkeypatch, tmp_path):
    for name in TORCHRUN:
        monkeypatch.setenv(name, "2")
    with pytest.raises(InputError, match="--ranks: found 3; expected 2, as torchrun has started"):
        run(add_up, ranks=3, threads=1, device="cpu", output=tmp_path / "out")


def test_more_ranks_than_gpus(monkeypatch, tmp_path):
    from mstkd.compute.leases import Gpu

    monkeypatch.setattr("mstkd.compute.parallel.visible_gpus", lambda: [Gpu(0, "a"), Gpu(1, "b")])
    with pytest.raises(InputError, match="--ranks: found 3; expected at most the 2 GPUs"):
        run(add_up, ranks=3, threads=1, device="auto", output=tmp_path / "out")


def train(folder, packs, split, *, begun=None):
    """The command `mstkd train-teacher --ranks 2`; ended once it has `begun`, if that is given."""
    settings = teacher_settings(
        optimiser={"epochs": 40, "batch_size": 8, "milestones": [30], "schedule_epochs": 40},
        selection={"rule": "last"},
    )
    output = folder / "model.safetensors"
    command = [Path(sys.executable).with_name("mstkd"), "--log", folder / "log", "train-teacher"]
    command += ["--settings", settings.dump(), "--packs", packs[0], "--split", split]
    command += ["--backbone", "tiny", "--set", "specialized", "--name", "T-A", "--seed", "0"]
    command += ["--ranks", "2", "--device", "cpu", "--output", output]
    with started(command, stderr=subprocess.PIPE, text=True) as process:
        if begun is not None:
            wait_for(lambda: begun.exists() or process.poll() is not None)
            process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=STUCK_SECONDS)
    return process.returncode, told, output


@pytest.mark.slow
def test_a_command_on_two_ranks_is_ended_and_goes_on_to_the_same_bytes(tmp_path, packs):
    split = tmp_path / "T-A.csv"
    split.write_text("group,identity\n" + "".join(f"A,A{i}\n" for i in range(5)))
    code, told, whole = train(tmp_path / "whole", packs, split)
    assert code == 0, (tmp_path / "whole" / "log").read_text()
    checkpoint = tmp_path / "ended" / "checkpoint.pt"
    code, told, output = train(tmp_path / "ended", packs, split, begun=checkpoint)
    assert code == 128 + signal.SIGTERM
    assert "SIGTERM received, state saved in" in told and told.count("\n") == 1
    assert not output.exists()
    code, told, output = train(tmp_path / "ended", packs, split)
    assert (code, told) == (0, "")
    log = (tmp_path / "ended" / "log").read_text()
    assert log.count("resumed after epoch") == 1, "one rank speaks"
    assert output.read_bytes() == whole.read_bytes()
    assert not checkpoint.exists()
