"""What a file says of itself: which step made it, of what, and whether it is as it was written."""

from __future__ import annotations

import html
import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import h5py
from PIL import Image

from mstkd.artifacts.contents import read_attribute
from mstkd.artifacts.provenance import (
    EMBED,
    MARK,
    WITH_SIDECAR,
    extracted,
    has_its_hash,
    owner,
    parse,
    read_sidecar,
    sidecar,
)
from mstkd.artifacts.records import (
    ModelRecord,
    Provenance,
    Subject,
    file_sha256,
    is_unchanged,
    parse_record,
    read_record,
)
from mstkd.artifacts.sealed import DAMAGE, holds_as_written, reading
from mstkd.errors import InputError

KNOWN = (
    "a pack, split, cache, model, scores.h5, metrics.json, claims.json, data-findings.json, "
    "table, figure, card or report of mstkd"
)
# The subject of a document, a text in brackets with a backslash before what means something there
# (ISO 32000-1, sections 7.3.4.2 and 14.3.3).
PDF_SUBJECT = re.compile(rb"/Subject \(((?:[^\\()]|\\.)*)\)", re.DOTALL)


class Told(NamedTuple):
    """What a file says of itself."""

    made: Provenance
    unchanged: bool | None  # since it was written; None where it holds no hash of itself
    subject: Subject | None = None  # of models and their scores
    files: Mapping[str, str] = {}  # of models: SHA-256 of the files beside the record, by name


def told_by(path: Path, *, large: bool = False) -> Told | None:
    """What a file says of itself; None where it says nothing.

    Args:
        path: the file.
        large: whether to read images and embeddings too.

    Raises:
        InputError: the file is of no known kind, or damaged.
    """
    path = owner(path)
    if path.suffix == ".safetensors" or path.name == "history.csv":
        return _of_model(path.with_name("model.json"), path)
    if path.suffix in WITH_SIDECAR:
        told = read_sidecar(path)
        return None if told is None else Told(*told)
    if path.suffix == ".json":
        return _of_json(path)
    if path.suffix in EMBED:
        told = extracted(path.read_text(encoding="utf-8", errors="replace"), path)
        return None if told is None else Told(*told)
    if path.suffix in (".png", ".svg", ".pdf"):
        return _of_figure(path)
    if h5py.is_hdf5(path):
        return _of_hdf5(path, large=large)
    raise InputError(path, found="a file of another kind", expected=KNOWN)


def made_by(path: Path) -> Provenance | None:
    """What made a file, by its word alone: whether it is as it was written is not looked at.

    Raises:
        InputError: the file is of no known kind, or damaged.
    """
    if path.suffix == ".safetensors" or path.name == "history.csv":
        return told_of_model(read_record(ModelRecord, path.with_name("model.json"))).made
    if path.suffix in WITH_SIDECAR:
        record = sidecar(path)
        return parse(record.read_bytes(), record) if record.is_file() else None
    if h5py.is_hdf5(path):
        try:
            with reading(path, tried=False) as file:
                return read_attribute(path, file)
        except DAMAGE as error:
            raise _damaged(path, error) from None
    told = told_by(path)
    return None if told is None else told.made


def told_of_model(record: ModelRecord) -> Told:
    """What model.json says of its model."""
    kind = record.subject.kind
    step = "import-model" if kind == "imported" else f"train-{kind}"
    if record.found is not None:
        step = {"teacher": "import-given", "student": "import-start"}[kind]
    made = Provenance(
        step=step,
        settings=record.settings,
        sources=record.sources,
        precision=record.precision,
        package_version=record.package_version,
    )
    files = {"model.safetensors": record.weights_sha256}
    if record.history_sha256 is not None:
        files["history.csv"] = record.history_sha256
    return Told(made, None, record.subject, files)


def _of_model(record: Path, file: Path) -> Told:
    told = told_of_model(read_record(ModelRecord, record, changed_too=True))
    expected = told.files.get(file.name)
    unchanged = None if expected is None else file_sha256(file) == expected
    return told._replace(unchanged=unchanged)


def _of_json(path: Path) -> Told | None:
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(path, found=error, expected=KNOWN) from None
    kind = str(record.get("format", "")) if isinstance(record, dict) else ""
    if not kind.startswith("mstkd-"):
        raise InputError(path, found="JSON of another kind", expected=KNOWN)
    if kind == "mstkd-model":
        model = told_of_model(parse_record(ModelRecord, record, path))
        return model._replace(unchanged=is_unchanged(record))
    if record.get("provenance") is None:
        return None
    subject = record.get("subject")
    made = parse(record["provenance"], path)
    who = None if subject is None else parse_record(Subject, subject, path)
    return Told(made, is_unchanged(record), who)


def _of_hdf5(path: Path, *, large: bool) -> Told | None:
    try:
        with reading(path, tried=large) as file:
            made = read_attribute(path, file)
            unchanged = None if made is None else holds_as_written(path, file, large=large)
    except DAMAGE as error:
        raise _damaged(path, error) from None
    return None if made is None else Told(made, unchanged)


def _damaged(path: Path, error: BaseException) -> InputError:
    return InputError(
        path, found=f"a damaged file ({' '.join(str(error).split())})", expected=KNOWN
    )


def _of_figure(path: Path) -> Told | None:
    data = path.read_bytes()
    if path.suffix == ".png":
        try:
            with Image.open(path, formats=["PNG"]) as image:
                text = str(image.info.get("Description", ""))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            told_of = f"other data ({error})"
            raise InputError(path, found=told_of, expected="a PNG image") from None
    elif path.suffix == ".pdf":
        told = PDF_SUBJECT.search(data)
        text = re.sub(rb"\\(.)", rb"\1", told[1]).decode("ascii", "replace") if told else ""
    else:
        drawing = data.decode("utf-8", errors="replace")
        found = re.search(r"<dc:description>(.*?)</dc:description>", drawing, re.DOTALL)
        text = html.unescape(found[1]) if found else ""
    if not text.startswith(MARK):
        return None
    made = parse(text.removeprefix(MARK), path)
    whole = _is_whole_png(data) if path.suffix == ".png" else has_its_hash(data, made)
    return Told(made, whole)


def _is_whole_png(data: bytes) -> bool:
    """Whether every chunk has its checksum, up to the last (PNG specification, sections 5.3, 5.5).

    Pillow passes over the last.
    """
    place = 8  # behind the signature
    while place + 12 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if zlib.crc32(data[place + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return False
        if data[place + 4 : place + 8] == b"IEND":
            return end == len(data)
        place = end
    return False
