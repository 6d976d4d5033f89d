"""All impostor pairs among embedded images: every two images of two identities, group by group.

A list of pairs has a few thousand impostor pairs a group, which no FMR below 1e-2 can rest on; the
images it names make some ten thousand times as many. Their similarities are counted block by block
and never kept. Shapes: M systems on the same images, N images, D embedding dimension, G groups, S
parts, T thresholds, U units (a person's images in one group).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Advance = Callable[[int], None]

HALF = 1 << 13  # bins of the histogram to either side of similarity 0
ROWS = 1024  # images of a block, which has 4 MB of similarities then; more only of one person
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


@dataclass(frozen=True, eq=False)
class FalseMatches:
    """False matches by person, from which it follows how far they are chance of who was tested.

    `person` and `group` int64 (U,) are those of each unit. `matches` int64 (M, U, G): pairs of its
    images with images of others in each group that a system accepts; `pairs` (U, G): all of them.
    Over every two people, by their groups (G, G), symmetric: `squares` (M, M, G, G), the sum of
    their matches by one system times those by another; `products` (M, G, G), of their matches times
    their pairs; `sizes` (G, G), of the squares of their pairs.
    """

    person: Integers
    group: Integers
    matches: Integers
    pairs: Integers
    squares: Integers
    products: Integers
    sizes: Integers


def count_impostors(
    embeddings: ArrayLike,
    identity: ArrayLike,
    group: ArrayLike,
    *,
    thresholds: Sequence[float] = (),
    parts: int = 2,
    advance: Advance | None = None,
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
        advance: is told of the pairs of images that were seen, N (N - 1) / 2 in all.

    Raises:
        ValueError: shapes that differ, an embedding that is zero or not finite, or fewer than one
            part.
    """
    images = _Images(embeddings, identity, group)
    if parts < 1:
        raise ValueError("fewer than one part")
    part = _dealt(images.person, images.group, parts)
    count = images.groups
    limits = np.asarray(thresholds, np.float64)
    histogram = np.zeros((parts + 1, count, count, 2 * HALF), np.int64)
    matches = np.zeros((len(limits), count, count), np.int64)
    for block in images.blocks(part, parts, advance):
        a, b = block.groups
        for t, limit in enumerate(limits.tolist()):
            matches[t, a, b] += np.count_nonzero(block.cosines >= limit)
        histogram[block.part, a, b] += _binned(block.cosines)
    for counts in (histogram, matches[..., None]):
        counts[...] = _symmetric(counts.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    pairs = histogram.sum(axis=(0, 3))
    return ImpostorCounts(pairs, limits, matches, part, histogram)


def false_matches(
    embeddings: Sequence[ArrayLike],
    identity: ArrayLike,
    group: ArrayLike,
    *,
    part: ArrayLike,
    levels: ArrayLike,
    advance: Advance | None = None,
) -> list[FalseMatches]:
    """Count the accepted pairs of every person by M systems at each of L levels of thresholds.

    The systems' blocks are looked at side by side, so that what they accept alike is counted too.
    Memory, time and arguments are those of `count_impostors` for each, where not told.

    Args:
        embeddings: (N, D) of each system.
        identity: (N,).
        group: (N,).
        part: (N,), of `ImpostorCounts`.
        levels: (L, M, S + 1), the least similarity that each system accepts of pairs within each
            part and, last, across parts; nan where such pairs do not count.
        advance: as `count_impostors`, for each system.

    Raises:
        ValueError: as `count_impostors`.
    """
    systems = [_Images(one, identity, group) for one in embeddings]
    parts, limits, images = np.asarray(part), np.asarray(levels, np.float64), systems[0]
    units, count = images.units(parts), len(systems)
    people = len(units.person)
    shape = (len(limits), count, images.groups, images.groups)
    matches = np.zeros((len(limits), count, people, images.groups), np.int64)
    squares = np.zeros((len(limits), count, *shape[1:]), np.int64)
    products = np.zeros(shape, np.int64)
    found = (one.blocks(parts, limits.shape[2] - 1, advance) for one in systems)
    for blocks in zip(*found, strict=True):
        a, b = blocks[0].groups
        rows, columns = (units.of_image[one] for one in (blocks[0].rows, blocks[0].columns))
        for level, limit in enumerate(limits[:, :, blocks[0].part].tolist()):
            if np.isnan(limit).any():
                continue
            of_two = []
            for m, (block, least) in enumerate(zip(blocks, limit, strict=True)):
                first, second = np.nonzero(block.cosines >= least)
                first, second = rows[first], columns[second]
                matches[level, m, :, b] += np.bincount(first, minlength=people)
                matches[level, m, :, a] += np.bincount(second, minlength=people)
                products[level, m, a, b] += units.images[first] @ units.images[second]
                of_two.append(first * people + second)
            # A person's images stand in one block, and so do the pairs of every two.
            squares[level, :, :, a, b] += _together(of_two)
    squares, products = _symmetric(squares), _symmetric(products)
    return [
        FalseMatches(
            units.person,
            units.group,
            matches=matches[level],
            pairs=units.pairs(~np.isnan(limits[level, 0])),
            squares=squares[level],
            products=products[level],
            sizes=units.sizes(~np.isnan(limits[level, 0])),
        )
        for level in range(len(limits))
    ]


def _together(codes: Sequence[Integers]) -> Integers:
    """Sums (M, M) over all codes of how often it stands in one sequence times in another."""
    system = np.repeat(np.arange(len(codes)), [len(one) for one in codes])
    names, place = np.unique(np.concatenate(codes), return_inverse=True)
    ones = np.ones(len(system), np.int64)
    table = sparse.csr_array((ones, (system, place)), shape=(len(codes), len(names)))
    found: Integers = (table @ table.T).toarray()
    return found


class _Block(NamedTuple):
    """Similarities of images of one group and part with images of one group and part."""

    rows: Integers  # (R,), which images
    columns: Integers  # (C,)
    groups: tuple[int, int]
    part: int  # of both; S where they are of two
    cosines: NDArray[np.float32]  # (R, C), `NO_PAIR` where there is none


class _Images:
    """Embeddings with their persons and groups, as numbers (N,)."""

    def __init__(self, embeddings: ArrayLike, identity: ArrayLike, group: ArrayLike) -> None:
        self._vectors = np.asanyarray(embeddings)
        self.person, self.group = np.asarray(identity), np.asarray(group)
        if self._vectors.ndim != 2 or not (
            self.person.shape == self.group.shape == (len(self._vectors),)
        ):
            shapes = f"{self._vectors.shape}, {self.person.shape} and {self.group.shape}"
            raise ValueError(
                f"embeddings, identity and group of shapes {shapes}, not (N, D), (N,), (N,)"
            )
        if not len(self._vectors) or self.group.min() < 0:
            raise ValueError("no images, or a group below 0")
        self.groups = int(self.group.max()) + 1

    def blocks(self, part: Integers, parts: int, advance: Advance | None) -> Iterator[_Block]:
        """Every two images once, in blocks that split no person."""
        blocks = list(self._parted(part))
        for n, rows in enumerate(blocks):
            first = _unit(self._vectors, rows)
            for columns in blocks[n:]:
                second = first if columns is rows else _unit(self._vectors, columns)
                cosines = first @ second.T
                cosines[self.person[rows][:, None] == self.person[columns]] = NO_PAIR
                if columns is rows:
                    cosines[np.tri(len(rows), dtype=bool)] = NO_PAIR
                at = part[rows[0]] if part[rows[0]] == part[columns[0]] else parts
                groups = int(self.group[rows[0]]), int(self.group[columns[0]])
                yield _Block(rows, columns, groups, int(at), cosines)
                if advance is not None:
                    same = columns is rows
                    advance(len(rows) * (len(rows) - 1) // 2 if same else cosines.size)

    def _parted(self, part: Integers) -> Iterator[Integers]:
        """Images of one group and part, person by person, at most `ROWS` unless one has more."""
        order = np.lexsort((self.person, part, self.group))
        keys = np.stack([self.group, part, self.person])[:, order]
        new = np.any(keys[:, 1:] != keys[:, :-1], axis=0)
        starts = np.append(0, np.flatnonzero(new) + 1)
        ends = np.append(starts[1:], len(order))
        begin = 0
        for n, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            last = n + 1 == len(starts)
            if last or ends[n + 1] - begin > ROWS or (keys[:2, start] != keys[:2, end]).any():
                yield order[begin:end]
                begin = end

    def units(self, part: Integers) -> _Units:
        """The persons of each group."""
        keys = np.stack([self.group, self.person])
        found, first, of_image, images = np.unique(
            keys, axis=1, return_index=True, return_inverse=True, return_counts=True
        )
        person, group = found[1], found[0]
        return _Units(person, group, part[first], images, of_image.ravel(), self.groups)


@dataclass(frozen=True, eq=False)
class _Units:
    """The persons of each group, all (U,), and the unit of each image (N,)."""

    person: Integers
    group: Integers
    part: Integers
    images: Integers
    of_image: Integers
    groups: int

    def _by_person(self, values: Integers, chosen: NDArray[np.bool_]) -> Any:
        """Values of the chosen units as a sparse table of people and groups."""
        number = np.unique(self.person, return_inverse=True)[1]
        places = (number[chosen], self.group[chosen])
        shape = (int(number.max()) + 1, self.groups)
        return sparse.csr_array((values[chosen], places), shape=shape)

    def pairs(self, counts: NDArray[np.bool_]) -> Integers:
        """Pairs of each unit with others in each group (U, G), of the parts that count (S + 1,)."""
        everyone = np.ones(len(self.person), np.bool_)
        number = np.unique(self.person, return_inverse=True)[1]
        own = self._by_person(self.images, everyone).toarray()[number]  # (U, G)
        shape = (len(counts) - 1, self.groups)
        cells = np.ravel_multi_index((self.part, self.group), shape)
        here = np.bincount(cells, self.images, minlength=shape[0] * shape[1]).reshape(shape)
        here = here.astype(np.int64)
        inside, across = here[self.part] - own, here.sum(axis=0) - here[self.part]
        found: Integers = counts[self.part, None] * inside + counts[-1] * across
        return self.images[:, None] * found

    def sizes(self, counts: NDArray[np.bool_]) -> Integers:
        """Sums (G, G) over every two people of their pairs, squared."""

        def of_two(chosen: NDArray[np.bool_]) -> Integers:
            table = self._by_person(np.square(self.images), chosen)
            whole = np.asarray(table.sum(axis=0)).ravel()
            return np.outer(whole, whole) - (table.T @ table).toarray()

        within = np.stack([of_two(self.part == part) for part in range(len(counts) - 1)])
        across = of_two(np.ones(len(self.part), np.bool_)) - within.sum(axis=0)
        found: Integers = within[counts[:-1]].sum(axis=0) + counts[-1] * across
        found[np.diag_indices(self.groups)] //= 2
        return found


def _symmetric(counts: Integers) -> Integers:
    """Counts (..., G, G) of groups in either order together; those within a group stand once."""
    both = counts + counts.swapaxes(-1, -2)
    diagonal = np.arange(counts.shape[-1])
    both[..., diagonal, diagonal] = counts[..., diagonal, diagonal]
    return both


def _dealt(identity: Integers, group: Integers, parts: int) -> Integers:
    """The part (N,) of each image: the identities of a group, in their order, are dealt in turn."""
    names, first, number = np.unique(identity, return_index=True, return_inverse=True)
    home = group[first]  # of an identity in two groups, that of its first image
    part = np.empty(len(names), np.int64)
    for one in np.unique(home):
        own = np.flatnonzero(home == one)
        part[own] = np.arange(len(own)) % parts
    return part[number]


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
