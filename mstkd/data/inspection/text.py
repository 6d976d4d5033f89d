"""What an inspection found, as lines of text for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mstkd.data.inspection.found import SAMPLED, Inspection
from mstkd.errors import printable

NOT_TOLD = "-"


def report_lines(inspection: Inspection) -> list[str]:
    """The findings as lines of plain text: a table of groups, one of headers, the problems."""
    groups = inspection.groups
    names = ["group", *(printable(group.name) for group in groups)]
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
        printable(str(inspection.path)),
        inspection.kind,
        "",
        *_table([column for column in columns if set(column[1:]) != {NOT_TOLD}]),
        "",
        f"Headers of a sample, at most {SAMPLED} images a group, evenly spread:",
        *_table(sampled, text={2, 3}),
        "",
        *(["Notes:", *(f"  {note}" for note in inspection.notes), ""] if inspection.notes else []),
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
