"""Contrasts: closed forms, coverage and wrong verdicts in simulation, families of tests."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize, stats

from mstkd.evaluation.contrasts import (
    Contrast,
    Noise,
    accuracy_contrast,
    contrast_covariance,
    holm,
    least,
    mcnemar,
    negated,
    rate_contrasts,
    scope,
    simultaneous_confidence,
    spread_contrast,
    spread_difference,
    told,
    verdict,
)
from mstkd.evaluation.power import needed, smallest_difference
from mstkd.evaluation.spread import SER, STD, Line, Spread, SpreadSum
from mstkd.evaluation.uncertainty import GroupRates, wilson


def rates_of(rates, errors, common=0.0):
    """Rates (M, G) of normal noise, of which models have a share in common; groups have none."""
    values = np.atleast_2d(np.asarray(rates, float))
    spread = np.broadcast_to(np.asarray(errors, float), values.shape)
    models = (1 - common) * np.eye(len(values)) + common
    covariance = np.einsum("mg,mn,gh,nh->mgnh", spread, models, np.eye(values.shape[1]), spread)
    return GroupRates(values, covariance, covariance / 4, np.full(values.shape[1], 1e12))


def draw(truth, errors, common, random):
    """One draw of such rates (M, G) around a truth."""
    shared = random.standard_normal((1, truth.shape[1]))
    own = random.standard_normal(truth.shape)
    noise = np.sqrt(common) * shared + np.sqrt(1 - common) * own
    return rates_of(truth + errors * noise, errors, common)


def made(value=1.0, low=0.5, high=1.5, p=0.01):
    noise = Noise(apart=0, common=0.25, test=0.25, of_pairs=1, seeds=1)
    return Contrast(value, value, low, high, p, noise)


# ---------------------------------------------------------------- one seed


def test_difference_of_accuracies_in_closed_form():
    """Two models, half their noise in common: the variance is (1 + 1 - 2 * 0.5) of one's."""
    found = rates_of([[0.08, 0.09], [0.10, 0.10]], 0.004, common=0.5)
    got = accuracy_contrast(found, [[[1, 0], [-1, 0]]])
    assert [got.value, got.noise.error, got.noise.test] == pytest.approx([2, 0.4, 0.4])
    assert [got.low, got.high] == pytest.approx([2 - 1.959964 * 0.4, 2 + 1.959964 * 0.4])
    assert got.p == pytest.approx(2 * stats.norm.sf(5))
    assert (got.seeds, got.noise.training, got.direction) == (1, 0, 1)
    assert got.noise.of_pairs == pytest.approx(1 / 4)
    over_groups = accuracy_contrast(found, [[[0.5, 0.5], [-0.5, -0.5]]])
    assert [over_groups.value, over_groups.noise.error] == pytest.approx([1.5, 0.4 / np.sqrt(2)])
    alone = accuracy_contrast(found, [[[0, 1], [0, 0]]])
    assert alone.value == pytest.approx(91)


@pytest.mark.parametrize("people", [None, 8.0])
def test_limits_of_a_difference_of_rates_are_put_together_of_both(people):
    """Zou & Donner's formula, of Wilson's limits, of the second of three groups."""
    found = rates_of([[0.5, 0.010, 0.5], [0.5, 0.004, 0.5], [0.5, 0.2, 0.5]], 0.002, common=0.6)
    freedom = np.inf if people is None else people - 1
    found = replace(found, people=None if people is None else np.full((3, 3), people))
    contrast = rate_contrasts(found, 1)
    got = contrast([[1, -1, 0]])

    def limits(confidence):
        of = [0.010, 0.004]
        size = [p * (1 - p) / 0.002**2 for p in of]
        (l1, l2), (u1, u2) = wilson(of, size, confidence, freedom)
        low, high = 0.010 - l1, u2 - 0.004
        low = 0.006 - np.sqrt(low**2 + high**2 - 2 * 0.6 * low * high)
        high, low2 = u1 - 0.010, 0.004 - l2
        return low, 0.006 + np.sqrt(high**2 + low2**2 - 2 * 0.6 * high * low2)

    assert [got.low, got.high] == pytest.approx(limits(0.95))
    assert got.value == got.corrected == pytest.approx(0.006)
    assert abs(limits(1 - got.p)[0]) < 1e-5  # the p-value is interpolated
    assert got.noise.error == pytest.approx(0.002 * np.sqrt(2 * 0.4))
    turned = contrast([[-1, 1, 0]])
    assert [turned.low, turned.high, turned.p] == pytest.approx([-got.high, -got.low, got.p])
    alone = contrast([[1, 0, 0]])
    assert [alone.low, alone.high] == pytest.approx(
        wilson(0.01, 0.01 * 0.99 / 0.002**2, 0.95, freedom)
    )


