"""Batch normalisation and PReLU in one pass each way, as Triton kernels.

Tensors are channels last in memory: R rows of C numbers, R = B * H * W. Statistics and sums over
rows are taken in two steps, by parts of rows and then over the parts, in an order that shapes alone
decide: no atomic additions, so the same input gives the same bytes, on any GPU of one kind.

x is the input, u = (x - mean) * inverse, z = u * weight + bias, y = z where z > 0, else slope * z.
Numbers are computed in the type of the statistics.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _places(first, end, channels, tile_rows: tl.constexpr, tile_channels: tl.constexpr):
    """Of a tile from a row on: its channels, and offsets and what is inside (rows, channels)."""
    row = first + tl.arange(0, tile_rows)
    channel = tl.program_id(1) * tile_channels + tl.arange(0, tile_channels)
    # 64 bits: of a large batch, a tensor has more than 2^31 numbers.
    offset = row.to(tl.int64)[:, None] * channels + channel[None, :]
    return channel, offset, (row < end)[:, None] & (channel < channels)[None, :]


@triton.jit
def moments_of_parts(
    x, means, squares, rows, channels, each, tile_rows: tl.constexpr, tile_channels: tl.constexpr
):
    """Means and sums of squared deviations (parts, C) of `each` rows a part; grid (parts, C).

    Deviations are first taken from the mean of the part's first tile. That is near enough to its
    own mean for single precision: if it is not, the tile itself makes the part's variance large.
    """
    kind = means.dtype.element_ty
    begin = tl.program_id(0) * each
    end = tl.minimum(begin + each, rows)
    channel, offset, inside = _places(begin, end, channels, tile_rows, tile_channels)
    value = tl.load(x + offset, mask=inside, other=0.0).to(kind)
    shift = tl.sum(value, 0) / tl.minimum(end - begin, tile_rows).to(kind)
    total = tl.zeros((tile_rows, tile_channels), kind)
    square = tl.zeros((tile_rows, tile_channels), kind)
    for first in range(begin, end, tile_rows):
        channel, offset, inside = _places(first, end, channels, tile_rows, tile_channels)
        value = tl.load(x + offset, mask=inside, other=0.0).to(kind)
        apart = tl.where(inside, value - shift[None, :], 0.0)
        total += apart
        square += apart * apart
    count = (end - begin).to(kind)
    mean = tl.sum(total, 0) / count  # from `shift`
    at = tl.program_id(0) * channels + channel
    tl.store(means + at, shift + mean, mask=channel < channels)
    tl.store(squares + at, tl.sum(square, 0) - count * mean * mean, mask=channel < channels)


@triton.jit
def _counts(first, parts, rows, each, kind: tl.constexpr, tile_parts: tl.constexpr):
    """How many rows (tile_parts, 1) so many parts have, from one on."""
    part = first + tl.arange(0, tile_parts)
    count = tl.minimum(rows - part * each, each)
    return tl.where(part < parts, count, 0).to(kind)[:, None]


@triton.jit
def moments_of_all(
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
    momentum: tl.constexpr,
    eps: tl.constexpr,
    tile_parts: tl.constexpr,
    tile_channels: tl.constexpr,
):
    """Mean and 1 / sqrt(variance + eps) (C,) of all rows, and running statistics; grid (1, C).

    Parts are put together as Chan et al. (1979) do.
    """
    kind = mean.dtype.element_ty
    total = tl.zeros((tile_parts, tile_channels), kind)
    for first in range(0, parts, tile_parts):
        channel, offset, inside = _places(first, parts, channels, tile_parts, tile_channels)
        count = _counts(first, parts, rows, each, kind, tile_parts)
        total += count * tl.load(means + offset, mask=inside, other=0.0)
    of_all = tl.sum(total, 0) / rows
    total = tl.zeros((tile_parts, tile_channels), kind)
    for first in range(0, parts, tile_parts):
        channel, offset, inside = _places(first, parts, channels, tile_parts, tile_channels)
        count = _counts(first, parts, rows, each, kind, tile_parts)
        apart = tl.load(means + offset, mask=inside, other=0.0) - of_all[None, :]
        within = tl.load(squares + offset, mask=inside, other=0.0)
        total += tl.where(inside, within + count * apart * apart, 0.0)
    square = tl.sum(total, 0)
    channel = tl.program_id(1) * tile_channels + tl.arange(0, tile_channels)
    inside = channel < channels
    tl.store(mean + channel, of_all, mask=inside)
    tl.store(inverse + channel, 1.0 / tl.sqrt(square / rows + eps), mask=inside)
    before = tl.load(running_mean + channel, mask=inside)
    after = before + momentum * (of_all - before)
    tl.store(running_mean + channel, after, mask=inside)
    before = tl.load(running_var + channel, mask=inside)
    after = before + momentum * (square / (rows - 1) - before)
    tl.store(running_var + channel, after, mask=inside)


@triton.jit
def _normalised(x, mean, inverse, weight, bias, channel, offset, inside, channels):
    """u and z of a tile."""
    kind = mean.dtype.element_ty
    known = channel < channels
    m = tl.load(mean + channel, mask=known, other=0.0)
    i = tl.load(inverse + channel, mask=known, other=0.0)
    w = tl.load(weight + channel, mask=known, other=0.0).to(kind)
    b = tl.load(bias + channel, mask=known, other=0.0).to(kind)
    value = tl.load(x + offset, mask=inside, other=0.0).to(kind)
    unit = (value - m[None, :]) * i[None, :]
    return unit, unit * w[None, :] + b[None, :]


@triton.jit
def norm_prelu(
    x,
    weight,
    bias,
    slope,
    mean,
    inverse,
    y,
    rows,
    channels,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
):
    """y of x; grid (R, C)."""
    first = tl.program_id(0) * tile_rows
    channel, offset, inside = _places(first, rows, channels, tile_rows, tile_channels)
    _, z = _normalised(x, mean, inverse, weight, bias, channel, offset, inside, channels)
    s = tl.load(slope + channel, mask=channel < channels, other=0.0).to(z.dtype)
    tl.store(y + offset, tl.where(z > 0, z, s[None, :] * z), mask=inside)


@triton.jit
def gradients_of_parts(
    grad,
    x,
    weight,
    bias,
    slope,
    mean,
    inverse,
    sums,
    parts,
    rows,
    channels,
    each,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
):
    """Gradients (3, parts, C) of weight, bias and slope by `each` rows; grid (parts, C)."""
    kind = mean.dtype.element_ty
    begin = tl.program_id(0) * each
    end = tl.minimum(begin + each, rows)
    of_weight = tl.zeros((tile_rows, tile_channels), kind)
    of_bias = tl.zeros((tile_rows, tile_channels), kind)
    of_slope = tl.zeros((tile_rows, tile_channels), kind)
    channel = tl.program_id(1) * tile_channels + tl.arange(0, tile_channels)
    s = tl.load(slope + channel, mask=channel < channels, other=0.0).to(kind)
    for first in range(begin, end, tile_rows):
        channel, offset, inside = _places(first, end, channels, tile_rows, tile_channels)
        unit, z = _normalised(x, mean, inverse, weight, bias, channel, offset, inside, channels)
        of_y = tl.load(grad + offset, mask=inside, other=0.0).to(kind)
        of_z = tl.where(z > 0, of_y, s[None, :] * of_y)
        # Outside the gradient is 0, and so is what is added.
        of_weight += of_z * unit
        of_bias += of_z
        of_slope += tl.where(z > 0, 0.0, of_y * z)
    at = sums + tl.program_id(0) * channels + channel
    inside = channel < channels
    tl.store(at, tl.sum(of_weight, 0), mask=inside)
    tl.store(at + parts * channels, tl.sum(of_bias, 0), mask=inside)
    tl.store(at + 2 * parts * channels, tl.sum(of_slope, 0), mask=inside)


@triton.jit
def gradient_of_input(
    grad,
    x,
    weight,
    bias,
    slope,
    mean,
    inverse,
    sums,
    of_x,
    rows,
    channels,
    of_batch: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
):
    """The gradient of x, of gradients (2, C) of weight and bias over all rows; grid (R, C).

    of_batch says that mean and variance are those of x, and have a gradient too.
    """
    kind = mean.dtype.element_ty
    first = tl.program_id(0) * tile_rows
    channel, offset, inside = _places(first, rows, channels, tile_rows, tile_channels)
    known = channel < channels
    unit, z = _normalised(x, mean, inverse, weight, bias, channel, offset, inside, channels)
    s = tl.load(slope + channel, mask=known, other=0.0).to(kind)
    w = tl.load(weight + channel, mask=known, other=0.0).to(kind)
    i = tl.load(inverse + channel, mask=known, other=0.0)
    of_y = tl.load(grad + offset, mask=inside, other=0.0).to(kind)
    of_u = tl.where(z > 0, of_y, s[None, :] * of_y)
    if of_batch:
        along = tl.load(sums + channel, mask=known, other=0.0) / rows
        common = tl.load(sums + channels + channel, mask=known, other=0.0) / rows
        of_u = of_u - common[None, :] - unit * along[None, :]
    tl.store(of_x + offset, of_u * (w * i)[None, :], mask=inside)
