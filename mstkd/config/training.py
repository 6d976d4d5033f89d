"""Settings of networks, heads, optimisation, and of teachers, adaptors and students."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mstkd.config.base import (
    Dimensions,
    Folds,
    Groups,
    Name,
    Names,
    Positive,
    Probability,
    Settings,
    Side,
    Step,
    VariantName,
    unique,
)
from mstkd.config.data import ForeignShare
from mstkd.config.grids import GridSection
from mstkd.config.inference import Given, InputSettings

Blocks = Annotated[int, Field(ge=1, le=1_000)]  # of a stage; IResNet-100 has 30


class BackboneSettings(Settings):
    """A published architecture by name, a variant by `blocks` and `widths`, or one of timm's."""

    architecture: (
        Literal["iresnet18", "iresnet34", "iresnet50", "iresnet100", "mobilefacenet"] | None
    ) = None
    blocks: tuple[Blocks, Blocks, Blocks, Blocks] | None = None
    widths: tuple[Dimensions, Dimensions, Dimensions, Dimensions] | None = None
    timm: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")] | None = None  # its name there
    dropout: Probability = 0.0  # before the last layer; the public code: 0.4 for IResNet-50 (D11)

    @model_validator(mode="after")
    def _architecture_or_blocks(self) -> BackboneSettings:
        if [self.architecture, self.blocks, self.timm].count(None) != 2:
            raise ValueError("either architecture, blocks or timm")
        if self.widths is not None and (self.timm or self.architecture == "mobilefacenet"):
            raise ValueError("no widths, which are those of an IResNet's stages")
        return self

    @property
    def is_iresnet(self) -> bool:
        """Whether it is an IResNet, for which `engine` has a key of its own."""
        return self.timm is None and self.architecture != "mobilefacenet"

    @property
    def called(self) -> str:
        """The architecture, for people."""
        if self.timm is not None:
            return f"timm's {self.timm}"
        blocks = "-".join(map(str, self.blocks or ()))
        return self.architecture or f"iresnet of {blocks} blocks"


# Of convolutions and matrix products; `auto` is bfloat16 on a GPU and float32 on a CPU.
Precision = Literal["auto", "float32", "bfloat16"]


class EngineSettings(Settings):
    """How training steps are computed, the same for teachers, adaptors and students."""

    precision: Precision = "auto"
    # `auto`: on a GPU the backbone by torch.compile and the whole step as one CUDA graph, on a CPU
    # neither; the others: the backbone alone, in that mode of torch.compile.
    compile: Annotated[
        Literal["auto", "off", "default", "reduce-overhead", "max-autotune"],
        BeforeValidator(lambda value: "off" if value is False else value),  # as YAML reads `off`
    ] = "auto"
    deterministic: bool = False  # the same bytes from the same run on a GPU too, at some cost
    # Of an IResNet, batch normalisation and PReLU of large tensors by one kernel of our own on a
    # GPU. Written where it is on: what was made before this key was there is still asked for.
    fused_norm: Annotated[bool | None, AfterValidator(lambda value: value or None)] = None


# `engine.deterministic` in the settings of steps that take no other key of it: written where it
# is on, so that what was made before these steps heard of it is still what is asked for.
Deterministic = Literal[True] | None


class SamplingSettings(Settings):
    """A head of very many identities looks at some of them in each step (Partial-FC)."""

    # More identities than this. BUPT-Balancedface has 28,000, MS1MV3 93,000: both stay exact.
    above: Annotated[int, Field(ge=0)] = 100_000
    # Of all identities, drawn anew in each step, beside the batch's own (An et al., 2022: 0.1)
    share: Annotated[float, Field(gt=0, le=1)] = 0.1


# What a head's name says of its margins, where that is not as in ElasticArcFace.
MARGINS = {
    "CosFace": {"margin": 0.35},
    "ElasticCosFace": {"margin": 0.35, "margin_std": 0.0125},
}