def test_rates_that_are_the_same_do_not_differ():
    found = rates_of([[0.01], [0.01]], 0.002, common=1)
    got = rate_contrasts(found, 0)([[1, -1]])
    assert (got.value, got.p, got.direction) == (0, 1, 0)


def test_models_that_are_not_compared_do_not_matter():
    """Of a thousand models a contrast looks at its own few."""
    random = np.random.default_rng(2)
    found = draw(np.full((9, 3), 0.08), 0.004, 0.5, random)
    few = found.chosen([6, 1])
    weights = np.zeros((1, 9, 3))
    weights[0, [6, 1]] = [[1, 0.5, 0], [-1, -0.5, 0]]
    one, other = accuracy_contrast(found, weights), accuracy_contrast(few, weights[:, [6, 1]])
    assert [one.value, one.low, one.p] == pytest.approx([other.value, other.low, other.p])
    assert one.low < one.value
    assert accuracy_contrast(found, np.zeros((1, 9, 3))).noise.error == 0


def test_draws_are_made_once():
    found = rates_of([[0.08, 0.09], [0.10, 0.10]], 0.004, common=0.5)
    first, again = found.noise(20_000, 1), found.noise(20_000, 1)
    assert first is again and first is not found.noise(20_000, 2)
    correlations = np.corrcoef(first.reshape(4, -1))
    assert correlations[0, 2] == pytest.approx(0.5, abs=0.03)
    assert correlations[0, 1] == pytest.approx(0, abs=0.03)


def test_no_less_noise_than_of_independent_pairs():
    """A covariance from few people may come out too small, even negative."""
    rates = np.array([[0.1], [0.12]])
    independent = np.zeros((2, 1, 2, 1))
    independent[0, 0, 0, 0] = independent[1, 0, 1, 0] = 0.01**2
    found = GroupRates(rates, -independent, independent, np.array([1000.0]))
    assert accuracy_contrast(found, [[[1], [-1]]]).noise.error == pytest.approx(np.sqrt(2))


@pytest.mark.parametrize("measure", [STD, SER], ids=["std", "ser"])
def test_far_from_even_a_spread_contrast_is_the_delta_methods(measure):
    found = rates_of([[0.05, 0.07, 0.08, 0.10], [0.05, 0.08, 0.08, 0.12]], 2e-4, common=0.6)
    got = spread_contrast(Spread(found, measure, draws=8000), [[1, -1]])
    gradients = np.zeros((2, 4))
    for m, g in np.ndindex(2, 4):
        moved = found.rates.copy()
        moved[m, g] += 1e-7
        gradients[m, g] = (measure.of(moved)[m] - measure.of(found.rates)[m]) / 1e-7
    signed = gradients * np.array([[1], [-1]])
    error = np.sqrt(np.einsum("mg,mgnh,nh->", signed, found.covariance, signed))
    value = measure.of(found.rates) @ [1, -1]
    assert got.value == pytest.approx(value)
    assert got.noise.error == pytest.approx(error, rel=0.04)
    limits = [value - 1.96 * error, value + 1.96 * error]
    assert [got.low, got.high] == pytest.approx(limits, abs=0.12 * error)
    assert got.noise.of_pairs == pytest.approx(1 / 4, rel=0.01)


@pytest.mark.parametrize("measure", [STD, SER], ids=["std", "ser"])
@pytest.mark.parametrize("case", ["even and even", "uneven and even", "uneven twice"])
def test_spread_contrasts_cover_the_truth(measure, case):
    """With noise of half a point, what is even shows a STD of 0.46."""
    even, uneven = np.full(4, 0.09), np.array([0.08, 0.07, 0.045, 0.06])
    truth = np.stack(
        {
            "even and even": (even, even * 0.8),
            "uneven and even": (uneven, even),
            "uneven twice": (uneven, uneven),
        }[case]
    )
    true, errors = measure.of(truth) @ [1, -1], np.sqrt(truth * (1 - truth) / 3500)
    random, covered, count = np.random.default_rng(8), 0, 220
    for _ in range(count):
        found = draw(truth, errors, 0.4, random)
        got = spread_contrast(Spread(found, measure, draws=300), [[1, -1]])
        covered += got.low <= true <= got.high
    assert abs(covered / count - 0.95) <= 3.5 * np.sqrt(0.95 * 0.05 / count), covered / count


