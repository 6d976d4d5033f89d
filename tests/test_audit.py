"""The audit's numbers against plain loops, and what it says of every two systems."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from audited import GROUPS, scored_pairs, table_of, written
from networks import save_teacher, subject
from scipy import stats

import mstkd
from mstkd.artifacts.records import Metrics, read_record
from mstkd.config import EvaluationSettings
from mstkd.errors import InputError
from mstkd.evaluation.auditing.measured import differential_intervals
from mstkd.evaluation.auditing.systems import names_of
from mstkd.evaluation.coverage import NOTES
from mstkd.evaluation.evaluate import evaluate
from mstkd.evaluation.uncertainty import GroupRates

COLUMNS = (
    "system",
    "group",
    "measure",
    "at",
    "value",
    "low",
    "high",
    "confidence",
    "method",
    "genuine",
    "impostor",
    "note",
)
THRESHOLD, FMR = 0.3, 0.05


@pytest.fixture(scope="module")
def frame():
    return scored_pairs()


@pytest.fixture(scope="module")
def found(frame, tmp_path_factory):
    path = written(tmp_path_factory.mktemp("audit"), frame, "mine.csv")
    return mstkd.audit(path, thresholds=[THRESHOLD], fmrs=[FMR, 1e-3])


@pytest.fixture(scope="module")
def two(tmp_path_factory, frame):
    """Two systems on the same pairs, and the audit of both."""
    folder = tmp_path_factory.mktemp("two")
    random = np.random.default_rng(7)
    moved = frame.assign(similarity=frame["similarity"] + random.normal(0, 0.1, len(frame)))
    paths = [written(folder, frame, "a.csv"), written(folder, moved, "b.csv")]
    return mstkd.audit(paths, thresholds=[THRESHOLD], fmrs=[FMR]), [frame, moved]


def value(audit, measure, at, group="", system=None):
    rows = audit.measures
    rows = rows[(rows["measure"] == measure) & (rows["at"] == at) & (rows["group"] == group)]
    if system is not None:
        rows = rows[rows["system"] == system]
    assert len(rows) == 1, (measure, at, group)
    return rows.iloc[0]


def plain_accuracy(frame, group, *, shared):
    """RFW's protocol for one group, pair by pair, in float64."""
    thresholds = np.arange(0, 4, 0.01)
    accuracies = []
    for fold in sorted(frame["fold"].unique()):
        others = frame[frame["fold"] != fold]
        if not shared:
            others = others[others["group"] == group]
        distance, same = 2 - 2 * others["similarity"].to_numpy(), others["same"].to_numpy() == 1
        right = [np.mean((distance < threshold) == same) for threshold in thresholds]
        best = thresholds[int(np.argmax(right))]
        here = frame[(frame["fold"] == fold) & (frame["group"] == group)]
        decided = [
            (2 - 2 * score < best) == bool(same)
            for score, same in zip(here["similarity"], here["same"], strict=True)
        ]
        accuracies.append(100 * sum(decided) / len(decided))
    return float(np.mean(accuracies))


def plain_rates(frame, accepted):
    """FMR and FNMR by group, from counts."""
    rates = {}
    for group in GROUPS:
        here = frame["group"] == group
        impostor, genuine = here & (frame["same"] == 0), here & (frame["same"] == 1)
        rates[group] = (
            sum(accepted[impostor]) / sum(impostor),
            sum(~accepted[genuine]) / sum(genuine),
        )
    return rates


def at_global_fmr(frame, target):
    """Which pairs are accepted at a threshold that holds the FMR of the other folds."""
    accepted = np.zeros(len(frame), bool)
    for fold in frame["fold"].unique():
        others = frame[(frame["fold"] != fold) & (frame["same"] == 0)]["similarity"].to_numpy()
        candidates = np.sort(np.append(others, np.inf))
        # Between scores a threshold lies just above the one that is no longer accepted.
        best = min(
            (t for t in candidates if np.mean(others >= np.nextafter(t, np.inf)) <= target),
            default=np.inf,
        )
        here = (frame["fold"] == fold).to_numpy()
        accepted[here] = frame["similarity"].to_numpy()[here] > best
    return accepted


