"""Checks of packed data that take minutes and save a week: each tells what it found, or nothing.

Training and verification must share no person. Shapes: P pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mstkd.artifacts.findings import (
    EXAMPLES,
    PICTURES,
    SEVERITIES,
    Finding,
    Findings,
    PackCounts,
    Severity,
)
from mstkd.artifacts.sources import provenance_of
from mstkd.config import CheckSettings
from mstkd.data.checks.copies import copied_images, copies_across, copies_in_training
from mstkd.data.checks.evidence import Packs, Place, counted, finding_of, image_names, record_of
from mstkd.data.checks.known import Count, Kind, compare_with_known
from mstkd.data.formats.bins import are_made_up
from mstkd.data.formats.layouts import composed
from mstkd.data.pack import Pack, bad_file, open_pack
from mstkd.data.pairing import WITH_FOLDS, in_two_blocks
from mstkd.errors import InputError

UNEVEN = 1.1  # the largest group over the smallest
LOST, TIMES = 0.001, 2  # the share of images lost that matters, and against another group's
NAMES = 20  # in one example
UNRELATED = "Not compared: the settings say that equal names are not the same persons."
SIDES = {"train": "training", "verification": "verification"}


def check_data(
    settings: CheckSettings,
    *,
    train: Sequence[Path],
    verification: Sequence[Path],
    output: Path,
) -> None:
    """Look for what spoils a result: overlap, copies, lost images, uneven groups and folds.

    What was found is written to `output`, a `Findings` file; if something is fatal, it is
    written to `<output>.failed.json` too, since Snakemake deletes the outputs of a failed job.

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
        findings=[record_of(finding, packs) for finding in found],
        provenance=provenance_of(
            "check-data", settings, {path: pack.sha256 for path, pack in packs.items()}, output
        ),
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
        found="\n".join([counted(len(fatal), "fatal finding"), *lines, ""]),
        expected="none (data.overlap: warn lets the same persons or images in training and "
        "verification pass, data.same_names: unrelated persons of equal names alone); the file has "
        "the examples",
    )


def find(settings: CheckSettings, *, train: Packs, verification: Packs) -> list[Finding]:
    """All findings; a check that found nothing has one that says so."""
    grave: Severity = "fatal" if settings.overlap == "error" else "warning"
    copies = copied_images((*train, *verification))
    checks = {
        "known counts": known_counts(settings.expected, train, verification),
        "identity overlap": [Finding("identity overlap", "note", UNRELATED)]
        if settings.same_names == "unrelated"
        else overlapping_identities(train, verification, grave),
        "image overlap": copies_across(copies, grave),
        "copies of two identities": copies_in_training(copies, within_one=False),
        "copies of one identity": copies_in_training(copies, within_one=True),
        "bad images": left_out_images(train) + left_out_images(verification),
        "uneven groups": group_sizes(train) + group_sizes(verification),
        "identities of one image": chain.from_iterable(map(single_images, train)),
        "identities in two groups": identities_in_two_groups(verification),
        "unbalanced folds": chain.from_iterable(
            fold_balance(pack, settings.folds, settings.selection_folds or settings.folds)
            for pack in verification
        ),
        "repeated pairs": chain.from_iterable(map(repeated_pairs, verification)),
    }
    if any(pack.sources for pack in train):
        checks["sources"] = chain.from_iterable(map(sources, train))
    findings = []
    for check, found in checks.items():
        none = "No identical pixels found." if check == "image overlap" else "None found."
        findings += list(found) or [Finding(check, "note", none)]
    return findings


# ---------------------------------------------------------------- persons in two places


def overlapping_identities(train: Packs, verification: Packs, severity: Severity) -> list[Finding]:
    """Identities of one name in training and verification, whatever their groups and sources.

    Pairs held out of training images name their sources too: there a name is of its source.
    """
    bare = not any(pack.sources for pack in verification)
    trained = _packs_by_name(train, bare=bare)
    tested = _packs_by_name(filter(_has_names, verification), bare=bare)
    shared = sorted(trained.keys() & tested.keys())
    if not shared:
        return []
    images = sum(
        int(np.isin(pack.identity, _numbers(pack, shared, bare=bare)).sum()) for pack in train
    )
    apart = sum(not set(_groups(trained[name])) & set(_groups(tested[name])) for name in shared)
    message = (
        f"Training and verification share {counted(len(shared), 'identity', 'identities')} "
        f"({counted(images, 'training image')}), {apart:,} of them under another group only."
    )
    examples = [
        f"{name} (training: {', '.join(_homes(trained[name], name, bare=bare))}; "
        f"verification: {', '.join(_groups(tested[name]))})"
        for name in shared[:EXAMPLES]
    ]
    some = shared[:PICTURES]
    seen = [_first(of[name][0], name, bare=bare) for name in some for of in (trained, tested)]
    return [finding_of("identity overlap", severity, message, examples, seen)]


