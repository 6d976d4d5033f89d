"""HDF5 files that are compared with what was written when they are read.

One checksum, an attribute, covers all attributes and small data sets, which are read on opening.
The one large data set, where there is one, is cut into pieces, each with a checksum of its own,
compared when the piece is read first. The checksums are XXH3, as fast as memory: they find what
disks, cables, copies and slips do to bytes, not what somebody does on purpose.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import itertools
import json
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import xxhash
from numpy.typing import NDArray

from mstkd.artifacts.atomic import KeepingFault, naming
from mstkd.errors import InputError, anew

CHECKSUM = "checksum"  # the attribute
CHECKSUMS = "checksums"  # of the pieces
OFFSETS = "offsets"  # where each piece begins and the last ends; without it each row is a piece
# The large data sets, and what a piece of each is called.
PIECE = {"images": "image", "encoded": "image", "embeddings": "block"}
# Of HDF5 1.8: its own structures carry checksums too, so that damaged ones are not followed. Texts
# of variable length lie in a heap that has none, and in which HDF5 can go round for ever: all
# texts here are bytes, those of data sets end to end or of one length.
LIBVER = ("v108", "v108")
AT_ONCE = 1 << 20  # bytes read
SECONDS = 60  # in which HDF5 must have read all but what is large
SEPARATOR = "\0"  # between texts; no name of a file has one
# What h5py and NumPy raise over damaged bytes.
DAMAGE = (OSError, LookupError, ValueError, ArithmeticError, RuntimeError, TypeError, MemoryError)

Attributes = Mapping[str, Any]  # numbers and texts
Datasets = Mapping[str, NDArray[Any]]
Shape = tuple[int | None, ...]  # None for any number


def checksum(attributes: Attributes, datasets: Datasets) -> str:
    """Of attributes and small data sets: 32 hexadecimal digits."""
    digest = xxhash.xxh3_128()
    head = {name: _plain(attributes[name]) for name in sorted(attributes)}
    digest.update(json.dumps(head).encode())
    for name in sorted(datasets):
        values = datasets[name]
        digest.update(json.dumps([name, values.dtype.str, values.shape]).encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def as_bytes(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Texts as a data set holds them: UTF-8 (bytes,), each with a NUL behind it.

    Names of files that are no UTF-8 keep their bytes.
    """
    encoded = "".join(f"{text}{SEPARATOR}" for text in texts).encode("utf-8", "surrogateescape")
    return np.frombuffer(encoded, np.uint8)


def as_texts(stored: NDArray[np.uint8]) -> tuple[str, ...]:
    """What `as_bytes` was given."""
    return tuple(stored.tobytes().decode("utf-8", "surrogateescape").split(SEPARATOR)[:-1])


def piece_checksum(stored: Any) -> int:
    """Of the bytes of one piece, a contiguous array or bytes: 64 bits."""
    return xxhash.xxh3_64_intdigest(stored)


# ---------------------------------------------------------------- opening


Look = Callable[[Path], object]


def reading(path: Path, *, tried: bool = True, look: Look | None = None) -> Any:
    """An HDF5 file, open to be read.

    Without HDF5's lock, which not every file system has: our files appear whole, by a rename.

    Args:
        path: the file.
        tried: whether to read it first where a crash does no harm, which takes some 15 ms; not for
            the thousands of own results of which one attribute is wanted.
        look: reads all that the caller will, in files that are not sealed.

    Raises:
        OSError: it cannot be opened, or crashed a process that did nothing else.
    """
    if tried:
        state = path.stat()
        version = state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns
        _try_out(path, version, look or _look_at)
    return h5py.File(path, "r", locking=False)


