"""What is measured of systems on one list of pairs, each measure with its uncertainty.

Shapes: M systems, P pairs, G groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mstkd.evaluation.auditing.systems import ALL, ALL_PAIRS, Systems
from mstkd.evaluation.contrasts import Contrast, accuracy_contrast, negated, spread_contrast
from mstkd.evaluation.coverage import NOTES
from mstkd.evaluation.fairness import differential
from mstkd.evaluation.intervals import (
    FAIRNESS,
    ErrorRates,
    Interval,
    area_interval,
    areas_above,
    equal_error_rates,
    rate_interval,
    rates_at,
)
from mstkd.evaluation.measures import (
    ENOUGH,
    Insufficient,
    fmr_insufficient,
    fold_decisions,
    rate_insufficient,
    rates_at_fmr,
)
from mstkd.evaluation.protocol import fairness_of, rates_of_tables
from mstkd.evaluation.spread import SER, STD, Spread, SpreadInterval
from mstkd.evaluation.uncertainty import CONFIDENCE, GroupRates

Floats = NDArray[np.float64]
Truths = NDArray[np.bool_]
Kind = Literal["fmr", "fnmr"]
Contrasted = Callable[[Floats], Contrast]

WILSON = "Wilson, identities as units"
INVERTED = "inversion of the noise, identities as units"
LOGARITHM = "normal on the logarithm, identities as units"
NO_ERROR = "undefined: a group without errors"
TWO_FOLDS = "two folds: the noise of chosen thresholds is left out"


@dataclass(frozen=True, eq=False)
class Measured:
    """A measure of all systems, at one place and of one group."""

    measure: str
    at: str
    group: str  # `ALL` for all groups together
    found: Interval  # (M,); nan where it is no number
    method: str  # of the interval
    notes: Sequence[str]  # (M,), why it is no number, or what to know of it
    # How two systems differ, of weights (1, M); None where they are not compared.
    contrast: Contrasted | None = None
    wrong: Truths | None = None  # (M, N): which of the pairs it counts are decided wrongly
    even: SpreadInterval | None = None  # of measures over groups
    spread: Spread | None = None  # the same; of FDR of one less it


class Part(NamedTuple):
    """Of which pairs a rate is: a column of joint rates."""

    group: str
    column: int
    pairs: Truths  # (N,), of those decided


def _parts(systems: Systems, groups: NDArray[np.int16]) -> list[Part]:
    return [Part(name, g, groups == g) for g, name in enumerate(systems.groups)]


# ---------------------------------------------------------------- accuracy over folds


def of_protocol(
    systems: Systems, at: Literal["own", "shared"], *, draws: int, seed: int
) -> Iterator[Measured]:
    """Accuracy of each group and of all by RFW's protocol; STD and SER of several groups."""
    pairs, told = systems.pairs, [fairness_of(table, at) for table in systems.tables]
    rates = rates_of_tables(systems.tables, at)
    right = [
        fold_decisions(row, pairs.same, pairs.fold, pairs.group1, threshold=at).right
        for row in systems.similarity
    ]
    wrong, notes = ~np.stack(right), [TWO_FOLDS if pairs.folds < 3 else ""] * len(told)
    for part in _parts(systems, pairs.group1):
        percent = [one.groups[part.group].accuracy for one in told]
        found = _percent(percent, rates, part.column)
        contrast = contrast_of_rates(rates, part.column, sign=1, scale=100)
        inside = wrong[:, part.pairs]
        yield Measured("accuracy", at, part.group, found, WILSON, notes, contrast, inside)
    together = rates.together()
    found = _percent([one.global_accuracy for one in told], together, 0)
    contrast = contrast_of_rates(together, 0, sign=1, scale=100)
    yield Measured("global_accuracy", at, ALL, found, WILSON, notes, contrast, wrong)
    if len(systems.groups) < 2:
        return
    for name, measure in (("std", STD), ("ser", SER)):
        spread = Spread(rates, measure, draws=draws, seed=seed)
        even = spread.intervals()
        values = [one.std if name == "std" else one.ser for one in told]
        value = np.array([np.nan if one is None else one for one in values])
        words = [
            NO_ERROR if np.isnan(one) else _floor(even, m, name) for m, one in enumerate(value)
        ]
        contrast = contrast_of_spread(spread)
        found = Interval(value, even.low, even.high)
        yield Measured(name, at, ALL, found, INVERTED, words, contrast, even=even, spread=spread)


