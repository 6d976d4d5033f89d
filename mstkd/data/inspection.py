"""What lies at a path, told before any work: groups, identities, images, pairs and problems.

The kind is the first that fits. A file: `.rec`, `.bin`, `.csv`, by its ending. A folder: one
that holds `train.rec`; RFW's, which holds `txts` or `test/txts`; one that holds `*_test.bin`; one
with an image at <group>/<identity>/<image>; one with a CSV of the listing's columns; one with an
image anywhere below it. What the readers refuse is told as a problem and passed over.
"""

from __future__ import annotations

import itertools
import os
import re
import statistics
import struct
import warnings
import zlib
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mstkd.data.decode import FORMATS
from mstkd.data.landmarks import read_rfw_landmarks
from mstkd.data.layouts import ENDINGS, Pair, parse_pairs
from mstkd.data.listing import COLUMNS, is_utf8, leads_to_folder, listing_rows, walk_images
from mstkd.data.sources import Source
from mstkd.errors import InputError

SAMPLED = 64  # images of a group whose headers are read
EXAMPLES = 5  # problems of one sort that are told in full
BAD_LINES = 100  # in a pairs file, after which it is not read on
NOT_TOLD = "-"
NAMED = 20  # identities named in one problem: RFW has 13 in two groups
TRAINING = "training folder: <group>/<identity>/<image>"
LISTING = f"listing: a CSV with the columns {','.join(COLUMNS)}"
RECORDS = "MXNet RecordIO"
RFW = "RFW's distribution: data/<group>/<identity>/<image> and txts/<group>/<group>_pairs.txt"
BINS = "verification pairs in .bin files, a group each"
UNLABELLED = "folder of unlabelled images: none lies at <group>/<identity>/<image>"

Item = TypeVar("Item")
Sample = Sequence[tuple[str, Source]]  # what to call an image, and where it lies


@dataclass(frozen=True)
class Headers:
    """What the headers of a sample of images say, most frequent first."""

    sampled: int
    sizes: Mapping[str, int]  # "<width>x<height>" in pixels to a number of images
    modes: Mapping[str, int]  # Pillow's names, "RGB", "L", ...


@dataclass(frozen=True)
class GroupFound:
    """A group; None where its kind of data does not tell."""

    name: str
    images: int
    identities: int | None
    images_an_identity: tuple[int, float, int] | None  # smallest, median, largest number
    single: int | None  # identities with one image
    genuine: int | None
    impostor: int | None
    folds: int | None  # where the pairs lie in blocks of as many genuine, then impostor pairs
    headers: Headers


@dataclass(frozen=True)
class Inspection:
    """What was found at `path`; every problem is one line that names a file or a line."""

    path: Path
    kind: str
    groups: tuple[GroupFound, ...]
    problems: list[str]


class _Problems:
    """Problems as they are found: the first few of each sort, and how many there were."""

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()
        self._first: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, sort: str, line: str) -> None:
        self._count[sort] += 1
        if len(self._first[sort]) < EXAMPLES:
            self._first[sort].append(_printable(line))

    def fault(self, fault: InputError) -> None:
        self.add("faults", str(fault))

    def take(self, others: _Problems) -> None:
        self._count.update(others._count)
        for sort, first in others._first.items():
            self._first[sort] = (self._first[sort] + first)[:EXAMPLES]

    def lines(self) -> list[str]:
        lines = []
        for sort, first in self._first.items():
            lines += first
            if self._count[sort] > len(first):
                lines.append(f"... and {self._count[sort] - len(first):,} more {sort}")
        return lines


def inspect(path: Path, *, groups: Path | None = None) -> Inspection:
    """Find out what lies at `path` and describe it; at most `SAMPLED` images a group are opened.

    `groups`, a `.lst` or CSV, gives the groups of the identities of a `.rec`.

    Raises:
        InputError: nothing there that the readers know, or `groups` without a `.rec`.
    """
    problems = _Problems()
    try:
        kind, found = _find(path, groups, problems)
    except OSError as error:
        raise InputError(path, found=error.strerror, expected="a readable path") from None
    if groups is not None and not kind.startswith(RECORDS):
        raise InputError(
            groups, found=f"groups for a {kind}", expected="a .rec: other kinds hold theirs"
        )
    _compare_sizes(path, found, problems)
    return Inspection(path, kind, tuple(found), problems.lines())


