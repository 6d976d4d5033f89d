"""Which GPU a job gets: real processes and real locks; the GPUs are names."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from processes import read_line, started

from mstkd.compute import devices
from mstkd.compute.devices import candidates, own, prepare
from mstkd.compute.leases import Gpu, has_gpu_of_its_own, jobs_per_gpu, lock_directory, take
from mstkd.errors import InputError

GPUS = [Gpu(0, "aaaa"), Gpu(1, "bbbb")]

# A job: waits for a line, takes a GPU, tells its index, and lives until its input closes.
JOB = """
import subprocess, sys
from pathlib import Path
from mstkd.compute.leases import Gpu, take
directory, jobs, child, *uuids = sys.argv[1:]
sys.stdin.readline()
gpus = [Gpu(index, uuid) for index, uuid in enumerate(uuids)]
lease = take(gpus, directory=Path(directory), jobs=int(jobs), seconds_between_tries=0.01)
if child == "child":
    # Outlives this process, and holds its standard input.
    subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], close_fds=False)
print(lease.gpu.index, flush=True)
del lease
sys.stdin.read()
"""


class Job:
    """A process that takes one of some GPUs."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process

    def go(self) -> Job:
        self.process.stdin.write(b"\n")
        return self

    def line(self, stream: str = "stdout") -> str:
        """The next line the job says, at once or when it comes."""
        line = read_line(getattr(self.process, stream)).strip()
        assert line, self.process.stderr.read().decode()
        return line

    def gpu(self) -> int:
        return int(self.line())

    def waits(self) -> str:
        """What it says while it waits; it has no GPU then."""
        told = self.line("stderr")
        assert told.startswith("waiting for a free GPU")
        return told

    def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        assert self.process.wait() == -number


