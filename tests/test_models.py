"""Who the models are, whatever people call their groups, adaptors, losses and backbones."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rerun_table import jobs_of
from runs import ROOT, TINY, edited

from mstkd.config import Config, LossSettings, files, models, validate
from mstkd.config.models import Model, Table, every_model, models_of, tables
from mstkd.errors import InputError

# What the program calls things itself, and what is easily taken for something else.
OWN = re.findall(
    r"\S+",
    """
    all T-all A a T-A BT-1 bt-1 none None direct single specialized baseline unlabelled heldout
    verification train seed0 std set embeddings adaptor A_seed_std SL sl DuL SL-a SL-a-KD a-KD KD
    KD-seed0 tiny tiny-single tiny-single-T tiny-specialized-SL single-T-all splits packs
    """,
)
NAMES = st.one_of(
    st.sampled_from(OWN),
    st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=3).map("-".join),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,3}", fullmatch=True),
)
PUBLISHED = ("SL", "DuL", "DLDP")


def names(most: int, least: int = 1) -> st.SearchStrategy[list[str]]:
    return st.lists(NAMES, min_size=least, max_size=most, unique=True)


def config_of(
    groups: Sequence[str],
    backbones: Sequence[str] = ("tiny",),
    adaptors: Sequence[str] = ("SL",),
    losses: Sequence[str] = ("KD",),
    **others: Any,
) -> dict[str, Any]:
    """Each adaptor has a slope of its own, each loss a weight: its number, from 1."""
    return {
        "groups": list(groups),
        "data": {"synthetic": {}},
        "backbones": {name: {"blocks": [1, 1, 1, number]} for number, name in _from_1(backbones)},
        "teachers": {"backbones": list(backbones)},
        "adaptors": {
            "architectures": {
                name: {
                    "architecture": name if name in PUBLISHED else "DLDP",
                    "negative_slope": number / 100,
                }
                for number, name in _from_1(adaptors)
            }
        },
        "students": {
            "backbone": backbones[0],
            "losses": {
                name: {"classification": True, "kd_weight": number}
                for number, name in _from_1(losses)
            },
        },
        **others,
    }


def _from_1(names: Iterable[str]) -> Iterable[tuple[int, str]]:
    return enumerate(names, 1)


def paths_of(
    groups: Sequence[str],
    backbones: Sequence[str],
    adaptors: Sequence[str],
    losses: Sequence[str],
    controls: bool,
) -> list[tuple[str, ...]]:
    """The folders of all models, one part each; by the scheme at the top of the Snakefile."""
    teachers = [("specialized", f"T-{group}") for group in groups]
    teachers += [("baseline", f"BT-{number}") for number, _ in _from_1(groups)]
    taught = list(itertools.product(("specialized", "baseline"), adaptors))
    if controls:
        teachers.append(("single", "T-all"))
        taught.append(("single", "direct"))
    found: list[tuple[str, ...]] = [
        ("teachers", backbone, *who) for backbone in backbones for who in teachers
    ]
    found += [
        ("students", backbone, *who, loss)
        for backbone in backbones
        for who in taught
        for loss in losses
    ]
    return [*found, ("students", backbones[0], "none", "none", "none")] if controls else found


def one_on_some_disk(words: Iterable[str]) -> bool:
    """Whether two of them are equal but for capitals."""
    folded = [word.lower() for word in words]
    return len(set(folded)) < len(folded)


COLUMNS = re.compile(
    "set|name|variant|seeds|global|global_accuracy|std|ser|.+_seed_std|embeddings|adaptor"
    "|parameters|multiply_adds|kind|backbone|loss|value",
    re.I,
)


@example(["A", "all"], ["tiny"], ["direct", "none"], ["none"], True)  # once taken for the program's
@example(["BT-1", "B"], ["single", "none"], ["SL"], ["direct"], True)
@example(["A", "B"], ["tiny"], ["a", "a-b"], ["b-b", "b"], False)  # two logs a-b-b
@settings(deadline=None, max_examples=300)
@given(names(3, 2), names(2), names(3), names(3), st.booleans())
def test_any_names_make_as_many_models_as_they_should_each_with_its_own_settings_and_groups(
    groups: list[str], backbones: list[str], adaptors: list[str], losses: list[str], controls: bool
) -> None:
    plain = config_of(groups, backbones, adaptors, losses, controls=controls)
    expected = paths_of(groups, backbones, adaptors, losses, controls)
    logs = ["-".join(path) for path in expected]
    if (
        any(map(one_on_some_disk, (groups, backbones, adaptors, losses, logs)))
        or any(map(COLUMNS.fullmatch, groups))
    ):  # fmt: skip
        with pytest.raises(InputError) as error:
            validate(Config, plain, "config")
        for line in str(error.value).split("\n"):
            assert re.match(r"config(: .+)?: found .+; expected .", line)
        return
    config = validate(Config, plain, "config")
    found = every_model(config)
    folders = [f"results/{'/'.join(path)}/seed{{seed}}/x" for path in expected]
    assert sorted(files.with_seed_open(config, name="x")) == sorted(folders)
    for model in found:
        if model.kind == "teachers":
            own = {f"T-{group}": [group] for group in groups} if model.set == "specialized" else {}
            seen = own.get(model.name, groups)
            assert files.teacher_packs(config, model.backbone, model.set, model.name) == packs(
                "train", seen
            )
            assigned = {f"BT-{number}": [group] for number, group in _from_1(groups)}
            chosen = assigned[model.name] if model.set == "baseline" else seen
            pairs = files.teacher_selection(config, model.set, model.name)
            assert pairs == packs("verification", chosen)
            continue
        loss = config.student_settings(model.set, model.loss).loss
        adaptor = files.student_adaptor(config, model.backbone, model.set, model.name)
        cache = files.student_cache(config, model.backbone, model.set, model.loss)
        if model.set == "none":
            assert (loss.classification, loss.kd_weight, cache) == (True, 0, [])
        else:
            assert loss.kd_weight == losses.index(model.loss) + 1
            assert cache == [f"results/embeddings/{model.backbone}/{model.set}/seed{{seed}}.h5"]
        if model.set in ("none", "single"):
            assert adaptor == []
        else:
            slope = config.adaptor_settings("specialized", model.name).adaptor.negative_slope
            assert slope == (adaptors.index(model.name) + 1) / 100
            folder = f"results/adaptors/{model.backbone}/{model.set}/{model.name}"
            assert adaptor == [f"{folder}/seed{{seed}}/model.safetensors"]


def packs(part: str, groups: Sequence[str]) -> list[str]:
    return [f"results/packs/{part}/{group}.h5" for group in groups]


@pytest.mark.workflow
def test_snakemake_gives_each_model_its_own_files_and_settings_under_such_names() -> None:
    """The names that were once mistaken for the program's, all at once."""
    architectures = {"direct": {"architecture": "SL"}, "none": {"architecture": "DuL"}}
    losses = {
        "none": {"classification": True, "kd_weight": 5},
        "direct": {"classification": False, "kd_weight": 7},
    }
    edits = {
        "groups": ["all", "BT-1"],
        "backbones": {"single": TINY["backbones"]["tiny"]},
        "teachers.backbones": ["single"],
        "students.backbone": "single",
        "students.losses": losses,
        "adaptors.architectures": architectures,
    }
    config = edited(TINY, edits)
    jobs = jobs_of(config)
    found = {name: job.told for name, job in jobs.items() if name.endswith("model.safetensors")}
    expected = paths_of(["all", "BT-1"], ["single"], list(architectures), list(losses), True)
    adaptors = itertools.product(("specialized", "baseline"), architectures)
    expected += [("adaptors", "single", *who) for who in adaptors]
    assert set(found) == {f"results/{'/'.join(path)}/seed0/model.safetensors" for path in expected}
    every = {"results/packs/train/all.h5", "results/packs/train/BT-1.h5"}
    for path, told in found.items():
        kind, _, set_, name, loss, *_ = path.split("/")[1:]
        inputs = {one for one in told if one.startswith("results/")}
        made_by = {one for one in inputs if "/adaptors/" in one}
        if kind == "teachers":
            alone = {f"results/packs/train/{name[2:]}.h5"}
            seen = alone if set_ == "specialized" else every
            assert {one for one in inputs if "/packs/train/" in one} == seen
        if kind == "students":
            (text,) = (json.loads(eval(one)) for one in told if one.startswith("'{"))
            weight = 0 if set_ == "none" else losses[loss]["kd_weight"]
            assert text["loss"]["kd_weight"] == weight
            assert every <= inputs
            own = {f"results/adaptors/single/{set_}/{name}/seed0/model.safetensors"}
            assert made_by == (own if set_ in ("specialized", "baseline") else set())


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"groups": ["a", "A"]}, "groups: found ['a', 'A']; expected each once, whatever its cap"),
        ({"groups": ["A", "Std"]}, "groups.1: found 'Std'; expected none of the program's own"),
        ({"adaptors": ["x", "X"]}, "adaptors.architectures: found x, X; expected each once"),
        ({"losses": ["x", "X"]}, "students.losses: found x, X; expected each once, whatever"),
        ({"backbones": ["x", "X"]}, "backbones: found x, X; expected each once, whatever its cap"),
        ({"experiment": "packs"}, "experiment: found 'packs'; expected none of the program's own"),
        ({"experiment": "Tables"}, "experiment: found 'Tables'; expected none of the program's"),
        (
            {"adaptors": ["SL", "SL-a"], "losses": ["a-KD", "KD"]},
            "expected other names: logs of (students, tiny, specialized, SL, a-KD) and "
            "(students, tiny, specialized, SL-a, KD) are both students-tiny-specialized-sl-a-kd",
        ),
        (
            {"groups": ["A", "single-T-all"], "backbones": ["x", "x-specialized-T"]},
            "expected other names: logs of (teachers, x, specialized, T-single-T-all) and "
            "(teachers, x-specialized-T, single, T-all) are both",
        ),
        # One é as one letter and as two, which some disks take for one file.
        ({"groups": ["A", "\u00e9"]}, "groups.1: found 'é'; expected String should match pattern"),
        ({"groups": ["A", "e\u0301"]}, "groups.1: found 'e\u0301'; expected String should match"),
        ({"groups": ["A", "B\n"]}, "groups.1: found 'B\\n'; expected String should match pattern"),
    ],
)
def test_names_that_some_disk_or_table_cannot_tell_apart_are_refused(
    edits: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as error:
        validate(Config, config_of(**{"groups": ["A", "B"], **edits}), "config")
    # Names of backbones stand in two sections, each of which is told.
    lines = str(error.value).split("\n")
    assert message in lines[0]
    assert [line.split(": ")[1] for line in lines[1:]] == (
        ["teachers.backbones"] if "backbones: found" in message else []
    )


def test_a_published_adaptor_is_what_its_name_says() -> None:
    config = config_of(["A", "B"], adaptors=["SL"])
    config["adaptors"]["architectures"]["SL"] = {"architecture": "DuL"}
    with pytest.raises(InputError, match=r"adaptors: found .*expected SL of architecture SL"):
        validate(Config, config, "config")


def test_no_experiment_may_be_called_as_a_folder_of_results() -> None:
    """Every folder that a rule writes to, read from the rules."""
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    written = set(re.findall(r'"<(?:results|inputs)>/([\w-]+)/', rules))
    assert {"packs", "teachers", "tables", "logs", "data"} <= written
    for folder in written:
        with pytest.raises(InputError, match=f"experiment: found '{folder}'") as error:
            validate(Config, config_of(["A", "B"], experiment=folder), "config")
    (told,) = re.findall(r"own names, (.*)$", str(error.value))
    assert set(told.split(", ")) == written | {"adaptors", "students", "teachers"}


# ---------------------------------------------------------------- tables


def test_tables_are_numbered_as_in_the_paper_and_hold_their_models_in_order() -> None:
    plain = config_of(["A", "B"], ["b", "c"], ["SL", "DuL"], ["x", "y"])
    plain["teachers"]["head"] = {"margin": [0.3, 0.5]}
    plain["students"]["losses"]["x"]["kd_weight"] = [1, 2]
    config = validate(Config, plain, "config")
    named = tables(config)
    assert list(named)[:6] == [f"table{number}" for number in range(1, 7)]
    assert list(named)[6:] == [f"table{number}-shared-threshold" for number in range(1, 7)]
    assert named["table2"] == Table(2, "b", "x", "own")
    assert named["table4-shared-threshold"] == Table(4, "c", None, "shared")
    sets = [("specialized", "T-A"), ("specialized", "T-B"), ("baseline", "BT-1")]
    sets += [("baseline", "BT-2"), ("single", "T-all")]
    assert models_of(config, named["table4"]) == tuple(
        Model("teachers", f"c+margin={margin}", set_, name)
        for set_, name in sets
        for margin in ("0.3", "0.5")
    )
    rows = [model[2:] for model in models_of(config, named["table2"])]
    variants = ["x+kd_weight=1", "x+kd_weight=2"] * 2  # of the margins, first one then the other
    assert rows == [
        *(("specialized", adaptor, loss) for adaptor in ("SL", "DuL") for loss in variants),
        *(("baseline", adaptor, loss) for adaptor in ("SL", "DuL") for loss in variants),
        ("none", "none", "none"),
        *(("single", "direct", loss) for loss in variants),
    ]
    assert len(every_model(config)) == len(set(every_model(config))) == 2 * 2 * (5 + 5 * 3) + 1
    without = every_model(validate(Config, {**plain, "controls": False}, "config"))
    assert {model.set for model in without} == {"specialized", "baseline"}


def test_files_of_a_table_are_in_the_order_of_its_rows_the_seeds_of_each_together() -> None:
    plain = config_of(["A", "B"], ["b", "c"], seeds=[3, -1], experiment="e", controls=False)
    config = validate(Config, plain, "config")
    rows = [f"specialized/T-{group}" for group in "AB"] + [f"baseline/BT-{n}" for n in (1, 2)]
    assert files.with_seed_open(config, "table3", name="x") == [
        f"results/e/teachers/c/{row}/seed{{seed}}/x" for row in rows
    ]
    assert files.of_every_seed(config, "table3", name="x") == [
        f"results/e/teachers/c/{row}/seed{seed}/x" for row in rows for seed in (3, -1)
    ]


def test_a_teacher_that_its_set_has_not_is_refused() -> None:
    config = validate(Config, config_of(["A", "B"]), "config")
    with pytest.raises(InputError, match=r"teachers, specialized: found BT-1; expected T-A or T-B"):
        files.teacher_packs(config, "b", "specialized", "BT-1")


# ---------------------------------------------------------------- files


def test_held_out_pairs_unlabelled_images_and_shared_packs() -> None:
    plain = config_of(["A", "B"], losses=["far", "near"])
    plain["data"] = {
        "train": "t",
        "verification": "v",
        "unlabelled": "u",
        "heldout": {},
        "shared": "common",
    }
    plain["students"]["losses"]["far"] = {"classification": False, "images": "unlabelled"}
    plain["teachers"]["selection"] = {"rule": "heldout"}
    plain["students"]["selection"] = {"rule": "last"}
    config = validate(Config, plain, "config")
    assert files.teacher_selection(config, "baseline", "BT-2") == ["common/packs/heldout/B.h5"]
    assert files.student_selection(config) == []
    assert files.student_packs(config, "single", "far") == ["common/packs/unlabelled.h5"]
    assert files.student_packs(config, "single", "near") == [
        "common/packs/train/A.h5",
        "common/packs/train/B.h5",
    ]
    assert files.student_cache(config, "tiny", "single", "far") == [
        "results/embeddings/tiny/single/unlabelled/seed{seed}.h5"
    ]
    assert files.set_teachers(config, "tiny", "baseline") == [
        f"results/teachers/tiny/baseline/BT-{number}/seed{{seed}}/model.safetensors"
        for number in (1, 2)
    ]


def test_students_that_one_job_trains_are_those_of_labelled_images() -> None:
    plain = config_of(["A", "B"], adaptors=["SL", "mine"], losses=["far", "near"])
    plain["data"] = {"train": "t", "verification": "v", "unlabelled": "u"}
    plain["students"]["losses"]["far"] = {"classification": False, "images": "unlabelled"}
    alone = validate(Config, plain, "config")
    assert models.students_together(alone) == ()
    plain["students"]["together"] = True
    config = validate(Config, plain, "config")
    assert models.students_together(config) == (("SL", "near"), ("mine", "near"))
    assert files.together_files(config, "x") == [
        f"results/students/{{backbone}}/{{set}}/{adaptor}/near/seed{{seed}}/x"
        for adaptor in ("SL", "mine")
    ]
    assert files.together_adaptors(config, "tiny", "baseline") == [
        f"results/adaptors/tiny/baseline/{adaptor}/seed{{seed}}/model.safetensors"
        for adaptor in ("SL", "mine")
    ]


def test_a_copy_with_another_section_has_that_sections_values() -> None:
    """Settings are worked out once; a copy must not keep the first config's."""
    config = validate(Config, config_of(["A", "B"]), "config")
    assert config.student_settings("single", "KD").loss.kd_weight == 1
    losses = {"KD": LossSettings(classification=True, kd_weight=9)}
    students = config.students.model_copy(update={"losses": losses})
    copy = config.model_copy(update={"students": students})
    assert copy.student_settings("single", "KD").loss.kd_weight == 9
    assert config.student_settings("single", "KD").loss.kd_weight == 1
