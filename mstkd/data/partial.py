"""Decoding a list of images to disk, in parallel, so that a killed run can be taken up.

Beside the output lie `.<output>.journal`, a line on the work, then a line for each chunk that is
safely on disk, and `.<output>.partial`: the pack to be, if it holds pixels, or a folder with a
file of encoded images for each chunk. Shapes: N images, H side.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mstkd.artifacts.atomic import write_text
from mstkd.config import AlignmentSettings, Storage
from mstkd.data.align import align, centre_crop
from mstkd.data.decode import BadImage, decode
from mstkd.data.encoded import to_jpeg_or_png
from mstkd.data.sources import FaceImage, file_of, read
from mstkd.orphans import end_with_parent
from mstkd.progress import progress, say

CHUNK = 1024  # images
BUFFER = 1 << 20  # bytes; large writes take fewer, larger pages of the system's cache
DIGEST_BYTES = 16
CHUNKS_WAITING = 4  # for each worker: enough to keep it busy, few enough to hold in memory

Bad = tuple[int, str]  # row, reason
Digests = NDArray[np.uint8]  # (N, 16)


class _Chunk(NamedTuple):
    """What a worker needs: images to decode and where they go."""

    number: int
    target: Path
    offset: int  # of the chunk in the target, in bytes
    images: Sequence[FaceImage]
    image_size: int
    storage: Storage
    alignment: AlignmentSettings | None


class _InMemory(NamedTuple):
    """A `Source` that has been read, so that its file is read once."""

    data: bytes

    def read_bytes(self) -> bytes:
        return self.data


class _Done(NamedTuple):
    """A line of the journal. Rows of `bad` count from the chunk's first image."""

    number: int
    digests: str  # hexadecimal, of each image's pixels, end to end
    sizes: list[int]  # of each encoded image, in bytes; 0 where pixels are kept
    bad: list[Bad]


