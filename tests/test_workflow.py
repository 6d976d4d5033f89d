"""The whole pipeline by the real `snakemake` command, from end to end."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess

import pytest
import yaml
from processes import STUCK_SECONDS, started, wait_for
from quickjobs import handed_to
from runs import ROOT, SNAKEMAKE, TINY, edited, planned, snakemake, training

from mstkd.config import SynthesizeSettings, read_config
from mstkd.data.pack import open_pack
from mstkd.data.synthetic import synthesize
from mstkd.evaluation.scorefiles import read_scores

MSTKD = SNAKEMAKE.with_name("mstkd")

pytestmark = [pytest.mark.workflow, pytest.mark.usefixtures("quick_jobs")]


@pytest.mark.slow
def test_every_table_figure_and_the_report_are_there(finished):
    results = finished / "results"
    for number in (1, 2, 3):
        for suffix in ("csv", "md", "tex", "html"):
            assert (results / f"tables/table{number}.{suffix}").stat().st_size > 0
            assert (results / f"error-rates/table{number}.{suffix}").stat().st_size > 0
        assert (results / f"figures/table{number}.png").stat().st_size > 0
    for name in (
        "figures/samples-train.png",
        "figures/samples-verification.png",
        "figures/training.png",
        "report.html",
        "data-report.html",
        "data-report.md",
        "claims.json",
    ):
        assert (results / name).stat().st_size > 0
    rows = list(csv.DictReader((results / "tables/table3.csv").open()))
    assert [(row["set"], row["name"]) for row in rows] == [
        ("specialized", "SL"),
        ("specialized", "DuL"),
        ("specialized", "DLDP"),
        ("baseline", "SL"),
        ("baseline", "DuL"),
        ("baseline", "DLDP"),
        ("none", "none"),
        ("single", "direct"),
    ]


@pytest.mark.slow
def test_the_tables_hold_the_metrics(finished):
    results = finished / "results"
    row = list(csv.DictReader((results / "tables/table2.csv").open()))[4]
    path = results / "students/tiny/baseline/DuL/a-KD/seed0/metrics.json"
    metrics = json.loads(path.read_text())["own_threshold"]
    assert float(row["A"]) == metrics["groups"]["A"]["accuracy"]
    assert float(row["global_accuracy"]) == metrics["global_accuracy"]
    assert float(row["std"]) == metrics["std"]


@pytest.mark.slow
def test_no_checkpoint_or_temporary_file_is_left(finished):
    left = [
        path
        for path in (finished / "results").rglob("*")
        if path.is_file()
        and ("checkpoint" in path.name or path.name.endswith((".tmp", ".partial")))
    ]
    assert left == []


@pytest.mark.slow
def test_folders_of_your_own_and_a_group_added_later(tmp_path):
    """Data in the training and RFW layouts; a new group leaves the other teachers alone."""
    settings = TINY["data"]["synthetic"] | {"groups": ["A", "B", "C"], "image_size": 16}
    mine = tmp_path / "my own fäces"
    synthesize(SynthesizeSettings.model_validate(settings), output=mine)
    data = {"train": str(mine / "train"), "verification": str(mine / "verification")}
    config = edited(TINY, {"data": {"image_size": 16, **data}})
    teachers = [
        f"results/teachers/tiny/specialized/T-{group}/seed0/model.safetensors" for group in "AB"
    ]
    snakemake(tmp_path, config, *teachers)
    more = edited(config, {"groups": ["A", "B", "C"]})
    assert planned(tmp_path, more, *teachers) == {}
    jobs = planned(tmp_path, more)
    assert "synthesize" not in jobs
    assert jobs["pack_train"] == jobs["pack_verification"] == jobs["split_specialized"] == 1
    assert jobs["train_teacher"] == 1 + 3  # T-C and the baseline set
    assert jobs["train_single_teacher"] == 1
    turned = edited(config, {"groups": ["B", "A"]})
    assert planned(tmp_path, turned, *teachers) == {}


@pytest.mark.slow
def test_an_identity_trained_on_and_tested_on_stops_the_run(finished, tmp_path):
    shutil.copytree(finished / "results/data", tmp_path / "faces")
    tested = next((tmp_path / "faces/verification/data/A").iterdir())
    shutil.copytree(tested, tmp_path / "faces/train/A" / tested.name)
    data = {"image_size": 16, "train": "faces/train", "verification": "faces/verification"}
    told = snakemake(tmp_path, edited(TINY, {"data": data}), check=False)
    assert told.returncode != 0
    assert "identity overlap" in told.stderr
    assert "image overlap" in told.stderr
    assert (tmp_path / "results/data-findings.failed.json").exists()
    # What was ready at the same moment may have started beside the check; nothing has after it.
    for later in ("embeddings", "adaptors", "tables"):
        assert not (tmp_path / "results" / later).exists()
    assert not (tmp_path / "results/data-report.html").exists()
    allowed = edited(TINY, {"data": {**data, "overlap": "warn"}})
    snakemake(tmp_path, allowed, "results/data-report.md")
    assert tested.name in (tmp_path / "results/data-report.md").read_text()


@pytest.mark.slow
def test_held_out_identities_unlabelled_images_and_encoded_packs(finished, tmp_path):
    """No choice is made on the test pairs, and a student learns from images without labels."""
    shutil.copytree(finished / "results/data", tmp_path / "faces")
    shutil.copytree(finished / "results/data/train/A", tmp_path / "crawl/no group/no identity")
    data = {
        "image_size": 16,
        "train": "faces/train",
        "verification": "faces/verification",
        "storage": "encoded",
        "unlabelled": "crawl",
        "heldout": {"share": 0.7, "folds": 2, "pairs": 8},
    }
    selection = {"rule": "heldout", "folds": 2}
    edits = {
        "data": data,
        "teachers.selection": selection,
        "students.selection": selection,
        "students.losses": {"a-KD": {"images": "unlabelled"}},
        "adaptors.architectures": {"SL": {}},
        "controls": False,
    }
    config = edited(TINY, edits)
    table = "results/tables/table2.csv"
    jobs = planned(tmp_path, config, table)
    assert jobs["pack_heldout"] == 2
    assert jobs["pack_unlabelled"] == 1
    assert jobs["cache_unlabelled"] == 2
    snakemake(tmp_path, config, table)
    results = tmp_path / "results"
    held_out = set(open_pack(results / "packs/heldout/A.h5").identity_names)
    trained_on = set(open_pack(results / "packs/train/A.h5").identity_names)
    assert len(held_out) == 4
    assert len(trained_on) == 2
    assert not held_out & trained_on
    record = json.loads(
        (results / "students/tiny/specialized/SL/a-KD/seed0/model.json").read_text()
    )
    assert "unlabelled" in record["inputs"]
    assert "A" not in record["inputs"]
    teacher = json.loads((results / "teachers/tiny/specialized/T-A/seed0/model.json").read_text())
    assert teacher["chosen_by"].startswith("best accuracy on the held-out pairs of A")
    assert planned(tmp_path, config, table) == {}
    more = planned(
        tmp_path,
        edited(config, {"data": data | {"heldout": {**data["heldout"], "pairs": 6}}}),
        table,
    )
    assert more["pack_heldout"] == 2
    assert not more.keys() & {"pack_train", "pack_unlabelled", "split_baseline"}


@pytest.mark.slow
def test_pairs_in_a_csv_with_folds_of_their_own(finished, tmp_path):
    """Any folder of images will do: those of the training layout here, in a list of our making."""
    shutil.copytree(finished / "results/data/train", tmp_path / "tested")
    shutil.copytree(finished / "results/data/train", tmp_path / "faces")
    make = [MSTKD, "make-pairs", "tested", "--output", "tested/pairs.csv", "--folds", "3"]
    subprocess.run(make, cwd=tmp_path, check=True)
    data = {"image_size": 16, "train": "faces", "verification": "tested/pairs.csv"}
    config = edited(TINY, {"data": data | {"overlap": "warn"}})
    folder = "results/teachers/tiny/specialized/T-A/seed0"
    snakemake(tmp_path, config, f"{folder}/metrics.json", "results/data-findings.json")
    table = read_scores(tmp_path / folder / "scores.h5")
    with (tmp_path / "tested/pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert table.fold.tolist() == [int(row["fold"]) for row in rows]
    for side in (1, 2):
        codes = getattr(table, f"image{side}")
        assert [f"{table.images[code]}" for code in codes] == [row[f"path{side}"] for row in rows]


@pytest.mark.slow
def test_held_out_pairs_alone(finished, tmp_path):
    """No verification data at all: the epochs and the table are of training identities kept out."""
    shutil.copytree(finished / "results/data/train", tmp_path / "faces")
    selection = {"rule": "heldout", "folds": 2}
    heldout = {"share": 0.7, "folds": 2, "pairs": 8}
    edits = {
        "data": {"image_size": 16, "train": "faces", "heldout": heldout},
        "evaluation": {"pairs": "heldout", "folds": 2},
        "teachers.selection": selection,
        "students.selection": selection,
    }
    config = edited(TINY, edits)
    whole = planned(tmp_path, config)
    assert whole["render_samples"] == 2 and "pack_verification" not in whole
    targets = ["results/data-report.md", "results/figures/samples-heldout.png"]
    snakemake(tmp_path, config, *targets)
    assert "None found" in (tmp_path / targets[0]).read_text()
    assert (tmp_path / targets[1]).exists()


@pytest.mark.usefixtures("own_processes")
@pytest.mark.slow
def test_a_killed_job_goes_on_and_ends_with_the_same_weights(finished, tmp_path):
    """SIGKILL of the training process, then the plain command again."""
    config = edited(TINY, {"teachers.optimiser": {**TINY["teachers"]["optimiser"], "epochs": 40}})
    model = "results/teachers/tiny/specialized/T-A/seed0/model.safetensors"
    weights = []
    for name in ("whole", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copytree(finished / "results/data", folder / "results/data")
        path = folder / "edited.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        if name == "killed":
            end_once_there_is_a_checkpoint(folder, path, model)
            assert not (folder / model).exists()
        snakemake(folder, config, model)
        weights.append((folder / model).read_bytes())
    assert weights[0] == weights[1]
    logs = (tmp_path / "killed/results/logs/train_teacher").glob("*.log")
    assert any("resumed after epoch" in log.read_text() for log in logs)


def end_once_there_is_a_checkpoint(folder, config, model):
    """Begin a run, and send SIGKILL to the training process."""
    command = [SNAKEMAKE, "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--configfile", config, "--cores", "1", model]
    checkpoint = (folder / model).with_name("checkpoint.pt")
    output = folder / "snakemake.log"
    with (
        output.open("w") as log,
        started(command, stdout=log, stderr=subprocess.STDOUT) as running,
    ):
        wait_for(lambda: checkpoint.exists() or running.poll() is not None)
        process = training(folder, "T-A")
        assert process is not None, output.read_text()
        os.kill(process, signal.SIGKILL)
        assert running.wait(STUCK_SECONDS) != 0


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_configs_plan(path, tmp_path):
    jobs = planned(tmp_path, path)
    config = read_config(path)
    backbones, losses = len(config.teachers.backbones), len(config.students.losses)
    seeds = len(config.seeds)
    # Specialized teachers for each share of other groups, and the baseline's.
    sets = len(config.teachers.values("foreign_share")) + 1
    adaptors = sets * len(config.adaptors.architectures)
    students = sum(len(config.loss_variants(loss)) for loss in config.students.losses)
    assert jobs["train_teacher"] == 4 * sets * backbones * seeds
    assert jobs.get("train_single_teacher", 0) == backbones * config.controls * seeds
    assert jobs["train_adaptor"] == adaptors * backbones * seeds
    assert jobs["train_student"] == seeds * (
        students * adaptors * backbones + config.controls * (students * backbones + 1)
    )
    assert jobs["render_table"] == 2 * (1 + losses) * backbones


def test_the_papers_configs_make_as_many_models_as_they_say(tmp_path):
    paper = planned(tmp_path, ROOT / "config/paper.yaml")
    assert (paper["train_teacher"], paper["train_adaptor"]) == (16, 12)
    assert paper["train_student"] == 24 + 5  # with the controls
    search = planned(tmp_path, ROOT / "config/lambda-search.yaml")
    assert (search["train_teacher"], search["train_adaptor"], search["train_student"]) == (8, 2, 10)
    assert search["pack_heldout"] == 4


GRID = {
    "backbones": {**TINY["backbones"], "wide": {"blocks": [1, 1, 1, 1], "widths": [8, 8, 8, 8]}},
    "teachers.head": {"margin": [0.3, 0.5]},
    "adaptors.architectures": {"SL": {}},
    "students.backbone": ["tiny", "wide"],
    "students.head": {"margin": [0.1, 0.2]},
    "students.losses": {"a-KD": {"kd_weight": [1, 2, 3]}, "EAF-KD": {}},
}


def test_lists_in_the_config_make_jobs(tmp_path):
    jobs = planned(tmp_path, edited(TINY, GRID))
    assert jobs["train_teacher"] == 2 * 4
    assert jobs["train_adaptor"] == 2 * 2
    # Of the teachers' margins, students of two sets and of the single teacher: a-KD with two
    # backbones and three lambdas, EAF-KD with two backbones and two margins; and four controls.
    assert jobs["train_student"] == 2 * 3 * (2 * 3 + 2 * 2) + 4
    assert jobs["evaluate"] == jobs["train_student"] + jobs["train_teacher"] + 2
    assert jobs["render_table"] == 6
    more = edited(TINY, {**GRID, "seeds": [0, 7]})
    told = snakemake(tmp_path, more, "-n", "-p", "results/tables/table3.csv").stdout
    command = next(line for line in told.splitlines() if "render-table --settings" in line)
    assert " --seeds 0 7 " in command, "or ten thousand jobs make a command that is too long"
    metrics = re.findall(r"'results/(students/\S+)/seed\{seed\}/metrics\.json'", command)
    assert metrics[:3] == [
        "students/tiny+margin=0.3/specialized/SL/EAF-KD+backbone=tiny+margin=0.1",
        "students/tiny+margin=0.3/specialized/SL/EAF-KD+backbone=tiny+margin=0.2",
        "students/tiny+margin=0.3/specialized/SL/EAF-KD+backbone=wide+margin=0.1",
    ]
    assert "students/wide/none/none/none+backbone=wide+margin=0.1" in metrics
    assert len(metrics) == 2 * 3 * 4 + 4


def test_a_wrong_key_stops_with_one_line(tmp_path):
    told = snakemake(tmp_path, edited(TINY, {"students.backbon": "x"}), "-n", check=False)
    assert told.returncode != 0
    text = told.stdout + told.stderr  # a dry run tells everything on stdout
    assert "students.backbon: found unknown key 'backbon'; expected did you mean" in text
    assert "Traceback" not in text


def test_faults_are_told_of_the_file_or_of_the_command_line(tmp_path):
    """All at once, a line each, and a key that occurs twice, of which Snakemake says nothing."""
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(yaml.safe_dump(TINY, sort_keys=False) + "controls: false\ncontrols: 1\n")
    two.write_text("teachers: {optimiser: {epochs: true}}\n")
    given = ("--config", "student=3", "report={decimals: x}")
    told = snakemake(tmp_path, one, "--configfile", one, two, *given, "-n", check=False)
    assert told.returncode != 0
    lines = (told.stdout + told.stderr).splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("WorkflowError"))
    last = len(one.read_text().splitlines())
    assert [line.partition("; expected")[0] for line in lines[begin + 1 : begin + 6]] == [
        f"{one}: controls: found the key twice, in lines {last - 1} and {last}",
        "--config: student: found unknown key 'student'",
        f"{two}: teachers.optimiser.epochs: found True",
        f"{one}: controls: found 1",
        "--config: report.decimals: found 'x'",
    ]
    assert "Traceback" not in told.stdout + told.stderr


def test_a_missing_folder_says_which_layout_is_expected(tmp_path):
    data = {"image_size": 16, "train": "nowhere/train", "verification": "nowhere/rfw"}
    config = edited(TINY, {"data": data})
    for target, expected in (
        ("results/packs/train/A.h5", "<root>/<group>/<identity>/"),
        ("results/packs/verification/A.h5", "_pairs.txt"),
    ):
        told = snakemake(tmp_path, config, target, check=False)
        assert told.returncode != 0
        lines = [line for line in told.stderr.splitlines() if line.startswith("mstkd: error:")]
        assert len(lines) == 1
        assert "nowhere" in lines[0]
        assert expected in lines[0]


@pytest.mark.parametrize("path", sorted(ROOT.glob("workflow/rules/*.smk")), ids=lambda p: p.stem)
def test_every_rule_has_a_log_and_a_benchmark_of_one_name(path):
    for rule in re.split(r"^ *rule ", path.read_text(), flags=re.MULTILINE)[1:]:
        (log,) = set(
            re.findall(r"log:\s+\"<results>/logs/(.*)\.log\"", rule.split(" use rule ")[0])
        )
        (benchmark,) = set(
            re.findall(
                r"benchmark:\s+\"<results>/benchmarks/(.*)\.tsv\"", rule.split(" use rule ")[0]
            )
        )
        assert log == benchmark
        assert log.split("/")[0] == rule.split(":")[0]


def test_lint_finds_nothing():
    told = subprocess.run(
        [SNAKEMAKE, "--lint"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr


def test_a_job_of_several_gpus_trains_on_as_many_ranks(tmp_path):
    told = snakemake(
        tmp_path, TINY, "--dry-run", "--printshellcmds", "--set-resources", "train_teacher:gpu=2"
    ).stdout
    ranks = {
        (step, count)
        for step, count in re.findall(r"mstkd --log \S+ (train-\w+) .* --ranks (\d+) ", told)
    }
    assert {("train-teacher", "2"), ("train-adaptor", "1"), ("train-student", "1")} <= ranks
    # A limit of none, as on a machine without a GPU, still trains.
    told = snakemake(tmp_path, TINY, "--dry-run", "--printshellcmds", "--resources", "gpu=0").stdout
    assert "train-teacher" in told and " --ranks 1 " in told and " --ranks 0 " not in told


@pytest.mark.usefixtures("own_processes")
@pytest.mark.slow
def test_the_same_inputs_give_the_same_bytes(job_server, tmp_path):
    """All of them, but what is about the run: logs, how long all took, when images were drawn.

    Of jobs that are processes of their own, as of those that are forks of one; every rule is there.
    """
    config = edited(TINY, {"adaptors.architectures": {"SL": {}}, "students.losses": {"EAF-KD": {}}})
    folders = tmp_path / "forks", tmp_path / "processes"
    for folder in folders:
        folder.mkdir()
    with handed_to(job_server):
        snakemake(folders[0], config)
    snakemake(folders[1], config)

    def contents(folder):
        results = folder / "results"
        return {
            path.relative_to(results): path.read_bytes()
            for path in results.rglob("*")
            if path.is_file()
            and not {"logs", "benchmarks", "events"} & set(path.parts)
            and not path.name.endswith(".files.json")  # listings hold times of images
        }

    one, other = map(contents, folders)
    assert len(one) > 150
    assert one.keys() == other.keys()
    assert [path for path in one if one[path] != other[path]] == []


SHOWS = f"""
include: {str(ROOT / "Snakefile")!r}
rule show:
    output: "shown"
    resources: gpu=1
    shell: "echo \\"${{{{MSTKD_JOBS_PER_GPU:-unset}}}}\\" > {{output}}"
