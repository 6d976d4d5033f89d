"""Memory of this process, as Linux counts it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def status(key: str) -> int:
    """A size of this process in bytes, of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {key}: memory is measured on Linux only")


def rise_in_mib(work: Callable[[], object]) -> float:
    """How far the resident size rises above what it was, at its highest while `work` runs."""
    before = status("VmRSS")
    # Peaks of the past must not hide this one.
    Path("/proc/self/clear_refs").write_text("5")
    kept = work()  # not freed before the look
    highest = status("VmHWM")
    del kept
    return (highest - before) / 2**20
