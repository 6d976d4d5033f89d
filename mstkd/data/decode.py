"""An image file to pixels, the same way everywhere."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from mstkd.data.sources import Source, read

FORMATS = ("JPEG", "PNG", "WEBP")
# Pillow's formats of `data.more_suffixes`.
MORE_FORMATS = {
    ".bmp": "BMP",
    ".jpe": "JPEG",
    ".pgm": "PPM",
    ".pnm": "PPM",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
TIFF_TILE = (322, 323)  # tags of a tile's width and length, TIFF 6.0 section 15
MOST_PIXELS = 50_000_000  # of a picture; decoding takes ten bytes for each
JFIF = {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi"}  # no word of an orientation

# How a JFIF file begins, its first segment's end, and the markers of ITU-T T.81 table B.1 that
# follow in a plain one: a frame, tables of Huffman codes, of quanta and the restart interval.
JFIF_BEGIN, JFIF_END = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", 20
FRAMES = (0xFFC0, 0xFFC1, 0xFFC2)
TABLES = (0xFFC4, 0xFFDB, 0xFFDD)
SCAN = 0xFFDA
_SEGMENT, _FRAME = struct.Struct(">HH").unpack_from, struct.Struct(">BHHB").unpack_from

Frame = tuple[int, int, int, int]  # bits a sample, height, width, colours


class BadImage(Exception):  # noqa: N818, it is a finding, not a fault of ours
    """An image that cannot be used. `reason` completes "this image is bad: ..."."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def formats_of(suffixes: Iterable[str] | None) -> tuple[str, ...]:
    """Pillow's names of the formats that are read where `data.more_suffixes` names these."""
    return tuple(dict.fromkeys((*FORMATS, *(MORE_FORMATS[one] for one in suffixes or ()))))


def called(formats: Iterable[str]) -> str:
    """Formats in words: "JPEG, PNG or WebP"."""
    *names, last = ("WebP" if one == "WEBP" else one for one in formats)
    return f"{', '.join(names)} or {last}"


def decode(
    source: Source | bytes, image_size: int | None = None, formats: tuple[str, ...] = FORMATS
) -> NDArray[np.uint8]:
    """Pixels uint8 (H, W, 3), RGB, of an image of the formats; H = W = `image_size` if given.

    The EXIF orientation is applied. Grey is repeated over the channels, a palette looked up,
    CMYK converted without a colour profile, transparency dropped (the colours below it stay),
    16-bit samples cut to their high byte; of an animation, or of a TIFF file's pages, the first
    picture counts. Nothing is resized: that belongs to the alignment.

    Raises:
        BadImage: the file cannot be read, is not such an image, is cut off, has another size, or
            more than `MOST_PIXELS`, however few its bytes are.
    """
    try:
        data = source if isinstance(source, bytes) else read(source)
    except OSError as error:
        raise BadImage(error.strerror or str(error)) from None
    if not data:
        raise BadImage("an empty file")
    if image_size is not None and _is_plain(data, image_size):
        pixels = _decode_plain(data, image_size)
        if pixels is not None:
            return pixels
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            if image_size is not None and image.size != (image_size, image_size):
                width, height = image.size
                raise BadImage(f"found {width}x{height}, expected {image_size}x{image_size}")
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise BadImage(f"{width}x{height} pixels, more than {MOST_PIXELS:,}")
            if isinstance(image, TiffImageFile):
                _check_tiff(image)
            image.load()
            return _rgb(image)
    except UnidentifiedImageError:
        raise BadImage(f"not a {called(formats)} image") from None
    except Image.DecompressionBombError as error:
        raise BadImage(str(error)) from None
    # What Pillow's readers raise on damaged files; its OSError says "truncated" where it is.
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise BadImage(f"damaged: {error}") from None


def _check_tiff(image: TiffImageFile) -> None:
    """Refuse a tile of more pixels than a picture may have, and samples of no known white.

    Of a small picture a tile may be as large as it says, and is decoded whole.
    """
    width, length = (int(image.tag_v2.get(tag, 1)) for tag in TIFF_TILE)
    if width * length > MOST_PIXELS:
        raise BadImage(f"tiles of {width}x{length} pixels, more than {MOST_PIXELS:,}")
    if image.mode == "F":
        raise BadImage("floating-point samples, of which nobody says what is white")


def _is_plain(data: bytes, side: int) -> bool:
    """Whether this is JFIF of that size and of three colours, with nothing beside the image."""
    if not data.startswith(JFIF_BEGIN):
        return False
    framed = False
    for marker, frame in segments(data, JFIF_END):
        if frame is not None:
            framed = frame == (8, side, side, 3)
            if not framed:
                return False
        elif marker not in TABLES:
            return framed and marker == SCAN
    return False


def segments(data: bytes, at: int) -> Iterator[tuple[int, Frame | None]]:
    """Marker of each segment of a JPEG from the byte `at` on, and what a frame says of itself.

    What is no marker ends nothing: the caller stops at the first that it does not know.
    """
    while at + 10 <= len(data):
        marker, length = _SEGMENT(data, at)
        yield marker, _FRAME(data, at + 4) if marker in FRAMES else None
        at += 2 + length


def _decode_plain(data: bytes, side: int) -> NDArray[np.uint8] | None:
    """What Pillow's reader makes of a plain file, by its decoder alone, in less time.

    None where the decoder finds a fault: the reader then names it.
    """
    try:
        image = Image.frombytes("RGB", (side, side), data, "jpeg", "RGB", "")
    except (OSError, ValueError):
        return None
    return np.frombuffer(image.tobytes(), np.uint8).reshape(side, side, 3)


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if not image.info.keys() <= JFIF:
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16-bit grey
        high = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(high[:, :, None], 3, axis=2)  # (H, W, 3)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"), np.uint8)
