"""MXNet RecordIO without MXNet: encoded images in one `.rec` file.

A record is a magic word, a word that tells in 3 bits which part of a record this is and in 29
its length, the payload, and zeros up to a multiple of 4 bytes (dmlc-core, `recordio.h`); words
are little-endian. A payload is cut into parts where it holds the magic word. It begins with the
IRHeader `<IfQQ`: flag, label, id, id2 (apache/mxnet, `recordio.py`); a flag above 0 is the number
of float32 labels that follow and replace `label`. Shapes: N images.
"""

from __future__ import annotations

import os
import re
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mstkd.errors import InputError

MAGIC = 0xCED7230A
WHOLE, FIRST, MIDDLE, LAST = range(4)  # kinds of parts
RECORDS = "a RecordIO file of images (.rec)"
INDEX = "a line for each record: its key, a tab, its byte offset"

_PART = struct.Struct("<II")  # the magic word; kind and length
_LENGTH = (1 << 29) - 1
_HEADER = struct.Struct("<IfQQ")
_SMALLEST = _PART.size + _HEADER.size  # bytes of a record without an image
# The first bytes of a record, up to the two extra labels that a range record has.
_HEAD = np.dtype(
    [
        ("magic", "<u4"),
        ("word", "<u4"),
        ("flag", "<u4"),
        ("label", "<f4"),
        ("id", "<u8"),
        ("id2", "<u8"),
        ("labels", "<f4", (2,)),
    ]
)
_LARGEST_LABEL = 1 << 24  # float32 does not tell larger whole numbers apart
_BLOCK = 1 << 18  # bytes; disks read a run of blocks faster than they skip 5 kB at a time
_INDEX_LINE = re.compile(rb"\s*([0-9]{1,18})[ \t]+([0-9]{1,18})\s*")

Ints = NDArray[np.int64]


class _Damage(Exception):  # noqa: N818, each caller says in its own way what it means
    def __init__(self, byte: int, *, found: str, expected: str) -> None:
        super().__init__(f"byte {byte}: found {found}; expected {expected}")
        self.byte, self.found, self.expected = byte, found, expected


class Record(NamedTuple):
    """The image in the record that begins at byte `offset` of a `.rec` file. It is a `Source`."""

    path: Path
    offset: int

    def read_bytes(self) -> bytes:
        """The encoded image, without header and labels.

        Raises:
            OSError: the file cannot be read, or holds no whole record there.
        """
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            try:
                payload = _payload(file, self.offset, size)
                _check_labels(self.offset, len(payload), _flag(payload))
            except _Damage as damage:
                raise OSError(f"{self.path.name}: {damage}") from None
        return bytes(memoryview(payload)[_HEADER.size + 4 * _flag(payload) :])


class Stated(NamedTuple):
    """What the file `property` beside a `.rec` says of it."""

    classes: int
    height: int
    width: int


@dataclass(frozen=True, eq=False)
class RecordFile:
    """The image records of a file in the order of their keys.

    `offsets` int64 (N,) are in bytes, `keys` int64 (N,) are unique, `labels` int64 (N,) are those
    of the identities.
    """

    path: Path
    offsets: Ints
    keys: Ints
    labels: Ints
    stated: Stated | None


def beside(rec: Path, suffix: str) -> Path:
    """The file beside a `.rec` with another ending, in capitals where that is what is there."""
    plain, capitals = rec.with_suffix(suffix), rec.with_suffix(suffix.upper())
    return capitals if capitals.is_file() and not plain.is_file() else plain


def open_records(rec: Path) -> RecordFile:
    """The image records of `rec`, by the `.idx` beside it, or from end to end without one.

    If record 0 holds two labels and no image, it is InsightFace's: images have the keys from 1
    up to the first label, identity ranges those from there up to the second. Otherwise every
    record is an image. Without an index, keys are the ids in the headers where these are unique
    and positions where they are not.

    Raises:
        InputError: files that cannot be read, are damaged or disagree; names the file and the
            record or the line.
    """
    try:
        with rec.open("rb", buffering=_BLOCK) as file:
            size = os.fstat(file.fileno()).st_size
            if not size:
                raise InputError(rec, found="an empty file", expected=RECORDS)
            index = _read_index(beside(rec, ".idx"))
            if index is None:
                offsets, heads = _scan(file, size, rec)
                _complete(file, size, rec, offsets=offsets, heads=heads, keys=None)
                keys = _own_keys(heads["id"])
            else:
                keys, offsets = _spread(rec, size, *index)
                heads = _heads(file, offsets)
                _complete(file, size, rec, offsets=offsets, heads=heads, keys=keys)
    except FileNotFoundError:
        raise InputError(rec, found="no such file", expected=RECORDS) from None
    except OSError as error:
        raise InputError(rec, found=error.strerror, expected=RECORDS) from None
    order = np.argsort(keys, kind="stable")
    keys, offsets, heads = keys[order], offsets[order], heads[order]
    ranges = None
    if _is_first_of_ranges(keys[0], heads[0]):
        end, ranges = _image_range(rec, keys, heads["labels"][0])
        keys, offsets, heads = keys[1:end], offsets[1:end], heads[1:end]
    labels = np.where(heads["flag"] > 0, heads["labels"][:, 0], heads["label"])
    whole = (labels >= 0) & (labels <= _LARGEST_LABEL) & (labels == np.floor(labels))
    for row in np.flatnonzero(~whole)[:1]:
        where = f"{rec}: record {keys[row]}, byte {offsets[row]}"
        expected = "the whole number of an identity"
        raise InputError(where, found=f"label {labels[row]}", expected=expected)
    records = RecordFile(rec, offsets, keys, labels.astype(np.int64), _stated(rec))
    _check_classes(records, ranges)
    return records


