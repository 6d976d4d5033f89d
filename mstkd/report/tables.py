"""Tables 1 to 6 of the paper: accuracies of the groups, global accuracy, STD and SER.

Every format is made from one frame, the one that the CSV file holds, so a table can be shown
again from its CSV file alone.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as TerminalTable
from rich.text import Text

from mstkd.atomic import replacing
from mstkd.config import TableSettings
from mstkd.errors import InputError
from mstkd.report.rows import (
    SECTIONS,
    SUMMARIES,
    by_section,
    check_comparable,
    read_rows,
    row_label,
)

HEADINGS = {"global_accuracy": "Global Acc", "std": "STD", "ser": "SER"}
LOWEST_IS_BEST = ("std", "ser")
UNDEFINED = "–"


@dataclass(frozen=True)
class Cell:
    """A number as it is shown."""

    value: str
    seed_std: str | None  # where there are several seeds
    best: bool  # of its column, in its section


@dataclass(frozen=True)
class Shown:
    """A table as it is shown: sections of labelled rows of cells."""

    columns: tuple[str, ...]
    sections: tuple[tuple[str, tuple[tuple[str, tuple[Cell, ...]], ...]], ...]


def render_table(
    settings: TableSettings, *, metrics: Sequence[Path], outputs: Sequence[Path]
) -> None:
    """Write one table in the formats that the outputs' suffixes name.

    Args:
        settings: caption, columns and decimals.
        metrics: metrics.json files in the order of the rows; seeds of a model share a row.
        outputs: paths ending in .csv (full precision), .md, .tex or .html (a fragment).

    Raises:
        InputError: a suffix is unknown, a metrics file lacks a group, or the files do not
            belong in one table.
    """
    for output in outputs:
        if output.suffix not in FORMATS:
            raise InputError(output, found=output.suffix, expected=", ".join(FORMATS))
    frame = table_frame(metrics, settings.groups)
    texts = [FORMATS[output.suffix](frame, settings) for output in outputs]
    with replacing(*outputs) as parts:
        for part, text in zip(parts, texts, strict=True):
            part.write_text(text, encoding="utf-8")


def table_frame(metrics: Sequence[Path], groups: Sequence[str]) -> pd.DataFrame:
    """One row a model: `set`, `name`, each group, `global_accuracy`, `std`, `ser`, `seeds`.

    Accuracies in percent, `std` in percentage points, all averaged over seeds (the mean of the
    seeds' STD and SER, not STD and SER of their mean accuracies); `seeds` counts them. Where a
    row has several seeds there is a `<column>_seed_std` too, their sample standard deviation.
    """
    reserved = {"set", "name", "seeds", *SUMMARIES} & set(groups)
    if reserved:
        raise InputError("groups", found=min(reserved), expected="a name that no column has")
    rows = read_rows(metrics, groups)
    check_comparable(rows)
    columns = (*groups, *SUMMARIES)
    several = any(len(row.runs) > 1 for row in rows)
    lines: list[dict[str, object]] = []
    for _, section in by_section(rows):
        for row in section:
            scores = row.scores(groups)  # (S, G + 3)
            line: dict[str, object] = {"set": row.subject.set, "name": row.subject.name}
            line.update(zip(columns, scores.mean(axis=0), strict=True))
            line["seeds"] = len(row.runs)
            if several:
                spread = scores.std(axis=0, ddof=1) if len(scores) > 1 else scores[0] * np.nan
                line.update(zip((f"{c}_seed_std" for c in columns), spread, strict=True))
            lines.append(line)
    return pd.DataFrame(lines)


# ---------------------------------------------------------------- what is shown


def rounded(value: float, decimals: int) -> str:
    """`value` as text, halves rounded up as in print: 87.825 is 87.83, though stored below it."""
    if not np.isfinite(value):
        return UNDEFINED
    exact = Decimal(repr(round(float(value), 9)))
    return str(exact.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP))


def shown_table(frame: pd.DataFrame, decimals: int) -> Shown:
    """Round the numbers and find the best of each section's columns, ties by what is shown.

    A section of one row has no best.
    """
    names = list(frame.columns)
    columns = tuple(names[names.index("name") + 1 : names.index("seeds")])
    labels = frame["set"].map(SECTIONS)
    sections = []
    for label in labels.unique():
        part = frame[labels == label]
        cells = [_column(part, column, decimals) for column in columns]
        heads = [
            row_label(str(set_), str(name))
            for set_, name in zip(part["set"], part["name"], strict=True)
        ]
        sections.append((str(label), tuple(zip(heads, zip(*cells, strict=True), strict=True))))
    return Shown(tuple(HEADINGS.get(column, column) for column in columns), tuple(sections))


def _column(part: pd.DataFrame, column: str, decimals: int) -> list[Cell]:
    texts = [rounded(value, decimals) for value in part[column]]
    defined = [Decimal(text) for text in texts if text != UNDEFINED]
    best = None
    if len(texts) > 1 and defined:
        best = min(defined) if column in LOWEST_IS_BEST else max(defined)
    spreads: list[str | None] = [None] * len(texts)
    if f"{column}_seed_std" in part:
        several = part["seeds"] > 1
        spreads = [
            rounded(value, decimals) if shown else None
            for value, shown in zip(part[f"{column}_seed_std"], several, strict=True)
        ]
    return [
        Cell(text, spread, best is not None and text != UNDEFINED and Decimal(text) == best)
        for text, spread in zip(texts, spreads, strict=True)
    ]


# ---------------------------------------------------------------- formats


def _csv(frame: pd.DataFrame, settings: TableSettings) -> str:
    return frame.to_csv(index=False, lineterminator="\n")


def _cell(cell: Cell, *, bold: str, plus_minus: str = " ± ") -> str:
    text = bold.format(cell.value) if cell.best else cell.value
    show_spread = cell.seed_std is not None and cell.value != UNDEFINED
    return f"{text}{plus_minus}{cell.seed_std}" if show_spread else text


def _markdown_escape(text: str) -> str:
    return "".join(f"\\{sign}" if sign in r"\`*_|<>[]" else sign for sign in text)


def _markdown(frame: pd.DataFrame, settings: TableSettings) -> str:
    table = shown_table(frame, settings.decimals)
    lines = [["", "", *(_markdown_escape(column) for column in table.columns)]]
    lines.append(["---", "---", *("---:" for _ in table.columns)])
    for section, rows in table.sections:
        for number, (label, cells) in enumerate(rows):
            head = [section if number == 0 else "", _markdown_escape(label)]
            lines.append([*head, *(_cell(cell, bold="**{}**") for cell in cells)])
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{_markdown_escape(settings.caption)}\n\n{body}\n"


LATEX_SIGNS = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "±": r"$\pm$",
    "λ": r"$\lambda$",
}


def _latex_escape(text: str) -> str:
    return "".join(LATEX_SIGNS.get(sign, sign) for sign in text)


def _latex(frame: pd.DataFrame, settings: TableSettings) -> str:
    table = shown_table(frame, settings.decimals)
    lines = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        f"\\caption{{{_latex_escape(settings.caption)}}}",
        f"\\begin{{tabular}}{{ll{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(["", "", *map(_latex_escape, table.columns)]).strip() + r" \\",
    ]
    for section, rows in table.sections:
        lines.append(r"\midrule")
        for number, (label, cells) in enumerate(rows):
            head = [section if number == 0 else "", _latex_escape(label)]
            texts = (_cell(cell, bold=r"\textbf{{{}}}", plus_minus=r" $\pm$ ") for cell in cells)
            numbers = (text.replace(UNDEFINED, "--") for text in texts)
            lines.append(" & ".join([*head, *numbers]).strip() + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join(lines)


def _html(frame: pd.DataFrame, settings: TableSettings) -> str:
    table = shown_table(frame, settings.decimals)
    heads = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in table.columns)
    lines = [
        '<table class="mstkd-table">',
        f"<caption>{html.escape(settings.caption)}</caption>",
        f"<thead><tr><td></td><td></td>{heads}</tr></thead>",
    ]
    for section, rows in table.sections:
        lines.append(f'<tbody class="{section.lower()}">')
        for number, (label, cells) in enumerate(rows):
            rowspan = f'<th scope="rowgroup" rowspan="{len(rows)}">{section}</th>'
            texts = "".join(
                f"<td{' class=best' if cell.best else ''}>"
                f"{_cell(cell, bold='<strong>{}</strong>')}</td>"
                for cell in cells
            )
            first = rowspan if number == 0 else ""
            lines.append(f'<tr>{first}<th scope="row">{html.escape(label)}</th>{texts}</tr>')
        lines.append("</tbody>")
    return "\n".join([*lines, "</table>", ""])


FORMATS: dict[str, Callable[[pd.DataFrame, TableSettings], str]] = {
    ".csv": _csv,
    ".md": _markdown,
    ".tex": _latex,
    ".html": _html,
}


# ---------------------------------------------------------------- reading again


def read_table(path: Path) -> pd.DataFrame:
    """The frame of a CSV file that `render_table` wrote.

    Raises:
        InputError: the file is missing or is not such a table.
    """
    try:
        frame = pd.read_csv(path, dtype={"set": str, "name": str}, keep_default_na=False)
    except OSError as error:
        raise InputError(path, found=error.strerror, expected="a table") from None
    except ValueError as error:  # pandas' parser errors are of this kind
        raise InputError(path, found=error, expected="a table in CSV") from None
    missing = [name for name in ("set", "name", *SUMMARIES, "seeds") if name not in frame]
    if missing or not frame["set"].isin(list(SECTIONS)).all():
        found = f"no column {missing[0]!r}" if missing else "an unknown set of teachers"
        raise InputError(path, found=found, expected="a table of mstkd")
    numbers = frame.columns.difference(["set", "name"], sort=False)
    frame[numbers] = frame[numbers].apply(pd.to_numeric, errors="coerce")
    return frame


def read_tables(folder: Path) -> dict[Path, pd.DataFrame]:
    """The tables of a folder by the path of their CSV file, in the order of the names.

    Raises:
        InputError: the folder has no CSV file, or one that is not a table.
    """
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        raise InputError(folder, found="no CSV file", expected="a folder with tables")
    return {path: read_table(path) for path in paths}


def show_tables(
    paths: Sequence[Path], *, decimals: int = 2, console: Console | None = None
) -> None:
    """Print tables on the terminal, the best of each section in bold.

    Args:
        paths: CSV files that `render_table` wrote, or folders of them.
        decimals: digits after the point.
        console: where to print; standard output unless given.

    Raises:
        InputError: a file is missing or is not such a table.
    """
    console = console or Console()
    frames: dict[Path, pd.DataFrame] = {}
    for path in paths:
        frames.update(read_tables(path) if path.is_dir() else {path: read_table(path)})
    for path, frame in frames.items():
        table = shown_table(frame, decimals)
        terminal = TerminalTable(title=Text(path.stem), title_justify="left", box=SIMPLE_HEAD)
        terminal.add_column(no_wrap=True)
        for column in table.columns:
            terminal.add_column(Text(column), justify="right", no_wrap=True)
        for section, rows in table.sections:
            terminal.add_row(Text(section, style="italic"))
            for label, cells in rows:
                texts = [
                    Text(_cell(cell, bold="{}"), style="bold" if cell.best else "")
                    for cell in cells
                ]
                terminal.add_row(Text(f"  {label}"), *texts)
            terminal.add_section()
        console.print(terminal)


def published_table(number: int) -> pd.DataFrame:
    """The paper's Table `number`, 1 to 6, as it is printed: percent, two decimals.

    Raises:
        InputError: the paper has no such table.
    """
    with resources.files("mstkd.report").joinpath("published.csv").open(encoding="utf-8") as file:
        frame = pd.read_csv(file)
    if number not in set(frame["table"]):
        raise InputError("table", found=number, expected="1 to 6")
    return frame[frame["table"] == number].reset_index(drop=True)
