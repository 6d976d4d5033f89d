"""Whose the fused embeddings are: maps of the faces' groups by the teachers, and their numbers.

A share is drawn by shade and printed, so that nothing hangs on colour.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy import stats

from mstkd.artifacts.provenance import hashed
from mstkd.artifacts.records import read_record
from mstkd.artifacts.sources import provenance_of
from mstkd.config import teachers_of
from mstkd.config.grids import split_variant, told, without_value
from mstkd.config.models import FOREIGN_SHARE
from mstkd.errors import InputError
from mstkd.evaluation.shares import NO_TEACHER, Measure, Tracing
from mstkd.report.canvas import (
    check_picture,
    ink,
    new_figure,
    set_title,
    write_numbers,
    write_picture,
)
from mstkd.report.rounding import rounded
from mstkd.report.rows import SECTIONS
from mstkd.report.style import FRAME, STYLE

# What a figure is of, by the end of its name; in the CSV file stand all measures.
MEASURES: dict[str, Measure] = {"embedding": "embedding", "separation": "separation"}
TITLES: dict[Measure, str] = {
    "embedding": "Teachers' shares of the fused embedding of a face, percent",
    "separation": "Teachers' shares of what separates genuine from impostor pairs, percent",
}
NOTES: dict[Measure, str] = {
    "embedding": "Rows: the group of the face. Large: projection on the fused embedding, mean over "
    "faces, with the 95 % interval of people drawn anew. Brackets: Shapley value, an absent "
    "teacher's block being the mean block. Last column: what is no teacher's, the biases; in "
    "brackets what is there without any teacher.",
    "separation": "Rows: the group of both faces. Large: share of the mean cosine of genuine less "
    "that of impostor pairs, with the 95 % interval of people drawn anew. Brackets: Shapley value. "
    "Last column: what is no teacher's, the biases.",
}
FRAMED = "Framed: the teacher of the group."
EVEN = "{} would be an even share."
CELL = (0.78, 0.44)  # inches
LETTERS_AN_INCH = 15  # of a note


class Key(NamedTuple):
    """Which share."""

    set: str
    adaptor: str
    measure: Measure
    method: str
    group: str
    teacher: str


def render_tracing(*, tracing: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Draw whose the fused embeddings of a set's adaptors are, and write the numbers.

    Args:
        tracing: tracing.json files of teachers of one backbone, of one set or several; seeds of a
            set are averaged.
        outputs: .csv for all numbers, and figures whose names end in `-embedding` or `-separation`,
            as .png, .svg, .pdf or .html.

    Raises:
        InputError: a suffix or ending is unknown, or the files do not belong together.
    """
    check_picture(outputs)
    pictures = {path: _measure(path) for path in outputs if path.suffix != ".csv"}
    records = read_tracings(tracing)
    frame = shares_frame(records)
    read = hashed(tracing)
    with mpl.rc_context(STYLE):
        for measure in MEASURES.values():
            write_picture(
                "render-tracing",
                read,
                [path for path, of in pictures.items() if of == measure],
                draw=partial(draw_shares, frame, records[0].groups, measure),
                title=TITLES[measure],
                message=shares_message(frame, measure),
            )
    for path in outputs:
        if path.suffix == ".csv":
            write_numbers(frame, path, provenance_of("render-tracing", None, read, path))


def _measure(path: Path) -> Measure:
    ending = path.stem.rpartition("-")[2]
    if ending not in MEASURES:
        expected = " or ".join(f"...-{one}" for one in MEASURES)
        raise InputError(path, found=path.stem, expected=f"a name {expected}")
    return MEASURES[ending]


def read_tracings(paths: Sequence[Path]) -> list[Tracing]:
    """Records that belong together.

    Raises:
        InputError: no file, a set and seed twice, other groups, or another backbone of the
            teachers.
    """
    if not paths:
        raise InputError("tracing", found="no file", expected="one tracing.json or more")
    records = [read_record(Tracing, path) for path in paths]
    first, seen = records[0], set()
    for path, record in zip(paths, records, strict=True):
        for key, found, expected in (
            # Baseline teachers have no share of other groups.
            ("backbone", *(without_value(one.backbone, FOREIGN_SHARE) for one in (record, first))),
            ("groups", record.groups, first.groups),
        ):
            if found != expected:
                raise InputError(path, found=f"{key} {found}", expected=f"{expected} as {paths[0]}")
        who = (record.set, record.seed)
        if who in seen:
            raise InputError(path, found=f"{who[0]}, seed {who[1]} twice", expected="each once")
        seen.add(who)
    return records


def shares_frame(records: Sequence[Tracing]) -> pd.DataFrame:
    """One row a share: the fields of `Key`, `value`, `low`, `high` and `seeds`; fractions.

    Of several seeds it is the mean, and what they differ by is in the interval, with Student's
    quantile, beside people drawn anew. What is not known of some seed is not known.
    """
    found: dict[Key, list[tuple[float, float]]] = {}
    for record in records:
        for share in record.shares:
            names = (share.adaptor, share.measure, share.method, share.group, share.teacher)
            value, high = (np.nan if one is None else one for one in (share.value, share.high))
            found.setdefault(Key(record.set, *names), []).append((value, high - value))
    lines: list[dict[str, Any]] = []
    for key, of_seeds in found.items():
        values, halves = np.array(of_seeds).T
        seeds, half = len(values), float(halves.mean())
        if seeds > 1:
            error = values.std(ddof=1) / np.sqrt(seeds)
            half = float(np.hypot(half, stats.t.ppf(0.975, seeds - 1) * error))
        value = float(values.mean())
        limits = {"value": value, "low": value - half, "high": value + half}
        lines.append({**key._asdict(), **limits, "seeds": seeds})
    return pd.DataFrame(lines)


