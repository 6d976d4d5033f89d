"""The groups of audited systems as dots with their intervals: accuracy, and false matches.

No mark differs by colour alone: each line is named.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from mstkd.evaluation.auditing.audit import Audit
from mstkd.report.audit_answer import Rows
from mstkd.report.canvas import new_figure
from mstkd.report.style import COLOURS, STYLE

MOST_SYSTEMS = 12
LINE, BETWEEN = 0.24, 0.3  # inches of a group's line, and above each system


def draw_groups(audit: Audit, at: str | None) -> bytes:
    """A PNG: a line a group, accuracy to the left, FMR at a place to the right.

    Args:
        audit: with scores; of more than `MOST_SYSTEMS` systems the first.
        at: where the FMR is taken; None for accuracy alone.
    """
    rows, systems = Rows(audit), audit.systems[:MOST_SYSTEMS]
    height = 0.9 + len(systems) * (LINE * len(audit.groups) + BETWEEN)
    with mpl.rc_context(STYLE):
        figure = new_figure(7.2, height)
        panels = figure.subplots(1, 1 if at is None else 2, sharey=True, squeeze=False)[0]
        places: list[float] = []
        names: list[str] = []
        y = 0.0
        for system in systems:
            y += BETWEEN
            panels[0].annotate(
                system,
                (0, y - BETWEEN / 2),
                xycoords=panels[0].get_yaxis_transform(),
                xytext=(2, 0),
                textcoords="offset points",
                va="center",
                weight="bold",
            )
            for group in audit.groups:
                y += LINE
                places.append(y - LINE / 2)
                names.append(group)
        for axes, measure, place in zip(panels, ("accuracy", "fmr"), ("own", at), strict=False):
            _panel(axes, rows, systems, audit.groups, places, measure, str(place))
        panels[0].set_yticks(places, names)
        panels[0].set_ylim(y + LINE / 2, 0)
        panels[0].set_xlabel("Accuracy, percent, own thresholds")
        if at is not None:
            panels[1].set_xscale("log")
            panels[1].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panels[1].xaxis.set_minor_formatter(NullFormatter())
            panels[1].xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            panels[1].set_xlabel(f"False match rate at {at}")
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=figure.dpi, metadata={"Software": None})
    return image.getvalue()


def _panel(
    axes: Axes,
    rows: Rows,
    systems: Sequence[str],
    groups: Sequence[str],
    places: Sequence[float],
    measure: str,
    at: str,
) -> None:
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    keys = [(system, group) for system in systems for group in groups]
    for (system, group), y in zip(keys, places, strict=True):
        row = rows.get(system, group, measure, at)
        if row is None or math.isnan(row.value):
            text = axes.text(0.5, y, "too few errors", va="center", ha="center", fontsize=8)
            text.set_transform(axes.get_yaxis_transform())
            text.set_color("#666666")
            continue
        axes.plot([row.low, row.high], [y, y], color=COLOURS[0], lw=2)
        axes.plot([row.value], [y], "o", color="black", ms=5)
    whole = {"accuracy": "global_accuracy"}.get(measure, measure)
    for number, system in enumerate(systems):
        row = rows.get(system, "", whole, at)
        if row is None or math.isnan(row.value):
            continue
        ends = places[number * len(groups)], places[(number + 1) * len(groups) - 1]
        axes.plot([row.value] * 2, [ends[0] - LINE / 2, ends[1] + LINE / 2], "k--", lw=0.8)
