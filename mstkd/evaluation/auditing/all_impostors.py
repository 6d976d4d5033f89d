"""The rows of impostors.csv: error rates that rest on all impostor pairs among embedded images.

Where systems' embeddings are known, their false matches are not those of a list of pairs alone.
Shapes: M systems, N images, D embedding dimension, P genuine pairs, G groups, C cells (every two
groups).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mstkd.evaluation.auditing.measured import (
    WILSON,
    Measured,
    kinds_of,
    of_groups,
    where_told,
)
from mstkd.evaluation.auditing.systems import ALL, ALL_PAIRS
from mstkd.evaluation.contrasts import rate_contrasts
from mstkd.evaluation.impostor_rates import AllRates, Genuine, all_rates, of_parts, slopes
from mstkd.evaluation.impostors import ImpostorCounts, count_impostors, false_matches
from mstkd.evaluation.intervals import FAIRNESS, Interval, rate_interval
from mstkd.evaluation.measures import ENOUGH, fmr_insufficient, rate_insufficient
from mstkd.evaluation.scores import ScoreTable
from mstkd.evaluation.spread import DRAWS
from mstkd.evaluation.uncertainty import CONFIDENCE
from mstkd.progress import progress

IF_INDEPENDENT = ", were pairs independent"
TARGET = "the target, held by the threshold of the other half of the people"

NAN = float("nan")


@dataclass(frozen=True, eq=False)
class EmbeddedImages:
    """The images that a system was tested on."""

    vectors: NDArray[Any]  # floating point (N, D)
    identity: NDArray[np.int64]  # (N,), places in the table's `identities`
    group: NDArray[np.int64]  # (N,), places in the table's `groups`


class ImpostorRow(NamedTuple):
    """A row of impostors.csv; numbers that are not there are nan."""

    system: str
    group1: str  # both empty for the pairs within all groups together
    group2: str
    measure: str  # fmr, fnmr, or what follows of those of the groups
    at: str  # threshold=0.35 or fmr=0.01
    threshold: float  # the least similarity accepted; at an FMR the mean of either half's
    value: float
    low: float
    high: float
    confidence: float
    method: str  # of the interval
    pairs: float
    errors: float
    note: str


def images_of(table: ScoreTable, vectors: NDArray[Any]) -> EmbeddedImages | str:
    """The images of a table's pairs with their people and groups; or why they have none.

    Args:
        table: whose images have names.
        vectors: (N, D), of the images of `table.images`.
    """
    assert table.image1 is not None and table.image2 is not None
    image = np.concatenate([table.image1, table.image2])
    sides = [
        ("shows", table.identities, np.concatenate([table.identity1, table.identity2])),
        ("is in the groups", table.groups, np.concatenate([table.group1, table.group2])),
    ]
    found = []
    for does, names, codes in sides:
        of_image = np.zeros(len(table.images), np.int64)
        of_image[image] = codes
        other = np.flatnonzero(of_image[image] != codes)
        if len(other):
            row = int(other[0])
            one, two = sorted((names[codes[row]], names[of_image[image[row]]]))
            name = table.images[image[row]]
            told = f"the image {name!r} {does} {one!r} and {two!r}"
            return f"{told}, so pairs of images are not counted"
        found.append(of_image)
    used = np.unique(image)
    return EmbeddedImages(vectors[used], found[0][used], found[1][used])


def uncounted(
    system: str, thresholds: Sequence[float], fmrs: Sequence[float], reason: str
) -> tuple[ImpostorRow, ...]:
    """The rows of a system whose images cannot be paired."""
    places = [*map(_at_threshold, thresholds), *map(_at_fmr, fmrs)]
    return tuple(_row(system, ("", ""), "fmr", at, NAN, note=reason) for at in places)


def _at_threshold(threshold: float) -> str:
    return f"threshold={threshold:.12g}"


def _at_fmr(fmr: float) -> str:
    return f"fmr={fmr:.12g}"


@dataclass(frozen=True, eq=False)
class AllImpostors:
    """What was found over all impostor pairs: rows, system by system, and what can be compared."""

    rows: tuple[ImpostorRow, ...]
    found: tuple[Measured, ...] = ()


def all_impostors(
    systems: Mapping[str, tuple[ScoreTable, EmbeddedImages]],
    *,
    thresholds: Sequence[float],
    fmrs: Sequence[float],
    draws: int = DRAWS,
    seed: int = 0,
) -> AllImpostors:
    """Error rates of systems on all impostor pairs among the images that all were tested on.

    FMR is that of all pairs of images of two people; where the global FMR sets the threshold, of
    those of either half of the people, at the threshold of the other half. FNMR is that of the
    tables' genuine pairs, at the same thresholds.

    Args:
        systems: by name, scored pairs, every group with genuine ones, and what the system made of
            the images; all of the same pairs and images in one order.
        thresholds: similarities at which rates are taken.
        fmrs: false match rates of all groups together at which they are taken.
        draws: of the noise of measures over groups.
        seed: of the draws.

    Raises:
        ValueError: systems of other images or other genuine pairs.
    """
    table, images = next(iter(systems.values()))
    genuine = [_genuine(table) for table, _ in systems.values()]
    for other, (_, shown) in zip(genuine, systems.values(), strict=True):
        for name in ("identity", "group"):
            if not np.array_equal(getattr(shown, name), getattr(images, name)):
                raise ValueError("systems of other images")
        if not np.array_equal(other.person, genuine[0].person):
            raise ValueError("systems of other genuine pairs")
    number, count = len(images.group), len(systems)
    both = count * 2 * (number * (number - 1) // 2)
    told = ", ".join(systems) if count <= 2 else f"{count} systems"
    vectors = [shown.vectors for _, shown in systems.values()]
    with progress(f"{told}: all pairs of images, twice over", both, "pairs") as advance:
        counts = [
            count_impostors(one, images.identity, images.group, advance=advance) for one in vectors
        ]
        places = [_Place(_at_threshold(one), np.full((count, 3), one)) for one in thresholds]
        places += [_held(counts, fmr) for fmr in fmrs]
        found = false_matches(
            vectors,
            images.identity,
            images.group,
            part=counts[0].part,
            levels=np.stack([level for place in places for level in place.looked_at()]),
            advance=advance,
        )
    part_of = np.zeros(len(table.identities), np.int64)
    part_of[images.identity] = counts[0].part
    looked: list[_Looked] = []
    part, matches = part_of[genuine[0].person], iter(found)  # (P,)
    for place in places:
        by_level = [next(matches) for _ in place.looked_at()]
        if place.short:
            looked.append(_Looked(place))
            continue
        missed = np.stack([one.similarity for one in genuine]) < place.levels[:, part]  # (M, P)
        if not place.fmr:
            (rates,) = (all_rates(one, genuine[0], missed) for one in by_level)
        else:
            inside = [part == h for h in range(len(by_level))]
            rates = of_parts(
                [
                    all_rates(one, genuine[0].of(own), missed[:, own])
                    for one, own in zip(by_level, inside, strict=True)
                ]
            )
            errors = np.sqrt(np.maximum(rates.together().variances[:, 0], 0.0))
            of_all = zip(counts, genuine, errors.tolist(), strict=True)
            moved = [slopes(one, pairs, place.fmr, error) for one, pairs, error in of_all]
            rates = rates.with_threshold(np.stack(moved))
        short = [_lacking(rates, table.groups, m) for m in range(count)]
        over_groups = tuple(_over_groups(place, rates, short, draws, seed))
        looked.append(_Looked(place, rates, over_groups))
    return AllImpostors(
        tuple(
            row
            for m, system in enumerate(systems)
            for one in looked
            for row in _rows(system, m, one, table.groups)
        ),
        tuple(
            row for one in looked for row in _measured(one, table.groups) if len(table.groups) > 1
        ),
    )


def _genuine(table: ScoreTable) -> Genuine:
    inside = table.rows(table.within & table.same)
    return Genuine(
        inside.similarity,
        inside.identity1.astype(np.int64),
        inside.group1.astype(np.int64),
    )


@dataclass(frozen=True, eq=False)
class _Place:
    """Where rates are taken."""

    at: str
    levels: NDArray[np.float64]  # (M, 3), of `false_matches`
    fmr: float = 0.0  # the target; 0 where a threshold is given
    short: str = ""  # why there is no threshold

    def looked_at(self) -> list[NDArray[np.float64]]:
        """The levels at which people are counted: of pairs within each part where those differ."""
        if not self.fmr:
            return [self.levels]
        parts = self.levels.shape[1] - 1
        return [
            np.where(np.arange(parts + 1) == part, self.levels, np.nan) for part in range(parts)
        ]


@dataclass(frozen=True, eq=False)
class _Looked:
    """What was found at a place."""

    place: _Place
    rates: AllRates | None = None  # None where there is no threshold
    over_groups: tuple[Measured, ...] = ()

    def threshold(self, m: int) -> float:
        return float(self.place.levels[m, :2].mean())


def _held(counts: Sequence[ImpostorCounts], fmr: float) -> _Place:
    """Where a global FMR is held."""
    at, nowhere = _at_fmr(fmr), np.full((len(counts), 3), np.nan)
    within = counts[0].histogram[:-1].sum(axis=-1)  # (S, G, G), the same of all systems
    pairs = np.einsum("sgg->s", within)
    few = fmr_insufficient(fmr, int(pairs.min()))
    if few is not None:
        short = (
            f"insufficient: {few.errors:.3g} false matches expected of {few.pairs:,} impostor pairs"
            f" of half of the people, {ENOUGH} needed"
        )
        return _Place(at, nowhere, fmr, short)
    levels = [np.append(one.at_fmr(fmr).thresholds, np.nan) for one in counts]
    return _Place(at, np.stack(levels), fmr)


def _over_groups(
    place: _Place, rates: AllRates, short: Sequence[Mapping[str, str]], draws: int, seed: int
) -> Iterator[Measured]:
    """What follows of the groups' rates."""
    of_both = rates.of_groups
    if len(of_both.genuine) < 2:
        return
    for name in FAIRNESS:
        kinds = kinds_of(name)
        why = [next(filter(None, (one[kind] for kind in kinds)), "") for one in short]
        at = f"{place.at}{ALL_PAIRS}"
        if all(why):
            nothing = np.full(len(why), NAN)
            yield Measured(name, at, ALL, Interval(*[nothing] * 3), "", why)
            continue
        yield of_groups(name, at, of_both.of(name), why, draws=draws, seed=seed)


