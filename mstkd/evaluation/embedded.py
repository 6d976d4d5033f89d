"""Embeddings of images as others keep them, and the scores of pairs of these images.

Shapes: N images, D embedding dimension, P pairs.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mstkd.artifacts.provenance import hashed
from mstkd.artifacts.sealed import DAMAGE, own_dataset, reading
from mstkd.artifacts.sources import provenance_of
from mstkd.config import AuditSettings
from mstkd.data.formats.columns import TextColumns, Texts
from mstkd.errors import InputError
from mstkd.evaluation.auditing.all_impostors import EmbeddedImages, images_of
from mstkd.evaluation.scorefiles import score_pairs, write_scores
from mstkd.evaluation.scores import ScoreTable
from mstkd.evaluation.verification import squared_distances

EXPECTED = "an .npz or HDF5 file of `embeddings` (N, D) and their `images` (N,)"
# What may be unpacked: names of images shrink to a tenth.
BESIDE_THE_FILE, TIMES_THE_FILE = 100 << 20, 20


@dataclass(frozen=True, eq=False)
class Embeddings:
    """`vectors` floating point (N, D) of the images that `images` (N,) names."""

    path: Path
    vectors: NDArray[Any]
    images: tuple[str, ...]


def score_embeddings(
    settings: AuditSettings,
    *,
    embeddings: Path,
    pairs: Path,
    output: Path,
    attributes: Path | None = None,
) -> tuple[ScoreTable, EmbeddedImages | str]:
    """Write the cosines of pairs as a table of scores.

    Args:
        settings: which columns make groups, and how many folds a list without any gets.
        embeddings: as `read_embeddings`.
        pairs: a CSV of pairs as `scorefiles.score_pairs` takes.
        output: the table, ending in .h5.
        attributes: a CSV of further columns of the pairs.

    Returns:
        The table, and its images, or why they cannot be paired otherwise than it pairs them.

    Raises:
        InputError: a fault of a file, or a pair of an image that has no embedding.
    """
    found = read_embeddings(embeddings)
    table = score_pairs(
        pairs,
        lambda file: _cosines(found, file),
        group=settings.group,
        attributes=attributes,
        folds=settings.folds,
    )
    read = hashed([embeddings, pairs, *([] if attributes is None else [attributes])])
    write_scores(table, output, provenance_of("audit", settings, read, output))
    row_of = {name: row for row, name in enumerate(found.images)}
    return table, images_of(table, found.vectors[[row_of[name] for name in table.images]])


def read_embeddings(path: Path) -> Embeddings:
    """Embeddings with the names of their images, from .npz or HDF5.

    Raises:
        InputError: no such file, another kind of file, shapes that do not fit, an image twice, or
            an embedding that is zero or not finite.
    """
    if not path.is_file():
        raise InputError(path, found="no such file", expected=EXPECTED)
    vectors, images = _read_hdf5(path) if h5py.is_hdf5(path) else _read_npz(path)
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or len(images) != len(vectors):
        found = f"embeddings {vectors.dtype} {vectors.shape} of {len(images):,} images"
        raise InputError(path, found=found, expected="floating point (N, D) of N images")
    twice = len(images) - len(set(images))
    if twice:
        raise InputError(path, found=f"{twice:,} of the names again", expected="each image once")
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        row = int(bad[0])
        kind = "zero" if lengths[row] == 0 else "not finite"
        where = f"{path}: row {row} of `embeddings`, {images[row]!r}"
        raise InputError(where, found=f"one that is {kind}", expected="a direction")
    return Embeddings(path, vectors, tuple(images))


def _read_npz(path: Path) -> tuple[NDArray[Any], list[str]]:
    try:
        with zipfile.ZipFile(path) as parts:
            _refuse_larger(path, sum(part.file_size for part in parts.infolist()))
        with np.load(path, allow_pickle=False) as file:
            return np.asarray(file["embeddings"]), [str(name) for name in file["images"]]
    except (*DAMAGE, EOFError, zipfile.BadZipFile, zlib.error) as error:
        found = " ".join(str(error).split()) or "another kind of file"
        raise InputError(path, found=found, expected=EXPECTED) from None


def _read_hdf5(path: Path) -> tuple[NDArray[Any], list[str]]:
    try:
        with reading(path, look=_look_at_hdf5) as file:
            return _held_in_hdf5(path, file)
    except (*DAMAGE, AttributeError) as error:
        raise InputError(path, found=" ".join(str(error).split()), expected=EXPECTED) from None


def _look_at_hdf5(path: Path) -> None:
    with h5py.File(path, "r", locking=False) as file:
        _held_in_hdf5(path, file)


def _held_in_hdf5(path: Path, file: Any) -> tuple[NDArray[Any], list[str]]:
    vectors, images = (own_dataset(file, name) for name in ("embeddings", "images"))
    if images.ndim != 1:
        raise ValueError(f"images {images.shape}")
    held = vectors.nbytes + images.nbytes
    _refuse_larger(path, held)
    for one in (vectors, images):  # a chunk is unpacked whole, however little of it is filled
        _refuse_larger(path, math.prod(one.chunks or ()) * one.dtype.itemsize)
    # Names of variable length say nowhere how long they are together, and many may be one text of
    # the file: so many at a time as cannot be more than may be unpacked.
    names: list[str] = []
    at_once = max(1, _most(path) // path.stat().st_size)
    for begin in range(0, len(images), at_once):
        some = images.asstr()[begin : begin + at_once].tolist()
        held += sum(map(len, some))
        _refuse_larger(path, held)
        names += some
    return np.asarray(vectors[:]), names


def _most(path: Path) -> int:
    """How many bytes may be unpacked of a file."""
    return BESIDE_THE_FILE + TIMES_THE_FILE * path.stat().st_size


def _refuse_larger(path: Path, size: int) -> None:
    """Embeddings hardly shrink: a small file that says it holds many is no honest one."""
    most = _most(path)
    if size > most:
        found = f"{size:,} bytes once unpacked"
        raise InputError(path, found=found, expected=f"{most:,} at most, by its size")


def _cosines(embeddings: Embeddings, file: TextColumns) -> NDArray[np.float64]:
    """Of the pairs of a file, (P,)."""
    row_of = {name: row for row, name in enumerate(embeddings.images)}
    ends = [_rows(row_of, file.texts(name), file, embeddings.path) for name in ("image1", "image2")]
    return 1 - squared_distances(*(embeddings.vectors[rows] for rows in ends)) / 2


def _rows(row_of: dict[str, int], names: Texts, file: TextColumns, path: Path) -> NDArray[np.int64]:
    rows = np.array([row_of.get(name, -1) for name in names])
    missing = np.flatnonzero(rows < 0)
    if len(missing):
        row = int(missing[0])
        found = f"the image {names[row]!r}, which {path} has not"
        raise InputError(file.at(row), found=found, expected="an embedding of every image")
    return rows
