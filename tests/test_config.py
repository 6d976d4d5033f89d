"""The config: what it accepts, what it says of the rest, and that it survives the way to a job."""

import itertools
import re
from pathlib import Path
from typing import get_args

import pytest
import runs
import yaml
from pydantic import BaseModel

from mstkd.config import (
    Config,
    TableSettings,
    compared,
    read_config,
    read_settings,
    teachers_of,
    validate,
)
from mstkd.errors import InputError

ROOT = Path(__file__).parent.parent
MINIMAL = {
    "groups": ["A", "B", "C"],
    "data": {"image_size": 32, "synthetic": {}},
    "backbones": {"small": {"blocks": [1, 1, 1, 1]}},
    "teachers": {"backbones": ["small"]},
    "students": {"backbone": "small"},
}


def edited(**edits):
    """MINIMAL with `a__b=value` set at config["a"]["b"]."""
    return runs.edited(MINIMAL, {path.replace("__", "."): value for path, value in edits.items()})


def shipped():
    return sorted((ROOT / "config").glob("*.yaml"))


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.stem)
def test_shipped_configs_are_valid(path):
    read_config(path)


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.stem)
def test_a_config_with_its_defaults_written_out_is_the_same_config(path):
    config = read_config(path)
    written = yaml.safe_load(config.as_yaml())
    again = validate(Config, written, "written")
    assert again == config
    assert again.dump() == config.dump()  # the lists too
    assert written["teachers"]["optimiser"]["momentum"] == 0.9


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.stem)
def test_every_step_settings_survive_the_command_line(path):
    config = read_config(path)
    kinds = [*(("specialized", loss) for loss in config.students.losses), ("none", None)]
    steps = [
        config.train_pack_settings(config.groups[0]),
        config.verification_pack_settings(config.groups[0]),
        config.check_settings(),
        config.splits,
        config.cache,
        config.evaluation_settings(),
        *(
            config.teacher_settings(name)
            for backbone in config.teachers.backbones
            for name in config.teacher_variants(backbone)
        ),
        *(config.adaptor_settings(name) for name in config.adaptors.architectures),
        *(
            config.student_settings(set_, name)
            for set_, loss in kinds
            for name in config.loss_variants(loss)
        ),
    ]
    if config.data.synthetic is not None:
        steps.append(config.synthesize_settings())
    for settings in steps:
        assert read_settings(type(settings), settings.dump()) == settings


def test_paper_config_is_the_paper():
    config = read_config(ROOT / "config/paper.yaml")
    teacher, adaptor = config.teacher_settings("iresnet34"), config.adaptor_settings("DLDP")
    student = config.student_settings("specialized", "EAF-KD")
    assert config.groups == ("Asian", "African", "Caucasian", "Indian")  # section 4.3
    assert (teacher.optimiser.epochs, teacher.optimiser.lr) == (52, 0.1)  # section 4.6
    assert teacher.optimiser.milestones == (16, 28, 40, 50)
    assert (adaptor.optimiser.epochs, adaptor.optimiser.lr) == (26, 1.0)
    assert adaptor.optimiser.milestones == student.optimiser.milestones == (8, 14, 20, 25)
    assert (student.optimiser.epochs, student.optimiser.lr) == (26, 0.1)
    assert student.loss.kd_weight == 10000  # section 4.4
    for settings in (teacher, adaptor, student):
        assert settings.optimiser.batch_size == 128
        assert settings.optimiser.momentum == 0.9
        assert (settings.head.scale, settings.head.margin) == (64.0, 0.5)  # section 4.2
    assert (teacher.head.margin_std, adaptor.head.margin_std) == (0.05, 0.0125)  # D3
    assert student.backbone.architecture == "iresnet34"  # section 4.4
    assert config.teachers.backbones == ("iresnet34", "iresnet50")
    assert config.backbones["iresnet50"].dropout == 0.4  # D11