class _Column(NamedTuple):
    """Which rate a column of all rates is."""

    kind: str
    between: tuple[str, str]


def _columns(rates: AllRates, groups: Sequence[str]) -> list[_Column]:
    cells = [_Column("fmr", (groups[a], groups[b])) for a, b in zip(*rates.cells, strict=True)]
    return cells + [_Column("fnmr", (group, group)) for group in groups]


def _measured(looked: _Looked, groups: Sequence[str]) -> Iterator[Measured]:
    """What systems are compared by."""
    rates, place = looked.rates, looked.place
    if rates is None:
        return
    at = f"{place.at}{ALL_PAIRS}"
    together, systems = rates.together(), range(len(rates.errors))
    whole = rate_interval(together)
    for column, kind in enumerate(("fmr", "fnmr")):
        if place.fmr and kind == "fmr":  # held where it is
            continue
        chosen = _summed(rates, kind)
        few = [_few(int(rates.errors[m, chosen].sum()), chosen, rates) for m in systems]
        found = where_told(Interval(*(one[:, column] for one in whole)), few)
        contrast = rate_contrasts(together, column)
        yield Measured(kind, at, ALL, found, WILSON, few, contrast)
    each = rate_interval(rates.joint)
    for column, one in enumerate(_columns(rates, groups)):
        only = np.arange(len(rates.pairs)) == column
        few = [_few(int(rates.errors[m, column]), only, rates) for m in systems]
        found = where_told(Interval(*(part[:, column] for part in each)), few)
        contrast = rate_contrasts(rates.joint, column)
        group = " × ".join(dict.fromkeys(one.between))
        yield Measured(one.kind, at, group, found, WILSON, few, contrast)
    yield from looked.over_groups