@pytest.fixture(autouse=True)
def _no_wait_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait of the tests' own process would never end."""

    def sleep(seconds: float) -> None:
        raise AssertionError("waits for itself")

    monkeypatch.setattr("mstkd.compute.leases.time.sleep", sleep)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """A function that starts a job; all are gone after the test."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)

    def start_job(
        uuids: Sequence[str] = ("aaaa", "bbbb"),
        *,
        directory: Path = tmp_path / "locks",
        jobs: int = 1,
        child: str = "alone",
    ) -> Job:
        command = [sys.executable, "-c", JOB, str(directory), str(jobs), child, *uuids]
        return Job(ended.enter_context(started(command, bufsize=0, **pipes)))

    with contextlib.ExitStack() as ended:
        yield start_job


def test_jobs_that_start_together_get_gpus_of_their_own(start: Callable[..., Job]) -> None:
    uuids = [f"gpu{number}" for number in range(6)]
    jobs = [start(uuids) for _ in uuids]
    for job in jobs:
        job.go()
    assert sorted(job.gpu() for job in jobs) == list(range(6))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_third_job_waits_and_gets_the_gpu_of_one_that_dies(
    start: Callable[..., Job], number: int
) -> None:
    first, second = start().go(), start().go()
    taken = {first.gpu(): first, second.gpu(): second}
    third = start().go()
    processes = [taken[index].process.pid for index in (0, 1)]
    assert third.waits() == (
        "waiting for a free GPU; taken: "
        f"GPU 0 (process {processes[0]}), GPU 1 (process {processes[1]})"
    )
    assert not select.select([third.process.stdout], [], [], 0)[0]
    taken[1].end(number)
    assert third.gpu() == 1


def test_a_program_that_outlives_its_job_does_not_hold_the_gpu(start: Callable[..., Job]) -> None:
    first = start(["aaaa"], child="child").go()
    first.gpu()
    first.end()
    assert start(["aaaa"]).go().gpu() == 0


def test_the_same_gpu_under_two_numbers_is_one(start: Callable[..., Job]) -> None:
    first = start(["aaaa", "bbbb"]).go()
    assert first.gpu() == 0
    renumbered = start(["bbbb", "aaaa"]).go()
    assert renumbered.gpu() == 0
    start(["aaaa"]).go().waits()
    start(["bbbb"]).go().waits()


def test_two_jobs_share_a_gpu_where_asked_and_idle_ones_go_first(
    start: Callable[..., Job],
) -> None:
    got = [start(jobs=2).go().gpu() for _ in range(4)]
    assert got == [0, 1, 0, 1]
    start(jobs=2).go().waits()


def test_a_job_that_does_not_share_keeps_to_itself(start: Callable[..., Job]) -> None:
    alone = start(["aaaa"]).go()
    alone.gpu()
    sharing = start(["aaaa"], jobs=2).go()
    assert f"process {alone.process.pid}" in sharing.waits()
    alone.end()
    sharing.gpu()
    alone = start(["aaaa"]).go()
    assert f"process {sharing.process.pid}" in alone.waits()
    sharing.end()
    assert alone.gpu() == 0


def test_a_wait_tells_itself_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = take(GPUS, directory=tmp_path)
    second = take(GPUS, directory=tmp_path)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        assert len(slept) <= 61, "the released GPU is not taken"
        if len(slept) == 61:
            second.release()

    monkeypatch.setattr("mstkd.compute.leases.time.sleep", sleep)
    third = take(GPUS, directory=tmp_path)
    assert third.gpu == second.gpu
    assert slept == [1.0] * 61
    told = capsys.readouterr()
    assert told.err.count("waiting for a free GPU") == told.err.count("\n") == 3
    assert told.out == ""
    for lease in (first, third):
        lease.release()


@pytest.mark.parametrize("content", [b"1", b"4194304999", b"-1", b"\xff\x00 no number"])
def test_files_that_a_dead_job_left_do_not_matter(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "aaaa").write_bytes(content)
    lease = take(GPUS, directory=tmp_path)
    assert lease.gpu == GPUS[0]
    assert (tmp_path / "aaaa").read_text() == str(os.getpid())
    lease.release()


@pytest.mark.parametrize("content", [b"not a process", b"4194305", b"9999999999999999"])
def test_a_wait_names_no_process_that_is_not_there(
    start: Callable[..., Job], tmp_path: Path, content: bytes
) -> None:
    start(["aaaa"]).go().gpu()
    (tmp_path / "locks/aaaa").write_bytes(content)
    assert start(["aaaa"]).go().waits() == "waiting for a free GPU; taken: GPU 0"


def test_locks_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        lease = take(GPUS, directory=tmp_path / "locks", jobs=2)
    finally:
        os.umask(before)
    lease.release()
    assert (tmp_path / "locks").stat().st_mode & 0o777 == 0o700
    files = sorted((tmp_path / "locks").iterdir())
    assert [file.name for file in files] == ["aaaa", "aaaa.0"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_a_lock_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "locks").symlink_to("real")
    with pytest.raises(InputError, match="not a link"):
        take(GPUS, directory=tmp_path / "locks")
    assert not list((tmp_path / "real").iterdir())


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o755])
def test_a_lock_directory_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(InputError, match=f"mode {mode:o}"):
        take(GPUS, directory=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_lock_directory_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = os.getuid()
    monkeypatch.setattr("mstkd.compute.leases.os.getuid", lambda: owner + 1)
    with pytest.raises(InputError, match=f"one of user {owner}"):
        take(GPUS, directory=tmp_path)


@pytest.mark.parametrize("kind", ["file", "nowhere"])
def test_a_lock_directory_that_cannot_be_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "locks"
    if kind == "file":
        path.write_bytes(b"")
    else:
        path = path / "below"
    with pytest.raises(InputError) as error:
        take(GPUS, directory=path)
    assert error.value.where == str(path)


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "aaaa").symlink_to("precious")
    with pytest.raises(InputError, match="expected a lock") as error:
        take(GPUS, directory=tmp_path)
    assert error.value.where == str(tmp_path / "aaaa")
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_slot_that_is_taken_leaves_the_gpu_to_others(tmp_path: Path) -> None:
    both = [take(GPUS[:1], directory=tmp_path, jobs=2) for _ in range(2)]
    both[0].release()
    again = take(GPUS[:1], directory=tmp_path, jobs=2)
    both[1].release()
    again.release()
    take(GPUS[:1], directory=tmp_path).release()


def test_no_descriptor_is_lost(tmp_path: Path) -> None:
    (tmp_path / "bbbb").mkdir()
    first = take(GPUS, directory=tmp_path)
    before = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(InputError):  # after a lock that is taken, one that cannot be opened
        take(GPUS, directory=tmp_path, jobs=2)
    assert len(list(Path("/dev/fd").iterdir())) == before
    first.release()


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "two", "1e3", "100", " 2", "2\n", "２"])
def test_a_bad_number_of_jobs_a_gpu(value: str) -> None:
    with pytest.raises(InputError, match=r"^MSTKD_JOBS_PER_GPU: found "):
        jobs_per_gpu({"MSTKD_JOBS_PER_GPU": value})


def test_jobs_a_gpu() -> None:
    assert jobs_per_gpu({}) == 1
    assert jobs_per_gpu({"MSTKD_JOBS_PER_GPU": "12"}) == 12


# What SLURM sets, by srun(1), salloc(1) and sbatch(1).
ALLOCATED = {"SLURM_JOB_ID": "12", "CUDA_VISIBLE_DEVICES": "0,1"}
SHELLS = {
    "salloc": ALLOCATED,
    "interactive": {**ALLOCATED, "SLURM_JOB_GPUS": "0,1", "SLURM_STEP_ID": "4294967290"},
    "sbatch": {**ALLOCATED, "SLURM_JOB_GPUS": "0,1"},
    "srun of both": {**ALLOCATED, "SLURM_STEP_ID": "0", "SLURM_STEP_GPUS": "0,1"},
    "sbatch from a step of one": {**ALLOCATED, "SLURM_JOB_GPUS": "0,1", "SLURM_STEP_GPUS": "3"},
}


@pytest.mark.parametrize("shell", SHELLS)
def test_jobs_side_by_side_in_an_allocation_get_gpus_of_their_own(
    tmp_path: Path, shell: str
) -> None:
    of_each_job: list[list] = [[], []]
    got = [
        own(GPUS, leases, directory=tmp_path / "locks", environment=SHELLS[shell])
        for leases in of_each_job
    ]
    assert got == GPUS
    for (lease,) in of_each_job:
        assert lease.descriptors
        lease.release()


def test_the_one_gpu_of_a_step_is_taken_without_locks(tmp_path: Path) -> None:
    """As Snakemake's jobs have it, which the plugin starts by `srun`."""
    environment = {"SLURM_JOB_ID": "12", "SLURM_STEP_GPUS": "3", "MSTKD_JOBS_PER_GPU": "x"}
    for _ in range(2):
        leases: list = []
        for _ in range(2):
            gpu = own(GPUS[:1], leases, directory=tmp_path / "locks", environment=environment)
            assert gpu == GPUS[0]
        assert [lease.descriptors for lease in leases] == [()]
    assert not list(tmp_path.iterdir())


