"""The step `train-teacher`: a backbone with a margin head on some identities (section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mstkd.artifacts.records import Subject, file_sha256
from mstkd.compute.numerics import configure
from mstkd.compute.ranks import ALONE, Ranks
from mstkd.config import TeacherSettings
from mstkd.data.loader import FaceBatches, pack_hashes
from mstkd.data.pack import open_pack
from mstkd.data.splits import read_split
from mstkd.models.kept import put_back
from mstkd.seeds import seed_from
from mstkd.training.choice import best_accuracy
from mstkd.training.step import Model, backbone_under_head, train


def train_teacher(
    settings: TeacherSettings,
    *,
    subject: Subject,
    packs: Sequence[Path],
    selection: Sequence[Path] = (),
    split: Path,
    output: Path,
    threads: int = 1,
    device: str = "auto",
    ranks: Ranks = ALONE,
) -> None:
    """Train a teacher and keep its best epoch.

    Args:
        settings: backbone, head, optimiser and how the epoch is chosen.
        subject: which teacher of which set this is, and its seed.
        packs: training packs of the groups that the teacher sees.
        selection: verification packs that choose the epoch by the mean of their accuracies;
            none where the rule is "last".
        split: CSV of the identities to train on.
        output: weights to write; model.json and history.csv appear beside it.
        threads: CPU threads.
        device: "auto", "cpu" or "cuda".
        ranks: who trains together; the first writes.

    Raises:
        InputError: packs or split that do not fit, or a loss that is not finite.
    """
    if put_back(output, settings, subject, [packs, selection, [split]], write=ranks.is_first):
        return
    where = configure(device, threads, deterministic=settings.engine.deterministic)
    opened = [open_pack(path, "train") for path in packs]
    # Teachers of one seed differ in their initial weights, as independent runs do.
    seed = seed_from("teacher", subject.set, subject.name, subject.seed)
    batches = FaceBatches(
        opened,
        split=read_split(split),
        batch_size=settings.optimiser.batch_size,
        seed=seed,
        device=where,
        share=ranks.share(settings.optimiser.batch_size),
    )
    network = backbone_under_head(settings, batches, seed=seed, device=where, ranks=ranks)
    model = Model(
        settings,
        subject,
        output,
        label=f"train {subject.set} {subject.name}",
        network=network,
        objective=network.head_alone("images"),
        choice=best_accuracy(settings, network.kept, selection, where),
        inputs=pack_hashes(opened),
        sources=[*packs, *selection, split],
        image_size=batches.image_size,
    )
    train(
        [model],
        batches=batches.epoch,
        steps=batches.steps,
        name_images=lambda batch: batches.paths(batch["rows"]),
        ranks=ranks,
        also=[file_sha256(split)],
    )
