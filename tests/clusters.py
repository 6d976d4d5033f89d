"""A SLURM cluster of one node on this machine, and the options of runs on it.

tests/slurm/start.sh says what it needs; one test session at a time has it.
"""

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml
from processes import wait_for
from runs import ROOT

PROFILES = ROOT / "workflow/profiles"
SLURM = PROFILES / "slurm"
THREADS = yaml.safe_load((SLURM / "config.yaml").read_text())["set-threads"]
ON_SLURM = [
    *("--workflow-profile", str(SLURM), "--latency-wait", "10"),
    *("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1"),
    *("--max-status-checks-per-second", "10"),
    *("--set-threads", *(f"{rule}=1" for rule in THREADS)),
]
CANNOT = 77  # start.sh's exit status where a machine cannot have a cluster


class NoClusterError(Exception):
    """This machine has none, or another has it; says why."""


@contextlib.contextmanager
def cluster() -> Iterator[None]:
    """A cluster that is taken down with its jobs in the end."""
    with Path("/tmp/mstkd-slurm-test.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NoClusterError("another run of these tests has it") from None
        script = ROOT / "tests/slurm/start.sh"
        try:
            begun = subprocess.run([script], capture_output=True, text=True, check=False)
            if begun.returncode == CANNOT:
                raise NoClusterError(begun.stdout.splitlines()[-1])
            assert begun.returncode == 0, begun.stdout + begun.stderr
            yield
        finally:
            if os.getuid() == 0:
                subprocess.run([script.with_name("stop.sh"), "--purge"], check=True)


def slurm_says(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def queued(folder: Path) -> list[str]:
    """Numbers of the jobs that were given in a folder and have not ended."""
    jobs = [
        line.split(maxsplit=1)
        for line in slurm_says("squeue", "--noheader", "--format=%A %Z").splitlines()
    ]
    return [number for number, place in jobs if place == str(folder)]


def wait_until_ended(folder: Path) -> None:
    wait_for(lambda: not queued(folder))