def test_the_one_gpu_of_an_allocation_is_waited_for(tmp_path: Path) -> None:
    first: list = []
    own(GPUS[:1], first, directory=tmp_path, environment=SHELLS["salloc"])
    with pytest.raises(AssertionError, match="waits for itself"):
        own(GPUS[:1], [], directory=tmp_path, environment=SHELLS["salloc"])
    first[0].release()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"CUDA_VISIBLE_DEVICES": "0"}, False),
        ({"SLURM_JOB_ID": "12", "SLURM_JOB_GPUS": "0"}, False),
        ({"SLURM_STEP_GPUS": ""}, False),
        ({"SLURM_STEP_GPUS": "0-3"}, False),
        ({"SLURM_STEP_GPUS": "2,3"}, False),
        ({"SLURM_STEP_GPUS": "2"}, True),
    ],
)
def test_whose_gpu_slurm_has_chosen(environment: dict[str, str], expected: bool) -> None:
    assert has_gpu_of_its_own(environment) == expected


@pytest.mark.parametrize(
    ("device", "gpus", "expected"),
    [
        ("auto", GPUS, GPUS),
        ("auto", [], []),
        ("cpu", GPUS, []),
        ("cuda", GPUS, GPUS),
        ("cuda:0", GPUS, GPUS[:1]),
        ("cuda:1", GPUS, GPUS[1:]),
    ],
)
def test_candidates(device: str, gpus: list[Gpu], expected: list[Gpu]) -> None:
    assert candidates(device, gpus) == expected


