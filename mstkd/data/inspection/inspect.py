"""What lies at a path, told before any work: groups, identities, images, pairs and problems.

The kind is the first that fits. A file: `.rec`, `.bin`, `.csv`, by its ending. A folder: one
that holds `train.rec`; one that holds `*_test.bin`; RFW's, which holds `txts` or `test/txts`; one
with an image at <group>/<identity>/<image>; one with a CSV of pairs, or of the listing's columns;
one with an image anywhere below it. What the readers refuse is told as a problem and passed over.
"""

from __future__ import annotations

import itertools
import os
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mstkd.config.data import Suffixes, file_kind
from mstkd.data.formats.bins import group_bins, read_bin
from mstkd.data.formats.layouts import ENDINGS, how_to_read
from mstkd.data.formats.listing import COLUMNS, listing_rows, walk_images
from mstkd.data.formats.pairlists import is_pair_list, pair_list_groups, read_pair_list
from mstkd.data.inspection.found import (
    GroupFound,
    Inspection,
    Problems,
    Sample,
    describe,
    entries_of,
    name_shared,
    spread,
)
from mstkd.data.inspection.rfw import rfw_groups
from mstkd.data.sources import Source
from mstkd.errors import InputError, printable

TRAINING = "training folder: <group>/<identity>/<image>"
LISTING = f"listing: a CSV with the columns {','.join(COLUMNS)}"
RECORDS = "MXNet RecordIO"
RFW = "RFW's distribution: data/<group>/<identity>/<image> and txts/<group>/<group>_pairs.txt"
PAIRS = "verification pairs in a CSV: path1,path2,same,group"
BINS = "verification pairs in .bin files, a group each"
UNLABELLED = "folder of unlabelled images: none lies at <group>/<identity>/<image>"


def inspect(path: Path, *, groups: Path | None = None, more: Suffixes = None) -> Inspection:
    """Find out what lies at `path` and describe it; of a group only a sample of images is opened.

    `groups`, a `.lst` or CSV, gives the groups of the identities of a `.rec`; `more` are further
    endings of images.

    Raises:
        InputError: nothing there that the readers know, or `groups` without a `.rec`.
    """
    problems = Problems(more)
    try:
        kind, found = _find(path, groups, problems)
    except OSError as error:
        raise InputError(path, found=error.strerror, expected="a readable path") from None
    if groups is not None and not kind.startswith(RECORDS):
        raise InputError(
            groups, found=f"groups for a {kind}", expected="a .rec: other kinds hold theirs"
        )
    _compare_sizes(path, found, problems)
    _tell_unaligned(path, found, problems)
    return Inspection(path, kind, tuple(found), problems.lines(), problems.notes.lines())


def _find(path: Path, groups: Path | None, problems: Problems) -> tuple[str, list[GroupFound]]:
    if path.is_file():
        match file_kind(path):
            case "rec":
                return _records(path, groups, problems)
            case "bin":
                return BINS, _bins({path.stem.removesuffix("_test"): path}, problems)
            case "csv" if is_pair_list(path):
                return PAIRS, _pair_list(path, problems)
            case "csv":
                return LISTING, _listing(path, problems)
        raise _nothing(path, f"a {path.suffix or 'nameless'} file")
    if not path.is_dir():
        raise _nothing(path, "no such file or folder")
    if (path / "train.rec").is_file():
        return _records(path / "train.rec", groups, problems)
    bins = group_bins(path)
    if bins:
        return BINS, _bins(bins, problems)
    for root in (path, path / "test"):
        if (root / "txts").is_dir():
            return RFW, rfw_groups(root, problems)
    return _folder(path, problems)


def _folder(path: Path, problems: Problems) -> tuple[str, list[GroupFound]]:
    of_training = Problems(problems.more)  # they count only if this is a training folder
    found = _training(path, of_training)
    if any(group.images for group in found):
        problems.take(of_training)
        return TRAINING, found
    for file in sorted(path.iterdir()):
        if file_kind(file) == "csv" and is_pair_list(file):
            return PAIRS, _pair_list(file, problems)
        if file_kind(file) == "csv" and _is_listing(file):
            return LISTING, _listing(file, problems)
    passed: Counter[str] = Counter()
    unlabelled = _unlabelled(path, problems, passed)
    if not unlabelled.images:
        hint = how_to_read(what.removeprefix("images ") for what in passed)
        raise _nothing(path, "no image at any depth", hint)
    for what, count in passed.items():
        line = f"{path}: passed over: {count:,} {what}"
        problems.notes.add("passed over", line + how_to_read([what.removeprefix("images ")]))
    return UNLABELLED, [unlabelled]


def _is_listing(file: Path) -> bool:
    try:
        next(listing_rows(file, lambda fault: None), None)
    except InputError:  # other columns, or no text
        return False
    return True


def _nothing(path: Path, found: str, hint: str = "") -> InputError:
    kinds = (
        TRAINING,
        LISTING,
        PAIRS,
        f"{RECORDS} (.rec)",
        RFW,
        BINS,
        "images (" + ", ".join(ENDINGS),
    )
    return InputError(path, found=found, expected="; or ".join(kinds) + ")" + hint)


# ---------------------------------------------------------------- kinds


