"""Accuracy and STD along a list of numbers in the config: lambda, say, or a share of other groups.

A panel an adaptor, two rows of panels a loss, a line a set of teachers; of teachers' lists the
teachers themselves come first. No line differs by colour alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from mstkd.artifacts.contents import hashed_contents
from mstkd.artifacts.provenance import hashed
from mstkd.config import GridSettings, teachers_of
from mstkd.config.grids import split_variant, told
from mstkd.errors import InputError
from mstkd.report.canvas import check_picture, new_figure, set_title, write_picture
from mstkd.report.estimates import rows_told
from mstkd.report.judgements import Interval, RowTold
from mstkd.report.rounding import rounded
from mstkd.report.rows import SECTIONS, row_label
from mstkd.report.scored import read_scored, scores_path
from mstkd.report.style import DASHES, GROUP_MARKS, SET_DASHES, SET_MARKS, STYLE

Measure = Literal["own_group", "all_groups", "global_accuracy", "std"]
OF_TEACHERS: tuple[Measure, ...] = ("own_group", "all_groups")

UNITS: dict[Measure, str] = {
    "own_group": "Own group, percent",
    "all_groups": "All groups, percent",
    "global_accuracy": "Global accuracy, percent",
    "std": "STD, points",
}
NOTE = (
    "Bars, and the band of what has no such values: 95 % intervals of people drawn anew, and of\n"
    "training where there are seeds. Each group has its own threshold. Limits of STD are of what "
    "is not noise."
)
LOGARITHMIC = 20  # times the least value that the largest is, from which the axis is logarithmic
PANEL_INCHES = (2.3, 1.55)
APART = 0.012  # of the axis, between the bars of two lines


class Line(NamedTuple):
    """Models that differ in the list's value alone, None of those that have no such value."""

    label: str
    style: dict[str, Any]  # of Matplotlib
    points: tuple[tuple[float | None, Interval], ...]


class Panel(NamedTuple):
    """Lines on one measure."""

    title: str
    measure: Measure
    lines: tuple[Line, ...]


def render_grid(
    settings: GridSettings, *, metrics: Sequence[Path], outputs: Sequence[Path]
) -> None:
    """Draw accuracy and STD against the values of a list, and write the numbers.

    Args:
        settings: whose list, its key, and the draws of noise for the limits of STD.
        metrics: metrics.json files of teachers and students, each with its scores.h5 beside it;
            seeds of a model are one point.
        outputs: .csv for the numbers, and .png, .svg, .pdf or .html of the figure.

    Raises:
        InputError: a suffix is unknown, a file is missing or is not what it must be, models were
            not scored on the same pairs, or none has such a value.
    """
    check_picture(outputs)
    scored = read_scored(metrics)
    rows = rows_told(scored, scored.rates(["own"]), settings.draws)
    if not any(_value(row, settings) is not None for row in rows):
        expected = f"models with values of {settings.section} {settings.key}"
        raise InputError("metrics", found="none", expected=expected)
    panels = grid_panels(rows, settings, scored.groups)
    with mpl.rc_context(STYLE):
        write_picture(
            "render-grid",
            hashed(metrics) | hashed_contents(map(scores_path, metrics)),
            outputs,
            settings=settings,
            numbers=grid_frame(rows, settings, scored.groups),
            draw=lambda: draw_grid(panels, settings),
            title=_title(settings),
            message=grid_message(panels),
        )


def _title(settings: GridSettings) -> str:
    return f"Accuracy and STD along {settings.key} of {settings.section}, with intervals"


def grid_message(panels: Sequence[Sequence[Panel]]) -> str:
    """For those who do not see it: of each set, from what accuracy to what it goes."""
    ends: dict[str, tuple[list[float], list[float]]] = {}
    for panel in itertools.chain.from_iterable(panels):
        if panel.measure == "global_accuracy":
            for line in panel.lines:
                points = sorted((x, one.value) for x, one in line.points if x is not None)
                if points:
                    first, last = ends.setdefault(line.label, ([], []))
                    first.append(points[0][1])
                    last.append(points[-1][1])
    parts = [
        f"students of {name} teachers go from {rounded(float(np.mean(first)), 2)} to "
        f"{rounded(float(np.mean(last)), 2)} percent"
        for name, (first, last) in ends.items()
    ]
    return f"From the least to the largest value {'; '.join(parts)}, the mean over panels."


def grid_frame(
    rows: Sequence[RowTold], settings: GridSettings, groups: Sequence[str]
) -> pd.DataFrame:
    """A row a model: who it is, the list's `value`, `variant`, and measures with their limits.

    `value` is missing of models that have none. Measures are each group's accuracy,
    `global_accuracy` (percent) and `std` (percentage points), each with `_low` and `_high`.
    """
    lines = []
    for row in rows:
        who = _who(row, settings)
        line = {**who._asdict(), "value": _value(row, settings), "seeds": row.seeds}
        measures: dict[str, Interval | None] = {group: row.groups[group] for group in groups}
        measures |= {"global_accuracy": row.global_accuracy, "std": row.std}
        for name, found in measures.items():
            line[name] = np.nan if found is None else found.value
            line[f"{name}_low"] = np.nan if found is None else found.low
            line[f"{name}_high"] = np.nan if found is None else found.high
        lines.append(line)
    return pd.DataFrame(lines).astype({"value": float})


