"""Distillation by embeddings: equation 4, and the sums of equations 5 and 6.

Shapes: B batch, D embedding dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def kd_loss(student: Tensor, target: Tensor) -> Tensor:
    """Squared difference of unit vectors, mean over batch and dimensions (equation 4).

    Both sides are brought to unit length first, as the public code does (D14). So the value is
    2 / D * (1 - cosine), 0 to 4 / D, and times 10000 at D = 512 it is 39.06 * (1 - cosine).

    Args:
        student: (B, D), of any length and float type; it gets the gradient.
        target: (B, D), of any length and float type; usually without a gradient.

    Returns:
        A 0-d tensor, float32 under autocast too (float64 if both sides are).

    Raises:
        ValueError: shapes that differ or are not (B, D).
    """
    unit_student, unit_target = _unit(student, target)
    with torch.autocast(student.device.type, enabled=False):
        return F.mse_loss(unit_student, unit_target)


@torch.no_grad()
def cosine_to_target(student: Tensor, target: Tensor) -> Tensor:
    """Mean cosine of the rows, -1 to 1, without gradient: the loss in words of angles.

    Args:
        student: (B, D), of any length and float type.
        target: (B, D), of any length and float type.

    Raises:
        ValueError: shapes that differ or are not (B, D).
    """
    unit_student, unit_target = _unit(student, target)
    return (unit_student * unit_target).sum(dim=1).mean()


def student_loss(kd: Tensor, classification: Tensor | None, kd_weight: float) -> Tensor:
    """Classification plus `kd_weight` times distillation (equation 5); None leaves equation 6."""
    weighted = kd_weight * kd
    return weighted if classification is None else classification + weighted


def _unit(student: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both (B, D) at unit length, in one type of at least single precision."""
    if student.ndim != 2 or student.shape != target.shape:
        shapes = f"{tuple(student.shape)} and {tuple(target.shape)}"
        raise ValueError(f"student and target of shapes {shapes}, not (B, D) twice")
    dtype = torch.promote_types(torch.promote_types(student.dtype, target.dtype), torch.float32)
    with torch.autocast(student.device.type, enabled=False):
        return F.normalize(student.to(dtype)), F.normalize(target.to(dtype))
