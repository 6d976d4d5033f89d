"""What was measured as the rows of measures.csv, and what two systems differ in of comparisons.csv.

Shapes: M systems.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from mstkd.evaluation.auditing.measured import Measured
from mstkd.evaluation.auditing.systems import Systems
from mstkd.evaluation.contrasts import Contrast, holm, mcnemar, verdict
from mstkd.evaluation.coverage import NOTES
from mstkd.evaluation.uncertainty import CONFIDENCE

SCOPE = "on these pairs, of these two systems"
# Of one training of each nothing is known of what the systems would be if they were trained again.
VERDICTS = {
    "supported": f"higher {SCOPE}",
    "contradicted": f"lower {SCOPE}",
    "undecided": f"no difference shown {SCOPE}",
}
JOINT = "joint covariance of both systems, identities as units"


class Row(NamedTuple):
    """A row of measures.csv; numbers that are not there are nan."""

    system: str
    group: str  # empty for all groups together
    measure: str
    at: str  # own, shared, threshold=0.35 or fmr=0.01
    value: float  # accuracies in percent, STD in percentage points, rates as fractions
    low: float
    high: float
    confidence: float
    method: str  # of the interval
    genuine: float  # pairs
    impostor: float
    note: str


class Difference(NamedTuple):
    """A row of comparisons.csv: `first` less `second`; numbers that are not there are nan."""

    first: str
    second: str
    group: str
    measure: str
    at: str
    value: float  # in the units of the measure
    low: float
    high: float
    confidence: float
    p: float
    p_holm: float  # over all comparisons by this measure at this place
    verdict: str  # of `first`
    mcnemar: float  # p-value, as if pairs were independent; nan where no pairs are counted
    method: str
    note: str

    @property
    def is_shown(self) -> bool:
        """Whether the verdict says which of the two is higher."""
        return self.verdict in (VERDICTS["supported"], VERDICTS["contradicted"])


class Evenness(NamedTuple):
    """A measure over groups of one system, and what noise adds to it."""

    system: str
    measure: str
    at: str
    value: float
    corrected: float  # less what noise adds
    floor: float  # what a perfectly even system would show on these pairs, on average
    floor_limit: float  # and what it stays within in 95 of 100


def measure_rows(systems: Systems, found: Sequence[Measured]) -> list[Row]:
    """Rows, system by system in the order of what was measured."""
    rows = []
    for m, system in enumerate(systems.names):
        for one in found:
            value, low, high = (float(part[m]) for part in one.found)
            told = not np.isnan([value, low, high]).any()
            impostor, genuine = systems.pairs_of(one.group)
            rows.append(
                Row(
                    system=system,
                    group=one.group,
                    measure=one.measure,
                    at=one.at,
                    value=value,
                    low=low if told else np.nan,
                    high=high if told else np.nan,
                    confidence=CONFIDENCE if told else np.nan,
                    method=one.method if told else "",
                    genuine=float(genuine),
                    impostor=float(impostor),
                    note=one.notes[m],
                )
            )
    return rows


def evenness_rows(systems: Systems, found: Sequence[Measured]) -> list[Evenness]:
    """Rows of the measures over groups, where they are numbers."""
    return [
        Evenness(
            system=system,
            measure=one.measure,
            at=one.at,
            value=float(one.found.value[m]),
            corrected=float(one.even.corrected[m]),
            floor=float(one.even.floor[m]),
            floor_limit=float(one.even.floor_high[m]),
        )
        for m, system in enumerate(systems.names)
        for one in found
        if one.even is not None and not np.isnan(one.found.value[m])
    ]


def differences(systems: Systems, found: Sequence[Measured]) -> list[Difference]:
    """Every two systems by every measure, with Holm's p-values over each measure at each place."""
    pairs = list(itertools.combinations(range(len(systems.names)), 2))
    compared = [(one, pair) for one in found if one.contrast is not None for pair in pairs]
    contrasts = [_contrast(one, pair, len(systems.names)) for one, pair in compared]
    families: dict[tuple[str, str], list[int]] = {}
    for place, ((one, _), contrast) in enumerate(zip(compared, contrasts, strict=True)):
        if contrast is not None:
            families.setdefault((one.measure, one.at), []).append(place)
    adjusted = np.full(len(compared), np.nan)
    for members in families.values():
        adjusted[members] = holm([c.p for place in members if (c := contrasts[place])])
    rows = [
        _difference(systems, one, pair, contrast, float(p))
        for (one, pair), contrast, p in zip(compared, contrasts, adjusted, strict=True)
    ]
    order = sorted(range(len(rows)), key=lambda place: compared[place][1])  # stable
    return [rows[place] for place in order]


def _contrast(one: Measured, pair: tuple[int, int], systems: int) -> Contrast | None:
    """None where one of the two is no number."""
    undefined = one.even is None or one.measure not in ("std", "ser")
    if one.contrast is None or (undefined and np.isnan(one.found.value[list(pair)]).any()):
        return None
    weights = np.zeros((1, systems))
    weights[0, list(pair)] = 1, -1
    return one.contrast(weights)


def _difference(
    systems: Systems,
    one: Measured,
    pair: tuple[int, int],
    found: Contrast | None,
    p_holm: float,
) -> Difference:
    first, second = (systems.names[m] for m in pair)
    counted = found is not None and one.wrong is not None
    note = ""
    if found is None:
        note = next(one.notes[m] for m in pair if np.isnan(one.found.value[m]))
    elif one.even is not None:
        note = f"less what noise adds {found.corrected:+.3g}"
        if np.isnan(one.found.value[list(pair)]).any():
            note += "; a group without errors counts as half an error"
        if f"difference of {one.measure}" in NOTES:
            note += f"; {NOTES[f'difference of {one.measure}']}"
    return Difference(
        first=first,
        second=second,
        group=one.group,
        measure=one.measure,
        at=one.at,
        value=found.value if found else np.nan,
        low=found.low if found else np.nan,
        high=found.high if found else np.nan,
        confidence=CONFIDENCE if found else np.nan,
        p=found.p if found else np.nan,
        p_holm=p_holm,
        verdict=VERDICTS[verdict(found, p_holm)] if found else "",
        mcnemar=mcnemar(*one.wrong[list(pair)]) if counted and one.wrong is not None else np.nan,
        method=JOINT if found else "",
        note=note,
    )


def as_frame(rows: Sequence[NamedTuple], kind: type[NamedTuple]) -> pd.DataFrame:
    """Rows as a data frame; numbers of pairs are whole, missing where they are not known."""
    frame = pd.DataFrame(rows, columns=kind._fields)
    counts = ("genuine", "impostor", "pairs", "errors")
    return frame.astype({one: "Int64" for one in counts if one in frame})
