"""Images kept as encoded bytes and decoded when indexed: a sixth of the space at JPEG quality 95.

Whatever decodes them, the pixels are those of `mstkd.data.decode.decode`, bit for bit; only the
GPU rounds otherwise. Shapes: B batch, H side in pixels, N images.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from mstkd.artifacts.sealed import Pieces
from mstkd.data.decode import TABLES, BadImage, decode, segments
from mstkd.errors import InputError, anew

if TYPE_CHECKING:  # packs are opened in processes that have no torch
    import torch

# JPEG markers, ITU-T T.81 table B.1, that may stand before a frame: tables, and words on the side.
BEFORE_THE_FRAME = (*TABLES, *range(0xFFE0, 0xFFF0), 0xFFFE)
APP1 = b"\xff\xe1"  # the segment of EXIF and XMP, where an orientation would stand
SEVERAL = b"MPF\0"  # tells that a file holds several pictures
TURNED = range(2, 9)  # EXIF orientations that move pixels


def to_jpeg_or_png(data: bytes, pixels: NDArray[np.uint8], *, aligned: bool = False) -> bytes:
    """What a pack stores of an image so that decoding it gives `pixels` again, exactly.

    The file's own bytes where they are a grey or three-colour JPEG whose pixels lie as they are
    shown, a PNG of `pixels` otherwise.

    Args:
        data: the encoded image.
        pixels: uint8 (H, H, 3), `decode(data, H)`, or what the alignment made of the image.
        aligned: whether an alignment made them, so that `data` does not hold them.
    """
    if not aligned and _plain_jpeg(data, len(pixels)) and _upright(data):
        return data
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    return png.getvalue()


class EncodedImages:
    """Images uint8 (N, H, H, 3) that are decoded when they are indexed, along the first axis.

    Args:
        data: all encoded images end to end, uint8 (bytes,), each as `to_jpeg_or_png` gives it;
            a memory map for instance.
        offsets: where each begins and the last ends, int64 (N + 1,).
        image_size: H.
        where: the file, for messages.
        pieces: the checksums of the encoded images.

    Raises:
        InputError: offsets that do not cut `data` into images; when indexed, an image that is
            not what was written, or damaged.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        data: NDArray[np.uint8],
        offsets: NDArray[np.int64],
        *,
        image_size: int,
        where: object,
        pieces: Pieces,
    ) -> None:
        whole = len(offsets) > 0 and offsets[0] == 0 and offsets[-1] == len(data)
        if not whole or (offsets[1:] <= offsets[:-1]).any():
            found = "offsets that do not fit the encoded images"
            raise InputError(where, found=found, expected=anew("a whole pack", where))
        self._data = data.view(np.ndarray)  # the slices of a memory map are slow to make
        self._begins, self._ends = offsets[:-1], offsets[1:]
        self._pieces, self._where = pieces, where
        self._rows = np.arange(len(offsets) - 1)
        self.shape = (len(offsets) - 1, image_size, image_size, 3)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        """Pixels of an int (H, H, 3), of a slice or of an array of rows or a mask (B, H, H, 3)."""
        chosen = self._rows[rows]  # as NumPy understands `rows`
        if np.ndim(chosen) == 0:
            (data,) = self._encoded(np.atleast_1d(chosen))
            return self._pixels(data, int(chosen)).copy()
        images = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        encoded = self._encoded(chosen)
        for image, data, row in zip(images, encoded, chosen.tolist(), strict=True):
            image[:] = self._pixels(data, row)
        return images

    def decode_batch(self, rows: NDArray[np.int64], device: torch.device) -> torch.Tensor:
        """Images uint8 (B, H, H, 3) of some rows, on the device.

        On a GPU nvJPEG decodes. It rounds otherwise than the CPU's library and does not smooth
        subsampled colours, so its pixels are close to those of `[rows]`, not equal.
        """
        import torch

        if device.type == "cuda":
            try:
                return self._decode_on_gpu(rows, device)
            except (ImportError, RuntimeError):  # a kind of JPEG, or a build, that it cannot do
                pass
        return torch.from_numpy(self[rows]).to(device)

    def _decode_on_gpu(self, rows: NDArray[np.int64], device: torch.device) -> torch.Tensor:
        import torch
        from torchvision.io import ImageReadMode, decode_jpeg  # type: ignore[import-untyped]

        encoded = self._encoded(rows)
        plain = np.array([_plain_jpeg(data.tobytes(), self.shape[1]) for data in encoded], bool)
        images = torch.empty((len(rows), *self.shape[1:]), dtype=torch.uint8, device=device)
        jpegs = [torch.from_numpy(encoded[i].copy()) for i in np.flatnonzero(plain)]
        if jpegs:
            decoded = decode_jpeg(jpegs, ImageReadMode.RGB, device=device)  # each (3, H, H)
            where = torch.from_numpy(np.flatnonzero(plain)).to(device)
            images[where] = torch.stack(decoded).permute(0, 2, 3, 1)
        if not plain.all():
            where = torch.from_numpy(np.flatnonzero(~plain)).to(device)
            images[where] = torch.from_numpy(self[rows[~plain]]).to(device)
        return images

    def _encoded(self, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """The bytes of encoded images, as they were written."""
        begins, ends = self._begins[rows].tolist(), self._ends[rows].tolist()
        encoded = [self._data[begin:end] for begin, end in zip(begins, ends, strict=True)]
        self._pieces.compare(rows, encoded, where=self._where)
        return encoded

    def _pixels(self, encoded: NDArray[np.uint8], row: int) -> NDArray[np.uint8]:
        try:
            return decode(encoded.tobytes(), self.shape[1])
        except BadImage as error:
            found = f"image {row}: {error.reason}"
            expected = anew("a whole pack", self._where)
            raise InputError(self._where, found=found, expected=expected) from None


def _plain_jpeg(data: bytes, image_size: int) -> bool:
    """Whether this begins as a JPEG of that size, 8 bits a sample, grey or of three colours."""
    if data[:2] != b"\xff\xd8":
        return False
    for marker, frame in segments(data, 2):
        if frame is not None:
            return frame in ((8, image_size, image_size, 1), (8, image_size, image_size, 3))
        if marker not in BEFORE_THE_FRAME:
            return False
    return False


def _upright(data: bytes) -> bool:
    if APP1 not in data and SEVERAL not in data:
        return True
    with Image.open(io.BytesIO(data)) as image:
        # Also looks where `decode` finds an orientation that stands in XMP alone.
        orientation = image.getexif().get(ExifTags.Base.Orientation)
        return image.format == "JPEG" and orientation not in TURNED
