"""Comparisons of models on the same pairs: contrasts of measures, with intervals and verdicts.

A contrast is a weighted sum of a measure over models, in the simplest case one model less another.
Two things may move it: identities drawn anew, by the joint covariance of all models' rates; and,
where there are several seeds, training done anew, by how the seeds' own contrasts differ. With few
seeds the second is hardly known, so each part of the variance has a quantile of its own, Student's
or the normal one: half an interval is the root of t^2 a + z^2 b (after Graybill & Wang, JASA 1980).
Satterthwaite's degrees of freedom, with which the quantile is one, told equal methods apart in 8 %
of cases at three seeds. One seed says nothing of training, and what it says is of the trained
models; nor do seeds that agree to the last digit, whose agreement is no measure of what others
would do: of those the test set's noise alone is told.

Shapes: M models, each trained with one seed; S seeds; G groups; B draws; L places; C contrasts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from mstkd.evaluation.spread import BEYOND, Compared, Spread, SpreadSum
from mstkd.evaluation.uncertainty import CONFIDENCE, GroupRates, normal_factor, wilson

Floats = NDArray[np.float64]
Verdict = Literal["supported", "contradicted", "undecided"]

TRIED = 96  # p-values of a difference of rates
# True differences of sums to either side of the likeliest, as parts of the way to the last; and how
# many more between the two that the limit lies between.
COARSE, FINE = np.append(0, np.geomspace(1e-4, 1, 24)), 6
SOUGHT, TIMES = 16, 3  # second sums that are tried at once, and how often, each time nearer
LEAST_VARIANCE = 1e-24
LEAST = 1e-14  # p-value, next to which a confidence is 1
ROUNDING = 1e-9  # models that decide every pair alike differ by what sums are rounded by


@dataclass(frozen=True)
class Contrast:
    """A contrast of one measure: what it is, and what it may be."""

    value: float  # of the measures as they are; the mean over seeds
    corrected: float  # less what noise adds to spread measures; of accuracies `value` itself
    low: float
    high: float
    p: float  # two-sided, of the contrast being 0
    noise: Noise

    @property
    def direction(self) -> int:
        """1 or -1 where the interval lies above or below 0, else 0."""
        return int(self.low > ROUNDING) - int(self.high < -ROUNDING)

    @property
    def seeds(self) -> int:
        """How many there are; with one, nothing is said of training done anew."""
        return self.noise.seeds

    @property
    def is_of_training(self) -> bool:
        """Whether it speaks of training done anew: there are seeds, and they differ."""
        return self.seeds > 1 and not self.noise.alike


@dataclass(frozen=True)
class Noise:
    """What may move a contrast, as standard errors."""

    apart: float  # of what seeds do not share, by how they differ; 0 with one seed
    common: float  # of the test set's noise that all seeds share, or with `alike` all of it
    test: float  # of identities drawn anew, in all
    of_pairs: float  # the share of its variance that more pairs of the same people would lessen
    seeds: int
    alike: bool = False  # several seeds agree to the last digit, which tells nothing of training

    @property
    def error(self) -> float:
        """Standard error of it all."""
        return math.hypot(self.apart, self.common)

    @property
    def training(self) -> float:
        """Standard error of training done anew: seeds differ more than the test set explains."""
        return math.sqrt(max(self.error**2 - self.test**2, 0.0))

    def reach(self, tail: float) -> float:
        """How far chance goes to one side but for this probability."""
        return math.hypot(self.student(tail) * self.apart, special.ndtri(tail) * self.common)

    def student(self, tail: float) -> float:
        """Student's quantile for what seeds do not share."""
        return float(-special.stdtrit(self.seeds - 1, tail)) if self.seeds > 1 else 0.0

    def p_value(self, value: float) -> float:
        """Two-sided probability of a value as far from 0, no smaller than `LEAST`."""
        return max(self._p_value(value), LEAST)

    def _p_value(self, value: float) -> float:
        if self.error <= ROUNDING:
            return float(abs(value) <= ROUNDING)
        deviate = abs(value) / self.error
        low = 2 * float(special.ndtr(-deviate))
        if self.apart == 0:
            return low
        high = 2 * float(special.stdtr(self.seeds - 1, -deviate))
        if self.common == 0 or high - low <= 1e-12 * high:
            return high
        low, high = max(low / 2, 1e-300), min(2 * high, 1.0)  # room for rounding
        if high == 1.0 and self.reach(0.5) >= abs(value):
            return 1.0
        return float(optimize.brentq(lambda p: self.reach(p / 2) - abs(value), low, high))


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
    of = np.flatnonzero(rows.any(axis=(0, 2)))  # of many models a contrast is mostly of few
    flat = 100 * rows[:, of].reshape(len(rows), -1)  # (S, m * G)
    chosen = rates.chosen(of)
    values = flat.sum(axis=1) - flat @ chosen.rates.ravel()
    size = chosen.rates.size
    covariance, independent = (
        flat @ one.reshape(size, size) @ flat.T for one in (chosen.covariance, chosen.independent)
    )
    # Less than of independent pairs is chance: what shares an identity errs together.
    covariance = covariance + max(0.0, independent.mean() - covariance.mean())
    noise = _noise(values, covariance, _share(independent.mean(), covariance.mean()))
    value, half = float(values.mean()), noise.reach((1 - confidence) / 2)
    return Contrast(value, value, value - half, value + half, noise.p_value(value), noise)


