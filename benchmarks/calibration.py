"""Do intervals cover what they say? Simulated verification sets whose truth is known.

OMP_NUM_THREADS=1 python benchmarks/calibration.py [--sets 1000] [--processes 2] [--minutes 8]
    [--only contrasts areas --first 1000]

Of each set every interval is asked whether it holds the truth: of accuracies with chosen
thresholds, STD and SER, of one model and of differences, and of rates at a fixed threshold; of sets
of embedded images, of rates over all impostor pairs and of their differences between systems. Then
two methods that are equal in expectation are trained with a few seeds each, and every verdict but
"undecided" is wrong. Every set leaves a line in a log, from which the same command goes on where
it was stopped; lines of other code count for nothing. With `--only` the result keeps what it tells
of the other parts, and says which were asked again, of how many sets.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from _embedded_sets import Crowd, Truth, draw_embedded
from _machine import describe
from _verification_sets import (
    APART,
    DEMO,
    RFW,
    Floats,
    Models,
    draw_pairs,
    draw_similarities,
    models_of,
    rates_of,
    tables_of,
)
from numpy.typing import ArrayLike

from mstkd.artifacts.atomic import write_json
from mstkd.evaluation.auditing.all_impostors import all_impostors
from mstkd.evaluation.auditing.measured import of_groups
from mstkd.evaluation.auditing.systems import ALL, ALL_PAIRS
from mstkd.evaluation.contrasts import Contrast, accuracy_contrast, spread_contrast
from mstkd.evaluation.fairness import measures_of_rates
from mstkd.evaluation.intervals import (
    ErrorRates,
    area_interval,
    areas_above,
    equal_error_rates,
    fairness_intervals,
    rate_interval,
    rates_at,
)
from mstkd.evaluation.scores import ScoreTable
from mstkd.evaluation.spread import SER, STD, Spread, SpreadMeasure
from mstkd.evaluation.uncertainty import GroupRates

RESULT = Path(__file__).parent / "results" / "calibration.json"
LOG = Path(tempfile.gettempdir()) / "mstkd-calibration.jsonl"
EVALUATION = [name for name in sys.modules if name.startswith("mstkd.evaluation.")]
DRAWS = 600  # of spread measures, fewer than where they are used
# What a set is asked for; the last, of measures over groups at thresholds, takes most of the time.
COVERAGE = ("measures", "contrasts", "rates", "areas", "rate_contrasts")
IMPOSTORS = "impostors"
VERDICTS = "wrong_verdicts"
PARTS = (*COVERAGE, IMPOSTORS, VERDICTS)
DESIGNS = {"rfw": RFW, "demo": DEMO}
FMRS = {"rfw": 0.01, "demo": 0.05}  # of all groups together; ten false matches a group and more
SPREADS = (0.0, 0.1, 0.2, 0.4)  # percentage points of global accuracy, between seeds
SEEDS = (3, 5)
ALIKE = (0.05,) * 4
# Accuracies of four groups, percent. "uneven" is like the paper's students.
MODELS = {
    "even": ((90, 90, 90, 90), ALIKE),
    "even, better": ((92, 92, 92, 92), ALIKE),
    "uneven": ((92, 93, 95.5, 94), APART),
    "uneven, twin": ((92, 93, 95.5, 94), APART),
    "uneven, other pattern": ((90, 92, 91.5, 93.5), APART),
    "more uneven": ((87, 91.5, 93, 90), APART),
    "three tie": ((92, 92, 92, 95), ALIKE),
}
AT_THRESHOLDS = ("even", "uneven", "uneven, other pattern", "three tie")  # asked for all measures
CONTRASTS = {
    "even less even, better": {"even": 1, "even, better": -1},
    "uneven less even": {"uneven": 1, "even": -1},
    "uneven less its twin": {"uneven": 1, "uneven, twin": -1},
    "uneven less other pattern": {"uneven": 1, "uneven, other pattern": -1},
    "more uneven less uneven": {"more uneven": 1, "uneven": -1},
    "two uneven less two even": {
        "uneven": 0.5, "uneven, other pattern": 0.5, "even": -0.5, "even, better": -0.5,
    },
}  # fmt: skip
RATE_CONTRASTS = (("uneven", "even"), ("uneven", "uneven, other pattern"))
SPREAD: dict[str, SpreadMeasure] = {"STD": STD, "SER": SER}
# People of each of four groups, and the global FMR; the truth is that of 2,000 a batch.
CROWDS = {"large": (Crowd(100, 3), 0.02), "small": (Crowd(40, 4), 0.05)}
BATCHES = 25
OFTEN = 0.9  # of sets that tell an interval
KINDS = ("fmr", "fnmr")
MOST = "one group"  # which makes nearly all false matches
EMBEDDED = {
    "even": (0.8, 0.8, 0.8, 0.8),
    "even, twin": (0.8, 0.8, 0.8, 0.8),
    "uneven": (0.95, 0.8, 0.65, 0.75),
    MOST: (1.3, 0.6, 0.5, 0.5),
    f"{MOST}, twin": (1.3, 0.6, 0.5, 0.5),
}
COMPARED = (
    ("even", "even, twin"), ("uneven", "even"), (MOST, f"{MOST}, twin"), (MOST, "uneven"),
)  # fmt: skip
Tally = dict[str, list[tuple[bool, bool]]]  # whether the truth lies below, and above
Counts = dict[str, list[int]]  # how many intervals, and how many have the truth below, and above


def one_set(design: str, seed: int, parts: Collection[str] = COVERAGE) -> Tally:
    """Every interval of one set, under the name of what it is of."""
    random = np.random.default_rng([seed, list(DESIGNS).index(design)])
    models = models_of(*zip(*MODELS.values(), strict=True))
    pairs = draw_pairs(DESIGNS[design], random)
    similarity = draw_similarities(models, pairs, random)
    tally: Tally = {}

    def ask(name: str, truth: ArrayLike, low: ArrayLike, high: ArrayLike) -> None:
        low, high = np.asarray(low), np.asarray(high)
        below, above = (
            np.ravel(np.less(truth, low - 1e-9)),
            np.ravel(np.greater(truth, high + 1e-9)),
        )
        tally.setdefault(name, []).extend(zip(below, above, strict=True))

    if not {"measures", "contrasts"}.isdisjoint(parts):
        for threshold in ("own", "shared"):
            found, truth = rates_of(similarity, pairs, threshold), models.true_rates(threshold)
            spreads = {name: Spread(found, of, draws=DRAWS) for name, of in SPREAD.items()}
            if "measures" in parts:
                ask_measures(ask, threshold, found, truth, spreads)
            if "contrasts" in parts:
                ask_contrasts(ask, threshold, found, truth, spreads)
    rows = [list(MODELS).index(model) for model in AT_THRESHOLDS]
    some = Models(models.genuine[rows], models.impostor[rows])
    tables = tables_of(similarity[rows], pairs)
    if not {"rates", "rate_contrasts"}.isdisjoint(parts):
        for at in rates_with_truth(some, tables, FMRS[design]):
            if "rates" in parts:
                ask_rates(ask, *at)
            if "rate_contrasts" in parts:
                ask_rate_contrasts(ask, *at)
    if "areas" in parts:
        ask_areas(ask, some, tables)
    return tally


Ask = Callable[[str, ArrayLike, ArrayLike, ArrayLike], None]


def ask_measures(
    ask: Ask, threshold: str, found: GroupRates, truth: Floats, spreads: dict[str, Spread]
) -> None:
    """Accuracies with chosen thresholds, STD and SER."""
    ask(f"accuracy of a group, {threshold}: all", truth, *rate_interval(found)[1:])
    of_all = truth.mean(axis=1, keepdims=True)
    ask(f"global accuracy, {threshold}: all", of_all, *rate_interval(found.together())[1:])
    for name, spread in spreads.items():
        one = spread.intervals()
        for row, model in enumerate(MODELS):
            true = float(SPREAD[name].of(truth[row]))
            ask(f"{name}, {threshold}: {model}", true, one.low[row], one.high[row])


def ask_contrasts(
    ask: Ask, threshold: str, found: GroupRates, truth: Floats, spreads: dict[str, Spread]
) -> None:
    """Differences of these."""
    for contrast, parts in CONTRASTS.items():
        weights = np.array([parts.get(model, 0) for model in MODELS])

        def told(name: str, true: float, got: Contrast, of: str = contrast) -> None:
            ask(f"difference of {name}, {threshold}: {of}", true, got.low, got.high)

        for name, spread in spreads.items():
            true = float(weights @ SPREAD[name].of(truth))
            told(name, true, spread_contrast(spread, weights[None]))
        less = -100 * weights @ truth  # (G,)
        for g, true in enumerate(less.tolist()):
            of_group = weights[:, None] * (np.arange(len(less)) == g)
            told("accuracy of a group", true, accuracy_contrast(found, of_group[None]))
        over_groups = np.tile(weights[:, None] / len(less), len(less))
        told("global accuracy", float(less.mean()), accuracy_contrast(found, over_groups[None]))


def rates_with_truth(
    models: Models, tables: list[ScoreTable], fmr: float
) -> Iterator[tuple[str, ErrorRates, Floats, Floats]]:
    """Rates at a fixed threshold and at one of a global FMR, with the true FMR and FNMR."""
    at_fmr = models.at_fmr(fmr)
    fixed = float(at_fmr.mean())
    true_fnmr, true_fmr = models.error_rates(fixed)
    yield "at a fixed threshold", rates_at(tables, threshold=fixed), true_fmr, true_fnmr
    there = [models.error_rates(one) for one in at_fmr]
    true_fnmr, true_fmr = (
        np.stack([both[kind][row] for row, both in enumerate(there)]) for kind in (0, 1)
    )
    yield "at a global FMR", rates_at(tables, fmr=fmr), true_fmr, true_fnmr


def ask_rates(ask: Ask, where: str, found: ErrorRates, true_fmr: Floats, true_fnmr: Floats) -> None:
    """Rates, and what follows of them."""
    ask(f"FMR {where}: all", true_fmr, *rate_interval(found.fmr)[1:])
    ask(f"FNMR {where}: all", true_fnmr, *rate_interval(found.fnmr)[1:])
    of_all = np.stack([true_fmr.mean(axis=1), true_fnmr.mean(axis=1)], axis=1)
    _, low, high = rate_interval(found.together)
    # The FMR of all is what the threshold was set by.
    kept = slice(1 if where == "at a global FMR" else 0, 2)
    ask(f"rates of all groups {where}: all", *(one[:, kept] for one in (of_all, low, high)))
    for name, one in fairness_intervals(found, draws=DRAWS).items():
        true = measures_of_rates(true_fmr, true_fnmr)[name]
        for row, model in enumerate(AT_THRESHOLDS):
            ask(f"{name} {where}: {model}", true[row], one.low[row], one.high[row])


def ask_rate_contrasts(
    ask: Ask, where: str, found: ErrorRates, true_fmr: Floats, true_fnmr: Floats
) -> None:
    """Differences of the measures over groups that follow of rates."""
    none = [""] * len(AT_THRESHOLDS)
    for name, true in measures_of_rates(true_fmr, true_fnmr).items():
        measured = of_groups(name, where, found.of(name), none, draws=DRAWS, seed=0)
        for first, second in RATE_CONTRASTS:
            signs = [(one == first) - (one == second) for one in AT_THRESHOLDS]
            weights = np.array([signs], np.float64)
            got = measured.contrast(weights)
            told = f"difference of {name} {where}: {first} less {second}"
            ask(told, float(weights[0] @ true), got.low, got.high)


def ask_areas(ask: Ask, models: Models, tables: list[ScoreTable]) -> None:
    """EER and AUC."""
    ask(
        "EER of a group: all",
        models.equal_error_rates(),
        *rate_interval(equal_error_rates(tables))[1:],
    )
    ask("AUC of a group: all", models.areas(), *area_interval(areas_above(tables))[1:])


@cache
def truth(batches: int) -> Truth:
    """Of the embedded systems."""
    return Truth(np.array(list(EMBEDDED.values())), batches)


def one_crowd(size: str, seed: int, batches: int = BATCHES) -> Tally:
    """Every interval over all impostor pairs of one set: those of each system, and differences.

    Asked are those that are told: rates that rest on enough errors.
    """
    random = np.random.default_rng([seed, 11, list(CROWDS).index(size)])
    crowd, fmr = CROWDS[size]
    true = truth(batches)
    at_fmr = true.thresholds(fmr)
    given = float(np.round(at_fmr.mean() * 1024) / 1024)  # an edge of a bin
    drawn = draw_embedded(np.array(list(EMBEDDED.values())), crowd, random)
    with contextlib.redirect_stderr(io.StringIO()):  # what is told of progress
        looked = all_impostors(
            dict(zip(EMBEDDED, drawn.systems(), strict=True)),
            thresholds=[given],
            fmrs=[fmr],
            draws=DRAWS,
        )
    groups = [str(g) for g in range(len(EMBEDDED[MOST]))]
    cells = itertools.combinations_with_replacement(groups, 2)
    between = [" × ".join(dict.fromkeys(two)) for two in cells]
    columns = [*(("fmr", of) for of in between), *(("fnmr", of) for of in groups)]
    systems = list(EMBEDDED)
    tally: Tally = {}

    def ask(name: str, true: float, low: float, high: float) -> None:
        asked = tally.setdefault(name, [])
        if not np.isnan(low):
            asked.append((bool(true < low - 1e-12), bool(true > high + 1e-12)))

    for place, where, rates in (
        (
            f"threshold={given:.12g}",
            "at a given threshold",
            true.rates(np.full(len(EMBEDDED), given)),
        ),
        (f"fmr={fmr:.12g}", "at a global FMR", true.rates(at_fmr)),
    ):
        of_groups = [rates[:, [columns.index((kind, g)) for g in groups]] for kind in KINDS]
        for one in looked.found:
            if one.at != f"{place}{ALL_PAIRS}":
                continue
            if one.measure not in KINDS:
                values, kind = measures_of_rates(*of_groups)[one.measure], one.measure
            elif one.group == ALL:
                values = of_groups[KINDS.index(one.measure)].mean(axis=1)
                kind = f"{one.measure.upper()} of all groups"
            else:
                values = rates[:, columns.index((one.measure, one.group))]
                kind = f"{one.measure.upper()} {'between' if '×' in one.group else 'within'} groups"
            # The group that makes nearly all false matches is a case of its own.
            part = {"0": ", that group"}.get(one.group, "") if one.measure == "fmr" else ""
            for m, system in enumerate(systems):
                of = f"{system}{part if system.startswith(MOST) else ''}"
                ask(f"{kind} {where}: {of}", values[m], one.found.low[m], one.found.high[m])
            for first, second in COMPARED if one.measure in KINDS else ():
                m, n = systems.index(first), systems.index(second)
                of = f"{first} less {second}{part if first.startswith(MOST) else ''}"
                limits = (float("nan"),) * 2
                if not np.isnan(one.found.value[[m, n]]).any():
                    weights = np.zeros((1, len(systems)))
                    weights[0, [m, n]] = 1, -1
                    got = one.contrast(weights)
                    limits = got.low, got.high
                ask(f"difference of {kind} {where}: {of}", values[m] - values[n], *limits)
    return tally


def one_training(design: str, seed: int) -> dict[str, int]:
    """Verdicts on two methods equal in expectation: 1 where one is told, by spread and seeds."""
    random = np.random.default_rng([seed, 7, list(DESIGNS).index(design)])
    pairs = draw_pairs(DESIGNS[design], random)
    method = models_of((92, 93, 95.5, 94), APART)
    told: dict[str, int] = {}
    for spread in SPREADS:
        # Half the variance of a global accuracy is common to the groups.
        each = 2 * max(SEEDS)
        moved = spread / np.sqrt(2) * random.standard_normal((each, 1))
        moved = moved + spread * np.sqrt(2) * random.standard_normal((each, 4))
        trained = Models(np.tile(method.genuine, (each, 1)), np.tile(method.impostor, (each, 1)))
        similarity = draw_similarities(trained.moved(moved), pairs, random)
        for threshold in ("own", "shared"):
            found = rates_of(similarity, pairs, threshold)
            measures = {name: Spread(found, of, draws=400) for name, of in SPREAD.items()}
            for seeds in SEEDS:
                rows = np.zeros((seeds, each))
                rows[np.arange(seeds), np.arange(seeds)] = 1
                rows[np.arange(seeds), np.arange(seeds) + max(SEEDS)] = -1
                over_groups = np.repeat(rows[:, :, None] / 4, 4, axis=2)
                of_first = rows[:, :, None] * (np.arange(4) == 0)
                got: dict[str, Contrast] = {
                    "global accuracy": accuracy_contrast(found, over_groups),
                    "accuracy of a group": accuracy_contrast(found, of_first),
                    **{name: spread_contrast(one, rows) for name, one in measures.items()},
                }
                for name, one in got.items():
                    key = f"{name}, {threshold}, spread {spread}, {seeds} seeds"
                    told[key] = int(one.direction != 0)
    return told


def counted(tally: Tally) -> Counts:
    """Of a set's intervals: how many there were, and how often the truth lay below and above."""
    return {
        name: [len(asked), *np.sum(np.reshape(asked, (-1, 2)), axis=0, dtype=int).tolist()]
        for name, asked in tally.items()
    }


