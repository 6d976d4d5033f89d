"""EAF-Fusion adaptors: the spaces of all teachers to one common space (section 4.3).

Input is the teachers' unit embeddings side by side, one block a teacher. Layers are PyTorch's
`Linear` with bias and its initialisation (D29), under the names of the public code; the
attention it also stores but never uses is left out (D13).
Shapes: B batch, T teachers, E dimensions of a teacher's embedding, D of the fused space. In the
paper E and D are 512; here D may be another (`adaptors.width`), and hidden layers are as wide as D.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from mstkd.config import AdaptorArchitecture


class SL(nn.Module):
    """A single layer: blocks (B, T * E) to the common space (B, D), not yet normalised."""

    def __init__(
        self, teachers: int, embedding_dim: int = 512, *, teacher_dim: int | None = None
    ) -> None:
        super().__init__()
        self.teachers = teachers
        self.fc = nn.Linear(_columns(teachers, embedding_dim, teacher_dim), embedding_dim)

    def forward(self, blocks: Tensor) -> Tensor:
        return self.fc(blocks)


class DuL(nn.Module):
    """Two layers with a LeakyReLU between: (B, T * E) to (B, D), not yet normalised."""

    def __init__(
        self,
        teachers: int,
        embedding_dim: int = 512,
        negative_slope: float = 0.01,
        *,
        teacher_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.teachers = teachers
        self.negative_slope = negative_slope
        self.fc1 = nn.Linear(_columns(teachers, embedding_dim, teacher_dim), embedding_dim)
        self.fc2 = nn.Linear(embedding_dim, embedding_dim)

    def forward(self, blocks: Tensor) -> Tensor:
        hidden = self.fc1(blocks)  # (B, D)
        return self.fc2(F.leaky_relu(hidden, self.negative_slope))


class DLDP(nn.Module):
    """DuL with dropout before the LeakyReLU (D12): (B, T * E) to (B, D), not yet normalised."""

    def __init__(
        self,
        teachers: int,
        embedding_dim: int = 512,
        negative_slope: float = 0.01,
        dropout: float = 0.2,
        *,
        teacher_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.teachers = teachers
        self.negative_slope = negative_slope
        self.fc1 = nn.Linear(_columns(teachers, embedding_dim, teacher_dim), embedding_dim)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(embedding_dim, embedding_dim)

    def forward(self, blocks: Tensor) -> Tensor:
        hidden = self.dropout(self.fc1(blocks))  # (B, D)
        return self.fc2(F.leaky_relu(hidden, self.negative_slope))


ADAPTORS: dict[str, type[SL] | type[DuL] | type[DLDP]] = {"SL": SL, "DuL": DuL, "DLDP": DLDP}


def build_adaptor(
    settings: AdaptorArchitecture,
    teachers: int,
    embedding_dim: int,
    teacher_dim: int | None = None,
) -> SL | DuL | DLDP:
    """The adaptor of so many teachers that the settings describe, freshly initialised.

    Args:
        settings: architecture, slope and dropout.
        teachers: T.
        embedding_dim: D.
        teacher_dim: E; D unless given.

    Raises:
        ValueError: fewer than one teacher or dimension.
    """
    if settings.architecture == "SL":
        return SL(teachers, embedding_dim, teacher_dim=teacher_dim)
    slope = settings.negative_slope
    if settings.architecture == "DuL":
        return DuL(teachers, embedding_dim, slope, teacher_dim=teacher_dim)
    dropout = {} if settings.dropout is None else {"dropout": settings.dropout}
    return DLDP(teachers, embedding_dim, slope, **dropout, teacher_dim=teacher_dim)


def _columns(teachers: int, embedding_dim: int, teacher_dim: int | None) -> int:
    """Of the input, T * E."""
    dim = embedding_dim if teacher_dim is None else teacher_dim
    if min(teachers, embedding_dim, dim) < 1:
        least = min(embedding_dim, dim)
        raise ValueError(f"{teachers} teachers of {least} dimensions, at least 1 of each")
    return teachers * dim
