"""A step on several processes of this machine, or as one of those that `torchrun` started.

The parent computes nothing: it takes the GPUs, starts a process a rank, passes signals on and
tells the first fault. No rank outlives it: a job that was killed must not train on.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from mstkd.compute.devices import adopt, candidates, own_together, visible_gpus
from mstkd.compute.interruption import SIGNALS, Interrupted
from mstkd.compute.leases import Gpu, Lease, lock_directory
from mstkd.compute.ranks import ALONE, Ranks
from mstkd.errors import InputError, RankError
from mstkd.orphans import end_with_parent
from mstkd.progress import say

Step = Callable[..., None]  # takes `ranks`, `threads` and `device`, and keywords of its own
# What `torchrun` tells the processes that it starts.
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# The others wait while the first looks at pairs or writes. A rank that died ends the job at once.
PATIENCE = timedelta(hours=2)


def run(step: Step, *, ranks: int, threads: int, device: str, **arguments: Any) -> None:
    """Call a step, on so many processes if there is more than one.

    Args:
        step: a function of a module, for another process must find it.
        ranks: how many; 0 counts as 1. Under `torchrun` there are as many as it has started.
        threads: CPU threads of all ranks of this machine together.
        device: as `prepare` takes it.
        arguments: what else the step is called with; they travel by pickle.

    Raises:
        InputError: of a rank; or there are fewer GPUs, or `torchrun` started another number.
        Interrupted: a signal asked the job to end, and every rank has.
        RankError: a rank ended in another way.
    """
    if all(name in os.environ for name in TORCHRUN):
        threads = max(1, threads // int(os.environ["LOCAL_WORLD_SIZE"]))
        with _joined_torchrun(ranks, device, os.environ) as (joined, own):
            step(ranks=joined, threads=threads, device=own, **arguments)
    elif ranks > 1:
        _launch(step, ranks, threads, device, arguments)
    else:
        step(ranks=ALONE, threads=threads, device=device, **arguments)


# ---------------------------------------------------------------- the parent


@dataclass(frozen=True)
class _Fault:
    """What a rank ended of."""

    error: Exception  # the parent raises it in the rank's stead
    time: float = 0.0  # by the clock of all processes; one that says nothing was killed first


@dataclass
class _Child:
    process: BaseProcess
    report: connection.Connection  # of a fault
    told: _Fault | None = None

    def fault(self) -> _Fault | None:
        """What ended the child or is about to, None where all went well."""
        with contextlib.suppress(EOFError):
            if self.told is None and self.report.poll():
                self.told = self.report.recv()
        if self.told is not None:
            return self.told
        code = self.process.exitcode or 0
        rank = self.process.name
        if code < 0:
            return _Fault(RankError(f"{rank} was ended by {signal.Signals(-code).name}"))
        return _Fault(_failed(rank)) if code else None


def _launch(step: Step, size: int, threads: int, device: str, arguments: Mapping[str, Any]) -> None:
    leases = _leases(device, size)
    # Not forked: CUDA and thread pools do not survive it.
    context = multiprocessing.get_context("spawn")
    children: list[_Child] = []
    with tempfile.TemporaryDirectory(prefix="mstkd-ranks-") as folder, _passed_on(children) as got:
        try:
            for rank in range(size):
                here, there = context.Pipe(duplex=False)
                place = _Place(
                    rank, size, Path(folder) / "meeting", device, max(1, threads // size)
                )
                held = None if leases is None else _Held.of(leases[rank])
                process = context.Process(
                    target=_child,
                    args=(step, place, held, there, dict(arguments)),
                    name=f"rank {rank} of {size}",
                )
                process.start()
                there.close()
                children.append(_Child(process, here))
            if got:  # some children were not there to hear of it
                raise _ended(got[0])
            _wait(children, got)
        finally:
            for child in children:
                child.process.kill()
                child.process.join()


def _leases(device: str, count: int) -> list[Lease] | None:
    """A GPU a rank, held by this process too until it ends; None for the CPU."""
    gpus = [] if device == "cpu" else visible_gpus()
    wanted = candidates(device, gpus)
    if not wanted:
        return None
    leases = own_together(wanted, count, directory=lock_directory(), environment=os.environ)
    for lease in leases:
        adopt(lease)
    return leases


@contextlib.contextmanager
def _passed_on(children: list[_Child]) -> Iterator[list[int]]:
    """Pass signals on to the children; give a list of those that came."""
    received: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for child in children:
            if child.process.pid is not None and child.process.exitcode is None:
                with contextlib.suppress(ProcessLookupError):  # it ends this moment
                    os.kill(child.process.pid, number)

    with contextlib.ExitStack() as restored:
        for number in SIGNALS:
            with contextlib.suppress(ValueError):  # not the main thread
                restored.callback(signal.signal, number, signal.signal(number, pass_on))
        yield received


def _wait(children: list[_Child], received: list[int]) -> None:
    """Wait until all ranks have ended well, or one in another way, and tell what came first."""
    running: dict[Any, _Child] = {child.process.sentinel: child for child in children}
    interrupted: Interrupted | None = None
    while running:
        for sentinel in connection.wait(list(running)):
            child = running.pop(sentinel)
            child.process.join()
            fault = child.fault()
            if fault is not None and isinstance(fault.error, Interrupted):
                interrupted = fault.error  # the others end too; the first may still be writing
            elif fault is not None:
                raise _cause(children, received)
    if interrupted is not None:
        raise interrupted


def _cause(children: list[_Child], received: list[int]) -> Exception:
    """What came first: a rank that loses another fails of it, and may be gone before it."""
    for child in children:
        code = child.process.exitcode or 0
        if -code in received:
            return _ended(-code)  # it did not listen yet, or no more
    faults = [fault for child in children if (fault := child.fault()) is not None]
    own = [fault for fault in faults if not isinstance(fault.error, Interrupted)]
    return min(own, key=lambda fault: fault.time).error


def _failed(rank: str) -> RankError:
    return RankError(f"{rank} failed; what it says stands above")


def _ended(number: int) -> Interrupted:
    return Interrupted(number, f"{signal.Signals(number).name} received outside of training")


# ---------------------------------------------------------------- a child


@dataclass(frozen=True)
class _Place:
    """Where a rank stands."""

    rank: int
    size: int
    meeting: Path  # the file by which the ranks find each other
    device: str
    threads: int


@dataclass(frozen=True)
class _Held:
    """A lease on its way to another process, which then holds the same locks."""

    gpu: Gpu
    descriptors: tuple[Any, ...]

    @classmethod
    def of(cls, lease: Lease) -> _Held:
        return cls(lease.gpu, tuple(map(DupFd, lease.descriptors)))

    def lease(self) -> Lease:
        return Lease(self.gpu, tuple(held.detach() for held in self.descriptors))


def _child(
    step: Step,
    place: _Place,
    held: _Held | None,
    report: connection.Connection,
    arguments: dict[str, Any],
) -> None:
    end_with_parent()
    device = "cpu"
    if held is not None:
        # From here on the GPU stays taken until both processes are gone.
        adopt(held.lease())
        device = f"cuda:{held.gpu.index}"
    if sys.platform == "linux":
        # By default gloo asks what the machine's name stands for, which may be no address.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        with _group(f"file://{place.meeting}", place.rank, place.size, device) as ranks:
            step(ranks=ranks, threads=place.threads, device=device, **arguments)
    except (InputError, Interrupted, OSError) as error:
        report.send(_Fault(error, time.monotonic()))
        sys.exit(2)
    except Exception:
        rank = multiprocessing.current_process().name
        report.send(_Fault(_failed(rank), time.monotonic()))
        # At once: those of two ranks would mix, line by line.
        say(f"{rank}: {traceback.format_exc().rstrip()}")
        sys.exit(1)


# ---------------------------------------------------------------- the group


@contextlib.contextmanager
def _group(method: str, rank: int, size: int, device: str) -> Iterator[Ranks]:
    """Belong to the group of all ranks, which talk by what suits the tensor at hand."""
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)
    dist.init_process_group(
        backend, init_method=method, rank=rank, world_size=size, timeout=PATIENCE
    )
    with _silent_unless(rank == 0):
        yield Ranks(rank, size)
    # Not after a fault: it would wait for the others, who wait for this one.
    dist.destroy_process_group()


@contextlib.contextmanager
def _silent_unless(first: bool) -> Iterator[None]:
    """Lines of progress come from the first rank; a traceback comes from any, after this."""
    if first:
        yield
        return
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


@contextlib.contextmanager
def _joined_torchrun(
    ranks: int, device: str, environment: Mapping[str, str]
) -> Iterator[tuple[Ranks, str]]:
    """The group that `torchrun` has made, and this rank's own device.

    Raises:
        InputError: `--ranks` says another number; or there are too few GPUs.
    """
    size, local_size = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
    rank, local_rank = int(environment["RANK"]), int(environment["LOCAL_RANK"])
    if ranks > 1 and ranks != size:
        raise InputError("--ranks", found=f"{ranks}", expected=f"{size}, as torchrun has started")
    on_gpu = bool(candidates(device, [] if device == "cpu" else visible_gpus()))
    with _group("env://", rank, size, "cuda" if on_gpu else "cpu") as joined:
        if not on_gpu:
            yield joined, "cpu"
            return
        # The first of each machine takes the GPUs for all there: alone, each could wait for one
        # that a rank of another such job holds.
        leases = _leases(device, local_size) if local_rank == 0 else None
        told: list[Any] = [None] * size
        dist.all_gather_object(told, [lease.gpu for lease in leases or ()])
        own: Gpu = told[rank - local_rank][local_rank]  # as the first rank of this machine says
        if local_rank:
            adopt(Lease(own, ()))
        yield joined, f"cuda:{own.index}"
