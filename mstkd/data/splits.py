"""Which identities each teacher is trained on.

Of baseline teachers section 4.5: random, disjoint and balanced over groups and teachers. A
specialized teacher has all of its group, or gives a share of them for as many of the others.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mstkd.artifacts.atomic import replacing
from mstkd.artifacts.cells import as_cell, from_cell
from mstkd.artifacts.provenance import beside, read_sidecar, sidecar
from mstkd.artifacts.sources import provenance_of
from mstkd.config import SplitSettings
from mstkd.data.pack import open_pack
from mstkd.errors import InputError, printable
from mstkd.seeds import seed_from

COLUMNS = ["group", "identity"]
Split = dict[str, list[str]]  # identities by group, both sorted


def deal(names_by_group: Mapping[str, Sequence[str]], teachers: int, seed: int) -> list[Split]:
    """Deal identities to teachers like cards: a split for each teacher.

    Each group is shuffled by `seed` and its own name, then dealt on from where the last group
    stopped, groups in the order of their names. So every identity goes to one teacher, and both
    a group's share and the whole differ by at most one identity between teachers.
    """
    splits: list[Split] = [{} for _ in range(teachers)]
    first = 0
    for group in sorted(names_by_group):
        names = sorted(names_by_group[group])
        random = np.random.default_rng(seed_from("split", seed, group))
        shuffled = [names[i] for i in random.permutation(len(names))]
        for teacher, split in enumerate(splits):
            own = shuffled[(teacher - first) % teachers :: teachers]
            if own:
                split[group] = sorted(own)
        first = (first + len(names)) % teachers
    return splits


def mix(names_by_group: Mapping[str, Sequence[str]], share: float, seed: int) -> dict[str, Split]:
    """Specialized splits with a share of other groups, by the group whose teacher's each is.

    Each group is shuffled by `seed` and its own name, and its first `share` (to the nearest
    identity) is dealt evenly to the other groups' teachers. So every identity goes to one teacher;
    of groups of equal numbers all splits are as large as their group, and `share` of each is of the
    others. A larger share moves what a smaller one moves, and more. At (G - 1) / G of G groups each
    split is mixed as those of `deal`, from another shuffle.
    """
    groups = sorted(names_by_group)
    splits: dict[str, Split] = {group: {} for group in groups}
    for place, group in enumerate(groups):
        names = sorted(names_by_group[group])
        random = np.random.default_rng(seed_from("foreign", seed, group))
        shuffled = [names[i] for i in random.permutation(len(names))]
        given = int(share * len(names) + 0.5)
        others = groups[place + 1 :] + groups[:place]
        hands = {other: shuffled[n : given : len(others)] for n, other in enumerate(others)}
        for owner, own in {group: shuffled[given:], **hands}.items():
            if own:
                splits[owner][group] = sorted(own)
    return splits


def split(settings: SplitSettings, *, packs: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Deal the identities of training packs over the outputs, CSV files `group,identity`.

    With a `foreign_share` the one output is the split of that group's specialized teacher. With a
    `training_seed` both seeds decide the draw.

    Raises:
        InputError: not a training pack, two packs of one group, or fewer identities than
            outputs; with a share, no pack of its group or of another, or several outputs.
    """
    names_by_group: dict[str, tuple[str, ...]] = {}
    read: dict[Path, str] = {}
    for path in packs:
        pack = open_pack(path, "train")
        if pack.group in names_by_group:
            raise InputError(path, found=f"group {pack.group} again", expected="a pack a group")
        names_by_group[pack.group] = pack.identity_names
        read[path] = pack.sha256
    identities = sum(map(len, names_by_group.values()))
    if identities < len(outputs):
        where = ", ".join(map(str, packs))
        raise InputError(
            where, found=f"{identities} identities", expected=f"{len(outputs)} or more to deal"
        )
    dealt = _dealt(settings, names_by_group, outputs)
    with replacing(*map(sidecar, outputs), *outputs) as parts:
        records, tables = parts[: len(outputs)], parts[len(outputs) :]
        for output, record, table, own in zip(outputs, records, tables, dealt, strict=True):
            text = _table(own)
            record.write_text(beside(text, provenance_of("split", settings, read, output)), "utf-8")
            table.write_text(text, encoding="utf-8")


def _dealt(
    settings: SplitSettings, names_by_group: Mapping[str, Sequence[str]], outputs: Sequence[Path]
) -> list[Split]:
    seed = settings.seed
    if settings.training_seed is not None:
        seed = seed_from("splits of a training seed", settings.seed, settings.training_seed)
    if settings.foreign_share is None or settings.group is None:
        return deal(names_by_group, len(outputs), seed)
    if settings.group not in names_by_group or len(names_by_group) < 2:
        found = f"packs of {', '.join(names_by_group)}"
        raise InputError("packs", found=found, expected=f"those of {settings.group} and of others")
    if len(outputs) != 1:
        expected = f"one, of the teacher of {settings.group}"
        raise InputError("outputs", found=f"{len(outputs)} files", expected=expected)
    return [mix(names_by_group, settings.foreign_share, seed)[settings.group]]


def read_split(path: Path) -> Split:
    """The identities by group of a file that `split` wrote.

    Raises:
        InputError: no such file; a line that is none of a split, which it names; or another
            split than the record beside it speaks of.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(path, found="no such file", expected="a split") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, found=str(error), expected="a readable CSV file") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    seen: dict[str, set[str]] = {}
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}", found=error, expected="CSV") from None
    if not rows or rows[0][1] != COLUMNS:
        found = printable(",".join(rows[0][1])) if rows else "an empty file"
        raise InputError(f"{path}:1", found=found, expected=",".join(COLUMNS))
    for line, row in rows[1:]:
        if len(row) != 2 or "" in row:
            found = printable(",".join(row))
            raise InputError(f"{path}:{line}", found=found, expected="a group, an identity")
        group, identity = row[0], from_cell(row[1])
        if identity in seen.setdefault(group, set()):
            found = f"identity {identity!r} of group {printable(group)} again"
            raise InputError(f"{path}:{line}", found=found, expected="every identity once")
        seen[group].add(identity)
    if not seen:
        raise InputError(path, found="no identities", expected="a line for each identity")
    told = read_sidecar(path)
    if told is not None and not told[1]:
        expected = f"those that {sidecar(path)} tells of; delete that if the split is your own"
        raise InputError(path, found="other contents than were written", expected=expected)
    return {group: sorted(identities) for group, identities in sorted(seen.items())}


def _table(own: Split) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(
        (group, as_cell(identity)) for group in sorted(own) for identity in sorted(own[group])
    )
    return text.getvalue()
