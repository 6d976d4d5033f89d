"""A model on the verification pairs of every group: scores.h5 and metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mstkd.artifacts.atomic import replacing
from mstkd.artifacts.contents import ATTRIBUTE, attribute
from mstkd.artifacts.provenance import provenance_of
from mstkd.artifacts.records import Fairness, GroupScore, Metrics
from mstkd.compute.devices import prepare
from mstkd.config import EvaluationSettings
from mstkd.data.loader import one_image_size, pack_hashes
from mstkd.data.pack import Pack, open_pack
from mstkd.embeddings.embed import Extractor, embed_with_mirror
from mstkd.errors import InputError
from mstkd.evaluation.fairness import summarize
from mstkd.evaluation.verification import (
    fold_accuracies,
    fold_of_pairs,
    shared_fold_accuracies,
    squared_distances,
)
from mstkd.models.weights import load_backbone


def pair_distances(model: nn.Module, pack: Pack, device: torch.device) -> NDArray[np.float64]:
    """Squared distance (P,) of each pair's unit embeddings; each image is embedded once.

    Raises:
        InputError: the model's embeddings are not finite, or zero.
    """
    assert pack.pairs is not None, "a verification pack"
    embeddings = embed_with_mirror(model, pack.images, device)
    try:
        return squared_distances(embeddings[pack.pairs[:, 0]], embeddings[pack.pairs[:, 1]])
    except ValueError as error:
        raise InputError(pack.path, found=str(error), expected="finite embeddings") from None


def group_accuracy(model: nn.Module, pack: Pack, folds: int, device: torch.device) -> float:
    """Mean accuracy over folds, percent, of a model in evaluation mode on one group."""
    assert pack.same is not None, "a verification pack"
    distances = pair_distances(model, pack, device)
    accuracies = fold_accuracies(distances, pack.same, fold_of_pairs(len(pack.same), folds))
    return 100 * float(accuracies.mean())


def evaluate(
    settings: EvaluationSettings,
    *,
    model: Path,
    packs: Sequence[Path],
    scores: Path,
    metrics: Path,
    threads: int = 1,
    device: str = "auto",
) -> None:
    """Score a model's pairs and write what every table and figure is made from.

    Args:
        settings: the number of folds.
        model: weights of a teacher or student.
        packs: verification packs, in the experiment's group order.
        scores: HDF5 to write: `similarity` float64 (cosine), `same` bool, `fold` and `group`
            int8, all (P,); the attribute `groups` names the groups.
        metrics: JSON to write, a `Metrics` record.
        threads: CPU threads.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: a pack of another size than the model takes, or too few pairs for the folds.
    """
    where = prepare(device, threads)
    network, record = load_backbone(model)
    extractor = Extractor(network, where)
    opened = [open_pack(path, "verification") for path in packs]
    pack_hashes(opened)
    if one_image_size(opened) != record.image_size:
        raise InputError(
            opened[0].path,
            found=f"{opened[0].image_size} pixels",
            expected=f"{record.image_size} pixels as {model}",
        )
    groups = [pack.group for pack in opened]
    distances, same, fold, group = [], [], [], []
    for number, pack in enumerate(opened):
        assert pack.same is not None, "a verification pack"
        if len(pack.same) < settings.folds:
            raise InputError(
                pack.path, found=f"{len(pack.same)} pairs", expected=f"{settings.folds} folds"
            )
        distances.append(pair_distances(extractor, pack, where))
        same.append(pack.same)
        fold.append(fold_of_pairs(len(pack.same), settings.folds))
        group.append(np.full(len(pack.same), number, np.int8))
    own = [fold_accuracies(*parts) for parts in zip(distances, same, fold, strict=True)]
    all_distances, all_same = np.concatenate(distances), np.concatenate(same)
    all_folds, all_groups = np.concatenate(fold), np.concatenate(group)
    shared = shared_fold_accuracies(all_distances, all_same, all_folds, all_groups)
    pairs = [len(part) for part in same]
    read = {model: record.weights_sha256} | {pack.path: pack.sha256 for pack in opened}
    made = provenance_of("evaluate", settings, read, metrics)

    with replacing(scores, metrics) as (scores_part, metrics_part):
        with h5py.File(scores_part, "w") as file:
            file.attrs["groups"] = groups
            file.attrs[ATTRIBUTE] = attribute(provenance_of("evaluate", settings, read, scores))
            file["similarity"] = 1 - all_distances / 2
            file["same"] = all_same
            file["fold"] = all_folds.astype(np.int8)
            file["group"] = all_groups
        told = Metrics(
            subject=record.subject,
            weights_sha256=record.weights_sha256,
            own_threshold=_fairness(dict(zip(groups, own, strict=True)), pairs),
            shared_threshold=_fairness(dict(zip(groups, shared, strict=True)), pairs),
            provenance=made,
        )
        metrics_part.write_text(told.text(), encoding="utf-8")


def _fairness(accuracies: Mapping[str, NDArray[np.float64]], pairs: Sequence[int]) -> Fairness:
    """Fractions (folds,) of each group to percent and the paper's summaries."""
    percent = {group: 100 * values for group, values in accuracies.items()}
    summary = summarize([float(values.mean()) for values in percent.values()])
    return Fairness(
        groups={
            group: GroupScore(
                accuracy=float(values.mean()), fold_accuracies=values.tolist(), pairs=count
            )
            for (group, values), count in zip(percent.items(), pairs, strict=True)
        },
        global_accuracy=summary.global_accuracy,
        std=summary.std,
        ser=summary.ser if np.isfinite(summary.ser) else None,
    )