def _training(root: Path, problems: Problems) -> list[GroupFound]:
    """Counts alone are kept: there may be millions of images."""
    groups = {
        group: _count_identities(root, group, problems) for group in _below(root, (root,), problems)
    }
    name_shared(root, groups, problems)
    return [
        describe(
            group, list(counts.values()), _sampled(root / group, counts, problems.more), problems
        )
        for group, counts in groups.items()
    ]


def _count_identities(root: Path, group: str, problems: Problems) -> dict[str, int]:
    """Images of each identity that has any."""
    counts = {}
    for identity in _below(root / group, (root, root / group), problems):
        folder = root / group / identity
        inside, images = entries_of(folder, problems)
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


def _below(folder: Path, above: Sequence[Path], problems: Problems) -> list[str]:
    """The folders in `folder`, where no image should lie, less links to one that holds `above`."""
    names, stray = entries_of(folder, problems)
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


def _listing(path: Path, problems: Problems) -> list[GroupFound]:
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
        sample = [(name, path.parent / name) for name in spread(files[group])]
        found.append(describe(group, list(counts[group].values()), sample, problems))
    return found


def _unlabelled(root: Path, problems: Problems, passed: Counter[str]) -> GroupFound:
    walked = walk_images(root, problems.fault, passed, problems.more)
    counts = {folder: len(names) for folder, names in walked}
    sample = _sampled(root, counts, problems.more)
    return describe("all", None, sample, problems, images=sum(counts.values()))


def _bins(files: Mapping[str, Path], problems: Problems) -> list[GroupFound]:
    found = []
    for group, file in files.items():
        try:
            listed = read_bin(file)
        except InputError as fault:
            problems.fault(fault)
            continue
        sample = [(f"{file}: {image.name}", image.source) for image in spread(listed.images)]
        images = len(listed.images)
        found.append(describe(group, None, sample, problems, images=images, same=listed.same))
    return found


def _pair_list(path: Path, problems: Problems) -> list[GroupFound]:
    found = []
    try:
        groups = pair_list_groups(path)
    except InputError as fault:
        problems.fault(fault)
        return []
    for group in groups:
        try:
            listed = read_pair_list(path, group)
        except InputError as fault:
            problems.fault(fault)
            continue
        counts = list(Counter(image.identity for image in listed.images).values())
        sample = [(image.name, image.source) for image in spread(listed.images)]
        one = describe(group, counts, sample, problems, same=listed.same)
        folds = None if listed.fold is None else int(listed.fold.max()) + 1
        found.append(replace(one, folds=folds))
    return found


def _records(rec: Path, groups: Path | None, problems: Problems) -> tuple[str, list[GroupFound]]:
    from mstkd.data.formats.record_groups import read_record_groups
    from mstkd.data.formats.recordio import Record, open_records

    try:
        records = open_records(rec)
    except InputError as fault:
        problems.fault(fault)
        return RECORDS, []
    names, group = ["all"], np.zeros(len(records.keys), np.int32)  # (N,)
    kind = f"{RECORDS}; its groups are not known: give their .lst or CSV"
    if groups is not None:
        kind = f"{RECORDS}, groups from {printable(str(groups))}"
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
            for row in spread(rows.tolist())
        ]
        found.append(describe(name, counts.tolist(), sample, problems))
    return kind, found


def _names(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except OSError:  # what it should hold is then missing, and told so
        return frozenset()


def _sampled(root: Path, counts: Mapping[str, int], more: Suffixes) -> Sample:
    """Of images that were only counted, folder by folder: the chosen folders are read again."""
    ends = list(itertools.accumulate(counts.values()))
    chosen = defaultdict(list)
    for place in spread(range(ends[-1] if ends else 0)):
        chosen[bisect_right(ends, place)].append(place)
    folders = list(counts)
    sample: list[tuple[str, Source]] = []
    for row, places in chosen.items():
        folder = root / folders[row]
        names = sorted(entries_of(folder, Problems(more))[1])
        start = ends[row] - counts[folders[row]]
        # Of a folder that a download or a copy changes meanwhile, some may be gone.
        sample += [(name, folder / name) for at in places for name in names[at - start :][:1]]
    return sample


def _tell_unaligned(where: Path, groups: Sequence[GroupFound], problems: Problems) -> None:
    """Aligned faces are squares of one size, which `data.image_size` names."""
    sizes = {size for group in groups for size in group.headers.sizes}
    square = {size for size in sizes if len(set(size.split("x"))) == 1}
    if len(sizes) > 1 or sizes - square:
        text = (
            f"{where}: images of {len(sizes)} sizes or no squares: not aligned faces, as it seems; "
            "data.train_alignment and data.verification_alignment take landmarks"
        )
        problems.notes.add("sizes", text)


def _compare_sizes(where: Path, groups: Sequence[GroupFound], problems: Problems) -> None:
    for noun, sizes in (
        ("identities", [group.identities for group in groups]),
        ("images", [group.images for group in groups]),
        ("genuine pairs", [group.genuine for group in groups]),
        ("impostor pairs", [group.impostor for group in groups]),
    ):
        if len(set(sizes)) > 1:
            each = (f"{g.name} {s:,}" for g, s in zip(groups, sizes, strict=True) if s is not None)
            text = f"{where}: groups of unequal size: {noun}: {', '.join(each)}"
            # Published groups differ in people and images; of pairs all have the same number.
            (problems if "pairs" in noun else problems.notes).add("groups of unequal size", text)
