"""Claims: the bootstrap against a slow one, verdicts on built cases, statements that fail."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from reporting import write_metrics

from mstkd.artifacts.records import read_record
from mstkd.errors import InputError
from mstkd.evaluation.foldbootstrap import fold_weights, interval, resampled_summaries, summaries
from mstkd.report.claims import Claims, claim_sentences, compute_claims
from mstkd.report.comparisons import Comparison

GROUPS = ("A", "B", "C", "D")


def accuracies(*values: float) -> dict[str, float]:
    return dict(zip(GROUPS, values, strict=True))


def claims_of(metrics: list[Path], draws: int = 200) -> Claims:
    return compute_claims(metrics, metrics[0].parent / "claims.json", draws=draws)


def comparison(claims: Claims, topic: str, measure: str) -> Comparison:
    (found,) = [c for c in claims.comparisons if (c.topic, c.measure) == (topic, measure)]
    return found


def statement(claims: Claims, start: str) -> tuple[int, int, str]:
    (found,) = [s for s in claims.statements if s.sentence.startswith(start)]
    return found.holds, found.of, found.verdict


# ---------------------------------------------------------------- bootstrap


def test_bootstrap_equals_one_that_copies_folds() -> None:
    """Each draw as a list of fold numbers, the summaries of equation 7 in plain Python."""
    generator = np.random.default_rng(5)
    folds = generator.uniform(70, 99, size=(2, 3, 6))  # seeds, groups, folds
    weights = fold_weights(draws=40, groups=3, folds=6, seed=1)
    got = resampled_summaries(folds, weights)
    for draw in range(40):
        per_seed = []
        for seed in range(2):
            means = []
            for group in range(3):
                counts = np.round(weights[draw, group] * 6).astype(int)
                taken = [folds[seed, group, f] for f in range(6) for _ in range(counts[f])]
                assert len(taken) == 6
                means.append(sum(taken) / 6)
            mean = sum(means) / 3
            std = (sum((value - mean) ** 2 for value in means) / 2) ** 0.5
            per_seed.append([mean, std, (100 - min(means)) / (100 - max(means))])
        expected = [sum(column) / 2 for column in zip(*per_seed, strict=True)]
        np.testing.assert_allclose(got[draw], expected, rtol=1e-7)


def test_draws_take_folds_evenly_and_groups_apart() -> None:
    weights = fold_weights(draws=4000, groups=2, folds=5, seed=0)
    np.testing.assert_allclose(weights.sum(axis=-1), 1)
    np.testing.assert_allclose(weights.mean(axis=0), 0.2, atol=0.01)
    # A multinomial count of n draws has variance n p (1 - p); here divided by n squared.
    np.testing.assert_allclose(weights.var(axis=0), 0.2 * 0.8 / 5, rtol=0.1)
    assert abs(np.corrcoef(weights[:, 0, 0], weights[:, 1, 0])[0, 1]) < 0.05
    again = fold_weights(draws=4000, groups=2, folds=5, seed=0)
    assert (weights == again).all()


def test_interval_has_the_width_that_theory_gives() -> None:
    """Of a mean of folds: 1.96 standard errors each way, with the bootstrap's n, not n - 1."""
    generator = np.random.default_rng(0)
    first, second = generator.normal(90, 1, (2, 4, 10))
    weights = fold_weights(draws=20_000, groups=4, folds=10, seed=0)
    draws = [resampled_summaries(folds[None], weights)[:, 0] for folds in (first, second)]
    low, high = interval(draws[0] - draws[1]) or (0.0, 0.0)
    error = np.sqrt((first - second).var(axis=1).mean() / 10 / 4)
    centre = (first - second).mean()
    assert [low, high] == pytest.approx([centre - 1.96 * error, centre + 1.96 * error], abs=0.03)