def sum_of(shown, start, errors, deviates, *, ratio=False):
    """A sum that shows its true value (of ratios its logarithm) with a noise that is known."""
    values = np.linspace(start, start + 40, 400)
    noise = errors * stats.zscore(deviates)
    drawn = values[:, None] * np.exp(noise) if ratio else values[:, None] + noise
    return SpreadSum(shown, max(shown, start), [Line(values, drawn)], drawn[:1], ratio)


def test_a_difference_of_known_noise_in_closed_form():
    """Of sums that share some of it, far from even, of one seed and of three."""
    first, second = np.random.default_rng(0).standard_normal((2, 5000))
    second = np.where(np.arange(5000) < 2000, first, second)
    both = sum_of(11.0, 0, 0.8, first), sum_of(9.0, 0, 0.5, second)
    error = (0.8 * stats.zscore(first) - 0.5 * stats.zscore(second)).std()
    got = spread_difference(both, Noise(0.0, error, error, 1.0, 1))
    assert [got.low, got.high] == pytest.approx([2 - 1.96 * error, 2 + 1.96 * error], abs=4e-3)
    assert got.p == pytest.approx(2 * stats.norm.sf(2 / error), rel=0.01)
    seeds = Noise(0.7, error, error, 1.0, 3)
    got = spread_difference(both, seeds, (0.6, 0.4))
    half = np.hypot(1.96 * error, stats.t.ppf(0.975, 2) * 0.7)
    assert [got.low, got.high] == pytest.approx([2 - half, 2 + half], abs=0.02)


def test_a_difference_of_ratios_is_that_of_the_likelihood():
    """Found by a search through all pairs of true ratios."""
    first, second = np.random.default_rng(1).standard_normal((2, 5000))
    second -= first * (first @ second) / (first @ first)  # nothing in common
    both = (
        sum_of(2.5, 1, 0.2, first, ratio=True),
        sum_of(1.6, 1, 0.1, second, ratio=True),
    )
    got = spread_difference(both, Noise(0.0, 0.5, 0.5, 1.0, 1))

    def misfit(difference):
        true = np.linspace(max(1, 1 - difference), 6, 4000)
        squares = (np.log(2.5 / (true + difference)) / 0.2) ** 2 + (np.log(1.6 / true) / 0.1) ** 2
        return squares.min() - 1.959964**2

    low, high = (optimize.brentq(misfit, 0.9, end) for end in (-0.5, 3.5))
    assert [got.low, got.high] == pytest.approx([low, high], abs=0.005)


@pytest.mark.parametrize("shown", [-1.2, -0.3, 0.4, 1.5])
def test_near_the_even_system_the_best_fit_is_what_can_be(shown):
    """With noise of 1 and true values from 0 on, as Feldman & Cousins set it out."""
    one = sum_of(shown, 0, 1.0, np.random.default_rng(2).standard_normal(5000))
    none = SpreadSum(0.0, 0.0, [Line(np.zeros(1), np.zeros((1, 5000)))], np.empty((0, 5000)))
    got = spread_difference((one, none), Noise(0.0, 1.0, 1.0, 1.0, 1))
    best = min(shown, 0) ** 2
    limits = [max(shown - 1.959964, 0.0), shown + np.sqrt(1.959964**2 + best)]
    assert [got.low, got.high] == pytest.approx(limits, abs=0.01)


THREADS = """
import sys
sys.path.insert(0, {folder!r})
import numpy as np
from test_contrasts import SER, STD, Spread, draw, spread_contrast
random = np.random.default_rng(5)
for _ in range(6):
    truth = random.uniform(0.04, 0.1, (2, 4))
    for measure in (STD, SER):
        got = spread_contrast(Spread(draw(truth, 0.006, 0.5, random), measure), [[1, -1]])
        print(repr([got.low, got.high, got.p]))
"""


