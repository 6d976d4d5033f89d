"""Images a second on a GPU, each step of the way by itself; writes nothing where there is none.

python benchmarks/gpu.py [--seconds 5] [--batch 128]

Training and extraction of IResNet-34 and -50 at 112 pixels: float32 NCHW, then channels last, then
bfloat16 autocast, then torch.compile, then CUDA graphs (mode reduce-overhead), each on top of the
ones before. The device is waited for at the ends of a timed loop only.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _machine import describe
from torch import Tensor, nn

from mstkd.artifacts.atomic import write_json
from mstkd.bench.measure import BACKWARD, flops, matmul_peak
from mstkd.bench.pace import Span, repeat
from mstkd.bench.work import count_images, experiment
from mstkd.config import BackboneSettings, read_config
from mstkd.losses.heads import ElasticArcFace
from mstkd.models.weights import build_backbone

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).parent / "results" / "gpu.json"
NETWORKS = ("iresnet34", "iresnet50")
DIM, SIDE, IDENTITIES = 512, 112, 28_000


class Way(NamedTuple):
    """What is switched on."""

    channels_last: bool
    bfloat16: bool
    compile_mode: str | None  # of torch.compile; None runs eagerly


WAYS = {
    "float32, NCHW": Way(False, False, None),
    "+ channels last": Way(True, False, None),
    "+ bfloat16": Way(True, True, None),
    "+ compile": Way(True, True, "default"),
    "+ CUDA graphs": Way(True, True, "reduce-overhead"),
}


def build(name: Any, way: Way, device: torch.device) -> tuple[nn.Module, Callable[..., Tensor]]:
    """The network, and the same as it is called."""
    torch.manual_seed(0)
    settings = BackboneSettings(architecture=name)
    network = build_backbone(settings, embedding_dim=DIM, image_size=SIDE)
    layout = torch.channels_last if way.channels_last else torch.contiguous_format
    network = network.to(memory_format=layout).to(device)
    if way.compile_mode is None:
        return network, network
    torch.compiler.reset()
    return network, torch.compile(network, mode=way.compile_mode)


def images_for(way: Way, batch: int, device: torch.device) -> Tensor:
    layout = torch.channels_last if way.channels_last else torch.contiguous_format
    return torch.randn(batch, 3, SIDE, SIDE, device=device).to(memory_format=layout)


def precision(way: Way, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16, enabled=way.bfloat16)


def train(name: str, way: Way, batch: int, device: torch.device, seconds: float) -> Span:
    """A step on one batch that lies on the device: no input is timed."""
    network, called = build(name, way, device)
    network.train()
    head = ElasticArcFace(DIM, IDENTITIES).to(device)
    images = images_for(way, batch, device)
    labels = torch.randint(IDENTITIES, (batch,), device=device)
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

    return repeat(step, device=device, seconds=seconds)


def extract(name: str, way: Way, batch: int, device: torch.device, seconds: float) -> Span:
    """Unit embeddings of one batch that lies on the device; they stay there."""
    network, called = build(name, way, device)
    network.eval()
    images = images_for(way, batch, device)

    @torch.no_grad()
    def step() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        with precision(way, device):
            nn.functional.normalize(called(images).float())

    return repeat(step, device=device, seconds=seconds)


def measure(batch: int, device: torch.device, seconds: float) -> dict[str, Any]:
    """Rates, memory and shares of each network, task and way; a way that fails says why."""
    peak = matmul_peak(device, seconds)
    tasks = {"training": (train, BACKWARD), "extraction": (extract, 1)}
    found: dict[str, Any] = {}
    for name, (task, (run, passes)) in itertools.product(NETWORKS, tasks.items()):
        settings = BackboneSettings(architecture=name)  # type: ignore[arg-type]
        network = build_backbone(settings, embedding_dim=DIM, image_size=SIDE)
        an_image = passes * flops(network, torch.zeros(1, 3, SIDE, SIDE))
        for label, way in WAYS.items():
            print(f"{name} {task}: {label}", flush=True)
            torch.cuda.empty_cache()
            try:
                span = run(name, way, batch, device, seconds)
            except (RuntimeError, torch.cuda.OutOfMemoryError) as error:
                reason = f"failed: {str(error).splitlines()[0]}"
                found.setdefault(name, {}).setdefault(task, {})[label] = reason
                continue
            rate = span.steps * batch / span.seconds
            found.setdefault(name, {}).setdefault(task, {})[label] = {
                "images_a_second": round(rate),
                "share_of_bfloat16_matmul_peak": round(rate * an_image / peak.flops_a_second, 3),
                "peak_memory_gib": round((span.peak_gpu_bytes or 0) / 2**30, 2),
                "batches": span.steps,
            }
    return {"matmul_tflops": round(peak.flops_a_second / 1e12, 1), "networks": found}


def six_tables(networks: dict[str, Any]) -> dict[str, float]:
    """Hours of training and caches of config/paper.yaml at each way's rates, one GPU.

    Adaptors, input and evaluation are left out; `mstkd bench` counts them.
    """
    config = read_config(ROOT / "config/paper.yaml")
    loads = experiment(config, count_images(config, ROOT / "results/packs"))
    hours = {}
    for label in WAYS:
        total = 0.0
        for load in loads:
            task = {"training": "training", "embedding": "extraction"}.get(load.subject.measure)
            if task is None:
                continue
            rate = networks[load.subject.of["backbone"]["architecture"]][task][label]
            if isinstance(rate, str):  # it failed
                break
            total += load.images / rate["images_a_second"] / 3600
        else:
            hours[label] = round(total, 1)
    return hours


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU: not measured")
        return
    device = torch.device("cuda", 0)
    torch.backends.cudnn.benchmark = True
    machine = describe("torch", "numpy")
    measured = measure(arguments.batch, device, arguments.seconds)
    result = {
        "what": "images a second of one batch on the device, warm, the device waited for at the "
        "ends of the loop only; training: forward, margin head of all identities in float32, "
        "backward, clipping, fused SGD; shares are of a measured bfloat16 product",
        "gpu": torch.cuda.get_device_name(device),
        "cuda": torch.version.cuda,
        "batch": arguments.batch,
        "image_size": SIDE,
        "identities": IDENTITIES,
        **measured,
        "hours_of_the_six_tables_and_the_controls": six_tables(measured["networks"]),
        **machine,
    }
    write_json(arguments.output, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
