"""All models with intervals: accuracy of each group, and STD against global accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mstkd.artifacts.provenance import hashed
from mstkd.artifacts.records import read_record
from mstkd.errors import InputError
from mstkd.report.canvas import check_picture, new_figure, set_title, write_picture
from mstkd.report.claims import Claims
from mstkd.report.judgements import ModelTold
from mstkd.report.rounding import rounded
from mstkd.report.rows import SECTIONS
from mstkd.report.style import GROUP_MARKS, SET_MARKS, STYLE

NUMBERED = 40  # models, of more there is no room for names beside a picture
NOTE = "Bars: 95 % intervals of people drawn anew; each group has its own threshold."
SEEDS_NOTE = "Small: each seed with its interval; large: the mean over seeds."
SPREAD_NOTE = (
    f"{NOTE} STD is without what noise adds to it. Dashed: what an even system shows on these "
    "pairs in 19 of 20 cases. Hollow: teachers. Fair and accurate is below and to the right."
)


class Kind(NamedTuple):
    """One of the pictures."""

    title: str
    frame: Callable[[Claims], pd.DataFrame]
    draw: Callable[[Claims], Figure]
    message: Callable[[Claims], str]


def render_intervals(*, claims: Path, outputs: Sequence[Path]) -> None:
    """Draw accuracies of groups, and STD against global accuracy, of all models with intervals.

    Args:
        claims: claims.json.
        outputs: .csv for the numbers of a picture, and .png, .svg, .pdf or .html of it, whose
            names end in `-groups` or `-std`.

    Raises:
        InputError: a suffix or ending is unknown, or the file is not what it must be.
    """
    check_picture(outputs)
    kinds = {output: _kind(output) for output in outputs}
    told = read_record(Claims, claims)
    read = hashed([claims])
    with mpl.rc_context(STYLE):
        for kind in KINDS.values():
            write_picture(
                "render-intervals",
                read,
                [output for output in outputs if kinds[output] is kind],
                numbers=kind.frame(told),
                draw=partial(kind.draw, told),
                title=kind.title,
                message=kind.message(told),
            )


def _kind(output: Path) -> Kind:
    ending = output.stem.rpartition("-")[2]
    if ending not in KINDS:
        expected = " or ".join(f"...-{one}" for one in KINDS)
        raise InputError(output, found=output.stem, expected=f"a name {expected}")
    return KINDS[ending]


def _shown(told: Claims) -> list[ModelTold]:
    """All models at the paper's thresholds, teachers first."""
    models = [model for model in told.models if model.threshold == "own"]
    return sorted(models, key=lambda model: model.subject.kind != "teacher")


def groups_message(told: Claims) -> str:
    """What the accuracies say: how many models have groups that their intervals hold apart."""
    models = _shown(told)
    apart = sum(
        max(one.low for one in model.groups.values())
        > min(one.high for one in model.groups.values())
        for model in models
    )
    every = [
        (found.value, f"{group} of {_named(model, told)}, {rounded(found.value, 2)}")
        for model in models
        for group, found in model.groups.items()
    ]
    return (
        f"Of {len(models)} models {apart} have two groups whose intervals do not overlap. Highest: "
        f"{max(every)[1]}; lowest: {min(every)[1]} percent."
    )


def std_message(told: Claims) -> str:
    """What STD says: which models are less even than noise alone would show."""
    models = _shown(told)
    uneven = sum(one.std.value is not None and one.std.value > one.std.floor_high for one in models)
    most, least = (choose(models, key=lambda one: one.std.corrected) for choose in (max, min))
    return (
        f"Of {len(models)} models {uneven} have a STD above what an even system shows in 19 of 20 "
        f"cases. Without noise the most even is {_named(least, told)} with STD "
        f"{rounded(least.std.corrected, 2)} at {rounded(least.global_accuracy.value, 2)} percent, "
        f"the least even {_named(most, told)} with {rounded(most.std.corrected, 2)} at "
        f"{rounded(most.global_accuracy.value, 2)} percent."
    )


def groups_frame(told: Claims) -> pd.DataFrame:
    """A row a model and group: who it is, `group`, `accuracy`, `low` and `high`, percent."""
    return pd.DataFrame(
        {
            "label": model.label,
            **model.subject.model_dump(),
            "group": group,
            "accuracy": model.groups[group].value,
            "low": model.groups[group].low,
            "high": model.groups[group].high,
        }
        for model in _shown(told)
        for group in told.groups
    )


def std_frame(told: Claims) -> pd.DataFrame:
    """A row a model: who it is, global accuracy with its interval, and of STD all that is known."""
    return pd.DataFrame(
        {
            "label": model.label,
            **model.subject.model_dump(),
            "global_accuracy": model.global_accuracy.value,
            "global_low": model.global_accuracy.low,
            "global_high": model.global_accuracy.high,
            **{f"std_{name}": value for name, value in model.std.model_dump().items()},
        }
        for model in _shown(told)
    )


