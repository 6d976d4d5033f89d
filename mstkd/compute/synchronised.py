"""Layers that compute over the whole batch, though each rank has a part of it.

Batch normalisation takes its statistics, and dropout its random numbers, as one process with the
whole batch would. Shapes: b samples of this rank, C channels.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from mstkd.compute.ranks import Ranks

Network = TypeVar("Network", bound=nn.Module)


def synchronised(network: Network, ranks: Ranks, device: torch.device) -> Network:
    """The network with such layers in place of PyTorch's, where there are several ranks.

    Parameters keep their names and are the same objects. On a GPU batch normalisation is
    PyTorch's `SyncBatchNorm`, which has kernels of its own and refuses the CPU.
    """
    if ranks.size == 1:
        return network
    if device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    for name, layer in list(network.named_modules()):
        replacement: nn.Module
        if isinstance(layer, _BatchNorm) and not isinstance(layer, nn.SyncBatchNorm):
            replacement = BatchNorm.of(layer, ranks)
        elif type(layer) is nn.Dropout and layer.p > 0:
            replacement = Dropout(layer.p, ranks)
        else:
            continue
        parent, _, child = name.rpartition(".")
        network.get_submodule(parent).register_module(child, replacement)
    return network


class BatchNorm(_BatchNorm):
    """Batch normalisation of (b, C, ...) by the statistics of all ranks' samples."""

    ranks: Ranks

    @classmethod
    def of(cls, layer: _BatchNorm, ranks: Ranks) -> BatchNorm:
        """One with the parameters and buffers of the layer."""
        own = cls(layer.num_features, layer.eps, layer.momentum, layer.affine)
        own.weight, own.bias = layer.weight, layer.bias
        own.running_mean, own.running_var = layer.running_mean, layer.running_var
        own.num_batches_tracked = layer.num_batches_tracked
        own.ranks = ranks
        return own.train(layer.training)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002, PyTorch's name
        pass  # any shape, as the layers it replaces have looked

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        dims = [dim for dim in range(x.ndim) if dim != 1]
        count = x.numel() // x.shape[1] * self.ranks.size
        with torch.no_grad():
            # A variance from sums of squares would lose its digits; so the ranks' own are taken
            # apart into what lies within and between them.
            variance, mean = torch.var_mean(x.float(), dims, correction=0)
            each = self.ranks.gather(torch.stack([mean, variance])[None])  # (ranks, 2, C)
            mean = each[:, 0].mean(0)
            variance = each[:, 1].mean(0) + (each[:, 0] - mean).square().mean(0)
            assert self.running_mean is not None and self.running_var is not None
            assert self.num_batches_tracked is not None and self.momentum is not None
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            inverse = (variance + self.eps).rsqrt()
        return _Normalise.apply(x, self.weight, self.bias, mean, inverse, self.ranks)


class _Normalise(torch.autograd.Function):
    """Scaled and shifted (x - mean) * inverse, whose gradient knows that x gave both."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        inverse: Tensor,
        ranks: Ranks,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.ranks = ranks
        scale = weight * inverse
        return torch.addcmul(_wide(bias - mean * scale, x), x, _wide(scale, x)).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse = ctx.saved_tensors
        dims = [dim for dim in range(x.ndim) if dim != 1]
        unit = (x - _wide(mean, x)) * _wide(inverse, x)
        of_bias = grad.sum(dims, dtype=torch.float32)
        of_weight = (grad * unit).sum(dims, dtype=torch.float32)
        means = ctx.ranks.add(torch.stack([of_bias, of_weight]))
        means = means / (x.numel() // x.shape[1] * ctx.ranks.size)
        of_x = grad - _wide(means[0], x) - unit * _wide(means[1], x)
        of_x = (of_x * _wide(weight * inverse, x)).to(x.dtype)
        return of_x, of_weight, of_bias, None, None, None


class Dropout(nn.Module):
    """Dropout of (b, ...) by a mask drawn for the batch of all ranks, which all draw alike."""

    def __init__(self, p: float, ranks: Ranks) -> None:
        super().__init__()
        self.p, self.ranks = p, ranks

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        # Numbers go to places in the order of memory: the layout must be the batch's own.
        whole = torch.ones_like(x[:1]).expand(len(x) * self.ranks.size, *x.shape[1:])
        last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        mask = F.dropout(whole.contiguous(memory_format=layout), self.p)
        return x * mask[self.ranks.share(len(mask))]


def _wide(channels: Tensor, like: Tensor) -> Tensor:
    """Numbers (C,) to be broadcast along (b, C, ...)."""
    return channels.view(-1, *[1] * (like.ndim - 2))
