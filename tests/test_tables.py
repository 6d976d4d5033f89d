"""Tables: the paper's printed numbers, every format, seeds, and faults of the user."""

from __future__ import annotations

import html.parser
import io
import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reporting import errors, verification_pairs, write_metrics, write_scored
from rich.console import Console

from mstkd.artifacts.records import Metrics, NetworkSize, Provenance, Source, read_record
from mstkd.config import ClaimsSettings, TableSettings, validate
from mstkd.errors import InputError
from mstkd.evaluation.contrasts import spread_contrast
from mstkd.evaluation.spread import SER, STD, Spread
from mstkd.report import grid
from mstkd.report.claims import compute_claims
from mstkd.report.estimates import models_told
from mstkd.report.figures import render_accuracies
from mstkd.report.rounding import rounded, signed
from mstkd.report.scored import read_scored, scores_path
from mstkd.report.shown import shown_table
from mstkd.report.tables import (
    published_table,
    read_table,
    read_tables,
    render_table,
    show_tables,
    table_frame,
    table_rows,
)

RACES = ("African", "Asian", "Caucasian", "Indian")
GROUPS = ("A", "B", "C", "D")
PAIRS = verification_pairs(GROUPS)


def settings(groups: tuple[str, ...] = GROUPS, **others: object) -> TableSettings:
    return TableSettings(groups=groups, **{"caption": "A caption", **others})


def accuracies(*values: float) -> dict[str, float]:
    return dict(zip(GROUPS, values, strict=True))


def write_published(folder: Path, number: int) -> list[Path]:
    """The paper's table as files of metrics that hold the printed group accuracies alone."""
    paths = []
    for _, row in published_table(number).iterrows():
        teacher = row["kind"] == "teacher"
        paths.append(
            write_metrics(
                folder,
                {race: row[race] for race in RACES},
                set_=row["teacher_set"],
                name=row["name"],
                loss=None if teacher else row["kind"],
                kind="teacher" if teacher else "student",
                backbone=row["teacher_backbone"],
            )
        )
    return paths


def render(metrics: list[Path], output: Path, **others: object) -> str:
    """The table as text, less what made it, and less the notes that every format has."""
    render_table(settings(**others), metrics=metrics, outputs=[output])
    text = re.sub(r"\n+(<!--|%) mstkd-provenance .*\n$", "\n", output.read_text(encoding="utf-8"))
    if output.suffix == ".csv":
        return text
    assert text.count("Bold: the best of a section. Accuracies in percent") == 1
    return text.partition("\n\nBold: ")[0] if output.suffix == ".md" else text


@pytest.mark.parametrize("number", range(1, 7))
def test_published_numbers_come_out_of_the_published_accuracies(
    tmp_path: Path, number: int
) -> None:
    """All 40 rows agree to the last digit, once halves round up (87.825 is printed 87.83)."""
    text = render(write_published(tmp_path, number), tmp_path / "table.md", groups=RACES)
    rows = [line.replace("*", "").split("|")[2:-1] for line in text.splitlines()[4:]]
    printed = published_table(number)
    columns = [*RACES, "global_acc", "std", "ser"]
    expected = [
        [row["name"], *(f"{row[column]:.2f}" for column in columns)]
        for _, row in printed.iterrows()
    ]
    assert [[cell.strip() for cell in row] for row in rows] == expected


def test_best_of_table_1_is_bold_for_each_set_of_teachers(tmp_path: Path) -> None:
    text = render(write_published(tmp_path, 1), tmp_path / "table.md", groups=RACES)
    bold = [re.findall(r"\*\*(.+?)\*\*", line) for line in text.splitlines()[4:]]
    assert bold[0] == ["89.82", "85.25", "4.90", "2.13"]
    assert bold[1:4] == [["89.63"], ["92.77"], ["89.18"]]
    assert bold[5] == ["87.30", "87.83", "2.09", "1.52"]
    labels = [line.split("|")[1].strip() for line in text.splitlines()[4:]]
    assert labels == ["Specialized", "", "", "", "Baseline", "", "", ""]


def test_printed_paper_holds_six_tables() -> None:
    assert [len(published_table(number)) for number in range(1, 7)] == [8, 6, 6, 8, 6, 6]
    with pytest.raises(InputError, match="found 7; expected 1 to 6"):
        published_table(7)


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (87.825, 2, "87.83"),  # stored as 87.82499...
        (1.005, 2, "1.01"),
        (1.004999, 2, "1.00"),
        (99.5, 0, "100"),
        (0.1, 4, "0.1000"),
        (float("nan"), 2, "–"),
        (float("inf"), 2, "–"),
    ],
)
def test_rounding(value: float, decimals: int, text: str) -> None:
    assert rounded(value, decimals) == text


