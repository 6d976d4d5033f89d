"""What lies on disk, as lists of images: folders of identities, and RFW's pairs.

Layouts are those of BUPT-Balancedface and RFW as distributed. Only names are read here, never
pixels. Shapes: N images, P pairs.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from mstkd.config.data import Suffix, Suffixes
from mstkd.data.sources import FaceImage
from mstkd.errors import InputError
from mstkd.progress import say

ENDINGS = (".jpg", ".jpeg", ".jfif", ".png", ".webp")
# Of images that are not read, so that a folder of them is not taken for an empty one.
OTHER_ENDINGS = (
    *(".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".j2k", ".jp2", ".jpe", ".jxl", ".pgm"),
    *(".pnm", ".ppm", ".tga", ".tif", ".tiff"),
)
# What storage boxes and systems put among people's folders; hidden ones are passed over anyhow.
SYSTEM_FOLDERS = frozenset(
    {
        *("@eaDir", "@Recycle", "@Recently-Snapshot", "@tmp", "#recycle", "#snapshot"),
        *("$RECYCLE.BIN", "System Volume Information", "__MACOSX", "lost+found"),
    }
)
TRAINING_LAYOUT = "<root>/<group>/<identity>/<image>.jpg (or .jpeg, .png, .webp)"
VERIFICATION_LAYOUT = (
    "<root>/data/<group>/<identity>/<identity>_0001.jpg and <root>/txts/<group>/<group>_pairs.txt"
)


class Pair(NamedTuple):
    """A line of a pairs file: two images by identity and number."""

    line: int
    first: tuple[str, int]
    second: tuple[str, int]
    same: bool


@dataclass(frozen=True, eq=False)
class VerificationList:
    """Images and the pairs to compare, in the order of the pairs file.

    `images` names each image once, sorted; `pairs` int32 (P, 2) holds rows of it; `same` bool
    (P,) is True for a genuine pair; `fold` int16 (P,) is None where folds follow from the order.
    `left_out` counts pairs of images of two groups, of which no group's list has any.
    """

    images: list[FaceImage]
    pairs: NDArray[np.int32]
    same: NDArray[np.bool_]
    fold: NDArray[np.int16] | None = None
    left_out: int = 0


def read_training_folder(root: Path, group: str, more: Suffixes = None) -> list[FaceImage]:
    """The images of a group, sorted by identity, then by name; `more` are further endings of them.

    Hidden files are passed over, and, with a line that says so, systems' folders and images of
    other formats. Of an identity whose name stands there in two spellings all images are one's.

    Raises:
        InputError: no such group, or no image in it.
    """
    folder = _group_folder(root, group, TRAINING_LAYOUT)
    images: list[FaceImage] = []
    passed: Counter[str] = Counter()
    for name in sorted(_folders(folder, passed=passed), key=composed):
        inside, identity = folder / name, composed(name)
        images += [
            FaceImage(inside / image, f"{group}/{name}/{image}", identity)
            for image in _image_names(inside, passed, more)
        ]
    tell_passed(folder, passed)
    if not images:
        raise InputError(folder, found="no image", expected=TRAINING_LAYOUT)
    return images


def training_groups(root: Path) -> list[str]:
    """The groups of a training folder, sorted.

    Raises:
        InputError: no such folder.
    """
    return _folders(root, TRAINING_LAYOUT)


def read_verification(root: Path, group: str, more: Suffixes = None) -> VerificationList:
    """The images and pairs of a group in RFW's layout; `root` may be the folder above `test`.

    `more` are further endings of images.

    Raises:
        InputError: a folder, file or image that is missing, or a line of the pairs file that
            is none; names the file and the line.
    """
    root = verification_folder(root)
    if root.is_dir() and not (root / "data").is_dir():
        raise InputError(root, found=_list(_folders(root)), expected=VERIFICATION_LAYOUT)
    folder = _group_folder(root / "data", group, VERIFICATION_LAYOUT)
    file = root / "txts" / group / f"{group}_pairs.txt"
    try:
        pairs = parse_pairs(file.read_bytes(), file)
    except FileNotFoundError:
        raise InputError(file, found="no such file", expected=VERIFICATION_LAYOUT) from None
    except OSError as error:
        raise InputError(file, found=error.strerror, expected="a readable file") from None

    written = {composed(name): name for name in _folders(folder)}
    known: dict[str, Mapping[int, list[str]]] = {}
    ends = []
    for pair in pairs:
        for name, number in (pair.first, pair.second):
            identity = composed(name)
            inside = folder / written.get(identity, identity)
            if identity not in known:
                names = _image_names(inside, more=more) if identity in written else []
                known[identity] = names_by_number(names, identity)
            image = _one_file(
                known[identity].get(number, []), inside, number, f"{file}:{pair.line}"
            )
            ends.append((identity, image))
    unique = sorted(set(ends))
    row_of = {end: row for row, end in enumerate(unique)}
    rows = np.array([row_of[end] for end in ends], np.int32)
    return VerificationList(
        images=[
            FaceImage(
                folder / written[identity] / name,
                f"data/{group}/{written[identity]}/{name}",
                identity,
            )
            for identity, name in unique
        ],
        pairs=rows.reshape(-1, 2),  # (P, 2)
        same=np.array([pair.same for pair in pairs], np.bool_),
    )


def verification_folder(root: Path) -> Path:
    """The folder of `data` and `txts`: RFW's archive has it below `test`."""
    inside = root / "test"
    return inside if not (root / "data").is_dir() and (inside / "data").is_dir() else root


