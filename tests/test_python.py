"""What `import mstkd` offers, and the examples of docs/python.md."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from networks import save_teacher, subject

import mstkd
from mstkd.artifacts.records import Metrics, read_record
from mstkd.config import EvaluationSettings
from mstkd.evaluation.evaluate import evaluate

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/python.md").read_text(encoding="utf-8")
SCORED, DISTILLED = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)


def imports_for_checkers():
    """Name to module, of the imports that a type checker sees."""
    tree = ast.parse(Path(mstkd.__file__).read_text(encoding="utf-8"))
    [block] = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    return {alias.name: one.module for one in block.body for alias in one.names}


def test_the_package_loads_nothing_until_it_is_asked():
    code = """
import sys, mstkd
assert set(mstkd.__all__) <= set(dir(mstkd))
heavy = {"torch", "numpy", "pydantic", "h5py"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
mstkd.kfold_accuracy, mstkd.summarize, mstkd.read_config, mstkd.open_pack, mstkd.InputError
assert "torch" not in sys.modules
mstkd.kd_loss
assert "torch" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", mstkd.__all__)
def test_a_public_name_is_the_one_that_checkers_see(name):
    assert getattr(mstkd, name) is getattr(
        importlib.import_module(imports_for_checkers()[name]), name
    )


def test_the_public_names_are_those_of_the_page():
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.M)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(mstkd.__all__)
    assert set(imports_for_checkers()) == set(mstkd.__all__)


def test_another_name_is_not_there():
    with pytest.raises(AttributeError, match="module 'mstkd' has no attribute 'kdloss'"):
        _ = mstkd.kdloss
    assert not hasattr(mstkd, "audits")


def test_checkers_are_told_that_the_package_has_types():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "py.typed" in settings["tool"]["setuptools"]["package-data"]["mstkd"]
    assert (ROOT / "mstkd/py.typed").exists()


def test_the_example_of_a_trained_model_gives_what_evaluate_gives(
    tmp_path, monkeypatch, packs, verification_packs, capsys
):
    groups = [verification_packs[number % 2] for number in range(4)]
    teacher = save_teacher(tmp_path, subject("T-A"), packs[:1])
    shutil.copytree(teacher.parent, tmp_path / "results/students/small/specialized/SL/EAF-KD/seed0")
    folder = tmp_path / "results/packs/verification"
    folder.mkdir(parents=True)
    for group, pack in zip("ABCD", groups, strict=True):
        shutil.copy(pack, folder / f"{group}.h5")
    monkeypatch.chdir(tmp_path)
    told = {}
    exec(SCORED, told)
    scores, metrics = tmp_path / "scores.h5", tmp_path / "metrics.json"
    evaluate(
        EvaluationSettings(folds=10),
        model=teacher,
        packs=verification_packs,
        scores=scores,
        metrics=metrics,
        device="cpu",
    )
    by_group = read_record(Metrics, metrics).own_threshold.groups
    expected = [by_group[group].accuracy for group in "ABAB"]
    assert told["accuracies"] == pytest.approx(expected, abs=1e-9)
    assert capsys.readouterr().out.startswith("Summary(global_accuracy=")


def test_the_example_of_a_step_of_distillation_reaches_every_weight():
    told = {}
    exec(DISTILLED, told)
    trained = [*told["student"].parameters(), *told["head"].parameters()]
    assert all(part.grad is not None for part in trained if part.requires_grad)
    assert all(part.grad is None for part in told["adaptor"].parameters())
    assert told["loss"].item() > 0
