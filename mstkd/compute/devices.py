"""Where a step computes: the device and the number of CPU threads."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import nn

from mstkd.compute.leases import (
    Gpu,
    Lease,
    has_gpu_of_its_own,
    jobs_per_gpu,
    lock_directory,
    take_together,
)
from mstkd.config import Precision
from mstkd.errors import InputError

Network = TypeVar("Network", bound=nn.Module)

# The leases of this process. They last until it ends, so that no other job gets the GPU while
# tensors lie there; a second `prepare` finds the first one's here and does not wait for itself.
_LEASES: list[Lease] = []


def place(network: Network, device: torch.device) -> Network:
    """The network on the device, convolutions channels last: the faster layout on CPU and GPU."""
    return network.to(memory_format=torch.channels_last).to(device)


def precision_on(precision: Precision, device: torch.device) -> Literal["float32", "bfloat16"]:
    """What a precision comes to on a device: `auto` is bfloat16 on a GPU, float32 on a CPU."""
    if precision == "auto":
        return "bfloat16" if device.type == "cuda" else "float32"
    return precision


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which a network computes at that precision on that device."""
    half = precision_on(precision, device) == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)


def prepare(device: str, threads: int) -> torch.device:
    """Set torch's thread count and give the device.

    A GPU is this process's own until it ends: the call waits for one that no other job holds.
    In a step of SLURM that has one GPU, it is taken as it is.

    Args:
        device: "auto" (a GPU where there is one), "cpu", "cuda" (any GPU) or "cuda:1" (that
            one, as CUDA_VISIBLE_DEVICES counts).
        threads: CPU threads of this process; parallel jobs must not share cores.

    Raises:
        InputError: a GPU is asked for and there is none, or its locks are not safe.
    """
    torch.set_num_threads(threads)
    gpus = [] if device == "cpu" else visible_gpus()
    wanted = candidates(device, gpus)
    if not wanted:
        return torch.device("cpu")
    gpu = own(wanted, _LEASES, directory=lock_directory(), environment=os.environ)
    torch.cuda.set_device(gpu.index)
    return torch.device("cuda", gpu.index)


def visible_gpus() -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves; named by UUID, which it does not renumber."""
    if not torch.cuda.is_available():
        return []
    return [
        Gpu(index, str(torch.cuda.get_device_properties(index).uuid))
        for index in range(torch.cuda.device_count())
    ]


def candidates(device: str, gpus: Sequence[Gpu]) -> list[Gpu]:
    """Which of the GPUs a `device` of `prepare` allows; none stands for the CPU.

    Raises:
        InputError: a GPU is asked for and there is none, or none of that number.
    """
    match = re.fullmatch(r"auto|cpu|cuda(?::(0|[1-9][0-9]{0,3}))?", device)
    if not match:
        raise InputError(
            "--device", found=repr(device), expected="auto, cpu, cuda or cuda:<number>"
        )
    if device == "cpu":
        return []
    if device != "auto" and not gpus:
        raise InputError("--device", found="no GPU", expected="a GPU that torch can use")
    if match[1] is None:
        return list(gpus)
    chosen = [gpu for gpu in gpus if gpu.index == int(match[1])]
    if not chosen:
        raise InputError("--device", found=device, expected=f"cuda:0 to cuda:{len(gpus) - 1}")
    return chosen


def own(
    wanted: Sequence[Gpu],
    leases: list[Lease],
    *,
    directory: Path,
    environment: Mapping[str, str],
) -> Gpu:
    """One of the GPUs that are wanted: this process's own already, or leased.

    Args:
        wanted: at least one.
        leases: what this process holds; a new lease is added.
        directory: where the locks lie.
        environment: the variables of the process.
    """
    for lease in leases:
        if lease.gpu in wanted:
            return lease.gpu
    leases += own_together(wanted, 1, directory=directory, environment=environment)
    return leases[-1].gpu


def own_together(
    wanted: Sequence[Gpu],
    count: int,
    *,
    directory: Path,
    environment: Mapping[str, str],
) -> list[Lease]:
    """A lease of a GPU for each of so many processes; one with no lock if SLURM chose the GPU.

    Where SLURM lets several jobs share a card, by MPS, shards or MIG, a lock would keep them apart.

    Args:
        wanted: the candidates.
        count: how many GPUs.
        directory: where the locks lie.
        environment: the variables of the process.

    Raises:
        InputError: there are fewer.
    """
    if len(wanted) < count:
        raise InputError("--ranks", found=f"{count}", expected=f"at most the {len(wanted)} GPUs")
    if len(wanted) == 1 and has_gpu_of_its_own(environment):
        return [Lease(wanted[0], ())]
    return take_together(wanted, count, directory=directory, jobs=jobs_per_gpu(environment))


def adopt(lease: Lease) -> None:
    """Hold a lease that another process took for this one, which `prepare` then finds."""
    _LEASES.append(lease)