# ---------------------------------------------------------------- measures


@pytest.mark.parametrize("at", ["own", "shared"])
def test_accuracies_are_those_of_a_plain_loop(found, frame, at):
    expected = [plain_accuracy(frame, group, shared=at == "shared") for group in GROUPS]
    told = [value(found, "accuracy", at, group) for group in GROUPS]
    assert [row.value for row in told] == pytest.approx(expected, abs=1e-9)
    assert value(found, "global_accuracy", at).value == pytest.approx(np.mean(expected), abs=1e-9)
    assert value(found, "std", at).value == pytest.approx(np.std(expected, ddof=1), abs=1e-9)
    errors = 100 - np.array(expected)
    assert value(found, "ser", at).value == pytest.approx(errors.max() / errors.min(), abs=1e-9)
    assert [row.genuine for row in told] == [200] * 3
    assert value(found, "std", at).impostor == 600


def test_error_rates_are_counts(found, frame):
    """At a similarity that is given, and where the other folds hold a global FMR."""
    for at, accepted in (
        (f"threshold={THRESHOLD}", frame["similarity"].to_numpy() >= THRESHOLD),
        (f"fmr={FMR}", at_global_fmr(frame, FMR)),
    ):
        rates = plain_rates(frame, accepted)
        for group, (fmr, fnmr) in rates.items():
            row = value(found, "fmr", at, group)
            if fmr * 200 < 10:  # too few to be told
                assert np.isnan(row.value) and row.note.startswith("insufficient: "), row
            else:
                assert row.value == pytest.approx(fmr, abs=1e-12)
            assert value(found, "fnmr", at, group).value == pytest.approx(fnmr, abs=1e-12)
            assert value(found, "tar", at, group).value == pytest.approx(1 - fnmr, abs=1e-12)
        impostor, genuine = (frame["same"].to_numpy() == kind for kind in (0, 1))
        assert value(found, "fmr", at).value == pytest.approx(accepted[impostor].mean())
        assert value(found, "fnmr", at).value == pytest.approx((~accepted[genuine]).mean())
    assert value(found, "fmr", f"fmr={FMR}").value != FMR  # no pair sets its own threshold


def test_the_standards_measures_follow_from_the_rates(frame):
    easy = frame.assign(similarity=frame["similarity"] + 0.1 * (frame["same"] == 0))
    audit = mstkd.audit({"easy": table_of(easy)}, thresholds=[THRESHOLD])
    rates = plain_rates(easy, easy["similarity"].to_numpy() >= THRESHOLD)
    fmr, fnmr = (np.array(one) for one in zip(*rates.values(), strict=True))
    assert (fmr * 200 >= 10).all() and (fnmr * 200 >= 10).all(), "a case where all is told"

    def gini(x):
        differences = sum(abs(a - b) for a, b in itertools.product(x, x))
        return len(x) / (len(x) - 1) * differences / (2 * len(x) ** 2 * x.mean())

    expected = {
        "fdr": 1 - (np.ptp(fmr) + np.ptp(fnmr)) / 2,
        "ir": np.sqrt(fmr.max() / fmr.min() * fnmr.max() / fnmr.min()),
        "garbe": (gini(fmr) + gini(fnmr)) / 2,
        "fmr_max_min": fmr.max() / fmr.min(),
        "fmr_max_geomean": fmr.max() / stats.gmean(fmr),
        "fnmr_max_min": fnmr.max() / fnmr.min(),
        "fnmr_max_geomean": fnmr.max() / stats.gmean(fnmr),
    }
    at = f"threshold={THRESHOLD}"
    for name, one in expected.items():
        row = value(audit, name, at)
        assert row.value == pytest.approx(one, rel=1e-9), name
        assert row.low <= row.value <= row.high, name
    for kind, of in (("fmr", fmr), ("fnmr", fnmr)):
        told = [value(audit, f"{kind}_differential", at, group).value for group in GROUPS]
        assert told == pytest.approx(of / stats.gmean(of))