class HeadSettings(Settings):
    """Margin head on the unit hypersphere (equation 3)."""

    name: Literal["ElasticArcFace", "ElasticCosFace", "ArcFace", "CosFace"] = "ElasticArcFace"
    scale: Annotated[float, Field(gt=0)] = 64.0  # section 4.2
    # Radians for ArcFace, cosine for CosFace: there 0.35 unless given.
    margin: Annotated[float, Field(ge=0)] = 0.5
    margin_std: Annotated[float, Field(ge=0)] = 0.05  # section 4.2; ElasticCosFace 0.0125
    plus: bool = False  # the largest margins to the samples farthest from their centres
    # The defaults of SamplingSettings unless given; not written out, since they leave the result
    # of any experiment with fewer identities as it was.
    sampling: SamplingSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults_follow_the_name(cls, head: Any) -> Any:
        """A margin of cosines is another number than one of angles."""
        if not isinstance(head, Mapping):
            return head
        return {**MARGINS.get(str(head.get("name")), {}), **head}

    @model_validator(mode="after")
    def _margins_are_no_degrees(self) -> Self:
        return self._refused_for(self._margin_faults())

    def _margin_faults(self) -> Iterator[str]:
        cosine = self.name.endswith("CosFace")
        most, unit = (2.0, "a cosine") if cosine else (math.pi, "radians")
        for key, value in (("margin", self.margin), ("margin_std", self.margin_std)):
            if value > most:
                degrees = "" if cosine else f"; {value:g} degrees are {math.radians(value):.3g}"
                yield f"{key} of {self.name} of at most {most:.3g}, {unit}, not {value:g}{degrees}"

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
    folds: Folds = 10

    @property
    def needs_pairs(self) -> bool:
        """Whether pairs are looked at while training."""
        return self.rule != "last"


class Teachers(GridSection, Settings):
    """Section `teachers` of the config; a list of numbers makes variants of each backbone."""

    backbones: Names
    # Teachers that are not trained but given: specialized ones by their group, others by name.
    from_checkpoint: (
        Annotated[dict[Name, Given], Field(min_length=1), AfterValidator(unique)] | None
    ) = None
    # Of a specialized teacher's identities, those of other groups; 0 is the paper's. At a share of
    # (G - 1) / G of G groups its split is mixed as a baseline teacher's.
    foreign_share: ForeignShare = 0.0
    # The schedule stays that of all epochs. The published best ones lie at 13 to 20 of 52: after
    # 28, 46 % of the teachers' cost is saved.
    stop_after: Positive | None = None
    optimiser: TeacherOptimiser = TeacherOptimiser()
    head: HeadSettings = HeadSettings()
    selection: SelectionSettings = SelectionSettings()


class TeacherSettings(Step):
    """Settings of the step `train-teacher`."""

    embedding_dim: Dimensions
    backbone: BackboneSettings
    optimiser: TeacherOptimiser
    head: HeadSettings
    selection: SelectionSettings
    engine: EngineSettings = EngineSettings()
    stop_after: Positive | None = None


class ImportGivenSettings(Step):
    """Settings of the step `import-given`: what is asked of a network that is given."""

    key: str  # of the config, which a refusal names
    embedding_dim: Dimensions
    image_size: Side
    seen: InputSettings | None = None  # None: its own record says it


class ImportStartSettings(ImportGivenSettings):
    """Settings of the step `import-start`."""

    backbone: BackboneSettings


class CacheType(Settings):
    """Section `cache` of the config."""

    dtype: Literal["float16", "float32"] = "float16"
    precision: Precision = "auto"  # in which the teachers compute


class CacheSettings(CacheType, Step):
    """Settings of the step `cache-embeddings`."""

    # The order of teachers and packs, which Snakemake does not see: it compares inputs as a set.
    groups: Groups | None = None
    deterministic: Deterministic = None
    mirrored: Literal[True] | None = None  # of each image's mirror image


PaperAdaptor = Literal["SL", "DuL", "DLDP"]
PAPER_ADAPTORS: tuple[PaperAdaptor, ...] = get_args(PaperAdaptor)


class AdaptorArchitecture(Settings):
    """One adaptor (section 4.3). The key's name is the architecture unless it is given."""

    architecture: PaperAdaptor
    dropout: Probability | None = None  # DLDP only: 0.2 unless given
    negative_slope: Annotated[float, Field(ge=0, le=1)] = 0.01  # of the LeakyReLU; not in SL

    @model_validator(mode="after")
    def _dropout_belongs_to_dldp(self) -> AdaptorArchitecture:
        if self.dropout is not None and self.architecture != "DLDP":
            raise ValueError("dropout is for DLDP only")
        return self


