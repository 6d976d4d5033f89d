"""Packs to batches on a device.

The order of an epoch depends on the seed and the epoch's number alone, so a resumed run sees
the batches that an uninterrupted one would. Shapes: B batch, H side in pixels, N images.
"""

from __future__ import annotations

import itertools
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mstkd.data.encoded import EncodedImages
from mstkd.data.pack import Pack
from mstkd.errors import InputError
from mstkd.progress import progress, say
from mstkd.seeds import seed_from

Batch = dict[str, Tensor]
Item = TypeVar("Item")

BATCHES_AHEAD = 4  # of those that a thread reads while the device computes
READ_AT_ONCE = 4096  # images on their way to the device's memory
# Of a device's free memory, what network, gradients and activations may need.
RESERVED_BYTES, RESERVED_SHARE = 8 * 2**30, 0.3


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
        share: which samples of each batch to give, where ranks share it out; all if None.
        resident: keep all images in the device's memory; None decides by its free memory, and
            says so.
        tell_mirrored: whether batches say which images they have mirrored.

    Batches hold `images` float32 (B, 3, H, H), `labels` int64 (B,) in [0, num_classes) and
    `rows` int64 (B,), the image's row in the packs laid end to end; where it is told, `mirrored`
    bool (B,). All lie on the device.

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
        share: slice | None = None,
        resident: bool | None = None,
        tell_mirrored: bool = False,
    ) -> None:
        self._tell_mirrored = tell_mirrored
        self._packs, self._seed, self._device = packs, seed, device
        self.batch_size = batch_size
        self._share = share or slice(None)
        self._size = len(range(batch_size)[self._share])  # of what is given
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
        if resident is None:
            resident = self._fit_on_device()
        self._resident = self._load() if resident else None  # uint8 (N, H, H, 3)

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from the batch `first` on."""
        size, device = self._size, self._device
        order = epoch_order(len(self._row_of), self._seed, number)
        random = np.random.default_rng(seed_from("flip", self._seed, number))
        flips = random.random(len(order)) < 0.5
        # Drawn for all, so that a sample is the same whoever has it.
        whole = np.arange(first * self.batch_size, self.steps * self.batch_size)
        own = whole.reshape(-1, self.batch_size)[:, self._share].reshape(-1)
        chosen = order[own]
        # To the device once an epoch: a copy in every step would make it wait.
        flip = torch.from_numpy(flips[own]).to(device)
        labels = torch.from_numpy(self._label_of[chosen]).to(device)
        rows = torch.from_numpy(self._offsets[self._pack_of[chosen]] + self._row_of[chosen])
        for images, mirrored, label, row in zip(
            self._images(chosen),
            torch.split(flip, size),
            torch.split(labels, size),
            torch.split(rows.to(device), size),
            strict=True,
        ):
            # Flipped as bytes, of which there are a quarter as many as of floats.
            turned = torch.where(mirrored[:, None, None, None], images.flip(2), images)
            batch = {"images": normalise(turned), "labels": label, "rows": row}
            yield {**batch, "mirrored": mirrored} if self._tell_mirrored else batch

    def paths(self, rows: Tensor) -> list[str]:
        """What the images of a batch's `rows` are called where they were read."""
        names = [pack.image_paths() for pack in self._packs]
        every = list(itertools.chain.from_iterable(names))
        return [every[row] for row in rows.tolist()]

    def _images(self, chosen: NDArray[np.int64]) -> Iterator[Tensor]:
        """Batches uint8 (B, H, H, 3) on the device of so many times B chosen images."""
        if self._resident is not None:
            for part in torch.split(torch.from_numpy(chosen).to(self._device), self._size):
                yield self._resident[part]
            return
        parts = (
            self._gather(chosen[begin : begin + self._size])
            for begin in range(0, len(chosen), self._size)
        )
        if self._device.type == "cpu":
            yield from parts
            return
        for images in prefetched(parts, BATCHES_AHEAD):
            yield images.to(self._device, non_blocking=True)

    def _gather(self, chosen: NDArray[np.int64]) -> Tensor:
        """Images uint8 (B, H, H, 3), page-locked or on it already where the device is a GPU."""
        size, device = self.image_size, self._device
        cuda = device.type == "cuda"
        decoded_there = cuda and any(isinstance(p.images, EncodedImages) for p in self._packs)
        images = torch.empty(
            (len(chosen), size, size, 3),
            dtype=torch.uint8,
            device=device if decoded_there else "cpu",
            pin_memory=cuda and not decoded_there,
        )
        pack_of, rows = self._pack_of[chosen], self._row_of[chosen]
        for number in np.unique(pack_of):
            here = np.flatnonzero(pack_of == number)
            source = self._packs[number].images
            if decoded_there and isinstance(source, EncodedImages):
                images[torch.from_numpy(here).to(device)] = source.decode_batch(rows[here], device)
            elif decoded_there:
                part = torch.from_numpy(source[rows[here]])
                images[torch.from_numpy(here).to(device)] = part.to(device)
            elif len(here) == len(chosen) and not cuda:
                return torch.from_numpy(source[rows[here]])
            else:  # tensors indexed by tensors would take ten times as long
                images.numpy()[_as_slice(here)] = source[_as_slice(rows[here])]
        return images

    def _fit_on_device(self) -> bool:
        if self._device.type == "cpu":
            return False
        needed = len(self._row_of) * self.image_size**2 * 3
        free = torch.cuda.mem_get_info(self._device)[0]
        fitting = fits(needed, free)
        where = f"in the memory of {self._device}" if fitting else "read as they are needed"
        say(f"images: {needed / 1e9:.1f} GB, {where} ({free / 1e9:.1f} GB free)", sys.stdout)
        return fitting

    def _load(self) -> Tensor:
        side = self.image_size
        images = torch.empty(
            (len(self._row_of), side, side, 3), dtype=torch.uint8, device=self._device
        )
        parts = np.split(np.arange(len(images)), range(READ_AT_ONCE, len(images), READ_AT_ONCE))
        with progress("read images", len(images), "images") as told:
            for part in parts:
                images[int(part[0]) : int(part[-1]) + 1] = self._gather(part)
                told(len(part))
        return images


def _as_slice(numbers: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """The same numbers (K,), K > 0, as a slice where each follows the one before."""
    first, last = int(numbers[0]), int(numbers[-1])
    in_a_row = last - first + 1 == len(numbers) and bool((np.diff(numbers) == 1).all())
    return slice(first, last + 1) if in_a_row else numbers


def fits(needed: int, free: int) -> bool:
    """Whether so many bytes of images leave enough of the free memory for training."""
    return needed <= free - max(RESERVED_BYTES, RESERVED_SHARE * free)


def prefetched(items: Iterator[Item], ahead: int) -> Iterator[Item]:
    """The same items in the same order, a thread making them up to `ahead` in advance."""
    end = object()
    thread = ThreadPoolExecutor(1)
    try:
        waiting = deque(thread.submit(next, items, end) for _ in range(ahead))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(thread.submit(next, items, end))
            yield item  # type: ignore[misc]
    finally:
        thread.shutdown(cancel_futures=True)


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