def test_auc_and_eer_are_those_of_all_pairs_of_pairs(found, frame):
    for group, at in (("north", "own"), ("", "shared")):
        here = frame[frame["group"] == group] if group else frame
        genuine, impostor = (here[here["same"] == kind]["similarity"].to_numpy() for kind in (1, 0))
        wins = (genuine[:, None] > impostor).mean() + (genuine[:, None] == impostor).mean() / 2
        assert value(found, "auc", at, group).value == pytest.approx(wins)
        eer = value(found, "eer", at, group).value
        thresholds = np.unique(here["similarity"])
        gaps = [(impostor >= t).mean() - (genuine < t).mean() for t in thresholds]
        near = thresholds[int(np.argmin(np.abs(gaps)))]
        assert eer == pytest.approx((impostor >= near).mean(), abs=2 / len(genuine))


def test_every_row_is_whole(found):
    rows = found.measures
    assert tuple(rows.columns) == COLUMNS
    assert set(rows["at"]) == {"own", "shared", "threshold=0.3", "fmr=0.05", "fmr=0.001"}
    assert not rows.duplicated(["system", "group", "measure", "at"]).any()
    told = rows[rows["value"].notna()]
    assert (told["low"] <= told["value"]).all() and (told["value"] <= told["high"]).all()
    assert (told["confidence"] == 0.95).all() and (told["method"] != "").all()
    rest = rows[rows["value"].isna()]
    assert len(rest) and rest[["low", "high", "confidence"]].isna().all().all()
    assert (rest["note"] != "").all() and (rest["method"] == "").all()


def test_too_few_errors_are_no_number(found):
    """1e-3 of 600 impostor pairs is less than one false match."""
    rows = found.measures[found.measures["at"] == "fmr=0.001"]
    assert rows["value"].isna().all()
    assert (
        rows["note"]
        .str.startswith("insufficient: 0.6 false matches expected of 600 impostor pairs, 10 needed")
        .all()
    )


def test_what_rests_on_a_rate_of_too_few_errors_is_no_number_either(frame):
    """Of three groups one has seven false matches: its FMR, and all that is made of it."""
    impostors = np.flatnonzero((frame["same"] == 0) & (frame["group"] != "west"))
    seven = np.flatnonzero((frame["same"] == 0) & (frame["group"] == "west"))[:7]
    score = np.where(frame["same"], 0.5, frame["similarity"].clip(None, 0.2))
    score[np.append(impostors[::5], seven)] = 0.6  # accepted, as all genuine pairs but some are
    score[np.flatnonzero(frame["same"])[::6]] = 0.1
    audit = mstkd.audit({"a": table_of(frame.assign(similarity=score))}, thresholds=[0.4])
    at = "threshold=0.4"
    row = value(audit, "fmr", at, "west")
    assert np.isnan(row.value)
    assert row.note == "insufficient: 7 errors of 200 pairs, 10 needed; below 0.066"
    for name in ("fdr", "ir", "garbe", "fmr_max_min", "fmr_max_geomean"):
        told = value(audit, name, at)
        assert np.isnan(told.value), name
        assert told.note == ("insufficient: the FMR of group 'west' rests on 7 errors, 10 needed")
    assert np.isnan(value(audit, "fmr_differential", at, "north").value)
    for name in ("fnmr_max_min", "fnmr_max_geomean"):
        assert value(audit, name, at).value >= 1
    assert value(audit, "fmr", at, "north").value == pytest.approx(0.2)
    assert value(audit, "fmr", at).value == pytest.approx((80 + 7) / 600)


