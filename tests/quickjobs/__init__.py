"""Runs of Snakemake in which every `mstkd` is a fork of one process that has imported torch."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The process whose forks they are, which may serve any number of runs; its address."""
    with tempfile.TemporaryDirectory() as folder:
        address = str(Path(folder) / "socket")
        command = [sys.executable, str(FOLDER / "server.py"), address]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                assert server.stdout.readline() == "ready\n"
                yield address
            finally:
                server.kill()


@contextlib.contextmanager
def handed_to(address: str) -> Iterator[None]:
    """Every `mstkd` that is started now is handed to that process."""
    before = dict(os.environ)
    paths = [str(FOLDER), os.environ.get("PYTHONPATH", "")]
    os.environ.update(QUICK_JOBS=address, PYTHONPATH=os.pathsep.join(filter(None, paths)))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def quick_jobs() -> Iterator[None]:
    """Every `mstkd` below is a fork of a process that has imported torch."""
    with serving() as address, handed_to(address):
        yield
