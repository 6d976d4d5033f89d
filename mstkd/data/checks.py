"""Checks of packed data that take minutes and save a week: each tells what it found, or nothing.

Training and verification must share no person; copies are images that are equal in every
pixel. Shapes: N images, P pairs.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mstkd.config import CheckSettings
from mstkd.data.known import Count, Kind, compare_with_known
from mstkd.data.pack import Pack, open_pack
from mstkd.errors import InputError
from mstkd.findings import (
    EXAMPLES,
    PICTURES,
    SEVERITIES,
    Finding,
    FindingRecord,
    Findings,
    PackCounts,
    Picture,
    Severity,
)
from mstkd.progress import Advance, progress

CHUNK = 1024  # images mapped at a time
DIGEST = 16  # bytes; two of 1.25 million images share one by chance in 1 of 10^26 runs
UNEVEN = 1.1  # the largest group over the smallest
LOST, TIMES = 0.001, 2  # the share of images lost that matters, and against another group's
NAMES = 20  # in one example
SIDES = {"train": "training", "verification": "verification"}
PICTURE_SIDE = 112  # pixels, at most

Packs = Sequence[Pack]
Place = tuple[Pack, int]  # an image: its pack and its row there


def check_data(
    settings: CheckSettings,
    *,
    train: Sequence[Path],
    verification: Sequence[Path],
    output: Path,
) -> None:
    """Check the packs and write what was found, a `Findings` file, to `output`.

    Images are read once, in chunks. If something fatal was found, the findings are written to
    `<output>.failed.json` too, since Snakemake deletes the outputs of a failed job.

    Args:
        settings: what is expected, what is fatal, and the folds that the pairs will make.
        train: training packs, one a group.
        verification: verification packs, one a group.
        output: a .json file.

    Raises:
        InputError: not a pack, two packs of one group, or something fatal was found.
    """
    trained, tested = _open(train, "train"), _open(verification, "verification")
    found = find(settings, train=trained, verification=tested)
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    packs = {pack.path: pack for pack in (*trained, *tested)}
    record = Findings(
        packs=[_counts(pack, "train") for pack in trained]
        + [_counts(pack, "verification") for pack in tested],
        findings=[_record(finding, packs) for finding in found],
    )
    record.write(output)
    failed = output.with_suffix(".failed.json")
    fatal = [finding for finding in found if finding.severity == "fatal"]
    if not fatal:
        failed.unlink(missing_ok=True)
        return
    record.write(failed)
    lines = (
        f"  {one.check}{f', {one.group}' if one.group else ''}: {one.message}" for one in fatal
    )
    raise InputError(
        failed,
        found="\n".join([_count(len(fatal), "fatal finding"), *lines, ""]),
        expected="none (data.overlap: warn lets the same persons or images in training and "
        "verification pass); the file has the examples",
    )


def find(settings: CheckSettings, *, train: Packs, verification: Packs) -> list[Finding]:
    """All findings; a check that found nothing has one that says so."""
    grave: Severity = "fatal" if settings.overlap == "error" else "warning"
    copies = copied_images((*train, *verification))
    checks = {
        "known counts": known_counts(settings.expected, train, verification),
        "identity overlap": overlapping_identities(train, verification, grave),
        "image overlap": copies_across(copies, grave),
        "copies of two identities": copies_in_training(copies, within_one=False),
        "copies of one identity": copies_in_training(copies, within_one=True),
        "bad images": left_out_images(train) + left_out_images(verification),
        "uneven groups": group_sizes(train) + group_sizes(verification),
        "identities of one image": chain.from_iterable(map(single_images, train)),
        "identities in two groups": identities_in_two_groups(verification),
        "unbalanced folds": chain.from_iterable(
            fold_balance(pack, settings.folds) for pack in verification
        ),
        "repeated pairs": chain.from_iterable(map(repeated_pairs, verification)),
    }
    findings = []
    for check, found in checks.items():
        findings += list(found) or [Finding(check, "note", "None found.")]
    return findings


# ---------------------------------------------------------------- persons in two places


def overlapping_identities(train: Packs, verification: Packs, severity: Severity) -> list[Finding]:
    """Identities of one name in training and verification, whatever their groups."""
    trained, tested = _packs_by_name(train), _packs_by_name(verification)
    shared = sorted(trained.keys() & tested.keys())
    if not shared:
        return []
    images = sum(int(np.isin(pack.identity, _numbers(pack, shared)).sum()) for pack in train)
    apart = sum(not set(_groups(trained[name])) & set(_groups(tested[name])) for name in shared)
    message = (
        f"Training and verification share {_count(len(shared), 'identity', 'identities')} "
        f"({_count(images, 'training image')}), {apart:,} of them under another group only."
    )
    examples = [
        f"{name} (training: {', '.join(_groups(trained[name]))}; "
        f"verification: {', '.join(_groups(tested[name]))})"
        for name in shared[:EXAMPLES]
    ]
    some = shared[:PICTURES]
    seen = [_first(packs[name][0], name) for name in some for packs in (trained, tested)]
    return [_finding("identity overlap", severity, message, examples, seen)]


def identities_in_two_groups(packs: Packs) -> list[Finding]:
    """Verification identities listed under several groups; an example a set of groups."""
    several = {name: of for name, of in _packs_by_name(packs).items() if len(of) > 1}
    if not several:
        return []
    by_groups: dict[str, list[str]] = {}
    for name, of in sorted(several.items()):
        by_groups.setdefault(" and ".join(_groups(of)), []).append(name)
    examples = [f"{groups}: {_listed(names)}" for groups, names in by_groups.items()]
    of_all = _count(len(several), "verification identity", "verification identities")
    message = f"Under two groups or more: {of_all}."
    some = sorted(several.items())[:PICTURES]
    seen = [_first(pack, name) for name, of in some for pack in of[:2]]
    return [_finding("identities in two groups", "note", message, examples, seen)]


# ---------------------------------------------------------------- copies


def copied_images(packs: Packs) -> list[list[Place]]:
    """Sets of two images or more that are equal in every pixel, in the order of the packs."""
    total = sum(len(pack.images) for pack in packs)
    with progress("check images", total, "images") as advance:
        digests = np.concatenate([image_digests(pack, advance) for pack in packs])
    _, which, times = np.unique(digests, return_inverse=True, return_counts=True)
    starts = np.cumsum([0, *(len(pack.images) for pack in packs)])
    sets: dict[int, list[Place]] = {}
    for index in np.flatnonzero(times[which] > 1).tolist():
        number = int(np.searchsorted(starts, index, side="right")) - 1
        place = packs[number], index - int(starts[number])
        sets.setdefault(int(which[index]), []).append(place)
    return list(sets.values())


def image_digests(pack: Pack, advance: Advance) -> NDArray[np.bytes_]:
    """A digest (N,) of each image's pixels, `DIGEST` bytes long."""
    digests = bytearray()
    for begin in range(0, len(pack.images), CHUNK):
        chunk = np.asarray(pack.images[begin : begin + CHUNK])
        for image in chunk:
            digests += hashlib.blake2b(image.data, digest_size=DIGEST).digest()
        advance(len(chunk))
    return np.frombuffer(digests, f"S{DIGEST}")


