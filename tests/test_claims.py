"""Claims of an experiment whose truth is known, from metrics.json and scores.h5 to claims.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reporting import errors, verification_pairs, write_metrics, write_scored
from scipy import stats

from mstkd.artifacts.contents import hashed_contents
from mstkd.artifacts.provenance import hashed
from mstkd.artifacts.records import read_record
from mstkd.config import ClaimsSettings
from mstkd.errors import InputError
from mstkd.evaluation.scores import ScoreTable
from mstkd.report.claims import Claims, compute_claims
from mstkd.report.judgements import JudgedClaim, Needed, needs, p_text
from mstkd.report.rounding import signed

GROUPS = ("A", "B", "C", "D")
PAIRS = verification_pairs(GROUPS, identities=12, pairs=60)  # 600 pairs a group
SETTINGS = ClaimsSettings(draws=200)
AHEAD = "Students of specialized teachers are ahead of those of baseline teachers, a-KD"


def accuracies(*values: float) -> dict[str, float]:
    return dict(zip(GROUPS, values, strict=True))


def claims_of(metrics: list[Path]) -> Claims:
    return compute_claims(SETTINGS, metrics=metrics, output=metrics[0].parents[1] / "claims.json")


def one(claims: Claims, measure: str, group: str | None = None, **wanted: str) -> JudgedClaim:
    asked = {"claim": AHEAD, "threshold": "own", "measure": measure, "group": group, **wanted}
    (found,) = [
        claim
        for claim in claims.claims
        if all(getattr(claim, key) == value for key, value in asked.items())
    ]
    return found


def versus(
    folder: Path,
    specialized: Mapping[str, float],
    baseline: Mapping[str, float],
    names: tuple[str, ...] = ("SL", "DuL", "DLDP"),
) -> Claims:
    """Students of both sets and each adaptor; no two err together but by chance."""
    metrics = []
    for number, name in enumerate(names):
        for seed, (set_, values) in enumerate(
            (("specialized", specialized), ("baseline", baseline))
        ):
            wrong = errors(PAIRS, values, seed=10 * number + seed)
            metrics.append(write_scored(folder, PAIRS, wrong, set=set_, name=name))
    return claims_of(metrics)


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("specialized", "baseline", "verdict"),
    [
        ((95, 94, 95, 96), (85, 84, 85, 86), "supported"),
        ((90, 90, 90, 90), (90, 90, 90, 90), "undecided"),
        ((85, 84, 85, 86), (95, 94, 95, 96), "contradicted"),
    ],
)
def test_accuracy_is_judged_as_it_truly_is(
    tmp_path: Path, specialized: tuple[float, ...], baseline: tuple[float, ...], verdict: str
) -> None:
    claims = versus(tmp_path, accuracies(*specialized), accuracies(*baseline))
    for threshold in ("own", "shared"):
        found = one(claims, "global_accuracy", threshold=threshold)
        gain = np.mean(specialized) - np.mean(baseline)
        assert (found.value, found.verdict) == (pytest.approx(gain), verdict)
        assert found.low < gain < found.high
        for group in GROUPS:
            assert one(claims, "accuracy", group, threshold=threshold).verdict == verdict
        assert one(claims, "every_group", threshold=threshold).verdict == verdict
        assert found.verdict in found.sentence
        assert [cell.label for cell in found.cells] == [
            f"specialized {name}, a-KD and baseline {name}, a-KD" for name in ("SL", "DuL", "DLDP")
        ]


@pytest.mark.parametrize(
    ("specialized", "baseline", "verdict"),
    [
        ((90, 90, 90, 90), (75, 85, 95, 99), "supported"),
        ((84, 88, 92, 96), (84, 88, 92, 96), "undecided"),
        ((75, 85, 95, 99), (90, 90, 90, 90), "contradicted"),
    ],
)
def test_evenness_is_judged_as_it_truly_is(
    tmp_path: Path, specialized: tuple[float, ...], baseline: tuple[float, ...], verdict: str
) -> None:
    claims = versus(tmp_path, accuracies(*specialized), accuracies(*baseline))
    for measure in ("std", "ser"):
        found = one(claims, measure)
        assert found.verdict == verdict
        if verdict == "supported":  # lower is ahead
            assert found.high < 0
    assert one(claims, "std").value == pytest.approx(
        np.std(specialized, ddof=1) - np.std(baseline, ddof=1)
    )


def test_one_group_that_loses_is_told(tmp_path: Path) -> None:
    """More accurate on average, worse on D: "every group" is not supported."""
    claims = versus(tmp_path, accuracies(96, 96, 96, 80), accuracies(86, 86, 86, 92))
    assert one(claims, "global_accuracy").verdict == "supported"
    assert [one(claims, "accuracy", group).verdict for group in GROUPS] == [
        *["supported"] * 3,
        "contradicted",
    ]
    found = one(claims, "every_group")
    assert (found.value, found.verdict) == (pytest.approx(-12), "contradicted")


def test_thresholds_are_judged_apart(tmp_path: Path) -> None:
    """Students that are as accurate where each group has its own threshold, and not at one."""
    shift = np.where(PAIRS.group1 % 2 == 0, 0.4, -0.4)
    metrics = []
    for number, name in enumerate(("SL", "DuL")):
        for seed, set_ in enumerate(("specialized", "baseline")):
            wrong = errors(PAIRS, dict.fromkeys(GROUPS, 90), seed=10 * number + seed)
            similarity = np.where(PAIRS.same != wrong, 0.3, -0.3)
            if set_ == "specialized":
                similarity += shift
            metrics.append(
                write_scored(tmp_path, PAIRS, wrong, similarity=similarity, set=set_, name=name)
            )
    claims = claims_of(metrics)
    own, shared = (one(claims, "global_accuracy", threshold=name) for name in ("own", "shared"))
    assert (own.value, own.verdict) == (pytest.approx(0), "undecided")
    assert shared.value < -10
    assert shared.verdict == "contradicted"
    assert "each group at its own threshold" in own.sentence
    assert "one threshold for all groups" in shared.sentence


def test_what_two_models_err_on_together_is_no_difference(tmp_path: Path) -> None:
    """A gain of one point on 600 pairs a group: seen where all else is alike, else not."""
    many = errors(PAIRS, dict.fromkeys(GROUPS, 80), seed=0)
    few = many.copy()
    few[np.flatnonzero(many)[::20]] = False
    paired = [
        write_scored(tmp_path / "paired", PAIRS, few),
        write_scored(tmp_path / "paired", PAIRS, many, set="baseline"),
    ]
    gain = 100 * (many.mean() - few.mean())
    found = one(claims_of(paired), "global_accuracy")
    assert (found.value, found.verdict) == (pytest.approx(gain), "supported")
    apart = [
        write_scored(tmp_path / "apart", PAIRS, errors(PAIRS, accuracies(*[81] * 4), seed=1)),
        write_scored(
            tmp_path / "apart", PAIRS, errors(PAIRS, accuracies(*[80] * 4), seed=2), set="baseline"
        ),
    ]
    assert one(claims_of(apart), "global_accuracy").verdict == "undecided"


def test_models_that_decide_alike_are_not_told_apart_by_rounding(tmp_path: Path) -> None:
    wrong = errors(PAIRS, accuracies(90.5, 81, 77, 93), seed=3)
    metrics = [
        write_scored(tmp_path, PAIRS, wrong, set=set_, name=name)
        for set_ in ("specialized", "baseline")
        for name in ("SL", "DuL", "DLDP")
    ]
    claims = claims_of(metrics)
    assert {(claim.verdict, claim.p_adjusted) for claim in claims.claims} == {("undecided", 1.0)}
    assert {cell.verdict for claim in claims.claims for cell in claim.cells} == {"undecided"}


def test_backbones_are_told_apart(tmp_path: Path) -> None:
    """Those of the teachers; a student without any has its own."""

    def labels(backbones: tuple[str, ...]) -> list[str]:
        folder = tmp_path / "-".join(backbones)
        wrong = errors(PAIRS, accuracies(90, 91, 92, 93), seed=0)
        metrics = [write_scored(folder, PAIRS, wrong, backbone=one) for one in backbones]
        control = {"set": "none", "name": "none", "loss": "none", "backbone": "student"}
        claims = claims_of([*metrics, write_scored(folder, PAIRS, wrong, **control)])
        return [model.label for model in claims.models if model.threshold == "own"]

    assert labels(("small",)) == ["specialized SL, a-KD", "no distillation"]
    assert labels(("small", "large")) == [
        "specialized SL, a-KD, small",
        "specialized SL, a-KD, large",
        "no distillation",
    ]


# ---------------------------------------------------------------- numbers


def dyadic_variance(pairs: ScoreTable, residual: np.ndarray) -> float:
    """Sum of the products of residuals of all pairs of pairs that share a person, in plain loops.

    Residuals (P,) are already weighted, and those of a group widened for its own mean.
    """
    people = [
        {first, second}
        for first, second in zip(pairs.identity1.tolist(), pairs.identity2.tolist(), strict=True)
    ]
    total = 0.0
    for i, ours in enumerate(people):
        for j, theirs in enumerate(people):
            if ours & theirs:
                total += residual[i] * residual[j]
    return total


def test_a_claim_is_its_contrast_reckoned_another_way(tmp_path: Path) -> None:
    """Global accuracy, mean over two adaptors that share nothing, in float64 and by loops."""
    pairs = verification_pairs(("A", "B"), folds=4, identities=5, pairs=24)
    wrong: dict[tuple[str, str], np.ndarray] = {}
    metrics = []
    for seed, (set_, name) in enumerate(
        (set_, name) for set_ in ("specialized", "baseline") for name in ("SL", "DuL")
    ):
        rates = {"A": 95 - 5 * (set_ == "baseline"), "B": 90 - 2 * (name == "DuL")}
        wrong[set_, name] = errors(pairs, rates, seed=seed)
        if set_ == "baseline":  # someone in each fold is hard to verify
            wrong[set_, name] |= (pairs.identity1 % 5 == 2) & (pairs.fold > 0)
        metrics.append(write_scored(tmp_path, pairs, wrong[set_, name], set=set_, name=name))
    found = one(claims_of(metrics), "global_accuracy")
    # Each pair's part in the contrast of error rates, groups and adaptors counting alike.
    score = np.mean(
        [wrong["baseline", n].astype(float) - wrong["specialized", n] for n in ("SL", "DuL")],
        axis=0,
    )
    residual = np.zeros(len(pairs))
    value = 0.0
    for group in (0, 1):
        inside = pairs.group1 == group
        mean = score[inside].mean()
        value += mean / 2
        share = inside / inside.sum()
        leverage = dyadic_variance(pairs, share)
        residual += (score - mean) * share / math.sqrt(1 - leverage) / 2
    error = 100 * math.sqrt(dyadic_variance(pairs, residual))
    assert error > 120 * math.sqrt((residual**2).sum())  # people tell, pairs are not independent
    assert found.value == pytest.approx(100 * value, abs=1e-9)
    half = stats.norm.ppf(0.975) * error
    assert (found.low, found.high) == pytest.approx(
        (100 * value - half, 100 * value + half), abs=1e-6
    )
    p = 2 * stats.norm.sf(abs(100 * value) / error)
    assert found.p == pytest.approx(p, rel=1e-6)
    # Of a family of two claims, SL against the other adaptor being the second.
    others = [c.p for c in one_measure(claims_of(metrics), "global_accuracy")]
    assert found.p_adjusted == pytest.approx(stats_holm(others)[others.index(found.p)])
    # What four of five tests see: two normal quantiles of this error.
    smallest = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * error
    assert found.power.smallest == pytest.approx(smallest, rel=1e-6)
    assert found.power.observed.identities == pytest.approx((smallest / found.value) ** 2, rel=1e-5)
    assert found.power.observed.effect == found.value
    assert found.power.observed.seeds is None


def one_measure(claims: Claims, measure: str) -> list[JudgedClaim]:
    return [c for c in claims.claims if (c.measure, c.threshold) == (measure, "own")]


def stats_holm(p: list[float]) -> list[float]:
    """Holm 1979, as it is told: the k-th smallest times what is left."""
    adjusted = [0.0] * len(p)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, p[place] * (len(p) - rank)))
        adjusted[place] = highest
    return adjusted


def test_mcnemar_stands_beside_two_models_trained_once(tmp_path: Path) -> None:
    first = errors(PAIRS, accuracies(95, 94, 93, 92), seed=0)
    second = errors(PAIRS, accuracies(90, 91, 92, 93), seed=1)
    metrics = [
        write_scored(tmp_path, PAIRS, first),
        write_scored(tmp_path, PAIRS, second, set="baseline"),
    ]
    claims = claims_of(metrics)

    def exact(inside: np.ndarray) -> float:
        worse, ahead = int((first & ~second)[inside].sum()), int((~first & second)[inside].sum())
        return float(stats.binomtest(worse, worse + ahead).pvalue)

    (cell,) = one(claims, "global_accuracy").cells
    assert cell.mcnemar == pytest.approx(exact(np.ones(len(PAIRS), np.bool_)))
    (cell,) = one(claims, "accuracy", "B").cells
    assert cell.mcnemar == pytest.approx(exact(PAIRS.group1 == 1))
    (cell,) = one(claims, "std").cells
    assert cell.mcnemar is None
    again = [
        write_scored(tmp_path, PAIRS, wrong, set=set_, seed=1)
        for set_, wrong in (("specialized", first), ("baseline", second))
    ]
    (cell,) = one(claims_of([*metrics, *again]), "global_accuracy").cells
    assert cell.mcnemar is None


def test_noise_is_told_apart_from_unevenness(tmp_path: Path) -> None:
    even, uneven = accuracies(90, 90, 90, 90), accuracies(75, 85, 95, 99)
    metrics = [
        write_scored(tmp_path, PAIRS, errors(PAIRS, even, seed=0)),
        write_scored(tmp_path, PAIRS, errors(PAIRS, uneven, seed=1), set="baseline"),
    ]
    claims = claims_of(metrics)
    assert len(claims.models) == 2 * 2
    first, second = (model for model in claims.models if model.threshold == "own")
    assert (first.label, second.label) == ("specialized SL, a-KD", "baseline SL, a-KD")
    assert first.std.value == pytest.approx(0, abs=1e-9)
    assert (first.std.low, first.std.corrected) == (0, 0)
    assert (first.ser.low, first.ser.corrected) == (1, 1)
    # Four rates of 600 pairs that share people: their sample deviation, on average.
    assert 0.5 < first.std.floor < first.std.floor_high < 5
    assert second.std.value == pytest.approx(np.std(list(uneven.values()), ddof=1))
    assert second.std.value is not None
    assert 0 < second.std.low < second.std.corrected < second.std.value
    assert second.ser.low > 2
    for group, accuracy in uneven.items():
        interval = second.groups[group]
        assert interval.value == pytest.approx(accuracy)
        assert interval.low < accuracy < interval.high <= 100
    assert second.global_accuracy.value == pytest.approx(88.5)


def test_a_group_without_error_leaves_numbers_everywhere(tmp_path: Path) -> None:
    metrics = [
        write_scored(tmp_path, PAIRS, errors(PAIRS, accuracies(100, 91, 92, 93), seed=0)),
        write_scored(
            tmp_path, PAIRS, errors(PAIRS, accuracies(*[100] * 4), seed=1), set="baseline"
        ),
    ]
    claims = claims_of(metrics)
    assert [model.ser.value for model in claims.models] == [None, 1, None, 1]
    for claim in claims.claims:
        assert np.isfinite(
            [claim.value, claim.low, claim.high, claim.p, claim.power.smallest]
        ).all()
    text = (tmp_path / "claims.json").read_text()
    json.loads(text, parse_constant=pytest.fail)
    assert read_record(Claims, tmp_path / "claims.json") == claims


def test_a_network_that_has_collapsed_is_half_right_and_stops_nothing(tmp_path: Path) -> None:
    none = np.zeros(len(PAIRS), bool)
    metrics = [
        write_scored(tmp_path, PAIRS, errors(PAIRS, accuracies(90, 91, 92, 93), seed=0)),
        write_scored(tmp_path, PAIRS, none, similarity=np.ones(len(PAIRS)), set="baseline"),
    ]
    claims = claims_of(metrics)
    assert [model.global_accuracy.value for model in claims.models] == pytest.approx(
        [91.5, 50, 91.5, 50]
    )
    assert one(claims, "global_accuracy").verdict == "supported"


# ---------------------------------------------------------------- seeds


def trained(folder: Path, gains: Mapping[int, float]) -> Claims:
    """By seed, what specialized students are more accurate by."""
    metrics = []
    for seed, gain in gains.items():
        for set_ in ("specialized", "baseline"):
            value = 85 + gain * (set_ == "specialized")
            wrong = errors(PAIRS, dict.fromkeys(GROUPS, value), seed=100 * seed + len(set_))
            metrics.append(write_scored(folder, PAIRS, wrong, set=set_, seed=seed))
    return claims_of(metrics)


def test_one_seed_speaks_of_these_trained_models_alone(tmp_path: Path) -> None:
    claims = trained(tmp_path, {0: 8})
    found = one(claims, "global_accuracy")
    assert (found.verdict, found.seeds) == ("supported", 1)
    assert found.sentence.endswith("supported on these pairs, of these two trained models.")
    assert "nothing is known of training done anew" in claims.note
    assert "dealt to the teachers" not in claims.note
    # Every sentence, the published rows' too: what one training showed is of that training.
    told = [claim.sentence for claim in (*claims.claims, *claims.published.claims)]
    assert all("trained models" in sentence for sentence in told)
    assert "better" not in " ".join([*told, claims.note])


def test_training_done_anew_is_in_the_interval(tmp_path: Path) -> None:
    steady = trained(tmp_path / "steady", {0: 8, 1: 7.5, 2: 8.5})
    found = one(steady, "global_accuracy")
    assert (found.verdict, found.seeds) == ("supported", 3)
    assert found.sentence.endswith("supported over 3 seeds.")
    assert steady.seeds == [0, 1, 2]
    assert "how the 3 seeds differ is in the interval" in steady.note
    assert "with identities dealt to the teachers as they were here" in steady.note
    # The same mean of seeds that disagree: each alone is clear, together they are not.
    moved = trained(tmp_path / "moved", {0: 14, 1: 12, 2: -2})
    wider = one(moved, "global_accuracy")
    assert wider.value == pytest.approx(found.value)
    assert wider.verdict == "undecided"
    assert wider.high - wider.low > 5 * (found.high - found.low)


def test_the_note_says_whether_identities_were_dealt_anew(tmp_path: Path) -> None:
    """With one seed nothing is said of it, whatever the setting."""
    for gains, count in (({0: 8}, 0), ({0: 8, 1: 7.5}, 1)):
        once = trained(tmp_path / f"{count}", gains)
        metrics = sorted((tmp_path / f"{count}").rglob("metrics.json"))
        settings = SETTINGS.model_copy(update={"splits_by_seed": True})
        anew = compute_claims(settings, metrics=metrics, output=tmp_path / "claims.json")
        assert once.note.count("dealt to the teachers as they were here.") == count
        assert anew.note == once.note.replace("as they were here.", "anew for each seed.")


# ---------------------------------------------------------------- the published rows


def test_seeds_that_agree_exactly_speak_of_these_trained_models_alone(tmp_path: Path) -> None:
    """As where training ignores its seed."""
    metrics = []
    for seed in (0, 1):
        for set_, value in (("specialized", 92), ("baseline", 85)):
            wrong = errors(PAIRS, dict.fromkeys(GROUPS, value), seed=len(set_))
            metrics.append(write_scored(tmp_path, PAIRS, wrong, set=set_, seed=seed))
    claim = one(claims_of(metrics), "global_accuracy")
    assert claim.seeds == 2 and claim.value == pytest.approx(7)
    assert claim.low < claim.value < claim.high
    assert claim.sentence.endswith("on these pairs, of these models, whose 2 seeds agree exactly.")
    assert claim.power.observed.seeds is None


def test_published_rows_are_judged_beside(tmp_path: Path) -> None:
    claims = trained(tmp_path, {0: 8})
    told = claims.published
    assert "6,000 independent pairs a group" in told.assumption
    assert told.groups == ["African", "Asian", "Caucasian", "Indian"]
    by = {
        claim.measure: claim
        for claim in told.claims
        if claim.claim.startswith("Students of specialized teachers are ahead of those of baseline")
        and claim.claim.endswith("EAF-KD")
    }
    assert by["global_accuracy"].verdict == "supported"
    assert by["std"].verdict == "undecided"
    # Section 5.3: 1.54 to 1.36, by 0.42 points of accuracy.
    effect = one(claims, "std").power.published
    assert effect is not None
    assert effect.effect == pytest.approx(1.36 - 1.54)
    effect = one(claims, "global_accuracy").power.published
    assert effect is not None
    assert effect.effect == pytest.approx(0.42, abs=0.011)
    # 0.42 points: as many times the identities as its square lies below the smallest one's.
    smallest = one(claims, "global_accuracy").power.smallest
    assert effect.identities == pytest.approx((smallest / effect.effect) ** 2, rel=1e-5)


# ---------------------------------------------------------------- files


def test_file_is_the_same_every_time_and_says_what_it_was_made_from(tmp_path: Path) -> None:
    wrong = errors(PAIRS, accuracies(90, 91, 92, 93), seed=0)
    metrics = [
        write_scored(tmp_path, PAIRS, wrong, set=set_) for set_ in ("specialized", "baseline")
    ]
    claims = claims_of(metrics)
    text = (tmp_path / "claims.json").read_text()
    assert claims_of(metrics) == claims
    assert (tmp_path / "claims.json").read_text() == text
    assert (claims.groups, claims.folds, claims.draws) == (list(GROUPS), 10, 200)
    assert (claims.pairs, claims.identities) == (2400, 480)
    assert claims.provenance is not None
    assert claims.provenance.settings["draws"] == 200
    sources = {tmp_path / one.path: one.sha256 for one in claims.provenance.sources}
    scores = hashed_contents(path.with_name("scores.h5") for path in metrics)
    assert sources == hashed(metrics) | scores


def test_order_of_pairs_does_not_matter_where_images_have_names(tmp_path: Path) -> None:
    names = np.arange(2 * len(PAIRS), dtype=np.int32)
    pairs = ScoreTable(
        **{
            name: getattr(PAIRS, name)
            for name in ("similarity", "same", "fold", "group1", "group2", "groups")
        },
        identity1=PAIRS.identity1,
        identity2=PAIRS.identity2,
        identities=PAIRS.identities,
        image1=names[: len(PAIRS)],
        image2=names[len(PAIRS) :],
        images=tuple(f"{number}.jpg" for number in names),
    )
    wrong = [errors(PAIRS, accuracies(*[value] * 4), seed=value) for value in (90, 80)]
    first = write_scored(tmp_path, pairs, wrong[0])
    second = write_scored(tmp_path, pairs, wrong[1], set="baseline")
    straight = one(claims_of([first, second]), "global_accuracy")
    order = np.random.default_rng(0).permutation(len(pairs))
    write_scored(tmp_path, pairs.rows(order), wrong[1][order], set="baseline")
    turned = one(claims_of([first, second]), "global_accuracy")
    assert (turned.value, turned.low, turned.p) == pytest.approx(
        (straight.value, straight.low, straight.p)
    )


def test_faults_are_one_line_that_names_the_file(tmp_path: Path) -> None:
    wrong = errors(PAIRS, accuracies(90, 91, 92, 93), seed=0)
    good = write_scored(tmp_path, PAIRS, wrong)
    alone = write_metrics(tmp_path, accuracies(90, 91, 92, 93), set_="baseline")
    with pytest.raises(InputError, match=r"scores\.h5: found .*; expected"):
        claims_of([good, alone])
    other = write_scored(
        tmp_path, PAIRS.rows(PAIRS.fold < 9), wrong[PAIRS.fold < 9], set="baseline"
    )
    with pytest.raises(InputError, match="expected the same pairs of every system"):
        claims_of([good, other])
    renamed = write_scored(tmp_path, PAIRS, ~wrong & (PAIRS.fold == 0), set="baseline")
    renamed.with_name("scores.h5").write_bytes(good.with_name("scores.h5").read_bytes())
    with pytest.raises(InputError, match=f"{renamed}: found other accuracies than its scores have"):
        claims_of([good, renamed])
    inside = replace(PAIRS, group1=0 * PAIRS.group1, group2=0 * PAIRS.group1, groups=("A",))
    single = write_scored(tmp_path / "one", inside, wrong)
    with pytest.raises(InputError, match="found one group; expected two groups or more"):
        claims_of([single])


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "+0.50"), (-1.234, "−1.23"), (-0.001, "0.00"), (0.0, "0.00")]
)
def test_signs(value: float, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize(
    ("p", "text"), [(1.0, "p = 1"), (0.0421, "p = 0.042"), (0.00099, "p < 0.001"), (0, "p < 0.001")]
)
def test_p_values(p: float, text: str) -> None:
    assert p_text(p) == text


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({"identities": 0.4, "pairs": 0.2}, "no more than there is"),
        (
            {"identities": 2.24, "pairs": 4},
            "2.2 × the identities or 4.0 × the pairs of the same identities",
        ),
        ({"identities": 1234.5, "pairs": None}, "1,234 × the identities"),
        ({"identities": None, "pairs": None, "seeds": 9}, "9 seeds"),
        ({"identities": None, "pairs": None}, "more than any number of pairs or seeds"),
    ],
)
def test_needs_in_words(found: dict[str, Any], text: str) -> None:
    assert needs(Needed(**{"effect": 1.0, "seeds": None, **found}), with_seeds=True) == text
