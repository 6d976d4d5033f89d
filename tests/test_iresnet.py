"""The backbone: sizes of the published networks, names of the public weights, shapes."""

import pytest
import torch
from torch import nn

from mstkd.models import iresnet as module
from mstkd.models.backbone import folded
from mstkd.models.iresnet import (
    BLOCKS,
    Block,
    IResNet,
    PReLU,
    iresnet18,
    iresnet34,
    iresnet50,
    iresnet100,
)

SIZES = {
    "iresnet18": 24_025_600,
    "iresnet34": 34_139_328,
    "iresnet50": 43_590_848,
    "iresnet100": 65_156_160,
}


def small(image_size=32, **options):
    options = {"widths": (4, 6, 8, 10), "embedding_dim": 12} | options
    return IResNet((2, 1, 1, 1), image_size=image_size, **options)


@pytest.mark.parametrize("name", SIZES)
def test_sizes_of_the_published_networks(name):
    with torch.device("meta"):
        model = getattr(module, name)()
    parameters = dict(model.named_parameters())
    assert sum(p.numel() for p in parameters.values()) == SIZES[name]
    trained = sum(p.numel() for p in parameters.values() if p.requires_grad)
    assert trained == SIZES[name] - 512
    assert not parameters["features.weight"].requires_grad


def test_size_by_hand():
    """Conv without bias, BN of two, PReLU of one a channel, summed as the architecture is told."""

    def block(inputs, outputs, downsample):
        size = 2 * inputs + 9 * inputs * outputs + 2 * outputs + outputs
        size += 9 * outputs * outputs + 2 * outputs
        return size + (inputs * outputs + 2 * outputs if downsample else 0)

    expected = 27 * 4 + 2 * 4 + 4 + block(4, 4, True) + block(4, 4, False)
    expected += block(4, 6, True) + block(6, 8, True) + block(8, 10, True)
    expected += 2 * 10 + (10 * 2 * 2 + 1) * 12 + 2 * 12
    assert sum(p.numel() for p in small().parameters()) == expected


def test_names_are_those_of_the_public_weights():
    with torch.device("meta"):
        names = set(iresnet34().state_dict())
    parts = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    expected = {"conv1.weight", "prelu.weight", "fc.weight", "fc.bias"}
    expected |= {f"{bn}.{part}" for bn in ("bn1", "bn2", "features") for part in parts}
    for stage, blocks in enumerate(BLOCKS["iresnet34"], start=1):
        for number in range(blocks):
            block = f"layer{stage}.{number}"
            expected |= {f"{block}.{own}.weight" for own in ("conv1", "conv2", "prelu")}
            expected |= {f"{block}.{bn}.{part}" for bn in ("bn1", "bn2", "bn3") for part in parts}
        expected |= {f"layer{stage}.0.downsample.0.weight"}
        expected |= {f"layer{stage}.0.downsample.1.{part}" for part in parts}
    assert names == expected
    assert {"layer1.0.bn1.weight", "layer1.0.downsample.0.weight", "features.weight"} <= names


@pytest.mark.parametrize("image_size", [16, 32, 112])
def test_shapes(image_size):
    model = small(image_size)
    seen = {}
    for name in ("prelu", "layer1", "layer2", "layer3", "layer4", "fc", "features"):
        part = model.get_submodule(name)
        part.register_forward_hook(lambda *call, name=name: seen.update({name: call[2].shape}))
    output = model(torch.randn(2, 3, image_size, image_size))
    side = image_size
    for name, width in (("prelu", 4), ("layer1", 4), ("layer2", 6), ("layer3", 8), ("layer4", 10)):
        side = side if name == "prelu" else side // 2
        assert seen[name] == (2, width, side, side)
    assert output.shape == seen["fc"] == seen["features"] == (2, 12)


@pytest.mark.parametrize("image_size", [30, 0, -16, 8])
def test_sides_that_do_not_divide(image_size):
    with pytest.raises(ValueError, match=f"image_size {image_size} is not a positive multiple"):
        small(image_size)


def test_blocks_and_widths_must_be_as_many():
    with pytest.raises(ValueError, match="argument 2"):
        IResNet((1, 1, 1), widths=(4, 4, 4, 4))


