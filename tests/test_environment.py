"""environment.yml and envs/ say the same as pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
CONDA_NAMES = {
    "torch": "pytorch",
    "snakemake": "snakemake-minimal",
    "matplotlib": "matplotlib-base",
}


def bounds(requirements):
    """`name>=1,<2` or `name >=1,<2` to {name: ">=1,<2"}."""
    texts = [text.replace(" ", "") for text in requirements if isinstance(text, str)]
    return {
        match[1]: match[2]
        for match in (re.fullmatch(r"([A-Za-z0-9_-]+)(.*)", text) for text in texts)
    }


def pip_side():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = bounds(project["dependencies"])
    named = {CONDA_NAMES.get(name, name): bound for name, bound in named.items()}
    return named | {"python": project["requires-python"]}


def conda_side(path):
    return bounds(yaml.safe_load(path.read_text())["dependencies"])


def test_environment_is_the_twin_of_pyproject():
    conda = conda_side(ROOT / "environment.yml")
    assert conda.pop("pip") == ""
    assert conda == pip_side()


@pytest.mark.parametrize("path", sorted((ROOT / "envs").glob("*.yaml")), ids=lambda p: p.stem)
def test_rule_environments_ask_for_no_other_versions(path):
    conda = conda_side(path)
    assert conda.pop("pip") == ""
    assert conda.items() <= pip_side().items()