def identities_in_two_groups(packs: Packs) -> list[Finding]:
    """Verification identities listed under several groups; an example a set of groups."""
    several = {
        name: of for name, of in _packs_by_name(filter(_has_names, packs)).items() if len(of) > 1
    }
    if not several:
        return []
    by_groups: dict[str, list[str]] = {}
    for name, of in sorted(several.items()):
        by_groups.setdefault(" and ".join(_groups(of)), []).append(name)
    examples = [f"{groups}: {_listed(names)}" for groups, names in by_groups.items()]
    of_all = counted(len(several), "verification identity", "verification identities")
    message = f"Under two groups or more: {of_all}."
    some = sorted(several.items())[:PICTURES]
    seen = [_first(pack, name) for name, of in some for pack in of[:2]]
    return [finding_of("identities in two groups", "note", message, examples, seen)]


# ---------------------------------------------------------------- groups that cannot be compared


def known_counts(expected: Literal["bupt-rfw"] | None, train: Packs, test: Packs) -> list[Finding]:
    """What the data held, packed or not, against the data sets expected, if any are."""
    if expected is None:
        message = "Not compared: the settings expect no published data set."
        return [Finding("known counts", "note", message)]
    sides: dict[Kind, Packs] = {"train": train, "verification": test}
    return compare_with_known(
        expected,
        {kind: {pack.group: _found(pack) for pack in packs} for kind, packs in sides.items()},
    )


def _found(pack: Pack) -> Count:
    """What was there and whole: a broken download has its files, but they are bad."""
    images = pack.found.images - len(_left_out(pack))
    return Count(images, pack.found.identities if _has_names(pack) else None)


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
    return [finding_of("bad images", "warning" if biased else "note", message, examples)]


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
    return [finding_of("identities of one image", "note", message, names, seen, pack.group)]


def sources(pack: Pack) -> list[Finding]:
    """How many identities and images of each source, and of whose name another source has one."""
    homes = np.array([pack.source_of(name)[0] for name in pack.identity_names])
    images = homes[pack.identity]
    counts = ", ".join(
        f"{counted(int((homes == source).sum()), 'identity', 'identities')} "
        f"({counted(int((images == source).sum()), 'image')}) of {source}"
        for source in pack.sources
    )
    findings = [Finding("sources", "note", f"Training images: {counts}.", pack.group)]
    times = Counter(_names(pack, bare=True))
    again = sorted(name for name, number in times.items() if number > 1)
    if again:
        message = f"In two sources or more, taken for different persons: {len(again):,} names."
        seen = [
            (pack, int(np.argmax(pack.identity == n))) for n in _numbers(pack, again, bare=True)
        ]
        findings.append(finding_of("sources", "note", message, again, seen, pack.group))
    return findings


# ---------------------------------------------------------------- pairs


def fold_balance(pack: Pack, folds: int, selection_folds: int = 0) -> list[Finding]:
    """Folds, the list's own or contiguous, of unlike counts or with shared identities.

    Fatal are pairs on which neither evaluation nor the choice of epochs could work: fewer than the
    folds that either makes, of one class only, or those of one class before all of the other.
    """
    pairs, same = _pairs(pack)
    most = max(folds, selection_folds)
    if len(pairs) < most and pack.fold is None:
        message = f"{counted(len(pairs), 'pair')} cannot make {most} folds."
        return [Finding("unbalanced folds", "fatal", message, pack.group)]
    if same.all() or not same.any():
        kind = "genuine" if same.any() else "impostor"
        message = f"Only {kind} pairs: no threshold can be chosen on them."
        return [Finding("unbalanced folds", "fatal", message, pack.group)]
    if pack.fold is None and in_two_blocks(same):
        kind = "genuine" if same[0] else "impostor"
        message = (
            f"All {kind} pairs come first: contiguous folds have one kind each, on which accuracy "
            f"says nothing. {WITH_FOLDS}."
        )
        return [Finding("unbalanced folds", "fatal", message, pack.group)]
    findings = []
    rows = np.array_split(np.arange(len(pairs)), folds)  # the first folds one larger if need be
    kind = "contiguous folds"
    if pack.fold is not None:
        rows = [np.flatnonzero(pack.fold == fold) for fold in range(int(pack.fold.max()) + 1)]
        kind = "folds"
    counts = [(int(same[of].sum()), int((~same[of]).sum())) for of in rows]  # genuine, impostor
    # Folds differ by one pair at most, so those that are even in themselves are all alike.
    if pack.fold is not None and not any(min(both) for both in counts):
        message = "Every fold has pairs of one kind only, on which accuracy says nothing."
        return [Finding("unbalanced folds", "fatal", message, pack.group)]
    odd = [fold for fold, (genuine, impostor) in enumerate(counts) if genuine != impostor]
    if odd:
        message = f"Not balanced: {len(odd)} of {len(rows)} {kind}."
        examples = [
            f"fold {fold + 1}: {counts[fold][0]:,} genuine, {counts[fold][1]:,} impostor"
            for fold in odd
        ]
        findings.append(
            finding_of("unbalanced folds", "warning", message, examples, group=pack.group)
        )
    of_folds = np.concatenate([np.unique(pack.identity[pairs[of]]) for of in rows])
    numbers, times = np.unique(of_folds, return_counts=True)
    shared = [pack.identity_names[number] for number in numbers[times > 1]]
    if shared:
        message = f"In two folds or more: {len(shared):,} of {len(numbers):,} identities."
        findings.append(finding_of("unbalanced folds", "note", message, shared, group=pack.group))
    return findings