def test_initial_weights():
    torch.manual_seed(0)
    model = small(widths=(16, 16, 32, 32))
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert all(m.bias is None for m in convolutions)
    values = torch.cat([m.weight.detach().flatten() for m in convolutions])
    assert values.std().item() == pytest.approx(0.1, rel=0.02)
    assert values.mean().item() == pytest.approx(0, abs=0.002)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            assert (m.eps, m.momentum) == (1e-5, 0.1)
            assert m.weight.eq(1).all()
            assert m.bias.eq(0).all()
    assert all(m.weight.eq(0.25).all() for m in model.modules() if isinstance(m, nn.PReLU))
    bound = 1 / model.fc.in_features**0.5  # PyTorch's own for a linear layer
    assert 0.9 * bound < model.fc.weight.abs().max().item() <= bound


@pytest.mark.parametrize(("inputs", "stride"), [(3, 1), (5, 1), (5, 2)])
def test_a_block_by_hand(inputs, stride):
    """BN, conv, BN, PReLU, strided conv, BN; the shortcut projected only where shapes change."""
    block = Block(inputs, 5, stride).eval()
    for name, parameter in block.named_parameters():
        nn.init.normal_(parameter, 1 if "bn" in name else 0, 0.3)
    x = torch.randn(2, inputs, 8, 8)

    def norm(x, bn):
        scale = bn.weight / (bn.running_var + 1e-5) ** 0.5
        return (x - bn.running_mean[:, None, None]) * scale[:, None, None] + bn.bias[:, None, None]

    y = norm(x, block.bn1)
    y = norm(nn.functional.conv2d(y, block.conv1.weight, padding=1), block.bn2)
    y = torch.where(y > 0, y, block.prelu.weight[:, None, None] * y)
    y = nn.functional.conv2d(y, block.conv2.weight, padding=1, stride=stride)
    y = norm(y, block.bn3)
    shortcut = x
    if inputs != 5 or stride != 1:
        conv, bn = block.downsample
        shortcut = norm(nn.functional.conv2d(x, conv.weight, stride=stride), bn)
    else:
        assert block.downsample is None
    torch.testing.assert_close(block(x), y + shortcut, rtol=1e-4, atol=1e-5)


def test_dropout_stands_before_the_last_layer():
    model = small(dropout=0.4)
    seen = []
    model.fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.randn(64, 3, 32, 32)
    model(images)
    assert (seen[0] == 0).float().mean().item() == pytest.approx(0.4, abs=0.05)
    assert torch.equal(model.eval()(images), model(images))
    assert (seen[1] == 0).float().mean() < 0.01


@pytest.mark.parametrize("make", [iresnet18, iresnet34, iresnet50, iresnet100])
def test_options_of_the_named_networks(make):
    with torch.device("meta"):
        model = make(embedding_dim=64, dropout=0.4)
        plain = make()
    assert model.fc.weight.shape == (64, 25088)
    assert (model.dropout.p, plain.dropout.p) == (0.4, 0)
    stages = [len(model.get_submodule(f"layer{i}")) for i in (1, 2, 3, 4)]
    assert tuple(stages) == BLOCKS[make.__name__]


def test_every_trained_parameter_gets_a_gradient():
    model = small()
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_prelu_gives_what_pytorchs_own_gives():
    """Forward and both gradients, zeros of either sign and channels last included."""
    torch.manual_seed(0)
    x = torch.randn(4, 3, 8, 8).to(memory_format=torch.channels_last)
    x[0, :, 0, :2] = torch.tensor([0.0, -0.0])
    grad = torch.randn_like(x)
    slope = torch.tensor([0.25, -0.5, 1.5])
    results = []
    for prelu in (PReLU(3), nn.PReLU(3)):
        with torch.no_grad():
            prelu.weight.copy_(slope)
        given = x.clone().requires_grad_()
        y = prelu(given)
        y.backward(grad)
        results.append((y, given.grad, prelu.weight.grad))
    (y, of_x, of_slope), (expected, expected_of_x, expected_of_slope) = results
    assert torch.equal(y, expected)
    assert torch.equal(of_x, expected_of_x)
    torch.testing.assert_close(of_slope, expected_of_slope, rtol=1e-5, atol=1e-5)


def test_a_folded_network_computes_the_same_from_fewer_layers():
    torch.manual_seed(0)
    model = IResNet((2, 1, 1, 1), widths=(4, 6, 6, 8), embedding_dim=10, image_size=32)
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.running_mean.normal_(0, 0.5)
            layer.running_var.uniform_(0.5, 2)
            nn.init.normal_(layer.bias)
            nn.init.uniform_(layer.weight, 0.5, 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = folded(model)
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected, found = model.double().eval()(images.double()), other(images)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    kept = [m for m in other.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(kept) == 5 + 2, "one before the convolutions of each block, and the last two"
    for name, tensor in model.float().state_dict().items():
        assert torch.equal(tensor, before[name]), "the network itself is left as it was"
