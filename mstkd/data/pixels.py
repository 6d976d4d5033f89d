"""Images kept as pixels and compared with their checksums when they are read first.

Shapes: B batch, H side in pixels, N images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mstkd.artifacts.sealed import Pieces


class PixelImages:
    """Images uint8 (N, H, H, 3), read-only, to be indexed along the first axis.

    Args:
        stored: the pixels (N, H, H, 3); a memory map for instance.
        pieces: the checksums of the images.
        where: the file, for messages.

    Raises:
        InputError: when indexed, an image that is not what was written.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, stored: NDArray[np.uint8], pieces: Pieces, *, where: object) -> None:
        self.stored, self._pieces, self._where = stored, pieces, where
        self._data = stored.view(np.ndarray)  # the slices of a memory map are slow to make
        self._rows = np.arange(len(stored))
        self.shape = stored.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        """Pixels of an int (H, H, 3), of a slice or of an array of rows or a mask (B, H, H, 3)."""
        images, chosen = self._data[rows], self._rows[rows]  # as NumPy understands `rows`
        one = np.ndim(chosen) == 0
        self._pieces.compare(
            np.atleast_1d(chosen), images[None] if one else images, where=self._where
        )
        return images