def _find(path: Path, groups: Path | None, problems: _Problems) -> tuple[str, list[GroupFound]]:
    if path.is_file():
        match path.suffix.lower():
            case ".rec":
                return _records(path, groups, problems)
            case ".bin":
                return BINS, _bins([path], problems)
            case ".csv":
                return LISTING, _listing(path, problems)
        raise _nothing(path, f"a {path.suffix or 'nameless'} file")
    if not path.is_dir():
        raise _nothing(path, "no such file or folder")
    if (path / "train.rec").is_file():
        return _records(path / "train.rec", groups, problems)
    for root in (path, path / "test"):
        if (root / "txts").is_dir():
            return RFW, _rfw(root, problems)
    bins = sorted(path.glob("*_test.bin"))
    if bins:
        return BINS, _bins(bins, problems)
    return _folder(path, problems)


def _folder(path: Path, problems: _Problems) -> tuple[str, list[GroupFound]]:
    of_training = _Problems()  # they count only if this is a training folder
    found = _training(path, of_training)
    if any(group.images for group in found):
        problems.take(of_training)
        return TRAINING, found
    for file in sorted(path.glob("*.csv")):
        if _is_listing(file):
            return LISTING, _listing(file, problems)
    unlabelled = _unlabelled(path, problems)
    if not unlabelled.images:
        raise _nothing(path, "no image at any depth")
    return UNLABELLED, [unlabelled]


def _is_listing(file: Path) -> bool:
    try:
        next(listing_rows(file, lambda fault: None), None)
    except InputError:  # other columns, or no text
        return False
    return True


def _nothing(path: Path, found: str) -> InputError:
    kinds = (TRAINING, LISTING, f"{RECORDS} (.rec)", RFW, BINS, "images (" + ", ".join(ENDINGS))
    return InputError(path, found=found, expected="; or ".join(kinds) + ")")


# ---------------------------------------------------------------- kinds


def _training(root: Path, problems: _Problems) -> list[GroupFound]:
    """Counts alone are kept: there may be millions of images."""
    groups = {
        group: _count_identities(root, group, problems) for group in _below(root, (root,), problems)
    }
    _name_shared(root, groups, problems)
    return [
        _describe(group, list(counts.values()), _sampled(root / group, counts), problems)
        for group, counts in groups.items()
    ]


def _count_identities(root: Path, group: str, problems: _Problems) -> dict[str, int]:
    """Images of each identity that has any."""
    counts = {}
    for identity in _below(root / group, (root, root / group), problems):
        folder = root / group / identity
        inside, images = _entries(folder, problems)
        if images:
            counts[identity] = len(images)
        else:
            problems.add("empty folders", f"{folder}: no image in it")
        if inside:
            line = f"{folder}: {len(inside)} folders in an identity's folder are passed over"
            problems.add("folders too deep", line)
    if not counts:
        problems.add("empty groups", f"{root / group}: no image in it")
    return counts


def _below(folder: Path, above: Sequence[Path], problems: _Problems) -> list[str]:
    """The folders in `folder`, where no image should lie, less links to one that holds `above`."""
    names, stray = _entries(folder, problems)
    if stray:
        line = f"{folder}: {len(stray):,} images lie outside an identity's folder, passed over"
        problems.add("stray images", line)
    down = []
    for name in names:
        link = folder / name
        if link.is_symlink() and any(
            path.resolve().is_relative_to(link.resolve()) for path in above
        ):
            problems.add("links in a circle", f"{link}: a link to a folder that holds it")
        else:
            down.append(name)
    return down


