"""Every setting of the pipeline: its type, its range, its default and where that comes from.

`Config` is the whole file; each step of the pipeline gets its own smaller model, which holds
exactly what determines the step's output and nothing else, so that an edit reruns what it must
(see config/README.md). Sections and tables are those of the MST-KD paper; D-numbers are rows of
docs/paper-vs-code.md. No torch here: the Snakefile is parsed in every cluster job.
"""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from mstkd.errors import InputError

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Positive = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
# A pack holds pixels, or encoded images: a fraction of the space, but decoded at each reading.
Storage = Literal["pixels", "encoded"]


def _unique(names: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(names)) != len(names):
        raise ValueError("an entry occurs twice")
    return names


Names = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_unique)]
Groups = Annotated[tuple[Name, ...], Field(min_length=2, max_length=16), AfterValidator(_unique)]


class Settings(BaseModel):
    """A frozen model that knows all its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def dump(self) -> str:
        """One line of JSON, keys in the order of the fields: the text Snakemake compares."""
        return self.model_dump_json(exclude_none=True, by_alias=True)


class Step(Settings):
    """The settings of one step of the pipeline.

    `recipe` is raised in the commit that changes what the step computes: Snakemake sees edits
    of settings, not edits of the package.
    """

    recipe: int = 1


# ---------------------------------------------------------------- data


class SyntheticSettings(Settings):
    """Procedural faces. They are drawings: the groups say nothing about people."""

    seed: int = 0
    identities: Positive = 80  # per group, for training
    images_per_identity: Annotated[int, Field(ge=2)] = 16
    verification_identities: Annotated[int, Field(ge=2)] = 100  # per group, none of them trained on
    verification_images: Annotated[int, Field(ge=2)] = 4  # per identity
    folds: Annotated[int, Field(ge=2)] = 10
    pairs_per_fold: Positive = 60  # genuine pairs in a fold; as many impostor pairs
    informative_factors: Annotated[int, Field(ge=1, le=7)] = 6  # factors a group varies identity by
    difficulty: dict[Name, Annotated[float, Field(gt=0, le=4)]] = {}  # nuisance; 1 unless named
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 95


class SynthesizeSettings(SyntheticSettings, Step):
    """Settings of the step `synthesize`."""

    groups: Groups
    image_size: Positive


class AlignmentSettings(Settings):
    """Five landmarks to the template, for images that are not aligned yet."""

    # RFW's own <group>_lmk.txt files, or a CSV `path,x1,y1,...,x5,y5`.
    landmarks: Literal["rfw"] | Path
    # An image without landmarks is a bad image, or its middle is taken for the face.
    without_landmarks: Literal["bad_image", "centre_crop"] = "bad_image"


class HeldOutIdentities(Settings):
    """Which training identities are kept out: all that the training packs need to know."""

    seed: int = 0
    share: Annotated[float, Field(gt=0, lt=1)] = 0.05  # of each group's identities


class HeldOutSettings(HeldOutIdentities):
    """Training identities kept out, to choose epochs by instead of the test pairs (D8, D26)."""

    folds: Annotated[int, Field(ge=2)] = 10
    pairs: Annotated[int, Field(ge=4)] = 3000  # a group, half of them genuine; fewer if need be


class DataSettings(Settings):
    """Where the faces come from: written by the generator, or files of yours."""

    image_size: Annotated[int, Field(ge=16, multiple_of=16)] = 112  # pixels, both sides
    on_bad_image: Literal["error", "skip"] = "error"
    storage: Storage = "pixels"
    synthetic: SyntheticSettings | None = None
    # A folder <group>/<identity>/<image>, a CSV `path,identity,group`, or an MXNet .rec
    train: Path | None = None
    train_groups: Path | None = None  # of a .rec: BUPT's .lst, or a CSV `identity,group`
    train_alignment: AlignmentSettings | None = None
    # A folder in RFW's layout or of <group>_test.bin files; or a .bin file for each group
    verification: Path | dict[Name, Path] | None = None
    verification_alignment: AlignmentSettings | None = None
    unlabelled: Path | None = None  # a folder of images for losses that need no label
    # Where packs lie, for experiments that share them; else with the experiment's results.
    shared: Path | None = None
    exclude_verification_identities: bool = False  # from training, by name
    heldout: HeldOutSettings | None = None
    expected: Literal["bupt-rfw"] | None = None  # the counts that the data must have
    overlap: Literal["error", "warn"] = "error"  # images or identities trained on and tested on

    @model_validator(mode="after")
    def _one_source(self) -> DataSettings:
        folders = (self.train is not None, self.verification is not None)
        if self.synthetic is None and not all(folders):
            raise ValueError("both train and verification, or synthetic")
        if self.synthetic is not None and any(folders):
            raise ValueError("either synthetic or folders of your own, not both")
        return self

    @model_validator(mode="after")
    def _records_have_groups(self) -> DataSettings:
        is_record = self.train is not None and self.train.suffix == ".rec"
        if is_record != (self.train_groups is not None):
            raise ValueError("train_groups with a .rec in train, and with nothing else")
        aligned = self.train_alignment
        if aligned is not None and (is_record or aligned.landmarks == "rfw"):
            raise ValueError("train_alignment with a CSV of landmarks, and not for a .rec")
        if self.exclude_verification_identities and self.verification_folder() is None:
            raise ValueError("exclude_verification_identities with a folder in verification")
        return self

    def verification_folder(self) -> Path | None:
        """The verification data, where they are one folder."""
        return self.verification if isinstance(self.verification, Path) else None


class ImageSettings(Step):
    """How images become a pack's: part of the settings of each packing step."""

    image_size: Positive
    on_bad_image: Literal["error", "skip"]
    storage: Storage = "pixels"
    alignment: AlignmentSettings | None = None


