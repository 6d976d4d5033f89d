"""The empty figure, its style, and how it is saved.

Figures are made as `Figure` objects, never through pyplot, so that nothing is left behind in
the process.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mstkd.artifacts.atomic import replacing
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
MOST_PIXELS = 60_000  # of a side; Matplotlib refuses more than 65,535
FORMATS = (".png", ".svg", ".pdf", ".html")
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "mstkd",  # else the ids in an SVG are random
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # TrueType, which journals ask for
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` by `height` inches with room for its labels."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


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
    numbers: pd.DataFrame,
    draw: Callable[[], Figure],
    title: str,
) -> None:
    """Write one figure in several formats and its numbers as CSV, with what made them.

    Args:
        step: the sub-command, which takes no settings.
        read: the files that it read, with their content hashes.
        outputs: as `check_picture` takes them.
        numbers: what the .csv holds.
        draw: called for each figure, since one that is saved again has moved a little.
        title: of the figure.
    """
    for output in outputs:
        made = provenance_of(step, None, read, output)
        if output.suffix == ".csv":
            write_numbers(numbers, output, made)
        else:
            save(draw(), output, title=title, made=made)


def write_numbers(frame: pd.DataFrame, output: Path, made: Provenance) -> None:
    """Write the numbers of a picture as CSV in full precision, and what made them beside it."""
    text = frame.to_csv(index=False, lineterminator="\n")
    with replacing(sidecar(output), output) as (record, rows):
        record.write_text(beside(text, made), encoding="utf-8")
        rows.write_text(text, encoding="utf-8")


def save(figure: Figure, output: Path, *, title: str, made: Provenance) -> None:
    """Write the figure whole, with its title, what made it, and no date.

    The same figure gives the same bytes. An .html file is a page that holds the image.
    """
    kind = output.suffix[1:] if output.suffix in VECTORS else "png"
    description, dateless = METADATA[kind]
    vectors = output.suffix in VECTORS  # a PNG has checksums of its own
    record = described(to_be_hashed(made) if vectors else made)
    told = {"Title": title, description: record, **dict.fromkeys(dateless)}
    image = io.BytesIO()
    dpi = min(DPI, MOST_PIXELS / max(figure.get_size_inches()))
    figure.savefig(image, format=kind, dpi=dpi, metadata=told)
    content = with_hash(image.getvalue()) if vectors else image.getvalue()
    if output.suffix == ".html":
        data = base64.b64encode(content).decode("ascii")
        page = page_html("figure.html", title=title, png=data)
        content = embedded(page, made, ".html").encode()
    with replacing(output) as (part,):
        part.write_bytes(content)
