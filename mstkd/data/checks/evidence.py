"""How a check shows what it found: images of packs by name and as small pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mstkd.artifacts.findings import EXAMPLES, PICTURES, Finding, FindingRecord, Picture, Severity
from mstkd.data.pack import Pack

PICTURE_SIDE = 112  # pixels, at most

Packs = Sequence[Pack]
Place = tuple[Pack, int]  # an image: its pack and its row there


def finding_of(
    check: str,
    severity: Severity,
    message: str,
    examples: Sequence[str] = (),
    seen: Sequence[Place] = (),
    group: str | None = None,
) -> Finding:
    """A finding that names and shows the first of what there is."""
    pictures = tuple((pack.path, row) for pack, row in seen[:PICTURES])
    return Finding(check, severity, message, group, tuple(examples[:EXAMPLES]), pictures)


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 image", "1,200 images"."""
    return f"1 {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"


def image_names(places: Sequence[Place]) -> list[str]:
    """What each image is called where it was read."""
    paths = {path: pack.image_paths() for path, pack in {p.path: p for p, _ in places}.items()}
    return [paths[pack.path][row] for pack, row in places]


def record_of(finding: Finding, packs: Mapping[Path, Pack]) -> FindingRecord:
    """A finding as a file holds it; `packs`, by path, have its pictures."""
    places = [(packs[path], row) for path, row in finding.pictures]
    names = image_names(places)
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
