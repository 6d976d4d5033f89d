"""Tables 1 to 6 of the paper: accuracies of the groups, global accuracy, STD and SER.

Every format is made from one frame, the one that the CSV file holds, so a table can be shown
again from its CSV file alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as TerminalTable
from rich.text import Text

from mstkd.artifacts.contents import hashed_contents
from mstkd.artifacts.provenance import hashed
from mstkd.artifacts.records import Subject
from mstkd.config import TableSettings, Threshold
from mstkd.config.grids import split_variant
from mstkd.errors import InputError
from mstkd.report.estimates import rows_told
from mstkd.report.formats import cell_text, check_formats, write_table
from mstkd.report.paper import published_rows, published_scores
from mstkd.report.rows import (
    SECTIONS,
    SUMMARIES,
    Row,
    by_section,
    check_comparable,
    read_rows,
)
from mstkd.report.scored import Scored, scores_path, with_scores
from mstkd.report.shown import shown_table

LABELS = ("set", "name", "variant")  # the columns of a frame that hold no numbers


def render_table(
    settings: TableSettings,
    *,
    metrics: Sequence[Path],
    outputs: Sequence[Path],
) -> None:
    """Write one table in the formats that the outputs' suffixes name.

    Args:
        settings: caption, columns, decimals, and the draws of noise for intervals.
        metrics: metrics.json files in the order of the rows; seeds of a model share a row. With
            intervals each has its scores.h5 beside it.
        outputs: paths ending in .csv (full precision), .md, .tex or .html (a page).

    Raises:
        InputError: a suffix is unknown, a metrics file lacks a group, or the files do not
            belong in one table, or scores are not those of the metrics.
    """
    check_formats(outputs)
    rows = table_rows(metrics, settings.groups)
    frame = table_frame(rows, settings.groups, settings.threshold)
    read = hashed(metrics)
    if settings.draws is not None:
        scored = with_scores(rows)
        frame = with_intervals(frame, rows, scored, settings.threshold, settings.draws)
        read |= hashed_contents(map(scores_path, metrics))
    if settings.published:
        frame = with_published(frame, rows, settings.groups)
    shown = shown_table(frame, settings.decimals)
    write_table("render-table", settings, read, outputs, frame=frame, shown=shown)


def table_rows(metrics: Sequence[Path], groups: Sequence[str]) -> list[Row]:
    """The rows of a table in their order, those of a section together.

    Raises:
        InputError: as `read_rows`, or rows that do not belong in one table.
    """
    rows = read_rows(metrics, groups)
    check_comparable(rows)
    return [row for _, section in by_section(rows) for row in section]


def table_frame(
    rows: Sequence[Row], groups: Sequence[str], threshold: Threshold = "own"
) -> pd.DataFrame:
    """One row a model: `set`, `name`, each group, `global_accuracy`, `std`, `ser`, `seeds`.

    Where the config has lists, `variant` behind `name` holds the values of each row.

    Accuracies in percent, `std` in percentage points, all averaged over seeds (the mean of the
    seeds' STD and SER, not STD and SER of their mean accuracies); `seeds` counts them. Where a
    row has several seeds there is a `<column>_seed_std` too, their sample standard deviation.
    `parameters` and `multiply_adds` (an image) are the network's, where its metrics tell them.
    """
    columns = (*groups, *SUMMARIES)
    several = any(len(row.runs) > 1 for row in rows)
    varied = any(row.variant for row in rows)
    lines: list[dict[str, object]] = []
    for row in rows:
        scores = row.scores(groups, threshold)  # (S, G + 3)
        name = split_variant(row.subject.name).base
        line: dict[str, object] = {"set": row.subject.set, "name": name}
        if varied:
            line["variant"] = row.variant
        line.update(zip(columns, scores.mean(axis=0), strict=True))
        line["seeds"] = len(row.runs)
        if several:
            spread = scores.std(axis=0, ddof=1) if len(scores) > 1 else scores[0] * np.nan
            line.update(zip((f"{c}_seed_std" for c in columns), spread, strict=True))
        network = row.runs[0].network
        if network is not None:
            line |= network.model_dump()
        lines.append(line)
    return pd.DataFrame(lines)


def with_intervals(
    frame: pd.DataFrame, rows: Sequence[Row], scored: Scored, threshold: Threshold, draws: int
) -> pd.DataFrame:
    """The table with `<column>_low` and `<column>_high`, limits of 95 %, and `<group>_pairs`.

    Limits are missing where a measure is undefined. Those of STD and SER are of what is not noise,
    so that the plain value may lie outside. No row's limits depend on the rows beside it.

    Args:
        frame: of `table_frame`.
        rows: its rows.
        scored: their models.
        threshold: that of the frame.
        draws: of noise, for STD and SER.

    Raises:
        InputError: scores are not those of the metrics, or are of one group or one fold.
    """
    told = {_key(one.subject): one for one in rows_told(scored, scored.rates([threshold]), draws)}
    columns = [column for column in frame if column in (*scored.groups, *SUMMARIES)]
    lines = []
    for row in rows:
        one = told[_key(row.subject)]
        line: dict[str, float] = {}
        for column in columns:
            found = one.groups[column] if column in one.groups else getattr(one, column)
            line[f"{column}_low"] = np.nan if found is None else found.low
            line[f"{column}_high"] = np.nan if found is None else found.high
        pairs = {
            f"{name}_pairs": count for name, count in scored.group_pairs.items() if name in columns
        }
        lines.append(line | pairs)
    return frame.join(pd.DataFrame(lines, index=frame.index))


def with_published(frame: pd.DataFrame, rows: Sequence[Row], groups: Sequence[str]) -> pd.DataFrame:
    """The table with `<column>_published`, as the paper prints it, and `<column>_difference`.

    The difference is ours less the paper's; both are missing of what the paper does not print.
    """
    lines = []
    for row, (_, line) in zip(rows, frame.iterrows(), strict=True):
        printed = published_scores(row.subject) or {}
        values = {}
        for column in (*groups, *SUMMARIES):
            values[f"{column}_published"] = printed.get(column, np.nan)
            values[f"{column}_difference"] = line[column] - printed.get(column, np.nan)
        lines.append(values)
    found = pd.DataFrame(lines, index=frame.index)
    return frame if found.isna().all(axis=None) else frame.join(found)


def _key(subject: Subject) -> Subject:
    """Who a row is, whatever its seeds."""
    return subject.model_copy(update={"seed": 0})


# ---------------------------------------------------------------- reading again


def read_table(path: Path) -> pd.DataFrame:
    """The frame of a CSV file that `render_table` wrote.

    Raises:
        InputError: the file is missing or is not such a table.
    """
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(LABELS, str), keep_default_na=False)
    except OSError as error:
        raise InputError(path, found=error.strerror, expected="a table") from None
    except ValueError as error:  # pandas' parser errors are of this kind
        raise InputError(path, found=error, expected="a table in CSV") from None
    missing = [name for name in ("set", "name", *SUMMARIES, "seeds") if name not in frame]
    if missing or not frame["set"].isin(list(SECTIONS)).all():
        found = f"no column {missing[0]!r}" if missing else "an unknown set of teachers"
        raise InputError(path, found=found, expected="a table of mstkd")
    numbers = frame.columns.difference([*LABELS], sort=False)
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
        terminal = TerminalTable(
            title=Text(path.stem), title_justify="left", box=SIMPLE_HEAD, pad_edge=False
        )
        for number in range(table.labels):
            terminal.add_column(no_wrap=number == 0)  # the values of a variant may be long
        for column in table.columns:
            terminal.add_column(Text(column), justify="right", no_wrap=True)
        for section, rows in table.sections:
            terminal.add_row(Text(section, style="italic"))
            for (label, *variant), cells in rows:
                texts = [
                    Text(cell_text(cell, bold="{}"), style="bold" if cell.best else "")
                    for cell in cells
                ]
                terminal.add_row(Text(f" {label}"), *map(Text, variant), *texts)
            terminal.add_section()
        console.print(terminal)
        if any(cell.seed_std for cell in table.cells):
            console.print(Text("± is the sample standard deviation over seeds.", style="italic"))


def published_table(number: int) -> pd.DataFrame:
    """The paper's Table `number`, 1 to 6, as it is printed: percent, two decimals.

    Raises:
        InputError: the paper has no such table.
    """
    frame = published_rows()
    if number not in set(frame["table"]):
        raise InputError("table", found=number, expected="1 to 6")
    return frame[frame["table"] == number].reset_index(drop=True)