def copies_across(copies: Iterable[Sequence[Place]], severity: Severity) -> list[Finding]:
    """Images of verification that are in training too."""
    sets = []
    for places in copies:
        trained = [place for place in places if place[0].kind == "train"]
        tested = [place for place in places if place[0].kind == "verification"]
        if trained and tested:
            sets.append((trained, tested))
    if not sets:
        return []
    trained_images, tested_images = (sum(len(both[i]) for both in sets) for i in (0, 1))
    message = (
        f"{_count(tested_images, 'verification image')} and "
        f"{_count(trained_images, 'training image')} are copies of each other, pixel for pixel."
    )
    return [_copies("image overlap", severity, message, [(a[0], b[0]) for a, b in sets])]


def copies_in_training(copies: Iterable[Sequence[Place]], *, within_one: bool) -> list[Finding]:
    """Training images that occur again: all under one identity, or under two or more."""
    sets = []
    for places in copies:
        trained = [place for place in places if place[0].kind == "train"]
        identities = {(pack.group, int(pack.identity[row])) for pack, row in trained}
        if len(trained) > 1 and (len(identities) == 1) == within_one:
            sets.append(trained)
    if not sets:
        return []
    images = sum(map(len, sets))
    if within_one:
        again = _count(images - len(sets), "training image")
        message = f"Copies of another image of the same identity, pixel for pixel: {again}."
        shown = [(places[0], places[1]) for places in sets]
        return [_copies("copies of one identity", "note", message, shown)]
    message = (
        f"{images:,} training images are copies of each other ({_count(len(sets), 'picture')}) "
        "under two identities or more."
    )
    shown = [(places[0], _other_identity(places)) for places in sets]
    return [_copies("copies of two identities", "warning", message, shown)]


def _other_identity(places: Sequence[Place]) -> Place:
    first, row = places[0]
    return next(
        (pack, other)
        for pack, other in places
        if (pack.group, pack.identity[other]) != (first.group, first.identity[row])
    )