def rate_contrasts(
    rates: GroupRates, column: int, confidence: float = CONFIDENCE
) -> Callable[[ArrayLike], Contrast]:
    """Contrasts of one group's rates of errors, as fractions: of weights (1, M) of one seed.

    The variances of small rates of few people are hardly known, and the higher a rate the higher
    its variance. So limits are those of the rates themselves, put together as errors are, by their
    correlations (Zou & Donner, Statistics in Medicine 2008; of two shares of the same trials
    Newcombe, Statistics in Medicine 1998). The p-value is one less the confidence whose limit is 0,
    interpolated, and no smaller than `LEAST`.

    Args:
        rates: error rates, one a model.
        column: whose.
        confidence: of the intervals.
    """
    shown = rates.rates[:, column]
    tried = np.sort(np.append(np.geomspace(LEAST, 1, TRIED), 1 - confidence))[::-1]  # p-values (T,)
    at = int(np.argmin(np.abs(tried - (1 - confidence))))
    freedom = np.broadcast_to(rates.freedom, rates.rates.shape)[:, column]
    low, high = wilson(shown, rates.effective_sizes()[:, column], 1 - tried[:, None], freedom)

    def contrast(weights: ArrayLike) -> Contrast:
        (given,) = np.asarray(weights, np.float64)
        of = np.flatnonzero(given)
        w = given[of]
        covariance, independent = (
            one[of, column][:, of, column] for one in (rates.covariance, rates.independent)
        )
        errors = np.sqrt(np.maximum(np.diag(covariance), 0))
        correlation, both = np.eye(len(w)), np.outer(errors, errors)
        np.divide(covariance, both, out=correlation, where=both > 0)
        correlation = np.clip(correlation, -1, 1)

        def reach(first: Floats, second: Floats) -> Floats:
            """How far limits (T,) are off, of those (T, M) of what is added and of the rest."""
            each = w * np.abs(np.where(w > 0, first[:, of], second[:, of]) - shown[of])
            squares = np.einsum("tm,mn,tn->t", each, correlation, each)
            return np.maximum.accumulate(np.sqrt(np.maximum(squares, 0)))

        value, below, above = float(w @ shown[of]), reach(low, high), reach(high, low)
        towards = below if value > 0 else above
        p = 1.0
        if abs(value) > ROUNDING:
            p = math.exp(np.interp(abs(value), towards, np.log(tried)))
        variance, of_pairs = float(w @ covariance @ w), float(w @ independent @ w)
        error = math.sqrt(max(variance, 0.0))
        noise = Noise(0.0, error, error, _share(of_pairs, variance), 1)
        limits = value - float(below[at]), value + float(above[at])
        return Contrast(value, value, *limits, p, noise)

    return contrast