class _Who(NamedTuple):
    """A model but for the list's value."""

    kind: str
    set: str
    name: str
    loss: str
    backbone: str  # of the teachers
    variant: str  # values of other lists


def _who(row: RowTold, settings: GridSettings) -> _Who:
    subject = row.subject
    teachers, own = split_variant(subject.backbone), split_variant(subject.loss or "")
    adaptor = split_variant(subject.name)
    every = {"teachers": teachers, "adaptors": adaptor, "students": own}
    values = {section: dict(of.values) for section, of in every.items()}
    values[settings.section].pop(settings.key, None)
    parts = {section: told(of) for section, of in values.items()}
    if parts["teachers"] and subject.kind != "teacher":
        parts["teachers"] = f"teachers {parts['teachers']}"
    if parts["adaptors"]:
        parts["adaptors"] = f"adaptor {parts['adaptors']}"
    variant = "; ".join(filter(None, parts.values()))
    return _Who(subject.kind, subject.set, adaptor.base, own.base, teachers.base, variant)


def _value(row: RowTold, settings: GridSettings) -> float | None:
    subject = row.subject
    named = {
        "teachers": subject.backbone,
        "adaptors": subject.name,
        "students": subject.loss or "",
    }
    name = named[settings.section]
    if settings.section == "teachers" and subject.set == "none":  # its backbone is its own
        return None
    value = split_variant(name).values.get(settings.key)
    return None if value is None else float(value)


# ---------------------------------------------------------------- panels


def grid_panels(
    rows: Sequence[RowTold], settings: GridSettings, groups: Sequence[str]
) -> list[list[Panel]]:
    """Rows of panels, in the order of the models."""
    lines: dict[_Who, list[RowTold]] = {}
    for row in rows:
        lines.setdefault(_who(row, settings), []).append(row)
    panels = list(_of_teachers(lines, settings, groups))
    students = [who for who in lines if who.kind == "student" and who.set != "none"]
    for loss, variant, backbone in dict.fromkeys((w.loss, w.variant, w.backbone) for w in students):
        here = [w for w in students if (w.loss, w.variant, w.backbone) == (loss, variant, backbone)]
        names = dict.fromkeys((who.set == "single", who.name) for who in here)
        several = len({who.backbone for who in students}) > 1
        block = ", ".join(filter(None, (loss, variant, backbone if several else "")))
        measures: tuple[Measure, ...] = ("global_accuracy", "std")
        for measure in measures:
            row_of_panels = []
            for single, name in names:
                own = [w for w in here if (w.set == "single", w.name) == (single, name)]
                drawn = tuple(_line(who, lines[who], settings, measure) for who in own)
                if any(value is not None for line in drawn for value, _ in line.points):
                    label = row_label(own[0].set, name)
                    row_of_panels.append(Panel(f"{label}, {block}", measure, drawn))
            if row_of_panels:
                panels.append(row_of_panels)
    return panels


def _of_teachers(
    lines: Mapping[_Who, list[RowTold]], settings: GridSettings, groups: Sequence[str]
) -> Iterator[list[Panel]]:
    """Of the teachers' lists, a row of panels a backbone: own groups, and all together."""
    if settings.section != "teachers":
        return
    own = {one.name: one.groups[0] for one in teachers_of("specialized", groups)}
    teachers = [who for who in lines if (who.kind, who.set) == ("teacher", "specialized")]
    for backbone, variant in dict.fromkeys((who.backbone, who.variant) for who in teachers):
        here = [who for who in teachers if (who.backbone, who.variant) == (backbone, variant)]
        row_of_panels = []
        for measure in OF_TEACHERS:
            drawn: list[Line] = []
            for who, (colour, marker) in zip(here, itertools.cycle(GROUP_MARKS), strict=False):
                dashes = DASHES[len(drawn) % len(DASHES)]
                style: dict[str, Any] = {"color": colour, "marker": marker, "ls": dashes}
                points = [
                    (
                        _value(row, settings),
                        row.groups[own[who.name]]
                        if measure == "own_group"
                        else row.global_accuracy,
                    )
                    for row in lines[who]
                ]
                drawn.append(Line(who.name, style, tuple(points)))
            title = ", ".join(filter(None, (f"teachers {backbone}", variant)))
            row_of_panels.append(Panel(title, measure, tuple(drawn)))
        yield row_of_panels


def _line(who: _Who, rows: Sequence[RowTold], settings: GridSettings, measure: Measure) -> Line:
    marker, colour = SET_MARKS[SECTIONS[who.set]]
    style = {"color": colour, "marker": marker, "ls": SET_DASHES[who.set]}
    points = []
    for row in rows:
        found = row.std if measure == "std" else row.global_accuracy
        if found is not None:
            points.append((_value(row, settings), found))
    return Line(who.set, style, tuple(points))


