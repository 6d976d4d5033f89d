"""False matches and misses of a table's models, all groups at one threshold, and their ratios.

What `mstkd audit` measures of any systems, of these: one implementation. A row is a trained model,
so that seeds have rows of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mstkd.artifacts.contents import hashed_contents
from mstkd.artifacts.provenance import hashed
from mstkd.config import ErrorRateSettings
from mstkd.config.grids import split_variant
from mstkd.evaluation.auditing.measured import of_fmr
from mstkd.evaluation.auditing.systems import ALL, on_one_list
from mstkd.evaluation.auditing.tables import Row, measure_rows
from mstkd.report.formats import check_formats, write_table
from mstkd.report.rounding import UNDEFINED, rounded
from mstkd.report.rows import by_section, check_comparable, read_rows
from mstkd.report.scored import scores_path, with_scores
from mstkd.report.shown import Cell, Shown

MEASURES = ("fmr", "fnmr", "fmr_max_min", "fmr_max_geomean", "fnmr_max_min", "fnmr_max_geomean")
KINDS = ("fmr", "fnmr")
RATIOS = {"max_min": "Max / min", "max_geomean": "Max / geomean"}


def render_error_rates(
    settings: ErrorRateSettings, *, metrics: Sequence[Path], outputs: Sequence[Path]
) -> None:
    """Write the error rates of a table's models in the formats that the outputs' suffixes name.

    Args:
        settings: the false match rate of all groups together at which thresholds are set, caption,
            columns and decimals.
        metrics: metrics.json files in the order of the rows, each with its scores.h5 beside it.
        outputs: paths ending in .csv (rows as of measures.csv of an audit), .md, .tex or .html.

    Raises:
        InputError: a suffix is unknown, the files do not belong in one table, or groups have no
            pairs of both kinds.
    """
    check_formats(outputs)
    rows = read_rows(metrics, settings.groups)
    check_comparable(rows)
    scored = with_scores(rows)
    names = [str(place) for place in range(len(scored.tables))]
    systems = on_one_list(
        dict(zip(names, scored.tables, strict=True)),
        {name: scores_path(path) for name, path in zip(names, scored.paths, strict=True)},
    )
    found = of_fmr(systems, settings.fmr, draws=settings.draws, seed=0)
    told = [row for row in measure_rows(systems, list(found)) if row.measure in MEASURES]
    by_model = {name: [row for row in told if row.system == name] for name in names}
    place = dict(zip(scored.paths, names, strict=True))
    several = any(len(row.runs) > 1 for row in rows)
    frames: list[pd.DataFrame] = []
    sections = []
    for section, members in by_section(rows):
        lines: list[tuple[tuple[str, ...], tuple[Cell, ...]]] = []
        for row in members:
            for path, seed in zip(row.paths, row.seeds, strict=True):
                measured = by_model[place[path]]
                name = split_variant(row.subject.name).base
                who = {"set": row.subject.set, "name": name, "variant": row.variant}
                frame = pd.DataFrame(measured, columns=Row._fields).drop(columns="system")
                frames.append(pd.DataFrame({**who, "seed": seed}, index=frame.index).join(frame))
                title = f"{row.title}, seed {seed}" if several else row.title
                lines += _lines(title, measured, settings)
        sections.append((section, tuple(lines)))
    columns = (*settings.groups, "All", *RATIOS.values())
    counts = systems.counts
    shown = Shown(
        columns, tuple(sections), labels=2, notes=_notes(settings, *counts.min(axis=1).tolist())
    )
    read = hashed(metrics) | hashed_contents(map(scores_path, metrics))
    frame = pd.concat(frames, ignore_index=True)
    write_table("render-error-rates", settings, read, outputs, frame=frame, shown=shown)


def _lines(
    title: str, rows: Sequence[Row], settings: ErrorRateSettings
) -> list[tuple[tuple[str, ...], tuple[Cell, ...]]]:
    """A line for each kind of error: its rate in every group and of all, then the ratios."""
    known = {(row.measure, row.group): row for row in rows}
    lines: list[tuple[tuple[str, ...], tuple[Cell, ...]]] = []
    for kind in KINDS:
        rates = [known.get((kind, group)) for group in (*settings.groups, ALL)]
        ratios = [known.get((f"{kind}_{name}", ALL)) for name in RATIOS]
        cells = [_cell(row, 100, settings.decimals) for row in rates]
        cells += [_cell(row, 1, settings.decimals) for row in ratios]
        lines.append(((title, kind.upper()), tuple(cells)))
    return lines


def _cell(row: Row | None, scale: float, decimals: int) -> Cell:
    if row is None or math.isnan(row.value):
        return Cell(UNDEFINED, None, best=False)
    interval = ""
    if not math.isnan(row.low):
        interval = f"{rounded(scale * row.low, decimals)} to {rounded(scale * row.high, decimals)}"
    return Cell(rounded(scale * row.value, decimals), None, best=False, interval=interval)


def _notes(settings: ErrorRateSettings, impostor: int, genuine: int) -> tuple[str, ...]:
    return (
        f"One threshold for all groups, that of a false match rate (FMR) of {settings.fmr:g} of "
        "all groups' pairs in the other folds. FMR and the rate of misses (FNMR) in percent; the "
        "highest rate of a group over the lowest, and over the geometric mean (NISTIR 8280, 8429): "
        "1 is even.",
        f"A group has {impostor:,} impostor and {genuine:,} genuine pairs at least. {UNDEFINED}: "
        "fewer than ten errors, of which no rate is told. Intervals of 95 % take people as units.",
    )
