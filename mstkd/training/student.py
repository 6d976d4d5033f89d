"""The step `train-student`: one network taught by the fused space (section 4.4, equations 4-6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mstkd.config import StudentSettings
from mstkd.contents import hashed_contents
from mstkd.data.loader import Batch, FaceBatches, pack_hashes
from mstkd.data.pack import Kind, Pack, open_pack
from mstkd.devices import place, prepare
from mstkd.distillation import cosine_to_target, kd_loss, student_loss
from mstkd.embeddings import Cache, open_cache
from mstkd.errors import InputError
from mstkd.heads import build_head
from mstkd.models.weights import build_backbone, load_adaptor, record_path, save_model
from mstkd.records import Subject
from mstkd.seeds import seed_from
from mstkd.training.checkpoint import Checkpoint, fingerprint
from mstkd.training.loop import fit
from mstkd.training.teacher import chosen_by, selection_hashes, verification_score


def train_student(
    settings: StudentSettings,
    *,
    subject: Subject,
    packs: Sequence[Path],
    selection: Sequence[Path],
    cache: Path | None,
    adaptor: Path | None,
    output: Path,
    threads: int = 1,
    device: str = "auto",
) -> None:
    """Train a student and keep its best epoch.

    Args:
        settings: backbone, loss, head, optimiser and how the epoch is chosen.
        subject: which student this is, and its seed.
        packs: training packs of all groups, in the experiment's order, or the pack of
            unlabelled images where the loss says so.
        selection: verification packs that choose the epoch by the mean of their accuracies;
            none where the rule is "last".
        cache: the teachers' embeddings; None for a student with no distillation.
        adaptor: the frozen map into the fused space; None for a student of a single teacher,
            whose embedding is the target itself.
        output: weights to write; model.json and history.csv appear beside it.
        threads: CPU threads.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: cache, adaptor and packs that do not belong together, or a loss that is not
            finite.
    """
    where = prepare(device, threads)
    opened = [open_pack(path, _kind(settings)) for path in packs]
    # Students of one seed start alike and see the same batches: what differs is the teaching.
    seed = seed_from("student", subject.seed)
    torch.manual_seed(seed)
    batches = FaceBatches(
        opened,
        split=None,
        batch_size=settings.optimiser.batch_size,
        seed=seed,
        device=where,
    )
    backbone = build_backbone(
        settings.backbone, embedding_dim=settings.embedding_dim, image_size=batches.image_size
    )
    trained = nn.ModuleDict({"backbone": backbone})
    margins = torch.Generator().manual_seed(seed_from("margin", seed))
    head: nn.Module | None = None
    if settings.loss.classification:
        if settings.head is None:
            raise InputError("--settings: head", found="nothing", expected="a margin head")
        head = build_head(settings.head, settings.embedding_dim, batches.num_classes, margins)
        trained["head"] = head
    place(trained, where)
    inputs = pack_hashes(opened)
    target: Callable[[Tensor], Tensor] | None = None
    if settings.loss.kd_weight > 0:
        target, made_from = _fused_targets(settings, cache, adaptor, opened, where)
        inputs |= made_from

    def objective(batch: Batch) -> Mapping[str, Tensor]:
        embeddings = backbone(batch["images"])  # (B, D)
        parts: dict[str, Tensor] = {}
        if head is not None:
            logits = head(embeddings, batch["labels"])  # (B, C)
            parts["head"] = nn.functional.cross_entropy(logits, batch["labels"])
        if target is None:
            return {"loss": parts["head"], **parts}
        fused = target(batch["rows"])  # (B, D)
        parts["kd"] = kd_loss(embeddings, fused)
        parts["cosine_to_target"] = cosine_to_target(embeddings, fused)
        loss = student_loss(parts["kd"], parts.get("head"), settings.loss.kd_weight)
        return {"loss": loss, **parts}

    checkpoint = Checkpoint(
        output, fingerprint(settings.dump(), subject, inputs, *selection_hashes(selection))
    )
    fitted = fit(
        trained,
        objective,
        batches=batches.epoch,
        steps=batches.steps,
        kept=backbone,
        score=verification_score(
            settings.selection, backbone, selection, settings.optimiser.epochs, where
        ),
        score_name="accuracy",
        settings=settings.optimiser,
        generators=[margins],
        checkpoint=checkpoint,
        label=f"train student {subject.set} {subject.name} {subject.loss}",
    )
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
        sources=hashed_contents(
            path for path in [*packs, *selection, cache, adaptor] if path is not None
        ),
    )
    checkpoint.remove()


def _kind(settings: StudentSettings) -> Kind:
    return "train" if settings.loss.images == "labelled" else "unlabelled"


def _fused_targets(
    settings: StudentSettings,
    cache: Path | None,
    adaptor: Path | None,
    packs: Sequence[Pack],
    device: torch.device,
) -> tuple[Callable[[Tensor], Tensor], dict[str, str]]:
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
