"""The paper's claims: of built experiments whose answer is known, and of the published rows."""

import itertools

import numpy as np
import pytest
from scipy import stats

from mstkd.artifacts.records import Subject
from mstkd.evaluation.claims import judge
from mstkd.evaluation.contrasts import holm
from mstkd.evaluation.uncertainty import GroupRates, binomial_rates
from mstkd.report.paper import (
    PUBLISHED_GROUPS,
    paper_claims,
    published_models,
    published_rows,
)
from mstkd.report.tables import published_table

GROUPS = ("A", "B", "C", "D")


def subject(set_, name, loss=None, *, kind="student", backbone="s", seed=0):
    return Subject(kind=kind, backbone=backbone, set=set_, name=name, loss=loss, seed=seed)


def experiment(gain=1.0, seeds=(0,)):
    """Two losses and adaptors; `gain` is what specialized teachers add. SL is ahead by 0.6."""
    subjects, accuracies = [], []
    for seed in seeds:
        for g, group in enumerate(GROUPS):
            own = np.full(4, 80.0) + (np.arange(4) == g) * 10
            subjects.append(subject("specialized", f"T-{group}", kind="teacher", seed=seed))
            subjects.append(subject("baseline", f"BT-{g + 1}", kind="teacher", seed=seed))
            accuracies += [own, np.full(4, 85.0)]
        for loss, name, set_ in itertools.product(
            ("a-KD", "EAF-KD"), ("SL", "DuL"), ("specialized", "baseline")
        ):
            subjects.append(subject(set_, name, loss, seed=seed))
            more = (loss == "EAF-KD") + 0.6 * (name == "SL") + gain * (set_ == "specialized")
            accuracies.append(np.array([90, 90, 90, 91.0]) + more)
        for loss in ("a-KD", "EAF-KD"):
            subjects.append(subject("single", "direct", loss, seed=seed))
            accuracies.append(np.full(4, 95.0))
        subjects.append(subject("none", "none", "none", seed=seed))
        accuracies.append(np.array([89, 89, 89, 89.0]))
    return subjects, 1 - np.array(accuracies) / 100


def judged(subjects, rates, pairs=200_000):
    found = binomial_rates(rates, [pairs] * 4)
    return judge(paper_claims(subjects, GROUPS), {"own": found}, GROUPS, draws=200)


def one(results, start, measure, group=None):
    (found,) = [
        r for r in results if r.text.startswith(start) and r.question[1:] == (measure, group)
    ]
    return found


def test_claims_of_a_known_experiment():
    results = judged(*experiment())
    lead = one(results, "On its own group", "own_group")
    assert (lead.contrast.value, lead.verdict) == (pytest.approx(10), "supported")
    assert len(lead.cells) == 12
    assert "T-A and T-B on A" in [cell.text for cell in lead.cells]
    teachers = one(results, "Baseline teachers are ahead", "global_accuracy")
    assert teachers.contrast.value == pytest.approx(85 - 82.5)
    assert one(results, "Baseline teachers are ahead", "std").contrast.value == pytest.approx(-5)
    for loss in ("a-KD", "EAF-KD"):
        start = f"Students of specialized teachers are ahead of those of baseline teachers, {loss}"
        whole = one(results, start, "global_accuracy")
        assert (whole.contrast.value, whole.verdict) == (pytest.approx(1), "supported")
        assert [cell.text for cell in whole.cells] == [
            f"specialized {name}, {loss} and baseline {name}, {loss}" for name in ("SL", "DuL")
        ]
        for group in GROUPS:
            assert one(results, start, "accuracy", group).contrast.value == pytest.approx(1)
        assert one(results, start, "every_group").contrast.value == pytest.approx(1)
        assert one(results, start, "std").contrast.value == pytest.approx(0, abs=1e-9)
        assert one(results, start, "std").verdict == "undecided"
    simplest = one(results, "Students of the adaptor SL", "global_accuracy")
    assert (simplest.contrast.value, len(simplest.cells)) == (pytest.approx(0.6), 4)
    start = "Students of specialized teachers are ahead of the mean of their teachers"
    assert one(results, start, "global_accuracy").contrast.value == pytest.approx(92.05 - 82.5)
    assert one(results, start, "std").contrast.value == pytest.approx(0.5 - 5)
    start = "Students of baseline teachers are ahead of the student without distillation"
    assert one(results, start, "global_accuracy").contrast.value == pytest.approx(91.05 - 89)
    start = "Students of several specialized teachers are ahead of that of the single"
    against = one(results, start, "global_accuracy")
    assert (against.contrast.value, against.verdict) == (pytest.approx(92.05 - 95), "contradicted")
    assert not [r for r in results if r.topic == "teachers' backbone"]
    assert {r.question.threshold for r in results} == {"own"}


