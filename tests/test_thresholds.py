"""Thresholds for a false match rate: what they accept, how sure they are, and what is recorded."""

import json

import numpy as np
import pytest
from networks import save_teacher, subject
from scipy import stats

import mstkd
from mstkd.artifacts.records import file_sha256
from mstkd.artifacts.told import told_by
from mstkd.config import CalibrationSettings, InputSettings
from mstkd.errors import InputError
from mstkd.evaluation.scores import ScoreTable
from mstkd.inference.calibration import calibrate, calibration_path
from mstkd.inference.written import write_calibration

WHO = {"weights_sha256": "0" * 64, "mirror": True, "seen": InputSettings()}


def table_of(similarity, same, group, people=None):
    """Scored pairs; of independent ones each has two people of its own."""
    pairs = len(similarity)
    if people is None:
        first = 2 * np.arange(pairs)
        people = np.stack([first, np.where(same, first, first + 1)])
    group = np.asarray(group, np.int16)
    return ScoreTable(
        similarity=np.asarray(similarity, float),
        same=np.asarray(same, bool),
        fold=(np.arange(pairs) % 10).astype(np.int16),
        group1=group,
        group2=group,
        groups=tuple("AB"[: group.max() + 1]),
        identity1=people[0].astype(np.int32),
        identity2=people[1].astype(np.int32),
        identities=tuple(map(str, range(int(people.max()) + 1))),
    )


def drawn(random, pairs=4000):
    """Genuine and impostor pairs of two groups; false matches are likelier in the second."""
    same = np.arange(pairs) % 2 == 0
    group = np.arange(pairs) // 2 % 2
    mean = np.where(same, 0.6, np.where(group == 1, 0.1, 0.0))
    return table_of(random.normal(mean, 0.15), same, group)


def at(fmr, table):
    return calibrate(CalibrationSettings(fmr=fmr), table, **WHO)


def test_a_threshold_is_the_lowest_that_accepts_no_more_than_the_target():
    table = drawn(np.random.default_rng(0))
    impostors = table.similarity[~table.same]
    for fmr in (0.005, 0.01, 0.0123, 0.1, 0.5):
        found = at(fmr, table)
        most = fmr * len(impostors)
        assert (impostors >= found.threshold).sum() <= most + 1e-9
        assert (impostors >= np.nextafter(found.threshold, -1)).sum() > most
        assert found.threshold_low <= found.threshold <= found.threshold_high


def test_ties_are_refused_together():
    similarity = np.repeat([0.9, 0.5, 0.1], [10, 30, 160])
    table = table_of(np.tile(similarity, 2), np.repeat([False, True], 200), np.zeros(400, int))
    assert at(0.05, table).threshold > 0.5
    assert at(0.05, table).together.fmr.value == pytest.approx(10 / 200)
    assert at(0.19, table).threshold > 0.5
    assert 0.1 < at(0.2, table).threshold <= 0.5


def test_rates_are_those_of_counting_at_the_threshold():
    table = drawn(np.random.default_rng(1))
    found = at(0.05, table)
    accepted = table.similarity >= found.threshold
    for name, chosen in (("A", table.group1 == 0), ("B", table.group1 == 1), ("", table.fold >= 0)):
        errors = found.groups[name] if name else found.together
        impostors, genuine = chosen & ~table.same, chosen & table.same
        assert errors.fmr.value == pytest.approx(accepted[impostors].mean())
        assert errors.fnmr.value == pytest.approx(1 - accepted[genuine].mean())
        assert (errors.fmr.pairs, errors.fnmr.pairs) == (impostors.sum(), genuine.sum())
        # Of independent pairs the interval is Wilson's own.
        z, n, p = stats.norm.ppf(0.975), impostors.sum(), accepted[impostors].mean()
        half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        assert errors.fmr.low == pytest.approx(centre - half, rel=0.02)
        assert errors.fmr.high == pytest.approx(centre + half, rel=0.02)
    assert found.groups["A"].fmr.value < 0.05 < found.groups["B"].fmr.value


def test_a_rate_of_few_errors_is_no_number():
    table = drawn(np.random.default_rng(2))
    found = at(0.005, table)
    assert found.groups["A"].fmr.value is None
    assert found.groups["A"].fmr.note.startswith("insufficient: ")
    assert found.together.fmr.value == pytest.approx(0.005)


def test_too_few_impostor_pairs_set_no_threshold():
    table = drawn(np.random.default_rng(3))
    with pytest.raises(InputError) as error:
        at(0.004, table)
    assert str(error.value) == (
        "an FMR of 0.004: found 2,000 impostor pairs, of which 8 would match; "
        "expected 2,500, for 10 false matches"
    )
    with pytest.raises(InputError, match="expected 12,346, for 10"):
        at(0.00081, table)


