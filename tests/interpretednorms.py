"""What the fused batch normalisation and PReLU compute, by Triton's interpreter on the CPU.

    TRITON_INTERPRET=1 python tests/interpretednorms.py FILE

in a process of its own, since Triton decides that when it is imported. Writes what each case gives,
by its name; tests/test_fused_norm.py has what it should be. Cases are drawn here for both.
"""

import copy
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mstkd.config import EngineSettings
from mstkd.models import fused_norm
from mstkd.models.iresnet import IResNet
from mstkd.training.engine import Embedder

# Several parts of rows, the last one short, and tiles beside each other, the last with a gap.
SMALL = {"TILE": 32, "MOST_CHANNELS": 4, "MOST_PARTS": 4}


class Case(NamedTuple):
    dtype: torch.dtype = torch.float64
    training: bool = True
    tiles: Mapping[str, int] = MappingProxyType({})
    offset: float = 0.5
    shape: tuple[int, ...] = (3, 5, 6, 7)


CASES = {
    "one tile": Case(),
    "several tiles": Case(tiles=SMALL),
    "whole tiles": Case(tiles=SMALL, shape=(4, 8, 4, 4)),
    "one channel": Case(tiles=SMALL, shape=(3, 1, 6, 7)),
    "given statistics": Case(training=False, tiles=SMALL),
    "float32": Case(torch.float32, tiles=SMALL),
    "float32, far from 0": Case(torch.float32, tiles=SMALL, offset=1e4),
    "bfloat16": Case(torch.bfloat16, tiles=SMALL),
}


def drawn(case):
    """x, the gradient of y, and the layers, whose parameters are float32 at least."""
    torch.manual_seed(0)
    channels = case.shape[1]
    kind = torch.promote_types(case.dtype, torch.float32)
    norm, prelu = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.3), nn.PReLU(channels)
    nn.init.normal_(norm.weight, 1, 0.5)
    nn.init.normal_(norm.bias)
    nn.init.normal_(prelu.weight, 0.25, 0.5)
    norm.running_mean.normal_(case.offset)
    norm.running_var.uniform_(0.5, 2)
    if channels > 1:  # z is 0 everywhere, where PReLU has no slope of its own
        nn.init.zeros_(norm.weight[0])
        nn.init.zeros_(norm.bias[0])
    x = case.offset + 2 * torch.randn(case.shape)
    x, grad = (
        one.to(case.dtype).contiguous(memory_format=torch.channels_last)
        for one in (x, torch.randn(case.shape))
    )
    return x, grad, norm.to(kind).train(case.training), prelu.to(kind)


def results(call, x, grad, norm, prelu):
    """What a call of x gives forward and back, and the running statistics after it."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = call(x)
    y.backward(grad)
    return {
        "y": y.detach(),
        "of_x": x.grad,
        "of_weight": norm.weight.grad,
        "of_bias": norm.bias.grad,
        "of_slope": prelu.weight.grad,
        "running_mean": norm.running_mean,
        "running_var": norm.running_var,
    }


def interpreted(case):
    x, grad, norm, prelu = drawn(case)
    for name, value in case.tiles.items():
        setattr(fused_norm, name, value)
    return results(lambda x: fused_norm.norm_prelu(x, norm, prelu), x, grad, norm, prelu)


# ------------------------------------------------------------------ within a network


class Seen(TorchDispatchMode):
    """Counts this package's operations."""

    def __init__(self):
        super().__init__()
        self.counts = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if name.startswith("mstkd::"):
            self.counts[name] = self.counts.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


def network():
    """Of five blocks, and images."""
    torch.manual_seed(1)
    made = IResNet((2, 1, 1, 1), widths=(4, 6, 8, 10), embedding_dim=12, image_size=16)
    for module in made.modules():
        if isinstance(module, nn.PReLU):
            nn.init.normal_(module.weight, 0.25, 0.5)
    return made.double().to(memory_format=torch.channels_last), torch.randn(4, 3, 16, 16).double()


def of_network(made, images, called=None):
    """Embeddings, gradients and buffers of a step."""
    images = images.contiguous(memory_format=torch.channels_last)
    embeddings = (made if called is None else called)(images)
    embeddings.square().mul(torch.arange(12)).sum().backward()
    gradients = {name: p.grad for name, p in made.named_parameters() if p.grad is not None}
    return {"embeddings": embeddings.detach(), **gradients, **dict(made.named_buffers())}


def within_networks():
    found = {}
    fused_norm.LARGE = 0
    torch.use_deterministic_algorithms(True)
    made, images = network()
    embed = Embedder(made, EngineSettings(fused_norm=True), torch.device("cpu"))
    assert not embed.compiled
    copied = copy.deepcopy(made)
    with Seen() as seen:
        found["network"] = of_network(made, images)
    found["operations"] = seen.counts
    whole = torch.compile(copied, backend="aot_eager", fullgraph=True, dynamic=False)
    found["compiled"] = of_network(copied, images, whole)
    fused_norm.LARGE = images.numel() // 3 * 4 + 1  # more than the stem gives: nothing is as large
    made, images = network()
    made.fuse_norms()
    with Seen() as seen:
        of_network(made, images)
    found["operations of small tensors"] = seen.counts
    return found


if __name__ == "__main__":
    written = {name: interpreted(case) for name, case in CASES.items()}
    torch.save({**written, **within_networks()}, sys.argv[1])
