"""Where a step computes: the device and the number of CPU threads."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from mstkd.errors import InputError

Network = TypeVar("Network", bound=nn.Module)


def place(network: Network, device: torch.device) -> Network:
    """The network on the device, convolutions channels last: the faster layout on CPU and GPU."""
    return network.to(memory_format=torch.channels_last).to(device)


def prepare(device: str, threads: int) -> torch.device:
    """Set torch's thread count and give the device.

    Args:
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        threads: CPU threads of this process; parallel jobs must not share cores.

    Raises:
        InputError: a GPU is asked for and there is none.
    """
    torch.set_num_threads(threads)
    available = torch.cuda.is_available()
    if device == "auto":
        return torch.device("cuda" if available else "cpu")
    if device == "cuda" and not available:
        raise InputError("--device", found="no GPU", expected="a GPU that torch can use")
    if device not in ("cpu", "cuda"):
        raise InputError("--device", found=repr(device), expected="auto, cpu or cuda")
    return torch.device(device)
