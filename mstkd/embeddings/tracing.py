"""Where a fused embedding comes from: the part of each teacher (the paper's third contribution).

The adaptor of one layer, SL, is affine: its output is the sum of one term a teacher and the bias.
DuL and DLDP are affine too once it is known on which side of 0 each hidden unit of an image lies
(dropout is off in evaluation mode), so theirs is such a sum for each image. Shapley values (1953;
for models Lundberg & Lee, NeurIPS 2017) need no such sum and no signs held fixed: they are what a
teacher adds on average, over all orders in which teachers may be added.

Pure functions of tensors, in the type and on the device of what they are given. Shapes: N images,
P pairs, T teachers, E dimensions of a teacher's embedding, D of the fused one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mstkd.models.adaptors import DLDP, SL, DuL

MOST_TEACHERS = 10  # of whose 2^T subsets the fused embedding is computed


class Parts(NamedTuple):
    """A fused embedding as a sum."""

    teachers: Tensor  # (N, T, D), the term of each teacher
    constant: Tensor  # (N, D), of the biases: what is there whatever the teachers say

    @property
    def fused(self) -> Tensor:
        """The sum (N, D), not normalised."""
        return self.teachers.sum(dim=1) + self.constant

    def rows(self, chosen: Tensor) -> Parts:
        """The parts of some images."""
        return Parts(self.teachers[chosen], self.constant[chosen])

    def stacked(self) -> Tensor:
        """All terms (N, T + 1, D), the constant last."""
        return torch.cat([self.teachers, self.constant[:, None]], dim=1)


@torch.no_grad()
def fused_parts(adaptor: SL | DuL | DLDP, blocks: Tensor) -> Parts:
    """The terms whose sum is `adaptor(blocks)`.

    Of SL, z = sum_t W_t x_t + b. Of DuL and DLDP, with h = sum_t V_t x_t + a the hidden units and
    S the diagonal of the LeakyReLU's slopes at h, z = sum_t W S V_t x_t + (W S a + b).

    Args:
        adaptor: SL, DuL or DLDP in evaluation mode.
        blocks: (N, T * E), the teachers' embeddings side by side.

    Raises:
        ValueError: an adaptor that is in training mode, so that dropout would be part of the sum.
    """
    if adaptor.training:
        raise ValueError("an adaptor in training mode")
    first = adaptor.fc if isinstance(adaptor, SL) else adaptor.fc1
    dim, teachers = first.out_features, adaptor.teachers
    x = blocks.reshape(len(blocks), teachers, -1)  # (N, T, E)
    weight = first.weight.reshape(dim, teachers, -1)  # (D, T, E)
    terms = torch.einsum("nte,dte->ntd", x, weight)
    if isinstance(adaptor, SL):
        return Parts(terms, first.bias.detach().expand(len(x), dim))
    second = adaptor.fc2
    hidden = first(blocks)  # (N, D)
    slopes = torch.ones_like(hidden).masked_fill(hidden < 0, adaptor.negative_slope)
    return Parts(
        F.linear(slopes[:, None] * terms, second.weight),
        F.linear(slopes * first.bias, second.weight, second.bias),
    )


def embedding_shares(parts: Parts) -> Tensor:
    """Share of each term in the fused embedding (N, T + 1), the constant last; they sum to 1.

    The projection of a term on the fused embedding, as a share of that one's length:
    <z_t, z> / <z, z>. It is below 0 where a teacher pulls the other way.
    """
    fused = parts.fused
    return torch.einsum("ntd,nd->nt", parts.stacked(), fused) / fused.square().sum(1, keepdim=True)


def similarity_shares(one: Parts, two: Parts) -> Tensor:
    """What each term gives to the cosine of pairs (P, T + 1), the constant last; they sum to it.

    The cosine is a double sum over the terms of either face; what two terms give together, each
    gets half of: (<z_t, z'> + <z, z'_t>) / (2 |z| |z'|), the Shapley value of that sum.

    Args:
        one: of the first face of each pair.
        two: of the other.
    """
    first, second = one.fused, two.fused
    both = torch.einsum("ptd,pd->pt", one.stacked(), second)
    both = both + torch.einsum("ptd,pd->pt", two.stacked(), first)
    return both / (2 * first.norm(dim=1, keepdim=True) * second.norm(dim=1, keepdim=True))


@torch.no_grad()
def subset_embeddings(adaptor: SL | DuL | DLDP, blocks: Tensor, absent: Tensor) -> Iterator[Tensor]:
    """Fused embeddings (N, D) with only some teachers present, of all 2^T subsets.

    Teacher t is in the n-th subset if bit t of n is set: the first has none, the last all.

    Args:
        adaptor: in evaluation mode.
        blocks: (N, T * E).
        absent: (T * E,), the block of a teacher that is not there: the same for every face.

    Raises:
        ValueError: more than `MOST_TEACHERS` teachers.
    """
    teachers = adaptor.teachers
    if teachers > MOST_TEACHERS:
        raise ValueError(f"{teachers} teachers, more than {MOST_TEACHERS}")
    for subset in range(2**teachers):
        present = torch.tensor([subset >> t & 1 for t in range(teachers)], dtype=torch.bool)
        mask = present.repeat_interleave(blocks.shape[1] // teachers).to(blocks.device)
        yield adaptor(torch.where(mask, blocks, absent))


def shapley(worth: Tensor) -> Tensor:
    """Shapley values (T, ...) of a worth (2^T, ...) of every subset, as `subset_embeddings` counts.

    They sum to the worth of all less that of none.

    Raises:
        ValueError: not as many rows as subsets.
    """
    teachers = len(worth).bit_length() - 1
    if len(worth) != 2**teachers:
        raise ValueError(f"{len(worth)} rows, not one a subset")
    values = []
    for t in range(teachers):
        value = torch.zeros_like(worth[0])
        for subset in range(2**teachers):
            if subset >> t & 1:
                others = subset.bit_count() - 1
                orders = math.factorial(others) * math.factorial(teachers - others - 1)
                gain = worth[subset] - worth[subset ^ (1 << t)]
                value = value + gain * (orders / math.factorial(teachers))
        values.append(value)
    return torch.stack(values)


class Worths(NamedTuple):
    """What every subset of the teachers is worth."""

    embedding: Tensor  # (2^T, N), cosine of the fused embedding with that of all teachers
    similarity: Tensor  # (2^T, P), cosine of the two faces of a pair


def worths(adaptor: SL | DuL | DLDP, blocks: Tensor, absent: Tensor, pairs: Tensor) -> Worths:
    """How much of the fused embedding, and of the similarity of pairs, each subset of teachers has.

    Args:
        adaptor: in evaluation mode.
        blocks: (N, T * E).
        absent: (T * E,), as of `subset_embeddings`.
        pairs: (P, 2), rows of `blocks`; P may be 0.

    Raises:
        ValueError: as `subset_embeddings`.
    """
    whole = adaptor(blocks).detach()
    embedding, similarity = [], []
    for fused in subset_embeddings(adaptor, blocks, absent):
        embedding.append(F.cosine_similarity(fused, whole))
        similarity.append(F.cosine_similarity(fused[pairs[:, 0]], fused[pairs[:, 1]]))
    return Worths(torch.stack(embedding), torch.stack(similarity))
