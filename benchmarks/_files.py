"""Packs and caches of made-up contents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mstkd.artifacts.sealed import piece_checksum
from mstkd.data.pack import Content, Stored, create_pack, seal_pack
from mstkd.embeddings.cache import write_cache

ROWS = 128  # of a block of a cache, as `cache-embeddings` writes them


def write_pixels(path: Path, content: Content, chunks: Iterable[NDArray[np.uint8]]) -> None:
    """A pack of pixels, chunks (rows, H, H, 3) of them in order; its digests are made up."""
    count, begin, checksums = len(content.paths), create_pack(path, content), []
    with path.open("r+b") as file:
        file.seek(begin)
        for chunk in chunks:
            file.write(chunk.data)
            checksums += [piece_checksum(image) for image in chunk]
    digests = np.random.default_rng(0).integers(0, 256, (count, 16), np.uint8)
    seal_pack(path, content, Stored(digests, np.array(checksums, np.uint64), None))


def write_noise_cache(path: Path, labels: NDArray[np.int64], columns: int) -> None:
    """A cache of float16 noise (N, columns) for so many labels."""
    random = np.random.default_rng(0)
    sizes = [min(ROWS, len(labels) - begin) for begin in range(0, len(labels), ROWS)]

    def blocks() -> Iterator[NDArray[np.floating]]:
        for size in sizes:
            yield random.standard_normal((size, columns), np.float32).astype(np.float16)

    nobody = {"teachers": '["T"]', "weights": '["0"]', "packs": "{}", "subject": "{}"}
    write_cache(path, nobody, labels, blocks(), sizes=sizes, columns=columns, dtype="float16")
