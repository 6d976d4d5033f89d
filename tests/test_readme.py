"""README shows the numbers of committed runs, and a config that leaves the demo's results alone."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image
from reporting import errors, verification_pairs, write_scored
from runs import ROOT

from mstkd.artifacts.records import file_sha256
from mstkd.config import ClaimsSettings, Config, TableSettings
from mstkd.report.claims import compute_claims
from mstkd.report.tables import render_table

README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "benchmarks/results"
GROUPS = ("A", "B", "C", "D")


@pytest.fixture
def pictures(monkeypatch):
    """The script, as it is run from its folder."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import pictures

    return pictures


def test_the_demos_cost_is_that_of_the_committed_run():
    found = json.loads((RESULTS / "demo.json").read_text())
    minutes, memory = round(found["seconds"] / 60), f"{found['peak_memory_gib']:.1f} GiB"
    assert f"| {minutes} minutes ({found['seconds']} s) | {memory} |" in README


def test_what_readme_shows_is_the_committed_demo_result(pictures):
    if not pictures.RESULT.exists():
        pytest.skip("make pictures has not been run since README has these marks")
    found = json.loads(pictures.RESULT.read_text())
    assert pictures.with_answer(README, found) == README, "run make pictures"
    for name, sha256 in found["pictures"].items():
        assert file_sha256(pictures.IMAGES / name) == sha256, f"run make pictures: {name}"


def test_every_picture_is_one_that_the_command_makes(pictures):
    shown = re.findall(r"\(docs/images/([\w.]+)\)", README)
    assert shown
    assert set(shown) <= set(pictures.PICTURES)
    assert {path.name for path in pictures.IMAGES.iterdir()} == set(pictures.PICTURES)
    assert re.search(r"^pictures: demo\n\t.*benchmarks/pictures\.py", makefile(), re.MULTILINE)


def makefile() -> str:
    return (ROOT / "Makefile").read_text()


def finished(folder: Path) -> Path:
    """Results with claims, tables and pictures."""
    pairs = verification_pairs(GROUPS, identities=12, pairs=60)
    metrics = []
    for seed, set_ in enumerate(("specialized", "baseline")):
        wrong = errors(pairs, dict(zip(GROUPS, (90 - 5 * seed,) * 4, strict=True)), seed=seed)
        metrics.append(write_scored(folder / "m", pairs, wrong, set=set_, name="SL"))
    compute_claims(ClaimsSettings(draws=100), metrics=metrics, output=folder / "claims.json")
    (folder / "figures").mkdir()
    for number, name in enumerate(("table1", "table2", "table3")):
        settings = TableSettings(caption="", groups=GROUPS)
        render_table(settings, metrics=metrics, outputs=[folder / f"tables/{name}.csv"])
        Image.new("L", (2, 2), number).save(folder / f"figures/{name}.png")
    Image.new("L", (2, 2), 9).save(folder / "figures/samples-train.png")
    (folder / "report.html").write_text("")
    return folder


def test_the_command_writes_pictures_numbers_and_words(pictures, tmp_path, monkeypatch):
    results = finished(tmp_path / "results")
    for name in ("IMAGES", "RESULT", "README"):
        monkeypatch.setattr(pictures, name, tmp_path / name.lower())
    (tmp_path / "images").mkdir()
    shutil.copy(ROOT / "README.md", tmp_path / "readme")
    monkeypatch.setattr("sys.argv", ["pictures.py", str(results)])
    pictures.main()
    found = json.loads((tmp_path / "result").read_text())
    assert found["tables"]["table3"][1]["A"] == pytest.approx(85)
    for name, path in pictures.PICTURES.items():
        assert (tmp_path / "images" / name).read_bytes() == (results / path).read_bytes()
        assert found["pictures"][name] == file_sha256(results / path)
    text = (tmp_path / "readme").read_text()
    told = " ".join(text.partition("<!-- demo: begin -->")[2].partition("<!-- demo")[0].split())
    assert told == f"What it finds on these drawings: {found['answer']} {found['whom']}"
    assert "+5.00 points" in told
    # Another number is not the committed one.
    edited = text.replace("+5.00", "+5.01")
    assert edited != text
    assert pictures.with_answer(edited, found) == text
    (results / "report.html").unlink()
    with pytest.raises(SystemExit, match="no finished run"):
        pictures.main()


def test_readmes_config_leaves_the_demos_results_alone():
    (block,) = [one for one in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "mine" in one]
    config = Config.model_validate(yaml.safe_load(block))
    assert config.results() == Path("results/mine")
    assert Config.model_validate(
        yaml.safe_load((ROOT / "config/config.yaml").read_text())
    ).results() == Path("results")