class PackSettings(ImageSettings):
    """Settings of the steps `pack-train`, `pack-heldout` and `pack-verification`."""

    root: Path  # a folder, a CSV or a .rec; of verification, a folder or a .bin
    group: Name
    groups: Path | None = None  # of a .rec
    exclude: Path | None = None  # RFW's folder, whose identities are left out
    heldout: HeldOutIdentities | HeldOutSettings | None = None


class PackUnlabelledSettings(ImageSettings):
    """Settings of the step `pack-unlabelled`."""

    root: Path


class CheckSettings(Step):
    """Settings of the step `check-data`."""

    expected: Literal["bupt-rfw"] | None = None
    overlap: Literal["error", "warn"] = "error"
    folds: Annotated[int, Field(ge=2)] = 10


class SplitSettings(Step):
    """Settings of the step `split` (section 4.5: random, disjoint, balanced; D5)."""

    seed: int = 0


# ---------------------------------------------------------------- networks and optimisation


class BackboneSettings(Settings):
    """A published architecture by name, or a variant by `blocks` and `widths`."""

    architecture: Literal["iresnet18", "iresnet34", "iresnet50", "iresnet100"] | None = None
    blocks: tuple[Positive, Positive, Positive, Positive] | None = None
    widths: tuple[Positive, Positive, Positive, Positive] | None = None
    dropout: Probability = 0.0  # before the last layer; the public code: 0.4 for IResNet-50 (D11)

    @model_validator(mode="after")
    def _architecture_or_blocks(self) -> BackboneSettings:
        if (self.architecture is None) == (self.blocks is None):
            raise ValueError("either architecture or blocks")
        return self


# Of convolutions and matrix products; `auto` is bfloat16 on a GPU and float32 on a CPU.
Precision = Literal["auto", "float32", "bfloat16"]


class EngineSettings(Settings):
    """How training steps are computed, the same for teachers, adaptors and students."""

    precision: Precision = "auto"
    # Of the backbone, by torch.compile; "reduce-overhead" uses CUDA graphs.
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = "off"
    deterministic: bool = False  # the same bytes from the same run on a GPU too, at some cost


