"""The cache of all teachers' embeddings, side by side (section 4.3).

Shapes: N images, D embedding dimension, T teachers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mstkd import __version__
from mstkd.artifacts.atomic import make_folder, naming, replacing
from mstkd.artifacts.contents import ATTRIBUTE, attribute, read_attribute
from mstkd.artifacts.records import ModelRecord, Provenance
from mstkd.artifacts.sealed import (
    CHECKSUMS,
    DAMAGE,
    OFFSETS,
    Sealed,
    attribute_of,
    create,
    is_as_written,
    piece_checksum,
    reading,
    reserve,
    seal,
    writing,
)
from mstkd.artifacts.sources import provenance_of
from mstkd.artifacts.writers import only_writer
from mstkd.compute.devices import precision_on
from mstkd.compute.numerics import configure
from mstkd.config import CacheSettings
from mstkd.data.loader import one_image_size, pack_hashes
from mstkd.data.pack import Pack, open_pack
from mstkd.embeddings.embed import BATCH, WORTH_COMPILING, Extractor, unit_embeddings
from mstkd.errors import InputError, anew
from mstkd.models.weights import load_backbone
from mstkd.progress import progress, say

FORMAT, VERSION = "mstkd-embeddings", 2
DTYPES = ("float16", "float32")
UNFINISHED = "0" * 64
WHOLE = "an embedding cache"
LABEL_BYTES = 8  # an image
MIRRORED = "mirrored"  # the attribute of a cache of mirror images


@dataclass(frozen=True)
class Cache:
    """An open embedding cache.

    `embeddings` (N, T * D) float16 or float32 in memory, each teacher's block of unit length,
    row i the image i of the packs laid end to end; `labels` int64 (N,) number the identities of
    all groups; `packs` are the hashes of the packs by group, in their order. `sha256` is of the
    whole file, whichever of its teachers are chosen.
    """

    path: Path
    embeddings: NDArray[np.floating]
    labels: NDArray[np.int64]
    teachers: tuple[str, ...]
    weights: tuple[str, ...]  # SHA-256 of each teacher's
    subject: dict[str, str | int]  # backbone, set and seed
    packs: dict[str, str]
    sha256: str
    mirrored: bool = False  # of each image's mirror image

    def columns(self, teachers: Sequence[str]) -> NDArray[np.intp]:
        """Where the blocks of some teachers stand, in the cache's order, (T * D,).

        Raises:
            InputError: a name is not one of its teachers.
        """
        for name in teachers:
            if name not in self.teachers:
                expected = f"one of {', '.join(self.teachers)}"
                raise InputError(self.path, found=f"no teacher {name}", expected=expected)
        dim = self.embeddings.shape[1] // len(self.teachers)
        chosen = [name in teachers for name in self.teachers]
        return np.flatnonzero(np.repeat(chosen, dim))

    def of(self, teachers: Sequence[str] | None) -> Cache:
        """The same of some teachers alone; as it is, and not copied, of None or of all.

        Raises:
            InputError: as `columns`.
        """
        if teachers is None or set(teachers) == set(self.teachers):
            return self
        columns = self.columns(teachers)
        chosen = [place for place, name in enumerate(self.teachers) if name in teachers]
        return replace(
            self,
            embeddings=self.embeddings[:, columns],
            teachers=tuple(self.teachers[place] for place in chosen),
            weights=tuple(self.weights[place] for place in chosen),
        )


def cache_embeddings(
    settings: CacheSettings,
    *,
    teachers: Sequence[Path],
    packs: Sequence[Path],
    output: Path,
    threads: int = 1,
    device: str = "auto",
) -> None:
    """Write every teacher's normalised embedding of every training image, block by block.

    Of each image as it is stored, or of its mirror image where the settings say so.

    Args:
        settings: the type of the stored numbers.
        teachers: weights, in block order (section 4.3).
        packs: training packs, in the experiment's group order, or one of unlabelled images.
        output: the HDF5 cache.
        threads: CPU threads.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: teachers of different sets, backbones, seeds or dimensions, a teacher twice,
            or one that was trained on other packs than these.
    """
    where = configure(device, threads, deterministic=settings.deterministic or False)
    opened = [open_pack(path, "train", "unlabelled") for path in packs]
    one_image_size(opened)
    hashes = pack_hashes(opened)
    loaded = [load_backbone(path) for path in teachers]
    records = [record for _, record in loaded]
    _refuse_strangers(records, teachers)
    if all(pack.kind == "train" for pack in opened):
        _refuse_other_packs(records, teachers, hashes)
    weights = [record.weights_sha256 for record in records]
    read = dict(zip(teachers, weights, strict=True)) | {pack.path: pack.sha256 for pack in opened}
    made = provenance_of("cache-embeddings", settings, read, output)
    made = made.model_copy(update={"precision": precision_on(settings.precision, where)})
    make_folder(output.parent)
    with only_writer(output, made.model_dump_json()):
        if _is_made(output, made):
            say(f"{output}: is there already, of the same teachers and packs")
            return
        columns = int(records[0].settings["embedding_dim"]) * len(loaded)
        compiled = sum(len(pack.images) for pack in opened) * len(loaded) >= WORTH_COMPILING
        rows = sum(len(pack.images) for pack in opened)
        needed = rows * (columns * np.dtype(settings.dtype).itemsize + LABEL_BYTES)
        with replacing(output, needed=needed) as (part,):
            extractors = [
                Extractor(model, where, settings.precision, compiled=compiled)
                for model, _ in loaded
            ]
            write_cache(
                part,
                {
                    "teachers": json.dumps([record.subject.name for record in records]),
                    "weights": json.dumps(weights),
                    "packs": json.dumps(hashes),
                    "subject": json.dumps(_shared_subject(records)),
                    "package_version": __version__,
                    ATTRIBUTE: attribute(made),
                    **({MIRRORED: "true"} if settings.mirrored else {}),
                },
                _labels(opened),
                _blocks(extractors, records, opened, where, settings.mirrored or False),
                sizes=[
                    min(BATCH, len(pack.images) - begin)
                    for pack in opened
                    for begin in range(0, len(pack.images), BATCH)
                ],
                columns=columns,
                dtype=settings.dtype,
            )


def _is_made(output: Path, made: Provenance) -> bool:
    if not is_as_written(output, large=False):
        return False
    with reading(output) as file:
        if read_attribute(output, file) != made:
            return False
    return bool(is_as_written(output, large=True))


def write_cache(
    path: Path,
    attributes: Mapping[str, Any],
    labels: NDArray[np.int64],
    blocks: Iterable[NDArray[np.floating]],
    *,
    sizes: Sequence[int],
    columns: int,
    dtype: str,
) -> None:
    """Write a cache and read it again.

    Args:
        path: the file.
        attributes: what it says of itself; format, version and hash are added.
        labels: of all images, (N,).
        blocks: their embeddings (rows, columns), in order; each has a checksum.
        sizes: rows of each block.
        columns: teachers times dimensions.
        dtype: of the embeddings.

    Raises:
        InputError: the disk does not hold what was written.
    """
    attributes = {**attributes, "format": FORMAT, "version": VERSION, "sha256": UNFINISHED}
    datasets = {
        "labels": labels,
        OFFSETS: np.cumsum([0, *sizes], dtype=np.int64),
        CHECKSUMS: np.zeros(len(sizes), np.uint64),
    }
    told = [attributes[name] for name in ("teachers", "weights", "packs", "subject")]
    digest = hashlib.sha256(json.dumps([*told, dtype]).encode())
    digest.update(labels.tobytes())
    with writing(path, "w") as file:
        create(file, attributes, datasets)
        begin = reserve(file, "embeddings", (sum(sizes), columns), dtype)
    with naming(path), path.open("r+b") as file:
        file.seek(begin)
        for number, rows in enumerate(blocks):
            block = rows.astype(dtype, copy=False)
            datasets[CHECKSUMS][number] = piece_checksum(block)
            digest.update(block.data)
            file.write(block.data)
    attributes["sha256"] = digest.hexdigest()
    with writing(path, "r+") as file:
        seal(file, attributes, datasets)
    if not is_as_written(path, large=True):
        raise InputError(path, found="other bytes than were written", expected="a sound disk")


def _blocks(
    extractors: Sequence[Extractor],
    records: Sequence[ModelRecord],
    packs: Sequence[Pack],
    device: torch.device,
    mirrored: bool,
) -> Iterator[NDArray[np.floating]]:
    """The unit embeddings float32 (B, T * D) of each batch, the teachers' side by side."""
    total = len(extractors) * sum(len(pack.images) for pack in packs)
    with progress(f"embed {records[0].subject.set}", total, "images") as advance:
        for pack in packs:
            begin = 0
            streams = [
                unit_embeddings(one, pack.images, device, mirrored=mirrored) for one in extractors
            ]
            for units in zip(*streams, strict=True):
                for unit, record in zip(units, records, strict=True):
                    _refuse_no_direction(unit.numpy(), record, pack, begin)
                begin += len(units[0])
                advance(len(extractors) * len(units[0]))
                yield torch.cat(units, dim=1).numpy()


