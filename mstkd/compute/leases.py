"""Which job computes on which GPU of a machine: file locks between one user's processes.

A GPU's lock is a file of its own, named by the GPU's UUID, under flock(2). The kernel drops the
lock when its holder ends, however it ends, so the files are never removed and a file that is
there means nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import stat
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mstkd.errors import InputError
from mstkd.progress import say

JOBS_PER_GPU = "MSTKD_JOBS_PER_GPU"
STEP_GPUS = "SLURM_STEP_GPUS"
TRIES_BETWEEN_LINES = 30
TOGETHER = "together"  # the lock of whoever looks for several GPUs at once
# Never through a link, never stuck on a pipe. Python adds O_CLOEXEC to all it opens.
OPEN_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK

# What to lock, in order: files of the lock directory, and LOCK_SH or LOCK_EX.
Locks = Sequence[tuple[str, int]]


@dataclass(frozen=True)
class Gpu:
    """A GPU that this process sees."""

    index: int  # as torch counts: CUDA_VISIBLE_DEVICES changes it
    uuid: str  # the same in every process


@dataclass(frozen=True)
class Lease:
    """The right to compute on a GPU, until `release` or the end of the process.

    It holds bare descriptors: nothing closes them when the object is forgotten, so a lease
    cannot be lost by accident. Programs that the process starts do not inherit them.
    """

    gpu: Gpu
    descriptors: tuple[int, ...]

    def release(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)


def has_gpu_of_its_own(environment: Mapping[str, str]) -> bool:
    """Whether SLURM chose one GPU for this process: the only one of its job step.

    SLURM sets SLURM_STEP_GPUS in steps that `srun` starts, of the GPUs of that step (srun(1)). In
    a batch script or the shell of `salloc` it is not set: there, as in a step with several, jobs
    may run side by side, and nobody has dealt the GPUs out among them.
    """
    return environment.get(STEP_GPUS, "").isdigit()


def jobs_per_gpu(environment: Mapping[str, str]) -> int:
    """How many jobs may share a GPU: MSTKD_JOBS_PER_GPU, else 1.

    Raises:
        InputError: the variable is not a whole number from 1 to 99.
    """
    value = environment.get(JOBS_PER_GPU, "1")
    if not re.fullmatch(r"[1-9][0-9]?", value):
        raise InputError(JOBS_PER_GPU, found=repr(value), expected="a whole number from 1 to 99")
    return int(value)


def lock_directory() -> Path:
    """Where this user's locks lie.

    Not XDG_RUNTIME_DIR: a job of cron has none, and at the last logout it is removed below the
    jobs that go on. Either way two jobs would look in two places and meet on one GPU.
    """
    return Path(tempfile.gettempdir()) / f"mstkd-gpus-{os.getuid()}"


def take(
    gpus: Sequence[Gpu], *, directory: Path, jobs: int = 1, seconds_between_tries: float = 1.0
) -> Lease:
    """Lease one of the GPUs: `take_together` of one."""
    (lease,) = take_together(
        gpus, 1, directory=directory, jobs=jobs, seconds_between_tries=seconds_between_tries
    )
    return lease


def take_together(
    gpus: Sequence[Gpu],
    count: int,
    *,
    directory: Path,
    jobs: int = 1,
    seconds_between_tries: float = 1.0,
) -> list[Lease]:
    """Lease so many of the GPUs; wait while too many are taken, and say so on stderr now and then.

    All or none: a job that kept one GPU and waited for the next could wait for a job that does
    the same. The GPUs that are free while it waits go to whoever needs fewer.

    Args:
        gpus: the candidates, at least `count`.
        count: how many, at least one; no GPU twice.
        directory: where the locks lie; made if it is not there.
        jobs: how many jobs that agree to it share a GPU. A job that says 1 shares with none.
            Idle GPUs go first.
        seconds_between_tries: of waiting. A wait for several locks at once has no system call,
            so it looks again.

    Raises:
        InputError: another user could meddle with the directory or a lock, or they cannot be
            opened.
    """
    folder = _open_directory(directory)
    tries = itertools.count()
    try:
        while True:
            leases = _try_together(gpus, count, jobs, folder, directory)
            if leases:
                return leases
            if next(tries) % TRIES_BETWEEN_LINES == 0:
                holders = ", ".join(_holder(gpu, folder) for gpu in gpus)
                say(f"waiting for a free GPU; taken: {holders}")
            time.sleep(seconds_between_tries)
    finally:
        os.close(folder)


def _try_together(
    gpus: Sequence[Gpu], count: int, jobs: int, folder: int, directory: Path
) -> list[Lease]:
    """So many leases, or none."""
    leases: list[Lease] = []
    # Two that look at once would each find what the other holds for a moment, and both go away.
    turn = _lock_all([(TOGETHER, fcntl.LOCK_EX)], folder, directory) if count > 1 else ()
    if count > 1 and not turn:
        return []
    try:
        for gpu, locks in _slots(gpus, jobs):
            if len(leases) == count or any(lease.gpu == gpu for lease in leases):
                continue
            descriptors = _lock_all(locks, folder, directory)
            if descriptors:
                leases.append(Lease(gpu, descriptors))
    except InputError:
        for lease in leases:
            lease.release()
        raise
    finally:
        for descriptor in turn:
            os.close(descriptor)
    if len(leases) == count:
        return leases
    for lease in leases:
        lease.release()
    return []


def _slots(gpus: Sequence[Gpu], jobs: int) -> list[tuple[Gpu, Locks]]:
    """What to try, in order.

    A job that shares holds the GPU's own file too, but shared: so it keeps out, and is kept out
    by, a job that does not share.
    """
    if jobs == 1:
        return [(gpu, [(gpu.uuid, fcntl.LOCK_EX)]) for gpu in gpus]
    return [
        (gpu, [(gpu.uuid, fcntl.LOCK_SH), (f"{gpu.uuid}.{slot}", fcntl.LOCK_EX)])
        for slot in range(jobs)
        for gpu in gpus
    ]


def _open_directory(directory: Path) -> int:
    """The directory, made if need be; anyone can make a name below /tmp, so see whose it is."""
    expected = "a directory, not a link, that you own and only you may enter"
    try:
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise InputError(directory, found=error.strerror, expected=expected) from None
    status = os.fstat(folder)
    if status.st_uid == os.getuid() and not status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return folder
    os.close(folder)
    found = f"one of user {status.st_uid}, mode {stat.S_IMODE(status.st_mode):o}"
    raise InputError(directory, found=found, expected=expected)


def _lock_all(locks: Locks, folder: int, directory: Path) -> tuple[int, ...]:
    """Descriptors that hold the locks; none if one of the locks is taken."""
    held: list[int] = []
    for name, mode in locks:
        try:
            held.append(os.open(name, OPEN_LOCK, mode=0o600, dir_fd=folder))
            fcntl.flock(held[-1], mode | fcntl.LOCK_NB)
        except OSError as error:
            for descriptor in held:
                os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return ()
            raise InputError(directory / name, found=error.strerror, expected="a lock") from None
    # For the lines of those who wait; on a full disk the lock holds without it.
    with contextlib.suppress(OSError):
        os.ftruncate(held[0], 0)
        os.pwrite(held[0], str(os.getpid()).encode(), 0)
    return tuple(held)


def _holder(gpu: Gpu, folder: int) -> str:
    """The GPU, and who holds it if that can be told: where jobs share, the last who came."""
    try:
        lock = os.open(gpu.uuid, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        try:
            process = int(os.read(lock, 16))
        finally:
            os.close(lock)
        os.kill(process, 0)
    except (OSError, ValueError, OverflowError):
        return f"GPU {gpu.index}"
    return f"GPU {gpu.index} (process {process})"