@pytest.mark.parametrize(
    ("device", "gpus", "message"),
    [
        ("cuda", [], "--device: found no GPU"),
        ("cuda:0", [], "--device: found no GPU"),
        ("cuda:2", GPUS, "--device: found cuda:2; expected cuda:0 to cuda:1"),
        ("cuda:", GPUS, "--device: found 'cuda:'; expected auto"),
        ("cuda:-1", GPUS, "--device: found 'cuda:-1'; expected auto"),
        ("gpu", [], "--device: found 'gpu'; expected auto"),
        ("", [], "--device: found ''; expected auto"),
        ("cpu\n", [], "--device: found "),
    ],
)
def test_devices_that_are_none(device: str, gpus: list[Gpu], message: str) -> None:
    with pytest.raises(InputError) as error:
        candidates(device, gpus)
    assert str(error.value).startswith(message)


@pytest.fixture
def workstation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Torch sees two GPUs; gives the indices that were made current."""
    current: list[int] = []
    leases: list = []
    monkeypatch.setattr(devices, "_LEASES", leases)
    monkeypatch.setattr("mstkd.compute.leases.tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(GPUS))
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=GPUS[index].uuid)
    )
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    for name in ("SLURM_JOB_ID", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "MSTKD_JOBS_PER_GPU"):
        monkeypatch.delenv(name, raising=False)
    threads = torch.get_num_threads()
    yield current
    torch.set_num_threads(threads)
    for lease in leases:
        lease.release()


def test_prepare_leases_a_gpu_once_and_keeps_it(
    workstation: list[int], start: Callable[..., Job]
) -> None:
    assert prepare("auto", 1) == torch.device("cuda", 0)
    gc.collect()
    told = start(["aaaa"], directory=lock_directory()).go().waits()
    assert told.endswith(f"GPU 0 (process {os.getpid()})")
    assert prepare("cuda", 1) == torch.device("cuda", 0)  # its own: no wait for itself
    assert prepare("cuda:1", 1) == torch.device("cuda", 1)
    assert prepare("auto", 3) == torch.device("cuda", 0)
    assert workstation == [0, 0, 1, 0]
    assert torch.get_num_threads() == 3
    assert [lease.gpu for lease in devices._LEASES] == GPUS


def test_a_gpu_named_by_number_is_waited_for(
    workstation: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = take(GPUS[1:], directory=lock_directory())
    releases = iter([other.release])  # a second wait would end the test
    monkeypatch.setattr("mstkd.compute.leases.time.sleep", lambda _: next(releases)())
    assert prepare("cuda:1", 1) == torch.device("cuda", 1)


def test_prepare_in_a_step_of_one_gpu_locks_nothing(
    workstation: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLURM_STEP_GPUS", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert prepare("auto", 1) == torch.device("cuda", 0)
    assert prepare("cuda:0", 1) == torch.device("cuda", 0)
    assert workstation == [0, 0]
    assert not list(tmp_path.iterdir())


def test_prepare_for_the_cpu_takes_nothing(workstation: list[int], tmp_path: Path) -> None:
    assert prepare("cpu", 1) == torch.device("cpu")
    assert not workstation
    assert not list(tmp_path.iterdir())


def test_prepare_shares_as_the_environment_says(
    workstation: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSTKD_JOBS_PER_GPU", "2")
    shared = [take(GPUS, directory=lock_directory(), jobs=2) for _ in range(3)]
    assert prepare("auto", 1) == torch.device("cuda", 1)
    monkeypatch.setenv("MSTKD_JOBS_PER_GPU", "many")
    with pytest.raises(InputError, match="MSTKD_JOBS_PER_GPU"):
        prepare("cuda:0", 1)
    for lease in shared:
        lease.release()