class SamplingSettings(Settings):
    """A head of very many identities looks at some of them in each step (Partial-FC)."""

    # More identities than this. BUPT-Balancedface has 28,000, MS1MV3 93,000: both stay exact.
    above: Annotated[int, Field(ge=0)] = 100_000
    # Of all identities, drawn anew in each step, beside the batch's own (An et al., 2022: 0.1)
    share: Annotated[float, Field(gt=0, le=1)] = 0.1


class HeadSettings(Settings):
    """Margin head on the unit hypersphere (equation 3)."""

    name: Literal["ElasticArcFace", "ElasticCosFace", "ArcFace", "CosFace"] = "ElasticArcFace"
    scale: Annotated[float, Field(gt=0)] = 64.0  # section 4.2
    margin: Annotated[float, Field(ge=0)] = 0.5  # radians for ArcFace, cosine for CosFace
    margin_std: Annotated[float, Field(ge=0)] = 0.05  # section 4.2; elastic heads only
    plus: bool = False  # the largest margins to the samples farthest from their centres
    # The defaults of SamplingSettings unless given; not written out, since they leave the result
    # of any experiment with fewer identities as it was.
    sampling: SamplingSettings | None = None

    def sampled_share(self, identities: int) -> float | None:
        """The share of so many identities that a step looks at; None for all."""
        sampling = self.sampling or SamplingSettings()
        return sampling.share if identities > sampling.above else None


class OptimiserSettings(Settings):
    """SGD with the step schedule of section 4.6."""

    epochs: Positive
    batch_size: Annotated[int, Field(ge=2)] = 128  # section 4.6
    lr: Annotated[float, Field(gt=0)]
    # The public code multiplies by batch / 512, so 0.1 is 0.025 at batch 128 (D1, D2).
    lr_scaling: Literal["batch/512", "none"] = "batch/512"
    milestones: tuple[Positive, ...]  # the m-th epoch, counted from 1, runs at the lower rate (D19)
    schedule_epochs: Positive  # the number of epochs that `milestones` was written for
    decay: Annotated[float, Field(gt=0, le=1)] = 0.1
    momentum: Probability = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4  # on every parameter (D10)
    gradient_norm: Annotated[float, Field(gt=0)] = 5.0  # of the backbone, not the head (D10)
    # Where a loss is not finite: stop, or go on from the last checkpoint at half the rate.
    on_divergence: Literal["stop", "retry_lower_lr"] = "stop"


class TeacherOptimiser(OptimiserSettings):
    """Section 4.6: 52 epochs at 0.1, decayed in epochs 16, 28, 40 and 50."""

    epochs: Positive = 52
    lr: Annotated[float, Field(gt=0)] = 0.1
    milestones: tuple[Positive, ...] = (16, 28, 40, 50)
    schedule_epochs: Positive = 52


class AdaptorOptimiser(OptimiserSettings):
    """Section 4.6: 26 epochs at 1, decayed in epochs 8, 14, 20 and 25."""

    epochs: Positive = 26
    lr: Annotated[float, Field(gt=0)] = 1.0
    milestones: tuple[Positive, ...] = (8, 14, 20, 25)
    schedule_epochs: Positive = 26


class StudentOptimiser(OptimiserSettings):
    """Section 4.6: 26 epochs at 0.1, decayed in epochs 8, 14, 20 and 25."""

    epochs: Positive = 26
    lr: Annotated[float, Field(gt=0)] = 0.1
    milestones: tuple[Positive, ...] = (8, 14, 20, 25)
    schedule_epochs: Positive = 26


class SelectionSettings(Settings):
    """Which epoch is kept.

    `test` is the paper's: the best accuracy on the verification pairs themselves, of a teacher
    on its own group, of a student by the mean of all groups. `heldout` does the same on pairs of
    training identities that were kept out (`data.heldout`), `last` looks at no pair.
    """

    rule: Literal["test", "heldout", "last"] = "test"
    every_epochs: Positive = 1  # the last epoch is always looked at
    folds: Annotated[int, Field(ge=2)] = 10

    @property
    def needs_pairs(self) -> bool:
        """Whether pairs are looked at while training."""
        return self.rule != "last"


