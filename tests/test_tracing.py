"""Fused embeddings taken apart: sums in double precision, planted teachers, Shapley's axioms."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from mstkd.embeddings.tracing import (
    MOST_TEACHERS,
    embedding_shares,
    fused_parts,
    shapley,
    similarity_shares,
    subset_embeddings,
    worths,
)
from mstkd.models.adaptors import ADAPTORS, DLDP, SL, DuL

TEACHERS, DIM, IMAGES = 4, 16, 30
EXACT = {"rtol": 1e-11, "atol": 1e-12}


def adaptor_of(name, teachers=TEACHERS, dim=DIM, seed=0):
    torch.manual_seed(seed)
    return ADAPTORS[name](teachers, dim).double().eval()


def blocks_of(images=IMAGES, teachers=TEACHERS, dim=DIM, seed=1):
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randn(images, teachers, dim, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(blocks, dim=2).reshape(images, -1)


@pytest.mark.parametrize("name", ADAPTORS)
@pytest.mark.parametrize("teachers", [1, 2, 4])
def test_the_parts_sum_to_the_fused_embedding(name, teachers):
    adaptor, blocks = adaptor_of(name, teachers), blocks_of(teachers=teachers)
    parts = fused_parts(adaptor, blocks)
    assert parts.teachers.shape == (IMAGES, teachers, DIM)
    torch.testing.assert_close(parts.fused, adaptor(blocks).detach(), **EXACT)
    ones = torch.ones(IMAGES, dtype=torch.float64)
    torch.testing.assert_close(embedding_shares(parts).sum(dim=1), ones, **EXACT)
    first, second = torch.arange(0, IMAGES - 1), torch.arange(1, IMAGES)
    whole = adaptor(blocks).detach()
    cosine = torch.nn.functional.cosine_similarity(whole[first], whole[second])
    shares = similarity_shares(parts.rows(first), parts.rows(second))
    torch.testing.assert_close(shares.sum(dim=1), cosine, **EXACT)


@pytest.mark.parametrize("name", ["DuL", "DLDP"])
def test_parts_of_two_layers_by_autograd(name):
    """Between its kinks the adaptor is affine: a block's term is the Jacobian times the block."""
    adaptor, blocks = adaptor_of(name), blocks_of(3)
    parts = fused_parts(adaptor, blocks)
    for row in range(3):
        jacobian = torch.autograd.functional.jacobian(adaptor, blocks[row : row + 1])[0, :, 0]
        terms = jacobian.reshape(DIM, TEACHERS, DIM) * blocks[row].reshape(TEACHERS, DIM)
        torch.testing.assert_close(parts.teachers[row].T, terms.sum(dim=2), **EXACT)
    signs = adaptor.fc1(blocks) < 0
    assert signs.any() and not signs.all()


def test_an_adaptor_in_training_mode_is_refused():
    with pytest.raises(ValueError, match="training mode"):
        fused_parts(DLDP(2, 4), torch.zeros(1, 8))


@pytest.mark.parametrize("kind", [SL, DuL, DLDP])
@pytest.mark.parametrize("planted", range(TEACHERS))
def test_an_adaptor_that_reads_one_block_is_traced_to_it(kind, planted):
    torch.manual_seed(5)
    adaptor = kind(TEACHERS, DIM).double().eval()
    first = adaptor.fc if kind is SL else adaptor.fc1
    with torch.no_grad():
        read = torch.zeros(DIM, TEACHERS, DIM, dtype=torch.float64)
        read[:, planted] = torch.randn(DIM, DIM)
        first.weight.copy_(read.reshape(DIM, -1))
        for layer in (first, getattr(adaptor, "fc2", first)):
            layer.bias.zero_()
    blocks, absent = blocks_of(), blocks_of(seed=9).mean(dim=0)
    pairs = torch.tensor([[0, 1], [2, 3], [4, 5]])
    parts = fused_parts(adaptor, blocks)
    alone = torch.zeros(IMAGES, TEACHERS + 1, dtype=torch.float64)
    alone[:, planted] = 1
    torch.testing.assert_close(embedding_shares(parts), alone, **EXACT)
    shares = similarity_shares(parts.rows(pairs[:, 0]), parts.rows(pairs[:, 1]))
    others = [t for t in range(TEACHERS + 1) if t != planted]
    assert shares[:, others].abs().max() < 1e-12
    assert shares[:, planted].abs().max() > 0.01
    for worth in worths(adaptor, blocks, absent, pairs):
        values = shapley(worth)
        assert values[[t for t in range(TEACHERS) if t != planted]].abs().max() < 1e-12
        torch.testing.assert_close(values[planted], worth[-1] - worth[0], **EXACT)


@pytest.mark.parametrize("name", ADAPTORS)
def test_shapley_values_are_means_over_orders(name):
    adaptor, blocks = adaptor_of(name, 3), blocks_of(6, 3)
    absent = blocks_of(50, 3, seed=2).mean(dim=0)
    pairs = torch.tensor([[0, 1], [2, 3]])
    for worth in worths(adaptor, blocks, absent, pairs):
        expected = torch.zeros_like(worth[:3])
        for order in itertools.permutations(range(3)):
            subset = 0
            for teacher in order:
                joined = subset | 1 << teacher
                expected[teacher] += (worth[joined] - worth[subset]) / math.factorial(3)
                subset = joined
        torch.testing.assert_close(shapley(worth), expected, **EXACT)
        torch.testing.assert_close(shapley(worth).sum(dim=0), worth[-1] - worth[0], **EXACT)


def test_an_absent_teacher_says_the_same_of_every_face():
    adaptor, blocks = adaptor_of("DuL", 2), blocks_of(5, 2)
    absent = blocks_of(50, 2, seed=2).mean(dim=0)
    none, first, second, both = subset_embeddings(adaptor, blocks, absent)
    torch.testing.assert_close(both, adaptor(blocks).detach())
    torch.testing.assert_close(none, adaptor(absent[None]).detach().expand(5, DIM))
    mixed = blocks.clone()
    mixed[:, DIM:] = absent[DIM:]
    torch.testing.assert_close(first, adaptor(mixed).detach())
    assert not torch.allclose(first, second)
    found = worths(adaptor, blocks, absent, torch.tensor([[0, 1]]))
    assert found.similarity[0].item() == pytest.approx(1), "two faces of whom nothing is said"
    torch.testing.assert_close(found.embedding[-1], torch.ones(5, dtype=torch.float64))


def test_a_pairs_shares_are_the_shapley_values_of_its_double_sum():
    """With lengths held fixed, and absent teachers silent, by definition."""
    parts = fused_parts(adaptor_of("SL", 3), blocks_of(2, 3))
    one, two = parts.stacked()  # (T + 1, D): the constant is a player too
    worth = []
    for subset in range(2**4):
        of = [t for t in range(4) if subset >> t & 1]
        worth.append(one[of].sum(dim=0) @ two[of].sum(dim=0))
    lengths = one.sum(dim=0).norm() * two.sum(dim=0).norm()
    shares = similarity_shares(parts.rows(torch.tensor([0])), parts.rows(torch.tensor([1])))
    torch.testing.assert_close(shapley(torch.stack(worth)) / lengths, shares[0], **EXACT)


def test_what_cannot_be_counted_is_refused():
    many = MOST_TEACHERS + 1
    with pytest.raises(ValueError, match=f"{many} teachers"):
        next(subset_embeddings(SL(many, 2).eval(), torch.zeros(1, 2 * many), torch.zeros(2 * many)))
    with pytest.raises(ValueError, match="3 rows"):
        shapley(torch.zeros(3, 1))