def _parts(file: BinaryIO, offset: int, size: int) -> Iterator[tuple[int, int]]:
    """Start and length of each part of the record at `offset`; `file` stands at the start."""
    kinds, start = (WHOLE, FIRST), offset
    while True:
        file.seek(start)
        words = file.read(_PART.size)
        if len(words) < _PART.size or start + _PART.size > size:
            raise _Damage(start, found="the end of the file", expected="a record: is it cut off?")
        magic, word = _PART.unpack(words)
        kind, length = word >> 29, word & _LENGTH
        if magic != MAGIC:
            expected = f"0x{MAGIC:08x}, with which a record begins"
            raise _Damage(start, found=f"0x{magic:08x}", expected=expected)
        if kind not in kinds:
            expected = f"{kinds[0]} or {kinds[1]}: parts out of order"
            raise _Damage(start, found=f"part kind {kind}", expected=expected)
        start += _PART.size
        if length > size - start:
            expected = f"{size - start} or fewer, up to the end of the file: is it cut off?"
            found = f"a length of {length} bytes"
            raise _Damage(start - _PART.size, found=found, expected=expected)
        yield start, length
        if kind in (WHOLE, LAST):
            return
        kinds = (MIDDLE, LAST)
        start += length + -length % 4


def _payload(file: BinaryIO, offset: int, size: int) -> bytearray:
    payload = bytearray()
    for start, length in _parts(file, offset, size):
        if start > offset + _PART.size:
            payload += MAGIC.to_bytes(4, "little")
        part = file.read(length)
        if len(part) < length:
            raise _Damage(start, found=f"{len(part)} bytes", expected=f"{length}: is it cut off?")
        payload += part
    _check_labels(offset, len(payload), 0)
    return payload


def _flag(payload: bytearray) -> int:
    return int(_HEADER.unpack_from(payload)[0])


def _check_labels(offset: int, length: int, flag: int) -> None:
    needed = _HEADER.size + 4 * flag
    if length < needed:
        expected = f"{needed} or more: a header with {flag} extra labels"
        raise _Damage(offset, found=f"a record of {length} bytes", expected=expected)


def _scan(file: BinaryIO, size: int, rec: Path) -> tuple[Ints, NDArray[np.void]]:
    """Offset and head of every record, from end to end."""
    offsets, heads = array("q"), bytearray()
    offset = 0
    try:
        while offset < size:
            file.seek(offset)
            heads += file.read(_HEAD.itemsize).ljust(_HEAD.itemsize, b"\0")
            offsets.append(offset)
            end = max(map(sum, _parts(file, offset, size)))
            # Here, for memory: a record without a header is smaller than what we keep of it.
            _check_labels(offset, end - offset - _PART.size, 0)
            offset = end + -end % 4
    except _Damage as damage:
        where = f"{rec}: byte {damage.byte}"
        raise InputError(where, found=damage.found, expected=damage.expected) from None
    return np.array(offsets, np.int64), np.frombuffer(heads, _HEAD)


def _heads(file: BinaryIO, offsets: Ints) -> NDArray[np.void]:
    heads = bytearray()
    for offset in offsets.data:
        file.seek(offset)
        heads += file.read(_HEAD.itemsize).ljust(_HEAD.itemsize, b"\0")
    return np.frombuffer(heads, _HEAD)


def _complete(
    file: BinaryIO,
    size: int,
    rec: Path,
    *,
    offsets: Ints,
    heads: NDArray[np.void],
    keys: Ints | None,
) -> None:
    """Check that a whole record lies at each offset; `heads` gain what parts cut off.

    A record ends before the next begins, so that all of them together are read once.
    """
    ends = np.append(offsets[1:], size)
    lengths = (heads["word"] & _LENGTH).astype(np.int64)
    plain = (heads["magic"] == MAGIC) & (heads["word"] >> 29 == WHOLE)
    plain &= offsets + _PART.size + lengths <= ends
    plain &= lengths >= _HEADER.size + 4 * heads["flag"].astype(np.int64)
    for row in np.flatnonzero(~plain):
        offset = int(offsets[row])
        try:
            payload = _payload(file, offset, int(ends[row]))
            _check_labels(offset, len(payload), _flag(payload))
        except _Damage as damage:
            where = f"{rec}: byte {damage.byte}"
            if keys is not None:
                where = f"{rec}: record {keys[row]}, byte {damage.byte}"
            raise InputError(where, found=damage.found, expected=damage.expected) from None
        head = _PART.pack(MAGIC, len(payload) & _LENGTH) + payload[: _HEAD.itemsize - _PART.size]
        heads[row] = np.frombuffer(head.ljust(_HEAD.itemsize, b"\0"), _HEAD)[0]


