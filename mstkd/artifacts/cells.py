"""Names of others in CSV files: no spreadsheet may take one for a formula, and run it.

A cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return gets an apostrophe before it
(OWASP, "CSV Injection"), which `from_cell` takes away again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

TAKEN_FOR_FORMULA = re.compile(r"'*[=+\-@\t\r]")
GUARDED = re.compile(r"'+[=+\-@\t\r]")


def as_cell(text: str) -> str:
    """A name as a cell."""
    return f"'{text}" if TAKEN_FOR_FORMULA.match(text) else text


def from_cell(cell: str) -> str:
    """The name that `as_cell` was given."""
    return cell[1:] if GUARDED.match(cell) else cell


def csv_of(frame: pd.DataFrame) -> str:
    """A table as CSV, its numbers as they are."""
    guarded = frame.copy(deep=False)
    for name in frame.columns:
        if any(isinstance(value, str) and as_cell(value) != value for value in frame[name]):
            cells = [as_cell(one) if isinstance(one, str) else one for one in frame[name]]
            guarded[name] = np.array(cells, object)
    guarded.columns = guarded.columns.map(lambda name: as_cell(str(name)))
    return str(guarded.to_csv(index=False, lineterminator="\n"))
