"""Shares of teachers by group of the face, with intervals: identities are the unit.

A share is a mean over faces or pairs, whose covariance is that of `uncertainty.group_rates`, or a
ratio of such means, whose variance follows by the delta method; intervals are Student's, for as
many identities less one. Arrays in, arrays out, and the records of what was traced.

Shapes: N faces, P pairs, C components (the teachers and what is no teacher's).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mstkd import __version__
from mstkd.artifacts.records import Provenance, Record, SealedRecord
from mstkd.evaluation.intervals import Interval
from mstkd.evaluation.uncertainty import CONFIDENCE, group_rates

Floats = NDArray[np.float64]

Measure = Literal["embedding", "genuine", "impostor", "separation"]
Method = Literal["projection", "Shapley"]
NO_TEACHER = "none"  # the component that is no teacher's


class Share(Record):
    """What one teacher gives to the fused embeddings of a group's faces."""

    adaptor: str
    measure: Measure
    method: Method
    group: str  # of the face
    teacher: str  # or "none": of biases, or of what is there when every teacher is absent
    # A fraction; of genuine and impostor pairs a part of the mean cosine. None where genuine pairs
    # are no more alike than impostor pairs, so that nothing separates them.
    value: float | None
    low: float | None
    high: float | None


class Tracing(SealedRecord):
    """tracing.json: shares of the teachers in the fused spaces of a set's adaptors."""

    format: Literal["mstkd-tracing"] = "mstkd-tracing"
    backbone: str  # of the teachers
    set: str
    seed: int
    groups: list[str]
    teachers: list[str]  # in block order
    adaptors: list[str]
    faces: dict[str, int]  # by group
    identities: dict[str, int]
    pairs: dict[str, int]
    absent: str  # what stands in the block of a teacher that is not there
    shares: list[Share]
    confidence: float = CONFIDENCE
    provenance: Provenance | None = None
    package_version: str = __version__


Shares = dict[str, float]  # by teacher; "none" for what is no teacher's


class TracedImage(Record):
    """Whose the fused embedding of an image is; fractions that sum to 1."""

    image: str
    projection: Shares
    shapley: Shares | None  # None of more teachers than have subsets few enough


class TracedPair(Record):
    """Whose the similarity of two images is; parts that sum to it."""

    similarity: float  # cosine in the fused space
    projection: Shares
    shapley: Shares | None


class TracedImages(SealedRecord):
    """What `mstkd trace` found."""

    format: Literal["mstkd-traced-images"] = "mstkd-traced-images"
    adaptor: str
    teachers: list[str]  # in block order
    absent: str  # what stands in the block of a teacher that is not there
    images: list[TracedImage]
    pair: TracedPair | None  # of two images
    package_version: str = __version__


def mean_shares(shares: ArrayLike, identity: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Means (C,) over faces.

    Args:
        shares: (N, C), of each face.
        identity: (N,), whole numbers.
        confidence: of each interval.
    """
    people = np.asarray(identity)
    means = _Means(shares, np.zeros_like(people), people, people)
    return means.interval(means.values[:, 0], np.eye(len(means.values)), confidence)


class PairShares:
    """Of the pairs of one group, what each component gives to their similarity.

    Args:
        shares: (P, C), the terms of each pair's similarity.
        same: (P,), True for genuine pairs.
        identity1: (P,), whole numbers.
        identity2: (P,).
    """

    def __init__(
        self, shares: ArrayLike, same: ArrayLike, identity1: ArrayLike, identity2: ArrayLike
    ) -> None:
        kind = np.asarray(same).astype(np.int64)
        self._means = _Means(shares, kind, np.asarray(identity1), np.asarray(identity2))

    def of(self, measure: Measure, confidence: float = CONFIDENCE) -> Interval:
        """Components (C,) of the mean similarity of genuine or of impostor pairs; or of what lies
        between these means, as fractions of it: NaN where that is nothing, or less.
        """
        means, own = self._means, np.eye(len(self._means.values), dtype=np.float64)
        if measure != "separation":
            kind = np.array([measure == "impostor", measure == "genuine"], np.float64)
            return means.interval(
                means.values @ kind, np.kron(own, kind).astype(np.float64), confidence
            )
        kind = np.array([-1.0, 1.0])
        apart = means.values @ kind  # (C,)
        if apart.sum() <= 0:
            return Interval(*np.full((3, len(apart)), np.nan))
        shares = apart / apart.sum()
        slopes: Floats = (own - shares[:, None]) / apart.sum()  # of a ratio of sums
        return means.interval(shares, np.kron(slopes, kind).astype(np.float64), confidence)


class _Means:
    """Means (C, G) of values (P, C) of groups, and how sure sums of them are."""

    def __init__(
        self,
        values: ArrayLike,
        group: NDArray[Any],
        identity1: NDArray[Any],
        identity2: NDArray[Any],
    ) -> None:
        rows = np.asarray(values, np.float64).T
        least, width = rows.min(axis=1), np.ptp(rows, axis=1)
        width[width == 0] = 1.0
        # `group_rates` is of numbers from 0 to 1.
        found = group_rates((rows - least[:, None]) / width[:, None], group, identity1, identity2)
        self.values: Floats = found.rates * width[:, None] + least[:, None]
        scale = np.repeat(width, self.values.shape[1])
        self._covariances = [
            np.multiply.outer(scale, scale) * one.reshape(len(scale), -1)
            for one in (found.covariance, found.independent)
        ]
        self._people = len(np.union1d(identity1, identity2))

    def interval(self, values: Floats, weights: Floats, confidence: float) -> Interval:
        """Of sums (H,) that weigh the means so, (H, C * G)."""
        shared, independent = (
            np.einsum("hc,cd,hd->h", weights, one, weights) for one in self._covariances
        )
        # Of few people, what impostor pairs count twice may leave nothing, or less.
        variances = np.where(shared > 0, shared, independent)
        quantile = special.stdtrit(max(self._people - 1, 1), 0.5 + confidence / 2)
        half = quantile * np.sqrt(np.maximum(variances, 0))
        return Interval(values, values - half, values + half)
