"""The threshold at which a model decides: set for a false match rate on given pairs, and recorded.

The threshold is the lowest at which no more than the target's share of the impostor pairs of all
groups is accepted. Its interval holds every threshold at which the pairs leave it open whether the
false match rate is the target: where the interval of the rate, with identities as units, contains
it. Error rates of the groups are told at the threshold itself.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mstkd.artifacts.records import CALIBRATION, Provenance, Record, SealedRecord, read_record
from mstkd.config import CalibrationSettings, InputSettings
from mstkd.errors import InputError, anew
from mstkd.evaluation.auditing.measured import of_threshold
from mstkd.evaluation.auditing.systems import ALL, Systems
from mstkd.evaluation.auditing.tables import measure_rows
from mstkd.evaluation.intervals import rate_interval, rates_at
from mstkd.evaluation.measures import ENOUGH, fmr_insufficient
from mstkd.evaluation.scores import ScoreTable
from mstkd.evaluation.uncertainty import CONFIDENCE

FEWEST_DRAWS = 100  # of the noise of measures over groups, which are not asked for


class Rate(Record):
    """An error rate with its limits, all of them None where too few errors tell it."""

    value: float | None  # a fraction
    low: float | None
    high: float | None
    pairs: int
    note: str  # why there is no number


class GroupErrors(Record):
    """What is decided wrongly of one group, or of all, at a threshold."""

    fmr: Rate
    fnmr: Rate


class Calibration(SealedRecord):
    """model.calibration.json, beside the weights: where a model decides, and how often wrongly."""

    format: Literal["mstkd-calibration"] = "mstkd-calibration"
    weights_sha256: str
    mirror: bool  # whether embeddings are those of image plus mirror image
    seen: InputSettings  # how images were shown
    target_fmr: float
    threshold: float  # pairs of at least this similarity are taken for one person
    threshold_low: float
    threshold_high: float
    confidence: float = CONFIDENCE
    together: GroupErrors
    groups: dict[str, GroupErrors]
    provenance: Provenance | None = None


def calibration_path(weights: Path) -> Path:
    """Where the calibration of some weights lies."""
    return weights.with_name(weights.stem + CALIBRATION)


def read_calibration(weights: Path, sha256: str) -> Calibration | None:
    """The calibration beside some weights; None where there is none.

    Raises:
        InputError: it is damaged, or of other weights.
    """
    path = calibration_path(weights)
    if not path.exists():
        return None
    found = read_record(Calibration, path)
    if found.weights_sha256 != sha256:
        expected = anew(f"one of {weights.name} as it is", path)
        raise InputError(path, found="a calibration of other weights", expected=expected)
    return found


def calibrate(settings: CalibrationSettings, table: ScoreTable, **who: Any) -> Calibration:
    """The threshold of a false match rate on scored pairs, with what follows of it.

    Args:
        settings: the false match rate, of all groups together.
        table: scored pairs; those across groups are left out.
        who: the other fields of the record.

    Raises:
        InputError: so few impostor pairs that ten false matches are not to be expected.
    """
    inside = table.rows(table.within)
    impostors = -np.sort(-inside.similarity[~inside.same])  # falling
    short = fmr_insufficient(settings.fmr, len(impostors))
    if short is not None:
        found = f"{len(impostors):,} impostor pairs, of which {short.errors:.3g} would match"
        least = math.ceil(ENOUGH / settings.fmr * (1 - 1e-12))
        expected = f"{least:,}, for {ENOUGH} false matches"
        raise InputError(f"an FMR of {settings.fmr:g}", found=found, expected=expected)
    threshold = _above(impostors, int(settings.fmr * len(impostors) * (1 + 1e-12)))
    low, high = threshold_interval(inside, impostors, settings.fmr)
    systems = Systems(("",), (inside,))
    measured = list(of_threshold(systems, threshold, draws=FEWEST_DRAWS, seed=0))
    rates = {
        (row.group, row.measure): Rate(
            value=_known(row.value),
            low=_known(row.low),
            high=_known(row.high),
            pairs=int(row.impostor if row.measure == "fmr" else row.genuine),
            note=row.note,
        )
        for row in measure_rows(systems, measured)
    }
    errors = {
        group: GroupErrors(fmr=rates[group, "fmr"], fnmr=rates[group, "fnmr"])
        for group in (ALL, *inside.groups)
    }
    return Calibration(
        target_fmr=settings.fmr,
        threshold=threshold,
        threshold_low=low,
        threshold_high=high,
        together=errors.pop(ALL),
        groups=errors,
        **who,
    )


def threshold_interval(
    table: ScoreTable, impostors: NDArray[np.float64], fmr: float
) -> tuple[float, float]:
    """The least and the highest threshold at which the FMR may well be the target.

    Args:
        table: scored pairs within groups.
        impostors: the similarities (I,) of its impostor pairs, falling.
        fmr: the target.
    """

    def limits(accepted: int) -> tuple[float, float]:
        found = rate_interval(rates_at([table], threshold=_above(impostors, accepted)).together)
        return float(found.low[0, 0]), float(found.high[0, 0])

    # The more pairs are accepted the higher are both limits, but for steps too small to matter.
    counts = range(len(impostors))
    fewest = bisect_left(counts, True, key=lambda accepted: limits(accepted)[1] >= fmr)
    beyond = bisect_left(counts, True, key=lambda accepted: limits(accepted)[0] > fmr)
    return _above(impostors, max(beyond - 1, fewest)), _above(impostors, fewest)


def _above(falling: NDArray[np.float64], accepted: int) -> float:
    """The lowest threshold that accepts at most so many of the highest similarities."""
    if accepted >= len(falling):
        return float(falling[-1])
    return float(np.nextafter(falling[accepted], np.inf))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