def test_what_is_not_so_is_contradicted():
    results = judged(*experiment(gain=-1.0))
    start = "Students of specialized teachers are ahead of those of baseline teachers, a-KD"
    for measure, group in (("global_accuracy", None), ("accuracy", "B"), ("every_group", None)):
        found = one(results, start, measure, group)
        assert (found.contrast.value, found.verdict) == (pytest.approx(-1), "contradicted")


def test_one_number_has_the_noise_of_all_its_models():
    """Of a shared control four students' mean is less sure than of four controls."""
    subjects, rates = experiment()
    start = "Students of specialized teachers are ahead of the student without distillation"
    found = one(judged(subjects, rates), start, "accuracy", "A")
    variance = binomial_rates(rates, [200_000] * 4).variances[:, 0]
    students = [i for i, s in enumerate(subjects) if (s.kind, s.set) == ("student", "specialized")]
    control = next(i for i, s in enumerate(subjects) if s.set == "none")
    expected = variance[students].sum() / 4**2 + variance[control]
    assert found.contrast.noise.test == pytest.approx(100 * np.sqrt(expected))


def test_families_are_a_measure_at_a_threshold_and_a_claims_cells():
    subjects, rates = experiment(gain=0.03)
    results = judged(subjects, rates, pairs=6000)
    for measure in ("global_accuracy", "accuracy", "std", "ser", "every_group"):
        family = [r for r in results if r.question.measure == measure]
        np.testing.assert_allclose(
            [r.p_adjusted for r in family], holm([r.contrast.p for r in family])
        )
    for whole in results:
        np.testing.assert_allclose(
            [cell.p_adjusted for cell in whole.cells], holm([c.contrast.p for c in whole.cells])
        )
    assert len([r for r in results if r.question.measure == "accuracy"]) == 4 * 11


def test_seeds_are_paired_and_counted():
    subjects, rates = experiment(seeds=(0, 1, 2))
    moved = {0: 0.0, 1: 0.02, 2: -0.02}  # in every model of a seed alike
    rates = rates + np.array([moved[s.seed] for s in subjects])[:, None]
    start = "Students of specialized teachers are ahead of those of baseline teachers, a-KD"
    found = one(judged(subjects, rates), start, "global_accuracy")
    assert found.contrast.seeds == 3
    assert found.contrast.noise.apart == pytest.approx(0, abs=1e-9)
    assert found.contrast.value == pytest.approx(1)
    # Seeds that only some models have are left out; without one in common there is one seed.
    fewer = [i for i, s in enumerate(subjects) if s.seed < 2 or s.set != "baseline"]
    part = one(judged([subjects[i] for i in fewer], rates[fewer]), start, "global_accuracy")
    assert part.contrast.seeds == 2
    none = [i for i, s in enumerate(subjects) if s.seed == (1 if s.set == "baseline" else 0)]
    alone = one(judged([subjects[i] for i in none], rates[none]), start, "global_accuracy")
    assert alone.contrast.seeds == 1


