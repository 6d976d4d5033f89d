"""The whole config file, which gives each step of the pipeline its own settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self, get_args

import yaml
from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from mstkd.config.base import (
    Dimensions,
    ExperimentName,
    Groups,
    Name,
    Settings,
    Step,
    unique,
)
from mstkd.config.data import (
    CheckSettings,
    DataCardSettings,
    DataSettings,
    HeldOutIdentities,
    Mixture,
    OriginSettings,
    PackSettings,
    PackUnlabelledSettings,
    Part,
    SourceImages,
    Splits,
    SplitSettings,
    SynthesizeSettings,
    TrainSource,
)
from mstkd.config.grids import (
    GridSection,
    Key,
    split_variant,
    value_text,
    variant_name,
    without_value,
)
from mstkd.config.models import (
    FOREIGN_SHARE,
    FUSED,
    SETS,
    WIDTH,
    Model,
    StudentSet,
    TeacherSet,
    every_model,
    given_teachers,
    students_together,
    tables,
    taught_by,
    teacher_sets,
    teachers_by_key,
    teachers_of,
)
from mstkd.config.results import (
    RFW,
    ChosenOnTest,
    ClaimsSettings,
    DistributionSettings,
    ErrorRateSettings,
    Evaluation,
    EvaluationSettings,
    GivenTeachers,
    GridOf,
    GridSettings,
    ImpostorSettings,
    MapSettings,
    ModelCardSettings,
    PageSettings,
    ReportSettings,
    TableSettings,
    Threshold,
    given_names,
)
from mstkd.config.training import (
    NO_DISTILLATION,
    PAPER_LOSSES,
    Adaptors,
    AdaptorSettings,
    BackboneSettings,
    CacheSettings,
    CacheType,
    EngineSettings,
    ImportGivenSettings,
    ImportStartSettings,
    LossSettings,
    NamedStudent,
    Students,
    StudentSettings,
    StudentsSettings,
    Teachers,
    TeacherSettings,
)

# Of the parts of a model: its log bears them and its seed, and a file's name has 255 letters.
LONGEST_NAME = 255 - len("-seed-2147483648.log")
# A folder of splits, and the seed whose own they are.
SPLITS = re.compile(r"([^/]+)/seed(-?\d+)")


class Config(Settings):
    """The whole config file. Its methods give each step its own settings."""

    # Keeps runs apart: all results lie in results/<experiment>, else in results.
    experiment: ExperimentName | None = None
    groups: Groups
    seeds: Annotated[tuple[int, ...], Field(min_length=1), AfterValidator(unique)] = (0,)
    embedding_dim: Dimensions = 512
    data: DataSettings
    splits: Splits = Splits()
    backbones: Annotated[dict[Name, BackboneSettings], Field(min_length=1), AfterValidator(unique)]
    teachers: Teachers
    cache: CacheType = CacheType()
    adaptors: Adaptors = Adaptors()
    students: Students
    # A student with no distillation, and students of one teacher trained on all groups (D39).
    controls: bool = True
    engine: EngineSettings = EngineSettings()
    evaluation: Evaluation = Evaluation()
    report: ReportSettings = ReportSettings()

    _place: Callable[[str], str] = PrivateAttr(default=str)

    @model_validator(mode="before")
    @classmethod
    def _name_what_a_key_says(cls, value: Any) -> Any:
        """Let `iresnet34: {}`, `SL: {}` and `a-KD: {}` mean what their names say."""
        if not isinstance(value, Mapping):
            return value
        value = dict(value)
        published = get_args(get_args(BackboneSettings.model_fields["architecture"].annotation)[0])
        value["backbones"] = _fill(
            value.get("backbones"),
            lambda name, entry: (
                {}
                if name not in published or entry.keys() & {"blocks", "timm"}
                else {"architecture": name}
            ),
        )
        if isinstance(value.get("adaptors"), Mapping):
            adaptors = dict(value["adaptors"])
            if "architectures" in adaptors:
                adaptors["architectures"] = _fill(
                    adaptors["architectures"], lambda name, entry: {"architecture": name}
                )
            value["adaptors"] = adaptors
        if isinstance(value.get("students"), Mapping):
            students = dict(value["students"])
            if "losses" in students:
                students["losses"] = _fill(
                    students["losses"],
                    lambda name, entry: (
                        {"classification": PAPER_LOSSES[name].classification}
                        if name in PAPER_LOSSES
                        else {}
                    ),
                )
            value["students"] = students
        return value

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        return self._refused_for(self._misfits())

    def _misfits(self) -> Iterator[str]:
        for key, used in (
            ("teachers.backbones", self.teachers.backbones),
            ("students.backbone", self.students.values("backbone")),
        ):
            for name in used:
                if name not in self.backbones:
                    yield f"{key}: {name!r} is not one of {', '.join(self.backbones)}"
        if self.data.synthetic is not None:
            draws = {"synthetic": self.data.synthetic}
            others = self.data.other_draws().items()
            draws |= {f"train.{name}.synthetic": one for name, one in others}
            for key, draw in draws.items():
                unknown = set(draw.difficulty) - set(self.groups)
                yield from (f"data.{key}.difficulty: no group {name!r}" for name in sorted(unknown))
        columns = self.report.columns
        if columns is not None and sorted(columns) != sorted(self.groups):
            yield f"report.columns: each of {', '.join(self.groups)} once"
        if isinstance(self.data.verification, dict):
            missing = set(self.groups) - set(self.data.verification)
            yield from (
                f"data.verification: no file for group {name!r}" for name in sorted(missing)
            )
        rules = (self.teachers.selection.rule, self.students.selection.rule, self.evaluation.pairs)
        if not self.data.has_verification and {"test", "verification"} & set(rules):
            yield (
                "data.verification, or heldout in evaluation.pairs and in selection.rule of "
                "teachers and students"
            )
        if self.data.heldout is None and "heldout" in rules:
            yield "data.heldout where held-out pairs are asked for: {} will do"
        for name, section in (("teachers", self.teachers), ("students", self.students)):
            chosen, heldout = section.selection, self.data.heldout
            if chosen.rule == "heldout" and heldout and chosen.folds > heldout.pairs:
                yield f"{name}.selection.folds of at most data.heldout.pairs"
        stop, shortest = self.teachers.stop_after, min(self.teachers.values("optimiser", "epochs"))
        if stop is not None and stop > shortest:  # type: ignore[operator]  # epochs are numbers
            yield f"teachers.stop_after of at most teachers.optimiser.epochs, {shortest}"
        if self.students.together and any(key[0] == "optimiser" for key in self.students.grid()):
            yield "students.together with one value of each key of students.optimiser"
        if self.students.together and len(self.adaptors.values(WIDTH)) > 1:
            yield "students.together with one value of adaptors.width"
        fused = [name for subset in self.adaptors.values(FUSED) for name in subset or ()]  # type: ignore[union-attr]
        for name in dict.fromkeys(fused):
            if name not in self.groups:
                yield f"adaptors.fused: {name!r} is not one of {', '.join(self.groups)}"
        unlabelled = [
            name for name, loss in self.students.losses.items() if loss.images == "unlabelled"
        ]
        if unlabelled and self.students.target_view == "seen":
            yield f"students.target_view: stored with unlabelled images, as of {unlabelled[0]}"
        if unlabelled and self.data.unlabelled is None:
            yield f"data.unlabelled, a folder of images for the loss {unlabelled[0]}"
        yield from self._misfits_of_given()

    def _misfits_of_given(self) -> Iterator[str]:
        given, known = self.teachers.from_checkpoint or {}, teachers_by_key(self)
        for key in given:
            if key not in known:
                yield f"teachers.from_checkpoint: {key!r} is not one of {', '.join(known)}"
            elif len(known[key]) > 1:
                of = " and ".join(f"the {one.set} {one.name}" for one in known[key])
                yield f"teachers.from_checkpoint: another name for the group {key!r}: it means {of}"
        several = [".".join(key) for key in self.teachers.grid()]
        if len(self.teachers.backbones) > 1:
            several.append("backbones")
        if given and several:
            told = ", ".join(several)
            yield f"teachers.from_checkpoint: one value of {told}, of which what is given has none"
        if self.teachers.foreign_share and set(given) & set(self.groups):
            yield "teachers.foreign_share: 0 where a specialized teacher is given"
        if self.students.from_checkpoint is not None and len(self.students.values("backbone")) > 1:
            yield "students.from_checkpoint: one students.backbone, whose weights are given"
        widths = {self.fused_dim(name) for name in self.adaptor_variants()}
        if self.students.from_checkpoint is not None and widths != {self.embedding_dim}:
            yield f"students.from_checkpoint: adaptors.width of {self.embedding_dim}, as is given"

    @model_validator(mode="after")
    def _models_can_be_told_apart(self) -> Config:
        """Logs have the parts of a model's path in their names, with dashes between."""
        named: dict[str, Model] = {}
        for model in every_model(self):
            name = "-".join(filter(None, model)).casefold()
            other = named.setdefault(name, model)
            if other != model:
                one, two = (", ".join(filter(None, who)) for who in (other, model))
                raise ValueError(f"other names: logs of ({one}) and ({two}) are both {name}")
            if len(name) > LONGEST_NAME:
                found = f"a log's name of {len(name)} letters before its seed"
                raise ValueError(f"shorter names or fewer lists than make {found}: {name}")
        return self

    def model_copy(self, **options: Any) -> Self:
        """As pydantic's, but what was worked out of the fields is not copied with them."""
        copy = super().model_copy(**options)
        for name in copy.__dict__.keys() - type(self).model_fields.keys():
            del copy.__dict__[name]
        return copy

    def as_yaml(self) -> str:
        """The file that says the same, with every default written out."""
        value = self.model_dump(mode="json", exclude_none=True, by_alias=True)
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)

    # Where things lie ---------------------------------------------------------

    def placed(self, place: Callable[[str], str]) -> Self:
        """The same, with results where `place` puts files, as a workflow's module does."""
        copy = self.model_copy()
        copy._place = place
        return copy

    def _placed(self, folder: Path) -> Path:
        return Path(self._place(f"{folder}/x")).parent

    def results(self) -> Path:
        """The folder of all results."""
        return self._placed(Path("results", self.experiment or ""))

    def inputs(self) -> Path:
        """The folder of packs and drawn faces."""
        return self.results() if self.data.shared is None else self._placed(self.data.shared)

    def synthetic_folder(self, source: str | None = None) -> Path:
        """Where the drawn faces are written, those of a source of training images apart."""
        return self.inputs() / "data" / (f"sources/{source}" if source is not None else "")

    # Variants -----------------------------------------------------------------

    @cached_property
    def _specialized(self) -> dict[str, dict[str, Teachers]]:
        """Backbone -> its variants of specialized teachers -> the section with their values."""
        every = self.teachers.backbones
        return {one: self.teachers.variants(one, lambda key: True) for one in every}

    @cached_property
    def _others(self) -> dict[str, dict[str, Teachers]]:
        """The same of all other teachers, who have no share of other groups."""
        every = self.teachers.backbones
        return {
            one: self.teachers.variants(one, lambda key: key != (FOREIGN_SHARE,)) for one in every
        }

    def _teachers(self, variant: str) -> Teachers:
        """The section with the values of a variant, of whatever set."""
        base = split_variant(variant).base
        return (self._specialized[base] | self._others[base])[variant]

    @cached_property
    def _specialized_splits(self) -> dict[str, Teachers]:
        """Folder of the splits of specialized teachers -> the section with its share."""
        return self.teachers.variants("specialized", lambda key: key == (FOREIGN_SHARE,))

    @cached_property
    def _students(self) -> dict[str | None, dict[str, Students]]:
        """Loss -> its variants -> the section with the values of each; None: no distillation."""

        def variants(name: str | None, loss: LossSettings) -> dict[str, Students]:
            def matters(key: Key) -> bool:
                if key[0] == "losses":
                    return key[1] == name
                return key[0] != "head" or loss.classification

            return self.students.variants(name or "none", matters)

        losses = [*self.students.losses.items(), (None, NO_DISTILLATION)]
        return {name: variants(name, loss) for name, loss in losses}

    def teacher_variants(self, backbone: str, set_: TeacherSet = "specialized") -> tuple[str, ...]:
        """The names under which teachers of a backbone are trained: one for each value.

        All but the specialized ones have no share of other groups' identities.
        """
        return tuple((self._specialized if set_ == "specialized" else self._others)[backbone])

    def teacher_variant(self, variant: str, set_: TeacherSet) -> str:
        """The variant of a backbone with which teachers of a set are to be compared."""
        return variant if set_ == "specialized" else without_value(variant, FOREIGN_SHARE)

    def foreign_share(self, variant: str) -> float:
        """Of the identities of specialized teachers of a variant, those of other groups."""
        return self._teachers(variant).foreign_share

    def split_folders(self, set_: TeacherSet) -> tuple[str, ...]:
        """Folders of the splits of a set, of specialized teachers one for each share.

        Where each seed has its own, with {seed} in it.
        """
        names = tuple(self._specialized_splits) if set_ == "specialized" else (set_,)
        return tuple(map(self._with_seed_open, names))

    def split_folder(self, variant: str, set_: TeacherSet) -> str:
        """The one of them where the splits of teachers of a variant lie."""
        values = split_variant(variant).values if set_ == "specialized" else {}
        shares = {key: values[key] for key in (FOREIGN_SHARE,) if key in values}
        return self._with_seed_open(variant_name(set_, shares))

    def _with_seed_open(self, splits: str) -> str:
        """Splits that draw nothing are the same for every seed."""
        drawn = splits == "baseline" or self._share_of_splits(splits) > 0
        return f"{splits}/seed{{seed}}" if drawn and self.splits.by_seed else splits

    def _share_of_splits(self, splits: str) -> float:
        if splits in ("baseline", "single"):
            return 0.0
        return self._specialized_splits[splits].foreign_share

    @cached_property
    def _adaptors(self) -> dict[str, Adaptors]:
        """Variants of all adaptors -> the section with the values of each."""
        return {
            name: section
            for architecture in self.adaptors.architectures
            for name, section in self.adaptors.variants(architecture, lambda key: True).items()
        }

    def adaptor_variants(self) -> tuple[str, ...]:
        """The names under which adaptors are trained: of each, one for each value."""
        return tuple(self._adaptors)

    def fused_dim(self, adaptor: str) -> int:
        """Dimensions of the fused space of a variant of an adaptor, and of its students."""
        return self._adaptors[adaptor].width or self.embedding_dim

    def loss_variants(self, loss: str | None) -> tuple[str, ...]:
        """The names under which students of a loss are trained: one for each value.

        None stands for the students with no distillation.
        """
        return tuple(self._students[loss])

    def _students_of(self, set_: StudentSet, loss: str) -> tuple[LossSettings, Students]:
        """What students of a loss, or of its variant, learn from, and their section."""
        if set_ == "none":
            return NO_DISTILLATION, self._students[None][loss]
        base = split_variant(loss).base
        section = self._students[base][loss]
        return section.losses[base], section

    def student_loss(self, set_: StudentSet, loss: str) -> LossSettings:
        """What the students of a loss, or of its variant, learn from."""
        return self._students_of(set_, loss)[0]

    def student_backbone(self, set_: StudentSet, loss: str) -> str:
        """The backbone of the students of a loss, or of its variant."""
        return self._students_of(set_, loss)[1].backbone

    # What each step gets ------------------------------------------------------

    def settings_of(self, step: str, **who: Any) -> Step | None:
        """The settings of the step that makes models, caches, splits, packs or their scores.

        Args:
            step: the sub-command.
            who: of models what their record's subject says; of packs `group`, of splits
                `split` and of those with a share of other groups `group`, of caches `mirrored`.

        Returns:
            None where the config asks for nothing of that kind and name.
        """
        asked: dict[str, Callable[[], Step]] = {
            "pack-train": lambda: self.train_pack_settings(who["group"]),
            "pack-heldout": lambda: self.heldout_pack_settings(who["group"]),
            "pack-verification": lambda: self.verification_pack_settings(who["group"]),
            "pack-unlabelled": self.unlabelled_pack_settings,
            "split": lambda: self.split_settings(who["split"], who.get("group")),
            "import-given": lambda: self.import_given_settings(who["set"], who["name"]),
            "import-start": self.import_start_settings,
            "train-teacher": lambda: self.teacher_settings(who["backbone"]),
            "cache-embeddings": lambda: self.cache_settings(who.get("mirrored", False)),
            "train-adaptor": lambda: self.adaptor_settings(who["set"], who["name"]),
            "train-student": lambda: self.student_settings(who["set"], who["loss"], who["name"]),
            "evaluate": self.evaluation_settings,
            "trace-adaptors": self.evaluation_settings,
        }
        if who.get("group") not in (None, *self.groups):
            return None
        if step == "train-teacher" and (who["set"], who["name"]) in given_teachers(self):
            return None
        if step == "import-start" and self.students.from_checkpoint is None:
            return None
        try:
            return asked[step]()
        except KeyError:
            return None

    def synthesize_settings(self, source: str | None = None) -> SynthesizeSettings:
        """Of the drawn faces, or of those that a source of training images has of its own."""
        assert self.data.synthetic is not None, "asked for only where the config has it"
        drawn = self.data.synthetic if source is None else self.data.other_draws()[source]
        return SynthesizeSettings(
            **drawn.model_dump(),
            groups=self.groups,
            image_size=self.data.image_size,
        )

    def train_pack_settings(self, group: str) -> PackSettings:
        """Of `pack-train`: it leaves the identities that `pack-heldout` takes, not their pairs."""
        heldout = self.data.heldout
        return self._training_images(
            group,
            None if heldout is None else HeldOutIdentities(seed=heldout.seed, share=heldout.share),
        )

    def heldout_pack_settings(self, group: str) -> PackSettings:
        return self._training_images(group, self.data.heldout)

    def _training_images(self, group: str, heldout: HeldOutIdentities | None) -> PackSettings:
        excluded = self.data.exclude_verification_identities
        root, groups = self._training_root()
        return PackSettings(
            root=root,
            group=group,
            groups=groups,
            image_size=self.data.image_size,
            on_bad_image=self.data.on_bad_image,
            storage=self.data.storage,
            more_suffixes=self.data.more_suffixes,
            alignment=self.data.train_alignment,
            exclude=self.data.verification_folder() if excluded else None,
            heldout=heldout,
        )

    def _training_root(self) -> tuple[Path | Mixture, Path | None]:
        """Where training images lie, and of a .rec their groups; one source is as a path alone."""
        sources = {name: self._source(name, one) for name, one in self.data.sources().items()}
        if len(sources) == 1:
            (only,) = sources.values()
            return only.root, only.groups
        if sources:
            count = self.data.train_identities
            return Mixture(sources=sources, seed=self.splits.seed, identities=count), None
        assert not isinstance(self.data.train, dict), "no source is refused"
        return self.data.train or self.synthetic_folder() / "train", self.data.train_groups

    def _source(self, name: str, source: TrainSource) -> SourceImages:
        drawn = self.synthetic_folder(name if source.synthetic is not None else None) / "train"
        return SourceImages(share=source.share, root=source.path or drawn, groups=source.groups)

    def verification_pack_settings(self, group: str) -> PackSettings:
        root = self.data.verification or self.synthetic_folder() / "verification"
        return PackSettings(
            root=root[group] if isinstance(root, dict) else root,
            group=group,
            image_size=self.data.image_size,
            on_bad_image=self.data.on_bad_image,
            storage=self.data.storage,
            more_suffixes=self.data.more_suffixes,
            alignment=self.data.verification_alignment,
        )

    def unlabelled_pack_settings(self) -> PackUnlabelledSettings:
        assert self.data.unlabelled is not None, "asked for only where the config has it"
        return PackUnlabelledSettings(
            root=self.data.unlabelled,
            image_size=self.data.image_size,
            on_bad_image=self.data.on_bad_image,
            storage=self.data.storage,
            more_suffixes=self.data.more_suffixes,
            alignment=self.data.train_alignment,
        )

    def check_settings(self) -> CheckSettings:
        selections = (self.teachers.selection, self.students.selection)
        return CheckSettings(
            expected=self.data.expected,
            overlap=self.data.overlap,
            same_names=self.data.same_names,
            folds=self.evaluation.folds,
            selection_folds=max((s.folds for s in selections if s.rule == "test"), default=None),
        )

    def split_settings(self, split: str, group: str | None = None) -> SplitSettings:
        """Of a folder of splits; of specialized ones that of a group's teacher.

        Only the baseline's split and one with a share of other groups draw anything; the others
        take every identity.

        Raises:
            KeyError: no such folder.
        """
        found = SPLITS.fullmatch(split)
        name, seed = (split, None) if found is None else found.groups()
        if (seed is None) != (name == self._with_seed_open(name)):
            raise KeyError(split)
        share = self._share_of_splits(name)
        if name != "baseline" and not share:
            return SplitSettings()
        return SplitSettings(
            **self.splits.model_dump(exclude={"by_seed"}),
            foreign_share=share or None,
            group=group if share else None,
            training_seed=None if seed is None else int(seed),
        )

    def teacher_settings(self, backbone: str) -> TeacherSettings:
        """Of teachers of a backbone, or of its variant."""
        base, teachers = split_variant(backbone).base, self._teachers(backbone)
        return TeacherSettings(
            embedding_dim=self.embedding_dim,
            backbone=self.backbones[base],
            optimiser=teachers.optimiser,
            head=teachers.head,
            selection=teachers.selection,
            engine=self._engine_of(self.backbones[base]),
            stop_after=teachers.stop_after,
        )

    def _engine_of(self, backbone: BackboneSettings | None) -> EngineSettings:
        """Of a backbone, or of an adaptor: what is for IResNets alone is no setting of others."""
        if backbone is not None and backbone.is_iresnet:
            return self.engine
        return self.engine.model_copy(update={"fused_norm": None})

    def import_given_settings(self, set_: str, name: str) -> ImportGivenSettings:
        """Of a teacher that is given.

        Raises:
            KeyError: it is not.
        """
        key = given_teachers(self)[set_, name]
        assert self.teachers.from_checkpoint is not None, "else none is given"
        return ImportGivenSettings(
            key=f"teachers.from_checkpoint.{key}",
            embedding_dim=self.embedding_dim,
            image_size=self.data.image_size,
            seen=self.teachers.from_checkpoint[key].seen,
        )

    def import_start_settings(self) -> ImportStartSettings:
        """Of the weights that students start from."""
        assert self.students.from_checkpoint is not None, "asked for only where the config has it"
        return ImportStartSettings(
            key="students.from_checkpoint",
            embedding_dim=self.embedding_dim,
            image_size=self.data.image_size,
            seen=self.students.from_checkpoint.seen,
            backbone=self.backbones[self.students.backbone],
        )

    def given(self) -> GivenTeachers | None:
        """By set, the names of the teachers that are given; None where all are trained."""
        names: GivenTeachers = {}
        for set_, name in given_teachers(self):
            names[set_] = (*names.get(set_, ()), name)
        return names or None

    def cache_settings(self, mirrored: bool = False) -> CacheSettings:
        """Of the images as they are stored, or of their mirror images."""
        return CacheSettings(
            **self.cache.model_dump(),
            groups=self.groups,
            deterministic=self.engine.deterministic or None,
            mirrored=True if mirrored else None,
        )

    def adaptor_settings(self, set_: TeacherSet, adaptor: str) -> AdaptorSettings:
        """Of an adaptor of a set of teachers, or of its variant."""
        dim, fused = self.fused_dim(adaptor), self._adaptors[adaptor].fused
        chosen = tuple(one.name for one in taught_by(set_, self.groups, fused))
        return AdaptorSettings(
            embedding_dim=dim,
            adaptor=self.adaptors.architectures[split_variant(adaptor).base],
            optimiser=self.adaptors.optimiser,
            head=self.adaptors.head,
            engine=self._engine_of(None),
            teacher_dim=None if dim == self.embedding_dim else self.embedding_dim,
            teachers=None if len(fused or self.groups) == len(self.groups) else chosen,
        )

    def student_settings(
        self, set_: StudentSet, loss: str, adaptor: str | None = None
    ) -> StudentSettings:
        """Of students of a loss and an adaptor, or of their variants.

        Without an adaptor they are as wide as the teachers' embeddings, as those of controls are.
        """
        loss_settings, students = self._students_of(set_, loss)
        fused = None if adaptor is None or set_ not in SETS else self.fused_dim(adaptor)
        return StudentSettings(
            embedding_dim=fused or self.embedding_dim,
            backbone=self.backbones[students.backbone],
            loss=loss_settings,
            optimiser=students.optimiser,
            head=students.head if loss_settings.classification else None,
            selection=students.selection,
            engine=self._engine_of(self.backbones[students.backbone]),
            target_view="seen"
            if students.target_view == "seen" and loss_settings.kd_weight
            else None,
        )

    def students_settings(self) -> StudentsSettings:
        return StudentsSettings(
            students=tuple(
                NamedStudent(
                    adaptor=adaptor,
                    loss=loss,
                    settings=self.student_settings("specialized", loss, adaptor),
                )
                for adaptor, loss in students_together(self)
            )
        )

    def evaluation_settings(self) -> EvaluationSettings:
        return EvaluationSettings(
            **self.evaluation.model_dump(exclude={"pairs"}),
            deterministic=self.engine.deterministic or None,
        )

    def table_settings(self, table: str, *, intervals: bool = True) -> TableSettings:
        threshold = tables(self)[table].threshold
        rest = "" if threshold == "own" else ", one threshold for all groups"
        models, where = self._shown_in(table)
        return TableSettings(
            threshold=threshold,
            decimals=self.report.decimals,
            caption=f"Verification accuracy (%){where} of the {models}{rest}.",
            groups=self._columns(),
            published=True if self._has_published(threshold) else None,
            draws=self.report.draws if intervals else None,
        )

    def error_rate_settings(self, table: str) -> ErrorRateSettings:
        models, where = self._shown_in(table)
        return ErrorRateSettings(
            fmr=self.report.fmr,
            decimals=self.report.decimals,
            caption=f"Error rates{where} of the {models}.",
            groups=self._columns(),
            draws=self.report.draws,
        )

    def distribution_settings(self, table: str) -> DistributionSettings:
        models, where = self._shown_in(table)
        caption = f"Similarity of pairs{where} by the {models}."
        return DistributionSettings(caption=caption, groups=self._columns())

    def impostor_settings(self) -> ImpostorSettings:
        return ImpostorSettings(
            **self.evaluation_settings().model_dump(exclude={"recipe"}),  # it has its own
            fmr=self.report.fmr,
            draws=self.report.draws,
        )

    def map_settings(self, table: str) -> MapSettings:
        models, where = self._shown_in(table)
        within = f"{self.report.fmr:g} within groups"  # together, where the threshold is
        caption = f"False match rate of all pairs{where} by the {models}, {within}."
        return MapSettings(caption=caption, groups=self._columns())

    def _shown_in(self, table: str) -> tuple[str, str]:
        """What the models of a table are, and on which pairs, if not on those of the test."""
        _, backbone, loss, _ = tables(self)[table]
        models = f"{backbone} teachers"
        if given := self.given():
            models += f" (not trained here: {given_names(given)})"
        if loss is not None:
            models = f"{loss} students of {models}"
        tested = self.evaluation.pairs == "verification"
        return models, "" if tested else " on held-out pairs"

    def _columns(self) -> tuple[str, ...]:
        """The groups in the order of the tables' columns, whatever that of the teachers' blocks."""
        ours = self.groups if set(self.groups) != set(RFW) else RFW
        return self.report.columns or ours

    def _has_published(self, threshold: Threshold) -> bool:
        """Whether the paper prints numbers of the same pairs by the same protocol."""
        on_rfw = set(self.groups) == set(RFW) and self.evaluation.pairs == "verification"
        return self.report.published and on_rfw and threshold == "own"

    def claims_settings(self) -> ClaimsSettings:
        return ClaimsSettings(
            draws=self.report.draws,
            chosen_on_test=self._chosen_on_test(),
            given=self.given(),
            started=True if self.students.from_checkpoint is not None else None,
            splits_by_seed=True if self.splits.by_seed else None,
        )

    def model_card_settings(self) -> ModelCardSettings:
        return ModelCardSettings(
            decimals=self.report.decimals,
            draws=self.report.draws,
            procedural=self.data.synthetic is not None,
            chosen_on_test=self._chosen_on_test(),
            licence=self.report.licence,
            given=self.given(),
        )

    def _chosen_on_test(self) -> ChosenOnTest | None:
        scored_on = "test" if self.evaluation.pairs == "verification" else "heldout"
        every = [one for set_ in teacher_sets(self) for one in teachers_of(set_, self.groups)]
        trained: ChosenOnTest = ("teachers", "students")
        if len(given_teachers(self)) == len(every):
            trained = ("students",)
        return tuple(o for o in trained if getattr(self, o).selection.rule == scored_on) or None

    def data_card_settings(self, part: Part) -> DataCardSettings:
        return DataCardSettings(
            part=part,
            procedural=self.data.synthetic is not None and part != "unlabelled",
            origin=self.data.origin.get("train" if part == "heldout" else part, OriginSettings()),
        )

    @cached_property
    def _grids(self) -> dict[str, GridSettings]:
        """By name, the lists of several numbers: one of several losses is one."""
        sections: dict[GridOf, GridSection] = {
            "teachers": self.teachers,
            "adaptors": self.adaptors,
            "students": self.students,
        }
        return {
            f"{name}-{key[-1]}": GridSettings(section=name, key=key[-1], draws=self.report.draws)
            for name, section in sections.items()
            for key, values in section.grid().items()
            if len(values) > 1 and all(isinstance(value, int | float) for value in values)
        }

    def grids(self) -> tuple[str, ...]:
        """The names of the lists along which there are curves."""
        return tuple(self._grids)

    def grid_settings(self, grid: str) -> GridSettings:
        return self._grids[grid]

    def page_settings(self) -> PageSettings:
        grids = tuple(
            f"{'.'.join((name, *key))} ({', '.join(map(value_text, values))})"
            for name, section in (
                ("teachers", self.teachers),
                ("adaptors", self.adaptors),
                ("students", self.students),
            )
            for key, values in section.grid().items()
        )
        shares = tuple(float(share) for share in self.teachers.values(FOREIGN_SHARE))  # type: ignore[arg-type]
        counts = {len(subset) for subset in self.adaptors.values(FUSED) if subset}  # type: ignore[arg-type]
        return PageSettings(
            title=self.report.title,
            procedural=self.data.synthetic is not None,
            grids=grids or None,
            foreign_shares=shares if any(shares) else None,
            given=self.given(),
            fused_counts=tuple(sorted(counts)) or None,
        )


def _fill(entries: Any, defaults: Any) -> Any:
    """Merge what a key's name says into each entry of a mapping; `name:` alone means `{}`."""
    if not isinstance(entries, Mapping):
        return entries
    filled = {}
    for name, entry in entries.items():
        entry = {} if entry is None else entry
        if isinstance(entry, Mapping):
            entry = {**defaults(name, entry), **entry}
        filled[name] = entry
    return filled