def _refuse_no_direction(
    units: NDArray[np.float32], record: ModelRecord, pack: Pack, begin: int
) -> None:
    """Refuse what no scaling brings to unit length, (B, D); the first is row `begin`."""
    lengths = np.linalg.norm(units, axis=1)
    bad = np.flatnonzero(~(lengths > 0.5))  # 1, 0 or no number
    if len(bad):
        row = begin + int(bad[0])
        raise InputError(
            f"teacher {record.subject.name}",
            found=f"an embedding that is {'zero' if lengths[bad[0]] == 0 else 'not finite'} of "
            f"image {row} of {pack.path} ({pack.image_paths()[row]})",
            expected="finite numbers that are not all zero",
        )


def open_cache(path: Path, packs: Sequence[Pack] | None = None) -> Cache:
    """Read a cache into memory.

    Args:
        path: the HDF5 file.
        packs: the packs that its rows must be of, if the caller reads images too.

    Raises:
        InputError: not a whole cache, or one of other packs or another pack order.
    """
    try:
        with reading(path) as file:
            cache = _read(path, file)
    except DAMAGE as error:
        found = " ".join(str(error).split())
        raise InputError(path, found=found, expected=anew(WHOLE, path)) from None
    if packs is not None:
        hashes = pack_hashes(packs)
        if list(hashes.items()) != list(cache.packs.items()):
            raise InputError(
                path,
                found=f"embeddings of the packs {_short(cache.packs)}",
                expected=f"of the packs {_short(hashes)}; the cache is stale or of other data",
            )
    return cache


