"""The report as one page of HTML that needs no other file and asks no server for anything."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup
from PIL import Image, UnidentifiedImageError

from mstkd.artifacts.atomic import write_text
from mstkd.artifacts.provenance import embedded, hashed
from mstkd.artifacts.records import read_record
from mstkd.artifacts.sources import provenance_of
from mstkd.config import PageSettings, Threshold
from mstkd.config.results import given_names
from mstkd.errors import InputError
from mstkd.evaluation.claims import Measure
from mstkd.report.answer import QUESTION, answer, at_a_glance, by_group, whom, worth
from mstkd.report.canvas import COMMENT
from mstkd.report.caveats import PROCEDURAL
from mstkd.report.claims import Claims
from mstkd.report.data_card_told import read_data_card
from mstkd.report.judgements import (
    THRESHOLDS,
    JudgedCell,
    JudgedClaim,
    ModelTold,
    needs,
    p_text,
)
from mstkd.report.origin import origin
from mstkd.report.rounding import rounded, signed
from mstkd.report.templates import page_html
from mstkd.report.verdict import verdict

MEDIA_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}
# And its intervals, where they are known.
TABLE = (
    r'(<table class="mstkd-table">.*?</table>)'
    r'(?:\s*(<details class="mstkd-intervals">.*?</details>))?'
)
# The columns in which claims are seen together; the others stand with each claim.
IN_SHORT: dict[Measure, str] = {
    "global_accuracy": "Global Acc",
    "every_group": "Every group",
    "std": "STD",
    "ser": "SER",
}


class Tabled(NamedTuple):
    """A table that was rendered; what comes from outside has been escaped in it."""

    caption: str
    message: str  # what it says
    table: Markup
    intervals: Markup  # folded away; empty where they are not known


class Shown(NamedTuple):
    """A claim on all measures at all thresholds."""

    claim: str
    judged: list[JudgedClaim]

    @property
    def comparisons(self) -> int:
        return len(self.judged[0].cells)

    def at(self, threshold: Threshold) -> list[JudgedClaim]:
        """On every measure."""
        return [one for one in self.judged if one.threshold == threshold]

    def in_short(self, threshold: Threshold) -> list[JudgedClaim]:
        """On the measures of `IN_SHORT`, or on the own groups alone."""
        own = [one for one in self.at(threshold) if one.measure == "own_group"]
        return own or [one for one in self.at(threshold) if one.measure in IN_SHORT]

    def cells(self, threshold: Threshold) -> list[list[JudgedCell]]:
        """Each comparison on every measure."""
        return [list(cell) for cell in zip(*(one.cells for one in self.at(threshold)), strict=True)]


def render_page(
    settings: PageSettings,
    *,
    tables: Sequence[Path],
    figures: Sequence[Path],
    claims: Path,
    output: Path,
    config: Path | None = None,
    cards: Sequence[Path] = (),
) -> None:
    """Write the report: one HTML page that needs no other file.

    Args:
        settings: the title, and whether the faces are drawings, which the page must say.
        tables: .html tables of `render_table`, in order.
        figures: .png or .svg files, in order; captioned by the title that the file holds.
        claims: claims.json.
        output: the page, an .html file.
        config: the whole config, of which the page then says whether it made what is shown.
        cards: data cards, in order, whose counts the page shows.

    Raises:
        InputError: a file is missing or is not what it must be.
    """
    record = read_record(Claims, claims)
    found = [_table(path) for path in tables]
    page = page_html(
        "page.html",
        title=settings.title,
        question=QUESTION,
        answer=answer(record),
        whom=whom(record),
        by_group=by_group(record),
        at_a_glance=at_a_glance(record),
        worth=worth(record),
        origin=origin(record, config, settings.given or {}),
        data_note=PROCEDURAL if settings.procedural else "",
        verdict=_verdict(config, claims, record),
        grids=settings.grids or (),
        given=given_names(settings.given or {}),
        foreign_shares=[f"{100 * share:g}" for share in sorted(settings.foreign_shares or ())],
        fused_counts=settings.fused_counts or (),
        tables=found,
        figures=[_figure(path) for path in figures],
        data_cards=[read_data_card(path) for path in cards],
        model_cards=_model_cards(record) if cards else [],
        claims=record,
        shown=_by_claim(record.claims),
        published=_by_claim(record.published.claims),
        models={name: _at(record.models, name) for name in THRESHOLDS},
        powers=_by_claim(one for one in record.claims if _has_power(one)),
        thresholds=THRESHOLDS,
        in_short=IN_SHORT,
        needs=needs,
        p_text=p_text,
        rounded=rounded,
        signed=signed,
    )
    read = hashed([*tables, *figures, *cards, claims, *([config] if config else [])])
    made = provenance_of("render-page", settings, read, output)
    write_text(output, embedded(page, made, ".html"))


def _model_cards(record: Claims) -> list[str]:
    """Where each student's card lies, from the page: beside its metrics."""
    sources = record.provenance.sources if record.provenance else []
    folders = dict.fromkeys(Path(source.path).parent for source in sources)
    return [f"{one.as_posix()}/README.md" for one in folders if "students" in one.parts]


