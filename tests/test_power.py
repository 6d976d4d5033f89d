"""Power: what is called visible is seen in four of five draws, and what is needed is enough."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from test_contrasts import draw

from mstkd.evaluation.contrasts import Noise, accuracy_contrast, spread_contrast
from mstkd.evaluation.power import needed, smallest_difference
from mstkd.evaluation.spread import SER, STD, Spread
from mstkd.evaluation.uncertainty import GroupRates

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from _verification_sets import DEMO, draw_pairs, draw_similarities, models_of, rates_of


def contrast_of(rates, error, seeds=1, of_pairs=0.25):
    """Models of the first and of the second kind (2 * seeds, 1), their noise in points."""
    covariance = (error / 100) ** 2 * np.eye(2 * seeds)[:, None, :, None]
    found = GroupRates(rates[:, None], covariance, of_pairs * covariance, np.array([1e12]))
    weights = np.concatenate([np.eye(seeds), -np.eye(seeds)], axis=1)
    return accuracy_contrast(found, weights[:, :, None])


def test_smallest_difference_in_closed_form():
    found = contrast_of(np.array([0.1, 0.1]), 0.3)
    assert smallest_difference(found) == pytest.approx((1.959964 + 0.841621) * 0.3 * np.sqrt(2))


@pytest.mark.parametrize(("seeds", "training"), [(1, 0.0), (3, 0.3), (5, 0.3)])
def test_smallest_difference_is_shown_in_four_of_five(seeds, training):
    """With the noise that the sets have on average; of one set's own it is an estimate."""
    random = np.random.default_rng(2)
    spread = np.sqrt(0.3**2 + training**2)
    apart = np.sqrt(2) * spread / np.sqrt(seeds) if seeds > 1 else 0.0
    common = 0.0 if seeds > 1 else np.sqrt(2) * spread
    typical = Noise(apart, common, np.sqrt(2 / seeds) * 0.3, 0.25, seeds)
    found = replace(contrast_of(np.full(2 * seeds, 0.1), 0.3, seeds), noise=typical)
    effect, shown, count = smallest_difference(found), 0, 2000
    for _ in range(count):
        rates = 0.1 + spread / 100 * random.standard_normal(2 * seeds)
        rates[seeds:] += effect / 100
        shown += contrast_of(rates, 0.3, seeds).direction == 1
    assert abs(shown / count - 0.8) < 0.05


def test_what_is_needed_would_do():
    """Scaled by what is needed, the noise is such that the effect is just visible."""
    found = contrast_of(np.array([0.1, 0.101]), 0.3, of_pairs=0.25)
    wide = needed(found, 0.4)
    assert wide.identities == pytest.approx((smallest_difference(found) / 0.4) ** 2)
    narrower = replace(found.noise, common=found.noise.common / np.sqrt(wide.identities))
    assert smallest_difference(replace(found, noise=narrower)) == pytest.approx(0.4)
    # Three quarters of the variance are of people, and stay however many pairs they have.
    assert wide.pairs == np.inf
    assert wide.seeds is None
    close = needed(found, smallest_difference(found) * 0.9)
    assert close.pairs == pytest.approx(0.25 / (0.81 - 0.75))
    assert needed(found, -0.4) == replace(wide, effect=-0.4)
    assert needed(found, 100).identities < 1


def test_seeds_that_are_needed():
    noise = Noise(apart=0.5, common=0.2, test=0.3, of_pairs=0.5, seeds=4)
    found = replace(contrast_of(np.full(8, 0.1), 0.3, 4), noise=noise)
    got = needed(found, 0.9)

    def shown(seeds):
        apart = 1.0 / np.sqrt(seeds)  # of one seed 1
        tails = [(stats.t.isf(q, seeds - 1), stats.norm.isf(q)) for q in (0.025, 0.2)]
        return sum(np.hypot(t * apart, z * 0.2) for t, z in tails)

    assert shown(got.seeds) <= 0.9 < shown(got.seeds - 1)
    # What all seeds share stays.
    assert needed(found, 0.5).seeds is None
    # And so does training, however many identities there are.
    assert noise.training == pytest.approx(np.sqrt(0.25 + 0.04 - 0.09))
    assert needed(found, 1.0).identities == np.inf


PATTERN = np.array([0.72, 0.22, -0.86, -0.08])


@pytest.mark.parametrize(
    ("std", "least", "most"), [(1.0, 0.7, 0.9), (0.0, 0.2, 0.5)], ids=["uneven", "even"]
)
@pytest.mark.parametrize("measure", [STD, SER], ids=["std", "ser"])
def test_what_is_called_visible_of_spreads_holds_where_both_sides_are_uneven(
    measure, std, least, most
):
    """And not where one is perfectly even, as is said wherever the figure is shown."""
    random, pattern = np.random.default_rng(5), PATTERN / PATTERN.std(ddof=1)

    def rates(std):
        return 0.07 + pattern * std / 100

    def contrast(above):
        found = draw(np.array([rates(above), rates(std)]), 0.0035, 0.5, random)
        return spread_contrast(Spread(found, measure, draws=300), [[1, -1]])

    above, tried = std + 0.5, np.linspace(std, std + 3, 301)
    differences = np.array([measure.of(rates(one)) for one in tried]) - measure.of(rates(std))
    for _ in range(3):  # until that far above is what is called visible there
        size = np.median([smallest_difference(contrast(above)) for _ in range(15)])
        above = tried[np.argmin(np.abs(differences - size))]
    shown = np.mean([contrast(above).direction == 1 for _ in range(150)])
    assert least <= shown <= most


# ---------------------------------------------------------------- simulated verification sets


def shown(design, difference, sets, seed):
    """Contrasts of global accuracy of two models whose true difference is so many points."""
    random = np.random.default_rng(seed)
    accuracies = np.array([90, 91, 92, 91])
    models = models_of([accuracies + difference, accuracies])
    weights = np.array([[[0.25] * 4, [-0.25] * 4]])
    for _ in range(sets):
        pairs = draw_pairs(design, random)
        found = rates_of(draw_similarities(models, pairs, random), pairs, "own")
        yield accuracy_contrast(found, weights)


def test_what_is_called_visible_is_seen_in_simulated_sets():
    """And two thirds of it with the identities that are said to be needed for it."""
    size = np.median([smallest_difference(one) for one in shown(DEMO, 0.5, 30, seed=1)])
    times = np.median([needed(one, size / 1.5).identities for one in shown(DEMO, 0.5, 30, seed=1)])
    assert times == pytest.approx(1.5**2, rel=0.05)
    more = replace(
        DEMO,
        identities=round(DEMO.identities * times),
        genuine=round(DEMO.genuine * times),
        impostor=round(DEMO.impostor * times),
    )
    for design, difference in ((DEMO, size), (more, size / 1.5)):
        told = [one.direction == 1 for one in shown(design, difference, 150, seed=2)]
        assert abs(np.mean(told) - 0.8) < 3.5 * np.sqrt(0.8 * 0.2 / 150)
