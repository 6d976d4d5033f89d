"""The page of speeds is what the result files say, and each of those says where it comes from."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
RESULTS = BENCHMARKS / "results"
PAGE = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
NAMES = ("uncertainty", "study")
PAGES = [PAGE, *((ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in NAMES)]


@pytest.fixture
def scripts(monkeypatch):
    """Lets the benchmarks be imported as they import each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.parametrize("page", PAGES, ids=["performance", *NAMES])
def test_the_page_is_in_step_with_the_results(scripts, page):
    from render import render

    assert render(page) == page, "run python benchmarks/render.py"


def test_an_edited_figure_does_not_stay(scripts):
    from render import render

    seconds = json.loads((RESULTS / "demo.json").read_text())["seconds"]
    edited = PAGE.replace(f"| seconds | {seconds} |", f"| seconds | {seconds - 1} |")
    assert edited != PAGE
    assert render(edited) == PAGE


def test_every_table_of_the_page_is_known_and_every_known_table_is_on_it(scripts):
    from render import TABLES

    assert sorted(re.findall(r"<!-- table: (\w+) -->", "".join(PAGES))) == sorted(TABLES)


def test_what_has_no_result_is_not_measured(scripts, tmp_path):
    from render import TABLES, render

    assert render("".join(PAGES), tmp_path).count("\nNot measured.\n") == len(TABLES)


def test_no_figure_stands_outside_the_tables():
    """But for what is no measurement: the prose may say sizes of the data and options."""
    prose = re.sub(r"<!-- table.*?<!-- end -->", "", PAGE, flags=re.DOTALL)
    assert not re.search(r"\d[\d.,]* (images|samples|pairs) a second|\d times (as|faster)", prose)
    assert not re.search(r"\d+(\.\d+)? (seconds|minutes|hours|GiB|MiB|TFLOP)", prose)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_each_result_names_command_machine_versions_and_date(path):
    result = json.loads(path.read_text())
    machine = result.get("machine", result)
    assert {"cpu", "cpu_count", "python", "date"} <= set(machine)
    assert machine["command"].startswith(("python ", "mstkd bench"))
    assert set(machine) & {"torch", "numpy", "pillow", "snakemake"}


TELLING = [*sorted(RESULTS.glob("*.json")), *sorted((ROOT / "docs").glob("*.md"))]
NO_PATHS_OF_OURS = r"https?:\S+|/pytorch/\S+|: /data/\w+"  # PyTorch's faults, a config's example


@pytest.mark.parametrize("path", TELLING, ids=lambda path: path.name)
def test_no_path_of_one_machine_is_told(path):
    """From the project's folder or by its name: nobody else has what lies elsewhere."""
    told = re.sub(NO_PATHS_OF_OURS, "", path.read_text(encoding="utf-8"))
    assert re.findall(r"(?<![\w.<>{}*)\]/-])(?:/|~/|[A-Z]:\\\\)\w[\w./-]*", told) == []
    if path.parent == RESULTS:
        assert "../" not in told


GPU = {
    "gpu": "a GPU",
    "matmul_tflops": 700.5,
    "networks": {
        "iresnet34": {
            "training": {
                "float32, NCHW": {"images": 100, "share": 0.1, "gib": 3.5, "batches": 9},
                "+ compile": "failed: no compiler",
            }
        }
    },
    "hours_of_the_six_tables_and_the_controls": {"float32, NCHW": 41.5},
}


def test_a_way_that_failed_on_a_gpu_says_why(scripts):
    from render import gpu

    text = gpu(GPU)
    assert "| iresnet34 training, float32, NCHW | 100 | 0.1 | 3.5 |" in text
    assert "| iresnet34 training, + compile | failed: no compiler |" in text
    assert "| float32, NCHW | 41.5 |" in text


def test_a_stage_that_was_not_reached_or_failed_costs_the_page_no_other(scripts):
    from render import gpu

    whole = json.loads((RESULTS / "gpu.json").read_text())
    text = gpu(whole)
    for stage in ("loop", "profile", "waits", "together", "determinism"):
        less = {key: value for key, value in whole.items() if key != stage}
        assert len(gpu(less)) < len(text)
        failed = {**whole, stage: dict.fromkeys(whole[stage], "failed: so")}
        assert "failed: so" in gpu(failed)


def test_the_six_tables_hours_are_images_over_rates(scripts):
    from gpu import EXTRACTION, WAYS, six_tables

    from mstkd.bench.work import count_images, experiment
    from mstkd.config import read_config

    config = read_config(ROOT / "config/paper.yaml")
    rates = {"training": 1000, "extraction": 4000}
    failed = dict.fromkeys(list(WAYS)[1:], "failed: out of memory")
    networks = {
        name: {
            "training": {"float32, NCHW": {"images_a_second": rates["training"]}, **failed},
            "extraction": {EXTRACTION: {"images_a_second": rates["extraction"]}},
        }
        for name in ("iresnet34", "iresnet50")
    }
    hours = six_tables(networks)
    loads = experiment(config, count_images(config, ROOT / "results/packs"))
    passes = {"training": 0.0, "embedding": 0.0, "adaptor": 0.0}
    for load in loads:
        passes[load.subject.measure] += load.images
    expected = (passes["training"] / 1000 + passes["embedding"] / 4000) / 3600
    assert hours == {"float32, NCHW": pytest.approx(expected, abs=0.05)}
    del networks["iresnet50"]
    assert six_tables(networks) == {}