def _copies(
    check: str, severity: Severity, message: str, pairs: Sequence[tuple[Place, Place]]
) -> Finding:
    names = iter(_image_names([place for pair in pairs[:EXAMPLES] for place in pair]))
    examples = [f"{one} = {other}" for one, other in zip(names, names, strict=True)]
    return _finding(check, severity, message, examples, [place for pair in pairs for place in pair])


# ---------------------------------------------------------------- groups that cannot be compared


def known_counts(expected: Literal["bupt-rfw"] | None, train: Packs, test: Packs) -> list[Finding]:
    """Counts against those of the data sets expected, if any are."""
    if expected is None:
        message = "Not compared: the settings expect no published data set."
        return [Finding("known counts", "note", message)]
    sides: dict[Kind, Packs] = {"train": train, "verification": test}
    return compare_with_known(
        expected,
        {
            kind: {pack.group: Count(len(pack.images), len(pack.identity_names)) for pack in packs}
            for kind, packs in sides.items()
        },
    )


def left_out_images(packs: Packs) -> list[Finding]:
    """Images left out as bad; a warning where that weakens one group more than another."""
    lost = {pack.group: _left_out(pack) for pack in packs}
    if not any(lost.values()):
        return []
    shares = {p.group: len(lost[p.group]) / (len(p.images) + len(lost[p.group])) for p in packs}
    most, least = max(shares.values()), min(shares.values())
    counts = ", ".join(
        f"{len(lost[group]):,} of {group} ({100 * share:.2f} %)" for group, share in shares.items()
    )
    biased = most > LOST and most > TIMES * least
    message = f"Bad {SIDES[packs[0].kind]} images were left out: {counts}"
    message += "; losses that differ bias a comparison of groups." if biased else "."
    examples = list(chain.from_iterable(lost.values()))
    return [_finding("bad images", "warning" if biased else "note", message, examples)]


def group_sizes(packs: Packs) -> list[Finding]:
    """Groups of unequal size, in images or in identities."""
    findings = []
    for what, sizes in (
        ("images", {pack.group: len(pack.images) for pack in packs}),
        ("identities", {pack.group: len(pack.identity_names) for pack in packs}),
    ):
        large, small = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
        if sizes[large] > UNEVEN * sizes[small]:
            message = (
                f"Uneven {SIDES[packs[0].kind]} {what}: {sizes[large]:,} of {large}, "
                f"{sizes[large] / sizes[small]:.2f} times the {sizes[small]:,} of {small}."
            )
            findings.append(Finding("uneven groups", "warning", message))
    return findings


def single_images(pack: Pack) -> list[Finding]:
    """Identities with one image, which show a network nothing that may vary in a person."""
    images = np.bincount(pack.identity, minlength=len(pack.identity_names))
    names = [pack.identity_names[number] for number in np.flatnonzero(images == 1)]
    if not names:
        return []
    message = f"One image only: {len(names):,} of {len(pack.identity_names):,} identities."
    seen = [_first(pack, name) for name in names[:PICTURES]]
    return [_finding("identities of one image", "note", message, names, seen, pack.group)]


# ---------------------------------------------------------------- pairs


def fold_balance(pack: Pack, folds: int) -> list[Finding]:
    """Contiguous folds, as verification makes them, of unlike counts or with shared identities."""
    pairs, same = _pairs(pack)
    if len(pairs) < folds:
        message = f"{_count(len(pairs), 'pair')} cannot make {folds} folds."
        return [Finding("unbalanced folds", "fatal", message, pack.group)]
    findings = []
    rows = np.array_split(np.arange(len(pairs)), folds)  # the first folds one larger if need be
    counts = [(int(same[of].sum()), int((~same[of]).sum())) for of in rows]  # genuine, impostor
    # Folds differ by one pair at most, so those that are even in themselves are all alike.
    odd = [fold for fold, (genuine, impostor) in enumerate(counts) if genuine != impostor]
    if odd:
        message = f"Not balanced: {len(odd)} of {folds} contiguous folds."
        examples = [
            f"fold {fold + 1}: {counts[fold][0]:,} genuine, {counts[fold][1]:,} impostor"
            for fold in odd
        ]
        findings.append(
            _finding("unbalanced folds", "warning", message, examples, group=pack.group)
        )
    of_folds = np.concatenate([np.unique(pack.identity[pairs[of]]) for of in rows])
    numbers, times = np.unique(of_folds, return_counts=True)
    shared = [pack.identity_names[number] for number in numbers[times > 1]]
    if shared:
        message = f"In two folds or more: {len(shared):,} of {len(numbers):,} identities."
        findings.append(_finding("unbalanced folds", "note", message, shared, group=pack.group))
    return findings