@pytest.mark.parametrize(
    ("value", "text", "with_sign"),
    [
        (-0.004, "0.00", "0.00"),
        (-0.0, "0.00", "0.00"),
        (-0.005, "-0.01", "−0.01"),  # away from zero, as print rounds a size
        (0.125, "0.13", "+0.13"),  # which Python's own formats round to 0.12
        (2.675, "2.68", "+2.68"),  # stored as 2.67499...
        (10, "10.00", "+10.00"),
    ],
)
def test_halves_go_up_and_there_is_no_minus_zero(value: float, text: str, with_sign: str) -> None:
    assert (rounded(value, 2), signed(value)) == (text, with_sign)


def test_rounding_stands_in_one_place() -> None:
    """No module of the report rounds a number with two digits by itself."""
    for path in Path("mstkd/report").iterdir():
        if path.suffix in (".py", ".html"):
            assert not re.search(r":[+]?\.2f|%\.2f", path.read_text()), path.name


def test_seeds_are_averaged_after_std_and_ser(tmp_path: Path) -> None:
    """Two opposite seeds: the STD of the mean accuracies would be 0, the mean STD is not."""
    metrics = [
        write_metrics(tmp_path, accuracies(90, 92, 92, 94), seed=0),
        write_metrics(tmp_path, accuracies(94, 92, 92, 90), seed=1),
        write_metrics(tmp_path, accuracies(91, 91, 91, 95), name="DuL"),
    ]
    render(metrics, tmp_path / "table.csv")
    first, second = read_table(tmp_path / "table.csv").to_dict("records")
    assert (first["A"], first["seeds"], second["seeds"]) == (92, 2, 1)
    assert first["std"] == pytest.approx(np.std([90, 92, 92, 94], ddof=1), abs=1e-12)
    assert first["ser"] == pytest.approx(10 / 6, abs=1e-12)
    assert first["A_seed_std"] == pytest.approx(np.sqrt(8), abs=1e-12)
    assert first["std_seed_std"] == pytest.approx(0, abs=1e-9)
    assert np.isnan(second["A_seed_std"])
    line = render(metrics, tmp_path / "table.md").splitlines()[4]
    assert "**92.00** ± 2.83" in line
    latex = render(metrics, tmp_path / "table.tex").splitlines()
    (place,) = [
        place for place, line in enumerate(latex) if line.startswith(r"SL & \textbf{92.00}")
    ]
    assert latex[place + 1].startswith(r"\ $\pm$ & 2.83 & ")
    assert latex[place + 2].startswith("DuL & 91.00 &")
    assert [line for line in latex if "means over 1 to 2 seeds" in line] == latex[-3:-2]


def test_csv_keeps_every_digit(tmp_path: Path) -> None:
    exact = accuracies(100 / 3, 200 / 3, 50.1, 70.7)
    text = render([write_metrics(tmp_path, exact)], tmp_path / "table.csv")
    assert text.splitlines()[0] == "set,name,A,B,C,D,global_accuracy,std,ser,seeds"
    row = read_table(tmp_path / "table.csv").iloc[0]
    assert row["A"] == pytest.approx(100 / 3, rel=1e-15)
    assert row["std"] == pytest.approx(np.std(list(exact.values()), ddof=1), rel=1e-14)


def test_groups_stand_in_the_order_of_the_settings(tmp_path: Path) -> None:
    path = write_metrics(tmp_path, accuracies(1, 2, 3, 4))
    text = render([path], tmp_path / "table.csv", groups=("D", "B", "A", "C"))
    assert text.startswith("set,name,D,B,A,C,")
    assert text.splitlines()[1].startswith("specialized,SL,4.0,2.0,1.0,3.0,")


def test_ties_are_judged_by_what_is_shown(tmp_path: Path) -> None:
    metrics = [
        write_metrics(tmp_path, accuracies(90.001, 80, 80, 80), name="SL"),
        write_metrics(tmp_path, accuracies(90.002, 80, 80, 79), name="DuL"),
    ]
    lines = render(metrics, tmp_path / "table.md").splitlines()[4:]
    assert all("**90.00**" in line for line in lines)
    lines = render(metrics, tmp_path / "table.md", decimals=3).splitlines()[4:]
    assert ["**90.001**" in lines[0], "**90.002**" in lines[1]] == [False, True]