def _percent(values: Sequence[float], rates: GroupRates, column: int) -> Interval:
    """Accuracies as the protocol has them, and the limits of their error rates."""
    _, low, high = (one[:, column] for one in rate_interval(rates))
    return Interval(np.array(values), 100 - 100 * high, 100 - 100 * low)


def _floor(even: SpreadInterval, m: int, name: str) -> str:
    """What to know of a measure that noise pushes away from that of an even system."""
    unit, beyond = (" points" if name == "std" else ""), ("above" if name == "fdr" else "below")
    return (
        f"an even system would show {even.floor[m]:.3g}{unit} on average and {beyond} "
        f"{even.floor_high[m]:.3g} in 95 of 100; less what noise adds {even.corrected[m]:.3g}"
    )


def contrast_of_rates(
    rates: GroupRates, column: int, *, sign: Literal[1, -1], scale: float = 1.0
) -> Contrasted:
    """Contrasts of one column: of the rate of what is right if `sign` is 1, else of the errors."""
    chosen = np.zeros(rates.rates.shape[1])
    chosen[column] = sign * scale / 100  # as of accuracies in percent
    return lambda weights: accuracy_contrast(rates, weights[:, :, None] * chosen)


def contrast_of_spread(spread: Spread, *, sign: Literal[1, -1] = 1) -> Contrasted:
    """Contrasts of a measure over groups, or where `sign` is -1 of one less it."""

    def contrast(weights: Floats) -> Contrast:
        found = spread_contrast(spread, weights)
        return found if sign == 1 else negated(found)

    return contrast


# ---------------------------------------------------------------- whatever the threshold


def of_separation(systems: Systems) -> Iterator[Measured]:
    """AUC and EER: of all pairs together, which share a threshold, and of each group's own."""
    whole = [table.grouped_by(()) for table in systems.tables]
    for at, tables, groups in (("shared", whole, (ALL,)), ("own", systems.tables, systems.groups)):
        nothing = [""] * len(systems.names)
        above, equal = areas_above(tables), equal_error_rates(tables)
        for name, rates, found, sign in (
            ("auc", above, area_interval(above), 1),
            ("eer", equal, rate_interval(equal), -1),
        ):
            for column, group in enumerate(groups):
                own = Interval(*(one[:, column] for one in found))
                contrast = contrast_of_rates(rates, column, sign=1 if sign == 1 else -1)
                notes = _few_errors(own, systems.pairs_of(group)) if name == "eer" else nothing
                yield Measured(name, at, group, own, WILSON, notes, contrast)


def _few_errors(rates: Interval, pairs: NDArray[np.int64]) -> list[str]:
    """Which rates (M,) of as many impostor and genuine pairs rest on few errors of a kind."""
    errors = np.rint(rates.value * pairs.min())
    return [f"rests on {one:.0f} errors" if one < ENOUGH else "" for one in errors]


# ---------------------------------------------------------------- error rates


def of_threshold(
    systems: Systems, threshold: float, *, draws: int, seed: int
) -> Iterator[Measured]:
    """Error rates where pairs of at least this similarity are accepted."""
    rates = rates_at(systems.tables, threshold=threshold)
    found = _AtThreshold(systems, systems.similarity >= threshold, rates, held=False)
    yield from found.measured(f"threshold={threshold:.12g}", draws=draws, seed=seed)


def of_fmr(systems: Systems, fmr: float, *, draws: int, seed: int) -> Iterator[Measured]:
    """Error rates where each system's global FMR is held at a target, on the other folds."""
    pairs = systems.pairs
    accepted = np.empty(systems.similarity.shape, np.bool_)
    for row, values in enumerate(systems.similarity):
        at = rates_at_fmr(values, pairs.same, pairs.fold, pairs.group1, fmr).thresholds[0]
        accepted[row] = values >= at[pairs.fold]
    short = fmr_insufficient(fmr, int(systems.counts[0].sum()))
    rates = rates_at(systems.tables, fmr=fmr)
    found = _AtThreshold(systems, accepted, rates, held=True, short=short)
    yield from found.measured(f"fmr={fmr:.12g}", draws=draws, seed=seed)


