"""The step `train-adaptor`: all teachers' spaces to one, from the cache alone (section 4.3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mstkd.artifacts.contents import hashed_contents
from mstkd.artifacts.records import Subject
from mstkd.compute.devices import prepare
from mstkd.compute.ranks import ALONE, Ranks
from mstkd.compute.synchronised import synchronised
from mstkd.config import AdaptorSettings
from mstkd.data.loader import Batch, epoch_order
from mstkd.embeddings.cache import open_cache
from mstkd.errors import InputError
from mstkd.losses.head_loss import build_head_loss
from mstkd.models.adaptors import build_adaptor
from mstkd.models.weights import events_folder, save_model
from mstkd.seeds import seed_from
from mstkd.training.checkpoint import Checkpoint, fingerprint
from mstkd.training.engine import configure, embedder
from mstkd.training.learner import Learner
from mstkd.training.loop import fit


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
        InputError: a cache of another set, seed or dimension, or a loss that is not finite.
    """
    configure(settings.engine)
    where = prepare(device, threads)
    cached = open_cache(cache)
    expected = {"backbone": subject.backbone, "set": subject.set, "seed": subject.seed}
    if cached.subject != expected:
        raise InputError(cache, found=f"a cache of {cached.subject}", expected=expected)
    teachers, rest = divmod(cached.embeddings.shape[1], settings.embedding_dim)
    if rest or teachers != len(cached.teachers):
        raise InputError(
            cache,
            found=f"{cached.embeddings.shape[1]} columns for {len(cached.teachers)} teachers",
            expected=f"{settings.embedding_dim} a teacher",
        )
    # Adaptors of both teacher sets start alike and see the same order: what differs is the cache.
    seed = seed_from("adaptor", subject.name, subject.seed)
    torch.manual_seed(seed)
    adaptor = build_adaptor(settings.adaptor, teachers, settings.embedding_dim)
    margins = torch.Generator().manual_seed(seed_from("margin", seed))
    classes = int(cached.labels.max()) + 1
    head = build_head_loss(settings.head, settings.embedding_dim, classes, margins, ranks)
    trained = nn.ModuleDict({"adaptor": adaptor, "head": head})
    synchronised(trained, ranks, where).to(where)
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

    fuse = embedder(adaptor, settings.engine, where, ranks)

    def objective(batch: Batch) -> Mapping[str, Tensor]:
        return {"loss": head(fuse(batch["embeddings"]), batch["labels"])}

    inputs = {"embeddings": cached.sha256, "teachers": fingerprint(*cached.weights)}
    checkpoint = Checkpoint(output, fingerprint(settings.dump(), subject, inputs))
    label = f"train {subject.set} adaptor {subject.name}"
    learner = Learner(
        trained,
        objective,
        kept=adaptor,
        score=lambda epoch, parts: -parts["loss"],
        score_name=None,
        generators=[margins],
        label=label,
        events=events_folder(output),
    )
    (fitted,) = fit(
        [learner],
        batches=epoch_batches,
        steps=steps,
        settings=settings.optimiser,
        checkpoint=checkpoint,
        ranks=ranks,
        label=label,
        name_images=lambda batch: [f"row {row} of {cache}" for row in batch["rows"].tolist()],
    )
    if not ranks.is_first:
        return
    save_model(
        output,
        state=fitted.state,
        history=fitted.history,
        subject=subject,
        settings=settings.model_dump(mode="json", exclude_none=True),
        image_size=None,
        inputs=inputs,
        chosen_epoch=fitted.epoch,
        chosen_by=f"lowest training loss: {-fitted.score:.4f}",
        sources=hashed_contents([cache]),
    )
    checkpoint.remove()
