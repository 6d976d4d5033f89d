"""Simulated verification sets whose truth is known: RFW's design, and the demo's.

A genuine pair's similarity is a mean of its model and group, an effect of the identity (one in ten
is a hard one), of both images and of the pair; an impostor pair's has effects of both identities,
correlated with those in genuine pairs, of both images and of the pair. Several models score the
same pairs, with effects in part in common. The populations are mixtures of normal distributions, so
error rates at any threshold, the best thresholds and all that follows are known without drawing.

Shapes: M models, P pairs, G groups, T thresholds of the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

from mstkd.evaluation.protocol import protocol_rates
from mstkd.evaluation.scores import ScoreTable
from mstkd.evaluation.uncertainty import GroupRates
from mstkd.evaluation.verification import THRESHOLDS

Floats = NDArray[np.float64]

# Standard deviations of the effects; those of images count twice a pair.
GENUINE_IDENTITY, GENUINE_IMAGE, GENUINE_PAIR = 0.10, 0.05, 0.07
IMPOSTOR_IDENTITY, IMPOSTOR_IMAGE, IMPOSTOR_PAIR = 0.05, 0.04, 0.08
HARD_SHARE, HARD_SHIFT = 0.1, -0.15
CORRELATION = -0.3  # of an identity's effects: who is hard to verify is easily taken for others
IN_COMMON = 0.6  # of each effect's variance, between models
GENUINE = np.sqrt(GENUINE_IDENTITY**2 + 2 * GENUINE_IMAGE**2 + GENUINE_PAIR**2)
IMPOSTOR = np.sqrt(2 * IMPOSTOR_IDENTITY**2 + 2 * IMPOSTOR_IMAGE**2 + IMPOSTOR_PAIR**2)


# Means of four groups' impostor similarities, so that their best thresholds differ.
APART = (0.08, 0.06, 0.03, 0.05)


@dataclass(frozen=True)
class Design:
    """How many of what; folds share no identities, groups neither."""

    identities: int  # a fold and group
    genuine: int  # pairs a fold and group
    impostor: int
    images: int = 4  # an identity
    folds: int = 10
    groups: int = 4


RFW = Design(identities=290, genuine=300, impostor=300)
DEMO = Design(identities=10, genuine=60, impostor=60)


class Pairs(NamedTuple):
    """Who is compared with whom, all (P,)."""

    identity1: NDArray[np.int64]
    identity2: NDArray[np.int64]
    image1: NDArray[np.int64]
    image2: NDArray[np.int64]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]
    group: NDArray[np.int64]


def draw_pairs(design: Design, random: np.random.Generator) -> Pairs:
    """Pairs group by group and fold by fold, in each first the genuine ones."""
    of_images = np.array(np.triu_indices(design.images, 1)).T
    columns: list[list[NDArray[np.int64]]] = [[], [], [], []]
    for block in range(design.groups * design.folds):
        start = block * design.identities
        genuine = random.choice(design.identities * len(of_images), design.genuine, replace=False)
        who, images = genuine // len(of_images), of_images[genuine % len(of_images)]
        first = random.integers(design.identities, size=design.impostor)
        step = random.integers(1, design.identities, size=design.impostor)
        second = (first + step) % design.identities
        drawn = random.integers(design.images, size=(2, design.impostor))
        ones, twos = np.concatenate([who, first]), np.concatenate([who, second])
        for column, values in zip(
            columns,
            (
                start + ones,
                start + twos,
                (start + ones) * design.images + np.concatenate([images[:, 0], drawn[0]]),
                (start + twos) * design.images + np.concatenate([images[:, 1], drawn[1]]),
            ),
            strict=True,
        ):
            column.append(values)
    size = design.genuine + design.impostor
    blocks = np.arange(design.groups * design.folds).repeat(size)
    same = np.tile(np.arange(size) < design.genuine, design.groups * design.folds)
    return Pairs(
        *(np.concatenate(column) for column in columns),
        same,
        blocks % design.folds,
        blocks // design.folds,
    )


@dataclass(frozen=True)
class Models:
    """Models by the means of their similarities, (M, G) both."""

    genuine: Floats
    impostor: Floats

    def correct(self, similarity: Floats | float) -> Floats:
        """The share (M, G, ...) of pairs decided rightly at least similarities accepted."""
        fnmr, fmr = self.error_rates(similarity)
        return 1 - (fnmr + fmr) / 2

    def error_rates(self, similarity: Floats | float) -> tuple[Floats, Floats]:
        """FNMR and FMR (M, G, ...) at least similarities accepted."""
        at = np.asarray(similarity)
        shape = (*self.genuine.shape, *(1,) * at.ndim)
        genuine, impostor = self.genuine.reshape(shape), self.impostor.reshape(shape)
        fnmr = (1 - HARD_SHARE) * ndtr((at - genuine) / GENUINE)
        fnmr = fnmr + HARD_SHARE * ndtr((at - genuine - HARD_SHIFT) / GENUINE)
        return fnmr, ndtr((impostor - at) / IMPOSTOR)

    def true_rates(self, threshold: str) -> Floats:
        """Error rates (M, G) at the best thresholds of the population, own or shared."""
        correct = self.correct(1 - THRESHOLDS / 2)  # (M, G, T)
        if threshold == "own":
            return 1 - correct.max(axis=-1)
        best = correct.mean(axis=1).argmax(axis=-1)[:, None, None]
        return 1 - np.take_along_axis(correct, best, axis=-1)[..., 0]

    def at_fmr(self, fmr: float) -> Floats:
        """The similarity (M,) at which each model's impostor pairs of all groups have this FMR."""

        def above(similarity: float, row: int) -> float:
            return float(self.error_rates(similarity)[1][row].mean()) - fmr

        return np.array([brentq(above, -1, 2, args=(row,)) for row in range(len(self.genuine))])

    def areas(self) -> Floats:
        """Areas under the ROCs (M, G)."""
        spread = np.hypot(GENUINE, IMPOSTOR)
        far = self.genuine - self.impostor
        easy, hard = ndtr(far / spread), ndtr((far + HARD_SHIFT) / spread)
        return (1 - HARD_SHARE) * easy + HARD_SHARE * hard

    def equal_error_rates(self) -> Floats:
        """Equal error rates (M, G)."""

        def missing(similarity: float, place: tuple[int, ...]) -> float:
            fnmr, fmr = self.error_rates(similarity)
            return float(fnmr[place] - fmr[place])

        rates = np.empty_like(self.genuine)
        for place in np.ndindex(rates.shape):
            rates[place] = self.error_rates(brentq(missing, -1, 2, args=(place,)))[1][place]
        return rates

    def moved(self, accuracies: Floats) -> Models:
        """Models whose own accuracies (M, G) differ by so many percentage points, nearly."""
        step = 1e-3
        higher = Models(self.genuine + step, self.impostor).true_rates("own")
        slope = 100 * (self.true_rates("own") - higher) / step
        return Models(self.genuine + accuracies / slope, self.impostor)