class Teachers(Settings):
    """Section `teachers` of the config."""

    backbones: Names
    optimiser: TeacherOptimiser = TeacherOptimiser()
    head: HeadSettings = HeadSettings()
    selection: SelectionSettings = SelectionSettings()


class TeacherSettings(Step):
    """Settings of the step `train-teacher`."""

    embedding_dim: Positive
    backbone: BackboneSettings
    optimiser: TeacherOptimiser
    head: HeadSettings
    selection: SelectionSettings
    engine: EngineSettings = EngineSettings()


class CacheType(Settings):
    """Section `cache` of the config."""

    dtype: Literal["float16", "float32"] = "float16"
    precision: Precision = "auto"  # in which the teachers compute


class CacheSettings(CacheType, Step):
    """Settings of the step `cache-embeddings`."""

    # The order of teachers and packs, which Snakemake does not see: it compares inputs as a set.
    groups: Groups | None = None


class AdaptorArchitecture(Settings):
    """One adaptor (section 4.3). The key's name is the architecture unless it is given."""

    architecture: Literal["SL", "DuL", "DLDP"]
    dropout: Probability | None = None  # DLDP only: 0.2 unless given
    negative_slope: Annotated[float, Field(ge=0, le=1)] = 0.01  # of the LeakyReLU; not in SL

    @model_validator(mode="after")
    def _dropout_belongs_to_dldp(self) -> AdaptorArchitecture:
        if self.dropout is not None and self.architecture != "DLDP":
            raise ValueError("dropout is for DLDP only")
        return self


class Adaptors(Settings):
    """Section `adaptors` of the config."""

    architectures: Annotated[dict[Name, AdaptorArchitecture], Field(min_length=1)] = {
        name: AdaptorArchitecture(architecture=name) for name in ("SL", "DuL", "DLDP")
    }
    optimiser: AdaptorOptimiser = AdaptorOptimiser()
    head: HeadSettings = HeadSettings(margin_std=0.0125)  # the public code's for adaptors (D3)


class AdaptorSettings(Step):
    """Settings of the step `train-adaptor`."""

    embedding_dim: Positive
    adaptor: AdaptorArchitecture
    optimiser: AdaptorOptimiser
    head: HeadSettings
    engine: EngineSettings = EngineSettings()


class LossSettings(Settings):
    """L = classification * L_EAF + kd_weight * L_KD (equations 5 and 6)."""

    classification: bool
    # lambda of section 4.4; 10000 at 512 dimensions is 39.06 * (1 - cosine) (D14)
    kd_weight: Annotated[float, Field(ge=0)] = 10000.0
    images: Literal["labelled", "unlabelled"] = "labelled"  # `data.train` or `data.unlabelled`

    @model_validator(mode="after")
    def _some_loss(self) -> LossSettings:
        if not self.classification and self.kd_weight == 0:
            raise ValueError("a kd_weight above 0, or classification")
        if self.classification and self.images == "unlabelled":
            raise ValueError("images: labelled where there is classification")
        return self


PAPER_LOSSES = {
    "a-KD": LossSettings(classification=False),
    "EAF-KD": LossSettings(classification=True),
}
NO_DISTILLATION = LossSettings(classification=True, kd_weight=0.0)


class Students(Settings):
    """Section `students` of the config."""

    backbone: Name
    losses: Annotated[dict[Name, LossSettings], Field(min_length=1)] = PAPER_LOSSES
    # All students of a set and seed in one job, from one stream of batches; each as alone.
    together: bool = False
    optimiser: StudentOptimiser = StudentOptimiser()
    head: HeadSettings = HeadSettings()
    selection: SelectionSettings = SelectionSettings()


class StudentSettings(Step):
    """Settings of the step `train-student`."""

    embedding_dim: Positive
    backbone: BackboneSettings
    loss: LossSettings
    optimiser: StudentOptimiser
    head: HeadSettings | None = None  # only where the loss has a classification term
    selection: SelectionSettings
    engine: EngineSettings = EngineSettings()


