"""STD and SER against the paper's forty rows; the standards' measures against their formulas."""

import csv
import itertools
import math
import statistics
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mstkd
from mstkd.evaluation.fairness import (
    differential,
    fdr,
    garbe,
    inequity_ratio,
    max_geometric_mean_ratio,
    max_min_ratio,
    measures_of_rates,
    summarize,
)

GROUPS = ("African", "Asian", "Caucasian", "Indian")
with (Path(mstkd.__file__).parent / "report" / "published.csv").open() as file:
    PUBLISHED = list(csv.DictReader(file))
# A published number is right to half of its last digit. Seven of the means lie exactly between
# two such numbers, and the paper rounds some of them down; the rest is rounding of floats.
HALF_A_DIGIT = 0.005 + 1e-9


def label(row):
    return f"table {row['table']}, {row['teacher_set']} {row['name']}"


@pytest.mark.parametrize("row", PUBLISHED, ids=label)
def test_published_rows(row):
    summary = summarize([float(row[group]) for group in GROUPS])
    assert summary.global_accuracy == pytest.approx(float(row["global_acc"]), abs=HALF_A_DIGIT)
    assert summary.std == pytest.approx(float(row["std"]), abs=HALF_A_DIGIT)
    assert summary.ser == pytest.approx(float(row["ser"]), abs=HALF_A_DIGIT)


@pytest.mark.parametrize("row", PUBLISHED, ids=label)
def test_no_published_row_divides_by_n(row):
    accuracies = [float(row[group]) for group in GROUPS]
    assert abs(np.std(accuracies, ddof=0) - float(row["std"])) > 0.17


def test_there_are_forty_rows():
    assert len(PUBLISHED) == 40


@given(st.lists(st.floats(0, 99.5), min_size=2, max_size=16))
def test_summary_by_another_route(accuracies):
    summary = summarize(accuracies)
    assert summary.global_accuracy == pytest.approx(statistics.fmean(accuracies))
    assert summary.std == pytest.approx(statistics.stdev(accuracies), abs=1e-9)
    errors = [100 - value for value in accuracies]
    assert summary.ser == pytest.approx(max(errors) / min(errors))


def test_no_errors():
    assert summarize([100, 90, 80, 95]).ser == math.inf
    assert math.isnan(summarize([100, 100]).ser)
    assert summarize([100, 100]).std == 0
    assert summarize([90, 90, 90]).ser == 1
    assert summarize([0, 50]).ser == 2


@pytest.mark.parametrize(
    ("accuracies", "message"),
    [
        ([90], "at least two groups"),
        ([], "at least two groups"),
        ([[90], [92]], r"shape \(2, 1\)"),
        ([90, -0.1], "has -0.1, outside 0 to 100"),
        ([90, 100.1], "has 100.1, outside 0 to 100"),
        ([90, math.nan], "has nan, outside 0 to 100"),
        ([90, math.inf], "has inf, outside 0 to 100"),
    ],
)
def test_faults_of_summarize(accuracies, message):
    with pytest.raises(ValueError, match=message):
        summarize(accuracies)


def test_an_error_of_rounding_alone_is_none():
    """A mean of ten folds without error may miss 100 by its last bit."""
    assert summarize([100 * (1 - 1e-16), 90, 99.99999999999999]).ser == math.inf


@given(st.integers(0, 2**32 - 1))
def test_draws_are_rows(seed):
    random = np.random.default_rng(seed)
    percent = random.uniform(0, 100, (5, 3, 4)).round(0)
    fmr, fnmr = random.uniform(0, 1, (2, 5, 4)).round(1)
    of_all = summarize(percent)
    for place in np.ndindex(5, 3):
        for whole, row in zip(of_all, summarize(percent[place]), strict=True):
            np.testing.assert_array_equal(whole[place], row)
    for name, values in measures_of_rates(fmr, fnmr).items():
        assert values.shape == (5,), name
        for row in range(5):
            assert values[row] == measures_of_rates(fmr[row], fnmr[row])[name], name
    relative = differential(fmr, 2)
    for row in range(5):
        np.testing.assert_array_equal(relative[row], differential(fmr[row], 2))


