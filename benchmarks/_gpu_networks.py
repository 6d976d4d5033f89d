"""Networks on a GPU, each way of computing by itself: a step to train, and one to extract.

Shapes: B batch, H side in pixels, D embedding dimension, C identities.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mstkd.bench.measure import BACKWARD
from mstkd.bench.pace import Span, repeat, wait_for
from mstkd.config import BackboneSettings
from mstkd.losses.heads import ElasticArcFace
from mstkd.models import fused_norm
from mstkd.models.backbone import flops, folded
from mstkd.models.iresnet import BatchNorm2d, IResNet, PReLU
from mstkd.models.weights import build_backbone

Step = Callable[[], None]


class Sizes(NamedTuple):
    """How large everything is."""

    dim: int
    side: int
    identities: int
    images: int  # of the made-up pack
    matmul: int
    copied_bytes: int
    batch: int  # of teachers and students
    adaptor_batch: int
    embedding_batch: int
    run_images: int  # of the runs whose bytes are compared
    run_identities: int
    run_batch: int
    run_seconds: int  # that a process may take


REAL = Sizes(512, 112, 28_000, 16_384, 8192, 1 << 29, 128, 512, 256, 800, 40, 64, 150)
TINY = Sizes(16, 16, 8, 16, 64, 1 << 16, 2, 4, 2, 16, 4, 4, 600)  # a check: the machine may be busy


class Way(NamedTuple):
    """What is switched on."""

    channels_last: bool
    bfloat16: bool
    compile_mode: str | None = None  # of torch.compile; None runs eagerly
    tf32: Literal["off", "convolutions", "all"] = "convolutions"  # torch's default
    folded: bool = False  # for extraction: normalisations folded into convolutions


WAYS = {
    "float32, NCHW": Way(False, False, tf32="off"),
    "+ channels last": Way(True, False, tf32="off"),
    "+ TF32": Way(True, False, tf32="all"),
    "+ bfloat16": Way(True, True),
    "+ compile": Way(True, True, "default"),
    "+ CUDA graphs": Way(True, True, "reduce-overhead"),
}
EXTRACTION_WAYS = {
    "bfloat16": Way(True, True),
    "bfloat16, folded": Way(True, True, folded=True),
    "float32, folded": Way(True, False, folded=True),
    "bfloat16, folded, compile": Way(True, True, "default", folded=True),
}


def build(
    name: str, way: Way, device: torch.device, sizes: Sizes = REAL
) -> tuple[nn.Module, Callable[..., Tensor]]:
    """The network, and the same as it is called; sets TF32 for the process."""
    torch.backends.cudnn.allow_tf32 = way.tf32 != "off"
    torch.backends.cuda.matmul.allow_tf32 = way.tf32 == "all"
    torch.manual_seed(0)
    model = backbone(name, sizes)
    network: nn.Module = folded(model) if way.folded else model
    layout = torch.channels_last if way.channels_last else torch.contiguous_format
    network = network.to(memory_format=layout).to(device)
    if way.compile_mode is None:
        return network, network
    torch.compiler.reset()
    return network, torch.compile(network, mode=way.compile_mode, dynamic=False)


def settings_of(name: str) -> BackboneSettings:
    """Of a published architecture, or of "tiny"."""
    if name == "tiny":
        return BackboneSettings(blocks=(1, 1, 1, 1), widths=(4, 4, 8, 8))
    return BackboneSettings(architecture=name)  # type: ignore[arg-type]


def backbone(name: str, sizes: Sizes = REAL) -> IResNet:
    return build_backbone(settings_of(name), embedding_dim=sizes.dim, image_size=sizes.side)


def images_for(way: Way, batch: int, device: torch.device, sizes: Sizes = REAL) -> Tensor:
    """Noise (B, 3, H, H)."""
    layout = torch.channels_last if way.channels_last else torch.contiguous_format
    return torch.randn(batch, 3, sizes.side, sizes.side, device=device).to(memory_format=layout)


def precision(way: Way, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16, enabled=way.bfloat16)


def training_step(
    name: str, way: Way, batch: int, device: torch.device, sizes: Sizes = REAL
) -> Step:
    """A step on one batch that lies on the device: no input is timed."""
    network, called = build(name, way, device, sizes)
    network.train()
    head = ElasticArcFace(sizes.dim, sizes.identities).to(device)
    images = images_for(way, batch, device, sizes)
    labels = torch.randint(sizes.identities, (batch,), device=device)
    parameters = [one for one in network.parameters() if one.requires_grad]
    optimiser = torch.optim.SGD(
        [*parameters, *head.parameters()], lr=1e-3, momentum=0.9, weight_decay=5e-4, fused=True
    )

    def step() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        with precision(way, device):
            embeddings = called(images)
        loss = nn.functional.cross_entropy(head(embeddings.float(), labels), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0, foreach=True)
        optimiser.step()

    return step


def extraction_step(
    name: str, way: Way, batch: int, device: torch.device, sizes: Sizes = REAL
) -> Step:
    """Unit embeddings of one batch that lies on the device; they stay there."""
    network, called = build(name, way, device, sizes)
    network.eval()
    images = images_for(way, batch, device, sizes)

    @torch.no_grad()
    def step() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        with precision(way, device):
            nn.functional.normalize(called(images).float())

    return step


# Of a batch normalisation and its PReLU, forward and back.
NORM_WAYS = ("plain", "compiled", "fused")
NORM_PASSES = 8  # over the tensor: fewer will not do without the convolution before


def norm_shapes(name: str, sizes: Sizes) -> list[tuple[int, int, int, int]]:
    """Shapes (B, C, H, H) of what a network normalises and activates, each once, in order."""
    network, found = backbone(name, sizes).to("meta"), []
    for layer in network.modules():
        if isinstance(layer, nn.PReLU):
            layer.register_forward_hook(lambda _, seen, made: found.append(tuple(made.shape)))
    network(torch.empty(sizes.batch, 3, sizes.side, sizes.side, device="meta"))
    return list(dict.fromkeys(found))


def norm_step(way: str, shape: tuple[int, ...], device: torch.device) -> Step:
    """A batch normalisation and a PReLU in bfloat16, and all their gradients."""
    norm, prelu = BatchNorm2d(shape[1]).to(device), PReLU(shape[1]).to(device)
    x, grad = (
        torch.randn(shape, dtype=torch.bfloat16, device=device).to(
            memory_format=torch.channels_last
        )
        for _ in range(2)
    )
    wanted = [x.requires_grad_(), norm.weight, norm.bias, prelu.weight]
    plain: Callable[[Tensor], Tensor] = nn.Sequential(norm, prelu)
    if way == "compiled" and device.type == "cuda":
        torch.compiler.reset()
        plain = torch.compile(plain, dynamic=False)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            y = fused_norm.norm_prelu(x, norm, prelu) if way == "fused" else plain(x)
        torch.autograd.grad(y, wanted, grad)

    return step


def train(name: str, way: Way, batch: int, device: torch.device, seconds: float) -> Span:
    return repeat(training_step(name, way, batch, device), device=device, seconds=seconds)


def extract(name: str, way: Way, batch: int, device: torch.device, seconds: float) -> Span:
    return repeat(extraction_step(name, way, batch, device), device=device, seconds=seconds)


def repeat_few(step: Callable[[], object], device: torch.device, seconds: float) -> Span:
    """As `repeat`, for steps of a single long kernel, of which thousands could wait in line."""

    def time_of(count: int) -> float:
        wait_for(device)
        begin = time.perf_counter()
        for _ in range(count):
            step()
        wait_for(device)
        return time.perf_counter() - begin

    time_of(3)
    count = max(5, round(seconds / (time_of(3) / 3)))
    return Span(count, time_of(count))


def first_seconds(step: Step, device: torch.device) -> float:
    """How long the first step takes: compilation, if there is any, and the choice of kernels."""
    begin = time.perf_counter()
    step()
    wait_for(device)
    return time.perf_counter() - begin


@functools.cache
def step_flops(name: str, sizes: Sizes, *, training: bool) -> int:
    """Floating-point operations of one image, the head's left out."""
    once = flops(backbone(name, sizes), torch.zeros(1, 3, sizes.side, sizes.side))
    return once * (BACKWARD if training else 1)
