"""Imports point down, as the table of docs/architecture.md says; what needs no torch loads none."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mstkd"
ROW = re.compile(r"^\| (\d) \| (.+?) \| (.+?) \| (.*?) ?\|$", re.M)


class Room(NamedTuple):
    floor: int
    strangers: frozenset[str]  # what it may not know


def rooms():
    """By name, from the table."""
    found = {}
    for floor, names, _, strangers in ROW.findall((ROOT / "docs/architecture.md").read_text()):
        barred = frozenset(strangers.replace("`", "").split())
        found |= {name: Room(int(floor), barred) for name in re.findall(r"`(\w+)`", names)}
    return found


ROOMS = rooms()
TORCHLESS = [
    *sorted(name for name, room in ROOMS.items() if "torch" in room.strangers),
    "evaluation.verification",
    "evaluation.fairness",
    "evaluation.uncertainty",
    "evaluation.intervals",
    "evaluation.coverage",
    "evaluation.scores",
    "evaluation.scorefiles",
    "evaluation.foreign",
    "evaluation.measures",
    "evaluation.impostors",
    "evaluation.impostor_rates",
    "evaluation.spread",
    "evaluation.contrasts",
    "evaluation.unpaired",
    "evaluation.claims",
    "evaluation.power",
    "evaluation.shares",
    "evaluation.protocol",
    "evaluation.auditing",
    "evaluation.embedded",
    "data.synthetic",
    "data.pack",
    "data.splits",
    "bench.estimate",
]


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path):
    """Names of modules, those of the package without its own."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield (node.module or "").removeprefix("mstkd.")
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_the_table_names_every_room():
    assert {room_of(path) for path in modules()} - {"__init__"} == set(ROOMS)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own = room_of(path)
    if own == "__init__":
        return
    for name in imported(path):
        other = name.split(".")[0]
        assert other not in ROOMS[own].strangers - {"torch"}, f"{own} imports {other}"
        assert other == own or other not in ROOMS or ROOMS[other].floor < ROOMS[own].floor, (
            f"{own} imports {other}"
        )


def test_the_loop_knows_no_task():
    tasks = {f"training.{task}" for task in ("teacher", "adaptor", "student")}
    for name in ("loop", "learner", "engine", "divergence", "checkpoint", "schedule", "events"):
        assert not tasks & set(imported(PACKAGE / f"training/{name}.py"))


def test_no_step_sees_the_whole_config():
    for path in modules():
        # What measures an experiment as a whole is no step of it.
        if path.parent.name in ("config", "bench"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                arguments = [*node.args.args, *node.args.kwonlyargs]
                named = {ast.unparse(arg.annotation) for arg in arguments if arg.annotation}
                assert "Config" not in named, f"{path.name}: {node.name}"


@pytest.mark.parametrize("name", TORCHLESS)
def test_no_torch_where_none_is_needed(name):
    path = PACKAGE / name.replace(".", "/")
    inside = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    names = [".".join(one.relative_to(ROOT).with_suffix("").parts) for one in inside]
    code = f"import sys, {', '.join(names)}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_jobs_that_hold_a_gpu_wait_for_no_tables_and_no_statistics():
    # Training and evaluation are most of an experiment's jobs; these two take 0.7 s of each.
    names = ("teacher", "adaptor", "student")
    modules = [*(f"mstkd.training.{name}" for name in names), "mstkd.evaluation.evaluate"]
    code = (
        f"import sys, {', '.join(modules)}; print({{'pandas', 'scipy.stats'}} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout == "set()\n"
