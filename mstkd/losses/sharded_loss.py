"""A margin head's loss where no process computes all logits.

Two reasons, alone or together: the classes lie on several ranks, which is exact; and there are so
many that a step looks at a share of them only (Partial-FC; An et al., 2021 and 2022).
Shapes: B batch of all ranks, b of this one, C identities, c of this rank, D embedding dimension,
n classes of this rank that a step looks at.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mstkd.compute.ranks import Ranks
from mstkd.errors import InputError
from mstkd.losses.heads import MarginHead, farthest_first, margin_logits, uploaded


class Looked(NamedTuple):
    """The classes of this rank that a step looks at."""

    weight: Tensor  # (n, D)
    targets: Tensor  # (B,) int64, the target's place among the n, or -1: it is not here
    absent: Tensor | None  # (n,) bool, places that hold no class


class ShardedHeadLoss(nn.Module):
    """The loss of a head whose classes are shared out, or drawn, or both.

    The parameter `head.weight` holds this rank's rows alone, (c, D).

    Args:
        head: the whole head, the same on all ranks; its weight is cut down to this rank's.
        ranks: who shares.
        generator: what classes are drawn from; in the same state on all ranks, on the CPU.
        share: of all classes that a step looks at, beside those of the batch; None for all.

    Raises:
        InputError: fewer identities than ranks.
    """

    def __init__(
        self,
        head: MarginHead,
        ranks: Ranks,
        generator: torch.Generator,
        share: float | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = len(head.weight)
        if self.num_classes < ranks.size:
            raise InputError(
                "--ranks",
                found=f"{ranks.size} for {self.num_classes} identities",
                expected="no more ranks than identities",
            )
        self.begin, self.end = ranks.block(self.num_classes)
        head.weight = nn.Parameter(head.weight.detach()[self.begin : self.end].clone())
        self.head, self.ranks, self.generator, self.share = head, ranks, generator, share

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean over all ranks' samples, the same number (0-d, float32) on all.

        As the gradients of all ranks are averaged afterwards, that of the embeddings is `ranks`
        times the loss's own; that of the weight, which no other rank has, is the loss's own.

        Args:
            embeddings: this rank's, (b, D), of any length.
            labels: this rank's, (b,) int64 in [0, C).
        """
        labels = self.ranks.gather(labels)  # (B,)
        margins = self.head.draw_margins(len(labels), labels.device)
        with torch.autocast(embeddings.device.type, enabled=False):
            everyone = _Gather.apply(embeddings.float(), self.ranks)  # (B, D)
            weight, targets, absent = self._looked_at(labels)

            def with_margin(cosine: Tensor) -> Tensor:
                ordered = margins
                if self.head.plus:
                    ordered = self._farthest_first(margins, cosine, targets)
                return self.head.with_margin(cosine, ordered)

            logits = margin_logits(everyone, weight, targets, with_margin, scale=self.head.scale)
            if absent is not None:
                logits = logits.masked_fill(absent, -math.inf)
            return _CrossEntropy.apply(logits, targets, self.ranks)

    def _looked_at(self, labels: Tensor) -> Looked:
        weight = self.head.weight.float()
        here = (labels >= self.begin) & (labels < self.end)
        local = torch.where(here, labels - self.begin, 0)
        if self.share is None:
            return Looked(weight, torch.where(here, local, -1), None)
        drawn = draw_classes(self.num_classes, self.share, self.generator)
        first, last = torch.searchsorted(drawn, torch.tensor([self.begin, self.end])).tolist()
        own = uploaded(drawn[first:last] - self.begin, labels.device)
        # Behind the drawn ones a place for each sample's target, so that no size depends on the
        # labels, for which the host would have to wait. A class counts once: where it is a
        # target, at the first sample that has it.
        number = torch.arange(len(labels), device=labels.device)
        first_with = (labels[:, None] == labels).int().argmax(1)  # (B,)
        classes = self.end - self.begin
        is_target = torch.zeros(classes + 1, dtype=torch.bool, device=labels.device)
        is_target.index_fill_(0, torch.where(here, local, classes), True)  # the last is no class
        absent = torch.cat([is_target[own], ~here | (first_with != number)])
        targets = torch.where(here, len(own) + first_with, -1)
        return Looked(weight.index_select(0, torch.cat([own, local])), targets, absent)

    def _farthest_first(self, margins: Tensor, cosine: Tensor, targets: Tensor) -> Tensor:
        """The margins (B,) in the order of all ranks' cosines; each knows those of its classes."""
        known = torch.where(targets >= 0, cosine.detach(), 0)
        return farthest_first(margins, self.ranks.add(known))

    def extra_repr(self) -> str:
        share = "all" if self.share is None else self.share
        return f"classes {self.begin} to {self.end - 1} of {self.num_classes}, share={share}"


def draw_classes(count: int, share: float, generator: torch.Generator) -> Tensor:
    """A share of `range(count)`, at least one, without repetition: sorted int64, on the CPU."""
    # NumPy's draw needs no permutation of all classes, of which there may be millions.
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    size = max(1, round(share * count))
    drawn = np.random.default_rng(seed).choice(count, size, replace=False, shuffle=False)
    return torch.from_numpy(np.sort(drawn))


class _Gather(torch.autograd.Function):
    """This rank's rows (b, D) to all ranks' (B, D); the gradient is `ranks` times the rows' own."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks, ctx.rows = ranks, len(own)
        return ranks.gather(own) if ranks.size > 1 else own.view_as(own)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        ranks: Ranks = ctx.ranks
        if ranks.size == 1:
            return grad, None
        total = ranks.add(grad.contiguous().clone())
        return total[ranks.share(len(total))] * ranks.size, None


class _CrossEntropy(torch.autograd.Function):
    """The mean cross-entropy (0-d) of logits (B, n) that go on, to the right, on other ranks."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, ranks: Ranks) -> Tensor:
        here = targets >= 0
        columns = targets.clamp(min=0)[:, None]
        largest = ranks.keep_largest(logits.amax(1))  # (B,)
        shifted = logits - largest[:, None]
        of_target = torch.where(here, shifted.gather(1, columns)[:, 0], 0)
        exponentials = shifted.exp_()
        sums, of_target = ranks.add(torch.stack([exponentials.sum(1), of_target]))
        ctx.save_for_backward(exponentials, sums, here, columns)
        return (sums.log() - of_target).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        exponentials, sums, here, columns = ctx.saved_tensors
        of_logits = exponentials / sums[:, None]
        of_logits.scatter_add_(1, columns, -here.to(of_logits.dtype)[:, None])
        return of_logits.mul_(grad / len(of_logits)), None, None
