"""Backbones beside IResNet: what they compute, how large they are, and students of their kind."""

import json
import math

import pytest
import torch
from runs import TINY, edited, snakemake
from torch.nn import functional

from mstkd.bench.bound import step_work
from mstkd.config import BackboneSettings, validate
from mstkd.errors import InputError
from mstkd.models.backbone import folded, size_of
from mstkd.models.iresnet import iresnet34
from mstkd.models.mobilefacenet import MobileFaceNet
from mstkd.models.weights import build_backbone

# Chen et al., 2018, Table 1: side that comes in, operator, expansion, channels, times, stride.
TABLE_1 = [
    (112, "conv", 1, 64, 1, 2),
    (56, "alone", 1, 64, 1, 1),
    (56, "bottleneck", 2, 64, 5, 2),
    (28, "bottleneck", 4, 128, 1, 2),
    (14, "bottleneck", 2, 128, 6, 1),
    (14, "bottleneck", 4, 128, 1, 2),
    (7, "bottleneck", 2, 128, 2, 1),
]


def by_table_1(dim):
    """Parameters and multiply-adds of convolutions, summed as the table is read."""
    weights = products = others = 0

    def conv(kernel, inputs, outputs, side, *, prelu=True):
        nonlocal weights, products, others
        weights += kernel * kernel * inputs * outputs
        products += kernel * kernel * inputs * outputs * side * side
        others += (3 if prelu else 2) * outputs  # normalisation's two, and a slope

    channels = 3
    for side, kind, expansion, width, times, stride in TABLE_1:
        for time in range(times):
            step = stride if time == 0 else 1
            after = side // step
            if kind == "conv":
                conv(3, channels, width, after)
            elif kind == "alone":
                conv(3, 1, width, after)
            else:
                inner = expansion * channels
                conv(1, channels, inner, side)
                conv(3, 1, inner, after)
                conv(1, inner, width, after, prelu=False)
            channels, side = width, after
    conv(1, channels, 512, 7)
    conv(7, 1, 512, 1, prelu=False)
    conv(1, 512, dim, 1, prelu=False)
    return weights + others, products


@pytest.mark.parametrize("dim", [128, 512])
def test_mobilefacenet_is_that_of_its_paper(dim):
    """0.99 million parameters and 221 million multiply-adds with 128 dimensions."""
    found = size_of(MobileFaceNet(embedding_dim=dim), 112)
    assert (found.parameters, found.multiply_adds) == by_table_1(dim)
    if dim == 128:
        assert math.isclose(found.parameters, 0.99e6, rel_tol=0.02)
        assert math.isclose(found.multiply_adds, 221e6, rel_tol=0.001)


def by_hand(state, images):
    """MobileFaceNet in evaluation mode by PyTorch's functions alone, in float64."""
    state = {name: value.double() for name, value in state.items()}

    def convolved(x, name, *, stride=1, padding=0, groups=1):
        x = functional.conv2d(
            x, state[f"{name}.conv.weight"], stride=stride, padding=padding, groups=groups
        )
        mean, var = state[f"{name}.bn.running_mean"], state[f"{name}.bn.running_var"]
        scale = state[f"{name}.bn.weight"] / (var + 1e-5).sqrt()
        shift = state[f"{name}.bn.bias"] - mean * scale
        x = x * scale[:, None, None] + shift[:, None, None]
        slope = state.get(f"{name}.prelu.weight")
        return x if slope is None else torch.where(x > 0, x, x * slope[:, None, None])

    x = convolved(images.double(), "layers.0", stride=2, padding=1)
    x = convolved(x, "layers.1", padding=1, groups=x.shape[1])
    number = 2
    for _, kind, _, _, times, stride in TABLE_1[2:]:
        assert kind == "bottleneck"
        for time in range(times):
            step, before, name = stride if time == 0 else 1, x, f"layers.{number}.layers"
            x = convolved(x, f"{name}.0")
            x = convolved(x, f"{name}.1", stride=step, padding=1, groups=x.shape[1])
            x = convolved(x, f"{name}.2")
            x = x + before if step == 1 and x.shape == before.shape else x
            number += 1
    x = convolved(x, f"layers.{number}")
    x = convolved(x, f"layers.{number + 1}", groups=x.shape[1])
    x = x.flatten(1) @ state["fc.weight"].T
    mean, var = state["features.running_mean"], state["features.running_var"]
    x = (x - mean) / (var + 1e-5).sqrt()
    return x * state["features.weight"] + state["features.bias"]


