"""The empty figure, its style, and how it is saved.

Figures are made as `Figure` objects, never through pyplot, so that nothing is left behind in
the process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mstkd.atomic import replacing
from mstkd.errors import InputError
from mstkd.provenance import described
from mstkd.records import Provenance

DPI = 150
FORMATS = (".png", ".svg")
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "mstkd",  # else the ids in an SVG are random
    "svg.fonttype": "none",
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


def check_format(output: Path) -> None:
    """Raise InputError unless the suffix is that of a figure."""
    if output.suffix not in FORMATS:
        raise InputError(output, found=output.suffix or "no suffix", expected=" or ".join(FORMATS))


def save(figure: Figure, output: Path, *, title: str, made: Provenance) -> None:
    """Write the figure whole, with its title, what made it, and no date.

    The same figure gives the same bytes.
    """
    dateless = {"Date": None} if output.suffix == ".svg" else {"Software": None}
    with replacing(output) as (part,):
        told = {"Title": title, "Description": described(made), **dateless}
        figure.savefig(part, format=output.suffix[1:], dpi=DPI, metadata=told)
