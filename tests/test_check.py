"""`mstkd check`: what lies in the results, against what the config asks for."""

import json
import shutil
import subprocess

import pytest
import yaml
from runs import ROOT, SNAKEMAKE, TINY, edited

from mstkd.config import PageSettings
from mstkd.report.page import render_page
from mstkd.workflow.check import Checked, orphans
from mstkd.workflow.reruns import JobStanding

MSTKD = SNAKEMAKE.with_name("mstkd")
WEAK = {"students.losses": {"a-KD": {"kd_weight": 10}, "EAF-KD": {}}}


def job(rule, output, **how):
    return JobStanding(
        rule=rule, outputs=[output], **{"state": "current", "why": "", "runs": False, **how}
    )


def test_all_is_well_where_all_is_current_and_nothing_is_to_be_done():
    def well(**how):
        return Checked(jobs=[job("a", "x"), job("b", "y", **how)], orphans=["z"], deep=False).well()

    assert well()
    assert not well(runs=True)
    assert not any(well(state=state) for state in ("stale", "damaged", "missing"))


def test_what_no_job_makes_is_orphaned_but_for_what_is_no_result(tmp_path):
    beside = ("", ".provenance.json", "-metadata.json")
    kept = (*(f"tables/a.csv{one}" for one in beside), "packs/train/A.h5")
    lost = (
        *(f"tables/b.csv{one}" for one in beside),
        "cards/train.jsonld",
        "students/x/seed0/README.md",
        "students/x/seed0/model.safetensors",
        "tracing/x/single/seed0.json",
        "error-rates/b.csv",
        "figures/b.svg",
        "figures/b.pdf",
    )
    no_results = (
        "students/x/seed0/.kept/model.json",
        "students/x/seed0/checkpoint.pt",
        "students/x/seed0/model.calibration.json",  # a person's
    )
    outside = ("logs/a.csv", "notes.csv")
    for name in (*kept, *lost, *no_results, *outside):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    jobs = [job("a", f"{tmp_path}/./tables/a.csv"), job("b", str(tmp_path / "packs/train/A.h5"))]
    found = [path.relative_to(tmp_path).as_posix() for path in orphans(tmp_path, jobs)]
    assert sorted(found) == sorted(lost)


