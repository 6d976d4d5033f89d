"""Margin heads on the unit hypersphere: logits for a softmax over identities (equation 3).

A head's logits are the scaled cosines of embeddings and class weights; a margin makes the target's
harder. Margins touch the target's cosine alone, so no (B, C) matrix is made of them.
Shapes: B batch, C identities, D embedding dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mstkd.config import HeadSettings

Margin = Callable[[Tensor], Tensor]  # the target's cosines (B,) to what its logits are made of
SMALLEST_NORM = 1e-12
# Class weights at a time on a CPU, few enough to stay in its cache; a GPU takes all at once.
ROWS = 512
CPU = torch.device("cpu")


class MarginHead(nn.Module):
    """The cosines of the family; a member says what the margin does to the target's.

    The weight has shape (C, D) and starts as N(0, 0.01), as in the public code (D30), which
    stores its transpose.

    Args:
        embedding_dim: D.
        num_classes: C.
        scale: factor of all logits, the paper's s.
        margin: mean of the margins, the paper's m.
        margin_std: their standard deviation, the paper's sigma; a margin is drawn for each
            sample in each call, also in evaluation mode, since a head is only trained with.
        plus: give the largest of the batch's margins to the samples farthest from their weights.
        generator: what margins are drawn from; PyTorch's own if None. One on the device of the
            embeddings spares a copy in every step.
    """

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        scale: float = 64.0,
        margin: float = 0.5,
        margin_std: float = 0.05,
        plus: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.margin = margin
        self.margin_std = margin_std
        self.plus = plus
        self.generator = generator
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim))
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Scaled logits (B, C) of embeddings (B, D), of any length, and labels (B,) int64.

        float32 under autocast too. Gradients are finite everywhere; see `margin_logits`.
        """
        margins = self.draw_margins(len(labels), embeddings.device)

        def with_margin(cosine: Tensor) -> Tensor:
            drawn = farthest_first(margins, cosine) if self.plus else margins
            return self.with_margin(cosine, drawn)

        with torch.autocast(embeddings.device.type, enabled=False):
            return margin_logits(
                embeddings.float(), self.weight.float(), labels, with_margin, scale=self.scale
            )

    def draw_margins(self, count: int, device: torch.device = CPU) -> Tensor:
        """New margins (count,) float32 on that device, drawn where the generator is."""
        if self.margin_std == 0:
            return torch.full((count,), self.margin, device=device)
        drawn_on = device if self.generator is None else self.generator.device
        normal = torch.randn(count, generator=self.generator, device=drawn_on)
        return uploaded(normal * self.margin_std + self.margin, device)

    def with_margin(self, cosine: Tensor, margins: Tensor) -> Tensor:
        """The target's cosines (B,) in [-1, 1] after their margins (B,)."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        classes, dim = self.weight.shape
        return (
            f"{dim}, {classes}, scale={self.scale}, margin={self.margin}, "
            f"margin_std={self.margin_std}, plus={self.plus}"
        )


class ElasticArcFace(MarginHead):
    """cos(theta + m) with m ~ N(margin, margin_std), in radians (equation 3; Boutros et al., 2022).

    `plus` orders the margins within the batch. The public ElasticFace code sorts both cosines and
    margins but then indexes by the order instead of its inverse, which ties a margin to no
    sample in particular; here the order is what `plus` says (see `farthest_first`).
    """

    def with_margin(self, cosine: Tensor, margins: Tensor) -> Tensor:
        return add_angle(cosine, margins)


class ElasticCosFace(MarginHead):
    """cos(theta) - m with m ~ N(margin, margin_std) (Boutros et al., 2022)."""

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        scale: float = 64.0,
        margin: float = 0.35,
        margin_std: float = 0.0125,
        plus: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            embedding_dim,
            num_classes,
            scale,
            margin,
            margin_std,
            plus,
            generator,
        )

    def with_margin(self, cosine: Tensor, margins: Tensor) -> Tensor:
        return cosine - margins


class ArcFace(MarginHead):
    """cos(theta + margin), the margin in radians (Deng et al., 2019)."""

    def __init__(
        self, embedding_dim: int, num_classes: int, scale: float = 64.0, margin: float = 0.5
    ) -> None:
        super().__init__(embedding_dim, num_classes, scale, margin, margin_std=0.0)

    def with_margin(self, cosine: Tensor, margins: Tensor) -> Tensor:
        return add_angle(cosine, margins)


class CosFace(MarginHead):
    """cos(theta) - margin (Wang et al., 2018)."""

    def __init__(
        self, embedding_dim: int, num_classes: int, scale: float = 64.0, margin: float = 0.35
    ) -> None:
        super().__init__(embedding_dim, num_classes, scale, margin, margin_std=0.0)

    def with_margin(self, cosine: Tensor, margins: Tensor) -> Tensor:
        return cosine - margins


HEADS: dict[str, type[MarginHead]] = {
    "ElasticArcFace": ElasticArcFace,
    "ElasticCosFace": ElasticCosFace,
    "ArcFace": ArcFace,
    "CosFace": CosFace,
}


def build_head(
    settings: HeadSettings,
    embedding_dim: int,
    num_classes: int,
    generator: torch.Generator | None = None,
) -> MarginHead:
    """The head that the settings name, for D = `embedding_dim` and C = `num_classes`."""
    head = HEADS[settings.name]
    if settings.name in ("ArcFace", "CosFace"):
        return head(embedding_dim, num_classes, settings.scale, settings.margin)
    return head(
        embedding_dim,
        num_classes,
        settings.scale,
        settings.margin,
        settings.margin_std,
        settings.plus,
        generator,
    )


def uploaded(drawn: Tensor, device: torch.device) -> Tensor:
    """Numbers drawn on a CPU, on the device, without the host's waiting for it.

    Raises:
        RuntimeError: within the capture of a CUDA graph, which would repeat them for ever.
    """
    if drawn.device.type == device.type:
        return drawn
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        raise RuntimeError("numbers drawn on the CPU in every step")
    return drawn.pin_memory().to(device, non_blocking=True)


def add_angle(cosine: Tensor, angle: Tensor) -> Tensor:
    """cos(theta + angle) of cos(theta) (B,) in [-1, 1], without a guard beyond pi.

    The slope sin(theta + angle) / sin(theta) is infinite at theta = 0 and pi. There the sine's
    own slope is taken as 0, which leaves cos(angle): the slope of the part that is smooth.
    """
    squared_sine = (1 - cosine) * (1 + cosine)  # keeps the digits that 1 - cos^2 loses
    inside = squared_sine > 0
    sine = torch.where(inside, squared_sine, 1).sqrt() * inside
    return cosine * angle.cos() - sine * angle.sin()


def farthest_first(margins: Tensor, cosine: Tensor) -> Tensor:
    """The same margins (B,), the largest where the cosine (B,) is smallest."""
    ordered = torch.empty_like(margins)
    ordered[cosine.argsort()] = margins.sort(descending=True).values
    return ordered


def margin_logits(
    embeddings: Tensor, weight: Tensor, labels: Tensor, with_margin: Margin, *, scale: float
) -> Tensor:
    """Scaled cosines (B, C), the target's after its margin; differentiable once.

    Cosines are clamped to [-1, 1], which only removes rounding: gradients ignore it.

    Args:
        embeddings: (B, D), float32 or float64, of any length.
        weight: (C, D), of the same type and any length.
        labels: (B,) int64; -1 where the target is not among these classes, and has no margin.
        with_margin: the target's cosines (B,) to the value in their place, differentiable.
        scale: factor of all logits.
    """
    unit = F.normalize(embeddings, eps=SMALLEST_NORM)  # (B, D)
    target = labels.clamp(min=0)[:, None], labels >= 0  # columns (B, 1), and whether they are meant
    logits, cosine = _ScaledCosines.apply(unit, weight, *target, scale)  # (B, C), (B,)
    return _Place.apply(logits, scale * with_margin(cosine), *target)


class _ScaledCosines(torch.autograd.Function):
    """Logits (B, C) with the target's still without margin, and the target's cosines (B,).

    The weight is never copied at unit length: logits are divided by its norms instead. The
    gradient of the target's logit must come through the second output: `_Place` overwrites the
    first one's.
    """

    @staticmethod
    def forward(
        ctx: Any, unit: Tensor, weight: Tensor, columns: Tensor, here: Tensor, scale: float
    ) -> tuple[Tensor, Tensor]:
        inverse = torch.linalg.vector_norm(weight, dim=1).clamp_(min=SMALLEST_NORM).reciprocal_()
        logits = F.linear(unit, weight)  # (B, C)
        logits.mul_(inverse * scale).clamp_(-scale, scale)
        cosine = _at(logits, columns).div_(scale)
        ctx.save_for_backward(unit, weight, columns, here, inverse)
        ctx.scale = scale
        return logits, cosine

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_cosine: Tensor) -> tuple[Tensor | None, ...]:
        unit, weight, columns, here, inverse = ctx.saved_tensors
        with torch.autocast(grad.device.type, enabled=False):
            grad = grad * (inverse * ctx.scale)  # (B, C), now of dot products with the raw weight
            target = grad_cosine * inverse[columns[:, 0]]
            target = torch.where(here, target, _at(grad, columns))
            grad.scatter_(1, columns, target[:, None])
            of_unit = grad @ weight if ctx.needs_input_grad[0] else None  # (B, D)
            of_weight = None
            if ctx.needs_input_grad[1]:
                of_weight = grad.t() @ unit  # (C, D)
                # A longer weight has the same cosines: what points along it is taken out.
                rows = len(weight) if weight.is_cuda else ROWS
                for w, g, i in zip(
                    weight.split(rows), of_weight.split(rows), inverse.split(rows), strict=True
                ):
                    along = torch.linalg.vecdot(w, g) * i.square()
                    g.addcmul_(w, along[:, None], value=-1)
        return of_unit, of_weight, None, None, None


class _Place(torch.autograd.Function):
    """Writes values (B,) over the target's logits, in place."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, values: Tensor, columns: Tensor, here: Tensor) -> Tensor:
        ctx.mark_dirty(logits)
        ctx.save_for_backward(columns, here)
        values = torch.where(here, values, _at(logits, columns))
        return logits.scatter_(1, columns, values[:, None])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        columns, here = ctx.saved_tensors
        # `_ScaledCosines` puts the target's gradient where this one still has its own.
        return grad, _at(grad, columns) * here, None, None


def _at(matrix: Tensor, columns: Tensor) -> Tensor:
    """The targets' entries (B,) of a matrix (B, C), of their columns (B, 1)."""
    return matrix.gather(1, columns)[:, 0]
