"""Measures of how far groups lie apart, which noise pushes up: STD, SER and other ratios.

Four groups that are exactly even show a STD above 0 on any finite set of pairs, and their SER is
above 1. So the estimate alone says little, nor does a bootstrap around it. Here a measure is set
against what it would show: the observed pattern of the groups is drawn together to an even system
and apart again, in one line; at each place of it the joint noise of the rates gives the
distribution of the measure. An interval holds the places that could well have shown what was
observed, the even system included where it could (inversion of a test, as with the noncentral
chi-square distribution of the variance of groups that are equally sure; Kent & Hainsworth,
Statistica Neerlandica 1995).

Rates of errors are fractions. Shapes: M models, G groups, B draws, L places.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mstkd.evaluation.uncertainty import CONFIDENCE, GroupRates

Floats = NDArray[np.float64]

DRAWS = 2000
PLACES = 24  # along the line, between which is interpolated
KEPT = 64  # sums over models
REACH = 5.0  # standard errors that the line goes on beyond the observed pattern
TIES = (2.0, 0.0)  # all that are close may be as high, or the one alone
HIGHEST = 0.99  # a rate that the line does not pass
BEYOND = 0.999  # how sure it is that a sum is no higher than a difference looks


class SpreadMeasure(NamedTuple):
    """A measure over groups that is least where all are even."""

    of: Callable[[Floats], Floats]  # rates (..., G) to (...)
    # Of one that looks at the highest and the lowest group alone: within how many standard errors
    # another may as well be that, of each of several possibilities.
    ties: tuple[float, ...] = ()
    # Of one that looks at every gap between groups: gaps as wide as each other are followed too.
    gaps: bool = False
    # Of how many kinds the rates are, those of one after those of the other: even groups have the
    # same rate of each kind.
    kinds: int = 1
    # Ratios multiply: of two the logarithms are compared, whose noise is as high above as below.
    ratio: bool = False


def standard_deviation(rates: Floats) -> Floats:
    """Sample standard deviation in percentage points (..., G) -> (...): the paper's STD."""
    return 100 * rates.std(axis=-1, ddof=1)


def highest_over_lowest(rates: Floats) -> Floats:
    """The highest rate over the lowest (..., G) -> (...): of errors the paper's SER."""
    return rates.max(axis=-1) / rates.min(axis=-1)


STD = SpreadMeasure(standard_deviation)
SER = SpreadMeasure(highest_over_lowest, TIES, ratio=True)


class SpreadInterval(NamedTuple):
    """A spread measure of each of M models, all (M,)."""

    value: Floats  # as the rates are; inf of a ratio whose lowest rate is 0
    low: Floats
    high: Floats
    corrected: Floats  # the measure that would show `value` on average
    floor: Floats  # what an even system shows on average
    floor_high: Floats  # and stays below with 95 % probability


class Line(NamedTuple):
    """A weighted sum of a spread measure over models that are drawn to even systems together."""

    values: Floats  # (L,), rising, without noise
    drawn: Floats  # (L, B), with noise


class Compared(NamedTuple):
    """What true sums show along a line, as it is compared with another: of ratios logarithms."""

    ratio: bool
    shown: float
    values: Floats  # (L,), the true sums
    means: Floats  # (L,), rising, what they show on average
    noise: Floats  # (L, B), what is shown less the average
    variances: Floats  # (L,), of the noise
    highest: float  # true sum that a difference looks at

    def scaled(self, values: ArrayLike) -> Floats:
        """As it is compared."""
        return np.log(values) if self.ratio else np.asarray(values, np.float64)

    def mean(self, true: Floats) -> Floats:
        """What true sums show on average; beyond the line's end noise adds what it adds there."""
        end = self.values[-1]
        beyond = self.scaled(np.maximum(true, end)) - self.scaled(end)
        return np.interp(true, self.values, self.means) + beyond


@dataclass(frozen=True, eq=False)
class SpreadSum:
    """A weighted sum of a spread measure over m models."""

    shown: float
    corrected: float  # the sum that would show `shown` on average
    lines: list[Line]  # of each pattern of groups that may be the true one
    drawn: Floats  # (m, B), what each model shows with noise where the sum is the corrected one

    ratio: bool = False  # of a measure that is one

    @cached_property
    def compared(self) -> list[Compared]:
        """Each line as it is compared."""
        found = []
        for one in self.lines:
            least = np.quantile(one.drawn, 1 - BEYOND, axis=1)
            highest = _crossing(self.shown, least, one.values)
            drawn = np.log(one.drawn) if self.ratio else one.drawn
            mean = drawn.mean(axis=1)
            noise, rising = drawn - mean[:, None], np.maximum.accumulate(mean)
            shown = math.log(self.shown) if self.ratio else self.shown
            variances = np.einsum("lb,lb->l", noise, noise) / noise.shape[1]
            found.append(Compared(self.ratio, shown, one.values, rising, noise, variances, highest))
        return found

    def interval(self, confidence: float) -> tuple[float, float]:
        """The least and the highest limits of all lines.

        The lower side has half of what may fall outside far from the even system and nothing at it,
        so that the even system is kept with a probability of `confidence` too.
        """
        error = 1 - confidence
        limits = []
        for one in self.lines:
            draws = np.sort(one.drawn, axis=-1)
            median = np.median(draws[0])
            like_even = np.array([np.searchsorted(row, median, side="right") for row in draws])
            below = error * np.maximum(0, 0.5 - like_even / draws.shape[1])
            limits.append(_limits(self.shown, one.values, draws, below, error))
        lows, highs = zip(*limits, strict=True)
        return min(lows), max(highs)


