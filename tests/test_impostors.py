"""All impostor pairs, counted in blocks, against a plain double loop over images."""

import itertools
import tracemalloc

import numpy as np
import pytest

from mstkd.evaluation import impostors
from mstkd.evaluation.impostors import count_impostors, false_matches


def images(seed=0, count=60, dim=6):
    """Embeddings of some 25 identities in three groups, one identity in two of them."""
    random = np.random.default_rng(seed)
    identity = random.integers(0, 25, count)
    group = identity % 3
    group[np.flatnonzero(identity == 4)[:1]] = 0
    return random.normal(size=(count, dim)) * 10, identity * 7, group


def every_pair(embeddings, identity, group):
    """Groups (low, high), rows and cosine of each pair of two identities."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    for one, other in itertools.combinations(range(len(unit)), 2):
        if identity[one] != identity[other]:
            groups = sorted((group[one], group[other]))
            yield groups, (one, other), float(unit[one] @ unit[other])


@pytest.mark.parametrize("rows", [7, 1024])
def test_counts_by_loops(rows, monkeypatch):
    monkeypatch.setattr(impostors, "ROWS", rows)
    embeddings, identity, group = images()
    limits = [-0.5, 0.0, 0.31]
    counts = count_impostors(embeddings, identity, group, thresholds=limits)
    pairs, matches = np.zeros((3, 3), int), np.zeros((3, 3, 3), int)
    histogram = np.zeros_like(counts.histogram)
    for (a, b), (one, other), cosine in every_pair(embeddings, identity, group):
        same_part = counts.part[one] == counts.part[other]
        place = counts.part[one] if same_part else 2
        for x, y in {(a, b), (b, a)}:
            pairs[x, y] += 1
            matches[:, x, y] += [cosine >= limit for limit in limits]
            histogram[place, x, y, int(np.floor((cosine + 1) * impostors.HALF))] += 1
    assert (counts.pairs == pairs).all() and (counts.matches == matches).all()
    # A cosine near an edge may fall into the next bin, for it has seven digits.
    off = (counts.histogram != histogram).sum()
    assert off <= 4 and (counts.histogram.sum(axis=3) == histogram.sum(axis=3)).all()
    np.testing.assert_array_equal(counts.fmr, matches / pairs)


def test_persons_are_in_one_part_and_parts_are_even_in_every_group():
    _, identity, group = images(count=500)
    counts = count_impostors(
        np.random.default_rng(0).normal(size=(500, 3)), identity, group, parts=3
    )
    for person in np.unique(identity):
        assert len(np.unique(counts.part[identity == person])) == 1
    for one in range(3):
        persons = np.unique(identity[group == one])
        sizes = np.bincount([counts.part[identity == person][0] for person in persons])
        assert np.ptp(sizes) <= 2


def test_rates_at_a_global_fmr_by_loops():
    embeddings, identity, group = images(count=150)
    counts = count_impostors(embeddings, identity, group)
    found = counts.at_fmr(0.05)
    every = list(every_pair(embeddings, identity, group))
    within = [[], []]  # cosines within a group, by part
    for (a, b), (one, other), cosine in every:
        if a == b and counts.part[one] == counts.part[other]:
            within[counts.part[one]].append(cosine)
    assert found.pairs == min(map(len, within))
    for part in (0, 1):
        threshold, others = found.thresholds[part], np.array(within[1 - part])
        assert (
            np.mean(others >= threshold) <= 0.05 < np.mean(others >= threshold - 1 / impostors.HALF)
        )
    for a, b in itertools.combinations_with_replacement(range(3), 2):
        judged = [
            cosine >= found.thresholds[counts.part[one]]
            for groups, (one, other), cosine in every
            if groups == [a, b] and counts.part[one] == counts.part[other]
        ]
        assert found.matrix[a, b] == found.matrix[b, a] == np.mean(judged)


def test_memory_is_a_few_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(impostors, "ROWS", 128)
    monkeypatch.setattr(impostors, "HALF", 256)
    count = 2500
    on_disk = np.memmap(tmp_path / "vectors", np.float16, "w+", shape=(count, 16))
    on_disk[:] = np.random.default_rng(0).normal(size=on_disk.shape)
    identity, group = np.arange(count) // 3, np.arange(count) % 2
    tracemalloc.start()
    counts = count_impostors(on_disk, identity, group, thresholds=[0.5])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counts.pairs.trace() + counts.pairs[0, 1] == count * (count - 1) // 2 - (count - 1)
    assert peak < 2_000_000  # all similarities would take 25 MB


def test_faults():
    embeddings, identity, group = images()
    with pytest.raises(ValueError, match=r"shapes \(60, 6\), \(59,\) and \(60,\)"):
        count_impostors(embeddings, identity[1:], group)
    with pytest.raises(ValueError, match="a group below 0"):
        count_impostors(embeddings, identity, group - 1)
    for value, message in ((np.nan, "not finite"), (0, "zero and has no direction")):
        wrong = embeddings.copy()
        wrong[3] = value
        with pytest.raises(ValueError, match=message):
            count_impostors(wrong, identity, group)
    counts = count_impostors(embeddings, identity, group, parts=1)
    with pytest.raises(ValueError, match="one part only"):
        counts.at_fmr(0.1)
    with pytest.raises(ValueError, match="an FMR of 2"):
        counts.at_fmr(2)
    with pytest.raises(ValueError, match="no impostor pairs within groups"):
        count_impostors(embeddings[:3], [0, 1, 2], [0, 1, 2]).at_fmr(0.1)


# ---------------------------------------------------------------- by person


@pytest.mark.parametrize("rows", [7, 1024])
@pytest.mark.parametrize(
    "level", [(0.2, 0.2, 0.2), (0.1, 0.3, np.nan), (np.nan, 0.0, 0.2)], ids=str
)
def test_false_matches_of_each_person_by_loops(rows, level, monkeypatch):
    monkeypatch.setattr(impostors, "ROWS", rows)
    embeddings, identity, group = images(count=90)
    part = count_impostors(embeddings, identity, group).part
    [found] = false_matches([embeddings], identity, group, part=part, levels=[[level]])
    matches, pairs = ({}, {})
    of_two = {}  # matches and pairs of two people, by the cell of their groups
    for _, (one, other), cosine in every_pair(embeddings, identity, group):
        limit = level[part[one]] if part[one] == part[other] else level[2]
        if np.isnan(limit):
            continue
        for a, b in ((one, other), (other, one)):
            key = identity[a], group[a], group[b]
            pairs[key] = pairs.get(key, 0) + 1
            matches[key] = matches.get(key, 0) + (cosine >= limit)
        ends = tuple(sorted([(group[one], identity[one]), (group[other], identity[other])]))
        count = of_two.setdefault(ends, [0, 0])
        count[0] += cosine >= limit
        count[1] += 1
    for unit, (person, own) in enumerate(zip(found.person, found.group, strict=True)):
        for other in range(3):
            key = person, own, other
            assert found.matches[0, unit, other] == matches.get(key, 0)
            assert found.pairs[unit, other] == pairs.get(key, 0)
    for a, b in itertools.product(range(3), repeat=2):
        cell = [
            count for ((g, _), (h, _)), count in of_two.items() if sorted((g, h)) == sorted((a, b))
        ]
        m, n = np.array(cell).T
        assert found.squares[0, 0, a, b] == (m * m).sum()
        assert found.products[0, a, b] == (m * n).sum()
        assert found.sizes[a, b] == (n * n).sum()


def test_progress_is_told_of_every_two_images():
    embeddings, identity, group = images(count=70)
    seen = []
    counts = count_impostors(embeddings, identity, group, advance=seen.append)
    given = {"part": counts.part, "levels": [[[0.1, 0.1, 0.1]]], "advance": seen.append}
    false_matches([embeddings], identity, group, **given)
    assert sum(seen) == 2 * (70 * 69 // 2)