class PartialPack:
    """A pack in the making.

    Args:
        output: the pack to be.
        images: what to decode, (N,).
        image_size: H.
        storage: what is kept of an image.
        alignment: what happens to images that are not aligned; None where all are.
        settings: what else decides the result; another run's work is taken over only if they,
            the images and their files' sizes and times are the same.
    """

    def __init__(
        self,
        output: Path,
        *,
        images: Sequence[FaceImage],
        image_size: int,
        storage: Storage,
        alignment: AlignmentSettings | None,
        settings: Mapping[str, Any],
    ) -> None:
        self.path = output.with_name(f".{output.name}.partial")
        self._journal = output.with_name(f".{output.name}.journal")
        self._images, self._image_size = images, image_size
        self._storage, self._alignment = storage, alignment
        self._bytes = image_size * image_size * 3  # of an image's pixels
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
        if head["key"] != self._key or not self._is_whole(head["offset"]):
            say(f"{self.path}: images or settings have changed, starting anew")
            return 0
        self._offset = head["offset"]
        good = lines[:1]
        for line in lines[1:]:
            try:
                number, digests, sizes, bad = json.loads(line)
            except ValueError:  # torn by a power cut
                break
            done = _Done(number, digests, sizes, [(row, reason) for row, reason in bad])
            if self._storage == "encoded" and not self._has_chunk(done):
                continue
            self._done[number] = done
            good.append(line)
        write_text(self._journal, "\n".join(good) + "\n")
        return sum(len(self._rows(number)) for number in self._done)

    def begin(self, create: Callable[[Path], int]) -> None:
        """Start anew; for pixels, `create` makes the file and says at which byte they begin."""
        self.remove()
        self._done = {}
        if self._storage == "pixels":
            self.path.touch()  # where it may not be written, this says so better than HDF5
            self._offset = create(self.path)
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            self.path.mkdir()
        with _naming(self._journal):
            head = {"key": self._key, "offset": self._offset}
            write_text(self._journal, json.dumps(head) + "\n")

    def decode(self, label: str, workers: int) -> list[Bad]:
        """Decode the chunks that are not there yet; all bad images by row."""
        numbers = range((len(self._images) + CHUNK - 1) // CHUNK)
        todo = [number for number in numbers if number not in self._done]
        total = len(self._images)
        finished = total - sum(len(self._rows(number)) for number in todo)
        with (
            self._journal.open("a", encoding="utf-8") as journal,
            progress(label, total, "images", finished) as advance,
        ):
            for some in _run(map(self._chunk, todo), min(workers, len(todo))):
                self._sync(some)  # first: a line of the journal says that its chunk is on disk
                with _naming(self._journal):
                    journal.writelines(json.dumps(done) + "\n" for done in some)
                    journal.flush()
                    os.fsync(journal.fileno())
                self._done |= {done.number: done for done in some}
                advance(sum(len(self._rows(done.number)) for done in some))
        return [
            (number * CHUNK + row, reason)
            for number in numbers
            for row, reason in self._done[number].bad
        ]

    def digests(self) -> Digests:
        """A hash of each image's pixels, uint8 (N, 16)."""
        text = "".join(self._done[number].digests for number in sorted(self._done))
        return np.frombuffer(bytes.fromhex(text), np.uint8).reshape(-1, DIGEST_BYTES)

    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each encoded image, (N,)."""
        return np.concatenate([self._done[number].sizes for number in sorted(self._done)]).astype(
            np.int64
        )

    def copy(self, rows: NDArray[np.int64], target: Path, offset: int) -> None:
        """Copy what is kept of some images to `target`, end to end, from byte `offset` on.

        `rows` are those images, in ascending order.
        """
        with _naming(target), target.open("r+b", BUFFER) as file:
            file.seek(offset)
            if self._storage == "pixels":
                shape = (len(self._images), self._bytes)
                images = np.memmap(self.path, np.uint8, "r", offset=self._offset, shape=shape)
                for begin in range(0, len(rows), CHUNK):
                    file.write(images[rows[begin : begin + CHUNK]].data)
                return
            for number in sorted(self._done):
                data = self._chunk_file(number).read_bytes()
                ends = np.cumsum([0, *self._done[number].sizes]).tolist()
                own = self._rows(number)
                first, end = np.searchsorted(rows, (own.start, own.stop))
                for row in (rows[first:end] - own.start).tolist():
                    file.write(data[ends[row] : ends[row + 1]])

    def remove(self) -> None:
        """Forget the work."""
        self._journal.unlink(missing_ok=True)
        if self.path.is_dir():
            shutil.rmtree(self.path)
        self.path.unlink(missing_ok=True)

    def _sync(self, chunks: Sequence[_Done]) -> None:
        """Wait for the disk; here, so that the workers go on meanwhile."""
        encoded = self._storage == "encoded"
        files = [self._chunk_file(done.number) for done in chunks] if encoded else [self.path]
        for path in files:
            with _naming(path), path.open("rb") as file:
                os.fsync(file.fileno())

    def _is_whole(self, offset: int) -> bool:
        if self._storage == "encoded":
            return self.path.is_dir()
        size = offset + len(self._images) * self._bytes
        return self.path.is_file() and self.path.stat().st_size >= size

    def _has_chunk(self, done: _Done) -> bool:
        file = self._chunk_file(done.number)
        return file.is_file() and file.stat().st_size == sum(done.sizes)

    def _chunk_file(self, number: int) -> Path:
        return self.path / f"{number:06}"

    def _rows(self, number: int) -> range:
        return range(number * CHUNK, min((number + 1) * CHUNK, len(self._images)))

    def _chunk(self, number: int) -> _Chunk:
        rows = self._rows(number)
        pixels = self._storage == "pixels"
        return _Chunk(
            number=number,
            target=self.path if pixels else self._chunk_file(number),
            offset=self._offset + rows.start * self._bytes if pixels else 0,
            images=list(self._images[rows.start : rows.stop]),
            image_size=self._image_size,
            storage=self._storage,
            alignment=self._alignment,
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

    for begin in range(0, len(images), CHUNK):  # a text an image would take thrice the time
        some = images[begin : begin + CHUNK]
        paths = [file_of(image.source) for image in some]
        entries = [
            (str(path.absolute()), image.name, image.points, version(path))
            for path, image in zip(paths, some, strict=True)
        ]
        digest.update(json.dumps(entries).encode())
    return digest.hexdigest()


def _run(chunks: Iterator[_Chunk], workers: int) -> Iterator[list[_Done]]:
    """Decode chunks, here or in processes of our own, and give each when it is written."""
    if workers <= 1:
        yield from ([_decode_chunk(chunk)] for chunk in chunks)
        return
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=end_with_parent
    )
    try:
        waiting = set()
        for chunk in chunks:
            waiting.add(pool.submit(_decode_chunk, chunk))
            if len(waiting) >= CHUNKS_WAITING * workers:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield [future.result() for future in done]
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield [future.result() for future in done]
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let a fault of the disk name the file, which the system does not of an open one."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def _decode_chunk(chunk: _Chunk) -> _Done:
    side = chunk.image_size
    black = np.zeros((side, side, 3), np.uint8)
    digests, sizes, bad = [], [], []
    # Not mapped: on a full disk a write raises, where a map would end in a bus error.
    with (
        _naming(chunk.target),
        chunk.target.open("r+b" if chunk.storage == "pixels" else "wb", BUFFER) as target,
    ):
        target.seek(chunk.offset)
        for row, image in enumerate(chunk.images):
            try:
                pixels, encoded = _face(image, chunk)
                pixels = np.ascontiguousarray(pixels)
            except BadImage as error:
                pixels, encoded = black, b""
                bad.append((row, error.reason))
            target.write(pixels.data if chunk.storage == "pixels" else encoded)
            digests.append(pixel_digest(pixels).hex())
            sizes.append(len(encoded))
    return _Done(chunk.number, "".join(digests), sizes, bad)


def _face(image: FaceImage, chunk: _Chunk) -> tuple[NDArray[np.uint8], bytes]:
    """Pixels of the face, and its encoded form where that is kept."""
    if chunk.storage == "pixels":
        return face_pixels(image, chunk.image_size, chunk.alignment), b""
    data = _bytes(image)
    image = image._replace(source=_InMemory(data))
    pixels = face_pixels(image, chunk.image_size, chunk.alignment)
    return pixels, to_jpeg_or_png(data, pixels, aligned=chunk.alignment is not None)


def face_pixels(
    image: FaceImage, side: int, alignment: AlignmentSettings | None
) -> NDArray[np.uint8]:
    """The face uint8 (side, side, 3): as it lies there, or aligned as the settings say.

    Raises:
        BadImage: the image cannot be read, has another size where it should be aligned, or has
            no usable landmarks.
    """
    if alignment is None:
        return decode(image.source, side)
    if image.points is not None:
        return align(decode(image.source), image.points, side)
    if alignment.without_landmarks == "centre_crop":
        return centre_crop(decode(image.source), side)
    raise BadImage("no landmarks")


def pixel_digest(pixels: NDArray[np.uint8]) -> bytes:
    """The first 16 bytes of SHA-256 of an image's pixels: equal for copies, however stored."""
    return hashlib.sha256(pixels.data).digest()[:DIGEST_BYTES]


def _bytes(image: FaceImage) -> bytes:
    try:
        return read(image.source)
    except OSError as error:
        raise BadImage(error.strerror or str(error)) from None
