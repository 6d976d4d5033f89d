"""The report as one page of HTML that needs no other file and asks no server for anything."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from markupsafe import Markup
from PIL import Image, UnidentifiedImageError

from mstkd.artifacts.atomic import write_text
from mstkd.artifacts.provenance import embedded, hashed, provenance_of
from mstkd.artifacts.records import read_record
from mstkd.config import PageSettings
from mstkd.errors import InputError
from mstkd.report.claims import Claims
from mstkd.report.comparisons import Comparison, Topic
from mstkd.report.templates import page_html

MEDIA_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}
PROCEDURAL = (
    "The faces are drawings made by a program, and the groups are ways of drawing them. The "
    "numbers show how the method behaves on such drawings; they say nothing about people, nor "
    "about how well any system recognises people of one group or another."
)
QUESTIONS: dict[Topic, str] = {
    "specialized or baseline": "Specialized against baseline teachers, adaptor and loss alike",
    "distillation": "Distilled students against the student without distillation",
    "single teacher": "Students of several teachers against that of the single teacher",
}


def render_page(
    settings: PageSettings,
    *,
    tables: Sequence[Path],
    figures: Sequence[Path],
    claims: Path,
    output: Path,
) -> None:
    """Write the report: one HTML page that needs no other file.

    Args:
        settings: the title, and whether the faces are drawings, which the page must say.
        tables: .html tables of `render_table`, in order.
        figures: .png or .svg files, in order; captioned by the title that the file holds.
        claims: claims.json.
        output: the page, an .html file.

    Raises:
        InputError: a file is missing or is not what it must be.
    """
    record = read_record(Claims, claims)
    page = page_html(
        "page.html",
        title=settings.title,
        data_note=PROCEDURAL if settings.procedural else "",
        grids=settings.grids or (),
        tables=[_table(path) for path in tables],
        figures=[_figure(path) for path in figures],
        claims=record,
        comparisons=_by_question(record.comparisons),
        signed=signed,
    )
    read = hashed([*tables, *figures, claims])
    made = provenance_of("render-page", settings, read, output)
    write_text(output, embedded(page, made, ".html"))


def signed(value: float) -> str:
    """A difference with its sign, two digits after the point: 0.5 is +0.50, -0.001 is 0.00."""
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "−")


def _by_question(
    comparisons: Sequence[Comparison],
) -> list[tuple[str, list[tuple[str, str, list[Comparison]]]]]:
    """Comparisons under their question, a line for each pair of models."""
    questions = []
    for topic, question in QUESTIONS.items():
        asked = [comparison for comparison in comparisons if comparison.topic == topic]
        pairs = groupby(asked, key=lambda comparison: (comparison.first, comparison.second))
        lines = [(first, second, list(measures)) for (first, second), measures in pairs]
        if lines:
            questions.append((question, lines))
    return questions


def _read(path: Path, expected: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(path, found=error.strerror, expected=expected) from None


def _table(path: Path) -> Markup:
    text = _read(path, "a table in HTML").decode("utf-8", errors="replace")
    table = re.search(r'<table class="mstkd-table">.*?</table>', text, re.DOTALL)
    if table is None:
        raise InputError(path, found="other text", expected="a table in HTML of mstkd")
    return Markup(table[0] + "\n")  # render_table has escaped what comes from outside


def _figure(path: Path) -> tuple[str, str]:
    """Caption and address of a figure: the title in the file, its name where it has none."""
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
        except UnidentifiedImageError:
            raise InputError(path, found="other data", expected="a PNG image") from None
    address = f"data:{MEDIA_TYPES[path.suffix]};base64,{base64.b64encode(data).decode('ascii')}"
    return title or path.stem.replace("_", " "), address
