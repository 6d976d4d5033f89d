"""Where the workflow gets its software: conda environments, the container, the catalogue."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch

import pytest
import yaml
from runs import ROOT, SNAKEFILES, SNAKEMAKE, TINY

from mstkd.config import read_config

# Answers as conda does what Snakemake asks, and notes it. An environment "made" by it notes what
# its Python is asked and runs the mstkd of the tests.
CONDA = """#!/usr/bin/env bash
set -euo pipefail
echo "conda $*" >> "$TOLD"
case "$1" in
  info) echo '{"conda_prefix": "'"$BASE"'", "platform": "linux-64"}' ;;
  --version) echo "conda 25.1.1" ;;
  config) echo '{"get": {"channel_priority": "strict"}}' ;;
  env)
    while [ $# -gt 0 ]; do
      if [ "$1" = --prefix ]; then prefix=$2; fi
      shift
    done
    mkdir -p "$prefix/bin"
    printf '#!/bin/sh\\necho "python in $PWD: $*" >> "$TOLD"\\n' > "$prefix/bin/python"
    printf '#!/bin/sh\\necho "mstkd $*" >> "$TOLD"\\nexec "$MSTKD" "$@"\\n' > "$prefix/bin/mstkd"
    chmod +x "$prefix/bin/python" "$prefix/bin/mstkd"
    ;;
esac
"""
ACTIVATE = 'export CONDA_PREFIX="$1" PATH="$1/bin:$PATH"\n'


def without_conda():
    """The environment variables, of no active environment; and no pip installs anything."""
    kept = {name: value for name, value in os.environ.items() if name != "CONDA_PREFIX"}
    return {**kept, "PIP_DRY_RUN": "1", "PIP_NO_INDEX": "1"}


@pytest.fixture
def conda(tmp_path):
    """An environment with a conda that makes empty environments and notes what it was asked."""
    base = tmp_path / "base"
    (base / "bin").mkdir(parents=True)
    (base / "bin/conda").write_text(CONDA)
    (base / "bin/conda").chmod(0o755)
    (base / "bin/activate").write_text(ACTIVATE)
    return {
        **without_conda(),
        "PATH": f"{base / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "BASE": str(base),
        "TOLD": str(tmp_path / "told.txt"),
        "MSTKD": str(SNAKEMAKE.with_name("mstkd")),
    }


def run_with(conda, folder, *options):
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))
    command = [SNAKEMAKE, "--software-deployment-method", "conda", "--cores", "1"]
    command += ["--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--configfile", config, *options]
    done = subprocess.run(command, env=conda, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.workflow
@pytest.mark.parametrize("entry", SNAKEFILES)
def test_conda_makes_both_environments_and_the_package_goes_into_each(conda, tmp_path, entry):
    run_with(conda, tmp_path, "--snakefile", ROOT / entry, "--conda-create-envs-only")
    told = (tmp_path / "told.txt").read_text().splitlines()
    created = [line for line in told if line.startswith("conda env create")]
    assert len(created) == 2
    installs = [line for line in told if line.startswith("python in")]
    # From the folder of the run, which is not that of the checkout.
    install = f"python in {tmp_path}: -m pip install --no-deps --editable {ROOT}"
    assert installs == [install, install]
    asked = [
        yaml.safe_load(path.read_text()) for path in (tmp_path / ".snakemake/conda").glob("*.yaml")
    ]
    ours = [
        yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text()) for name in ("mstkd", "report")
    ]
    assert sorted(asked, key=str) == sorted(ours, key=str)


@pytest.mark.slow
@pytest.mark.workflow
def test_a_job_runs_the_mstkd_of_its_environment(conda, tmp_path):
    run_with(conda, tmp_path, "--", "results/config.yaml")
    told = (tmp_path / "told.txt").read_text().splitlines()
    assert [line.split()[3] for line in told if line.startswith("mstkd")] == ["write-config"]
    assert read_config(tmp_path / "results/config.yaml").groups == ("A", "B")


@pytest.mark.workflow
def test_conda_is_asked_for_nothing_without_the_option(conda, tmp_path):
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))
    command = [SNAKEMAKE, "--snakefile", ROOT / "Snakefile", "--directory", tmp_path, "--cores"]
    command += ["1", "--configfile", config, "--dry-run", "results/config.yaml"]
    subprocess.run(command, env=conda, capture_output=True, check=True)
    assert not (tmp_path / "told.txt").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "envs").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_beside_the_environments_are_bash(path):
    assert path.read_text().startswith("#!/usr/bin/env bash\n")
    subprocess.run(["bash", "-n", path], check=True)
    assert path.with_name(path.name.replace(".post-deploy.sh", ".yaml")).exists()


@pytest.mark.parametrize("path", sorted((ROOT / "envs").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_touch_no_python_but_that_of_the_active_environment(path, tmp_path):
    """Where activating failed, the first Python of PATH is another environment's."""
    other = tmp_path / "python"
    other.write_text('#!/bin/sh\ntouch "$0.asked"\n')
    other.chmod(0o755)
    environment = {**without_conda(), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", path], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "the environment is not active" in done.stderr
    assert list(tmp_path.iterdir()) == [other]


# ---------------------------------------------------------------- container


def instructions():
    """The Containerfile's instructions: (name, rest)."""
    lines = (ROOT / "Containerfile").read_text().splitlines()
    return [tuple(line.split(" ", 1)) for line in lines if line and not line.startswith("#")]


def copied():
    """Source and target of every COPY."""
    for name, rest in instructions():
        if name == "COPY":
            *sources, target = rest.split()
            for source in sources:
                yield source, (f"{target}{source}" if target.endswith("/") else target)


def test_the_container_s_python_is_one_that_the_package_allows():
    (image,) = [rest for name, rest in instructions() if name == "FROM"]
    version = re.fullmatch(r"docker\.io/library/python:(\d+\.\d+)", image)[1]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lowest, highest = re.fullmatch(r">=([\d.]+),<([\d.]+)", project["requires-python"]).groups()
    number = [int(part) for part in version.split(".")]
    assert [int(part) for part in lowest.split(".")] <= number
    assert number < [int(part) for part in highest.split(".")]
    assert f"Python {version}" in (ROOT / "README.md").read_text()  # the one it is tested on


def test_what_the_container_copies_exists_and_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    sources = {source for source, _ in copied()}
    assert sources == let_in
    for source in sources:
        assert (ROOT / source).exists()
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert all(any(fnmatch(path, f"{source}*") for path in tracked) for source in sources)


@pytest.mark.slow
@pytest.mark.workflow
def test_what_the_container_copies_is_enough_to_plan_a_run(tmp_path):
    """Its entry point and arguments, on the files it copies, from another folder."""
    for source, target in copied():
        place = tmp_path / "image/mstkd" / target
        place.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, place)
    words = [json.loads(rest) for name, rest in instructions() if name in ("ENTRYPOINT", "CMD")]
    program, *options = [word for part in words for word in part]
    assert program == "snakemake"
    options = [word.replace("/mstkd/", f"{tmp_path}/image/mstkd/") for word in options]
    work = tmp_path / "work"
    work.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "image/mstkd")}
    done = subprocess.run(
        [SNAKEMAKE, *options, "--dry-run"],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train_teacher" in done.stdout
    code = "import mstkd; print(mstkd.__file__)"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=work, env=environment, capture_output=True, text=True
    )
    assert told.stdout.startswith(str(tmp_path))


