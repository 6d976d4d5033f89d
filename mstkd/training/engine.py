"""How a step is computed, not what: precision, compilation, determinism."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mstkd.compute.devices import autocast, prepare
from mstkd.compute.ranks import ALONE, Ranks
from mstkd.config import EngineSettings


def configure(settings: EngineSettings, device: str, threads: int) -> torch.device:
    """Set up the process, before anything is computed on a GPU, and give the device: `prepare`."""
    torch.backends.cudnn.benchmark = not settings.deterministic
    if settings.deterministic:
        # cuBLAS is deterministic with a workspace of fixed size only.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    return prepare(device, threads)


def embedder(
    backbone: nn.Module, settings: EngineSettings, device: torch.device, ranks: Ranks = ALONE
) -> Callable[[Tensor], Tensor]:
    """Images (B, 3, H, H) to embeddings float32 (B, D), for training.

    Under autocast convolutions and matrix products are bfloat16, weights, batch statistics and
    what comes after the embedding float32. A compiled backbone shares the weights of `backbone`;
    with several ranks there is none, since its layers talk to those of the others.
    """
    network: Callable[[Tensor], Tensor] = backbone
    if settings.compile != "off" and ranks.size == 1:
        network = torch.compile(backbone, mode=settings.compile)

    def embed(images: Tensor) -> Tensor:
        with autocast(settings.precision, device):
            embeddings = network(images)
        return embeddings.float()

    return embed