def _listing(path: Path, problems: _Problems) -> list[GroupFound]:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    files: defaultdict[str, list[str]] = defaultdict(list)
    there: dict[str, frozenset[str]] = {}  # file names by folder: one look a folder, not one a file
    try:
        for row in listing_rows(path, problems.fault):
            counts[row.group][row.identity] += 1
            folder, _, name = row.path.rpartition("/")
            if folder not in there:
                there[folder] = _names(path.parent / folder)
            if name in there[folder]:
                files[row.group].append(row.path)
            else:
                line = f"{path}:{row.line}: the image {row.path!r} is missing"
                problems.add("missing images", line)
    except InputError as fault:
        problems.fault(fault)
    found = []
    for group in sorted(counts):
        sample = [(name, path.parent / name) for name in _spread(files[group])]
        found.append(_describe(group, list(counts[group].values()), sample, problems))
    return found


def _unlabelled(root: Path, problems: _Problems) -> GroupFound:
    counts = {folder: len(names) for folder, names in walk_images(root, problems.fault)}
    sample = _sampled(root, counts)
    return _describe("all", None, sample, problems, images=sum(counts.values()))


def _bins(files: Sequence[Path], problems: _Problems) -> list[GroupFound]:
    from mstkd.data.bins import read_bin

    found = []
    for file in files:
        try:
            listed = read_bin(file)
        except InputError as fault:
            problems.fault(fault)
            continue
        sample = [(f"{file}: {image.name}", image.source) for image in _spread(listed.images)]
        group, images = file.stem.removesuffix("_test"), len(listed.images)
        found.append(_describe(group, None, sample, problems, images=images, same=listed.same))
    return found


def _records(rec: Path, groups: Path | None, problems: _Problems) -> tuple[str, list[GroupFound]]:
    from mstkd.data.recordio import Record, open_records, read_record_groups

    try:
        records = open_records(rec)
    except InputError as fault:
        problems.fault(fault)
        return RECORDS, []
    names, group = ["all"], np.zeros(len(records.keys), np.int32)  # (N,)
    kind = f"{RECORDS}; its groups are not known: give their .lst or CSV"
    if groups is not None:
        kind = f"{RECORDS}, groups from {_printable(str(groups))}"
        try:
            known = read_record_groups(groups, records)
            names, group = known.group_names, known.group
        except InputError as fault:
            problems.fault(fault)
    found = []
    for number, name in enumerate(names):
        rows = np.flatnonzero(group == number)
        counts = np.unique(records.labels[rows], return_counts=True)[1]  # (identities,)
        sample: list[tuple[str, Source]] = [
            (f"{rec}: record {records.keys[row]}", Record(rec, int(records.offsets[row])))
            for row in _spread(rows.tolist())
        ]
        found.append(_describe(name, counts.tolist(), sample, problems))
    return kind, found


# ---------------------------------------------------------------- RFW


def _rfw(root: Path, problems: _Problems) -> list[GroupFound]:
    """`txts` may hold, beside the pairs, lists of people, images and landmarks: they must agree."""
    names = {name for part in ("data", "txts") for name in _entries(root / part, problems)[0]}
    groups: dict[str, dict[str, list[str]]] = {}
    found = []
    for group in sorted(names):
        folder, texts = root / "data" / group, root / "txts" / group
        held = groups[group] = {}
        for identity in _entries(folder, problems)[0]:
            held[identity] = sorted(_entries(folder / identity, problems)[1])
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
        sample = [(name, folder / name) for name in _spread(images)]
        same = np.array([pair.same for pair in pairs], np.bool_)
        found.append(_describe(group, counts, sample, problems, same=same))
    _name_shared(root, groups, problems)
    return found


def _pairs(file: Path, problems: _Problems) -> list[Pair]:
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
    problems: _Problems,
) -> None:
    numbered: Counter[tuple[str, int]] = Counter()
    for identity, names in held.items():
        pattern = re.compile(re.escape(identity) + r"_([0-9]{4,5})\.[A-Za-z]+")
        numbered.update((identity, int(at[1])) for name in names if (at := pattern.fullmatch(name)))
    for pair in pairs:
        for end in (pair.first, pair.second):
            if numbered[end] != 1:
                name = folder / end[0] / f"{end[0]}_{end[1]:04d}.jpg"
                what = "two files are" if numbered[end] else "missing:"
                problems.add("missing images", f"{file}:{pair.line}: {what} {name}")


