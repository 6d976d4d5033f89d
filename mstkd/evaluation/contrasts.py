"""Comparisons of models on the same pairs: contrasts of measures, with intervals and verdicts.

A contrast is a weighted sum of a measure over models, in the simplest case one model less another.
Two things may move it: identities drawn anew, by the joint covariance of all models' rates; and,
where there are several seeds, training done anew, by how the seeds' own contrasts differ. The two
variances are put together as by Satterthwaite (Biometrics 1946). One seed says nothing of training,
and what it says is of the trained models alone.

Shapes: M models, each trained with one seed; S seeds; G groups; B draws; L places; C contrasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from mstkd.evaluation.spread import Spread
from mstkd.evaluation.uncertainty import CONFIDENCE, GroupRates

Floats = NDArray[np.float64]
Verdict = Literal["supported", "contradicted", "undecided"]

STEPS = 25  # places along the line of a contrast of spread measures
FURTHEST = 6.0  # standard errors to either side that the line reaches
DRAWS = 20_000  # of the largest of several deviates


@dataclass(frozen=True)
class Contrast:
    """A contrast of one measure: what it is, and what it may be."""

    value: float  # of the measures as they are; the mean over seeds
    corrected: float  # less what noise adds to spread measures; of accuracies `value` itself
    low: float
    high: float
    p: float  # two-sided, of the contrast being 0
    error: float  # standard error of both sources together
    test_error: float  # of identities drawn anew
    training_error: float  # of training done anew; 0 with one seed
    freedom: float  # degrees of freedom of Student's t; inf with one seed
    seeds: int

    @property
    def direction(self) -> int:
        """1 or -1 where the interval lies above or below 0, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def accuracy_contrast(
    rates: GroupRates, weights: ArrayLike, confidence: float = CONFIDENCE
) -> Contrast:
    """A contrast of accuracies, in percentage points.

    Args:
        rates: error rates, one a model.
        weights: (S, M, G), one row a seed, which weighs the models of that seed; evenly over groups
            it is the global accuracy that is compared.
        confidence: of the interval.
    """
    rows = np.asarray(weights, np.float64)
    flat = 100 * rows.reshape(len(rows), -1)  # (S, M * G)
    values = flat.sum(axis=1) - flat @ rates.rates.ravel()
    size = rates.rates.size
    covariance, independent = (
        flat @ one.reshape(size, size) @ flat.T for one in (rates.covariance, rates.independent)
    )
    # Less than of independent pairs is chance: what shares an identity errs together.
    short = max(0.0, independent.mean() - covariance.mean())
    noise = _noise_of(values, covariance + short)
    value = float(values.mean())
    half = stats.t.ppf(0.5 + confidence / 2, noise.freedom) * noise.error
    return Contrast(
        value=value,
        corrected=value,
        low=value - half,
        high=value + half,
        p=_two_sided(value, noise.error, noise.freedom),
        seeds=len(rows),
        **noise._asdict(),
    )


def spread_contrast(
    spread: Spread, weights: ArrayLike, confidence: float = CONFIDENCE
) -> Contrast:
    """A contrast of a spread measure.

    What noise adds to a spread measure is more for the more even model, so the models' lines are
    followed together: at each place they show, without noise, some contrast; the place is kept where
    the contrast that they show with noise may be the observed one. Of all places at which the
    contrast is the same, that is taken which agrees best with what each model shows.

    Args:
        spread: the measure of all models.
        weights: (S, M), one row a seed, which weighs the models of that seed.
        confidence: of the interval.
    """
    rows = np.asarray(weights, np.float64)
    models = np.flatnonzero(rows.any(axis=0))
    rows = rows[:, models]  # (S, m)
    mean, shown = rows.mean(axis=0), spread.shown[models]
    own, drawn = spread.at(spread.place_of(shown[:, None], models), models)
    covariance = np.atleast_2d(np.cov(drawn[:, 0]))  # (m, m)
    values = rows @ shown
    noise = _noise_of(values, rows @ covariance @ rows.T)
    value = float(values.mean())

    towards = covariance @ mean
    scale = float(np.sqrt(max(mean @ towards, 0.0)))
    steps = np.linspace(-FURTHEST, FURTHEST, STEPS)
    moved = shown[:, None] + np.outer(towards / scale if scale else towards, steps)
    own_there, drawn_there = spread.at(spread.place_of(moved, models), models)
    contrasts = mean @ own_there  # (L,)
    with_noise = np.einsum("m,mlb->lb", mean, drawn_there)
    beyond = noise.error**2 - noise.test_error**2  # of training
    errors = np.sqrt(with_noise.var(axis=1) + beyond)
    # Falls along the line: how many standard errors the observed contrast lies above what is shown.
    above = np.minimum.accumulate((value - with_noise.mean(axis=1)) / errors)
    quantile = stats.t.ppf(0.5 + confidence / 2, noise.freedom)
    contrasts = np.maximum.accumulate(contrasts)
    low, high = (float(np.interp(-at, -above, contrasts)) for at in (quantile, -quantile))
    at_zero = float(np.interp(0.0, contrasts, above))
    return Contrast(
        value=value,
        corrected=float(mean @ own[:, 0]),
        low=low,
        high=high,
        p=_two_sided(at_zero, 1.0, noise.freedom),
        seeds=len(rows),
        **noise._asdict(),
    )


class _Noise(NamedTuple):
    error: float
    test_error: float
    training_error: float
    freedom: float


