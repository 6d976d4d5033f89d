"""What the checks of the data found: one by one in memory, and as the file that a report reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field

from mstkd import __version__
from mstkd.artifacts.records import Provenance, Record, SealedRecord

Severity = Literal["fatal", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)  # the gravest first
EXAMPLES = 10  # named in a finding
PICTURES = 8  # shown with one


@dataclass(frozen=True)
class Finding:
    """What a check found, or that it found nothing: then it is a note.

    `examples` names at most `EXAMPLES` images or identities; `pictures` holds the packs and rows
    of at most `PICTURES` images worth seeing.
    """

    check: str
    severity: Severity
    message: str  # one sentence, with the numbers
    group: str | None = None  # None: of several groups
    examples: tuple[str, ...] = ()
    pictures: tuple[tuple[Path, int], ...] = ()


class Picture(Record):
    """An image as a report shows it."""

    name: str
    png: str  # base64


class FindingRecord(Record):
    """A `Finding` with its pictures."""

    check: str
    severity: Severity
    message: str
    group: str | None
    examples: Annotated[list[str], Field(max_length=EXAMPLES)]
    pictures: Annotated[list[Picture], Field(max_length=PICTURES)]


class PackCounts(Record):
    """What one pack holds, and what the data held before anything was left out of it."""

    kind: Literal["train", "verification"]
    group: str
    images: int
    identities: int
    images_found: int
    identities_found: int
    left_out: int  # images listed as bad beside the pack
    genuine: int | None  # pairs; None of training packs
    impostor: int | None
    sha256: str  # of the pack's content


class Findings(SealedRecord):
    """findings.json: what the checks of the data found."""

    format: Literal["mstkd-findings"] = "mstkd-findings"
    packs: list[PackCounts]
    findings: list[FindingRecord]  # the gravest first
    provenance: Provenance | None = None
    package_version: str = __version__
