"""Spread measures: closed forms, and coverage where the truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq
from scipy.special import gammaln

from mstkd.evaluation.contrasts import spread_contrast
from mstkd.evaluation.fairness import summarize
from mstkd.evaluation.spread import SER, STD, Spread
from mstkd.evaluation.uncertainty import GroupRates, binomial_rates


def rates_of(rates, errors):
    """Rates (M, G) with independent noise of these standard errors, from very many pairs."""
    values = np.atleast_2d(np.asarray(rates, float))
    covariance = np.zeros((*values.shape, *values.shape))
    places = np.indices(values.shape)
    covariance[*places, *places] = np.broadcast_to(errors, values.shape) ** 2
    return GroupRates(values, covariance, covariance, np.full(values.shape[1], 1e12))


def within(share, expected, count, width=3.5):
    """Whether a share of `count` trials is what a probability gives, but for chance."""
    return abs(share - expected) <= width * np.sqrt(expected * (1 - expected) / count)


def test_measures_are_those_of_the_tables():
    accuracies = np.array([[92.12, 93.07, 95.33, 93.93], [91.43, 92.68, 95.10, 93.53]])
    errors = 1 - accuracies / 100
    for row, one in zip(errors, accuracies, strict=True):
        told = summarize(one)
        assert [STD.of(row), SER.of(row)] == pytest.approx([told.std, told.ser])
    np.testing.assert_allclose(
        Spread(binomial_rates(errors, [6000] * 4), STD).value, STD.of(errors)
    )


def test_floor_is_that_of_equal_groups():
    """Of n normal values the expected standard deviation is c4 times theirs."""
    for groups in (2, 4, 7):
        found = Spread(rates_of([[0.1] * groups], 1e-4), STD, draws=40_000).intervals()
        c4 = np.sqrt(2 / (groups - 1)) * np.exp(gammaln(groups / 2) - gammaln((groups - 1) / 2))
        assert found.floor[0] == pytest.approx(100 * 1e-4 * c4, rel=0.02)
        highest = np.sqrt(stats.chi2.ppf(0.95, groups - 1) / (groups - 1))
        assert found.floor_high[0] == pytest.approx(100 * 1e-4 * highest, rel=0.02)


@pytest.mark.parametrize("observed", [0.3, 1.0, 2.0, 6.0])
def test_std_inverts_the_noncentral_chi_square(observed):
    """Groups that are equally sure: 3 STD^2 / error^2 is noncentral chi-square of 3 degrees."""
    error = 1e-5
    pattern = np.array([-0.7, 0.1, -0.2, 0.8])
    pattern = (pattern - pattern.mean()) / pattern.std(ddof=1)
    found = Spread(rates_of([0.1 + observed * error * pattern], error), STD, draws=60_000)
    interval = found.intervals()
    seen = 3 * observed**2
    median = stats.chi2.ppf(0.5, 3)

    def tail(std):  # what may lie below
        return 0.05 * max(0, 0.5 - stats.ncx2.cdf(median, 3, 3 * std**2))

    def above(std):  # 0 where the place can just have shown as much
        return stats.ncx2.cdf(seen, 3, 3 * std**2) - (0.95 + tail(std))

    def below(std):
        return stats.ncx2.cdf(seen, 3, 3 * std**2) - tail(std)

    low = brentq(above, 1e-6, 20) if above(1e-6) > 0 else 0.0
    high = brentq(below, observed, 20)
    unit = 100 * error
    assert interval.low[0] / unit == pytest.approx(low, abs=0.08)
    assert interval.high[0] / unit == pytest.approx(high, abs=0.08)


def replicates(truth, errors, count, seed):
    random = np.random.default_rng(seed)
    return rates_of(truth + errors * random.standard_normal((count, len(truth))), errors)


@pytest.mark.parametrize("measure", [STD, SER], ids=["std", "ser"])
@pytest.mark.parametrize(
    "truth",
    [
        (0.1, 0.1, 0.1, 0.1),
        (0.11, 0.10, 0.09, 0.10),
        (0.08, 0.08, 0.08, 0.05),
        (0.05, 0.05, 0.05, 0.08),
        (0.05, 0.05, 0.08, 0.08),
        (0.20, 0.08, 0.15, 0.15),
    ],
    ids=str,
)
def test_intervals_cover_the_truth_even_groups_included(measure, truth):
    truth = np.array(truth)
    count, errors = 250, np.sqrt(truth * (1 - truth) / 4000)
    found = Spread(replicates(truth, errors, count, seed=1), measure, draws=800).intervals()
    true = measure.of(truth)
    covered = (found.low <= true + 1e-12) & (true <= found.high)
    assert within(covered.mean(), 0.95, count), covered.mean()
    if np.ptp(truth) == 0:
        assert (found.low[covered] == true).all()  # the even system itself


def test_corrected_values_lose_the_bias():
    """The noncentral mean: plain values are too high by a tenth, corrected ones by next to none."""
    truth, count = np.array([0.08, 0.07, 0.045, 0.06]), 300
    errors = np.full(4, 0.008)
    spread = Spread(replicates(truth, errors, count, seed=2), STD, draws=800)
    found, true = spread.intervals(), STD.of(truth)
    noise = found.value.std() / np.sqrt(count)
    assert found.value.mean() - true > 4 * noise
    assert abs(found.corrected.mean() - true) < 3 * noise
    # Below the floor nothing is left.
    even = Spread(rates_of([[0.1, 0.1002, 0.1, 0.1]], 0.005), STD).intervals()
    assert even.corrected[0] == even.low[0] == 0


def test_groups_in_common_noise_are_as_even_as_without():
    """Noise that all groups share moves no group against another."""
    rates = np.array([[0.10, 0.11, 0.09, 0.12]])
    covariance = np.full((1, 4, 1, 4), 0.01**2) + 1e-8 * np.eye(4)[None, :, None]
    found = Spread(GroupRates(rates, covariance, covariance, np.full(4, 1e12)), STD).intervals()
    assert found.high[0] - found.low[0] < 0.2  # of errors of a point each
    alone = Spread(rates_of(rates, 0.01), STD).intervals()
    assert alone.high[0] - alone.low[0] > 1


def test_limits_know_that_variances_of_few_people_are_hardly_known():
    """Even groups whose rates are means over five people, who tell the variance too."""
    count, people, kept = 400, 5, []
    for seed in (3, 4, 5):
        each = 0.1 + 0.01 * np.random.default_rng(seed).standard_normal((count, 4, people))
        alone = rates_of(each.mean(axis=-1), stats.sem(each, axis=-1))
        known = replace(alone, people=np.full((count, 4), float(people)))
        found = [Spread(one, SER, draws=800).intervals() for one in (alone, known)]
        kept.append([(one.low == 1).mean() for one in found])
        # What is shown on average hangs on the variance, not on how well it is known.
        for name in ("value", "corrected", "floor", "floor_high"):
            np.testing.assert_array_equal(*(getattr(one, name) for one in found))
    before, covered = np.mean(kept, axis=0)
    assert within(covered, 0.95, 3 * count), covered
    assert not within(before, 0.95, 3 * count), before
    both = (Spread(one.chosen([0, 1]), SER, draws=800) for one in (alone, known))
    narrow, wide = (spread_contrast(one, [[1, -1]]) for one in both)
    assert wide.high - wide.low > 1.02 * (narrow.high - narrow.low)
    # Of groups one of which bears all variance it is that one's.
    rates, errors = [[0.1, 0.1, 0.1, 0.1]], np.array([0.02, 1e-9, 1e-9, 1e-9])
    one = replace(rates_of(rates, errors), people=np.array([[8.0, 2.0, 2.0, 2.0]]))
    reach = stats.t.ppf(0.975, 7) / stats.norm.ppf(0.975)
    got, expected = (
        Spread(each, SER).intervals() for each in (one, rates_of(rates, errors * reach))
    )
    assert [got.low[0], got.high[0]] == pytest.approx([expected.low[0], expected.high[0]])


def test_group_without_errors_leaves_ser_open_above():
    found = Spread(binomial_rates([[0.0, 0.02, 0.03, 0.05]], [1000] * 4), SER).intervals()
    assert np.isinf(found.value[0])
    assert np.isinf(found.high[0])
    assert 2 < found.low[0] < 100
    std = Spread(binomial_rates([[0.0, 0.02, 0.03, 0.05]], [1000] * 4), STD).intervals()
    assert np.isfinite([std.value[0], std.low[0], std.high[0]]).all()
    none = Spread(binomial_rates([[0.0] * 4], [1000] * 4), SER).intervals()
    assert none.low[0] == 1
    assert np.isfinite(none.value[0])


def test_draws_are_the_same_every_time_and_models_keep_theirs():
    rates = binomial_rates([[0.08, 0.07, 0.05, 0.06], [0.09, 0.07, 0.05, 0.06]], [6000] * 4)
    first, second = Spread(rates, SER).intervals(), Spread(rates, SER).intervals()
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(first.low, Spread(rates, SER, seed=1).intervals().low)


def test_one_group_has_no_spread():
    with pytest.raises(ValueError, match="one group only"):
        Spread(binomial_rates([[0.1]], [100]), STD)
