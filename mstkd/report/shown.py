"""A table as it is shown, whatever the format: rounded, the best marked, and how to read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
import pandas as pd

from mstkd.report.rounding import UNDEFINED, rounded, signed
from mstkd.report.rows import SECTIONS, row_label

HEADINGS = {"global_accuracy": "Global Acc", "std": "STD", "ser": "SER"}
LOWEST_IS_BEST = ("std", "ser")


@dataclass(frozen=True)
class Cell:
    """A number as it is shown."""

    value: str
    seed_std: str | None  # where there are several seeds
    best: bool  # of its column, in its section
    interval: str = ""  # of 95 %
    pairs: str = ""
    published: str = ""  # what the paper prints
    difference: str = ""  # ours less it


@dataclass(frozen=True)
class Shown:
    """A table as it is shown: sections of labelled rows of cells."""

    columns: tuple[str, ...]
    sections: tuple[tuple[str, tuple[tuple[tuple[str, ...], tuple[Cell, ...]], ...]], ...]
    labels: int  # of a row: its name, and the values of its variant where there are some
    notes: tuple[str, ...]  # sentences under the table
    message: str = ""  # what it says, in a sentence

    @property
    def cells(self) -> list[Cell]:
        """Those of all rows."""
        return [cell for _, rows in self.sections for _, cells in rows for cell in cells]

    @property
    def pairs(self) -> tuple[str, ...]:
        """Of each column, the pairs that it rests on; empty where they are not known."""
        return tuple(cell.pairs for cell in self.sections[0][1][0][1])


def shown_table(frame: pd.DataFrame, decimals: int) -> Shown:
    """Round the numbers and find the best of each section's columns, ties by what is shown.

    A section of one row has no best.
    """
    names = list(frame.columns)
    varied = "variant" in names
    columns = tuple(names[names.index("name") + 1 + varied : names.index("seeds")])
    labels = frame["set"].map(SECTIONS)
    sections = []
    heads: list[tuple[str, ...]]
    for label in labels.unique():
        part = frame[labels == label]
        cells = [_column(part, column, decimals) for column in columns]
        heads = [(row_label(row["set"], row["name"]),) for _, row in part.iterrows()]
        if varied:
            heads = [(*head, text) for head, text in zip(heads, part["variant"], strict=True)]
        sections.append((str(label), tuple(zip(heads, zip(*cells, strict=True), strict=True))))
    headings = tuple(HEADINGS.get(column, column) for column in columns)
    shown = Shown(headings, tuple(sections), labels=1 + varied, notes=_notes(frame, columns))
    return replace(shown, message=_message(shown))


def _notes(frame: pd.DataFrame, columns: Sequence[str]) -> tuple[str, ...]:
    """How to read a table: the same in every format."""
    seeds = sorted(set(frame["seeds"]))
    notes = [
        "Bold: the best of a section. Accuracies in percent, STD in percentage points; SER is the "
        "highest error of a group over the lowest."
    ]
    if seeds[-1] > 1:
        counts = f"{seeds[-1]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        notes.append(
            f"Values are means over {counts} seeds, each a training of its own; ± is the sample "
            "standard deviation over them."
        )
    else:
        notes.append("Each model was trained once, with one seed.")
    counts_of = [(one, frame[f"{one}_pairs"].iloc[0]) for one in columns if f"{one}_pairs" in frame]
    if counts_of:
        least = min(int(count) for _, count in counts_of)
        same = len({int(count) for _, count in counts_of}) == 1
        notes.append(
            f"A group has {least:,} pairs{'' if same else ' or more'}, of which one is "
            f"{rounded(100 / least, 2)} points{'' if same else ' at most'}. Intervals of 95 % take "
            "people, not pairs, as units; those of STD and SER are of what is not noise."
        )
    if "parameters" in frame and frame["parameters"].notna().all():
        notes.append(_of_networks(frame))
    if any(f"{one}_published" in frame for one in columns):
        notes.append("Paper: what MST-KD prints of the same row; difference: ours less it.")
    return tuple(notes)


def _of_networks(frame: pd.DataFrame) -> str:
    """How large the networks of a table are."""

    def least_to_most(column: str) -> str:
        least, most = frame[column].min(), frame[column].max()
        # Small networks would be told as none of a billion.
        unit, word = (1e6, "million") if least < 1e9 else (1e9, "billion")
        ends = dict.fromkeys(rounded(end / unit, 2) for end in (least, most))
        return f"{' to '.join(ends)} {word}"

    return (
        f"A network has {least_to_most('parameters')} parameters and takes "
        f"{least_to_most('multiply_adds')} multiplications an image."
    )


def _column(part: pd.DataFrame, column: str, decimals: int) -> list[Cell]:
    texts = [rounded(value, decimals) for value in part[column]]
    defined = [Decimal(text) for text in texts if text != UNDEFINED]
    best = None
    if len(texts) > 1 and defined:
        best = min(defined) if column in LOWEST_IS_BEST else max(defined)
    spreads: list[str | None] = [None] * len(texts)
    if f"{column}_seed_std" in part:
        several = part["seeds"] > 1
        spreads = [
            rounded(value, decimals) if shown else None
            for value, shown in zip(part[f"{column}_seed_std"], several, strict=True)
        ]
    cells = []
    for (_, row), text, spread in zip(part.iterrows(), texts, spreads, strict=True):
        is_best = best is not None and text != UNDEFINED and Decimal(text) == best
        cells.append(Cell(text, spread, is_best, **_beside(row, column, decimals)))
    return cells


def _beside(row: pd.Series, column: str, decimals: int) -> dict[str, str]:
    """What stands beside a number: its interval, pairs, and the paper's; empty where unknown."""
    found: dict[str, str] = {}
    low, high, pairs, published = (
        row.get(f"{column}_{name}", np.nan) for name in ("low", "high", "pairs", "published")
    )
    if not np.isnan(low):
        found["interval"] = f"{rounded(low, decimals)} to {rounded(high, decimals)}"
    if not np.isnan(pairs):
        found["pairs"] = f"{int(pairs):,}"
    if not np.isnan(published):
        found["published"] = rounded(published, decimals)
        difference = row[f"{column}_difference"]
        found["difference"] = "" if np.isnan(difference) else signed(difference, decimals)
    return found


def _message(table: Shown) -> str:
    """What a table says, in a sentence for each measure: which models are the best of a section."""
    parts = []
    for column, words in (
        (HEADINGS["global_accuracy"], "Highest global accuracy"),
        ("STD", "lowest STD"),
    ):
        if column not in table.columns:
            continue
        place = table.columns.index(column)
        choose = min if column == "STD" else max
        best = []
        for section, rows in table.sections:
            told = [(names, cells[place].value) for names, cells in rows]
            told = [(names, value) for names, value in told if value != UNDEFINED]
            if told:
                names, value = choose(told, key=lambda one: Decimal(one[1]))
                best.append(f"{section.lower()} {' '.join(filter(None, names))} {value}")
        if best:
            parts.append(f"{words}: {', '.join(best)}")
    return "; ".join(parts) + "." if parts else ""
