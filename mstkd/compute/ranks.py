"""Processes that train one network together, and what they tell each other.

Each has the same network and an equal share of every batch. A loss is the mean over its share, so
the mean of all ranks' gradients is the gradient over the batch. Every method that talks is called
by all ranks, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from mstkd.errors import InputError

BUCKET_BYTES = 32 * 2**20  # gradients averaged at once: few calls, and little memory for the copy


@dataclass(frozen=True)
class Ranks:
    """This process among those of its job; alone it says nothing and waits for no one.

    Tensors on a GPU go over NCCL, those on the CPU over gloo.
    """

    rank: int  # from 0
    size: int

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes files and lines."""
        return self.rank == 0

    def share(self, batch_size: int, key: str = "optimiser.batch_size") -> slice:
        """Which samples of a batch are this rank's: an equal part, in the order of the ranks.

        Raises:
            InputError: the ranks do not divide the batch; `key` names its size.
        """
        own, rest = divmod(batch_size, self.size)
        if rest:
            raise InputError(
                key, found=f"{batch_size} for {self.size} ranks", expected="a multiple of the ranks"
            )
        return slice(self.rank * own, (self.rank + 1) * own)

    def block(self, count: int) -> tuple[int, int]:
        """First and end of this rank's block of things that need not divide evenly."""
        return self.rank * count // self.size, (self.rank + 1) * count // self.size

    def gather(self, own: Tensor) -> Tensor:
        """All ranks' tensors (b, ...), of one shape, end to end: (size * b, ...); no gradient."""
        if self.size == 1:
            return own
        own = own.detach().contiguous()
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own)
        return torch.cat(parts)

    def add(self, values: Tensor) -> Tensor:
        """The sum over the ranks, in place."""
        if self.size > 1:
            dist.all_reduce(values, dist.ReduceOp.SUM)
        return values

    def keep_largest(self, values: Tensor) -> Tensor:
        """The elementwise maximum over the ranks, in place."""
        if self.size > 1:
            dist.all_reduce(values, dist.ReduceOp.MAX)
        return values

    def average(self, tensors: Iterable[Tensor]) -> None:
        """The mean over the ranks of each tensor, in place; all lie on one device."""
        if self.size == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            self.add(flat).div_(self.size)
            lengths = [tensor.numel() for tensor in bucket]
            for tensor, mean in zip(bucket, torch.split(flat, lengths), strict=True):
                tensor.copy_(mean.view(tensor.shape))

    def largest(self, number: int) -> int:
        """The largest of a number that each rank has; touches no GPU."""
        if self.size == 1:
            return number
        return int(self.keep_largest(torch.tensor(number)))

    def first_says(self, number: float | None) -> float | None:
        """The number of the first rank, exactly, whatever the others have."""
        if self.size == 1:
            return number
        said = torch.zeros(2, dtype=torch.float64)
        if number is not None:
            said = torch.tensor([1.0, number], dtype=torch.float64)
        dist.broadcast(said, 0)
        return float(said[1]) if said[0] else None

    def whole(self, block: Tensor, count: int) -> Tensor | None:
        """The tensor (count, ...) whose `block`s the ranks hold, on the CPU of the first rank."""
        if self.size == 1:
            return block
        block = block.detach().cpu()
        if not self.is_first:
            dist.send(block.contiguous(), 0)
            return None
        blocks = [block]
        for rank in range(1, self.size):
            begin, end = Ranks(rank, self.size).block(count)
            blocks.append(torch.empty((end - begin, *block.shape[1:]), dtype=block.dtype))
            dist.recv(blocks[-1], rank)
        return torch.cat(blocks)

    def wait_for_all(self) -> None:
        """Return when every rank has come here."""
        self.largest(0)


ALONE = Ranks(0, 1)


def _buckets(tensors: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """Tensors of one type, in order, up to `BUCKET_BYTES` a bucket."""
    bucket: list[Tensor] = []
    held = 0
    for tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if bucket and (held + size > BUCKET_BYTES or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, held = [], 0
        bucket.append(tensor)
        held += size
    if bucket:
        yield bucket
