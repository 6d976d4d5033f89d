"""Error rates of a table's models: those of the audit, in every format."""

import itertools
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reporting import errors, verification_pairs, write_scored

from mstkd import audit
from mstkd.config import ErrorRateSettings
from mstkd.errors import InputError
from mstkd.report.error_rates import MEASURES, render_error_rates
from mstkd.report.page import TABLE
from mstkd.report.scored import scores_path

GROUPS = ("A", "B", "C", "D")
PAIRS = verification_pairs(GROUPS, identities=30, pairs=300)  # 1,500 pairs of a kind a group


def models(folder: Path, seeds: int = 1, pairs=PAIRS) -> list[Path]:
    """Students whose scores have noise, so that each threshold has errors; D is the worst."""
    found = []
    for number, (name, seed) in enumerate(itertools.product(("SL", "DuL"), range(seeds))):
        noise = np.random.default_rng(number).normal(size=len(pairs))
        similarity = np.where(pairs.same, 0.6, 0.0) + noise * (0.2 + 0.05 * pairs.group1)
        wrong = errors(pairs, dict.fromkeys(GROUPS, 90), seed=number)
        found.append(
            write_scored(
                folder, pairs, wrong, similarity=np.clip(similarity, -1, 1), name=name, seed=seed
            )
        )
    return found


def settings(**others: object) -> ErrorRateSettings:
    given = {"caption": "Error rates of <these>.", "groups": GROUPS, "fmr": 0.1, "draws": 100}
    return ErrorRateSettings(**(given | others))


def render(folder: Path, metrics: list[Path], **others: object) -> dict[str, str]:
    outputs = [folder / "tables" / f"table2.{suffix}" for suffix in ("csv", "md", "tex", "html")]
    render_error_rates(settings(**others), metrics=metrics, outputs=outputs)
    return {path.suffix: path.read_text(encoding="utf-8") for path in outputs}


def test_rates_are_those_of_the_audit(tmp_path):
    metrics = models(tmp_path)
    render(tmp_path, metrics)
    found = pd.read_csv(tmp_path / "tables/table2.csv", keep_default_na=False, na_values=[""])
    scores = {name: scores_path(path) for name, path in zip(("SL", "DuL"), metrics, strict=True)}
    expected = audit(scores, fmrs=[0.1], draws=100).measures
    expected = expected[(expected["at"] == "fmr=0.1") & expected["measure"].isin(MEASURES)]
    assert found["name"].tolist() == expected["system"].tolist()
    assert (found["set"] == "specialized").all() and (found["seed"] == 0).all()
    for column in ("measure", "value", "low", "high", "genuine", "impostor"):
        assert found[column].tolist() == expected[column].tolist()
    assert not found["value"].isna().any()


def test_tables_show_percent_ratios_and_intervals(tmp_path):
    texts = render(tmp_path, models(tmp_path))
    frame = pd.read_csv(tmp_path / "tables/table2.csv", keep_default_na=False)
    rows = frame[frame["name"] == "DuL"].set_index(["measure", "group"])
    fmr = [float(rows.loc[("fmr", group), "value"]) for group in GROUPS]
    assert fmr == sorted(fmr)
    line = next(one for one in texts[".md"].splitlines() if one.startswith("|  | DuL | FMR |"))
    cells = [cell.strip() for cell in line.split("|")[4:-1]]
    assert [float(cell) for cell in cells[:4]] == pytest.approx(
        [100 * one for one in fmr], abs=0.01
    )
    assert float(cells[5]) == pytest.approx(fmr[3] / fmr[0], abs=0.01)
    assert float(cells[6]) == pytest.approx(fmr[3] / np.prod(fmr) ** 0.25, abs=0.01)
    table = re.search(TABLE, texts[".html"], re.DOTALL)[0]  # as the page takes it
    assert "Error rates of &lt;these&gt;." in table
    assert table.count('<th scope="row">FNMR</th>') == 2 * 2
    low, high = (100 * float(rows.loc[("fmr", "D"), one]) for one in ("low", "high"))
    assert f"{low:.2f} to {high:.2f}" in table
    for suffix in (".md", ".tex", ".html"):
        assert (
            "One threshold for all groups, that of a false match rate (FMR) of 0.1"
            in (texts[suffix])
        )
        assert "A group has 1,500 impostor and 1,500 genuine pairs at least" in texts[suffix]


def test_few_errors_make_no_rate(tmp_path):
    texts = render(tmp_path, models(tmp_path), fmr=0.0005)
    line = next(one for one in texts[".md"].splitlines() if one.startswith("|  | DuL | FMR |"))
    assert {cell.strip() for cell in line.split("|")[4:-1]} == {"–"}
    frame = pd.read_csv(tmp_path / "tables/table2.csv", keep_default_na=False)
    assert frame["note"].str.startswith("insufficient: ").all()


def test_seeds_are_rows_of_their_own(tmp_path):
    texts = render(tmp_path, models(tmp_path, seeds=2))
    for name, seed in itertools.product(("SL", "DuL"), (0, 1)):
        assert f"{name}, seed {seed} | FMR |" in texts[".md"]


def test_models_that_belong_in_no_table_are_refused(tmp_path):
    metrics = models(tmp_path)
    other = write_scored(tmp_path, PAIRS, PAIRS.same, loss="other")
    with pytest.raises(InputError, match="found loss other; expected a-KD"):
        render(tmp_path, [*metrics, other])
    with pytest.raises(InputError, match=r"found \.pdf; expected \.csv, \.md, \.tex, \.html"):
        render_error_rates(settings(), metrics=metrics, outputs=[tmp_path / "t.pdf"])


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no LaTeX")
def test_the_latex_fits_a_column(tmp_path):
    render(tmp_path, models(tmp_path))
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table2"],
        cwd=tmp_path / "tables",
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Overfull" not in done.stdout