class NamedStudent(Settings):
    """One of the students that are trained together."""

    adaptor: Name
    loss: Name
    settings: StudentSettings


class StudentsSettings(Step):
    """Settings of the step `train-students`."""

    students: Annotated[tuple[NamedStudent, ...], Field(min_length=1)]


# ---------------------------------------------------------------- evaluation and report


class EvaluationSettings(Step):
    """Settings of the step `evaluate`: RFW's protocol (D9, D25)."""

    folds: Annotated[int, Field(ge=2)] = 10


class ReportSettings(Settings):
    """Section `report` of the config."""

    title: str = "Multi-teacher distillation for fair face recognition"
    decimals: Annotated[int, Field(ge=0, le=6)] = 2


class PageSettings(Step):
    """Settings of the step `render-page`."""

    title: str
    procedural: bool  # the faces are drawings, and the page must say so


# A threshold for each group, as in the paper, or one for all of them.
Threshold = Literal["own", "shared"]


class TableSettings(Step):
    """Settings of the step `render-table`."""

    recipe: int = 2  # tables in HTML are pages

    threshold: Threshold = "own"

    decimals: Annotated[int, Field(ge=0, le=6)] = 2
    caption: str
    groups: Groups  # the columns, in order


# ---------------------------------------------------------------- the whole file

TeacherSet = Literal["specialized", "baseline", "single"]
SETS: tuple[TeacherSet, ...] = ("specialized", "baseline")


