"""DET curves: the errors that a threshold trades against each other, for each group of each model.

After Martin et al., Eurospeech 1997: both axes are normal deviates (probits), on which curves of
normal scores are straight, and low error rates have room.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mstkd.artifacts.contents import hashed_contents
from mstkd.artifacts.provenance import hashed
from mstkd.evaluation.verification import roc
from mstkd.report.accuracies import COLOURS
from mstkd.report.canvas import STYLE, check_picture, new_figure, write_picture
from mstkd.report.curves import DASHES
from mstkd.report.paper import called
from mstkd.report.scored import Scored, read_scored, scores_path

Floats = NDArray[np.float64]

TITLE = "DET curves of each group"
NOTE = "Probit axes, percent. The nearer to the corner below, on the left, the fewer errors."
TICKS = (0.001, 0.01, 0.05, 0.2, 0.5)
SPAN = (0.0005, 0.6)  # of either rate
POINTS = 200  # of a curve, at most
ACROSS = 4  # panels
MOST = 48  # panels; of a larger grid the first
PANEL_INCHES = 2.15


def render_det(*, metrics: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Draw FNMR against FMR of each group of each model, and write the curves.

    Args:
        metrics: metrics.json files, each with its scores.h5 beside it; of the seeds of a model the
            first is drawn.
        outputs: .csv for the numbers, and .png, .svg, .pdf or .html files of the figure.

    Raises:
        InputError: a suffix is unknown, a file is missing or is not what it must be, or models
            were not scored on the same pairs.
    """
    check_picture(outputs)
    frame = det_frame(read_scored(metrics))
    read = hashed(metrics) | hashed_contents(map(scores_path, metrics))
    with mpl.rc_context(STYLE):
        write_picture(
            "render-det", read, outputs, numbers=frame, draw=lambda: draw_det(frame), title=TITLE
        )


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
    of_teachers = {subject.backbone for subject in scored.subjects if subject.set != "none"}
    first = scored.subjects[0].seed
    for subject, table in zip(scored.subjects, scored.tables, strict=True):
        if subject.seed != first:
            continue
        label = called(subject, with_backbone=len(of_teachers) > 1)
        for place, group in enumerate(table.groups):
            inside = (table.group1 == place) & table.within
            fmr, fnmr = det_curve(table.similarity[inside], table.same[inside])
            frames.append(pd.DataFrame({"label": label, "group": group, "fmr": fmr, "fnmr": fnmr}))
    return pd.concat(frames, ignore_index=True)


def draw_det(frame: pd.DataFrame) -> Figure:
    """A panel a model, a line a group."""
    labels = list(dict.fromkeys(frame["label"]))
    shown, groups = labels[:MOST], list(dict.fromkeys(frame["group"]))
    across = min(ACROSS, len(shown))
    down = -(-len(shown) // across)
    figure = new_figure(0.5 + PANEL_INCHES * across, 1.0 + (PANEL_INCHES + 0.2) * down)
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    for place, axes in enumerate(grid.flat):
        if place >= len(shown):
            axes.set_axis_off()
            continue
        of_model = frame[frame["label"] == shown[place]]
        for group, (colour, dashes) in zip(groups, _styles(), strict=False):
            curve = of_model[of_model["group"] == group]
            x, y = (special.ndtri(curve[name].to_numpy()) for name in ("fmr", "fnmr"))
            axes.plot(x, y, color=colour, ls=dashes, lw=1.4, label=group)
        axes.set_title(shown[place], loc="left", fontsize=8)
        _probit_axes(axes)
    grid.flat[0].legend(frameon=False, loc="lower left", fontsize=8, handlelength=2.6)
    figure.suptitle(TITLE, x=0.01, ha="left", weight="bold", fontsize=9)
    figure.supylabel("False non-match rate, percent", fontsize=8.5)
    left_out = len(labels) - len(shown)
    more = f" {left_out} further models are in the CSV file alone." if left_out else ""
    figure.supxlabel(f"False match rate, percent\n{NOTE}{more}", fontsize=8)
    return figure


def _styles() -> Iterator[tuple[str, object]]:
    for place in range(len(COLOURS) * len(DASHES)):
        yield COLOURS[place % len(COLOURS)], DASHES[place % len(DASHES)]


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
