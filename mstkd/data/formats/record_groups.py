"""Groups of the images in a RecordIO file, from BUPT-Balancedface's list or a CSV.

BUPT's `train_balancedface.lst` has a line for each image; its race codes are those of the
provider. Shapes: N images, I identities.
"""

from __future__ import annotations

import csv
import difflib
import itertools
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from mstkd.config.data import file_kind
from mstkd.data.formats.layouts import composed, is_utf8
from mstkd.data.formats.recordio import Record, RecordFile, open_records
from mstkd.data.sources import FaceImage
from mstkd.errors import InputError

RACES = ("Caucasian", "Indian", "Asian", "African")  # by their code in BUPT's list
CSV = "identity,group"
LIST = "<identity>/<file>, a tab, the identity's label, a tab, the race code 0 to 3"

_WHOLE_NUMBER = re.compile(r"([0-9]{1,9})(?:\.0*)?")


@dataclass(frozen=True, eq=False)
class RecordGroups:
    """Identity and group of each image record.

    `identity` int32 (N,) holds rows of `identity_names` (I,), which follow the labels; `group`
    int32 (N,) holds rows of `group_names`, sorted; `files` (N,) are the names that a list gives.
    """

    identity_names: list[str]
    identity: NDArray[np.int32]
    group_names: list[str]
    group: NDArray[np.int32]
    files: list[str] | None


class _Identity(NamedTuple):
    label: int
    name: str
    group: str

    def __str__(self) -> str:
        return f"identity {self.name} with label {self.label} in group {self.group}"


