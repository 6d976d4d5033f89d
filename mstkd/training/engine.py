"""How a step is computed, not what: precision, compilation, determinism."""

from __future__ import annotations

import importlib
import os
from typing import Any

import torch
from torch import Tensor, nn

from mstkd.compute.devices import autocast, precision_on, prepare
from mstkd.compute.ranks import ALONE, Ranks
from mstkd.config import EngineSettings
from mstkd.models.iresnet import IResNet
from mstkd.progress import say


def configure(settings: EngineSettings, device: str, threads: int) -> torch.device:
    """Set up the process, before anything is computed on a GPU, and give the device: `prepare`."""
    torch.backends.cudnn.benchmark = not settings.deterministic
    if settings.deterministic:
        # cuBLAS is deterministic with a workspace of fixed size only.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # Compiled kernels are not chosen by how fast they just were, where PyTorch knows how.
        inductor: Any = importlib.import_module("torch._inductor.config")
        if hasattr(inductor, "deterministic"):
            inductor.deterministic = True
        torch.use_deterministic_algorithms(True)
        # Nothing reads memory that was not written; filling it would take time.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return prepare(device, threads)


class Embedder:
    """What a network sees, images (B, 3, H, H) say, to embeddings float32 (B, D), for training.

    Under autocast convolutions and matrix products are bfloat16, weights, batch statistics and
    what comes after the embedding float32. A compiled network shares the weights of `network`;
    with several ranks there is none, since its layers talk to those of the others.

    `compiled` says whether the network is, `captured` whether the whole step may become a CUDA
    graph.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: EngineSettings,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self._plain, self._device = network, device
        self.precision = precision_on(settings.precision, device)
        self.captured = settings.compile == "auto" and device.type == "cuda" and ranks.size == 1
        mode = None if settings.compile == "off" else settings.compile
        if settings.compile == "auto":
            # An adaptor has nothing to fuse: its captured step is as fast without.
            mode = "default" if self.captured and isinstance(network, IResNet) else None
        self.compiled = mode is not None and ranks.size == 1
        self._network = (
            torch.compile(network, mode=mode, dynamic=False) if self.compiled else network
        )

    def __call__(self, seen: Tensor) -> Tensor:
        with autocast(self.precision, self._device):
            embeddings: Tensor = self._network(seen)
        return embeddings.float()

    def uncompile(self, label: str, error: Exception) -> None:
        """Go on without torch.compile, and say so in a line."""
        self._network, self.compiled = self._plain, False
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        say(f"{label}: not compiled, which is slower: {reason}")
