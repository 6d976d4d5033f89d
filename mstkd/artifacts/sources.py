"""What a result was made from: each file's content, and what had been asked of that file.

A file that is gone cannot be asked any more what made it. Whoever read it keeps that as a digest,
its *descent*: of the step, the settings, and the same of all that it was made from, up to the
packs, whose content stands for the files outside. So an edit of the settings of a file that is gone
is seen, and without an edit the file is not missed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mstkd.artifacts.records import Provenance, Source
from mstkd.errors import InputError

PACKING = "pack-"  # the steps that read images outside
IMPORTING = "import-"  # those that read a model that somebody has


def compared(settings: Any, precision: str | None = None) -> Any:
    """Dumped settings as those of two runs are compared, at any depth.

    `engine.compile: auto` leaves it to the machine, so results that were made with `off`, the
    default before, are not made again.

    Args:
        settings: what a config asks for, or what a record says.
        precision: what `auto` came to where the record's result was made, for what it came to.
    """
    if isinstance(settings, Mapping):
        came_to = {("compile", "off"): "auto"}
        if precision is not None:
            came_to["precision", "auto"] = precision
        return {
            key: came_to.get((key, value), value)
            if isinstance(value, str)
            else compared(value, precision)
            for key, value in settings.items()
        }
    if isinstance(settings, list | tuple):
        return [compared(value, precision) for value in settings]
    return settings


def given(settings: BaseModel | None) -> dict[str, Any]:
    """Settings of a step as its results keep them."""
    if settings is None:
        return {}
    return settings.model_dump(mode="json", exclude_none=True, by_alias=True)


def descent(step: str, settings: Any, sources: Mapping[str, str]) -> str:
    """What is asked of a file and of all that it is made from, in one digest.

    Args:
        step: the sub-command.
        settings: its settings, as they are compared.
        sources: the files it reads, named from the folder of the result, each with its descent;
            of packs with their content. Where their order matters, the settings say it too.
    """
    told = json.dumps([step, settings, sorted(sources.items())], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def descents(made: Provenance) -> list[str]:
    """The descent of a result by its record, none of a pack.

    Two where something was left to the machine: as it was given, and as what it came to.
    """
    if made.step.startswith(PACKING):
        return []
    both = (
        (None, {one.path: [*one.descents, one.sha256][0] for one in made.sources}),
        (made.precision, {one.path: [one.sha256, *one.descents][-1] for one in made.sources}),
    )
    every = (
        descent(made.step, compared(made.settings, came_to), sources) for came_to, sources in both
    )
    return list(dict.fromkeys(every))


def descents_of(path: Path) -> list[str]:
    """The descent of a file, none where it does not say what made it."""
    from mstkd.artifacts.told import made_by  # with HDF5, without which a page can be imported

    try:
        made = made_by(path)
    except (InputError, OSError, ValueError):
        return []
    return [] if made is None else descents(made)


def source_list(sources: Mapping[Path, str], output: Path) -> list[Source]:
    """Files with their content hashes, as seen from the folder of `output`."""
    return [
        Source(
            path=Path(os.path.relpath(path, output.parent)).as_posix(),
            sha256=sha256,
            descents=descents_of(path),
        )
        for path, sha256 in sources.items()
    ]


def provenance_of(
    step: str, settings: BaseModel | None, sources: Mapping[Path, str], output: Path
) -> Provenance:
    """What a step that writes `output` says of itself.

    Args:
        step: the sub-command.
        settings: the step's settings, None where it takes none.
        sources: the files it read, with their content hashes.
        output: the result; sources are named from its folder.
    """
    return Provenance(step=step, settings=given(settings), sources=source_list(sources, output))