"""


@pytest.mark.parametrize(
    ("profile", "options", "environment", "expected"),
    [
        ("workstation", [], {}, "1"),
        ("workstation", ["--resources", "gpu=4", "jobs_per_gpu=2"], {}, "2"),
        (
            "workstation",
            ["--resources", "gpu=4", "jobs_per_gpu=2"],
            {"MSTKD_JOBS_PER_GPU": "3"},
            "3",
        ),
        (None, [], {}, "unset"),
    ],
)
def test_jobs_hear_how_many_share_a_gpu(
    tmp_path, monkeypatch, profile, options, environment, expected
):
    monkeypatch.delenv("MSTKD_JOBS_PER_GPU", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "Snakefile").write_text(SHOWS)
    command = [SNAKEMAKE, "--directory", tmp_path, "--snakefile", tmp_path / "Snakefile", "shown"]
    command += ["--configfile", ROOT / "tests/configs/tiny.yaml", "--cores", "1"]
    if profile is not None:
        command += ["--workflow-profile", ROOT / "workflow/profiles" / profile]
    # Options that take several values stand last, behind a target they would swallow it.
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "shown").read_text() == f"{expected}\n"


def test_a_number_of_jobs_per_gpu_that_is_none_is_refused(tmp_path):
    asked = ["--dry-run", "--resources", "gpu=1", "jobs_per_gpu=0"]
    refused = snakemake(tmp_path, TINY, *asked, check=False)
    assert refused.returncode != 0
    assert "MSTKD_JOBS_PER_GPU: found '0'; expected a whole number from 1 to 99" in (
        refused.stdout + refused.stderr
    )
