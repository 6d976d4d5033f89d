"""What embeds images: a backbone in PyTorch.

Shapes: N images, H their side in pixels, D embedding dimension.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from mstkd.config import InputSettings
from mstkd.embeddings.embed import Extractor, Rows, embed_with_mirror, uploads
from mstkd.models.backbone import Backbone


class Network(Protocol):
    """What turns images into embeddings, whatever computes it."""

    def embed(self, images: Rows, rows: Sequence[slice], *, mirror: bool) -> NDArray[np.float32]:
        """Embeddings (N, D) of any length of images uint8 (N, H, H, 3), RGB.

        Args:
            images: are asked for `rows`, which follow each other.
            rows: of the batches.
            mirror: whether to add the embedding of the mirror image.
        """
        ...

    def shown(self, seen: InputSettings) -> Network:
        """The same, but that images are shown to it in another order of colours or range."""
        ...


class TorchNetwork:
    """A backbone on a device."""

    def __init__(self, network: Backbone, device: torch.device) -> None:
        self.network, self.device = network, device
        self._extractor = Extractor(network, device)

    def embed(self, images: Rows, rows: Sequence[slice], *, mirror: bool) -> NDArray[np.float32]:
        if mirror:
            return embed_with_mirror(self._extractor, images, self.device, rows)
        with torch.no_grad():
            parts = [self._extractor(batch) for batch in uploads(images, self.device, rows)]
        found: NDArray[np.float32] = torch.cat(parts).cpu().numpy()
        return found

    def shown(self, seen: InputSettings) -> TorchNetwork:
        other = copy.deepcopy(self.network)
        other.show(seen)
        return TorchNetwork(other, self.device)
