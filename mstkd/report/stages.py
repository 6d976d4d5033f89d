"""From teachers through the fused space to students: what each stage keeps, loses or gains.

The paper shows teachers and students, and nothing in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mstkd.artifacts.contents import hashed_contents
from mstkd.artifacts.provenance import hashed
from mstkd.artifacts.records import Subject
from mstkd.config import teachers_of
from mstkd.config.grids import split_variant
from mstkd.errors import InputError
from mstkd.evaluation.contrasts import Contrast, accuracy_contrast
from mstkd.evaluation.uncertainty import GroupRates
from mstkd.report.canvas import check_picture, new_figure, set_title, write_picture
from mstkd.report.rounding import rounded
from mstkd.report.rows import SECTIONS
from mstkd.report.scored import Scored, read_scored, scores_path
from mstkd.report.style import STYLE

Floats = NDArray[np.float64]

TITLE = "From teachers through the fused space to students: global accuracy, percent"
NOTE = (
    "Bars: 95 % intervals of people drawn anew. Change: to the stage before it, "
    "that of students to the fused space they are taught."
)
TEACHERS = {
    "specialized": "teachers, each on its own group",
    "baseline": "teachers, their mean",
}
MARKERS = {"teachers": "s", "fused": "D", "student": "o"}
ROW_INCHES = 0.27


class Stage(NamedTuple):
    """Models that stand for a stage: weights (S, M, G) of each seed, which sum to 1."""

    set: str
    stage: Literal["teachers", "fused", "student"]
    adaptor: str
    loss: str
    weights: Floats
    before: Floats | None  # of the stage before it


def render_stages(*, metrics: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Show accuracy from stage to stage, as a figure and as numbers.

    Args:
        metrics: metrics.json files of teachers of one backbone, their adaptors and students, each
            with its scores.h5 beside it.
        outputs: .csv for the numbers, and figures as .png, .svg, .pdf or .html.

    Raises:
        InputError: a suffix is unknown, a file is missing or is not what it must be, or models
            were not scored on the same pairs.
    """
    check_picture(outputs)
    scored = read_scored(metrics)
    frame = stages_frame(scored)
    read = hashed(metrics) | hashed_contents(map(scores_path, metrics))
    with mpl.rc_context(STYLE):
        write_picture(
            "render-stages",
            read,
            outputs,
            numbers=frame,
            draw=lambda: draw_stages(frame),
            title=TITLE,
            message=stages_message(frame),
        )


def stages_message(frame: pd.DataFrame) -> str:
    """What the stages say: of each set, the accuracies of teachers, fused spaces and students."""
    words = {"teachers": "teachers", "fused": "fused spaces", "student": "students"}
    parts = []
    for name in dict.fromkeys(frame["set"]):
        told = []
        for stage, noun in words.items():
            chosen = (frame["set"] == name) & (frame["stage"] == stage)
            values = [rounded(one, 2) for one in sorted(frame.loc[chosen, "global_accuracy"])]
            if values:
                told.append(f"{noun} {' to '.join(dict.fromkeys((values[0], values[-1])))}")
        parts.append(f"{SECTIONS.get(name, name)}: {', '.join(told)}")
    return "; ".join(parts) + "."


def stages_frame(scored: Scored) -> pd.DataFrame:
    """A row a stage: `set`, `stage`, `adaptor`, `loss`, `accuracy_<group>`, and what follows.

    `global_accuracy`, `low` and `high` in percent; `change`, `change_low` and `change_high` to the
    stage before it in percentage points, NaN of teachers; `seeds`. Each group has its own
    threshold, as in the paper.
    """
    rates = scored.rates()["own"]
    groups, lines = len(scored.groups), []
    for stage in _stages(scored.subjects, scored.groups):
        even = stage.weights / groups
        whole = accuracy_contrast(rates, even)
        line: dict[str, Any] = {
            "set": stage.set,
            "stage": stage.stage,
            "adaptor": stage.adaptor,
            "loss": stage.loss,
        }
        for place, group in enumerate(scored.groups):
            line[f"accuracy_{group}"] = _of_group(rates, stage.weights, place)
        line |= {"global_accuracy": whole.value, "low": whole.low, "high": min(whole.high, 100.0)}
        change: Contrast | None = None
        if stage.before is not None:
            change = accuracy_contrast(rates, even - stage.before / groups)
        for name, field in (("change", "value"), ("change_low", "low"), ("change_high", "high")):
            line[name] = np.nan if change is None else getattr(change, field)
        lines.append({**line, "seeds": len(stage.weights)})
    return pd.DataFrame(lines)


def _of_group(rates: GroupRates, weights: Floats, place: int) -> float:
    """The mean over seeds of the accuracy of one group, percent."""
    of_models = weights.mean(axis=0)[:, place]  # (M,)
    return float(100 * (1 - of_models @ rates.rates[:, place]))


