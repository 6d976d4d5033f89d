"""FMR of every two groups over all impostor pairs, as maps: a table's models side by side.

Shades and their steps are those of the page of an audit.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mstkd.artifacts.provenance import hashed
from mstkd.artifacts.records import Subject
from mstkd.config import MapSettings
from mstkd.errors import InputError
from mstkd.evaluation.auditing.all_impostors import ImpostorRow
from mstkd.report.audit_matrix import SHADES, Rows, cell_of, shade
from mstkd.report.canvas import check_format, ink, new_figure, set_title, write_picture
from mstkd.report.paper import labels_of
from mstkd.report.style import STYLE

NOTES = (
    "All pairs of images of two people, percent; rows and columns: their groups. The darker, the "
    "further above the FMR of all groups: at a tenth, a third, once, three and ten times it.",
    "few: fewer than ten false matches, of which no rate is told. Intervals are in the CSV file.",
)
NOTE_LETTERS_AN_INCH = 15
WHO = list(Subject.model_fields)
NUMBERS = ("threshold", "value", "low", "high", "confidence", "pairs", "errors")
TEXTS = dict.fromkeys((*WHO[:-1], "group1", "group2", "measure", "at", "method", "note"), str)
ACROSS = 4  # panels
CELL = (0.44, 0.3)  # inches


def render_impostors(settings: MapSettings, *, impostors: Path, outputs: Sequence[Path]) -> None:
    """Draw false matches within and across groups.

    Args:
        settings: caption, and the groups in their order.
        impostors: the CSV file of `score_impostors`.
        outputs: .png, .svg, .pdf or .html files.

    Raises:
        InputError: a suffix is unknown, or the file is not what it must be.
    """
    for output in outputs:
        check_format(output)
    models = read_impostors(impostors)
    for rows in models.values():
        missing = {group for key in rows for group in key[:2] if group} - set(settings.groups)
        if missing:
            found, expected = ", ".join(sorted(missing)), f"groups {', '.join(settings.groups)}"
            raise InputError(impostors, found=f"groups {found}", expected=expected)
    with mpl.rc_context(STYLE):
        write_picture(
            "render-impostors",
            hashed([impostors]),
            outputs,
            draw=lambda: draw_impostors(models, settings),
            title=settings.caption,
            message=impostors_message(models),
            settings=settings,
        )


def read_impostors(path: Path) -> dict[str, Rows]:
    """The rows of each model by its label.

    Raises:
        InputError: the file is missing or is not such a table.
    """
    try:
        # A group may be called NA.
        blank: dict[str, list[str]] = {name: [""] for name in NUMBERS}
        frame = pd.read_csv(path, keep_default_na=False, na_values=blank, dtype=TEXTS)
    except OSError as error:
        raise InputError(path, found=error.strerror, expected="impostors of a table") from None
    except ValueError as error:
        raise InputError(path, found=error, expected="impostors of a table, in CSV") from None
    columns = [one for one in ImpostorRow._fields if one != "system"]
    for column in (*WHO, *columns):
        if column not in frame:
            expected = f"a column {column!r} of impostors of a table"
            raise InputError(path, found=f"columns {', '.join(map(str, frame))}", expected=expected)
    subjects = [Subject.model_validate(one) for one in frame[WHO].to_dict("records")]
    found: dict[str, Rows] = {}
    for label, row in zip(labels_of(subjects), frame[columns].itertuples(index=False), strict=True):
        one = ImpostorRow(label, *row)
        found.setdefault(label, {})[one.group1, one.group2, one.measure] = one
    return found


def impostors_message(models: dict[str, Rows]) -> str:
    """What the maps say: between which groups of which model false matches are most frequent."""
    rates = [
        (row.value, f"{_between(row)} of {label}, {_percent(row.value)} percent")
        for label, rows in models.items()
        for row in rows.values()
        if row.measure == "fmr" and row.group1 and not math.isnan(row.value)
    ]
    if not rates:
        return "Too few false matches for a rate between any two groups."
    return f"False matches are most frequent {max(rates)[1]}, and least {min(rates)[1]}."


def _percent(rate: float) -> str:
    return f"{100 * rate:#.3g}".removesuffix(".")


def _between(row: ImpostorRow) -> str:
    if row.group1 == row.group2:
        return f"within {row.group1}"
    return f"between {row.group1} and {row.group2}"


def draw_impostors(models: dict[str, Rows], settings: MapSettings) -> Figure:
    """A panel a model: the groups of one image by those of the other."""
    count = len(settings.groups)
    across = min(ACROSS, len(models))
    down = -(-len(models) // across)
    width, height = max(CELL[0] * (count + 0.5), 1.9), max(CELL[1] * (count + 0.5), 0.8)
    figure = new_figure(max(0.3 + width * across, 5.5), 1.15 + (height + 0.5) * down)
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat[len(models) :]:
        axes.set_axis_off()
    for (label, rows), axes in zip(models.items(), grid.flat, strict=False):
        _draw_map(axes, rows, settings.groups)
        axes.set_title(label, loc="left", fontsize=8)
    set_title(figure, settings.caption)
    letters = int(NOTE_LETTERS_AN_INCH * figure.get_size_inches()[0])
    note = "\n".join(textwrap.fill(one, letters) for one in NOTES)
    figure.supxlabel(note, x=0.01, ha="left", fontsize=7.5)
    return figure


def _draw_map(axes: Axes, rows: Rows, groups: Sequence[str]) -> None:
    whole = rows["", "", "fmr"]
    for (y, a), (x, b) in itertools.product(enumerate(groups), repeat=2):
        row = cell_of(rows, a, b) if len(rows) > 1 else whole._replace(value=math.nan)
        unknown = math.isnan(row.value)
        step = None if unknown else shade(row.value, whole.value)
        colour = "white" if step is None else SHADES[step]
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="#999999", lw=0.6))
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7.5}
        text = "few" if unknown else _percent(row.value)
        axes.text(x + 0.5, y + 0.5, text, color=ink(colour), **style)
    axes.set_xlim(0, len(groups))
    axes.set_ylim(len(groups), 0)
    axes.set_xticks([x + 0.5 for x in range(len(groups))], groups)
    axes.set_yticks([y + 0.5 for y in range(len(groups))], groups)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
