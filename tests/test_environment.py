"""environment.yml and envs/ say the same as pyproject.toml."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from mstkd.cli import steps
from mstkd.cli.steps import STEPS

ROOT = Path(__file__).parent.parent
CONDA_NAMES = {
    "torch": "pytorch",
    "snakemake": "snakemake-minimal",
    "matplotlib": "matplotlib-base",
    "xxhash": "python-xxhash",
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


IMPORT_NAMES = {
    "PIL": "pillow",
    "markupsafe": "jinja2",  # jinja2 needs it
    "pydantic_core": "pydantic",  # and pydantic this
    "matplotlib": "matplotlib-base",
    "torch": "pytorch",
    "xxhash": "python-xxhash",
    "yaml": "pyyaml",
}


def imported(nodes):
    """Dotted names that statements import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages_behind(modules):
    """Third-party packages, by conda's names, of modules and of all modules they import."""
    waiting, seen, packages = list(modules), set(), set()
    while waiting:
        name = waiting.pop()
        path = ROOT / f"{name.replace('.', '/')}.py"
        if name in seen or not path.exists():
            continue
        seen.add(name)
        tree = ast.parse(path.read_text())
        # What the functions of the command line import, a command that is not called does not.
        for other in imported(tree.body if name.startswith("mstkd.cli.") else ast.walk(tree)):
            if other.startswith("mstkd"):
                waiting.append(other)
            elif other.split(".")[0] not in sys.stdlib_module_names:
                packages.add(IMPORT_NAMES.get(other.split(".")[0], other.split(".")[0]))
    return packages


def steps_of(environment):
    """Modules of the steps whose rules run in an environment, and what calling them imports."""
    commands = set()
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        for rule in re.split(r"^ *rule ", path.read_text(), flags=re.M)[1:]:
            if f"envs/{environment}.yaml" in rule:
                commands |= set(re.findall(r"mstkd --log \{log:q\} ([a-z-]+)", rule))
    functions = {
        node.name: node
        for node in ast.parse(Path(steps.__file__).read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    yield "mstkd.config"
    for command in commands:
        yield f"mstkd.{STEPS[command]}"
        if command.startswith("train-"):
            yield "mstkd.compute.parallel"
        if STEPS[command] == "cli.steps":
            yield from imported(ast.walk(functions[command.replace("-", "_")]))


@pytest.mark.parametrize("environment", ["mstkd", "report"])
def test_environments_hold_what_their_steps_import(environment):
    steps = set(steps_of(environment))
    assert len(steps) > 10
    packages = packages_behind({"mstkd.cli.app", *steps})
    assert packages <= set(conda_side(ROOT / f"envs/{environment}.yaml"))
    assert ("pytorch" in packages) == (environment == "mstkd")
