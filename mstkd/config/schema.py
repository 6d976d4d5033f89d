"""The config's JSON schema, for editors and for the reference."""

from __future__ import annotations

from typing import Any

from mstkd.config.grids import allow_lists
from mstkd.config.training import Adaptors, Students, Teachers
from mstkd.config.whole import Config


def json_schema() -> dict[str, Any]:
    """Of the whole config file, lists where they may stand."""
    return allow_lists(Config.model_json_schema(), sections=[Teachers, Adaptors, Students])
