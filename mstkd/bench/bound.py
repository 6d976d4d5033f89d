"""What a training step takes at least: its layers' bytes and operations on a device's roofline.

Counted from shapes alone. A kernel takes as long as its operations at the rate of a large product,
or its bytes at the rate of a large copy, whichever is longer, and kernels run one after another:
the roofline of Williams et al. (2009). Tensors are taken to lie in memory, not in a cache, so what
is small enough for one may beat its bound.

There are four designs of what lies between the products:

- plain, as written: a batch normalisation reads its input twice and writes once, and on the way
  back reads four times and writes once; a PReLU reads and writes once, and back reads its input and
  a gradient, writes two and reads one of them again; an addition reads two and writes one;
- normed, with `engine.fused_norm`: a PReLU of a large tensor is done in passing, and nothing else;
- compiled, as torch.compile fuses it: a PReLU is done in passing, and an addition costs a reading;
- fused: and statistics are taken where a product writes its output, which spares the normalisation
  a reading each way.

Shapes: B batch, H side in pixels, D embedding dimension, C identities.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import nn

from mstkd.bench.measure import matmul_peak
from mstkd.bench.pace import repeat
from mstkd.bench.result import Bound, Roofline, Share
from mstkd.models.backbone import Backbone, parameters_of
from mstkd.models.fused_norm import LARGE
from mstkd.models.iresnet import Block, IResNet
from mstkd.models.mobilefacenet import Bottleneck

Design = Literal["plain", "normed", "compiled", "fused"]
COPIED_CPU, COPIED_GPU = 2**27, 2**30  # bytes: more than a cache holds
FLOAT32 = 4  # bytes of weights, momenta, gradients and all of the head, whatever the precision
# Readings and writings of a whole tensor, forward and back.
NORMALISATION: Mapping[Design, int] = {"plain": 8, "normed": 8, "compiled": 8, "fused": 6}
ACTIVATION = 7  # where it is not done in passing
ADDITION: Mapping[Design, int] = {"plain": 3, "normed": 3, "compiled": 1, "fused": 1}  # each way


class Work(NamedTuple):
    """What one kernel, or several alike, compute and move in a step."""

    layer: str  # its path in the network, or what it is
    kind: Literal["products", "normalisation", "activation", "additions", "head", "optimiser"]
    flops: int
    moved: int  # bytes read and written
    exact: bool = False  # a product in float32 whatever the precision

    def seconds(self, on: Roofline) -> float:
        """At least."""
        rate = on.float32_flops_a_second if self.exact else on.flops_a_second
        return max(self.flops / rate, self.moved / on.bytes_a_second)


def step_work(
    network: Backbone, batch: int, side: int, *, classes: int, half: bool, design: Design
) -> list[Work]:
    """All of one step of a backbone under a head that looks at so many classes.

    Args:
        network: is left as it is.
        batch: B.
        side: H.
        classes: C of the head.
        half: whether activations are bfloat16 (2 bytes), else float32.
        design: of what lies between the products.
    """
    size = 2 if half else FLOAT32
    found: list[Work] = []
    images, own_kernel = (batch, 3, side, side), isinstance(network, IResNet)
    for path, layer, seen, made in _shapes(network, batch, side):
        x, y = math.prod(seen), math.prod(made)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            weights = layer.weight.numel()
            flops = 2 * y * weights // layer.weight.shape[0]
            moved = size * (x + y + weights)  # in each direction two are read, and one is written
            directions = 2 if seen == images else 3  # nobody asks for the images' gradient
            found += [Work(path, "products", flops, moved)] * directions
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
            found.append(Work(path, "normalisation", 0, size * y * NORMALISATION[design]))
        elif isinstance(layer, nn.PReLU):
            by_itself = design == "plain" or (design == "normed" and (y < LARGE or not own_kernel))
            found.append(Work(path, "activation", 0, size * y * ACTIVATION * by_itself))
        elif isinstance(layer, Block) or (isinstance(layer, Bottleneck) and layer.shortcut):
            # Back, gradients of both ways from a block's input are added there.
            found.append(Work(path, "additions", 0, size * (x + y) * ADDITION[design]))
    dim = network.embedding_dim
    return [
        *found,
        *head_work(batch, dim, classes),
        *_optimiser_work(parameters_of(network), dim * classes, half),
    ]


def head_work(batch: int, dim: int, classes: int) -> list[Work]:
    """Of a margin head and its loss: logits and two gradients by products, all float32."""
    weight, logits = FLOAT32 * classes * dim, FLOAT32 * batch * classes
    product = Work(
        "product",
        "head",
        2 * batch * classes * dim,
        weight + logits + FLOAT32 * batch * dim,
        exact=True,
    )
    return [
        Work("norms of the weight", "head", 0, weight),
        *[product] * 3,
        Work("scale, softmax and their gradients", "head", 0, 9 * logits),
        Work("gradient across the weight", "head", 0, 5 * weight),
    ]


def _optimiser_work(network: int, head: int, half: bool) -> list[Work]:
    """Of so many parameters: the network's gradient is clipped, and both take a step of SGD."""
    casts = [Work("casts", "optimiser", 0, 12 * network)] if half else []  # there and back
    return [
        *casts,
        Work("clipping", "optimiser", 0, FLOAT32 * 3 * network),
        Work("SGD", "optimiser", 0, FLOAT32 * 5 * (network + head)),
    ]


