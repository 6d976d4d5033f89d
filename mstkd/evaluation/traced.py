"""Images of one's own, traced: whose their fused embeddings are, and the similarity of two."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mstkd.artifacts.contents import read_attribute
from mstkd.artifacts.records import ModelRecord, Source, read_record
from mstkd.artifacts.sealed import DAMAGE, reading
from mstkd.compute.numerics import configure
from mstkd.data.given import aligned_face
from mstkd.embeddings.cache import Cache, open_cache
from mstkd.embeddings.tracing import (
    MOST_TEACHERS,
    embedding_shares,
    fused_parts,
    shapley,
    similarity_shares,
    worths,
)
from mstkd.errors import InputError
from mstkd.evaluation.fused import ABSENT, absent_block, load_fusion, load_teachers, teacher_blocks
from mstkd.evaluation.shares import (
    NO_TEACHER,
    Shares,
    TracedImage,
    TracedImages,
    TracedPair,
)
from mstkd.models.weights import record_path


class Fusion(NamedTuple):
    """The files that make an image's fused embedding."""

    adaptor: Path
    cache: Path
    teachers: list[Path]


def trace_images(
    images: Sequence[Path],
    fusion: Fusion,
    *,
    threads: int = 1,
    device: str = "auto",
) -> TracedImages:
    """Trace the fused embeddings of images, and with two of them their similarity.

    Args:
        images: aligned faces, of the size that the teachers take.
        fusion: of `find_fusion`.
        threads: CPU threads.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: a file that is not what it must be, or files that do not belong together.
    """
    where = configure(device, threads, deterministic=False)
    cache = open_cache(fusion.cache)
    adaptor = load_fusion(fusion.adaptor, cache)
    extractors, records = load_teachers(fusion.teachers, cache, where)
    sizes = {record.image_size for record in records.values()}
    pixels = np.stack([aligned_face(path, max(filter(None, sizes))) for path in images])
    # As float64, so that terms add up to what they are the terms of.
    blocks = teacher_blocks(extractors, pixels, where).double()
    network = adaptor.network.to(where).double()
    parts = fused_parts(network, blocks)
    ends = torch.arange(2, device=where)[None] if len(images) == 2 else torch.empty(0, 2).long()
    of_images = embedding_shares(parts)
    found = None
    if len(cache.teachers) <= MOST_TEACHERS:
        found = worths(network, blocks, absent_block(cache).to(where).double(), ends.to(where))
    pair = None
    if len(images) == 2:
        of_pair = similarity_shares(parts.rows(ends[:, 0]), parts.rows(ends[:, 1]))[0]
        pair = TracedPair(
            similarity=float(of_pair.sum()),
            projection=_named(of_pair, cache),
            shapley=None if found is None else _values(found.similarity[:, 0], cache),
        )
    return TracedImages(
        adaptor=adaptor.name,
        teachers=list(cache.teachers),
        absent=ABSENT,
        images=[
            TracedImage(
                image=str(path),
                projection=_named(of_images[row], cache),
                shapley=None if found is None else _values(found.embedding[:, row], cache),
            )
            for row, path in enumerate(images)
        ],
        pair=pair,
    )


def _values(worth: Tensor, cache: Cache) -> Shares:
    return _named(torch.cat([shapley(worth), worth[:1]]), cache)


def _named(shares: Tensor, cache: Cache) -> Shares:
    return dict(zip((*cache.teachers, NO_TEACHER), shares.tolist(), strict=True))


# ---------------------------------------------------------------- which files


def find_fusion(
    *,
    student: Path | None = None,
    adaptor: Path | None = None,
    cache: Path | None = None,
    teachers: Sequence[Path] = (),
) -> Fusion:
    """The files that a student was taught from, or an adaptor was trained on.

    What is not given is looked up in the records of what is, and must lie where it was read.

    Args:
        student: weights of a student, in place of `adaptor`.
        adaptor: weights of an adaptor.
        cache: its embedding cache.
        teachers: weights of the teachers, in block order.

    Raises:
        InputError: neither or both of the first two, a student of no adaptor, or a record that
            does not say, or names a file that is gone.
    """
    if (student is None) == (adaptor is None):
        found = "neither" if student is None else "both"
        raise InputError("trace", found=found, expected="--student or --adaptor")
    if student is not None:
        record = read_record(ModelRecord, record_path(student))
        adaptor = _source(student, record.sources, record.inputs.get("adaptor"), "--adaptor")
    assert adaptor is not None
    record = read_record(ModelRecord, record_path(adaptor))
    if cache is None:
        cache = _source(adaptor, record.sources, record.inputs.get("embeddings"), "--cache")
    if not teachers:
        try:
            with reading(cache) as file:
                made = read_attribute(cache, file)
        except DAMAGE as error:
            found = " ".join(str(error).split())
            raise InputError(cache, found=found, expected="an embedding cache") from None
        sources = [] if made is None else made.sources
        teachers = [
            _source(cache, [one], one.sha256, "--teachers")
            for one in sources
            if Path(one.path).suffix == ".safetensors"
        ]
    return Fusion(adaptor, cache, list(teachers))


def _source(of: Path, sources: Sequence[Source], sha256: str | None, option: str) -> Path:
    """The file with this hash that something was made from."""
    found = next((one for one in sources if one.sha256 == sha256), None)
    if found is None:
        told = f"no such file among what it was made from; {option} names one"
        raise InputError(of, found=told, expected="a model of multi-teacher distillation")
    path = Path(os.path.normpath(of.parent / found.path))
    if not path.is_file():
        expected = f"the file that {of} was made from; {option} says where it is"
        raise InputError(path, found="no such file", expected=expected)
    return path
