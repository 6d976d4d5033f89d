"""Decoding a list of images to disk, in parallel, so that a killed run can be taken up.

Beside the output lies a folder of this run alone, `.<output>.<letters>.partial`. In it lie
`journal`, a line on the work, then a line for each chunk that is safely on disk, and either `pack`,
the pack to be if it holds pixels, or a file of encoded images for each chunk.
Shapes: N images, H side.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mstkd.artifacts.atomic import (
    left_over,
    make_folder,
    naming,
    own_name,
    remove,
    sync_folder,
    write_text,
)
from mstkd.artifacts.sealed import is_as_written, piece_checksum
from mstkd.config import AlignmentSettings, Storage
from mstkd.data.align import align, centre_crop
from mstkd.data.decode import FORMATS, BadImage, decode
from mstkd.data.encoded import to_jpeg_or_png
from mstkd.data.landmark_fit import emptiness
from mstkd.data.sources import FaceImage, file_of, read
from mstkd.orphans import end_with_parent
from mstkd.progress import progress, say

CHUNK = 1024  # images
JOURNAL = 2  # the version of its lines
BUFFER = 1 << 20  # bytes; large writes take fewer, larger pages of the system's cache
DIGEST_BYTES = 16
SUFFIX = ".partial"  # of the folder
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
    formats: tuple[str, ...]


class _InMemory(NamedTuple):
    """A `Source` that has been read, so that its file is read once."""

    data: bytes

    def read_bytes(self) -> bytes:
        return self.data


class _Done(NamedTuple):
    """A line of the journal. Rows of `bad` count from the chunk's first image."""

    number: int
    digests: str  # hexadecimal, of each image's pixels, end to end
    checksums: list[int]  # of what was kept of each image, before it was written
    sizes: list[int]  # of each encoded image, in bytes; 0 where pixels are kept
    bad: list[Bad]
    empty: list[tuple[int, float]]  # of aligned images the black share, where it is above 0

    def line(self) -> str:
        """As JSON behind its checksum."""
        text = json.dumps(self)
        return f"{piece_checksum(text.encode()):016x} {text}"

    @classmethod
    def of(cls, line: str) -> _Done | None:
        """What `line` gave; None for a line that is no longer that."""
        checksum, _, text = line.partition(" ")
        if checksum != f"{piece_checksum(text.encode()):016x}":
            return None
        number, digests, checksums, sizes, bad, empty = json.loads(text)
        pairs = [(row, reason) for row, reason in bad], [(row, share) for row, share in empty]
        return cls(number, digests, checksums, sizes, *pairs)


class PartialPack:
    """A pack in the making.

    Args:
        output: the pack to be.
        images: what to decode, (N,).
        image_size: H.
        storage: what is kept of an image.
        alignment: what happens to images that are not aligned; None where all are.
        formats: of images, as `decode` takes them.
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
        formats: tuple[str, ...],
        settings: Mapping[str, Any],
    ) -> None:
        self._output, self._folder = output, own_name(output, SUFFIX)
        self._images, self._image_size = images, image_size
        self._storage, self._alignment, self._formats = storage, alignment, formats
        self._bytes = image_size * image_size * 3  # of an image's pixels
        self.key = _key(images, {**settings, "chunk": CHUNK, "journal": JOURNAL})
        self._offset = 0
        self._done: dict[int, _Done] = {}

    @property
    def path(self) -> Path:
        """The pack to be, where it holds pixels."""
        return self._folder / "pack"

    @property
    def copied(self) -> Path:
        """Where the pack to be is put together if it holds not all that was decoded."""
        return self._folder / "copy"

    def resume(self) -> int:
        """Take over what a dead run of the same work has finished, as far as it is still whole.

        To be called by the output's only writer: what else lies about is removed.

        Returns:
            How many images there are.
        """
        for left in left_over(self._output, SUFFIX):
            if self._done or not self._adopt(left):
                remove(left)
        return sum(len(self._rows(number)) for number in self._done)

    def _adopt(self, left: Path) -> bool:
        try:
            # The last line may be torn.
            head, *lines = (left / "journal").read_text(encoding="utf-8").split("\n")[:-1]
            told = json.loads(head)
            key, offset = told["key"], int(told["offset"])
        except (OSError, ValueError, LookupError, TypeError):
            return False  # killed before it had begun, or damaged
        if key != self.key or not self._is_whole(left, offset):
            say(f"{left}: images or settings have changed, starting anew")
            return False
        left.rename(self._folder)
        self._offset = offset
        good = [head]
        for line in lines:
            done = _Done.of(line)
            if done is None:  # torn by a power cut
                break
            if self._is_as_written(done):
                self._done[done.number] = done
                good.append(line)
        if not self._done:
            self.remove()
            return False
        write_text(self._journal, "\n".join(good) + "\n")
        return True

    def begin(self, create: Callable[[Path], int]) -> None:
        """Start anew; for pixels, `create` makes the file and says at which byte they begin."""
        self.remove()
        self._done = {}
        make_folder(self._folder)
        if self._storage == "pixels":
            self.path.touch()  # where it may not be written, this says so better than HDF5
            self._offset = create(self.path)
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
        with naming(self._journal):
            head = {"key": self.key, "offset": self._offset}
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
                with naming(self._journal):
                    journal.writelines(f"{done.line()}\n" for done in some)
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

    def checksums(self) -> NDArray[np.uint64]:
        """Of what is kept of each image, (N,)."""
        every = [np.array(self._done[n].checksums, np.uint64) for n in sorted(self._done)]
        return np.concatenate(every)

    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each encoded image, (N,)."""
        return np.concatenate([np.array(self._done[n].sizes, np.int64) for n in sorted(self._done)])

    def emptiness(self) -> NDArray[np.float64]:
        """The share of each aligned image that is black, (N,); 0 of those that are not aligned."""
        shares = np.zeros(len(self._images))
        for number, done in self._done.items():
            for row, share in done.empty:
                shares[number * CHUNK + row] = share
        return shares

    def copy(self, rows: NDArray[np.int64], target: Path, offset: int) -> None:
        """Copy what is kept of some images to `target`, end to end, from byte `offset` on.

        `rows` are those images, in ascending order.
        """
        with naming(target), target.open("r+b", BUFFER) as file:
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
        remove(self._folder)

    @property
    def _journal(self) -> Path:
        return self._folder / "journal"

    def _sync(self, chunks: Sequence[_Done]) -> None:
        """Wait for the disk; here, so that the workers go on meanwhile."""
        encoded = self._storage == "encoded"
        files = [self._chunk_file(done.number) for done in chunks] if encoded else [self.path]
        for path in files:
            with naming(path), path.open("rb") as file:
                os.fsync(file.fileno())
        if encoded:
            sync_folder(self._folder)

    def _is_whole(self, left: Path, offset: int) -> bool:
        """Whether the pack to be has its length, and all that it holds beside the images."""
        if self._storage == "encoded":
            return True
        size, pack = offset + len(self._images) * self._bytes, left / self.path.name
        whole = pack.is_file() and pack.stat().st_size >= size
        return whole and is_as_written(pack, large=False) is True

    def _is_as_written(self, done: _Done) -> bool:
        """Whether a chunk is on the disk as it was in the memory of who wrote it."""
        rows = self._rows(done.number)
        pixels = self._storage == "pixels"
        sizes = [self._bytes] * len(rows) if pixels else done.sizes
        try:
            with (self.path if pixels else self._chunk_file(done.number)).open("rb") as file:
                file.seek(self._offset + rows.start * self._bytes if pixels else 0)
                data = memoryview(file.read(sum(sizes)))
        except OSError:
            return False
        ends = np.cumsum([0, *sizes]).tolist()
        found = [piece_checksum(data[begin:end]) for begin, end in itertools.pairwise(ends)]
        return found == done.checksums and len(found) == len(rows)

    def _chunk_file(self, number: int) -> Path:
        return self._folder / f"{number:06}"

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
            formats=self._formats,
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