class _AtThreshold:
    """Error rates at one threshold for all groups, and what rests on too few errors.

    `held` says whether thresholds hold the global FMR, `short` why none can be set.
    """

    def __init__(
        self,
        systems: Systems,
        accepted: Truths,
        rates: ErrorRates,
        *,
        held: bool,
        short: Insufficient | None = None,
    ) -> None:
        self._systems, self._rates, self._short, self._held = systems, rates, short, held
        self._by_group: dict[Kind, GroupRates] = {"fmr": rates.fmr, "fnmr": rates.fnmr}
        self._rows: dict[Kind, NDArray[np.int64]] = {
            "fmr": np.flatnonzero(~systems.pairs.same),
            "fnmr": np.flatnonzero(systems.pairs.same),
        }
        wrong = accepted != systems.pairs.same
        self._wrong = {kind: wrong[:, rows] for kind, rows in self._rows.items()}

    def measured(self, at: str, *, draws: int, seed: int) -> Iterator[Measured]:
        """FMR, FNMR and TAR of all and of each group, then what follows of those of groups."""
        for name in ("fmr", "fnmr", "tar"):
            yield from self._rated(name, at)
        if len(self._systems.groups) > 1:
            yield from self._over_groups(at, draws, seed)
            for kind in ("fmr", "fnmr"):
                yield from self._differentials(kind, at)

    def _rated(self, name: Literal["fmr", "fnmr", "tar"], at: str) -> Iterator[Measured]:
        kind: Kind = "fmr" if name == "fmr" else "fnmr"
        wrong, groups = self._wrong[kind], self._systems.pairs.group1[self._rows[kind]]
        all_pairs = Part(ALL, int(kind == "fnmr"), np.ones(len(groups), np.bool_))
        for part in (all_pairs, *_parts(self._systems, groups)):
            rates = self._rates.together if part.group == ALL else self._by_group[kind]
            found = Interval(*(one[:, part.column] for one in rate_interval(rates)))
            if name == "tar":
                found = Interval(1 - found.value, 1 - found.high, 1 - found.low)
            mine = wrong[:, part.pairs]
            notes = [self._too_few(row, misses_of=name) for row in mine]
            contrast: Contrasted | None
            contrast = contrast_of_rates(rates, part.column, sign=1 if name == "tar" else -1)
            # Held where it is, the global FMR is the same for all systems, but for chance.
            is_target = self._held and name == "fmr" and part.group == ALL
            if is_target or self._short is not None:
                contrast = None
            yield Measured(
                name, at, part.group, where_told(found, notes), WILSON, notes, contrast, mine
            )

    def _over_groups(self, at: str, draws: int, seed: int) -> Iterator[Measured]:
        """FDR, IR, GARBE and the ratios of NIST's reports."""
        for name in FAIRNESS:
            kinds = kinds_of(name)
            of = self._by_group[kinds[0]] if len(kinds) == 1 else self._rates.joint
            short = self._lacking(kinds)
            if all(short):
                nothing = np.full(len(short), np.nan)
                yield Measured(name, at, ALL, Interval(*[nothing] * 3), "", short)
                continue
            yield of_groups(name, at, of, short, draws=draws, seed=seed)

    def _differentials(self, kind: Kind, at: str) -> Iterator[Measured]:
        """Each group's rate over the geometric mean of all."""
        rates, short = self._by_group[kind], self._lacking([kind])
        found = where_told(differential_intervals(rates), [[word] for word in short])
        for g, group in enumerate(self._systems.groups):
            own = Interval(*(one[:, g] for one in found))
            yield Measured(f"{kind}_differential", at, group, own, LOGARITHM, short)

    def _too_few(self, wrong: Truths, *, misses_of: str) -> str:
        """Why a rate of pairs (N,) is no number."""
        if self._short is not None:
            return _no_threshold(self._short)
        short = rate_insufficient(int(wrong.sum()), len(wrong))
        if short is None:
            return ""
        if misses_of != "tar":
            return str(short)
        return f"{str(short).rpartition(' below')[0]} above {1 - short.bound:.4g}"

    def _lacking(self, kinds: Sequence[Kind]) -> list[str]:
        """Of each system, which group's rate rests on too few errors (M,)."""
        if self._short is not None:
            return [_no_threshold(self._short)] * len(self._systems.names)
        words = [""] * len(self._systems.names)
        for kind in reversed(kinds):
            groups = self._systems.pairs.group1[self._rows[kind]]
            for part in reversed(_parts(self._systems, groups)):
                for m, errors in enumerate(self._wrong[kind][:, part.pairs].sum(axis=1)):
                    rate = f"the {kind.upper()} of group {part.group!r}"
                    if errors < ENOUGH:
                        words[m] = f"insufficient: {rate} rests on {errors} errors, {ENOUGH} needed"
                    elif errors == part.pairs.sum():
                        words[m] = f"insufficient: {rate} is 1, beyond which nothing is told"
        return words