def test_like_is_compared_with_like():
    """Two margins of the teachers, two of the students; a-KD has no head and so no margin."""
    subjects = []
    for teachers, margin in itertools.product((1, 2), (0.3, 0.5)):
        for set_, name in (("specialized", "SL"), ("baseline", "SL"), ("single", "direct")):
            for loss in (f"EAF-KD+margin={margin}", "a-KD"):
                if loss != "a-KD" or margin == 0.3:
                    subjects.append(subject(set_, name, loss, backbone=f"t+margin={teachers}"))
        if teachers == 1:
            subjects.append(subject("none", "none", f"none+margin={margin}"))
    claims = {claim.text: claim for claim in paper_claims(subjects, GROUPS)}
    start = "Students of specialized teachers are ahead of those of baseline teachers, "
    assert len(claims[start + "EAF-KD"].cells) == 4
    assert len(claims[start + "a-KD"].cells) == 2
    undistilled = "Students of baseline teachers are ahead of the student without distillation"
    # 2 x 2 of EAF-KD with the margin's control, 2 of a-KD with both.
    assert len(claims[undistilled].cells) == 4 + 2 * 2
    label = "specialized SL, EAF-KD (margin=0.5), t (margin=2)"
    assert any(cell.label.startswith(label) for cell in claims[start + "EAF-KD"].cells)


def test_thresholds_are_judged_apart():
    subjects, rates = experiment()
    own, shared = binomial_rates(rates, [9000] * 4), binomial_rates(rates * 1.1, [9000] * 4)
    thresholds = {"own": own, "shared": shared}
    results = judge(paper_claims(subjects, GROUPS), thresholds, GROUPS, draws=200)
    found = [r for r in results if r.question.measure == "global_accuracy"]
    by = {
        name: [r.contrast.value for r in found if r.question.threshold == name]
        for name in ("own", "shared")
    }
    np.testing.assert_allclose(np.array(by["shared"]), 1.1 * np.array(by["own"]))


# ---------------------------------------------------------------- the published rows


@pytest.fixture(scope="module")
def published():
    subjects, rates = published_models()
    claims = paper_claims(subjects, PUBLISHED_GROUPS)
    return judge(claims, {"own": rates}, PUBLISHED_GROUPS)


def test_published_numbers_are_those_that_the_paper_states(published):
    """Section 5.3: STD from 1.54 to 1.36, accuracy by 0.42; 82.33 to 93.61, 6.81 to 1.36."""
    start = "Students of specialized teachers are ahead of those of baseline teachers, EAF-KD"
    cell = "specialized SL, EAF-KD, iresnet34 and baseline SL, EAF-KD, iresnet34"

    def at(text, measure, label):
        return next(c for c in one(published, text, measure).cells if c.text == label).contrast

    assert at(start, "std", cell).value == pytest.approx(1.36 - 1.54, abs=0.01)
    assert at(start, "global_accuracy", cell).value == pytest.approx(0.42, abs=0.01)
    start = "Students of specialized teachers are ahead of the mean of their teachers"
    label = "specialized SL, EAF-KD, iresnet34"
    assert at(start, "global_accuracy", label).value == pytest.approx(93.61 - 82.33, abs=0.01)
    assert at(start, "std", label).value == pytest.approx(1.36 - 6.81, abs=0.01)


def test_published_means_are_of_the_tables(published):
    rows = published_rows()
    for loss in ("a-KD", "EAF-KD"):
        start = f"Students of specialized teachers are ahead of those of baseline teachers, {loss}"
        of_loss = rows[rows["kind"] == loss].groupby("teacher_set")
        accuracy = of_loss[list(PUBLISHED_GROUPS)].mean().mean(axis=1)
        expected = accuracy["specialized"] - accuracy["baseline"]
        assert one(published, start, "global_accuracy").contrast.value == pytest.approx(expected)
        std = of_loss["std"].mean()
        found = one(published, start, "std")
        assert found.contrast.value == pytest.approx(std["specialized"] - std["baseline"], abs=0.01)
        assert len(found.cells) == 6


