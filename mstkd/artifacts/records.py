"""The JSON files beside weights and results: what a model is, what it scored, and from what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from mstkd import __version__
from mstkd.artifacts.atomic import write_text
from mstkd.errors import InputError, anew

START = "start weights"  # among a student's `inputs`, if any were given; no group is called so
CALIBRATION = ".calibration.json"  # of a model's threshold, in place of the weights' own suffix


class Record(BaseModel):
    """A frozen JSON document that knows all its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def text(self) -> str:
        """The record as indented JSON."""
        return self.model_dump_json(indent=2) + "\n"

    def write(self, path: Path) -> None:
        """Write the record as indented JSON, whole or not at all."""
        write_text(path, self.text())


class SealedRecord(Record):
    """A record that holds a hash of all else in it, so that damage and edits are seen."""

    # Of the file, not of the record: None but in the text. Older versions wrote none.
    record_sha256: str | None = None

    def text(self) -> str:
        sha256 = record_sha256(self.model_dump_json())
        sealed = self.model_copy(update={"record_sha256": sha256})
        return sealed.model_dump_json(indent=2) + "\n"


def record_sha256(text: str | bytes) -> str:
    """What `SealedRecord.record_sha256` is of such a JSON object, whatever its spaces."""
    return _sha256(json.loads(text))


def _sha256(record: Mapping[str, Any]) -> str:
    told = {key: value for key, value in record.items() if key != "record_sha256"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def is_unchanged(record: Mapping[str, Any]) -> bool | None:
    """Whether a record, parsed, is as it was written; None where it holds no hash of itself."""
    held = record.get("record_sha256")
    return None if held is None else held == _sha256(record)


class Source(Record):
    """A file that a result was made from."""

    path: str  # from the folder of the result, so that a folder of results can be moved whole
    sha256: str  # of the bytes; of packs and caches the hash of content that they carry
    # What had been asked of it, see `sources.descent`: none of packs, and in older versions.
    descents: list[str] = []


# In which networks computed.
Computed = Literal["float32", "bfloat16"]


class Provenance(Record):
    """What made a result: the step, its settings, the package and the files it read."""

    step: str  # the sub-command of mstkd
    settings: dict[str, Any]  # as they were given; empty where the step takes none
    sources: list[Source]
    # Of the whole file with zeros in this place, and of what lies beside it with its record; None
    # where nothing was hashed.
    sha256: str | None = None
    precision: Computed | None = None  # of caches: what `auto` in the settings came to
    package_version: str = __version__


class Subject(Record):
    """Which of the experiment's models this is: the wildcards of its path."""

    kind: Literal["teacher", "adaptor", "student", "imported"]  # the last of another program
    backbone: str  # of the teachers; of the student itself where `set` is "none"
    set: Literal["specialized", "baseline", "single", "none"]
    name: str  # T-A, BT-1, T-all; an adaptor's name; "direct" or "none" for the controls
    loss: str | None = None  # of students
    seed: int


class ModelRecord(SealedRecord):
    """model.json, beside model.safetensors."""

    format: Literal["mstkd-model"] = "mstkd-model"
    subject: Subject
    settings: dict[str, Any]  # the step's settings as they were given
    # Of a network that was given and not trained here, what was found in its file: its backbone,
    # and how images are shown to it.
    found: dict[str, Any] | None = None
    image_size: int | None  # pixels; None for adaptors
    inputs: dict[str, str]  # what it was made from: name -> SHA-256
    weights_sha256: str
    history_sha256: str | None = None  # of history.csv; None in records of older versions
    chosen_epoch: int  # counted from 1; 0 of imported ones, whose epochs nobody told
    chosen_by: str  # a sentence a person reads
    precision: Computed | None = None  # what `auto` in the settings came to; older versions: None
    sources: list[Source] = []
    package_version: str = __version__

    @field_validator("found")
    @classmethod
    def _of_a_given_network(
        cls, found: dict[str, Any] | None, told: ValidationInfo
    ) -> dict[str, Any] | None:
        subject: Subject | None = told.data.get("subject")
        if found is not None and subject is not None and subject.kind not in ("teacher", "student"):
            raise ValueError(f"of a teacher or a student, and this is of kind {subject.kind}")
        return found

    @property
    def built(self) -> dict[str, Any]:
        """What the network is built by: the settings, and what was found."""
        return self.settings | (self.found or {})


Percent = Annotated[float, Field(ge=0, le=100)]  # so written, no NaN either


class GroupScore(Record):
    """Verification of one group."""

    accuracy: Percent  # mean over folds
    fold_accuracies: list[Percent]
    pairs: Annotated[int, Field(ge=0)]


class Fairness(Record):
    """Accuracies of all groups (percent) and the paper's three summaries (equation 7)."""

    groups: dict[str, GroupScore]
    global_accuracy: Percent
    # Percentage points, sample standard deviation; None of one group.
    std: Annotated[float, Field(ge=0, le=100)] | None
    # None of one group, and where the best group has no error. No larger where it has one.
    ser: Annotated[float, Field(ge=0, le=1e12)] | None


class NetworkSize(Record):
    """What a network weighs and takes."""

    parameters: int
    multiply_adds: int  # of convolutions and matrix products, an image


class Metrics(SealedRecord):
    """metrics.json: what one model scored on the verification pairs."""

    format: Literal["mstkd-metrics"] = "mstkd-metrics"
    subject: Subject
    weights_sha256: str
    own_threshold: Fairness  # a threshold a group and fold: the paper's protocol (D25)
    shared_threshold: Fairness  # one threshold a fold for all groups
    network: NetworkSize | None = None  # None of adaptors
    provenance: Provenance | None = None
    package_version: str = __version__


AnyRecord = TypeVar("AnyRecord", bound=Record)


def read_record(kind: type[AnyRecord], path: Path, *, changed_too: bool = False) -> AnyRecord:
    """Read a record, one that is no longer what was written if `changed_too`.

    Raises:
        InputError: the file is missing, is not such a record, or is no longer what was written.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(path, found=error.strerror, expected=kind.__doc__) from None
    record = parse_record(kind, text, path)
    if not changed_too and is_unchanged(json.loads(text)) is False:
        found, expected = "other contents than were written", anew(str(kind.__doc__), path)
        raise InputError(path, found=found, expected=expected)
    if isinstance(record, SealedRecord):
        return record.model_copy(update={"record_sha256": None})
    return record


def parse_record(
    kind: type[AnyRecord], record: str | bytes | Mapping[str, Any], where: Path
) -> AnyRecord:
    """A record from its JSON, as text or parsed.

    Raises:
        InputError: it is not such a record.
    """
    try:
        if isinstance(record, str | bytes):
            return kind.model_validate_json(record)
        return kind.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(where, found=f"{key}: {first['msg']}", expected=kind.__doc__) from None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
