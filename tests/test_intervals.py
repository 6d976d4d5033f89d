"""Intervals of rates, AUC, EER and fairness: the values of `measures`, variances in closed form."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mstkd.evaluation.fairness import measures_of_rates
from mstkd.evaluation.intervals import (
    FAIRNESS,
    ErrorRates,
    area_interval,
    areas_above,
    equal_error_rates,
    fairness_intervals,
    rate_interval,
    rates_at,
)
from mstkd.evaluation.measures import error_rates, rates_at_fmr, separation
from mstkd.evaluation.scores import ScoreTable
from mstkd.evaluation.spread import SER, Spread
from mstkd.evaluation.uncertainty import binomial_rates, group_rates

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from _verification_sets import DEMO, draw_pairs, draw_similarities, models_of, tables_of


@pytest.fixture(scope="module")
def tables():
    random = np.random.default_rng(5)
    pairs = draw_pairs(DEMO, random)
    models = models_of([(90, 91, 92, 93), (88, 95, 90, 91)], 0.05)
    return tables_of(draw_similarities(models, pairs, random), pairs)


def strangers(random, genuine, impostor, groups=1, far=2.0):
    """A table of pairs of people who are in no other pair, normal scores `far` apart."""
    pairs = groups * (genuine + impostor)
    same = np.tile(np.arange(genuine + impostor) < genuine, groups)
    first = 2 * np.arange(pairs, dtype=np.int32)
    group = np.arange(groups, dtype=np.int16).repeat(genuine + impostor)
    return ScoreTable(
        similarity=random.standard_normal(pairs) + far * same,
        same=same,
        fold=(np.arange(pairs) % 10).astype(np.int16),
        group1=group,
        group2=group,
        groups=tuple("ABCD"[:groups]),
        identity1=first,
        identity2=np.where(same, first, first + 1).astype(np.int32),
        identities=tuple(map(str, range(2 * pairs))),
    )


# ---------------------------------------------------------------- values


def test_rates_are_those_of_measures(tables):
    fixed, targets = rates_at(tables, threshold=0.3), rates_at(tables, fmr=0.05)
    for row, table in enumerate(tables):
        given = table.similarity, table.same, table.group1
        plain = error_rates(*given, 0.3)
        np.testing.assert_allclose(fixed.fmr.rates[row], plain.fmr)
        np.testing.assert_allclose(fixed.fnmr.rates[row], plain.fnmr)
        at = rates_at_fmr(table.similarity, table.same, table.fold, table.group1, 0.05)
        np.testing.assert_allclose(targets.fmr.rates[row], at.fmr[0])
        np.testing.assert_allclose(targets.fnmr.rates[row], at.fnmr[0])
        of_all = [at.global_fmr[0], at.global_fnmr[0]]
        np.testing.assert_allclose(targets.together.rates[row], of_all)
        both = separation(*given)
        np.testing.assert_allclose(equal_error_rates([table]).rates[0], both.eer)
        np.testing.assert_allclose(1 - areas_above([table]).rates[0], both.auc)
    np.testing.assert_array_equal(fixed.impostors, [600] * 4)


def test_equal_scores_are_half_a_placement():
    table = strangers(np.random.default_rng(0), 30, 50)
    rounded = replace(table, similarity=table.similarity.round(0))
    auc = separation(rounded.similarity, rounded.same, rounded.group1).auc
    np.testing.assert_allclose(1 - areas_above([rounded]).rates[0], auc)


def test_pairs_across_groups_are_left_out(tables):
    table = tables[0]
    across = np.arange(len(table)) % 5 == 0
    other = np.where(across, (table.group1 + 1) % 4, table.group2).astype(np.int16)
    mixed, inside = replace(table, group2=other), table.rows(~across)
    for of in (
        lambda one: rates_at([one], fmr=0.05).joint,
        lambda one: rates_at([one], threshold=0.3).joint,
        lambda one: equal_error_rates([one]),
        lambda one: areas_above([one]),
    ):
        np.testing.assert_array_equal(of(mixed).covariance, of(inside).covariance)


def test_fairness_measures_are_those_of_rates(tables):
    found = rates_at(tables, threshold=0.3)
    intervals = fairness_intervals(found, draws=300)
    expected = measures_of_rates(found.fmr.rates, found.fnmr.rates)
    assert set(intervals) == set(expected) == set(FAIRNESS)
    for name, one in intervals.items():
        np.testing.assert_allclose(one.value, expected[name], err_msg=name)
        assert (one.low <= one.high).all()
    # What is fair lies at the other end of FDR.
    assert (intervals["fdr"].high <= 1).all()
    assert (intervals["fdr"].floor < 1).all()
    assert (intervals["ir"].floor > 1).all()


@pytest.mark.parametrize("given", [{}, {"threshold": 0.3, "fmr": 0.1}])
def test_a_threshold_or_an_fmr(tables, given):
    with pytest.raises(ValueError, match="a threshold or an FMR"):
        rates_at(tables, **given)


def test_group_of_one_class_has_no_rates(tables):
    table = tables[0]
    kept = table.same | (table.group1 != 2)
    for of in (areas_above, equal_error_rates, lambda one: rates_at(one, threshold=0.3)):
        with pytest.raises(ValueError, match="both classes"):
            of([table.rows(kept)])


# ---------------------------------------------------------------- variances


def test_fixed_threshold_has_the_covariance_of_its_errors(tables):
    found = rates_at(tables, threshold=0.3)
    first = tables[0]
    wrong = np.stack([(table.similarity >= 0.3) != first.same for table in tables])
    for rates, kind in ((found.fmr, ~first.same), (found.fnmr, first.same)):
        alone = group_rates(
            wrong[:, kind], first.group1[kind], first.identity1[kind], first.identity2[kind]
        )
        np.testing.assert_allclose(rates.covariance, alone.covariance)
        np.testing.assert_allclose(rates.effective_sizes(), alone.effective_sizes())


def test_area_of_strangers_has_the_variance_of_delong():
    """S10 / m + S01 / n of placements (DeLong, DeLong & Clarke-Pearson 1988), two systems."""
    random = np.random.default_rng(1)
    table = strangers(random, 60, 90)
    other = replace(table, similarity=table.similarity + 0.5 * random.standard_normal(150))
    expected = np.zeros((2, 2))
    for kind in (True, False):
        placements = []
        for one in (table, other):
            own, rest = one.similarity[one.same == kind], one.similarity[one.same != kind]
            placements.append([(rest < value).mean() for value in own])
        expected += np.cov(placements) / len(placements[0])
    found = areas_above([table, other])
    np.testing.assert_allclose(found.covariance[:, 0, :, 0], expected, rtol=1e-9)


def test_people_in_many_pairs_count_once_in_an_area():
    """Every pair three times over, of the same people: no more is known."""
    table = strangers(np.random.default_rng(2), 200, 300)
    thrice = table.rows(np.repeat(np.arange(500), 3))
    single, tripled = areas_above([table]), areas_above([thrice])
    np.testing.assert_allclose(tripled.covariance, single.covariance, rtol=0.01)
    np.testing.assert_allclose(
        equal_error_rates([thrice]).covariance, equal_error_rates([table]).covariance, rtol=0.02
    )


@pytest.mark.parametrize("part", [1, 3])
def test_equal_error_rate_of_strangers_in_closed_form(part):
    """Normal scores, of impostors with a spread of `part`: the noise of the rates meets halfway
    where slopes are equal, and nearer the steeper curve where not."""
    random, count, far = np.random.default_rng(3), 20_000, 2.0
    table = strangers(random, count, count, far=far)
    wide = np.where(table.same, table.similarity, part * table.similarity)
    at = far * part / (1 + part)  # where part * z is as unlikely as far - z
    rate = stats.norm.sf(at / part)
    slopes = np.array([stats.norm.pdf(at / part) / part, stats.norm.pdf(at - far)])
    weights = slopes[::-1] / slopes.sum()
    expected = (weights**2).sum() * rate * (1 - rate) / count
    found = equal_error_rates([replace(table, similarity=wide)])
    assert found.rates[0, 0] == pytest.approx(rate, abs=4 * np.sqrt(expected))
    assert found.variances[0, 0] == pytest.approx(expected, rel=0.1)


def second_order(fmr, impostors, own, folds=10):
    """Variance that thresholds of other folds add to the FMR of a group of `own` of the pairs."""
    v = (1 - fmr) / (fmr * impostors)
    squares = (folds / (folds - 1)) ** 2 * (v**2 + 2 * v**2 / (folds - 1))
    return fmr**2 * squares + fmr * np.sqrt(2 * v / (np.pi * (folds - 1))) / own


def test_threshold_of_an_fmr_moves_the_rates_in_closed_form():
    """FNMR's own noise and, by the slope of the ROC, that of the FMR that sets the threshold."""
    random, count, far, fmr = np.random.default_rng(4), 20_000, 2.0, 0.02
    found = rates_at([strangers(random, count, count, far=far) for _ in range(12)], fmr=fmr)
    at = stats.norm.isf(fmr)
    fnmr, slope = stats.norm.cdf(at - far), stats.norm.pdf(at - far) / stats.norm.pdf(at)
    expected = (fnmr * (1 - fnmr) + slope**2 * fmr * (1 - fmr)) / count
    assert found.fnmr.variances.mean() == pytest.approx(expected, rel=0.06)
    # What the threshold holds moves to second order alone.
    np.testing.assert_allclose(found.fmr.variances, second_order(fmr, count, count), rtol=0.02)


