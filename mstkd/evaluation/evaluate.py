"""A model on the verification pairs of every group: scores.h5 and metrics.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mstkd.artifacts.atomic import replacing
from mstkd.artifacts.records import Metrics, ModelRecord, NetworkSize, Provenance
from mstkd.artifacts.sources import provenance_of
from mstkd.compute.numerics import configure
from mstkd.config import EvaluationSettings
from mstkd.data.formats.bins import are_made_up
from mstkd.data.loader import one_image_size, pack_hashes
from mstkd.data.pack import Pack, open_pack
from mstkd.data.pairing import WITH_FOLDS, in_two_blocks
from mstkd.embeddings.embed import Extractor, embed_with_mirror
from mstkd.errors import InputError
from mstkd.evaluation import verification
from mstkd.evaluation.protocol import fairness_of
from mstkd.evaluation.scorefiles import write_hdf5
from mstkd.evaluation.scores import ScoreTable
from mstkd.evaluation.verification import fold_of_pairs, squared_distances
from mstkd.models.backbone import Backbone, size_of
from mstkd.models.weights import load_backbone


def pair_distances(model: nn.Module, pack: Pack, device: torch.device) -> NDArray[np.float64]:
    """Squared distance (P,) of each pair's unit embeddings; each image is embedded once.

    Raises:
        InputError: the model's embeddings are not finite, or zero.
    """
    return distances_of(embed_with_mirror(model, pack.images, device), pack)


def distances_of(embeddings: NDArray[np.floating], pack: Pack) -> NDArray[np.float64]:
    """Squared distance (P,) of each pair of a pack, of the embeddings (N, D) of its images.

    Raises:
        InputError: they are not finite, or zero.
    """
    assert pack.pairs is not None, "a verification pack"
    try:
        return squared_distances(embeddings[pack.pairs[:, 0]], embeddings[pack.pairs[:, 1]])
    except ValueError as error:
        raise InputError(pack.path, found=str(error), expected="finite embeddings") from None


def group_accuracy(model: nn.Module, pack: Pack, folds: int, device: torch.device) -> float:
    """Mean accuracy over folds, percent, of a model in evaluation mode on one group."""
    assert pack.same is not None, "a verification pack"
    distances = pair_distances(model, pack, device)
    accuracies = verification.fold_accuracies(distances, pack.same, folds_of(pack, folds))
    return 100 * float(accuracies.mean())


def folds_of(pack: Pack, folds: int) -> NDArray[np.integer]:
    """The fold (P,) of each pair: its list's own, or so many contiguous ones."""
    assert pack.same is not None, "a verification pack"
    return fold_of_pairs(len(pack.same), folds) if pack.fold is None else pack.fold


def check_pairs(pack: Pack, folds: int) -> None:
    """Refuse a pack on whose pairs no accuracy over folds can be had.

    Raises:
        InputError: fewer pairs than folds, pairs of one class only, or all of one class before the
            other where folds are made of the order.
    """
    assert pack.same is not None, "a verification pack"
    if len(pack.same) < folds and pack.fold is None:
        raise InputError(pack.path, found=f"{len(pack.same)} pairs", expected=f"{folds} folds")
    if pack.same.all() or not pack.same.any():
        found = f"{'genuine' if pack.same.any() else 'impostor'} pairs only"
        raise InputError(pack.path, found=found, expected="genuine and impostor pairs")
    if pack.fold is None and len(pack.same) > 2 * folds and in_two_blocks(pack.same):
        found = "all pairs of one kind, then those of the other: a fold has one kind alone"
        raise InputError(pack.path, found=found, expected=f"both in each fold. {WITH_FOLDS}")


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
        scores: HDF5 to write, a `ScoreTable` of cosines.
        metrics: JSON to write, a `Metrics` record.
        threads: CPU threads.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: a pack of another size than the model takes, or too few pairs for the folds.
    """
    found, network, record = score_packs(
        settings, model=model, packs=packs, threads=threads, device=device
    )
    table, size = found.table, size_of(network, found.packs[0].image_size)
    read = {model: record.weights_sha256} | {pack.path: pack.sha256 for pack in found.packs}
    made = {path: provenance_of("evaluate", settings, read, path) for path in (scores, metrics)}
    with replacing(scores, metrics) as (scores_part, metrics_part):
        write_hdf5(table, scores_part, made[scores])
        told = metrics_of(table, record, made[metrics], size)
        metrics_part.write_text(told.text(), encoding="utf-8")


def metrics_of(
    table: ScoreTable, record: ModelRecord, made: Provenance, network: NetworkSize | None = None
) -> Metrics:
    """What a model scored, by the paper's protocol and with one threshold for all groups."""
    return Metrics(
        subject=record.subject,
        weights_sha256=record.weights_sha256,
        own_threshold=fairness_of(table, "own"),
        shared_threshold=fairness_of(table, "shared"),
        network=network,
        provenance=made,
    )


