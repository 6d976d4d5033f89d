"""The fused spaces of a set of teachers on the verification pairs: scores, and whose they are.

The public code scores no fused space. Here it is scored as a teacher or a student is: of each
image the sum of the un-normalised embeddings of image and mirror image, of each teacher, brought to
unit length as in the cache; these side by side through the adaptor.

Shapes: N images, T teachers, D dimensions of a teacher's embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mstkd.artifacts.atomic import replacing
from mstkd.artifacts.records import ModelRecord, Provenance
from mstkd.artifacts.sources import provenance_of
from mstkd.compute.numerics import configure
from mstkd.config import EvaluationSettings
from mstkd.data.pack import Images, Pack
from mstkd.embeddings.cache import Cache, open_cache
from mstkd.embeddings.embed import Extractor, embed_with_mirror
from mstkd.embeddings.tracing import (
    MOST_TEACHERS,
    embedding_shares,
    fused_parts,
    shapley,
    similarity_shares,
    worths,
)
from mstkd.errors import InputError
from mstkd.evaluation.evaluate import distances_of, metrics_of, open_tested, score_table
from mstkd.evaluation.intervals import Interval
from mstkd.evaluation.scorefiles import write_hdf5
from mstkd.evaluation.shares import (
    NO_TEACHER,
    Measure,
    Method,
    PairShares,
    Share,
    Tracing,
    mean_shares,
)
from mstkd.models.adaptors import DLDP, SL, DuL
from mstkd.models.weights import fused_teachers, load_adaptor, load_backbone, record_path

ABSENT = "the mean block of the embedding cache, over all training images"


@dataclass(frozen=True, eq=False)
class Adaptor:
    """A trained adaptor."""

    path: Path
    network: SL | DuL | DLDP
    record: ModelRecord
    teachers: tuple[str, ...]  # that it fuses, in block order
    columns: NDArray[np.intp]  # of the blocks of all teachers, those that it takes

    @property
    def name(self) -> str:
        return self.record.subject.name


def trace_adaptors(
    settings: EvaluationSettings,
    *,
    teachers: Sequence[Path],
    adaptors: Sequence[Path],
    packs: Sequence[Path],
    cache: Path,
    outputs: Sequence[Path],
    output: Path,
    threads: int = 1,
    device: str = "auto",
) -> None:
    """Score the fused spaces of a set of teachers, and trace them to the teachers.

    Args:
        settings: the number of folds.
        teachers: weights of the set, in block order.
        adaptors: weights of adaptors of these teachers.
        packs: verification packs, in the experiment's group order.
        cache: the set's embedding cache, whose mean block stands for an absent teacher.
        outputs: metrics.json of each adaptor; scores.h5 appears beside it.
        output: JSON to write, a `Tracing` record.
        threads: CPU threads.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: files that do not belong together, packs of another size than the teachers
            take, or too few pairs for the folds.
    """
    if len(outputs) != len(adaptors):
        found, expected = f"{len(outputs)} files", f"{len(adaptors)}, one an adaptor"
        raise InputError("--outputs", found=found, expected=expected)
    where = configure(device, threads, deterministic=settings.deterministic or False)
    cached = open_cache(cache)
    extractors, records = load_teachers(teachers, cached, where)
    fusions = [load_fusion(path, cached) for path in adaptors]
    sizes = {path: record.image_size for path, record in records.items()}
    opened = open_tested(packs, settings.folds, sizes)
    blocks = [teacher_blocks(extractors, pack.images, where) for pack in opened]
    absent = absent_block(cached).to(where)
    read = {path: record.weights_sha256 for path, record in records.items()}
    read |= {one.path: one.record.weights_sha256 for one in fusions}
    read |= {pack.path: pack.sha256 for pack in opened} | {cache: cached.sha256}

    def made(path: Path) -> Provenance:
        return provenance_of("trace-adaptors", settings, read, path)

    scores = [path.with_name("scores.h5") for path in outputs]
    shares: list[Share] = []
    with replacing(*scores, *outputs, output) as parts:
        for number, one in enumerate(fusions):
            network = one.network.to(where)
            with torch.no_grad():
                fused = [network(of_pack[:, one.columns]).cpu().numpy() for of_pack in blocks]
            distances = [
                distances_of(of_pack, pack) for of_pack, pack in zip(fused, opened, strict=True)
            ]
            table = score_table(opened, distances, settings.folds)
            write_hdf5(table, parts[number], made(scores[number]))
            told = metrics_of(table, one.record, made(outputs[number]))
            parts[len(fusions) + number].write_text(told.text(), encoding="utf-8")
            network.double()  # so that terms add up to what they are the terms of
            for pack, of_pack in zip(opened, blocks, strict=True):
                own = (of_pack[:, one.columns].double(), absent[one.columns].double())
                shares += _shares(one, pack, *own)
        parts[-1].write_text(
            Tracing(
                backbone=str(cached.subject["backbone"]),
                set=str(cached.subject["set"]),
                seed=int(cached.subject["seed"]),
                groups=[pack.group for pack in opened],
                teachers=list(cached.teachers),
                adaptors=[one.name for one in fusions],
                faces={pack.group: len(pack.images) for pack in opened},
                identities={pack.group: len(pack.identity_names) for pack in opened},
                pairs={pack.group: len(_pairs(pack)) for pack in opened},
                absent=ABSENT,
                shares=shares,
                provenance=made(output),
            ).text(),
            encoding="utf-8",
        )


# ---------------------------------------------------------------- what is read


def load_teachers(
    teachers: Sequence[Path], cache: Cache, device: torch.device
) -> tuple[list[Extractor], Mapping[Path, ModelRecord]]:
    """The teachers whose embeddings a cache holds, ready to embed.

    Raises:
        InputError: other weights than the cache was made by, or in another order.
    """
    loaded = [load_backbone(path) for path in teachers]
    found = tuple(record.weights_sha256 for _, record in loaded)
    if found != cache.weights:
        names = ", ".join(record.subject.name for _, record in loaded)
        expected = f"{', '.join(cache.teachers)}, by whose weights {cache.path} was made"
        raise InputError("teachers", found=names, expected=expected)
    records = {path: record for path, (_, record) in zip(teachers, loaded, strict=True)}
    return [Extractor(network, device) for network, _ in loaded], records


def load_fusion(path: Path, cache: Cache) -> Adaptor:
    """An adaptor that was trained on a cache.

    Raises:
        InputError: it was trained on another, or fuses a teacher that is not there.
    """
    network, record = load_adaptor(path, len(cache.teachers))
    if record.inputs.get("embeddings") != cache.sha256:
        found, expected = "an adaptor of other embeddings", f"one trained on those of {cache.path}"
        raise InputError(record_path(path), found=found, expected=expected)
    chosen = fused_teachers(record) or cache.teachers
    teachers = tuple(name for name in cache.teachers if name in chosen)
    return Adaptor(path, network, record, teachers, cache.columns(chosen))


def teacher_blocks(
    extractors: Sequence[Extractor], images: Images | NDArray[np.uint8], device: torch.device
) -> Tensor:
    """Unit embeddings of image plus mirror image (N, T * D), float32 on the device.

    `images` are uint8 (N, H, H, 3).
    """
    sums = (embed_with_mirror(one, images, device) for one in extractors)
    units = [functional.normalize(torch.from_numpy(one)) for one in sums]
    return torch.cat(units, dim=1).to(device)


def absent_block(cache: Cache) -> Tensor:
    """What stands in the blocks of absent teachers (T * D,), float32: the mean over all images."""
    return torch.from_numpy(cache.embeddings.mean(axis=0, dtype=np.float64)).float()


# ---------------------------------------------------------------- whose they are


def _shares(adaptor: Adaptor, pack: Pack, blocks: Tensor, absent: Tensor) -> Iterator[Share]:
    """The shares of the teachers that are fused in the faces and pairs of one group."""
    teachers = adaptor.teachers
    pairs = torch.from_numpy(_pairs(pack).astype(np.int64)).to(blocks.device)
    parts = fused_parts(adaptor.network, blocks)
    ends = parts.rows(pairs[:, 0]), parts.rows(pairs[:, 1])
    found: dict[Method, tuple[Tensor, Tensor]] = {
        "projection": (embedding_shares(parts), similarity_shares(*ends))
    }
    if len(teachers) <= MOST_TEACHERS:
        of_faces, of_pairs = worths(adaptor.network, blocks, absent, pairs)
        found["Shapley"] = (_with_none(of_faces), _with_none(of_pairs))
    identity = pack.identity[_pairs(pack)]
    assert pack.same is not None, "a verification pack"
    for method, (of_faces, of_pairs) in found.items():
        told: dict[Measure, Interval] = {
            "embedding": mean_shares(of_faces.cpu().numpy(), pack.identity)
        }
        shares = PairShares(of_pairs.cpu().numpy(), pack.same, identity[:, 0], identity[:, 1])
        told |= {one: shares.of(one) for one in ("genuine", "impostor", "separation")}
        for measure, interval in told.items():
            for place, teacher in enumerate((*teachers, NO_TEACHER)):
                value, low, high = (_known(part[place]) for part in interval)
                yield Share(
                    adaptor=adaptor.name,
                    measure=measure,
                    method=method,
                    group=pack.group,
                    teacher=teacher,
                    value=value,
                    low=low,
                    high=high,
                )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _with_none(worth: Tensor) -> Tensor:
    """Shapley values (N, T + 1) of a worth (2^T, N); last what it is without any teacher."""
    return torch.cat([shapley(worth), worth[:1]]).T


def _pairs(pack: Pack) -> NDArray[np.integer]:
    assert pack.pairs is not None, "a verification pack"
    return pack.pairs