@pytest.mark.parametrize("folds", [3, 10])
def test_what_the_target_holds_is_known_as_well_as_draws_show(folds):
    """All false matches are the group's: neither its pairs' noise nor less than there is."""
    random, count, fmr, draws = np.random.default_rng(11), 2000, 0.02, 400
    fold = (np.arange(100 + count) % folds).astype(np.int16)
    found = [
        rates_at([replace(strangers(random, 100, count), fold=fold)], fmr=fmr).fmr
        for _ in range(draws)
    ]
    missed = np.mean([np.square(one.rates[0, 0] - fmr) for one in found])
    told = np.mean([one.variances[0, 0] for one in found])
    assert missed * (1 - 3 * np.sqrt(2 / draws)) < told < 2.5 * missed
    assert told < fmr * (1 - fmr) / count / 4
    widths = [np.subtract(one.high, one.low).item() for one in map(rate_interval, found)]
    assert np.median(widths) == pytest.approx(2 * 1.96 * np.sqrt(told), rel=0.1)


def test_intervals_at_an_fmr_use_what_the_threshold_holds():
    """Even groups, a quarter of whose noise the threshold takes: Wilson's of a third more pairs."""
    random, count, fmr = np.random.default_rng(12), 10_000, 0.02
    found = rates_at([strangers(random, count, count, groups=4) for _ in range(6)], fmr=fmr)
    sizes = found.fmr.effective_sizes()
    np.testing.assert_allclose(sizes.mean(), count * 4 / 3, rtol=0.08)
    np.testing.assert_array_less(sizes, found.impostors.sum())
    fixed = rates_at([strangers(random, count, count, groups=4)], threshold=2.0)
    np.testing.assert_allclose(fixed.fmr.effective_sizes(), count, rtol=1e-3)


