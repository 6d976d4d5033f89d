"""Classes on several ranks, or drawn: against the textbook's softmax in float64."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mstkd.compute.ranks import ALONE, Ranks
from mstkd.config import HeadSettings, SamplingSettings
from mstkd.errors import InputError
from mstkd.losses.head_loss import HeadLoss, build_head_loss
from mstkd.losses.sharded_loss import ShardedHeadLoss, draw_classes

B, C, D = 12, 41, 8
NAMES = ["ElasticArcFace", "ElasticCosFace", "ArcFace", "CosFace"]
STREAM = 5
FEW = {"above": C - 1}  # so few that C are many


def batch():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(C, (B,), generator=generator)
    labels[3] = labels[7] = labels[0]  # a class with several samples
    return torch.randn(B, D, generator=generator), labels


def loss_of(ranks, settings):
    """Loss, gradients of embeddings and of the weight, and the weight, of this rank's part."""
    torch.manual_seed(0)
    stream = torch.Generator().manual_seed(STREAM)
    made = build_head_loss(settings, D, C, stream, ranks)
    embeddings, labels = batch()
    own = ranks.share(B)
    part = embeddings[own].clone().requires_grad_()
    loss = made(part, labels[own])
    (2 * loss).backward()
    weight = made.head.weight
    after = torch.rand(1, generator=stream)
    return loss.item(), part.grad / 2, weight.grad / 2, weight.detach(), after


def together(answers):
    """What one process would have, from the ranks' answers."""
    losses, embeddings, grads, weights, after = zip(*answers, strict=True)
    assert len(set(losses)) == 1 and len(set(map(float, after))) == 1
    # Gradients are averaged over ranks afterwards, which takes the factor away again.
    return losses[0], torch.cat(embeddings) / len(answers), torch.cat(grads), torch.cat(weights)


def textbook(settings, weight, classes=None, order=None):
    """The loss in float64, over all classes or the given ones, and its gradients."""
    stream = torch.Generator().manual_seed(STREAM)
    embeddings, labels = batch()
    std = settings.margin_std if "Elastic" in settings.name else 0
    margins = torch.full((B,), settings.margin, dtype=torch.float64)
    if std:
        margins = (torch.randn(B, generator=stream) * std + settings.margin).double()
    embeddings = embeddings.double().requires_grad_()
    weight = weight.double().requires_grad_()
    cosine = F.normalize(embeddings) @ F.normalize(weight).t()
    rows = torch.arange(B)
    if order is not None:
        margins = order(margins, cosine[rows, labels].detach())
    matrix = torch.zeros_like(cosine)
    matrix[rows, labels] = margins
    logits = settings.scale * (
        torch.cos(torch.acos(cosine) + matrix) if "Arc" in settings.name else cosine - matrix
    )
    if classes is not None:
        outside = torch.ones(C, dtype=torch.bool)
        outside[classes] = False
        logits = logits.masked_fill(outside, -math.inf)
    loss = -logits.log_softmax(1)[rows, labels].mean()
    return loss.item(), *torch.autograd.grad(loss, (embeddings, weight))


def assert_same(found, expected):
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    for one, other in zip(found[1:3], expected[1:3], strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-4, atol=1e-5)


def drawn_with(share, settings):
    """The classes that a step looks at: the drawn ones and the batch's."""
    stream = torch.Generator().manual_seed(STREAM)
    if "Elastic" in settings.name:
        torch.randn(B, generator=stream)  # the margins come first
    return torch.cat([draw_classes(C, share, stream), batch()[1]])


@pytest.mark.parametrize("name", NAMES)
def test_classes_on_several_ranks_give_the_textbooks_loss(team, name):
    settings = HeadSettings(name=name, margin=0.4, scale=16)
    found = together(team.run(loss_of, settings))
    alone = loss_of(ALONE, settings)
    assert torch.equal(found[3], alone[3]), "the ranks' weights are the whole head's"
    assert_same(found, textbook(settings, found[3]))
    assert_same(found, alone)


def test_the_farthest_sample_of_all_ranks_gets_the_largest_margin(team):
    settings = HeadSettings(name="ElasticCosFace", margin=0.3, margin_std=0.2, scale=16, plus=True)

    def order(margins, cosine):
        given = np.empty(B)
        given[np.argsort(cosine.numpy())] = np.sort(margins.numpy())[::-1]
        return torch.from_numpy(given)

    found = together(team.run(loss_of, settings))
    assert_same(found, textbook(settings, found[3], order=order))
    plain = settings.model_copy(update={"plus": False})
    assert loss_of(ALONE, plain)[0] != pytest.approx(found[0], rel=1e-3)


