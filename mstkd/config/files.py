"""Which files each model, table and page is made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from mstkd.config.data import Part
from mstkd.config.models import (
    SETS,
    Model,
    StudentSet,
    Teacher,
    TeacherSet,
    every_model,
    given_teachers,
    models_of,
    students_together,
    tables,
    teachers_of,
)
from mstkd.config.training import SelectionSettings
from mstkd.config.whole import Config
from mstkd.errors import InputError

MOST_MAPPED = 16  # models of a table
WEIGHTS = "model.safetensors"


def packs(
    config: Config,
    part: Literal["train", "verification", "heldout"],
    groups: Sequence[str] | None = None,
) -> list[str]:
    """A pack of each of some groups, of all unless given."""
    return [f"{config.inputs()}/packs/{part}/{group}.h5" for group in groups or config.groups]


def unlabelled_pack(config: Config) -> str:
    """The pack of images with neither identity nor group."""
    return f"{config.inputs()}/packs/unlabelled.h5"


def _of_model(config: Config, model: Model, name: str) -> str:
    parts = "/".join(filter(None, model))
    return f"{config.results()}/{parts}/seed{{seed}}/{name}"


def with_seed_open(config: Config, table: str | None = None, *, name: str) -> list[str]:
    """That file of each model of a table, or of all tables, with {seed} in its path.

    For commands: with all seeds written out, the names of some two thousand models would be a
    longer command than Linux takes.
    """
    models = models_of(config, tables(config)[table]) if table else every_model(config)
    return [_of_model(config, model, name) for model in models]


def of_every_seed(config: Config, table: str | None = None, *, name: str) -> list[str]:
    """The same files, the seeds of a model together."""
    return _of_seeds(config, with_seed_open(config, table, name=name))


def _of_seeds(config: Config, paths: Sequence[str]) -> list[str]:
    return [path.replace("{seed}", str(seed)) for path in paths for seed in config.seeds]


def trained_with_seed_open(config: Config, *, name: str) -> list[str]:
    """That file of every model but those that are given, with {seed} in its path."""
    given = given_teachers(config)
    return [
        _of_model(config, model, name)
        for model in every_model(config)
        if model.kind == "students" or (model.set, model.name) not in given
    ]


def trained_of_every_seed(config: Config, *, name: str) -> list[str]:
    """The same files of every seed."""
    return _of_seeds(config, trained_with_seed_open(config, name=name))


def given_checkpoint(config: Config, set_: str, name: str) -> str:
    """Where the file of a teacher lies that is given."""
    assert config.teachers.from_checkpoint is not None, "asked for only where the config has it"
    return str(config.teachers.from_checkpoint[given_teachers(config)[set_, name]].path)


def student_start(config: Config) -> list[str]:
    """The weights that students start from, where they are given."""
    if config.students.from_checkpoint is None:
        return []
    return [f"{config.results()}/given/student/{WEIGHTS}"]


def _teacher(config: Config, set_: TeacherSet, name: str) -> Teacher:
    known = {teacher.name: teacher for teacher in teachers_of(set_, config.groups)}
    if name not in known:
        raise InputError(f"teachers, {set_}", found=name, expected=" or ".join(known))
    return known[name]


def _selection(config: Config, rule: SelectionSettings, groups: Sequence[str]) -> list[str]:
    """The packs whose pairs choose an epoch."""
    if not rule.needs_pairs:
        return []
    return packs(config, "heldout" if rule.rule == "heldout" else "verification", groups)


def split_packs(config: Config, split: str, group: str) -> list[str]:
    """The packs whose identities a specialized teacher's split is made of."""
    shared = config.split_settings(split, group).foreign_share is not None
    return packs(config, "train", None if shared else [group])


def teacher_split(config: Config, backbone: str, set_: TeacherSet, name: str) -> list[str]:
    """The identities that a teacher learns from."""
    return [f"{config.results()}/splits/{config.split_folder(backbone, set_)}/{name}.csv"]


def teacher_packs(config: Config, backbone: str, set_: TeacherSet, name: str) -> list[str]:
    """The packs that a teacher learns from."""
    teacher = _teacher(config, set_, name)
    shared = set_ == "specialized" and config.foreign_share(backbone) > 0
    return packs(config, "train", None if shared else teacher.groups)


def teacher_selection(config: Config, set_: TeacherSet, name: str) -> list[str]:
    """The packs whose pairs choose a teacher's epoch."""
    groups = _teacher(config, set_, name).selected_on
    return _selection(config, config.teachers.selection, groups)


def set_teachers(config: Config, backbone: str, set_: TeacherSet) -> list[str]:
    """Weights of a set, in block order."""
    return [
        _of_model(config, Model("teachers", backbone, set_, teacher.name), WEIGHTS)
        for teacher in teachers_of(set_, config.groups)
    ]


def student_packs(config: Config, set_: StudentSet, loss: str) -> list[str]:
    """The packs that students of a loss, or of its variant, learn from."""
    unlabelled = config.student_loss(set_, loss).images == "unlabelled"
    return [unlabelled_pack(config)] if unlabelled else packs(config, "train")