def _own_keys(ids: NDArray[np.uint64]) -> Ints:
    if int(ids.max()) < 1 << 62 and len(np.unique(ids)) == len(ids):
        return ids.astype(np.int64)
    return np.arange(len(ids), dtype=np.int64)


def _read_index(index: Path) -> tuple[Ints, Ints] | None:
    """Keys and offsets in the order of the lines; None if there is no such file."""
    numbers = array("q")
    try:
        with index.open("rb") as file:
            for line, text in enumerate(file, start=1):
                match = _INDEX_LINE.fullmatch(text.removeprefix(b"\xef\xbb\xbf"))
                if match:
                    numbers.append(int(match[1]))
                    numbers.append(int(match[2]))
                elif not text.isspace():
                    found = repr(text[:40].decode(errors="replace"))
                    raise InputError(f"{index}:{line}", found=found, expected=INDEX)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(index, found=error.strerror, expected="a readable file") from None
    if not numbers:
        raise InputError(index, found="no keys", expected=INDEX)
    keys, offsets = np.array(numbers, np.int64).reshape(-1, 2).T  # each (records,)
    ordered = np.sort(keys)
    for key in ordered[1:][np.diff(ordered) == 0][:1]:
        raise InputError(f"{index}: key {key}", found="it twice", expected="every key once")
    return keys, offsets


def _spread(rec: Path, size: int, keys: Ints, offsets: Ints) -> tuple[Ints, Ints]:
    """Both sorted by offset, which must lie in the file and leave room for a record each."""
    order = np.argsort(offsets, kind="stable")
    keys, offsets = keys[order], offsets[order]
    index = beside(rec, ".idx")
    if offsets[-1] > size - _SMALLEST:
        raise InputError(
            f"{index}: key {keys[-1]}",
            found=f"offset {offsets[-1]}",
            expected=f"a record in the {size} bytes of {rec.name}: is that cut off?",
        )
    for row in np.flatnonzero(np.diff(offsets) < _SMALLEST)[:1]:
        raise InputError(
            f"{index}: key {keys[row + 1]}",
            found=f"offset {offsets[row + 1]}, within the record of key {keys[row]}",
            expected="a record for each key",
        )
    return keys, np.ascontiguousarray(offsets)


def _is_first_of_ranges(key: int, head: np.void) -> bool:
    return bool(key == 0 and head["flag"] == 2 and head["word"] & _LENGTH == _HEADER.size + 8)


def _image_range(rec: Path, keys: Ints, bounds: NDArray[np.float32]) -> tuple[int, int]:
    """Row after the last image, and number of identity ranges; `keys` begin with 0."""
    where = f"{rec}: record 0"
    first, end = map(float, bounds)
    if not (1 <= first <= end and first.is_integer() and end.is_integer()):
        expected = "the first key of the identity ranges and the one after their last"
        raise InputError(where, found=f"labels {first:g} and {end:g}", expected=expected)
    images = keys[1 : np.searchsorted(keys, first)]
    if len(images) != first - 1:
        gaps = np.flatnonzero(images != np.arange(1, len(images) + 1))
        missing = gaps[0] + 1 if len(gaps) else len(images) + 1
        expected = f"images 1 to {first - 1:.0f}, as record 0 says: is a file cut off?"
        raise InputError(rec, found=f"no record {missing}", expected=expected)
    if not len(images):
        raise InputError(where, found="no images", expected=RECORDS)
    return 1 + len(images), int(end - first)


def _stated(rec: Path) -> Stated | None:
    path = rec.parent / "property"
    try:
        text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(path, found=error.strerror, expected="a readable file") from None
    numbers = [number.strip() for number in text.split(",", 3)]
    if len(numbers) != 3 or not all(re.fullmatch("[0-9]{1,9}", number) for number in numbers):
        expected = "three numbers parted by commas: classes, height, width"
        raise InputError(path, found=repr(text[:40]), expected=expected)
    return Stated(*map(int, numbers))


def _check_classes(records: RecordFile, ranges: int | None) -> None:
    """A list that is not sorted has more ranges than identities: either number will do."""
    if ranges is None or records.stated is None:
        return
    identities = len(np.unique(records.labels))
    if records.stated.classes not in (ranges, identities):
        raise InputError(
            records.path.parent / "property",
            found=f"{records.stated.classes} classes",
            expected=f"{identities}, the identities in {records.path.name}",
        )