def test_steps_side_by_side_and_what_failed_of_them(scripts):
    from render import gpu_step

    step = {"images_a_second": 7000, "share": 0.28, "gib": 1.0, "reserved_gib": 5.5}
    step |= {"profile": {"busy_share": 0.97}, "waits": {"passes": True}}
    broken = {**step, "images_a_second": 4000, "profile": "failed: so", "waits": "failed: too"}
    text = gpu_step(
        {
            "gpu": "a GPU",
            "matmul_tflops": 700.5,
            "steps": {"r teacher": {"off": broken, "captured": "failed: no", "auto": step}},
            "embedding": {"cache, bfloat16": {"images_a_second": 9}, "pairs, bfloat16": 8},
        }
    )
    assert "| r teacher, `engine.compile: auto` | 7,000 | 0.28 | 97% | yes | 5.5 |" in text
    assert (
        "| r teacher, launched one by one | 4,000 | 0.28 | failed: so | failed: too | 5.5 |" in text
    )
    assert "| r teacher, captured | failed: no |" in text
    assert "| cache, bfloat16 | 9 |" in text


def tiny_gpu_run(output, stages, **variables):
    """What the GPU script finds on the CPU, with one thread: more only wait for each other."""
    command = [sys.executable, BENCHMARKS / "gpu.py", "--device", "cpu", "--tiny"]
    command += ["--stages", stages, "--seconds", "0.01", "--output", output]
    alone = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=alone)
    assert "failed" not in told.stdout
    return json.loads(output.read_text())


def test_the_gpu_script_runs_where_there_is_no_gpu_if_told_so(tmp_path):
    stages = "matmul,steps,embedding,ceilings,waits,training,loop,profile,extraction,input"
    found = tiny_gpu_run(tmp_path / "gpu.json", stages)
    assert set(found["seconds_of_stages"]) == set(stages.split(","))
    assert found["networks"]["tiny"]["training"]["+ bfloat16"]["images_a_second"] > 0


def test_the_gpu_script_measures_norms_of_every_size_in_every_way(tmp_path):
    """By Triton's interpreter, which no figure is of."""
    pytest.importorskip("triton", reason="needs Triton, which PyTorch's builds for CUDA bring")
    found = tiny_gpu_run(tmp_path / "gpu.json", "norms", TRITON_INTERPRET="1")["norms"]
    steps = found.pop("tiny teacher")
    assert list(found) == ["2x4x16x16", "2x4x8x8", "2x8x4x4", "2x8x2x2"]
    assert all(set(ways) == {"plain", "compiled", "fused"} for ways in found.values())
    for ways in found.values():
        assert all(one["ms"] > 0 and one["gb_a_second"] >= 0 for one in ways.values())
    assert {way for way in steps if "fused_norm" in way} == {
        *("off, fused_norm", "captured, fused_norm", "auto, fused_norm"),
    }


@pytest.mark.slow
def test_the_gpu_scripts_runs_in_processes(tmp_path):
    found = tiny_gpu_run(tmp_path / "gpu.json", "determinism,runs,together")
    assert found["determinism"]["compiled and captured"]["same_resumed"]
    assert found["determinism"]["eager"]["same_twice"]
    assert found["determinism"]["eager"]["same_resumed"]
    assert found["together"]["two processes"] > 0


def test_a_measurement_that_fails_or_comes_too_late_says_so(scripts, tmp_path):
    from gpu import TINY, Bench

    def fails():
        raise RuntimeError("no\nmemory")

    cpu = torch.device("cpu")
    networks = ("tiny", "tiny")
    bench = Bench(cpu, 0.0, TINY, networks, "tiny", False, float("inf"), tmp_path / "a.json", {})
    bench.put("one", "two", measured=fails)
    bench._replace(until=0.0).put("one", "three", measured=fails)
    found = json.loads((tmp_path / "a.json").read_text())["one"]
    assert re.match(r"failed: RuntimeError: no \(test_benchmarks.py:\d+: ", found["two"])
    assert found["three"] == "not measured: no time left"


def test_without_a_gpu_nothing_is_written(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("the machine has a GPU")
    command = [sys.executable, BENCHMARKS / "gpu.py", "--output", tmp_path / "gpu.json"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stdout == "no GPU: not measured\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", ["float32, NCHW", "+ channels last", "+ bfloat16"])
def test_the_ways_of_the_gpu_script_compute(scripts, way):
    from _gpu_networks import WAYS, extract, train

    cpu = torch.device("cpu")
    assert train("iresnet18", WAYS[way], 2, cpu, 0.0).steps == 1
    assert extract("iresnet18", WAYS[way], 2, cpu, 0.0).steps == 1


def test_rfws_proportion_of_images_to_pairs(scripts):
    from evaluation import choose_pairs

    pairs = choose_pairs(1500)
    used = {image for pair in pairs for image in pair}
    assert used == {(identity, shot) for identity in range(1500) for shot in (1, 2, 3, 4)}
    assert 2 * len(pairs) / len(used) == pytest.approx(48_000 / 40_607, abs=1e-3)
    same = [one[0] == two[0] for one, two in pairs]
    assert sum(same) * 2 == len(same)
    assert len(set(pairs)) == len(pairs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adaptor_epoch", ["--samples", "256", "--seconds", "0.01"]),
        ("evaluation", ["--images", "320"]),
        ("measures", ["--pairs", "1200", "--draws", "20", "--images", "400"]),
        ("scaling", ["--identities", "50", "--images", "1000"]),
        ("integrity", ["--images", "100", "--samples", "300"]),
    ],
)
def test_a_small_run_writes_a_result_that_the_page_can_show(scripts, tmp_path, name, options):
    from render import block

    output = tmp_path / f"{name}.json"
    command = [sys.executable, BENCHMARKS / f"{name}.py", *options, "--output", output]
    subprocess.run(command, capture_output=True, text=True, check=True)
    assert "|" in block(name, tmp_path)
    if name != "scaling":
        found = json.loads(output.read_text())
        assert found["target_met"] in (True, False)
