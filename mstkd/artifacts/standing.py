"""Whether a result on the disk is what a job would make: by its own record, not by its time.

A result holds which step made it, by which settings, of which subject and from which files. Where
all of that is what is asked for now, and the files it was made from still have the content that
was read, it is current, whatever happened in between. Of a file that is gone it holds what had been
asked of it (`sources.descent`): where the same is asked for now, it is not missed.
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
from mstkd.artifacts.records import Source
from mstkd.artifacts.sources import IMPORTING, compared, descents_of
from mstkd.artifacts.told import Told, told_by
from mstkd.errors import InputError

RECORD, WEIGHTS, HISTORY = "model.json", "model.safetensors", "history.csv"
State = Literal["current", "stale", "damaged", "missing"]
SHOWN = 3  # differences in a message


@dataclass(frozen=True, eq=False)
class Asked:
    """What a job would make one of its outputs of."""

    step: str  # the sub-command
    settings: Mapping[str, Any]  # as they are dumped; empty where the step takes none
    read: Sequence[Sequence[str | Path]]  # the files it reads, those of one kind in order
    subject: Mapping[str, str | int | None]  # of models, what their path says of them
    # Of a file it reads that is gone: what is asked of that (`sources.descent`), None where that is
    # not known. Without it, what is gone is passed over.
    descent_of: Callable[[str], str | None] | None = None


@dataclass(frozen=True)
class Standing:
    """How a result stands to what is asked for; `why` in words, empty where it is current."""

    state: State
    why: str = ""


CURRENT = Standing("current")
DAMAGED = Standing("damaged", "edited or damaged since it was written")


class Contents:
    """What files hold, each looked up once: what they say of themselves, and content hashes.

    Hashes that weights, packs and caches carry are taken at their word: whoever reads them checks.
    Paths are texts here, as thousands of jobs name the same files and `Path` takes its time.
    """

    def __init__(self) -> None:
        self.of = functools.cache(self._of)
        self.of_given = functools.cache(self._of_given)
        self.standing_of_record = functools.cache(self._standing_of_record)
        self.descents_of = functools.cache(lambda path: descents_of(Path(path)))
        self._told = functools.cache(lambda record: told_by(Path(record)))

    def _of_given(self, path: str) -> str | None:
        """The content of a file that is no result, though it may be called as one is."""
        if _name(path) == WEIGHTS and Path(_record(path)).exists():
            return self.of(path)
        try:
            return content_sha256(Path(path))
        except OSError:
            return None

    def _of(self, path: str) -> str | None:
        try:
            if _name(path) != WEIGHTS:
                return content_sha256(Path(path))
            told = self._told(_record(path))
            return told.files.get(WEIGHTS) if told and told.unchanged is not False else None
        except (OSError, InputError):
            return None  # gone, or damaged: then the job that makes it is told so itself

    def _standing_of_record(self, record: str, asked: Asked) -> Standing:
        try:
            told = self._told(record)
        except (InputError, OSError, ValueError) as error:
            return Standing("damaged", str(error))
        if told is None:
            return Standing("stale", "it holds no record of what made it")
        if told.unchanged is False:
            return DAMAGED
        different = list(differences(told, Path(record).parent, asked, self))
        if not different:
            return CURRENT
        more = len(different) - SHOWN
        told_first = "; ".join(different[:SHOWN])
        return Standing("stale", told_first + (f"; and {more} more" if more > 0 else ""))

    def is_of_record(self, history: str) -> bool:
        """Whether a history is the one that its model's record knows, where that knows one."""
        told = self._told(_record(history))
        return told is None or told.files.get(HISTORY) in (None, self.of(history))


def weights_of(path: Path) -> Path:
    """The weights of a model that is given by them, or by the folder that holds them."""
    return path / WEIGHTS if path.is_dir() else path


def _plain(path: str | Path) -> str:
    """A path as seen from here, so that an absolute one and a relative one of a file are equal."""
    return os.path.relpath(path) if str(path).startswith("/") else os.path.normpath(path)


def _name(path: str) -> str:
    return path[path.rfind("/") + 1 :]


def _record(path: str) -> str:
    """The record beside a model's file."""
    return path.removesuffix(_name(path)) + RECORD


def standing(output: str | Path, asked: Asked, contents: Contents) -> Standing:
    """How the file `output` stands to what is asked for.

    Weights, packs and caches are not read whole: whoever reads them does.
    """
    if not Path(output).is_file():
        return Standing("missing", "not there")
    path = str(output)
    name = _name(path)
    # A model's weights and history are spoken for by its record.
    record = _record(path) if name in (WEIGHTS, HISTORY) else path
    found = contents.standing_of_record(record, asked)
    if name == HISTORY and found.state != "damaged" and not contents.is_of_record(path):
        return DAMAGED
    return found


def differences(told: Told, folder: str | Path, asked: Asked, contents: Contents) -> Iterator[str]:
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
        for name, value in asked.subject.items():
            own = getattr(told.subject, name)
            if str(own) != str(value):
                yield f"it is of {name} {own}, asked for {value}"
    if made.settings != asked.settings:
        then, now = (_flat(compared(one)) for one in (made.settings, asked.settings))
        # What was left to the machine is also what the machine made of it.
        came_to = _flat(compared(made.settings, made.precision))
        for key in dict.fromkeys((*then, *now)):
            if now.get(key, "unset") not in (then.get(key, "unset"), came_to.get(key, "unset")):
                yield f"{key} {_text(then, key)}, now {_text(now, key)}"
    recorded = {_plain(f"{folder}/{source.path}"): source for source in made.sources}
    kinds = [{_plain(path): str(path) for path in kind} for kind in asked.read]
    wanted = {plain: path for kind in kinds for plain, path in kind.items()}
    yield from (
        f"made from {path}, which is not asked for" for path in recorded if path not in wanted
    )
    yield from (f"not made from {path}" for path in wanted if path not in recorded)
    for kind in kinds:
        before = [path for path in recorded if path in kind]
        if before != list(kind) and len(before) == len(kind):
            yield f"made from {' '.join(before[:SHOWN])} in this order"
    for path in wanted:
        if path in recorded:
            yield from _of_source(wanted[path], recorded[path], asked, contents)


def _of_source(path: str, then: Source, asked: Asked, contents: Contents) -> Iterator[str]:
    """Whether a file is what was read, or would be if it were made now."""
    given = asked.step.startswith(IMPORTING)
    content = contents.of_given(path) if given else contents.of(path)
    if content is not None:
        if content != then.sha256:
            yield f"made from another {path}"
        elif then.descents and not {*then.descents} & {*contents.descents_of(path)}:
            yield f"made from {path} when that was of other settings"
    elif asked.descent_of is not None:
        descent = asked.descent_of(path)
        if descent is None:
            yield f"made from {path}, which is gone, and nobody knows if it would be the same now"
        elif descent not in (then.descents or [then.sha256]):
            yield f"made from {path}, which is gone and was of other settings"


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