def _check_people(file: Path, held: Mapping[str, Sequence[str]], problems: _Problems) -> None:
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


def _check_images(file: Path, images: Sequence[str], problems: _Problems) -> None:
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


def _check_landmarks(file: Path, group: str, images: Sequence[str], problems: _Problems) -> None:
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


def _name_unlisted(file: Path, names: Sequence[str], problems: _Problems) -> None:
    if names:
        text = f"{file}: {len(names):,} in the folders are not in it: {_some(names)}"
        problems.add("lists cut short", text)


def _text_lines(file: Path, problems: _Problems, required: bool = False) -> list[str] | None:
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


# ---------------------------------------------------------------- common to the kinds


def _entries(folder: Path, problems: _Problems) -> tuple[list[str], list[str]]:
    """Names of the folders, sorted, and of the images in `folder`, hidden ones passed over.

    The kind of an entry comes with its name: no file is looked at by itself.
    """
    folders: list[str] = []
    images: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                if not is_utf8(name):
                    problems.add("names", f"{folder}: the name {name!r} is not UTF-8")
                elif name.lower().endswith(ENDINGS) and not entry.is_dir(follow_symlinks=False):
                    images.append(name)
                elif leads_to_folder(entry):
                    folders.append(name)
    except OSError as error:
        problems.add("unreadable folders", f"{folder}: {error.strerror}")
    return sorted(folders), images


