"""Further images that a person's commands read: `--more-suffixes`, as `data.more_suffixes`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mstkd.config.data import Suffixes

MoreSuffixes = Annotated[
    str | None,
    typer.Option(
        "--more-suffixes", help="Further images to read, as data.more_suffixes: .bmp,.tif"
    ),
]


def suffixes(told: str | None) -> Suffixes:
    """The endings that the option names; None where it is not given.

    Raises:
        InputError: none, one twice, or one that no decoder reads.
    """
    from mstkd.config import validate
    from mstkd.config.data import FurtherImages

    given = {} if told is None else {"more_suffixes": told.split(",")}
    return validate(FurtherImages, given, "--more-suffixes").more_suffixes
