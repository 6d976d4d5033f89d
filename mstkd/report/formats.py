"""Tables in CSV, Markdown, LaTeX and HTML."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from mstkd.artifacts.atomic import replacing
from mstkd.artifacts.cells import csv_of
from mstkd.artifacts.provenance import beside, embedded, metadata_path, sidecar
from mstkd.artifacts.sources import provenance_of
from mstkd.config import ErrorRateSettings, TableSettings
from mstkd.errors import InputError
from mstkd.report.dictionary import metadata
from mstkd.report.latex import latex_table
from mstkd.report.rounding import UNDEFINED
from mstkd.report.shown import Cell, Shown
from mstkd.report.templates import page_html


def cell_text(cell: Cell, *, bold: str) -> str:
    """The number, in the pattern `bold` where it is the best, and its spread over seeds."""
    text = bold.format(cell.value) if cell.best else cell.value
    show_spread = cell.seed_std is not None and cell.value != UNDEFINED
    return f"{text} ± {cell.seed_std}" if show_spread else text


def markdown_escape(text: str) -> str:
    """A text of one line as Markdown shows it as it is."""
    return "".join(f"\\{sign}" if sign in r"\`*_|<>[]" else sign for sign in text)


def _markdown(table: Shown, caption: str, name: str) -> str:
    labels = 1 + table.labels
    lines = [[""] * labels + [markdown_escape(column) for column in table.columns]]
    lines.append(["---"] * labels + ["---:"] * len(table.columns))
    for section, rows in table.sections:
        for number, (names, cells) in enumerate(rows):
            head = [section if number == 0 else "", *map(markdown_escape, names)]
            lines.append([*head, *(cell_text(cell, bold="**{}**") for cell in cells)])
            for words, texts in _further_lines(cells):
                lines.append(["", words, *[""] * (table.labels - 1), *texts])
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = " ".join(map(markdown_escape, table.notes))
    return f"{markdown_escape(caption)}\n\n{body}\n\n{notes}\n"


def _further_lines(cells: Sequence[Cell]) -> Iterator[tuple[str, list[str]]]:
    """Lines under a row, with what they are called."""
    for words, name in (("95 %", "interval"), ("paper", "published"), ("difference", "difference")):
        texts = [getattr(cell, name) for cell in cells]
        if any(texts):
            yield words, texts


def _html_fragment(table: Shown, caption: str) -> str:
    """The table alone, to stand in a page, with its intervals folded away behind it."""
    lines = [
        '<table class="mstkd-table">',
        f"<caption>{html.escape(caption)} "
        f'<span class="message">{html.escape(table.message)}</span></caption>',
        *_html_rows(table, _html_cell),
        "</table>",
    ]
    if any(cell.interval for cell in table.cells):
        pairs = "".join(f"<td>{one}</td>" for one in table.pairs)
        lines += [
            '<details class="mstkd-intervals"><summary>Intervals of 95 %, and pairs</summary>',
            '<div class="wide" role="region" tabindex="0" '
            f'aria-label="Intervals: {html.escape(caption)}">',
            f"<table><caption>{html.escape(caption)} Intervals of 95 %.</caption>",
            *_html_rows(table, lambda cell: cell.interval or UNDEFINED),
            f'<tbody><tr><th scope="row">pairs</th>{"<td></td>" * (table.labels - 1)}{pairs}</tr>'
            "</tbody>",
            "</table></div></details>",
        ]
    return "\n".join(lines)


def _html_cell(cell: Cell) -> str:
    text = cell_text(cell, bold="<strong>{}</strong>")
    if cell.published:
        text += f'<span class="paper">paper {cell.published}'
        text += f" ({cell.difference})</span>" if cell.difference else "</span>"
    return text


def _html_rows(table: Shown, text: Callable[[Cell], str]) -> Iterator[str]:
    heads = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in table.columns)
    yield f"<thead><tr>{'<td></td>' * table.labels}{heads}</tr></thead>"
    width = table.labels + len(table.columns)
    for section, rows in table.sections:
        yield f'<tbody class="{section.lower()}">'
        yield f'<tr><th scope="rowgroup" colspan="{width}">{section}</th></tr>'
        for names, cells in rows:
            label = "".join(f'<th scope="row">{html.escape(name)}</th>' for name in names)
            texts = "".join(
                f'<td class="{"best" if cell.best else "other"}">{text(cell)}</td>'
                for cell in cells
            )
            yield f"<tr>{label}{texts}</tr>"
        yield "</tbody>"


def _html(table: Shown, caption: str, name: str) -> str:
    """A page of its own: a browser shows it as it is, within Snakemake's report too."""
    fragment = Markup(_html_fragment(table, caption))  # it has escaped what comes from outside
    return page_html("table.html", title=caption, table=fragment, notes=table.notes)


# What makes a file of what is shown, a caption and the file's name without suffix.
FORMATS: dict[str, Callable[[Shown, str, str], str]] = {
    ".md": _markdown,
    ".tex": latex_table,
    ".html": _html,
}


def check_formats(outputs: Sequence[Path]) -> None:
    """Raise InputError unless all suffixes are those of tables."""
    known = (".csv", *FORMATS)
    for output in outputs:
        if output.suffix not in known:
            raise InputError(output, found=output.suffix, expected=", ".join(known))


def write_table(
    step: str,
    settings: TableSettings | ErrorRateSettings,
    read: Mapping[Path, str],
    outputs: Sequence[Path],
    *,
    frame: pd.DataFrame,
    shown: Shown,
) -> None:
    """Write a table in all formats or none, each with what made it.

    Args:
        step: the sub-command.
        settings: of the step, the caption among them.
        read: files that the table was made from, with their hashes.
        outputs: paths ending in .csv, beside which its columns are explained, or in a suffix of
            `FORMATS`.
        frame: what the CSV file holds.
        shown: what the others show.
    """
    texts: dict[Path, str] = {}
    for output in outputs:
        made = provenance_of(step, settings, read, output)
        if output.suffix == ".csv":
            text = csv_of(frame)
            told = metadata(frame, output.name, caption=settings.caption, notes=shown.notes)
            texts[sidecar(output)] = beside(text, made, told)
            texts[metadata_path(output)] = told
        else:
            text = FORMATS[output.suffix](shown, settings.caption, output.stem)
            text = embedded(text, made, output.suffix)
        texts[output] = text
    with replacing(*texts) as parts:
        for part, text in zip(parts, texts.values(), strict=True):
            part.write_text(text, encoding="utf-8")