def repeated_pairs(pack: Pack) -> list[Finding]:
    """Pairs that stand in the list again, in either order: they count twice."""
    pairs, _ = _pairs(pack)
    ordered, times = np.unique(np.sort(pairs, axis=1), axis=0, return_counts=True)
    again = ordered[times > 1]
    if not len(again):
        return []
    message = f"Listed again, in either order: {len(pairs) - len(times):,} of {len(pairs):,} pairs."
    seen = [(pack, row) for row in again[:EXAMPLES].ravel().tolist()]
    names = iter(_image_names(seen))
    examples = [f"{one} and {other}" for one, other in zip(names, names, strict=True)]
    return [_finding("repeated pairs", "warning", message, examples, seen, pack.group)]


# ---------------------------------------------------------------- packs


def _open(paths: Sequence[Path], kind: Kind) -> list[Pack]:
    packs: list[Pack] = []
    for path in paths:
        pack = open_pack(path, kind)
        if pack.group in _groups(packs):
            raise InputError(path, found=f"group {pack.group} again", expected="a pack a group")
        packs.append(pack)
    if not packs:
        raise InputError(kind, found="no pack", expected="one or more")
    return packs


def _groups(packs: Packs) -> list[str]:
    return [pack.group for pack in packs]


def _packs_by_name(packs: Packs) -> dict[str, list[Pack]]:
    by_name: dict[str, list[Pack]] = {}
    for pack in packs:
        for name in pack.identity_names:
            by_name.setdefault(name, []).append(pack)
    return by_name


def _numbers(pack: Pack, names: Iterable[str]) -> list[int]:
    wanted = set(names)
    return [number for number, name in enumerate(pack.identity_names) if name in wanted]


def _first(pack: Pack, name: str) -> Place:
    return pack, int(np.argmax(pack.identity == pack.identity_names.index(name)))


def _pairs(pack: Pack) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    assert pack.pairs is not None and pack.same is not None, "opened as a verification pack"
    return pack.pairs, pack.same


def _image_names(places: Sequence[Place]) -> list[str]:
    paths = {path: pack.image_paths() for path, pack in {p.path: p for p, _ in places}.items()}
    return [paths[pack.path][row] for pack, row in places]


def _left_out(pack: Pack) -> list[str]:
    """Lines of the list beside the pack, `path: reason`."""
    listing = pack.path.with_name(f"{pack.path.name}.bad.txt")
    try:
        lines = listing.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(listing, found=error, expected="a list of bad images") from None
    bad = [(number, *line.partition("\t")) for number, line in enumerate(lines, 1) if line]
    for number, _, tab, _ in bad:
        if not tab:
            found = "a line without a tab"
            raise InputError(f"{listing}:{number}", found=found, expected="a path, a tab, a reason")
    return [f"{path}: {reason}" for _, path, _, reason in bad]


# ---------------------------------------------------------------- the record


def _finding(
    check: str,
    severity: Severity,
    message: str,
    examples: Sequence[str] = (),
    seen: Sequence[Place] = (),
    group: str | None = None,
) -> Finding:
    pictures = tuple((pack.path, row) for pack, row in seen[:PICTURES])
    return Finding(check, severity, message, group, tuple(examples[:EXAMPLES]), pictures)


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"1 {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMES
    return ", ".join(names[:NAMES]) + (f" and {more:,} more" if more > 0 else "")


def _counts(pack: Pack, kind: Kind) -> PackCounts:
    genuine = None if pack.same is None else int(pack.same.sum())
    return PackCounts(
        kind=kind,
        group=pack.group,
        images=len(pack.images),
        identities=len(pack.identity_names),
        left_out=len(_left_out(pack)),
        genuine=genuine,
        impostor=None if pack.same is None or genuine is None else len(pack.same) - genuine,
        sha256=pack.sha256,
    )


def _record(finding: Finding, packs: Mapping[Path, Pack]) -> FindingRecord:
    places = [(packs[path], row) for path, row in finding.pictures]
    names = _image_names(places)
    return FindingRecord(
        check=finding.check,
        severity=finding.severity,
        message=finding.message,
        group=finding.group,
        examples=list(finding.examples),
        pictures=[
            Picture(name=name, png=_png(pack.images[row]))
            for name, (pack, row) in zip(names, places, strict=True)
        ],
    )


def _png(pixels: NDArray[np.uint8]) -> str:
    image = Image.fromarray(pixels)
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True)
    return base64.b64encode(data.getvalue()).decode("ascii")
