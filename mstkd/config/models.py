"""Who the models of an experiment are, and which of them stand in which table.

A model is known by its record. The names in it are people's, who may call a group `all` or an
adaptor `none`: nothing is learnt by taking a name apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from mstkd.config.results import Threshold

if TYPE_CHECKING:  # the config checks by these records that its names can be told apart
    from mstkd.config.whole import Config

TeacherSet = Literal["specialized", "baseline", "single"]
StudentSet = Literal[TeacherSet, "none"]  # "none": taught by the labels alone
SETS: tuple[TeacherSet, ...] = ("specialized", "baseline")  # the paper's
FOREIGN_SHARE = "foreign_share"  # the key of `teachers` that matters to specialized ones alone
FUSED, WIDTH = "fused", "width"  # the keys of `adaptors` that may hold lists


class Teacher(NamedTuple):
    """A teacher of a set."""

    set: TeacherSet
    name: str  # in paths and tables
    groups: tuple[str, ...]  # whose images it sees
    selected_on: tuple[str, ...]  # whose pairs choose its epoch


class Model(NamedTuple):
    """A teacher or a student, whatever its seed: the parts of its path."""

    kind: Literal["teachers", "students"]
    backbone: str  # a variant of the teachers'; the student's own where `set` is "none"
    set: StudentSet
    name: str  # of the teacher, or a variant of the adaptor; of a control, that it has none
    loss: str = ""  # of students, a variant


class Table(NamedTuple):
    """What a table shows."""

    number: int  # as the paper counts
    backbone: str  # of the teachers
    loss: str | None  # of the students; None: the teachers themselves
    threshold: Threshold


def teacher_sets(config: Config) -> tuple[TeacherSet, ...]:
    """The paper's two, and the control with one teacher."""
    return (*SETS, "single") if config.controls else SETS


def teachers_of(set_: TeacherSet, groups: Sequence[str]) -> tuple[Teacher, ...]:
    """Teachers of a set, in block order (section 4.3: the order of `groups`)."""
    every = tuple(groups)
    if set_ == "specialized":
        return tuple(Teacher(set_, f"T-{group}", (group,), (group,)) for group in groups)
    if set_ == "baseline":  # each has a group assigned that chooses its epoch (4.5)
        return tuple(
            Teacher(set_, f"BT-{number}", every, (group,)) for number, group in enumerate(groups, 1)
        )
    return (Teacher(set_, "T-all", every, every),)


def taught_by(
    set_: TeacherSet, groups: Sequence[str], fused: Sequence[str] | None
) -> tuple[Teacher, ...]:
    """Those teachers of a set that an adaptor of some groups fuses, in block order; of None, all.

    Specialized ones are these groups' own; the baseline's, those in the same places.
    """
    teachers = teachers_of(set_, groups)
    if fused is None:
        return teachers
    places = zip(teachers, groups, strict=False)
    return tuple(teacher for teacher, group in places if group in fused)


def teachers_by_key(config: Config) -> dict[str, list[Teacher]]:
    """All teachers by the key under which `teachers.from_checkpoint` may have them.

    A specialized one by its group, any other by its own name. A group may be called as another
    set's teacher is: then there are two.
    """
    found: dict[str, list[Teacher]] = {}
    for set_ in teacher_sets(config):
        for teacher in teachers_of(set_, config.groups):
            key = teacher.groups[0] if set_ == "specialized" else teacher.name
            found.setdefault(key, []).append(teacher)
    return found


def given_teachers(config: Config) -> dict[tuple[str, str], str]:
    """Set and name of each teacher that is given and not trained, and its key in the config."""
    known, given = teachers_by_key(config), config.teachers.from_checkpoint or {}
    return {(one.set, one.name): key for key in known if key in given for one in known[key]}


def tables(config: Config) -> dict[str, Table]:
    """By name, the paper's tables in their order, and each again with a shared threshold."""
    shown = list(itertools.product(config.teachers.backbones, (None, *config.students.losses)))
    endings: tuple[tuple[Threshold, str], ...] = (("own", ""), ("shared", "-shared-threshold"))
    return {
        f"table{number}{ending}": Table(number, backbone, loss, threshold)
        for threshold, ending in endings
        for number, (backbone, loss) in enumerate(shown, 1)
    }


def models_of(config: Config, table: Table) -> tuple[Model, ...]:
    """The models of a table, in the order of its rows."""
    if table.loss is None:
        return tuple(
            Model("teachers", variant, set_, teacher.name)
            for set_ in teacher_sets(config)
            for teacher in teachers_of(set_, config.groups)
            for variant in config.teacher_variants(table.backbone, set_)
        )
    losses = config.loss_variants(table.loss)

    def students(set_: TeacherSet, adaptor: str) -> list[Model]:
        pairs = itertools.product(config.teacher_variants(table.backbone, set_), losses)
        return [Model("students", variant, set_, adaptor, loss) for variant, loss in pairs]

    models = []
    for set_, adaptor in itertools.product(SETS, config.adaptor_variants()):
        models += students(set_, adaptor)
    if config.controls:
        models += [
            Model("students", config.student_backbone("none", loss), "none", "none", loss)
            for loss in config.loss_variants(None)
        ]
        models += students("single", "direct")
    return tuple(models)


def every_model(config: Config) -> tuple[Model, ...]:
    """The models that some table shows, each once."""
    shown = (models_of(config, table) for table in tables(config).values())
    return tuple(dict.fromkeys(itertools.chain.from_iterable(shown)))


def students_together(config: Config) -> tuple[tuple[str, str], ...]:
    """Adaptor and loss of the students of a set that one job trains, if it does."""
    if not config.students.together:
        return ()
    return tuple(
        (adaptor, variant)
        for adaptor in config.adaptor_variants()
        for loss, settings in config.students.losses.items()
        if settings.images == "labelled"
        for variant in config.loss_variants(loss)
    )
