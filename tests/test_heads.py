"""Margin heads against the textbook formula in float64, with arccos and cos of every logit."""

import inspect
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mstkd.config import HeadSettings
from mstkd.losses.heads import (
    HEADS,
    ArcFace,
    CosFace,
    ElasticArcFace,
    ElasticCosFace,
    add_angle,
    build_head,
    farthest_first,
    margin_logits,
)

B, C, D = 12, 30, 16


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch():
    return (
        torch.randn(B, D, generator=generator(1)) * 3,
        torch.randint(C, (B,), generator=generator(2)),
    )


def make(name, seed=3, **options):
    torch.manual_seed(seed)
    if "Elastic" in name:
        options.setdefault("generator", generator(seed))
    return HEADS[name](D, C, **options)


def textbook(embeddings, weight, labels, margins, *, angular, scale=64.0):
    """Equation 3's logits in float64: a margin matrix, arccos of all cosines, cos again."""
    embeddings, weight = embeddings.double(), weight.double()
    cosine = F.normalize(embeddings) @ F.normalize(weight).t()
    matrix = torch.zeros_like(cosine)
    matrix[torch.arange(len(labels)), labels] = margins.double()
    if angular:
        return scale * torch.cos(torch.acos(cosine.clamp(-1, 1)) + matrix)
    return scale * (cosine - matrix)


@pytest.mark.parametrize("name", HEADS)
def test_logits_and_gradients_are_the_textbooks(name, batch):
    embeddings, labels = batch
    head = make(name, margin=0.4, scale=20.0)
    expected_margins = make(name, margin=0.4).draw_margins(B)  # the same stream again
    embeddings.requires_grad_()
    logits = head(embeddings, labels)
    assert logits.shape == (B, C)
    assert logits.dtype == torch.float32
    found = torch.autograd.grad(F.cross_entropy(logits, labels), (embeddings, head.weight))

    expected_logits = textbook(
        embeddings, head.weight, labels, expected_margins, angular="Arc" in name, scale=20.0
    )
    expected = torch.autograd.grad(
        F.cross_entropy(expected_logits, labels), (embeddings, head.weight)
    )
    torch.testing.assert_close(logits.double(), expected_logits, rtol=0, atol=5e-5)
    for part, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(part, reference, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("angle", [0.0, 60.0, 90.0, 160.0, 180.0])
def test_closed_form_at_known_angles(angle):
    """Beyond 180 degrees the cosine rises again: there is no guard."""
    head = ArcFace(2, 1, scale=64.0, margin=math.pi / 6)
    head.weight.data = torch.tensor([[0.5, 0.0]])
    radians = math.radians(angle)
    embedding = torch.tensor([[3 * math.cos(radians), 3 * math.sin(radians)]])
    expected = 64 * math.cos(math.radians(angle + 30))
    logits = head(embedding, torch.tensor([0]))
    # Near 0 and 180 degrees a rounded cosine says little of the sine: 64 * sqrt(2 ** -23) / 2.
    assert logits.item() == pytest.approx(expected, abs=0.02 if angle % 180 == 0 else 1e-4)
    assert cosface_logit(embedding) == pytest.approx(64 * (math.cos(radians) - 0.25), abs=1e-4)


def cosface_logit(embedding):
    head = CosFace(2, 1, margin=0.25)
    head.weight.data = torch.tensor([[7.0, 0.0]])
    return head(embedding, torch.tensor([0])).item()


@pytest.mark.parametrize("angular", [True, False])
def test_gradients_by_finite_differences(angular):
    embeddings = torch.randn(5, 4, generator=generator(4), dtype=torch.float64)
    weight = torch.randn(7, 4, generator=generator(5), dtype=torch.float64)
    labels = torch.tensor([0, 6, 3, 3, 1])
    margins = torch.rand(5, generator=generator(6), dtype=torch.float64)

    def logits(embeddings, weight):
        def with_margin(cosine):
            return add_angle(cosine, margins) if angular else cosine - margins

        return margin_logits(embeddings, weight, labels, with_margin, scale=3.0)

    inputs = (embeddings.requires_grad_(), weight.requires_grad_())
    assert torch.autograd.gradcheck(logits, inputs)
    # More weights than are projected at a time.
    many = torch.randn(1200, 4, generator=generator(5), dtype=torch.float64, requires_grad=True)
    found = torch.autograd.grad(logits(embeddings, many)[:, 1000:].sum(), many)[0]
    rows = many.detach()[1000:].requires_grad_()
    cosines = 3 * F.normalize(embeddings) @ F.normalize(rows).t()
    expected = torch.autograd.grad(cosines.sum(), rows)[0]
    torch.testing.assert_close(found[1000:], expected)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("dim", [1, 2, 16, 512])
def test_gradients_are_finite_on_the_class_weight_and_opposite(name, sign, dim):
    torch.manual_seed(0)
    head = HEADS[name](dim, C)
    labels = torch.arange(C)
    embeddings = (sign * 5 * head.weight.detach()).requires_grad_()
    F.cross_entropy(head(embeddings, labels), labels).backward()
    assert torch.isfinite(embeddings.grad).all()
    assert torch.isfinite(head.weight.grad).all()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_rounding_takes_no_cosine_beyond_one(sign):
    head = CosFace(512, 400, margin=0.0)
    weight = head.weight.detach()
    embeddings = sign * weight
    scaled = F.normalize(embeddings) @ weight.t() * (64 / weight.norm(dim=1))
    assert scaled.abs().max() > 64  # what the clamp is for
    assert head(embeddings, torch.arange(400)).abs().max() <= 64


def test_slope_of_the_target_at_the_ends():
    """Where the sine has no finite slope, cos(m) remains; elsewhere sin(theta + m) / sin(theta)."""
    cosine = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64, requires_grad=True)
    add_angle(cosine, torch.tensor(0.5)).sum().backward()
    theta = math.pi / 3
    expected = [math.cos(0.5), math.cos(0.5), math.sin(theta + 0.5) / math.sin(theta)]
    assert cosine.grad.tolist() == pytest.approx(expected)