def _noise_of(values: Floats, covariance: Floats) -> _Noise:
    """What may move the mean over seeds of contrasts (S,), whose test noise has a covariance (S, S).

    The seeds' contrasts differ by training and by what of the test noise they do not share; what they
    share stays in their mean.
    """
    seeds = len(values)
    of_mean = max(float(covariance.mean()), 0.0)
    if seeds == 1:
        return _Noise(np.sqrt(of_mean), np.sqrt(of_mean), 0.0, np.inf)
    apart = float(np.trace(covariance)) / seeds
    in_common = max((seeds * of_mean - apart) / (seeds - 1), 0.0)
    own = max(of_mean - in_common, 0.0)  # of the mean
    seen = float(values.var(ddof=1)) / seeds
    if seen <= own:  # no more than the test set's noise
        return _Noise(np.sqrt(of_mean), np.sqrt(of_mean), 0.0, np.inf)
    total = seen + in_common
    freedom = (seeds - 1) * (total / seen) ** 2
    return _Noise(np.sqrt(total), np.sqrt(of_mean), np.sqrt(seen - own), freedom)


def _two_sided(value: float, error: float, freedom: float) -> float:
    if error == 0:
        return float(value == 0)
    return float(2 * stats.t.sf(abs(value) / error, freedom))


# ---------------------------------------------------------------- several at once


def holm(p: ArrayLike) -> Floats:
    """Holm's adjusted p-values (C,) of a family of tests (Scandinavian Journal of Statistics 1979).

    A test whose adjusted value is at most 0.05 is significant with no more than a 5 % chance that
    any true null hypothesis of the family is among those.
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values, kind="stable")
    rising = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(rising, 1)
    return adjusted


def simultaneous_quantile(
    correlation: ArrayLike,
    freedom: float = np.inf,
    *,
    sides: Literal[1, 2] = 2,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> float:
    """How many standard errors hold all of C contrasts at once with this confidence (max-t).

    Args:
        correlation: (C, C) of the contrasts.
        freedom: degrees of freedom of Student's t.
        sides: 1 where only the highest deviate counts.
        confidence: of all together.
        seed: of the draws.
    """
    values, vectors = np.linalg.eigh(np.asarray(correlation, np.float64))
    generator = np.random.default_rng(seed)
    normal = generator.standard_normal((DRAWS, len(values)))
    deviates = normal @ (vectors * np.sqrt(np.maximum(values, 0))).T
    if np.isfinite(freedom):
        deviates /= np.sqrt(generator.chisquare(freedom, (DRAWS, 1)) / freedom)
    largest = (np.abs(deviates) if sides == 2 else deviates).max(axis=1)
    return float(np.quantile(largest, confidence))


def least(contrasts: Sequence[Contrast], sign: Literal[1, -1] = 1) -> Contrast:
    """How far ahead of all its rivals something is: the contrast with the nearest of them.

    It is ahead only if every contrast has the sign, so the limit towards 0 is the nearest of theirs
    and the p-value the largest (an intersection-union test). It is not if any one has the other
    sign: there the p-value is the smallest times their number, and the other limit is as much wider
    as that asks for (Bonferroni).

    Args:
        contrasts: with each rival.
        sign: 1 where higher is ahead.
    """
    if sign == -1:
        return negated(least([negated(contrast) for contrast in contrasts]))
    nearest = min(contrasts, key=lambda contrast: contrast.value)
    count = len(contrasts)
    if count == 1:
        return nearest
    if nearest.value > 0:
        p = max(contrast.p for contrast in contrasts)
    else:
        p = min(1.0, count * min(contrast.p for contrast in contrasts if contrast.value <= 0))
    high = np.inf
    for contrast in contrasts:
        usual = stats.t.ppf(0.5 + CONFIDENCE / 2, contrast.freedom)
        wider = stats.t.ppf(1 - (1 - CONFIDENCE) / 2 / count, contrast.freedom)
        middle = contrast.corrected
        high = min(high, middle + (contrast.high - middle) * wider / usual)
    low = min(contrast.low for contrast in contrasts)
    return replace(nearest, p=p, low=low, high=float(high))


def negated(contrast: Contrast) -> Contrast:
    """The contrast the other way round."""
    return replace(
        contrast,
        value=-contrast.value,
        corrected=-contrast.corrected,
        low=-contrast.high,
        high=-contrast.low,
    )


def verdict(contrast: Contrast, p: float, sign: Literal[1, -1] = 1) -> Verdict:
    """What a contrast says of a claim that it has this sign, by an adjusted p-value."""
    if p > 1 - CONFIDENCE or not contrast.direction:
        return "undecided"
    return "supported" if contrast.direction == sign else "contradicted"


def mcnemar(wrong1: ArrayLike, wrong2: ArrayLike) -> float:
    """Exact p-value of two models deciding equally many pairs wrongly (McNemar, Psychometrika 1947).

    It takes the pairs on which they differ for independent, as they are not where they share
    identities: a figure to compare with the literature's, not to judge by.

    Args:
        wrong1: (P,), True where the first model decides a pair wrongly.
        wrong2: (P,), of the second, in the same order.
    """
    first, second = np.asarray(wrong1, np.bool_), np.asarray(wrong2, np.bool_)
    if first.shape != second.shape:
        raise ValueError(f"decisions of shapes {first.shape} and {second.shape}, not (P,) twice")
    differ = first != second
    if not differ.any():
        return 1.0
    return float(stats.binomtest(int(np.sum(first & differ)), int(differ.sum())).pvalue)
