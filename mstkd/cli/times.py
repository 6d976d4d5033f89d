"""Times of inputs where the clock was set back, or that of a file server is ahead.

Snakemake removes an output that is older than an input of its job: after all the work.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable
from pathlib import Path

from mstkd.errors import InputError

SKEW = 60  # seconds, by which the clocks of a network may differ


def refuse_future(inputs: Iterable[Path]) -> None:
    """Refuse to work on what is said to have been made in the future.

    Raises:
        InputError: an input is; the line says how to mend it, which makes nothing run again.
    """
    now = time.time()
    for path in inputs:
        ahead = path.stat().st_mtime - now if path.exists() else 0
        if ahead > SKEW:
            found = f"a time {ahead / 3600:,.1f} h ahead of this machine's clock"
            mended = f"clocks that agree, or: touch {shlex.quote(str(path))}"
            raise InputError(path, found=found, expected=mended)