def test_fmr_of_one_group_of_two_moves_against_the_other():
    random, count, fmr = np.random.default_rng(5), 10_000, 0.02
    found = rates_at([strangers(random, count, count, groups=2) for _ in range(12)], fmr=fmr)
    binomial = fmr * (1 - fmr) / count
    expected = binomial / 2 + second_order(fmr, 2 * count, count)
    np.testing.assert_allclose(found.fmr.variances.mean(axis=0), expected, rtol=0.06)
    between = np.einsum("mm->m", found.fmr.covariance[:, 0, :, 1])
    assert between.mean() == pytest.approx(-binomial / 2, rel=0.06)
    whole = second_order(fmr, 2 * count, 2 * count)
    np.testing.assert_allclose(found.together.variances[:, 0], whole, rtol=0.02)


# ---------------------------------------------------------------- intervals


def test_intervals_hold_their_values(tables):
    rates = rates_at(tables, threshold=0.3).fnmr
    wide, narrow = (rate_interval(rates, one) for one in (0.99, 0.9))
    assert (wide.low < narrow.low).all() and (narrow.low < rates.rates).all()
    assert (wide.high > narrow.high).all() and (narrow.high > rates.rates).all()
    found = area_interval(areas_above(tables))
    assert (found.low < found.value).all() and (found.value < found.high).all()


