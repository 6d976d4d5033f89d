"""Imports point one way, and what needs no torch loads none."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mstkd"

# A module imports lower ranks, and of its own rank only what stands behind its name here.
RANKS = {
    "errors": 0,
    "seeds": 0,
    "grids": 0,
    "atomic": 0,
    "config": 0,
    "progress": 0,
    "records": 0,
    "provenance": 0,
    "contents": 0,
    "lineage": 1,
    "findings": 0,
    "leases": 1,
    "ranks": 1,
    "data": 1,
    "models": 1,
    "heads": 1,
    "sharded_loss": 1,
    "distillation": 1,
    "verification": 1,
    "fairness": 1,
    "devices": 2,
    "embeddings": 2,
    "head_loss": 2,
    "synchronised": 2,
    "evaluation": 3,
    "training.schedule": 2,
    "training.checkpoint": 2,
    "training.interruption": 2,
    "training.events": 2,
    "training.shards": 2,
    "training.learner": 2,
    "training.engine": 3,
    "training.parallel": 3,
    "training.divergence": 3,
    "training.loop": 4,
    "training.teacher": 5,
    "training.adaptor": 5,
    "training.student": 6,
    "report": 2,
    "bench": 5,
    "cli": 7,
}
WITHIN_A_RANK = {
    "config": {"errors", "grids"},
    "records": {"atomic", "errors"},
    "findings": {"records"},
    "provenance": {"errors", "records"},
    "contents": {"provenance", "records"},
    "embeddings": {"devices"},
    "sharded_loss": {"heads", "ranks"},
    "training.learner": {"training.shards"},
}
REPORT_MAY_IMPORT = {
    "errors",
    "atomic",
    "config",
    "grids",
    "records",
    "provenance",
    "contents",
    "lineage",
    "findings",
    "progress",
    "seeds",
}


def modules():
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def unit(name):
    """The entry of RANKS that a dotted name below mstkd belongs to."""
    parts = name.split(".")
    two = ".".join(parts[:2])
    return two if two in RANKS else parts[0]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mstkd."):
            yield unit(node.module.removeprefix("mstkd."))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own = unit(".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    assert own in RANKS, "give the module a rank"
    for other in set(imports(path)) - {own}:
        allowed = RANKS[other] < RANKS[own] or other in WITHIN_A_RANK.get(own, ())
        assert allowed, f"{own} imports {other}"
        if own == "report":
            assert other in REPORT_MAY_IMPORT | {"verification", "fairness"}


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


@pytest.mark.parametrize(
    "name",
    [
        "config",
        "cli",
        "data.synthetic",
        "data.pack",
        "data.splits",
        "report.tables",
        "bench.estimate",
    ],
)
def test_no_torch_where_none_is_needed(name):
    code = f"import sys, mstkd.{name}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
