"""Records with other contents, as a step of another run would have written them."""

from __future__ import annotations

import json
from pathlib import Path

from mstkd.artifacts.records import record_sha256


def rewrite(path: Path, text: str) -> None:
    """Write the text of a record with the hash that goes with it."""
    told = json.loads(text) | {"record_sha256": record_sha256(text)}
    path.write_text(json.dumps(told))
