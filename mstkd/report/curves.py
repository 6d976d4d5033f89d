"""Training curves: loss and accuracy over the epochs, the chosen epoch marked."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from mstkd.artifacts.provenance import hashed
from mstkd.artifacts.records import ModelRecord, Subject, file_sha256, read_record
from mstkd.config import teachers_of
from mstkd.config.grids import split_variant, told
from mstkd.errors import InputError, anew
from mstkd.report.canvas import check_picture, new_figure, write_picture
from mstkd.report.rows import SECTIONS, row_label
from mstkd.report.style import DASHES, STYLE, Dash

Style = tuple[str, tuple[float, float, float, float], Dash]  # label, colour, dashes
TITLE = "Training: loss and accuracy over the epochs"
PANEL_INCHES = 2.1
TITLE_WIDTH = 50  # letters, as many as a panel is wide
SHADES = (1.0, 0.78)  # of a hue; lighter ones would not stand out from white by 4.5
HUES = {"Specialized": "Blues", "Baseline": "Oranges", "Controls": "Greys"}
# With dashes they tell lines apart in grey too.
MARKS = {"Specialized": "^", "Baseline": "s", "Controls": "x"}
MARKED = 8  # of the points of a line, about
SINGLE = "Teacher of all groups"
NOUNS = {"teacher": "Teachers", "adaptor": "Adaptors", "student": "Students"}

Run = tuple[ModelRecord, pd.DataFrame]


def render_curves(*, models: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Draw the history of models: a row of panels for teachers, adaptors and each student loss.

    Where the config has lists, a row for each value.

    Args:
        models: model.json files, each with its history.csv beside it: `epoch`, `loss` and
            `accuracy` (percent; blank where an epoch was not evaluated).
        outputs: files of the one figure, and .csv for its numbers.

    Raises:
        InputError: the suffix is unknown, or a file is missing or is not what it must be.
    """
    check_picture(outputs)
    if not models:
        raise InputError("models", found="no file", expected="one model.json or more")
    panels: dict[str, list[Run]] = {}
    for path in models:
        record = read_record(ModelRecord, path)
        history = read_history(path)
        if record.history_sha256 not in (None, file_sha256(history_path(path))):
            file, found = history_path(path), "other contents than were written"
            raise InputError(file, found=found, expected=anew(f"the history of {path}", file))
        panels.setdefault(_panel(record), []).append((record, history))
    with mpl.rc_context({**STYLE, "axes.grid": True}):
        read = hashed(file for path in models for file in (path, history_path(path)))
        write_picture(
            "render-curves",
            read,
            outputs,
            numbers=curves_frame(panels),
            draw=lambda: draw_curves(panels),
            title=TITLE,
            message=curves_message(panels),
        )


def curves_message(panels: dict[str, list[Run]]) -> str:
    """What the curves say: of each row of panels, how far the loss fell and what was kept."""
    parts = []
    for title, runs in panels.items():
        losses = [history["loss"].dropna().to_numpy() for _, history in runs]
        losses = [one for one in losses if len(one)]
        if not losses:
            continue
        first, last = ([float(one[place]) for one in losses] for place in (0, -1))
        fallen = sum(end < begin for begin, end in zip(first, last, strict=True))
        text = (
            f"{title}: the loss fell in {fallen} of {len(losses)}, from {_span(first)} to "
            f"{_span(last)}"
        )
        kept = [
            float(value)
            for record, history in runs
            if "accuracy" in history
            for value in history.loc[history["epoch"] == record.chosen_epoch, "accuracy"].dropna()
        ]
        parts.append(text + (f", and the epochs kept have {_span(kept)} percent" if kept else ""))
    return "; ".join(parts) + "." if parts else ""


def _span(values: Sequence[float]) -> str:
    least, most = (f"{one:.3g}" for one in (min(values), max(values)))
    return least if least == most else f"{least}–{most}"


def curves_frame(panels: dict[str, list[Run]]) -> pd.DataFrame:
    """A row an epoch of each model: who it is, `epoch`, `training_loss`, `accuracy`, and so on.

    `accuracy_of` are the groups of a teacher's accuracy, `kept` is the epoch that was kept.
    """
    frames = []
    for runs in panels.values():
        for record, history in runs:
            who = record.subject.model_dump()
            known = history.reindex(columns=["epoch", "loss", "accuracy"])
            known = known.rename(columns={"loss": "training_loss"})  # `loss` is the student's
            groups = " ".join(looked_at(record))
            frames.append(known.assign(**who, accuracy_of=groups, kept=record.chosen_epoch))
    columns = [*Subject.model_fields, "epoch", "training_loss", "accuracy", "accuracy_of", "kept"]
    return pd.concat(frames)[columns]


def looked_at(record: ModelRecord) -> tuple[str, ...]:
    """The groups whose pairs choose a teacher's epoch; of any other model none."""
    subject = record.subject
    if subject.kind != "teacher" or subject.set == "none":
        return ()
    teachers = teachers_of(subject.set, list(record.inputs))
    return next((one.selected_on for one in teachers if one.name == subject.name), ())


