"""What all settings have in common, and the types of their names and numbers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
# Of a run: a name of the config, and its values of lists (mstkd.config.grids).
VariantName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+=.-]*$")]
Positive = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
# A pack holds pixels, or encoded images: a fraction of the space, but decoded at each reading.
Storage = Literal["pixels", "encoded"]


def unique(names: tuple[Any, ...]) -> tuple[Any, ...]:
    """Validate that no entry occurs twice."""
    if len(set(names)) != len(names):
        raise ValueError("an entry occurs twice")
    return names


Names = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(unique)]
Groups = Annotated[tuple[Name, ...], Field(min_length=2, max_length=16), AfterValidator(unique)]


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
