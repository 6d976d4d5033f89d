"""The pipeline's own steps, loop and batches on a GPU.

Shapes: B batch, H side in pixels, D embedding dimension, C identities, T teachers, N images.
"""

from __future__ import annotations

import collections
import functools
import itertools
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _gpu_networks import Sizes, Step, backbone
from torch import Tensor, nn

from mstkd.artifacts.sealed import Pieces, piece_checksum
from mstkd.bench.measure import endless, time_embedding, time_input, time_training
from mstkd.bench.pace import Span, wait_for
from mstkd.compute.devices import place
from mstkd.config import (
    AdaptorOptimiser,
    EngineSettings,
    HeadSettings,
    OptimiserSettings,
    Precision,
    TeacherOptimiser,
)
from mstkd.data.loader import Batch, FaceBatches
from mstkd.data.pack import Found, Pack
from mstkd.data.pixels import PixelImages
from mstkd.embeddings.embed import Extractor, embed_with_mirror
from mstkd.losses.distillation import cosine_to_target, kd_loss, student_loss
from mstkd.losses.head_loss import HeadLoss, build_head_loss, margin_generator
from mstkd.losses.sharded_loss import ShardedHeadLoss
from mstkd.models.adaptors import DuL
from mstkd.training.engine import Embedder
from mstkd.training.learner import Learner, Run

TEACHERS = 4
ROOT = Path(__file__).parent.parent
TASKS = ("teacher", "adaptor", "student")


@functools.cache
def made_up_pack(sizes: Sizes) -> Pack:
    """Noise in memory, uint8 (N, H, H, 3), of as many identities as the experiment has."""
    random = np.random.default_rng(0)
    count = sizes.images
    names = tuple(f"m.{number:05}" for number in range(sizes.identities))
    pixels = random.integers(0, 256, (count, sizes.side, sizes.side, 3), np.uint8)
    checksums = np.array([piece_checksum(image) for image in pixels], np.uint64)
    return Pack(
        path=Path("made-up.h5"),
        kind="train",
        group="A",
        image_size=sizes.side,
        sha256="0" * 64,
        images=PixelImages(pixels, Pieces(checksums), where="made-up.h5"),
        digests=np.zeros((count, 16), np.uint8),
        identity=random.integers(0, sizes.identities, count).astype(np.int32),
        identity_names=names,
        paths=tuple(f"{number:07}.jpg" for number in range(count)),
        found=Found(count, sizes.identities),
        pairs=None,
        same=None,
    )


def faces(pack: Pack, batch: int, device: torch.device, *, resident: bool) -> FaceBatches:
    return FaceBatches(
        [pack], split=None, batch_size=batch, seed=0, device=device, resident=resident
    )


def cached(batch: int, device: torch.device, sizes: Sizes) -> Iterator[Batch]:
    """Batches of unit embeddings (B, T * D) as `train-adaptor` takes them from its cache."""
    rows = max(sizes.images, 2 * batch)
    embeddings = torch.randn(rows, TEACHERS * sizes.dim, device=device).half()
    labels = torch.randint(sizes.identities, (rows,), device=device)
    while True:
        for chosen in torch.randperm(rows, device=device).split(batch):
            if len(chosen) == batch:
                taken = embeddings.index_select(0, chosen).float()
                yield {"embeddings": taken, "labels": labels[chosen], "rows": chosen}


# ------------------------------------------------------------------ where a step waits


def pipeline_step(
    task: str, name: str, device: torch.device, sizes: Sizes, way: str = "off", batch_size: int = 0
) -> Step:
    """A step of the loop: `pipeline_run`'s, on one batch that lies on the device."""
    run, batch = pipeline_run(task, name, device, sizes, way, batch_size)
    numbers = itertools.count()
    return lambda: run.step(batch, 1e-3, next(numbers))


def pipeline_run(
    task: str, name: str, device: torch.device, sizes: Sizes, way: str, batch_size: int = 0
) -> tuple[Run, Batch]:
    """The run of a teacher, an adaptor or an EAF-KD student, and a batch for its `step`.

    `way` is what `engine.compile` says, or "captured" without being compiled; with ", fused_norm"
    `engine.fused_norm` is on too.
    """
    torch.manual_seed(0)
    adaptor = task == "adaptor"
    batch_size = batch_size or (sizes.adaptor_batch if adaptor else sizes.batch)
    network: nn.Module = DuL(TEACHERS, sizes.dim) if adaptor else backbone(name, sizes)
    head, margins = head_of(sizes, device)
    trained = nn.ModuleDict({"network": network, "head": head})
    place(trained, device)
    how, _, fused = way.partition(", ")
    mode = "off" if how == "captured" else how
    engine = EngineSettings.model_validate({"compile": mode, "fused_norm": fused == "fused_norm"})
    embed = Embedder(network, engine, device)
    embed.captured = embed.captured or (how == "captured" and device.type == "cuda")
    targets = torch.randn(sizes.images, sizes.dim, device=device).half()

    def objective(batch: Batch) -> Mapping[str, Tensor]:
        embeddings = embed(batch["inputs"])
        of_head = head(embeddings, batch["labels"])
        if task != "student":
            return {"loss": of_head}
        fused = targets[batch["rows"].to(device)].float()  # (B, D)
        kd = kd_loss(embeddings, fused)
        cosine = cosine_to_target(embeddings, fused)
        loss = student_loss(kd, of_head, 10_000.0)
        return {"loss": loss, "head": of_head, "kd": kd, "cosine_to_target": cosine}

    learner = Learner(
        trained,
        objective,
        kept=network,
        score=lambda epoch, parts: None,
        score_name=None,
        generators=[margins],
        label=task,
        embed=embed,
    )
    settings: OptimiserSettings = AdaptorOptimiser() if adaptor else TeacherOptimiser()
    run = Run(learner, settings, alone=True)
    run.begin_epoch()
    shape = (TEACHERS * sizes.dim,) if adaptor else (3, sizes.side, sizes.side)
    inputs = torch.randn(batch_size, *shape, device=device)
    if not adaptor:
        inputs = inputs.to(memory_format=torch.channels_last)
    batch = {
        "inputs": inputs,
        "labels": torch.randint(sizes.identities, (batch_size,), device=device),
        "rows": torch.randint(sizes.images, (batch_size,), device=device),
    }
    return run, batch