@pytest.mark.parametrize("image_size", [16, 48])
def test_mobilefacenet_by_hand_and_folded(image_size):
    torch.manual_seed(0)
    model = MobileFaceNet(embedding_dim=24, image_size=image_size).double().eval()
    for module in model.modules():  # as after training: of no normalisation are the numbers 0 and 1
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    images = torch.rand(3, 3, image_size, image_size, dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        found = model(images)
        assert found.shape == (3, 24)
        torch.testing.assert_close(found, by_hand(model.state_dict(), images))
        less = folded(model)
        torch.testing.assert_close(less(images), found)
    norms = torch.nn.modules.batchnorm._BatchNorm
    assert sum(isinstance(module, norms) for module in less.modules()) == 1
    assert sum(isinstance(module, norms) for module in model.modules()) > 40


def test_the_work_of_a_step_counts_each_channel_alone():
    """Products of the forward pass are twice the multiply-adds, and back twice as many again."""
    model = MobileFaceNet(embedding_dim=32, image_size=32)
    work = step_work(model, 4, 32, classes=10, half=False, design="plain")
    products = sum(one.flops for one in work if one.kind == "products")
    first = 2 * 4 * 27 * 64 * 16 * 16  # whose images want no gradient
    assert products == 3 * 2 * 4 * size_of(model, 32).multiply_adds - first


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_100", "vit_tiny_patch16_224"])
def test_any_network_of_timm(name):
    settings = validate(BackboneSettings, {"timm": name}, "backbones.x")
    model = build_backbone(settings, embedding_dim=24, image_size=48)
    assert model.training
    images = torch.rand(2, 3, 48, 48) * 2 - 1
    with torch.no_grad():
        assert model(images).shape == (2, 24)
        one = model.eval()(images)
        torch.testing.assert_close(folded(model)(images), one)
    assert size_of(model, 48).parameters > 1_000_000


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"timm": "hf-hub:someone/net"}, "timm"),
        ({"timm": "../x"}, "timm"),
        ({"timm": "resnet18", "blocks": [1, 1, 1, 1]}, "either architecture, blocks or timm"),
        ({}, "either architecture, blocks or timm"),
        ({"architecture": "mobilefacenet", "widths": [4, 4, 4, 4]}, "no widths"),
        ({"architecture": "mobilenet"}, "architecture"),
    ],
)
def test_settings_that_name_no_network(given, told):
    with pytest.raises(InputError, match=told) as fault:
        validate(BackboneSettings, given, "backbones.x")
    assert len(str(fault.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnet_of_nobody", "timm: found resnet_of_nobody; expected a name that timm.list_models"),
        ("vit_tiny_patch16_224", "expected a network of images of 8 x 8 pixels"),
    ],
)
def test_networks_that_timm_does_not_have(name, told):
    settings = BackboneSettings(timm=name)
    with pytest.raises(InputError, match=told) as fault:
        build_backbone(settings, embedding_dim=8, image_size=8)
    assert len(str(fault.value).splitlines()) == 1


def test_timm_may_be_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(InputError, match=r"timm: resnet18: .*pip install 'mstkd\[timm\]'"):
        build_backbone(BackboneSettings(timm="resnet18"), embedding_dim=8, image_size=48)


@pytest.mark.slow
@pytest.mark.workflow
@pytest.mark.parametrize(
    "backbone", [{"architecture": "mobilefacenet"}, {"timm": "mobilenetv3_small_050"}]
)
@pytest.mark.usefixtures("quick_jobs")
def test_a_student_smaller_than_its_teachers(tmp_path, backbone):
    """From teachers of another kind, distilled, scored, and its size told under its table."""
    edits = {"backbones.small": backbone, "students.backbone": "small", "controls": False}
    config = edited(TINY, edits)
    config["adaptors"]["architectures"] = {"SL": {}}
    config["students"]["losses"] = {"a-KD": {}}
    where = "results/students/tiny/specialized/SL/a-KD/seed0"
    snakemake(tmp_path, config, f"{where}/metrics.json", "results/tables/table2.md")
    network = json.loads((tmp_path / where / "metrics.json").read_text())["network"]
    settings = BackboneSettings(**backbone)
    expected = size_of(build_backbone(settings, embedding_dim=32, image_size=16), 16)
    assert network == {
        "parameters": expected.parameters,
        "multiply_adds": expected.multiply_adds,
    }
    record = json.loads((tmp_path / where / "model.json").read_text())
    assert record["settings"]["backbone"] == backbone | {"dropout": 0.0}
    table = (tmp_path / "results/tables/table2.md").read_text()
    assert f"A network has {expected.parameters / 1e6:.2f} million parameters" in table


def test_mobilefacenet_is_small():
    """A twentieth of the paper's student, as the documents say, on one image."""
    large, small = size_of(iresnet34(), 112), size_of(MobileFaceNet(), 112)
    assert round(large.multiply_adds / small.multiply_adds) == 20
    assert large.parameters > 20 * small.parameters
