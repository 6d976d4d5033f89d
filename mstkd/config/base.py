"""What all settings have in common, and the types of their names and numbers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self, TypeVar, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
# Of a run: a name of the config, and its values of lists (mstkd.config.grids).
VariantName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+=.-]*$")]
Positive = Annotated[int, Field(ge=1)]
# Of networks, far above any that is trained: a file of a stranger may ask for one.
Dimensions = Annotated[int, Field(ge=1, le=65_536)]
Side = Annotated[int, Field(ge=1, le=4_096)]  # of an image, in pixels
Folds = Annotated[int, Field(ge=2, le=32_767)]  # numbered in 16 bits where pairs are
Probability = Annotated[float, Field(ge=0, lt=1)]
# A pack holds pixels, or encoded images: a fraction of the space, but decoded at each reading.
Storage = Literal["pixels", "encoded"]


Entries = TypeVar("Entries", bound=Collection[Any])


def unique(entries: Entries) -> Entries:
    """Validate that no entry occurs twice; many disks see no difference in capitals."""
    if len({str(entry).casefold() for entry in entries}) < len(entries):
        raise ValueError("each once, whatever its capitals; an entry occurs twice")
    return entries


def other_than(pattern: str) -> AfterValidator:
    """Validate that a name is none of those that the program gives itself, in any capitals."""

    def check(name: str) -> str:
        if re.fullmatch(pattern, name, re.IGNORECASE):
            raise ValueError(f"none of the program's own names, {pattern.replace('|', ', ')}")
        return name

    return AfterValidator(check)


# Not what stands beside the groups: in a table's columns, and in what a model is made from.
GroupName = Annotated[
    Name,
    other_than(
        "set|name|variant|seeds|global|global_accuracy|std|ser|embeddings|adaptor"
        "|parameters|multiply_adds|kind|backbone|loss|value"
        "|.+_(seed_std|low|high|pairs|published|difference)"
    ),
]
# Not what lies beside its folder in results/.
ExperimentName = Annotated[
    Name,
    other_than(
        "adaptors|benchmarks|cards|data|embeddings|error-rates|figures|given|logs|packs|splits|students"
        "|tables|teachers|tracing"
    ),
]
Names = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(unique)]
Groups = Annotated[
    tuple[GroupName, ...], Field(min_length=2, max_length=16), AfterValidator(unique)
]


def _kinds(annotation: Any) -> set[Any]:
    """The types that a type is made of, up to models, which check their own fields."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    parts = get_args(annotation)
    return set().union(*map(_kinds, parts)) if parts else {annotation}


def _entries(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else (value,)


def fault(
    expected: str, found: Any, key: tuple[int | str, ...] = (), kind: str = "value_error"
) -> InitErrorDetails:
    """One of the faults that a validator finds, at a key of what it validates."""
    told = PydanticCustomError(kind, "{expected}", {"expected": expected})
    return InitErrorDetails(type=told, loc=key, input=found)


def refuse(model: type[BaseModel], faults: list[InitErrorDetails]) -> None:
    """Raise what validators may, where there are faults."""
    if faults:
        raise ValidationError.from_exception_data(model.__name__, faults)


class Settings(BaseModel):
    """A frozen model that knows all its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truths_are_no_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what pydantic would take: true for 1, and 1 for true; and text with a zero byte.

        Text is taken for what it reads as: YAML holds 5e-4 for text, and Snakemake hands on all
        that stands below a key of its `--config` as such.
        """
        if any(isinstance(one, str | PurePath) and "\0" in str(one) for one in _entries(value)):
            raise PydanticCustomError("text", "text without a zero byte")
        kinds = _kinds(cls.model_fields[str(info.field_name)].annotation)
        if bool in kinds:
            if isinstance(value, int | float) and not isinstance(value, bool):
                raise PydanticCustomError("truth", "true or false")
        elif kinds & {int, float} and any(isinstance(one, bool) for one in _entries(value)):
            raise PydanticCustomError("number", "a number, which true and false are not")
        return value

    def _refused_for(self, faults: Iterable[str]) -> Self:
        """For validators of a whole section: pydantic lets each of them name one fault only."""
        given = {key: ... for key in type(self).model_fields if key in self.model_fields_set}
        refuse(type(self), [fault(one, given) for one in faults])
        return self

    def dump(self) -> str:
        """One line of JSON, keys in the order of the fields: the text Snakemake compares."""
        return self.model_dump_json(exclude_none=True, by_alias=True)


class Step(Settings):
    """The settings of one step of the pipeline.

    `recipe` is raised in the commit that changes what the step computes: Snakemake sees edits
    of settings, not edits of the package.
    """

    recipe: int = 1
