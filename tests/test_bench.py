"""What `mstkd bench` counts, against sums by hand, and the line of a dry run."""

import io
import itertools
import json
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
import torch
import yaml
from rich.console import Console

from mstkd.bench.bench import PAIRS, bench, show
from mstkd.bench.estimate import dry_run_line, duration, estimate
from mstkd.bench.machine import command
from mstkd.bench.measure import BACKWARD
from mstkd.bench.pace import WARM_UP_CPU, Span, paced
from mstkd.bench.result import read_result
from mstkd.bench.work import count_images, experiment
from mstkd.config import BackboneSettings, Config, read_config
from mstkd.errors import InputError
from mstkd.losses.heads import ElasticArcFace
from mstkd.models.adaptors import DLDP
from mstkd.models.backbone import flops
from mstkd.models.weights import build_backbone

ROOT = Path(__file__).parent.parent
TINY = yaml.safe_load((ROOT / "tests/configs/tiny.yaml").read_text())
PAPER = ROOT / "config/paper.yaml"
CPU = torch.device("cpu")


def config_of(**edits):
    return Config.model_validate({**TINY, **edits})


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The result of the tiny config, and the folder it lies in."""
    folder = tmp_path_factory.mktemp("bench")
    result = bench(
        config_of(),
        name="tiny.yaml",
        packs=folder / "packs",
        output=folder / "bench.json",
        seconds=0.02,
    )
    return result, folder


# ---------------------------------------------------------------- operations


def hand_flops(blocks, widths, size, dim):
    """Of a forward pass, layer by layer: a product and a sum each for every weight and place."""
    total = 2 * 9 * 3 * widths[0] * size**2
    inputs, side = widths[0], size
    for count, width in zip(blocks, widths, strict=True):
        total += 2 * 9 * inputs * width * side**2  # before the stride
        side //= 2
        total += 2 * 9 * width**2 * side**2 + 2 * inputs * width * side**2  # and the shortcut
        total += (count - 1) * 2 * (2 * 9 * width**2 * side**2)
        inputs = width
    return total + 2 * inputs * side**2 * dim


@pytest.mark.parametrize(
    ("settings", "blocks", "widths", "size"),
    [
        (
            BackboneSettings(blocks=(1, 2, 1, 3), widths=(4, 4, 8, 16)),
            (1, 2, 1, 3),
            (4, 4, 8, 16),
            32,
        ),
        (BackboneSettings(architecture="iresnet34"), (3, 4, 6, 3), (64, 128, 256, 512), 112),
    ],
)
def test_a_backbones_operations_are_those_of_a_sum_by_hand(settings, blocks, widths, size):
    model = build_backbone(settings, embedding_dim=512, image_size=size)
    assert model.training
    assert flops(model, torch.zeros(1, 3, size, size)) == hand_flops(blocks, widths, size, 512)
    assert model.training, "counting leaves the mode as it was"


def test_the_head_and_an_adaptor_count_their_products():
    head = ElasticArcFace(32, 50)
    assert flops(head, torch.ones(2, 32), torch.zeros(2, dtype=torch.int64)) == 2 * 2 * 32 * 50
    assert flops(DLDP(4, 32), torch.ones(1, 128)) == 2 * (128 * 32 + 32 * 32)


# ---------------------------------------------------------------- the watch


def test_the_warm_up_is_not_counted_and_the_last_step_is():
    span, seen = Span(), []
    for item in paced(itertools.count(), span, device=CPU, seconds=0):
        seen.append(item)
    assert seen == list(range(WARM_UP_CPU + 1))
    assert span.steps == 1
    assert span.seconds > 0
    assert span.peak_gpu_bytes is None


def test_a_first_step_that_takes_long_counts_and_is_the_only_one(monkeypatch):
    clock = itertools.count(0, 7)  # seconds, at each look
    monkeypatch.setattr("mstkd.bench.pace.time.perf_counter", lambda: next(clock))
    span = Span()
    assert list(paced(itertools.count(), span, device=CPU, seconds=3)) == [0]
    assert (span.steps, span.seconds) == (1, 7)


def test_items_go_on_until_the_seconds_are_over(monkeypatch):
    clock = itertools.count(0, 1)
    monkeypatch.setattr("mstkd.bench.pace.time.perf_counter", lambda: next(clock))
    span = Span()
    seen = list(paced(itertools.count(), span, device=CPU, seconds=4))
    assert span.steps == len(seen) - 1  # one to warm up takes a second, which is enough
    assert span.steps == 4
    assert span.seconds == 5


# ---------------------------------------------------------------- the work


def test_images_are_counted_by_the_config(tmp_path):
    counts = count_images(config_of(), tmp_path)
    assert counts.source == "the config"
    assert {group: count.images for group, count in counts.train.items()} == {"A": 36, "B": 36}
    assert counts.verification == {"A": 36, "B": 36}  # 12 identities of 3


def test_packs_know_better_than_the_config(tmp_path, packs, verification_packs):
    for part, paths in (("train", packs), ("verification", verification_packs)):
        (tmp_path / part).mkdir()
        for path in paths:
            (tmp_path / part / path.name).symlink_to(path)
    counts = count_images(config_of(), tmp_path)
    assert str(tmp_path) in counts.source
    assert {group: tuple(count) for group, count in counts.train.items()} == {
        "A": (20, 5),
        "B": (12, 3),
    }
    assert counts.verification == {"A": 14, "B": 14}  # those that some pair has


def test_bupts_counts_are_known(tmp_path):
    counts = count_images(read_config(PAPER), tmp_path)
    assert sum(count.images for count in counts.train.values()) == 1_251_430
    assert sum(counts.verification.values()) == 40_607
    assert sum(count.identities for count in counts.train.values()) == 28_000


def test_identities_held_out_are_not_trained_on(tmp_path):
    data = TINY["data"] | {"heldout": {"share": 0.25}}
    counts = count_images(config_of(data=data), tmp_path)
    assert counts.train["A"].images == 27
    assert counts.heldout == {"A": 9, "B": 9}


def test_data_that_nobody_counted_has_no_estimate(tmp_path):
    config = config_of(data={"train": "x", "verification": "y", "image_size": 16})
    with pytest.raises(InputError, match="packs to count the images of"):
        count_images(config, tmp_path)


def test_a_file_that_is_no_pack_is_named(tmp_path):
    (tmp_path / "train").mkdir()
    for group in "AB":
        (tmp_path / f"train/{group}.h5").write_bytes(b"none")
    with pytest.raises(InputError, match=r"A\.h5"):
        count_images(config_of(), tmp_path)


def test_the_tiny_experiments_work_by_hand(tmp_path):
    config = config_of(seeds=[0, 1])
    loads = {load.part: load for load in experiment(config, count_images(config, tmp_path))}
    jobs = {part: load.jobs for part, load in loads.items()}
    # As the workflow plans them for one seed, tests/test_workflow.py: teachers 4 + 1, caches 3,
    # adaptors 3 x 2, students 15.
    assert jobs["tiny teachers"] == 2 * 5
    assert jobs["tiny caches"] == 2 * 3
    assert sum(jobs[f"{name} adaptors"] for name in ("SL", "DuL", "DLDP")) == 2 * 6
    assert jobs["tiny students"] == 2 * 15
    images = {part: load.images for part, load in loads.items()}
    # 72 images; two specialized teachers of 36, two of the baseline that share, one of all.
    assert images["tiny teachers"] == 2 * 2 * (36 + 36 + 36 + 36 + 72)
    assert images["tiny caches"] == 2 * 72 * 5
    assert images["SL adaptors"] == 2 * 2 * 2 * 72
    assert images["tiny students"] == 2 * 2 * 15 * 72
    # Two looks at each image and its mirror image: one group's for four teachers, both for one.
    assert images["tiny teachers' epochs"] == 2 * 2 * 2 * (4 * 36 + 72)
    assert images["tiny students' epochs"] == 2 * 15 * 2 * 2 * 72
    assert images["tiny teachers' evaluation"] == 2 * 5 * 2 * 72
    assert images["tiny students' evaluation"] == 2 * 15 * 2 * 72


def test_selection_and_controls_are_counted_as_the_config_says(tmp_path):
    last = {**TINY["teachers"], "selection": {"rule": "last"}}
    config = config_of(teachers=last, controls=False)
    loads = {load.part: load for load in experiment(config, count_images(config, tmp_path))}
    assert "tiny teachers' epochs" not in loads
    assert loads["tiny teachers"].images == 2 * 4 * 36
    assert loads["tiny students"].jobs == 2 * 2 * 3
    assert loads["tiny caches"].jobs == 2


def test_every_value_of_a_list_is_counted(tmp_path):
    """As many jobs as the workflow makes of such a config; 72 images, two epochs or five."""
    plain = {
        load.part: load for load in experiment(config_of(), count_images(config_of(), tmp_path))
    }
    config = config_of(
        backbones={**TINY["backbones"], "wide": {"blocks": [1, 1, 1, 1]}},
        teachers={**TINY["teachers"], "head": {"margin": [0.3, 0.5]}},
        students={
            **TINY["students"],
            "backbone": ["tiny", "wide"],
            "losses": {"a-KD": {"kd_weight": [1, 2, 3]}, "EAF-KD": {}},
            "optimiser": {**TINY["students"]["optimiser"], "epochs": [2, 5]},
        },
    )
    loads = {load.part: load for load in experiment(config, count_images(config, tmp_path))}
    for margin in (0.3, 0.5):
        for work in ("teachers", "teachers' epochs", "caches", "teachers' evaluation"):
            found = loads[f"tiny+margin={margin} {work}"]
            assert found[1:] == plain[f"tiny {work}"][1:]
    assert loads["SL adaptors"].jobs == 2 * plain["SL adaptors"].jobs
    # Two margins of the teachers; seven students of each of four losses, twice; two controls.
    jobs = 2 * 7 * 4 * 2 + 2
    for backbone in ("tiny", "wide"):
        assert loads[f"{backbone} students"].jobs == jobs
        assert loads[f"{backbone} students"].images == jobs / 2 * 72 * (2 + 5)
        assert loads[f"{backbone} students' epochs"].images == jobs / 2 * 2 * 72 * (2 + 5)


def test_the_papers_teachers_see_what_section_4_6_says(tmp_path):
    config = read_config(PAPER)
    loads = {load.part: load for load in experiment(config, count_images(config, tmp_path))}
    total = 1_251_430
    assert loads["iresnet50 teachers"].images == 52 * 3 * total  # two sets of four, and the single
    assert loads["DuL adaptors"].images == 4 * 26 * total
    assert loads["iresnet34 students"].jobs == 24 + 4 + 1


# ---------------------------------------------------------------- the result


def test_each_part_is_measured_and_its_share_follows_from_the_count(measured):
    result, _ = measured
    assert [rate.measure for rate in result.rates] == [
        *("input", "step", "training", "embedding", "embedding"),
        *("adaptor", "adaptor", "adaptor", "verification"),
    ]
    network = hand_flops((1, 1, 1, 1), (4, 4, 8, 8), 16, 32)
    trained = BACKWARD * (network + 2 * 32 * 12)  # a head of the 12 identities
    by_measure = {rate.measure: rate for rate in result.rates}
    assert by_measure["step"].flops_per_unit == by_measure["training"].flops_per_unit == trained
    assert by_measure["embedding"].flops_per_unit == network
    for rate in result.rates:
        assert rate.batches >= 1
        assert rate.per_second > 0
        if rate.flops_per_unit is not None:
            share = rate.per_second * rate.flops_per_unit / result.matmul.flops_a_second
            assert rate.share_of_matmul_peak == pytest.approx(share)
    verification = by_measure["verification"]
    per_second = verification.batches * PAIRS / verification.seconds
    assert verification.per_second == pytest.approx(per_second)


def test_the_slower_of_input_and_step_binds(measured):
    result, _ = measured
    rates = {rate.measure: rate.per_second for rate in result.rates}
    slower = "input" if rates["input"] < rates["step"] else "step"
    assert len(result.binds) == 1
    assert f"the {slower} binds" in result.binds[0]


def test_the_estimate_is_the_sum_of_images_over_rates(measured):
    result, folder = measured
    rate = {
        (one.measure, one.of.get("adaptor", {}).get("architecture")): one for one in result.rates
    }
    embedding = {
        one.of["precision"]: one.per_second for one in result.rates if one.measure == "embedding"
    }
    seconds = 2 * (36 * 4 + 72) / rate["training", None].per_second
    seconds += 2 * 15 * 72 / rate["training", None].per_second
    for name in ("SL", "DuL", "DLDP"):
        seconds += 2 * 2 * 72 / rate["adaptor", name].per_second
    # Caches and the looks at epochs by their own settings, evaluation in float32.
    seconds += (72 * 5 + 2 * 2 * (4 * 36 + 72) + 15 * 2 * 2 * 72) / embedding["auto"]
    seconds += (5 + 15) * 2 * 72 / embedding["float32"]
    assert result.estimate.hours == pytest.approx(seconds / 3600)
    assert read_result(folder / "bench.json") == result


def test_what_is_embedded_for_is_measured_at_its_own_precision(tmp_path, monkeypatch):
    """Evaluation computes in float32 and compiles nothing, whatever training does."""
    config = config_of(
        engine={"precision": "bfloat16", "compile": "off"}, cache={"precision": "auto"}
    )
    timed = []

    def time_embedding(*args, precision, compiled, **options):
        timed.append((precision, compiled))
        return Span(steps=1, seconds=1.0)

    monkeypatch.setattr("mstkd.bench.bench.time_embedding", time_embedding)
    result = bench(config, name="x", output=tmp_path / "b.json", packs=tmp_path, seconds=0.01)
    assert timed == [("auto", True), ("bfloat16", False), ("float32", False)]
    loads = {load.part: load for load in experiment(config, count_images(config, tmp_path))}
    for work, way in {
        "teachers' evaluation": ("float32", False),
        "students' evaluation": ("float32", False),
        "teachers' epochs": ("bfloat16", False),
        "students' epochs": ("bfloat16", False),
        "caches": ("auto", True),
    }.items():
        of = result.rate_of(loads[f"tiny {work}"].subject).of
        assert (of["precision"], of["compiled"]) == way, work


def test_every_value_of_a_list_is_measured(tmp_path):
    small = {"blocks": [1, 1, 1, 1], "widths": [4, 4, 4, 4]}
    students = {**TINY["students"], "backbone": ["tiny", "small"]}
    students["optimiser"] = {**students["optimiser"], "batch_size": [8, 4]}
    config = config_of(backbones=TINY["backbones"] | {"small": small}, students=students)
    result = bench(config, name="x", output=tmp_path / "b.json", packs=tmp_path, seconds=0.01)
    assert {rate.part for rate in result.rates if rate.measure in ("input", "step")} == {
        "input alone, batch 8",
        "input alone, batch 4",
        "step alone, tiny, batch 8",
        "step alone, tiny, batch 4",
        "step alone, small, batch 8",
        "step alone, small, batch 4",
    }
    assert len(result.binds) == 4
    assert result.estimate is not None


def test_the_json_says_where_and_when_and_that_there_was_no_gpu(measured):
    _, folder = measured
    written = json.loads((folder / "bench.json").read_text())
    assert {"cpu", "python", "torch", "numpy", "mstkd", "command", "date"} <= set(
        written["machine"]
    )
    if not torch.cuda.is_available():
        assert written["gpu"].startswith("no GPU")
        assert all(rate["peak_gpu_bytes"] is None for rate in written["rates"])


def test_real_packs_are_measured_where_they_are(tmp_path, packs):
    (tmp_path / "train").mkdir()
    for path in packs:
        (tmp_path / "train" / path.name).symlink_to(path)
    run = {"name": "x", "packs": tmp_path, "output": tmp_path / "bench.json", "seconds": 0.01}
    assert str(tmp_path) in bench(config_of(), **run).images
    larger = config_of(data=TINY["data"] | {"image_size": 32})
    with pytest.raises(InputError, match="32 pixels as the config says"):
        bench(larger, **run)


def test_rates_are_there_even_if_nobody_knows_how_many_images(tmp_path):
    result = bench(
        config_of(data={"train": "x", "verification": "y", "image_size": 16}),
        name="x",
        packs=tmp_path,
        output=tmp_path / "bench.json",
        seconds=0.01,
    )
    assert result.estimate is None
    console = Console(file=io.StringIO(), width=200)
    show(result, console)
    told = console.file.getvalue()
    assert "step alone, tiny, batch 8" in told
    assert "no estimate: " in told


# ---------------------------------------------------------------- the dry run


def test_the_line_follows_edits_of_the_work(measured):
    result, folder = measured
    config = config_of(seeds=[0, 1, 2])
    counts = count_images(config, folder)
    found = estimate(experiment(config, counts), result, counted_from=counts.source)
    assert found.hours == pytest.approx(3 * result.estimate.hours)
    line = dry_run_line(config, folder / "bench.json", folder)
    assert line.count("\n") == 0
    assert f"about {duration(found.hours)} one job after another" in line


def test_without_a_result_there_is_no_line(tmp_path):
    assert dry_run_line(config_of(), tmp_path / "bench.json", tmp_path) is None


def test_another_networks_rates_are_not_taken(measured):
    _, folder = measured
    other = config_of(backbones={"tiny": {"blocks": [2, 1, 1, 1], "widths": [4, 4, 8, 8]}})
    line = dry_run_line(other, folder / "bench.json", folder)
    assert line.startswith("mstkd: no estimate")
    assert "no rate for tiny teachers" in line
    assert line.count("\n") == 0


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\x00", b'{"format": "mstkd-model"}'])
def test_a_result_that_cannot_be_read_is_told_in_one_line(tmp_path, content):
    (tmp_path / "bench.json").write_bytes(content)
    line = dry_run_line(config_of(), tmp_path / "bench.json", tmp_path)
    assert line.startswith("mstkd: no estimate")
    assert line.count("\n") == 0


def test_a_damaged_pack_does_not_stop_a_dry_run(measured, tmp_path):
    _, folder = measured
    (tmp_path / "train").mkdir()
    (tmp_path / "verification").mkdir()
    for group in "AB":
        (tmp_path / f"verification/{group}.h5").write_bytes(b"none")
        with h5py.File(tmp_path / f"train/{group}.h5", "w") as file:
            file["other"] = 1
    assert dry_run_line(config_of(), folder / "bench.json", tmp_path).startswith("mstkd: no estim")


@pytest.mark.parametrize(
    ("hours", "words"),
    [
        (72, "3.00 days"),
        (24 * 1234, "1,234 days"),
        (1.264, "1.26 hours"),
        (0.5, "30 minutes"),
        (0.01, "36 seconds"),
    ],
)
def test_durations_read_well(hours, words):
    assert duration(hours) == words


def test_the_command_names_the_program():
    assert command(["/x/bin/mstkd", "bench"]) == "mstkd bench"
    assert command(["benchmarks/head.py", "a b"]) == "python benchmarks/head.py 'a b'"


def test_the_command_tells_paths_from_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)
    given = [
        f"{here}/benchmarks/demo.py",
        "--folder",
        f"{here}/results/demo",
        f"--output={here}/x/y",
    ]
    told = "python benchmarks/demo.py --folder results/demo --output=x/y"
    assert command(given) == told
    assert command(["demo.py", "a/b", "--seconds", "2"]) == "python demo.py a/b --seconds 2"


@pytest.mark.slow
@pytest.mark.workflow
def test_the_command_writes_what_a_dry_run_tells_and_a_run_does_not(tmp_path):
    config = ROOT / "tests/configs/tiny.yaml"
    bin_ = Path(sys.executable).parent
    mstkd = [bin_ / "mstkd", "bench", "--config", config, "--seconds", "0.01"]
    told = subprocess.run(mstkd, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "one job after another" in told.stdout
    snakemake = [bin_ / "snakemake", "--snakefile", ROOT / "Snakefile", "--configfile", config]
    snakemake += ["--directory", tmp_path, "--quiet", "all"]
    ran = {
        option: subprocess.run(
            [*snakemake, option], capture_output=True, text=True, check=True
        ).stderr.count("mstkd: the whole experiment takes about")
        for option in ("--dry-run", "--list-rules")
    }
    assert ran == {"--dry-run": 1, "--list-rules": 0}
