"""Systems on other pairs are compared as independent: in closed form, and in simulated sets."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from audited import GROUPS, scored_pairs, table_of
from test_calibration import but_for_chance

import mstkd
from mstkd.errors import InputError
from mstkd.evaluation.fairness import measures_of_rates
from mstkd.evaluation.spread import SER, STD

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from _verification_sets import (
    APART,
    DEMO,
    draw_pairs,
    draw_similarities,
    models_of,
    tables_of,
)

THRESHOLD, FMR = 0.3, 0.05
PLACES = {"thresholds": [THRESHOLD], "fmrs": [FMR]}


@pytest.fixture(scope="module")
def frames():
    """Pairs of the same groups in another order, of other people."""
    other = scored_pairs(seed=9, pairs=600)
    for side in ("identity1", "identity2", "image1", "image2"):
        other[side] = "other/" + other[side]
    return scored_pairs(), other.sort_values("group", ascending=False, kind="stable")


@pytest.fixture(scope="module")
def found(frames):
    return mstkd.audit(dict(zip("ab", frames, strict=True)), **PLACES)


def test_measures_are_those_of_each_alone(frames, found):
    assert found.systems == ("a", "b") and found.lists == (("a",), ("b",))
    columns = ["measure", "at", "group"]
    for name, frame in zip("ab", frames, strict=True):
        alone = mstkd.audit(frame, **PLACES).measures.drop(columns=["system", "low", "high"])
        mine = found.measures[found.measures["system"] == name]
        mine = mine.drop(columns=["system", "low", "high"])
        told = "an even system would show"  # of draws, which differ
        for one in (alone, mine):
            one["note"] = one["note"].where(~one["note"].str.startswith(told), told)
        pd.testing.assert_frame_equal(
            *(one.sort_values(columns, ignore_index=True) for one in (mine, alone)), rtol=1e-12
        )


def test_differences_in_closed_form(found):
    rows = found.comparisons
    assert set(rows["method"]) - {""} == {
        "independent, variances added: other pairs; identities as units"
    }
    assert rows["mcnemar"].isna().all()
    measures = found.measures.set_index(["system", "measure", "at", "group"])
    told = rows[rows["value"].notna()]
    for row in told.itertuples():
        one, other = (measures.loc[system, row.measure, row.at, row.group] for system in "ab")
        assert row.value == pytest.approx(one.value - other.value, abs=1e-9)
        assert row.low < row.value < row.high or row.measure in ("std", "ser", "ir", "garbe")
    # Halves of intervals that are nearly symmetric add in quadrature.
    wide = told.query("measure == 'global_accuracy' and at == 'own'").iloc[0]
    halves = [
        np.ptp(measures.loc[system, "global_accuracy", "own", ""][["low", "high"]].tolist()) / 2
        for system in "ab"
    ]
    assert (wide.high - wide.low) / 2 == pytest.approx(np.hypot(*halves), rel=0.03)
    words = "other pairs, so how hard they are is part of the difference"
    assert told["note"].str.endswith(words).all()
    assert told["verdict"].str.endswith("each on its own pairs, of these two systems").all()


def test_three_systems_two_of_which_are_paired(frames):
    first, other = (table_of(frame) for frame in frames)
    random = np.random.default_rng(0)
    moved = replace(first, similarity=first.similarity + random.normal(0, 0.1, len(first)))
    found = mstkd.audit({"a": first, "b": other, "c": moved}, fmrs=[FMR])
    assert found.lists == (("a", "c"), ("b",)) and found.systems == ("a", "b", "c")
    assert list(dict.fromkeys(found.measures["system"])) == ["a", "b", "c"]
    rows = found.comparisons
    both = ["first", "second"]
    pairs = [tuple(pair) for pair in rows[both].drop_duplicates().to_numpy()]
    assert pairs == [("a", "b"), ("a", "c"), ("b", "c")]
    paired = rows[rows["mcnemar"].notna()][both].drop_duplicates().to_numpy().tolist()
    assert paired == [["a", "c"]]
    # Those of one list are what they are without the other.
    alone = mstkd.audit({"a": first, "c": moved}, fmrs=[FMR]).comparisons
    mine = rows[(rows["first"] == "a") & (rows["second"] == "c")]
    for column in ("value", "low", "high", "p", "mcnemar", "note"):
        assert mine[column].tolist() == pytest.approx(alone[column].tolist(), nan_ok=True)


def test_people_of_both_lists_are_told_of(frames):
    frame = frames[0]
    other = scored_pairs(seed=4)
    for side in ("image1", "image2"):
        other[side] = "other/" + other[side]
    rows = mstkd.audit({"a": frame, "b": other}, fmrs=[FMR]).comparisons
    told = rows[rows["value"].notna()]["note"]
    assert told.str.endswith("; people in both are taken for different ones").all()


def test_lists_of_other_groups_are_refused(frames):
    other = frames[1].replace({"group": {GROUPS[0]: "east"}})
    with pytest.raises(InputError) as caught:
        mstkd.audit({"a": frames[0], "b": other})
    assert str(caught.value) == (
        "b: found the groups 'west', 'south', 'east'; expected 'north', 'south', 'west', as of a"
    )


def test_intervals_of_differences_cover_the_truth():
    """Two systems, each on a set of pairs of its own."""
    random = np.random.default_rng(21)
    models = models_of([(92, 93, 95.5, 94), (90, 92, 91.5, 93.5)], APART)
    at = float(models.at_fmr(FMR).mean())
    fnmr, fmr = models.error_rates(at)
    truth = {("fmr", "at"): fmr, ("fnmr", "at"): fnmr}
    for name, one in measures_of_rates(fmr, fnmr).items():
        truth[name, "at"] = one
    for place in ("own", "shared"):
        rates = models.true_rates(place)
        truth["accuracy", place] = 100 * (1 - rates)
        truth["global_accuracy", place] = 100 * (1 - rates.mean(axis=1))
        truth["std", place], truth["ser", place] = STD.of(rates), SER.of(rates)
    sets = 30
    inside: dict[str, list[bool]] = {}
    for _ in range(sets):
        tables = {}
        for number, name in enumerate("ab"):
            pairs = draw_pairs(DEMO, random)
            tables[name] = tables_of(draw_similarities(models, pairs, random), pairs)[number]
        # Images have no names here: what tells the lists apart is who is whom.
        tables["b"] = replace(
            tables["b"], identities=tuple(f"b{one}" for one in tables["b"].identities)
        )
        found = mstkd.audit(tables, thresholds=[at], fmrs=[0.5], draws=400)
        for row in found.differences:
            place = "at" if row.at.startswith("threshold") else row.at
            if (row.measure, place) not in truth or np.isnan(row.value):
                continue
            true = truth[row.measure, place]
            if row.group:
                true = true[:, int(row.group)]
            elif true.ndim > 1:
                continue
            inside.setdefault(row.measure, []).append(row.low <= true[0] - true[1] <= row.high)
    low, high = but_for_chance(sets)
    for measure in ("accuracy", "fmr", "fnmr"):  # of four groups, which share nobody
        assert but_for_chance(4 * sets)[0] <= np.mean(inside[measure]), measure
        assert np.mean(inside[measure]) <= but_for_chance(4 * sets)[1], measure
    for measure in ("global_accuracy", "std", "ser", "fdr", "ir", "garbe", "fnmr_max_min"):
        assert low <= np.mean(inside[measure]), measure
    assert low <= np.mean([one for kind in inside.values() for one in kind]) <= high