def test_a_tar_without_misses_is_told_by_its_bound(frame):
    apart = frame.assign(similarity=frame["same"] * 0.8 + np.linspace(0, 0.1, len(frame)))
    row = value(mstkd.audit({"a": table_of(apart)}, thresholds=[0.5]), "tar", "threshold=0.5")
    assert np.isnan(row.value)
    assert row.note == "insufficient: 0 errors of 600 pairs, 10 needed; above 0.995"


def test_the_noise_floor_is_what_an_even_system_shows(found):
    """Of groups of 400 pairs with an error of some 8 %: about the standard error of one."""
    row = value(found, "std", "own")
    floor = next(one for one in found.evenness if one[:3] == ("mine", "std", "own"))
    errors = (100 - np.array([value(found, "accuracy", "own", g).value for g in GROUPS])) / 100
    of_one = 100 * np.sqrt(np.mean(errors * (1 - errors)) / 400)
    assert 0.8 * of_one < floor.floor < 2 * of_one  # people and thresholds add to it
    assert floor.floor < floor.floor_limit
    assert f"an even system would show {floor.floor:.3g} points on average" in row.note


def test_draws_and_seed_decide_of_spreads_alone(frame):
    table = {"a": table_of(frame)}
    first, again = (mstkd.audit(table, draws=400, seed=1).measures for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    other = mstkd.audit(table, draws=400, seed=2).measures
    differ = set(first[first["high"].fillna(0) != other["high"].fillna(0)]["measure"])
    assert "std" in differ
    assert differ <= {"std", "ser", "fdr", "ir", "garbe"} | {
        f"{kind}_{ratio}" for kind in ("fmr", "fnmr") for ratio in ("max_min", "max_geomean")
    }


def test_differentials_cover_their_truth():
    """1,000 sets of independent pairs at once: rates whose truth is known."""
    random, truth, pairs = np.random.default_rng(0), np.array([0.02, 0.03, 0.05]), 3000
    rates = random.binomial(pairs, truth, (1000, 3)) / pairs
    variances = rates * (1 - rates) / pairs
    inside = np.zeros(3)
    for one, of in zip(rates, variances, strict=True):
        covariance = np.diag(of)[None, :, None, :]
        joint = GroupRates(one[None], covariance, covariance, np.full(3, float(pairs)))
        found = differential_intervals(joint)
        real = truth / stats.gmean(truth)
        inside += (found.low[0] <= real) & (real <= found.high[0])
    assert ((inside > 930) & (inside < 970)).all(), inside


def test_one_group_has_everything_but_comparisons_of_groups(frame):
    one = frame[frame["group"] == "north"].drop(columns="group")
    audit = mstkd.audit({"a": table_of(one)}, thresholds=[THRESHOLD])
    assert audit.groups == ("all",)
    told = set(audit.measures["measure"])
    assert told == {"accuracy", "global_accuracy", "auc", "eer", "fmr", "fnmr", "tar"}
    expected = plain_accuracy(frame, "north", shared=False)
    assert value(audit, "accuracy", "own", "all").value == pytest.approx(expected)
    assert value(audit, "global_accuracy", "own").value == pytest.approx(expected)


def test_what_evaluate_writes_gives_its_very_numbers(tmp_path, packs, verification_packs):
    teacher = save_teacher(tmp_path, subject("T-A"), packs[:1])
    scores, metrics = tmp_path / "scores.h5", tmp_path / "metrics.json"
    settings = EvaluationSettings(folds=2)
    outputs = {"scores": scores, "metrics": metrics, "device": "cpu"}
    evaluate(settings, model=teacher, packs=verification_packs, **outputs)
    record, audit = read_record(Metrics, metrics), mstkd.audit(scores)
    for at, told in (("own", record.own_threshold), ("shared", record.shared_threshold)):
        for group, score in told.groups.items():
            assert value(audit, "accuracy", at, group).value == score.accuracy
        assert value(audit, "global_accuracy", at).value == told.global_accuracy
        assert value(audit, "std", at).value == told.std
        ser = value(audit, "ser", at)
        assert np.isnan(ser.value) if told.ser is None else ser.value == told.ser


# ---------------------------------------------------------------- comparisons


def test_differences_are_those_of_the_measures(two):
    audit, _ = two
    assert audit.systems == ("a", "b")
    rows = audit.comparisons
    assert set(zip(rows["first"], rows["second"], strict=True)) == {("a", "b")}
    told = rows[rows["value"].notna()]
    assert {"accuracy", "global_accuracy", "std", "ser", "fmr", "fnmr", "tar", "auc", "eer"} <= set(
        told["measure"]
    )
    for row in told.itertuples():
        first, second = (value(audit, row.measure, row.at, row.group, s).value for s in "ab")
        assert row.value == pytest.approx(first - second, abs=1e-9), row
        assert row.low <= row.high and row.confidence == 0.95
    # Where each system's global FMR is held, that of one is that of the other.
    held = (rows["measure"] == "fmr") & (rows["at"] == f"fmr={FMR}") & (rows["group"] == "")
    assert not held.any()


def test_the_other_way_round_everything_changes_sign(two, tmp_path):
    audit, frames = two
    paths = [written(tmp_path, frame, name) for frame, name in zip(frames, "ab", strict=True)]
    other = mstkd.audit(paths[::-1], thresholds=[THRESHOLD], fmrs=[FMR]).comparisons
    rows = audit.comparisons
    exact = ~rows["measure"].isin([one.measure for one in audit.evenness])
    assert rows[exact]["value"].tolist() == pytest.approx(
        (-other[exact]["value"]).tolist(), nan_ok=True
    )
    assert rows[exact]["p"].tolist() == pytest.approx(other[exact]["p"].tolist(), nan_ok=True)


def test_what_is_known_of_an_interval_stands_beside_it(two):
    told = two[0].comparisons[two[0].comparisons["measure"] == "std"]
    assert len(told) and told["note"].str.contains(NOTES["difference of std"]).all()
    numbers = two[0].measures.dropna(subset="value")
    assert set(numbers["measure"]) & set(NOTES)
    for measure, rows in numbers.groupby("measure"):
        known = rows["note"].str.contains(NOTES.get(measure, "in simulated sets"), regex=False)
        assert known.all() if measure in NOTES else not known.any()


def test_p_values_are_adjusted_over_each_measure_at_each_place(two):
    rows = two[0].comparisons
    for _, family in rows[rows["p"].notna()].groupby(["measure", "at"]):
        p, highest, expected = family["p"].tolist(), 0.0, {}
        for rank, place in enumerate(np.argsort(p, kind="stable")):
            highest = max(highest, min(1.0, p[place] * (len(p) - rank)))
            expected[place] = highest
        assert family["p_holm"].tolist() == pytest.approx([expected[n] for n in range(len(p))])


def test_verdicts_say_of_what_they_are(two):
    rows = two[0].comparisons
    told = rows[rows["value"].notna()]
    for row in told.itertuples():
        word, _, scope = row.verdict.partition(" on these pairs, ")
        assert scope == "of these two systems"
        higher, lower = row.low > 0, row.high < 0
        shown = row.p_holm <= 0.05 and (higher or lower)
        assert word == (("higher" if higher else "lower") if shown else "no difference shown")
    assert not rows.astype(str).apply(lambda column: column.str.contains("better")).any().any()
    by_chance = (told["p"] <= 0.05) & (told["p_holm"] > 0.05)
    assert by_chance.any(), "some that one test alone would call a difference"
    assert {"higher", "lower", "no"} & {verdict.split()[0] for verdict in told["verdict"]}


def test_mcnemar_is_the_exact_test_of_the_pairs_on_which_two_differ(two):
    audit, frames = two
    here = (frames[0]["group"] == "west") & (frames[0]["same"] == 1)
    for at, rejected in (
        ("threshold=0.3", [frame["similarity"].to_numpy() < THRESHOLD for frame in frames]),
        ("fmr=0.05", [~at_global_fmr(frame, FMR) for frame in frames]),
    ):
        rows = audit.comparisons
        row = rows[(rows["measure"] == "fnmr") & (rows["at"] == at) & (rows["group"] == "west")]
        wrong = [one[here] for one in rejected]
        only = [int((wrong[n] & ~wrong[1 - n]).sum()) for n in (0, 1)]
        expected = stats.binomtest(only[0], sum(only)).pvalue
        assert row["mcnemar"].item() == pytest.approx(expected)


def test_a_system_against_itself_shows_nothing(frame):
    table = table_of(frame)
    rows = mstkd.audit({"a": table, "b": table}, fmrs=[FMR]).comparisons
    told = rows[rows["value"].notna()]
    assert (told["value"].abs() < 1e-9).all()
    assert told["verdict"].str.startswith("no difference shown").all()


# ---------------------------------------------------------------- what is given


def test_tables_may_come_by_name_in_a_list_or_alone(frame, tmp_path):
    table, path = table_of(frame), written(tmp_path, frame)
    assert mstkd.audit(table).systems == ("system",)
    assert mstkd.audit(str(path)).systems == ("scores",)
    assert mstkd.audit([table, path]).systems == ("system", "scores")
    assert mstkd.audit([table, table]).systems == ("system 1", "system 2")
    assert mstkd.audit({"x": path, "y": table}).systems == ("x", "y")


def test_a_data_frame_is_what_its_csv_is(two, frame, tmp_path):
    audit, frames = two
    options = {"thresholds": [THRESHOLD], "fmrs": [FMR]}
    given = {
        "a": frames[0].set_index(np.arange(len(frame))[::-1]),
        "b": frames[1].assign(same=frame["same"] == 1),
    }
    found = mstkd.audit(given, **options)
    pd.testing.assert_frame_equal(found.measures, audit.measures)
    pd.testing.assert_frame_equal(found.comparisons, audit.comparisons)
    both = mstkd.audit({"a": frames[0], "b": written(tmp_path, frames[1])}, **options)
    pd.testing.assert_frame_equal(both.measures, audit.measures)
    assert mstkd.audit(frame).systems == ("system",)
    assert mstkd.audit([frame, frame]).systems == ("system 1", "system 2")
    rates = pd.DataFrame({"system": "x", "group": ["a", "b"], "fmr": 0.1, "fnmr": [0.1, 0.2]})
    assert value(mstkd.audit(rates), "fnmr_max_min", "shared").value == pytest.approx(2)


def broken(frame, case):
    """The frame with a fault."""
    match case:
        case "empty":
            return frame.assign(similarity=frame["similarity"].where(frame.index != 3))
        case "constant":
            return frame.assign(similarity=0.5)
        case "turned":
            return frame.assign(similarity=-frame["similarity"])
        case "self":
            return frame.assign(image2=frame["image2"].where(frame.index != 4, frame["image1"]))
        case "twice":
            return pd.concat([frame, frame.head(1)])
        case "fold":
            return frame.assign(fold=np.arange(len(frame)))
        case "class":
            return frame[frame["same"] == 1]
        case "column":
            return frame.drop(columns="similarity")
        case "same":
            return frame.assign(same=frame["same"].where(frame.index != 7, 2))
        case "no rows":
            return frame.head(0)


@pytest.mark.parametrize(
    "case",
    [
        *("empty", "constant", "turned", "self", "twice", "fold", "class", "column", "same"),
        "no rows",
    ],
)
def test_faults_of_a_data_frame_are_told_in_the_words_of_its_csv(frame, tmp_path, case):
    path = written(tmp_path, broken(frame, case))
    with pytest.raises(InputError) as of_file:
        mstkd.audit(path)
    with pytest.raises(InputError) as of_frame:
        mstkd.audit({"mine": broken(frame, case)})

    def row(line):
        return str(int(line[1]) - 2)

    words = str(of_file.value).replace(str(path), "mine")
    words = words.replace("mine:1: ", "mine: ").replace("of line 2 again", "of row 0 again")
    assert str(of_frame.value) == re.sub(
        r"mine:(\d+)", lambda line: f"mine: row {row(line)}", words
    )


def test_rows_may_be_in_another_order(frame, tmp_path):
    mixed = frame.sample(frac=1, random_state=3)
    audit = mstkd.audit([written(tmp_path, frame, "a.csv"), written(tmp_path, mixed, "b.csv")])
    of_a, of_b = (audit.measures[audit.measures["system"] == name]["value"] for name in "ab")
    assert of_a.tolist() == pytest.approx(of_b.tolist(), nan_ok=True)


def test_pairs_across_groups_are_left_out(frame, tmp_path):
    sided = frame.rename(columns={"group": "group1"}).assign(group2=frame["group"])
    across = sided[sided["same"] == 0].head(20).assign(group2="west", similarity=0.99)
    across = across.assign(image1=[f"x{n}.jpg" for n in range(20)])
    both = pd.concat([sided, across], ignore_index=True)
    alone, with_them = (
        mstkd.audit(written(tmp_path, f, n)) for f, n in ((frame, "a"), (both, "a"))
    )
    pd.testing.assert_frame_equal(alone.measures, with_them.measures)


def test_names_tell_files_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def names(*paths):
        return names_of([tmp_path / path for path in paths])

    assert names("x/mine.csv.gz") == ["mine"]
    assert names("a/seed0/scores.h5", "b/seed0/scores.h5") == ["a", "b"]
    assert names("v1.2.csv", "v1.3.csv") == ["v1.2", "v1.3"]
    assert names("r/a/x.csv", "r/b/y.csv") == ["a/x", "b/y"]
    assert names("a.csv", "a.h5") == [str(tmp_path / "a.csv"), str(tmp_path / "a.h5")]
    with pytest.raises(InputError, match="found the same file twice; expected it once"):
        names("a.csv", "x/../a.csv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fmrs": [0]}, "fmr: found 0.0; expected a fraction between 0 and 1"),
        ({"fmrs": [1.5]}, "fmr: found 1.5; expected a fraction between 0 and 1"),
        ({"thresholds": [np.nan]}, "threshold: found nan; expected a similarity, a finite number"),
    ],
)
def test_places_that_are_none_are_refused(frame, options, message):
    with pytest.raises(InputError) as caught:
        mstkd.audit(table_of(frame), **options)
    assert str(caught.value) == message


# ---------------------------------------------------------------- rates without scores


def test_of_rates_the_measures_of_rates_follow(tmp_path):
    path = tmp_path / "rates.csv"
    path.write_text(
        "system,group,fmr,fnmr\nx,a,0.01,0.02\nx,b,0.02,0.05\ny,a,0.1,0.2\ny,b,0.1,0.2\n"
    )
    audit = mstkd.audit(path)
    assert audit.systems == ("x", "y") and audit.comparisons.empty
    rows = audit.measures
    assert rows[["low", "high", "confidence", "genuine", "impostor"]].isna().all().all()
    assert rows["note"].str.contains("no interval").all()
    assert value(audit, "fdr", "shared", system="x").value == pytest.approx(1 - 0.04 / 2)
    assert value(audit, "ir", "shared", system="x").value == pytest.approx(np.sqrt(2 * 2.5))
    assert value(audit, "garbe", "shared", system="y").value == 0
    assert value(audit, "fnmr", "shared", "b", system="x").value == 0.05
    told = value(audit, "fmr_differential", "shared", "a", system="x").value
    assert told == pytest.approx(1 / np.sqrt(2))
