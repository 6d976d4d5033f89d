"""A network's weights as bfloat16, all cast at once, where autocast casts them one by one.

The numbers are autocast's, and so are the gradients. What is spared is launches: of an IResNet-34
a cast and one back for each of 37 convolutions, 17 PReLUs, and weight and bias of the last layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from mstkd.models.iresnet import PReLU

# Layers whose weights and inputs autocast makes bfloat16, by the device; exact types, for what a
# subclass does with its weights is not known. On a CPU our PReLU reads float32 on the way back.
CAST: Mapping[str, tuple[type[nn.Module], ...]] = {
    "cpu": (nn.Conv2d, nn.Linear),
    "cuda": (nn.Conv2d, nn.Linear, nn.PReLU, PReLU),
}


class WeightCasts:
    """A network as it is called within autocast to bfloat16.

    Args:
        network: on its device; its parameters stay the same objects.
        device: where.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self._network = network
        self._weights = {
            f"{path}.{name}".lstrip("."): weight
            for path, layer in network.named_modules()
            if type(layer) in CAST.get(device.type, ())
            for name, weight in layer.named_parameters(recurse=False)
            if weight.dtype == torch.float32
        }

    def __call__(self, seen: Tensor) -> Tensor:
        cast = dict(zip(self._weights, _Cast.apply(*self._weights.values()), strict=True))
        embeddings: Tensor = functional_call(self._network, cast, (seen,), tie_weights=False)
        return embeddings


class _Cast(torch.autograd.Function):
    """Tensors float32 to as many bfloat16, and the gradients that there are back."""

    @staticmethod
    def forward(ctx: Any, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)  # a weight that was not used has no gradient
        return tuple(_copied(weights, torch.bfloat16))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        exact = iter(_copied([grad for grad in grads if grad is not None], torch.float32))
        return tuple(None if grad is None else next(exact) for grad in grads)


def _copied(tensors: tuple[Tensor, ...] | list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    made = [torch.empty_like(tensor, dtype=dtype) for tensor in tensors]
    if made:
        torch._foreach_copy_(made, list(tensors))
    return made
