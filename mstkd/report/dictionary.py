"""What the columns of a table's CSV file mean, in a file beside it: CSV on the Web (W3C, 2015).

A CSV file has no notes. Its metadata lies where that recommendation has tools look for it, and says
what the notes of the other formats say.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd
from pandas.api import types

WHO = {
    "set": "The teachers: specialized, baseline, single (one of all groups) or none.",
    "name": "Teacher, or adaptor of the students; direct and none where there is no adaptor.",
    "variant": "Values of the row where the config has lists.",
    "seed": "Seed of the training.",
    "seeds": "How many seeds, each a training of its own, the row is the mean of.",
    "parameters": "Parameters of the network.",
    "multiply_adds": "Multiplications of the network, an image.",
    "group": "Group of the pairs; empty for all together.",
    "measure": "Which error rate, or ratio of the groups' rates.",
    "at": "Where the threshold is: fmr=0.01 is that of a false match rate of all groups.",
    "value": "The measure; rates are fractions.",
    "low": "Lower limit of the interval.",
    "high": "Upper limit of the interval.",
    "confidence": "Of the interval.",
    "method": "Of the interval.",
    "genuine": "Pairs of one person.",
    "impostor": "Pairs of two people.",
    "note": "Why there is no number, or what to know of it.",
}
MEASURES = {
    "global_accuracy": "Mean of the groups' accuracies, percent",
    "std": "Sample standard deviation of the groups' accuracies, percentage points",
    "ser": "Highest error of a group over the lowest",
}
OF_GROUP = "Verification accuracy of group {}, percent"
# Of columns that stand beside a measure's own, by their ending.
BESIDE = {
    "": "{}; of several seeds the mean over them.",
    "_seed_std": "{}: sample standard deviation over the seeds, what follows ± in other formats.",
    "_low": "{}: lower limit of the interval of 95 %, people as units.",
    "_high": "{}: upper limit of the interval of 95 %, people as units.",
    "_pairs": "{}: verification pairs that it rests on.",
    "_published": "{}: what MST-KD prints of the same row.",
    "_difference": "{}: ours less what MST-KD prints.",
}


def metadata(frame: pd.DataFrame, name: str, *, caption: str, notes: Sequence[str]) -> str:
    """The metadata as JSON.

    Args:
        frame: what the CSV file holds.
        name: of the CSV file.
        caption: of the table.
        notes: sentences that stand under it in other formats.
    """
    told = {
        "@context": "http://www.w3.org/ns/csvw",
        "url": name,
        "dc:title": caption,
        "dc:description": " ".join(notes),
        "tableSchema": {
            "columns": [
                {
                    "titles": column,
                    "dc:description": meaning(str(column)),
                    "datatype": _kind(frame[column]),
                }
                for column in frame
            ]
        },
    }
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def meaning(column: str) -> str:
    """What a column means: of a table of accuracies, or of error rates."""
    if column in WHO:
        return WHO[column]
    for ending in sorted(BESIDE, key=len, reverse=True):
        if column.endswith(ending):
            measure = column.removesuffix(ending)
            return BESIDE[ending].format(MEASURES.get(measure, OF_GROUP.format(measure)))
    raise AssertionError("every column ends in nothing")


def _kind(values: pd.Series[Any]) -> str:
    if types.is_integer_dtype(values):
        return "integer"
    return "number" if types.is_numeric_dtype(values) else "string"