def test_ser_without_error_is_infinite_and_has_no_interval() -> None:
    values = summaries(np.array([[100.0, 90.0], [90.0, 80.0], [100.0, 100.0]]))
    assert values[:, 2].tolist() == [np.inf, 2, np.inf]
    assert interval(np.array([1.0, np.inf, np.inf])) is None
    assert interval(np.array([1.0, np.nan, 2.0])) is None
    assert interval(np.zeros(5)) == (0, 0)


# ---------------------------------------------------------------- verdicts


def test_same_folds_make_a_constant_gain_certain(tmp_path: Path) -> None:
    """Folds that vary wildly but alike: only pairing the draws can see the gain of 0.1."""
    folds = {group: np.linspace(60, 90, 10) + i for i, group in enumerate(GROUPS)}
    metrics = [
        write_metrics(tmp_path, {}, folds={g: f + 0.1 for g, f in folds.items()}),
        write_metrics(tmp_path, {}, folds=folds, set_="baseline"),
    ]
    found = comparison(claims_of(metrics), "specialized or baseline", "global_accuracy")
    assert [found.difference, found.low, found.high] == pytest.approx([0.1] * 3)
    assert found.verdict == "better"
    assert found.sentence.startswith(
        "specialized SL, a-KD against baseline SL, a-KD: global accuracy differs by +0.10 points"
    )


@pytest.mark.parametrize(
    ("specialized", "baseline", "verdicts"),
    [
        ((90, 90, 90, 92), (80, 82, 84, 88), ("better", "better", "better")),
        ((80, 82, 84, 88), (90, 90, 90, 92), ("worse", "worse", "worse")),
        ((80, 84, 90, 96), (82, 82, 83, 84), ("better", "worse", "worse")),
        ((80, 82, 84, 88), (80, 82, 84, 88), ("no difference seen",) * 3),
    ],
)
def test_verdict_is_of_the_specialized_student(
    tmp_path: Path,
    specialized: tuple[float, ...],
    baseline: tuple[float, ...],
    verdicts: tuple[str, ...],
) -> None:
    metrics = [
        write_metrics(tmp_path, accuracies(*baseline), set_="baseline", spread=0.2),
        write_metrics(tmp_path, accuracies(*specialized), spread=0.2),
    ]
    claims = claims_of(metrics)
    assert tuple(c.verdict for c in claims.comparisons) == verdicts
    for found in claims.comparisons:
        assert found.difference is not None
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.difference <= found.high


def test_noise_larger_than_the_difference_is_no_difference(tmp_path: Path) -> None:
    metrics = [
        write_metrics(tmp_path, accuracies(90.1, 91, 92, 93), spread=3, seed=1),
        write_metrics(tmp_path, accuracies(90, 91, 92, 93), spread=3, seed=2, set_="baseline"),
    ]
    assert {c.verdict for c in claims_of(metrics).comparisons} == {"no difference seen"}


def test_group_without_error_leaves_ser_undefined(tmp_path: Path) -> None:
    metrics = [
        write_metrics(tmp_path, accuracies(100, 91, 92, 93)),
        write_metrics(tmp_path, accuracies(90, 91, 92, 93), set_="baseline"),
    ]
    claims = claims_of(metrics)
    found = comparison(claims, "specialized or baseline", "ser")
    assert (found.first_value, found.difference, found.verdict) == (None, None, "undefined")
    assert "no finite difference" in found.sentence
    json.loads((tmp_path / "claims.json").read_text(), parse_constant=pytest.fail)