def test_constant_scores_have_rates_all_the_same():
    table = strangers(np.random.default_rng(9), 100, 300, groups=2)
    flat = replace(table, similarity=np.full(len(table), 0.5))
    np.testing.assert_allclose(areas_above([flat]).rates, 0.5)
    np.testing.assert_array_equal(equal_error_rates([flat]).rates, 0.5)
    for found in (rates_at([flat], fmr=0.01), rates_at([table], fmr=0.0)):
        assert (found.fmr.rates < 0.01).all()
        assert np.isfinite(found.joint.covariance).all()


def test_perfect_separation_leaves_the_area_open_below():
    table = strangers(np.random.default_rng(6), 100, 300, far=20)
    found = area_interval(areas_above([table]))
    assert found.value[0, 0] == found.high[0, 0] == 1
    # Wilson's of no error in 100.
    expected = stats.binomtest(0, 100).proportion_ci(method="wilson").high
    assert found.low[0, 0] == pytest.approx(1 - expected)


def test_even_systems_lie_in_the_intervals():
    """Both kinds even: the even system is kept in 95 of 100, as far as 60 tables can tell."""
    random, kept = np.random.default_rng(7), []
    for _ in range(60):
        found = rates_at([strangers(random, 400, 400, groups=4)], threshold=1.0)
        one = fairness_intervals(found, draws=400)
        kept.append([one["fdr"].high[0] == 1, one["garbe"].low[0] == 0, one["ir"].low[0] == 1])
    shares = np.mean(kept, axis=0)
    assert (shares > 0.95 - 3.5 * np.sqrt(0.95 * 0.05 / 60)).all(), shares


def test_two_kinds_are_drawn_to_an_even_system_of_each():
    """Groups that are even in each kind lie at the floor, however far apart the kinds are."""
    random = np.random.default_rng(8)
    table = strangers(random, 4000, 4000, groups=4)
    found = fairness_intervals(rates_at([table], threshold=2.5), draws=500)
    fmr, fnmr = stats.norm.sf(2.5), stats.norm.cdf(0.5)
    assert fnmr > 50 * fmr
    assert found["garbe"].low[0] == 0
    assert found["garbe"].floor[0] < 0.2


def test_patterns_that_noise_may_have_hidden_are_followed_too():
    """Wider gaps, more groups at the end; calibration.py says how often the limits hold."""
    truth = np.array([0.077, 0.056, 0.033, 0.036, 0.17, 0.12, 0.13, 0.09])
    sizes = np.repeat([270, 210], 4)
    drawn = np.random.default_rng(2).binomial(sizes, truth, (40, 8)) / sizes
    rates = ErrorRates(binomial_rates(drawn, sizes), sizes[:4], sizes[4:])
    found = fairness_intervals(rates, draws=300)
    uneven = Spread(rates.joint, FAIRNESS["garbe"]._replace(gaps=False), draws=300).intervals()
    near = SER._replace(ties=(1.0, 0.0))  # as if groups two standard errors off were in the middle
    near = Spread(rates.fmr, near, draws=300).intervals()
    # One measure under two names.
    same = Spread(rates.fmr, SER, draws=300).intervals()
    np.testing.assert_array_equal(same.low, found["fmr_max_min"].low)
    higher, lower = found["garbe"].high - uneven.high, near.low - found["fmr_max_min"].low
    assert (higher >= 0).all()  # one line more
    assert lower.mean() > 0  # other lines
    assert (higher > 0.01).sum() >= 5 and (lower > 0.01).sum() >= 5
