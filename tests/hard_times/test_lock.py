"""The lock of the tests' environment names all that pyproject.toml asks for, with hashes."""

import re
import shutil
import subprocess
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from runs import ROOT

LINE = re.compile(r"([a-z0-9._-]+)==([^ ]+) --hash=sha256:[0-9a-f]{64}")


def test_what_is_asked_for_is_locked():
    lines = (ROOT / "envs/test-lock.txt").read_text().splitlines()[1:]
    pins = [LINE.fullmatch(line).groups() for line in lines]
    locked = {canonicalize_name(name): version for name, version in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["test"]
    for one in map(Requirement, asked):
        name = canonicalize_name(one.name)
        assert name in locked, f"{one}: pip install --dry-run --report, see envs/lock.py"
        assert one.specifier.contains(locked[name]), one


def test_an_environment_that_the_lock_did_not_make_is_not_taken_for_one_it_made(tmp_path):
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to("/bin/true")
    for stamp in ("installed", "installed-test"):
        (tmp_path / ".venv" / stamp).touch()
    (tmp_path / "lock.txt").write_text("six==1.16.0\n")
    command = ["make", "-C", tmp_path, "test", "LOCK=lock.txt"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert ".venv: not made with lock.txt; make clean first" in refused.stdout
    shutil.copy(tmp_path / "lock.txt", tmp_path / ".venv")
    subprocess.run(command, capture_output=True, check=True)
