"""One writer an output: a lock beside it, under flock(2), which the kernel drops with its holder.

It holds between the processes of a machine, and between machines as far as the file system that
they share takes part: NFS and most cluster file systems do. Where there are no locks, writers still
do each other no harm: all work in names of their own and rename what is whole.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mstkd.progress import say

# Never through a link, never stuck on a pipe. Python adds O_CLOEXEC to all it opens.
OPEN_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Turn:
    """The right to write an output.

    `alone` is False where the file system has no locks: others may be at work, and what lies
    about may be theirs. `finished` is True where another process wrote the output while this one
    waited, by the same work.
    """

    alone: bool
    finished: bool = False


@contextlib.contextmanager
def only_writer(output: Path, work: str = "") -> Iterator[Turn]:
    """Wait until no other process writes an output, and keep the others out of it.

    Args:
        output: the file to be, in a folder that is there.
        work: what decides its content, a hash say: whoever waits sees if it wants the same.
            Where it is empty, nobody is told that the work is done.
    """
    with _locked(output, output.with_name(f".{output.name}.lock"), work) as turn:
        if not turn.alone:
            told = "the file system has no locks: see that no other job writes it"
            say(f"{output}: {told}")
        yield turn


@contextlib.contextmanager
def only_renamer(output: Path) -> Iterator[Turn]:
    """The same for the time in which a file is written beside the output and renamed.

    Another lock, so that it can be taken by whoever is the `only_writer`.
    """
    with _locked(output, output.with_name(f".{output.name}.tmp.lock")) as turn:
        yield turn


@contextlib.contextmanager
def _locked(output: Path, lock: Path, work: str = "") -> Iterator[Turn]:
    taken = _take(output, lock)
    if taken is None:
        yield Turn(alone=False)
        return
    held, done = taken
    try:
        if work:
            told = {"work": work, "host": socket.gethostname(), "process": os.getpid()}
            with contextlib.suppress(OSError):  # on a full disk the lock holds without it
                os.ftruncate(held, 0)
                os.pwrite(held, json.dumps(told).encode(), 0)
        yield Turn(alone=True, finished=done == work != "")
    finally:
        if _is(lock, held):
            lock.unlink(missing_ok=True)
        os.close(held)


def _take(output: Path, lock: Path) -> tuple[int, str] | None:
    """A descriptor that holds the lock, and the work of who last gave the output meanwhile.

    None where there are no locks.
    """
    done = ""
    while True:
        try:
            held = os.open(lock, OPEN_LOCK, 0o666)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(output)) from None
        try:
            waited = _wait(held, output)
        except OSError as error:
            os.close(held)
            if error.errno not in NO_LOCKS:
                raise OSError(error.errno, error.strerror, str(lock)) from None
            lock.unlink(missing_ok=True)
            return None
        done = done if waited is None else waited
        if _is(lock, held):
            return held, done
        os.close(held)  # its holder has removed it; others may wait at a new one


def _wait(lock: int, output: Path) -> str | None:
    """Wait for the lock; the work of who had it, if that has given the output meanwhile."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        pass
    before, holder = _version(output), _holder(lock)
    if holder:
        who = f"process {holder.get('process')} on {holder.get('host')}"
        say(f"{output}: waiting for {who}, which writes it")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return None if _version(output) in (None, before) else str(holder.get("work", ""))


def _holder(lock: int) -> dict[str, Any]:
    try:
        told = json.loads(os.pread(lock, 1 << 12, 0))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _version(output: Path) -> tuple[int, int] | None:
    """Tells one file of this name from the next."""
    try:
        status = output.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _is(lock: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(lock.stat(), os.fstat(descriptor))
    except OSError:
        return False
