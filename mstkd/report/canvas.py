"""The empty figure, and how it is saved.

Figures are made as `Figure` objects, never through pyplot, so that nothing is left behind in
the process.
"""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from pydantic import BaseModel

from mstkd.artifacts.atomic import replacing
from mstkd.artifacts.cells import csv_of
from mstkd.artifacts.provenance import beside, described, embedded, sidecar, to_be_hashed, with_hash
from mstkd.artifacts.records import Provenance
from mstkd.artifacts.sources import provenance_of
from mstkd.errors import InputError
from mstkd.report.templates import page_html

DPI = 150
VECTORS = (".svg", ".pdf")
# What each format calls a description, and what is left out: the date and the version of software.
METADATA = {
    "png": ("Description", ("Software",)),
    "svg": ("Description", ("Date",)),
    "pdf": ("Subject", ("CreationDate", "Creator", "Producer")),
}
LETTERS_AN_INCH = 12  # of a title
LINE_INCHES = 0.155  # of a title's line
COMMENT = "Comment"  # of a PNG: what it says
MOST_PIXELS = 60_000  # of a side; Matplotlib refuses more than 65,535
FORMATS = (".png", ".svg", ".pdf", ".html")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` by `height` inches with room for its labels."""
    size, dpi = (width, height), min(DPI, MOST_PIXELS / max(width, height))
    figure = Figure(figsize=size, dpi=dpi, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def set_title(figure: Figure, title: str, *, room: bool = False) -> int:
    """Above the whole figure, in as many lines as it takes, which are returned.

    Args:
        figure: whose panels may be narrow.
        title: its text.
        room: whether a line is left empty below it, for `legend_below_title`.
    """
    text = textwrap.fill(title, int(LETTERS_AN_INCH * figure.get_size_inches()[0]))
    below = "\n " if room else ""
    figure.suptitle(f"{text}{below}", x=0.01, ha="left", weight="bold", fontsize=9)
    return text.count("\n") + 1


def legend_below_title(figure: Figure, title: str, handles: Sequence[Artist]) -> None:
    """The title above the whole figure, and what its marks mean in the line below."""
    lines = set_title(figure, title, room=True)
    top = 1 - (0.02 + LINE_INCHES * lines) / figure.get_size_inches()[1]
    figure.legend(
        handles=list(handles),
        loc="upper left",
        bbox_to_anchor=(0.0, top),
        ncols=min(len(handles), 8),
        frameon=False,
        fontsize=8,
        handlelength=2.6,
    )


def ink(background: Any) -> str:
    """Black or white, whichever stands out more from a colour: by 4.5 or more (WCAG 2.2)."""
    channels = np.array(to_rgb(background))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    return "black" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white"


def check_format(output: Path) -> None:
    """Raise InputError unless the suffix is that of a figure."""
    if output.suffix not in FORMATS:
        raise InputError(output, found=output.suffix or "no suffix", expected=" or ".join(FORMATS))


def check_picture(outputs: Iterable[Path]) -> None:
    """Raise InputError unless each is a figure's file, or .csv for its numbers."""
    for output in outputs:
        if output.suffix != ".csv":
            check_format(output)


def write_picture(
    step: str,
    read: Mapping[Path, str],
    outputs: Iterable[Path],
    *,
    draw: Callable[[], Figure],
    title: str,
    message: str,
    numbers: pd.DataFrame | None = None,
    settings: BaseModel | None = None,
) -> None:
    """Write one figure in several formats and its numbers as CSV, with what made them.

    Args:
        step: the sub-command.
        read: the files that it read, with their content hashes.
        outputs: as `check_picture` takes them.
        draw: called once, and not at all for numbers alone.
        title: of the figure.
        message: what it says, for those who do not see it.
        numbers: what the .csv holds; not needed where none is among the outputs.
        settings: of the step.
    """
    figure = None
    for output in outputs:
        made = provenance_of(step, settings, read, output)
        if output.suffix == ".csv":
            assert numbers is not None
            write_numbers(numbers, output, made)
        else:
            figure = figure or laid_out(draw())
            save(figure, output, title=title, message=message, made=made)


def laid_out(figure: Figure) -> Figure:
    """The figure with its parts where they stay; a layout takes time, and moves them a little."""
    figure.draw_without_rendering()
    without_layout(figure)
    return figure


def without_layout(figure: Figure) -> None:
    """No layout from here on.

    With "none" Matplotlib keeps the place of one, for which it draws each picture twice.
    """
    with rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)


def write_numbers(frame: pd.DataFrame, output: Path, made: Provenance) -> None:
    """Write the numbers of a picture as CSV in full precision, and what made them beside it."""
    text = csv_of(frame)
    with replacing(sidecar(output), output) as (record, rows):
        record.write_text(beside(text, made), encoding="utf-8")
        rows.write_text(text, encoding="utf-8")


def save(figure: Figure, output: Path, *, title: str, made: Provenance, message: str = "") -> None:
    """Write the figure whole, with its title, what it says, what made it, and no date.

    What it says stands in a PNG as its comment. The same figure gives the same bytes. An .html file
    is a page that holds the image.
    """
    kind = output.suffix[1:] if output.suffix in VECTORS else "png"
    description, dateless = METADATA[kind]
    vectors = output.suffix in VECTORS  # a PNG has checksums of its own
    record = described(to_be_hashed(made) if vectors else made)
    told = {"Title": title, description: record, **dict.fromkeys(dateless)}
    if message and not vectors:
        told[COMMENT] = message
    image = io.BytesIO()
    figure.savefig(image, format=kind, dpi=figure.dpi, metadata=told)
    content = with_hash(image.getvalue()) if vectors else image.getvalue()
    if output.suffix == ".html":
        data = base64.b64encode(content).decode("ascii")
        alt = " ".join(filter(None, (title, message)))
        page = page_html("figure.html", title=title, alt=alt, png=data)
        content = embedded(page, made, ".html").encode()
    with replacing(output) as (part,):
        part.write_bytes(content)