def _shapes(network: Backbone, batch: int, side: int) -> list[tuple[str, nn.Module, Any, Any]]:
    """Path, layer, and shapes of input and output, of every layer in the order of their use."""
    network, found = copy.deepcopy(network).to("meta"), []

    def remember(path: str) -> Any:
        def hook(layer: nn.Module, seen: Any, made: Any) -> None:
            found.append((path, layer, seen[0].shape, made.shape))

        return hook

    for path, layer in network.named_modules():
        layer.register_forward_hook(remember(path))
    network(torch.empty(batch, 3, side, side, device="meta"))
    return found


def seconds_at_least(work: Sequence[Work], on: Roofline) -> float:
    """Kernel after kernel."""
    return sum(one.seconds(on) for one in work)


def seconds_overlapped(work: Sequence[Work], on: Roofline) -> float:
    """Where products of one network hide the traffic of another, and all is busy all the time."""
    products = sum(one._replace(moved=0).seconds(on) for one in work)
    return max(products, sum(one.moved for one in work) / on.bytes_a_second)


def roofline(device: torch.device, seconds: float, product: float) -> Roofline:
    """What a large copy, and float32 products, reach on the device in so many seconds each.

    Args:
        device: where.
        seconds: of each measurement.
        product: operations a second of `matmul_peak`, which has been measured.
    """
    count = (COPIED_GPU if device.type == "cuda" else COPIED_CPU) // FLOAT32
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    span = repeat(lambda: target.copy_(source), device=device, seconds=seconds)
    exact = product
    if device.type == "cuda":
        exact = matmul_peak(device, seconds, torch.float32).flops_a_second
    return Roofline(
        bytes_a_second=2 * FLOAT32 * count * span.steps / span.seconds,
        flops_a_second=product,
        float32_flops_a_second=exact,
    )


def bound(
    part: str,
    network: Backbone,
    batch: int,
    side: int,
    *,
    classes: int,
    half: bool,
    compiled: bool,
    fused_norm: bool = False,
    measured: float,
    on: Roofline,
) -> Bound:
    """The bound of a step, how near a step of so many seconds comes, and what would lower it."""
    works = {
        design: step_work(network, batch, side, classes=classes, half=half, design=design)
        for design in get_args(Design)
    }
    own = works["compiled" if compiled else "normed" if fused_norm else "plain"]
    least = seconds_at_least(own, on)
    lowered = {
        "compile": seconds_at_least(works["compiled"], on),
        "overlap": seconds_overlapped(own, on),
        "fusion": seconds_at_least(works["fused"], on),
        "fused_norm": seconds_at_least(works["normed"], on),
    }
    shares: dict[tuple[str, str], list[Work]] = {}
    for one in own:
        layer = one.kind if one.kind in ("head", "optimiser") else one.layer.partition(".")[0]
        shares.setdefault((layer, one.kind), []).append(one)
    return Bound(
        part=part,
        compiled=compiled,
        seconds=least,
        reached=least / measured,
        would_take_off={name: max(0.0, 1 - time / least) for name, time in lowered.items()},
        layers=[
            Share(
                layer=layer,
                kind=kind,
                flops=sum(one.flops for one in work),
                bytes=sum(one.moved for one in work),
                seconds=seconds_at_least(work, on),
            )
            for (layer, kind), work in shares.items()
        ],
    )


def told(found: Bound, threshold: float = 0.05) -> str:
    """A bound in a sentence."""
    named = sorted(found.would_take_off.items(), key=lambda one: -one[1])
    helps = [f"{name} {share:.0%}" for name, share in named if share >= threshold]
    would = f"off which could take: {', '.join(helps)}" if helps else "which nothing would lower"
    return f"{found.part}: {found.reached:.0%} of the bound reached, {would}"