def draw_groups(told: Claims) -> Figure:
    """A row a model, whatever its seeds; its groups one below the other, each with its interval.

    Of several seeds there is a small mark each, and a large one where their mean is.
    """
    groups = told.groups
    rows: dict[str, list[ModelTold]] = {}
    for model in _shown(told):
        rows.setdefault(model.label, []).append(model)
    several = len(told.seeds) > 1
    of_seed: dict[str, Any] = {"ms": 3.0, "alpha": 0.6} if several else {}
    step = 0.7 / max(len(groups), 1)
    height = (0.12 * len(groups) + 0.14) * len(rows)
    figure = new_figure(7.2, 1.1 + height)
    axes = figure.add_subplot()
    for y, models in enumerate(rows.values()):
        if y % 2:
            axes.axhspan(y - 0.5, y + 0.5, color="#f2f2f2", lw=0)
        for place, (group, (colour, marker)) in enumerate(zip(groups, GROUP_MARKS, strict=False)):
            at = y + step * (place - (len(groups) - 1) / 2)
            style: dict[str, Any] = {"color": colour, "ms": 5.5, "mec": "black", "mew": 0.5}
            found = [model.groups[group] for model in models]
            for one in found:
                bar: dict[str, Any] = {"lw": 0.5, "alpha": 0.5} if several else {"lw": 1.1}
                axes.plot([one.low, one.high], [at, at], color="#444444", **bar)
                axes.plot([one.value], [at], marker, **(style | of_seed))
            if several:
                axes.plot([np.mean([one.value for one in found])], [at], marker, **style)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_xlabel("Verification accuracy, percent")
    handles = [
        Line2D([], [], ls="", marker=marker, color=colour, mec="black", mew=0.5, label=group)
        for group, (colour, marker) in zip(groups, GROUP_MARKS, strict=False)
    ]
    axes.legend(
        handles=handles,
        ncols=min(len(handles), 8),
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        handletextpad=0.2,
    )
    _finish(figure, KINDS["groups"].title, f"{SEEDS_NOTE} {NOTE}" if several else NOTE)
    return figure


def draw_std(told: Claims) -> Figure:
    """STD against global accuracy, a mark a model; models are numbered where there is room."""
    models = _shown(told)
    numbered = len(models) <= NUMBERED
    figure = new_figure(9.0 if numbered else 6.5, max(4.6, 0.19 * len(models) * numbered + 0.9))
    axes = figure.add_subplot()
    handles: list[Line2D] = []
    for number, model in enumerate(models, 1):
        marker, colour = SET_MARKS[SECTIONS[model.subject.set]]
        x, y = model.global_accuracy, model.std
        low, high = y.low, y.corrected if y.high is None else y.high
        axes.plot([x.low, x.high], [y.corrected] * 2, color="#777777", lw=0.8, zorder=1)
        axes.plot([x.value] * 2, [low, high], color="#777777", lw=0.8, zorder=1)
        face = "white" if model.subject.kind == "teacher" else colour
        style: dict[str, Any] = {"color": colour, "mfc": face, "marker": marker, "ms": 7}
        axes.plot([x.value], [y.corrected], ls="", zorder=2, **style)
        if numbered:
            axes.annotate(
                str(number),
                (x.value, y.corrected),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=7.5,
                zorder=3,
            )
            handles.append(Line2D([], [], ls="", label=f"{number}  {_named(model, told)}", **style))
    floor = float(np.mean([model.std.floor_high for model in models]))
    axes.axhline(floor, color="#777777", lw=1, ls="--", zorder=0)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_xlabel("Global accuracy, percent")
    axes.set_ylabel("STD, percentage points")
    axes.grid()
    if not numbered:
        handles = [
            Line2D([], [], ls="", marker=marker, color=colour, label=section)
            for section, (marker, colour) in SET_MARKS.items()
        ]
    axes.legend(
        handles=handles, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=7.5
    )
    _finish(figure, KINDS["std"].title, SPREAD_NOTE)
    return figure


def _named(model: ModelTold, told: Claims) -> str:
    seed = f", seed {model.subject.seed}" if len(told.seeds) > 1 else ""
    return f"{model.label}{seed}"


def _finish(figure: Figure, title: str, note: str) -> None:
    set_title(figure, title)
    half = len(note) // 2
    if len(note) > 110:  # two lines
        cut = note.index(" ", half)
        note = f"{note[:cut]}\n{note[cut + 1 :]}"
    figure.supxlabel(note, x=0.01, ha="left", fontsize=7.5)


KINDS = {
    "groups": Kind(
        "Verification accuracy of each group, with intervals",
        groups_frame,
        draw_groups,
        groups_message,
    ),
    "std": Kind(
        "STD of the groups' accuracies against global accuracy", std_frame, draw_std, std_message
    ),
}