def _summed(rates: AllRates, kind: str) -> NDArray[np.bool_]:
    """Which rates (C + G,) count in that of all groups together."""
    genuine = np.arange(len(rates.pairs)) >= len(rates.within)
    return genuine if kind == "fnmr" else rates.share > 0


def _few(errors: int, chosen: NDArray[np.bool_], rates: AllRates) -> str:
    """Why a rate is no number."""
    pairs = int(rates.pairs[chosen].sum())
    if not pairs:
        return "no pairs"
    few = rate_insufficient(errors, pairs)
    return "" if few is None else f"{few}{IF_INDEPENDENT}"


def _rows(system: str, m: int, looked: _Looked, groups: Sequence[str]) -> Iterator[ImpostorRow]:
    """All of one place: the rates of all groups, those of every two, and what follows of them."""
    place, rates, threshold = looked.place, looked.rates, looked.threshold(m)
    if rates is None:
        yield _row(system, ("", ""), "fmr", place.at, NAN, note=place.short)
        return

    def rate(column: _Column, found: Interval, at: int, chosen: NDArray[np.bool_]) -> ImpostorRow:
        """One rate, or why it is no number."""
        limits = value, _, _ = tuple(float(part[m, at]) for part in found)
        errors, pairs = int(rates.errors[m, chosen].sum()), int(rates.pairs[chosen].sum())
        note, method = _few(errors, chosen, rates), WILSON
        if note:
            limits = (NAN, NAN, NAN)
        elif place.fmr and column == ("fmr", ("", "")):
            note, limits, method = TARGET, (value, NAN, NAN), ""
        told = (threshold, limits, method, pairs, errors, note)
        return _row(system, column.between, column.kind, place.at, *told)

    whole = rate_interval(rates.together())
    for at, kind in enumerate(("fmr", "fnmr")):
        yield rate(_Column(kind, ("", "")), whole, at, _summed(rates, kind))
    found = rate_interval(rates.joint)
    for at, column in enumerate(_columns(rates, groups)):
        yield rate(column, found, at, np.arange(len(rates.pairs)) == at)
    for one in looked.over_groups:
        limits = tuple(float(part[m]) for part in one.found)
        note = one.notes[m]
        yield _row(
            system, ("", ""), one.measure, place.at, threshold, limits, one.method, note=note
        )


