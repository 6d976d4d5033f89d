"""How a table looks: rounding, the best in bold, and CSV, Markdown, LaTeX and HTML."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import pandas as pd
from markupsafe import Markup

from mstkd.config import TableSettings
from mstkd.report.rounding import UNDEFINED, rounded
from mstkd.report.rows import SECTIONS, row_label
from mstkd.report.templates import page_html

HEADINGS = {"global_accuracy": "Global Acc", "std": "STD", "ser": "SER"}
LOWEST_IS_BEST = ("std", "ser")


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
    sections: tuple[tuple[str, tuple[tuple[tuple[str, ...], tuple[Cell, ...]], ...]], ...]
    labels: int  # of a row: its name, and the values of its variant where there are some


def shown_table(frame: pd.DataFrame, decimals: int) -> Shown:
    """Round the numbers and find the best of each section's columns, ties by what is shown.

    A section of one row has no best.
    """
    names = list(frame.columns)
    varied = "variant" in names
    columns = tuple(names[names.index("name") + 1 + varied : names.index("seeds")])
    labels = frame["set"].map(SECTIONS)
    sections = []
    heads: list[tuple[str, ...]]
    for label in labels.unique():
        part = frame[labels == label]
        cells = [_column(part, column, decimals) for column in columns]
        heads = [(row_label(row["set"], row["name"]),) for _, row in part.iterrows()]
        if varied:
            heads = [(*head, text) for head, text in zip(heads, part["variant"], strict=True)]
        sections.append((str(label), tuple(zip(heads, zip(*cells, strict=True), strict=True))))
    headings = tuple(HEADINGS.get(column, column) for column in columns)
    return Shown(headings, tuple(sections), labels=1 + varied)


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


def message(table: Shown) -> str:
    """What a table says, in a sentence for each measure: which models are the best of a section."""
    parts = []
    for column, words in (
        (HEADINGS["global_accuracy"], "Highest global accuracy"),
        ("STD", "lowest STD"),
    ):
        place = table.columns.index(column)
        choose = min if column == "STD" else max
        best = []
        for section, rows in table.sections:
            told = [(names, cells[place].value) for names, cells in rows]
            told = [(names, value) for names, value in told if value != UNDEFINED]
            if told:
                names, value = choose(told, key=lambda one: Decimal(one[1]))
                best.append(f"{section.lower()} {' '.join(filter(None, names))} {value}")
        if best:
            parts.append(f"{words}: {', '.join(best)}")
    return "; ".join(parts) + "." if parts else ""


# ---------------------------------------------------------------- formats


def _csv(frame: pd.DataFrame, settings: TableSettings) -> str:
    return frame.to_csv(index=False, lineterminator="\n")


def cell_text(cell: Cell, *, bold: str, plus_minus: str = " ± ") -> str:
    """The number, in the pattern `bold` where it is the best, and its spread over seeds."""
    text = bold.format(cell.value) if cell.best else cell.value
    show_spread = cell.seed_std is not None and cell.value != UNDEFINED
    return f"{text}{plus_minus}{cell.seed_std}" if show_spread else text


def _markdown_escape(text: str) -> str:
    return "".join(f"\\{sign}" if sign in r"\`*_|<>[]" else sign for sign in text)


def _markdown(frame: pd.DataFrame, settings: TableSettings) -> str:
    table = shown_table(frame, settings.decimals)
    labels = 1 + table.labels
    lines = [[""] * labels + [_markdown_escape(column) for column in table.columns]]
    lines.append(["---"] * labels + ["---:"] * len(table.columns))
    for section, rows in table.sections:
        for number, (names, cells) in enumerate(rows):
            head = [section if number == 0 else "", *map(_markdown_escape, names)]
            lines.append([*head, *(cell_text(cell, bold="**{}**") for cell in cells)])
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
        f"\\begin{{tabular}}{{l{'l' * table.labels}{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(["", *[""] * table.labels, *map(_latex_escape, table.columns)]).strip() + r" \\",
    ]
    for section, rows in table.sections:
        lines.append(r"\midrule")
        for number, (names, cells) in enumerate(rows):
            head = [section if number == 0 else "", *map(_latex_escape, names)]
            texts = (
                cell_text(cell, bold=r"\textbf{{{}}}", plus_minus=r" $\pm$ ") for cell in cells
            )
            numbers = (text.replace(UNDEFINED, "--") for text in texts)
            lines.append(" & ".join([*head, *numbers]).strip() + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join(lines)


def _html_fragment(frame: pd.DataFrame, settings: TableSettings) -> str:
    """The table alone, to stand in a page."""
    table = shown_table(frame, settings.decimals)
    heads = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in table.columns)
    lines = [
        '<table class="mstkd-table">',
        f"<caption>{html.escape(settings.caption)} "
        f'<span class="message">{html.escape(message(table))}</span></caption>',
        f"<thead><tr>{'<td></td>' * table.labels}{heads}</tr></thead>",
    ]
    for section, rows in table.sections:
        width = table.labels + len(table.columns)
        lines.append(f'<tbody class="{section.lower()}">')
        lines.append(f'<tr><th scope="rowgroup" colspan="{width}">{section}</th></tr>')
        for names, cells in rows:
            texts = "".join(
                '<td class="{}">{}</td>'.format(
                    "best" if cell.best else "other", cell_text(cell, bold="<strong>{}</strong>")
                )
                for cell in cells
            )
            label = "".join(f'<th scope="row">{html.escape(name)}</th>' for name in names)
            lines.append(f"<tr>{label}{texts}</tr>")
        lines.append("</tbody>")
    return "\n".join([*lines, "</table>"])


def _html(frame: pd.DataFrame, settings: TableSettings) -> str:
    """A page of its own: a browser shows it as it is, within Snakemake's report too."""
    # The fragment has escaped what comes from outside.
    table = Markup(_html_fragment(frame, settings))
    return page_html("table.html", title=settings.caption, table=table)


FORMATS: dict[str, Callable[[pd.DataFrame, TableSettings], str]] = {
    ".csv": _csv,
    ".md": _markdown,
    ".tex": _latex,
    ".html": _html,
}
