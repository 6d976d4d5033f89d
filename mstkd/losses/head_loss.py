"""The loss of a margin head: the mean cross-entropy of its softmax over the identities."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mstkd.compute.ranks import ALONE, Ranks
from mstkd.config import HeadSettings
from mstkd.losses.heads import MarginHead, build_head
from mstkd.losses.sharded_loss import ShardedHeadLoss


class HeadLoss(nn.Module):
    """Over all classes, by one process."""

    def __init__(self, head: MarginHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean (0-d, float32) over embeddings (B, D) and labels (B,) int64."""
        return F.cross_entropy(self.head(embeddings, labels), labels)


def margin_generator(
    settings: HeadSettings | None, num_classes: int, seed: int, device: torch.device
) -> torch.Generator:
    """The random stream of a head on that device.

    It is the device's own, so that a step copies no margins there, unless classes are drawn from
    it too: those are drawn on the CPU.
    """
    sampled = settings is not None and settings.sampled_share(num_classes) is not None
    return torch.Generator("cpu" if sampled else device).manual_seed(seed)


def build_head_loss(
    settings: HeadSettings,
    embedding_dim: int,
    num_classes: int,
    generator: torch.Generator,
    ranks: Ranks = ALONE,
) -> HeadLoss | ShardedHeadLoss:
    """The loss that the settings ask for: with so many identities, and so many ranks.

    Several ranks always share the classes out: the result is the same, and what they tell each
    other is embeddings, of which a batch has fewer than there are class weights.

    Raises:
        InputError: fewer identities than ranks.
    """
    head = build_head(settings, embedding_dim, num_classes, generator)
    share = settings.sampled_share(num_classes)
    if ranks.size == 1 and share is None:
        return HeadLoss(head)
    return ShardedHeadLoss(head, ranks, generator, share)
