"""The bound of a step: bytes and operations against sums by hand, times against a calculator's."""

import copy
import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from mstkd.bench.bench import _show_bound
from mstkd.bench.bound import (
    bound,
    head_work,
    roofline,
    seconds_at_least,
    seconds_overlapped,
    step_work,
    told,
)
from mstkd.bench.measure import BACKWARD
from mstkd.bench.result import BenchResult, Roofline
from mstkd.config import BackboneSettings
from mstkd.models.backbone import flops
from mstkd.models.weights import build_backbone

ROOT = Path(__file__).parent.parent
BLOCKS, WIDTHS, SIDE, BATCH, DIM, CLASSES = (1, 2, 1, 1), (4, 4, 8, 16), 32, 6, 10, 50
# A device of round numbers: 1 GB/s, 1 TFLOP/s, half of that in float32.
DEVICE = Roofline(bytes_a_second=1e9, flops_a_second=1e12, float32_flops_a_second=5e11)


@pytest.fixture(scope="module")
def network():
    settings = BackboneSettings(blocks=BLOCKS, widths=WIDTHS)
    return build_backbone(settings, embedding_dim=DIM, image_size=SIDE)


def by_hand():
    """Of one image: (inputs, outputs, weights) of products, and the elements of all else."""
    area = SIDE**2
    stem = WIDTHS[0] * area
    products = [(3 * area, stem, 27 * WIDTHS[0])]
    normalised, activated, added = [stem], [stem], []
    inputs = WIDTHS[0]
    for count, width in zip(BLOCKS, WIDTHS, strict=True):
        for number in range(count):
            halved = area // 4 if number == 0 else area
            x, hidden, y = inputs * area, width * area, width * halved
            if number == 0:
                products.append((x, y, inputs * width))  # the shortcut, of stride 2
                normalised.append(y)
            products += [(x, hidden, 9 * inputs * width), (hidden, y, 9 * width * width)]
            normalised += [x, hidden, y]
            activated.append(hidden)
            added.append(x + y)
            inputs, area = width, halved
    products.append((inputs * area, DIM, inputs * area * DIM))
    normalised += [inputs * area, DIM]
    return products, normalised, activated, added


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("design", "normalisation", "activation", "addition"),
    [("plain", 8, 7, 3), ("normed", 8, 0, 3), ("compiled", 8, 0, 1), ("fused", 6, 0, 1)],
)
def test_the_bytes_of_a_step_are_those_of_a_sum_by_hand(
    monkeypatch, network, half, design, normalisation, activation, addition
):
    monkeypatch.setattr("mstkd.bench.bound.LARGE", 0)
    size = 2 if half else 4
    products, normalised, activated, added = by_hand()
    of_products = [size * (BATCH * (x + y) + w) for x, y, w in products]
    expected = {
        # Of the images no gradient is asked for.
        "products": 3 * sum(of_products) - of_products[0],
        "normalisation": size * BATCH * normalisation * sum(normalised),
        "activation": size * BATCH * activation * sum(activated),
        "additions": size * BATCH * addition * sum(added),
    }
    parameters = sum(p.numel() for p in network.parameters())
    expected["optimiser"] = 4 * 3 * parameters + 4 * 5 * (parameters + DIM * CLASSES)
    expected["optimiser"] += 12 * parameters if half else 0
    expected["head"] = sum(work.moved for work in head_work(BATCH, DIM, CLASSES))
    work = step_work(network, BATCH, SIDE, classes=CLASSES, half=half, design=design)
    found = dict.fromkeys(expected, 0)
    for one in work:
        found[one.kind] += one.moved
    assert found == expected


def test_the_operations_are_those_of_three_passes_but_for_the_images_gradient(network):
    work = step_work(network, BATCH, SIDE, classes=CLASSES, half=False, design="plain")
    forward = BATCH * flops(network, torch.zeros(1, 3, SIDE, SIDE))
    stem = BATCH * 2 * 27 * WIDTHS[0] * SIDE**2
    products = sum(one.flops for one in work if one.kind == "products")
    assert products == BACKWARD * forward - stem
    head = sum(one.flops for one in work if one.kind == "head")
    assert head == BACKWARD * 2 * BATCH * CLASSES * DIM
    assert sum(one.flops for one in work) == products + head