@pytest.mark.parametrize("name", ["ElasticArcFace", "CosFace"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.8])
def test_drawn_classes_give_the_textbooks_loss_over_them(name, share):
    settings = HeadSettings(name=name, scale=16, sampling={**FEW, "share": share})
    found = loss_of(ALONE, settings)
    classes = drawn_with(share, settings)
    assert_same(found, textbook(settings, found[3], classes))
    others = sorted(set(range(C)) - set(classes.tolist()))
    assert len(others) >= 3
    assert torch.all(found[2][others] == 0)


def test_drawn_classes_on_several_ranks_are_those_of_one(team):
    settings = HeadSettings(scale=16, sampling={**FEW, "share": 0.3})
    found = together(team.run(loss_of, settings))
    assert_same(found, textbook(settings, found[3], drawn_with(0.3, settings)))
    assert_same(found, loss_of(ALONE, settings))


def test_all_classes_drawn_are_the_exact_head():
    sampled = HeadSettings(scale=16, sampling={**FEW, "share": 1.0})
    exact = HeadSettings(scale=16)
    found, expected = loss_of(ALONE, sampled), loss_of(ALONE, exact)
    assert torch.equal(found[3], expected[3])
    assert_same(found, expected)


def test_a_rank_may_have_no_sample_s_class(team):
    answers = team.run(_one_class)
    assert len({loss for loss, _ in answers}) == 1
    assert answers[0][0] == pytest.approx(_one_class(ALONE)[0], rel=1e-5)


def _one_class(ranks):
    torch.manual_seed(0)
    settings = HeadSettings(name="CosFace", sampling={**FEW, "share": 0.05})
    made = build_head_loss(settings, D, C, torch.Generator().manual_seed(1), ranks)
    own = ranks.share(B)
    loss = made(batch()[0][own], torch.full((B,), C - 1)[own])
    return loss.item(), made.head.weight.shape


def test_half_precision_around_it_changes_nothing(team):
    plain, under_autocast = team.run(_under_autocast)[0]
    assert plain == under_autocast


def _under_autocast(ranks):
    losses = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            losses.append(loss_of(ranks, HeadSettings(sampling={**FEW, "share": 0.5}))[0])
    return losses


def test_a_draw_is_a_share_without_repetition_and_comes_from_the_stream():
    stream = torch.Generator().manual_seed(0)
    state = stream.get_state()
    first, second = (draw_classes(1000, 0.25, stream) for _ in range(2))
    assert len(first) == len(first.unique()) == 250
    assert torch.equal(first, first.sort().values)
    assert not torch.equal(first, second)
    stream.set_state(state)
    assert torch.equal(draw_classes(1000, 0.25, stream), first)
    assert draw_classes(10, 0.001, stream).shape == (1,)
    often = torch.zeros(20)
    for _ in range(2000):
        often[draw_classes(20, 0.3, stream)] += 1
    assert often.min() > 500 and often.max() < 700  # 600, five standard deviations of 20.5 off


def test_which_head_is_sampled():
    stream = torch.Generator()
    exact = build_head_loss(HeadSettings(), D, 28_000, stream)
    assert isinstance(exact, HeadLoss)
    assert HeadSettings().sampled_share(100_000) is None
    assert HeadSettings().sampled_share(100_001) == SamplingSettings().share == 0.1
    few = HeadSettings(sampling={"above": 10})
    assert isinstance(build_head_loss(few, D, 10, stream), HeadLoss)
    sampled = build_head_loss(few, D, 11, stream)
    assert isinstance(sampled, ShardedHeadLoss)
    assert "share=0.1" in repr(sampled)
    assert list(sampled.state_dict()) == list(exact.state_dict()) == ["head.weight"]
    with pytest.raises(InputError, match="found 3 for 2 identities"):
        build_head_loss(HeadSettings(), D, 2, stream, Ranks(0, 3))


def test_a_label_that_is_not_there_is_refused():
    made = build_head_loss(HeadSettings(), D, C, torch.Generator())
    with pytest.raises((IndexError, RuntimeError)):
        made(torch.ones(1, D), torch.tensor([-1]))


@pytest.mark.parametrize("sampling", [None, {**FEW, "share": 0.3}])
def test_a_loss_that_is_not_finite_is_not_on_all_ranks(team, sampling):
    answers = team.run(_poisoned, HeadSettings(sampling=sampling))
    assert not any(map(math.isfinite, answers))


def _poisoned(ranks, settings):
    made = build_head_loss(settings, D, C, torch.Generator().manual_seed(1), ranks)
    embeddings, labels = batch()
    embeddings[0] = float("nan")
    own = ranks.share(B)
    return made(embeddings[own], labels[own]).item()
