"""Images that no folder sorts for us: a folder with a CSV beside it, and unlabelled images.

The CSV has the columns `path,identity,group` in any order; paths are told from its folder.
"""

from __future__ import annotations

import csv
import difflib
import os
import posixpath
from collections import Counter
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import NamedTuple

from mstkd.config.data import Suffixes
from mstkd.data.formats.layouts import (
    ENDINGS,
    SYSTEM_FOLDERS,
    composed,
    ending,
    is_image,
    is_utf8,
    leads_to_folder,
    tell_passed,
    tell_united,
)
from mstkd.data.sources import FaceImage
from mstkd.errors import InputError, printable

COLUMNS = ("path", "identity", "group")
LISTING_LAYOUT = "a CSV file with the columns path,identity,group"
UNKNOWN = "unknown"  # the identity of every image that has none

Fault = Callable[[InputError], None]


class Row(NamedTuple):
    """A line of a listing. `path` is told from the listing's folder, and lies within it.

    `identity` is as NFC spells it.
    """

    line: int
    path: str
    identity: str
    group: str


def raise_fault(fault: InputError) -> None:
    """Stop at the first fault."""
    raise fault


def read_listing(path: Path, group: str) -> list[FaceImage]:
    """The images that a listing gives to a group, sorted by identity, then by path.

    Whether they exist is not asked: at a million images that takes long, and packing finds out.

    Raises:
        InputError: no such group, or any fault of the listing; names the line.
    """
    groups = _read(path, {group})
    if groups.get(group):
        return groups[group]
    near = difflib.get_close_matches(group, groups, n=1)
    raise InputError(
        f"{path}: group {group!r}",
        found="the groups " + printable(", ".join(groups)),
        expected="one of them" + (f"; did you mean {near[0]!r}?" if near else ""),
    )


def read_listing_groups(path: Path) -> dict[str, list[FaceImage]]:
    """All images of a listing by group; groups sorted, images by identity, then by path.

    Raises:
        InputError: no such file, a column too many or too few, an empty field, a path that
            is absolute, leaves the folder or stands there twice, an identity in two groups, or
            no image at all; names the line.
    """
    return _read(path, None)


def _read(path: Path, wanted: Container[str] | None) -> dict[str, list[FaceImage]]:
    """All groups, but images of those wanted alone: of a million they take half a gigabyte."""
    groups: dict[str, list[FaceImage]] = {}
    for row in listing_rows(path):
        images = groups.setdefault(row.group, [])
        if wanted is None or row.group in wanted:
            name = f"{row.group}/{row.identity}/{row.path}"
            images.append(FaceImage(path.parent / row.path, name, row.identity))
    if not groups:
        raise InputError(path, found="no images", expected="a line for each image")
    for images in groups.values():
        images.sort(key=lambda image: (image.identity, image.name))
    return dict(sorted(groups.items()))


def listing_rows(path: Path, on_fault: Fault = raise_fault) -> Iterator[Row]:
    """The lines of a listing in its own order; a faulty one is told to `on_fault`, then left out.

    Lines end by LF or CRLF, a byte order mark and blank lines are passed over. A fault that
    leaves nothing to go on with, such as a wrong column, is raised whatever `on_fault` does.

    Raises:
        InputError: see `read_listing_groups`.
    """
    lines: dict[str, int] = {}  # of each path
    homes: dict[str, tuple[str, int]] = {}  # the group of each identity, and its first line
    written: set[str] = set()  # names of identities that are not plain ASCII, as they stand there
    told: set[tuple[str, str]] = set()  # an identity's second group is one fault, not one an image
    order: list[int] | None = None
    for number, fields in _records(path):
        where = f"{path}:{number}"
        if order is None:
            order = _order(fields, where)
            continue
        try:
            row, identity = _row(fields, order, number, where)
            if row.path in lines:
                found = f"the path {row.path!r} again, as on line {lines[row.path]}"
                raise InputError(where, found=found, expected="every image once")
        except InputError as fault:
            on_fault(fault)
            continue
        lines[row.path] = number
        if not identity.isascii():
            written.add(identity)
        home, first = homes.setdefault(row.identity, (row.group, number))
        if home == row.group:
            yield row
        elif (row.identity, row.group) not in told:
            told.add((row.identity, row.group))
            found = f"identity {row.identity!r} in group {row.group!r}"
            expected = f"group {home!r}, as on line {first}: an identity has one group"
            on_fault(InputError(where, found=found, expected=expected))
    if order is None:
        raise InputError(f"{path}:1", found="an empty file", expected=LISTING_LAYOUT)
    tell_united(path, written)


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The line at which each record ends, and its fields; read bit by bit, as listings are long."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            try:
                for fields in reader:
                    if fields:
                        yield reader.line_num, fields
            except csv.Error as error:
                where = f"{path}:{reader.line_num}"
                raise InputError(where, found=str(error), expected="CSV") from None
            except UnicodeDecodeError:
                where = f"after line {reader.line_num}, a byte that is not UTF-8"
                raise InputError(path, found=where, expected="a CSV file in UTF-8") from None
    except FileNotFoundError:
        raise InputError(path, found="no such file", expected=LISTING_LAYOUT) from None
    except OSError as error:
        raise InputError(path, found=error.strerror, expected="a readable CSV file") from None


