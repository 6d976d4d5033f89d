"""EAF-Fusion adaptors: the spaces of all teachers to one common space (section 4.3).

Input is the teachers' unit embeddings side by side, one block a teacher. Layers are PyTorch's
`Linear` with bias and its initialisation (D29), under the names of the public code; the
attention it also stores but never uses is left out (D13).
Shapes: B batch, T teachers, D embedding dimension.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from mstkd.config import AdaptorArchitecture


class SL(nn.Module):
    """A single layer: blocks (B, T * D) to the common space (B, D), not yet normalised."""

    def __init__(self, teachers: int, embedding_dim: int = 512) -> None:
        super().__init__()
        self.fc = nn.Linear(_width(teachers, embedding_dim), embedding_dim)

    def forward(self, blocks: Tensor) -> Tensor:
        return self.fc(blocks)


class DuL(nn.Module):
    """Two layers with a LeakyReLU between: (B, T * D) to (B, D), not yet normalised."""

    def __init__(
        self, teachers: int, embedding_dim: int = 512, negative_slope: float = 0.01
    ) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.fc1 = nn.Linear(_width(teachers, embedding_dim), embedding_dim)
        self.fc2 = nn.Linear(embedding_dim, embedding_dim)

    def forward(self, blocks: Tensor) -> Tensor:
        hidden = self.fc1(blocks)  # (B, D)
        return self.fc2(F.leaky_relu(hidden, self.negative_slope))


class DLDP(nn.Module):
    """DuL with dropout before the LeakyReLU (D12): (B, T * D) to (B, D), not yet normalised."""

    def __init__(
        self,
        teachers: int,
        embedding_dim: int = 512,
        negative_slope: float = 0.01,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.fc1 = nn.Linear(_width(teachers, embedding_dim), embedding_dim)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(embedding_dim, embedding_dim)

    def forward(self, blocks: Tensor) -> Tensor:
        hidden = self.dropout(self.fc1(blocks))  # (B, D)
        return self.fc2(F.leaky_relu(hidden, self.negative_slope))


ADAPTORS: dict[str, type[SL] | type[DuL] | type[DLDP]] = {"SL": SL, "DuL": DuL, "DLDP": DLDP}


def build_adaptor(
    settings: AdaptorArchitecture, teachers: int, embedding_dim: int
) -> SL | DuL | DLDP:
    """The adaptor of so many teachers that the settings describe, freshly initialised.

    Raises:
        ValueError: fewer than one teacher or dimension.
    """
    if settings.architecture == "SL":
        return SL(teachers, embedding_dim)
    if settings.architecture == "DuL":
        return DuL(teachers, embedding_dim, settings.negative_slope)
    dropout = {} if settings.dropout is None else {"dropout": settings.dropout}
    return DLDP(teachers, embedding_dim, settings.negative_slope, **dropout)


def _width(teachers: int, embedding_dim: int) -> int:
    """Columns of the input."""
    if teachers < 1 or embedding_dim < 1:
        raise ValueError(f"{teachers} teachers of {embedding_dim} dimensions, at least 1 of each")
    return teachers * embedding_dim
