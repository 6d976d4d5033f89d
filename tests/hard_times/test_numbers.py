"""Numbers at their limits, at each stage: a result that says what is undefined, or one line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from audited import scored_pairs, written
from networks import save_teacher, subject, teacher_settings
from packs import SIZE, bin_pack, settings_of
from PIL import Image
from reporting import write_metrics
from typer.testing import CliRunner

from mstkd.artifacts.records import ModelRecord, file_sha256, read_record
from mstkd.cli.app import app
from mstkd.data.packing import pack_train
from mstkd.report.rounding import UNDEFINED


def run(*words: object) -> str:
    """What a command says; it ends well or with a line."""
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code in (0, 2), (done.exception, done.output)
    return done.output if done.exit_code else ""


def fault(*words: object) -> str:
    told = [line for line in run(*words).splitlines() if line.startswith("mstkd: error")]
    assert len(told) == 1, told
    return told[0]


def train_faces(root: Path, identities: int, images: int) -> Path:
    random = np.random.default_rng(identities)
    for identity in range(identities):
        (root / "A" / f"p{identity}").mkdir(parents=True)
        for number in range(images):
            pixels = random.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
            Image.fromarray(pixels).save(root / f"A/p{identity}/{number}.png")
    output = root / "A.h5"
    pack_train(settings_of(root), output=output)
    return output


def change_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """New weights, and the record that belongs to them."""
    state = safetensors.torch.load_file(path)
    change(state)
    safetensors.torch.save_file(state, path)
    record = read_record(ModelRecord, path.with_suffix(".json"))
    record.model_copy(update={"weights_sha256": file_sha256(path)}).write(path.with_suffix(".json"))


def last_layer(value: float, bias: float) -> Callable[[dict[str, torch.Tensor]], None]:
    """What it and the batch norm behind it make of anything."""

    def change(state: dict[str, torch.Tensor]) -> None:
        state["fc.weight"].fill_(value)
        state["fc.bias"].fill_(0)
        state["features.running_mean"].fill_(0)
        state["features.bias"].fill_(bias)

    return change


WEIGHTS = {
    "nan": (last_layer(math.nan, 0), "not finite"),
    "inf": (last_layer(math.inf, 0), "not finite"),
    "zero": (last_layer(0, 0), "zero"),
}


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("packs")
    return {
        "train": train_faces(folder / "train", 3, 4),
        "one identity": train_faces(folder / "one", 1, 4),
        "one image": train_faces(folder / "image", 1, 1),
        "pairs": bin_pack(folder / "pairs", "A", (True, False) * 4),
    }


@pytest.mark.parametrize(("change", "told"), WEIGHTS.values(), ids=WEIGHTS)
def test_embeddings_without_a_direction(
    tmp_path: Path,
    packs: dict[str, Path],
    change: Callable[[dict[str, torch.Tensor]], None],
    told: str,
) -> None:
    weights = save_teacher(tmp_path, subject("T-A"), [packs["train"]])
    change_weights(weights, change)
    cached = ("cache-embeddings", "--settings", "{}", "--teachers", weights, "--device", "cpu")
    assert told in fault(*cached, "--packs", packs["train"], "--output", tmp_path / "cache.h5")
    scored = ("evaluate", "--settings", '{"folds": 2}', "--model", weights, "--device", "cpu")
    outputs = ("--scores", tmp_path / "s.h5", "--metrics", tmp_path / "m.json")
    assert told in fault(*scored, "--packs", packs["pairs"], *outputs)
    assert not list(tmp_path.glob("*.h5")) + list(tmp_path.glob("m.json"))


def test_all_scores_equal(tmp_path: Path, packs: dict[str, Path]) -> None:
    weights = save_teacher(tmp_path, subject("T-A"), [packs["train"]])
    change_weights(weights, last_layer(0, 1))
    outputs = ("--scores", tmp_path / "s.h5", "--metrics", tmp_path / "m.json")
    scored = ("evaluate", "--settings", '{"folds": 2}', "--model", weights, "--device", "cpu")
    assert not run(*scored, "--packs", packs["pairs"], *outputs)
    found = json.loads((tmp_path / "m.json").read_text())
    assert found["own_threshold"]["groups"]["A"]["accuracy"] == 50


@pytest.mark.parametrize("name", ["one identity", "one image"])
def test_the_fewest_images_are_trained_on_and_cached(
    tmp_path: Path, packs: dict[str, Path], name: str
) -> None:
    (tmp_path / "1.csv").write_text("group,identity\nA,p0\n")
    settings = teacher_settings(selection={"rule": "last"}).model_dump_json()
    told = run(
        *("train-teacher", "--settings", settings, "--packs", packs[name], "--device", "cpu"),
        *("--split", tmp_path / "1.csv", "--output", tmp_path / "T/model.safetensors"),
        *("--backbone", "tiny", "--set", "specialized", "--name", "T-A", "--seed", 0),
    )
    errors = [line for line in told.splitlines() if line.startswith("mstkd: error")]
    assert len(errors) <= 1
    if not errors:
        state = safetensors.torch.load_file(tmp_path / "T/model.safetensors")
        assert all(bool(torch.isfinite(one.float()).all()) for one in state.values())
    weights = save_teacher(tmp_path, subject("T-A"), [packs[name]])
    run(
        *("cache-embeddings", "--settings", "{}", "--teachers", weights, "--device", "cpu"),
        *("--packs", packs[name], "--output", tmp_path / "cache.h5"),
    )
    assert (tmp_path / "cache.h5").exists()


def test_without_errors_the_ratio_of_errors_is_undefined(tmp_path: Path) -> None:
    """Equation 7 divides by the error of the best group."""
    for accuracy in (100.0, 50.0, 0.0):
        folder = tmp_path / str(accuracy)
        folder.mkdir()
        scored = write_metrics(folder, {"A": accuracy, "B": accuracy})
        outputs = [folder / f"table.{kind}" for kind in ("csv", "md", "tex", "html")]
        settings = json.dumps({"groups": ["A", "B"], "caption": "A table"})
        words = ("--settings", settings, "--metrics", scored, "--outputs", *outputs)
        assert not run("render-table", *words)
        rows = (folder / "table.md").read_text().splitlines()
        row = [one for one in rows if one.startswith("|")][-1]
        assert not re.search("nan|inf", row), row
        assert (UNDEFINED in row) == (accuracy == 100), row


# ---------------------------------------------------------------- audits


def audited(folder: Path, **columns: object) -> str:
    frame = scored_pairs(40)
    for name, values in columns.items():
        frame[name] = values
    told = run("audit", written(folder, frame), "--output", folder / "out")
    for page in (folder / "out").glob("*.csv"):
        assert "inf" not in page.read_text()
    return told


def test_an_audit_of_equal_scores(tmp_path: Path) -> None:
    assert "mstkd: error" in audited(tmp_path, similarity=0.5)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", ""])
def test_an_audit_of_a_score_that_is_no_number(tmp_path: Path, value: str) -> None:
    scores = scored_pairs(40)["similarity"].astype(str)
    scores[7] = value
    told = audited(tmp_path, similarity=scores)
    assert told.count("mstkd: error") == 1 and ":9: " in told


def test_an_audit_without_errors(tmp_path: Path) -> None:
    assert audited(tmp_path, similarity=scored_pairs(40)["same"] * 0.9) == ""
    assert (tmp_path / "out/measures.csv").exists()


def test_an_audit_of_huge_and_tiny_scores(tmp_path: Path) -> None:
    scores = scored_pairs(40)["similarity"]
    assert audited(tmp_path, similarity=scores * 1e300) == ""
    assert audited(tmp_path, similarity=scores * 1e-300) == ""
