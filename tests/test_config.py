"""The config: what it accepts, what it says of the rest, and that it survives the way to a job."""

import itertools
import json
import pickle
import re
from pathlib import Path
from typing import Annotated, get_args, get_origin

import pytest
import runs
import yaml
from pydantic import BaseModel, ValidationError

from mstkd.artifacts.sources import compared
from mstkd.config import (
    Config,
    ImpostorSettings,
    TableSettings,
    last_epoch,
    read_config,
    read_settings,
    teachers_of,
    validate,
    workflow_config,
)
from mstkd.config.base import Step
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
        *(config.adaptor_settings("specialized", name) for name in config.adaptors.architectures),
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
    teacher, adaptor = (
        config.teacher_settings("iresnet34"),
        config.adaptor_settings("specialized", "DLDP"),
    )
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
        ({"backbones": {"small": {}}}, "either architecture, blocks or timm"),
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
        "SL": lambda c: c.adaptor_settings("specialized", "SL").dump(),
        "DLDP": lambda c: c.adaptor_settings("specialized", "DLDP").dump(),
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


def lines_of(config, **edits):
    with pytest.raises(InputError) as error:
        validate(Config, edited(**edits) if edits else config, "config")
    return str(error.value).split("\n")


def test_all_faults_are_told_at_once_a_line_each():
    edits = {
        "seed": 3,
        "groups": ["A", "B!", "c?"],
        "data": {"image_size": 30, "verification": 3, "synthetic": {"identities": 0}},
        "teachers__optimiser": {"epochs": [0, 3, -1], "lr": "fast", "momentum": []},
        "students": {"head": {"scale": -1}},
    }
    faults = [
        "seed: found unknown key 'seed'; expected did you mean 'seeds'?",
        "groups.1: found 'B!'; expected String should match",
        "groups.2: found 'c?'; expected String should match",
        "data.image_size: found 30; expected Input should be a multiple of 16",
        "data.synthetic.identities: found 0; expected Input should be greater than or equal to 1",
        "data.verification: found 3; expected Input is not a valid path",
        "teachers.optimiser.momentum: found []; expected a value or more",
        "teachers.optimiser.lr: found 'fast'; expected Input should be a valid number",
        "teachers.optimiser.epochs: found 0; expected Input should be greater than or equal to 1",
        "teachers.optimiser.epochs: found -1; expected Input should be greater than or equal to 1",
        "students.backbone: found nothing; expected a value",
        "students.head.scale: found -1; expected Input should be greater than 0",
    ]
    lines = lines_of(None, **edits)
    assert len(lines) == len(faults)
    for fault in faults:
        assert sum(line.startswith(f"config: {fault}") for line in lines) == 1, fault
    assert "unknown key" in lines[0], "what is missing elsewhere is often what it misspells"


def test_sections_that_do_not_fit_are_told_at_once_too():
    config = edited(
        data__synthetic={"difficulty": {"Z": 1, "Y": 2}},
        teachers__backbones=["big"],
        teachers__selection={"rule": "heldout"},
    )
    lines = lines_of(config)
    told = [re.fullmatch(r"config: found groups, .+; expected (.+)", line)[1] for line in lines]
    assert told == [
        "teachers.backbones: 'big' is not one of small",
        "data.synthetic.difficulty: no group 'Y'",
        "data.synthetic.difficulty: no group 'Z'",
        "data.heldout where held-out pairs are asked for: {} will do",
    ]
    config = edited(data={"verification": "x", "expected": "bupt-rfw", "train_groups": "x"})
    assert len(lines_of(config)) == 2
    with pytest.raises(InputError) as error:
        validate(Config, config, "config")
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


@pytest.mark.parametrize(
    ("edits", "told"),
    [
        ({"teachers__optimiser": {"epochs": True}}, "teachers.optimiser.epochs: found True; e"),
        ({"seeds": [0, True]}, "seeds: found [0, True]; expected a number"),
        ({"students__losses": {"a-KD": {"kd_weight": False}}}, "students.losses.a-KD.kd_weight: "),
        ({"students__losses": {"a-KD": {"kd_weight": [1, True]}}}, "students.losses.a-KD.kd_wei"),
        ({"data__synthetic": {"difficulty": {"A": True}}}, "data.synthetic.difficulty: found {'A'"),
        ({"backbones": {"small": {"blocks": [1, 1, 1, True]}}}, "backbones.small.blocks: found ["),
        ({"controls": 1}, "controls: found 1; expected true or false"),
        ({"teachers__head": {"plus": 0.0}}, "teachers.head.plus: found 0.0; expected true or "),
    ],
)  # fmt: skip
def test_a_truth_is_no_number_and_a_number_no_truth(edits, told):
    (line,) = lines_of(None, **edits)
    assert line.startswith(f"config: {told}")


