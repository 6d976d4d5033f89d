"""What the training steps share: a network under its head, and from there to a model's files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from mstkd.artifacts.atomic import make_folder
from mstkd.artifacts.contents import hashed_contents
from mstkd.artifacts.records import Subject
from mstkd.artifacts.writers import only_writer
from mstkd.compute.devices import place
from mstkd.compute.ranks import Ranks
from mstkd.compute.synchronised import synchronised
from mstkd.config import AdaptorSettings, StudentSettings, TeacherSettings, last_epoch
from mstkd.data.loader import Batch, FaceBatches
from mstkd.losses.head_loss import build_head_loss, margin_generator
from mstkd.models.backbone import Backbone
from mstkd.models.kept import keep
from mstkd.models.weights import (
    build_backbone,
    events_folder,
    is_saved,
    load_weights,
    save_model,
)
from mstkd.progress import say
from mstkd.seeds import seed_from
from mstkd.training.checkpoint import Checkpoint, fingerprint
from mstkd.training.choice import Choice
from mstkd.training.engine import Embedder
from mstkd.training.learner import Learner, Objective, random_state
from mstkd.training.loop import fit

StepSettings = TeacherSettings | AdaptorSettings | StudentSettings
Kept = TypeVar("Kept", bound=nn.Module)


class UnderHead(Generic[Kept]):
    """A freshly initialised network and the loss of its head, if it has one, on their device.

    `kept` is the network itself, `trained` both by name, `embed` what the network sees to
    embeddings float32 (B, D), `margins` the head's random stream, `random` the state of torch's.

    Raises:
        InputError: fewer identities than ranks.
    """

    def __init__(
        self,
        name: str,
        network: Kept,
        settings: StepSettings,
        *,
        classes: int,
        seed: int,
        device: torch.device,
        ranks: Ranks,
    ) -> None:
        self.kept = network
        self.trained = nn.ModuleDict({name: network})
        self.margins = margin_generator(settings.head, classes, seed_from("margin", seed), device)
        if settings.head is not None:
            self.trained["head"] = build_head_loss(
                settings.head, settings.embedding_dim, classes, self.margins, ranks
            )
        place(synchronised(self.trained, ranks, device), device)
        self.embed = Embedder(network, settings.engine, device, ranks)
        self.random = random_state()

    def head_alone(self, seen: str) -> Objective:
        """The head's loss on the embeddings of what the network sees of a batch."""
        head = self.trained["head"]
        return lambda batch: {"loss": head(self.embed(batch[seen]), batch["labels"])}


def backbone_under_head(
    settings: TeacherSettings | StudentSettings,
    batches: FaceBatches,
    *,
    seed: int,
    device: torch.device,
    ranks: Ranks,
    start: Path | None = None,
) -> UnderHead[Backbone]:
    """The backbone that the settings describe, for such images and identities.

    Its weights are from a seed, or those of a file, which are of that backbone.

    Raises:
        InputError: they are not.
    """
    torch.manual_seed(seed)
    backbone = build_backbone(
        settings.backbone, embedding_dim=settings.embedding_dim, image_size=batches.image_size
    )
    if start is not None:
        load_weights(backbone, start)
    classes = batches.num_classes
    return UnderHead(
        "backbone", backbone, settings, classes=classes, seed=seed, device=device, ranks=ranks
    )


@dataclass(frozen=True)
class Model:
    """A model to train, and what its files say of it."""

    settings: StepSettings
    subject: Subject
    output: Path  # weights to write; model.json and history.csv appear beside it
    label: str  # names it in progress lines and failures
    network: UnderHead[Any]
    objective: Objective
    choice: Choice
    inputs: Mapping[str, str]  # the hashes that later steps compare
    sources: Sequence[Path]  # the files that are read
    image_size: int | None = None  # pixels; None for adaptors

    def told(self) -> dict[str, Any]:
        """What `save_model` is told before anything is trained."""
        return {
            "subject": self.subject,
            "settings": self.settings.model_dump(mode="json", exclude_none=True),
            "image_size": self.image_size,
            "inputs": self.inputs,
            "sources": hashed_contents(self.sources),
        }


def train(
    models: Sequence[Model],
    *,
    batches: Callable[[int, int], Iterator[Batch]],
    steps: int,
    name_images: Callable[[Batch], Sequence[str]],
    ranks: Ranks,
    also: Sequence[str] = (),
) -> None:
    """Fit models to one stream of batches, and write the epoch of each that is chosen.

    Nobody else trains them meanwhile. If another process has, that is all.

    Args:
        models: of one optimiser, chosen by the same pairs; the checkpoint lies beside the first.
        batches: as `fit` takes them.
        steps: batches in an epoch.
        name_images: what a batch's images are called.
        ranks: who trains together; the first writes.
        also: hashes of what determines the run and is none of the models' inputs.

    Raises:
        InputError: a loss that is not finite.
    """
    first = models[0]
    parts = [part for m in models for part in (m.settings.dump(), m.subject, m.inputs)]
    run = fingerprint(*parts, *also, *first.choice.hashes)
    with contextlib.ExitStack() as held:
        trained = ranks.first_says(_take_turn(models, run, held) if ranks.is_first else None)
        checkpoint = Checkpoint(first.output, run)
        if not trained:
            _train(models, checkpoint, batches, steps, name_images, ranks)
        if ranks.is_first:
            checkpoint.remove()


def _take_turn(models: Sequence[Model], run: str, held: contextlib.ExitStack) -> bool:
    """Wait until no other process trains one of the models; whether all are trained already."""
    for output in sorted(model.output for model in models):  # in one order: nobody waits in a ring
        make_folder(output.parent)
        held.enter_context(only_writer(output, run))
    if not all(is_saved(model.output, **model.told()) for model in models):
        return False
    say(f"{models[0].output}: is trained already, from the same data by the same settings")
    return True


def _train(
    models: Sequence[Model],
    checkpoint: Checkpoint,
    batches: Callable[[int, int], Iterator[Batch]],
    steps: int,
    name_images: Callable[[Batch], Sequence[str]],
    ranks: Ranks,
) -> None:
    first = models[0]
    learners = [
        Learner(
            model.network.trained,
            model.objective,
            kept=model.network.kept,
            score=model.choice.score,
            score_name=model.choice.column,
            generators=[model.network.margins],
            label=model.label,
            events=events_folder(model.output),
            random=model.network.random,
            embed=model.network.embed,
        )
        for model in models
    ]
    fitted = fit(
        learners,
        batches=batches,
        steps=steps,
        settings=first.settings.optimiser,
        epochs=last_epoch(first.settings),
        checkpoint=checkpoint,
        label=first.label if len(models) == 1 else f"train {len(models)} {first.subject.kind}s",
        name_images=name_images,
        ranks=ranks,
    )
    if not ranks.is_first:
        return
    for model, found in zip(models, fitted, strict=True):
        save_model(
            model.output,
            state=found.state,
            history=found.history,
            chosen_epoch=found.epoch,
            chosen_by=model.choice.told(found.score),
            precision=model.network.embed.precision,
            **model.told(),
        )
        keep(model.output)