def gini(rates):
    """Howard et al. (2022), equation by equation."""
    n, mean = len(rates), statistics.fmean(rates)
    total = sum(abs(a - b) for a, b in itertools.product(rates, rates))
    return n / (n - 1) * total / (2 * n**2 * mean)


RATES = st.lists(st.tuples(st.floats(1e-6, 1), st.floats(1e-6, 1)), min_size=2, max_size=6)


@given(RATES, st.floats(0, 1))
def test_measures_by_their_formulas(rates, alpha):
    fmr, fnmr = map(list, zip(*rates, strict=True))
    expected = alpha * gini(fmr) + (1 - alpha) * gini(fnmr)
    assert garbe(fmr, fnmr, alpha) == pytest.approx(expected)
    gaps = [max(abs(a - b) for a, b in itertools.product(x, x)) for x in (fmr, fnmr)]
    assert fdr(fmr, fnmr, alpha) == pytest.approx(1 - alpha * gaps[0] - (1 - alpha) * gaps[1])
    logs = [math.log(max(x) / min(x)) for x in (fmr, fnmr)]
    expected = math.exp(alpha * logs[0] + (1 - alpha) * logs[1])
    assert inequity_ratio(fmr, fnmr, alpha) == pytest.approx(expected)


@given(st.lists(st.floats(1e-6, 1), min_size=2, max_size=6))
def test_ratios_by_their_formulas(rates):
    mean = statistics.geometric_mean(rates)
    assert max_min_ratio(rates) == pytest.approx(max(rates) / min(rates))
    assert max_geometric_mean_ratio(rates) == pytest.approx(max(rates) / mean)
    assert differential(rates).tolist() == pytest.approx([rate / mean for rate in rates])
    assert differential(rates, 1).tolist() == pytest.approx([rate / rates[1] for rate in rates])


def test_ratios_of_rates_that_are_0():
    assert max_min_ratio([0, 0.1]) == max_geometric_mean_ratio([0, 0.1]) == math.inf
    assert max_min_ratio([0, 0]) == max_geometric_mean_ratio([0, 0]) == 1
    np.testing.assert_array_equal(differential([0, 0.1]), [math.nan, math.inf])
    np.testing.assert_array_equal(differential([0, 0.1], 1), [0, 1])
    with pytest.raises(ValueError, match="reference 2, not one of 2 groups"):
        differential([0.1, 0.2], 2)


@pytest.mark.parametrize(("measure", "fair"), [(garbe, 0), (fdr, 1), (inequity_ratio, 1)])
def test_fair_values(measure, fair):
    assert measure([0.1] * 4, [0.3] * 4) == pytest.approx(fair)
    assert measure([0, 0], [0, 0]) == fair


def test_extreme_values():
    assert garbe([1, 0, 0, 0], [0, 0, 0.5, 0]) == pytest.approx(1)
    assert fdr([1, 0], [0, 1]) == 0
    assert inequity_ratio([0, 0.1], [0.1, 0.1]) == math.inf
    assert inequity_ratio([0, 0.1], [0.1, 0.3], alpha=0) == pytest.approx(3)


@pytest.mark.parametrize("measure", [garbe, fdr, inequity_ratio])
@pytest.mark.parametrize(
    ("fmr", "fnmr", "alpha", "message"),
    [
        ([0.1], [0.1], 0.5, "at least two groups"),
        ([0.1, 0.2], [0.1, 0.2, 0.3], 0.5, "fmr of 2 groups and fnmr of 3"),
        ([0.1, 1.2], [0.1, 0.2], 0.5, "fmr has 1.2, outside 0 to 1"),
        ([0.1, 0.2], [math.nan, 0.2], 0.5, "fnmr has nan"),
        ([0.1, 0.2], [0.1, 0.2], 1.5, "alpha 1.5, outside 0 to 1"),
    ],
)
def test_faults_of_measures(measure, fmr, fnmr, alpha, message):
    with pytest.raises(ValueError, match=message):
        measure(fmr, fnmr, alpha)