def every_field(model, seen):
    if model not in seen:
        seen.add(model)
        for name, field in model.model_fields.items():
            yield model, name, field
            waiting = [field.annotation]
            while waiting:
                kind = waiting.pop()
                waiting += get_args(kind)
                if is_model(kind):
                    yield from every_field(kind, seen)


def test_true_is_refused_wherever_a_number_is_asked():
    """Of every model: the numbers are found by what they take."""
    asked = {}
    for model, name, _ in every_field(Config, set()):
        schema = model.model_json_schema()["properties"][name]
        kinds = {one.get("type") for one in (schema, *schema.get("anyOf", []))}
        if kinds & {"integer", "number"}:
            with pytest.raises(ValueError, match=f"(?s){name}.*which true and false are not"):
                model.model_validate({name: True})
            asked[name] = asked.get(name, 0) + 1
    assert {"epochs", "lr", "kd_weight", "decimals", "image_size", "share"} <= asked.keys()
    assert sum(asked.values()) > 40


def test_text_is_taken_for_what_it_reads_as():
    """YAML holds 5e-4 for text, and Snakemake what stands below a key of its --config."""
    edits = {"teachers__optimiser": {"epochs": "5"}, "controls": "false"}
    config = validate(Config, edited(**edits), "config")
    assert config.teachers.optimiser.epochs == 5
    assert config.controls is False
    off = validate(Config, edited(engine=yaml.safe_load("compile: off")), "config")
    assert off.engine.compile == "off", "which YAML reads as false"
    off = validate(Config, edited(engine={"compile": "off"}), "config")
    assert off.engine.compile == "off"


TWICE = """\
groups: [A, B]
data: {image_size: 32, synthetic: {}}
data: {image_size: 32, synthetic: {seed: 1, seed: 2}}
common: &common
  epochs: 3
teachers:
  optimiser:
    <<: *common
    epochs: 4
    lr: 0.1
    "lr": 0.2
"""


def test_keys_that_occur_twice_are_named_with_both_lines(tmp_path):
    """With all other faults; what a merged mapping gives may be given again."""
    path = tmp_path / "twice.yaml"
    path.write_text(TWICE)
    with pytest.raises(InputError) as error:
        read_config(path)
    assert str(error.value).split("\n")[:3] == [
        f"{path}: data: found the key twice, in lines 2 and 3; expected each key once",
        f"{path}: data.synthetic.seed: found the key twice, in lines 3 and 3; "
        "expected each key once",
        f"{path}: teachers.optimiser.lr: found the key twice, in lines 10 and 11; "
        "expected each key once",
    ]
    assert f"{path}: common: found unknown key 'common'" in str(error.value)
    path.write_text(yaml.safe_dump(MINIMAL) + "seeds: [1]\nseeds: [2]\n")
    with pytest.raises(
        InputError, match=r"seeds: found the key twice, in lines \d+ and \d+; [^\n]*$"
    ):
        read_config(path)
    path.write_text(json.dumps(MINIMAL, indent="\t"))
    assert read_config(path) == validate(Config, MINIMAL, "config")
    path.write_text('{\t"seeds": [1],\n\t"seeds": [2]}')
    with pytest.raises(InputError, match="seeds: found the key twice, in lines 1 and 2"):
        read_config(path)


