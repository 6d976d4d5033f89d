"""Lists of pairs in CSV, over any folder of images: `path1,path2,same,group[,group2][,fold]`.

Paths are told from the folder of the list. Shapes: P pairs.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mstkd.data.formats.columns import TextColumns, Texts, first_names, read_text_columns
from mstkd.data.formats.layouts import VerificationList, composed, tell_united
from mstkd.data.formats.listing import plain_path
from mstkd.data.sources import FaceImage
from mstkd.errors import InputError, printable

PAIR_LIST = "a CSV with the columns path1,path2,same,group and, if there are, group2,fold"
# Other names of columns: those of `path1,path2,label,distance` lists, of FaVFA
# (Fournier-Montgieux et al., WACV 2025) and of BFW's data table (Robinson et al., CVPRW 2020).
ALIASES: Mapping[str, tuple[str, ...]] = {
    "image1": ("path1", "img_1", "img1", "image_1", "file1", "p1"),
    "image2": ("path2", "img_2", "img2", "image_2", "file2", "p2"),
    "identity1": ("id1", "id_1", "identity_1"),
    "identity2": ("id2", "id_2", "identity_2"),
    "group1": ("group_1",),
    "group2": ("group_2",),
    "same": ("label", "y_true", "is_same"),
    "similarity": ("cosine",),
    "distance": ("dist",),
}
CROSSED = " x "  # FaVFA writes both sides' values in one field: "Female x Male"


def with_own_names(file: TextColumns, score: str | None = None) -> TextColumns:
    """The columns by this program's names where they have a peer's, fields of two sides parted.

    A column `X_1` with an `X_2` beside it becomes `X1`; one whose every field is "a x b" becomes
    two; `group` with a `group2` beside it becomes `group1`. The column `score` keeps its name.

    Raises:
        InputError: a column and another name of it both stand there.
    """
    own = {alias: name for name, aliases in ALIASES.items() for alias in aliases}
    columns: dict[str, Texts] = {}
    for name, values in file.columns.items():
        stem, side = name[:-2], name[-2:]
        new = own.get(name, name)
        if new == name and side in ("_1", "_2") and {f"{stem}_1", f"{stem}_2"} <= set(file.columns):
            new = stem + side[1]
        if name == score:
            new = name
        if new in columns or (new != name and new in file.columns):
            found = f"the columns {new!r} and {name!r}, which mean the same"
            raise InputError(f"{file.path}:1", found=found, expected="one of them")
        sides = None if name == score else _sides(values)
        if sides is None:
            columns[new] = values
        else:
            columns |= {f"{new}1": sides[0], f"{new}2": sides[1]}
    if "group" in columns and "group2" in columns and "group1" not in columns:
        columns["group1"] = columns.pop("group")
    return replace(file, columns=columns)


def identity_of_image(name: str) -> str:
    """The identity that a file's name tells: its folder's, else the name less its number.

    `m.0a/0003.jpg` and `m.0a_0003.jpg` are of `m.0a`.
    """
    folder, _, file = name.replace("\\", "/").rpartition("/")
    if folder:
        return folder.rpartition("/")[2]
    stem = file.rpartition(".")[0] or file
    identity, _, number = stem.rpartition("_")
    return identity if identity and number.isdecimal() else stem


def read_pair_list(path: Path, group: str) -> VerificationList:
    """The images and pairs within a group; those across groups are counted only.

    Identities are the columns `identity1` and `identity2`, or else what the paths tell. With a
    column `fold` its folds, of whatever numbers, are those of all groups; without one the pairs are
    put in an order of which any contiguous folds have both kinds.

    Raises:
        InputError: no such group, or any fault of the list; names the line.
    """
    file = with_own_names(read_text_columns(path))
    sides = _group_sides(file)
    chosen = np.flatnonzero((sides[0] == group) & (sides[1] == group))
    if not len(chosen):
        raise _no_group(path, group, sides)
    fold = None if "fold" not in file else _folds(file, chosen, group)
    own = file.rows(chosen)
    images, pairs = _images(own)
    same = _genuine(own, images, pairs)
    _check_pairs(own, images, pairs)
    order = np.arange(len(pairs)) if fold is not None else _mixed(same)
    return VerificationList(
        images=images,
        pairs=pairs[order],
        same=same[order],
        fold=fold,
        left_out=int((sides[0] != sides[1]).sum()),
    )


def is_pair_list(path: Path) -> bool:
    """Whether a CSV has the columns of a list of pairs, by its first line."""
    names = set(first_names(path))
    return all(names & {side, *ALIASES[side]} for side in ("image1", "image2"))


def pair_list_groups(path: Path) -> tuple[str, ...]:
    """The groups within which a list has pairs, in the order in which they come.

    Raises:
        InputError: a fault of the list.
    """
    file = with_own_names(read_text_columns(path))
    first, second = _group_sides(file)
    return tuple(dict.fromkeys(first[first == second]))


def pair_list_identities(path: Path) -> frozenset[str]:
    """The names of all identities of a list, of every group.

    Raises:
        InputError: a fault of the list.
    """
    file = with_own_names(read_text_columns(path))
    names: set[str] = set()
    for side in ("1", "2"):
        if f"identity{side}" in file:
            names |= set(map(composed, file.texts(f"identity{side}")))
        elif f"image{side}" in file:
            names |= {composed(identity_of_image(name)) for name in file.texts(f"image{side}")}
        else:
            found = f"the columns {', '.join(file.columns)}"
            raise InputError(f"{path}:1", found=found, expected=PAIR_LIST)
    return frozenset(names)


def _group_sides(file: TextColumns) -> list[Texts]:
    """The group of either image of each pair, where the file has all columns that it needs."""
    sided = {"group1", "group2"} <= set(file.columns)
    if not {"image1", "image2"} <= set(file.columns) or not (sided or "group" in file):
        found = f"the columns {', '.join(file.columns)}"
        raise InputError(f"{file.path}:1", found=found, expected=PAIR_LIST)
    return [file.texts(name if sided else "group") for name in ("group1", "group2")]


def _no_group(path: Path, group: str, sides: list[Texts]) -> InputError:
    within = dict.fromkeys(sides[0][sides[0] == sides[1]])
    near = difflib.get_close_matches(group, within, n=1)
    return InputError(
        f"{path}: group {group!r}",
        found="pairs within " + (printable(", ".join(within)) or "no group"),
        expected="some within it" + (f"; did you mean {near[0]!r}?" if near else ""),
    )


def _folds(file: TextColumns, chosen: NDArray[np.int64], group: str) -> NDArray[np.int16]:
    """The folds of a group's pairs, numbered from 0 in the order of all groups' numbers."""
    numbers = file.numbers("fold")
    odd = np.flatnonzero((numbers % 1 != 0) | (numbers < 0))
    if len(odd):
        raise file.fault("fold", int(odd[0]), "a whole number of at least 0")
    used, fold = np.unique(numbers, return_inverse=True)
    where = f"{file.path}: column 'fold'"
    if not 2 <= len(used) <= np.iinfo(np.int16).max:
        raise InputError(where, found=f"{len(used):,} folds", expected="two or more")
    sizes = np.bincount(fold[chosen], minlength=len(used))
    if not sizes.all():
        found = f"no pairs of group {group!r} in fold {used[np.argmin(sizes)]:g}"
        raise InputError(where, found=found, expected="pairs of every group in every fold")
    return fold[chosen].astype(np.int16)


def _images(own: TextColumns) -> tuple[list[FaceImage], NDArray[np.int32]]:
    """Each image once, sorted by identity and path, and the rows of each pair (P, 2)."""
    named = "identity1" in own and "identity2" in own
    identity_of: dict[str, str] = {}
    ends: list[tuple[str, str]] = []
    spellings: set[str] = set()
    for side in ("1", "2"):
        paths = own.texts(f"image{side}")
        persons = own.texts(f"identity{side}") if named else map(identity_of_image, paths)
        for row, (written, person) in enumerate(zip(paths, persons, strict=True)):
            identity = composed(person)
            if not person.isascii():
                spellings.add(person)
            path = plain_path(written, own.at(row))
            if path not in identity_of and not (own.path.parent / path).is_file():
                expected = f"an image {own.path.parent / path}"
                raise InputError(
                    own.at(row), found="a pair whose image is missing", expected=expected
                )
            if identity_of.setdefault(path, identity) != identity:
                found = f"the identity {identity!r} of the image {path!r}"
                raise InputError(
                    own.at(row), found=found, expected=f"{identity_of[path]!r}, as before"
                )
            ends.append((identity, path))
    tell_united(own.path, spellings)
    unique = sorted(set(ends))
    row_of = {end: row for row, end in enumerate(unique)}
    rows = np.array([row_of[end] for end in ends], np.int32).reshape(2, -1).T
    images = [FaceImage(own.path.parent / path, path, identity) for identity, path in unique]
    return images, np.ascontiguousarray(rows)


def _genuine(
    own: TextColumns, images: list[FaceImage], pairs: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Which pairs (P,) are genuine: by the identities, with which the column `same` must agree."""
    identity = np.array([image.identity for image in images], object)[pairs]
    alike: NDArray[np.bool_] = identity[:, 0] == identity[:, 1]
    if "same" not in own:
        return alike
    wrong = np.flatnonzero(own.truths("same") != alike)
    if len(wrong):
        row = int(wrong[0])
        one, other = identity[row]
        found = f"same {own.columns['same'][row]} of the identities {one!r} and {other!r}"
        expected = "1 where they are equal, else 0; columns identity1 and identity2 may name them"
        raise InputError(own.at(row), found=found, expected=expected)
    return alike


