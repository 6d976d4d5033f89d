"""CSV files as columns of text, with the faults of single fields told by line and column.

A data frame is read as the CSV that it would be written to, and its faults told by row.

For tables of pairs, where the columns that a file may have are open. Shapes: P rows.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mstkd.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

# Gzip files may hold a thousand times their bytes; lists of pairs, whose names recur, a hundred.
BESIDE_THE_FILE, TIMES_THE_FILE = 100 << 20, 100
HEADER = 1 << 16  # bytes that a first line is looked for in
TRUE, FALSE = ("1", "true", "1.0"), ("0", "false", "0.0")

Texts = NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class TextColumns:
    """A CSV file as columns of text (P,), and the line of the file that each row ends on.

    Of a data frame `path` is its name, and `lines` its rows, counted from 0.
    """

    path: Path
    columns: Mapping[str, Texts]
    lines: NDArray[np.int64]
    is_frame: bool = False

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __len__(self) -> int:
        return len(self.lines)

    def rows(self, chosen: NDArray[np.int64]) -> TextColumns:
        """Some rows alone."""
        columns = {name: values[chosen] for name, values in self.columns.items()}
        return replace(self, columns=columns, lines=self.lines[chosen])

    @property
    def header(self) -> str:
        """Where the columns are named, as messages say it."""
        return str(self.path) if self.is_frame else f"{self.path}:1"

    def at(self, row: int) -> str:
        """Where a row stands, as messages say it."""
        return (
            f"{self.path}: {self.line(row)}" if self.is_frame else f"{self.path}:{self.lines[row]}"
        )

    def line(self, row: int) -> str:
        """The same without the file: "line 3", or of a data frame "row 1"."""
        return f"{'row' if self.is_frame else 'line'} {self.lines[row]}"

    def fault(self, name: str, row: int, expected: object) -> InputError:
        """A field that is not what it must be."""
        text = self.columns[name][row]
        found = f"{text!r} in the column {name!r}" if text else f"the column {name!r} empty"
        return InputError(self.at(row), found=found, expected=expected)

    def texts(self, name: str) -> Texts:
        """A column without empty fields.

        Raises:
            InputError: it has one.
        """
        empty = np.flatnonzero(self.columns[name] == "")
        if len(empty):
            raise self.fault(name, int(empty[0]), "a value in every row")
        return self.columns[name]

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column of finite numbers.

        Raises:
            InputError: a field is none.
        """
        values = self.columns[name]
        try:
            read = values.astype(np.float64)
        except ValueError:
            read = np.array([_number(text) for text in values])
        wrong = np.flatnonzero(~np.isfinite(read))
        if len(wrong):
            raise self.fault(name, int(wrong[0]), "a finite number")
        return read

    def truths(self, name: str) -> NDArray[np.bool_]:
        """A column of 1 and 0, or of true and false.

        Raises:
            InputError: a field is neither.
        """
        values = np.char.lower(self.columns[name].astype(np.str_))
        true = np.isin(values, TRUE)
        wrong = np.flatnonzero(~true & ~np.isin(values, FALSE))
        if len(wrong):
            raise self.fault(name, int(wrong[0]), "1 or 0, or true or false")
        return true


def read_text_columns(path: Path) -> TextColumns:
    """A CSV file with a header, plain or gzip-compressed as its name says.

    A byte order mark, blank lines and spaces around fields are passed over.

    Raises:
        InputError: no such file, not UTF-8, not gzip, a column that has no name or another's, a
            row with more or fewer fields than the header, or no rows.
    """
    return _columns(_text(path), path)


def frame_columns(frame: pd.DataFrame, name: str) -> TextColumns:
    """A data frame as the CSV file that it would be written to, without its index.

    Args:
        frame: a row a pair.
        name: what messages call it.

    Raises:
        InputError: as `read_text_columns`.
    """
    text = frame.to_csv(index=False, lineterminator="\n")
    file = _columns(text, Path(name))
    return replace(file, lines=np.arange(len(file)), is_frame=True)


def _columns(text: str, path: Path) -> TextColumns:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names: list[str] = []
    fields: list[str] = []  # row by row: a list a row would cost more than a short row's text
    lines = array("q")
    try:
        for row in reader:
            if not row:
                continue
            if not names:
                names = _header([name.strip() for name in row], f"{path}:{reader.line_num}")
                continue
            if len(row) != len(names):
                raise InputError(
                    f"{path}:{reader.line_num}",
                    found=f"{len(row)} fields",
                    expected=f"{len(names)}: {', '.join(names)}",
                )
            fields += row
            lines.append(reader.line_num)
    except csv.Error as error:
        where = f"{path}:{reader.line_num}"
        raise InputError(where, found=str(error), expected="CSV") from None
    if not lines:
        found = "no rows" if names else "an empty file"
        raise InputError(path, found=found, expected="a header and a row a pair")
    columns = {
        name: np.array([value.strip() for value in fields[place :: len(names)]], object)
        for place, name in enumerate(names)
    }
    return TextColumns(path, columns, np.array(lines))


def first_names(path: Path) -> list[str]:
    """The columns that a CSV's first line names; none where there is no such line.

    Plain or gzip-compressed as its name says; no more is read than `HEADER`.
    """
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            text = file.read(HEADER).decode("utf-8-sig", errors="replace")
        return [name.strip() for name in next(csv.reader(io.StringIO(text, newline="")), [])]
    except (OSError, EOFError, zlib.error, csv.Error):
        return []


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".gz":
            data = _unpacked(path, data)
    except FileNotFoundError:
        raise InputError(path, found="no such file", expected="a CSV file of pairs") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(path, found=str(error), expected="a whole gzip file") from None
    except OSError as error:
        raise InputError(path, found=error.strerror, expected="a readable file") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"byte {error.start} is not UTF-8"
        raise InputError(path, found=found, expected="a CSV file in UTF-8") from None
    if "\0" in text:
        raise InputError(path, found="a zero byte", expected="a CSV file in UTF-8")
    return text


def _unpacked(path: Path, data: bytes) -> bytes:
    most = BESIDE_THE_FILE + TIMES_THE_FILE * len(data)
    with gzip.open(io.BytesIO(data)) as file:
        text = file.read(most + 1)
    if len(text) > most:
        expected = f"{BESIDE_THE_FILE >> 20} MiB and {TIMES_THE_FILE} times the file at most"
        raise InputError(path, found=f"more than {most:,} bytes, unpacked", expected=expected)
    return text


def _header(names: list[str], where: str) -> list[str]:
    times = Counter(names)
    for name in names:
        if not name:
            raise InputError(where, found="a column without a name", expected="names of columns")
        if times[name] > 1:
            raise InputError(where, found=f"the column {name!r} twice", expected="it once")
    return names


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan
