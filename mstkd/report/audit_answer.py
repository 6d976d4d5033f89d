"""What an audit says in one sentence, and how its numbers are written."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mstkd.evaluation.auditing.audit import Audit
from mstkd.evaluation.auditing.systems import ALL
from mstkd.evaluation.auditing.tables import APART, SCOPE, SCOPE_APART, Difference, Row
from mstkd.report.rounding import rounded, signed

EVEN = 1e-6  # a lower limit of STD at most that is one of an even system

Place = tuple[str, str, str, str]  # system, group, measure, at


class Rows:
    """The rows of measures.csv by their place."""

    def __init__(self, audit: Audit) -> None:
        self._groups = audit.groups
        self._rows: dict[Place, Row] = {
            (row.system, row.group, row.measure, row.at): row for row in audit.rows
        }

    def __getitem__(self, place: Place) -> Row:
        return self._rows[place]

    def get(self, *place: str) -> Row | None:
        """The row of a system, group, measure and place; None where there is none."""
        system, group, measure, at = place
        return self._rows.get((system, group, measure, at))

    def of_groups(self, system: str, measure: str, at: str) -> list[Row]:
        """The rows of all groups that hold numbers, the lowest first."""
        rows = [self.get(system, group, measure, at) for group in self._groups]
        told = [row for row in rows if row is not None and not math.isnan(row.value)]
        return sorted(told, key=lambda row: row.value)


def answer(audit: Audit) -> str:
    """The answer first: of one system how even it is, of several which differ."""
    rows = Rows(audit)
    if not any(row.measure == "accuracy" for row in audit.rows):
        return _of_rates(audit, rows)
    firsts = [rows[systems[0], ALL, "global_accuracy", "own"] for systems in audit.lists]
    on = f"On these {' and '.join(f'{int(a.genuine) + int(a.impostor):,}' for a in firsts)} pairs"
    if len(audit.systems) == 1:
        return f"{on}, {_of_one(audit, rows, audit.systems[0])}"
    return f"{on}{',' if len(audit.systems) == 2 else ''} {_of_several(audit, rows)}"


def _of_one(audit: Audit, rows: Rows, system: str) -> str:
    whole = rows[system, ALL, "global_accuracy", "own"]
    if len(audit.groups) == 1:
        told = f"accuracy is {percent(whole.value)} ({limits(whole)})"
        return f"{told}; all are of one group, {audit.groups[0]}, so no groups are compared."
    groups = rows.of_groups(system, "accuracy", "own")
    std = rows[system, ALL, "std", "own"]
    even = next(one for one in audit.evenness if one[:3] == (system, "std", "own"))
    floor = (
        f"a perfectly even system would show {rounded(even.floor, 2)} on average and stay below "
        f"{rounded(even.floor_limit, 2)} in 95 of 100 sets of such pairs"
    )
    shown = "the groups differ" if std.low > EVEN else "no difference between groups is shown"
    return (
        f"accuracy is {percent(whole.value)} and goes from {percent(groups[0].value)} "
        f"({groups[0].group}) to {percent(groups[-1].value)} ({groups[-1].group}): STD "
        f"{rounded(std.value, 2)} ({limits(std)}), where {floor}; so {shown}."
    )


def _of_several(audit: Audit, rows: Rows) -> str:
    best = max(
        (rows[system, ALL, "global_accuracy", "own"] for system in audit.systems),
        key=lambda row: row.value,
    )
    shown = [one for one in audit.differences if one.at == "own" and one.group == ALL]
    if len(audit.systems) == 2:
        return _of_two(shown)
    parts = [
        f"{best.system} has the highest global accuracy of {len(audit.systems)} systems, "
        f"{percent(best.value)} ({limits(best)})"
    ]
    if len(audit.groups) > 1:
        even = min(
            (rows[system, ALL, "std", "own"] for system in audit.systems),
            key=lambda row: row.value,
        )
        parts.append(f"{even.system} the lowest STD, {rounded(even.value, 2)} ({limits(even)})")
    counts = []
    for measure, name in (("global_accuracy", "global accuracy"), ("std", "STD")):
        compared = [one.is_shown for one in shown if one.measure == measure]
        if compared:
            counts.append(f"{sum(compared)} of {len(compared)} in {name}")
    scope = SCOPE if len(audit.lists) == 1 else "of these two systems on these pairs"
    return (
        f"{' and '.join(parts)}. Of all comparisons of two systems a difference is shown in "
        f"{', '.join(counts)}: each {scope}, whatever another training would bring."
    )


def _of_two(shown: Sequence[Difference]) -> str:
    parts = [
        f"{name} {signed(one.value)} ({signed(one.low)} to {signed(one.high)}), {one.short}"
        for one in shown
        if (name := {"global_accuracy": "global accuracy", "std": "STD"}.get(one.measure))
    ]
    holds = f"This holds {SCOPE}"
    if shown[0].method == APART:
        holds = f"These are other pairs: this holds {SCOPE_APART}, how hard those are included"
    return (
        f"{shown[0].first} less {shown[0].second}: {'; '.join(parts)}. {holds}, "
        "whatever another training would bring."
    )


def _of_rates(audit: Audit, rows: Rows) -> str:
    system = audit.systems[0]
    parts = []
    for measure, name in (("fmr_max_min", "FMR"), ("fnmr_max_min", "FNMR")):
        ratio = rows[system, ALL, measure, "shared"].value
        kind = measure.removesuffix("_max_min")
        groups = rows.of_groups(system, kind, "shared")
        times = f"{ratio:.3g} times" if math.isfinite(ratio) else "any number of times"
        parts.append(f"the highest {name}, of {groups[-1].group}, is {times} the lowest")
    more = f"; and {len(audit.systems) - 1} more" if len(audit.systems) > 1 else ""
    return (
        f"Of {system} {' and '.join(parts)}{more}. These are rates as they were reported: without "
        "scores or counts of errors nothing is known of how sure they are."
    )


# ---------------------------------------------------------------- numbers as text


def percent(value: float) -> str:
    """An accuracy."""
    return f"{rounded(value, 2)} %"


def number(value: float, measure: str) -> str:
    """A value in the digits of its measure."""
    if math.isnan(value):
        return "–"
    if not math.isfinite(value):
        return "∞"
    return rounded(value, 2) if measure in POINTS else f"{value:#.3g}".removesuffix(".")


def limits(row: Row | Difference) -> str:
    """The interval of a row: "90.44 to 92.15", empty where there is none."""
    if math.isnan(row.low):
        return ""
    return f"{number(row.low, row.measure)} to {number(row.high, row.measure)}"


POINTS = ("accuracy", "global_accuracy", "std", "ser")  # two digits after the point
