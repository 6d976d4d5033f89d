"""Whether a result on the disk is what a job would make: by its own record, not by its time.

A result holds which step made it, by which settings, of which subject and from which files. Where
all of that is what is asked for now, and the files it was made from still have the content that
was read, it is current, whatever happened in between.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mstkd.artifacts.contents import content_sha256
from mstkd.artifacts.lineage import Told, told_by
from mstkd.artifacts.records import ModelRecord, read_record
from mstkd.errors import InputError

State = Literal["current", "stale", "damaged", "missing"]
SHOWN = 3  # differences in a message


@dataclass(frozen=True)
class Asked:
    """What a job would make one of its outputs of."""

    step: str  # the sub-command
    settings: Mapping[str, Any]  # as they are dumped; empty where the step takes none
    read: Sequence[Sequence[Path]]  # the files it reads, those of one kind in order
    subject: Mapping[str, str | int | None]  # of models, what their path says of them
    # Settings, and the precision that `auto` came to, if it matters, to what of them is compared.
    compared: Callable[[Any, str | None], Any]


@dataclass(frozen=True)
class Standing:
    """How a result stands to what is asked for; `why` in words, empty where it is current."""

    state: State
    why: str = ""


CURRENT = Standing("current")


class Contents:
    """Content hashes of files, each looked up once.

    Those that weights, packs and caches carry are taken at their word: whoever reads them checks.
    """

    def __init__(self) -> None:
        self.of = functools.cache(self._of)

    @staticmethod
    def _of(path: Path) -> str | None:
        try:
            if path.suffix == ".safetensors":
                return read_record(ModelRecord, path.with_name("model.json")).weights_sha256
            return content_sha256(path)
        except (OSError, InputError):
            return None  # gone, or damaged: then the job that makes it is told so itself


def standing(output: Path, asked: Asked, contents: Contents) -> Standing:
    """How the file `output` stands to what is asked for.

    Weights, packs and caches are not read whole: whoever reads them does.
    """
    if not output.is_file():
        return Standing("missing", "not there")
    # A model's weights are spoken for by its record.
    record = output.with_name("model.json")
    try:
        told = told_by(record if output.suffix == ".safetensors" else output)
    except (InputError, OSError, ValueError) as error:
        return Standing("damaged", str(error))
    if told is None:
        return Standing("stale", "it holds no record of what made it")
    if told.unchanged is False:
        return Standing("damaged", "edited or damaged since it was written")
    different = list(differences(told, output.parent, asked, contents))
    if not different:
        return CURRENT
    more = len(different) - SHOWN
    return Standing(
        "stale", "; ".join(different[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
    )


def differences(told: Told, folder: Path, asked: Asked, contents: Contents) -> Iterator[str]:
    """What a record says that is not asked for, in words.

    Args:
        told: the record.
        folder: of the result: its sources are named from there.
        asked: what would be made now.
        contents: what the sources hold now.
    """
    made = told.made
    if made.step != asked.step:
        yield f"made by {made.step}, asked of {asked.step}"
        return
    if told.subject is not None:
        own = told.subject.model_dump()
        for name, value in asked.subject.items():
            if str(own[name]) != str(value):
                yield f"it is of {name} {own[name]}, asked for {value}"
    then, now = (_flat(asked.compared(one, None)) for one in (made.settings, asked.settings))
    # What was left to the machine is also what the machine made of it.
    came_to = _flat(asked.compared(made.settings, made.precision))
    for key in dict.fromkeys((*then, *now)):
        if now.get(key, "unset") not in (then.get(key, "unset"), came_to.get(key, "unset")):
            yield f"{key} {_text(then, key)}, now {_text(now, key)}"
    recorded = {_normal(folder / source.path): source.sha256 for source in made.sources}
    kinds = [[_normal(path) for path in kind] for kind in asked.read]
    wanted = dict.fromkeys(path for kind in kinds for path in kind)
    yield from (
        f"made from {path}, which is not asked for" for path in recorded if path not in wanted
    )
    yield from (f"not made from {path}" for path in wanted if path not in recorded)
    for kind in map(dict.fromkeys, kinds):
        before = [path for path in recorded if path in kind]
        if before != list(kind) and len(before) == len(kind):
            yield f"made from {' '.join(map(str, before[:SHOWN]))} in this order"
    for path in wanted:
        now_there = contents.of(path)
        if path in recorded and now_there is not None and now_there != recorded[path]:
            yield f"made from another {path}"


def _flat(settings: Any, above: str = "") -> dict[str, Any]:
    """Settings by dotted keys; lists are values."""
    if not isinstance(settings, Mapping):
        return {above: settings}
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{above}.{key}" if above else str(key))
    return flat


def _text(flat: Mapping[str, Any], key: str) -> str:
    return json.dumps(flat[key], ensure_ascii=False) if key in flat else "unset"


def _normal(path: Path) -> Path:
    return Path(os.path.normpath(path))