def _stages(subjects: Sequence[Subject], groups: Sequence[str]) -> Iterator[Stage]:
    """Those of each set, in the order in which models were given."""
    seeds = list(dict.fromkeys(subject.seed for subject in subjects))

    def weights(chosen: Sequence[Subject], group_of: dict[str, str] | None = None) -> Floats:
        """Evenly over models, or each on a group of its own."""
        found = np.zeros((len(seeds), len(subjects), len(groups)))
        for place, subject in enumerate(subjects):
            if subject in chosen:
                row = found[seeds.index(subject.seed), place]
                row[...] = 1.0 if group_of is None else 0.0
                if group_of is not None and subject.name in group_of:
                    row[groups.index(group_of[subject.name])] = 1.0
        totals = found.sum(axis=1, keepdims=True)
        if not totals.all():
            raise InputError("metrics", found="a model of some seeds", expected="of every seed")
        return found / totals

    for set_ in dict.fromkeys(subject.set for subject in subjects):
        of_set = [subject for subject in subjects if subject.set == set_]
        own = None
        if set_ == "specialized":
            own = {one.name: one.groups[0] for one in teachers_of("specialized", groups)}
        teachers = weights([one for one in of_set if one.kind == "teacher"], own)
        yield Stage(set_, "teachers", "", "", teachers, None)
        for adaptor in dict.fromkeys(one.name for one in of_set if one.kind == "adaptor"):
            mine = [one for one in of_set if one.name == adaptor]
            fused = weights([one for one in mine if one.kind == "adaptor"])
            yield Stage(set_, "fused", adaptor, "", fused, teachers)
            for loss in dict.fromkeys(one.loss or "" for one in mine if one.kind == "student"):
                students = weights([one for one in mine if one.loss == loss])
                yield Stage(set_, "student", adaptor, loss, students, fused)


# ---------------------------------------------------------------- the figure


def draw_stages(frame: pd.DataFrame) -> Figure:
    """A panel a set; a row a stage, its accuracy as a mark with its interval, numbers beside."""
    sets = list(dict.fromkeys(frame["set"]))
    heights = [float((frame["set"] == name).sum()) for name in sets]
    figure = new_figure(7.2, 1.1 + ROW_INCHES * sum(heights) + 0.45 * len(sets))
    grid = figure.subplots(len(sets), 1, squeeze=False, sharex=True, height_ratios=heights)
    for name, axes in zip(sets, grid[:, 0], strict=True):
        _draw_set(axes, frame[frame["set"] == name])
        axes.set_title(SECTIONS.get(name, name), loc="left", weight="bold")
    set_title(figure, TITLE)
    figure.supxlabel(NOTE, x=0.01, ha="left", fontsize=7.5)
    return figure


def _draw_set(axes: Axes, rows: pd.DataFrame) -> None:
    labels, across = [], axes.get_yaxis_transform()
    for y, row in enumerate(rows.to_dict("records")):
        axes.plot([row["low"], row["high"]], [y, y], color="#444444", lw=1.4, zorder=1)
        marker, filled = MARKERS[row["stage"]], row["stage"] != "fused"
        face = "black" if filled else "white"
        axes.plot([row["global_accuracy"]], [y], marker, color="black", mfc=face, ms=6, zorder=2)
        if row["stage"] == "fused":
            axes.axhline(y - 0.5, color="#cccccc", lw=0.8)
        labels.append(_label(row))
        change = ""
        if np.isfinite(row["change"]):
            change, low, high = (
                _signed(row[name]) for name in ("change", "change_low", "change_high")
            )
            change = f"{change}  [{low}, {high}]"
        beside: dict[str, Any] = {
            "xycoords": across,
            "textcoords": "offset points",
            "va": "center",
            "ha": "right",
        }
        text = rounded(row["global_accuracy"], 2)
        axes.annotate(text, (1, y), xytext=(40, 0), **beside)
        axes.annotate(change, (1, y), xytext=(160, 0), **beside)
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    for place, word in ((40, "Global"), (160, "Change, with interval")):
        axes.annotate(
            word,
            (1, 1),
            xycoords="axes fraction",
            xytext=(place, 6),
            textcoords="offset points",
            ha="right",
            weight="bold",
        )


def _label(row: dict[Any, Any]) -> str:
    if row["stage"] == "teachers":
        return TEACHERS.get(row["set"], "teachers")
    if row["stage"] == "fused":
        return f"{split_variant(row['adaptor'])}: fused space"
    return f"{split_variant(row['adaptor'])}: {split_variant(row['loss'])} student"


def _signed(value: float) -> str:
    return rounded(value, 2) if value < 0 else f"+{rounded(value, 2)}"
