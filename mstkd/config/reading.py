"""Plain data, JSON or YAML to settings, and what is wrong with them, a line a fault."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import reprlib
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from mstkd.config.base import Settings
from mstkd.config.whole import Config
from mstkd.errors import InputError, ManyFaultsError

Model = TypeVar("Model", bound=Settings)
COMMAND_LINE = "--config"  # of Snakemake

# What pydantic puts into a key's path where a value may be of several kinds.
KIND = re.compile(r"path|.*[\[(].*")
# Of what stands in a file: a kilobyte of YAML can be gigabytes when it is written out.
# Of a file of settings. The paper's config has 3 kB, five deep.
MOST_BYTES, MOST_DEEP = 1 << 22, 50
_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxother = 2, 200, 200


def _model_at(model: type[BaseModel], path: tuple[Any, ...]) -> type[BaseModel] | None:
    """The model that holds the last key of `path`, to suggest its nearest key."""
    current: Any = model
    for key in path[:-1]:
        if isinstance(current, type) and issubclass(current, BaseModel):
            if key not in current.model_fields:
                return None
            current = current.model_fields[key].annotation
        elif get_origin(current) is dict:
            current = get_args(current)[1]
        while get_origin(current) in (Union, types.UnionType, Annotated):
            current = get_args(current)[0]
    is_model = isinstance(current, type) and issubclass(current, BaseModel)
    return current if is_model else None


def validate(
    model: type[Model], value: Any, where: str, parts: Mapping[str, Any] | None = None
) -> Model:
    """Make `model` of plain data.

    What hangs on several keys is looked at once each of them is right by itself.

    Args:
        model: what to make.
        value: plain data.
        where: it comes from, for messages.
        parts: by their names, what `value` was merged from, the later over the earlier: a fault
            is told of the last part that holds its key.

    Raises:
        InputError: a line for each fault names where it is, the key, what was found and what is
            expected. An unknown key comes first: the value missing elsewhere is often the one it
            misspells.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        told = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    faults: dict[Any, InputError] = {}
    # A tuple of which an entry is at fault is too short besides, in pydantic's eyes.
    within = {one["loc"][:end] for one in told for end in range(len(one["loc"]))}
    for number, one in enumerate(told):
        if one["type"] == "too_short" and one["loc"] in within:
            continue
        path = _path(value, one["loc"])
        found, expected = _fault(model, path, one)
        # A value that may be of several kinds has a fault for each: they become one.
        name = number if path == one["loc"] else path
        if name in faults:
            expected = f"{faults[name].expected}, or {expected}"
        place = where
        if path:  # else it is of the whole
            place = f"{_last_with(path, parts or {}) or where}: {'.'.join(map(str, path))}"
        faults[name] = InputError(place, found=found, expected=expected)
    raise _all(list(faults.values()))


def _all(faults: Sequence[InputError]) -> InputError:
    return faults[0] if len(faults) == 1 else ManyFaultsError(faults)


def _path(value: Any, loc: Sequence[Any]) -> tuple[Any, ...]:
    """The keys of a fault, without the kinds of value that were tried there."""
    path, place = [], value
    for key in loc:
        is_key = isinstance(place, Mapping) and key in place
        place = place[key] if is_key else None
        if is_key or not KIND.fullmatch(str(key)):
            path.append(key)
    return tuple(path)


def _fault(model: type[BaseModel], path: tuple[Any, ...], told: Any) -> tuple[str, str]:
    """What was found and what is expected."""
    message = told["msg"].removeprefix("Value error, ")
    found = _short.repr(told["input"])
    if told["type"] == "extra_forbidden":
        holder = _model_at(model, path)
        known = list(holder.model_fields) if holder else []
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        message = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(known)}"
        found = f"unknown key {path[-1]!r}"
    elif told["type"] == "missing":
        message, found = "a value", "nothing"
    elif told["type"] == "value_error" and isinstance(told["input"], Mapping):
        found = ", ".join(map(str, told["input"])) or "nothing"
    return found, message


def _last_with(path: Sequence[Any], parts: Mapping[str, Any]) -> str | None:
    """The name of the last part that has something at `path`."""
    for name, part in reversed(list(parts.items())):
        place = part
        for key in path:
            if not isinstance(place, Mapping):  # a list, say, of which an entry is at fault
                return name
            if key not in place:
                break
            place = place[key]
        else:
            return name
    return None


