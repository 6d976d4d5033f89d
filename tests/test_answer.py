"""The answer of a run whose truth is known."""

from pathlib import Path

import pytest
from reporting import errors, verification_pairs, write_scored

from mstkd.config import ClaimsSettings, Config
from mstkd.report.answer import UNANSWERED, answer, at_a_glance, by_group, whom, worth
from mstkd.report.claims import Claims, compute_claims

GROUPS = ("A", "B", "C", "D")
PAIRS = verification_pairs(GROUPS, identities=12, pairs=60)  # 600 pairs a group


def claims_of(folder: Path, values, *, chosen=None, seeds=(0,)) -> Claims:
    """Of students of three adaptors, by set and loss; no two err together but by chance."""
    metrics = []
    for seed in seeds:
        for number, ((set_, loss), accuracies) in enumerate(values.items()):
            for place, name in enumerate(("SL", "DuL", "DLDP")):
                wrong = errors(
                    PAIRS,
                    dict(zip(GROUPS, accuracies, strict=True)),
                    seed=100 * seed + 10 * number + place,
                )
                metrics.append(
                    write_scored(folder, PAIRS, wrong, set=set_, name=name, loss=loss, seed=seed)
                )
    settings = ClaimsSettings(draws=200, chosen_on_test=chosen)
    return compute_claims(settings, metrics=metrics, output=folder / "claims.json")


EVEN, LESS, UNEVEN = (95, 95, 95, 95), (85, 85, 85, 85), (75, 85, 95, 99)


def test_yes_and_no_are_told_alike(tmp_path):
    claims = claims_of(
        tmp_path,
        {
            ("specialized", "a-KD"): EVEN,
            ("baseline", "a-KD"): UNEVEN,
            ("specialized", "EAF-KD"): LESS,
            ("baseline", "EAF-KD"): EVEN,
        },
    )
    told = answer(claims)
    assert told.startswith(
        "Against students of baseline teachers, those of specialized teachers are more accurate "
        "with a-KD (+6.50 points, +"
    )
    assert " and less accurate with EAF-KD (−10.00 points, −" in told
    assert "; and more even with a-KD (STD −10.75, −" in told
    assert " and not told apart in evenness with EAF-KD (STD 0.00, " in told
    assert told.endswith(": on these pairs, of these trained models.")
    assert whom(claims) == (
        "Group by group they are more accurate on A and B with a-KD; less accurate on D with a-KD "
        "and A, B, C and D with EAF-KD; 1 of 8 comparisons are undecided."
    )


def test_a_small_difference_is_not_told(tmp_path):
    claims = claims_of(
        tmp_path, {("specialized", "a-KD"): (90, 90, 90, 91), ("baseline", "a-KD"): (90,) * 4}
    )
    assert "not told apart in accuracy with a-KD (+0.25 points, −" in answer(claims)
    assert whom(claims).startswith("Group by group they are not told apart; 4 of 4 comparisons")


def test_several_seeds_are_spoken_of_as_such(tmp_path):
    claims = claims_of(
        tmp_path, {("specialized", "a-KD"): EVEN, ("baseline", "a-KD"): LESS}, seeds=(0, 1, 2)
    )
    assert answer(claims).endswith(": over 3 seeds.")


def test_without_both_sets_there_is_no_answer(tmp_path):
    claims = claims_of(tmp_path, {("specialized", "a-KD"): EVEN})
    assert answer(claims) == UNANSWERED
    assert whom(claims) == ""
    assert by_group(claims) is None
    assert at_a_glance(claims) is not None  # of the adaptors


def test_plots_show_the_numbers_of_the_claims(tmp_path):
    values = {
        ("specialized", "a-KD"): EVEN,
        ("baseline", "a-KD"): UNEVEN,
        ("specialized", "EAF-KD"): LESS,
        ("baseline", "EAF-KD"): EVEN,
    }
    plot = by_group(claims_of(tmp_path, values))
    assert plot.columns == ("a-KD", "EAF-KD")
    assert [name for name, _ in plot.lines] == [*GROUPS, "all groups"]
    differences = [
        [one - other for one, other in zip(EVEN, UNEVEN, strict=True)] + [6.5],
        [-10] * 5,
    ]
    for column, expected in enumerate(differences):
        marks = [line[column] for _, line in plot.lines]
        # One axis for both columns: places go in step with the differences.
        place = dict(plot.ticks[column])
        zero, unit = plot.zeros[column], (place["+20"] - place["0"]) / 20
        assert [round((mark.at - zero) / unit, 1) for mark in marks] == expected
        assert all(0 <= mark.begin < mark.at < mark.end <= 100 for mark in marks)
        assert [mark.verdict for mark in marks][-1] == ("supported", "contradicted")[column]
    assert plot.zeros[0] == plot.zeros[1]
    assert plot.lines[-1][1][0].paper == "+0.52, supported"
    assert plot.lines[0][1][0].paper == ""


def test_one_pair_is_worth_what_it_changes(tmp_path):
    claims = claims_of(tmp_path, {("specialized", "a-KD"): EVEN})
    assert worth(claims) == (
        "A, B, C and D have 600 pairs each, of which one is 0.17 points of the group's accuracy, "
        "and 0.042 of the global one at most."
    )
    fewer = claims.model_copy(update={"group_pairs": {"A": 6000, "B": 300}, "groups": ["A", "B"]})
    assert worth(fewer) == (
        "A has 6,000 pairs, of which one is 0.017 points of the group's accuracy; B has 300 pairs, "
        "of which one is 0.33 points of the group's accuracy, and 0.17 of the global one at most."
    )


def test_choosing_on_the_test_is_cautioned_against_and_nothing_else(tmp_path):
    values = {("specialized", "a-KD"): EVEN}
    plain = claims_of(tmp_path, values)
    assert plain.caution == ""
    chosen = claims_of(tmp_path, values, chosen=("teachers", "students"))
    assert chosen.caution.startswith("The epoch of each teacher and each student was chosen by")
    assert chosen.note == f"{plain.note} {chosen.caution}"


@pytest.mark.parametrize(
    ("pairs", "teachers", "students", "expected"),
    [
        ("verification", "test", "test", ("teachers", "students")),
        ("verification", "test", "last", ("teachers",)),
        ("verification", "heldout", "heldout", None),
        ("heldout", "heldout", "last", ("teachers",)),
        ("heldout", "test", "test", None),
    ],
)
def test_the_config_says_what_was_chosen_on_the_scored_pairs(pairs, teachers, students, expected):
    config = Config.model_validate(
        {
            "groups": ["A", "B"],
            "data": {"synthetic": {}, "heldout": {}},
            "backbones": {"iresnet18": {}},
            "teachers": {"backbones": ["iresnet18"], "selection": {"rule": teachers}},
            "students": {"backbone": "iresnet18", "selection": {"rule": students}},
            "evaluation": {"pairs": pairs},
        }
    )
    assert config.claims_settings().chosen_on_test == expected


def test_the_answer_is_of_the_papers_thresholds(tmp_path):
    """One threshold for all groups is told further down."""
    values = {("specialized", "a-KD"): EVEN, ("baseline", "a-KD"): LESS}
    claims = claims_of(tmp_path, values)
    other = [
        one.model_copy(update={"value": 77.0, "verdict": "contradicted"})
        if one.threshold == "shared"
        else one
        for one in claims.claims
    ]
    changed = claims.model_copy(update={"claims": other})
    for told in (answer, whom, by_group, at_a_glance):
        assert told(changed) == told(claims)
