"""What the pages of the site tell a reader to type is typed here, and prints what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from runs import ROOT

from mstkd.config import Config, validate

RFW = ("African", "Asian", "Caucasian", "Indian")
BLOCK = re.compile(r"^```(python|sh|yaml|text)\n(.*?)^```", re.M | re.S)


def blocks(name: str) -> list[tuple[str, str]]:
    """The language and the text of each block of a page of docs/, in order."""
    return BLOCK.findall((ROOT / f"docs/{name}.md").read_text(encoding="utf-8"))


def typed(text: str, folder: Path) -> str:
    """What a block for the shell prints, with this Python's commands."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-euc", text], cwd=folder, env=environment, capture_output=True, text=True
    )
    # The exit code of `verify` is its answer.
    answers = text.splitlines()[-1].startswith("mstkd verify")
    assert done.returncode in ((0, 1) if answers else (0,)), done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["tutorial-audit", "what-std-and-ser-hide"])
def test_a_page_prints_what_it_says(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    told: dict[str, object] = {}
    printed, compared = "", 0
    for language, text in blocks(name):
        if language == "python":
            exec(text, told)
            printed = capsys.readouterr().out
        elif language == "sh":
            printed = typed(text, tmp_path)
        else:
            assert printed.startswith(text), printed
            compared += 1
    assert compared >= 2


def test_the_papers_numbers_of_the_page_are_the_published_ones():
    page = (ROOT / "docs/what-std-and-ser-hide.md").read_text(encoding="utf-8")
    told = re.findall(r"\d\d\.\d\d(?:,\s\d\d\.\d\d){3}", page)
    published = pd.read_csv(ROOT / "mstkd/report/published.csv")[list(RFW)]
    rows = set(map(tuple, published.to_numpy()))
    assert len(told) == 4
    assert {tuple(map(float, one.split(","))) for one in told} <= rows


def test_the_backbones_of_the_page_are_ones_that_a_config_may_name():
    [(_, text)] = blocks("own-backbone")
    config = validate(Config, yaml.safe_load(text), "own-backbone.md")
    assert set(config.backbones) == {"iresnet50", "phone", "narrow", "mobilenet"}
    for name, backbone in config.backbones.items():
        known = (backbone.architecture, backbone.blocks, backbone.timm)
        assert sum(one is not None for one in known) == 1, name


@pytest.mark.usefixtures("quick_jobs")
@pytest.mark.slow
@pytest.mark.workflow
def test_the_four_steps_with_ones_own_faces(tmp_path):
    """All of it but the report's pages: of the run, the jobs that a student's table needs."""
    folder, printed = tmp_path, ""
    table = "results/mine/tables/table2.csv"
    page = blocks("tutorial-own-faces")
    for language, text in page:
        if language == "text":
            assert text in printed
        elif language == "yaml":
            (folder / text.splitlines()[0].removeprefix("# ")).write_text(text)
        else:
            shorter = re.sub(r"(snakemake .*mine\.yaml)$", rf"\1 -- {table}", text, flags=re.M)
            printed = typed(shorter, folder)
            folder = tmp_path / "study"  # where the first block ends
    assert (folder / table).exists()
    assert re.search(r"^(one person|two people): similarity", printed, re.M)
    # The real run that the page ends with is a config too.
    [small] = [yaml.safe_load(text) for language, text in page if language == "yaml"]
    small["data"]["image_size"] = 112
    small["backbones"] = {"iresnet34": {}}
    small["teachers"] = {"backbones": ["iresnet34"]}
    small["students"] = {"backbone": "iresnet34"}
    del small["adaptors"]
    assert validate(Config, small, "real").teachers.optimiser.epochs == 52