def read_record_training(rec: Path, groups: Path, group: str) -> list[FaceImage]:
    """The images of a group, sorted by identity, then by key.

    They are named `<group>/<identity>/<file>` after a list and `<group>/<identity>/<key>` after
    a CSV, whose identities are the labels as text.

    Raises:
        InputError: as `open_records` and `read_record_groups`; a group that is not there, or
            two images of one name.
    """
    records = open_records(rec)
    known = read_record_groups(groups, records)
    if group not in known.group_names:
        near = difflib.get_close_matches(group, known.group_names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        more = f" and {len(known.group_names) - 10} more" if len(known.group_names) > 10 else ""
        found = "the groups " + ", ".join(known.group_names[:10]) + more
        raise InputError(groups, found=found, expected=f"group {group!r}{hint}")
    place = {name: number for number, name in enumerate(sorted(known.identity_names))}
    places = np.array([place[name] for name in known.identity_names])  # (I,)
    rows = np.flatnonzero(known.group == known.group_names.index(group))
    rows = rows[np.argsort(places[known.identity[rows]], kind="stable")]
    images, names = [], set()
    for row in rows.data:
        identity = known.identity_names[known.identity[row]]
        file = known.files[row] if known.files else records.keys[row]
        name = f"{group}/{identity}/{file}"
        if name in names:
            raise InputError(groups, found=f"{name} twice", expected="every image once")
        names.add(name)
        images.append(FaceImage(Record(rec, int(records.offsets[row])), name, identity))
    return images


def read_record_groups(groups: Path, records: RecordFile) -> RecordGroups:
    """Identity and group of each image from a list in BUPT's format or a CSV.

    The list has a line for each image, in the order of the keys: `<id>/<file>`, identity label
    and race code. The CSV has the header `identity,group`, and a line for each identity label.

    Raises:
        InputError: a line that is none, an identity in two groups, an image without a line or
            a line without images; names the line.
    """
    labels, identity = np.unique(records.labels, return_inverse=True)  # (I,), (N,)
    files = None
    try:
        with groups.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            lines = _lines(groups, file)
            first = next(lines, None)
            if first is None:
                expected = f"a CSV with the header {CSV}, or lines of {LIST}"
                raise InputError(groups, found="an empty file", expected=expected)
            lines = itertools.chain([first], lines)
            is_csv = file_kind(groups) == "csv" or first[1].replace(" ", "") == CSV
            if is_csv:
                named = _read_csv(groups, lines, set(labels.tolist()))
            else:
                named, files = _read_list(groups, lines, records)
    except FileNotFoundError:
        raise InputError(groups, found="no such file", expected="a list or CSV of groups") from None
    except OSError as error:
        raise InputError(groups, found=error.strerror, expected="a readable file") from None
    missing = [label for label in labels.tolist() if label not in named]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        expected = f"every identity of {records.path}"
        found = f"no line for identity {missing[0]}{more}"
        raise InputError(groups, found=found, expected=expected)
    identities = [named[label] for label in labels.tolist()]
    group_names = sorted({one.group for one in identities})
    number = {name: place for place, name in enumerate(group_names)}
    group = np.array([number[one.group] for one in identities], np.int32)  # (I,)
    return RecordGroups(
        identity_names=[one.name for one in identities],
        identity=identity.astype(np.int32),
        group_names=group_names,
        group=group[identity],  # (N,)
        files=files,
    )


def _lines(path: Path, file: TextIO) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not blank."""
    for line, text in enumerate(file, start=1):
        if not is_utf8(text):
            raise InputError(f"{path}:{line}", found="bytes that are not UTF-8", expected="text")
        text = text.strip()
        if text:
            yield line, text


def _fields(path: Path, line: int, text: str) -> list[str]:
    try:
        return [field.strip() for row in csv.reader([text], strict=True) for field in row]
    except csv.Error as error:
        raise InputError(f"{path}:{line}", found=error, expected="CSV") from None


def _read_csv(
    path: Path, lines: Iterator[tuple[int, str]], labels: set[int]
) -> dict[int, _Identity]:
    line, text = next(lines)
    if _fields(path, line, text) != CSV.split(","):
        raise InputError(f"{path}:{line}", found=repr(text[:80]), expected=CSV)
    named: dict[int, _Identity] = {}
    for line, text in lines:
        where = f"{path}:{line}"
        fields = _fields(path, line, text)
        match = _WHOLE_NUMBER.fullmatch(fields[0]) if len(fields) == 2 else None
        if not match or not fields[1]:
            expected = "an identity label, a comma, a group"
            raise InputError(where, found=repr(text[:80]), expected=expected)
        label = int(match[1])
        if label not in labels:
            expected = "a label that the records have"
            raise InputError(where, found=f"identity {label}", expected=expected)
        now = _Identity(label, str(label), fields[1])
        if label in named:
            expected = f"every identity once: above, it is in group {named[label].group}"
            raise InputError(
                where, found=f"identity {label} in group {now.group}", expected=expected
            )
        named[label] = now
    return named


def _read_list(
    path: Path, lines: Iterator[tuple[int, str]], records: RecordFile
) -> tuple[dict[int, _Identity], list[str]]:
    files: list[str] = []
    labels, numbers = array("q"), array("q")
    by_label: dict[int, _Identity] = {}
    by_name: dict[str, _Identity] = {}
    images = len(records.keys)
    for line, text in lines:
        if len(files) == images:
            expected = f"{images} lines, one for each image record of {records.path}"
            raise InputError(f"{path}:{line}", found="one more", expected=expected)
        now, file = _list_line(f"{path}:{line}", text)
        for known in (by_label.setdefault(now.label, now), by_name.setdefault(now.name, now)):
            if known != now:
                expected = f"{known}, as above"
                raise InputError(f"{path}:{line}", found=now, expected=expected)
        files.append(file)
        labels.append(now.label)
        numbers.append(line)
    for row in np.flatnonzero(np.array(labels) != records.labels[: len(labels)])[:1]:
        expected = f"{records.labels[row]}, as record {records.keys[row]} of {records.path} says"
        found = f"identity label {labels[row]}"
        raise InputError(f"{path}:{numbers[row]}", found=found, expected=expected)
    if len(files) < images:
        expected = f"{images}, one for each image record of {records.path}"
        raise InputError(path, found=f"{len(files)} lines", expected=expected)
    return by_label, files


def _list_line(where: str, text: str) -> tuple[_Identity, str]:
    fields = text.rsplit(None, 2)
    name, _, file = fields[0].strip().rpartition("/")
    numbers = [_WHOLE_NUMBER.fullmatch(field) for field in fields[1:]]
    if len(numbers) != 2 or not (name and file and numbers[0] and numbers[1]):
        raise InputError(where, found=repr(text[:80]), expected=LIST)
    label, code = int(numbers[0][1]), int(numbers[1][1])
    if code >= len(RACES):
        raise InputError(where, found=f"race code {code}", expected="0 to 3")
    return _Identity(label, composed(name), RACES[code]), file
