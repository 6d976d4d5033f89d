"""How similar genuine and impostor pairs are, group by group, for the models of a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mstkd.artifacts.contents import hashed_contents
from mstkd.artifacts.provenance import hashed
from mstkd.config import DistributionSettings
from mstkd.evaluation.measures import fold_decisions, separation
from mstkd.report.canvas import check_picture, legend_below_title, new_figure, write_picture
from mstkd.report.rounding import rounded
from mstkd.report.rows import check_comparable, read_rows
from mstkd.report.scored import Scored, scores_path, with_scores
from mstkd.report.style import COLOURS, QUIET, STYLE

BINS = 48  # over all scores of a table
ACROSS = 2  # panels
MOST = 16  # panels; of more models the first
GROUP_INCHES = 0.36
FILL = "#9CC9DA"  # under the line of genuine pairs, which is COLOURS[0]


def render_distributions(
    settings: DistributionSettings, *, metrics: Sequence[Path], outputs: Sequence[Path]
) -> None:
    """Draw the scores of a table's models, and write their histograms.

    Args:
        settings: caption, and the groups in their order.
        metrics: metrics.json files in the order of the rows, each with its scores.h5 beside it; of
            the seeds of a model the first is drawn.
        outputs: files of the one figure, and .csv for its numbers.

    Raises:
        InputError: a suffix is unknown, or the files do not belong in one table.
    """
    check_picture(outputs)
    rows = read_rows(metrics, settings.groups)
    check_comparable(rows)
    scored = with_scores(rows)
    frame, marks = histograms(scored, settings.groups), thresholds(scored, settings.groups)
    with mpl.rc_context(STYLE):
        write_picture(
            "render-distributions",
            hashed(metrics) | hashed_contents(map(scores_path, metrics)),
            outputs,
            numbers=frame.merge(marks, on=["label", "group"]),
            draw=lambda: draw_distributions(frame, marks, settings),
            title=settings.caption,
            message=_message(scored),
            settings=settings,
        )


def histograms(scored: Scored, groups: Sequence[str]) -> pd.DataFrame:
    """A row a bin: `label`, `group`, `kind` of the pairs, `low`, `high`, `pairs` and `density`.

    A score at `low` is in the bin. The density of each kind of each group has an area of 1.
    """
    within = scored.tables[0].within
    scores = np.concatenate([table.similarity[within] for table in scored.tables])
    edges = np.linspace(scores.min(), np.nextafter(scores.max(), np.inf), BINS + 1)
    frames = []
    for label, table in scored.first_seeds:
        for group in groups:
            inside = within & (table.group1 == table.groups.index(group))
            for kind, chosen in (("genuine", table.same), ("impostor", ~table.same)):
                counts, _ = np.histogram(table.similarity[inside & chosen], edges)
                bins = {"low": edges[:-1], "high": edges[1:], "pairs": counts}
                density = counts / max(counts.sum(), 1) / np.diff(edges)
                who = {"label": label, "group": group, "kind": kind}
                frames.append(pd.DataFrame({**who, **bins, "density": density}))
    return pd.concat(frames, ignore_index=True)


def thresholds(scored: Scored, groups: Sequence[str]) -> pd.DataFrame:
    """A row a model and group: `threshold_own` and `threshold_shared`, means over folds."""
    lines = []
    for label, scores in scored.first_seeds:
        table = scores.rows(scores.within)
        columns = table.similarity, table.same, table.fold, table.group1
        own, shared = (
            fold_decisions(*columns, threshold=name).thresholds.mean(axis=1)
            for name in ("own", "shared")
        )
        for group in groups:
            at = table.groups.index(group)
            line = {"threshold_own": own[at], "threshold_shared": shared[at]}
            lines.append({"label": label, "group": group, **line})
    return pd.DataFrame(lines)


def _message(scored: Scored) -> str:
    """What the scores say: in which group of which model genuine pairs stand apart most."""
    found = []
    for label, scores in scored.first_seeds:
        table = scores.rows(scores.within)
        area = separation(table.similarity, table.same, table.group1).auc
        found += [
            (float(one), f"{group} of {label}")
            for group, one in zip(table.groups, np.ravel(area), strict=False)
        ]
    (most, where), (least, there) = max(found), min(found)
    return (
        "Genuine pairs are more similar than impostor pairs most often in group "
        f"{where}, in {rounded(100 * most, 1)} percent of the comparisons of one with the other, "
        f"and least often in {there}, in {rounded(100 * least, 1)}."
    )


def draw_distributions(
    frame: pd.DataFrame, marks: pd.DataFrame, settings: DistributionSettings
) -> Figure:
    """A panel a model, a row a group."""
    labels = list(dict.fromkeys(frame["label"]))
    shown = labels[:MOST]
    across = min(ACROSS, len(shown))
    down = -(-len(shown) // across)
    panel = GROUP_INCHES * len(settings.groups) + 0.45
    figure = new_figure(3.6 * across, 1.15 + panel * down)
    grid = figure.subplots(down, across, squeeze=False, sharex=True)
    for place, axes in enumerate(grid.flat):
        if place >= len(shown):
            axes.set_axis_off()
            continue
        bins, upright = (one[one["label"] == shown[place]] for one in (frame, marks))
        _draw_model(axes, bins, upright, settings.groups)
        axes.set_title(shown[place], loc="left", fontsize=8)
    handles = [
        Patch(facecolor=FILL, edgecolor=COLOURS[0], label="genuine"),
        Line2D([], [], color=COLOURS[1], ls="--", label="impostor"),
        Line2D([], [], color="black", lw=1.4, label="own threshold"),
        Line2D([], [], color=QUIET, lw=1.4, ls=":", label="one for all"),
    ]
    legend_below_title(figure, settings.caption, handles)
    left_out = len(labels) - len(shown)
    more = f"\n{left_out} further models are in the CSV file alone." if left_out else ""
    figure.supxlabel(f"Cosine of the pair's embeddings{more}", fontsize=8)
    return figure


def _draw_model(
    axes: Axes, frame: pd.DataFrame, marks: pd.DataFrame, groups: Sequence[str]
) -> None:
    highest = max(float(frame["density"].max()), 1e-9)
    for row, group in enumerate(groups):
        base = len(groups) - 1 - row
        of_group = frame[frame["group"] == group]
        for kind in ("genuine", "impostor"):
            bins = of_group[of_group["kind"] == kind]
            edges = np.append(bins["low"], bins["high"].iloc[-1:])
            heights = base + 0.92 * bins["density"].to_numpy() / highest
            if kind == "genuine":
                axes.stairs(heights, edges, baseline=base, fill=True, color=FILL, zorder=1)
                axes.stairs(heights, edges, baseline=base, color=COLOURS[0], lw=1.1, zorder=2)
            else:
                axes.stairs(
                    heights, edges, baseline=base, color=COLOURS[1], lw=1.2, ls="--", zorder=3
                )
        mark = marks[marks["group"] == group].iloc[0]
        for column, colour, dash in (
            ("threshold_shared", QUIET, ":"),
            ("threshold_own", "black", "-"),
        ):
            axes.plot([mark[column]] * 2, [base, base + 0.92], color=colour, ls=dash, lw=1.4)
    axes.set_yticks([len(groups) - 1 - row for row in range(len(groups))], groups)
    axes.set_ylim(-0.05, len(groups))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y")
