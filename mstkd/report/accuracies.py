"""A table's accuracies as a figure: a map of teachers by groups, or a line of dots a student."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from mstkd.artifacts.provenance import hashed
from mstkd.config import TableSettings
from mstkd.report.canvas import check_picture, ink, new_figure, set_title, write_picture
from mstkd.report.rounding import rounded
from mstkd.report.rows import Row, by_section, check_comparable, read_rows
from mstkd.report.shown import shown_table
from mstkd.report.style import FRAME, GROUP_MARKS, STYLE
from mstkd.report.tables import table_frame

NUMBER_OFFSETS = (44, 76)  # points right of the axes, where the numbers end
SECTION_GAP = 0.4  # rows


def render_accuracies(
    settings: TableSettings, *, metrics: Sequence[Path], outputs: Sequence[Path]
) -> None:
    """Draw a table: teachers as a map of teachers by groups, students as dots on a line each.

    Args:
        settings: caption, groups in their order, decimals.
        metrics: metrics.json files in the order of the rows; seeds of a model share a row.
        outputs: files of the one figure, and .csv for its numbers.

    Raises:
        InputError: the suffix is unknown, or the files do not belong in one table.
    """
    check_picture(outputs)
    rows = read_rows(metrics, settings.groups)
    check_comparable(rows)
    draw = draw_map if rows[0].subject.kind == "teacher" else draw_dots
    frame = table_frame(rows, settings.groups)
    with mpl.rc_context(STYLE):
        write_picture(
            "render-accuracies",
            hashed(metrics),
            outputs,
            numbers=frame,
            draw=lambda: draw(rows, settings),
            title=settings.caption,
            message=shown_table(frame, settings.decimals).message,
            settings=settings,
        )


def draw_map(rows: Sequence[Row], settings: TableSettings) -> Figure:
    """Accuracy by colour and number, global accuracy and STD beside; own groups are framed."""
    sections, groups = by_section(rows), settings.groups
    figure = new_figure(2.6 + 0.8 * len(groups), 1.3 + 0.36 * (len(rows) + 0.4 * len(sections)))
    axes = figure.add_subplot()
    accuracies = np.array([row.scores(groups).mean(axis=0)[: len(groups)] for row in rows])
    shares = Normalize(accuracies.min(), accuracies.max())
    margin = 14 + 6 * max(len(row.title) for row in rows)  # points, left of which sections stand
    ticks: list[float] = []
    top = 0.0
    for section, members in sections:
        axes.annotate(
            section,
            (0, top + len(members) / 2),
            xytext=(-margin, 0),
            textcoords="offset points",
            rotation=90,
            va="center",
            ha="right",
            style="italic",
        )
        for row in members:
            _map_row(axes, row, settings, top=top, shares=shares)
            ticks.append(top + 0.5)
            top += 1
        top += SECTION_GAP
    _map_axes(axes, groups, height=top - SECTION_GAP)
    axes.set_yticks(ticks, [row.title for _, members in sections for row in members])
    set_title(figure, settings.caption)
    framed = any(row.own_group(groups) for row in rows)
    note = "\nFramed: the teacher's own group." if framed else ""
    axes.set_xlabel(f"Verification accuracy, percent.{note}", loc="left")
    return figure


def _map_row(
    axes: Axes, row: Row, settings: TableSettings, *, top: float, shares: Normalize
) -> None:
    groups, scores = settings.groups, row.scores(settings.groups).mean(axis=0)
    for x, (group, value) in enumerate(zip(groups, scores, strict=False)):
        share = float(shares(value)) if shares.vmax != shares.vmin else 0.5
        own = row.own_group(groups) == group
        colour = mpl.colormaps["cividis"](share)
        axes.add_patch(Rectangle((x, top), 1, 1, facecolor=colour, edgecolor="white"))
        axes.text(
            x + 0.5,
            top + 0.5,
            rounded(value, settings.decimals),
            ha="center",
            va="center",
            color=ink(colour),
            weight="bold" if own else "normal",
        )
        if own:
            frame = Rectangle((x, top), 1, 1, fill=False, edgecolor=FRAME, lw=2.5, zorder=3)
            axes.add_patch(frame)
    for place, value in zip(_beside(groups), scores[len(groups) :], strict=False):
        axes.text(place, top + 0.5, rounded(value, settings.decimals), ha="center", va="center")


def _beside(groups: Sequence[str]) -> tuple[float, float]:
    return len(groups) + 0.6, len(groups) + 1.45


def _map_axes(axes: Axes, groups: Sequence[str], *, height: float) -> None:
    axes.set_xlim(0, len(groups) + 2)
    axes.set_ylim(height, 0)
    columns = [*(x + 0.5 for x in range(len(groups))), *_beside(groups)]
    axes.set_xticks(columns, [*groups, "Global", "STD"])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_dots(rows: Sequence[Row], settings: TableSettings) -> Figure:
    """A line a model: its groups as marks, its global accuracy as a bar, the numbers beside."""
    sections, groups = by_section(rows), settings.groups
    figure = new_figure(7.2, 1.5 + 0.3 * (len(rows) + len(sections)))
    axes = figure.add_subplot()
    across = axes.get_yaxis_transform()
    ticks: list[int] = []
    y = 0
    for section, members in sections:
        text = axes.text(0.005, y, section, transform=across, va="center", style="italic")
        text.set_color("#444444")
        if y:
            axes.axhline(y - 0.55, color="#bbbbbb", lw=0.8)
        for row in members:
            y += 1
            _dots_row(axes, row, settings, y=y)
            ticks.append(y)
        y += 1
    for offset, word in zip(NUMBER_OFFSETS, ("Global", "STD"), strict=True):
        _beside_dots(axes, word, y=0, offset=offset, weight="bold")
    axes.set_yticks(ticks, [row.title for _, members in sections for row in members])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(y - 0.4, -0.6)
    axes.grid(axis="x")
    axes.set_xlabel("Verification accuracy, percent")
    set_title(figure, settings.caption)
    marks = [
        Line2D([], [], ls="", marker=marker, color=colour, ms=7, label=group)
        for group, (colour, marker) in zip(groups, GROUP_MARKS, strict=False)
    ]
    marks.append(Line2D([], [], ls="", marker="|", color="black", ms=12, mew=2, label="global"))
    axes.legend(
        handles=marks,
        ncols=min(len(marks), 9),
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(-0.02, 0.99),
        handletextpad=0.2,
        columnspacing=1.2,
    )
    return figure


def _dots_row(axes: Axes, row: Row, settings: TableSettings, *, y: int) -> None:
    groups, scores = settings.groups, row.scores(settings.groups).mean(axis=0)
    accuracies, average, std = scores[: len(groups)], scores[-3], scores[-2]
    axes.plot([accuracies.min(), accuracies.max()], [y, y], color="#cccccc", lw=3, zorder=1)
    for value, (colour, marker) in zip(accuracies, GROUP_MARKS, strict=False):
        axes.plot([value], [y], marker, color=colour, ms=8, mec="white", mew=0.7, zorder=2)
    axes.plot([average], [y], "|", color="black", ms=15, mew=2, zorder=3)
    for offset, value in zip(NUMBER_OFFSETS, (average, std), strict=True):
        _beside_dots(axes, rounded(value, settings.decimals), y=y, offset=offset)


def _beside_dots(axes: Axes, text: str, *, y: int, offset: int, weight: str = "normal") -> None:
    axes.annotate(
        text,
        (1, y),
        xycoords=axes.get_yaxis_transform(),
        xytext=(offset, 0),
        textcoords="offset points",
        va="center",
        ha="right",
        weight=weight,
    )
