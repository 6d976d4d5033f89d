"""Simulated sets of embedded images whose truth is known, for rates over all impostor pairs.

A person's embedding is a direction of their own and a tendency towards that of their group, by
which some are more like all others of it; an image's is its person's and noise. Several systems see
the same people and images, with effects in part in common. The truth is that of many more people.

Shapes: M systems, G groups, N images, C cells (every two groups once), D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from _verification_sets import IN_COMMON
from numpy.typing import NDArray

from mstkd.evaluation.auditing.all_impostors import EmbeddedImages
from mstkd.evaluation.impostors import HALF, count_impostors
from mstkd.evaluation.scores import ScoreTable

Floats = NDArray[np.float64]

DIMENSION = 16
TENDENCY, IMAGE = 0.25, 0.7  # standard deviations; a person's own direction has one of 1
SHARED = 0.4  # of a group's direction, with those of all others
SEED = 20  # of the people whose rates are the truth


class Crowd(NamedTuple):
    """How many of what."""

    people: int  # a group
    images: int  # a person


@dataclass(frozen=True, eq=False)
class Embedded:
    """The images of a crowd as systems see them."""

    vectors: NDArray[np.float32]  # (M, N, D)
    identity: NDArray[np.int64]  # (N,)
    group: NDArray[np.int64]  # (N,)

    @property
    def genuine(self) -> NDArray[np.int64]:
        """The first (P,) of every two images of a person that follow each other."""
        return np.flatnonzero(self.identity[:-1] == self.identity[1:])

    def similarities(self) -> Floats:
        """Those of the genuine pairs (M, P)."""
        unit = self.vectors / np.linalg.norm(self.vectors, axis=-1, keepdims=True)
        return np.vecdot(unit[:, self.genuine], unit[:, self.genuine + 1]).astype(np.float64)

    def systems(self) -> list[tuple[ScoreTable, EmbeddedImages]]:
        """Each system's genuine pairs, as scored, and what it made of the images."""
        side = self.group[self.genuine].astype(np.int16)
        who = self.identity[self.genuine].astype(np.int32)
        return [
            (
                ScoreTable(
                    similarity=scores,
                    same=np.ones(len(who), np.bool_),
                    fold=np.zeros(len(who), np.int16),
                    group1=side,
                    group2=side,
                    groups=tuple(map(str, range(int(self.group.max()) + 1))),
                    identity1=who,
                    identity2=who,
                    identities=tuple(map(str, range(int(self.identity.max()) + 1))),
                ),
                EmbeddedImages(vectors, self.identity, self.group),
            )
            for scores, vectors in zip(self.similarities(), self.vectors, strict=True)
        ]


def draw_embedded(closeness: Floats, crowd: Crowd, random: np.random.Generator) -> Embedded:
    """Images of people in groups, as systems see them.

    Args:
        closeness: (M, G), how near the people of a group lie to each other on average.
        crowd: how many.
        random: what draws.
    """
    systems, groups = closeness.shape
    people = groups * crowd.people
    group = np.repeat(np.arange(groups), crowd.people)
    axes = np.eye(DIMENSION)
    towards = np.sqrt(SHARED) * axes[0] + np.sqrt(1 - SHARED) * axes[1 : groups + 1]  # (G, D)

    def effects(*shape: int) -> NDArray[np.float32]:
        common = random.standard_normal((1, *shape), dtype=np.float32)
        own = random.standard_normal((systems, *shape), dtype=np.float32)
        return np.float32(np.sqrt(IN_COMMON)) * common + np.float32(np.sqrt(1 - IN_COMMON)) * own

    like = closeness[:, group] + TENDENCY * effects(people)
    person = effects(people, DIMENSION) / np.sqrt(DIMENSION) + like[..., None] * towards[group]
    noise = IMAGE / np.sqrt(DIMENSION) * effects(people * crowd.images, DIMENSION)
    vectors = np.repeat(person, crowd.images, axis=1) + noise
    of_image = np.repeat(np.arange(people), crowd.images)
    return Embedded(vectors.astype(np.float32), of_image, group[of_image])


class Truth:
    """The error rates of systems, of so many people that chance in who they are is little.

    Pairs of people are of one batch of them: the noise is that of all batches' people.

    Args:
        closeness: (M, G), of `draw_embedded`; systems of one closeness have one truth.
        batches: how many.
        people: of a batch and group.
    """

    def __init__(self, closeness: Floats, batches: int, people: int = 2000) -> None:
        random = np.random.default_rng(SEED)
        alike, self._alike = np.unique(closeness, axis=0, return_inverse=True)
        groups = alike.shape[1]
        counts = np.zeros((len(alike), groups, groups, 2 * HALF), np.int64)
        genuine = []
        for _ in range(batches):
            drawn = draw_embedded(alike, Crowd(people, 2), random)
            genuine.append(drawn.similarities())
            first, who = drawn.vectors[:, ::2], drawn.group[::2]
            for of_system, vectors in zip(counts, first, strict=True):
                found = count_impostors(vectors, np.arange(len(who)), who, parts=1)
                of_system += found.histogram[0]
        self._accepted = counts[..., ::-1].cumsum(axis=-1)[..., ::-1]  # at the edge below each bin
        self._genuine = np.stack(genuine, axis=1)  # (M, batches, pairs)
        self._group = who

    def thresholds(self, fmr: float) -> Floats:
        """The least similarity (M,) at which no more of the pairs within groups are accepted."""
        own = np.einsum("mggb->mb", self._accepted)
        return (np.argmax(own <= fmr * own[:, :1], axis=1) / HALF - 1)[self._alike]

    def rates(self, thresholds: Floats) -> Floats:
        """FMR of the cells and FNMR of the groups (M, C + G) at thresholds (M,), edges of bins."""
        cells = np.triu_indices(self._accepted.shape[1])
        found = []
        for m, at in zip(self._alike.tolist(), thresholds.tolist(), strict=True):
            accepted = self._accepted[m][cells]  # (C, bins)
            missed = (self._genuine[m] < at).mean(axis=0)
            of_groups = np.bincount(self._group, missed) / np.bincount(self._group)
            found.append(np.append(accepted[:, round((at + 1) * HALF)] / accepted[:, 0], of_groups))
        return np.stack(found)