def _decode_chunk(chunk: _Chunk) -> _Done:
    side = chunk.image_size
    black = np.zeros((side, side, 3), np.uint8)
    digests, checksums, sizes, bad, empty = [], [], [], [], []
    # Not mapped: on a full disk a write raises, where a map would end in a bus error.
    with (
        naming(chunk.target),
        chunk.target.open("r+b" if chunk.storage == "pixels" else "wb", BUFFER) as target,
    ):
        target.seek(chunk.offset)
        for row, image in enumerate(chunk.images):
            try:
                pixels, encoded = _face(image, chunk)
                pixels = np.ascontiguousarray(pixels)
                if image.points is not None and (share := emptiness(pixels)) > 0:
                    empty.append((row, share))
            except BadImage as error:
                pixels, encoded = black, b""
                bad.append((row, error.reason))
            stored = pixels.data if chunk.storage == "pixels" else encoded
            target.write(stored)
            digests.append(pixel_digest(pixels).hex())
            checksums.append(piece_checksum(stored))
            sizes.append(len(encoded))
    return _Done(chunk.number, "".join(digests), checksums, sizes, bad, empty)


def _face(image: FaceImage, chunk: _Chunk) -> tuple[NDArray[np.uint8], bytes]:
    """Pixels of the face, and its encoded form where that is kept."""
    if chunk.storage == "pixels":
        return face_pixels(image, chunk.image_size, chunk.alignment, chunk.formats), b""
    data = _bytes(image)
    image = image._replace(source=_InMemory(data))
    pixels = face_pixels(image, chunk.image_size, chunk.alignment, chunk.formats)
    return pixels, to_jpeg_or_png(data, pixels, aligned=chunk.alignment is not None)


def face_pixels(
    image: FaceImage,
    side: int,
    alignment: AlignmentSettings | None,
    formats: tuple[str, ...] = FORMATS,
) -> NDArray[np.uint8]:
    """The face uint8 (side, side, 3): as it lies there, or aligned as the settings say.

    Raises:
        BadImage: the image cannot be read, has another size where it should be aligned, or has
            no usable landmarks.
    """
    if alignment is None:
        return decode(image.source, side, formats)
    if image.points is not None:
        return align(decode(image.source, formats=formats), image.points, side)
    if alignment.without_landmarks == "centre_crop":
        return centre_crop(decode(image.source, formats=formats), side)
    raise BadImage("no landmarks")


def pixel_digest(pixels: NDArray[np.uint8]) -> bytes:
    """The first 16 bytes of SHA-256 of an image's pixels: equal for copies, however stored."""
    return hashlib.sha256(pixels.data).digest()[:DIGEST_BYTES]


def _bytes(image: FaceImage) -> bytes:
    try:
        return read(image.source)
    except OSError as error:
        raise BadImage(error.strerror or str(error)) from None