def spread_contrast(spread: Spread, weights: ArrayLike, confidence: float = CONFIDENCE) -> Contrast:
    """A contrast of a spread measure: of a sum over some models, less one over others.

    What noise adds to a spread measure is more for the more even models, so how far the contrast
    may be off depends on both sums and not on their difference alone. So each true difference is
    judged by the pair of true sums that fits what is shown best among those that differ so; it is
    kept unless the best of all pairs fits better by more than chance explains (the likelihood ratio
    of Wilks, Annals of Mathematical Statistics 1938). Where noise has made a model look more even
    than an even one does, the best pair is at the end of what can be, as Feldman & Cousins have it
    (Physical Review D 1998). Of ratios logarithms are compared.

    Args:
        spread: the measure of all models.
        weights: (S, M), one row a seed, which weighs the models of that seed.
        confidence: of the interval.
    """
    given = np.asarray(weights, np.float64)
    mean = given.mean(axis=0)
    sides = [np.flatnonzero(sign * mean > 0) for sign in (1, -1)]
    first, second = (spread.sum_of(of.tolist(), np.abs(mean[of]).tolist()) for of in sides)
    models = np.concatenate(sides)
    rows = given[:, models]
    drawn = np.concatenate([first.drawn, second.drawn])
    gradient = mean[models][:, None] * spread.gradient(models)
    parts = [np.einsum("mg,mgnh,nh->", gradient, one, gradient) for one in spread.noise_of(models)]
    covariance = rows @ np.atleast_2d(np.cov(drawn)) @ rows.T
    noise = _noise(rows @ spread.shown[models], covariance, _share(*parts))

    # How far training moves the mean over seeds of either sum.
    training = [_apart(given[:, of] @ spread.shown[of]) for of in sides]
    return spread_difference((first, second), noise, training, confidence)


def spread_difference(
    sums: tuple[SpreadSum, SpreadSum],
    noise: Noise,
    training: Sequence[float] = (0.0, 0.0),
    confidence: float = CONFIDENCE,
) -> Contrast:
    """One sum of a spread measure less another, as `spread_contrast` tells it.

    Args:
        sums: whose draws are correlated as the noise of the two is.
        noise: of their difference.
        training: standard error of the mean over seeds of either.
        confidence: of the interval.
    """
    first, second = sums
    tail = (1 - confidence) / 2
    found = [
        _Profile(sums, place, noise, training, tail).limits() for place in range(len(first.lines))
    ]
    lows, highs, p = zip(*found, strict=True)
    corrected = first.corrected - second.corrected
    return Contrast(
        value=first.shown - second.shown,
        corrected=corrected,
        low=min(corrected, *lows),
        high=max(corrected, *highs),
        p=max(p),
        noise=noise,
    )