# ---------------------------------------------------------------- catalogue


@pytest.mark.workflow
@pytest.mark.parametrize("profile", [None, "workstation", "slurm"])
def test_a_checkout_plans_the_same_run_from_either_snakefile_and_without_that_of_the_root(
    tmp_path, profile
):
    """As a newcomer and as the catalogue take it: no option but where the run is told to go."""
    for folder in ("workflow", "config", "envs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "Snakefile", tmp_path)
    command = [SNAKEMAKE, "--dry-run", "--printshellcmds"]
    if profile is None:
        command += ["--cores", "all"]
    else:
        command += ["--workflow-profile", f"workflow/profiles/{profile}"]

    def commands(*options):
        done = subprocess.run(
            [*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return sorted(re.findall(r"^Shell command: mstkd .*", done.stdout, re.MULTILINE))

    found = commands()
    assert len(found) == 125  # those of the demo; the target `all` has none
    assert commands("--snakefile", "workflow/Snakefile") == found
    (tmp_path / "Snakefile").unlink()
    assert commands() == found


def test_the_catalogue_is_told_what_is_true():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["mandatory-flags"]["flags"] == []
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    deployment = usage["software-stack-deployment"]
    assert deployment["conda"] == ("conda:" in rules)
    assert deployment["apptainer"] == ("container:" in rules)
    assert usage["report"] == ("report(" in rules)
    # The catalogue looks for both words, and for instructions in config/README.md.
    readme = (ROOT / "README.md").read_text().lower()
    assert "snakemake" in readme
    assert "workflow" in readme
    assert (ROOT / "config/README.md").exists()