def test_controls_have_names_and_no_best_where_alone(tmp_path: Path) -> None:
    none = write_metrics(
        tmp_path,
        accuracies(80, 81, 82, 83),
        set_="none",
        name="none",
        loss="none",
        backbone="another",
    )
    single = write_metrics(tmp_path, accuracies(81, 81, 82, 83), set_="single", name="direct")
    student = write_metrics(tmp_path, accuracies(84, 81, 82, 83))
    alone = render([student, none], tmp_path / "table.md").splitlines()
    assert alone[-1].startswith("| Controls | no distillation | 80.00 |")
    assert "**" not in "".join(alone)
    two = render([student, single, none], tmp_path / "table.md").splitlines()
    assert two[-2].startswith("| Controls | single teacher | **81.00** | **81.00** |")
    assert two[-1].startswith("|  | no distillation | 80.00 | **81.00** |")


def write_variants(folder: Path) -> list[Path]:
    """Two lambdas, two margins of the teachers, and both controls; lambda 10 is the better."""
    metrics = [
        write_metrics(
            folder,
            accuracies(80 + weight, 81, 82, 83 + margin),
            set_=set_,
            name=name,
            backbone=f"small+margin={margin}",
            loss=f"a-KD+backbone=wide+kd_weight={weight}",
        )
        for set_, name in (("specialized", "SL"), ("single", "direct"))
        for margin in (0.3, 0.5)
        for weight in (1, 10)
    ]
    none = {"set_": "none", "name": "none", "loss": "none+backbone=wide", "backbone": "wide"}
    return [*metrics, write_metrics(folder, accuracies(80, 80, 80, 80), **none)]


def test_variants_are_rows_with_their_values_in_a_column(tmp_path: Path) -> None:
    metrics = write_variants(tmp_path)
    lines = render(metrics, tmp_path / "table.md").splitlines()
    assert lines[2].startswith("|  |  |  | A | B |")
    assert lines[3].startswith("| --- | --- | --- | ---: |")
    values = r"teachers margin={}; backbone=wide, kd\_weight={}"
    cells = [[cell.strip() for cell in line.split("|")[1:5]] for line in lines[4:]]
    assert [row[:3] for row in cells] == [
        ["Specialized", "SL", values.format(0.3, 1)],
        ["", "SL", values.format(0.3, 10)],
        ["", "SL", values.format(0.5, 1)],
        ["", "SL", values.format(0.5, 10)],
        ["Controls", "single teacher", values.format(0.3, 1)],
        ["", "single teacher", values.format(0.3, 10)],
        ["", "single teacher", values.format(0.5, 1)],
        ["", "single teacher", values.format(0.5, 10)],
        ["", "no distillation", "backbone=wide"],
    ]
    assert [row[3] for row in cells[:4]] == ["81.00", "**90.00**", "81.00", "**90.00**"]
    latex = render(metrics, tmp_path / "table.tex").splitlines()
    assert r"\begin{tabular}{@{}llrrrrrrr@{}}" in latex
    assert {line.count("&") for line in latex if line.endswith(r"\\")} == {8, 0}
    page = render(metrics, tmp_path / "table.html")
    assert page.count('<th scope="row">') == 18
    assert "<thead><tr><td></td><td></td><th" in page


def test_variants_are_read_again_from_their_table(tmp_path: Path) -> None:
    render(write_variants(tmp_path), tmp_path / "table.csv")
    frame = read_table(tmp_path / "table.csv")
    assert list(frame.columns)[:4] == ["set", "name", "variant", "A"]
    assert frame["A"].tolist() == [81, 90, 81, 90, 81, 90, 81, 90, 80]
    for width in (80, 140):
        console = Console(file=io.StringIO(), width=width)
        show_tables([tmp_path / "table.csv"], console=console)
        output = console.file.getvalue()  # type: ignore[attr-defined]
        assert "…" not in output, "a narrow terminal breaks lines and cuts nothing off"
    assert re.search(r"SL +teachers margin=0\.3; backbone=wide, kd_weight=10 +90\.00", output)
    render([write_metrics(tmp_path, accuracies(1, 2, 3, 4))], tmp_path / "plain.csv")
    assert "variant" not in read_table(tmp_path / "plain.csv")


def test_a_group_may_not_have_the_name_of_a_column(tmp_path: Path) -> None:
    seeds = [
        write_metrics(tmp_path, accuracies(1, 2, 3, 4), loss="a-KD+x=1", seed=n) for n in (0, 1)
    ]
    columns = set(table_frame(table_rows(seeds, GROUPS), GROUPS)) - set(GROUPS)
    columns |= {f"A_{name}" for name in ("low", "high", "pairs", "published", "difference")}
    assert {"set", "variant", "std", "A_seed_std"} <= columns
    for column in (*columns, "STD"):
        with pytest.raises(InputError, match=rf"groups\.1: found '{column}'; expected none of"):
            validate(TableSettings, {"caption": "", "groups": ["A", column]}, "--settings")