class _Profile:
    """The profile likelihood of a difference of two sums, along one of the lines of each."""

    def __init__(
        self,
        sums: tuple[SpreadSum, SpreadSum],
        place: int,
        noise: Noise,
        training: Sequence[float],
        tail: float,
    ) -> None:
        self._noise, self._tail = noise, tail
        self._of: tuple[Compared, Compared] = (sums[0].compared[place], sums[1].compared[place])
        # Training moves what is shown too, as variances that Student's quantile has widened; the
        # test set's noise counts as far as seeds share it.
        of_seeds = noise.common / noise.test if noise.test else 1.0
        in_all = math.hypot(*training)
        wider = noise.student(tail) * noise.apart / special.ndtri(tail) / in_all if in_all else 0.0
        trained = [
            (wider * error / (one.shown if one.ratio else 1.0)) ** 2
            for error, one in zip(training, sums, strict=True)
        ]
        unsure = noise.student(1 - BEYOND)
        self._highest = [
            one.corrected + math.hypot(of.highest - one.corrected, unsure * error)
            for of, one, error in zip(self._of, sums, training, strict=True)
        ]
        # What noise makes of either sum, of both, and of their difference, by place on the lines.
        one, other = self._of
        # Not by a matrix product, whose last digit depends on the number of threads.
        both = np.einsum("lb,kb->lk", one.noise, other.noise) / one.noise.shape[1]
        apart = one.variances[:, None] + other.variances - 2 * both
        self._apart = of_seeds**2 * np.maximum(apart, 0) + sum(trained)
        self._own = [
            of_seeds**2 * of.variances + more for of, more in zip(self._of, trained, strict=True)
        ]

    def limits(self) -> tuple[float, float, float]:
        """Limits and p-value of the difference."""
        one, other = self._of
        likeliest = self._likeliest()
        ends = one.values[0] - self._highest[1], self._highest[0] - other.values[0]
        ways = likeliest + (np.array(ends)[:, None] - likeliest) * COARSE
        coarse = self._deviance(ways.ravel()).reshape(ways.shape)
        best = float(coarse.min())
        most = -special.ndtri(self._tail)
        # The last that is kept, and the next.
        last = [int(np.flatnonzero(row - best <= most**2).max(initial=0)) for row in coarse]
        near = np.stack(
            [
                np.linspace(way[at], way[min(at + 1, len(COARSE) - 1)], FINE)
                for way, at in zip(ways, last, strict=True)
            ]
        )
        *fine, of_none = self._deviance(np.append(near, 0.0))
        best = min(best, *fine, of_none)
        # Their roots, which grow evenly, in standard errors; what lies further off fits no better.
        roots = np.sqrt(np.reshape(fine, near.shape) - best)
        low, high = (
            float(np.interp(most, np.maximum.accumulate(root), way))
            for root, way in zip(roots, near, strict=True)
        )
        reach = self._noise.reach(self._tail)
        return low, high, self._noise.p_value(math.sqrt(of_none - best) / most * reach)

    def _likeliest(self) -> float:
        """The difference of the true sums each of which shows on average what is shown."""
        first, second = (
            float(np.interp(of.shown, of.means + 1e-9 * np.arange(len(of.means)), of.values))
            for of in self._of
        )
        return first - second

    def _deviance(self, differences: Floats) -> Floats:
        """Of those true sums with these differences (T,) that fit best, as `_deviance_of`."""
        one, other = self._of
        low = np.maximum(other.values[0], one.values[0] - differences)
        high = np.maximum(np.maximum(self._highest[1], self._highest[0] - differences), low)
        steps, rows = np.linspace(0, 1, SOUGHT), np.arange(len(differences))
        for _ in range(TIMES):
            second = low[:, None] + (high - low)[:, None] * steps
            found = self._deviance_of(second + differences[:, None], second)
            best, step = second[rows, found.argmin(axis=1)], (high - low) / (SOUGHT - 1)
            low, high = np.maximum(best - step, low), np.minimum(best + step, high)
        return found.min(axis=1)

    def _deviance_of(self, first: Floats, second: Floats) -> Floats:
        """How far what is shown lies from what true sums show: the sum of two squared deviates.

        They have no noise in common: that of the difference, and that of the weighted mean which
        the difference tells nothing of.
        """
        of_true = list(zip(self._of, (first, second), self._own, strict=True))
        away = [of.shown - of.mean(true) for of, true, _ in of_true]
        own = [np.interp(true, of.values, variances) for of, true, variances in of_true]
        apart = _at(self._apart, *(_place(of.values, true) for of, true, _ in of_true))
        both = (own[0] + own[1] - apart) / 2  # covariance
        weight = np.full_like(apart, 0.5)
        np.divide(own[1] - both, apart, out=weight, where=apart > 0)
        rest = 1 - weight
        variance = weight**2 * own[0] + rest**2 * own[1] + 2 * weight * rest * both
        squares = (
            (away[0] - away[1]) ** 2 / np.maximum(apart, LEAST_VARIANCE),
            (weight * away[0] + rest * away[1]) ** 2 / np.maximum(variance, LEAST_VARIANCE),
        )
        return squares[0] + squares[1]


