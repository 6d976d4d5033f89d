"""InsightFace's verification files, `<group>_test.bin` in RFW's distribution.

A pickle of (images, flags): 2P encoded images, of which 2k and 2k + 1 are pair k, and P flags,
true for a genuine pair. Numbers count from 0, in the order of the file. P pairs.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mstkd.config.data import file_kind
from mstkd.data.formats.layouts import VerificationList
from mstkd.data.formats.unpickling import load_plain
from mstkd.data.sources import FaceImage
from mstkd.errors import InputError

LAYOUT = "a pickle of (images, flags), two images a flag"
MADE_UP = re.compile(r"bin[0-9]{7,}")  # an identity, which the file does not name
LARGEST = 2**31  # bytes; RFW's have 60 MB, and 12,000 images of 400x400 pixels about 500 MB


class BinImage(NamedTuple):
    """An encoded image of a `.bin` file; `number` is that of its first occurrence there."""

    path: Path
    number: int
    data: bytes

    def read_bytes(self) -> bytes:
        return self.data


def group_bins(folder: Path) -> dict[str, Path]:
    """The files of a folder whose names are `<group>_test.bin`, by their group, sorted."""
    named = [path for path in sorted(folder.glob("*")) if file_kind(path) == "bin"]
    return {p.stem.removesuffix("_test"): p for p in named if p.stem.endswith("_test")}


def read_bin(path: Path) -> VerificationList:
    """The images and pairs of a file, each image once, in the order of first occurrence.

    Images are the same where their bytes are. The file knows no identities: images that genuine
    pairs link, directly or by others, are taken for one, named by its first image
    (`bin0000012`). Whether both kinds of pairs occur is not checked here.

    Raises:
        InputError: the file cannot be read, is no plain pickle, or not of this layout.
    """
    value = load_plain(_read(path), path)
    if not _is_list(value) or len(value) != 2 or not _is_list(value[0]):
        raise InputError(path, found=_kind(value), expected=LAYOUT)
    same = _flags(value[1], path)
    images = value[0]
    if len(images) != 2 * len(same):
        odd = ", an odd number," if len(images) % 2 else ""
        found = f"{len(images)} images{odd} and {len(same)} flags"
        raise InputError(path, found=found, expected=LAYOUT)
    if not same:
        raise InputError(path, found="no pairs", expected=LAYOUT)

    row_of: dict[bytes, int] = {}
    made: dict[int, bytes] = {}  # by the id of what a pickle may name many times
    numbers: list[int] = []  # of first occurrences, by row
    rows = np.empty(len(images), np.int32)
    for number, image in enumerate(images):
        data = made.get(id(image))
        if data is None:
            data = made[id(image)] = _encoded(image, number, path)
        rows[number] = row_of.setdefault(data, len(row_of))
        if len(row_of) > len(numbers):
            numbers.append(number)
    pairs = rows.reshape(-1, 2)  # (P, 2)
    genuine = np.array(same, np.bool_)
    firsts = _first_linked(pairs[genuine].tolist(), len(numbers))
    return VerificationList(
        images=[
            FaceImage(
                BinImage(path, number, data),
                f"{path.name}/{number:05}",
                f"bin{numbers[first]:07}",
            )
            for data, number, first in zip(row_of, numbers, firsts, strict=True)
        ],
        pairs=pairs,
        same=genuine,
    )


def are_made_up(identities: Iterable[str]) -> bool:
    """Whether the names of identities are those that `read_bin` gives: no persons' names.

    Two files may have the same names then and mean other persons.
    """
    return all(map(MADE_UP.fullmatch, identities))


def _read(path: Path) -> bytes:
    expected = "a .bin file of images and flags"
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # to open a named pipe would wait for ever
            raise InputError(path, found="no regular file", expected=expected)
        if status.st_size > LARGEST:
            found = f"{status.st_size:,} bytes"
            raise InputError(path, found=found, expected=f"{LARGEST:,} at most")
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(path, found="no such file", expected=expected) from None
    except OSError as error:
        raise InputError(path, found=error.strerror, expected=expected) from None


def _flags(flags: Any, path: Path) -> list[bool]:
    if isinstance(flags, np.ndarray) and flags.ndim == 1:
        flags = flags.tolist()
    if not _is_list(flags):
        raise InputError(path, found=f"flags that are {_kind(flags)}", expected=LAYOUT)
    for number, flag in enumerate(flags):
        if not isinstance(flag, (bool, int, float)) or flag not in (0, 1):
            found = f"flag {number} is {_kind(flag)}"
            raise InputError(path, found=found, expected="true, false, 1 or 0")
    return [bool(flag) for flag in flags]


def _encoded(image: Any, number: int, path: Path) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, bytearray):
        return bytes(image)
    # OpenCV's imencode gave a column before version 4.5, a row of numbers since.
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and _is_vector(image):
        return image.tobytes()
    found = f"image {number} is {_kind(image)}"
    raise InputError(path, found=found, expected="the bytes of a JPEG, PNG or WebP file")


def _first_linked(links: list[tuple[int, int]], count: int) -> list[int]:
    """For each of `count` rows the smallest row that links lead to, itself if there is none."""
    first = list(range(count))

    def root(row: int) -> int:
        while first[row] != row:
            first[row] = first[first[row]]  # halves the way for the next call
            row = first[row]
        return row

    for a, b in links:
        a, b = root(a), root(b)
        first[max(a, b)] = min(a, b)
    return [root(row) for row in range(count)]


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _is_vector(array: NDArray[Any]) -> bool:
    return 0 < array.ndim <= 2 and array.size == max(array.shape)


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    if _is_list(value):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, float) or (type(value) is int and abs(value) < 10**6):
        return str(value)
    return f"of type {type(value).__name__}"