def test_a_layer_by_hand(network):
    """The first convolution of the second stage: 4 to 4 channels of 16 x 16 pixels."""
    work = step_work(network, BATCH, SIDE, classes=CLASSES, half=True, design="plain")
    mine = [one for one in work if one.layer == "layer2.0.conv1"]
    assert len(mine) == 3
    assert {one.flops for one in mine} == {2 * 6 * 256 * 4 * 4 * 9}
    assert {one.moved for one in mine} == {2 * (6 * 256 * 4 + 6 * 256 * 4 + 9 * 16)}
    (prelu,) = [one for one in work if one.layer == "layer2.0.prelu"]
    assert (prelu.flops, prelu.moved) == (0, 2 * 7 * 6 * 256 * 4)


def test_a_kernel_of_our_own_spares_the_prelus_of_large_tensors_of_an_iresnet(monkeypatch, network):
    _, _, activated, _ = by_hand()
    monkeypatch.setattr("mstkd.bench.bound.LARGE", BATCH * max(activated))
    options = {"classes": CLASSES, "half": True, "design": "normed"}
    work = step_work(network, BATCH, SIDE, **options)
    left = sum(one.moved for one in work if one.kind == "activation")
    smaller = [size for size in activated if size < max(activated)]
    assert 0 < left == 2 * 7 * BATCH * sum(smaller)
    other = build_backbone(
        BackboneSettings(architecture="mobilefacenet"), embedding_dim=DIM, image_size=SIDE
    )
    monkeypatch.setattr("mstkd.bench.bound.LARGE", 0)
    assert step_work(other, BATCH, SIDE, **options) == step_work(
        other, BATCH, SIDE, **{**options, "design": "plain"}
    )


def test_the_head_by_hand():
    weight, logits, unit = 4 * 50 * 10, 4 * 6 * 50, 4 * 6 * 10
    work = head_work(6, 10, 50)
    assert sum(one.moved for one in work) == 6 * weight + 9 * logits + 3 * (weight + logits + unit)
    # In float32 whatever the network's precision: at half the rate here.
    product = [one for one in work if one.flops]
    fast = DEVICE.model_copy(update={"bytes_a_second": 1e30})
    assert seconds_at_least(product, fast) == pytest.approx(3 * 2 * 6 * 10 * 50 / 5e11)


def test_the_paper_s_network_moves_what_a_roofline_made_apart_from_this_says():
    """Of a script that shares no code with this, for an H200."""
    settings = BackboneSettings(architecture="iresnet34")
    teacher = build_backbone(settings, embedding_dim=512, image_size=112)
    h200 = Roofline(bytes_a_second=4.8e12, flops_a_second=989e12, float32_flops_a_second=67e12)
    for design, gigabytes, milliseconds in (("compiled", 26.7, 7.76), ("fused", 23.0, 6.99)):
        work = step_work(teacher, 128, 112, classes=28_000, half=True, design=design)
        assert sum(one.moved for one in work) / 1e9 == pytest.approx(gigabytes, rel=0.005)
        assert 1e3 * seconds_at_least(work, h200) == pytest.approx(milliseconds, rel=0.005)


def test_the_bytes_that_the_documents_tell():
    settings = BackboneSettings(architecture="iresnet34")
    teacher = build_backbone(settings, embedding_dim=512, image_size=112)
    told = (ROOT / "docs/performance.md").read_text()
    moved = {
        design: sum(
            one.moved
            for one in step_work(teacher, 128, 112, classes=28_000, half=True, design=design)
        )
        for design in ("plain", "normed", "compiled")
    }
    plain, normed, compiled = (f"{moved[design] / 1e9:.1f}" for design in moved)
    assert f"by one a step moves {plain} GB, with this {normed}, compiled {compiled}." in told


