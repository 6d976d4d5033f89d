"""The workflow by its profiles, on a SLURM cluster of one node that the tests start and stop."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from clusters import ON_SLURM, PROFILES, SLURM, THREADS, NoClusterError, slurm_says
from clusters import cluster as slurm_cluster
from processes import started, wait_for
from runs import ROOT, SNAKEMAKE, TINY, edited, planned, snakemake, training

SMALL = edited(
    TINY,
    {
        "adaptors.architectures": {"SL": {}},
        "students.losses": {"a-KD": {}},
        "controls": False,
    },
)
LONGER = edited(SMALL, {"teachers.optimiser": {**TINY["teachers"]["optimiser"], "epochs": 30}})
TEACHERS = {"T-A": "specialized", "T-B": "specialized", "BT-1": "baseline", "BT-2": "baseline"}
MODELS = {
    name: f"results/teachers/tiny/{set_}/{name}/seed0/model.safetensors"
    for name, set_ in TEACHERS.items()
}

pytestmark = pytest.mark.workflow
on_a_cluster = [pytest.mark.slow, pytest.mark.slurm]


def jobs(folder, comment):
    """What SLURM says of the jobs that a run in `folder` gave it, in order; ended ones too."""
    lines = slurm_says("scontrol", "--oneliner", "show", "job").splitlines()
    fields = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines]
    return sorted(
        (job for job in fields if job["WorkDir"] == str(folder) and comment in job["Comment"]),
        key=lambda job: int(job["JobId"]),
    )


def slurm_log(folder, job):
    return next((folder / ".snakemake/slurm_logs").rglob(f"{job['JobId']}.log")).read_text()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster that runs until the last test of this module is done."""
    try:
        with slurm_cluster():
            yield
    except NoClusterError as reason:
        pytest.skip(f"no SLURM here: {reason}")


@contextlib.contextmanager
def beginning(folder, config, *options):
    """Give a run in `folder` on the cluster, and the file that it writes to; it ends with us."""
    path, output = folder / "edited.yaml", folder / "snakemake.log"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    command = [SNAKEMAKE, *options, "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--configfile", path, *ON_SLURM]
    with (
        output.open("w") as log,
        started(command, stdout=log, stderr=subprocess.STDOUT) as running,
    ):
        yield running, output


@pytest.fixture(scope="module")
def begun(cluster, tmp_path_factory):
    """A small DAG on its way; one rule asks for its GPU by gres, one for another partition."""
    folder = tmp_path_factory.mktemp("whole")
    by_gres = ["train_adaptor:gpu=0", "train_adaptor:gres=gpu:1"]
    options = ["pack_train:slurm_partition=other", "check_data:runtime=7", *by_gres]
    with beginning(folder, SMALL, "--set-resources", *options) as (running, output):
        yield folder, running, output


@pytest.fixture(scope="module")
def whole(begun):
    """The folder in which the small DAG has run to its end."""
    folder, running, output = begun
    assert running.wait(timeout=900) == 0, output.read_text()
    return folder


class Interrupted(NamedTuple):
    """What was seen of four teachers: one each warned, cancelled, left alone and taken down."""

    folder: Path
    gpus: dict[str, str]  # CUDA_VISIBLE_DEVICES of the four jobs that ran side by side
    locked: str  # what Snakemake said after it had been killed
    planned: dict[str, int]  # what it then found to do
    finished_before: dict[str, int]  # times of the models that were there


def pause_when_there_are_checkpoints(folder, running):
    """Stop all trainings, each after an epoch or more: no test depends on how fast they are."""
    paused = {}

    def all_paused():
        assert running.poll() is None, "Snakemake ended before the trainings began"
        for name in TEACHERS.keys() - paused.keys():
            if (folder / MODELS[name]).with_name("checkpoint.pt").exists():
                paused[name] = training(folder, name)
                os.kill(paused[name], signal.SIGSTOP)
        return len(paused) == len(TEACHERS)

    wait_for(all_paused)
    return paused


