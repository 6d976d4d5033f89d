"""Lists in the config: the runs they make, their names, and what is refused."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from typing import Any

import pytest
from refusals import refused_in_one_line
from runs import edited

from mstkd.config import Config, Students, Teachers, validate
from mstkd.config.grids import split_variant, value_text, variant_name
from mstkd.errors import InputError

PLAIN: dict[str, Any] = {
    "groups": ["A", "B"],
    "data": {"synthetic": {}},
    "backbones": {"small": {"blocks": [1, 1, 1, 1]}, "wide": {"blocks": [1, 1, 1, 2]}},
    "teachers": {"backbones": ["small", "wide"]},
    "students": {"backbone": "small"},
}


def config(**edits: Any) -> Config:
    """PLAIN with `a__b=value` set at config["a"]["b"]."""
    made = edited(PLAIN, {path.replace("__", "."): value for path, value in edits.items()})
    return validate(Config, made, "config")


def names(made: Config) -> set[str]:
    teachers = [made.teacher_variants(backbone) for backbone in made.teachers.backbones]
    students = [made.loss_variants(loss) for loss in (*made.students.losses, None)]
    return {name for group in (*teachers, *students) for name in group}


def test_without_lists_names_are_those_of_the_config() -> None:
    plain = config()
    assert names(plain) == {"small", "wide", "a-KD", "EAF-KD", "none"}
    assert "grids" not in json.loads(plain.page_settings().dump())


def test_lambda_makes_runs_of_its_loss_alone() -> None:
    losses = {"a-KD": {"kd_weight": [1000, "1e4"]}, "EAF-KD": {}}
    made = config(students__losses=losses)
    assert made.loss_variants("a-KD") == ("a-KD+kd_weight=1000", "a-KD+kd_weight=10000")
    assert made.loss_variants("EAF-KD") == ("EAF-KD",)
    assert made.loss_variants(None) == ("none",)
    weights = [
        made.student_settings("specialized", name).loss.kd_weight
        for name in made.loss_variants("a-KD")
    ]
    assert weights == [1000, 10000]


def test_a_run_has_the_settings_of_a_config_with_its_values_alone() -> None:
    made = config(
        teachers__head={"margin": [0.3, 0.5]},
        students__backbone=["small", "wide"],
        students__losses={"EAF-KD": {"kd_weight": [10, 20]}},
        students__head={"margin": [0.1, 0.2]},
        students__optimiser={"lr": [0.1, 0.05]},
    )
    assert len(made.loss_variants("EAF-KD")) == 16
    for backbone, weight, lr, margin in itertools.product(
        ("small", "wide"), (10, 20), (0.1, 0.05), (0.1, 0.2)
    ):
        alone = config(
            students__backbone=backbone,
            students__losses={"EAF-KD": {"kd_weight": weight}},
            students__head={"margin": margin},
            students__optimiser={"lr": lr},
        )
        name = f"EAF-KD+backbone={backbone}+kd_weight={weight}+lr={lr}+margin={margin}"
        students = made.student_settings("single", name)
        assert students == alone.student_settings("single", "EAF-KD")
        name = f"none+backbone={backbone}+lr={lr}+margin={margin}"
        assert made.student_settings("none", name) == alone.student_settings("none", "none")
        assert made.student_backbone("none", name) == backbone
    for backbone, margin in itertools.product(("small", "wide"), (0.3, 0.5)):
        alone = config(teachers__head={"margin": margin})
        name = f"{backbone}+margin={margin}"
        assert made.teacher_settings(name) == alone.teacher_settings(backbone)
    assert made.teacher_variants("wide") == ("wide+margin=0.3", "wide+margin=0.5")


def test_a_margin_makes_no_run_of_a_loss_without_a_head() -> None:
    made = config(students__head={"margin": [0.1, 0.2]})
    assert made.loss_variants("a-KD") == ("a-KD",)
    assert made.loss_variants("EAF-KD") == ("EAF-KD+margin=0.1", "EAF-KD+margin=0.2")
    assert made.loss_variants(None) == ("none+margin=0.1", "none+margin=0.2")


def test_one_value_in_a_list_has_the_name_that_it_keeps_when_more_come() -> None:
    one, two = (config(teachers__head={"margin": values}) for values in ([0.3], [0.3, 0.5]))
    assert one.teacher_variants("small") == ("small+margin=0.3",)
    assert one.teacher_settings("small+margin=0.3") == two.teacher_settings("small+margin=0.3")


def test_the_order_of_keys_and_the_way_of_writing_change_no_name() -> None:
    edits: dict[str, Any] = {"optimiser": {"lr": [0.10, 1e-1 / 2]}, "head": {"margin": [0.1, 2]}}
    turned = {"head": {"margin": [0.1, 2.0]}, "optimiser": {"lr": ["1e-1", "5e-2"]}}
    first, second = (
        config(students={"backbone": "small", **sections}) for sections in (edits, turned)
    )
    assert names(first) == names(second)
    assert "EAF-KD+lr=0.05+margin=2" in names(first)


@pytest.mark.parametrize("value", [0, 7, 10000.0, 0.3, 5e-4, 1e-7, 1e22, 1 / 3, 123456789.25])
def test_the_text_of_a_number_reads_as_the_number(value: float) -> None:
    assert float(value_text(value)) == value
    assert "+" not in value_text(value)


def test_names_are_taken_apart_as_they_were_put_together() -> None:
    name = variant_name("a_b-c", {"kd_weight": 1e22, "backbone": "x-y_z"})
    assert split_variant(name) == ("a_b-c", {"kd_weight": "1e22", "backbone": "x-y_z"})
    assert str(split_variant(name)) == "a_b-c (kd_weight=1e22, backbone=x-y_z)"
    assert str(split_variant("SL")) == "SL"


def test_names_do_for_files_shells_and_cluster_jobs() -> None:
    """Snakemake hands wildcards to cluster jobs as text that it splits at commas."""
    made = config(students__optimiser={"weight_decay": [1e-7, 0.5]})
    for name in names(made):
        assert not set(name) & set(", /'\"{}[]*?$&;|<>()\\~!#:")


@pytest.mark.parametrize("section", [Teachers, Students])
def test_no_two_keys_of_a_section_have_one_name(section: type[Any]) -> None:
    """Else two values of a run could not be told apart."""
    fields = [list(section.model_fields)]
    fields += [
        list(inner.annotation.model_fields)
        for inner in section.model_fields.values()
        if hasattr(inner.annotation, "model_fields")
    ]
    if section is Students:
        fields.append(["kd_weight"])
    together = [name for part in fields for name in part]
    assert len(together) == len(set(together))


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"students__head": {"margin": []}}, "students.head.margin: found []; expected a value or"),
        (
            {"teachers__head": {"margin": [0.3, "0.30"]}},
            "teachers.head.margin: found [0.3, '0.30']; expected each value once",
        ),
        ({"teachers__head": {"margin": [0.3, -1]}}, "teachers.head.margin: found -1; expected"),
        ({"teachers__optimiser": {"lr": [0.1, "x"]}}, "teachers.optimiser.lr: found 'x'"),
        (
            {"students__losses": {"a-KD": {"kd_weight": [1, 0]}}},
            "students.losses.a-KD: found classification, kd_weight; expected a kd_weight above",
        ),
        ({"students__backbone": ["small", "big"]}, "students.backbone: 'big' is not one of"),
        ({"students__losses": {"a+b": {"classification": True}}}, "found 'a+b'"),
        ({"adaptors__head": {"margin": [0.3, 0.5]}}, "adaptors.head.margin: found [0.3, 0.5]"),
        ({"teachers__head": {"plus": [True, False]}}, "teachers.head.plus: found [True, False]"),
        ({"embedding_dim": [1, 2]}, "embedding_dim: found [1, 2]"),
    ],
)
def test_what_is_no_list_of_values_is_refused_in_one_line(
    edits: dict[str, Any], message: str
) -> None:
    with refused_in_one_line(message):
        config(**edits)


def test_the_whole_config_as_it_is_written_holds_the_lists() -> None:
    made = config(
        teachers__head={"margin": [0.3, 0.5]},
        students__backbone=["small", "wide"],
        students__losses={"a-KD": {"kd_weight": [1, 2]}},
    )
    again = validate(Config, json.loads(made.dump()), "config")
    assert again == made
    assert names(again) == names(made)
    assert validate(Config, json.loads(config().dump()), "config") == config()


def test_students_that_one_job_trains_are_of_every_value() -> None:
    losses = {"a-KD": {"kd_weight": [1, 2]}, "EAF-KD": {}}
    adaptors = {"architectures": {"SL": {}}}
    made = config(adaptors=adaptors, students__losses=losses, students__together=True)
    (first, second, third) = made.students_settings().students
    assert (first.loss, second.loss) == ("a-KD+kd_weight=1", "a-KD+kd_weight=2")
    assert second.settings.loss.kd_weight == 2
    assert third.loss == "EAF-KD"
    with pytest.raises(InputError, match=r"students\.together with one value"):
        config(students__together=True, students__optimiser={"lr": [0.1, 0.2]})


def test_a_tuple_of_settings_is_no_grid() -> None:
    made = config(teachers__optimiser={"milestones": [3, 4], "epochs": 5})
    assert made.teacher_variants("small") == ("small",)
    assert made.teacher_settings("small").optimiser.milestones == (3, 4)


def test_the_schema_for_editors_allows_lists_where_they_may_be() -> None:
    command = [sys.executable, "-c", "from mstkd.cli.app import main; main()", "schema"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    definitions = json.loads(done.stdout)["$defs"]

    def kinds(model: str, key: str) -> list[str]:
        entry = definitions[model]["properties"][key]
        return [one["type"] for one in entry.get("anyOf", [entry])]

    for model, key in (
        ("LossSettings", "kd_weight"),
        ("HeadSettings", "margin"),
        ("StudentOptimiser", "lr"),
    ):
        assert kinds(model, key) == ["number", "array"]
    assert kinds("Students", "backbone") == ["string", "array"]
    assert kinds("AdaptorOptimiser", "lr") == ["number"]
    assert kinds("Adaptors", "width") == ["integer", "array", "null"]
    assert kinds("Adaptors", "fused") == ["array", "array", "null"]
    subset, subsets, _ = definitions["Adaptors"]["properties"]["fused"]["anyOf"]
    assert subset["items"]["type"] == "string" and subsets["items"] == subset
    assert kinds("HeadSettings", "plus") == ["boolean"]
    assert kinds("StudentOptimiser", "milestones") == ["array"]


# ---------------------------------------------------------------- margins


@pytest.mark.parametrize(
    ("name", "margin", "teachers", "adaptors"),
    [
        ("ArcFace", 0.5, 0.05, 0.0125),
        ("ElasticArcFace", 0.5, 0.05, 0.0125),
        ("CosFace", 0.35, 0.05, 0.0125),
        ("ElasticCosFace", 0.35, 0.0125, 0.0125),
    ],
)
def test_margins_follow_the_name_of_the_head(
    name: str, margin: float, teachers: float, adaptors: float
) -> None:
    made = config(
        teachers__head={"name": name}, students__head={"name": name}, adaptors__head={"name": name}
    )
    for head in (made.teachers.head, made.students.head):
        assert (head.margin, head.margin_std) == (margin, teachers)
    assert (made.adaptors.head.margin, made.adaptors.head.margin_std) == (margin, adaptors)
    given = config(teachers__head={"name": name, "margin": 0.2, "margin_std": 0.0})
    assert (given.teachers.head.margin, given.teachers.head.margin_std) == (0.2, 0)


def test_a_grid_of_margins_keeps_the_name_s_other_defaults() -> None:
    made = config(teachers__head={"name": "ElasticCosFace", "margin": [0.3, 0.4]})
    for margin in (0.3, 0.4):
        head = made.teacher_settings(f"small+margin={margin}").head
        assert (head.margin, head.margin_std) == (margin, 0.0125)


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ({"margin": 28.6}, "margin of ElasticArcFace of at most 3.14, radians, not 28.6; 28.6 deg"),
        ({"name": "ArcFace", "margin": [0.5, 28.6]}, "28.6 degrees are 0.499"),
        ({"margin_std": 4}, "margin_std of ElasticArcFace of at most 3.14"),
        ({"name": "CosFace", "margin": 20}, "margin of CosFace of at most 2, a cosine, not 20"),
    ],
)
def test_degrees_are_no_radians(head: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        config(teachers__head=head)


def test_folds_have_numbers_of_sixteen_bits() -> None:
    assert config(evaluation={"folds": 200}).evaluation_settings().folds == 200
    with pytest.raises(InputError, match="less than or equal to 32767"):
        config(evaluation={"folds": 32768})
