"""Seeds by name: independent random streams that do not depend on who else draws."""

from __future__ import annotations

import hashlib


def seed_from(*parts: object) -> int:
    """A seed in [0, 2**63) determined by the text of `parts`, the same on every machine."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