def one_line(task: tuple[str, str, int]) -> str:
    """What one set or training told, as a line of the log."""
    kind, design, seed = task
    if kind == VERDICTS:
        told: Any = one_training(design, seed)
    elif kind == IMPOSTORS:
        told = counted(one_crowd(design, seed))
    else:
        told = counted(one_set(design, seed, kind.split("+")))
    return json.dumps({"code": code(), "of": [kind, design, seed], "told": told})


@cache
def code() -> str:
    """A digest of all that decides what is told."""
    names = [__name__, "_verification_sets", "_embedded_sets", *EVALUATION]
    used = {Path(str(sys.modules[name].__file__)) for name in names}
    texts = [path.read_bytes() for path in sorted(used, key=lambda path: path.name)]
    return hashlib.sha256(b"".join(texts)).hexdigest()[:16]


def told_of(log: Path) -> dict[tuple[str, str, int], dict[str, Any]]:
    """What the lines of a log tell that this code wrote; half a line of a killed run is none."""
    told = {}
    for line in log.read_text().splitlines() if log.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry["code"] == code():
            kind, design, seed = entry["of"]
            told[kind, design, seed] = entry["told"]
    return told


def coverage(told: list[Counts], least: float = 0.0) -> dict[str, dict[str, float]]:
    """Coverage of each interval over sets, and how often the truth lay below and above.

    Args:
        told: of each set.
        least: the share of sets that must tell an interval; what few tell is of an odd choice.
    """
    result = {}
    for name in told[0]:
        counts = np.array([one[name] for one in told])
        asked, below, above = counts.sum(axis=0)
        if not asked or asked < least * counts[:, 0].max() * len(told):
            continue
        result[name] = {
            "coverage": round(1 - (below + above) / asked, 4),
            "truth_below": round(below / asked, 4),
            "truth_above": round(above / asked, 4),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first set")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="ask these again")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="then stop for now")
    parser.add_argument("--log", type=Path, default=LOG, help="a line a set; what is there stays")
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    machine = describe("numpy", "scipy")
    asked = "+".join(part for part in COVERAGE if part in arguments.only)
    kinds = [asked] if asked else []
    kinds += [VERDICTS] if VERDICTS in arguments.only else []
    sets = range(arguments.first, arguments.first + arguments.sets)
    kinds += [IMPOSTORS] if IMPOSTORS in arguments.only else []
    tasks = [
        (kind, design, seed)
        for seed in sets
        for kind in kinds
        for design in (CROWDS if kind == IMPOSTORS else DESIGNS)
    ]
    code()  # of what runs, whatever is edited meanwhile
    known = told_of(arguments.log)
    left = [task for task in tasks if task not in known]
    arguments.log.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * arguments.minutes
    chunk = 8 * arguments.processes
    with (
        ProcessPoolExecutor(arguments.processes) as pool,
        arguments.log.open("a", encoding="utf-8") as log,
    ):
        while left and time.monotonic() < end:
            for line in pool.map(one_line, left[:chunk]):
                log.write("\n" + line)  # after half a line of a killed run too
            log.flush()
            left = left[chunk:]
    if left:
        raise SystemExit(f"{len(tasks) - len(left)} of {len(tasks)} done; the same command goes on")
    known = told_of(arguments.log)

    def of(kind: str, design: str) -> list[Any]:
        return [known[kind, design, seed] for seed in sets]

    found: dict[str, Any] = {
        "coverage": {name: coverage(of(asked, name)) if asked else {} for name in DESIGNS},
        IMPOSTORS: {
            name: coverage(of(IMPOSTORS, name), OFTEN) if IMPOSTORS in kinds else {}
            for name in CROWDS
        },
        VERDICTS: {
            name: wrong_verdicts(of(VERDICTS, name)) if VERDICTS in kinds else {}
            for name in DESIGNS
        },
    }
    run = {"sets": arguments.sets, "first": arguments.first}
    crowds = {name: {**crowd._asdict(), "fmr": fmr} for name, (crowd, fmr) in CROWDS.items()}
    if set(arguments.only) == set(PARTS):
        result = {
            "what": "coverage of nominal 95 % intervals, and wrong verdicts at 5 %, in simulated "
            "sets",
            **run,
            "designs": {name: vars(design) for name, design in DESIGNS.items()},
            "crowds": crowds,
            **found,
            "again": [],
            **machine,
        }
    else:
        result = json.loads(arguments.output.read_text()) | {"crowds": crowds}
        for kind, of_designs in found.items():
            for name, told in of_designs.items():
                result.setdefault(kind, {}).setdefault(name, {}).update(told)
        names = {name.split(": ")[0] for told in found["coverage"].values() for name in told}
        parts = sorted(arguments.only, key=PARTS.index)
        again = {"parts": parts, "kinds": sorted(names), **run, **machine}
        earlier = [one for one in result.get("again", []) if not set(one["parts"]) <= set(parts)]
        result["again"] = [*earlier, again]
    write_json(arguments.output, result)
    print(json.dumps(result, indent=2))


def wrong_verdicts(told: list[dict[str, int]]) -> dict[str, float]:
    """How often each verdict was told over sets."""
    return {asked: round(float(np.mean([one[asked] for one in told])), 4) for asked in told[0]}


if __name__ == "__main__":
    main()
