"""Names of strangers: in tables that a spreadsheet opens, in pages, on terminals, in paths."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from audited import GROUPS, scored_pairs, written
from hypothesis import given
from hypothesis import strategies as st
from packs import bin_pack, settings_of
from PIL import Image
from pydantic import ValidationError
from runs import ROOT, TINY, planned, snakemake
from typer.testing import CliRunner

from mstkd.artifacts.cells import as_cell, csv_of, from_cell
from mstkd.cli.app import app
from mstkd.config import DataSettings, SplitSettings, SynthesizeSettings
from mstkd.data.packing import pack_train
from mstkd.data.splits import read_split, split
from mstkd.data.synthetic import synthesize
from mstkd.errors import InputError

FORMULAS = ("=", "+", "-", "@", "\t", "\r")
EVIL = (
    '=HYPERLINK("http://x","y")',
    "+1+cmd|' /C calc'!A0",
    "-2",
    "@SUM(1)",
    "<script>alert(1)<",
    '"><img src=x onerror=alert(1)>',
    "$(touch pwned)`touch pwned`;touch pwned",
    "{{7*7}}{%raw%}",
    "a b'c\"d",
    "\x1b[31mred\x1b]0;title\x07",
    "zo\u00eb \u202egnp.exe",
)


# ---------------------------------------------------------------- cells


@given(st.text() | st.builds(str.__add__, st.sampled_from(["'", "''", *FORMULAS]), st.text()))
def test_a_guarded_name_is_no_formula_and_comes_back(name: str) -> None:
    assert not as_cell(name).startswith(FORMULAS)
    assert from_cell(as_cell(name)) == name


def test_numbers_and_plain_names_stay_as_they_are() -> None:
    frame = pd.DataFrame({"a": [-1.5, 2], "b": ["x", None], "c": [1, 2], "d": ["y", -3.0]})
    assert csv_of(frame) == frame.to_csv(index=False, lineterminator="\n")
    guarded = pd.DataFrame({"=a": [-1.5, 2], "b": ["-x", None], "d": ["=y", -3.0]})
    assert csv_of(guarded) == "'=a,b,d\n-1.5,'-x,'=y\n2.0,,-3.0\n"


def has_formulas(path: Path) -> list[str]:
    """Cells that a spreadsheet would run; numbers are none."""

    def is_number(cell: str) -> bool:
        return re.fullmatch(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?|-inf", cell) is not None

    with path.open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert cells
    return [cell for cell in cells if cell.startswith(FORMULAS) and not is_number(cell)]


# ---------------------------------------------------------------- pages


class Tags(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.seen += [f"{tag} {name}" for name, _ in attributes if name.startswith("on")]
        sources = [str(value) for name, value in attributes if name == "src"]
        self.seen += [f"{tag} {one}" for one in sources if not one.startswith("data:image/png;")]


def is_harmless(page: str, like: str) -> bool:
    """Whether a page has no tags but those of another with plain names."""
    return set(Tags(page).seen) <= set(Tags(like).seen)


def run(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.parametrize("place", ["group", "identity1", "image1", "file"])
def test_an_audit_of_strange_names(tmp_path: Path, place: str) -> None:
    plain = scored_pairs(60)
    run("audit", written(tmp_path / "plain", plain), "--output", tmp_path / "plain/out")
    like = (tmp_path / "plain/out/audit.html").read_text()
    frame, name = plain.copy(), "scores.csv"
    names = [one for one in EVIL if "\x1b" not in one]
    if place == "group":
        frame["group"] = frame["group"].map(dict(zip(GROUPS, names, strict=False)))
    elif place == "file":
        name = "=1+<script>alert(1)<.csv"
    else:
        frame[place] = [f"{names[n % len(names)]}{n}" for n in range(len(frame))]
        frame["identity2"] = frame["identity1"].where(frame["same"] == 1, frame["identity2"])
    out = tmp_path / "out"
    run("audit", written(tmp_path, frame, name), "--output", out)
    assert is_harmless((out / "audit.html").read_text(), like)
    assert not [cell for path in out.glob("*.csv") for cell in has_formulas(path)]


@pytest.fixture
def evil_faces(tmp_path: Path) -> Path:
    """A training folder whose identities and images have every name of the list."""
    random = np.random.default_rng(0)
    for name in EVIL:
        folder = tmp_path / "faces/A" / name.replace("/", "_")
        folder.mkdir(parents=True)
        for number in range(2):
            pixels = random.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{name.replace('/', '_')[:40]}{number}.png")
    return tmp_path / "faces"


def test_a_split_of_strange_names(tmp_path: Path, evil_faces: Path) -> None:
    pack_train(settings_of(evil_faces), output=tmp_path / "A.h5")
    outputs = [tmp_path / "1.csv", tmp_path / "2.csv"]
    split(SplitSettings(), packs=[tmp_path / "A.h5"], outputs=outputs)
    assert not [cell for path in outputs for cell in has_formulas(path)]
    dealt = [name for path in outputs for name in read_split(path)["A"]]
    assert sorted(dealt) == sorted(name.replace("/", "_") for name in EVIL)


def test_the_data_report_of_strange_names(tmp_path: Path, evil_faces: Path) -> None:
    copy = next((evil_faces / "A").rglob("*.png"))
    for folder in (evil_faces / "A").iterdir():  # equal images: every identity is named
        (folder / f"{folder.name[:40]}copy.png").write_bytes(copy.read_bytes())
    pack_train(settings_of(evil_faces), output=tmp_path / "A.h5")
    findings = tmp_path / "findings.json"
    settings = '{"folds": 2, "selection_folds": 2}'
    words = ["--settings", settings, "--train", tmp_path / "A.h5", "--output", findings]
    words += ["--verification", bin_pack(tmp_path, "A")]
    assert "\x1b" not in run("check-data", *words)
    page, text = tmp_path / "data-report.html", tmp_path / "data-report.md"
    run("render-data-report", "--findings", findings, "--outputs", page, text)
    seen = set(Tags(page.read_text()).seen)
    assert "script" not in seen and not [one for one in seen if " on" in one or one.endswith(" x")]
    assert "\x1b" not in page.read_text() + text.read_text()


# ---------------------------------------------------------------- terminals


@pytest.mark.parametrize("name", EVIL)
def test_a_message_moves_no_terminal(name: str) -> None:
    error = InputError(f"{name}\n", found=f"{name}\n{name}", expected=name)
    assert all(one.isprintable() for one in str(error).split("\n"))
    assert str(error).count("\n") == 1


def test_a_name_in_a_log_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a\nmstkd: error: b\x1b[2J.yaml"
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from mstkd.cli.app import main; main()", "split"),
            *("--settings", str(path), "--packs", "x.h5", "--outputs", str(tmp_path / "y.csv")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.endswith("found no such file; expected a settings file")
    assert line.isprintable()


# ---------------------------------------------------------------- paths


STRANGE = "a b'c\"d $(touch pwned) `touch pwned` zo\u00eb;& #%"


@pytest.fixture
def strange_checkout(tmp_path: Path) -> Path:
    """What snakemake reads of the repository, below a folder with a strange name."""
    checkout = tmp_path / STRANGE / "clone"
    for name in ("workflow", "config", "envs"):
        shutil.copytree(ROOT / name, checkout / name)
    shutil.copy(ROOT / "Snakefile", checkout)
    return checkout


@pytest.mark.usefixtures("quick_jobs")
@pytest.mark.slow
@pytest.mark.workflow
def test_a_run_in_folders_with_strange_names(tmp_path: Path, strange_checkout: Path) -> None:
    """The whole DAG: checkout, working folder, the user's data and shared packs lie so."""
    data, folder = (tmp_path / f"{STRANGE} {{data}}", tmp_path / f"{STRANGE} {{x}}")
    synthesize(
        SynthesizeSettings(**TINY["data"]["synthetic"], groups=("A", "B"), image_size=16),
        output=data,
    )
    folder.mkdir()
    own = {"train": str(data / "train"), "verification": str(data / "verification")}
    shared = {"shared": str(tmp_path / STRANGE / "shared")}
    config = TINY | {"data": {"image_size": 16} | own | shared}
    snakemake(folder, config, snakefile=strange_checkout / "Snakefile")
    assert (folder / "results/report.html").is_file()
    assert not planned(folder, config, snakefile=strange_checkout / "Snakefile")
    assert not list(tmp_path.rglob("pwned")) and not (ROOT / "pwned").exists()


@pytest.mark.workflow
def test_a_checkout_in_braces_is_refused_in_one_line(tmp_path: Path) -> None:
    checkout = tmp_path / "a {b}"
    shutil.copytree(ROOT / "workflow", checkout / "workflow")
    shutil.copy(ROOT / "Snakefile", checkout)
    done = snakemake(tmp_path, TINY, "-n", snakefile=checkout / "Snakefile", check=False)
    told = done.stdout + done.stderr
    assert done.returncode == 1
    assert f"{checkout}: found braces in the path of the checkout; expected none" in told
    assert "Traceback" not in told


def test_shared_packs_in_braces_are_refused() -> None:
    with pytest.raises(ValidationError, match="shared without braces"):
        DataSettings.model_validate(TINY["data"] | {"shared": "packs/{group}"})