def shares_message(frame: pd.DataFrame, measure: Measure) -> str:
    """What the shares say: of each set and group the teacher with the largest, over adaptors.

    Of adaptors that fuse several numbers of teachers (`adaptors.fused`), over those of the most.
    """
    chosen = (frame["measure"] == measure) & (frame["method"] == "projection")
    of_teachers = frame[chosen & (frame["teacher"] != NO_TEACHER)]
    counts = of_teachers.groupby(["set", "adaptor"])["teacher"].transform("nunique")
    of_teachers = of_teachers[counts == counts.max()]
    parts = []
    for name in dict.fromkeys(of_teachers["set"]):
        of_set = of_teachers[of_teachers["set"] == name]
        means = of_set.groupby(["group", "teacher"], sort=False)["value"].mean().unstack()
        largest = [
            f"of {group} {share.idxmax()} with {_percent(share.max())}"
            for group, share in means.iterrows()
            if not share.isna().all()
        ]
        if largest:
            parts.append(f"{SECTIONS.get(name, name)}: {', '.join(largest)}")
    if not parts:
        return "No share is known."
    return f"Largest share on average over adaptors: {'; '.join(parts)} percent."


def draw_shares(frame: pd.DataFrame, groups: Sequence[str], measure: Measure) -> Figure:
    """A row of panels a set, a panel an adaptor; in each a row a group and a column a teacher.

    Where the config has lists of adaptors', a row a set and their values.
    """
    shown = frame[frame["measure"] == measure]
    sets = list(dict.fromkeys(shown["set"]))
    adaptors = {name: split_variant(name) for name in dict.fromkeys(shown["adaptor"])}
    across = list(dict.fromkeys(one.base for one in adaptors.values()))
    variants = list(dict.fromkeys(told(one.values) for one in adaptors.values()))
    columns = shown.groupby(["set", "adaptor"])["teacher"].nunique()
    counts = {int(count) - 1 for count in columns}  # of teachers
    width = max(6.5, 0.6 + len(across) * ((max(counts) + 1) * CELL[0] + 0.25))
    note = _note(measure, counts, specialized="specialized" in sets)
    lines = textwrap.wrap(note, int(LETTERS_AN_INCH * width))
    panel = len(groups) * CELL[1] + 0.55
    down = list(itertools.product(sets, variants))
    figure = new_figure(width, len(down) * panel + 0.5 + 0.14 * len(lines))
    grid = figure.subplots(len(down), len(across), squeeze=False)
    known = shown["value"].to_numpy()[~np.isnan(shown["value"])]
    most = max(1e-9, float(known.max())) if len(known) else 1.0
    for name, (adaptor, variant) in itertools.product(sets, adaptors.items()):
        axes = grid[down.index((name, told(variant.values))), across.index(variant.base)]
        here = shown[(shown["set"] == name) & (shown["adaptor"] == adaptor)]
        cells = {
            (one.method, one.group, one.teacher): (one.value, one.high - one.value)
            for one in here.itertuples()
        }
        own = {
            teacher.name: teacher.groups[0]
            for teacher in teachers_of("specialized", groups)
            if name == "specialized"
        }
        teachers = list(dict.fromkeys(here["teacher"]))
        _draw_panel(axes, cells, groups, teachers, own=own, most=most)
        axes.set_title(f"{SECTIONS.get(name, name)}, {variant}", loc="left", weight="bold")
    set_title(figure, TITLES[measure])
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=7.5)
    return figure


def _note(measure: Measure, teachers: Collection[int], *, specialized: bool) -> str:
    """How to read the figure, of adaptors that fuse so many teachers."""
    even = EVEN.format(" or ".join(f"{100 / count:.0f}" for count in sorted(teachers)[::-1]))
    return " ".join([NOTES[measure], even, FRAMED if specialized else ""])


def _draw_panel(
    axes: Axes,
    cells: dict[tuple[str, str, str], tuple[float, float]],
    groups: Sequence[str],
    teachers: Sequence[str],
    *,
    own: dict[str, str],
    most: float,
) -> None:
    shades = mpl.colormaps["Blues"]
    for (y, group), (x, teacher) in itertools.product(enumerate(groups), enumerate(teachers)):
        value, half = cells["projection", group, teacher]
        unknown = np.isnan(value)
        share = 0.0 if unknown else float(np.clip(value / most, 0, 1))
        colour = "white" if teacher == NO_TEACHER or unknown else shades(0.05 + 0.85 * share)
        letters: dict[str, Any] = {"ha": "center", "va": "center", "color": ink(colour)}
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="#999999", lw=0.6))
        framed = own.get(teacher) == group
        if framed:
            frame = Rectangle((x + 0.03, y + 0.05), 0.94, 0.9, fill=False, ec=FRAME, lw=2.2)
            axes.add_patch(frame)
        axes.text(
            x + 0.5,
            y + 0.36,
            "–" if unknown else f"{_percent(value)} ± {_percent(half)}",
            weight="bold" if framed else "normal",
            fontsize=8.5,
            **letters,
        )
        if ("Shapley", group, teacher) in cells and not unknown:
            text = f"({_percent(cells['Shapley', group, teacher][0])})"
            axes.text(x + 0.5, y + 0.72, text, fontsize=7.5, **letters)
    axes.set_xlim(0, len(teachers))
    axes.set_ylim(len(groups), 0)
    names = ["none" if one == NO_TEACHER else one for one in teachers]
    axes.set_xticks(np.arange(len(teachers)) + 0.5, names)
    axes.set_yticks(np.arange(len(groups)) + 0.5, groups)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _percent(fraction: float) -> str:
    return rounded(100 * fraction, 0)
