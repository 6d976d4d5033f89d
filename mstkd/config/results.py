"""Settings of evaluation, audits, tables and the page."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mstkd.config.base import Folds, Groups, Settings, Step
from mstkd.config.training import Deterministic


class Protocol(Step):
    """RFW's protocol (D9, D25)."""

    recipe: int = 3  # metrics.json says how large the network is

    folds: Folds = 10


class EvaluationSettings(Protocol):
    """Settings of the step `evaluate`."""

    deterministic: Deterministic = None


class Evaluation(Protocol):
    """Section `evaluation` of the config."""

    # `heldout` for choices between settings: no table is made of the test pairs then.
    pairs: Literal["verification", "heldout"] = "verification"


Draws = Annotated[int, Field(ge=100, le=100_000)]


# What a score is. A distance of which nothing more is known is negated; of the Euclidean distance
# of unit vectors, or its square, the similarity is the cosine.
ScoreKind = Literal["similarity", "distance", "euclidean", "squared-euclidean"]


class AuditSettings(Step):
    """Settings of `mstkd audit`: how tables of scores are read, and where rates are taken."""

    group: tuple[str, ...] | None = None  # columns that make the groups
    score: str | None = None  # the column of scores
    kind: ScoreKind | None = None
    folds: Folds = 10  # of tables that have none
    thresholds: tuple[float, ...] = ()  # similarities
    fmrs: tuple[float, ...] = ()  # global false match rates
    draws: Draws = 2000
    seed: int = 0


FalseMatchRate = Annotated[float, Field(gt=0, lt=1)]
RFW = ("African", "Asian", "Caucasian", "Indian")  # the paper's columns, in its order


class ReportSettings(Settings):
    """Section `report` of the config."""

    title: str = "Multi-teacher distillation for fair face recognition"
    decimals: Annotated[int, Field(ge=0, le=6)] = 2
    draws: Draws = 2000
    # The tables' columns; unless given, the paper's order of RFW's groups, else that of blocks.
    columns: Groups | None = None
    # The paper's numbers beside ours, where groups are RFW's and a row is the paper's.
    published: bool = True
    fmr: FalseMatchRate = 0.01  # of all groups together, where error rates are taken
    licence: str | None = None  # of the students' weights, told in their model cards


# Whose epochs were chosen by looking at the pairs that the models are scored on.
ChosenOnTest = tuple[Literal["teachers", "students"], ...]


# By set, the names of teachers that were given as checkpoints and not trained.
GivenTeachers = dict[str, tuple[str, ...]]


def given_names(given: GivenTeachers) -> str:
    """Such teachers on one line: specialized T-A, T-B; baseline BT-1."""
    return "; ".join(f"{set_} {', '.join(names)}" for set_, names in given.items())


class ClaimsSettings(Step):
    """Settings of the step `compute-claims`."""

    recipe: int = 8  # groups within two standard errors may be the end of SER

    draws: Draws = 2000  # of noise, for STD and SER
    chosen_on_test: ChosenOnTest | None = None
    given: GivenTeachers | None = None
    started: Literal[True] | None = None  # whether students start from weights that were given
    splits_by_seed: Literal[True] | None = None  # whether each seed deals identities anew


class ModelCardSettings(Step):
    """Settings of the step `render-model-card`."""

    recipe: int = 5  # groups within two standard errors may be the end of SER

    decimals: Annotated[int, Field(ge=0, le=6)] = 2
    draws: Draws = 2000  # of noise, for STD and SER
    procedural: bool  # the faces are drawings, and the card must say so
    chosen_on_test: ChosenOnTest | None = None
    licence: str | None = None  # of the weights
    given: GivenTeachers | None = None


class PageSettings(Step):
    """Settings of the step `render-page`."""

    recipe: int = 2  # the answer first

    title: str
    procedural: bool  # the faces are drawings, and the page must say so
    grids: tuple[str, ...] | None = None  # keys with a list in the config, and their values
    # Of specialized teachers' identities those of other groups, where there are any.
    foreign_shares: tuple[float, ...] | None = None
    given: GivenTeachers | None = None
    # How many teachers are fused, where the config has several subsets of them.
    fused_counts: tuple[int, ...] | None = None


GridOf = Literal["teachers", "adaptors", "students"]


class GridSettings(Step):
    """Settings of the step `render-grid`: which list of the config."""

    recipe: int = 5  # groups within two standard errors may be the end of SER

    section: GridOf
    key: str  # its last part, as it stands in the models' names
    draws: Draws = 2000  # of noise, for STD


# A threshold for each group, as in the paper, or one for all of them.
Threshold = Literal["own", "shared"]


class TableSettings(Step):
    """Settings of the step `render-table`."""

    recipe: int = 9  # groups within two standard errors may be the end of SER

    threshold: Threshold = "own"

    decimals: Annotated[int, Field(ge=0, le=6)] = 2
    caption: str
    groups: Groups  # the columns, in order
    published: Literal[True] | None = None  # the paper's numbers beside ours
    draws: Draws | None = None  # of noise, for STD and SER; no intervals without it


class DistributionSettings(Step):
    """Settings of the step `render-distributions`."""

    caption: str
    groups: Groups  # the rows of each panel, in order


class ImpostorSettings(Protocol):
    """Settings of the step `score-impostors`."""

    recipe: int = 8  # limits of measures over groups know of how few people variances are

    fmr: FalseMatchRate = 0.01  # of all groups together
    draws: Draws = 2000
    deterministic: Deterministic = None


class MapSettings(Step):
    """Settings of the step `render-impostors`."""

    caption: str
    groups: Groups  # rows and columns of each map, in order


class ErrorRateSettings(Step):
    """Settings of the step `render-error-rates`."""

    recipe: int = 3  # intervals at a global FMR know what the threshold holds

    fmr: FalseMatchRate = 0.01  # of all groups together
    decimals: Annotated[int, Field(ge=0, le=6)] = 2  # of rates in percent, and of ratios
    caption: str
    groups: Groups  # the columns, in order
    draws: Draws = 2000  # of noise, for the ratios
