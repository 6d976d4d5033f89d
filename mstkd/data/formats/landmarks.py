"""Where the eyes, the nose and the mouth of each image lie: from files, or from a plug-in.

Points stand in the order of the alignment template: eye on the left of the image, eye on the
right, nose, corner of the mouth on the left, corner on the right; x and y in pixels.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mstkd.artifacts.atomic import replacing
from mstkd.data.sources import Points
from mstkd.errors import InputError

COLUMNS = ["path", *(f"{axis}{n}" for n in range(1, 6) for axis in "xy")]
RFW_LINE = "/test/data/<group>/<identity>/<image>.jpg label x1 y1 x2 y2 x3 y3 x4 y4 x5 y5"
CSV_LINE = "<group>/<identity>/<image>,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5"
DETECTORS = "mstkd.detectors"

# Pixels uint8 (H, W, 3), RGB, to five points, or None where no face is found.
Detector = Callable[[NDArray[np.uint8]], Points | None]


def read_rfw_landmarks(path: Path, group: str) -> dict[str, Points]:
    """The points of RFW's `<Group>_lmk.txt` by `<identity>/<image>`.

    A line holds 12 fields parted by tabs or spaces: the path, the number of the identity, and
    x and y of the five points.

    Raises:
        InputError: no such file, not UTF-8, no landmarks in it, or a line that is none of
            `group`'s images or tells an image again; names the file and the line.
    """
    points: dict[str, Points] = {}
    file = str(path)
    for number, line in _lines(path, RFW_LINE):
        line = line.strip()
        if not line:
            continue
        where = f"{file}:{number}"
        fields = line.split("\t") if line.count("\t") == 11 else line.split()
        if len(fields) != 12:
            raise InputError(where, found=f"{len(fields)} fields", expected=f"12: {RFW_LINE}")
        key = _rfw_key(fields[0], group, where)
        if not fields[1].strip().isdecimal():
            raise InputError(where, found=f"the label {fields[1]!r}", expected="a whole number")
        _once(key, points, where)
        points[key] = _points(fields[2:], where)
    _not_empty(points, path, RFW_LINE)
    return points


def read_landmarks_csv(path: Path) -> dict[str, Points]:
    """The points of a CSV file `path,x1,y1,...,x5,y5` by path, which starts at the data folder.

    Raises:
        InputError: no such file, not UTF-8, another header, no landmarks in it, or a line that
            is none or tells an image again; names the file and the line.
    """
    points: dict[str, Points] = {}
    reader = csv.reader((line for _, line in _lines(path, ",".join(COLUMNS))), strict=True)
    header = None
    file = str(path)
    try:
        for row in reader:
            where = f"{file}:{reader.line_num}"
            if not row or (len(row) == 1 and not row[0].strip()):
                continue
            if header is None:
                header = row
                if header != COLUMNS:
                    raise InputError(where, found=",".join(header), expected=",".join(COLUMNS))
                continue
            if len(row) != len(COLUMNS):
                raise InputError(where, found=f"{len(row)} fields", expected=f"11: {CSV_LINE}")
            key = _csv_key(row[0], where)
            _once(key, points, where)
            points[key] = _points(row[1:], where)
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}", found=error, expected="CSV") from None
    _not_empty(points, path, ",".join(COLUMNS) + " and a line for each image")
    return points


def write_landmarks_csv(path: Path, rows: Iterable[tuple[str, Points]]) -> None:
    """Write what `read_landmarks_csv` reads, whole or not at all; `rows` may be a generator.

    Raises:
        InputError: a row that could not be read back: other than five finite points, a path
            that is empty, absolute, not UTF-8 or told again, or no rows.
    """
    names: set[str] = set()
    with replacing(path) as (part,), part.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(COLUMNS) + "\n")
        # All paths in quotes: the writer would leave some line breaks bare.
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        for name, points in rows:
            where = f"{path}: {name!r}"
            _once(_csv_key(name, where), names, where)
            names.add(name)
            numbers = [str(value) for point in points for value in point]
            if len(numbers) != 10:
                raise InputError(where, found=f"{len(numbers)} numbers", expected="five x and y")
            try:
                writer.writerow([name, *(v for point in _points(numbers, where) for v in point)])
            except UnicodeEncodeError:
                raise InputError(path, found=f"the name {name!r}", expected="UTF-8") from None
        _not_empty(names, path, "a row for each image")


def load_detector(name: str) -> Detector:
    """The detector of an installed plug-in: an entry point of the group `mstkd.detectors`.

    What the entry point names is called without arguments and returns the detector.

    Raises:
        InputError: no such plug-in, two of that name, or one that cannot be loaded.
    """
    installed = entry_points(group=DETECTORS)
    named = [point for point in installed if point.name == name]
    where = f"detector {name!r}"
    if len(named) > 1:
        found = "two plug-ins: " + ", ".join(sorted(point.value for point in named))
        raise InputError(where, found=found, expected="one of that name")
    if not named:
        known = ", ".join(sorted({point.name for point in installed}))
        raise InputError(
            where,
            found="no such plug-in",
            expected=f"one of those installed: {known}"
            if known
            else f"a package with an entry point of the group {DETECTORS}; none is installed",
        )
    expected = f"a plug-in that loads ({named[0].value})"
    try:
        factory = named[0].load()
    except (ImportError, AttributeError) as error:
        raise InputError(where, found=error, expected=expected) from None
    detector: Detector = factory()
    if not callable(detector):
        found = f"a {type(detector).__name__}"
        raise InputError(where, found=found, expected="a factory that returns a function")
    return detector


def _lines(path: Path, expected: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line, its end included, without a byte order mark."""
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        found = "bytes that are not UTF-8"
        raise InputError(f"{path}:{number}", found=found, expected=expected) from None
    except FileNotFoundError:
        raise InputError(path, found="no such file", expected="a file of landmarks") from None
    except OSError as error:
        raise InputError(path, found=error.strerror, expected="a readable file") from None