def head_of(
    sizes: Sizes, device: torch.device
) -> tuple[HeadLoss | ShardedHeadLoss, torch.Generator]:
    """The paper's head, and its random stream on the device."""
    margins = margin_generator(HeadSettings(), sizes.identities, 0, device)
    return build_head_loss(HeadSettings(), sizes.dim, sizes.identities, margins), margins


def waits(step: Callable[[], object], device: torch.device) -> dict[str, Any]:
    """Whether the host waits for the device within a step, where, and how long a step takes it."""
    for _ in range(6):  # kernels are chosen, code is loaded, steps are captured
        step()
    wait_for(device)
    places: collections.Counter[str] = collections.Counter()
    refused = None
    if device.type == "cuda":
        try:
            torch.cuda.set_sync_debug_mode("error")
            step()
        except RuntimeError as error:
            refused = str(error).splitlines()[0]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            step()
            torch.cuda.set_sync_debug_mode("default")
        for one in told:
            text = str(one.message).splitlines()[0][:100]
            where = one.filename.removeprefix(f"{ROOT}/")
            places[f"{where}:{one.lineno}: {text}"] += 1
    host, whole = [], []
    for _ in range(10):
        wait_for(device)
        begin = time.perf_counter()
        step()
        host.append(time.perf_counter() - begin)
        wait_for(device)
        whole.append(time.perf_counter() - begin)
    return {
        "passes": refused is None,
        "refused": refused,
        "places": dict(places),
        "host_ms": round(1e3 * statistics.median(host), 3),
        "whole_ms": round(1e3 * statistics.median(whole), 3),
    }


# ------------------------------------------------------------------ the loop, and its input


def teacher_loop(
    name: str,
    batches: Iterator[Batch],
    device: torch.device,
    sizes: Sizes,
    seconds: float,
    engine: EngineSettings,
) -> Span:
    """The training loop as `train-teacher` has it."""
    torch.manual_seed(0)
    head, _ = head_of(sizes, device)
    return time_training(
        place(backbone(name, sizes), device),
        head.to(device),
        batches,
        input_key="images",
        settings=TeacherOptimiser(batch_size=sizes.batch),
        engine=engine,
        device=device,
        seconds=seconds,
    )


def adaptor_loop(
    batch: int, device: torch.device, sizes: Sizes, seconds: float, engine: EngineSettings
) -> Span:
    """The training loop as `train-adaptor` has it, DuL on the embeddings of four teachers."""
    torch.manual_seed(0)
    head, _ = head_of(sizes, device)
    return time_training(
        DuL(TEACHERS, sizes.dim).to(device),
        head.to(device),
        cached(batch, device, sizes),
        input_key="embeddings",
        settings=AdaptorOptimiser(batch_size=batch),
        engine=engine,
        device=device,
        seconds=seconds,
    )


def extraction_rate(
    name: str,
    precision: Precision,
    compiled: bool,
    device: torch.device,
    sizes: Sizes,
    seconds: float,
) -> Span:
    """Batches of a pack in memory to unit embeddings in a file, as `cache-embeddings` has them."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        return time_embedding(
            backbone(name, sizes),
            [made_up_pack(sizes)],
            Path(folder) / "cache.h5",
            embedding_dim=sizes.dim,
            dtype="float16",
            precision=precision,
            device=device,
            seconds=seconds,
            compiled=compiled,
        )


def pairs_rate(
    name: str, precision: Precision, compiled: bool, device: torch.device, sizes: Sizes
) -> float:
    """Images a second with their mirror images, as the choice of an epoch embeds them."""
    torch.manual_seed(0)
    model = Extractor(backbone(name, sizes), device, precision, compiled=compiled)
    images = made_up_pack(sizes).images
    seconds = 0.0
    for _ in range(2):  # the second time counts
        begin = time.perf_counter()
        embed_with_mirror(model, images, device)
        seconds = time.perf_counter() - begin
    return len(images) / seconds


def one_batch(batches: FaceBatches) -> Iterator[Batch]:
    """The same batch again and again."""
    return itertools.repeat(next(iter(batches.epoch(0))))


def next_batch(batches: FaceBatches) -> Callable[[], object]:
    """Takes a batch."""
    stream = endless(batches)
    return lambda: next(stream)


def input_rate(batches: FaceBatches, device: torch.device, seconds: float) -> Span:
    return time_input(batches, device=device, seconds=seconds)
