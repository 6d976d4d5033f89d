"""Packs to batches on a device.

The order of an epoch depends on the seed and the epoch's number alone, so a resumed run sees
the batches that an uninterrupted one would. Shapes: B batch, H side in pixels, N images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mstkd.data.encoded import EncodedImages
from mstkd.data.pack import Pack
from mstkd.errors import InputError
from mstkd.seeds import seed_from

Batch = dict[str, Tensor]


def normalise(images: Tensor) -> Tensor:
    """uint8 (B, H, H, 3) to float32 (B, 3, H, H) in [-1, 1] (section 4.6), channels last."""
    return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of `range(count)` for one epoch."""
    return np.random.default_rng(seed_from("order", seed, epoch)).permutation(count)


class FaceBatches:
    """Flipped, normalised batches of the images of some identities.

    Args:
        packs: training packs of one image size, in the experiment's group order.
        split: identities to use by group; None for all.
        batch_size: B; the last, smaller batch of an epoch is dropped (batch statistics).
        seed: of order and flips.
        device: where the batches go.

    Batches hold `images` float32 (B, 3, H, H), `labels` int64 (B,) in [0, num_classes) and
    `rows` int64 (B,), the image's row in the packs laid end to end.

    Raises:
        InputError: packs of several sizes, an identity of the split that no pack has, or fewer
            images than a batch holds.
    """

    def __init__(
        self,
        packs: Sequence[Pack],
        *,
        split: Mapping[str, Sequence[str]] | None,
        batch_size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self._packs, self._seed, self._device = packs, seed, device
        self.batch_size = batch_size
        self.image_size = one_image_size(packs)
        pack_of, row_of, label_of = [], [], []
        self.num_classes = 0
        for number, pack in enumerate(packs):
            labels = _labels(pack, split)
            used = labels[pack.identity] >= 0
            rows = np.flatnonzero(used)
            pack_of.append(np.full(len(rows), number, np.int16))
            row_of.append(rows)
            label_of.append(labels[pack.identity[rows]] + self.num_classes)
            self.num_classes += int((labels >= 0).sum())
        self._pack_of = np.concatenate(pack_of)
        self._row_of = np.concatenate(row_of)
        self._label_of = np.concatenate(label_of)
        self._offsets = np.cumsum([0, *(len(pack.images) for pack in packs)])
        self.steps = len(self._row_of) // batch_size  # in an epoch
        if self.steps == 0:
            raise InputError(
                "optimiser.batch_size",
                found=f"{batch_size} for {len(self._row_of)} images",
                expected="at least one full batch",
            )

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from the batch `first` on."""
        order = epoch_order(len(self._row_of), self._seed, number)
        random = np.random.default_rng(seed_from("flip", self._seed, number))
        flips = random.random(len(order)) < 0.5
        for step in range(first, self.steps):
            part = slice(step * self.batch_size, (step + 1) * self.batch_size)
            chosen = order[part]
            images = self._gather(chosen)
            flip = torch.from_numpy(flips[part]).to(self._device)
            # Flipped as bytes, of which there are a quarter as many as of floats.
            images = torch.where(flip[:, None, None, None], images.flip(2), images)
            yield {
                "images": normalise(images),
                "labels": torch.from_numpy(self._label_of[chosen]).to(self._device),
                "rows": torch.from_numpy(
                    self._offsets[self._pack_of[chosen]] + self._row_of[chosen]
                ),
            }

    def _gather(self, chosen: NDArray[np.int64]) -> Tensor:
        """Images uint8 (B, H, H, 3) on the device."""
        size = self.image_size
        images = torch.empty((len(chosen), size, size, 3), dtype=torch.uint8, device=self._device)
        pack_of, rows = self._pack_of[chosen], self._row_of[chosen]
        for number in np.unique(pack_of):
            here = np.flatnonzero(pack_of == number)
            source = self._packs[number].images
            if isinstance(source, EncodedImages):
                part = source.decode_batch(rows[here], self._device)
            else:
                part = torch.from_numpy(source[rows[here]]).to(self._device)
            if len(here) == len(chosen):
                return part
            images[torch.from_numpy(here).to(self._device)] = part
        return images


def one_image_size(packs: Sequence[Pack]) -> int:
    """The side that all packs share, in pixels.

    Raises:
        InputError: they differ.
    """
    first = packs[0]
    for pack in packs:
        if pack.image_size != first.image_size:
            raise InputError(
                pack.path, found=f"{pack.image_size} pixels", expected=f"{first.image_size} pixels"
            )
    return first.image_size


def pack_hashes(packs: Sequence[Pack]) -> dict[str, str]:
    """The content hash of each pack by its group.

    Raises:
        InputError: two packs of one group.
    """
    hashes: dict[str, str] = {}
    for pack in packs:
        if pack.group in hashes:
            raise InputError(
                pack.path, found=f"group {pack.group} again", expected="a pack a group"
            )
        hashes[pack.group] = pack.sha256
    return hashes


def _labels(pack: Pack, split: Mapping[str, Sequence[str]] | None) -> NDArray[np.int64]:
    """Per identity of the pack its label from 0 on, or -1 where the split leaves it out."""
    labels = np.full(len(pack.identity_names), -1, np.int64)
    if split is None:
        labels[:] = np.arange(len(labels))
        return labels
    number_of = {name: number for number, name in enumerate(pack.identity_names)}
    wanted = split.get(pack.group, ())
    for name in wanted:
        if name not in number_of:
            raise InputError(
                Path(pack.path),
                found=f"no identity {name!r}",
                expected=f"the identities that the split names for group {pack.group}",
            )
    chosen = sorted(number_of[name] for name in wanted)
    labels[chosen] = np.arange(len(chosen))
    return labels