def test_seeds_are_averaged_and_their_spread_is_told(tmp_path: Path) -> None:
    metrics = [
        write_metrics(tmp_path, accuracies(90, 90, 90, 94), seed=0),
        write_metrics(tmp_path, accuracies(92, 92, 92, 96), seed=1),
        write_metrics(tmp_path, accuracies(89, 89, 89, 93), seed=0, set_="baseline"),
        write_metrics(tmp_path, accuracies(89, 89, 89, 93), seed=1, set_="baseline"),
    ]
    claims = claims_of(metrics)
    found = comparison(claims, "specialized or baseline", "global_accuracy")
    assert (found.difference, found.seed_std) == pytest.approx((2, np.sqrt(2)))
    assert "means over 2 seeds" in claims.note
    assert claims.seeds == [0, 1]
    alone = claims_of([metrics[0], metrics[2]])
    assert comparison(alone, "specialized or baseline", "global_accuracy").seed_std is None
    assert "with one seed trained" in alone.note
    assert "folds only, not the randomness of training" in alone.note


# ---------------------------------------------------------------- statements


def experiment(folder: Path, gain: float) -> list[Path]:
    """Two losses, two adaptors, two sets; `gain` is what specialized teachers add."""
    metrics = []
    for loss, name, set_ in itertools.product(
        ("a-KD", "EAF-KD"), ("SL", "DuL"), ("specialized", "baseline")
    ):
        value = 90 + (loss == "EAF-KD") + (name == "SL") + gain * (set_ == "specialized")
        metrics.append(
            write_metrics(
                folder,
                accuracies(value, value, value, value + 2 - gain * (set_ == "specialized")),
                set_=set_,
                name=name,
                loss=loss,
                spread=0.1,
            )
        )
    for loss in ("a-KD", "EAF-KD"):
        value = accuracies(90.5, 90.5, 90.5, 93)
        metrics.append(write_metrics(folder, value, set_="single", name="direct", loss=loss))
    none = accuracies(92.6, 92.6, 92.6, 92.7)
    metrics.append(
        write_metrics(folder, none, set_="none", name="none", loss="none", backbone="student")
    )
    return metrics


def test_like_is_compared_with_like(tmp_path: Path) -> None:
    """Two margins of the teachers, two of the students, two backbones of these."""
    metrics = []
    for teachers, margin, backbone in itertools.product((1, 2), (0.3, 0.5), ("s", "w")):
        values = f"backbone={backbone}+margin={margin}"
        for set_, name in (("specialized", "SL"), ("baseline", "SL"), ("single", "direct")):
            for loss in (f"EAF-KD+{values}", f"a-KD+backbone={backbone}"):
                if loss.startswith("a-KD") and margin == 0.3:
                    continue
                metrics.append(
                    write_metrics(
                        tmp_path,
                        accuracies(90, 91, 92, 93),
                        set_=set_,
                        name=name,
                        loss=loss,
                        backbone=f"t+margin={teachers}",
                    )
                )
        if teachers == 1:
            control = {"set_": "none", "name": "none", "loss": f"none+{values}"}
            accuracy = accuracies(90, 90, 90, 90)
            metrics.append(write_metrics(tmp_path, accuracy, backbone=backbone, **control))
    claims = claims_of(metrics)
    pairs = [(c.topic, c.first, c.second) for c in claims.comparisons if c.measure == "std"]
    counts = {topic: sum(pair[0] == topic for pair in pairs) for topic, _, _ in pairs}
    # EAF-KD: 2 x 2 x 2 variants. a-KD has no head: 2 x 2, and both margins of its control.
    assert counts == {
        "specialized or baseline": 8 + 4,
        "distillation": 3 * (8 + 4 * 2),
        "single teacher": 2 * (8 + 4),
    }
    assert (
        "distillation",
        "specialized SL, EAF-KD (backbone=w, margin=0.3), t (margin=2)",
        "no distillation (backbone=w, margin=0.3)",
    ) in pairs
    assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize(("gain", "holds"), [(0.5, 4), (-0.5, 0)])