def _check_pairs(own: TextColumns, images: list[FaceImage], pairs: NDArray[np.int32]) -> None:
    """Refuse an image paired with itself, and a pair that stands there twice."""
    lines: dict[tuple[int, int], int] = {}
    for row, (one, other) in enumerate(np.sort(pairs, axis=1).tolist()):
        if one == other:
            found = f"the image {images[one].name!r} paired with itself"
            raise InputError(own.at(row), found=found, expected="two images")
        first = lines.setdefault((one, other), row)
        if first != row:
            found = f"the pair of line {own.lines[first]} again"
            raise InputError(own.at(row), found=found, expected="every pair once")


def _mixed(same: NDArray[np.bool_]) -> NDArray[np.int64]:
    """An order of pairs in which those of both kinds are spread evenly, each kind as it came."""
    place = np.empty(len(same))
    for kind in (False, True):
        rows = np.flatnonzero(same == kind)
        place[rows] = (np.arange(len(rows)) + 0.5) / max(1, len(rows))
    # At one place the genuine pair comes first, as in RFW's lists.
    return np.lexsort((~same, place))


def _sides(values: Texts) -> tuple[Texts, Texts] | None:
    parts = [value.split(CROSSED) for value in values]
    if not all(len(part) == 2 for part in parts):
        return None
    first, second = zip(*parts, strict=True)
    return np.array(first, object), np.array(second, object)