def _read(path: Path, file: Any) -> Cache:
    if attribute_of(file, "format") != FORMAT:
        raise InputError(path, found="another kind of HDF5 file", expected=anew(WHOLE, path))
    version = attribute_of(file, "version")
    if version != VERSION:
        found = f"a cache of version {version}"
        raise InputError(path, found=found, expected=f"version {VERSION}: {WHOLE}")
    sealed = Sealed(path, file)
    attributes = sealed.attributes
    teachers = tuple(json.loads(attributes["teachers"]))
    kind, shape = str(sealed.large.dtype), sealed.large.shape
    if kind not in DTYPES or len(shape) != 2 or shape[1] % len(teachers):
        wanted = f"{' or '.join(DTYPES)} (N, {len(teachers)} times D)"
        raise InputError(path, found=f"embeddings {kind} {shape}", expected=f"embeddings {wanted}")
    sealed.expect(
        {
            "embeddings": (kind, shape),
            "labels": (np.int64, (shape[0],)),
            OFFSETS: (np.int64, (None,)),
            CHECKSUMS: (np.uint64, (len(sealed.datasets[OFFSETS]) - 1,)),
        }
    )
    sealed.compare()
    embeddings = np.empty(shape, kind)
    sealed.compare_large(into=embeddings)
    return Cache(
        path=path,
        embeddings=embeddings,
        labels=sealed.datasets["labels"],
        teachers=teachers,
        weights=tuple(json.loads(attributes["weights"])),
        subject=dict(json.loads(attributes["subject"])),
        packs=dict(json.loads(attributes["packs"])),
        sha256=str(attributes["sha256"]),
        mirrored=MIRRORED in attributes,
    )


def _shared_subject(records: Sequence[ModelRecord]) -> dict[str, str | int]:
    first = records[0].subject
    return {"backbone": first.backbone, "set": first.set, "seed": first.seed}


def _labels(packs: Sequence[Pack]) -> NDArray[np.int64]:
    """Identities numbered through all packs, (N,)."""
    parts, offset = [], 0
    for pack in packs:
        parts.append(pack.identity.astype(np.int64) + offset)
        offset += len(pack.identity_names)
    return np.concatenate(parts)


def _refuse_strangers(records: Sequence[ModelRecord], paths: Sequence[Path]) -> None:
    first = records[0].subject
    names: set[str] = set()
    for record, path in zip(records, paths, strict=True):
        subject = record.subject
        for key in ("kind", "set", "backbone", "seed"):
            if getattr(subject, key) != getattr(first, key):
                raise InputError(
                    path,
                    found=f"{key} {getattr(subject, key)}",
                    expected=f"{getattr(first, key)} as {paths[0]}",
                )
        if record.settings["embedding_dim"] != records[0].settings["embedding_dim"]:
            raise InputError(
                path,
                found=f"{record.settings['embedding_dim']} dimensions",
                expected=f"{records[0].settings['embedding_dim']} as {paths[0]}",
            )
        if subject.name in names:
            raise InputError(path, found=f"teacher {subject.name} twice", expected="each once")
        names.add(subject.name)


def _refuse_other_packs(
    records: Sequence[ModelRecord], paths: Sequence[Path], packs: dict[str, str]
) -> None:
    for record, path in zip(records, paths, strict=True):
        if record.found is not None:  # nobody knows what it was trained on
            continue
        for group, trained_on in record.inputs.items():
            if packs.get(group) != trained_on:
                raise InputError(
                    path,
                    found=f"a teacher trained on another pack of group {group}",
                    expected=f"the pack {packs.get(group, 'that is not given')[:12]}",
                )


def _short(packs: dict[str, str]) -> str:
    return ", ".join(f"{group} {sha256[:12]}" for group, sha256 in packs.items())