class Config(Settings):
    """The whole config file. Its methods give each step its own settings."""

    # Keeps runs apart: all results lie in results/<experiment>, else in results.
    experiment: Name | None = None
    groups: Groups
    seeds: Annotated[tuple[int, ...], Field(min_length=1), AfterValidator(_unique)] = (0,)
    embedding_dim: Positive = 512
    data: DataSettings
    splits: SplitSettings = SplitSettings()
    backbones: Annotated[dict[Name, BackboneSettings], Field(min_length=1)]
    teachers: Teachers
    cache: CacheType = CacheType()
    adaptors: Adaptors = Adaptors()
    students: Students
    # A student with no distillation, and students of one teacher trained on all groups (D39).
    controls: bool = True
    engine: EngineSettings = EngineSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    report: ReportSettings = ReportSettings()

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
                {"architecture": name} if name in published and "blocks" not in entry else {}
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
    def _names_exist(self) -> Config:
        for key, used in (
            ("teachers.backbones", self.teachers.backbones),
            ("students.backbone", (self.students.backbone,)),
        ):
            for name in used:
                if name not in self.backbones:
                    raise ValueError(f"{key}: {name!r} is not one of {', '.join(self.backbones)}")
        if self.data.synthetic is not None:
            unknown = set(self.data.synthetic.difficulty) - set(self.groups)
            if unknown:
                raise ValueError(f"data.synthetic.difficulty: no group {sorted(unknown)[0]!r}")
        if isinstance(self.data.verification, dict):
            missing = set(self.groups) - set(self.data.verification)
            if missing:
                raise ValueError(f"data.verification: no file for group {sorted(missing)[0]!r}")
        selections = (self.teachers.selection, self.students.selection)
        if self.data.heldout is None and any(one.rule == "heldout" for one in selections):
            raise ValueError("data.heldout where a selection has the rule heldout: {} will do")
        unlabelled = [
            name for name, loss in self.students.losses.items() if loss.images == "unlabelled"
        ]
        if unlabelled and self.data.unlabelled is None:
            raise ValueError(f"data.unlabelled, a folder of images for the loss {unlabelled[0]}")
        return self

    def as_yaml(self) -> str:
        """The file that says the same, with every default written out."""
        value = self.model_dump(mode="json", exclude_none=True, by_alias=True)
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)

    # Where things lie ---------------------------------------------------------

    def results(self) -> Path:
        """The folder of all results."""
        return Path("results", self.experiment or "")

    def inputs(self) -> Path:
        """The folder of packs and drawn faces."""
        return self.data.shared or self.results()

    def synthetic_folder(self) -> Path:
        """Where the drawn faces are written."""
        return self.inputs() / "data"

    # Who exists ---------------------------------------------------------------

    def sets(self) -> tuple[TeacherSet, ...]:
        """Sets of teachers: the paper's two, and the control with one teacher."""
        return (*SETS, "single") if self.controls else SETS

    def teachers_of(self, set_: str) -> tuple[str, ...]:
        """Teachers of a set, in block order (section 4.3: the order of `groups`)."""
        return {
            "specialized": tuple(f"T-{group}" for group in self.groups),
            "baseline": tuple(f"BT-{i}" for i in range(1, len(self.groups) + 1)),
            "single": ("T-all",),
        }[set_]

    def training_groups(self, teacher: str) -> tuple[str, ...]:
        """Groups whose images a teacher sees."""
        own = teacher.removeprefix("T-")
        return (own,) if own in self.groups else self.groups

    def selection_groups(self, teacher: str) -> tuple[str, ...]:
        """Groups that choose a teacher's epoch; a baseline teacher has one assigned (4.5)."""
        if teacher.startswith("BT-"):
            return (self.groups[int(teacher.removeprefix("BT-")) - 1],)
        return self.training_groups(teacher)

    def tables(self) -> tuple[tuple[str, str | None], ...]:
        """Backbone and loss of each table, None for teachers: the order of the paper's tables."""
        return tuple(
            (backbone, loss)
            for backbone in self.teachers.backbones
            for loss in (None, *self.students.losses)
        )

    # What each step gets ------------------------------------------------------

    def synthesize_settings(self) -> SynthesizeSettings:
        assert self.data.synthetic is not None, "asked for only where the config has it"
        return SynthesizeSettings(
            **self.data.synthetic.model_dump(),
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
        return PackSettings(
            root=self.data.train or self.synthetic_folder() / "train",
            group=group,
            groups=self.data.train_groups,
            image_size=self.data.image_size,
            on_bad_image=self.data.on_bad_image,
            storage=self.data.storage,
            alignment=self.data.train_alignment,
            exclude=self.data.verification_folder() if excluded else None,
            heldout=heldout,
        )

    def verification_pack_settings(self, group: str) -> PackSettings:
        root = self.data.verification or self.synthetic_folder() / "verification"
        return PackSettings(
            root=root[group] if isinstance(root, dict) else root,
            group=group,
            image_size=self.data.image_size,
            on_bad_image=self.data.on_bad_image,
            storage=self.data.storage,
            alignment=self.data.verification_alignment,
        )

    def unlabelled_pack_settings(self) -> PackUnlabelledSettings:
        assert self.data.unlabelled is not None, "asked for only where the config has it"
        return PackUnlabelledSettings(
            root=self.data.unlabelled,
            image_size=self.data.image_size,
            on_bad_image=self.data.on_bad_image,
            storage=self.data.storage,
            alignment=self.data.train_alignment,
        )

    def check_settings(self) -> CheckSettings:
        return CheckSettings(
            expected=self.data.expected, overlap=self.data.overlap, folds=self.evaluation.folds
        )

    def split_settings(self, set_: str) -> SplitSettings:
        """Only the baseline's split draws anything; the others take every identity."""
        return self.splits if set_ == "baseline" else SplitSettings()

    def teacher_settings(self, backbone: str) -> TeacherSettings:
        return TeacherSettings(
            embedding_dim=self.embedding_dim,
            backbone=self.backbones[backbone],
            optimiser=self.teachers.optimiser,
            head=self.teachers.head,
            selection=self.teachers.selection,
            engine=self.engine,
        )

    def cache_settings(self) -> CacheSettings:
        return CacheSettings(**self.cache.model_dump(), groups=self.groups)

    def adaptor_settings(self, adaptor: str) -> AdaptorSettings:
        return AdaptorSettings(
            embedding_dim=self.embedding_dim,
            adaptor=self.adaptors.architectures[adaptor],
            optimiser=self.adaptors.optimiser,
            head=self.adaptors.head,
            engine=self.engine,
        )

    def student_settings(self, loss: str) -> StudentSettings:
        loss_settings = NO_DISTILLATION if loss == "none" else self.students.losses[loss]
        return StudentSettings(
            embedding_dim=self.embedding_dim,
            backbone=self.backbones[self.students.backbone],
            loss=loss_settings,
            optimiser=self.students.optimiser,
            head=self.students.head if loss_settings.classification else None,
            selection=self.students.selection,
            engine=self.engine,
        )

    def students_together(self) -> tuple[tuple[str, str], ...]:
        """Adaptor and loss of the students of a set that one job trains, if it does."""
        if not self.students.together:
            return ()
        return tuple(
            (adaptor, name)
            for adaptor in self.adaptors.architectures
            for name, loss in self.students.losses.items()
            if loss.images == "labelled"
        )

    def students_settings(self) -> StudentsSettings:
        return StudentsSettings(
            students=tuple(
                NamedStudent(adaptor=adaptor, loss=loss, settings=self.student_settings(loss))
                for adaptor, loss in self.students_together()
            )
        )

    def table_settings(
        self, backbone: str, loss: str | None, threshold: Threshold
    ) -> TableSettings:
        models = (
            f"{backbone} teachers" if loss is None else f"{loss} students of {backbone} teachers"
        )
        rest = "" if threshold == "own" else ", one threshold for all groups"
        return TableSettings(
            threshold=threshold,
            decimals=self.report.decimals,
            caption=f"Verification accuracy (%) of the {models}{rest}.",
            groups=self.groups,
        )

    def page_settings(self) -> PageSettings:
        return PageSettings(title=self.report.title, procedural=self.data.synthetic is not None)


# ---------------------------------------------------------------- reading

Model = TypeVar("Model", bound=Settings)


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


def _model_at(model: type[BaseModel], path: tuple[Any, ...]) -> type[BaseModel] | None:
    """The model that holds the last key of `path`, to suggest its nearest key."""
    current: Any = model
    for key in path[:-1]:
        if isinstance(current, type) and issubclass(current, BaseModel):
            if key not in current.model_fields:
                return None
            current = current.model_fields[key].annotation
        elif get_origin(current) is dict:
            current = get_args(current)[1]
        while get_origin(current) in (Union, types.UnionType, Annotated):
            current = get_args(current)[0]
    is_model = isinstance(current, type) and issubclass(current, BaseModel)
    return current if is_model else None


def validate(model: type[Model], value: Any, where: str) -> Model:
    """Make `model` of plain data.

    Raises:
        InputError: names `where`, the first key at fault, what was found and what is expected.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        # An unknown key first: the value missing elsewhere is often the one it misspells.
        first, *others = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    path = tuple(key for key in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    found = repr(first["input"])
    if first["type"] == "extra_forbidden":
        holder = _model_at(model, path)
        known = list(holder.model_fields) if holder else []
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        message = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(known)}"
        found = f"unknown key {path[-1]!r}"
    elif first["type"] == "missing":
        message, found = "a value", "nothing"
    elif first["type"] == "value_error" and isinstance(first["input"], Mapping):
        found = ", ".join(map(str, first["input"])) or "nothing"
    key = ".".join(str(part) for part in path)
    more = f" (and {len(others)} more)" if others else ""
    raise InputError(f"{where}: {key}" if key else where, found=found, expected=message + more)


def read_settings(model: type[Model], text: str) -> Model:
    """Settings from a line of JSON or from the path of a JSON or YAML file."""
    where = "--settings"
    if not text.lstrip().startswith("{"):
        where = text
        text = _read_text(Path(text))
    try:
        value = json.loads(text) if where == "--settings" else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        found = " ".join(str(error).split())
        raise InputError(where, found=found, expected="JSON or YAML") from None
    return validate(model, value, where)


def read_config(path: Path) -> Config:
    """The config file at `path`."""
    return read_settings(Config, str(path))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(path, found="no such file", expected="a settings file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, found=str(error), expected="a readable settings file") from None