def verification_identities(root: Path) -> frozenset[str]:
    """The names of all identities in RFW's layout, of every group.

    Raises:
        InputError: there is no such folder.
    """
    data = verification_folder(root) / "data"
    groups = _folders(data, VERIFICATION_LAYOUT)
    return frozenset(composed(name) for group in groups for name in _folders(data / group))


def parse_pairs(data: bytes, where: Path) -> list[Pair]:
    """The pairs of a file: `id n1 n2` is genuine, `id1 n1 id2 n2` is impostor.

    Fields are parted by tabs, or by spaces in a line without a tab. LFW's first line, the
    number of folds and of pairs in half a fold, may stand there and must then be right; in its
    files of one part the number of pairs in half of it stands alone.

    Raises:
        InputError: names `where` and the line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"byte {error.start} is not UTF-8"
        raise InputError(where, found=found, expected="a text file of pairs") from None
    pairs: list[Pair] = []
    header = None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, start=1):
        line = line.strip()
        if not line:
            continue
        fields = [f.strip() for f in line.split("\t")] if "\t" in line else line.split()
        if number == 1 and len(fields) < 3 and all(map(_is_number, fields)):
            header = 2 * math.prod(map(int, fields))
            continue
        pairs.append(_parse_pair(fields, number, f"{where}:{number}"))
    if not pairs:
        raise InputError(
            where, found="no pairs", expected="a pair a line: id n1 n2, or id1 n1 id2 n2"
        )
    if header is not None and header != len(pairs):
        raise InputError(where, found=f"{len(pairs)} pairs", expected=f"{header}, as line 1 says")
    return pairs


def names_by_number(names: Iterable[str], identity: str) -> dict[int, list[str]]:
    """RFW's file names by the number after `<identity>_`, of four digits or five."""
    pattern = re.compile(re.escape(composed(identity)) + r"_([0-9]{4,5})\.[A-Za-z]+")
    files: dict[int, list[str]] = {}
    for name in names:
        match = pattern.fullmatch(composed(name))
        if match:
            files.setdefault(int(match[1]), []).append(name)
    return files


def composed(name: str) -> str:
    """A name as Unicode's form NFC has it: some systems write é as one letter, some as two."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def tell_united(where: Path, spellings: Iterable[str]) -> None:
    """Say which names stand there in two spellings, NFC's and another, and are taken for one."""
    twice = sorted(name for name, n in Counter(map(composed, set(spellings))).items() if n > 1)
    if twice:
        more = f" and {len(twice) - 1:,} more" if len(twice) > 1 else ""
        spelt = "in two spellings of one name (NFC and NFD), taken for one"
        say(f"{where}: {twice[0]!r}{more} {spelt}")


def tell_passed(folder: Path, passed: Mapping[str, int]) -> None:
    """Say what was passed over: names of systems' folders, and endings of images not read."""
    if passed:
        each = ", ".join(f"{count:,} {what}" for what, count in sorted(passed.items()))
        hint = how_to_read(what.removeprefix("images ") for what in passed)
        say(f"{folder}: passed over: {each}{hint}")


def how_to_read(endings: Iterable[str]) -> str:
    """What to say of images of other formats: which setting and option read those that can be."""
    more = sorted(set(endings) & set(get_args(Suffix)))
    if not more:
        return ""
    option = f"--more-suffixes {','.join(more)}"
    return f"; data.more_suffixes: [{', '.join(more)}] or {option} reads such images"