def test_only_none_defaults_may_be_none():
    """`exclude_none` would turn a None into a default that is something else."""
    models = {type(getattr(read_config(shipped()[0]), name)) for name in ("data", "teachers")}
    models |= {Config, TableSettings}
    seen = set()
    while models:
        model = models.pop()
        seen.add(model)
        for field in model.model_fields.values():
            if type(None) in get_args(field.annotation):
                assert field.default is None
            if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
                models |= {field.annotation} - seen


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        (
            {"teachers__optimiser": {"epoch": 3}},
            "config: teachers.optimiser.epoch: found unknown key 'epoch'; "
            "expected did you mean 'epochs'?",
        ),
        (
            {"data__synthetic__identities": 0},
            "config: data.synthetic.identities: found 0; "
            "expected Input should be greater than or equal to 1",
        ),
        (
            {"students__losses": {"a-KD": {"kd_weigth": 3}}},
            "config: students.losses.a-KD.kd_weigth: found unknown key 'kd_weigth'; "
            "expected did you mean 'kd_weight'?",
        ),
        ({"groups": ["A", "A"]}, "an entry occurs twice"),
        ({"groups": ["A", "B/../C"]}, "found 'B/../C'"),
        ({"teachers__backbones": ["big"]}, "teachers.backbones: 'big' is not one of small"),
        ({"data__train": "x"}, "either synthetic or folders of your own, not both"),
        ({"data": {"image_size": 30, "synthetic": {}}}, "data.image_size: found 30"),
        ({"backbones": {"iresnet34": {"blocks": [1, 1, 1]}}}, "backbones.iresnet34.blocks"),
        ({"backbones": {"small": {}}}, "either architecture or blocks"),
        ({"adaptors": {"architectures": {"SL": {"dropout": 0.1}}}}, "dropout is for DLDP only"),
        ({"adaptors": {"architectures": {"XL": {}}}}, "found 'XL'"),
        ({"teachers__optimiser": {"lr": "fast"}}, "teachers.optimiser.lr: found 'fast'"),
        ({"data__synthetic": {"difficulty": {"Z": 1}}}, "no group 'Z'"),
        ({"evaluation": {"pairs": "heldout"}}, "expected data.heldout where held-out pairs"),
        (
            {"data": {"train": "faces", "heldout": {}}, "evaluation": {"pairs": "heldout"}},
            "expected data.verification, or heldout in evaluation.pairs and in selection.rule of",
        ),
        (
            {"data": {"train": "faces", "expected": "bupt-rfw"}},
            "expected expected with verification, whose counts it names too",
        ),
        ({"data": {"verification": "faces"}}, "expected train, with verification where its pairs"),
        (
            {
                "data": {
                    "train": "faces",
                    "verification": "pairs.CSV",
                    "verification_alignment": {"landmarks": "rfw"},
                }
            },
            "expected verification_alignment with a CSV of landmarks for a CSV of pairs",
        ),
        (
            {
                "data__heldout": {"pairs": 20},
                "teachers__selection": {"rule": "heldout", "folds": 21},
            },
            "expected teachers.selection.folds of at most data.heldout.pairs",
        ),
    ],
)
def test_faults_name_key_found_and_expected(edits, message):
    with pytest.raises(InputError) as error:
        validate(Config, edited(**edits), "config")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_held_out_pairs_need_no_others():
    selection = {"rule": "heldout"}
    edits = {
        "data": {"train": "faces", "heldout": {}},
        "evaluation": {"pairs": "heldout"},
        "teachers__selection": selection,
        "students__selection": selection,
    }
    config = validate(Config, edited(**edits), "config")
    assert config.data.tested_part == "heldout"
    assert validate(Config, edited(), "config").data.tested_part == "verification"


def test_checks_know_the_folds_that_choose_epochs_on_the_same_pairs():
    folds = {"teachers__selection": {"folds": 30}, "students__selection": {"folds": 40}}
    assert validate(Config, edited(**folds), "c").check_settings().selection_folds == 40
    folds["students__selection"] = {"rule": "last", "folds": 40}
    assert validate(Config, edited(**folds), "c").check_settings().selection_folds == 30
    folds["teachers__selection"] = {"rule": "last"}
    assert validate(Config, edited(**folds), "c").check_settings().selection_folds is None


def test_numbers_that_yaml_reads_as_text_are_numbers():
    optimiser = yaml.safe_load("{weight_decay: 5e-4, lr: 1e-1}")
    assert optimiser["weight_decay"] == "5e-4", "else this test shows nothing"
    config = validate(Config, edited(teachers__optimiser=optimiser), "config")
    assert config.teachers.optimiser.weight_decay == 5e-4


def test_names_fill_in_what_they_say():
    config = validate(
        Config,
        edited(
            backbones={"iresnet18": None, "small": {"blocks": [1, 1, 1, 1]}},
            adaptors={"architectures": {"DLDP": {"dropout": 0.3}}},
            students__losses={"a-KD": {}, "mixed": {"classification": True, "kd_weight": 5}},
        ),
        "config",
    )
    assert config.backbones["iresnet18"].architecture == "iresnet18"
    assert config.adaptors.architectures["DLDP"].architecture == "DLDP"
    assert not config.students.losses["a-KD"].classification
    assert config.students.losses["mixed"].kd_weight == 5


