"""What `mstkd trace` found of images, in lines and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mstkd.artifacts.provenance import hashed
from mstkd.artifacts.sources import provenance_of
from mstkd.data.decode import decode
from mstkd.evaluation.shares import NO_TEACHER, TracedImages
from mstkd.report.canvas import check_format, new_figure, save, set_title
from mstkd.report.rounding import rounded
from mstkd.report.style import COLOURS, STYLE

TITLE = "Teachers' shares of the fused embedding, adaptor {}"
NOTE = "Bars: projection. Diamonds: Shapley values, an absent teacher's block being the mean block."
BAR, DIAMOND = COLOURS[0], "black"
ROW_INCHES = 0.26  # of a bar


class Shown(NamedTuple):
    """One row of the picture: shares of a whole, of which the last is no teacher's."""

    title: str
    images: Sequence[Path]
    projection: dict[str, float]
    shapley: dict[str, float] | None
    unit: str


def _rows(told: TracedImages) -> Iterator[Shown]:
    for one in told.images:
        percent = [
            None if part is None else {name: 100 * share for name, share in part.items()}
            for part in (one.projection, one.shapley)
        ]
        assert percent[0] is not None
        yield Shown(Path(one.image).name, [Path(one.image)], percent[0], percent[1], "percent")
    if told.pair is not None:
        title = f"similarity of the two, {rounded(told.pair.similarity, 3)}"
        images = [Path(one.image) for one in told.images]
        yield Shown(title, images, told.pair.projection, told.pair.shapley, "cosine")


def traced_lines(told: TracedImages) -> list[str]:
    """Lines for a terminal: for each image, and the pair if there is one, a line a teacher."""
    width = max(map(len, (*told.teachers, NO_TEACHER)))
    lines = [f"adaptor {told.adaptor} of the teachers {', '.join(told.teachers)}"]
    for row in _rows(told):
        decimals = 1 if row.unit == "percent" else 3
        lines += ["", f"{row.title}: {row.unit}, by projection (Shapley value)"]
        for name, share in row.projection.items():
            value = "" if row.shapley is None else f" ({rounded(row.shapley[name], decimals):>6})"
            lines.append(f"  {name:<{width}} {rounded(share, decimals):>7}{value}")
    absent = f"In Shapley values an absent teacher's block is {told.absent}"
    return [*lines, "", f'"{NO_TEACHER}" is what no teacher gives: biases. {absent}.']


def render_traced(told: TracedImages, output: Path) -> None:
    """Draw the images, each with its shares.

    Raises:
        InputError: the suffix is not that of a figure.
    """
    check_format(output)
    read = hashed(Path(one.image) for one in told.images)
    title = TITLE.format(told.adaptor)
    with mpl.rc_context(STYLE):
        made = provenance_of("trace", None, read, output)
        save(draw_traced(told, title), output, title=title, made=made)


def draw_traced(told: TracedImages, title: str) -> Figure:
    """A row an image, and one for the pair if there is one: the face and its shares as bars."""
    rows = list(_rows(told))
    height = max(1.3, ROW_INCHES * (len(told.teachers) + 2))
    figure = new_figure(6.5, 0.6 + (height + 0.35) * len(rows))
    grid = figure.subplots(len(rows), 2, squeeze=False, width_ratios=[1, 3])
    for row, (faces, bars) in zip(rows, grid, strict=True):
        pixels = [decode(path) for path in row.images]
        faces.imshow(np.concatenate(pixels, axis=1), interpolation="nearest")
        faces.set_axis_off()
        _draw_bars(bars, row)
    set_title(figure, title)
    if rows[0].shapley is not None:
        figure.supxlabel(NOTE, x=0.01, ha="left", fontsize=7.5)
    return figure


def _draw_bars(axes: Axes, row: Shown) -> None:
    names = list(row.projection)
    values = np.array([row.projection[name] for name in names])
    places = np.arange(len(names))
    colours = ["#bbbbbb" if name == NO_TEACHER else BAR for name in names]
    axes.barh(places, values, color=colours, edgecolor="#444444", lw=0.6, height=0.72)
    if row.shapley is not None:
        given = [row.shapley[name] for name in names]
        axes.plot(given, places, ls="", marker="D", color=DIAMOND, ms=4.5, mec="white", mew=0.6)
        values = np.concatenate([values, given])
    least, most = min(0.0, float(values.min())), max(0.0, float(values.max()))
    axes.set_xlim(least - 0.05 * (most - least), most + 0.2 * (most - least))
    across: Any = axes.get_yaxis_transform()
    decimals = 0 if row.unit == "percent" else 2
    for place, name in enumerate(names):
        text = rounded(row.projection[name], decimals)
        axes.text(0.99, place, text, transform=across, ha="right", va="center", fontsize=8)
    axes.axvline(0, color="#444444", lw=0.8)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_title(f"{row.title}: {row.unit}", loc="left")
