"""Intervals cover what they say, in simulated verification sets of the demo's size.

A small part of benchmarks/calibration.py, whose result is committed. What few sets show is held
against what intervals that cover 93 to 97 % would show but for chance, at three binomial standard
errors. Groups share nobody, so that each is a trial of its own; models share pairs.
"""

import collections
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from mstkd.evaluation.auditing.systems import ALL_PAIRS
from mstkd.evaluation.coverage import COVERED
from mstkd.evaluation.intervals import FAIRNESS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))
import calibration  # noqa: E402
from _verification_sets import (  # noqa: E402
    DEMO,
    draw_pairs,
    draw_similarities,
    models_of,
    rates_of,
)

SETS = 30
CROWDS = 16
VARIED = 250
KINDS = {  # which intervals, and how many trials of their own a set has
    "accuracy of a group": 4,
    "difference of accuracy of a group": 4,
    "global accuracy": 1,
    "difference of global accuracy": 1,
    "STD": 1,
    "difference of STD": 1,
    "SER": 1,
    "difference of SER": 1,
    "FMR at": 4,
    "FNMR at": 4,
    "rates of all groups": 1,
    "EER of a group": 4,
    "AUC of a group": 4,
    "fdr": 1,
    "ir": 1,
    "garbe": 1,
    "fmr_max_min": 1,
    "fmr_max_geomean": 1,
    "fnmr_max_min": 1,
    "fnmr_max_geomean": 1,
}


IMPOSTORS = {
    "FMR within groups": 4,
    "FMR between groups": 1,
    "FMR of all groups": 1,
    "FNMR within groups": 4,
    "FNMR of all groups": 1,
}


def added(tallies):
    return {name: np.sum([tally[name] for tally in tallies], axis=0) for name in tallies[0]}


@pytest.fixture(scope="module")
def counted():
    parts = calibration.COVERAGE[:-1]  # the last takes as long as all others
    return added(
        [calibration.counted(calibration.one_set("demo", 10_000 + s, parts)) for s in range(SETS)]
    )


@pytest.fixture(scope="module")
def crowded():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "DRAWS", 2)  # of measures over groups, which are not asked
        sets = [calibration.one_crowd("small", 10_000 + s, batches=2) for s in range(CROWDS)]
    return added([calibration.counted(one) for one in sets])


def test_every_interval_is_of_some_kind(counted):
    assert not [name for name in counted if not name.startswith(tuple(KINDS))]


def but_for_chance(trials):
    """What intervals that cover 93 to 97 % show of so many."""
    low, high = (share * (1 - share) / trials for share in (0.93, 0.97))
    return 0.93 - 3 * np.sqrt(low), 0.97 + 3 * np.sqrt(high)


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_cover_the_truth(counted, kind):
    asked, below, above = sum(one for name, one in counted.items() if name.startswith(kind))
    low, high = but_for_chance(SETS * KINDS[kind])
    assert low <= 1 - (below + above) / asked <= high


@pytest.mark.parametrize("kind", [*IMPOSTORS, *(f"difference of {kind}" for kind in IMPOSTORS)])
def test_intervals_over_all_impostor_pairs_cover_the_truth(crowded, kind):
    chosen = [one for name, one in crowded.items() if name.startswith(kind)]
    asked, below, above = sum(chosen)
    assert asked
    low, high = but_for_chance(CROWDS * IMPOSTORS[kind.removeprefix("difference of ")])
    assert low <= 1 - (below + above) / asked <= high


@pytest.mark.parametrize("measure", ["STD", "SER", "garbe", "ir"])
def test_even_systems_are_not_called_uneven(counted, measure):
    """Truth 0 or 1, which a bootstrap's interval never holds."""
    asked, below, above = sum(
        one
        for name, one in counted.items()
        if name.startswith(f"{measure}") and name.endswith((": even", ": even, better"))
    )
    assert above == 0
    assert 1 - below / asked >= but_for_chance(SETS)[0]


@pytest.mark.parametrize("threshold", ["own", "shared"])
def test_variances_are_those_that_sets_show(threshold):
    """Of differences, a sixth of whose variance comes of chosen thresholds.

    The variance that is seen in n trials has a relative error of the root of 2 / n.
    """
    random = np.random.default_rng(13)
    pairs_of = {"twin": ("uneven", "uneven, twin"), "even": ("even", "even, better")}
    names = [name for pair in pairs_of.values() for name in pair]
    models = models_of(*zip(*(calibration.MODELS[name] for name in names), strict=True))
    signs = np.array([[1, -1, 0, 0], [0, 0, 1, -1]])
    seen, said = [], []
    for _ in range(VARIED):
        pairs = draw_pairs(DEMO, random)
        found = rates_of(draw_similarities(models, pairs, random), pairs, threshold)
        seen.append(signs @ found.rates)
        said.append(np.einsum("cm,mgng,cn->cg", signs, found.covariance, signs))
    ratio = (np.mean(said, axis=0) / np.var(seen, axis=0, ddof=1)).mean()
    assert abs(ratio - 1) < 3 * np.sqrt(2 / (4 * VARIED))


def test_a_log_goes_on_with_lines_of_the_same_code_alone(tmp_path):
    log = tmp_path / "log.jsonl"
    lines = [
        {"code": calibration.code(), "of": ["coverage", "demo", 1], "told": {"a": [1, 0, 0]}},
        {"code": "other", "of": ["coverage", "demo", 2], "told": {"a": [1, 0, 0]}},
    ]
    log.write_text("\n".join(json.dumps(line) for line in lines) + '\n{"code": "half')
    assert calibration.told_of(log) == {("coverage", "demo", 1): {"a": [1, 0, 0]}}
    assert calibration.told_of(tmp_path / "none.jsonl") == {}


def test_what_few_sets_tell_is_left_out():
    told = [{"a": [2, 0, 0], "b": [2, 0, 0]}, {"a": [0, 0, 0], "b": [2, 1, 0]}]
    assert list(calibration.coverage(told, 0.9)) == ["b"]
    assert calibration.coverage([{"a": [0, 0, 0]}]) == {}


def test_coverage_is_of_all_sets():
    found = calibration.coverage([{"a": [4, 1, 0]}, {"a": [4, 0, 1]}])
    assert found == {"a": {"coverage": 0.75, "truth_below": 0.125, "truth_above": 0.125}}


def test_intervals_that_do_not_cover_what_they_say_say_so():
    """Beyond a point outside of what is asked for; in the numbers of the committed run."""
    told = json.loads((BENCHMARKS / "results/calibration.json").read_text())
    assert told["sets"] >= 1000
    kinds = collections.defaultdict(list)
    for intervals in told["coverage"].values():
        for name, one in intervals.items():
            kind = re.split(", (?:own|shared)|: | at ", name)[0].lower()
            kinds[kind].append(one["coverage"])
    for intervals in told["impostors"].values():
        for name, one in intervals.items():
            if (measure := name.split(" at ")[0]) in FAIRNESS:
                kinds[f"{measure}{ALL_PAIRS}"].append(one["coverage"])
    outside = {kind: all_ for kind, all_ in kinds.items() if min(all_) < 0.92 or max(all_) > 0.98}
    assert {
        kind: (round(100 * min(all_)), round(100 * max(all_))) for kind, all_ in outside.items()
    } == COVERED