def read_settings(model: type[Model], text: str) -> Model:
    """Settings from a line of JSON or from the path of a JSON or YAML file.

    Raises:
        InputError: as `validate`; and for keys that occur twice.
    """
    if not text.lstrip().startswith("{"):
        path = Path(text)
        value, twice = _read_yaml(path)
        return _validate_whole(model, value, text, {text: value}, twice)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        found = " ".join(str(error).split())
        raise InputError("--settings", found=found, expected="JSON or YAML") from None
    return validate(model, value, "--settings")


def read_config(path: Path) -> Config:
    """The config file at `path`."""
    return read_settings(Config, str(path))


def workflow_config(
    config: Any, files: Iterable[Path], given: Mapping[str, Any], used_as: str | None = None
) -> Config:
    """The config of a workflow, which Snakemake has read and merged.

    The files are read again: of a key that occurs twice, Snakemake takes the second in silence.

    Args:
        config: plain data.
        files: what it was merged from, the later over the earlier.
        given: what Snakemake's command line gave by `--config`, over all files.
        used_as: the name of the module as which another workflow, whose files these are, uses this.

    Raises:
        InputError: a line for each fault of the files and of what they make together.
    """
    parts: dict[str, Any] = {}
    twice: list[InputError] = []
    for path in files:
        parts[str(path)], found = _read_yaml(path)
        twice += found
    if given:
        parts[COMMAND_LINE] = given
    where = " + ".join(parts) or "config"
    if used_as is not None:
        where = f"config of module {used_as} ({where})"
    return _validate_whole(Config, config, where, parts, twice)


def _validate_whole(
    model: type[Model],
    value: Any,
    where: str,
    parts: Mapping[str, Any],
    faults: Sequence[InputError],
) -> Model:
    """As `validate`, and raise faults that are known already with what it finds."""
    try:
        made = validate(model, value, where, parts)
    except InputError as error:
        raise _all([*faults, *error.faults]) from None
    if faults:
        raise _all(faults)
    return made


def _read_yaml(path: Path) -> tuple[Any, list[InputError]]:
    """What a file of YAML or JSON holds, and a fault for each key that occurs twice in it."""
    text = _read_text(path)
    with contextlib.suppress(ValueError, RecursionError):
        json.loads(text)
        text = text.replace("\t", " ")  # JSON may be indented by tabs, YAML may not
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        twice = [] if node is None else list(_twice(path, node, set()))
        return (None if node is None else loader.construct_document(node)), twice
    # Of values that are none: the 31st of February, or a number of 100,000 digits.
    except (yaml.YAMLError, ValueError) as error:
        found = " ".join(str(error).split())
        raise InputError(path, found=found, expected="JSON or YAML") from None


class _Loader(yaml.SafeLoader):
    """Refuses what is nested deeper than Python's own calls may be."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._deep = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._deep += 1
        if self._deep > MOST_DEEP:
            raise yaml.YAMLError(f"values nested more than {MOST_DEEP} deep")
        node = super().compose_node(parent, index)
        self._deep -= 1
        return node


def _twice(
    path: Path, node: yaml.Node, seen: set[int], above: tuple[str, ...] = ()
) -> Iterator[InputError]:
    """Keys that occur twice in one mapping; what is referred to by an alias is looked at once."""
    if id(node) in seen or not isinstance(node, yaml.CollectionNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, entry in enumerate(node.value):
            yield from _twice(path, entry, seen, (*above, str(number)))
        return
    lines: dict[tuple[str, str], int] = {}
    for key, entry in node.value:
        here, line = (*above, str(key.value)), key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode):
            name = (key.tag, key.value)
            if name in lines:
                found = f"the key twice, in lines {lines[name]} and {line}"
                yield InputError(f"{path}: {'.'.join(here)}", found=found, expected="each key once")
            lines[name] = line
        yield from _twice(path, entry, seen, here)


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            found = f"{path.stat().st_size:,} bytes"
            raise InputError(
                path, found=found, expected=f"a settings file of {MOST_BYTES:,} at most"
            )
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(path, found="no such file", expected="a settings file") from None
    except (OSError, ValueError) as error:  # no UTF-8; a zero byte in the path
        raise InputError(path, found=str(error), expected="a readable settings file") from None