def _has_power(judged: JudgedClaim) -> bool:
    """Whether the paper states an effect to set beside it, at its own thresholds."""
    return judged.power.published is not None and judged.threshold == "own"


def _verdict(config: Path | None, claims: Path, record: Claims) -> str:
    if config is None or record.provenance is None:
        return ""
    paths = [source.path for source in record.provenance.sources]
    shown = [path for path in paths if Path(path).name == "metrics.json"]  # beside their scores
    return verdict(config, claims.parent, shown)


def _by_claim(judged: Iterable[JudgedClaim]) -> list[Shown]:
    claims: dict[str, list[JudgedClaim]] = {}
    for one in judged:
        claims.setdefault(one.claim, []).append(one)
    return [Shown(claim, of_claim) for claim, of_claim in claims.items()]


def _at(models: Sequence[ModelTold], threshold: Threshold) -> list[ModelTold]:
    return [model for model in models if model.threshold == threshold]


def _read(path: Path, expected: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(path, found=error.strerror, expected=expected) from None


def _table(path: Path) -> Tabled:
    text = _read(path, "a table in HTML").decode("utf-8", errors="replace")
    found = re.search(TABLE, text, re.DOTALL)
    if found is None:
        raise InputError(path, found="other text", expected="a table in HTML of mstkd")
    table, intervals = found.groups()
    told = re.search(r'<caption>(.*?)(?:<span class="message">(.*?)</span>)?</caption>', table)
    caption, message = (html.unescape(one or "") for one in (told.groups() if told else ("", "")))
    # render_table has escaped what comes from outside.
    return Tabled(caption.strip(), message, Markup(f"{table}\n"), Markup(intervals or ""))


def _figure(path: Path) -> tuple[str, str, str]:
    """Caption of a figure, caption and what it says, and its address.

    The caption is the title in the file, its name where it has none. What it says is in a PNG.
    """
    message = ""
    if path.suffix not in MEDIA_TYPES:
        raise InputError(path, found=path.suffix or "no suffix", expected=" or ".join(MEDIA_TYPES))
    data = _read(path, "a figure")
    if path.suffix == ".svg":
        found = re.search(r"<dc:title>(.*?)</dc:title>", data.decode("utf-8", errors="replace"))
        title = html.unescape(found.group(1)) if found else ""
    else:
        try:
            with Image.open(io.BytesIO(data)) as image:
                title = str(image.info.get("Title", ""))
                message = str(image.info.get(COMMENT, ""))
        except UnidentifiedImageError:
            raise InputError(path, found="other data", expected="a PNG image") from None
    address = f"data:{MEDIA_TYPES[path.suffix]};base64,{base64.b64encode(data).decode('ascii')}"
    caption = title or path.stem.replace("_", " ")
    return caption, " ".join(filter(None, (caption, message))), address