class ScoredPacks(NamedTuple):
    """The pairs of verification packs as a model sees them, and the images of all packs (N,)."""

    table: ScoreTable
    packs: Sequence[Pack]
    embeddings: Sequence[NDArray[Any]]  # floating point, of each pack's images
    person: NDArray[np.int64]  # (N,), places in the table's `identities`
    group: NDArray[np.int64]  # (N,), places in the table's `groups`


def score_packs(
    settings: EvaluationSettings,
    *,
    model: Path,
    packs: Sequence[Path],
    threads: int = 1,
    device: str = "auto",
) -> tuple[ScoredPacks, Backbone, ModelRecord]:
    """The cosines of all pairs of verification packs, a group each, by a model; and the model.

    Args:
        settings: as `evaluate`.
        model: weights of a teacher or student.
        packs: verification packs.
        threads: CPU threads.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: a pack of another size than the model takes, or too few pairs for the folds.
    """
    where = configure(device, threads, deterministic=settings.deterministic or False)
    network, record = load_backbone(model)
    extractor = Extractor(network, where)
    opened = open_tested(packs, settings.folds, {model: record.image_size})
    embeddings = [embed_with_mirror(extractor, pack.images, where) for pack in opened]
    return scored_packs(opened, embeddings, settings.folds), network, record


def scored_packs(
    packs: Sequence[Pack], embeddings: Sequence[NDArray[Any]], folds: int
) -> ScoredPacks:
    """The cosines of all pairs of verification packs, a group each.

    Args:
        packs: of `open_tested`.
        embeddings: floating point (N, D), of each pack's images.
        folds: of lists that have none.

    Raises:
        InputError: embeddings that are not finite, or zero.
    """
    distances = [distances_of(*both) for both in zip(embeddings, packs, strict=True)]
    table = score_table(packs, distances, folds)
    number = {name: place for place, name in enumerate(table.identities)}
    person = [
        np.array([number[name] for name in _named(pack, pack.identity_names)])[pack.identity]
        for pack in packs
    ]
    group = np.repeat(np.arange(len(packs)), [len(one) for one in embeddings])
    return ScoredPacks(table, packs, embeddings, np.concatenate(person), group)


def open_tested(packs: Sequence[Path], folds: int, models: Mapping[Path, int | None]) -> list[Pack]:
    """Verification packs, a group each, on whose pairs models of some image sizes can be scored.

    Raises:
        InputError: a pack of another size than a model takes, or too few pairs for the folds.
    """
    opened = [open_pack(path, "verification") for path in packs]
    pack_hashes(opened)
    size = one_image_size(opened)
    for model, wanted in models.items():
        if wanted != size:
            found, expected = f"{size} pixels", f"{wanted} pixels as {model}"
            raise InputError(opened[0].path, found=found, expected=expected)
    for pack in opened:
        check_pairs(pack, folds)
    return opened


def score_table(
    packs: Sequence[Pack], distances: Sequence[NDArray[np.float64]], folds: int
) -> ScoreTable:
    """The pairs of all packs, a group each, with the cosines of unit embeddings."""
    identities, images = _Names(), _Names()
    sides: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []
    for pack in packs:
        person = identities.codes(_named(pack, pack.identity_names))
        image = images.codes(_named(pack, pack.image_paths()))
        assert pack.pairs is not None, "a verification pack"
        sides.append((person[pack.identity[pack.pairs]], image[pack.pairs]))
    same = [pack.same for pack in packs if pack.same is not None]
    sizes = [len(part) for part in same]
    group = np.repeat(np.arange(len(packs), dtype=np.int16), sizes)
    person, image = (np.concatenate(parts) for parts in zip(*sides, strict=True))
    return ScoreTable(
        similarity=1 - np.concatenate(distances) / 2,
        same=np.concatenate(same),
        fold=np.concatenate([folds_of(pack, folds) for pack in packs]).astype(np.int16),
        group1=group,
        group2=group,
        groups=tuple(pack.group for pack in packs),
        identity1=person[:, 0].copy(),
        identity2=person[:, 1].copy(),
        identities=tuple(identities),
        image1=image[:, 0].copy(),
        image2=image[:, 1].copy(),
        images=tuple(images),
    )


def _named(pack: Pack, names: Sequence[str]) -> list[str]:
    """Names made up for want of others mean persons, and images, of their own file alone."""
    prefix = f"{pack.group}/" if are_made_up(pack.identity_names) else ""
    return [f"{prefix}{name}" for name in names]


class _Names(dict[str, int]):
    """Names in the order in which they came, each with its number."""

    def codes(self, names: Iterable[str]) -> NDArray[np.int32]:
        return np.array([self.setdefault(name, len(self)) for name in names], np.int32)
