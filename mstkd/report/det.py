"""DET and ROC curves: what a threshold trades against each other, for each group of each model.

DET after Martin et al., Eurospeech 1997: both axes are normal deviates (probits), on which curves
of normal scores are straight, and low error rates have room. ROC as ISO/IEC 19795-1 has it for
verification: the axis of false matches in steps of ten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mstkd.artifacts.contents import hashed_contents
from mstkd.artifacts.provenance import hashed
from mstkd.errors import InputError
from mstkd.evaluation.verification import roc
from mstkd.report.canvas import check_picture, legend_below_title, new_figure, write_picture
from mstkd.report.rounding import rounded
from mstkd.report.scored import Scored, read_scored, scores_path
from mstkd.report.style import GROUP_LINES, STYLE

Floats = NDArray[np.float64]

TITLE = "DET curves of each group"
NOTE = "Probit axes, percent. The nearer to the corner below, on the left, the fewer errors."
ROC_TITLE = "ROC curves of each group"
ROC_NOTE = "Logarithmic axis. The nearer to the corner above, on the left, the fewer errors."
AT = 0.01  # the FMR at which curves are told in words
LEAST = 0.001  # FMR of an ROC curve's axis; below, few lists of pairs tell anything
TICKS = (0.001, 0.01, 0.05, 0.2, 0.5)
SPAN = (0.0005, 0.6)  # of either rate
POINTS = 200  # of a curve, at most
ACROSS = 4  # panels
MOST = 48  # panels; of a larger grid the first
PANEL_INCHES = 2.15


class Kind(NamedTuple):
    """One of the pictures."""

    title: str
    frame: Callable[[pd.DataFrame], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Figure]


def render_det(*, metrics: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Draw the errors of each group of each model against each other, and write the curves.

    Args:
        metrics: metrics.json files, each with its scores.h5 beside it; of the seeds of a model the
            first is drawn.
        outputs: .csv for the numbers, and .png, .svg, .pdf or .html files of the figures, whose
            names are `det` or `roc`.

    Raises:
        InputError: a suffix or name is unknown, a file is missing or is not what it must be, or
            models were not scored on the same pairs.
    """
    check_picture(outputs)
    for output in outputs:
        if output.stem not in KINDS:
            raise InputError(output, found=output.stem, expected=f"a name {' or '.join(KINDS)}")
    frame = det_frame(read_scored(metrics))
    message = det_message(frame)
    read = hashed(metrics) | hashed_contents(map(scores_path, metrics))
    with mpl.rc_context(STYLE):
        for name, kind in KINDS.items():
            write_picture(
                "render-det",
                read,
                [output for output in outputs if output.stem == name],
                numbers=kind.frame(frame),
                draw=partial(kind.draw, frame),
                title=kind.title,
                message=message,
            )


def det_message(frame: pd.DataFrame) -> str:
    """What the curves say: which groups of which models miss least and most at one FMR."""
    missed = []
    for (label, group), curve in frame.groupby(["label", "group"], sort=False):
        if curve["fmr"].min() <= AT <= curve["fmr"].max():
            rising = curve.sort_values("fmr")
            fnmr = float(np.interp(AT, rising["fmr"], rising["fnmr"]))
            missed.append((fnmr, f"{rounded(100 * fnmr, 1)} percent, group {group} of {label}"))
    if not missed:
        return ""
    at = f"At a false match rate of {100 * AT:g} percent of each group the false non-match rate"
    return f"{at} is lowest with {min(missed)[1]}, and highest with {max(missed)[1]}."


def det_curve(similarity: ArrayLike, same: ArrayLike) -> tuple[Floats, Floats]:
    """FMR and FNMR (N,) at the thresholds of some pairs, fractions, neither 0 nor 1.

    Of more than `POINTS` thresholds those are kept that lie evenly on the axes.

    Args:
        similarity: (P,).
        same: (P,), True for genuine pairs.

    Raises:
        ValueError: pairs of one class only.
    """
    fmr, tar = roc(-np.asarray(similarity, np.float64), same)
    inside = (fmr > 0) & (fmr < 1) & (tar > 0) & (tar < 1)
    fmr, fnmr = fmr[inside], 1 - tar[inside]
    if len(fmr) <= POINTS:
        return fmr, fnmr
    along = special.ndtri(fmr) - special.ndtri(fnmr)  # rises along the curve
    kept = np.searchsorted(along, np.linspace(along[0], along[-1], POINTS))
    kept = np.unique(np.minimum(kept, len(fmr) - 1))
    return fmr[kept], fnmr[kept]