def ending(name: str, more: Suffixes = None) -> str:
    """The ending of an image of a format that is not read, "" of any other file."""
    _, dot, last = name.lower().rpartition(".")
    return dot + last if dot + last in OTHER_ENDINGS and dot + last not in (more or ()) else ""


def leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a link that leads nowhere is none."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def is_image(entry: os.DirEntry[str], more: Suffixes = None) -> bool:
    """Whether an entry is called an image and is no folder; a dangling link must not vanish."""
    endings = ENDINGS if more is None else (*ENDINGS, *more)
    return entry.name.lower().endswith(endings) and not entry.is_dir(follow_symlinks=False)


def is_utf8(name: str) -> bool:
    """Whether a name from the disk is text; Python puts lone surrogates where it is not."""
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _parse_pair(fields: list[str], line: int, where: str) -> Pair:
    if len(fields) not in (3, 4):
        raise InputError(
            where,
            found=f"{len(fields)} fields",
            expected="3 for a genuine pair (id n1 n2) or 4 for an impostor pair (id1 n1 id2 n2)",
        )
    same = len(fields) == 3
    ids = (fields[0], fields[0] if same else fields[2])
    numbers = (fields[1], fields[-1])
    for text in numbers:
        if not _is_number(text):
            raise InputError(where, found=repr(text), expected="the number of an image")
    if "" in ids:
        raise InputError(where, found="an empty field", expected="an identity")
    first, second = (ids[0], int(numbers[0])), (ids[1], int(numbers[1]))
    if first == second:
        raise InputError(
            where, found=f"image {numbers[0]} of {ids[0]} paired with itself", expected="two images"
        )
    if not same and ids[0] == ids[1]:
        raise InputError(
            where,
            found=f"an impostor pair within identity {ids[0]}",
            expected="two identities in 4 fields, or 3 fields for a genuine pair",
        )
    return Pair(line, first, second, same)


def _is_number(text: str) -> bool:
    return re.fullmatch("[0-9]{1,9}", text) is not None


def _one_file(names: list[str], folder: Path, number: int, where: str) -> str:
    if len(names) == 1:
        return names[0]
    found = f"both {' and '.join(names)}" if names else "a pair whose image is missing"
    raise InputError(where, found=found, expected=folder / f"{folder.name}_{number:04d}.jpg")


def _group_folder(parent: Path, group: str, layout: str) -> Path:
    folders = _folders(parent, layout)
    if group in folders:
        return parent / group
    near = difflib.get_close_matches(group, folders, n=1)
    hint = f"; did you mean group {near[0]!r}?" if near else ""
    raise InputError(parent / group, found=_list(folders), expected=layout + hint)


def _list(folders: list[str]) -> str:
    if not folders:
        return "no folders"
    more = f" and {len(folders) - 10:,} more" if len(folders) > 10 else ""
    return "the folders " + ", ".join(folders[:10]) + more


def _folders(
    parent: Path, layout: str = "a readable folder", passed: Counter[str] | None = None
) -> list[str]:
    """Names of the folders in `parent`, sorted; systems' own are counted in `passed`."""
    names = _checked(parent, (e.name for e in _scan(parent, layout) if leads_to_folder(e)))
    if passed is not None:
        passed.update(f"folder {name}" for name in names if name in SYSTEM_FOLDERS)
    return [name for name in names if name not in SYSTEM_FOLDERS]


def _image_names(
    folder: Path, passed: Counter[str] | None = None, more: Suffixes = None
) -> list[str]:
    """Names of the images in `folder`, sorted; of those not read the endings go to `passed`."""
    entries = _scan(folder, "a readable folder")
    if passed is not None:
        others = filter(None, (ending(entry.name, more) for entry in entries))
        passed.update(f"images {other}" for other in others)
        inner = [e.name for e in entries if e.name in SYSTEM_FOLDERS]
        passed.update(f"folder {name}" for name in inner)
    return _checked(folder, (entry.name for entry in entries if is_image(entry, more)))


def _scan(folder: Path, expected: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        raise InputError(folder, found="no such folder", expected=expected) from None
    except OSError as error:
        raise InputError(folder, found=error.strerror, expected=expected) from None


def _checked(folder: Path, names: Iterable[str]) -> list[str]:
    ordered = sorted(names)
    for name in ordered:
        if not is_utf8(name):
            raise InputError(folder, found=f"the name {name!r}", expected="names in UTF-8")
    return ordered
