"""Lists in the config: which runs they make, and what those are called.

A list where a section has one number or name makes a run for each value. Its name is the one it
would have without, and the values: `a-KD+kd_weight=1000`. A value that is a list of names itself
stands there with points: `SL+fused=A.B`. A name in the config has no plus and no point, so that
names can be taken apart again and cannot collide. (A comma would do for files, but Snakemake
9 hands wildcards to cluster jobs as text that it splits at commas.)
"""

from __future__ import annotations

import itertools
import json
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    NamedTuple,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from pydantic import (
    BaseModel,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails

from mstkd.config.base import fault, refuse

Key = tuple[str, ...]  # of a value in its section: ("head", "margin")
Value = int | float | str | tuple[str, ...]
Place = TypeVar("Place")
BETWEEN_NAMES = "."  # of a value that is a list of names itself


class Variant(NamedTuple):
    """A name taken apart."""

    base: str  # as it stands in the config
    values: dict[str, str]  # by the last part of their keys

    def __str__(self) -> str:
        """For people: a-KD (kd_weight=1000)."""
        return f"{self.base} ({told(self.values)})" if self.values else self.base


def variant_name(base: str, values: Mapping[str, Value]) -> str:
    """The name of a run: `base`, and its value of each list."""
    return "+".join([base, *(f"{key}={value_text(value)}" for key, value in values.items())])


def split_variant(name: str) -> Variant:
    """Take apart what `variant_name` made."""
    base, *parts = name.split("+")
    return Variant(base, {key: value for key, _, value in (p.partition("=") for p in parts)})


def without_value(name: str, key: str) -> str:
    """The name of a run as it would be if a key had no list."""
    base, values = split_variant(name)
    return variant_name(base, {one: value for one, value in values.items() if one != key})


def told(values: Mapping[str, str]) -> str:
    """Values on one line: kd_weight=1000, margin=0.3."""
    return ", ".join(f"{key}={value}" for key, value in values.items())


def value_text(value: Value) -> str:
    """The shortest text that reads as the value: 10000.0 is 10000, and 1e+22 is 1e22."""
    if isinstance(value, tuple):
        return BETWEEN_NAMES.join(value)
    return str(value).removesuffix(".0").replace("e+", "e")


def names_of(text: str) -> tuple[str, ...]:
    """The names that `value_text` made a text of."""
    return tuple(text.split(BETWEEN_NAMES))


class GridSection(BaseModel):
    """A section of the config in which a list may stand for one number or name.

    Its fields hold the first value of each list.
    """

    # The keys that may hold one; None: every one of a number or name, in the sections below too.
    _listed: ClassVar[tuple[str, ...] | None] = None

    _grid: dict[Key, tuple[Value, ...]] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _take_lists(cls, section: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        lists = dict(_lists(cls, section, cls._listed))
        first = section
        for key, values in lists.items():
            first = _replaced(first, key, values[0] if values else None)
        empty = [key for key, values in lists.items() if not values]
        faults: dict[tuple[Any, str], InitErrorDetails] = {
            (key, ""): fault("a value or more", [], key) for key in empty
        }

        def validated(section: Any) -> Self | None:
            try:
                return handler(section)
            except ValidationError as error:
                for one in error.errors():
                    key, found = one["loc"], one["input"]
                    if key not in empty:
                        told = fault(one["msg"], found, key, one["type"])
                        faults.setdefault((key, reprlib.repr(found)), told)
                return None

        made = validated(first)
        grid = {}
        for key, values in lists.items():
            # Each value makes a section of its own, so that it is held to the type and range.
            sections = [validated(_replaced(first, key, value)) for value in values]
            numbers = [_at(one, key) for one in sections if one is not None]
            if None in numbers:  # what is no value where there is no list is none in one
                faults[key, ""] = fault("values, and no null", list(values), key)
            if len(set(numbers)) < len(numbers):
                faults[key, ""] = fault("each value once", list(values), key)
            grid[key] = tuple(numbers)
        refuse(cls, list(faults.values()))
        assert made is not None, "else there is a fault"
        made._grid.update(grid)
        return made

    @model_serializer(mode="wrap")
    def _give_lists_back(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        section: dict[str, Any] = handler(self)
        for key, values in self._grid.items():
            section = _replaced(section, key, list(values))
        return section

    def grid(self) -> dict[Key, tuple[Value, ...]]:
        """The lists, in the order of the fields."""
        return dict(self._grid)

    def values(self, *key: str) -> tuple[Value, ...]:
        """The values that the config gives for a key, one or several."""
        return self._grid.get(key, (_at(self, key),))

    def variants(self, base: str, matters: Callable[[Key], bool]) -> dict[str, Self]:
        """By the name of each run, the section with its values.

        Args:
            base: the name of the run where there is no list.
            matters: whether a key's value is one of the run's settings.
        """
        lists = {key: values for key, values in self._grid.items() if matters(key)}
        sections = {}
        for values in itertools.product(*lists.values()):
            section = self
            for key, value in zip(lists, values, strict=True):
                section = _replaced(section, key, value)
            named = {key[-1]: value for key, value in zip(lists, values, strict=True)}
            sections[variant_name(base, named)] = section
        return sections


def _lists(
    model: type[BaseModel], section: Any, listed: Sequence[str] | None = None, above: Key = ()
) -> Iterator[tuple[Key, Any]]:
    """Keys with a list where `model` has one value, in the order of its fields.

    Those `listed`, or where it is None, of one number or name.
    """
    if not isinstance(section, Mapping):
        return
    for name, field in model.model_fields.items():
        entry, kind, key = section.get(name), field.annotation, (*above, name)
        if listed is not None:
            if name in listed and isinstance(entry, list | tuple):
                yield key, _values(kind, entry)
        elif kind in (int, float, str):
            if isinstance(entry, list | tuple):
                yield key, entry
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _lists(kind, entry, above=key)
        elif get_origin(kind) is dict and isinstance(entry, Mapping):
            for inner, value in entry.items():
                yield from _lists(get_args(kind)[1], value, above=(*key, inner))


def _values(kind: Any, entry: Sequence[Any]) -> Sequence[Any]:
    """The values of a kind that a list holds; one, where it is a value itself."""
    of_lists = any(get_origin(one) is tuple for one in _alternatives(kind))
    several = not of_lists or any(isinstance(one, list | tuple) for one in entry)
    return entry if several or not entry else [entry]


def _alternatives(kind: Any) -> Iterator[Any]:
    """The kinds of value that a field may have, without their ranges."""
    if get_origin(kind) is Annotated:
        yield from _alternatives(get_args(kind)[0])
    elif get_origin(kind) in (Union, UnionType):
        for one in get_args(kind):
            yield from _alternatives(one)
    else:
        yield kind


def _at(place: Any, key: Sequence[str]) -> Any:
    for name in key:
        place = place[name] if isinstance(place, Mapping) else getattr(place, name)
    return place


def _replaced(place: Place, key: Sequence[str], value: Any) -> Place:
    """A copy of nested mappings or models with another value at `key`."""
    name, *inner = key
    new = {name: _replaced(_at(place, [name]), inner, value) if inner else value}
    if isinstance(place, BaseModel):
        return place.model_copy(update=new)
    assert isinstance(place, Mapping)
    return {**place, **new}  # type: ignore[return-value]


def allow_lists(schema: dict[str, Any], sections: Sequence[type[GridSection]]) -> dict[str, Any]:
    """A JSON schema in which lists may stand where those sections take them."""
    definitions = schema["$defs"]
    for section in sections:
        for key in section._listed or ():
            several = definitions[section.__name__]["properties"][key]["anyOf"]
            several.insert(1, _several(several[0]))
    waiting = [one.__name__ for one in sections if one._listed is None]
    seen = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        properties = definitions[name]["properties"]
        waiting += re.findall(r"#/\$defs/(\w+)", json.dumps(properties))
        for key, entry in properties.items():
            if entry.get("type") in ("integer", "number", "string") and not (
                entry.keys() & {"enum", "format"}  # of a choice, of a path
            ):
                about = {k: entry.pop(k) for k in ("title", "default") if k in entry}
                properties[key] = {**about, "anyOf": [entry, _several(entry)]}
    return schema


def _several(entry: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": entry, "minItems": 1, "uniqueItems": True}
