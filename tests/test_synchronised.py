"""Layers that see the whole batch from its parts, against PyTorch's own on the whole."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mstkd.compute.ranks import ALONE, Ranks
from mstkd.compute.synchronised import synchronised

BATCH, CPU = 12, torch.device("cpu")


def network():
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.BatchNorm2d(3),
        nn.Conv2d(3, 5, 3),
        nn.Sequential(nn.Dropout(0.4), nn.BatchNorm2d(5, eps=1e-3, momentum=0.3)),
        nn.Flatten(),
        nn.Linear(5 * 4 * 4, 6),
        nn.Dropout(0.2),
        nn.BatchNorm1d(6),
    ).to(memory_format=torch.channels_last)
    made[6].weight.requires_grad_(False)
    for layer in (made[0], made[2][1]):
        nn.init.uniform_(layer.weight)
        nn.init.normal_(layer.bias)
    return made


def batch():
    generator = torch.Generator().manual_seed(1)
    images = 30 + 5 * torch.randn(BATCH, 3, 6, 6, generator=generator)
    targets = torch.randn(BATCH, 6, generator=generator)
    return images.contiguous(memory_format=torch.channels_last), targets


def steps(ranks, made):
    """Two steps of gradient descent; losses, images' gradient, state, what is said in the end."""
    images, targets = batch()
    own = ranks.share(BATCH)
    losses = []
    torch.manual_seed(2)
    for _ in range(2):
        x = images[own].clone().requires_grad_()
        made.zero_grad()
        loss = F.mse_loss(made(x), targets[own])
        loss.backward()
        gradients = [p.grad for p in made.parameters() if p.requires_grad]
        ranks.average([*gradients, mean := loss.detach().clone()])
        losses.append(mean.item())
        with torch.no_grad():
            for parameter, gradient in zip(
                [p for p in made.parameters() if p.requires_grad], gradients, strict=True
            ):
                parameter -= 0.1 * gradient
    made.eval()
    random = torch.rand(1)
    return losses, x.grad / ranks.size, made.state_dict(), made(images[own]).detach(), random


def _steps_together(ranks):
    made = network()
    parameters = list(made.parameters())
    made = synchronised(made, ranks, CPU)
    assert all(one is other for one, other in zip(made.parameters(), parameters, strict=True))
    return steps(ranks, made)


def test_ranks_train_as_one_process_does(team):
    losses, gradient, state, said, random = steps(ALONE, network())
    answers = team.run(_steps_together)
    for answer in answers:
        assert answer[0] == pytest.approx(losses, rel=1e-5)
        assert list(answer[2]) == list(state)
        for name, value in state.items():
            torch.testing.assert_close(answer[2][name], value, rtol=1e-4, atol=1e-5)
            assert torch.equal(answer[2][name], answers[0][2][name]), "ranks drift apart"
        assert torch.equal(answer[4], random), "the random stream is where it would be"
    torch.testing.assert_close(
        torch.cat([answer[1] for answer in answers]), gradient, rtol=1e-3, atol=1e-7
    )
    torch.testing.assert_close(
        torch.cat([answer[3] for answer in answers]), said, rtol=1e-4, atol=1e-4
    )


def test_one_process_keeps_pytorchs_own():
    made = network()
    assert synchronised(made, ALONE, CPU) is made
    assert type(made[0]) is nn.BatchNorm2d


def test_without_dropout_no_layer_for_it():
    made = synchronised(nn.Sequential(nn.Dropout(0.0), nn.Linear(2, 2)), Ranks(0, 2), CPU)
    assert type(made[0]) is nn.Dropout
