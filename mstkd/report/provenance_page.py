"""What made a result, back to the data, as a page and as data: `mstkd provenance`, kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mstkd.artifacts.atomic import replacing
from mstkd.artifacts.lineage import Lineage, lineage, lineage_lines
from mstkd.artifacts.provenance import embedded, hashed
from mstkd.artifacts.records import Provenance
from mstkd.artifacts.sources import provenance_of
from mstkd.errors import InputError
from mstkd.report.templates import page_html

TITLE = "What made these results"


def render_provenance(result: Path, outputs: Sequence[Path]) -> None:
    """Write the chain from a result back to the data.

    Args:
        result: any file that says what made it, such as the report.
        outputs: paths ending in .html (as people read it) or .json (every file with its hash).

    Raises:
        InputError: a suffix is unknown, or the result is missing or says nothing of itself.
    """
    for output in outputs:
        if output.suffix not in FORMATS:
            raise InputError(output, found=output.suffix, expected=", ".join(FORMATS))
    told = lineage(result)
    read = hashed([result])
    with replacing(*outputs) as parts:
        for output, part in zip(outputs, parts, strict=True):
            made = provenance_of("render-provenance", None, read, output)
            part.write_text(FORMATS[output.suffix](told, made), encoding="utf-8")


def _html(told: Lineage, made: Provenance) -> str:
    page = page_html("provenance.html", title=TITLE, lines=lineage_lines(told))
    return embedded(page, made, ".html")


def _json(told: Lineage, made: Provenance) -> str:
    return told.model_copy(update={"provenance": made}).text()


FORMATS: dict[str, Callable[[Lineage, Provenance], str]] = {".html": _html, ".json": _json}
