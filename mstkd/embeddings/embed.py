"""Images to embeddings.

Shapes: B images of a batch, N of a pack, H their side in pixels, D embedding dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mstkd.compute.devices import autocast, place
from mstkd.config import Precision
from mstkd.data.loader import BATCHES_AHEAD, normalise, prefetched
from mstkd.models.backbone import Backbone, folded
from mstkd.progress import say

BATCH = 128  # of images in flight; the result does not depend on it
# Images on a GPU from which on compiling, which takes some seconds, is earned back.
WORTH_COMPILING = 100_000


class Rows(Protocol):
    """Images uint8 (N, H, H, 3), RGB: of a pack, an array, or read when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> NDArray[np.uint8]: ...


class Extractor(nn.Module):
    """A copy of a backbone that only embeds: in evaluation mode, folded, on a device.

    Args:
        backbone: is left as it is.
        device: where it computes.
        precision: of convolutions and matrix products; embeddings are float32.
        compiled: by torch.compile on a GPU, where it can be; nothing on a CPU.
    """

    def __init__(
        self,
        backbone: Backbone,
        device: torch.device,
        precision: Precision = "float32",
        *,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.network = place(folded(backbone), device)
        self._device, self._precision = device, precision
        self._compiled: Callable[[Tensor], Tensor] | None = None
        if compiled and device.type == "cuda":
            self._compiled = torch.compile(self.network, dynamic=False)
        self._most = 1 << 62  # images at a time
        self._size = 0  # of the batches that are compiled for

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings float32 (B, D) of images (B, 3, H, H) in [-1, 1], not normalised.

        Where a GPU has too little memory for so many, they are embedded in parts: an image's
        embedding does not depend on those beside it.

        Raises:
            torch.OutOfMemoryError: it has too little for one.
        """
        try:
            parts = [self._embedded(part) for part in torch.split(images, self._most)]
            return parts[0] if len(parts) == 1 else torch.cat(parts)
        except torch.OutOfMemoryError:
            if min(len(images), self._most) == 1:
                raise
        # Not within the handler, which holds what was too large.
        self._most = (min(len(images), self._most) + 1) // 2
        self._size = 0  # or parts would be padded to what was too large
        say(f"embedding: the GPU is out of memory; {self._most} images at a time, the same result")
        return self(images)

    def _embedded(self, images: Tensor) -> Tensor:
        with autocast(self._precision, self._device):
            if self._compiled is None:
                embeddings: Tensor = self.network(images)
            else:
                embeddings = self._compiled_or_not(self._compiled, images)
        return embeddings.float()

    def _compiled_or_not(self, network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        count = len(images)
        self._size = max(self._size, count)
        # The last batch is padded: another size would be compiled for again.
        padded = functional.pad(images, (0, 0, 0, 0, 0, 0, 0, self._size - count))
        try:
            return network(padded.contiguous(memory_format=torch.channels_last))[:count]
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever it is: it can be done without
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            told = f"embedding: not compiled, which is slower: {reason}"
            say(told)
            self._compiled = None
            embeddings: Tensor = self.network(images)
            return embeddings


def uploads(
    images: Rows,
    device: torch.device,
    rows: Iterable[slice] | None = None,
) -> Iterator[Tensor]:
    """Batches (B, 3, H, H) in [-1, 1] on the device, of uint8 images (N, H, H, 3).

    They come in order unless `rows` says which. On a GPU a thread reads ahead, and nothing waits
    for a copy.
    """
    if rows is None:
        rows = (slice(begin, begin + BATCH) for begin in range(0, len(images), BATCH))
    parts = (torch.from_numpy(np.array(images[part])) for part in rows)
    if device.type == "cpu":
        yield from map(normalise, parts)
        return
    for part in prefetched((part.pin_memory() for part in parts), BATCHES_AHEAD):
        yield normalise(part.to(device, non_blocking=True))


def downloads(results: Iterator[Tensor]) -> Iterator[Tensor]:
    """The same tensors on the CPU; a GPU goes on with the next while one is used."""
    waiting: tuple[Tensor, torch.cuda.Event] | None = None
    for result in results:
        if not result.is_cuda:
            yield result
            continue
        host = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
        host.copy_(result, non_blocking=True)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record()
        if waiting is not None:
            waiting[1].synchronize()
            yield waiting[0]
        waiting = (host, copied)
    if waiting is not None:
        waiting[1].synchronize()
        yield waiting[0]


@torch.no_grad()
def unit_embeddings(
    model: nn.Module,
    images: Rows,
    device: torch.device,
    rows: Iterable[slice] | None = None,
    *,
    mirrored: bool = False,
) -> Iterator[Tensor]:
    """Embeddings of unit length, float32 (B, D) on the CPU, in the batches of `uploads`.

    Of the images, or of their mirror images.
    """
    batches = uploads(images, device, rows)
    if mirrored:
        batches = (batch.flip(3) for batch in batches)
    yield from downloads(functional.normalize(model(batch)) for batch in batches)


@torch.no_grad()
def embed_with_mirror(
    model: nn.Module,
    images: Rows,
    device: torch.device,
    rows: Iterable[slice] | None = None,
) -> NDArray[np.float32]:
    """Embeddings (N, D) for verification: image plus mirror image, summed un-normalised (D9).

    `model` is on the device and in evaluation mode, as `Extractor` makes it; `images` are uint8
    (N, H, H, 3) of a pack, or in memory; `rows` are batches, which follow each other.
    """
    # They stay on the device until all are there: each copy back would wait.
    parts = [model(batch) + model(batch.flip(3)) for batch in uploads(images, device, rows)]
    found: NDArray[np.float32] = torch.cat(parts).cpu().numpy()
    return found
