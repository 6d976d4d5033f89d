"""Training of this package against the plain way, input and step together.

python benchmarks/training_step.py [--seconds 25] [--batch 32]

Ours: batches from a pack, channels last, this package's head and loop. The plain way: float32 in
PyTorch's own layout, images opened one by one by a DataLoader with 4 workers, the textbook head.
The same networks, sizes, batches and threads.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _faces import write_training
from _machine import describe
from _textbook import JpegImages, TextbookHead, TextbookStep, endless, textbook_network
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mstkd.artifacts.atomic import write_json
from mstkd.bench import measure
from mstkd.bench.pace import Span, paced
from mstkd.compute.devices import place
from mstkd.config import BackboneSettings, EngineSettings, PackSettings, TeacherOptimiser
from mstkd.data.loader import FaceBatches
from mstkd.data.pack import open_pack
from mstkd.data.packing import pack_train
from mstkd.losses.head_loss import HeadLoss
from mstkd.losses.heads import ElasticArcFace
from mstkd.models.weights import build_backbone

RESULT = Path(__file__).parent / "results" / "training_step.json"
WORKERS = 4
DIM = 512
IMAGES = 2048
TARGETS = {"cpu": 1.3, "cuda": 4.0}
SMALL = BackboneSettings(blocks=(1, 1, 1, 1), widths=(8, 16, 32, 64))


class Case(NamedTuple):
    """One network with one number of identities."""

    backbone: BackboneSettings
    side: int
    batch: int
    identities: int
    repeats: int


def named(architecture: Any) -> BackboneSettings:
    return BackboneSettings(architecture=architecture)


def cases(device: torch.device, batch: int) -> dict[str, Case]:
    if device.type == "cuda":
        return {
            f"{name}, {identities:,} identities": Case(named(name), 112, 128, identities, 3)
            for name in ("iresnet34", "iresnet50")
            for identities in (7_000, 28_000)
        }
    return {
        "the demo's network, 32 pixels, 320 identities": Case(SMALL, 32, 64, 320, 3),
        **{
            f"iresnet18, 112 pixels, {identities:,} identities": Case(
                named("iresnet18"), 112, batch, identities, 1
            )
            for identities in (7_000, 28_000)
        },
    }


def ours(case: Case, root: Path, device: torch.device, seconds: float) -> float:
    packed = root / f"{case.side}.h5"
    if not packed.exists():
        faces = root / f"{case.side}"
        settings = PackSettings(
            root=faces, group="A", image_size=case.side, on_bad_image="error", storage="pixels"
        )
        pack_train(settings, output=packed)
    batches = FaceBatches(
        [open_pack(packed, "train")],
        split=None,
        batch_size=case.batch,
        seed=0,
        device=device,
    )
    network = build_backbone(case.backbone, embedding_dim=DIM, image_size=case.side)
    head = HeadLoss(ElasticArcFace(DIM, case.identities))
    place(nn.ModuleDict({"network": network, "head": head}), device)
    span = measure.time_training(
        network,
        head,
        measure.endless(batches),
        input_key="images",
        settings=TeacherOptimiser(),
        engine=EngineSettings(),
        device=device,
        seconds=seconds,
    )
    return span.steps * case.batch / span.seconds


def plain(case: Case, paths: list[Path], device: torch.device, seconds: float) -> float:
    network = textbook_network(
        build_backbone(case.backbone, embedding_dim=DIM, image_size=case.side)
    ).to(device)
    head = TextbookHead(DIM, case.identities).to(device)
    step = TextbookStep(network, head, lr=measure.SAFE_RATE)
    loader = DataLoader(
        JpegImages(paths, case.identities),
        case.batch,
        shuffle=True,
        drop_last=True,
        num_workers=WORKERS,
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )

    def on_device() -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in endless(loader):
            yield images.to(device), labels.to(device)

    span = Span()
    for images, labels in paced(on_device(), span, device=device, seconds=seconds):
        step(images, labels)
    return span.steps * case.batch / span.seconds


def compare(device: torch.device, root: Path, batch: int, seconds: float) -> dict[str, Any]:
    target = TARGETS[device.type]
    compared = {}
    paths: dict[int, list[Path]] = {}
    for name, case in cases(device, batch).items():
        if case.side not in paths:
            folder = root / f"{case.side}"
            paths[case.side] = write_training(folder, IMAGES, case.side, identities=64)
        rates: dict[str, list[float]] = {"ours": [], "plain": []}
        for _ in range(case.repeats):  # in turns, so that other programs disturb both alike
            rates["ours"].append(ours(case, root, device, seconds))
            rates["plain"].append(plain(case, paths[case.side], device, seconds))
        best = {way: max(values) for way, values in rates.items()}
        times = best["ours"] / best["plain"]
        compared[name] = {
            "image_size": case.side,
            "batch": case.batch,
            "identities": case.identities,
            "runs": case.repeats,
            "ours_images_a_second": round(best["ours"], 1),
            "plain_images_a_second": round(best["plain"], 1),
            "times_as_fast": round(times, 2),
            "target_met": times >= target,
        }
    return compared


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=25.0)
    parser.add_argument("--batch", type=int, default=32, help="of the large network on a CPU")
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    # Four workers on fewer cores are what the plain way has.
    warnings.filterwarnings("ignore", "This DataLoader will create")
    machine = describe("torch", "torchvision", "pillow", "numpy")
    found: dict[str, Any] = {"cpu": None, "gpu": "not measured"}
    with tempfile.TemporaryDirectory() as folder:
        options = (Path(folder), arguments.batch, arguments.seconds)
        found["cpu"] = compare(torch.device("cpu"), *options)
        if torch.cuda.is_available():
            found["gpu"] = compare(torch.device("cuda"), *options)
            machine["gpu_name"] = torch.cuda.get_device_name()
    on_gpu = found["gpu"]
    result = {
        "what": "images a second of training, input and step together, page cache warm; best of "
        "the runs, in turns. Ours: pack, channels last, this package's head and loop; plain: "
        f"a DataLoader with {WORKERS} workers of PIL and torchvision's transforms, float32 NCHW, "
        "PyTorch's PReLU, textbook head, SGD",
        "torch_threads": torch.get_num_threads(),
        "workers_of_the_plain_way": WORKERS,
        "on_cpu": found["cpu"],
        "target_on_cpu": TARGETS["cpu"],
        "target_met": all(case["target_met"] for case in found["cpu"].values()),
        "on_gpu": on_gpu,
        "target_on_gpu": TARGETS["cuda"],
        "target_met_on_gpu": (
            on_gpu if isinstance(on_gpu, str) else all(c["target_met"] for c in on_gpu.values())
        ),
        **machine,
    }
    write_json(arguments.output, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
