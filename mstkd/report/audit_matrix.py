"""FMR of every two groups over all impostor pairs, as the page of an audit shows it.

Cells are shaded by how far their FMR lies from the global one, in steps of lightness that a print
in grey keeps, and every cell has its number.
"""

from __future__ import annotations

import math
from bisect import bisect
from typing import NamedTuple

from mstkd.evaluation.auditing.all_impostors import ImpostorRow
from mstkd.evaluation.auditing.audit import Audit
from mstkd.evaluation.auditing.systems import ALL
from mstkd.report.audit_answer import number

STEPS = (0.1, 1 / 3, 1.0, 3.0, 10.0)  # times the global FMR, where the next shade begins


# From light to dark; the page's style sheet has the same.
SHADES = ("#ffffff", "#eceff2", "#d3d9df", "#b3bcc5", "#4d5863", "#14191e")

Rows = dict[tuple[str, str, str], ImpostorRow]  # of one place, by groups and measure


class Matrix(NamedTuple):
    """FMR of every two groups of one system at one place."""

    system: str
    at: str
    threshold: float | None
    groups: tuple[str, ...]
    fmr: list[list[float | None]]
    note: str


class Rate(NamedTuple):
    """A cell as it is shown."""

    value: str
    interval: str
    note: str
    shade: int | None  # 0 to 5, light to dark


class MatrixShown(NamedTuple):
    """A matrix as it is shown, and the rates beside it."""

    title: str
    note: str
    groups: tuple[str, ...]
    lines: tuple[tuple[str, tuple[Rate, ...], Rate], ...]  # group, FMR by group, FNMR
    whole: tuple[Rate, Rate] | None  # FMR and FNMR of all pairs within groups


def matrices(audit: Audit) -> list[Matrix]:
    """Every system's matrix at every place."""
    found = []
    for system, at, rows in _places(audit):
        whole = rows[ALL, ALL, "fmr"]
        fmr: list[list[float | None]] = []
        if len(rows) > 1:
            cells = [[cell_of(rows, a, b) for b in audit.groups] for a in audit.groups]
            fmr = [[None if math.isnan(one.value) else one.value for one in row] for row in cells]
        threshold = None if math.isnan(whole.threshold) else whole.threshold
        note = "" if len(rows) > 1 else whole.note
        found.append(Matrix(system, at, threshold, audit.groups, fmr, note))
    return found


def shown(audit: Audit, *, systems: int) -> list[MatrixShown]:
    """The same of the first systems for the page, with intervals and the FNMR of each group."""
    found = []
    for system, at, rows in _places(audit):
        if system not in audit.systems[:systems]:
            continue
        whole = rows[ALL, ALL, "fmr"]
        kind, _, value = at.partition("=")
        title = f"Global FMR {value}" if kind == "fmr" else f"Similarity at least {value}"
        if kind == "fmr" and not math.isnan(whole.threshold):
            title += f", similarity at least {whole.threshold:.3f}"
        if len(audit.systems) > 1:
            title = f"{system}: {title}"
        if len(rows) == 1:
            found.append(MatrixShown(title, whole.note, audit.groups, (), None))
            continue
        lines = tuple(
            (
                group,
                tuple(_shown(cell_of(rows, group, other), whole.value) for other in audit.groups),
                _shown(rows[group, group, "fnmr"]),
            )
            for group in audit.groups
        )
        both = _shown(whole), _shown(rows[ALL, ALL, "fnmr"])
        found.append(MatrixShown(title, "", audit.groups, lines, both))
    return found


def _places(audit: Audit) -> list[tuple[str, str, Rows]]:
    found: dict[tuple[str, str], Rows] = {}
    for row in audit.impostors:
        place = found.setdefault((row.system, row.at), {})
        place[row.group1, row.group2, row.measure] = row
    return [(*place, rows) for place, rows in found.items()]


def cell_of(rows: Rows, a: str, b: str) -> ImpostorRow:
    """The FMR of two groups, in whatever order."""
    return rows[(a, b, "fmr") if (a, b, "fmr") in rows else (b, a, "fmr")]


def shade(value: float, whole: float) -> int | None:
    """Which of `SHADES` an FMR has; None where the global one is not known."""
    return bisect(STEPS, value / whole) if whole > 0 else None


def _shown(row: ImpostorRow, whole: float = math.nan) -> Rate:
    if math.isnan(row.value):
        bound = row.note.rpartition("; ")[2] if "; " in row.note else ""
        return Rate("too few" if bound else "–", bound.partition(",")[0], row.note, None)
    interval = ""
    if not math.isnan(row.low):
        interval = f"{number(row.low, row.measure)} to {number(row.high, row.measure)}"
    step = shade(row.value, whole)
    return Rate(number(row.value, row.measure), interval, row.note, step)
