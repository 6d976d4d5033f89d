"""The fused batch normalisation and PReLU against PyTorch's own layers in float64."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from interpretednorms import CASES, drawn, network, of_network, results

from mstkd.config import EngineSettings
from mstkd.models import fused_norm
from mstkd.training import engine
from mstkd.training.engine import Embedder

# Of numbers around 1, a few roundings in a row.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2**-8}


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """What tests/interpretednorms.py gives, by its names."""
    pytest.importorskip("triton", reason="needs Triton, which PyTorch's builds for CUDA bring")
    path = tmp_path_factory.mktemp("interpreted") / "found.pt"
    script = Path(__file__).with_name("interpretednorms.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, script, path], check=True, env=environment)
    return torch.load(path, weights_only=False)


@pytest.mark.parametrize("name", CASES)
def test_forward_backward_and_running_statistics(interpreted, name):
    case = CASES[name]
    x, grad, norm, prelu = drawn(case)
    norm, prelu = norm.double(), prelu.double()
    expected = results(lambda x: prelu(norm(x)), x.double(), grad.double(), norm, prelu)
    found = interpreted[name]
    assert found.keys() == expected.keys()
    for key, value in found.items():
        # What is as large as x is of its type; sums and statistics keep their digits.
        kind = case.dtype if key in ("y", "of_x") else torch.promote_types(case.dtype, torch.float)
        assert value.dtype == kind, key
        tolerance = TOLERANCE[kind] * max(1, case.offset)
        torch.testing.assert_close(
            value.double(),
            expected[key],
            rtol=tolerance,
            atol=tolerance,
            msg=f"{name}: {key}",
        )
    assert found["y"].is_contiguous(memory_format=torch.channels_last)
    assert found["of_x"].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("way", ["network", "compiled"])
def test_a_network_with_it_computes_the_same(interpreted, way):
    expected, found = of_network(*network()), interpreted[way]
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9, msg=name)


def test_it_stands_in_stem_and_blocks_where_tensors_are_large(interpreted):
    names = ("moments", "norm_prelu", "norm_prelu_backward")
    assert interpreted["operations"] == {f"mstkd::{name}": 6 for name in names}
    assert interpreted["operations of small tensors"] == {}


def test_what_it_takes(monkeypatch):
    x = torch.empty(2, 4, 6, 6)
    monkeypatch.setattr(fused_norm, "LARGE", x.numel())
    last = x.contiguous(memory_format=torch.channels_last)
    assert fused_norm.takes(last)
    assert not fused_norm.takes(x)
    assert not fused_norm.takes(last[:1])
    assert not fused_norm.takes(last.long())


@pytest.mark.parametrize(("refused", "fused"), [(None, True), ("no compiler", False)])
def test_a_gpu_that_cannot_is_told_of_in_a_line(monkeypatch, capsys, refused, fused):
    monkeypatch.setattr(fused_norm, "refusal", lambda device: refused)
    made, _ = network()
    settings = EngineSettings(compile="off", fused_norm=True)
    Embedder(made, settings, torch.device("cuda"))
    layers = [made, *(m for m in made.modules() if type(m).__name__ == "Block")]
    assert [layer.fused_norm for layer in layers] == [fused] * 6
    told = capsys.readouterr().err
    assert told.count("\n") == (refused is not None)
    assert (f"stay two operations: {refused}" in told) == (refused is not None)


def test_a_cpu_goes_without_and_says_nothing(monkeypatch, capsys):
    monkeypatch.setattr(fused_norm, "LARGE", 0)
    made, images = network()
    Embedder(made, EngineSettings(fused_norm=True), torch.device("cpu"))
    assert capsys.readouterr().err == ""
    plain, _ = network()
    expected = of_network(plain, images)
    assert all(torch.equal(value, expected[key]) for key, value in of_network(made, images).items())


def test_a_refusal_is_one_line(monkeypatch):
    def missing(name):
        raise ImportError("no triton\nat all")

    monkeypatch.setattr(fused_norm.importlib, "import_module", missing)
    assert fused_norm.refusal(torch.device("cpu")) == "no triton"
    assert engine.fused_norm is fused_norm


STATISTICS, TILES = ["*fp32"] * 5, {"tile_rows": 64, "tile_channels": 64}
SIGNATURES = {  # in bfloat16, as the network gives and gets them
    "moments_of_parts": (["*bf16", "*fp32", "*fp32", *["i32"] * 3], TILES),
    "moments_of_all": (
        [*["*fp32"] * 6, *["i32"] * 4],
        {"momentum": 0.1, "eps": 1e-5, "tile_parts": 64, "tile_channels": 64},
    ),
    "norm_prelu": (["*bf16", *STATISTICS, "*bf16", "i32", "i32"], TILES),
    "gradients_of_parts": (["*bf16", "*bf16", *STATISTICS, "*fp32", *["i32"] * 4], TILES),
    "gradient_of_input": (
        ["*bf16", "*bf16", *STATISTICS, "*fp32", "*bf16", "i32", "i32"],
        {"of_batch": True, **TILES},
    ),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_kernel_compiles_for_an_h100_and_adds_nothing_in_an_order_of_chance(
    monkeypatch, tmp_path, name
):
    """What the interpreter does not look at: types, width of loads, and that nothing is atomic."""
    triton = pytest.importorskip("triton", reason="needs Triton")
    from mstkd.models import norm_prelu_kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    types, constants = SIGNATURES[name]
    kernel = getattr(norm_prelu_kernels, name)
    others = iter(types)
    signature = {key: "constexpr" if key in constants else next(others) for key in kernel.arg_names}
    # As Triton sees of the network's: pointers and channels are multiples of 16, rows may not be.
    places = [n for n, key in enumerate(signature) if key not in (*constants, "rows", "parts")]
    source = triton.compiler.ASTSource(
        fn=kernel,
        signature=signature,
        constexprs=constants,
        attrs={(place,): [["tt.divisibility", 16]] for place in places},
    )
    h100 = triton.backends.compiler.GPUTarget("cuda", 90, 32)
    made = triton.compile(source, target=h100, options={"num_warps": fused_norm.WARPS})
    assert made.asm["cubin"]
    if name != "moments_of_all":  # which reads little
        assert "ld.global.v4.b32" in made.asm["ptx"]  # 16 bytes
    assert re.findall(r"\b(?:atom|red)\.", made.asm["ptx"]) == []