def of_groups(
    name: str, at: str, rates: GroupRates, short: Sequence[str], *, draws: int, seed: int
) -> Measured:
    """A measure of `FAIRNESS` of all systems.

    Args:
        name: of the measure.
        at: where its rates are taken.
        rates: of the groups, of the kinds that the measure is made of.
        short: (M,), why it is no number.
        draws: of the noise.
        seed: of the draws.
    """
    spread = Spread(rates, FAIRNESS[name], draws=draws, seed=seed)
    even = spread.intervals()
    if name == "fdr":  # of which 1 is fair, and what is spread is one less it
        even = SpreadInterval(
            1 - even.value,
            1 - even.high,
            1 - even.low,
            *(1 - one for one in (even.corrected, even.floor, even.floor_high)),
        )
    covered = f"{name}{ALL_PAIRS}" if at.endswith(ALL_PAIRS) else name
    known = f"; {NOTES[covered]}" if covered in NOTES else ""
    notes = [word or _floor(even, m, name) + known for m, word in enumerate(short)]
    found = where_told(Interval(even.value, even.low, even.high), short)
    contrast = contrast_of_spread(spread, sign=-1 if name == "fdr" else 1)
    return Measured(name, at, ALL, found, INVERTED, notes, contrast, even=even, spread=spread)


def _no_threshold(short: Insufficient) -> str:
    """Why a global FMR cannot be held: a note of all that would be taken there."""
    return (
        f"insufficient: {short.errors:.3g} false matches expected of {short.pairs:,} impostor "
        f"pairs, {ENOUGH} needed; no FMR below {short.bound:.2g} can be told from none"
    )


def kinds_of(measure: str) -> list[Kind]:
    """Of which rates a measure over groups is made."""
    one: list[Kind] = [kind for kind in ("fmr", "fnmr") if measure.startswith(kind)]
    return one or ["fmr", "fnmr"]


def where_told(found: Interval, notes: Sequence[str] | Sequence[Sequence[str]]) -> Interval:
    """The numbers, nan where a note says that there is none."""
    void = np.array(notes) != ""
    return Interval(*(np.where(void, np.nan, one) for one in found))


def differential_intervals(rates: GroupRates, confidence: float = CONFIDENCE) -> Interval:
    """Each group's rate over the geometric mean of all groups' (M, G), with intervals.

    `fairness.differential`, whose logarithm is a contrast of the rates' logarithms: its variance
    is that of the rates over their squares (delta method).

    Args:
        rates: (M, G), above 0 where an interval is asked for.
        confidence: of the intervals.
    """
    groups = rates.rates.shape[1]
    centred = np.eye(groups) - 1 / groups
    # Of a rate near 0 the limit may be beyond all numbers, and is inf.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        relative = np.einsum("mgmh->mgh", rates.covariance)
        relative = relative / (rates.rates[:, :, None] * rates.rates[:, None])
        variances = np.einsum("ga,mab,gb->mg", centred, relative, centred)
        value = differential(rates.rates)
        reach = special.ndtri(0.5 + confidence / 2) * np.sqrt(np.maximum(variances, 0))
        return Interval(value, value * np.exp(-reach), value * np.exp(reach))