def test_variants_of_another_loss_or_backbone_are_no_rows_of_a_table(tmp_path: Path) -> None:
    good, *_ = write_variants(tmp_path)
    loss = write_metrics(tmp_path, accuracies(1, 2, 3, 4), loss="EAF-KD", backbone="small")
    backbone = write_metrics(tmp_path, accuracies(1, 2, 3, 4), backbone="wide+margin=0.3")
    for fault, found in ((loss, "loss EAF-KD"), (backbone, "backbone wide; expected small")):
        with pytest.raises(InputError, match=found):
            render([good, fault], tmp_path / "table.md")


def test_undefined_ser_is_a_dash_and_never_best(tmp_path: Path) -> None:
    metrics = [
        write_metrics(tmp_path, accuracies(100, 81, 82, 83), name="SL"),
        write_metrics(tmp_path, accuracies(84, 81, 82, 83), name="DuL"),
    ]
    first, second = render(metrics, tmp_path / "table.md").splitlines()[4:]
    assert first.endswith("| – |")
    assert second.endswith("| **1.19** |")
    assert render(metrics, tmp_path / "table.csv").splitlines()[1].endswith(",,1")
    assert render(metrics, tmp_path / "table.tex").count("-- \\\\") == 1


def test_caption_and_names_are_escaped(tmp_path: Path) -> None:
    path = write_metrics(tmp_path, accuracies(84, 81, 82, 83), name="my_SL")
    caption = "Loss <a> & 5 % of λ_1 | {x}"
    assert r"Loss \textless{}a\textgreater{} \& 5 \% of $\lambda$\_1" in render(
        [path], tmp_path / "table.tex", caption=caption
    )
    assert r"my\_SL" in (tmp_path / "table.tex").read_text()
    page = render([path], tmp_path / "table.html", caption=caption)
    assert "<caption>Loss &lt;a&gt; &amp; 5 %" in page
    assert "<title>Loss &lt;a&gt; &amp; 5 %" in page
    markdown = render([path], tmp_path / "table.md", caption=caption)
    assert markdown.startswith("Loss \\<a\\> & 5 % of λ\\_1 \\| {x}")
    assert r"| my\_SL |" in markdown