@functools.lru_cache(maxsize=1024)
def _try_out(path: Path, version: tuple[int, ...], look: Look) -> None:
    """Read a file in a process of its own first: HDF5 may crash on one that was made to harm.

    Once for each version of a file. Where no process can be had nothing is tried out.

    Raises:
        OSError: the process was ended by a signal, its own alarm after `SECONDS` for one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the child has none
            child = os.fork()
    except OSError:
        return
    if not child:
        try:
            faulthandler.disable()
            for number in (signal.SIGALRM, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.alarm(SECONDS)
            look(path)
        finally:
            os._exit(0)  # whatever is raised is raised again where it is told
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        raise OSError(f"HDF5 ended by {signal.Signals(-code).name} on it")


def _look_at(path: Path) -> None:
    """All of a file that HDF5 reads."""
    with h5py.File(path, "r", locking=False) as file:
        Sealed(path, file)


@contextlib.contextmanager
def writing(path: Path, mode: Literal["w", "r+"]) -> Iterator[Any]:
    """An HDF5 file, made anew or open to be changed.

    Raises:
        OSError: a fault of the disk, with the file's name.
    """
    with naming(path), path.open("w+b" if mode == "w" else "r+b") as opened:
        disk = _Disk(opened)
        try:
            with h5py.File(disk, mode, libver=LIBVER) as file:
                yield file
        except Exception:
            if disk.fault is not None:
                raise disk.fault from None
            raise
        if disk.fault is not None:
            raise disk.fault


class _Disk(KeepingFault):
    """A file for HDF5, which would not give up one that it cannot write.

    It tries again when the process ends, and crashes.
    """

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def readinto(self, buffer: Any) -> int:
        read = self._file.read(len(buffer))
        buffer[: len(read)] = read
        return len(read)

    def truncate(self, size: int) -> int:
        self._try(lambda: self._file.truncate(size))
        return size


# ---------------------------------------------------------------- writing


def create(file: Any, attributes: Attributes, datasets: Datasets) -> None:
    """Write all but the large data set into a new file, and its checksum."""
    for name, value in attributes.items():
        file.attrs[name] = _fixed(value)
    file.attrs[CHECKSUM] = _fixed(checksum(attributes, datasets))
    for name, values in datasets.items():
        file.create_dataset(name, data=values)


def reserve(file: Any, name: str, shape: tuple[int, ...], dtype: str) -> int:
    """Make the large data set, whose bytes are written later; the byte at which it begins."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)  # the same content, the same bytes
    space = h5py.h5s.create_simple(shape)
    stored = h5py.h5t.py_create(np.dtype(dtype))
    data = h5py.h5d.create(file.id, name.encode(), stored, space, layout)
    return int(data.get_offset())


def seal(file: Any, attributes: Attributes, datasets: Datasets) -> None:
    """Overwrite, in place, what was not known before.

    Args:
        file: as `create` made it; what changes has the same length.
        attributes, datasets: all of them, as they should be: the checksum is of these, not of
            what the file holds.
    """
    for name, value in attributes.items():
        if _plain(file.attrs[name]) != _plain(value):
            file.attrs.modify(name, _fixed(value))
    for name, values in datasets.items():
        file[name][...] = values
    file.attrs.modify(CHECKSUM, _fixed(checksum(attributes, datasets)))


# ---------------------------------------------------------------- reading


