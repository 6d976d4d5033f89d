"""What made a result, inside the file itself where its format can hold that.

JSON records and HDF5 files have a field for it, figures their description, Markdown, LaTeX and
HTML one line that shows nowhere. A CSV file, which people open in spreadsheets, and JSON-LD, whose
words are others', have another file beside them. Nothing of it depends on the clock or the
machine: same inputs, same bytes.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mstkd.artifacts.records import Provenance, file_sha256
from mstkd.errors import InputError

MARK = "mstkd-provenance"
SIDECAR = ".provenance.json"  # behind the whole name of a file that can hold no record
WITH_SIDECAR = (".csv", ".jsonld")
METADATA = "-metadata.json"  # behind the whole name of a CSV file: what its columns mean
END_OF_TITLE = "</title>\n"
NO_HASH = "0" * 64


def hashed(paths: Iterable[Path]) -> dict[Path, str]:
    """The hash of each file's bytes; of packs and caches see `contents.hashed_contents`."""
    return {path: file_sha256(path) for path in paths}


# ---------------------------------------------------------------- in texts


def _in_html(record: str, text: str) -> str:
    line = f'<meta name="{MARK}" content="{html.escape(record)}">\n'
    return text.replace(END_OF_TITLE, END_OF_TITLE + line, 1)


def _in_markdown(record: str, text: str) -> str:
    # Neither may stand in a comment; both stand only in strings, where JSON has another spelling.
    spelt = record.replace("--", "-\\u002d").replace(">", "\\u003e")
    return f"{text}<!-- {MARK} {spelt} -->\n"


def _in_latex(record: str, text: str) -> str:
    return f"{text}% {MARK} {record}\n"


def _in_yaml(record: str, text: str) -> str:
    return f"{text}# {MARK} {record}\n"


EMBED: dict[str, Callable[[str, str], str]] = {
    ".yaml": _in_yaml,
    ".html": _in_html,
    ".md": _in_markdown,
    ".tex": _in_latex,
}


def embedded(text: str, made: Provenance, suffix: str) -> str:
    """A text of Markdown, LaTeX or HTML with the record in one line, and its own hash in that.

    The hash is of the whole text, the record with it, with zeros in the hash's place.
    """
    if suffix == ".md":
        text += "\n"  # or the line would be one of the table

    def line_of(made: Provenance) -> str:
        return EMBED[suffix](made.model_dump_json(), text)

    sha256 = _sha256(line_of(to_be_hashed(made)).encode())
    return line_of(made.model_copy(update={"sha256": sha256}))


def sidecar(path: Path) -> Path:
    """The file beside one of `WITH_SIDECAR` that holds its record."""
    return path.with_name(path.name + SIDECAR)


def metadata_path(path: Path) -> Path:
    """Where tools look for the metadata of a CSV file."""
    return path.with_name(path.name + METADATA)


def owner(path: Path) -> Path:
    """The file that a sidecar or metadata lie beside; any other is its own."""
    name = path.name.removesuffix(SIDECAR)
    if name.endswith(f".csv{METADATA}"):
        name = name.removesuffix(METADATA)
    return path.with_name(name)


def beside(text: str, made: Provenance, metadata: str = "") -> str:
    """The text of the sidecar of a file with such a text, and with such metadata beside it.

    The hash is of all three, with zeros in its own place.
    """

    def record_of(made: Provenance) -> str:
        return made.model_dump_json(indent=2) + "\n"

    sha256 = _sha256((text + record_of(to_be_hashed(made)) + metadata).encode())
    return record_of(made.model_copy(update={"sha256": sha256}))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _with_zeros(data: bytes, made: Provenance) -> bytes:
    """What holds a record, with zeros in its hash's place."""
    return data.replace((made.sha256 or NO_HASH).encode(), NO_HASH.encode(), 1)


# ---------------------------------------------------------------- reading again


def parse(record: str | bytes | Mapping[str, Any], where: Path) -> Provenance:
    """A record from its JSON, as text or parsed.

    Raises:
        InputError: it is not such a record.
    """
    try:
        if isinstance(record, str | bytes):
            return Provenance.model_validate_json(record)
        return Provenance.model_validate(record)
    except ValidationError as error:
        found = error.errors()[0]["msg"]
        raise InputError(where, found=found, expected="a record of what made a result") from None


def extracted(text: str, where: Path) -> tuple[Provenance, bool] | None:
    """The record in a text, and whether the text is as it was; None where there is no record."""
    lines = re.split(r"(?<=\n)", text)
    for number, line in enumerate(lines):
        found = re.search(rf'{MARK}(?:" content="(.*)">| (\{{.*\}}))', line)
        if found is None:
            continue
        made = parse(html.unescape(found[1]) if found[1] else found[2], where)
        before, after = ("".join(some).encode() for some in (lines[:number], lines[number + 1 :]))
        # Of older versions the hash is of the text without the record.
        texts = (before + _with_zeros(line.encode(), made) + after, before + after)
        return made, any(_sha256(one) == made.sha256 for one in texts)
    return None


def read_sidecar(path: Path) -> tuple[Provenance, bool] | None:
    """The record beside a file, and whether that is as it was; None where none is."""
    record = sidecar(path)
    if not record.is_file():
        return None
    told, metadata = record.read_bytes(), metadata_path(path)
    made = parse(told, record)
    own = path.read_bytes()
    whole = own + _with_zeros(told, made)
    beside_it = metadata.read_bytes() if metadata.is_file() else b""
    # Somebody may have put metadata of his own there. Of older versions the hash is of the file.
    return made, any(_sha256(one) == made.sha256 for one in (whole + beside_it, whole, own))


def described(made: Provenance) -> str:
    """The record as the description of a figure, in ASCII: older readers of PNG know no other."""
    return f"{MARK} {json.dumps(made.model_dump(mode='json'))}"


def to_be_hashed(made: Provenance) -> Provenance:
    """The record in a drawing of vectors, which holds its hash as soon as there is one."""
    return made.model_copy(update={"sha256": NO_HASH})


def with_hash(drawing: bytes) -> bytes:
    """A drawing of vectors with its hash in place of the zeros in its record."""
    return drawing.replace(NO_HASH.encode(), _sha256(drawing).encode(), 1)


def has_its_hash(drawing: bytes, made: Provenance) -> bool | None:
    """Whether a drawing of vectors is as it was; None where its record holds no hash."""
    if made.sha256 is None:
        return None
    return _sha256(_with_zeros(drawing, made)) == made.sha256
