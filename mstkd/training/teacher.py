"""The step `train-teacher`: a backbone with a margin head on some identities (section 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mstkd.artifacts.contents import hashed_contents
from mstkd.artifacts.records import Subject, file_sha256
from mstkd.compute.devices import place, prepare
from mstkd.compute.ranks import ALONE, Ranks
from mstkd.compute.synchronised import synchronised
from mstkd.config import SelectionSettings, TeacherSettings
from mstkd.data.loader import Batch, FaceBatches, one_image_size, pack_hashes
from mstkd.data.pack import Pack, open_pack
from mstkd.data.splits import read_split
from mstkd.evaluation.evaluate import group_accuracy
from mstkd.losses.head_loss import build_head_loss
from mstkd.models.iresnet import IResNet, folded
from mstkd.models.weights import build_backbone, events_folder, save_model
from mstkd.seeds import seed_from
from mstkd.training.checkpoint import Checkpoint, fingerprint
from mstkd.training.engine import configure, embedder
from mstkd.training.learner import Learner
from mstkd.training.loop import fit


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
    configure(settings.engine)
    where = prepare(device, threads)
    opened = [open_pack(path, "train") for path in packs]
    # Teachers of one seed differ in their initial weights, as independent runs do.
    seed = seed_from("teacher", subject.set, subject.name, subject.seed)
    torch.manual_seed(seed)
    batches = FaceBatches(
        opened,
        split=read_split(split),
        batch_size=settings.optimiser.batch_size,
        seed=seed,
        device=where,
        share=ranks.share(settings.optimiser.batch_size),
    )
    backbone = build_backbone(
        settings.backbone, embedding_dim=settings.embedding_dim, image_size=batches.image_size
    )
    margins = torch.Generator().manual_seed(seed_from("margin", seed))
    head = build_head_loss(
        settings.head, settings.embedding_dim, batches.num_classes, margins, ranks
    )
    trained = nn.ModuleDict({"backbone": backbone, "head": head})
    place(synchronised(trained, ranks, where), where)
    embed = embedder(backbone, settings.engine, where, ranks)

    def objective(batch: Batch) -> Mapping[str, Tensor]:
        return {"loss": head(embed(batch["images"]), batch["labels"])}

    inputs = pack_hashes(opened)
    checkpoint = Checkpoint(
        output,
        fingerprint(
            settings.dump(), subject, inputs, file_sha256(split), *selection_hashes(selection)
        ),
    )
    label = f"train {subject.set} {subject.name}"
    learner = Learner(
        trained,
        objective,
        kept=backbone,
        score=verification_score(
            settings.selection, backbone, selection, settings.optimiser.epochs, where
        ),
        score_name="accuracy",
        generators=[margins],
        label=label,
        events=events_folder(output),
    )
    (fitted,) = fit(
        [learner],
        batches=batches.epoch,
        steps=batches.steps,
        settings=settings.optimiser,
        checkpoint=checkpoint,
        ranks=ranks,
        label=label,
        name_images=lambda batch: batches.paths(batch["rows"]),
    )
    if not ranks.is_first:
        return
    save_model(
        output,
        state=fitted.state,
        history=fitted.history,
        subject=subject,
        settings=settings.model_dump(mode="json", exclude_none=True),
        image_size=batches.image_size,
        inputs=inputs,
        chosen_epoch=fitted.epoch,
        chosen_by=chosen_by(settings.selection, selection, fitted.score),
        sources=hashed_contents([*packs, *selection, split]),
    )
    checkpoint.remove()


def selection_hashes(selection: Sequence[Path]) -> list[str]:
    """Content hashes of the packs that choose the epoch."""
    return [open_pack(path, "verification").sha256 for path in selection]


def verification_score(
    settings: SelectionSettings,
    backbone: IResNet,
    selection: Sequence[Path],
    epochs: int,
    device: torch.device,
) -> Callable[[int, Mapping[str, float]], float | None]:
    """A score for `fit`: mean accuracy, percent, on the given packs every so many epochs.

    With rule "last" only the last epoch gets a score, and no pair is looked at.
    """
    packs: list[Pack] = [open_pack(path, "verification") for path in selection]
    if packs:
        one_image_size(packs)

    def score(epoch: int, parts: Mapping[str, float]) -> float | None:
        last = epoch + 1 == epochs
        if settings.rule == "last":
            return 0.0 if last else None
        if not last and (epoch + 1) % settings.every_epochs:
            return None
        network = place(folded(backbone), device)
        accuracies = [group_accuracy(network, pack, settings.folds, device) for pack in packs]
        return sum(accuracies) / len(accuracies)

    return score


def chosen_by(settings: SelectionSettings, selection: Sequence[Path], score: float) -> str:
    """The sentence of model.json that says why this epoch."""
    if settings.rule == "last":
        return "the last epoch"
    groups = ", ".join(open_pack(path).group for path in selection)
    pairs = "held-out pairs" if settings.rule == "heldout" else "verification pairs"
    return f"best accuracy on the {pairs} of {groups}: {score:.2f} %"