def test_a_kernel_takes_the_longer_of_both_and_overlap_takes_the_longer_sum(network):
    work = step_work(network, BATCH, SIDE, classes=CLASSES, half=False, design="plain")
    longer = sum(
        max(one.flops / (5e11 if one.kind == "head" else 1e12), one.moved / 1e9) for one in work
    )
    assert seconds_at_least(work, DEVICE) == pytest.approx(longer)
    assert seconds_overlapped(work, DEVICE) == pytest.approx(sum(one.moved for one in work) / 1e9)
    slow = DEVICE.model_copy(update={"flops_a_second": 1e6, "float32_flops_a_second": 1e6})
    assert seconds_overlapped(work, slow) == pytest.approx(sum(one.flops for one in work) / 1e6)


def test_the_share_reached_and_what_would_help(monkeypatch, network):
    options = {"classes": CLASSES, "half": False, "on": DEVICE}
    plain, compiled, fused = (
        seconds_at_least(
            step_work(network, BATCH, SIDE, classes=CLASSES, half=False, design=design), DEVICE
        )
        for design in ("plain", "compiled", "fused")
    )
    found = bound("x", network, BATCH, SIDE, compiled=False, measured=4 * plain, **options)
    assert found.reached == pytest.approx(0.25)
    assert found.would_take_off["compile"] == pytest.approx(1 - compiled / plain)
    assert found.would_take_off["fusion"] == pytest.approx(1 - fused / plain)
    assert sum(share.seconds for share in found.layers) == pytest.approx(plain)
    assert found.would_take_off["fused_norm"] == 0, "none of its tensors is large"
    monkeypatch.setattr("mstkd.bench.bound.LARGE", 0)
    own = bound("x", network, BATCH, SIDE, compiled=False, measured=1.0, **options)
    used = bound("x", network, BATCH, SIDE, compiled=False, fused_norm=True, measured=1, **options)
    assert 0 < own.would_take_off["fused_norm"] < own.would_take_off["compile"]
    assert used.seconds == pytest.approx(plain * (1 - own.would_take_off["fused_norm"]))
    assert used.would_take_off["fused_norm"] == 0
    assert {share.layer for share in found.layers if share.kind == "products"} == {
        *("conv1", "layer1", "layer2", "layer3", "layer4", "fc"),
    }
    already = bound("x", network, BATCH, SIDE, compiled=True, measured=1.0, **options)
    assert already.seconds == pytest.approx(compiled)
    assert already.would_take_off["fused_norm"] == 0
    assert already.would_take_off["compile"] == 0


def test_it_is_told_in_a_sentence(network):
    options = {"classes": CLASSES, "half": False, "on": DEVICE, "compiled": False}
    found = bound("tiny, batch 6", network, BATCH, SIDE, measured=1.0, **options)
    off = {"compile": 0.21, "overlap": 0.04, "fusion": 0.33}
    some = found.model_copy(update={"reached": 0.5, "would_take_off": off})
    assert told(some) == (
        "tiny, batch 6: 50% of the bound reached, off which could take: fusion 33%, compile 21%"
    )
    none = some.model_copy(update={"would_take_off": dict.fromkeys(off, 0.0)})
    assert told(none).endswith("reached, which nothing would lower")
    out = io.StringIO()
    _show_bound(some, Console(file=out, width=120))
    for kind in ("products", "normalisation", "activation", "additions", "head", "optimiser"):
        assert kind in out.getvalue()


def test_counting_leaves_the_network_as_it_is(network):
    before = copy.deepcopy(network.state_dict())
    step_work(network, BATCH, SIDE, classes=CLASSES, half=False, design="plain")
    assert network.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(module._forward_hooks for module in network.modules())


def test_a_device_is_measured_by_copies_and_products(monkeypatch):
    monkeypatch.setattr("mstkd.bench.bound.COPIED_CPU", 4096)
    found = roofline(torch.device("cpu"), 0.001, product=5e9)
    assert found.bytes_a_second > 0
    assert (found.flops_a_second, found.float32_flops_a_second) == (5e9, 5e9)


def test_a_result_from_before_can_be_read():
    fields = BenchResult.model_fields
    assert not fields["roofline"].is_required()
    assert not fields["bounds"].is_required()
