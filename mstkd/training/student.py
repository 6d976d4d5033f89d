"""The step `train-student`: one network taught by the fused space (section 4.4, equations 4-6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mstkd.artifacts.contents import hashed_contents
from mstkd.artifacts.records import Subject
from mstkd.compute.devices import place, prepare
from mstkd.compute.ranks import ALONE, Ranks
from mstkd.compute.synchronised import synchronised
from mstkd.config import StudentSettings
from mstkd.data.loader import Batch, FaceBatches, pack_hashes
from mstkd.data.pack import Kind, Pack, open_pack
from mstkd.embeddings.cache import Cache, open_cache
from mstkd.errors import InputError
from mstkd.losses.distillation import cosine_to_target, kd_loss, student_loss
from mstkd.losses.head_loss import build_head_loss
from mstkd.models.weights import (
    build_backbone,
    events_folder,
    load_adaptor,
    record_path,
    save_model,
)
from mstkd.seeds import seed_from
from mstkd.training.checkpoint import Checkpoint, fingerprint
from mstkd.training.engine import configure, embedder
from mstkd.training.learner import Learner
from mstkd.training.loop import fit
from mstkd.training.teacher import chosen_by, selection_hashes, verification_score

Target = Callable[[Tensor], Tensor]  # rows of the packs (B,) to fused embeddings (B, D)


@dataclass(frozen=True)
class Student:
    """One student to train: its settings, who it is, and its files.

    `adaptor` is the frozen map into the fused space; None for a student of a single teacher,
    whose embedding is the target itself. Beside the weights `output`, model.json and history.csv
    appear.
    """

    settings: StudentSettings
    subject: Subject
    adaptor: Path | None
    output: Path


def train_student(
    settings: StudentSettings,
    *,
    subject: Subject,
    packs: Sequence[Path],
    selection: Sequence[Path] = (),
    cache: Path | None = None,
    adaptor: Path | None = None,
    output: Path,
    threads: int = 1,
    device: str = "auto",
    ranks: Ranks = ALONE,
) -> None:
    """Distil one student and keep its best epoch; without a cache it learns from the labels alone.

    See `Student` and `train_students`.
    """
    train_students(
        [Student(settings, subject, adaptor, output)],
        packs=packs,
        selection=selection,
        cache=cache,
        threads=threads,
        device=device,
        ranks=ranks,
    )


def train_students(
    students: Sequence[Student],
    *,
    packs: Sequence[Path],
    selection: Sequence[Path],
    cache: Path | None,
    threads: int = 1,
    device: str = "auto",
    ranks: Ranks = ALONE,
) -> None:
    """Train students of one set of teachers, from one stream of batches, each as it would alone.

    Args:
        students: of one seed, optimiser, engine and kind of images.
        packs: training packs of all groups, in the experiment's order, or the pack of
            unlabelled images where the losses say so.
        selection: verification packs that choose the epoch by the mean of their accuracies;
            none where the rule is "last".
        cache: the teachers' embeddings; None for a student with no distillation.
        threads: CPU threads.
        device: "auto", "cpu" or "cuda".
        ranks: who trains together; the first writes.

    Raises:
        InputError: students that cannot share a stream, cache, adaptor and packs that do not
            belong together, or a loss that is not finite.
    """
    first = students[0]
    _refuse_strangers(students)
    configure(first.settings.engine)
    where = prepare(device, threads)
    opened = [open_pack(path, _kind(first.settings)) for path in packs]
    # Students of one seed start alike and see the same batches: what differs is the teaching.
    seed = seed_from("student", first.subject.seed)
    batches = FaceBatches(
        opened,
        split=None,
        batch_size=first.settings.optimiser.batch_size,
        seed=seed,
        device=where,
        share=ranks.share(first.settings.optimiser.batch_size),
    )
    hashes = pack_hashes(opened)
    fused: dict[Path | None, tuple[Target, dict[str, str]]] = {}
    for student in students:
        if student.settings.loss.kd_weight > 0 and student.adaptor not in fused:
            fused[student.adaptor] = _fused_targets(
                student.settings, cache, student.adaptor, opened, where
            )
    learners, inputs = [], []
    for student in students:
        target: Target | None = None
        made_from: dict[str, str] = {}
        if student.settings.loss.kd_weight > 0:
            target, made_from = fused[student.adaptor]
        learners.append(_learner(student, batches, target, seed, selection, where, ranks))
        inputs.append(hashes | made_from)
    checkpoint = Checkpoint(first.output, _fingerprint(students, inputs, selection))
    fitted = fit(
        learners,
        batches=batches.epoch,
        steps=batches.steps,
        settings=first.settings.optimiser,
        checkpoint=checkpoint,
        ranks=ranks,
        label=learners[0].label if len(students) == 1 else f"train {len(students)} students",
        name_images=lambda batch: batches.paths(batch["rows"]),
    )
    if not ranks.is_first:
        return
    for student, found, made_from in zip(students, fitted, inputs, strict=True):
        save_model(
            student.output,
            state=found.state,
            history=found.history,
            subject=student.subject,
            settings=student.settings.model_dump(mode="json", exclude_none=True),
            image_size=batches.image_size,
            inputs=made_from,
            chosen_epoch=found.epoch,
            chosen_by=chosen_by(student.settings.selection, selection, found.score),
            sources=hashed_contents(
                path for path in [*packs, *selection, cache, student.adaptor] if path is not None
            ),
        )
    checkpoint.remove()


def _learner(
    student: Student,
    batches: FaceBatches,
    target: Target | None,
    seed: int,
    selection: Sequence[Path],
    device: torch.device,
    ranks: Ranks,
) -> Learner:
    """The student's network, freshly initialised, with its loss (equations 5 and 6)."""
    settings, subject = student.settings, student.subject
    torch.manual_seed(seed)
    backbone = build_backbone(
        settings.backbone, embedding_dim=settings.embedding_dim, image_size=batches.image_size
    )
    trained = nn.ModuleDict({"backbone": backbone})
    margins = torch.Generator().manual_seed(seed_from("margin", seed))
    head: nn.Module | None = None
    if settings.loss.classification:
        if settings.head is None:
            raise InputError("--settings: head", found="nothing", expected="a margin head")
        head = build_head_loss(
            settings.head, settings.embedding_dim, batches.num_classes, margins, ranks
        )
        trained["head"] = head
    place(synchronised(trained, ranks, device), device)
    embed = embedder(backbone, settings.engine, device, ranks)

    def objective(batch: Batch) -> Mapping[str, Tensor]:
        embeddings = embed(batch["images"])  # (B, D)
        parts: dict[str, Tensor] = {}
        if head is not None:
            parts["head"] = head(embeddings, batch["labels"])
        if target is None:
            return {"loss": parts["head"], **parts}
        fused = target(batch["rows"])  # (B, D)
        parts["kd"] = kd_loss(embeddings, fused)
        parts["cosine_to_target"] = cosine_to_target(embeddings, fused)
        loss = student_loss(parts["kd"], parts.get("head"), settings.loss.kd_weight)
        return {"loss": loss, **parts}

    return Learner(
        trained,
        objective,
        kept=backbone,
        score=verification_score(
            settings.selection, backbone, selection, settings.optimiser.epochs, device
        ),
        score_name="accuracy",
        generators=[margins],
        label=f"train student {subject.set} {subject.name} {subject.loss}",
        events=events_folder(student.output),
    )