def test_a_fault_is_told_of_what_holds_it(tmp_path):
    """Of the file, of several the last, or of the command line."""
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(yaml.safe_dump(edited(seeds=["x"], teachers__optimiser={"epochs": 0, "lr": 0})))
    two.write_text(
        "teachers: {optimiser: {epochs: -1}}\nreport: {decimals: 99}\nseeds: [0]\nseeds: [a]"
    )
    given = {"report": {"decimals": 77, "titel": "x"}, "student": 3}
    merged = edited(
        seeds=["a"], teachers__optimiser={"epochs": -1, "lr": 0}, report=given["report"], student=3
    )
    with pytest.raises(InputError) as error:
        workflow_config(merged, [one, two], given)
    told = [line.split(": found")[0] for line in str(error.value).split("\n")]
    assert told == [
        f"{two}: seeds",
        "--config: report.titel",
        "--config: student",
        f"{two}: seeds.0",
        f"{two}: teachers.optimiser.epochs",
        f"{one}: teachers.optimiser.lr",
        "--config: report.decimals",
    ]
    with pytest.raises(InputError) as error:
        workflow_config({**MINIMAL, "teachers": {"backbones": ["big"]}}, [one], given)
    assert str(error.value).startswith(f"{one} + --config: found groups, ")
    section = {"groups": ["A"]}
    one.write_text(yaml.safe_dump({"section": section}))
    with pytest.raises(InputError) as error:
        workflow_config(section, [one], {}, used_as="faces")
    assert f"config of module faces ({one}): groups: found ['A']; expected" in str(error.value)


def test_a_kilobyte_that_would_be_gigabytes_is_told_in_a_line(tmp_path):
    path = tmp_path / "bomb.yaml"
    lists = [f"- &a{i} [{', '.join([f'*a{i - 1}' if i else 'x'] * 9)}]" for i in range(10)]
    path.write_text("experiment:\n" + "\n".join(lists) + "\nseeds: *a9\n")
    with pytest.raises(InputError) as error:
        read_config(path)
    assert f"{path}: experiment: found [['x', 'x'" in str(error.value)
    assert len(str(error.value)) < 10_000


def test_a_recipe_is_higher_than_what_it_is_derived_from():
    """A number that stood there once reruns nothing of those days."""

    def derived(settings):
        for one in settings.__subclasses__():
            yield one
            yield from derived(one)

    raised = [one for one in derived(Step) if "recipe" in one.__annotations__]
    assert len(raised) >= 5
    for one in raised:
        assert one.model_fields["recipe"].default > one.__base__.model_fields["recipe"].default, one


def test_a_step_that_takes_over_anothers_settings_keeps_its_recipe():
    config = validate(Config, runs.TINY, "tiny")
    assert config.impostor_settings().recipe == ImpostorSettings.model_fields["recipe"].default


def keys_of(model, prefix=""):
    for name, field in model.model_fields.items():
        if name == "recipe":
            continue
        kind = plain(field.annotation)
        arms = [plain(arg) for arg in get_args(kind)]
        if named := [arm for arm in arms if str(arm).startswith("dict") and has_models(arm)]:
            yield prefix + name  # a value, or names with an entry each
            kind = named[0]
        inner = [arg for arg in (kind, *map(plain, get_args(kind))) if is_model(arg)]
        if not inner:
            yield prefix + name
        elif str(kind).startswith("dict"):
            yield from keys_of(inner[0], f"{prefix}{name}.<name>.")
        else:
            yield from keys_of(inner[0], f"{prefix}{name}.")


def plain(kind):
    """A type without what it is annotated with, and without None."""
    if get_origin(kind) is Annotated or type(None) in get_args(kind):
        return plain(get_args(kind)[0])
    return kind


def has_models(names):
    return any(map(is_model, get_args(names)))


def is_model(value):
    return isinstance(value, type) and issubclass(value, BaseModel)


def test_teachers_stop_within_their_schedule():
    plain = validate(Config, MINIMAL, "config")
    assert "stop_after" not in plain.teacher_settings("small").dump()
    made = validate(Config, runs.edited(MINIMAL, {"teachers.stop_after": 28}), "config")
    assert made.teacher_settings("small").stop_after == 28
    assert last_epoch(made.teacher_settings("small")) == 28
    assert last_epoch(plain.teacher_settings("small")) == 52
    for wrong, told in (
        (
            {"teachers.stop_after": 53},
            "teachers.stop_after of at most teachers.optimiser.epochs, 52",
        ),
        (
            {"teachers.stop_after": 9, "teachers.optimiser.epochs": [10, 8]},
            "teachers.stop_after of at most teachers.optimiser.epochs, 8",
        ),
        ({"teachers.stop_after": 0}, "teachers.stop_after: found 0; expected"),
        ({"teachers.stop_after": [1, 2]}, "teachers.stop_after: found [1, 2]; expected"),
    ):
        with pytest.raises(InputError) as error:
            validate(Config, runs.edited(MINIMAL, wrong), "config")
        assert told in str(error.value)
        assert "\n" not in str(error.value)