def det_frame(scored: Scored) -> pd.DataFrame:
    """A row a point of a curve: `label`, `group`, `fmr` and `fnmr`, fractions."""
    frames = []
    for label, table in scored.first_seeds:
        for place, group in enumerate(table.groups):
            inside = (table.group1 == place) & table.within
            fmr, fnmr = det_curve(table.similarity[inside], table.same[inside])
            frames.append(pd.DataFrame({"label": label, "group": group, "fmr": fmr, "fnmr": fnmr}))
    return pd.concat(frames, ignore_index=True)


def roc_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """The same points with `tar`, 1 - FNMR, in place of `fnmr`."""
    return frame.assign(tar=1 - frame["fnmr"]).drop(columns="fnmr")


def draw_det(frame: pd.DataFrame) -> Figure:
    """A panel a model, a line a group; probit axes."""

    def curve(axes: Axes, points: pd.DataFrame, **style: Any) -> None:
        axes.plot(*(special.ndtri(points[name].to_numpy()) for name in ("fmr", "fnmr")), **style)

    words = ("False non-match rate, percent", f"False match rate, percent\n{NOTE}")
    return _panels(frame, TITLE, words, curve, _probit_axes)


def draw_roc(frame: pd.DataFrame) -> Figure:
    """A panel a model, a line a group; false match rates in steps of ten."""

    def curve(axes: Axes, points: pd.DataFrame, **style: Any) -> None:
        axes.plot(100 * points["fmr"], 100 * (1 - points["fnmr"]), **style)

    words = ("True acceptance rate, percent", f"False match rate, percent\n{ROC_NOTE}")
    return _panels(frame, ROC_TITLE, words, curve, _roc_axes)


def _panels(
    frame: pd.DataFrame,
    title: str,
    words: tuple[str, str],
    curve: Callable[..., None],
    finish: Callable[[Axes], None],
) -> Figure:
    labels = list(dict.fromkeys(frame["label"]))
    shown, groups = labels[:MOST], list(dict.fromkeys(frame["group"]))
    across = min(ACROSS, len(shown))
    down = -(-len(shown) // across)
    figure = new_figure(0.5 + PANEL_INCHES * across, 1.25 + (PANEL_INCHES + 0.2) * down)
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    for place, axes in enumerate(grid.flat):
        if place >= len(shown):
            axes.set_axis_off()
            continue
        of_model = frame[frame["label"] == shown[place]]
        for group, (colour, dashes) in zip(groups, GROUP_LINES, strict=False):
            points = of_model[of_model["group"] == group]
            curve(axes, points, color=colour, ls=dashes, lw=1.4, label=group)
        axes.set_title(shown[place], loc="left", fontsize=8)
        finish(axes)
    legend_below_title(figure, title, grid.flat[0].get_legend_handles_labels()[0])
    figure.supylabel(words[0], fontsize=8.5)
    left_out = len(labels) - len(shown)
    more = f" {left_out} further models are in the CSV file alone." if left_out else ""
    figure.supxlabel(f"{words[1]}{more}", fontsize=8)
    return figure


def _probit_axes(axes: Axes) -> None:
    places, names = special.ndtri(TICKS), [f"{100 * tick:g}" for tick in TICKS]
    axes.set_xticks(places, names)
    axes.set_yticks(places, names)
    low, high = special.ndtri(SPAN)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.plot([low, high], [low, high], color="#bbbbbb", lw=0.8, zorder=0)  # equal errors
    axes.grid()
    axes.set_aspect("equal")


def _roc_axes(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_xlim(100 * LEAST, 100)
    axes.set_ylim(0, 100)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    chance = 100 * np.geomspace(LEAST, 1)
    axes.plot(chance, chance, color="#bbbbbb", lw=0.8, zorder=0)
    axes.grid()
    axes.set_box_aspect(1)


KINDS = {
    "det": Kind(TITLE, lambda frame: frame, draw_det),
    "roc": Kind(ROC_TITLE, roc_frame, draw_roc),
}