def test_html_is_balanced_and_marks_the_best(tmp_path: Path) -> None:
    text = render(write_published(tmp_path, 3), tmp_path / "table.html", groups=RACES)
    open_tags: list[str] = []

    class Balance(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag != "meta":
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Balance().feed(text)
    assert open_tags == []
    assert text.count('<td class="best"><strong>') == 14
    assert text.count('<table class="mstkd-table">') == 1
    assert "default-src 'none'" in text


def test_latex_has_a_rule_between_sections(tmp_path: Path) -> None:
    lines = render(write_published(tmp_path, 2), tmp_path / "table.tex", groups=RACES).splitlines()
    rows = [line for line in lines if line.endswith(r"\\")]
    assert [line.count("&") for line in rows] == [7, 0, 7, 7, 7, 0, 7, 7, 7]
    assert lines.count(r"\midrule") == 2
    assert r"\begin{tabular}{@{}lrrrrrrr@{}}" in lines


def test_one_call_writes_every_format_or_none(tmp_path: Path) -> None:
    path = write_metrics(tmp_path, accuracies(84, 81, 82, 83))
    outputs = [tmp_path / "out" / f"table.{suffix}" for suffix in ("csv", "md", "tex", "html")]
    render_table(settings(), metrics=[path], outputs=outputs)
    assert all(output.stat().st_size for output in outputs)
    assert (
        len(list((tmp_path / "out").iterdir())) == 6
    )  # what made the CSV file, and what its columns mean
    with pytest.raises(InputError, match=r"found \.pdf; expected \.csv, \.md, \.tex, \.html"):
        render_table(settings(), metrics=[path], outputs=[*outputs, tmp_path / "table.pdf"])


def test_faults_name_the_file(tmp_path: Path) -> None:
    good = write_metrics(tmp_path, accuracies(84, 81, 82, 83))
    three = write_metrics(tmp_path, {"A": 1.0, "B": 2.0, "C": 3.0}, name="DuL")
    loss = write_metrics(tmp_path, accuracies(84, 81, 82, 83), loss="EAF-KD")
    kind = write_metrics(tmp_path, accuracies(84, 81, 82, 83), kind="teacher", loss=None)
    backbone = write_metrics(tmp_path, accuracies(84, 81, 82, 83), backbone="iresnet50")
    for fault, found in (
        (three, "groups A, B, C; expected A, B, C, D"),
        (loss, "loss EAF-KD; expected a-KD"),
        (kind, "kind teacher; expected student"),
        (backbone, "backbone iresnet50; expected iresnet34"),
        (good, "student/iresnet34/specialized/SL/a-KD with seed 0"),
    ):
        with pytest.raises(InputError, match=f"{fault}: found {found}".replace("+", r"\+")):
            render([good, fault], tmp_path / "table.md")
    with pytest.raises(InputError, match="found no file"):
        render([], tmp_path / "table.md")
    assert not (tmp_path / "table.md").exists()


def test_tables_are_shown_on_the_terminal(tmp_path: Path) -> None:
    metrics = [
        write_metrics(tmp_path, accuracies(84, 81, 82, 83)),
        write_metrics(tmp_path, accuracies(100, 80, 80, 80), set_="baseline"),
        write_metrics(tmp_path, accuracies(99, 80, 80, 80), set_="baseline", name="DuL"),
    ]
    render(metrics, tmp_path / "tables" / "students[1].csv")
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    show_tables([tmp_path / "tables"], console=console)
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[1m100.00\x1b[0m" in output
    assert "\x1b[1m84.00" not in output
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    assert "±" not in plain
    seeds = [write_metrics(tmp_path, accuracies(84, 81, 82, 83 + n), seed=n) for n in (0, 1)]
    render(seeds, tmp_path / "seeds.csv")
    console = Console(file=io.StringIO(), width=120)
    show_tables([tmp_path / "seeds.csv"], console=console)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert "83.50 ± 0.71" in told
    assert "± is the sample standard deviation over seeds." in told
    assert "students[1]" in plain
    assert re.search(r"SL +84\.00 +81\.00 +82\.00 +83\.00 +82\.50 +1\.29 +1\.19", plain)
    assert re.search(r"SL +100\.00 .* –", plain)


def test_reading_refuses_what_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found no CSV file"):
        read_tables(tmp_path)
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="found no column 'set'"):
        read_tables(tmp_path)
    with pytest.raises(InputError, match="found No such file"):
        show_tables([tmp_path / "none.csv"])
    other.write_text('"\n')
    with pytest.raises(InputError, match="expected a table"):
        read_table(other)
    other.write_text("set,name,A,global_accuracy,std,ser,seeds\nstrange,SL,1,1,1,1,1\n")
    with pytest.raises(InputError, match="found an unknown set"):
        read_table(other)


def test_name_that_pandas_reads_as_missing_stays_a_name() -> None:
    frame = pd.DataFrame({"set": ["none"], "name": ["none"], "A": [1.0], "seeds": [1]})
    assert shown_table(frame, 1).sections[0][1][0][0] == ("no distillation",)


def test_report_runs_without_torch() -> None:
    modules = [path.stem for path in Path("mstkd/report").glob("[a-z]*.py")]
    code = f"import sys; {'; '.join(f'import mstkd.report.{name}' for name in modules)}"
    code += "; assert not [m for m in sys.modules if m.split('.')[0] in ('torch', 'torchvision')]"
    code += "; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------- what stands beside a number


def scored_models(folder: Path, groups: tuple[str, ...] = GROUPS, seeds: int = 1) -> list[Path]:
    """Students of both sets and two adaptors."""
    pairs = verification_pairs(groups, identities=12, pairs=60)
    metrics = []
    for number, (set_, name) in enumerate(
        itertools.product(("specialized", "baseline"), ("SL", "DLDP"))
    ):
        for seed in range(seeds):
            values = [90 + number, 88 - seed, 92, 95 - number]
            wrong = errors(pairs, dict(zip(groups, values, strict=True)), seed=10 * number + seed)
            who = {"set": set_, "name": name, "loss": "EAF-KD", "seed": seed}
            metrics.append(write_scored(folder, pairs, wrong, **who))
    return metrics


def beside(folder: Path, metrics: list[Path], suffix: str, **others: object) -> str:
    """A table with intervals, as text."""
    output = folder / f"table3{suffix}"
    render_table(settings(draws=100, **others), metrics=metrics, outputs=[output])
    return output.read_text(encoding="utf-8")


def test_intervals_and_pairs_stand_a_cell_away(tmp_path: Path) -> None:
    metrics = scored_models(tmp_path)
    beside(tmp_path, metrics, ".csv")
    frame = read_table(tmp_path / "table3.csv")
    row = frame.iloc[1]
    assert row["name"] == "DLDP"
    for column in (*GROUPS, "global_accuracy"):
        assert row[f"{column}_low"] < row[column] < row[f"{column}_high"]
    assert 0 <= row["std_low"] < row["std_high"] and 1 <= row["ser_low"] < row["ser_high"]
    assert [row[f"{group}_pairs"] for group in GROUPS] == [600] * 4
    low, high = (rounded(row[f"A_{one}"], 2) for one in ("low", "high"))
    page = beside(tmp_path, metrics, ".html")
    assert f"{low} to {high}" in page.partition("<details")[2]
    assert page.count("<td>600</td>") == 4
    markdown = beside(tmp_path, metrics, ".md")
    assert re.search(rf"\|  \| 95 % \| .*{re.escape(low)} to {re.escape(high)}", markdown)
    for text in (page, markdown, beside(tmp_path, metrics, ".tex").replace("\\%", "%")):
        assert "A group has 600 pairs, of which one is 0.17 points." in text
        assert "Each model was trained once, with one seed." in text
        assert "those of STD and SER are of what is not noise" in text
    assert "Intervals stand in table3.csv." in beside(tmp_path, metrics, ".tex")


def test_limits_are_the_claims_and_do_not_hang_on_the_rows_beside(tmp_path: Path) -> None:
    """So that one table can be asked for alone; STD and SER are drawn, and drawn alike."""
    metrics = scored_models(tmp_path, seeds=2)
    beside(tmp_path, metrics, ".csv")
    whole = read_table(tmp_path / "table3.csv")
    beside(tmp_path, metrics[2:4], ".csv")
    alone = read_table(tmp_path / "table3.csv")
    limits = [column for column in whole if column.endswith(("_low", "_high"))]
    assert len(limits) == 2 * 7
    found = whole[whole["name"] == "DLDP"].iloc[0]
    np.testing.assert_allclose(
        alone.iloc[0][limits].astype(float), found[limits].astype(float), rtol=1e-9
    )
    told = compute_claims(
        ClaimsSettings(draws=100), metrics=metrics[1::2], output=tmp_path / "claims.json"
    )
    beside(tmp_path, metrics[1::2], ".csv")
    for (_, row), model in zip(
        read_table(tmp_path / "table3.csv").iterrows(), told.models[:4], strict=True
    ):
        assert (row["set"], row["name"]) == (model.subject.set, model.subject.name)
        for column in (*GROUPS, "global_accuracy", "std", "ser"):
            one = model.groups.get(column) or getattr(model, column)
            limits = [row[f"{column}_low"], row[f"{column}_high"]]
            np.testing.assert_allclose(limits, [one.low, one.high], rtol=1e-9)


def test_scores_of_another_model_are_refused(tmp_path: Path) -> None:
    metrics = scored_models(tmp_path)
    shutil.copy(scores_path(metrics[1]), scores_path(metrics[0]))
    with pytest.raises(InputError, match=r"metrics\.json: found other accuracies than its scores"):
        beside(tmp_path, metrics, ".csv")


def test_a_row_of_several_seeds_has_the_interval_of_their_mean(tmp_path: Path) -> None:
    metrics = scored_models(tmp_path, seeds=3)
    beside(tmp_path, metrics, ".csv")
    frame = read_table(tmp_path / "table3.csv")
    scored = read_scored(metrics)
    model = models_told(scored, scored.rates(), 100)[0]
    assert frame["seeds"].tolist() == [3] * 4
    for column, spread in (("A", 0), ("B", 1), ("global_accuracy", 0.25)):
        row = frame.iloc[0]
        assert row[f"{column}_low"] < row[column] < row[f"{column}_high"]
        half = (row[f"{column}_high"] - row[f"{column}_low"]) / 2
        alone = model.groups.get(column) or model.global_accuracy
        # Student's quantile of the seeds' spread, 4.30 of three, if it is more than the test's.
        assert half > 4.30 * spread / np.sqrt(3)
        if not spread:
            assert half < alone.high - alone.low
    for _, row in frame.iterrows():
        assert row["std_low"] <= row["std"] + 1 and row["std_high"] > row["std"] - 1
    note = "means over 3 seeds, each a training of its own; ± is the sample standard deviation"
    for suffix in (".md", ".tex", ".html"):
        text = beside(tmp_path, metrics, suffix).replace(r"$\pm$", "±")
        assert note in text
    assert "DLDP & " in beside(tmp_path, metrics, ".tex")


def test_the_mean_of_one_seed_is_that_seed(tmp_path: Path) -> None:
    """Spread's interval of a model alone, by the contrast that a row of several seeds takes."""
    scored = read_scored(scored_models(tmp_path))
    rates = scored.rates()["own"]
    for measure in (STD, SER):
        spread = Spread(rates, measure, draws=500)
        alone = spread.intervals()
        for place in range(4):
            found = spread_contrast(spread, np.eye(4)[[place]])
            assert found.value == pytest.approx(alone.value[place])
            reach = alone.high[place] - alone.low[place]
            assert found.low == pytest.approx(alone.low[place], abs=0.1 * reach)
            assert found.high == pytest.approx(alone.high[place], abs=0.1 * reach)


def test_no_group_is_called_as_what_stands_beside_the_groups(tmp_path: Path) -> None:
    """Its accuracies would be overwritten in the table, or in the curve of a list."""
    metrics = scored_models(tmp_path, seeds=2)
    for path in metrics:
        network = NetworkSize(parameters=1, multiply_adds=1)
        read_record(Metrics, path).model_copy(update={"network": network}).write(path)
    beside(tmp_path, metrics, ".csv")
    columns = {*read_table(tmp_path / "table3.csv"), *grid._Who._fields, "value"}
    assert {"parameters", "multiply_adds", "A_pairs", "kind"} <= columns
    for column in columns - set(GROUPS):
        given = {"caption": "A caption", "groups": [column, "B"]}
        with pytest.raises(InputError, match="none of the program's own names"):
            validate(TableSettings, given, "table")


@pytest.mark.parametrize(
    ("operations", "told"),
    [
        ([2_457_600], "2.46 million multiplications an image."),
        ([220_965_376, 9_000_000_000], "220.97 to 9000.00 million multiplications an image."),
        ([9_150_000_000, 12_300_000_000], "9.15 to 12.30 billion multiplications an image."),
    ],
)
def test_networks_are_told_in_a_unit_that_shows_them(
    tmp_path: Path, operations: list[int], told: str
) -> None:
    metrics = scored_models(tmp_path)
    for path, count in zip(metrics, itertools.cycle(operations), strict=False):
        network = NetworkSize(parameters=210_424, multiply_adds=count)
        read_record(Metrics, path).model_copy(update={"network": network}).write(path)
    text = beside(tmp_path, metrics, ".md")
    assert f"A network has 0.21 million parameters and takes {told}" in text


def test_the_papers_numbers_stand_beside_ours(tmp_path: Path) -> None:
    metrics = scored_models(tmp_path, RACES)
    given = {"groups": RACES, "published": True}
    beside(tmp_path, metrics, ".csv", **given)
    printed = published_table(3).set_index(["teacher_set", "name"])
    for _, row in read_table(tmp_path / "table3.csv").iterrows():
        paper = printed.loc[(row["set"], row["name"])].rename({"global_acc": "global_accuracy"})
        for column in (*RACES, "global_accuracy", "std", "ser"):
            assert row[f"{column}_published"] == paper[column]
            assert row[f"{column}_difference"] == pytest.approx(row[column] - paper[column])
    # African 90, which the paper prints as 92.12.
    assert "paper 92.12 (−2.12)</span>" in beside(tmp_path, metrics, ".html", **given)
    assert re.search(r"\|  \| paper \| 92\.12 \|", beside(tmp_path, metrics, ".md", **given))
    latex = beside(tmp_path, metrics, ".tex", **given)
    assert re.search(r"\\ difference & \$-\$2\.12 &", latex)
    for text in (latex, beside(tmp_path, metrics, ".html", **given)):
        assert "Paper: what MST-KD prints of the same row; difference: ours less it." in text
    plain = beside(tmp_path, metrics, ".html", groups=RACES)
    assert 'class="paper"' not in plain and "Paper:" not in plain


def test_what_the_paper_does_not_print_has_nothing_beside_it(tmp_path: Path) -> None:
    race = dict(zip(RACES, (90, 90, 90, 91), strict=True))
    known = write_metrics(tmp_path, race, name="T-African", kind="teacher", loss=None)
    none = [
        write_metrics(tmp_path, race, name="T-all", set_="single", kind="teacher", loss=None),
        write_metrics(tmp_path, race, name="T-Asian", kind="teacher", loss=None, seed=4),
        write_metrics(
            tmp_path, race, name="T-Asian", kind="teacher", loss=None, backbone="iresnet34+margin=1"
        ),
    ]
    render([known, *none], tmp_path / "table.csv", groups=RACES, published=True)
    frame = read_table(tmp_path / "table.csv").set_index(["name", "variant"])
    assert frame.loc[("T-African", ""), "African_published"] == 89.82
    assert frame.loc[("T-Asian", ""), "African_published"] == 70.85
    assert np.isnan(frame.loc[("T-all", ""), "African_published"])
    assert np.isnan(frame.loc[("T-Asian", "margin=1"), "African_published"])
    other = write_metrics(tmp_path, race, name="an", loss="other")
    assert "published" not in render([other], tmp_path / "o.csv", groups=RACES, published=True)


# ---------------------------------------------------------------- an article

ARTICLE = r"""\documentclass[10pt,twocolumn]{article}
\usepackage{booktabs,graphicx}
\begin{document}
See Table~\ref{tab:table3}.
\input{table3}
\end{document}
"""


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no LaTeX")
@pytest.mark.parametrize(
    ("groups", "seeds"),
    [(RACES, 1), (RACES, 3), (tuple(f"group-{number}" for number in range(16)), 3)],
)
@pytest.mark.parametrize("alone", [True, False])
def test_a_table_fits_a_column_of_an_article(
    tmp_path: Path, groups: tuple[str, ...], seeds: int, alone: bool
) -> None:
    """With no box too wide, and its label known; too wide a table is shrunk, and only that."""
    pairs = verification_pairs(groups, identities=12, pairs=60)
    metrics = []
    for seed, name in itertools.product(range(seeds), ("SL", "an-adaptor_of-some-length")):
        values = dict(zip(groups, itertools.cycle((90, 91, 92, 93 - seed)), strict=False))
        wrong = errors(pairs, values, seed=seed)
        metrics.append(write_scored(tmp_path, pairs, wrong, name=name, loss="EAF-KD", seed=seed))
    given = {"groups": groups, "published": groups == RACES or None, "caption": "Accuracy (%) <&>"}
    latex = beside(tmp_path, metrics, ".tex", **given)
    document = "table3"
    if not alone:
        document = "article"
        (tmp_path / "article.tex").write_text(ARTICLE)
    for _ in range(2):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", document],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / f"{document}.pdf").stat().st_size > 1000
    assert "Overfull" not in done.stdout
    assert "undefined" not in done.stdout
    assert "LaTeX Warning: Label(s) may have changed" not in done.stdout
    assert r"\resizebox" in latex


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no LaTeX")
def test_the_papers_own_tables_are_shrunk_by_less_than_a_tenth(tmp_path: Path) -> None:
    """By its natural width: Table 1, whose names are the longest, and all beside the numbers."""
    race = dict(zip(RACES, (90, 90, 90, 91), strict=True))
    metrics = [
        write_metrics(tmp_path, race, name=f"T-{group}", kind="teacher", loss=None, seed=seed)
        for group, seed in itertools.product(RACES, (0, 1))
    ]
    text = render(metrics, tmp_path / "table1.tex", groups=RACES, published=True)
    told = text.replace(
        r"\resizebox{\ifdim\width>\columnwidth \columnwidth\else\width\fi}{!}{%",
        r"\sbox0{%",
    ).replace(r"\end{tabular}}", r"\end{tabular}}\typeout{widths \the\wd0 \space\the\columnwidth}")
    (tmp_path / "measured.tex").write_text(told)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "measured"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    found = re.search(r"widths ([\d.]+)pt ([\d.]+)pt", done.stdout)
    assert found, done.stdout[-3000:]
    width, column = map(float, found.groups())
    assert 150 < width < column / 0.9


# ---------------------------------------------------------------- of one config


def evaluated(folder: Path, name: str, *, folds: int = 10, pack: str = "p", **who: str) -> Path:
    """A file of metrics that says how it came about: `pack` is the content of group A's."""
    made = Provenance(
        step="evaluate",
        settings={"recipe": 2, "folds": folds},
        sources=[
            Source(path="model.safetensors", sha256="0" * 64),  # of the weights, each model's own
            Source(path="../packs/A.h5", sha256=64 * pack),
            Source(path="../packs/B.h5", sha256="b" * 64),
        ],
    )
    wrong = PAIRS.identity1 % 5 == 0
    return write_scored(folder, PAIRS, wrong, name=name, provenance=made)


@pytest.mark.parametrize(
    ("other", "found", "expected"),
    [
        ({"folds": 4}, "evaluated by folds: 4", "10"),
        ({"pack": "q"}, f"evaluated on A.h5: content {'q' * 12}", f"content {'p' * 12}"),
    ],
)
@pytest.mark.parametrize("step", ["table", "figure", "claims"])
def test_metrics_of_two_configs_make_no_table_figure_or_claim(
    tmp_path: Path, step: str, other: dict[str, int | str], found: str, expected: str
) -> None:
    alike = [evaluated(tmp_path, "SL"), evaluated(tmp_path, "DuL")]
    first, last = alike[0], evaluated(tmp_path, "DLDP", **other)

    def make(metrics: list[Path]) -> None:
        if step == "table":
            render_table(settings(), metrics=metrics, outputs=[tmp_path / "t.csv"])
        elif step == "figure":
            render_accuracies(settings(), metrics=metrics, outputs=[tmp_path / "t.png"])
        else:
            compute_claims(ClaimsSettings(draws=100), metrics=metrics, output=tmp_path / "c.json")

    make(alike)
    older = write_metrics(tmp_path, accuracies(1, 2, 3, 4), name="older")  # says nothing of itself
    with pytest.raises(InputError) as error:
        make([older, *alike, last])
    assert str(error.value) == (
        f"{last}: found {found}; expected {expected}, as in {first}: "
        "rows of one config (mstkd check tells them apart)"
    )
