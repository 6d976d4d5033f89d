"""The cache of all teachers' embeddings, side by side (section 4.3).

Shapes: N images, D embedding dimension, T teachers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from mstkd import __version__
from mstkd.artifacts.atomic import replacing
from mstkd.artifacts.contents import ATTRIBUTE, attribute
from mstkd.artifacts.provenance import provenance_of
from mstkd.artifacts.records import ModelRecord
from mstkd.compute.devices import prepare
from mstkd.config import CacheSettings
from mstkd.data.loader import one_image_size, pack_hashes
from mstkd.data.pack import Pack, open_pack
from mstkd.embeddings.embed import WORTH_COMPILING, Extractor, unit_embeddings
from mstkd.errors import InputError
from mstkd.models.weights import load_backbone
from mstkd.progress import progress

FORMAT = "mstkd-embeddings"
VERSION = 1


@dataclass(frozen=True)
class Cache:
    """An open embedding cache.

    `embeddings` (N, T * D) float16 or float32 in memory, each teacher's block of unit length,
    row i the image i of the packs laid end to end; `labels` int64 (N,) number the identities of
    all groups; `packs` are the hashes of the packs by group, in their order.
    """

    path: Path
    embeddings: NDArray[np.floating]
    labels: NDArray[np.int64]
    teachers: tuple[str, ...]
    weights: tuple[str, ...]  # SHA-256 of each teacher's
    subject: dict[str, str | int]  # backbone, set and seed
    packs: dict[str, str]
    sha256: str


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
    where = prepare(device, threads)
    opened = [open_pack(path, "train", "unlabelled") for path in packs]
    one_image_size(opened)
    hashes = pack_hashes(opened)
    loaded = [load_backbone(path) for path in teachers]
    records = [record for _, record in loaded]
    _refuse_strangers(records, teachers)
    if all(pack.kind == "train" for pack in opened):
        _refuse_other_packs(records, teachers, hashes)
    dim = int(records[0].settings["embedding_dim"])
    count = sum(len(pack.images) for pack in opened)
    first = records[0].subject
    compiled = count * len(loaded) >= WORTH_COMPILING
    digest = hashlib.sha256(
        json.dumps([[record.weights_sha256 for record in records], hashes, settings.dtype]).encode()
    ).hexdigest()

    read = {path: record.weights_sha256 for path, record in zip(teachers, records, strict=True)}
    read |= {pack.path: pack.sha256 for pack in opened}
    made = provenance_of("cache-embeddings", settings, read, output)

    with replacing(output) as (part,), h5py.File(part, "w") as file:
        data = file.create_dataset("embeddings", (count, dim * len(loaded)), settings.dtype)
        file["labels"] = _labels(opened)
        with progress(f"embed {first.set}", count * len(loaded), "images") as told:
            for block, (model, _) in enumerate(loaded):
                extractor = Extractor(model, where, settings.precision, compiled=compiled)
                columns = slice(block * dim, (block + 1) * dim)
                row = 0
                for pack in opened:
                    for unit in unit_embeddings(extractor, pack.images, where):
                        data[row : row + len(unit), columns] = unit.numpy()
                        row += len(unit)
                        told(len(unit))
        file.attrs.update(
            {
                "format": FORMAT,
                "version": VERSION,
                "teachers": json.dumps([record.subject.name for record in records]),
                "weights": json.dumps([record.weights_sha256 for record in records]),
                "packs": json.dumps(hashes),
                "subject": json.dumps(
                    {"backbone": first.backbone, "set": first.set, "seed": first.seed}
                ),
                "sha256": digest,
                "package_version": __version__,
                ATTRIBUTE: attribute(made),
            }
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
        with h5py.File(path, "r") as file:
            attributes = dict(file.attrs)
            if attributes.get("format") != FORMAT or attributes.get("version") != VERSION:
                raise InputError(
                    path, found="another kind of HDF5 file", expected="an embedding cache"
                )
            cache = Cache(
                path=path,
                embeddings=file["embeddings"][:],
                labels=file["labels"][:],
                teachers=tuple(json.loads(attributes["teachers"])),
                weights=tuple(json.loads(attributes["weights"])),
                subject=json.loads(attributes["subject"]),
                packs=json.loads(attributes["packs"]),
                sha256=str(attributes["sha256"]),
            )
    except (OSError, KeyError) as error:
        raise InputError(path, found=str(error), expected="an embedding cache") from None
    if packs is not None:
        hashes = pack_hashes(packs)
        if list(hashes.items()) != list(cache.packs.items()):
            raise InputError(
                path,
                found=f"embeddings of the packs {_short(cache.packs)}",
                expected=f"of the packs {_short(hashes)}; the cache is stale or of other data",
            )
    return cache


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
        for group, trained_on in record.inputs.items():
            if packs.get(group) != trained_on:
                raise InputError(
                    path,
                    found=f"a teacher trained on another pack of group {group}",
                    expected=f"the pack {packs.get(group, 'that is not given')[:12]}",
                )


def _short(packs: dict[str, str]) -> str:
    return ", ".join(f"{group} {sha256[:12]}" for group, sha256 in packs.items())