class Spread:
    """A spread measure of models whose rates have a joint covariance.

    All models share their draws, so that the noise of two on the same pairs goes together.
    """

    def __init__(
        self, rates: GroupRates, measure: SpreadMeasure, *, draws: int = DRAWS, seed: int = 0
    ) -> None:
        if rates.rates.shape[1] < 2 * measure.kinds:
            raise ValueError("one group only, at least two are needed")
        self._measure, self._joint, self._kinds = measure, rates, measure.kinds
        self._least = 0.5 / rates.pairs  # where no error was seen
        self._rates = np.maximum(rates.rates, self._least)
        self._sizes = rates.effective_sizes()
        with np.errstate(divide="ignore", invalid="ignore"):
            # Observed, so that a ratio over 0 is infinite.
            self.value = np.where(
                rates.rates.any(axis=1), measure.of(rates.rates), measure.of(self._rates)
            )
        self._shown = measure.of(self._rates)  # (M,)
        self._noise = rates.noise(draws, seed)  # (M, G, B)
        logs = np.log(self._rates)
        errors = np.sqrt((1 - self._rates) / (self._sizes * self._rates))
        self._logs, self._errors = logs, errors
        # Where variances are hardly known, so few that chance goes as far as Student's quantile:
        # limits hang on how far it goes, averages do not.
        self._for_limits = self._sizes / np.square(_wider(errors**2, rates.freedom))
        of_kinds = self._by_kind(logs)
        observed = of_kinds - of_kinds.mean(axis=-1, keepdims=True)
        self._pattern = self._normed(observed)
        # Which group is truly the highest is not known where several are close, nor whether a kind
        # is uneven at all, and how much noise adds depends on both: several lines are followed.
        shapes = [self._ends(tie) for tie in measure.ties] or [observed]
        if measure.gaps:
            shapes.append(self._spaced(observed))
        parts = [np.ones((1, 1, 1))]
        if measure.kinds > 1:
            parts.append(self._uneven_kinds(of_kinds))
        self._patterns = [self._normed(part * shape) for part in parts for shape in shapes]
        self._sums: dict[tuple[tuple[int, ...], tuple[float, ...]], SpreadSum] = {}
        widest = np.maximum(self._span(logs)[:, 0], errors.max(axis=1))
        self._spans = np.maximum(widest, 1e-12)  # (M,), of rates that are all 1 too

    @property
    def shown(self) -> Floats:
        """The observed measure (M,), groups without errors counted as half an error."""
        return self._shown

    def gradient(self, models: ArrayLike) -> Floats:
        """How much the measure of some models (m, G) changes with each of their rates."""
        rates = self._rates[np.asarray(models)]
        step = 1e-4 * rates[..., None] * np.eye(rates.shape[1])  # (m, G, G)
        above, below = (self._measure.of(rates[:, None] + sign * step) for sign in (1, -1))
        return (above - below) / (2e-4 * rates)

    def noise_of(self, models: ArrayLike) -> tuple[Floats, Floats]:
        """Covariances (m, G, m, G) of the rates of some models: of independent pairs, and whole."""
        chosen = self._joint.chosen(models)
        return chosen.independent, chosen.covariance

    def intervals(self, confidence: float = CONFIDENCE) -> SpreadInterval:
        """Intervals, corrected values and noise floors of the models, each on its own."""
        models = np.arange(len(self._rates))
        alone = [self.sum_of([model], [1.0]) for model in models.tolist()]
        lows, highs = np.array([one.interval(confidence) for one in alone]).T
        none = np.zeros((len(models), 1))
        floor = self._at(self._pattern, none, models, self._sizes)[1][:, 0]
        return SpreadInterval(
            value=self.value,
            low=lows,
            high=np.where(np.isinf(self.value), np.inf, highs),
            corrected=np.array([one.corrected for one in alone]),
            floor=floor.mean(axis=-1),
            floor_high=np.quantile(floor, confidence, axis=-1),
        )

    def sum_of(self, models: Sequence[int], weights: Sequence[float]) -> SpreadSum:
        """A weighted sum of the measure over models, all drawn to even systems and apart together.

        What noise adds to each does not cancel in a sum, and so is taken from the sum. The last
        ones asked for are kept, since each model is compared with many.

        Args:
            models: (m,), which.
            weights: (m,), above 0.
        """
        asked = tuple(models), tuple(weights)
        if asked not in self._sums:
            while len(self._sums) >= KEPT:
                del self._sums[next(iter(self._sums))]
            self._sums[asked] = self._sum_of(np.array(models, np.int64), np.array(weights))
        return self._sums[asked]

    def _sum_of(self, of: NDArray[np.int64], weight: Floats) -> SpreadSum:
        if not len(of):
            none = Line(np.zeros(1), np.zeros((1, self._noise.shape[-1])))
            return SpreadSum(0.0, 0.0, [none] * len(self._patterns), np.empty((0, none.drawn.size)))
        shown = float(weight @ self._shown[of])
        furthest = 1 + REACH * (self._errors[of].max(axis=1) / self._spans[of]).max()
        places = np.linspace(0, 1, PLACES) ** 1.3 * furthest  # of the observed spans
        at = places * self._spans[of][:, None]  # (m, L)

        def line(pattern: Floats, sizes: Floats) -> Line:
            values, drawn = self._at(pattern[of], at, of, sizes)
            return Line(weight @ values, np.einsum("m,mlb->lb", weight, drawn))

        def is_observed(pattern: Floats) -> bool:
            pairs = ((pattern, self._pattern), (self._for_limits, self._sizes))
            return all(np.array_equal(one[of], other[of]) for one, other in pairs)

        observed = line(self._pattern, self._sizes)
        means = np.maximum.accumulate(observed.drawn.mean(axis=1))
        here = float(np.interp(shown, means + 1e-9 * np.arange(PLACES), places))
        own, noisy = self._at(self._pattern[of], here * self._spans[of][:, None], of, self._sizes)
        lines = [
            observed if is_observed(pattern) else line(pattern, self._for_limits)
            for pattern in self._patterns
        ]
        corrected = float(weight @ own[:, 0])
        return SpreadSum(shown, corrected, lines, noisy[:, 0], self._measure.ratio)

    def _ends(self, tie: float) -> Floats:
        """Shapes (M, kinds, G) with groups within `tie` standard errors moved to the ends.

        With `tie` 0 all between the ends are in the middle.
        """
        logs, variances = self._by_kind(self._logs), self._by_kind(self._errors) ** 2

        def at(values: Floats, group: NDArray[np.int64]) -> Floats:
            return np.take_along_axis(values, group[..., None], axis=-1)

        top, bottom = logs.argmax(axis=-1), logs.argmin(axis=-1)
        high, low = at(logs, top), at(logs, bottom)
        middle = (high + low) / 2
        ends = np.repeat(middle, logs.shape[-1], axis=-1)
        if tie:
            to_high = (high - logs) / np.sqrt(variances + at(variances, top))
            to_low = (logs - low) / np.sqrt(variances + at(variances, bottom))
            ends = np.where(to_low < tie, low, logs)
            ends = np.where((to_high < tie) & (to_high <= to_low), high, ends)
        np.put_along_axis(ends, top[..., None], high, axis=-1)
        np.put_along_axis(ends, bottom[..., None], low, axis=-1)
        return ends - middle

    def _spaced(self, observed: Floats) -> Floats:
        """Shapes (M, kinds, G) of the observed order, each group as far from the next.

        Noise widens narrow gaps and so adds to what is shown; to these it adds least.
        """
        places = observed.argsort(axis=-1).argsort(axis=-1) / (observed.shape[-1] - 1)
        return (places - 0.5) * np.ptp(observed, axis=-1, keepdims=True)

    def _uneven_kinds(self, of_kinds: Floats) -> Floats:
        """1 for each kind (M, kinds, 1) that noise alone would not make so uneven, 0 for others.

        By the logarithms' variance, which is taken for a chi-square at 5 %; 1 for all kinds of a
        model none of which is told from an even one.
        """
        groups = of_kinds.shape[-1]
        observed = of_kinds.var(axis=-1, ddof=1, keepdims=True)
        noise = np.empty_like(observed)
        for m, rates in enumerate(self._rates):
            covariance = self._joint.covariance[m, :, m] / np.outer(rates, rates)
            for kind, of in enumerate(np.split(np.arange(len(rates)), self._kinds)):
                own = covariance[np.ix_(of, of)]
                noise[m, kind] = (np.trace(own) - own.mean() * groups) / (groups - 1)
        most = special.chdtri(groups - 1, 1 - CONFIDENCE) / (groups - 1)
        uneven = observed > most * noise
        return np.where(uneven.any(axis=1, keepdims=True), uneven, True).astype(np.float64)

    def _by_kind(self, values: Floats) -> Floats:
        """Values (..., G) with the rates of each kind in an axis of their own."""
        return values.reshape(*values.shape[:-1], self._kinds, -1)

    def _span(self, logs: Floats) -> Floats:
        """How far apart groups (M, G) lie, at most of the kinds (M, 1)."""
        return np.ptp(self._by_kind(logs), axis=-1).max(axis=-1, keepdims=True)

    def _normed(self, of_kinds: Floats) -> Floats:
        """Patterns (M, G) that go from end to end by 1; one of its own where all are even."""
        pattern = of_kinds.reshape(len(of_kinds), -1)
        spans = self._span(pattern)
        own = np.tile(np.linspace(-0.5, 0.5, of_kinds.shape[-1]), self._kinds)
        return np.where(spans > 1e-12, pattern / np.where(spans > 1e-12, spans, 1), own)

    def _at(
        self, pattern: Floats, places: Floats, of: NDArray[Any], sizes: Floats
    ) -> tuple[Floats, Floats]:
        """The measure without noise (m, n) and with it (m, n, B) at places (m, n) of the lines.

        `sizes` (M, G) are the independent pairs that rates rest on.
        """
        shape = self._by_kind(np.exp(places[..., None] * pattern[:, None]))  # (m, n, kinds, G)
        level = self._by_kind(self._rates[of]).mean(axis=-1, keepdims=True)[:, None]
        rates = np.minimum(shape * level / shape.mean(axis=-1, keepdims=True), HIGHEST)
        rates = rates.reshape(*places.shape, -1)  # (m, n, G)
        errors = np.sqrt(rates * (1 - rates) / sizes[of][:, None])
        # The draws side by side in memory, where sums over few groups are quick, and of one model
        # at a time, which the processor's cache holds. Few errors are skewed as a binomial count
        # is: the first term of Cornish & Fisher's expansion.
        skew = (1 - 2 * rates) / (6 * sizes[of][:, None])  # (m, n, G), errors and all
        shown = np.empty((*places.shape, self._noise.shape[-1]))
        for m, noise in enumerate(self._noise[of]):  # (G, B)
            drawn = skew[m, ..., None] * (noise * noise - 1)  # (n, G, B)
            drawn += errors[m, ..., None] * noise
            drawn += rates[m, ..., None]
            np.clip(drawn, self._least[:, None], 1, out=drawn)
            shown[m] = self._measure.of(drawn.swapaxes(-1, -2))
        return self._measure.of(rates), shown