def _place(values: Floats, true: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Between which of rising values (L,) others lie, by the lower, and how far on."""
    place = np.interp(true, values, np.arange(len(values)))
    lower = np.minimum(place.astype(np.int64), max(len(values) - 2, 0))
    return lower, place - lower


def _at(
    table: Floats, row: tuple[NDArray[np.int64], Floats], column: tuple[NDArray[np.int64], Floats]
) -> Floats:
    """What a table (L, L') says between its places."""
    (i, down), (j, right) = row, column
    below, after = (np.minimum(at + 1, n - 1) for at, n in zip((i, j), table.shape, strict=True))
    upper = table[i, j] + right * (table[i, after] - table[i, j])
    lower = table[below, j] + right * (table[below, after] - table[below, j])
    return upper + down * (lower - upper)


def _noise(values: Floats, covariance: Floats, of_pairs: float) -> Noise:
    """What may move the mean over seeds of contrasts (S,).

    `covariance` (S, S) is that of the test set's noise.

    The seeds' contrasts differ by training and by what of the test noise they do not share; what
    they share stays in their mean, and is seen in the covariance alone. Seeds that do not differ
    at all, as few pairs or training that ignores its seed may make them, tell neither.
    """
    seeds, test = len(values), max(float(covariance.mean()), 0.0)
    if _apart(values) <= ROUNDING:
        error = math.sqrt(test)
        return Noise(0.0, error, error, of_pairs, seeds, alike=seeds > 1)
    of_one = float(np.trace(covariance)) / seeds
    common = max((seeds * test - of_one) / (seeds - 1), 0.0)
    apart = _apart(values)
    return Noise(apart, math.sqrt(common), math.sqrt(test), of_pairs, seeds)


def _apart(values: Floats) -> float:
    """Standard error of a mean over seeds (S,), 0 of one."""
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def _share(part: float, whole: float) -> float:
    return float(np.clip(part / whole, 0, 1)) if whole > 0 else 1.0


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


def simultaneous_confidence(
    covariance: ArrayLike, confidence: float = CONFIDENCE, *, draws: int = 20_000, seed: int = 0
) -> float:
    """The confidence that each of C intervals needs so that all hold together with `confidence`.

    Of the largest of C normal deviates, correlated as the contrasts are, by draws (max-t; Hothorn,
    Bretz & Westfall, Biometrical Journal 2008). It is never above Bonferroni's, and where contrasts
    share much noise far below. Beside Holm, who tests and gives no intervals.

    Args:
        covariance: (C, C), as of `contrast_covariance`.
        confidence: of all intervals together.
        draws: of the deviates.
        seed: of the draws.
    """
    given = np.asarray(covariance, np.float64)
    errors = np.sqrt(np.maximum(np.diag(given), 0))
    if not errors.any():
        return confidence
    varies = errors > 0
    factor = normal_factor(given[varies][:, varies])
    normal = np.random.default_rng(seed).standard_normal((draws, len(factor)))
    largest = np.abs(normal @ factor.T).max(axis=1)
    found = 1 - 2 * float(special.ndtr(-np.quantile(largest, confidence)))
    return float(np.clip(found, confidence, 1 - (1 - confidence) / int(varies.sum())))


def contrast_covariance(rates: GroupRates, weights: ArrayLike) -> Floats:
    """Covariance (C, C), in squared percentage points, of contrasts with weights (C, M, G)."""
    rows = 100 * np.asarray(weights, np.float64)
    flat, size = rows.reshape(len(rows), -1), rates.rates.size
    return flat @ rates.covariance.reshape(size, size) @ flat.T


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
        tail = (1 - CONFIDENCE) / 2
        usual, wider = (contrast.noise.reach(one) for one in (tail, tail / count))
        half = contrast.high - contrast.corrected
        high = min(high, contrast.corrected + half * (wider / usual if usual else 1.0))
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


def scope(seeds: int, models: int = 2, *, alike: bool = False) -> str:
    """What a comparison holds of: the trained models alone where each was trained once.

    One seed says nothing of training done anew, so of one no sentence may say "better"; nor of
    several that agree.

    Args:
        seeds: of `Contrast.seeds`.
        models: how many are compared.
        alike: whether several seeds agree to the last digit.
    """
    if seeds > 1 and alike:
        return f"on these pairs, of these models, whose {seeds} seeds agree exactly"
    if seeds > 1:
        return f"over {seeds} seeds"
    number = {2: "two ", 3: "three ", 4: "four "}.get(models, "")
    return f"on these pairs, of these {number}trained models"


def told(contrast: Contrast, first: str, second: str, measure: str, *, more: bool = True) -> str:
    """One sentence of a comparison of two methods.

    "B has a higher accuracy than A on these pairs, of these two trained models" of one seed;
    "B is better than A in accuracy over 3 seeds" of several.

    Args:
        contrast: the first less the second.
        first: name.
        second: name.
        measure: name.
        more: whether more of the measure is better.
    """
    where = scope(contrast.seeds, alike=not contrast.is_of_training)
    if not contrast.direction:
        return f"{first} and {second} are not told apart in {measure} {where}"
    if not contrast.is_of_training:
        word = "higher" if contrast.direction > 0 else "lower"
        return f"{first} has a {word} {measure} than {second} {where}"
    better, other = (first, second) if (contrast.direction > 0) == more else (second, first)
    return f"{better} is better than {other} in {measure} {where}"


def mcnemar(wrong1: ArrayLike, wrong2: ArrayLike) -> float:
    """Exact p-value of two models erring on equally many pairs (McNemar, Psychometrika 1947).

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
    from scipy import stats  # which takes 0.4 s, and every model's card comes by here

    return float(stats.binomtest(int(np.sum(first & differ)), int(differ.sum())).pvalue)