def _order(header: list[str], where: str) -> list[int]:
    """The positions of `COLUMNS` in the header."""
    for name in header:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name.strip().lower(), COLUMNS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            expected = f"the columns {', '.join(COLUMNS)} alone{hint}"
            raise InputError(where, found=f"the column {name!r}", expected=expected)
    if sorted(header) != sorted(COLUMNS):
        expected = f"the columns {', '.join(COLUMNS)}, each once"
        raise InputError(where, found=f"the columns {', '.join(header)}", expected=expected)
    return [header.index(name) for name in COLUMNS]


def _row(fields: list[str], order: list[int], number: int, where: str) -> tuple[Row, str]:
    """A line, and its identity as it is written."""
    if len(fields) != len(COLUMNS):
        raise InputError(where, found=f"{len(fields)} fields", expected=", ".join(COLUMNS))
    path, identity, group = (fields[column] for column in order)
    for name, text in zip(COLUMNS, (path, identity, group), strict=True):
        if not text.strip():
            raise InputError(where, found="an empty field", expected=f"the {name}")
        if "\0" in text:
            raise InputError(where, found=f"a zero byte in the {name}", expected="text")
    plain = plain_path(path, where)
    return Row(number, plain, composed(identity), group), identity


def plain_path(path: str, where: str) -> str:
    """A path of a list, without "." and "..", told from the list's folder and within it.

    Raises:
        InputError: an absolute path, or one that leaves the folder.
    """
    # By its text alone: what a link in the path leads to, and its "..", may lie elsewhere.
    plain = posixpath.normpath(path)
    if plain.startswith("/"):
        raise InputError(
            where, found=f"the absolute path {path!r}", expected="a path told from the CSV's folder"
        )
    if plain in (".", "..") or plain.startswith("../"):
        raise InputError(where, found=f"the path {path!r}", expected="a file in the CSV's folder")
    return plain


# ---------------------------------------------------------------- unlabelled images


def read_unlabelled(root: Path, more: Suffixes = None) -> list[FaceImage]:
    """Every image below a folder, at any depth, sorted by its path from there, which names it.

    `more` are further endings of images.
    Hidden files and folders are passed over. A linked folder is read where it is not below
    `root` already, and once; so links that lead in a circle end.

    Raises:
        InputError: a folder that cannot be read, a name that is not UTF-8, or no image.
    """
    passed: Counter[str] = Counter()
    names = sorted(
        posixpath.join(folder, name)
        for folder, inside in walk_images(root, passed=passed, more=more)
        for name in inside
    )
    tell_passed(root, passed)
    if not names:
        expected = "images below it (" + ", ".join((*ENDINGS, *(more or ()))) + ")"
        raise InputError(root, found="no image", expected=expected)
    return [FaceImage(root / name, name, UNKNOWN) for name in names]


def walk_images(
    root: Path,
    on_fault: Fault = raise_fault,
    passed: Counter[str] | None = None,
    more: Suffixes = None,
) -> Iterator[tuple[str, list[str]]]:
    """The names of the images in `root` and every folder below it, sorted, folder by folder.

    Folders are told from `root`, which is "". One that cannot be read is told to `on_fault`,
    then left out, and so is a name that is not UTF-8. Systems' folders and images of other formats
    are counted in `passed`.

    Raises:
        InputError: see `read_unlabelled`.
    """
    visited: set[tuple[int, int]] = set()
    real = [""]
    linked: list[str] = []
    while real or linked:
        # Real folders first, so that an image goes by its own path where it has one here.
        linked.sort(reverse=True)
        folder = real.pop() if real else linked.pop()
        try:
            status = (root / folder).stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(root / folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            found_text = error.strerror or str(error)
            on_fault(InputError(root / folder, found=found_text, expected="a readable folder"))
            continue
        images = []
        for entry in found:
            if entry.name.startswith("."):
                continue
            if entry.name in SYSTEM_FOLDERS:
                if passed is not None:
                    passed[f"folder {entry.name}"] += 1
                continue
            if not is_utf8(entry.name):
                fault = f"the name {entry.name!r}"
                on_fault(InputError(root / folder, found=fault, expected="names in UTF-8"))
            elif entry.is_dir(follow_symlinks=False):
                real.append(posixpath.join(folder, entry.name))
            elif entry.is_symlink() and leads_to_folder(entry):
                linked.append(posixpath.join(folder, entry.name))
            elif is_image(entry, more):
                images.append(entry.name)
            elif passed is not None and (other := ending(entry.name, more)):
                passed[f"images {other}"] += 1
        yield folder, images[::-1]