class Sealed:
    """What an open file holds: `attributes`, the small `datasets` by name, and the `large` one.

    `large` is a read-only memory map, `name` what it is called, empty where there is none. Nothing
    has been compared with a checksum yet: `compare` does that, after the caller has looked at types
    and shapes, of which it can say more.

    Raises:
        InputError: data sets that do not lie contiguous in this file.
        ValueError: a link to elsewhere, or a group; on asking for `large`, that there is none.
    """

    def __init__(self, path: Path, file: Any) -> None:
        self.path = path
        self.attributes = {name: attribute_of(file, name) for name in file.attrs}
        self._checksum = self.attributes.pop(CHECKSUM)
        self.datasets: dict[str, NDArray[Any]] = {}
        self.name = ""
        self._large: np.memmap[Any, np.dtype[Any]] | None = None
        for name in file:
            dataset = _contiguous(path, file, name)
            if name in PIECE and CHECKSUMS in file and not self.name:
                self.name = name
                offset = dataset.id.get_offset()
                self._large = np.memmap(
                    path, dataset.dtype, "r", offset=offset, shape=dataset.shape
                )
            else:
                self.datasets[name] = dataset[...]

    @property
    def large(self) -> np.memmap[Any, np.dtype[Any]]:
        if self._large is None:
            raise ValueError(f"none of {', '.join(PIECE)}")
        return self._large

    def expect(self, expected: Mapping[str, tuple[Any, Shape]]) -> None:
        """Refuse other data sets than these: by name a type and a shape.

        Raises:
            InputError: one is of another type or shape.
            ValueError: one is missing, or has no meaning.
        """
        held = {**self.datasets, self.name: self.large}
        for name in expected.keys() - held.keys():
            raise ValueError(f"no data set {name}")
        for name in held.keys() - expected.keys():
            raise ValueError(f"a data set {name}, which has no meaning")
        for name, (kind, shape) in expected.items():
            found, wanted = held[name], np.dtype(kind)
            alike = len(found.shape) == len(shape) and all(
                own in (side, None) for side, own in zip(found.shape, shape, strict=True)
            )
            if found.dtype != wanted or not alike:
                sides = ", ".join("N" if side is None else str(side) for side in shape)
                raise InputError(
                    self.path,
                    found=f"{name} {found.dtype} {found.shape}",
                    expected=f"{name} {wanted} ({sides}{',' * (len(shape) == 1)})",
                )

    def compare(self) -> None:
        """Compare all but the large data set.

        Raises:
            ValueError: it is not what was written.
        """
        if checksum(self.attributes, self.datasets) != self._checksum:
            raise ValueError("other contents than were written")

    def pieces(self) -> Pieces:
        """The checksums of the pieces of `large`."""
        return Pieces(self.datasets[CHECKSUMS], PIECE[self.name])

    def compare_large(self, into: NDArray[Any] | None = None) -> None:
        """Read and compare all of the large data set, and put it into an array if one is given.

        Not by the map: all of the file would count as memory of this process.

        Raises:
            InputError: one of its pieces is not what was written.
            ValueError: the file is cut off.
        """
        pieces, large = self.pieces(), self.large
        in_rows = OFFSETS not in self.datasets
        bounds = np.arange(len(large) + 1) if in_rows else self.datasets[OFFSETS]
        # So many pieces together as stay in the processor's cache.
        count = len(bounds) - 1
        some = max(1, AT_ONCE * count // max(1, large.nbytes))
        ends = np.append(bounds[:-1:some], bounds[-1:])
        longest = int(np.diff(ends).max(initial=0))
        buffer = np.empty((longest, *large.shape[1:]), large.dtype) if into is None else into
        with self.path.open("rb") as file:
            file.seek(large.offset)
            for first, (begin, end) in zip(
                range(0, count, some), itertools.pairwise(ends.tolist()), strict=True
            ):
                read = buffer[: end - begin] if into is None else into[begin:end]
                if file.readinto(read.data.cast("B")) != read.nbytes:
                    raise ValueError("cut off")
                own = bounds[first : first + some + 1] - begin
                stored = [read[one:other] for one, other in itertools.pairwise(own.tolist())]
                pieces.compare(np.arange(first, first + len(stored)), stored, where=self.path)


def is_as_written(path: Path, *, large: bool) -> bool | None:
    """Whether a file still holds what was written, None where that cannot be told.

    Args:
        path: an HDF5 file.
        large: whether to read the large data set too; where none is set apart, whether to read
            any, and without that nothing is told.
    """
    try:
        with reading(path) as file:
            return holds_as_written(path, file, large=large)
    except DAMAGE:
        return False


def holds_as_written(path: Path, file: Any, *, large: bool) -> bool | None:
    """The same of an open file."""
    try:
        if CHECKSUM not in file.attrs or not (large or CHECKSUMS in file):
            return None
        sealed = Sealed(path, file)
        sealed.compare()
        if large and sealed.name:
            sealed.compare_large()
    except (InputError, *DAMAGE):
        return False
    return True


class Pieces:
    """The checksums of a large data set's pieces, uint64 (K,), and which have been compared."""

    def __init__(self, expected: NDArray[np.uint64], what: str = "piece") -> None:
        self._expected, self._what = expected, what
        self._seen = np.zeros(len(expected), np.bool_)

    def compare(self, pieces: NDArray[np.int64], stored: Sequence[Any], *, where: object) -> None:
        """Compare pieces that were not compared before.

        Args:
            pieces: their numbers, (B,).
            stored: the bytes of each as they were read.
            where: the file, for messages.

        Raises:
            InputError: a piece is not what was written.
        """
        for place in np.flatnonzero(~self._seen[pieces]).tolist():
            piece = int(pieces[place])
            if piece_checksum(stored[place]) != self._expected[piece]:
                found = f"{self._what} {piece}: other bytes than were written"
                raise InputError(where, found=found, expected=anew("a whole file", where))
            self._seen[piece] = True


def own_dataset(file: Any, name: str) -> Any:
    """A data set whose bytes lie in this very file.

    Raises:
        KeyError: there is none.
        ValueError: it is a link, something else, or lies elsewhere.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is a link to elsewhere" if name in file else f"no {name}")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{name} is no data set")
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{name} lies in another file")
    return dataset


def _contiguous(path: Path, file: Any, name: str) -> Any:
    """A data set of this very file, as contiguous bytes of it, none of them left out."""
    dataset = own_dataset(file, name)
    if dataset.dtype.hasobject:
        raise ValueError(f"{name} of type {dataset.dtype}")
    if dataset.id.get_create_plist().get_layout() != h5py.h5d.CONTIGUOUS:
        found = f"{name} that do not lie contiguous in the file"
        raise InputError(path, found=found, expected=anew(f"contiguous {name}", path))
    size = dataset.dtype.itemsize * (dataset.size or 0)
    if dataset.id.get_storage_size() != size:
        raise ValueError(f"{name}: {dataset.id.get_storage_size()} bytes of {size}")
    return dataset


def attribute_of(file: Any, name: str) -> Any:
    """An attribute of an open file, None where there is none.

    Raises:
        ValueError: it is of variable length: in the heap of those, HDF5 may go round for ever.
    """
    if name not in file.attrs:
        return None
    if file.attrs.get_id(name).dtype.hasobject:
        raise ValueError(f"an attribute {name} of variable length")
    return _plain(file.attrs[name])


def _fixed(value: Any) -> Any:
    """An attribute as it is written: texts as bytes."""
    return np.bytes_(value.encode()) if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    """An attribute alike before it is written and after it is read, as JSON has it."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, bytes):
        return value.decode()
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
