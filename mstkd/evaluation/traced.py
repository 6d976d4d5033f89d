"""Images of one's own, traced: whose their fused embeddings are, and the similarity of two."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mstkd.artifacts.confined import inside
from mstkd.artifacts.contents import read_attribute
from mstkd.artifacts.records import ModelRecord, Source, read_record
from mstkd.artifacts.sealed import DAMAGE, reading
from mstkd.compute.numerics import configure
from mstkd.data.given import aligned_face
from mstkd.embeddings.cache import open_cache
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


class Tracer:
    """The networks that make fused embeddings, ready to trace images."""

    def __init__(self, fusion: Fusion, *, threads: int = 1, device: str = "auto") -> None:
        """Read them; the cache is read whole, and its mean block kept.

        Args:
            fusion: of `find_fusion`.
            threads: CPU threads.
            device: "auto", "cpu" or "cuda".

        Raises:
            InputError: a file that is not what it must be, or files that do not belong together.
        """
        self._device = configure(device, threads, deterministic=False)
        cache = open_cache(fusion.cache)
        adaptor = load_fusion(fusion.adaptor, cache)
        self._extractors, records = load_teachers(fusion.teachers, cache, self._device)
        self.image_size = max(filter(None, {record.image_size for record in records.values()}))
        self._adaptor, self._teachers = adaptor.name, adaptor.teachers
        self._columns = adaptor.columns
        # As float64, so that terms add up to what they are the terms of.
        self._network = adaptor.network.to(self._device).double()
        self._absent = absent_block(cache)[adaptor.columns].to(self._device).double()

    def traced(self, pixels: NDArray[np.uint8], names: Sequence[str]) -> TracedImages:
        """Trace the fused embeddings of images, and with two of them their similarity.

        Args:
            pixels: (N, H, H, 3) RGB, where H is `image_size`.
            names: what each is called.
        """
        every = teacher_blocks(self._extractors, pixels, self._device)
        blocks = every[:, self._columns].double()
        parts = fused_parts(self._network, blocks)
        many = torch.arange(2)[None] if len(pixels) == 2 else torch.empty(0, 2).long()
        ends = many.to(self._device)
        of_images = embedding_shares(parts)
        found = None
        if len(self._teachers) <= MOST_TEACHERS:
            found = worths(self._network, blocks, self._absent, ends)
        pair = None
        if len(pixels) == 2:
            of_pair = similarity_shares(parts.rows(ends[:, 0]), parts.rows(ends[:, 1]))[0]
            pair = TracedPair(
                similarity=float(of_pair.sum()),
                projection=self._named(of_pair),
                shapley=None if found is None else self._values(found.similarity[:, 0]),
            )
        return TracedImages(
            adaptor=self._adaptor,
            teachers=list(self._teachers),
            absent=ABSENT,
            images=[
                TracedImage(
                    image=name,
                    projection=self._named(of_images[row]),
                    shapley=None if found is None else self._values(found.embedding[:, row]),
                )
                for row, name in enumerate(names)
            ],
            pair=pair,
        )

    def _values(self, worth: Tensor) -> Shares:
        return self._named(torch.cat([shapley(worth), worth[:1]]))

    def _named(self, shares: Tensor) -> Shares:
        return dict(zip((*self._teachers, NO_TEACHER), shares.tolist(), strict=True))


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
    tracer = Tracer(fusion, threads=threads, device=device)
    pixels = np.stack([aligned_face(path, tracer.image_size) for path in images])
    return tracer.traced(pixels, [str(path) for path in images])


# ---------------------------------------------------------------- which files


def find_fusion(
    *,
    student: Path | None = None,
    adaptor: Path | None = None,
    cache: Path | None = None,
    teachers: Sequence[Path] = (),
    within: Path | None = None,
) -> Fusion:
    """The files that a student was taught from, or an adaptor was trained on.

    What is not given is looked up in the records of what is, and must lie where it was read.

    Args:
        student: weights of a student, in place of `adaptor`.
        adaptor: weights of an adaptor.
        cache: its embedding cache.
        teachers: weights of the teachers, in block order.
        within: a folder outside of which no file that a record names is opened.

    Raises:
        InputError: neither or both of the first two, a student of no adaptor, or a record that
            does not say, or names a file that is gone or lies outside.
    """
    if (student is None) == (adaptor is None):
        found = "neither" if student is None else "both"
        raise InputError("trace", found=found, expected="--student or --adaptor")
    if student is not None:
        record = read_record(ModelRecord, record_path(student))
        adaptor = _source(
            student, record.sources, record.inputs.get("adaptor"), "--adaptor", within
        )
    assert adaptor is not None
    record = read_record(ModelRecord, record_path(adaptor))
    if cache is None:
        cache = _source(adaptor, record.sources, record.inputs.get("embeddings"), "--cache", within)
    if not teachers:
        try:
            with reading(cache) as file:
                made = read_attribute(cache, file)
        except DAMAGE as error:
            found = " ".join(str(error).split())
            raise InputError(cache, found=found, expected="an embedding cache") from None
        sources = [] if made is None else made.sources
        teachers = [
            _source(cache, [one], one.sha256, "--teachers", within)
            for one in sources
            if Path(one.path).suffix == ".safetensors"
        ]
    return Fusion(adaptor, cache, list(teachers))


def _source(
    of: Path, sources: Sequence[Source], sha256: str | None, option: str, within: Path | None
) -> Path:
    """The file with this hash that something was made from."""
    found = next((one for one in sources if one.sha256 == sha256), None)
    if found is None:
        told = f"no such file among what it was made from; {option} names one"
        raise InputError(of, found=told, expected="a model of multi-teacher distillation")
    path = Path(os.path.normpath(of.parent / found.path))
    if within is not None:
        path = inside(path, within)
        inside(record_path(path), within)
    if not path.is_file():
        expected = f"the file that {of} was made from; {option} says where it is"
        raise InputError(path, found="no such file", expected=expected)
    record = record_path(path)
    if record.exists() and not record.is_file():  # whoever opens a pipe may wait for ever
        raise InputError(record, found="no plain file", expected=f"the record of {path}")
    return path
