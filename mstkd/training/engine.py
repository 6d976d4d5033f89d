"""What a network embeds with in training: its precision and its compilation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mstkd.compute.devices import autocast, precision_on
from mstkd.compute.ranks import ALONE, Ranks
from mstkd.config import EngineSettings
from mstkd.models import fused_norm
from mstkd.models.backbone import Backbone
from mstkd.progress import say
from mstkd.training.weight_casts import WeightCasts


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
        self._device = device
        self.precision = precision_on(settings.precision, device)
        half = self.precision == "bfloat16"
        self._plain = WeightCasts(network, device) if half else network
        self.captured = settings.compile == "auto" and device.type == "cuda" and ranks.size == 1
        mode = None if settings.compile == "off" else settings.compile
        if settings.compile == "auto":
            # An adaptor has nothing to fuse: its captured step is as fast without.
            mode = "default" if self.captured and isinstance(network, Backbone) else None
        self.compiled = mode is not None and ranks.size == 1
        if settings.fused_norm and isinstance(network, Backbone) and ranks.size == 1:
            _fuse_norms(network, device)
        self._network = (
            torch.compile(network, mode=mode, dynamic=False) if self.compiled else self._plain
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


def _fuse_norms(network: Backbone, device: torch.device) -> None:
    """Where the device can; a GPU that cannot is told of in a line."""
    refused = fused_norm.refusal(device)
    if refused is None:
        network.fuse_norms()
    elif device.type == "cuda":
        say(f"engine.fused_norm: batch normalisation and PReLU stay two operations: {refused}")
