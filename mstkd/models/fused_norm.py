"""Batch normalisation and PReLU as one operation, for tensors too large for a GPU's cache.

One after the other the two read or write a whole tensor 15 times in a step, these kernels 8 times,
as torch.compile's own do, and one tensor is kept for the way back, not two. They are operations of
PyTorch's, so that a compiled network has them as they are.
Shapes: B batch, H and W sides, C channels; tensors (B, C, H, W) are channels last.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

# Numbers of a tensor from which on it is done: in bfloat16 32 MiB, most of the second-level cache
# of an H100. What is smaller stays there between kernels, and costs the host more than the device.
LARGE = 1 << 24
TILE = 4096  # numbers that a program of a kernel computes at once
MOST_CHANNELS = 128  # of them beside each other: two lines of memory and more
MOST_PARTS = 1024  # of rows, summed each by itself: some for each processor of the largest GPU
WARPS = 8


def refusal(device: torch.device) -> str | None:
    """Why the operation cannot be had on a device, in a line; None where it can.

    A small one is tried, since Triton compiles its kernels when they are first launched.
    """
    try:
        if device.type != "cuda" and not importlib.import_module("triton").knobs.runtime.interpret:
            return "no GPU"
        x = torch.ones(2, 1, 2, 2, dtype=torch.bfloat16, device=device, requires_grad=True)
        norm, prelu = nn.BatchNorm2d(1).to(device), nn.PReLU(1).to(device)
        norm_prelu(x, norm, prelu).sum().backward()  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever it is: a network can do without
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return None


def takes(x: Tensor) -> bool:
    """Whether a tensor is one that the operation is for."""
    return (
        x.numel() >= LARGE
        and x.is_floating_point()
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def norm_prelu(x: Tensor, norm: nn.BatchNorm2d, prelu: nn.PReLU) -> Tensor:
    """What `prelu(norm(x))` is, (B, C, H, W) of the type of x, but for rounding in between.

    In training by the batch's statistics, of which the running ones are told; else by these. The
    count of batches is left to the caller. Differentiable once.

    Args:
        x: channels last, on a device for which there is no `refusal`.
        norm: has running statistics, weight and bias.
        prelu: has a slope for each channel.
    """
    running_mean, running_var = norm.running_mean, norm.running_var
    assert running_mean is not None and running_var is not None, "statistics are tracked"
    if norm.training:
        mean, inverse = _moments(
            x.detach(), running_mean, running_var, norm.momentum or 0.0, norm.eps
        )
    else:
        mean, inverse = running_mean, (running_var + norm.eps).rsqrt()
    y: Tensor = _norm_prelu(x, norm.weight, norm.bias, prelu.weight, mean, inverse, norm.training)
    return y


@torch.library.custom_op("mstkd::moments", mutates_args=("running_mean", "running_var"))
def _moments(
    x: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float, eps: float
) -> tuple[Tensor, Tensor]:
    """Mean and 1 / sqrt(variance + eps) (C,) of x, float32 at least; running statistics go on."""
    rows, channels = _rows(x), x.shape[1]
    kernels, columns, tiles = _kernels(), _columns(channels), _tiles(channels)
    each, parts = _parts(rows, tiles)
    mean, inverse = (torch.empty(channels, dtype=_kind(x), device=x.device) for _ in range(2))
    means, squares = mean.new_empty(parts, channels), mean.new_empty(parts, channels)
    kernels.moments_of_parts[parts, columns](
        x, means, squares, rows, channels, each, num_warps=WARPS, **tiles
    )
    kernels.moments_of_all[1, columns](
        means,
        squares,
        running_mean,
        running_var,
        mean,
        inverse,
        parts,
        rows,
        channels,
        each,
        momentum=momentum,
        eps=eps,
        tile_parts=tiles["tile_rows"],
        tile_channels=tiles["tile_channels"],
        num_warps=WARPS,
    )
    return mean, inverse


@_moments.register_fake
def _(x: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    one, other = (torch.empty(x.shape[1], dtype=_kind(x), device=x.device) for _ in range(2))
    return one, other


@torch.library.custom_op("mstkd::norm_prelu", mutates_args=())
def _norm_prelu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    slope: Tensor,
    mean: Tensor,
    inverse: Tensor,
    of_batch: bool,
) -> Tensor:
    rows, channels = _rows(x), x.shape[1]
    tiles, y = _tiles(channels), torch.empty_like(x)
    grid = (-(-rows // tiles["tile_rows"]), _columns(channels))
    _kernels().norm_prelu[grid](
        x, weight, bias, slope, mean, inverse, y, rows, channels, num_warps=WARPS, **tiles
    )
    return y


@_norm_prelu.register_fake
def _(x: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("mstkd::norm_prelu_backward", mutates_args=())
def _norm_prelu_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    slope: Tensor,
    mean: Tensor,
    inverse: Tensor,
    of_batch: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of x, and of weight, bias and slope (3, C)."""
    rows, channels = _rows(x), x.shape[1]
    kernels, columns, tiles = _kernels(), _columns(channels), _tiles(channels)
    each, parts = _parts(rows, tiles)
    grad = grad.contiguous(memory_format=torch.channels_last)
    read = (grad, x, weight, bias, slope, mean, inverse)
    of_parts = mean.new_empty(3, parts, channels)
    kernels.gradients_of_parts[parts, columns](
        *read, of_parts, parts, rows, channels, each, num_warps=WARPS, **tiles
    )
    sums, of_x = of_parts.sum(1), torch.empty_like(x)
    grid = (-(-rows // tiles["tile_rows"]), columns)
    kernels.gradient_of_input[grid](
        *read, sums, of_x, rows, channels, of_batch=of_batch, num_warps=WARPS, **tiles
    )
    return of_x, sums


@_norm_prelu_backward.register_fake
def _(grad: Tensor, x: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    mean = others[3]
    return torch.empty_like(x), mean.new_empty(3, x.shape[1])


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.of_batch = inputs
    ctx.save_for_backward(*tensors)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    of_x, sums = _norm_prelu_backward(grad, *saved, ctx.of_batch)
    parameters = zip(sums, saved[1:4], strict=True)
    return of_x, *(one.to(parameter.dtype) for one, parameter in parameters), None, None, None


_norm_prelu.register_autograd(_gradients, setup_context=_remember)


def _kernels() -> ModuleType:
    # Imported when it is called: builds of PyTorch for a CPU bring no Triton.
    return importlib.import_module("mstkd.models.norm_prelu_kernels")


def _kind(x: Tensor) -> torch.dtype:
    """In which numbers are computed."""
    return torch.promote_types(x.dtype, torch.float32)


def _rows(x: Tensor) -> int:
    return x.numel() // x.shape[1]


def _tiles(channels: int) -> dict[str, int]:
    """Rows and channels of a tile; powers of 2, as Triton wants them."""
    beside = min(1 << (channels - 1).bit_length(), MOST_CHANNELS)
    return {"tile_rows": TILE // beside, "tile_channels": beside}


def _columns(channels: int) -> int:
    """How many tiles lie beside each other."""
    return -(-channels // _tiles(channels)["tile_channels"])


def _parts(rows: int, tiles: dict[str, int]) -> tuple[int, int]:
    """Rows of a part, whole tiles, and how many parts there are; none is empty."""
    height = tiles["tile_rows"]
    each = height * -(-rows // (height * MOST_PARTS))
    return each, -(-rows // each)