def test_every_key_is_documented():
    told = set(re.findall(r"^\| `([^`]+)` \|", (ROOT / "config/README.md").read_text(), re.M))
    families = tuple(key.removesuffix("*") for key in told if key.endswith(".*"))
    keys = set(keys_of(Config))
    assert {key for key in keys - told if not key.startswith(families)} == set()
    assert {key for key in told - keys if not key.endswith(".*")} == set()


def test_fused_norms_are_told_of_where_they_are_on_and_of_iresnets_alone():
    before = '"engine":{"precision":"auto","compile":"auto","deterministic":false}'
    backbones = {
        "r": {"architecture": "iresnet34"},
        "m": {"architecture": "mobilefacenet"},
        "t": {"timm": "resnet18"},
    }
    teachers, students = {"backbones": ["r", "m", "t"]}, {"backbone": "r"}
    common = {"backbones": backbones, "teachers": teachers, "students": students}
    for value, told in ((False, before), (True, before[:-1] + ',"fused_norm":true}')):
        config = validate(Config, edited(engine={"fused_norm": value}, **common), "config")
        assert told in config.teacher_settings("r").dump()
        assert told in config.student_settings("specialized", "a-KD", "SL").dump()
        for other in (
            config.teacher_settings("m"),
            config.teacher_settings("t"),
            config.adaptor_settings("specialized", "SL"),
        ):
            assert before in other.dump()
    with pytest.raises(InputError, match=r"engine\.fused_norm"):
        validate(Config, edited(engine={"fused_norm": "auto"}), "config")
    with pytest.raises(InputError, match=r"engine\.fused_norm"):
        validate(Config, edited(engine={"fused_norm": 1}), "config")


def test_a_result_made_before_auto_was_the_default_is_compared_as_equal():
    before = {"engine": {"precision": "auto", "compile": "off", "deterministic": False}}
    asked = {"engine": {"precision": "auto", "compile": "auto", "deterministic": False}}
    assert compared(before) == compared(asked) == asked
    students = {"students": [{"adaptor": "SL", "settings": before}]}
    assert compared(students)["students"][0]["settings"] == asked
    other = {"engine": {**asked["engine"], "compile": "default"}}
    assert compared(other) == other != compared(asked)


RFW_GROUPS = ["Asian", "African", "Caucasian", "Indian"]  # as config/paper.yaml has them


@pytest.mark.parametrize(
    ("edits", "columns", "published"),
    [
        ({}, ("African", "Asian", "Caucasian", "Indian"), True),
        ({"report": {"published": False}}, ("African", "Asian", "Caucasian", "Indian"), None),
        ({"report": {"columns": RFW_GROUPS}}, tuple(RFW_GROUPS), True),
        ({"evaluation": {"pairs": "heldout"}}, ("African", "Asian", "Caucasian", "Indian"), None),
        ({"groups": ["B", "A"]}, ("B", "A"), None),
        ({"groups": ["B", "A"], "report": {"columns": ["A", "B"]}}, ("A", "B"), None),
    ],
)
def test_columns_of_tables_have_the_papers_order_and_its_numbers(edits, columns, published):
    config = Config.model_validate(
        {
            "groups": RFW_GROUPS,
            "data": {"train": "train", "verification": "verification", "heldout": {}},
            "backbones": {"iresnet34": {}},
            "teachers": {"backbones": ["iresnet34"]},
            "students": {"backbone": "iresnet34"},
            **edits,
        }
    )
    settings = config.table_settings("table3")
    assert (settings.groups, settings.published) == (columns, published)
    # The paper has a threshold for each group.
    assert config.table_settings("table3-shared-threshold").published is None
    assert config.groups == tuple(edits.get("groups", RFW_GROUPS)), "the blocks' order stays"


def test_columns_are_the_groups():
    with pytest.raises(ValidationError, match=r"report\.columns: each of A, B once"):
        Config.model_validate(
            {
                "groups": ["A", "B"],
                "data": {"synthetic": {}},
                "backbones": {"iresnet34": {}},
                "teachers": {"backbones": ["iresnet34"]},
                "students": {"backbone": "iresnet34"},
                "report": {"columns": ["A", "C"]},
            }
        )
