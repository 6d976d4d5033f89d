"""Images to embeddings.

Shapes: B images of a batch, N of a pack, H their side in pixels, D embedding dimension.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mstkd.data.loader import normalise
from mstkd.data.pack import Images

BATCH = 128  # of images in flight; the result does not depend on it


@torch.inference_mode()
def embed_batch(model: nn.Module, images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Embeddings float32 (B, D) of uint8 images (B, H, H, 3), not normalised."""
    return model(normalise(torch.from_numpy(images).to(device)))


@torch.inference_mode()
def embed_with_mirror(
    model: nn.Module, images: Images, device: torch.device
) -> NDArray[np.float32]:
    """Embeddings (N, D) for verification: image plus mirror image, summed un-normalised (D9).

    `model` is on the device and in evaluation mode, as `folded` makes it; `images` are uint8
    (N, H, H, 3) of a pack.
    """
    parts = []
    for begin in range(0, len(images), BATCH):
        batch = normalise(torch.from_numpy(np.array(images[begin : begin + BATCH])).to(device))
        parts.append((model(batch) + model(batch.flip(3))).cpu())
    return torch.cat(parts).numpy()
