"""What RFW's distribution holds, and where its lists and folders disagree."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mstkd.data.formats.landmarks import read_rfw_landmarks
from mstkd.data.formats.layouts import Pair, names_by_number, parse_pairs
from mstkd.data.inspection.found import (
    GroupFound,
    Problems,
    describe,
    entries_of,
    name_shared,
    some,
    spread,
)
from mstkd.errors import InputError

BAD_LINES = 100  # in a pairs file, after which it is not read on


def rfw_groups(root: Path, problems: Problems) -> list[GroupFound]:
    """`txts` may hold, beside the pairs, lists of people, images and landmarks: they must agree."""
    names = {name for part in ("data", "txts") for name in entries_of(root / part, problems)[0]}
    groups: dict[str, dict[str, list[str]]] = {}
    found = []
    for group in sorted(names):
        folder, texts = root / "data" / group, root / "txts" / group
        held = groups[group] = {}
        for identity in entries_of(folder, problems)[0]:
            held[identity] = sorted(entries_of(folder / identity, problems)[1])
            if not held[identity]:
                line = f"{folder / identity}: no image in it"
                problems.add("empty folders", line)
        pairs = _pairs(texts / f"{group}_pairs.txt", problems)
        _check_pairs(texts / f"{group}_pairs.txt", pairs, folder, held, problems)
        _check_people(texts / f"{group}_people.txt", held, problems)
        images = [f"{identity}/{name}" for identity, inside in held.items() for name in inside]
        _check_images(texts / f"{group}_images.txt", images, problems)
        _check_landmarks(texts / f"{group}_lmk.txt", group, images, problems)
        counts = [len(inside) for inside in held.values() if inside]
        sample = [(name, folder / name) for name in spread(images)]
        same = np.array([pair.same for pair in pairs], np.bool_)
        found.append(describe(group, counts, sample, problems, same=same))
    name_shared(root, groups, problems)
    return found


def _pairs(file: Path, problems: Problems) -> list[Pair]:
    """The good lines of a pairs file; after many bad ones none, as it is then no pairs file."""
    lines = _text_lines(file, problems, required=True)
    if lines is None:
        return []
    for _ in range(BAD_LINES):
        try:
            return parse_pairs("\n".join(lines).encode(), file)
        except InputError as fault:
            problems.add("faults of pairs", str(fault))
            at = re.fullmatch(r":([0-9]+)", fault.where.removeprefix(str(file)))
            if at:
                lines[int(at[1]) - 1] = ""
            elif "line 1" in fault.expected:  # the numbers LFW's header gives
                lines[0] = ""
            else:
                break
    return []


def _check_pairs(
    file: Path,
    pairs: Sequence[Pair],
    folder: Path,
    held: Mapping[str, Sequence[str]],
    problems: Problems,
) -> None:
    numbered = {identity: names_by_number(names, identity) for identity, names in held.items()}
    for pair in pairs:
        for identity, number in (pair.first, pair.second):
            files = numbered.get(identity, {}).get(number, [])
            if len(files) != 1:
                name = folder / identity / f"{identity}_{number:04d}.jpg"
                what = "two files are" if files else "missing:"
                problems.add("missing images", f"{file}:{pair.line}: {what} {name}")


def _check_people(file: Path, held: Mapping[str, Sequence[str]], problems: Problems) -> None:
    """Lines are `<identity> <number of images>`."""
    lines = _text_lines(file, problems)
    if lines is None:
        return
    listed = set()
    for number, line in enumerate(lines, start=1):
        fields = line.rsplit(None, 1)
        if not fields:
            continue
        where = f"{file}:{number}"
        if len(fields) != 2 or not re.fullmatch("[0-9]{1,9}", fields[1]):
            problems.add("bad lines of people", f"{where}: {line!r} is no identity and number")
            continue
        listed.add(fields[0])
        here = len(held.get(fields[0], ()))
        if here != int(fields[1]) or not here:
            text = f"{where}: {fields[0]} with {fields[1]} images, and {here} in its folder"
            problems.add("people that disagree", text)
    _name_unlisted(file, [identity for identity in held if identity not in listed], problems)


def _check_images(file: Path, images: Sequence[str], problems: Problems) -> None:
    """Lines are `<file name> <label>`; `images` are `<identity>/<file name>`."""
    lines = _text_lines(file, problems)
    if lines is None:
        return
    unlisted = {name.rpartition("/")[2]: name for name in images}
    known = set(unlisted)
    for number, line in enumerate(lines, start=1):
        fields = line.rsplit(None, 1)
        if not fields:
            continue
        if len(fields) != 2 or not re.fullmatch("[0-9]{1,9}", fields[1]):
            text = f"{file}:{number}: {line!r} is no file name and label"
            problems.add("bad lines of images", text)
        elif fields[0] not in known:
            problems.add("missing images", f"{file}:{number}: missing: {fields[0]}")
        unlisted.pop(fields[0], None)
    _name_unlisted(file, list(unlisted.values()), problems)


def _check_landmarks(file: Path, group: str, images: Sequence[str], problems: Problems) -> None:
    if not file.exists():
        return
    try:
        points = read_rfw_landmarks(file, group)
    except InputError as fault:
        problems.fault(fault)
        return
    known = set(images)
    for name in points:
        if name not in known:
            problems.add("missing images", f"{file}: missing: {name}")
    _name_unlisted(file, [name for name in images if name not in points], problems)


def _name_unlisted(file: Path, names: Sequence[str], problems: Problems) -> None:
    if names:
        text = f"{file}: {len(names):,} in the folders are not in it: {some(names)}"
        problems.add("lists cut short", text)


def _text_lines(file: Path, problems: Problems, required: bool = False) -> list[str] | None:
    try:
        return file.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        if required:
            problems.add("missing files", f"{file}: no such file")
    except OSError as error:
        problems.add("missing files", f"{file}: {error.strerror}")
    except UnicodeDecodeError as error:
        problems.add("missing files", f"{file}: byte {error.start} is not UTF-8")
    return None
