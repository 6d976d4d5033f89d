"""The step `train-adaptor`: all teachers' spaces to one, from the cache alone (section 4.3)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from mstkd.artifacts.records import Subject
from mstkd.compute.numerics import configure
from mstkd.compute.ranks import ALONE, Ranks
from mstkd.config import AdaptorSettings
from mstkd.config.grids import split_variant
from mstkd.data.loader import Batch, epoch_order
from mstkd.embeddings.cache import open_cache
from mstkd.errors import InputError
from mstkd.models.adaptors import build_adaptor
from mstkd.models.kept import put_back
from mstkd.seeds import seed_from
from mstkd.training.checkpoint import fingerprint
from mstkd.training.choice import LOWEST_LOSS
from mstkd.training.step import Model, UnderHead, train


def train_adaptor(
    settings: AdaptorSettings,
    *,
    subject: Subject,
    cache: Path,
    output: Path,
    threads: int = 1,
    device: str = "auto",
    ranks: Ranks = ALONE,
) -> None:
    """Train an adaptor with a margin head and keep the epoch of the lowest training loss.

    Args:
        settings: architecture, head and optimiser.
        subject: which adaptor of which set this is, and its seed.
        cache: the set's embedding cache.
        output: weights to write; model.json and history.csv appear beside it.
        threads: CPU threads.
        device: "auto", "cpu" or "cuda".
        ranks: who trains together; the first writes.

    Raises:
        InputError: a cache of another set, seed or dimension, or without a teacher that is to be
            fused, or a loss that is not finite.
    """
    if put_back(output, settings, subject, [[cache]], write=ranks.is_first):
        return
    where = configure(device, threads, deterministic=settings.engine.deterministic)
    cached = open_cache(cache).of(settings.teachers)
    expected = {"backbone": subject.backbone, "set": subject.set, "seed": subject.seed}
    if cached.subject != expected:
        raise InputError(cache, found=f"a cache of {cached.subject}", expected=expected)
    teacher_dim = settings.teacher_dim or settings.embedding_dim
    teachers, rest = divmod(cached.embeddings.shape[1], teacher_dim)
    if rest or teachers != len(cached.teachers):
        raise InputError(
            cache,
            found=f"{cached.embeddings.shape[1]} columns for {len(cached.teachers)} teachers",
            expected=f"{teacher_dim} a teacher",
        )
    # Adaptors of both teacher sets start alike and see the same order: what differs is the cache,
    # or of variants, which of its columns they read.
    seed = seed_from("adaptor", split_variant(subject.name).base, subject.seed)
    torch.manual_seed(seed)
    network = UnderHead(
        "adaptor",
        build_adaptor(settings.adaptor, teachers, settings.embedding_dim, teacher_dim),
        settings,
        classes=int(cached.labels.max()) + 1,
        seed=seed,
        device=where,
        ranks=ranks,
    )
    embeddings = torch.from_numpy(cached.embeddings).to(where)
    labels = torch.from_numpy(cached.labels).to(where)
    size = settings.optimiser.batch_size
    share = ranks.share(size)
    steps = len(labels) // size
    if steps == 0:
        raise InputError(
            "adaptors.optimiser.batch_size",
            found=f"{size} for {len(labels)} images",
            expected="at least one full batch",
        )

    def epoch_batches(epoch: int, first: int) -> Iterator[Batch]:
        order = torch.from_numpy(epoch_order(len(labels), seed, epoch)).to(where)
        for rows in torch.split(order[first * size : steps * size], size):
            rows = rows[share]
            # Faster than embeddings[rows] where they are of half precision; the same numbers.
            chosen = embeddings.index_select(0, rows).float()
            yield {"embeddings": chosen, "labels": labels[rows], "rows": rows}

    model = Model(
        settings,
        subject,
        output,
        label=f"train {subject.set} adaptor {subject.name}",
        network=network,
        objective=network.head_alone("embeddings"),
        choice=LOWEST_LOSS,
        inputs={"embeddings": cached.sha256, "teachers": fingerprint(*cached.weights)},
        sources=[cache],
    )
    train(
        [model],
        batches=epoch_batches,
        steps=steps,
        name_images=lambda batch: [f"row {row} of {cache}" for row in batch["rows"].tolist()],
        ranks=ranks,
    )
