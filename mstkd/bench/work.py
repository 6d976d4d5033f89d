"""What an experiment computes: its jobs, and how many images pass through which network.

Counted from the config and the packs, if there are any, without torch: a dry run asks too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from mstkd.artifacts.sealed import reading
from mstkd.config import (
    SETS,
    Config,
    SelectionSettings,
    StudentSettings,
    last_epoch,
)
from mstkd.config.data import DataSettings, SyntheticSettings
from mstkd.config.grids import split_variant
from mstkd.config.models import every_model, given_teachers, teacher_sets, teachers_of
from mstkd.data.checks.known import KNOWN
from mstkd.data.mixture import most, parts
from mstkd.errors import InputError

MIRRORED = 2  # each image of a verification pair is embedded with its mirror image (D9)

Use = Literal["cache", "epoch", "evaluation"]  # what images are embedded for
Measure = Literal["input", "step", "training", "embedding", "adaptor", "verification"]


class Subject(NamedTuple):
    """What a rate is of: a measure, and all that decides its speed but the machine."""

    measure: Measure
    of: dict[str, Any]


class Load(NamedTuple):
    """All jobs of a kind: `images` is the sum over them of images times epochs."""

    part: str
    jobs: int
    images: float
    subject: Subject


class Count(NamedTuple):
    """Images and identities of a group."""

    images: float
    identities: int


class Counts(NamedTuple):
    """Of each group in training and verification, of the unlabelled images, and where from."""

    train: dict[str, Count]
    verification: dict[str, float]
    heldout: dict[str, float]
    unlabelled: float
    source: str


# ---------------------------------------------------------------- how many images


def count_images(config: Config, packs: Path) -> Counts:
    """Images of each group: of the packs, else as the config says, else as published.

    Raises:
        InputError: a file there that is no pack, or data that nobody has counted yet.
    """
    share = config.data.heldout.share if config.data.heldout is not None else 0.0
    train, verification = _pack_counts(config, packs, "train"), _pack_counts(config, packs, "test")
    source = f"the packs in {packs}"
    synthetic = config.data.synthetic
    known = KNOWN["bupt-rfw"]
    if not config.data.has_verification:
        verification = {}
    if train is None or verification is None:
        if synthetic is not None:
            source = "the config"
            trained = _drawn(config.data, synthetic)
            tested = synthetic.verification_identities * synthetic.verification_images
            all_train = dict.fromkeys(config.groups, trained)
            all_tested = dict.fromkeys(config.groups, Count(tested, 0))
        else:
            of_bupt = next(iter(known["train"].variants.values()))
            of_rfw = next(iter(known["verification"].variants.values()))
            if config.data.expected != "bupt-rfw" or not set(config.groups) <= set(of_bupt):
                raise InputError(
                    packs,
                    found="no packs of all groups",
                    expected="packs to count the images of, or data whose counts are known",
                )
            source = f"the counts of {known['train'].name} and {known['verification'].name}"
            all_train = {
                group: Count(of_bupt[group].images, of_bupt[group].identities or 0)
                for group in config.groups
            }
            all_tested = {group: Count(of_rfw[group].images, 0) for group in config.groups}
        train = {group: _less(count, share) for group, count in all_train.items()}
        verification = all_tested
    unlabelled = 0.0
    if any(loss.images == "unlabelled" for loss in config.students.losses.values()):
        unlabelled = _pack_count(packs / "unlabelled.h5").images
    kept_out = {g: count.images * share / (1 - share) for g, count in train.items()}
    tested_images = {group: count.images for group, count in verification.items()}
    return Counts(train, tested_images, kept_out, unlabelled, source)


def _drawn(data: DataSettings, synthetic: SyntheticSettings) -> Count:
    """Of drawn faces, those of a group that are trained on."""
    draws = dict.fromkeys(data.sources() or ("synthetic",), synthetic) | data.other_draws()
    shares = {name: one.share for name, one in data.sources().items()} or {"synthetic": 1.0}
    every = most(shares, {name: draw.identities for name, draw in draws.items()})
    count = parts(shares, data.train_identities or every)
    images = sum(count[name] * draw.images_per_identity for name, draw in draws.items())
    return Count(images, sum(count.values()))


def _less(count: Count, share: float) -> Count:
    return Count(count.images * (1 - share), round(count.identities * (1 - share)))


def _pack_counts(
    config: Config, packs: Path, part: Literal["train", "test"]
) -> dict[str, Count] | None:
    folder = packs / ("train" if part == "train" else "verification")
    paths = {group: folder / f"{group}.h5" for group in config.groups}
    if not all(path.exists() for path in paths.values()):
        return None
    return {group: _pack_count(path) for group, path in paths.items()}


def _pack_count(path: Path) -> Count:
    if not path.exists():
        raise InputError(path, found="no such file", expected="a pack, to count its images")
    try:
        with reading(path) as file:
            identity = file["identity"][:]  # numbers from 0 on, none left out
    except (OSError, KeyError) as error:
        raise InputError(path, found=" ".join(str(error).split()), expected="a pack") from None
    return Count(len(identity), int(identity.max()) + 1)


# ---------------------------------------------------------------- what passes through what


def training_of(config: Config, backbone: str, batch_size: int) -> dict[str, Any]:
    """What decides the speed of training a backbone."""
    return {**_network_of(config, backbone), "batch_size": batch_size, **_engine_of(config)}


def embedding_of(config: Config, backbone: str, use: Use) -> dict[str, Any]:
    """What decides the speed of embedding images: evaluation is float32, whatever training is."""
    precision, compiled = {
        "cache": (config.cache.precision, True),
        "epoch": (config.engine.precision, config.engine.compile == "auto"),
        "evaluation": ("float32", False),
    }[use]
    return {**_network_of(config, backbone), "precision": precision, "compiled": compiled}


def _engine_of(config: Config) -> dict[str, Any]:
    return {"engine": config.engine.model_dump(mode="json", exclude_none=True)}


def _network_of(config: Config, backbone: str) -> dict[str, Any]:
    settings = config.backbones[backbone].model_dump(mode="json", exclude_none=True)
    return {
        "backbone": settings,
        "embedding_dim": config.embedding_dim,
        "image_size": config.data.image_size,
    }


def adaptor_of(config: Config, name: str) -> dict[str, Any]:
    """What decides the speed of training an adaptor."""
    settings = config.adaptors.architectures[name].model_dump(mode="json", exclude_none=True)
    return {
        "adaptor": settings,
        "embedding_dim": config.embedding_dim,
        "teachers": len(config.groups),
        "batch_size": config.adaptors.optimiser.batch_size,
        **_engine_of(config),
    }


def experiment(config: Config, counts: Counts) -> list[Load]:
    """All that the config asks for, in the order of the work; kinds without jobs left out."""
    loads = [
        *_teachers(config, counts),
        *_adaptors(config, counts),
        *_students(config, counts),
    ]
    return [load for load in loads if load.jobs and load.images]


def _teachers(config: Config, counts: Counts) -> Iterator[Load]:
    seeds = len(config.seeds)
    total = sum(count.images for count in counts.train.values())
    for backbone, variant in teacher_variants(config):
        sets = [
            teachers_of(set_, config.groups)
            for set_ in teacher_sets(config)
            if variant in config.teacher_variants(backbone, set_)
        ]
        teachers = [teacher for members in sets for teacher in members]
        given = given_teachers(config)
        trained = [one for one in teachers if (one.set, one.name) not in given]
        seen = 0.0
        for teacher in trained:
            own = sum(counts.train[group].images for group in teacher.groups)
            # Baseline teachers share all identities evenly (section 4.5); a share that specialized
            # ones give to each other leaves what they see together.
            seen += own / len(config.groups) if teacher.set == "baseline" else own
        caches = len(teachers)
        unlabelled = counts.unlabelled * caches
        views = 2 if config.students.target_view == "seen" else 1
        settings = config.teacher_settings(variant)
        optimiser = settings.optimiser
        looked_at = sum(
            _looked_at(settings.selection, last_epoch(settings), teacher.selected_on, counts)
            for teacher in trained
        )
        training = Subject("training", training_of(config, backbone, optimiser.batch_size))
        cache, epoch, evaluation = (
            Subject("embedding", embedding_of(config, backbone, use)) for use in get_args(Use)
        )
        jobs = seeds * len(teachers)
        passes = seeds * seen * last_epoch(settings)
        yield Load(f"{variant} teachers", seeds * len(trained), passes, training)
        yield Load(f"{variant} teachers' epochs", seeds * len(trained), seeds * looked_at, epoch)
        yield Load(
            f"{variant} caches",
            seeds * len(sets) * (views + (1 if unlabelled else 0)),
            seeds * (views * total * caches + unlabelled),
            cache,
        )
        yield Load(
            f"{variant} teachers' evaluation", jobs, jobs * _tested(config, counts), evaluation
        )


def teacher_variants(config: Config) -> list[tuple[str, str]]:
    """Backbones, and the names under which their teachers are trained, of whatever set."""
    return list(
        dict.fromkeys(
            (backbone, variant)
            for backbone in config.teachers.backbones
            for set_ in teacher_sets(config)
            for variant in config.teacher_variants(backbone, set_)
        )
    )


def _tested(config: Config, counts: Counts) -> float:
    """Images embedded to evaluate one model."""
    of_group = counts.heldout if config.evaluation.pairs == "heldout" else counts.verification
    return MIRRORED * sum(of_group.values())


def _adaptors(config: Config, counts: Counts) -> Iterator[Load]:
    total = sum(count.images for count in counts.train.values())
    of_sets = (
        config.teacher_variants(backbone, set_)
        for backbone in config.teachers.backbones
        for set_ in SETS
    )
    of_all = len(config.seeds) * sum(map(len, of_sets))
    variants = Counter(split_variant(name).base for name in config.adaptor_variants())
    for name, count in variants.items():
        # Of fewer teachers, or of another width, they are counted as of all and as wide as these.
        subject = Subject("adaptor", adaptor_of(config, name))
        jobs = of_all * count
        passes = jobs * total * config.adaptors.optimiser.epochs
        yield Load(f"{name} adaptors", jobs, passes, subject)


def _students(config: Config, counts: Counts) -> Iterator[Load]:
    seeds = len(config.seeds)
    total = sum(count.images for count in counts.train.values())
    alike: dict[tuple[str, int], list[StudentSettings]] = {}
    for model in every_model(config):
        if model.kind == "students":
            settings = config.student_settings(model.set, model.loss, model.name)
            kind = (config.student_backbone(model.set, model.loss), settings.optimiser.batch_size)
            alike.setdefault(kind, []).append(settings)
    for (backbone, batch_size), runs in alike.items():
        jobs, seen, looked_at = seeds * len(runs), 0.0, 0.0
        for settings in runs:
            images = counts.unlabelled if settings.loss.images == "unlabelled" else total
            seen += seeds * images * settings.optimiser.epochs
            looked_at += seeds * _looked_at(
                settings.selection, last_epoch(settings), config.groups, counts
            )
        training = Subject("training", training_of(config, backbone, batch_size))
        epoch = Subject("embedding", embedding_of(config, backbone, "epoch"))
        evaluation = Subject("embedding", embedding_of(config, backbone, "evaluation"))
        yield Load(f"{backbone} students", jobs, seen, training)
        yield Load(f"{backbone} students' epochs", jobs, looked_at, epoch)
        yield Load(
            f"{backbone} students' evaluation", jobs, jobs * _tested(config, counts), evaluation
        )


def _looked_at(
    selection: SelectionSettings,
    epochs: int,
    groups: Sequence[str],
    counts: Counts,
) -> float:
    """Images embedded to choose one model's epoch."""
    if not selection.needs_pairs:
        return 0
    looks = -(-epochs // selection.every_epochs)  # the last epoch is always looked at
    of_group = counts.heldout if selection.rule == "heldout" else counts.verification
    return looks * MIRRORED * sum(of_group[group] for group in groups)
