"""The rows of impostors.csv: error rates that rest on all impostor pairs among embedded images.

Where a system's embeddings are known, its false matches are not those of a list of pairs alone.
Shapes: N images, D embedding dimension, G groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mstkd.evaluation.coverage import NOTES
from mstkd.evaluation.impostor_rates import AllRates, Genuine, all_rates, slopes
from mstkd.evaluation.impostors import ImpostorCounts, count_impostors, false_matches
from mstkd.evaluation.intervals import FAIRNESS, Interval, rate_interval
from mstkd.evaluation.measures import ENOUGH, fmr_insufficient, rate_insufficient
from mstkd.evaluation.scores import ScoreTable
from mstkd.evaluation.spread import DRAWS, Spread
from mstkd.evaluation.uncertainty import CONFIDENCE
from mstkd.progress import progress

WILSON = "Wilson, identities as units"
INVERTED = "inversion of the noise, identities as units"
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


def all_impostors(
    system: str,
    table: ScoreTable,
    images: EmbeddedImages,
    *,
    thresholds: Sequence[float],
    fmrs: Sequence[float],
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[ImpostorRow, ...]:
    """Error rates of one system on all impostor pairs among its images.

    FMR is that of all pairs of images of two people; where the global FMR sets the threshold, of
    those of either half of the people, at the threshold of the other half. FNMR is that of the
    table's genuine pairs, at the same thresholds.

    Args:
        system: name.
        table: scored pairs, every group with genuine ones.
        images: what the system made of them.
        thresholds: similarities at which rates are taken.
        fmrs: false match rates of all groups together at which they are taken.
        draws: of the noise of measures over groups.
        seed: of the draws.
    """
    number = len(images.group)
    both = 2 * (number * (number - 1) // 2)
    given = images.vectors, images.identity, images.group
    inside = table.rows(table.within & table.same)
    genuine = Genuine(
        inside.similarity,
        inside.identity1.astype(np.int64),
        inside.group1.astype(np.int64),
    )
    with progress(f"{system}: all pairs of images, twice over", both, "pairs") as advance:
        counts = count_impostors(*given, advance=advance)
        places = [_Place(_at_threshold(one), np.full(3, one)) for one in thresholds]
        places += [_held(counts, fmr) for fmr in fmrs]
        levels = np.stack([place.levels for place in places])
        found = false_matches(*given, part=counts.part, levels=levels, advance=advance)
    part_of = np.zeros(len(table.identities), np.int64)
    part_of[images.identity] = counts.part
    rows: list[ImpostorRow] = []
    for place, matches in zip(places, found, strict=True):
        if place.short:
            rows.append(_row(system, ("", ""), "fmr", place.at, NAN, note=place.short))
            continue
        missed = genuine.similarity < place.levels[part_of[genuine.person]]
        rates = all_rates(matches, genuine, missed)
        if place.fmr:
            error = float(np.sqrt(max(rates.together().variances[0, 0], 0.0)))
            rates = rates.with_threshold(slopes(counts, genuine, place.fmr, error))
        rows += _rows(system, place, rates, table.groups, draws, seed)
    return tuple(rows)


@dataclass(frozen=True, eq=False)
class _Place:
    """Where rates are taken."""

    at: str
    levels: NDArray[np.float64]  # (3,), of `false_matches`
    fmr: float = 0.0  # the target; 0 where a threshold is given
    short: str = ""  # why there is no threshold

    @property
    def threshold(self) -> float:
        return float(self.levels[:2].mean())


def _held(counts: ImpostorCounts, fmr: float) -> _Place:
    """Where a global FMR is held."""
    at, nowhere = _at_fmr(fmr), np.full(3, np.nan)
    within = counts.histogram[:-1].sum(axis=-1)  # (S, G, G)
    pairs = np.einsum("sgg->s", within)
    few = fmr_insufficient(fmr, int(pairs.min()))
    if few is not None:
        short = (
            f"insufficient: {few.errors:.3g} false matches expected of {few.pairs:,} impostor pairs"
            f" of half of the people, {ENOUGH} needed"
        )
        return _Place(at, nowhere, fmr, short)
    return _Place(at, np.append(counts.at_fmr(fmr).thresholds, np.nan), fmr)


def _rows(
    system: str, place: _Place, rates: AllRates, groups: Sequence[str], draws: int, seed: int
) -> Iterator[ImpostorRow]:
    """All of one place: the rates of all groups, those of every two, and what follows of them."""
    cells = len(rates.within)
    names = [(groups[a], groups[b]) for a, b in zip(*rates.cells, strict=True)]
    names += [(group, group) for group in groups]
    kinds = ["fmr"] * cells + ["fnmr"] * len(groups)
    whole = rate_interval(rates.together())
    inside = np.append(rates.within, np.zeros(len(groups), np.bool_))
    genuine = np.arange(len(kinds)) >= cells
    for column, (kind, chosen) in enumerate((("fmr", inside), ("fnmr", genuine))):
        counted = int(rates.errors[chosen].sum()), int(rates.pairs[chosen].sum())
        yield _rate(system, ("", ""), kind, place, whole, column, *counted)
    found = rate_interval(rates.joint)
    for column, (kind, between) in enumerate(zip(kinds, names, strict=True)):
        counted = int(rates.errors[column]), int(rates.pairs[column])
        yield _rate(system, between, kind, place, found, column, *counted)
    if len(groups) < 2:
        return
    of_groups, short = rates.of_groups, _lacking(rates, groups)
    for name, measure in FAIRNESS.items():
        kind = name.split("_")[0]
        note = short[kind] if kind in short else short["fmr"] or short["fnmr"]
        if note:
            yield _row(system, ("", ""), name, place.at, place.threshold, note=note)
            continue
        of = {"fmr": of_groups.fmr, "fnmr": of_groups.fnmr}.get(kind, of_groups.joint)
        even = Spread(of, measure, draws=draws, seed=seed).intervals()
        value, low, high = (float(part[0]) for part in (even.value, even.low, even.high))
        if name == "fdr":  # of which 1 is fair, and what is spread is one less it
            value, low, high = 1 - value, 1 - high, 1 - low
        yield _row(
            system,
            ("", ""),
            name,
            place.at,
            place.threshold,
            (value, low, high),
            INVERTED,
            note=NOTES.get(name, ""),
        )


def _rate(
    system: str,
    between: tuple[str, str],
    kind: str,
    place: _Place,
    found: Interval,
    column: int,
    errors: int,
    pairs: int,
) -> ImpostorRow:
    """One rate, or why it is no number."""
    limits = value, _, _ = tuple(float(part[0, column]) for part in found)
    few, method = rate_insufficient(errors, pairs), WILSON
    note = ""
    if not pairs:
        note, limits = "no pairs", (NAN, NAN, NAN)
    elif few is not None:
        note, limits = f"{few}{IF_INDEPENDENT}", (NAN, NAN, NAN)
    elif place.fmr and kind == "fmr" and between == ("", ""):
        note, limits, method = TARGET, (value, NAN, NAN), ""
    return _row(
        system, between, kind, place.at, place.threshold, limits, method, pairs, errors, note
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


def _lacking(rates: AllRates, groups: Sequence[str]) -> dict[str, str]:
    """Of either kind, which group's rate rests on too few errors."""
    cells = len(rates.within)
    columns = {"fmr": np.flatnonzero(rates.within), "fnmr": np.arange(cells, len(rates.pairs))}
    short = dict.fromkeys(columns, "")
    for kind, of in columns.items():
        counted = zip(groups, rates.errors[of].tolist(), rates.pairs[of].tolist(), strict=True)
        for group, errors, pairs in counted:
            rate = f"insufficient: the {kind.upper()} of group {group!r}"
            if errors < ENOUGH:
                short[kind] = short[kind] or f"{rate} rests on {errors} errors, {ENOUGH} needed"
            elif errors == pairs:
                short[kind] = short[kind] or f"{rate} is 1, beyond which nothing is told"
    return short
