"""The parts of the pipeline, timed each by itself with the pipeline's own code.

Shapes: B batch, H side in pixels, D embedding dimension, C identities, T teachers, P pairs.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from mstkd.bench.pace import Span, paced, repeat
from mstkd.bench.result import Matmul
from mstkd.config import EngineSettings, OptimiserSettings, Precision
from mstkd.data.loader import Batch, FaceBatches
from mstkd.data.pack import Pack
from mstkd.embeddings.embed import BATCH, Extractor, unit_embeddings
from mstkd.evaluation.verification import fold_accuracies, fold_of_pairs, squared_distances
from mstkd.losses.head_loss import HeadLoss
from mstkd.losses.sharded_loss import ShardedHeadLoss
from mstkd.models.backbone import Backbone
from mstkd.training.checkpoint import Checkpoint
from mstkd.training.engine import Embedder
from mstkd.training.learner import Learner
from mstkd.training.loop import fit

MATMUL_SIZE_CPU, MATMUL_SIZE_GPU = 2048, 8192
BACKWARD = 3  # a step is the forward pass and twice as much for the two gradients
SAFE_RATE = 1e-3  # noise has nothing to learn: a rate at which no loss overflows
ENDLESS = 1 << 40  # steps of an epoch that nobody ends


class _Measured(Exception):  # noqa: N818, nothing went wrong
    """Leaves the training loop before it saves anything."""


class _Nowhere(Checkpoint):
    """A checkpoint that is none: a measurement that is asked to end leaves nothing behind."""

    def save(self, state: dict[str, Any]) -> None:
        pass

    def load(self) -> dict[str, Any] | None:
        return None


def endless(batches: FaceBatches) -> Iterator[Batch]:
    """Epoch after epoch."""
    return itertools.chain.from_iterable(map(batches.epoch, itertools.count()))


def matmul_peak(device: torch.device, seconds: float, dtype: torch.dtype | None = None) -> Matmul:
    """What a plain product of two square matrices reaches: float32, bfloat16 on a GPU."""
    is_gpu = device.type == "cuda"
    dtype = dtype or (torch.bfloat16 if is_gpu else torch.float32)
    size = MATMUL_SIZE_GPU if is_gpu else MATMUL_SIZE_CPU
    left = torch.randn(size, size, device=device).to(dtype)
    right, out = torch.randn_like(left), torch.empty_like(left)
    span = repeat(lambda: torch.mm(left, right, out=out), device=device, seconds=seconds)
    return Matmul(
        dtype="bfloat16" if dtype == torch.bfloat16 else "float32",
        size=size,
        flops_a_second=2 * size**3 * span.steps / span.seconds,
    )


def time_input(batches: FaceBatches, *, device: torch.device, seconds: float) -> Span:
    """Batches to the device, and no step."""
    span = Span()
    for _ in paced(endless(batches), span, device=device, seconds=seconds):
        pass
    return span


def time_training(
    backbone: nn.Module,
    head: HeadLoss | ShardedHeadLoss,
    batches: Iterator[Batch],
    *,
    input_key: str,
    settings: OptimiserSettings,
    engine: EngineSettings,
    device: torch.device,
    seconds: float,
) -> Span:
    """Steps of the training loop as `train-teacher` and `train-adaptor` have them.

    Args:
        backbone: the network, on the device; its gradient is clipped.
        head: the loss of the margin head, on the device.
        batches: without end; the same one again to time the step alone.
        input_key: what the network sees of a batch, "images" or "embeddings".
        settings: of the optimiser; the rate is replaced by a harmless one.
        engine: precision and compilation.
        device: where all of it lies.
        seconds: how long to go on, after a warm-up.
    """

    embed = Embedder(backbone, engine, device)

    def objective(batch: Batch) -> Mapping[str, Tensor]:
        return {"loss": head(embed(batch[input_key]), batch["labels"])}

    span = Span()

    def until_measured(epoch: int, first: int) -> Iterator[Batch]:
        yield from paced(batches, span, device=device, seconds=seconds)
        raise _Measured

    learner = Learner(
        nn.ModuleDict({"backbone": backbone, "head": head}),
        objective,
        kept=backbone,
        score=lambda epoch, parts: None,
        score_name=None,
        generators=[] if head.head.generator is None else [head.head.generator],
        label="bench",
        embed=embed,
    )
    # The loop's progress would stand between the lines of the table.
    with contextlib.suppress(_Measured), contextlib.redirect_stderr(io.StringIO()):
        fit(
            [learner],
            batches=until_measured,
            steps=ENDLESS,
            settings=settings.model_copy(update={"lr": SAFE_RATE, "lr_scaling": "none"}),
            checkpoint=_Nowhere(Path("bench"), "bench"),
            label="bench",
        )
    return span


def time_embedding(
    backbone: Backbone,
    packs: Sequence[Pack],
    cache: Path,
    *,
    embedding_dim: int,
    dtype: str,
    precision: Precision,
    device: torch.device,
    seconds: float,
    compiled: bool,
) -> Span:
    """Batches of a pack to unit embeddings in a file, as `cache-embeddings` has them."""
    extractor = Extractor(backbone, device, precision, compiled=compiled)
    images = packs[0].images
    rows = [slice(begin, begin + BATCH) for begin in range(0, len(images) - BATCH + 1, BATCH)]
    rows = rows or [slice(0, len(images))]
    span = Span()
    units = unit_embeddings(extractor, images, device, itertools.cycle(rows))
    with h5py.File(cache, "w") as file:
        data = file.create_dataset("embeddings", (len(images), embedding_dim), dtype)
        timed = paced(units, span, device=device, seconds=seconds)
        for part, unit in zip(itertools.cycle(rows), timed, strict=False):
            data[part] = unit.numpy()
    return span


def embedding_batch(packs: Sequence[Pack]) -> int:
    """Images of a batch of `time_embedding`."""
    return min(BATCH, len(packs[0].images))


def time_verification(pairs: int, embedding_dim: int, *, folds: int, seconds: float) -> Span:
    """Distances of pairs (P, D) and the accuracies of their folds, on the CPU."""
    random = np.random.default_rng(0)
    first, second = random.standard_normal((2, pairs, embedding_dim), np.float32)
    same, fold = random.random(pairs) < 0.5, fold_of_pairs(pairs, folds)

    def verify() -> None:
        fold_accuracies(squared_distances(first, second), same, fold)

    return repeat(verify, device=torch.device("cpu"), seconds=seconds)
