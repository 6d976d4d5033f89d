"""What a user without a clone gets: a wheel that holds the workflow, and a folder to run it in."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from runs import ROOT, SNAKEMAKE, TINY

from mstkd.errors import InputError
from mstkd.workflow.starting import init

SHIPPED = ("workflow", "config", "envs")
ASKED = ("mstkd", *SHIPPED, "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")


def shipped_files():
    """What git knows of the workflow's folders, or all of them where there is no git."""
    told = subprocess.run(
        ["git", "ls-files", *SHIPPED], cwd=ROOT, capture_output=True, text=True, check=False
    )
    found = told.stdout.split("\n")[:-1] if told.returncode == 0 else []
    return set(found) or {
        str(path.relative_to(ROOT))
        for folder in SHIPPED
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A source distribution, and the wheel that is built of it, by pip alone."""
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    source.mkdir()
    unwanted = shutil.ignore_patterns("__pycache__")
    for name in ASKED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, source / name)
    quiet = {"check": True, "capture_output": True, "text": True}
    make = "from setuptools.build_meta import build_sdist as b; b('..')"
    subprocess.run([sys.executable, "-c", make], cwd=source, **quiet)
    (sdist,) = folder.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", folder, sdist], **quiet)
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


@pytest.mark.slow
def test_both_hold_the_workflow(dist):
    sdist, wheel = dist
    with zipfile.ZipFile(wheel) as held:
        names = set(held.namelist())
    shipped = {name for name in names if name.startswith("mstkd/shipped/")}
    assert shipped == {f"mstkd/shipped/{name}" for name in shipped_files()}
    assert not [name for name in names if name.endswith((".pyc", ".so")) or "/tests/" in name]
    assert {"mstkd/py.typed", "mstkd/report/published.csv", "mstkd/view/view.js"} <= names
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.startswith("mstkd-")} == {"mstkd"}
    with tarfile.open(sdist) as held:
        names = {name.partition("/")[2] for name in held.getnames()}
    assert {*shipped_files(), "setup.py", "LICENSE", "mstkd/__init__.py"} <= names


@pytest.fixture(scope="module")
def installed(dist, tmp_path_factory):
    """The wheel installed beside its dependencies, and the environment that finds it first."""
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", site, dist[1]], check=True, capture_output=True)
    return site, {**os.environ, "PYTHONPATH": str(site)}


@pytest.mark.slow
@pytest.mark.workflow
def test_the_method_runs_without_a_clone(installed, tmp_path):
    site, env = installed
    quiet = {"env": env, "check": True, "capture_output": True, "text": True}
    mstkd = [sys.executable, "-c", "from mstkd.cli.app import main; main()"]
    told = subprocess.run([*mstkd, "init", "a study"], cwd=tmp_path, **quiet).stdout
    assert told.splitlines()[-1] == "cd 'a study' && snakemake --cores all"
    folder = tmp_path / "a study"
    (folder / "config/config.yaml").write_text(yaml.safe_dump(TINY))
    table = "results/tables/table1.csv"
    done = subprocess.run([SNAKEMAKE, "--cores", "2", table], cwd=folder, **quiet)
    assert (folder / table).read_text().startswith("set,name,"), done.stderr
    assert not (folder / "mstkd").exists()
    again = subprocess.run([SNAKEMAKE, "--cores", "2", "-n", table], cwd=folder, **quiet)
    assert "Nothing to be done" in again.stdout + again.stderr
    where = "from mstkd.workflow.starting import workflow_folder as w; print(w())"
    told = subprocess.run([sys.executable, "-c", where], cwd=folder, **quiet).stdout
    assert told == f"{site}/mstkd/shipped\n"


def test_a_folder_is_made_and_nothing_in_it_overwritten(tmp_path):
    written = init(tmp_path / "study")
    names = {str(path.relative_to(tmp_path / "study")) for path in written}
    assert {"Snakefile", "config/config.yaml", "config/paper.yaml"} <= names
    assert "workflow/profiles/slurm/config.yaml" in names
    for path in written:
        if path.name != "Snakefile":
            assert path.read_bytes() == (ROOT / path.relative_to(tmp_path / "study")).read_bytes()
    other = tmp_path / "other"
    (other / "config").mkdir(parents=True)
    (other / "config/config.yaml").write_text("mine")
    with pytest.raises(InputError, match=r"config\.yaml: found a file of that name; expected"):
        init(other)
    assert (other / "config/config.yaml").read_text() == "mine"
    assert [path.name for path in other.iterdir()] == ["config"]  # nothing of it is half made


def test_scores_are_audited_where_there_is_no_snakemake(tmp_path):
    """Whoever has scores alone need not install it: nothing of it is imported."""
    lines = ["group,identity1,identity2,same,similarity,fold"]
    for pair in range(400):
        same = pair % 2
        score = same * 0.4 + (pair * 37 % 100) / 100
        group, other = "AB"[pair % 4 // 2], f"p{pair}" if same else f"q{pair}"
        lines.append(f"{group},p{pair},{other},{same},{score},{pair % 10}")
    scores = tmp_path / "scores.csv"
    scores.write_text("\n".join(lines))
    blocked = "import sys; sys.modules['snakemake'] = None\n"
    blocked += "from mstkd.cli.app import main; main()"
    command = [sys.executable, "-c", blocked, "audit", scores]
    done = subprocess.run(
        [*command, "--output", tmp_path / "audit"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert Path(tmp_path / "audit/audit.html").exists()
