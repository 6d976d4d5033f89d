"""The page of an audit: the answer, the groups, the differentials, the comparisons, how to read."""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mstkd.evaluation.auditing.audit import Audit
from mstkd.evaluation.auditing.systems import ALL
from mstkd.evaluation.auditing.tables import JOINT, SCOPE, Difference, Row
from mstkd.report.audit_answer import Rows, answer, limits, number
from mstkd.report.audit_figure import MOST_SYSTEMS, draw_groups
from mstkd.report.audit_matrix import shown
from mstkd.report.rounding import signed
from mstkd.report.templates import page_html

MOST_COMPARISONS = 30  # lines; the others stand in comparisons.csv
WORDS = {
    "accuracy": "Accuracy",
    "global_accuracy": "Global accuracy",
    "std": "STD of accuracies, points",
    "ser": "SER, highest / lowest error",
    "fmr": "FMR",
    "fnmr": "FNMR",
    "tar": "TAR",
    "auc": "AUC",
    "eer": "EER",
    "fdr": "FDR",
    "ir": "IR",
    "garbe": "GARBE",
    "fmr_max_min": "Highest FMR / lowest",
    "fmr_max_geomean": "Highest FMR / geometric mean",
    "fnmr_max_min": "Highest FNMR / lowest",
    "fnmr_max_geomean": "Highest FNMR / geometric mean",
    "fmr_differential": "FMR / geometric mean",
    "fnmr_differential": "FNMR / geometric mean",
}
FAIR = {"std": "0", "fdr": "1", "garbe": "0"}  # of all others 1
OVER_GROUPS = (
    "fdr",
    "ir",
    "garbe",
    "fmr_max_min",
    "fmr_max_geomean",
    "fnmr_max_min",
    "fnmr_max_geomean",
)


class Cell(NamedTuple):
    """A number as it is shown, with its interval, or why there is none."""

    value: str
    interval: str = ""
    note: str = ""
    more: str = ""


class Line(NamedTuple):
    """A row of a table: its names, less that of the system, and its cells."""

    heads: tuple[str, ...]
    cells: tuple[Cell, ...]


class Table(NamedTuple):
    """A table with a head for each column, those of the names first."""

    heads: tuple[str, ...]
    parts: tuple[tuple[str, tuple[Line, ...]], ...]  # of each system, whose name may be empty
    names: int  # how many columns hold names


class Place(NamedTuple):
    """Error rates at one threshold for all groups."""

    title: str
    groups: Table | None
    over_groups: Table | None
    missing: tuple[str, ...]  # what is not told, and why


class PairList(NamedTuple):
    """A list of pairs."""

    systems: tuple[str, ...]  # that were tested on it
    folds: int
    groups: tuple[tuple[str, int, int], ...]  # each with its genuine and impostor pairs


def audit_page(audit: Audit, *, lists: Sequence[PairList]) -> str:
    """The page as HTML.

    Args:
        audit: what is shown.
        lists: of pairs; none of rates without scores.
    """
    rows = Rows(audit)
    scored = bool(lists)
    places = [_place(audit, rows, at) for at in _places(audit)]
    usable = [at for at in _places(audit) if _is_usable(audit, rows, at)]
    figure = draw_groups(audit, usable[0] if usable else None) if scored else None
    comparisons, more = _comparisons(audit)
    title = f"Audit of {audit.systems[0]}"
    if len(audit.systems) > 1:
        title = f"Audit of {len(audit.systems)} systems"
    return page_html(
        "audit.html",
        title=title,
        answer=answer(audit),
        scored=scored,
        folds=" or ".join(map(str, dict.fromkeys(one.folds for one in lists))),
        lists=lists,
        accuracies=_accuracies(audit, rows) if scored else None,
        evenness=_evenness(audit, ["std", "ser"], ["own", "shared"]) if scored else None,
        figure=None if figure is None else base64.b64encode(figure).decode("ascii"),
        figure_at=usable[0] if usable else None,
        drawn=min(len(audit.systems), MOST_SYSTEMS),
        systems=len(audit.systems),
        places=places,
        matrices=shown(audit, systems=MOST_SYSTEMS),
        comparisons=comparisons,
        more_comparisons=more,
        scope=SCOPE if len(lists) < 2 else "of these two systems on these pairs",
    )


def _table(audit: Audit, name: str, columns: Sequence[str], lines: Mapping[str, Any]) -> Table:
    """Lines by system, which is named where there are several."""
    several = len(audit.systems) > 1
    heads = ("System", name) if several else (name,)
    parts = [(system if several else "", tuple(of)) for system, of in lines.items() if of]
    return Table((*heads, *columns), tuple(parts), len(heads))


def _cell(row: Row | None) -> Cell:
    if row is None:
        return Cell("")
    if math.isnan(row.value):
        short = "too few" if "insufficient" in row.note else "–"
        bound = row.note.rpartition("; ")[2] if "; " in row.note else ""
        return Cell(short, bound, row.note)
    return Cell(number(row.value, row.measure), limits(row), "")


def _accuracies(audit: Audit, rows: Rows) -> Table:
    """Accuracy, AUC and EER by group, all together in the last line of each system."""
    columns = (
        ("Accuracy, own threshold, %", "accuracy", "own"),
        ("Accuracy, shared threshold, %", "accuracy", "shared"),
        ("AUC", "auc", "own"),
        ("EER", "eer", "own"),
    )
    lines: dict[str, list[Line]] = {system: [] for system in audit.systems}
    for system, own in lines.items():
        for group in audit.groups:
            cells = [_cell(rows.get(system, group, name, at)) for _, name, at in columns]
            own.append(Line((group,), tuple(cells)))
        if len(audit.groups) > 1:
            whole = [
                rows.get(system, ALL, "global_accuracy", "own"),
                rows.get(system, ALL, "global_accuracy", "shared"),
                rows.get(system, ALL, "auc", "shared"),
                rows.get(system, ALL, "eer", "shared"),
            ]
            own.append(Line(("all",), tuple(map(_cell, whole))))
    return _table(audit, "Group", [head for head, *_ in columns], lines)