def test_the_last_digit_does_not_depend_on_the_number_of_threads():
    script = THREADS.format(folder=str(Path(__file__).parent))
    told = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "OMP_NUM_THREADS": threads},
            capture_output=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(told) == 1


def test_interval_and_p_value_agree():
    random = np.random.default_rng(4)
    for _ in range(40):
        truth = np.array([[0.08, 0.07, 0.05, 0.06], [0.09, 0.07, 0.05, 0.06]])
        spread = Spread(draw(truth, 0.006, 0.5, random), STD, draws=300)
        got = spread_contrast(spread, [[1, -1]])
        assert got.low <= got.high
        assert (got.p < 0.05) == (got.direction != 0)
        other = spread_contrast(spread, [[-1, 1]])
        assert [other.low, other.high] == pytest.approx([-got.high, -got.low], abs=0.02)


# ---------------------------------------------------------------- several seeds


def test_seeds_in_closed_form():
    """Seeds' differences 4, 0 and 2, all with the same noise of the pairs."""
    truth = np.array([[0.06], [0.10], [0.08], [0.10], [0.10], [0.10]])  # three of each
    found = rates_of(truth, 0.01, common=1.0)
    first, second = np.eye(6)[:3], np.eye(6)[3:]
    got = accuracy_contrast(found, (first - second)[:, :, None])
    assert got.value == pytest.approx(2)
    # The noise that all have in common takes itself away.
    assert [got.noise.test, got.noise.common] == pytest.approx([0, 0], abs=1e-7)
    assert got.noise.training == got.noise.error == pytest.approx(2 / np.sqrt(3))
    expected = stats.ttest_1samp([4, 0, 2], 0)
    assert got.p == pytest.approx(expected.pvalue)
    limits = expected.confidence_interval()
    assert [got.low, got.high] == pytest.approx([limits.low, limits.high])
    # One model's own noise is in common to all seeds and stays: a normal part, and a Student's.
    alone = accuracy_contrast(found, first[:, :, None])
    assert alone.value == pytest.approx(92)
    assert alone.noise.test == pytest.approx(1)
    assert alone.noise.error == pytest.approx(np.sqrt(1 + 4 / 3))
    half = np.hypot(1.959964, 4.302653 * 2 / np.sqrt(3))
    assert [alone.low, alone.high] == pytest.approx([92 - half, 92 + half])


def test_p_value_is_where_the_interval_ends():
    noise = Noise(apart=0.3, common=0.4, test=0.45, of_pairs=1, seeds=3)
    for tail in (0.4, 0.05, 0.025, 1e-6):
        assert noise.p_value(-noise.reach(tail)) == pytest.approx(2 * tail, rel=1e-6)
    assert noise.p_value(0) == 1
    assert Noise(0, 0, 0, 1, 1).p_value(1) == Noise(0, 1, 1, 1, 1).p_value(40) == 1e-14


def test_opposite_seeds_are_no_better():
    """Differences of +4 and -3 were called better by +0.39 to +0.53."""
    found = rates_of([[0.06], [0.10], [0.10], [0.07]], 0.001)
    got = accuracy_contrast(found, [[[1], [-1], [0], [0]], [[0], [0], [1], [-1]]])
    assert got.value == pytest.approx(0.5)
    assert got.direction == 0
    assert got.p > 0.9


def test_seeds_that_agree_exactly_have_the_noise_of_the_test_set():
    """Their agreement is no measure of training, and what says so says "on these pairs"."""
    found = rates_of([[0.06], [0.06], [0.10], [0.10]], 0.004)  # two of each, independent
    weights = np.array([[1, 0, -1, 0], [0, 1, 0, -1]])
    got = accuracy_contrast(found, weights[:, :, None])
    assert (got.value, got.seeds, got.noise.apart) == pytest.approx((4, 2, 0))
    assert got.noise.error == got.noise.test == pytest.approx(0.4)  # 0.4 * sqrt(2) of one, of two
    assert [got.low, got.high] == pytest.approx([4 - 1.959964 * 0.4, 4 + 1.959964 * 0.4])
    assert got.p == 1e-14  # of ten standard errors 1.5e-23
    where = "on these pairs, of these models, whose 2 seeds agree exactly"
    assert told(got, "B", "A", "accuracy") == f"B has a higher accuracy than A {where}"
    assert needed(got, 1.0).seeds is None
    assert smallest_difference(got) == pytest.approx((1.959964 + 0.841621) * 0.4)

    groups = rates_of(np.tile([[0.06, 0.08, 0.1]], (4, 1)), 0.004)
    spreads = spread_contrast(Spread(groups, STD), weights)
    assert spreads.noise.alike and spreads.low < 0 < spreads.high
    assert not accuracy_contrast(found, weights[:1, :, None]).noise.alike

    nearly = rates_of([[0.06], [0.061], [0.10], [0.10]], 0.004)
    assert told(accuracy_contrast(nearly, weights[:, :, None]), "B", "A", "accuracy").endswith(
        "over 2 seeds"
    )


