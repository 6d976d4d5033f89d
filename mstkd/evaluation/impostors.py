"""All impostor pairs among embedded images: every two images of two identities, group by group.

A list of pairs has a few thousand impostor pairs a group, which no FMR below 1e-2 can rest on; the
images it names make some ten thousand times as many. Their similarities are counted block by block
and never kept. Shapes: N images, D embedding dimension, G groups, S parts, T thresholds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

HALF = 1 << 13  # bins of the histogram to either side of similarity 0
ROWS = 1024  # images of a block, which has 4 MB of similarities then
NO_PAIR = -4.0  # below every cosine


@dataclass(frozen=True, eq=False)
class ImpostorCounts:
    """Impostor pairs by the groups of their images (symmetric), and by similarity.

    `pairs` int64 (G, G) and `matches` int64 (T, G, G): all, and those whose similarity is at least
    each of `thresholds` (T,). `part` int64 (N,): the images, parted by identity. `histogram` int64
    (S + 1, G, G, B): the pairs within each part and, last, those across parts, in B equal bins from
    -1 to 1.
    """

    pairs: Integers
    thresholds: Floats
    matches: Integers
    part: Integers
    histogram: Integers

    @property
    def fmr(self) -> Floats:
        """FMR between any two groups at the given thresholds (T, G, G), nan where no pairs are.

        The matrix of NIST's reports on demographics (NISTIR 8280).
        """
        with np.errstate(invalid="ignore"):
            return self.matches / self.pairs

    def at_fmr(self, fmr: float) -> AtFmr:
        """Thresholds at a global FMR, and the FMR between any two groups there.

        Each part's threshold is the lowest edge of a bin at which the pairs within groups of the
        other parts have at most that FMR, so that no pair has a say in its own; pairs across
        parts, which share a person with both, count in neither.

        Raises:
            ValueError: an FMR outside 0 to 1, one part only, or no pairs within groups.
        """
        if not 0 <= fmr <= 1:
            raise ValueError(f"an FMR of {fmr}, outside 0 to 1")
        within = self.histogram[:-1]  # (S, G, G, B)
        parts, groups, _, bins = within.shape
        if parts < 2:
            raise ValueError("one part only, so no other to set a threshold on")
        diagonal = np.arange(groups)
        own = within[:, diagonal, diagonal].sum(axis=1)  # (S, B)
        others = own.sum(axis=0) - own
        accepted = np.zeros((parts, bins + 1), np.int64)  # at the edge below each bin
        accepted[:, :-1] = others[:, ::-1].cumsum(axis=1)[:, ::-1]
        if not accepted[:, 0].all():
            raise ValueError("no impostor pairs within groups to set a threshold on")
        edge = np.argmax(accepted / accepted[:, :1] <= fmr, axis=1)  # (S,), the lowest
        taken = sum(part[..., at:].sum(axis=-1) for part, at in zip(within, edge, strict=True))
        with np.errstate(invalid="ignore"):
            matrix = taken / within.sum(axis=(0, 3))
        return AtFmr(edge / HALF - 1, matrix, int(accepted[:, 0].min()))


class AtFmr(NamedTuple):
    """Where a global FMR holds."""

    thresholds: Floats  # (S,), of the pairs within each part
    matrix: Floats  # (G, G), the FMR between groups; nan where no pairs are
    pairs: int  # that the threshold with the fewest rests on


def count_impostors(
    embeddings: ArrayLike,
    identity: ArrayLike,
    group: ArrayLike,
    *,
    thresholds: Sequence[float] = (),
    parts: int = 2,
) -> ImpostorCounts:
    """Count all pairs of images of two identities by their groups and their cosine.

    Similarities are of single precision (7 digits). Beside the embeddings, which may be a memory
    map, no more is kept than two blocks of images, one of similarities and the counts.

    Args:
        embeddings: (N, D), of any length above zero.
        identity: (N,), whole numbers; one person has one number in all groups.
        group: (N,), whole numbers 0 to G - 1.
        thresholds: similarities to count the pairs at or above of.
        parts: into how many the identities of each group are dealt in turn.

    Raises:
        ValueError: shapes that differ, an embedding that is zero or not finite, or fewer than one
            part.
    """
    vectors = np.asanyarray(embeddings)
    persons, groups = np.asarray(identity), np.asarray(group)
    if vectors.ndim != 2 or not persons.shape == groups.shape == (len(vectors),):
        shapes = f"{vectors.shape}, {persons.shape} and {groups.shape}"
        raise ValueError(
            f"embeddings, identity and group of shapes {shapes}, not (N, D), (N,), (N,)"
        )
    if not len(vectors) or groups.min() < 0 or parts < 1:
        raise ValueError("no images, a group below 0, or fewer than one part")
    part = _dealt(persons, groups, parts)
    count = int(groups.max()) + 1
    limits = np.asarray(thresholds, np.float64)
    histogram = np.zeros((parts + 1, count, count, 2 * HALF), np.int64)
    matches = np.zeros((len(limits), count, count), np.int64)
    blocks = list(_blocks(groups, part))
    for n, rows in enumerate(blocks):
        first = _unit(vectors, rows)
        for columns in blocks[n:]:
            second = first if columns is rows else _unit(vectors, columns)
            cosines = first @ second.T
            cosines[persons[rows][:, None] == persons[columns]] = NO_PAIR
            if columns is rows:
                cosines[np.tri(len(rows), dtype=bool)] = NO_PAIR
            a, b = groups[rows[0]], groups[columns[0]]
            at = part[rows[0]] if part[rows[0]] == part[columns[0]] else parts
            for t, limit in enumerate(limits.tolist()):
                matches[t, a, b] += np.count_nonzero(cosines >= limit)
            histogram[at, a, b] += _binned(cosines)
    for counts in (histogram, matches[..., None]):
        # A block is of groups a and b or of b and a; pairs within a group stand there once.
        both = counts + counts.swapaxes(1, 2)
        diagonal = np.arange(count)
        both[:, diagonal, diagonal] = counts[:, diagonal, diagonal]
        counts[...] = both
    pairs = histogram.sum(axis=(0, 3))
    return ImpostorCounts(pairs, limits, matches, part, histogram)


def _dealt(identity: Integers, group: Integers, parts: int) -> Integers:
    """The part (N,) of each image: the identities of a group, in their order, are dealt in turn."""
    names, first, number = np.unique(identity, return_index=True, return_inverse=True)
    home = group[first]  # of an identity in two groups, that of its first image
    part = np.empty(len(names), np.int64)
    for one in np.unique(home):
        own = np.flatnonzero(home == one)
        part[own] = np.arange(len(own)) % parts
    return part[number]


def _blocks(group: Integers, part: Integers) -> Iterator[Integers]:
    """Rows of images of one group and part each, at most `ROWS`."""
    order = np.lexsort((part, group))
    ends = np.flatnonzero(np.diff(group[order]) | np.diff(part[order])) + 1
    for rows in np.split(order, ends):
        yield from np.array_split(rows, -(-len(rows) // ROWS))


def _unit(vectors: NDArray[np.generic], rows: Integers) -> NDArray[np.float32]:
    """Embeddings of unit length (R, D)."""
    chosen = vectors[rows].astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(chosen, axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise ValueError("an embedding is not finite")
    if not lengths.all():
        raise ValueError("an embedding is zero and has no direction")
    return chosen / lengths


def _binned(cosines: NDArray[np.float32]) -> Integers:
    """How many lie in each bin; the argument is overwritten."""
    cosines *= HALF  # exact, and so a cosine at an edge lies in the bin above
    np.floor(cosines, out=cosines)
    cosines += HALF + 1
    np.clip(cosines, 0, 2 * HALF, out=cosines)  # 0: no pair; rounding may exceed 1
    return np.bincount(cosines.astype(np.int64).ravel(), minlength=2 * HALF + 1)[1:]
