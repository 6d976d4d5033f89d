"""How images are shown to networks that other programs trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from mstkd.config.base import Settings, Step

Channels = tuple[float, float, float]  # of R, G and B, whatever the order of the network's
Colours = Literal["rgb", "bgr"]

# Mean and standard deviation of pixels of 0 to 255.
NORMALISATIONS: dict[str, tuple[Channels, Channels]] = {
    "-1..1": ((127.5,) * 3, (127.5,) * 3),  # ArcFace, ElasticFace, AdaFace, MST-KD and this package
    "0..1": ((0.0,) * 3, (255.0,) * 3),
    "0..255": ((0.0,) * 3, (1.0,) * 3),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
SPELT = f"{', '.join(NORMALISATIONS)}, or MEAN/STD of pixels of 0 to 255, as 127.5/128"


def mean_and_std(normalisation: str) -> tuple[Channels, Channels]:
    """Mean and standard deviation of pixels of 0 to 255, of R, G and B.

    >>> mean_and_std("127.5/128")
    ((127.5, 127.5, 127.5), (128.0, 128.0, 128.0))

    Args:
        normalisation: one of `NORMALISATIONS`, or mean and deviation with a slash between, each one
            number or three with commas.

    Raises:
        ValueError: it is none of these, or a deviation is not above 0.
    """
    if normalisation in NORMALISATIONS:
        return NORMALISATIONS[normalisation]
    try:
        mean, std = (_channels(part) for part in normalisation.split("/"))
    except ValueError:
        raise ValueError(SPELT) from None
    if not all(abs(one) < 1e6 for one in mean) or not all(1e-6 < one < 1e6 for one in std):
        raise ValueError(f"{SPELT}; a STD is above 0")
    return mean, std


def _channels(text: str) -> Channels:
    numbers = [float(one) for one in text.split(",")]
    if len(numbers) == 1:
        numbers *= 3
    red, green, blue = numbers
    return red, green, blue


def _spelt(normalisation: str) -> str:
    mean_and_std(normalisation)
    return normalisation


Normalisation = Annotated[str, AfterValidator(_spelt)]


class InputSettings(Settings):
    """What a network wants its images to be; by default as this package's own have them."""

    colours: Colours = "rgb"
    normalisation: Normalisation = "-1..1"

    def is_foreign(self) -> bool:
        """Whether it is another than this package's."""
        own = InputSettings()
        return (self.colours, self.normalisation) != (own.colours, own.normalisation)


class GivenModel(Settings):
    """A model that somebody has, in the config: a path, or that with what its file does not say."""

    path: Path  # of a checkpoint, or of a model of this package or its folder
    colours: Colours | None = None  # of a checkpoint; a model of this package says it itself
    normalisation: Normalisation | None = None  # beside colours: -1..1 unless given

    @model_validator(mode="after")
    def _normalisation_goes_with_colours(self) -> Self:
        if self.normalisation is not None and self.colours is None:
            raise ValueError("colours, rgb or bgr, beside normalisation")
        return self

    @property
    def seen(self) -> InputSettings | None:
        """How images are shown to it; None where its own record has to say it."""
        if self.colours is None:
            return None
        told = {"colours": self.colours, "normalisation": self.normalisation}
        return InputSettings.model_validate({key: one for key, one in told.items() if one})


def _path_is_enough(value: Any) -> Any:
    return value if isinstance(value, Mapping | GivenModel) else {"path": value}


class _OrAPath:
    """What editors are told: a text will do as well."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string", "format": "path"}, handler(core_schema)]}


Given = Annotated[GivenModel, BeforeValidator(_path_is_enough), _OrAPath()]


class ImportSettings(InputSettings, Step):
    """Settings of `mstkd import-model`."""

    colours: Colours  # no file says it


class CalibrationSettings(Step):
    """Settings of `mstkd calibrate`."""

    fmr: Annotated[float, Field(gt=0, lt=1)]  # of all groups together
