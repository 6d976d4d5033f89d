"""The step `train-student`: one network taught by the fused space (section 4.4, equations 4-6)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from mstkd.artifacts.records import START, Subject
from mstkd.compute.numerics import configure
from mstkd.compute.ranks import ALONE, Ranks
from mstkd.config import StudentSettings
from mstkd.data.loader import Batch, FaceBatches, pack_hashes
from mstkd.data.pack import Kind, Pack, open_pack
from mstkd.embeddings.cache import Cache, open_cache
from mstkd.errors import InputError
from mstkd.losses.distillation import cosine_to_target, kd_loss, student_loss
from mstkd.models.backbone import Backbone
from mstkd.models.kept import put_back
from mstkd.models.weights import fused_teachers, load_adaptor, load_backbone, record_path
from mstkd.seeds import seed_from
from mstkd.training.checkpoint import fingerprint
from mstkd.training.choice import best_accuracy
from mstkd.training.learner import Objective
from mstkd.training.step import Model, UnderHead, backbone_under_head, train

Target = Callable[[Batch], Tensor]  # what the fused embeddings (B, D) of a batch are
# What records call the hashes of the caches. No group can have the second name.
INPUTS = ("embeddings", "mirrored embeddings")


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
    mirrored: Path | None = None,
    adaptor: Path | None = None,
    start: Path | None = None,
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
        mirrored=mirrored,
        start=start,
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
    mirrored: Path | None = None,
    start: Path | None = None,
    threads: int = 1,
    device: str = "auto",
    ranks: Ranks = ALONE,
) -> None:
    """Train students of one set of teachers, from one stream of batches, each as it would alone.

    Args:
        students: of one seed, embedding dimension, optimiser, engine and kind of images.
        packs: training packs of all groups, in the experiment's order, or the pack of
            unlabelled images where the losses say so.
        selection: verification packs that choose the epoch by the mean of their accuracies;
            none where the rule is "last".
        cache: the teachers' embeddings; None for a student with no distillation.
        mirrored: the same of mirror images, where targets are of the image that is seen.
        start: the weights that all of them start from, as `import_start` writes them; None for
            new ones, from the seed.
        threads: CPU threads.
        device: "auto", "cpu" or "cuda".
        ranks: who trains together; the first writes.

    Raises:
        InputError: students that cannot share a stream, cache, adaptor and packs that do not
            belong together, or a loss that is not finite.
    """
    _refuse_strangers(students)
    caches = [path for path in (cache, mirrored) if path is not None]
    read = [packs, selection, *([path] for path in (*caches, start) if path is not None)]
    students = [one for one in students if not _put_back(one, read, ranks)]
    if not students:
        return
    first = students[0]
    where = configure(device, threads, deterministic=first.settings.engine.deterministic)
    kind: Kind = "train" if first.settings.loss.images == "labelled" else "unlabelled"
    opened = [open_pack(path, kind) for path in packs]
    # Students of one seed start alike and see the same batches: what differs is the teaching.
    seed = seed_from("student", first.subject.seed)
    batches = FaceBatches(
        opened,
        split=None,
        batch_size=first.settings.optimiser.batch_size,
        seed=seed,
        device=where,
        share=ranks.share(first.settings.optimiser.batch_size),
        tell_mirrored=any(one.settings.target_view == "seen" for one in students),
    )

    @functools.cache
    def fused(adaptor: Path | None, view: Literal["seen"] | None) -> tuple[Target, dict[str, str]]:
        seen = [mirrored] if view == "seen" else []
        return _fused_targets(first.settings, [cache, *seen], adaptor, opened, where)

    hashes = pack_hashes(opened)
    if start is not None:
        hashes[START] = load_backbone(start)[1].weights_sha256
    models = []
    for student in students:
        settings, subject = student.settings, student.subject
        target, made_from = None, dict[str, str]()
        if settings.loss.kd_weight > 0:
            target, made_from = fused(student.adaptor, settings.target_view)
        network = backbone_under_head(
            settings, batches, seed=seed, device=where, ranks=ranks, start=start
        )
        models.append(
            Model(
                settings,
                subject,
                student.output,
                label=f"train student {subject.set} {subject.name} {subject.loss}",
                network=network,
                objective=_objective(network, target, settings.loss.kd_weight),
                choice=best_accuracy(settings, network.kept, selection, where),
                inputs=hashes | made_from,
                sources=[path for kind in _read_by(student, read) for path in kind],
                image_size=batches.image_size,
            )
        )
    train(
        models,
        batches=batches.epoch,
        steps=batches.steps,
        name_images=lambda batch: batches.paths(batch["rows"]),
        ranks=ranks,
    )


def _objective(network: UnderHead[Backbone], target: Target | None, kd_weight: float) -> Objective:
    """The loss of a student (equations 5 and 6)."""

    def objective(batch: Batch) -> Mapping[str, Tensor]:
        embeddings = network.embed(batch["images"])  # (B, D)
        parts: dict[str, Tensor] = {}
        if "head" in network.trained:
            parts["head"] = network.trained["head"](embeddings, batch["labels"])
        if target is None:
            return {"loss": parts["head"], **parts}
        fused = target(batch)  # (B, D)
        parts["kd"] = kd_loss(embeddings, fused)
        parts["cosine_to_target"] = cosine_to_target(embeddings, fused)
        return {"loss": student_loss(parts["kd"], parts.get("head"), kd_weight), **parts}

    return objective


def _read_by(student: Student, read: Sequence[Sequence[Path]]) -> list[Sequence[Path]]:
    """The files that a student is trained on: those of all of them, and its adaptor."""
    return [*read, *([] if student.adaptor is None else [[student.adaptor]])]


def _put_back(student: Student, read: Sequence[Sequence[Path]], ranks: Ranks) -> bool:
    settings, subject = student.settings, student.subject
    kinds = _read_by(student, read)
    return put_back(student.output, settings, subject, kinds, write=ranks.is_first)


def _refuse_strangers(students: Sequence[Student]) -> None:
    first = students[0]
    for student in students[1:]:
        for key, its, expected in (
            ("seed", student.subject.seed, first.subject.seed),
            ("optimiser", student.settings.optimiser, first.settings.optimiser),
            ("embedding_dim", student.settings.embedding_dim, first.settings.embedding_dim),
            ("engine", student.settings.engine, first.settings.engine),
            ("loss.images", student.settings.loss.images, first.settings.loss.images),
        ):
            if its != expected:
                who = f"{student.subject.name} {student.subject.loss}: {key}"
                raise InputError(who, found=its, expected=f"{expected}, as the first student has")


def _fused_targets(
    settings: StudentSettings,
    caches: Sequence[Path | None],
    adaptor: Path | None,
    packs: Sequence[Pack],
    device: torch.device,
) -> tuple[Target, dict[str, str]]:
    """The fused embedding (B, D) of a batch, computed once, and what it was made from.

    Of the images as they are stored, or with a second cache, of mirror images, as they are seen.
    """
    opened = _open_caches(caches, packs)
    cached, cache = opened[0], opened[0].path
    made_from = dict(zip(INPUTS, (one.sha256 for one in opened), strict=False))
    if adaptor is None:
        fusion: nn.Module = nn.Identity()
        width = cached.embeddings.shape[1]
    else:
        fusion, record = load_adaptor(adaptor, len(cached.teachers))
        opened = [one.of(fused_teachers(record)) for one in opened]
        cached = opened[0]
        made_of = {"embeddings": cached.sha256}
        if settings.loss.images == "unlabelled":  # no adaptor is trained on these
            made_of = {"teachers": fingerprint(*cached.weights)}
        if not made_of.items() <= record.inputs.items():
            raise InputError(
                adaptor,
                found=f"an adaptor of other {next(iter(made_of))}",
                expected=f"one trained on those of {cache}; see {record_path(adaptor)}",
            )
        width = int(record.settings["embedding_dim"])
        made_from["adaptor"] = record.weights_sha256
    if width != settings.embedding_dim:
        found, expected = f"targets of {width} dimensions", settings.embedding_dim
        raise InputError(cached.path, found=found, expected=expected)
    fusion = fusion.to(device)
    targets = torch.cat([_project(fusion, one.embeddings, device) for one in opened])
    images = len(cached.embeddings)

    def target(batch: Batch) -> Tensor:
        rows = batch["rows"].to(device)
        if len(opened) > 1:
            rows = rows + images * batch["mirrored"].to(device)
        return targets[rows].float()

    return target, made_from


def _open_caches(caches: Sequence[Path | None], packs: Sequence[Pack]) -> list[Cache]:
    """The cache of the images, and that of their mirror images if there is one."""
    opened: list[Cache] = []
    for option, path in zip(("--cache", "--mirrored"), caches, strict=False):
        mirrored = option == "--mirrored"
        whose = " of mirror images" if mirrored else ""
        if path is None:
            expected = f"an embedding cache{whose} to distil from"
            raise InputError(option, found="nothing", expected=expected)
        one = open_cache(path, packs)
        if one.mirrored != mirrored:
            found = "embeddings of mirror images" if one.mirrored else "none of mirror images"
            raise InputError(path, found=found, expected=f"an embedding cache{whose}")
        if opened and one.weights != opened[0].weights:
            raise InputError(path, found="other teachers", expected=f"those of {opened[0].path}")
        opened.append(one)
    return opened


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