def _rfw_key(name: str, group: str, where: str) -> str:
    parts = name.strip().strip("/").split("/")
    if len(parts) < 2 or "" in parts:
        raise InputError(where, found=f"the path {name!r}", expected=RFW_LINE)
    if len(parts) > 2 and parts[-3] != group:
        raise InputError(where, found=f"an image of group {parts[-3]!r}", expected=f"{group!r}")
    return f"{parts[-2]}/{parts[-1]}"


def _csv_key(name: str, where: str) -> str:
    if not name.strip() or name.startswith("/"):
        expected = "a path that starts at the data folder: <group>/<identity>/<image>"
        raise InputError(where, found=f"the path {name!r}", expected=expected)
    return name


def _once(key: str, known: Container[str], where: str) -> None:
    if key in known:
        raise InputError(where, found=f"{key} again", expected="every image once")


def _points(fields: Sequence[str], where: str) -> Points:
    """Five points of ten texts, told finite by their sum: quicker than ten questions."""
    try:
        x1, y1, x2, y2, x3, y3, x4, y4, x5, y5 = values = [float(field) for field in fields]
    except ValueError:
        raise _not_a_number(fields, where) from None
    if not math.isfinite(sum(values)) and not all(map(math.isfinite, values)):
        raise _not_a_number(fields, where)
    return ((x1, y1), (x2, y2), (x3, y3), (x4, y4), (x5, y5))


def _not_a_number(fields: Sequence[str], where: str) -> InputError:
    bad = next(field for field in fields if not _is_finite(field))
    return InputError(where, found=f"the coordinate {bad!r}", expected="a finite number")


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _not_empty(landmarks: Collection[str], path: Path, expected: str) -> None:
    if not landmarks:
        raise InputError(path, found="no landmarks", expected=expected)