def history_path(model: Path) -> Path:
    """history.csv beside a model.json."""
    return model.with_name("history.csv")


def read_history(model: Path) -> pd.DataFrame:
    """The history.csv beside a model.json.

    Raises:
        InputError: it is missing or lacks a column.
    """
    path = history_path(model)
    try:
        history = pd.read_csv(path)
    except OSError as error:
        raise InputError(path, found=error.strerror, expected="a history") from None
    except ValueError as error:
        raise InputError(path, found=error, expected="a history in CSV") from None
    for column in ("epoch", "loss"):
        if column not in history:
            raise InputError(
                path, found=", ".join(map(str, history)), expected=f"a column {column!r}"
            )
    return history


def _panel(record: ModelRecord) -> str:
    subject = record.subject
    loss = split_variant(subject.loss or "")
    if subject.set == "none":
        return str(loss._replace(base="Student without distillation"))
    teachers = told(split_variant(subject.backbone).values)
    if subject.kind == "teacher":
        # What of these is drawn is another accuracy: they share no panel.
        noun = SINGLE if len(looked_at(record)) > 1 else NOUNS[subject.kind]
        return str(split_variant(subject.backbone)._replace(base=noun))
    adaptor = told(split_variant(subject.name).values)
    parts = [
        NOUNS[subject.kind],
        str(loss),
        f"adaptor {adaptor}" if adaptor else "",
        f"teachers {teachers}" if teachers else "",
    ]
    return ", ".join(part for part in parts if part)


def draw_curves(panels: dict[str, list[Run]]) -> Figure:
    """Two panels a row, loss and accuracy; the lines are named beside them."""
    figure = new_figure(9.0, 0.5 + PANEL_INCHES * len(panels))
    grid = figure.subplots(len(panels), 2, squeeze=False)
    for (title, runs), (losses, accuracies) in zip(panels.items(), grid, strict=True):
        for (record, history), style in zip(runs, line_styles(runs), strict=True):
            mark = MARKS[SECTIONS[record.subject.set]]
            for axes, column in ((losses, "loss"), (accuracies, "accuracy")):
                chosen = record.chosen_epoch
                _draw_line(axes, history, column, style=style, mark=mark, chosen_epoch=chosen)
        losses.set_yscale("log")
        losses.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        losses.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        losses.yaxis.set_minor_formatter(NullFormatter())
        _finish(losses, f"{title}: loss")
        one_each = any(len(looked_at(record)) == 1 for record, _ in runs)
        what = "accuracy on the group in brackets" if one_each else "groups' mean accuracy"
        _finish(accuracies, f"{title}: {what}, percent")
        if not accuracies.lines:
            accuracies.set_axis_off()
            accuracies.set_title("", loc="left")
        handles, labels = losses.get_legend_handles_labels()
        named = dict(zip(labels, handles, strict=True))  # the seeds of a model share a name
        accuracies.legend(
            list(named.values()),
            list(named),
            frameon=False,
            loc="center left",
            bbox_to_anchor=(1.01, 0.5) if accuracies.lines else (0, 0.5),
            fontsize=8,
        )
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    figure.supxlabel("Ringed: the epoch that was kept", x=0.01, ha="left", fontsize=8)
    return figure


def _draw_line(
    axes: Axes, history: pd.DataFrame, column: str, *, style: Style, mark: str, chosen_epoch: int
) -> None:
    known = history[["epoch", column]].dropna() if column in history else history.iloc[:0]
    if known.empty:
        return
    label, colour, dashes = style
    axes.plot(
        known["epoch"],
        known[column],
        ls=dashes,
        color=colour,
        lw=1.4,
        marker=mark,
        ms=4,
        markevery=max(1, len(known) // MARKED),
        label=label,
    )
    chosen = known[known["epoch"] == chosen_epoch]
    if len(chosen):
        x, y = chosen["epoch"], chosen[column]
        axes.plot(x, y, "o", color=colour, ms=4.5, mec="black", mew=0.8, zorder=3)


def line_styles(runs: Sequence[Run]) -> list[Style]:
    """Label, colour and dashes of each line: a hue a set of teachers, a shade and dash a name."""
    names: dict[str, list[str]] = {}
    for record, _ in runs:
        subject = record.subject
        section, label = SECTIONS[subject.set], row_label(subject.set, subject.name)
        if label not in names.setdefault(section, []):
            names[section].append(label)
    styles = []
    for record, _ in runs:
        subject = record.subject
        section, label = SECTIONS[subject.set], row_label(subject.set, subject.name)
        index, count = names[section].index(label), len(names[section])
        shade = float(np.linspace(*SHADES, count)[index]) if count > 1 else SHADES[1]
        teacher = subject.kind == "teacher" or section == "Controls"
        text = label if teacher else f"{section.lower()} {label}"
        if len(groups := looked_at(record)) == 1:
            text = f"{text} ({groups[0]})"
        styles.append((text, mpl.colormaps[HUES[section]](shade), DASHES[index % len(DASHES)]))
    return styles


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(textwrap.fill(title, TITLE_WIDTH), loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.02)