def models_of(accuracies: object, impostor: object = 0.05) -> Models:
    """Models of these accuracies (M, G), percent, each group at its own best threshold."""
    wanted = np.atleast_2d(np.asarray(accuracies, float))
    means = np.broadcast_to(np.asarray(impostor, float), wanted.shape)

    def missing(genuine: float, accuracy: float, mean: float) -> float:
        one = Models(np.array([[genuine]]), np.array([[mean]]))
        return 100 * float(1 - one.true_rates("own")[0, 0]) - accuracy

    genuine = [
        brentq(missing, mean, mean + 1.5, args=(accuracy, mean))
        for accuracy, mean in zip(wanted.ravel(), means.ravel(), strict=True)
    ]
    return Models(np.array(genuine).reshape(wanted.shape), means)


def draw_similarities(models: Models, pairs: Pairs, random: np.random.Generator) -> Floats:
    """Similarities (M, P) of the pairs."""
    count = len(models.genuine)

    def effects(number: int) -> NDArray[np.float32]:
        common = random.standard_normal((1, number), dtype=np.float32)
        own = random.standard_normal((count, number), dtype=np.float32)
        return np.float32(np.sqrt(IN_COMMON)) * common + np.float32(np.sqrt(1 - IN_COMMON)) * own

    identities = int(max(pairs.identity1.max(), pairs.identity2.max())) + 1
    hard = random.random(identities) < HARD_SHARE
    first = effects(identities)
    other = CORRELATION * first + np.sqrt(1 - CORRELATION**2) * effects(identities)
    images = effects(int(max(pairs.image1.max(), pairs.image2.max())) + 1)
    own = effects(len(pairs.same))
    similarity = np.empty((count, len(pairs.same)))
    one, two = np.flatnonzero(pairs.same), np.flatnonzero(~pairs.same)
    of_images = images[:, pairs.image1] + images[:, pairs.image2]
    similarity[:, one] = (
        models.genuine[:, pairs.group[one]]
        + (GENUINE_IDENTITY * first + HARD_SHIFT * hard)[:, pairs.identity1[one]]
        + GENUINE_IMAGE * of_images[:, one]
        + GENUINE_PAIR * own[:, one]
    )
    similarity[:, two] = (
        models.impostor[:, pairs.group[two]]
        + IMPOSTOR_IDENTITY * (other[:, pairs.identity1[two]] + other[:, pairs.identity2[two]])
        - IMPOSTOR_IMAGE * of_images[:, two]
        + IMPOSTOR_PAIR * own[:, two]
    )
    return similarity


def tables_of(similarity: Floats, pairs: Pairs) -> list[ScoreTable]:
    """A table of scores of each model (M, P)."""
    group = pairs.group.astype(np.int16)
    first = ScoreTable(
        similarity=similarity[0],
        same=pairs.same,
        fold=pairs.fold.astype(np.int16),
        group1=group,
        group2=group,
        groups=tuple(map(str, range(int(group.max()) + 1))),
        identity1=pairs.identity1.astype(np.int32),
        identity2=pairs.identity2.astype(np.int32),
        identities=tuple(
            map(str, range(int(max(pairs.identity1.max(), pairs.identity2.max())) + 1))
        ),
    )
    return [replace(first, similarity=row) for row in similarity]


def rates_of(similarity: Floats, pairs: Pairs, threshold: Literal["own", "shared"]) -> GroupRates:
    """Error rates of all models (M, P) by the protocol."""
    return protocol_rates(
        similarity,
        pairs.same,
        pairs.fold,
        pairs.group,
        pairs.identity1,
        pairs.identity2,
        threshold=threshold,
    )