def test_seeds_that_agree_by_chance_cover_the_truth():
    """Of 60 pairs each, so that two seeds often show the same difference to the last pair."""
    random, pairs, inside = np.random.default_rng(3), 60, []
    weights = np.array([[1, 0, -1, 0], [0, 1, 0, -1]])[:, :, None]
    for _ in range(6000):
        rates = random.binomial(pairs, 0.2, (4, 1)) / pairs
        if rates[0] - rates[2] != rates[1] - rates[3]:
            continue
        errors = np.sqrt(rates * (1 - rates) / pairs)
        got = accuracy_contrast(rates_of(rates, errors), weights)
        inside.append(got.low <= 0 <= got.high)
    assert len(inside) > 200
    assert abs(np.mean(inside) - 0.95) < 3 * np.sqrt(0.05 * 0.95 / len(inside)) + 0.02


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("training", [0.0, 0.1, 0.2, 0.4])
def test_equal_methods_are_told_apart_in_one_of_twenty(training, seeds):
    """Training spread in points; the noise of a model is 0.35 points, half of it in common."""
    random, told, count = np.random.default_rng(11), 0, 3000
    weights = np.concatenate([np.eye(seeds), -np.eye(seeds)], axis=1)[:, :, None]
    blank = rates_of(np.full((2 * seeds, 1), 0.1), 0.0035, common=0.5)
    for _ in range(count):
        noise = np.sqrt(0.5) * random.standard_normal((2 * seeds, 1))
        noise += np.sqrt(0.5) * random.standard_normal()
        rates = 0.1 + 0.0035 * noise + training / 100 * random.standard_normal((2 * seeds, 1))
        found = GroupRates(rates, blank.covariance, blank.independent, blank.pairs)
        told += accuracy_contrast(found, weights).direction != 0
    assert told / count <= 0.06
    assert told / count >= 0.02


@pytest.mark.parametrize("measure", [STD, SER], ids=["std", "ser"])
def test_equal_methods_whose_training_differs_more_than_the_test_tells(measure):
    """Half a point of training a group, where the test set's noise is a tenth of it."""
    random, told, count, seeds = np.random.default_rng(14), 0, 250, 3
    base, error = np.array([0.08, 0.07, 0.045, 0.06]), 0.0005
    weights = np.concatenate([np.eye(seeds), -np.eye(seeds)], axis=1)
    for _ in range(count):
        trained = base + 0.005 * random.standard_normal((2 * seeds, 4))
        found = draw(trained, error, 0.5, random)
        told += spread_contrast(Spread(found, measure, draws=200), weights).direction != 0
    assert told / count <= 0.06 + 3 * np.sqrt(0.05 * 0.95 / count)


# ---------------------------------------------------------------- families


def test_holm_is_the_step_down():
    """By its definition, in steps: reject while p times the tests left is at most the level."""
    random = np.random.default_rng(0)
    for _ in range(50):
        p = random.random(6) ** 3
        adjusted = holm(p)
        for level in (0.01, 0.05, 0.2):
            rejected = np.zeros(6, bool)
            for place, test in enumerate(np.argsort(p)):
                if p[test] * (6 - place) > level:
                    break
                rejected[test] = True
            assert ((adjusted <= level) == rejected).all()
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]).tolist() == []


def correlated(count, correlation):
    return (1 - correlation) * np.eye(count) + correlation


