"""The three adaptors of section 4.3: shapes, sizes, names and where dropout stands."""

import inspect
from typing import get_args

import pytest
import torch
from torch import nn

from mstkd.config import AdaptorArchitecture
from mstkd.models.adaptors import ADAPTORS, DLDP, SL, DuL, build_adaptor


@pytest.mark.parametrize("name", ADAPTORS)
@pytest.mark.parametrize("teachers", [1, 2, 3, 4, 8, 16])
def test_any_number_of_teachers(name, teachers):
    adaptor = ADAPTORS[name](teachers, embedding_dim=8)
    assert adaptor(torch.randn(5, teachers * 8)).shape == (5, 8)
    with pytest.raises(RuntimeError):
        adaptor(torch.randn(5, teachers * 8 + 1))


@pytest.mark.parametrize(
    ("name", "parameters"), [("SL", 1_049_088), ("DuL", 1_311_744), ("DLDP", 1_311_744)]
)
def test_sizes_at_four_teachers(name, parameters):
    adaptor = ADAPTORS[name](4)
    assert sum(p.numel() for p in adaptor.parameters()) == parameters
    assert adaptor(torch.zeros(1, 2048)).shape == (1, 512)


def test_names_are_those_of_the_public_code():
    two = {"fc1.weight": (8, 32), "fc1.bias": (8,), "fc2.weight": (8, 8), "fc2.bias": (8,)}
    expected = {"SL": {"fc.weight": (8, 32), "fc.bias": (8,)}, "DuL": two, "DLDP": two}
    for name, adaptor in ADAPTORS.items():
        state = adaptor(4, 8).state_dict()
        assert {key: tuple(value.shape) for key, value in state.items()} == expected[name]


def test_single_layer_is_affine():
    adaptor = SL(3, 4)
    blocks = torch.randn(6, 12)
    expected = blocks @ adaptor.fc.weight.t() + adaptor.fc.bias
    torch.testing.assert_close(adaptor(blocks), expected)


@pytest.mark.parametrize("make", [DuL, DLDP])
@pytest.mark.parametrize("slope", [0.01, 0.3])
def test_two_layers_by_hand(make, slope):
    adaptor = make(3, 4, negative_slope=slope).eval()
    blocks = torch.randn(6, 12)
    hidden = blocks @ adaptor.fc1.weight.t() + adaptor.fc1.bias
    assert (hidden < 0).any()
    active = hidden.clamp(min=0) + slope * hidden.clamp(max=0)
    expected = active @ adaptor.fc2.weight.t() + adaptor.fc2.bias
    torch.testing.assert_close(adaptor(blocks), expected)


def test_output_is_not_normalised():
    assert not torch.allclose(SL(2, 8)(torch.randn(4, 16)).norm(dim=1), torch.ones(4))


class FoldToZero(nn.Module):
    """Maps every value to its distance below 3: a stand-in that does not commute with anything."""

    def forward(self, x):
        return 3 - x


def test_dropout_stands_before_the_activation():
    """Dropout and a LeakyReLU commute, so the order is told by a stand-in that does not."""
    adaptor = DLDP(2, 4)
    blocks = torch.randn(5, 8)
    hidden = adaptor.fc1(blocks)
    adaptor.dropout = FoldToZero()
    before = adaptor.fc2(nn.functional.leaky_relu(3 - hidden))
    after = adaptor.fc2(3 - nn.functional.leaky_relu(hidden))
    assert not torch.allclose(before, after)
    torch.testing.assert_close(adaptor(blocks), before)


@pytest.mark.parametrize("dropout", [0.2, 0.5])
def test_dropout_acts_on_the_hidden_values_in_training_only(dropout):
    adaptor = DLDP(2, 64, negative_slope=1.0, dropout=dropout)  # no activation at slope 1
    adaptor.fc2.weight.data = torch.eye(64)
    nn.init.zeros_(adaptor.fc2.bias)
    blocks = torch.randn(200, 128)
    hidden = adaptor.fc1(blocks).detach()
    torch.testing.assert_close(adaptor.eval()(blocks), hidden)
    output = adaptor.train()(blocks)
    kept = output != 0
    torch.testing.assert_close(output[kept], hidden[kept] / (1 - dropout))
    deviation = 5 * (dropout * (1 - dropout) / kept.numel()) ** 0.5
    assert kept.float().mean().item() == pytest.approx(1 - dropout, abs=deviation)


def test_defaults_are_the_papers():
    defaults = {
        name: parameter.default for name, parameter in inspect.signature(DLDP).parameters.items()
    }
    assert defaults["embedding_dim"] == 512
    assert defaults["negative_slope"] == 0.01
    assert defaults["dropout"] == 0.2
    assert DuL(1, 2).negative_slope == 0.01


@pytest.mark.parametrize("name", ADAPTORS)
def test_build_adaptor(name):
    settings = AdaptorArchitecture(architecture=name, negative_slope=0.1)
    adaptor = build_adaptor(settings, 3, 8)
    assert type(adaptor) is ADAPTORS[name]
    assert adaptor(torch.zeros(1, 24)).shape == (1, 8)
    if name != "SL":
        assert adaptor.negative_slope == 0.1
    if name == "DLDP":
        assert adaptor.dropout.p == 0.2
        settings = AdaptorArchitecture(architecture=name, dropout=0.4)
        assert build_adaptor(settings, 3, 8).dropout.p == 0.4


def test_every_architecture_of_the_settings_is_there():
    annotation = AdaptorArchitecture.model_fields["architecture"].annotation
    assert set(get_args(annotation)) == set(ADAPTORS)


@pytest.mark.parametrize("name", ADAPTORS)
@pytest.mark.parametrize(("teachers", "dim"), [(0, 8), (-1, 8), (4, 0)])
def test_faults(name, teachers, dim):
    with pytest.raises(ValueError, match="at least 1 of each"):
        ADAPTORS[name](teachers, dim)
