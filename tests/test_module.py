"""The workflow as a module of another one, its files behind a prefix."""

import re
import subprocess

import pytest
import yaml
from runs import ROOT, SNAKEMAKE, TINY, planned

pytestmark = pytest.mark.workflow

OTHER = f"""\
configfile: "config.yaml"

module mstkd:
    snakefile: "{ROOT}/Snakefile"
    config: config["faces"]
    prefix: "faces"

use rule * from mstkd as mstkd_*

module second:
    snakefile: "{ROOT}/workflow/Snakefile"
    config: {{**config["faces"], "experiment": "again", "controls": False}}
    prefix: "of/others"

use rule * from second as second_*

rule of_ours:
    default_target: True
    input: "faces/results/tables/table1.csv"
    output: "copied.csv"
    resources: gpu=1, gres="gpu:1"  # as another workflow likes
    shell: "cp {{input}} {{output}}"
"""


@pytest.fixture
def other(tmp_path):
    """A folder of another workflow, and a function that runs it."""
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "Snakefile").write_text(OTHER)
    config = {"faces": {**TINY, "controls": False}, "epochs": 3}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def run(*options, check=True):
        command = [SNAKEMAKE, "--cores", "2", *options]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    return folder, run


def jobs_of(done):
    stats = re.search(r"Job stats:\n.*?\n-+.*?\n(.*?)\ntotal", done.stdout, re.DOTALL)
    if stats is None:
        assert "Nothing to be done" in done.stdout + done.stderr
        return {}
    return {name: int(count) for name, count in (line.split() for line in stats[1].splitlines())}


def test_all_jobs_are_planned_and_every_path_has_its_prefix(other, tmp_path):
    _, run = other
    told = run("--dry-run", "--printshellcmds", "mstkd_all", "second_all")
    alone = planned(tmp_path, {**TINY, "controls": False})
    jobs = {
        f"{module}_{rule}": count for module in ("mstkd", "second") for rule, count in alone.items()
    }
    assert jobs_of(told) == {**jobs, "mstkd_all": 1, "second_all": 1}
    paths = re.findall(r"[^\s'\"]*results/[^\s'\"]*", told.stdout)
    assert len(paths) > 500
    own = re.compile(r"faces/results/(?!again)|of/others/results/again/")
    assert [path for path in paths if not own.match(path)] == []


def test_faults_are_told_of_the_module(other):
    folder, run = other
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(f"{text}epochs: 4\n")
    told = run("--dry-run", "--config", "faces={seed: 3}", check=False)
    last = len(text.splitlines())
    first = next(n for n, line in enumerate(text.splitlines(), 1) if line.startswith("epochs"))
    assert told.returncode != 0
    lines = (told.stdout + told.stderr).splitlines()
    assert (
        f"config.yaml: epochs: found the key twice, in lines {first} and {last + 1}; "
        "expected each key once"
    ) in lines
    assert (
        "config of module mstkd (config.yaml + --config): seed: found unknown key 'seed'; "
        "expected did you mean 'seeds'?"
    ) in lines


@pytest.mark.slow
def test_it_runs_and_runs_again_what_it_must(other):
    folder, run = other
    run()
    assert (folder / "copied.csv").read_text().startswith("set,name,")
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == {
        *("Snakefile", "config.yaml", "copied.csv", "faces")
    }
    assert jobs_of(run("--dry-run")) == {}
    told = run("--dry-run", "--config", "faces={evaluation: {folds: 4}}")
    assert jobs_of(told) == {"mstkd_evaluate": 4, "mstkd_render_table": 1, "of_ours": 1}
