"""Many systems under the protocol: the numbers of one alone, and their joint covariance."""

import sys
from pathlib import Path

import numpy as np
import pytest

from mstkd.evaluation.measures import fold_accuracies
from mstkd.evaluation.protocol import protocol_rates, rates_of_tables
from mstkd.evaluation.scores import ScoreTable

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from _verification_sets import DEMO, draw_pairs, draw_similarities, models_of


@pytest.fixture(scope="module")
def scored():
    random = np.random.default_rng(3)
    pairs = draw_pairs(DEMO, random)
    models = models_of([(90, 91, 92, 93), (88, 95, 90, 91)], 0.05)
    return pairs, draw_similarities(models, pairs, random)


def columns(pairs):
    return pairs.same, pairs.fold, pairs.group, pairs.identity1, pairs.identity2


@pytest.mark.parametrize("threshold", ["own", "shared"])
@pytest.mark.parametrize("scale", [1, 7])  # cosines, and scores that are none
def test_each_system_has_the_numbers_it_has_alone(scored, threshold, scale):
    pairs, similarity = scored
    odd = np.stack([similarity[0], scale * similarity[1]])
    found = protocol_rates(odd, *columns(pairs), threshold=threshold)
    for row, rates in zip(odd, found.rates, strict=True):
        alone = fold_accuracies(row, pairs.same, pairs.fold, pairs.group, threshold=threshold)
        np.testing.assert_allclose(1 - rates, alone.groups, rtol=0, atol=1e-12)


def test_a_fold_without_pairs_of_a_group_counts_for_the_others_alone(scored):
    pairs, similarity = scored
    kept = (pairs.group != 1) | (pairs.fold > 1)
    some = [column[kept] for column in columns(pairs)]
    found = protocol_rates(similarity[:, kept], *some, threshold="own")
    alone = fold_accuracies(similarity[0, kept], *some[:3]).groups
    np.testing.assert_allclose(1 - found.rates[0], alone, rtol=0, atol=1e-12)
    assert np.isfinite(found.covariance).all()


def test_a_threshold_of_each_group_moves_no_other(scored):
    pairs, similarity = scored
    own, shared = (
        protocol_rates(similarity, *columns(pairs), threshold=one).covariance
        for one in ("own", "shared")
    )
    # Groups share no identities here, so all that two have in common are thresholds.
    assert own[0, 0, 0, 1] == 0 != shared[0, 0, 0, 1]


def test_two_folds_have_no_noise_of_thresholds(scored):
    pairs, similarity = scored
    halves = pairs._replace(fold=pairs.fold % 2)
    found = protocol_rates(similarity, *columns(halves), threshold="own")
    assert (found.variances > 0).all()
    with pytest.raises(ValueError, match="one fold only"):
        protocol_rates(similarity, *columns(pairs._replace(fold=0 * pairs.fold)), threshold="own")


def test_of_tables_the_pairs_within_groups_count(scored):
    pairs, similarity = scored
    across = np.arange(len(pairs.same)) % 7 == 0
    tables = [
        ScoreTable(
            similarity=row,
            same=pairs.same,
            fold=pairs.fold.astype(np.int16),
            group1=pairs.group.astype(np.int16),
            group2=np.where(across, (pairs.group + 1) % 4, pairs.group).astype(np.int16),
            groups=("A", "B", "C", "D"),
            identity1=pairs.identity1.astype(np.int32),
            identity2=pairs.identity2.astype(np.int32),
            identities=tuple(map(str, range(pairs.identity1.max() + 1))),
        )
        for row in similarity
    ]
    inside = [column[~across] for column in columns(pairs)]
    found, wanted = (
        rates_of_tables(tables, "shared"),
        protocol_rates(similarity[:, ~across], *inside, threshold="shared"),
    )
    np.testing.assert_array_equal(found.covariance, wanted.covariance)