def test_pairs_across_groups_have_no_say():
    table = drawn(np.random.default_rng(4))
    expected = at(0.05, table)
    strange = table_of([0.99] * 100, [False] * 100, [0] * 100)
    mixed = ScoreTable(
        similarity=np.append(table.similarity, strange.similarity),
        same=np.append(table.same, strange.same),
        fold=np.append(table.fold, strange.fold),
        group1=np.append(table.group1, np.zeros(100, np.int16)),
        group2=np.append(table.group2, np.ones(100, np.int16)),
        groups=table.groups,
        identity1=np.append(table.identity1, strange.identity1),
        identity2=np.append(table.identity2, strange.identity2),
        identities=table.identities,
    )
    assert at(0.05, mixed) == expected


@pytest.mark.parametrize("shared", [False, True], ids=["independent", "people in many pairs"])
def test_the_interval_holds_the_true_threshold_as_often_as_it_says(shared):
    """At 95 % it misses in 5 of 100; of 200, within what chance allows."""
    random = np.random.default_rng(5)
    fmr, missed, runs = 0.05, 0, 200
    pairs, persons = 1200, 120
    same = np.arange(pairs) % 2 == 0
    # A person's own shift makes that person's pairs err together.
    shift = 0.08 if shared else 0.0
    truth = stats.norm.isf(fmr, 0, np.hypot(0.15, np.sqrt(2) * shift))
    for _ in range(runs):
        people = None
        moved = np.zeros(pairs)
        if shared:
            first = random.integers(0, persons, pairs)
            second = np.where(same, first, (first + random.integers(1, persons, pairs)) % persons)
            people, of_person = np.stack([first, second]), random.normal(0, shift, persons)
            moved = np.where(same, 0, of_person[first] + of_person[second])
        similarity = random.normal(np.where(same, 0.6, 0.0), 0.15) + moved
        found = at(fmr, table_of(similarity, same, np.zeros(pairs, int), people))
        missed += not found.threshold_low <= truth <= found.threshold_high
    assert stats.binom.cdf(1, runs, 0.05) < 0.01  # or the least that is asked for says nothing
    assert 2 <= missed <= stats.binom.ppf(0.999, runs, 0.05)


# ---------------------------------------------------------------- what is recorded


@pytest.fixture
def weights(tmp_path, packs):
    return save_teacher(tmp_path, subject("T-A"), packs)


def calibrated(weights, verification_packs, **options):
    model = mstkd.load(weights, device="cpu", **options)
    return write_calibration(model, verification_packs[0].parent, fmr=0.9)


def test_a_model_decides_by_its_recorded_threshold(weights, verification_packs):
    found, path = calibrated(weights, verification_packs)
    assert path == weights.with_name("model.calibration.json")
    model = mstkd.load(weights, device="cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    told = model.verify(*pixels)
    assert told.threshold == found.threshold
    assert told.same == (told.similarity >= found.threshold)
    assert set(told.errors) == {"A", "B"}
    assert told.errors == found.groups
    # A threshold that is given has no recorded rates.
    assert model.verify(*pixels, threshold=0.1).errors == {}
    made = told_by(path)
    assert made.unchanged is True
    assert made.made.step == "calibrate"
    assert made.made.settings == {"recipe": 1, "fmr": 0.9}
    assert file_sha256(weights) in {one.sha256 for one in made.made.sources}


def test_a_threshold_of_other_weights_or_another_use_is_refused(weights, tmp_path, packs):
    pixels = np.zeros((2, 16, 16, 3), np.uint8)
    other = save_teacher(tmp_path / "other", subject("T-A"), packs, weights_seed=7)
    found = at(0.05, drawn(np.random.default_rng(6)))
    for weights_of, mirror, message in (
        (other, True, "found a calibration of other weights; expected .* rm "),
        (weights, False, r"found mirror=False, rgb, -1..1; expected mirror=True, rgb, -1..1, as"),
    ):
        record = found.model_copy(
            update={"weights_sha256": file_sha256(weights_of), "mirror": mirror}
        )
        record.write(calibration_path(weights))
        model = mstkd.load(weights, device="cpu")
        with pytest.raises(InputError, match=message):
            model.verify(*pixels)
        model.embed(pixels)  # for which no threshold is needed
    record.write(calibration_path(weights))
    assert mstkd.load(weights, mirror=False, device="cpu").verify(*pixels).threshold is not None


def test_an_edited_threshold_is_refused(weights, verification_packs):
    _, path = calibrated(weights, verification_packs)
    told = json.loads(path.read_text())
    told["threshold"] = 0.0
    path.write_text(json.dumps(told))
    with pytest.raises(InputError, match="found other contents than were written"):
        mstkd.load(weights, device="cpu").calibration()