def _names(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except OSError:  # what it should hold is then missing, and told so
        return frozenset()


def _spread(items: Sequence[Item]) -> list[Item]:
    """At most `SAMPLED` items, evenly spread."""
    taken = min(SAMPLED, len(items))
    return [items[place * len(items) // taken] for place in range(taken)]


def _sampled(root: Path, counts: Mapping[str, int]) -> Sample:
    """Of images that were only counted, folder by folder: the chosen folders are read again."""
    ends = list(itertools.accumulate(counts.values()))
    chosen = defaultdict(list)
    for place in _spread(range(ends[-1] if ends else 0)):
        chosen[bisect_right(ends, place)].append(place)
    folders = list(counts)
    sample: list[tuple[str, Source]] = []
    for row, places in chosen.items():
        folder = root / folders[row]
        names = sorted(_entries(folder, _Problems())[1])
        start = ends[row] - counts[folders[row]]
        # Of a folder that a download or a copy changes meanwhile, some may be gone.
        sample += [(name, folder / name) for at in places for name in names[at - start :][:1]]
    return sample


def _describe(
    name: str,
    counts: Sequence[int] | None,
    sample: Sample,
    problems: _Problems,
    *,
    images: int = 0,
    same: NDArray[np.bool_] | None = None,
) -> GroupFound:
    """`counts` are the images of each identity; without it, `images` is their number."""
    return GroupFound(
        name=name,
        images=images if counts is None else sum(counts),
        identities=None if counts is None else len(counts),
        images_an_identity=(
            (min(counts), float(statistics.median(counts)), max(counts)) if counts else None
        ),
        single=None if counts is None else counts.count(1),
        genuine=None if same is None else int(same.sum()),
        impostor=None if same is None else int((~same).sum()),
        folds=None if same is None else _folds(same),
        headers=_headers(sample, problems),
    )


def _folds(same: NDArray[np.bool_]) -> int | None:
    edges = np.flatnonzero(same[1:] != same[:-1]) + 1
    runs = np.diff([0, *edges, len(same)])
    if same.any() and same[0] and len(runs) % 2 == 0 and runs[0] > 1 and (runs == runs[0]).all():
        return len(runs) // 2
    return None


def _headers(sample: Sample, problems: _Problems) -> Headers:
    sizes: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # nothing is decoded
        for name, source in sample:
            try:
                # From a file Pillow reads as much as it needs for the header.
                file = source if isinstance(source, Path) else BytesIO(source.read_bytes())
                with Image.open(file, formats=FORMATS) as image:
                    sizes[f"{image.width}x{image.height}"] += 1
                    modes[image.mode] += 1
                continue
            except UnidentifiedImageError:
                reason = "no JPEG, PNG or WebP image"
            except Image.DecompressionBombError as error:
                reason = str(error)
            except OSError as error:
                reason = error.strerror or str(error)
            except (SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
                reason = f"damaged: {error}"
            where = source if isinstance(source, Path) else name
            problems.add("unreadable headers", f"{where}: its header cannot be read: {reason}")
    return Headers(len(sample), dict(sizes.most_common()), dict(modes.most_common()))


def _name_shared(where: Path, groups: Mapping[str, Iterable[str]], problems: _Problems) -> None:
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for group, identities in groups.items():
        for identity in identities:
            homes[identity].append(group)
    shared = [f"{name} ({', '.join(own)})" for name, own in homes.items() if len(own) > 1]
    if shared:
        text = (
            f"{where}: {len(shared):,} identities in more than one group: {_some(sorted(shared))}"
        )
        problems.add("identities in two groups", text)


def _compare_sizes(where: Path, groups: Sequence[GroupFound], problems: _Problems) -> None:
    for noun, sizes in (
        ("identities", [group.identities for group in groups]),
        ("images", [group.images for group in groups]),
        ("genuine pairs", [group.genuine for group in groups]),
        ("impostor pairs", [group.impostor for group in groups]),
    ):
        if len(set(sizes)) > 1:
            each = (f"{g.name} {s:,}" for g, s in zip(groups, sizes, strict=True) if s is not None)
            text = f"{where}: groups of unequal size: {noun}: {', '.join(each)}"
            problems.add("groups of unequal size", text)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _printable(text: str) -> str:
    """Names come from the disk and from downloads: none may move a terminal's cursor."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


# ---------------------------------------------------------------- for people


def report_lines(inspection: Inspection) -> list[str]:
    """The findings as lines of plain text: a table of groups, one of headers, the problems."""
    groups = inspection.groups
    names = ["group", *(_printable(group.name) for group in groups)]
    columns = [
        names,
        ["identities", *(_number(group.identities) for group in groups)],
        ["images", *(_number(group.images) for group in groups)],
        ["an identity: least", *(_of(group.images_an_identity, 0) for group in groups)],
        ["median", *(_of(group.images_an_identity, 1) for group in groups)],
        ["most", *(_of(group.images_an_identity, 2) for group in groups)],
        ["of one image", *(_number(group.single) for group in groups)],
        ["genuine pairs", *(_number(group.genuine) for group in groups)],
        ["impostor pairs", *(_number(group.impostor) for group in groups)],
        ["folds", *(_number(group.folds) for group in groups)],
    ]
    sampled = [
        names,
        ["images", *(_number(group.headers.sampled) for group in groups)],
        ["width x height", *(_most(group.headers.sizes) for group in groups)],
        ["mode", *(_most(group.headers.modes) for group in groups)],
    ]
    problems = inspection.problems
    return [
        _printable(str(inspection.path)),
        inspection.kind,
        "",
        *_table([column for column in columns if set(column[1:]) != {NOT_TOLD}]),
        "",
        f"Headers of a sample, at most {SAMPLED} images a group, evenly spread:",
        *_table(sampled, text={2, 3}),
        "",
        "Problems:" if problems else "No problems found.",
        *(f"  {problem}" for problem in problems),
    ]


def _number(value: float | None) -> str:
    return NOT_TOLD if value is None else f"{value:,.1f}".removesuffix(".0")


def _of(values: tuple[int, float, int] | None, place: int) -> str:
    return _number(None if values is None else values[place])


def _most(counts: Mapping[str, int]) -> str:
    """The three most frequent of a sample, with their numbers where there are several."""
    first = list(counts.items())[:3]
    if len(counts) < 2:
        return "".join(counts) or NOT_TOLD
    more = f", {len(counts) - 3} more" if len(counts) > 3 else ""
    return ", ".join(f"{name} ({count})" for name, count in first) + more


def _table(columns: Sequence[Sequence[str]], text: Iterable[int] = ()) -> list[str]:
    """Rows of aligned columns: the first, and those of `text`, to the left."""
    widths = [max(map(len, column)) for column in columns]
    left = {0, *text}
    return [
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in zip(*columns, strict=True)
    ]