# ---------------------------------------------------------------- the figure


def draw_grid(panels: Sequence[Sequence[Panel]], settings: GridSettings) -> Figure:
    """Rows of panels; those of one measure share an axis of it, and all that of the values."""
    across = max(map(len, panels))
    width, height = PANEL_INCHES
    figure = new_figure(max(7.5, 0.6 + width * across), 1.2 + (height + 0.3) * len(panels))
    axes = figure.subplots(len(panels), across, squeeze=False)
    values = sorted(
        {
            value
            for row in panels
            for panel in row
            for line in panel.lines
            for value, _ in line.points
            if value is not None
        }
    )
    limits = _limits(panels)
    for place, row in enumerate(panels):
        for number, cell in enumerate(axes[place]):
            if number >= len(row):
                cell.set_axis_off()
                continue
            _draw_panel(cell, row[number], values)
            cell.set_ylim(*limits[row[number].measure])
            if number == 0 or row[number].measure != row[number - 1].measure:
                cell.set_ylabel(UNITS[row[number].measure])
            if place == len(panels) - 1 or number >= len(panels[place + 1]):
                cell.set_xlabel(settings.key)
    _legends(figure, panels, axes)
    set_title(figure, _title(settings))
    figure.supxlabel(NOTE, x=0.01, ha="left", fontsize=7.5)
    return figure


def _limits(panels: Sequence[Sequence[Panel]]) -> dict[Measure, tuple[float, float]]:
    """By measure, an axis with room for all intervals."""
    found: dict[Measure, list[float]] = {}
    for panel in itertools.chain.from_iterable(panels):
        for line in panel.lines:
            for _, one in line.points:
                found.setdefault(panel.measure, []).extend((one.low, one.value, one.high))
    of_teachers = [one for name in OF_TEACHERS for one in found.get(name, ())]
    found |= {name: of_teachers for name in OF_TEACHERS if name in found}
    room = {name: 0.05 * (max(of) - min(of)) or 1.0 for name, of in found.items()}
    return {name: (min(of) - room[name], max(of) + room[name]) for name, of in found.items()}


def _draw_panel(axes: Axes, panel: Panel, values: Sequence[float]) -> None:
    logarithmic = values[0] > 0 and values[-1] >= LOGARITHMIC * values[0]
    if logarithmic:
        axes.set_xscale("log")
    place = np.log10 if logarithmic else np.asarray
    span = float(place(values[-1]) - place(values[0])) or 1.0
    for number, line in enumerate(panel.lines):
        shift = APART * span * (number - (len(panel.lines) - 1) / 2)
        points = sorted((value, one) for value, one in line.points if value is not None)
        marker: dict[str, Any] = {"ms": 5, "mec": "black", "mew": 0.5}
        if not points:  # the same whatever the value
            for _, one in line.points:
                axes.axhspan(one.low, one.high, color="#e9e9e9", lw=0, zorder=0)
                flat = {key: line.style[key] for key in ("color", "ls")}
                axes.axhline(one.value, lw=1.3, zorder=1, **flat)
            continue
        at = np.array([float(place(value)) for value, _ in points]) + shift
        at = 10**at if logarithmic else at
        lows, highs = ([getattr(one, end) for _, one in points] for end in ("low", "high"))
        axes.vlines(at, lows, highs, color=line.style["color"], lw=1.1, zorder=2)
        heights = [one.value for _, one in points]
        axes.plot(at, heights, lw=1.3, zorder=3, **marker, **line.style)
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    room = 0.06 * span
    ends = np.array([float(place(values[0])) - room, float(place(values[-1])) + room])
    axes.set_xlim(*(10**ends if logarithmic else ends))
    axes.grid(axis="y")
    axes.set_title(panel.title, loc="left", fontsize=8)


def _legends(figure: Figure, panels: Sequence[Sequence[Panel]], axes: Any) -> None:
    """Of the sets for the whole figure, of teachers in their first panel."""
    for row, cells in zip(panels, axes, strict=True):
        if row[0].measure == "own_group":
            cells[0].legend(handles=_handles([row[0]]), fontsize=7, ncols=2, frameon=False)
    students = [panel for row in panels if row[0].measure not in OF_TEACHERS for panel in row]
    if students:
        figure.legend(
            handles=_handles(students),
            ncols=3,
            frameon=False,
            loc="outside upper right",
            fontsize=8,
        )


def _handles(panels: Sequence[Panel]) -> list[Line2D]:
    lines = {line.label: line for panel in panels for line in panel.lines}
    handles = []
    for label, line in lines.items():
        style = dict(line.style)
        if all(value is None for value, _ in line.points):
            style["marker"] = ""
        text = SECTIONS.get(label, label) if label != "single" else "Single teacher"
        handles.append(Line2D([], [], lw=1.3, ms=5, mec="black", mew=0.5, label=text, **style))
    return handles
