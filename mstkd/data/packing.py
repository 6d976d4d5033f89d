"""Decoding a list of images into a file, in parallel, so that a killed run can be taken up.

Beside the output lie `.<output>.partial`, the pack to be, and `.<output>.journal`: a line on the
work, then a line for each chunk whose pixels are safely on disk. Shapes: N images, H side.
"""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mstkd.atomic import write_text
from mstkd.data.decode import BadImage, decode
from mstkd.data.sources import FaceImage, file_of
from mstkd.progress import progress

CHUNK = 1024  # images; part of the format: a pack's digest is of digests of chunks

Bad = tuple[int, str]  # row, reason


class _Chunk(NamedTuple):
    """What a worker needs: files to decode and where their pixels go."""

    number: int
    target: Path
    offset: int
    images: list[FaceImage]
    image_size: int


class _Done(NamedTuple):
    """A line of the journal. Rows of `bad` count from the chunk's first image."""

    number: int
    sha256: str
    bad: list[Bad]


class PartialPack:
    """A pack in the making.

    Args:
        output: the pack to be.
        images: what to decode, (N,).
        image_size: H.
        settings: what else decides the pixels; another run's work is taken over only if they,
            the images and their files' sizes and times are the same.
    """

    def __init__(
        self,
        output: Path,
        *,
        images: Sequence[FaceImage],
        image_size: int,
        settings: Mapping[str, Any],
    ) -> None:
        self.path = output.with_name(f".{output.name}.partial")
        self._journal = output.with_name(f".{output.name}.journal")
        self._images, self._image_size = images, image_size
        self._bytes = image_size * image_size * 3  # of an image
        self._key = _key(images, {**settings, "chunk": CHUNK})
        self._offset = 0
        self._done: dict[int, _Done] = {}

    def resume(self) -> int:
        """Take over what an earlier run of the same work has finished: how many images."""
        if not (self.path.exists() and self._journal.exists()):
            return 0
        lines = self._journal.read_text(encoding="utf-8").split("\n")[:-1]  # the last may be torn
        if not lines:
            return 0
        head = json.loads(lines[0])
        whole = self.path.stat().st_size >= head["offset"] + len(self._images) * self._bytes
        if head["key"] != self._key or not whole:
            print(f"{self.path}: images or settings have changed, starting anew", file=sys.stderr)
            return 0
        self._offset = head["offset"]
        good = lines[:1]
        for line in lines[1:]:
            try:
                number, sha256, bad = json.loads(line)
            except ValueError:  # torn by a power cut
                break
            self._done[number] = _Done(number, sha256, [(row, reason) for row, reason in bad])
            good.append(line)
        write_text(self._journal, "\n".join(good) + "\n")
        return sum(len(self._rows(number)) for number in self._done)

    def begin(self, create: Callable[[Path], int]) -> None:
        """Start anew: `create` makes the file and says at which byte the pixels begin."""
        self.remove()
        self._done = {}
        self._offset = create(self.path)
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        write_text(self._journal, json.dumps({"key": self._key, "offset": self._offset}) + "\n")

    def decode(self, label: str, workers: int) -> list[Bad]:
        """Decode the chunks that are not there yet; all bad images by row."""
        numbers = range((len(self._images) + CHUNK - 1) // CHUNK)
        todo = [self._chunk(number) for number in numbers if number not in self._done]
        total = len(self._images)
        finished = total - sum(len(chunk.images) for chunk in todo)
        with (
            self._journal.open("a", encoding="utf-8") as journal,
            progress(label, total, "images", finished) as advance,
        ):
            for done in _run(todo, workers):
                journal.write(json.dumps(done) + "\n")
                journal.flush()
                os.fsync(journal.fileno())
                self._done[done.number] = done
                advance(len(self._rows(done.number)))
        return [
            (number * CHUNK + row, reason)
            for number in numbers
            for row, reason in self._done[number].bad
        ]

    def digests(self) -> list[str]:
        """SHA-256 of each chunk's pixels."""
        return [self._done[number].sha256 for number in sorted(self._done)]

    def copy_rows(self, rows: NDArray[np.int64], target: Path, offset: int) -> list[str]:
        """Copy the pixels of some images to `target` at byte `offset`; the digests there."""
        side = self._image_size
        shape = (len(self._images), side, side, 3)
        images = np.memmap(self.path, np.uint8, "r", offset=self._offset, shape=shape)
        digests = []
        with target.open("r+b") as file:
            file.seek(offset)
            for begin in range(0, len(rows), CHUNK):
                pixels = np.ascontiguousarray(images[rows[begin : begin + CHUNK]])
                digests.append(hashlib.sha256(pixels.data).hexdigest())
                file.write(pixels.data)
        return digests

    def remove(self) -> None:
        """Forget the work."""
        self._journal.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def _rows(self, number: int) -> range:
        return range(number * CHUNK, min((number + 1) * CHUNK, len(self._images)))

    def _chunk(self, number: int) -> _Chunk:
        rows = self._rows(number)
        return _Chunk(
            number=number,
            target=self.path,
            offset=self._offset + rows.start * self._bytes,
            images=list(self._images[rows.start : rows.stop]),
            image_size=self._image_size,
        )


def _key(images: Sequence[FaceImage], settings: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(settings).encode())

    @functools.lru_cache(maxsize=1)  # many images may lie in one file
    def version(path: Path) -> tuple[int, int] | None:
        try:
            stat = path.stat()
        except OSError:
            return None  # a bad image; decoding says why
        return stat.st_size, stat.st_mtime_ns

    for image in images:
        path = file_of(image.source)
        digest.update(json.dumps([str(path.absolute()), image.name, version(path)]).encode())
    return digest.hexdigest()


def _run(chunks: Sequence[_Chunk], workers: int) -> Iterator[_Done]:
    """Decode chunks, here or in processes of our own, and give each when it is on disk."""
    workers = min(workers, len(chunks))
    if workers <= 1:
        yield from map(_decode_chunk, chunks)
        return
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent
    )
    try:
        for future in as_completed([pool.submit(_decode_chunk, chunk) for chunk in chunks]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Let a worker end when its parent was killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in a worker"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _decode_chunk(chunk: _Chunk) -> _Done:
    side = chunk.image_size
    pixels = np.zeros((len(chunk.images), side, side, 3), np.uint8)
    bad = []
    for row, image in enumerate(chunk.images):
        try:
            pixels[row] = decode(image.source, side)
        except BadImage as error:
            bad.append((row, error.reason))
    # Written, not mapped: on a full disk this raises, where a map would end in a bus error.
    with chunk.target.open("r+b") as target:
        target.seek(chunk.offset)
        target.write(pixels.data)
        target.flush()
        os.fsync(target.fileno())
    return _Done(chunk.number, hashlib.sha256(pixels.data).hexdigest(), bad)
