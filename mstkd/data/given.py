"""Faces that a program holds or names: paths, arrays and tensors, as rows of pixels.

Shapes: N images, H their side in pixels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mstkd.config.data import Suffixes
from mstkd.data.decode import BadImage, decode, formats_of
from mstkd.data.formats.layouts import ending, how_to_read
from mstkd.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    Face: TypeAlias = str | Path | NDArray[np.uint8] | Tensor
    Faces: TypeAlias = Face | Sequence[Face]


def aligned_face(path: Path, size: int, more: Suffixes = None) -> NDArray[np.uint8]:
    """Pixels uint8 (size, size, 3), RGB, of an image of an aligned face.

    Args:
        path: the file.
        size: side in pixels; nothing is resized, for that is no alignment.
        more: endings of further formats to read; the bytes say which format a file has.

    Raises:
        InputError: it cannot be read, or has another size.
    """
    expected = f"an aligned face of {size} x {size} pixels"
    try:
        pixels = decode(path, formats=formats_of(more))
    except BadImage as bad:
        hint = how_to_read([ending(path.name, more)])
        raise InputError(path, found=bad.reason, expected=expected + hint) from None
    height, width = pixels.shape[:2]
    if (height, width) != (size, size):
        raise InputError(path, found=f"{width} x {height}", expected=expected)
    return pixels


class GivenFaces:
    """Images uint8 (N, H, H, 3), RGB, to be indexed by slices; files are read when they are asked.

    Args:
        images: one or several of: the path of an image, an array uint8 (H, H, 3) RGB, a tensor
            uint8 (3, H, H) RGB; or an array (N, H, H, 3) or a tensor (N, 3, H, H) of many.
        image_size: H.
        more: endings of further formats to read.

    Raises:
        InputError: an array or tensor of another type or shape, or nothing at all; of a file when
            it is read, that it is no such image.
    """

    def __init__(self, images: Faces, image_size: int, more: Suffixes = None) -> None:
        self._size, self._more = image_size, more
        self._faces: list[Path | NDArray[np.uint8]] = []
        self._add(images, "images")
        if not self._faces:
            raise InputError("images", found="none", expected="at least one")
        self.names = tuple(
            str(one) if isinstance(one, Path) else f"images[{place}]"
            for place, one in enumerate(self._faces)
        )

    def __len__(self) -> int:
        return len(self._faces)

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        return np.stack(
            [
                aligned_face(one, self._size, self._more) if isinstance(one, Path) else one
                for one in self._faces[rows]
            ]
        )

    def _add(self, images: Any, where: str) -> None:
        if isinstance(images, str | os.PathLike):
            self._faces.append(Path(images))
        elif isinstance(images, np.ndarray):
            many = images if images.ndim == 4 else images[None]
            self._check(many, images, where, (self._size, self._size, 3))
            self._faces += list(many)
        elif hasattr(images, "detach"):  # a tensor, whatever it takes to load its library
            array = images.detach().cpu().numpy()
            many = array if array.ndim == 4 else array[None]
            self._check(many, array, where, (3, self._size, self._size))
            self._faces += list(np.ascontiguousarray(many.transpose(0, 2, 3, 1)))
        else:
            for place, one in enumerate(images):
                self._add(one, f"{where}[{place}]")

    def _check(self, many: NDArray[Any], one: Any, where: str, shape: tuple[int, ...]) -> None:
        if many.dtype != np.uint8 or many.shape[1:] != shape:
            expected = f"uint8 of shape {shape} or (N, {', '.join(map(str, shape))}), RGB, 0 to 255"
            raise InputError(where, found=f"{one.dtype} of shape {one.shape}", expected=expected)