def _wider(variances: Floats, freedom: ArrayLike) -> Floats:
    """How many times as far as the normal quantile Student's goes (M, 1), of groups together.

    For the degrees of freedom of the sum of their variances (Satterthwaite, Biometrics 1946).

    Args:
        variances: (M, G), of the groups' rates.
        freedom: (M, G), degrees of freedom of each; inf of what is known.
    """
    unsure = np.sum(variances**2 / np.asarray(freedom), axis=1, keepdims=True)
    if not unsure.any():
        return np.ones_like(unsure)
    tail = (1 - CONFIDENCE) / 2
    with np.errstate(divide="ignore"):
        of_sum = np.square(variances.sum(axis=1, keepdims=True)) / unsure
    return special.stdtrit(of_sum, 1 - tail) / -special.ndtri(tail)


def _limits(
    observed: float, values: Floats, draws: Floats, below: Floats, error: float
) -> tuple[float, float]:
    """The least and highest of rising values that show an observed one with enough probability.

    Args:
        observed: what is shown.
        values: (L,), of places whose first is the even system.
        draws: (L, B), sorted, what each place shows with noise.
        below: (L,), what of `error` may fall outside on the lower side.
        error: what may fall outside, on both sides together.
    """
    lowest, highest = _quantiles(draws, below), _quantiles(draws, 1 - error + below)
    # Each side by itself, for each is smooth where the places lie far apart, and both are not.
    return _crossing(observed, highest, values), _crossing(observed, lowest, values)


def _quantiles(draws: Floats, levels: Floats) -> Floats:
    """One quantile of each row (L, B) of sorted draws."""
    position = levels * (draws.shape[1] - 1)
    before = np.minimum(position.astype(int), draws.shape[1] - 2)
    rows = np.arange(len(draws))
    step = draws[rows, before + 1] - draws[rows, before]
    return draws[rows, before] + (position - before) * step


def _crossing(observed: float, shown: Floats, values: Floats) -> float:
    """The value (L,) at which what is shown (L,) reaches the observed, interpolated."""
    rising = np.maximum.accumulate(shown)
    return float(np.interp(observed, rising, values))