def test_teachers_of_each_set_follow_the_groups():
    every = ("A", "B", "C")
    one, two, three = teachers_of("specialized", every)
    assert (one.name, two.name, three.name) == ("T-A", "T-B", "T-C")
    assert two.groups == two.selected_on == ("B",)
    one, two, three = teachers_of("baseline", every)
    assert (one.name, two.name, three.name) == ("BT-1", "BT-2", "BT-3")
    assert two.groups == every
    assert two.selected_on == ("B",)
    (alone,) = teachers_of("single", every)
    assert alone.name == "T-all"
    assert alone.groups == alone.selected_on == every


def test_settings_hold_only_what_determines_the_output():
    """An edit of one section must leave the other steps' text alone: Snakemake compares it."""
    base = validate(Config, edited(), "config")
    text = {
        "teacher": lambda c: c.teacher_settings("small").dump(),
        "SL": lambda c: c.adaptor_settings("SL").dump(),
        "DLDP": lambda c: c.adaptor_settings("DLDP").dump(),
        "a-KD": lambda c: c.student_settings("baseline", "a-KD").dump(),
        "EAF-KD": lambda c: c.student_settings("baseline", "EAF-KD").dump(),
        "none": lambda c: c.student_settings("none", "none").dump(),
    }
    students = {"a-KD", "EAF-KD", "none"}
    cases = [
        ({"students__losses": {"a-KD": {"kd_weight": 1}, "EAF-KD": {}}}, {"a-KD"}),
        ({"students__optimiser": {"epochs": 3}}, students),
        ({"students__head": {"margin": 0.4}}, {"EAF-KD", "none"}),
        (
            {"adaptors": {"architectures": {"SL": None, "DuL": None, "DLDP": {"dropout": 0.4}}}},
            {"DLDP"},
        ),
        ({"teachers__optimiser": {"epochs": 3}}, {"teacher"}),
        ({"report": {"decimals": 1}}, set()),
        ({"seeds": [0, 1]}, set()),
        ({"groups": ["B", "A", "C"]}, set()),
    ]
    for edits, expected in cases:
        other = validate(Config, edited(**edits), "config")
        assert {name for name, dump in text.items() if dump(base) != dump(other)} == expected


def test_the_order_of_keys_changes_nothing():
    orders = itertools.islice(itertools.permutations(MINIMAL.items()), 5)
    dumps = {
        validate(Config, dict(order), "c").teacher_settings("small").dump() for order in orders
    }
    assert len(dumps) == 1


def test_a_settings_file_that_is_missing_or_broken_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_config(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(InputError, match=r"broken\.yaml: found .*expected JSON or YAML"):
        read_config(broken)
    with pytest.raises(InputError, match="--settings: found"):
        read_settings(Config, "{")


def keys_of(model, prefix=""):
    for name, field in model.model_fields.items():
        if name == "recipe":
            continue
        inner = [arg for arg in (field.annotation, *get_args(field.annotation)) if is_model(arg)]
        if not inner:
            yield prefix + name
        elif str(field.annotation).startswith("dict"):
            yield from keys_of(inner[0], f"{prefix}{name}.<name>.")
        else:
            yield from keys_of(inner[0], f"{prefix}{name}.")


def is_model(value):
    return isinstance(value, type) and issubclass(value, BaseModel)


def test_every_key_is_documented():
    told = set(re.findall(r"^\| `([^`]+)` \|", (ROOT / "config/README.md").read_text(), re.M))
    families = tuple(key.removesuffix("*") for key in told if key.endswith(".*"))
    keys = set(keys_of(Config))
    assert {key for key in keys - told if not key.startswith(families)} == set()
    assert {key for key in told - keys if not key.endswith(".*")} == set()


def test_a_result_made_before_auto_was_the_default_is_compared_as_equal():
    before = {"engine": {"precision": "auto", "compile": "off", "deterministic": False}}
    asked = {"engine": {"precision": "auto", "compile": "auto", "deterministic": False}}
    assert compared(before) == compared(asked) == asked
    students = {"students": [{"adaptor": "SL", "settings": before}]}
    assert compared(students)["students"][0]["settings"] == asked
    other = {"engine": {**asked["engine"], "compile": "default"}}
    assert compared(other) == other != compared(asked)
