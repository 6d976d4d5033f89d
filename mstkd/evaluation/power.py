"""What a test set can tell: the smallest difference that it would show, and what smaller ones need.

A difference is shown where its interval excludes 0. The variance of a contrast has three parts: of
the pairs, which falls as more pairs of the same people are drawn; of the people, which falls with
their number alone; and of training, which falls with the number of seeds. With one seed nothing is
known of the last, and what is said holds for these trained models.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace

from scipy import optimize

from mstkd.evaluation.contrasts import Contrast, Noise
from mstkd.evaluation.uncertainty import CONFIDENCE

POWER = 0.8
MOST = math.log(1e9)  # times as many, beyond which it is none
MOST_SEEDS = 1000  # beyond which seeds are not counted


@dataclass(frozen=True)
class Needed:
    """What would show an effect with the power asked for, one thing changed and all else as it is.

    inf or None where no number of it would do: the other sources of noise are too large.
    """

    effect: float
    identities: float  # times as many as there are, each with as many pairs
    pairs: float  # times as many of the same identities
    seeds: int | None  # in all; None too where the spread of training is not known


def smallest_difference(contrast: Contrast, power: float = POWER) -> float:
    """The smallest true contrast that this test set and these seeds show with such probability.

    Of spread measures, whose intervals are not symmetric, it is reckoned from the standard error,
    which serves where both sides are uneven; from a perfectly even system a difference of that size
    is shown in fewer than half of the cases (simulated).
    """
    return _shown(contrast.noise, power)


def needed(contrast: Contrast, effect: float, power: float = POWER) -> Needed:
    """How many identities, pairs or seeds would show a true contrast of this size.

    Args:
        contrast: whose noise is taken.
        effect: the true contrast, of any sign.
        power: probability that the interval excludes 0.
    """
    noise = contrast.noise
    people = 1 - noise.of_pairs
    return Needed(
        effect=effect,
        identities=_times(lambda times: _scaled(noise, 1 / times), effect, power),
        pairs=_times(lambda times: _scaled(noise, people + noise.of_pairs / times), effect, power),
        seeds=_seeds(noise, effect, power),
    )


def _shown(noise: Noise, power: float) -> float:
    return noise.reach((1 - CONFIDENCE) / 2) + noise.reach(1 - power)


def _scaled(noise: Noise, share: float) -> Noise:
    """The noise with this share of the test set's variance, and all of that of training."""
    test, training = noise.test**2 * share, noise.training**2
    common = noise.common**2 * share
    differ = noise.seeds > 1 and not noise.alike
    apart = max(test + training - common, 0.0) if differ else 0.0
    return replace(noise, apart=math.sqrt(apart), common=math.sqrt(common), test=math.sqrt(test))


def _times(scaled: Callable[[float], Noise], effect: float, power: float) -> float:
    """How many times as much of something shows the effect; less than 1 where there is plenty."""

    def short(log_times: float) -> float:
        return _shown(scaled(math.exp(log_times)), power) - abs(effect)

    if short(MOST) > 0:
        return math.inf
    return math.exp(optimize.brentq(short, -MOST, MOST)) if short(-MOST) > 0 else 0.0


def _seeds(noise: Noise, effect: float, power: float) -> int | None:
    if noise.seeds == 1 or noise.alike:
        return None
    of_one = noise.apart**2 * noise.seeds

    def is_shown(seeds: int) -> bool:
        more = replace(noise, apart=math.sqrt(of_one / seeds), seeds=seeds)
        return _shown(more, power) <= abs(effect)

    counts = range(2, MOST_SEEDS + 1)  # the more, the smaller what is shown
    least = bisect_left(counts, True, key=is_shown)
    return counts[least] if least < len(counts) else None