def test_published_intervals_are_binomial(published):
    subjects, rates = published_models()
    assert rates.rates.shape == (40, 4)
    (row,) = [
        i for i, s in enumerate(subjects) if (s.name, s.backbone) == ("T-African", "iresnet50")
    ]
    assert rates.rates[row] == pytest.approx(1 - np.array([90.07, 78.88, 87.02, 86.80]) / 100)
    lead = one(published, "On its own group", "own_group")
    cell = next(c for c in lead.cells if c.text == "T-African and T-Indian on African")
    first, second = 0.8982, 0.7345
    error = np.sqrt((first * (1 - first) + second * (1 - second)) / 6000)
    assert cell.contrast.value == pytest.approx(100 * (first - second))
    assert cell.contrast.noise.error == pytest.approx(100 * error)


def test_what_the_published_rows_support(published):
    """The teachers' part and the gain in accuracy; not that students are more even."""
    verdicts = {(r.text, r.question.measure, r.question.group): r.verdict for r in published}
    specialized = "Students of specialized teachers are ahead of those of baseline teachers, "
    assert (
        verdicts["Baseline teachers are ahead of specialized teachers", "std", None] == "supported"
    )
    for loss in ("a-KD", "EAF-KD"):
        assert verdicts[specialized + loss, "global_accuracy", None] == "supported"
        for measure in ("every_group", "std", "ser"):
            assert verdicts[specialized + loss, measure, None] == "undecided"
    assert not [r for r in published if r.verdict == "contradicted"]
    assert {r.contrast.seeds for r in published} == {1}


def test_published_rows_are_those_of_the_tables():
    rows = published_rows()
    for number in range(1, 7):
        table = published_table(number)
        assert (rows[rows["table"] == number].reset_index(drop=True) == table).all(axis=None)


def test_noise_of_published_std_is_binomials(published):
    """The paper's 1.36 against 1.54: a fifth of what such a test could show."""
    subjects, rates = published_models()
    pair = [
        next(
            i
            for i, s in enumerate(subjects)
            if (s.set, s.name, s.loss, s.backbone) == (set_, "SL", "EAF-KD", "iresnet34")
        )
        for set_ in ("specialized", "baseline")
    ]
    random = np.random.default_rng(0)
    drawn = random.binomial(6000, rates.rates[pair], size=(4000, 2, 4)) / 6000
    difference = 100 * (drawn[:, 0].std(axis=1, ddof=1) - drawn[:, 1].std(axis=1, ddof=1))
    start = "Students of specialized teachers are ahead of those of baseline teachers, EAF-KD"
    cell = next(c for c in one(published, start, "std").cells if c.text.count("SL") == 2)
    assert cell.contrast.noise.error == pytest.approx(difference.std(), rel=0.05)
    assert cell.contrast.p == pytest.approx(
        2 * stats.norm.sf(abs(cell.contrast.value) / difference.std()), abs=0.06
    )


def test_group_rates_are_taken_as_they_are():
    """The core serves any joint covariance: with all noise in common nothing is unsure."""
    subjects, rates = experiment()
    errors = np.sqrt(rates * (1 - rates) / 100)
    covariance = np.einsum("mg,nh,gh->mgnh", np.ones_like(rates), np.ones_like(rates), np.eye(4))
    covariance *= errors.max() ** 2
    found = GroupRates(rates, covariance, 0 * covariance, np.full(4, 1e9))
    results = judge(paper_claims(subjects, GROUPS), {"own": found}, GROUPS, draws=200)
    start = "Students of specialized teachers are ahead of those of baseline teachers, a-KD"
    assert one(results, start, "accuracy", "A").contrast.noise.error == pytest.approx(0, abs=1e-6)
