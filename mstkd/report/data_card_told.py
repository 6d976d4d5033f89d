"""Data cards, read again for the page: without the packs, which only their maker opens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from mstkd.errors import InputError


class DataCardTold(NamedTuple):
    """What a data card says, as the page shows it."""

    part: str
    licence: str
    creator: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]  # a row a group
    files: tuple[tuple[str, str], ...]  # names, and SHA-256 of the bytes


def read_data_card(path: Path) -> DataCardTold:
    """What a card of `describe_data` says.

    Raises:
        InputError: it is missing or is not such a card.
    """
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        (groups,) = card["recordSet"]
        rows = [{key.partition("/")[2]: one for key, one in row.items()} for row in groups["data"]]
        return DataCardTold(
            str(card["name"]),
            str(card["license"]),
            str(card.get("creator", {}).get("name", "")),
            tuple(str(field["name"]).replace("_", " ") for field in groups["field"]),
            tuple(
                tuple(f"{one:,}" if isinstance(one, int) else str(one) for one in row.values())
                for row in rows
            ),
            tuple((str(one["name"]), str(one["sha256"])) for one in card["distribution"]),
        )
    except OSError as error:
        raise InputError(path, found=error.strerror, expected="a data card") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise InputError(path, found=found, expected="a data card of mstkd") from None