def _fingerprint(
    students: Sequence[Student], inputs: Sequence[dict[str, str]], selection: Sequence[Path]
) -> str:
    parts = [
        (student.settings.dump(), student.subject, made_from)
        for student, made_from in zip(students, inputs, strict=True)
    ]
    return fingerprint(*parts, *selection_hashes(selection))


def _refuse_strangers(students: Sequence[Student]) -> None:
    first = students[0]
    for student in students[1:]:
        for key, its, expected in (
            ("seed", student.subject.seed, first.subject.seed),
            ("optimiser", student.settings.optimiser, first.settings.optimiser),
            ("engine", student.settings.engine, first.settings.engine),
            ("loss.images", student.settings.loss.images, first.settings.loss.images),
        ):
            if its != expected:
                who = f"{student.subject.name} {student.subject.loss}: {key}"
                raise InputError(who, found=its, expected=f"{expected}, as the first student has")


def _kind(settings: StudentSettings) -> Kind:
    return "train" if settings.loss.images == "labelled" else "unlabelled"


def _fused_targets(
    settings: StudentSettings,
    cache: Path | None,
    adaptor: Path | None,
    packs: Sequence[Pack],
    device: torch.device,
) -> tuple[Target, dict[str, str]]:
    """The fused embedding (B, D) of given rows, computed once, and what it was made from."""
    if cache is None:
        raise InputError("--cache", found="nothing", expected="an embedding cache to distil from")
    cached = open_cache(cache, packs)
    made_from = {"embeddings": cached.sha256}
    if adaptor is None:
        fusion: nn.Module = nn.Identity()
        _refuse_width(cached, cached.embeddings.shape[1], settings.embedding_dim)
    else:
        fusion, record = load_adaptor(adaptor, len(cached.teachers))
        made_of = {"embeddings": cached.sha256}
        if settings.loss.images == "unlabelled":  # no adaptor is trained on these
            made_of = {"teachers": fingerprint(*cached.weights)}
        if not made_of.items() <= record.inputs.items():
            raise InputError(
                adaptor,
                found=f"an adaptor of other {next(iter(made_of))}",
                expected=f"one trained on those of {cache}; see {record_path(adaptor)}",
            )
        _refuse_width(cached, int(record.settings["embedding_dim"]), settings.embedding_dim)
        made_from["adaptor"] = record.weights_sha256
    targets = _project(fusion.to(device), cached.embeddings, device)
    return lambda rows: targets[rows.to(device)].float(), made_from


@torch.no_grad()
def _project(
    fusion: nn.Module, embeddings: np.ndarray, device: torch.device, rows: int = 4096
) -> Tensor:
    """Targets (N, D) of all cached embeddings (N, T * D), of the cache's own type."""
    parts = []
    for begin in range(0, len(embeddings), rows):
        block = torch.from_numpy(embeddings[begin : begin + rows]).to(device)
        # Unit length before rounding: half precision would overflow at large norms.
        unit = nn.functional.normalize(fusion(block.float()))
        parts.append(unit.to(block.dtype))
    return torch.cat(parts)


def _refuse_width(cached: Cache, found: int, expected: int) -> None:
    if found != expected:
        raise InputError(
            cached.path, found=f"targets of {found} dimensions", expected=f"{expected}"
        )
