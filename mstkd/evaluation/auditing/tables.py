"""What was measured as the rows of measures.csv, and what two systems differ in of comparisons.csv.

Shapes: M systems.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from mstkd.evaluation.auditing.measured import Measured
from mstkd.evaluation.auditing.systems import Systems
from mstkd.evaluation.contrasts import Contrast, holm, mcnemar, negated, verdict
from mstkd.evaluation.coverage import NOTES
from mstkd.evaluation.uncertainty import CONFIDENCE
from mstkd.evaluation.unpaired import unpaired_contrast, unpaired_spread_contrast

SCOPE = "on these pairs, of these two systems"
# Of one training of each nothing is known of what the systems would be if they were trained again.
SCOPE_APART = "each on its own pairs, of these two systems"
VERDICTS = {
    "supported": "higher",
    "contradicted": "lower",
    "undecided": "no difference shown",
}
APART = "independent, variances added: other pairs; identities as units"
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
        return self.verdict.startswith((VERDICTS["supported"], VERDICTS["contradicted"]))

    @property
    def short(self) -> str:
        """The verdict without what it is of."""
        return self.verdict.removesuffix(f" {SCOPE}").removesuffix(f" {SCOPE_APART}")


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


@dataclass(frozen=True, eq=False)
class Tested:
    """The systems on one list of pairs, and what was measured of them."""

    systems: Systems
    found: Sequence[Measured]


class _Side(NamedTuple):
    """A measure of one system: the m-th of those on its list."""

    tested: Tested
    one: Measured
    m: int

    @property
    def value(self) -> float:
        return float(self.one.found.value[self.m])

    @property
    def note(self) -> str:
        return self.one.notes[self.m]


def differences(names: Sequence[str], lists: Sequence[Tested]) -> list[Difference]:
    """Every two systems by every measure, with Holm's p-values over each measure at each place.

    Args:
        names: of all systems, in order.
        lists: where they were tested.
    """
    place = {name: (tested, m) for tested in lists for m, name in enumerate(tested.systems.names)}
    sides: list[tuple[_Side, _Side]] = []
    for first, second in itertools.combinations(names, 2):
        (tested, m), (other, n) = place[first], place[second]
        same = {(one.measure, one.at, one.group): one for one in other.found}
        for one in tested.found:
            two = same.get((one.measure, one.at, one.group))
            if two is not None and one.contrast is not None and two.contrast is not None:
                sides.append((_Side(tested, one, m), _Side(other, two, n)))
    contrasts = [_contrast(*both) for both in sides]
    families: dict[tuple[str, str], list[int]] = {}
    for number, ((side, _), contrast) in enumerate(zip(sides, contrasts, strict=True)):
        if contrast is not None:
            families.setdefault((side.one.measure, side.one.at), []).append(number)
    adjusted = np.full(len(sides), np.nan)
    for members in families.values():
        adjusted[members] = holm([c.p for number in members if (c := contrasts[number])])
    return [
        _difference(*both, contrast, float(p))
        for both, contrast, p in zip(sides, contrasts, adjusted, strict=True)
    ]


def _contrast(first: _Side, second: _Side) -> Contrast | None:
    """None where one of the two is no number."""
    one, other = first.one, second.one
    defined = one.even is not None and one.measure in ("std", "ser")
    if not defined and np.isnan([first.value, second.value]).any():
        return None
    assert one.contrast is not None and other.contrast is not None
    if first.tested is second.tested:
        weights = np.zeros((1, len(first.tested.systems.names)))
        weights[0, [first.m, second.m]] = 1, -1
        return one.contrast(weights)
    if one.spread is not None and other.spread is not None:
        found = unpaired_spread_contrast(one.spread, other.spread, (first.m, second.m))
        return negated(found) if one.measure == "fdr" else found
    each = (np.eye(len(side.tested.systems.names))[[side.m]] for side in (first, second))
    return unpaired_contrast(one.contrast(next(each)), other.contrast(next(each)))


def _difference(first: _Side, second: _Side, found: Contrast | None, p_holm: float) -> Difference:
    one, paired = first.one, first.tested is second.tested
    note = ""
    if found is None:
        note = next(side.note for side in (first, second) if np.isnan(side.value))
    elif one.even is not None:
        note = f"less what noise adds {found.corrected:+.3g}"
        if np.isnan([first.value, second.value]).any():
            note += "; a group without errors counts as half an error"
        if f"difference of {one.measure}" in NOTES:
            note += f"; {NOTES[f'difference of {one.measure}']}"
    if found is not None and not paired:
        note = "; ".join(filter(None, (note, _apart(first.tested, second.tested))))
    wrong = None
    if found is not None and paired and one.wrong is not None:
        wrong = mcnemar(*one.wrong[[first.m, second.m]])
    scope = SCOPE if paired else SCOPE_APART
    return Difference(
        first=first.tested.systems.names[first.m],
        second=second.tested.systems.names[second.m],
        group=one.group,
        measure=one.measure,
        at=one.at,
        value=found.value if found else np.nan,
        low=found.low if found else np.nan,
        high=found.high if found else np.nan,
        confidence=CONFIDENCE if found else np.nan,
        p=found.p if found else np.nan,
        p_holm=p_holm,
        verdict=f"{VERDICTS[verdict(found, p_holm)]} {scope}" if found else "",
        mcnemar=np.nan if wrong is None else wrong,
        method=(JOINT if paired else APART) if found else "",
        note=note,
    )


def _apart(one: Tested, other: Tested) -> str:
    """What to know of a comparison over two lists of pairs."""
    note = "other pairs, so how hard they are is part of the difference"
    people = [set(tested.systems.pairs.identities) for tested in (one, other)]
    if people[0] & people[1]:
        note += "; people in both are taken for different ones"
    return note


def as_frame(rows: Sequence[NamedTuple], kind: type[NamedTuple]) -> pd.DataFrame:
    """Rows as a data frame; numbers of pairs are whole, missing where they are not known."""
    frame = pd.DataFrame(rows, columns=kind._fields)
    counts = ("genuine", "impostor", "pairs", "errors")
    return frame.astype({one: "Int64" for one in counts if one in frame})
