"""What ranks tell each other, against the same on the whole."""

import pytest
import torch

from mstkd.compute.ranks import ALONE, Ranks
from mstkd.errors import InputError


def _talk(ranks):
    mine = torch.arange(4.0).view(2, 2) + 10 * ranks.rank
    gathered = ranks.gather(mine.t())
    total = ranks.add(mine.clone())
    large = torch.arange(9_000_000.0) + ranks.rank  # more than a bucket
    images = torch.full((2, 3, 2, 2), float(ranks.rank)).to(memory_format=torch.channels_last)
    half = torch.full((3,), float(ranks.rank), dtype=torch.float64)
    ranks.average([mine, large, images, half])
    block = torch.arange(7)[slice(*ranks.block(7))]
    return {
        "gathered": gathered,
        "total": total,
        "averages": (mine, large[-1].item(), images, half),
        "largest": ranks.largest(5 - ranks.rank),
        "says": ranks.first_says(0.1 if ranks.is_first else None),
        "silent": ranks.first_says(None if ranks.is_first else 3.0),
        "whole": ranks.whole(block, 7),
    }


def test_all_ranks_hear_the_same(team):
    answers = team.run(_talk)
    size = len(answers)
    mine = [torch.arange(4.0).view(2, 2) + 10 * rank for rank in range(size)]
    mean = (size - 1) / 2
    for answer in answers:
        assert torch.equal(answer["gathered"], torch.cat([one.t() for one in mine]))
        assert torch.equal(answer["total"], sum(mine))
        small, last, images, half = answer["averages"]
        torch.testing.assert_close(small, sum(mine) / size)
        assert last == pytest.approx(8_999_999 + mean, abs=1)
        assert torch.all(images == mean) and torch.all(half == mean)
        assert answer["largest"] == 5
        assert answer["says"] == 0.1
        assert answer["silent"] is None
    assert answers[0]["whole"].tolist() == list(range(7))
    assert all(answer["whole"] is None for answer in answers[1:])


def test_shares_and_blocks_cover_everything_once():
    three = [Ranks(rank, 3) for rank in range(3)]
    assert [list(range(12))[one.share(12)] for one in three] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
    ]
    assert [one.block(7) for one in three] == [(0, 2), (2, 4), (4, 7)]
    with pytest.raises(InputError, match="found 128 for 3 ranks; expected a multiple"):
        three[0].share(128)


def test_alone_nothing_happens():
    values = torch.arange(3.0)
    assert ALONE.gather(values) is values and ALONE.add(values) is values
    ALONE.average([values])
    assert values.tolist() == [0, 1, 2]
    assert (ALONE.largest(4), ALONE.first_says(None), ALONE.share(5)) == (4, None, slice(0, 5))
    assert ALONE.whole(values, 3) is values
