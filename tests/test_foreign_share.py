"""`teachers.foreign_share`: who learns from whom, under which name, and against whom it is held."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imagecounts import a_hundred_of_each
from refusals import refused_in_one_line
from runs import TINY, edited, planned, snakemake

from mstkd.artifacts.records import Subject
from mstkd.bench.work import experiment
from mstkd.config import Config, SplitSettings, files, validate
from mstkd.config.models import every_model, models_of, tables
from mstkd.data.splits import deal, mix, read_split, split
from mstkd.errors import InputError
from mstkd.report.paper import paper_claims

PLAIN: dict[str, Any] = {
    "groups": ["B", "A", "C", "D"],
    "data": {"synthetic": {}},
    "splits": {"seed": 5},
    "backbones": {"small": {"blocks": [1, 1, 1, 1]}},
    "teachers": {"backbones": ["small"]},
    "adaptors": {"architectures": {"SL": {}, "DuL": {}}},
    "students": {"backbone": "small", "losses": {"a-KD": {}}},
}
SHARES = [0, 0.375, 0.75]


def config(share: Any, **edits: Any) -> Config:
    made = edited(PLAIN, {"teachers.foreign_share": share, **edits})
    return validate(Config, made, "config")


# ---------------------------------------------------------------- who learns from whom


@given(
    st.dictionaries(st.sampled_from("ABCDEF"), st.integers(1, 40), min_size=2),
    st.floats(0, 1),
    st.integers(0, 3),
)
def test_each_identity_has_one_teacher_and_its_group_gives_the_share(
    counts: dict[str, int], share: float, seed: int
) -> None:
    names = {group: [f"m.{n}" for n in range(count)] for group, count in counts.items()}
    splits = mix(names, share, seed)
    assert splits.keys() == names.keys()
    owners = Counter(
        (group, name) for own in splits.values() for group in own for name in own[group]
    )
    assert owners == Counter((group, name) for group in names for name in names[group])
    for group, count in counts.items():
        kept = len(splits[group].get(group, ()))
        assert abs(kept - (1 - share) * count) <= 0.5 + 1e-9
        others = [len(splits[other].get(group, ())) for other in counts if other != group]
        assert sum(others) == count - kept
        assert max(others) - min(others) <= 1


@given(st.integers(2, 6), st.integers(1, 40), st.floats(0, 1), st.integers(0, 3))
def test_of_equal_groups_every_split_has_the_size_and_the_share(
    groups: int, count: int, share: float, seed: int
) -> None:
    names = {group: [f"m.{n}" for n in range(count)] for group in "ABCDEF"[:groups]}
    for group, own in mix(names, share, seed).items():
        assert sum(map(len, own.values())) == count
        foreign = sum(len(of) for other, of in own.items() if other != group)
        assert abs(foreign - share * count) <= 0.5 + 1e-9


def test_nothing_is_given_at_0_and_all_at_1() -> None:
    names = {group: [f"{group}{n}" for n in range(7)] for group in "ABC"}
    assert mix(names, 0, 0) == {group: {group: sorted(of)} for group, of in names.items()}
    assert all(group not in own for group, own in mix(names, 1, 0).items())


@pytest.mark.parametrize("counts", [(80, 80, 80, 80), (40, 60, 80, 100), (81, 82, 83, 85)])
def test_at_the_share_of_a_balanced_split_it_is_the_baselines_mixture(
    counts: tuple[int, ...],
) -> None:
    """As many of each group as a baseline teacher has, to one; and other ones."""
    names = {
        group: [f"{n:03}" for n in range(count)]
        for group, count in zip("ABCD", counts, strict=True)
    }
    mixed, dealt = mix(names, 0.75, 0), deal(names, 4, 0)
    for own, other in itertools.product(mixed.values(), dealt):
        for group in names:
            assert abs(len(own[group]) - len(other[group])) <= 1
    assert all(own not in dealt for own in mixed.values())


def test_a_larger_share_moves_what_a_smaller_one_moves_and_more() -> None:
    names = {group: [f"{n:03}" for n in range(80)] for group in "ABCD"}
    less, more = mix(names, 0.25, 1), mix(names, 0.5, 1)
    for group, other in itertools.product(names, repeat=2):
        one, two = set(less[group].get(other, ())), set(more[group][other])
        assert one > two if group == other else one < two
    assert mix(names, 0.25, 2) != less


@given(st.randoms(use_true_random=False))
def test_the_order_of_groups_and_names_does_not_matter(random: Any) -> None:
    names = {group: [f"{n:03}" for n in range(9)] for group in "ABCD"}
    turned = [(group, random.sample(of, len(of))) for group, of in names.items()]
    random.shuffle(turned)
    assert mix(dict(turned), 0.4, 0) == mix(names, 0.4, 0)


def test_the_shuffle_stays_what_it_was() -> None:
    """Another shuffle would be another data set: raise the recipe of Splits then."""
    assert mix({"A": "abcde", "B": "fghij"}, 0.4, 0) == {
        "A": {"A": ["a", "b", "d"], "B": ["h", "i"]},
        "B": {"A": ["c", "e"], "B": ["f", "g", "j"]},
    }


def test_the_step_writes_the_split_of_one_teacher(tmp_path: Path, packs: list[Path]) -> None:
    names = {"A": [f"A{n}" for n in range(5)], "B": [f"B{n}" for n in range(3)]}
    for group in "AB":
        output = tmp_path / f"T-{group}.csv"
        settings = SplitSettings(seed=3, foreign_share=0.5, group=group)
        split(settings, packs=packs, outputs=[output])
        assert read_split(output) == mix(names, 0.5, 3)[group]
        before = output.read_bytes()
        split(settings, packs=packs[::-1], outputs=[output])
        assert output.read_bytes() == before


def test_packs_and_outputs_that_do_not_fit_a_share(tmp_path: Path, packs: list[Path]) -> None:
    settings = SplitSettings(foreign_share=0.5, group="A")
    for few in (packs[:1], packs[1:]):
        with pytest.raises(InputError, match=r"packs: found packs of .; expected those of A and"):
            split(settings, packs=few, outputs=[tmp_path / "x.csv"])
    with pytest.raises(InputError, match=r"outputs: found 2 files; expected one, of the teacher"):
        split(settings, packs=packs, outputs=[tmp_path / "x.csv", tmp_path / "y.csv"])
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- names, settings and files


def test_a_share_of_0_is_what_was_there_before_there_were_shares() -> None:
    """To the byte: settings that a record holds are compared as text."""
    written, unwritten = config(0.0), validate(Config, PLAIN, "config")
    assert written == unwritten
    for made in (written, unwritten):
        assert made.split_settings("specialized", "A").dump() == '{"recipe":1,"seed":0}'
        assert made.split_settings("single").dump() == '{"recipe":1,"seed":0}'
        assert made.split_settings("baseline").dump() == '{"recipe":1,"seed":5}'
        assert "foreign" not in made.teacher_settings("small").dump() + made.page_settings().dump()
        assert files.split_packs(made, "specialized", "A") == ["results/packs/train/A.h5"]
        assert files.teacher_packs(made, "small", "specialized", "T-A") == [
            "results/packs/train/A.h5"
        ]
        assert files.teacher_split(made, "small", "specialized", "T-A") == [
            "results/splits/specialized/T-A.csv"
        ]


def test_one_share_changes_the_splits_and_what_specialized_teachers_read() -> None:
    made = config(0.375)
    settings = made.split_settings("specialized", "A")
    assert settings == SplitSettings(seed=5, foreign_share=0.375, group="A")
    everyone = [f"results/packs/train/{group}.h5" for group in "BACD"]
    assert files.split_packs(made, "specialized", "A") == everyone
    assert files.teacher_packs(made, "small", "specialized", "T-A") == everyone
    assert files.with_seed_open(made, name="x") == files.with_seed_open(config(0), name="x")
    assert made.teacher_settings("small") == config(0).teacher_settings("small")
    assert made.split_settings("baseline") == config(0).split_settings("baseline")
    assert made.page_settings().foreign_shares == (0.375,)


def test_a_list_makes_variants_of_specialized_teachers_alone() -> None:
    made = config(SHARES, **{"teachers.head": {"margin": [0.3, 0.5]}})
    variants = {
        set_: made.teacher_variants("small", set_) for set_ in ("specialized", "baseline", "single")
    }
    assert variants["specialized"] == tuple(
        f"small+foreign_share={share}+margin={margin}"
        for share in ("0", "0.375", "0.75")
        for margin in ("0.3", "0.5")
    )
    assert variants["baseline"] == variants["single"] == ("small+margin=0.3", "small+margin=0.5")
    found = Counter((model.kind, model.set, model.name) for model in every_model(made))
    of_sets = {"specialized": 6, "baseline": 2, "single": 2, "none": 1}
    assert found == {key: of_sets[key[1]] for key in found}
    one = "small+foreign_share=0.375+margin=0.5"
    assert made.teacher_variant(one, "baseline") == "small+margin=0.5"
    assert made.teacher_settings(one) == made.teacher_settings("small+margin=0.5")
    assert files.teacher_split(made, one, "specialized", "T-A") == [
        "results/splits/specialized+foreign_share=0.375/T-A.csv"
    ]
    assert files.teacher_split(made, "small+margin=0.5", "baseline", "BT-1") == [
        "results/splits/baseline/BT-1.csv"
    ]
    assert made.split_settings("specialized+foreign_share=0", "A") == SplitSettings()
    assert made.settings_of("split", split="specialized+foreign_share=0.75", group="C") == (
        SplitSettings(seed=5, foreign_share=0.75, group="C")
    )
    assert made.settings_of("split", split="specialized") is None  # of a config without the list
    assert made.split_folders("specialized") == tuple(
        f"specialized+foreign_share={share}" for share in ("0", "0.375", "0.75")
    )


def test_figures_of_a_share_show_the_baseline_beside_it() -> None:
    made = config(SHARES)
    variant = "small+foreign_share=0.75"
    found = {Path(path).parts[2:4] for path in files.stages_with_seed_open(made, variant, name="x")}
    assert found == {(variant, "specialized"), ("small", "baseline")}
    assert files.tracings(made, variant) == [
        f"results/tracing/{variant}/specialized/seed0.json",
        "results/tracing/small/baseline/seed0.json",
    ]


def test_rows_of_a_table_tell_the_share() -> None:
    made = config(SHARES)
    rows = models_of(made, tables(made)["table2"])
    shown = [(row.set, row.name, row.backbone) for row in rows if row.set != "none"]
    assert shown == [
        *(
            ("specialized", name, f"small+foreign_share={share}")
            for name in ("SL", "DuL")
            for share in ("0", "0.375", "0.75")
        ),
        ("baseline", "SL", "small"),
        ("baseline", "DuL", "small"),
        ("single", "direct", "small"),
    ]


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (-0.1, "teachers.foreign_share: found -0.1; expected"),
        (1.5, "teachers.foreign_share: found 1.5; expected"),
        ("half", "teachers.foreign_share: found 'half'; expected"),
        (True, "teachers.foreign_share: found True; expected a number"),
        (float("nan"), "teachers.foreign_share: found nan"),
        ([], "teachers.foreign_share: found []; expected a value or more"),
        ([0.5, 2], "teachers.foreign_share: found 2; expected"),
        ([0.5, "0.50"], "teachers.foreign_share: found [0.5, '0.50']; expected each value once"),
    ],
)
def test_what_is_no_share_is_refused_in_one_line(share: Any, message: str) -> None:
    with refused_in_one_line(message):
        config(share)


def test_the_split_of_a_config_cannot_have_a_share_of_its_own() -> None:
    with pytest.raises(InputError, match=r"splits\.foreign_share"):
        config(0, **{"splits.foreign_share": 0.5})


def test_what_an_experiment_costs_counts_each_set_by_its_own_variants() -> None:
    """Four degrees of 4 specialized teachers, 4 baseline ones and one of all."""
    counts = a_hundred_of_each("ABCD")
    loads = {load.part: load for load in experiment(config(SHARES), counts)}
    assert sum(load.jobs for name, load in loads.items() if name.endswith(" teachers")) == 12 + 5
    epochs = config(0).teachers.optimiser.epochs
    seen = sum(load.images for name, load in loads.items() if name.endswith(" teachers"))
    assert seen == epochs * 400 * (3 + 1 + 1)
    assert loads["SL adaptors"].jobs == 3 + 1


# ---------------------------------------------------------------- claims


def subject(set_: str, name: str, share: str | None = None, kind: str = "student") -> Subject:
    backbone = "small" if share is None else f"small+foreign_share={share}"
    loss = None if kind == "teacher" else "none" if set_ == "none" else "a-KD"
    return Subject(kind=kind, backbone=backbone, set=set_, name=name, loss=loss, seed=0)  # type: ignore[arg-type]


def subjects(shares: tuple[str | None, ...]) -> list[Subject]:
    groups = PLAIN["groups"]
    return [
        *(
            one
            for share in shares
            for one in (
                *(subject("specialized", f"T-{group}", share, "teacher") for group in groups),
                *(subject("specialized", name, share) for name in ("SL", "DuL")),
            )
        ),
        *(subject("baseline", f"BT-{n}", kind="teacher") for n in (1, 2, 3, 4)),
        *(subject("baseline", name) for name in ("SL", "DuL")),
        subject("single", "T-all", kind="teacher"),
        subject("single", "direct"),
        subject("none", "none"),
    ]


DEGREE = "degree of specialization"
AHEAD = "Students of specialized teachers{} are ahead of those of baseline teachers, a-KD"


def test_no_claim_mixes_shares_and_each_is_held_against_the_baseline() -> None:
    every = subjects(("0.75", "0", "0.375"))
    claims = {claim.text: claim for claim in paper_claims(every, PLAIN["groups"])}
    for of, share in (
        ("", "0"),
        (" with 37.5 % of other groups' identities", "0.375"),
        (" with 75 % of other groups' identities", "0.75"),
    ):
        claim = claims[AHEAD.format(of)]
        assert claim.topic == ("specialized or baseline" if share == "0" else DEGREE)
        assert len(claim.cells) == 2
        for cell, name in zip(claim.cells, ("SL", "DuL"), strict=True):
            (row,) = cell.weights.values()
            better, worse = (every[int(np.flatnonzero(row == sign)[0])] for sign in (1, -1))
            assert better == subject("specialized", name, share)
            assert worse == subject("baseline", name)
            assert np.count_nonzero(row) == 2
    for claim in claims.values():
        if claim.topic == DEGREE:
            continue
        of = {
            every[place].backbone
            for cell in claim.cells
            for row in cell.weights.values()
            for place in np.flatnonzero(row.reshape(len(every), -1).any(axis=1))
            if every[place].set == "specialized"
        }
        assert of <= {"small+foreign_share=0"}, claim.text
    assert not [claim for claim in claims.values() if claim.topic == "teachers' backbone"]


def test_claims_of_one_share_are_those_without_a_list() -> None:
    plain, listed = (paper_claims(subjects((share,)), PLAIN["groups"]) for share in (None, "0"))
    assert [claim.text for claim in plain] == [claim.text for claim in listed]
    for one, other in zip(plain, listed, strict=True):
        assert [cell.label for cell in one.cells] == [cell.label for cell in other.cells]
        for cell, twin in zip(one.cells, other.cells, strict=True):
            for row, same in zip(cell.weights.values(), twin.weights.values(), strict=True):
                np.testing.assert_array_equal(row, same)


def test_the_least_share_is_named_where_it_is_not_the_papers() -> None:
    claims = paper_claims(subjects(("0.5", "0.25")), PLAIN["groups"])
    topics = {claim.text: claim.topic for claim in claims}
    assert (
        topics[AHEAD.format(" with 25 % of other groups' identities")] == "specialized or baseline"
    )
    assert topics[AHEAD.format(" with 50 % of other groups' identities")] == DEGREE


# ---------------------------------------------------------------- runs


@pytest.mark.workflow
def test_a_written_default_reruns_nothing_and_a_share_what_it_must(finished: Path) -> None:
    assert planned(finished, edited(TINY, {"teachers.foreign_share": 0.0})) == {}
    jobs = planned(finished, edited(TINY, {"teachers.foreign_share": 0.5}))
    groups = len(TINY["groups"])
    assert jobs["split_specialized"] == jobs["train_teacher"] == groups
    assert not {"split_baseline", "split_single", "train_single_teacher"} & jobs.keys()
    assert jobs["cache_embeddings"] == 1
    listed = planned(finished, edited(TINY, {"teachers.foreign_share": [0, 0.5]}))
    assert listed["split_specialized"] == listed["train_teacher"] == 2 * groups
    assert listed["cache_embeddings"] == 2


@pytest.mark.usefixtures("quick_jobs")
@pytest.mark.workflow
def test_a_whole_run_of_two_shares(tmp_path: Path) -> None:
    made = edited(
        TINY,
        {
            "teachers.foreign_share": [0, 0.5],
            "adaptors.architectures": {"SL": {}},
            "students.losses": {"a-KD": {}},
        },
    )
    snakemake(tmp_path, made)
    results = tmp_path / "results"
    for share, images in (("0", 1), ("0.5", len(TINY["groups"]))):
        folder = results / f"teachers/tiny+foreign_share={share}/specialized/T-A/seed0"
        told = json.loads((folder / "model.json").read_text())
        assert len(told["inputs"]) == images
        read = read_split(results / f"splits/specialized+foreign_share={share}/T-A.csv")
        assert len(read) == images
    assert (results / "teachers/tiny/baseline/BT-1/seed0/model.json").exists()
    table = (results / "tables/table2.md").read_text()
    assert "teachers foreign\\_share=0.5" in table
    page = (results / "report.html").read_text()
    assert "with 50 % of other groups" in page
    assert "0 or 50 %" in " ".join(page.split())
    assert planned(tmp_path, made) == {}