def _row(
    system: str,
    between: tuple[str, str],
    measure: str,
    at: str,
    threshold: float,
    limits: tuple[float, ...] = (NAN, NAN, NAN),
    method: str = "",
    pairs: float = NAN,
    errors: float = NAN,
    note: str = "",
) -> ImpostorRow:
    value, low, high = limits
    told = not np.isnan(low)
    return ImpostorRow(
        system,
        *between,
        measure,
        at,
        threshold,
        value,
        low,
        high,
        CONFIDENCE if told else NAN,
        method if told else "",
        pairs,
        errors,
        note,
    )


def _lacking(rates: AllRates, groups: Sequence[str], m: int) -> dict[str, str]:
    """Of either kind, which group's rate of the m-th system rests on too few errors."""
    cells = len(rates.within)
    columns = {"fmr": np.flatnonzero(rates.within), "fnmr": np.arange(cells, len(rates.pairs))}
    short = dict.fromkeys(columns, "")
    for kind, of in columns.items():
        errors_of = rates.errors[m, of].tolist()
        for group, errors, pairs in zip(groups, errors_of, rates.pairs[of].tolist(), strict=True):
            rate = f"insufficient: the {kind.upper()} of group {group!r}"
            if errors < ENOUGH:
                short[kind] = short[kind] or f"{rate} rests on {errors} errors, {ENOUGH} needed"
            elif errors == pairs:
                short[kind] = short[kind] or f"{rate} is 1, beyond which nothing is told"
    return short
