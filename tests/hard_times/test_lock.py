"""The lock of the tests' environment names all that pyproject.toml asks for, with hashes."""

import re
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