def repeated_pairs(pack: Pack) -> list[Finding]:
    """Pairs of an image with itself, and those that stand in the list again, in either order."""
    pairs, _ = _pairs(pack)
    selves = pairs[pairs[:, 0] == pairs[:, 1], 0]
    if len(selves):
        message = f"An image with itself: {counted(len(selves), 'pair')}."
        seen = [(pack, row) for row in selves[:EXAMPLES].tolist()]
        examples = image_names(seen)
        return [finding_of("repeated pairs", "fatal", message, examples, seen, pack.group)]
    ordered, times = np.unique(np.sort(pairs, axis=1), axis=0, return_counts=True)
    again = ordered[times > 1]
    if not len(again):
        return []
    message = f"Listed again, in either order: {len(pairs) - len(times):,} of {len(pairs):,} pairs."
    seen = [(pack, row) for row in again[:EXAMPLES].ravel().tolist()]
    names = iter(image_names(seen))
    examples = [f"{one} and {other}" for one, other in zip(names, names, strict=True)]
    return [finding_of("repeated pairs", "warning", message, examples, seen, pack.group)]


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


def _has_names(pack: Pack) -> bool:
    """Whether its identities are persons', not made up for want of names."""
    return not are_made_up(pack.identity_names)


def _names(pack: Pack, *, bare: bool) -> list[str]:
    """The names of all identities in one spelling; bare ones do not say the source."""
    names = pack.identity_names
    return [composed(pack.source_of(name)[1] if bare else name) for name in names]


def _packs_by_name(packs: Iterable[Pack], *, bare: bool = False) -> dict[str, list[Pack]]:
    by_name: dict[str, list[Pack]] = {}
    for pack in packs:
        for name in dict.fromkeys(_names(pack, bare=bare)):
            by_name.setdefault(name, []).append(pack)
    return by_name


def _numbers(pack: Pack, names: Iterable[str], *, bare: bool = False) -> list[int]:
    wanted = set(names)
    return [number for number, name in enumerate(_names(pack, bare=bare)) if name in wanted]


def _first(pack: Pack, name: str, *, bare: bool = False) -> Place:
    """The first image of an identity, whose name may be spelt in another form there."""
    number = _names(pack, bare=bare).index(composed(name))
    return pack, int(np.argmax(pack.identity == number))


def _homes(packs: Packs, name: str, *, bare: bool) -> list[str]:
    """The groups in which identities of a name are, and their sources where there are several."""
    return [
        pack.group + (f" from {source}" if source else "")
        for pack in packs
        for number in _numbers(pack, [name], bare=bare)
        for source, _ in [pack.source_of(pack.identity_names[number])]
    ]


def _pairs(pack: Pack) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    assert pack.pairs is not None and pack.same is not None, "opened as a verification pack"
    return pack.pairs, pack.same


def _left_out(pack: Pack) -> list[str]:
    """Lines of the list beside the pack, `path: reason`."""
    listing = bad_file(pack.path)
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
        images_found=pack.found.images,
        identities_found=pack.found.identities,
        left_out=len(_left_out(pack)),
        genuine=genuine,
        impostor=None if pack.same is None or genuine is None else len(pack.same) - genuine,
        sha256=pack.sha256,
    )
