"""Plain data, JSON or YAML to settings, and what is wrong with them in one line."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from mstkd.config.base import Settings
from mstkd.config.whole import Config
from mstkd.errors import InputError

Model = TypeVar("Model", bound=Settings)


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


def validate(model: type[Model], value: Any, where: str) -> Model:
    """Make `model` of plain data.

    Raises:
        InputError: names `where`, the first key at fault, what was found and what is expected.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        # An unknown key first: the value missing elsewhere is often the one it misspells.
        first, *others = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    path = tuple(key for key in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    found = repr(first["input"])
    if first["type"] == "extra_forbidden":
        holder = _model_at(model, path)
        known = list(holder.model_fields) if holder else []
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        message = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(known)}"
        found = f"unknown key {path[-1]!r}"
    elif first["type"] == "missing":
        message, found = "a value", "nothing"
    elif first["type"] == "value_error" and isinstance(first["input"], Mapping):
        found = ", ".join(map(str, first["input"])) or "nothing"
    key = ".".join(str(part) for part in path)
    more = f" (and {len(others)} more)" if others else ""
    raise InputError(f"{where}: {key}" if key else where, found=found, expected=message + more)


def read_settings(model: type[Model], text: str) -> Model:
    """Settings from a line of JSON or from the path of a JSON or YAML file."""
    where = "--settings"
    if not text.lstrip().startswith("{"):
        where = text
        text = _read_text(Path(text))
    try:
        value = json.loads(text) if where == "--settings" else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        found = " ".join(str(error).split())
        raise InputError(where, found=found, expected="JSON or YAML") from None
    return validate(model, value, where)


def read_config(path: Path) -> Config:
    """The config file at `path`."""
    return read_settings(Config, str(path))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(path, found="no such file", expected="a settings file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, found=str(error), expected="a readable settings file") from None
