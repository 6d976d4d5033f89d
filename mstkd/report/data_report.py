"""What the checks of the data found, as a page of HTML that needs no other file, and Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from mstkd.artifacts.atomic import replacing
from mstkd.artifacts.findings import SEVERITIES, FindingRecord, Findings, PackCounts
from mstkd.artifacts.provenance import embedded, hashed
from mstkd.artifacts.records import read_record
from mstkd.artifacts.sources import provenance_of
from mstkd.errors import InputError, printable
from mstkd.report.templates import page_html

TITLE = "What the data are, and what is wrong with them"
COLUMNS = (
    "Training images",
    "identities",
    "bad",
    "Verification images",
    "identities",
    "genuine pairs",
    "impostor pairs",
)
NOTHING = "–"
KEY = (
    "“5 of 7”: 5 are packed of 7 that the data held. "
    "The rest is bad, excluded, or held out to make pairs of."
)
MARKDOWN_SIGNS = frozenset("\\`*_|<>[]~&#")


Amount = tuple[int, int]  # packed and found; twice the same where nothing can be left out


class Row(NamedTuple):
    """A group's line of the table of counts, a cell for each of `COLUMNS`."""

    group: str
    cells: tuple[str, ...]


def render_data_report(findings: Path, outputs: Sequence[Path]) -> None:
    """Write the data report in the formats that the outputs' suffixes name.

    Args:
        findings: findings.json, or the findings.failed.json of a check that stopped the run.
        outputs: paths ending in .html, with pictures, or .md, without.

    Raises:
        InputError: a suffix is unknown, or the findings are missing or are not such a file.
    """
    for output in outputs:
        if output.suffix not in FORMATS:
            raise InputError(output, found=output.suffix, expected=", ".join(FORMATS))
    record = read_record(Findings, findings)
    found = sorted(record.findings, key=lambda one: SEVERITIES.index(one.severity))
    rows = count_rows(record.packs)
    texts = [
        embedded(
            FORMATS[output.suffix](rows, found),
            provenance_of("render-data-report", None, hashed([findings]), output),
            output.suffix,
        )
        for output in outputs
    ]
    with replacing(*outputs) as parts:
        for part, text in zip(parts, texts, strict=True):
            part.write_text(text, encoding="utf-8")


def count_rows(packs: Sequence[PackCounts]) -> list[Row]:
    """A row a group, in the order in which the packs name them, and one of sums."""
    groups = dict.fromkeys(pack.group for pack in packs)
    train, verification = (
        {pack.group: _numbers(pack) for pack in packs if pack.kind == kind}
        for kind in ("train", "verification")
    )
    lines = [
        [*train.get(group, [None] * 3), *verification.get(group, [None] * 4)] for group in groups
    ]
    rows = [Row(group, _cells(line)) for group, line in zip(groups, lines, strict=True)]
    sums = [_sum(column) for column in zip(*lines, strict=True)]
    return [*rows, Row("All", _cells(sums))] if len(rows) > 1 else rows


def _numbers(pack: PackCounts) -> list[Amount | None]:
    held = [(pack.images, pack.images_found), (pack.identities, pack.identities_found)]
    if pack.kind == "train":
        return [*held, (pack.left_out, pack.left_out)]
    pairs = (pack.genuine, pack.impostor)
    return [*held, *(None if number is None else (number, number) for number in pairs)]


def _sum(amounts: Sequence[Amount | None]) -> Amount:
    known = [amount for amount in amounts if amount is not None]
    return sum(packed for packed, _ in known), sum(found for _, found in known)


def _cells(amounts: Sequence[Amount | None]) -> tuple[str, ...]:
    return tuple(NOTHING if amount is None else _amount(*amount) for amount in amounts)


def _amount(packed: int, found: int) -> str:
    return f"{packed:,}" if packed == found else f"{packed:,} of {found:,}"


def _is_less(rows: Sequence[Row]) -> bool:
    """Whether anything was left out of a pack, so that the table needs its key."""
    return any(" of " in cell for row in rows for cell in row.cells)


def _summary(found: Sequence[FindingRecord]) -> str:
    """How many findings of each severity: "1 fatal, 2 warnings, 9 notes"."""
    counts = {s: sum(one.severity == s for one in found) for s in SEVERITIES}
    plural = {"fatal": "", "warning": "s", "note": "s"}
    return ", ".join(
        f"{count} {severity}{'' if count == 1 else plural[severity]}"
        for severity, count in counts.items()
    )


# ---------------------------------------------------------------- formats


def _html(rows: Sequence[Row], found: Sequence[FindingRecord]) -> str:
    return page_html(
        "data_report.html",
        title=TITLE,
        columns=COLUMNS,
        key=KEY if _is_less(rows) else "",
        rows=rows,
        findings=found,
        summary=_summary(found),
        printable=printable,
    )


def _markdown(rows: Sequence[Row], found: Sequence[FindingRecord]) -> str:
    counts = _pipe_table(("Group", *COLUMNS), "---:", [(row.group, *row.cells) for row in rows])
    lines = [
        (one.severity, one.check, one.group or "", one.message, _in_brief(one)) for one in found
    ]
    table = _pipe_table(("Severity", "Check", "Group", "Finding", "Examples"), "---", lines)
    key = f"\n{KEY}\n" if _is_less(rows) else ""
    return f"# {TITLE}\n\n{_summary(found)}.\n\n## Counts\n\n{counts}{key}\n## Findings\n\n{table}"


def _in_brief(one: FindingRecord) -> str:
    pictures = f"(with pictures: {len(one.pictures)}, in HTML)" if one.pictures else ""
    return " ".join(part for part in ("; ".join(one.examples), pictures) if part)


def _pipe_table(heads: Sequence[str], align: str, lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first column to the left, the others by `align`."""
    rules = ["---", *(align for _ in heads[1:])]
    body = [[_escape(cell) for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in (heads, rules, *body))


def _escape(text: str) -> str:
    return "".join(f"\\{sign}" if sign in MARKDOWN_SIGNS else sign for sign in printable(text))


FORMATS: dict[str, Callable[[Sequence[Row], Sequence[FindingRecord]], str]] = {
    ".html": _html,
    ".md": _markdown,
}