def test_gradient_of_a_cosine_is_blind_to_length(batch):
    embeddings, labels = batch
    head = make("ElasticArcFace")
    embeddings.requires_grad_()
    F.cross_entropy(head(embeddings, labels), labels).backward()
    for point, grad in ((embeddings, embeddings.grad), (head.weight, head.weight.grad)):
        along = (point.detach() * grad).sum(1) / point.detach().norm(dim=1) / grad.norm(dim=1)
        assert along.abs().max() < 1e-4


def test_margins_are_drawn_anew_and_repeat_from_the_seed(batch):
    first, second = (make("ElasticArcFace", seed=7) for _ in range(2))
    runs = [[head(*batch).detach() for _ in range(3)] for head in (first, second)]
    for one, other in zip(*runs, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(runs[0][0], runs[0][1])
    changed = (runs[0][0] != runs[0][1]).nonzero()
    assert changed.tolist() == [[i, y] for i, y in enumerate(batch[1].tolist())]
    first.eval()
    assert not torch.equal(first(*batch), runs[0][2])  # in evaluation mode alike


@pytest.mark.parametrize(
    ("name", "mean", "std"), [("ElasticArcFace", 0.5, 0.05), ("ElasticCosFace", 0.35, 0.0125)]
)
def test_margins_have_their_distribution(name, mean, std):
    margins = make(name).draw_margins(100_000).double()
    assert margins.mean().item() == pytest.approx(mean, abs=5 * std / 100_000**0.5)
    assert margins.std().item() == pytest.approx(std, rel=0.02)
    standard = (margins - mean) / std
    assert (standard**4).mean().item() == pytest.approx(3, abs=0.15)  # a Gaussian's, unclamped


def test_the_global_stream_is_used_without_a_generator_only():
    for head, same in ((ElasticArcFace(4, 3, generator=generator()), True), (ArcFace(4, 3), True)):
        before = torch.get_rng_state()
        head.draw_margins(5)
        assert torch.equal(before, torch.get_rng_state()) == same
    ElasticArcFace(4, 3).draw_margins(5)
    assert not torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("elastic", "fixed"), [("ElasticArcFace", "ArcFace"), ("ElasticCosFace", "CosFace")]
)
@pytest.mark.parametrize("plus", [False, True])
def test_without_spread_a_head_is_the_fixed_one(elastic, fixed, plus, batch):
    one = make(elastic, margin_std=0.0, plus=plus)
    assert torch.equal(one(*batch), make(fixed)(*batch))


def test_plus_gives_the_largest_margin_to_the_farthest(batch):
    embeddings, labels = batch
    plain, plus = make("ElasticCosFace", plus=False), make("ElasticCosFace", plus=True)
    drawn = make("ElasticCosFace").draw_margins(B)
    cosines = F.cosine_similarity(embeddings, plain.weight.detach()[labels])
    rows = torch.arange(B)
    given = cosines - plus(embeddings, labels).detach()[rows, labels] / 64
    torch.testing.assert_close(given.sort().values, drawn.sort().values, rtol=0, atol=1e-5)
    by_cosine = sorted(zip(cosines.tolist(), given.tolist(), strict=True))
    margins = [margin for _, margin in by_cosine]
    assert margins == sorted(margins, reverse=True)
    assert margins != drawn.tolist()
    unordered = cosines - plain(embeddings, labels).detach()[rows, labels] / 64
    torch.testing.assert_close(unordered, drawn, rtol=0, atol=1e-5)


