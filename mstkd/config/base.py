"""What all settings have in common, and the types of their names and numbers."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
# Of a run: a name of the config, and its values of lists (mstkd.config.grids).
VariantName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+=.-]*$")]
Positive = Annotated[int, Field(ge=1)]
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
        "set|name|variant|seeds|global|global_accuracy|std|ser|.+_seed_std|embeddings|adaptor"
    ),
]
# Not what lies beside its folder in results/.
ExperimentName = Annotated[
    Name,
    other_than(
        "adaptors|benchmarks|data|embeddings|figures|logs|packs|splits|students|tables|teachers"
    ),
]
Names = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(unique)]
Groups = Annotated[
    tuple[GroupName, ...], Field(min_length=2, max_length=16), AfterValidator(unique)
]


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