@pytest.mark.parametrize(
    ("covariance", "deviate"),
    [
        (9 * correlated(5, 0.0), stats.norm.isf((1 - 0.95 ** (1 / 5)) / 2)),  # Sidak
        (correlated(4, 1.0), stats.norm.isf(0.025)),
        # Dunnett's two-sided tables for comparisons with a control, without end of degrees.
        (correlated(2, 0.5), 2.21),
        (correlated(4, 0.5), 2.44),
        (np.zeros((2, 2)), stats.norm.isf(0.025)),
    ],
    ids=["apart", "the same", "two with a control", "four with a control", "no noise"],
)
def test_simultaneous_intervals_are_as_wide_as_the_tables_say(covariance, deviate):
    confidence = simultaneous_confidence(covariance, draws=200_000)
    assert stats.norm.isf((1 - confidence) / 2) == pytest.approx(deviate, abs=0.015)


def test_simultaneous_intervals_hold_together():
    """Four models against a control, all equal, whose noise is the same in all four contrasts."""
    random, count, truth = np.random.default_rng(12), 2000, np.full((5, 1), 0.1)
    weights = np.concatenate([-np.ones((4, 1)), np.eye(4)], axis=1)[:, :, None]  # (C, M, G)
    covariance = contrast_covariance(rates_of(truth, 0.004), weights)
    np.testing.assert_allclose(covariance, 0.16 * correlated(4, 0.5) * 2)
    confidence = simultaneous_confidence(covariance)
    together = 0
    for _ in range(count):
        found = draw(truth, 0.004, 0.0, random)
        contrasts = [accuracy_contrast(found, one[None], confidence) for one in weights]
        together += all(one.direction == 0 for one in contrasts)
    assert abs(together / count - 0.95) < 3.5 * np.sqrt(0.95 * 0.05 / count)


def test_ahead_of_all_is_ahead_of_the_nearest():
    far, near = made(3.0, 2.0, 4.0, p=1e-6), made(1.0, -0.2, 2.2, p=0.1)
    got = least([far, near])
    assert (got.value, got.low, got.p) == (1, -0.2, 0.1)
    assert got.direction == 0
    # The upper limit holds for two at once: as of 97.5 %.
    assert got.high == pytest.approx(
        1 + 1.2 * stats.norm.ppf(1 - 0.025 / 2) / stats.norm.ppf(0.975)
    )
    behind = least([far, made(-2.0, -3.0, -1.0, p=1e-3)])
    assert behind.direction == -1
    assert behind.p == pytest.approx(2e-3)  # either could have been behind
    lower = least([negated(far), negated(near)], sign=-1)
    assert (lower.value, lower.high, lower.p) == (-1, 0.2, 0.1)
    assert least([near]) == near


def test_verdicts_are_of_sign_and_adjusted_p():
    above, below = made(1.0, 0.5, 1.5), made(-1.0, -1.5, -0.5)
    assert verdict(above, 0.04) == "supported"
    assert verdict(above, 0.06) == "undecided"
    assert verdict(below, 0.04) == "contradicted"
    assert verdict(below, 0.04, -1) == "supported"
    assert verdict(made(1.0, -0.1, 2.1), 0.04) == "undecided"


def test_mcnemar_is_the_binomial_of_the_discordant():
    first = np.repeat([True, False, True, False], [9, 2, 50, 100])
    second = np.repeat([False, True, True, False], [9, 2, 50, 100])
    assert mcnemar(first, second) == pytest.approx(2 * stats.binom.cdf(2, 11, 0.5))
    assert mcnemar(first, first) == 1
    with pytest.raises(ValueError, match="not \\(P,\\) twice"):
        mcnemar(first, second[:-1])


def test_one_seed_is_never_better():
    above, below = made(1.0, 0.5, 1.5), made(-1.0, -1.5, -0.5)
    where = "on these pairs, of these two trained models"
    assert scope(1) == where
    assert scope(1, models=24) == "on these pairs, of these trained models"
    assert told(above, "B", "A", "STD", more=False) == f"B has a higher STD than A {where}"
    assert told(below, "B", "A", "accuracy") == f"B has a lower accuracy than A {where}"
    assert told(made(1.0, -1, 3), "B", "A", "STD") == f"B and A are not told apart in STD {where}"
    several = replace(above, noise=replace(above.noise, seeds=3))
    assert told(several, "B", "A", "accuracy") == "B is better than A in accuracy over 3 seeds"
    assert told(several, "B", "A", "STD", more=False) == "A is better than B in STD over 3 seeds"