# ---------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def results(finished, tmp_path_factory):
    """A finished run and the workflow, as they lie where a person types."""
    folder = tmp_path_factory.mktemp("check") / "here"
    shutil.copytree(finished, folder, copy_function=shutil.copy2)
    for name in ("Snakefile", "workflow", "envs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "config").mkdir()
    (folder / "config/config.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    (folder / "weak.yaml").write_text(yaml.safe_dump(edited(TINY, WEAK), sort_keys=False))
    return folder


def check(folder, *options):
    command = [MSTKD, "check", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done


def rows(done):
    """By rule, the counts of a row as a person sees them."""
    lines = [line.split() for line in done.stdout.splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) > 1 and "_" in line[0]}


@pytest.mark.slow
@pytest.mark.workflow
def test_a_finished_run_is_current(results):
    done = check(results)
    assert done.returncode == 0
    assert rows(done)["train_student"] == ["15"]
    believed = "weights, images and embeddings were not read (--deep)"
    assert done.stdout.splitlines()[-1] == f"nothing to be done; {believed}"
    told = json.loads(check(results, "--json", "--deep").stdout)
    assert told["deep"] is True and told["orphans"] == []
    assert {(job["state"], job["runs"]) for job in told["jobs"]} == {("current", False)}
    page = (results / "results/report.html").read_text()
    assert "When this page was made, all that was there of the 20 models shown, and of what" in page


@pytest.mark.slow
@pytest.mark.workflow
def test_an_edit_makes_stale_what_a_plain_run_makes_anew(results):
    done = check(results, "--configfile", "weak.yaml")
    assert done.returncode == 1
    assert rows(done)["train_student"] == ["8", "7", "7"]
    assert rows(done)["train_teacher"] == ["4"]
    line = next(line for line in done.stdout.splitlines() if line.startswith("stale: "))
    assert "loss.kd_weight 10000.0, now 10.0" in line
    told = json.loads(check(results, "--configfile", "weak.yaml", "--json").stdout)
    stale = [job for job in told["jobs"] if job["state"] == "stale"]
    assert sum(job["rule"] == "train_student" for job in stale) == 7
    assert all(job["runs"] and job["why"] for job in stale)
    assert sum(job["runs"] for job in told["jobs"]) > len(stale), "and what hangs on them"


@pytest.mark.slow
@pytest.mark.workflow
def test_what_the_config_does_not_ask_for_is_orphaned(results):
    (results / "less.yaml").write_text(yaml.safe_dump(edited(TINY, {"controls": False})))
    done = check(results, "results", "--configfile", "less.yaml", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert "results/teachers/tiny/single/T-all/seed0/model.safetensors" in told["orphans"]
    assert not [path for path in told["orphans"] if "specialized" in path]


@pytest.mark.slow
@pytest.mark.workflow
def test_damage_is_seen_where_it_is_read(results, tmp_path):
    folder = tmp_path / "here"
    shutil.copytree(results, folder, copy_function=shutil.copy2, symlinks=True)
    weights = "results/teachers/tiny/specialized/T-A/seed0/model.safetensors"
    data = bytearray((folder / weights).read_bytes())
    data[-3] ^= 1
    (folder / weights).write_bytes(data)
    assert check(folder).returncode == 1, "newer than what was made from it"
    told = json.loads(check(folder, "--deep", "--json").stdout)
    (damaged,) = [job for job in told["jobs"] if job["state"] == "damaged"]
    assert damaged["why"] == f"other contents than were written; rm {weights} and run again"
    assert f"damaged: {weights}: other contents" in check(folder, "--deep").stdout


@pytest.mark.workflow
def test_a_config_with_faults_or_another_folder_is_told_in_lines(tmp_path, results):
    (results / "faults.yaml").write_text(yaml.safe_dump({**TINY, "seed": 1, "embedding_dim": 0}))
    done = check(results, "--configfile", "faults.yaml")
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    start = f"mstkd: error: snakemake --dry-run: found {results}/faults.yaml: "
    assert first.startswith(f"{start}seed: found unknown key 'seed'; ")
    assert second.startswith(f"{start}embedding_dim: found 0; ")
    (tmp_path / "Snakefile").write_text("rule all:\n    shell: 'true'\n")
    done = check(tmp_path)
    assert done.returncode == 2
    assert "a plan without jobs; expected the Snakefile of mstkd" in done.stderr
    done = check(results, "nowhere")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "mstkd: error: nowhere: found no such folder; expected a folder of results"
    ]


# ---------------------------------------------------------------- what the page says of it


@pytest.mark.slow
@pytest.mark.workflow
def test_a_page_says_which_models_another_config_made(results, tmp_path):
    """A page made by hand, or by a run that was told to leave the models as they are."""

    def said(edits):
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump(edited(TINY, edits)))
        render_page(
            PageSettings(title="t", procedural=True),
            tables=[],
            figures=[],
            claims=results / "results/claims.json",
            config=config,
            output=tmp_path / "page.html",
        )
        page = (tmp_path / "page.html").read_text()
        return next(line for line in page.splitlines() if "When this page was made" in line)

    assert "all that was there of the 20 models shown" in said({})
    assert "all that was there of the 20 models shown" in said({"report.decimals": 1})
    weak = said(WEAK)
    assert "7 of the 20 models shown had not been made by the config beside it: " in weak
    assert "students/tiny/specialized/SL/a-KD/seed0: model.safetensors: loss.kd_weight" in weak
    assert "; and 2 more." in weak
    # What they were made from counts: teachers, their caches and adaptors, and packs.
    assert "19 of the 20 models" in said({"teachers.optimiser.epochs": 3})
    assert "14 of the 20 models" in said({"cache.dtype": "float32"})
    assert "4 of the 20 models" in said(
        {"adaptors.architectures": {"SL": {}, "DuL": {}, "DLDP": {"dropout": 0.5}}}
    )
    assert "20 of the 20 models" in said({"data.on_bad_image": "skip"})
    assert "20 of the 20 models" in said({"evaluation.folds": 4})
    assert "20 of the 20 models" in said({"groups": ["B", "A"]})
    assert "8 of the 20 models" in said({"splits.seed": 1})
    assert "is of a model, group or set that is not asked for" in said(
        {"students.losses": {"EAF-KD": {}}}
    )
    caches = results / "results/embeddings"
    caches.rename(tmp_path / "embeddings")
    try:
        gone = said({"cache.dtype": "float32"})
    finally:
        (tmp_path / "embeddings").rename(caches)
    # Of another type than is asked for now: the page speaks of what was there.
    assert "all that was there of the 20 models shown, and of what they were made from, had" in gone
