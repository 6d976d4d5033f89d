"""Weights cast at once: the bytes that autocast's own casts give, on fewer operations."""

import pytest
import torch
from torch import nn

from mstkd.compute.devices import autocast, place
from mstkd.config import EngineSettings, HeadSettings, OptimiserSettings
from mstkd.losses.head_loss import build_head_loss
from mstkd.models.adaptors import DLDP
from mstkd.models.iresnet import IResNet
from mstkd.models.mobilefacenet import MobileFaceNet
from mstkd.training.engine import Embedder
from mstkd.training.learner import Learner, Run
from mstkd.training.weight_casts import WeightCasts

CPU, DIM, CLASSES, BATCH = torch.device("cpu"), 8, 6, 12
SETTINGS = OptimiserSettings(epochs=2, lr=0.1, milestones=(2,), schedule_epochs=2)
NETWORKS = {
    "iresnet": lambda: IResNet(
        (2, 1, 1, 1), widths=(4, 4, 8, 8), embedding_dim=DIM, image_size=16, dropout=0.3
    ),
    "mobilefacenet": lambda: MobileFaceNet(embedding_dim=DIM, image_size=16),
    "adaptor": lambda: DLDP(4, DIM, dropout=0.2),
}


def trained(name, *, at_once):
    """Weights, statistics and momenta after three steps in bfloat16."""
    torch.manual_seed(0)
    network = NETWORKS[name]()
    head = build_head_loss(HeadSettings(), DIM, CLASSES, torch.Generator().manual_seed(1))
    both = place(nn.ModuleDict({"network": network, "head": head}), CPU)
    embed = Embedder(network, EngineSettings(precision="bfloat16"), CPU)
    assert isinstance(embed._network, WeightCasts)
    if not at_once:
        embed._network = network
    learner = Learner(
        both,
        lambda batch: {"loss": head(embed(batch["seen"]), batch["labels"])},
        kept=network,
        score=lambda epoch, parts: None,
        score_name=None,
        generators=[],
        label=name,
        embed=embed,
    )
    run = Run(learner, SETTINGS, alone=True)
    run.begin_epoch()
    shape = (BATCH, 4 * DIM) if name == "adaptor" else (BATCH, 3, 16, 16)
    seen = torch.randn(shape)
    if len(shape) == 4:
        seen = seen.contiguous(memory_format=torch.channels_last)
    for number in range(3):
        run.step({"seen": seen, "labels": torch.arange(BATCH) % CLASSES}, 0.05, number)
    momenta = run.state()["optimiser"]["state"]
    found = {f"momentum {n}": entry["momentum_buffer"] for n, entry in momenta.items()}
    assert run.first_bad_step() is None
    return {**found, **both.state_dict()}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_bytes_of_training_are_those_of_autocast(name):
    expected, found = trained(name, at_once=False), trained(name, at_once=True)
    assert found.keys() == expected.keys()
    assert [key for key, value in expected.items() if not torch.equal(found[key], value)] == []


def test_a_weight_that_is_not_used_gets_no_gradient_and_others_theirs_in_float32():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused, self.frozen = (nn.Linear(3, 3) for _ in range(3))
            self.frozen.requires_grad_(False)

        def forward(self, x):
            assert self.used.weight.dtype == self.frozen.bias.dtype == torch.bfloat16
            return self.frozen(self.used(x))

    network = Half()
    with autocast("bfloat16", CPU):
        WeightCasts(network, CPU)(torch.ones(2, 3)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.dtype == torch.float32
        assert (parameter.grad is not None) == name.startswith("used"), name
    assert network.used.weight.grad.dtype == torch.float32


def test_layers_that_do_something_else_with_their_weights_are_left_to_autocast():
    class Scaled(nn.Linear):
        def forward(self, x):
            assert self.weight.dtype == torch.float32
            return nn.functional.linear(x, 3 * self.weight)

    network = nn.Sequential(nn.Linear(3, 3), Scaled(3, 3))
    casts = WeightCasts(network, CPU)
    with autocast("bfloat16", CPU):
        assert casts(torch.ones(2, 3)).dtype == torch.bfloat16
    assert set(casts._weights) == {"0.weight", "0.bias"}


def test_float32_casts_nothing():
    network = nn.Linear(2, 2)
    assert Embedder(network, EngineSettings(precision="float32"), CPU)._network is network