def test_farthest_first():
    margins, cosine = torch.tensor([0.4, 0.6, 0.5]), torch.tensor([-0.2, 0.9, 0.1])
    assert farthest_first(margins, cosine).tolist() == torch.tensor([0.6, 0.4, 0.5]).tolist()


def test_plus_leaves_the_gradient_alone(batch):
    """The order is a constant for the gradient, as the margins are."""
    embeddings, labels = batch
    embeddings.requires_grad_()
    head = make("ElasticCosFace", plus=True)
    found = torch.autograd.grad(head(embeddings, labels).sum(), embeddings)[0]
    cosines = 64 * F.normalize(embeddings) @ F.normalize(head.weight).t()
    expected = torch.autograd.grad(cosines.sum(), embeddings)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_autocast_changes_nothing(name, batch):
    embeddings, labels = batch
    results = []
    for autocast in (False, True):
        head, point = make(name), embeddings.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            logits = head(point, labels)
            F.cross_entropy(logits, labels).backward()
        assert logits.dtype == torch.float32
        results.append((logits.detach(), point.grad, head.weight.grad))
    for plain, under_autocast in zip(*results, strict=True):
        assert torch.equal(plain, under_autocast)


def test_half_embeddings_are_computed_on_in_single_precision(batch):
    embeddings, labels = batch
    head = make("ArcFace")
    logits = head(embeddings.bfloat16(), labels)
    assert torch.equal(logits, head(embeddings.bfloat16().float(), labels))


def test_repeated_labels_and_frozen_parts(batch):
    embeddings, _ = batch
    labels = torch.full((B,), 5)
    head = make("ArcFace")
    point = embeddings.clone().requires_grad_()
    both = torch.autograd.grad(head(point, labels).square().sum(), (point, head.weight))
    head.weight.requires_grad_(False)
    alone = torch.autograd.grad(head(point, labels).square().sum(), point)
    head.weight.requires_grad_(True)
    weight_alone = torch.autograd.grad(head(embeddings, labels).square().sum(), head.weight)
    assert torch.equal(both[0], alone[0])
    assert torch.equal(both[1], weight_alone[0])


def test_the_caller_s_gradient_is_left_alone(batch):
    embeddings, labels = batch
    head, seen = make("ElasticArcFace"), []
    logits = head(embeddings, labels)
    given = torch.ones_like(logits)
    logits.register_hook(seen.append)
    logits.backward(given)
    assert torch.equal(given, torch.ones_like(given))
    assert torch.equal(seen[0], given)


def test_initial_weights():
    torch.manual_seed(0)
    weight = ElasticArcFace(256, 400).weight.detach()
    assert weight.shape == (400, 256)
    assert weight.mean().item() == pytest.approx(0, abs=2e-4)
    assert weight.std().item() == pytest.approx(0.01, rel=0.01)


def test_zero_vectors_have_cosine_zero():
    head = CosFace(4, 3, margin=0.25)
    head.weight.data[1] = 0
    embeddings = torch.tensor([[0.0, 0, 0, 0], [1, 2, 3, 4]], requires_grad=True)
    logits = head(embeddings, torch.tensor([0, 1]))
    assert logits[0].tolist() == [-16, 0, 0]
    assert logits[1, 1].item() == -16
    logits.sum().backward()
    assert torch.isfinite(embeddings.grad).all()


def test_defaults_are_the_papers():
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(ElasticArcFace).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    assert defaults == {
        "scale": 64.0,
        "margin": 0.5,
        "margin_std": 0.05,
        "plus": False,
        "generator": None,
    }


@pytest.mark.parametrize("name", HEADS)
def test_build_head(name):
    settings = HeadSettings(name=name, scale=30, margin=0.2, margin_std=0.1, plus=True)
    stream = generator(9)
    head = build_head(settings, D, C, stream)
    assert type(head) is HEADS[name]
    assert head.weight.shape == (C, D)
    assert (head.scale, head.margin) == (30, 0.2)
    elastic = isinstance(head, ElasticArcFace | ElasticCosFace)
    assert (head.margin_std, head.plus) == ((0.1, True) if elastic else (0, False))
    assert head.generator is (stream if elastic else None)
    assert "scale=30" in repr(head)
    with pytest.raises(RuntimeError):
        head(torch.ones(1, D), torch.tensor([C]))


def test_every_name_of_the_settings_has_a_head():
    names = HeadSettings.model_fields["name"].annotation.__args__
    assert set(names) == set(HEADS)


def test_a_head_learns_to_separate(batch):
    """Gradient steps on the weights alone bring each sample to its class."""
    embeddings, _ = batch
    labels = torch.from_numpy(np.arange(B))
    head = make("ElasticArcFace")
    optimiser = torch.optim.SGD(head.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        loss = F.cross_entropy(head(embeddings, labels), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 < losses[0]