class AdaptorHead(HeadSettings):
    """The margin head of adaptors."""

    margin_std: Annotated[float, Field(ge=0)] = 0.0125  # the public code's for adaptors (D3)


# In an order of their own, so that a subset of the groups has one name.
Subset = Annotated[
    tuple[Name, ...],
    Field(min_length=1),
    AfterValidator(unique),
    AfterValidator(lambda names: tuple(sorted(names))),
]


class Adaptors(GridSection, Settings):
    """Section `adaptors` of the config; a list of `fused` or `width` makes variants of each."""

    _listed: ClassVar[tuple[str, ...]] = ("fused", "width")

    architectures: Annotated[
        dict[Name, AdaptorArchitecture], Field(min_length=1), AfterValidator(unique)
    ] = {name: AdaptorArchitecture(architecture=name) for name in PAPER_ADAPTORS}
    # The groups whose teachers are fused; of baseline ones those that have the same places.
    fused: Subset | None = None
    # Dimensions of the fused space, and so of its students; unless given those of the teachers.
    width: Dimensions | None = None
    optimiser: AdaptorOptimiser = AdaptorOptimiser()
    head: AdaptorHead = AdaptorHead()

    @model_validator(mode="after")
    def _published_names_are_true(self) -> Adaptors:
        """The report says of `SL` what the paper does."""
        for name, adaptor in self.architectures.items():
            if name in PAPER_ADAPTORS and adaptor.architecture != name:
                raise ValueError(f"{name} of architecture {name}, or another name for it")
        return self


class AdaptorSettings(Step):
    """Settings of the step `train-adaptor`."""

    embedding_dim: Dimensions  # of the fused space
    adaptor: AdaptorArchitecture
    optimiser: AdaptorOptimiser
    head: AdaptorHead
    engine: EngineSettings = EngineSettings()
    teacher_dim: Dimensions | None = None  # of a teacher's embedding, where it is another
    teachers: Names | None = None  # whose blocks of the cache are fused, if not all


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


class Students(GridSection, Settings):
    """Section `students` of the config; a list of numbers or names makes variants of each loss."""

    backbone: Name
    from_checkpoint: Given | None = None  # the weights that all students start from
    losses: Annotated[dict[Name, LossSettings], Field(min_length=1), AfterValidator(unique)] = (
        PAPER_LOSSES
    )
    # All students of a set and seed in one job, from one stream of batches; each as alone.
    together: bool = False
    # Students see every other image mirrored. Their target is of the image as it is stored, as in
    # the public code, or of the one that is seen.
    target_view: Literal["stored", "seen"] = "stored"
    optimiser: StudentOptimiser = StudentOptimiser()
    head: HeadSettings = HeadSettings()
    selection: SelectionSettings = SelectionSettings()


class StudentSettings(Step):
    """Settings of the step `train-student`."""

    embedding_dim: Dimensions
    backbone: BackboneSettings
    loss: LossSettings
    optimiser: StudentOptimiser
    head: HeadSettings | None = None  # only where the loss has a classification term
    selection: SelectionSettings
    engine: EngineSettings = EngineSettings()
    target_view: Literal["seen"] | None = None

    @model_validator(mode="after")
    def _head_for_classification(self) -> StudentSettings:
        if self.loss.classification != (self.head is not None):
            raise ValueError("head where the loss has classification, and nowhere else")
        return self


def last_epoch(settings: TeacherSettings | AdaptorSettings | StudentSettings) -> int:
    """The epoch after which training ends, counted from 1."""
    stop = settings.stop_after if isinstance(settings, TeacherSettings) else None
    return stop or settings.optimiser.epochs


class NamedStudent(Settings):
    """One of the students that are trained together."""

    adaptor: VariantName
    loss: VariantName
    settings: StudentSettings


class StudentsSettings(Step):
    """Settings of the step `train-students`."""

    students: Annotated[tuple[NamedStudent, ...], Field(min_length=1)]
