"""Two systems on the same pairs, as lines on a terminal."""

from __future__ import annotations

import math

from mstkd.evaluation.auditing.audit import Audit
from mstkd.evaluation.auditing.systems import ALL
from mstkd.evaluation.auditing.tables import Difference
from mstkd.report.audit_answer import Rows, answer, number
from mstkd.report.rounding import signed

# By the name of people, with where each is taken: thresholds of groups' own, as in the paper.
MEASURES = {
    "accuracy": "accuracy",
    "global_accuracy": "global accuracy",
    "std": "STD",
    "ser": "SER",
}


def compared_lines(audit: Audit) -> list[str]:
    """The answer, then accuracies of either, group by group, with the difference.

    Args:
        audit: of two systems on the same pairs.
    """
    rows, (first, second) = Rows(audit), audit.systems
    table = [("", first, second, "difference", "")]
    for one in audit.differences:
        if one.at != "own" or one.measure not in MEASURES:
            continue
        what = MEASURES[one.measure] if one.group == ALL else one.group
        of_first, of_second = (
            number(rows[system, one.group, one.measure, "own"].value, one.measure)
            for system in (first, second)
        )
        table.append((what, of_first, of_second, _difference(one), one.short))
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(row[at].rjust(widths[at]) for at in (1, 2, 3)), row[4]]
        ).rstrip()
        for row in table
    ]
    return [answer(audit), "", *lines]


def _difference(one: Difference) -> str:
    value, low, high = (signed(part) for part in (one.value, one.low, one.high))
    return value if math.isnan(one.low) else f"{value} ({low} to {high})"