def student_selection(config: Config) -> list[str]:
    """The packs whose pairs choose a student's epoch."""
    return _selection(config, config.students.selection, config.groups)


def student_cache(config: Config, backbone: str, set_: StudentSet, loss: str) -> list[str]:
    """The embeddings of the teachers, none where the labels alone teach."""
    if set_ == "none":
        return []
    unlabelled = config.student_loss(set_, loss).images == "unlabelled"
    folder = f"{config.results()}/embeddings/{backbone}/{set_}"
    return [f"{folder}/{'unlabelled/' if unlabelled else ''}seed{{seed}}.h5"]


def mirrored_cache(config: Config, backbone: str, set_: StudentSet) -> list[str]:
    """The embeddings of mirror images, where targets are of the image that is seen."""
    if set_ == "none" or config.students.target_view == "stored":
        return []
    return [f"{config.results()}/embeddings/{backbone}/{set_}/mirrored/seed{{seed}}.h5"]


def student_adaptor(config: Config, backbone: str, set_: StudentSet, adaptor: str) -> list[str]:
    """The adaptor between teachers and student; the controls have none."""
    folder = f"{config.results()}/adaptors/{backbone}/{set_}/{adaptor}"
    return [f"{folder}/seed{{seed}}/{WEIGHTS}"] if set_ in SETS else []


def set_adaptors(config: Config, backbone: str, set_: TeacherSet) -> list[str]:
    """Weights of every adaptor of a set of teachers."""
    return [
        path
        for adaptor in config.adaptor_variants()
        for path in student_adaptor(config, backbone, set_, adaptor)
    ]


def fused_files(config: Config, name: str) -> list[str]:
    """That file of every adaptor that one job scores, whatever its wildcards."""
    folder = f"{config.results()}/adaptors/{{backbone}}/{{set}}"
    return [f"{folder}/{adaptor}/seed{{seed}}/{name}" for adaptor in config.adaptor_variants()]


def mapped_models(config: Config, table: str, *, name: str) -> list[str]:
    """That file of the models of a table whose impostor pairs are counted: the first, of one seed.

    Of one with lists of many values there are more, each of which embeds every image again.
    """
    first = str(config.seeds[0])
    found = with_seed_open(config, table, name=name)[:MOST_MAPPED]
    return [path.replace("{seed}", first) for path in found]


def model_cards(config: Config) -> list[str]:
    """The card of every student, beside its weights."""
    cards = of_every_seed(config, name="README.md")
    return [path for path in cards if path.startswith(f"{config.results()}/students/")]


def stages_with_seed_open(config: Config, backbone: str, *, name: str) -> list[str]:
    """That file of teachers of a backbone, or of its variant, of their adaptors and students.

    With {seed} in its path, as `with_seed_open`.
    """
    of_sets = {set_: config.teacher_variant(backbone, set_) for set_ in SETS}
    paths = [
        _of_model(config, model, name)
        for model in every_model(config)
        if (model.set, model.backbone) in of_sets.items()
    ]
    adaptors = [
        f"{config.results()}/adaptors/{variant}/{set_}/{adaptor}/seed{{seed}}/{name}"
        for set_, variant in of_sets.items()
        for adaptor in config.adaptor_variants()
    ]
    return paths + adaptors


def stages(config: Config, backbone: str, *, name: str) -> list[str]:
    """The same files of every seed."""
    return _of_seeds(config, stages_with_seed_open(config, backbone, name=name))


def tracings(config: Config, backbone: str) -> list[str]:
    """Whose the fused spaces are, of teachers of a backbone, or of its variant."""
    folder = f"{config.results()}/tracing"
    return [
        f"{folder}/{config.teacher_variant(backbone, set_)}/{set_}/seed{seed}.json"
        for set_ in SETS
        for seed in config.seeds
    ]


def together_adaptors(config: Config, backbone: str, set_: TeacherSet) -> list[str]:
    """The adaptors of the students that one job trains, each once."""
    adaptors = dict.fromkeys(adaptor for adaptor, _ in students_together(config))
    return [path for one in adaptors for path in student_adaptor(config, backbone, set_, one)]


def together_files(config: Config, name: str) -> list[str]:
    """That file of every student that one job trains, whatever its wildcards."""
    folder = f"{config.results()}/students/{{backbone}}/{{set}}"
    return [
        f"{folder}/{adaptor}/{loss}/seed{{seed}}/{name}"
        for adaptor, loss in students_together(config)
    ]


def packed_parts(config: Config) -> list[Part]:
    """The parts of the data that something of a run is made from."""
    rules = (config.teachers.selection.rule, config.students.selection.rule)
    heldout = "heldout" in (*rules, config.evaluation.pairs, config.data.tested_part)
    unlabelled = any(loss.images == "unlabelled" for loss in config.students.losses.values())
    used = {
        "train": True,
        "verification": config.data.has_verification,
        "heldout": heldout,
        "unlabelled": unlabelled,
    }
    return [part for part in get_args(Part) if used[part]]


def packs_of_part(config: Config, part: Part) -> list[str]:
    """Every pack of a part."""
    return [unlabelled_pack(config)] if part == "unlabelled" else packs(config, part)