def let_the_time_run_out(job):
    """One to two minutes are left: --signal=USR1@120 of the profile warns at SLURM's next look."""
    hours, minutes, _ = map(int, job["RunTime"].split(":"))
    limit = 60 * hours + minutes + 2
    slurm_says("scontrol", "update", f"JobId={job['JobId']}", f"TimeLimit={limit}")


def environment(process):
    words = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
    return dict(word.split("=", 1) for word in words if "=" in word)


@pytest.fixture(scope="module")
def interrupted(begun, tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupted")
    splits = [f"results/splits/{set_}/{name}.csv" for name, set_ in TEACHERS.items()]
    packs = [f"results/packs/verification/{group}.h5" for group in LONGER["groups"]]
    snakemake(folder, LONGER, *splits, *packs)
    with beginning(folder, LONGER, *MODELS.values()) as (running, output):
        try:
            paused = pause_when_there_are_checkpoints(folder, running)
            gpus = {name: environment(paused[name])["CUDA_VISIBLE_DEVICES"] for name in TEACHERS}
            first = {name: jobs(folder, name)[0]["JobId"] for name in TEACHERS}
            let_the_time_run_out(jobs(folder, "T-A")[0])
            slurm_says("scancel", first["T-B"])
            # SLURM continues what is stopped before it signals. Both are retried and end well.
            wait_for(lambda: output.read_text().count("Finished jobid") == 2)
            running.kill()
            running.wait()
            os.kill(paused["BT-1"], signal.SIGCONT)
            wait_for(lambda: jobs(folder, "BT-1")[0]["JobState"] == "COMPLETED")
            slurm_says("scancel", first["BT-2"])
            wait_for(lambda: jobs(folder, "BT-2")[0]["JobState"] == "CANCELLED")
            wait_for(lambda: training(folder, "BT-2") is None)
        except AssertionError as error:
            raise AssertionError(output.read_text()) from error
    found = {name: (folder / MODELS[name]).stat().st_mtime_ns for name in ("T-A", "T-B", "BT-1")}
    again = [*MODELS.values(), *ON_SLURM]
    locked = snakemake(folder, LONGER, *again, check=False)
    snakemake(folder, LONGER, *again, "--unlock")
    plan = planned(folder, LONGER, *again)
    snakemake(folder, LONGER, *again)
    return Interrupted(folder, gpus, locked.stdout + locked.stderr, plan, found)


class TestCluster:
    """What needs the cluster, the waits of two runs side by side."""

    pytestmark = on_a_cluster

    def test_each_of_four_jobs_gets_a_gpu_of_its_own(self, interrupted):
        assert set(interrupted.gpus.values()) < set("012345")
        assert len(set(interrupted.gpus.values())) == 4

    def test_the_warning_before_a_time_limit_saves_and_the_retry_goes_on(self, interrupted):
        warned, again = jobs(interrupted.folder, "T-A")
        assert warned["JobState"] == "FAILED"
        log = slurm_log(interrupted.folder, warned)
        assert "SIGUSR1 received, state saved" in log
        # Otherwise the step's Snakemake died of it, and its end would kill a slow writer.
        assert "User defined signal" not in log
        assert again["JobState"] == "COMPLETED"
        assert "resumed after epoch" in training_log(interrupted.folder, "T-A")

    def test_a_retry_asks_for_more_memory_and_time(self, interrupted):
        _, again = jobs(interrupted.folder, "T-A")
        assert again["MinMemoryNode"] == "24000M"
        assert again["TimeLimit"] == "1-00:00:00"

    def test_a_cancelled_job_saves_and_the_retry_goes_on(self, interrupted):
        cancelled, again = jobs(interrupted.folder, "T-B")
        assert cancelled["JobState"] == "CANCELLED"
        assert "SIGTERM received, state saved" in slurm_log(interrupted.folder, cancelled)
        assert again["JobState"] == "COMPLETED"
        assert "resumed after epoch" in training_log(interrupted.folder, "T-B")

    def test_after_a_kill_of_snakemake_only_what_is_missing_is_done(self, interrupted):
        """Its jobs go on: one ended well without it and is not run again, one was cancelled."""
        assert "--unlock" in interrupted.locked
        assert interrupted.planned == {"train_teacher": 1}
        for name, time_of_writing in interrupted.finished_before.items():
            model = interrupted.folder / MODELS[name]
            assert model.stat().st_mtime_ns == time_of_writing, name
        assert [job["JobState"] for job in jobs(interrupted.folder, "BT-1")] == ["COMPLETED"]
        states = [job["JobState"] for job in jobs(interrupted.folder, "BT-2")]
        assert states == ["CANCELLED", "COMPLETED"]
        assert "resumed after epoch" in training_log(interrupted.folder, "BT-2")

    def test_the_weights_are_those_of_an_undisturbed_run(self, interrupted, tmp_path):
        for name in ("data", "packs", "splits"):
            shutil.copytree(interrupted.folder / "results" / name, tmp_path / "results" / name)
        snakemake(tmp_path, LONGER, *MODELS.values())
        for model in MODELS.values():
            assert (tmp_path / model).read_bytes() == (interrupted.folder / model).read_bytes()

    def test_a_small_dag_runs_to_its_report(self, whole):
        assert (whole / "results/report.html").stat().st_size > 0
        assert planned(whole, SMALL, *ON_SLURM) == {}
        assert planned(whole, SMALL) == {}

    def test_jobs_run_side_by_side(self, whole):
        spans = [(job["StartTime"], job["EndTime"]) for job in jobs(whole, "rule_train_teacher")]
        assert len(spans) == 4
        assert any(
            one != other and one[0] < other[1] and other[0] < one[1]
            for one in spans
            for other in spans
        )

    def test_memory_time_partition_and_threads_arrive(self, whole):
        asked = {
            comment: jobs(whole, comment)[0]
            for comment in ("train_teacher", "train_student", "pack_train", "check_data")
        }
        assert asked["train_teacher"]["MinMemoryNode"] == "16000M"
        assert asked["train_student"]["MinMemoryNode"] == "24000M"
        assert asked["train_teacher"]["TimeLimit"] == "12:00:00"
        assert asked["check_data"]["TimeLimit"] == "00:07:00"
        assert asked["pack_train"]["Partition"] == "other"
        assert asked["check_data"]["Partition"] == "short"  # the cluster's default
        assert asked["train_teacher"]["CPUs/Task"] == "1"

    def test_a_gpu_is_asked_for_by_gpus_or_by_gres(self, whole):
        (by_gpus, *_), (by_gres, *_) = jobs(whole, "train_teacher"), jobs(whole, "train_adaptor")
        assert by_gpus["TresPerJob"].endswith("gpu:1")
        assert "TresPerNode" not in by_gpus
        assert by_gres["TresPerNode"].endswith("gpu:1")
        assert "TresPerJob" not in by_gres
        assert "TresPerJob" not in jobs(whole, "pack_train")[0]

    def test_evaluations_are_one_job_that_asks_for_one_gpu(self, whole):
        (job,) = jobs(whole, "evaluat")
        assert job["TresPerJob"].endswith("gpu:1")
        assert job["TimeLimit"] == "01:30:00"  # of six, one after the other
        found = (whole / "results").rglob("metrics.json")
        # The fused spaces are scored by the job that traces them.
        assert len([path for path in found if "adaptors" not in path.parts]) == 6

    def test_splits_tables_and_figures_are_no_jobs_of_the_cluster(self, whole):
        names = {job["Comment"].split("_wildcards")[0] for job in jobs(whole, "")}
        assert not [name for name in names if "split" in name or "render" in name]


def training_log(folder, name):
    path = folder / f"results/logs/train_teacher/tiny-{TEACHERS[name]}-{name}-seed0.log"
    return path.read_text()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, as stop.sh does")
def test_a_daemon_that_does_not_take_sigterm_and_has_no_pid_file_ends_with_the_cluster(tmp_path):
    """As munged where the signal came between its look at it and its wait for a client."""
    daemon = shutil.copy(shutil.which("sleep"), tmp_path / "munged")
    other = shutil.copy(daemon, tmp_path / "other")
    cluster = {**os.environ, "SLURM_TEST_DIR": str(tmp_path), "SLURM_TEST_ENDING": "1"}
    deaf = ["sh", "-c", "trap '' TERM; exec \"$0\" 900"]
    with (
        started([*deaf, daemon], env={**cluster, "SLURM_TEST_MARK": str(tmp_path)}) as ours,
        started([*deaf, other], env={**cluster, "SLURM_TEST_MARK": str(tmp_path)}) as a_step,
        started([*deaf, daemon], env={**cluster, "SLURM_TEST_MARK": "/another"}) as anothers,
    ):
        wait_for(lambda: all("sh" not in comm(one) for one in (ours, a_step, anothers)))
        subprocess.run([ROOT / "tests/slurm/stop.sh"], env=cluster, check=True)
        assert (ours.poll(), a_step.poll(), anothers.poll()) == (-9, -9, None)


def comm(process):
    return Path(f"/proc/{process.pid}/comm").read_text()


@pytest.mark.parametrize("name", ["slurm", "workstation"])
def test_a_profile_plans_the_same_jobs_as_no_profile(name, tmp_path):
    alone = planned(tmp_path, TINY)
    assert planned(tmp_path, TINY, "--workflow-profile", PROFILES / name) == alone
    assert sum(alone.values()) > 60


def test_gpu_beside_gres_is_refused_with_both(tmp_path):
    both = ["--dry-run", "--set-resources", "train_student:gres=gpu:a100:2"]
    refused = snakemake(tmp_path, TINY, *both, check=False)
    assert refused.returncode != 0
    text = refused.stdout + refused.stderr
    assert "resources.train_student: found gpu=1 and gres=gpu:a100:2" in text
    ranks = snakemake(tmp_path, TINY, *both, "train_student:gpu=0", "--printshellcmds").stdout
    assert re.findall(r"train-student .*--ranks (\d+)", ranks) == ["2"] * 15


def rule_texts():
    """Rules by name; those made by `use rule` have what the rule has that they are made from."""
    text = "\n".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    blocks = re.split(r"^ *(?=(?:use )?rule \w)", text, flags=re.M)[1:]
    made = {re.search(r"(\w+)(?: with)?:", block)[1]: block for block in blocks}
    origins = {name: re.match(r"use rule (\w+)", block) for name, block in made.items()}
    return {name: made[origins[name][1]] if origins[name] else made[name] for name in made}


def test_every_rule_runs_beside_snakemake_or_asks_for_memory_and_time():
    for name, text in rule_texts().items():
        local = "localrule: True" in text
        assert local != ("mem_mb=growing(" in text and "runtime=longer(" in text), name


def test_the_slurm_profile_names_every_rule_that_takes_threads_or_a_gpu():
    """Threads are shares of this machine's cores, of which a job on a node knows nothing."""
    rules = rule_texts()
    assert {name for name, text in rules.items() if "_THREADS\n" in text} <= THREADS.keys()
    profile = (SLURM / "config.yaml").read_text()
    by_gres = re.search(r"^# set-resources:\n((?:#   .*\n)+)", profile, flags=re.M)[1]
    named = set(re.findall(r"^#   (\w+):", by_gres, flags=re.M))
    assert {name for name, text in rules.items() if "gpu=1," in text} == named