def _evenness(audit: Audit, measures: Sequence[str], at: Sequence[str]) -> Table | None:
    """Measures over groups that are numbers, and what noise adds to them."""
    told = {(one.system, one.measure, one.at): one for one in audit.evenness}
    rows = Rows(audit)
    lines: dict[str, list[Line]] = {system: [] for system in audit.systems}
    for system, place, measure in itertools.product(audit.systems, at, measures):
        row = rows.get(system, ALL, measure, place)
        if row is None or math.isnan(row.value):
            continue
        name = WORDS[measure] + (f", {place} thresholds" if len(at) > 1 else "")
        cells = [_cell(row), Cell(FAIR.get(measure, "1"))]
        one = told.get((system, measure, place))
        if one is not None:
            beyond = "≥" if measure == "fdr" else "≤"
            limit = f"{beyond} {number(one.floor_limit, measure)} in 95 of 100"
            cells.append(Cell(number(one.floor, measure), limit))
            cells.append(Cell(number(one.corrected, measure)))
        lines[system].append(Line((name,), tuple(cells)))
    if not any(lines.values()):
        return None
    columns = ["found", "if even, truly"]
    if told:
        columns += ["if even, on these pairs", "less what noise adds"]
    return _table(audit, "Measure", columns, lines)


def _places(audit: Audit) -> list[str]:
    """Where error rates were taken."""
    return list(dict.fromkeys(row.at for row in audit.rows if row.measure == "fmr"))


def _is_usable(audit: Audit, rows: Rows, at: str) -> bool:
    """Whether a system has the FMR of two groups there, or of one if there is no other."""
    needed = min(2, len(audit.groups))
    return any(len(rows.of_groups(s, "fmr", at)) >= needed for s in audit.systems)


def _place(audit: Audit, rows: Rows, at: str) -> Place:
    kind, _, value = at.partition("=")
    titles = {"fmr": f"Global FMR {value}", "threshold": f"Similarity at least {value}"}
    columns = ["fmr", "fnmr", "tar"]
    if len(audit.groups) > 1:
        columns += ["fmr_differential", "fnmr_differential"]
    lines: dict[str, list[Line]] = {system: [] for system in audit.systems}
    for system, own in lines.items():
        for group in (*audit.groups, *([ALL] if len(audit.groups) > 1 else [])):
            found = [rows.get(system, group, name, at) for name in columns]
            if any(row is not None for row in found):
                own.append(Line((group or "all",), tuple(map(_cell, found))))
    title = titles.get(kind, "As reported, at one threshold a system")
    missing = _missing(audit, at)
    if all(math.isnan(row.value) for row in audit.rows if row.at == at):
        reasons = dict.fromkeys(row.note for row in audit.rows if row.at == at)
        return Place(title, None, None, tuple(reasons))
    table = _table(audit, "Group", [WORDS[name] for name in columns], lines)
    return Place(title, table, _evenness(audit, OVER_GROUPS, [at]), missing)


def _missing(audit: Audit, at: str) -> tuple[str, ...]:
    """What cannot be told of all groups together at a place, and why."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for row in audit.rows:
        if (row.at, row.group) == (at, ALL) and math.isnan(row.value):
            why = row.note.removeprefix("insufficient: ")
            by_reason.setdefault((row.system, why), []).append(WORDS[row.measure])
    several = len(audit.systems) > 1
    return tuple(
        f"{', '.join(names)}{f' of {system}' if several else ''}: {why}"
        for (system, why), names in by_reason.items()
    )


def _comparisons(audit: Audit) -> tuple[Table | None, int]:
    """Every two systems by global accuracy, STD and SER, those that differ first.

    Returns:
        The table, None where there is one system; and how many lines more there would be.
    """
    measures = [name for name in ("global_accuracy", "std", "ser") if _is_compared(audit, name)]
    by_pair: dict[tuple[str, str], list[Difference]] = {}
    for one in audit.differences:
        if one.at == "own" and one.measure in measures:
            by_pair.setdefault((one.first, one.second), []).append(one)
    if not by_pair:
        return None, 0
    lines = sorted(by_pair.items(), key=lambda line: -sum(one.is_shown for one in line[1]))
    shown = tuple(
        Line(heads, tuple(map(_difference, cells))) for heads, cells in lines[:MOST_COMPARISONS]
    )
    heads = ("System", "less", *(WORDS[name] for name in measures))
    return Table(heads, (("", shown),), 2), len(lines) - len(shown)


def _is_compared(audit: Audit, measure: str) -> bool:
    return any(one.measure == measure for one in audit.differences)


def _difference(one: Difference) -> Cell:
    if math.isnan(one.value):
        return Cell("–", "", one.note)
    interval = f"{signed(one.low)} to {signed(one.high)}"
    tests = f"p {_p(one.p_holm)}"
    if not math.isnan(one.mcnemar):
        tests += f", McNemar {_p(one.mcnemar)}"
    return Cell(signed(one.value), interval, _verdict(one), tests)


def _verdict(one: Difference) -> str:
    return one.short if one.method == JOINT else f"{one.short}, each on its own pairs"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