def test_statements_follow_the_numbers(tmp_path: Path, gain: float, holds: int) -> None:
    claims = claims_of(experiment(tmp_path, gain))
    verdict = "holds" if holds else "does not hold"
    start = "Students of specialized teachers have a "
    assert statement(claims, f"{start}higher global accuracy") == (holds, 4, verdict)
    assert statement(claims, f"{start}lower STD") == (holds, 4, verdict)
    assert statement(claims, "SL is the adaptor with the highest") == (4, 4, "holds")
    # 8 students of several teachers and 2 of the single one, against one control.
    start = "Distilled students have a higher global accuracy"
    assert statement(claims, start)[1] == 10
    start = "Students of several teachers have a higher global accuracy"
    assert statement(claims, start)[1] == 8
    (found,) = [
        s
        for s in claims.statements
        if s.sentence.startswith("Students of specialized teachers have a higher")
    ]
    assert (found.clear, found.opposite) == (holds, 4 - holds)
    assert f"clear of 0: {holds} this way, {4 - holds} the other way" in found.sentence


def test_comparisons_are_of_like_with_like(tmp_path: Path) -> None:
    claims = claims_of(experiment(tmp_path, 0.5))
    named = [(c.topic, c.first, c.second) for c in claims.comparisons if c.measure == "std"]
    assert ("specialized or baseline", "specialized DuL, EAF-KD", "baseline DuL, EAF-KD") in named
    assert ("distillation", "single teacher, a-KD", "no distillation") in named
    assert ("single teacher", "baseline SL, a-KD", "single teacher, a-KD") in named
    assert [sum(topic == t for topic, *_ in named) for t in dict.fromkeys(n[0] for n in named)] == [
        4,
        10,
        8,
    ]


def test_specialized_teachers_are_judged_in_both_readings(tmp_path: Path) -> None:
    """T-C is the best on C, yet scores higher on D; T-D is not the best on its own group."""
    scores = {
        "T-A": accuracies(95, 80, 80, 80),
        "T-B": accuracies(80, 95, 80, 80),
        "T-C": accuracies(80, 80, 90, 94),
        "T-D": accuracies(80, 80, 80, 93),
    }
    metrics = [
        write_metrics(tmp_path, values, name=name, kind="teacher", loss=None)
        for name, values in scores.items()
    ]
    claims = claims_of(metrics)
    assert statement(claims, "On its own group") == (3, 4, "holds in part")
    assert statement(claims, "A specialized teacher scores higher") == (3, 4, "holds in part")
    assert claims.comparisons == []
    assert len(claims.statements) == 2


def test_backbones_are_told_apart_and_not_compared(tmp_path: Path) -> None:
    metrics = [
        write_metrics(tmp_path, accuracies(90, 91, 92, 93), set_=set_, backbone=backbone)
        for set_ in ("specialized", "baseline")
        for backbone in ("small", "large")
    ]
    claims = claims_of(metrics)
    assert len(claims.comparisons) == 6
    assert claims.comparisons[0].first == "specialized SL, a-KD, small"
    assert claims.comparisons[0].second == "baseline SL, a-KD, small"


def test_file_is_the_same_every_time_and_reads_back(tmp_path: Path) -> None:
    metrics = experiment(tmp_path, 0.5)
    claims = claims_of(metrics)
    text = (tmp_path / "claims.json").read_text()
    assert claims_of(metrics) == claims
    assert (tmp_path / "claims.json").read_text() == text
    assert read_record(Claims, tmp_path / "claims.json") == claims
    sentences = claim_sentences(claims)
    assert len(sentences) == len(claims.statements) + len(claims.comparisons) + 1
    assert sentences[-1] == claims.note
    assert "about 3 would exclude 0 by chance" in claims.note  # 66 intervals


def test_other_folds_are_refused(tmp_path: Path) -> None:
    good = write_metrics(tmp_path, accuracies(90, 91, 92, 93))
    folds = {group: np.full(5, 90.0) for group in GROUPS}
    fault = write_metrics(tmp_path, {}, folds=folds, set_="baseline")
    with pytest.raises(InputError, match=f"{fault}: found 5 folds; expected 10"):
        claims_of([good, fault])
