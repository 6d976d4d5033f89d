"""What a measurement ran on, for its JSON."""

from __future__ import annotations

import datetime
import os
import platform
import re
import shlex
import sys
from importlib.metadata import version
from pathlib import Path


def cpu_model() -> str:
    """The processor's name, as the kernel tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def describe(*packages: str) -> dict[str, object]:
    """Machine, versions of Python and the packages, command and date of this run."""
    return {
        "cpu": cpu_model(),
        "cpu_count": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),  # all programs, of the last minute
        "threads": os.environ.get("OMP_NUM_THREADS", "not limited"),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "command": command(sys.argv),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def command(arguments: list[str]) -> str:
    """The line that starts this program, `python script.py ...` or `mstkd ...`.

    Absolute paths are told from the working folder: a result is read on other machines.
    """
    absolute = re.compile("(?<![^=])/.*")
    program, *rest = (absolute.sub(lambda at: os.path.relpath(at[0]), a) for a in arguments)
    python = ["python", program] if program.endswith(".py") else [Path(program).name]
    return shlex.join([*python, *rest])
