"""What an edit reruns, exactly, and what it leaves alone: `snakemake -n` on a finished run."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from edits import rewrite
from quickjobs import handed_to
from runs import ROOT, SNAKEFILES, TINY, edited, planned, snakemake

pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.usefixtures("quick_jobs")]


@pytest.mark.parametrize("entry", SNAKEFILES)
def test_nothing_to_do_after_a_finished_run(finished, entry):
    assert planned(finished, TINY, "--snakefile", ROOT / entry) == {}


# Tiny has 2 groups: teachers 2 + 2 and a single one, adaptors 3 x 2; students: 3 x 2 + 1 of the
# single teacher for each loss, and one with no distillation.
NUMBERS = {"render_table": 6, "render_error_rates": 3, "render_accuracies": 3}
TABLES = {**NUMBERS, "render_distributions": 3}
PAGE = {"render_page": 1, "render_provenance": 1}
SUMMARY = {"compute_claims": 1, "render_intervals": 1, **PAGE}
DATA_REPORT = {"check_data": 1, "render_data_report": 1}
CONFIG_FILE = {"write_config": 1}  # the config with its defaults, after every edit
TRACING = {"trace_adaptors": 2, "render_tracing": 1}  # one a set of teachers; one of both


def drawn(tables):
    """Of tables whose models are others: their scores, and their false matches across groups."""
    return {
        **{"render_distributions": tables, "score_impostors": tables},
        "render_impostors": tables,
    }


def cards(students):
    return {"render_model_card": students}


def students(count, losses):
    """So many students of so many losses anew, and what is told of them."""
    return {
        "train_student": count,
        **cards(count),
        "evaluate": count,
        "render_stages": 1,
        "render_det": 1,
        "render_table": 2 * losses,
        "render_error_rates": losses,
        "render_accuracies": losses,
        **drawn(losses),
        "render_curves": 1,
        **SUMMARY,
    }


ALL_TRAINING = {
    "train_teacher": 4,
    "train_single_teacher": 1,
    "cache_embeddings": 3,
    "train_adaptor": 6,
    **TRACING,
    "train_student": 15,
    "evaluate": 20,
    "render_stages": 1,
    "render_det": 1,
    "render_curves": 1,
}
# All that hangs on the identities of the baseline teachers.
OF_BASELINE_TEACHERS = {
    "train_teacher": 2,
    "cache_embeddings": 1,
    "train_adaptor": 3,
    "trace_adaptors": 1,
    "render_tracing": 1,
    "train_student": 6,
    **cards(6),
    "evaluate": 8,
    "render_stages": 1,
    "render_det": 1,
    "render_curves": 1,
    **TABLES,
    **drawn(3),
    **SUMMARY,
}
EDITS = {
    "lambda of one loss": (
        {"students.losses": {"a-KD": {"kd_weight": 100}, "EAF-KD": {}}},
        students(7, losses=1),
    ),
    "a list of lambdas, whose students have names of their own": (
        {"students.losses": {"a-KD": {"kd_weight": [1, 2]}, "EAF-KD": {}}},
        {
            "render_grid": 1,  # the curve along them
            **students(14, losses=1),
        },
    ),
    "dropout of one adaptor": (
        {"adaptors.architectures": {"SL": {}, "DuL": {}, "DLDP": {"dropout": 0.5}}},
        {
            "train_adaptor": 2,
            **TRACING,
            **students(4, losses=2),
        },
    ),
    "subsets of the teachers, whose adaptors have names of their own": (
        {"adaptors.fused": [["A", "B"], ["A"]]},
        {
            "train_adaptor": 12,
            **TRACING,
            **students(24, losses=2),
        },
    ),
    "width of the fused space": (
        {"adaptors.width": 16},
        {
            "train_adaptor": 6,
            **TRACING,
            **students(12, losses=2),  # not those of the single teacher, nor that of none
        },
    ),
    "width of the fused space, that it has": ({"adaptors.width": 32}, PAGE),
    "targets of the images that are seen": (
        {"students.target_view": "seen"},
        {
            "cache_mirrored": 3,
            **students(14, losses=2),
        },
    ),
    "epochs of the teachers": (
        {"teachers.optimiser.epochs": 3},
        {
            **ALL_TRAINING,
            "train_student": 14,
            "evaluate": 19,
            **TABLES,
            **SUMMARY,
            **drawn(3),
            **cards(14),
        },
    ),
    "epochs of the students": (
        {"students.optimiser.epochs": 3},
        students(15, losses=2),
    ),
    "type of the cache": (
        {"cache.dtype": "float32"},
        {
            "cache_embeddings": 3,
            "train_adaptor": 6,
            **TRACING,
            **students(14, losses=2),
        },
    ),
    "seed of the baseline splits": (
        {"splits.seed": 1},
        {"split_baseline": 1, **OF_BASELINE_TEACHERS},
    ),
    "splits of each seed": (
        {"splits.by_seed": True},
        {"split_baseline_by_seed": 1, **OF_BASELINE_TEACHERS},
    ),
    "folds of the evaluation": (
        {"evaluation.folds": 4},
        {
            "evaluate": 20,
            "render_det": 1,
            "render_stages": 1,
            **TRACING,
            **TABLES,
            **drawn(3),
            **cards(15),
            **SUMMARY,
            **DATA_REPORT,
        },
    ),
    "decimals of the tables": ({"report.decimals": 1}, {**NUMBERS, **cards(15), **PAGE}),
    "title of the report": ({"report.title": "Another"}, PAGE),
    "draws of noise": (
        {"report.draws": 500},
        {
            **{"render_table": 6, "render_error_rates": 3},
            **{"score_impostors": 3, "render_impostors": 3},
            **cards(15),
            **SUMMARY,
        },
    ),
    "what the owner of the data allows": (
        {"data.origin": {"train": {"licence": "as agreed"}}},
        {"describe_data": 1, **PAGE},
    ),
    "licence of the weights": ({"report.licence": "as agreed"}, {**cards(15), **PAGE}),
    "columns of the tables": (
        {"report.columns": ["B", "A"]},
        {**TABLES, "render_impostors": 3, **PAGE},
    ),
    "false match rate of the error rates": (
        {"report.fmr": 0.1},
        {"render_error_rates": 3, "score_impostors": 3, "render_impostors": 3, **PAGE},
    ),
    "another seed": ({"seeds": [0, 1]}, {**ALL_TRAINING, **TABLES, **cards(15), **SUMMARY}),
    "another student loss": (
        {"students.losses": {"a-KD": {}, "EAF-KD": {}, "a-KD-weak": {"classification": False}}},
        students(7, losses=1),
    ),
    "another backbone of teachers": (
        {
            "backbones": {
                **TINY["backbones"],
                "other": {"blocks": [1, 1, 1, 1], "widths": [8, 8, 8, 8]},
            },
            "teachers.backbones": ["tiny", "other"],
        },
        {
            **ALL_TRAINING,
            "train_student": 14,
            **cards(14),
            "evaluate": 19,
            **TABLES,
            **drawn(3),
            **SUMMARY,
        },
    ),
    "no controls": (
        {"controls": False},
        {**TABLES, **drawn(3), **SUMMARY, "render_curves": 1, "render_det": 1},
    ),
    "what the precision came to, written out": (
        {"engine.precision": "float32", "cache.precision": "float32"},
        PAGE,
    ),
    "norms by a kernel of our own": (
        {"engine.fused_norm": True},
        {**ALL_TRAINING, **TABLES, **drawn(3), **cards(15), **SUMMARY},
    ),
    # Snakemake compares params as a set without names: one JSON text a rule sees the swap.
    "two values swapped": (
        {"students.optimiser.momentum": 5e-4, "students.optimiser.weight_decay": 0.9},
        students(15, losses=2),
    ),
    "training faces of another draw, of which some are taken": (
        {"data.train": {"plain": {"share": 0.5}, "o": {"share": 0.5, "synthetic": {"seed": 1}}}},
        {
            "synthesize_source": 1,
            "pack_train": 2,
            "split_specialized": 2,
            "split_baseline": 1,
            "split_single": 1,
            **ALL_TRAINING,
            **DATA_REPORT,
            "render_samples": 1,
            **TABLES,
            **drawn(3),
            **cards(15),
            "describe_data": 1,
            **SUMMARY,
        },
    ),
    "a pack's policy": (
        {"data.on_bad_image": "skip"},
        {
            "pack_train": 2,
            "pack_verification": 2,
            "split_specialized": 2,
            "split_baseline": 1,
            "split_single": 1,
            **ALL_TRAINING,
            **DATA_REPORT,
            "render_samples": 2,
            **TABLES,
            **drawn(3),
            **cards(15),
            "describe_data": 2,
            **SUMMARY,
        },
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_reruns_exactly_what_it_must(finished, name):
    edits, expected = EDITS[name]
    assert planned(finished, edited(TINY, edits)) == expected | CONFIG_FILE


@pytest.mark.parametrize(
    "options",
    [
        ["--cores", "1"],
        [
            *("--set-threads", "train_teacher=2", "pack_train=8"),
            *("--set-resources", "train_student:gpu=2", "evaluate:mem_mb=9000"),
            *("--resources", "gpu=1"),
        ],
    ],
    ids=["cores", "threads, GPUs and memory"],
)
def test_machine_matters_rerun_nothing(finished, options):
    assert planned(finished, TINY, *options) == {}


def backwards(value):
    """The same settings, written in the opposite order."""
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return value


def test_the_order_of_keys_reruns_nothing(finished):
    turned = backwards(TINY)
    assert list(turned["students"]["optimiser"]) != list(TINY["students"]["optimiser"])
    assert planned(finished, turned) == {}


def test_splits_of_each_seed_turned_off_rerun_nothing(finished):
    """The config beside the report neither: off is not written out."""
    assert planned(finished, edited(TINY, {"splits.by_seed": False})) == {}


def test_another_version_of_the_package_reruns_nothing(finished, tmp_path, monkeypatch):
    shutil.copytree(ROOT / "mstkd", tmp_path / "mstkd")
    init = tmp_path / "mstkd/__init__.py"
    init.write_text(re.sub(r'__version__ = ".*"', '__version__ = "9.8.7"', init.read_text()))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code = "import mstkd; print(mstkd.__version__)"
    told = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "9.8.7"
    assert planned(finished, TINY) == {}


def test_touch_hides_no_edit(finished, tmp_path):
    """Times are made right; what a record says stays said."""
    copied = tmp_path / "copy"
    shutil.copytree(finished, copied)
    edits, expected = EDITS["lambda of one loss"]
    snakemake(copied, edited(TINY, edits), "--touch")
    # Of another config, but newer than what they are made from.
    assert planned(copied, edited(TINY, edits)) == expected | CONFIG_FILE
    assert planned(copied, TINY) == {}


def test_claims_of_a_run_before_there_were_scores_in_them_are_judged_anew(finished, tmp_path):
    """Those were made of the metrics alone and had no settings; nothing is trained for others."""
    copied = tmp_path / "copy"
    shutil.copytree(finished, copied)
    claims = copied / "results/claims.json"
    made = json.loads(claims.read_text())["provenance"]
    made["sources"] = [one for one in made["sources"] if not one["path"].endswith("scores.h5")]
    old = {"format": "mstkd-claims", "statements": [], "provenance": made | {"settings": {}}}
    rewrite(claims, json.dumps(old))
    assert planned(copied, TINY) == SUMMARY


@pytest.fixture(scope="module")
def folders(finished, job_server, tmp_path_factory):
    """A finished run on folders of images, and its config; the images are those of `finished`."""
    folder = tmp_path_factory.mktemp("folders") / "copy"
    shutil.copytree(finished, folder)
    data = {
        "image_size": 16,
        "train": "results/data/train",
        "verification": "results/data/verification",
    }
    config = edited(TINY, {"data": data})
    with handed_to(job_server):
        snakemake(folder, config)  # the same images: the page and config alone are made anew
    assert planned(folder, config) == {}
    return folder, config


def test_a_new_group_leaves_the_specialized_teachers_of_the_others(folders):
    folder, config = folders
    assert planned(folder, edited(config, {"groups": ["A", "B", "C"]})) == {
        "pack_train": 1,
        "pack_verification": 1,
        "split_specialized": 1,
        "split_baseline": 1,
        "split_single": 1,
        "train_teacher": 1 + 3,  # T-C, and the baseline set
        "train_single_teacher": 1,
        "cache_embeddings": 3,
        "train_adaptor": 6,
        **TRACING,
        "train_student": 15,
        "evaluate": 22,
        "render_stages": 1,
        "render_det": 1,
        "render_curves": 1,
        "render_samples": 2,
        **DATA_REPORT,
        **TABLES,
        **drawn(3),
        **cards(15),
        "describe_data": 2,
        **SUMMARY,
        **CONFIG_FILE,
    }


def test_another_order_of_groups_makes_all_caches_anew(folders):
    """And the controls: the order numbers identities, so a fresh run trains them otherwise."""
    folder, config = folders
    assert planned(folder, edited(config, {"groups": ["B", "A"]})) == {
        "split_baseline": 1,
        "split_single": 1,
        "train_teacher": 2,  # baseline teachers, whose epoch the group of the same number chooses
        "train_single_teacher": 1,
        "cache_embeddings": 3,
        "train_adaptor": 6,
        **TRACING,
        "train_student": 15,
        "evaluate": 20,
        "render_stages": 1,
        "render_det": 1,
        "render_curves": 1,
        "render_samples": 2,
        **DATA_REPORT,
        **TABLES,
        **drawn(3),
        **cards(15),
        "describe_data": 2,
        **SUMMARY,
        **CONFIG_FILE,
    }


WEIGHTS = "seed0/model.safetensors"
STUDENTS = [f"results/students/tiny/baseline/SL/{loss}/{WEIGHTS}" for loss in ("a-KD", "EAF-KD")]


@pytest.mark.parametrize(
    ("deleted", "asked", "jobs"),
    [
        (
            "results/packs/train/A.h5",
            ["results/splits/specialized/T-A.csv"],
            {"pack_train": 1, "split_specialized": 1},
        ),
        (
            "results/embeddings/tiny/specialized/seed0.h5",
            [f"results/adaptors/tiny/specialized/DuL/{WEIGHTS}"],
            {"cache_embeddings": 1, "train_adaptor": 1},
        ),
        (
            f"results/adaptors/tiny/baseline/SL/{WEIGHTS}",
            STUDENTS,
            {"train_adaptor": 1, "train_student": 2},
        ),
    ],
    ids=["pack", "cache", "adaptor"],
)
def test_what_is_deleted_is_made_anew_with_what_it_needs(finished, tmp_path, deleted, asked, jobs):
    """Snakemake misses a file that lies between finished ones only where it is asked for."""
    copied = tmp_path / "copy"
    shutil.copytree(finished, copied)  # keeps the times of the files
    for name in (deleted, *asked):
        (copied / name).unlink()
    assert planned(copied, TINY) == {}
    assert planned(copied, TINY, *asked) == jobs
