"""The command `check`: what lies in the results, against what the config asks for."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mstkd.artifacts.provenance import owner
from mstkd.artifacts.records import CALIBRATION, Record, read_record
from mstkd.artifacts.standing import State
from mstkd.artifacts.told import told_by
from mstkd.errors import InputError, ManyFaultsError, anew
from mstkd.progress import progress
from mstkd.workflow.reruns import STANDINGS, JobStanding, JobStandings

# Folders of results in which every file is some job's output.
OWNED = (
    "packs",
    "splits",
    "given",
    "teachers",
    "embeddings",
    "adaptors",
    "students",
    "tracing",
    "tables",
    "error-rates",
    "figures",
    "cards",
)
RECORDS = {".h5", ".csv", ".json", ".jsonld", ".safetensors"}
RESULTS = RECORDS | {".png", ".svg", ".pdf", ".md", ".tex", ".html"}
STATES: tuple[State, ...] = ("current", "stale", "damaged", "missing")
SHOWN = 20  # lines of what is not current, and of orphans


class Checked(Record):
    """Every job that the config asks for, and the results that it does not ask for."""

    jobs: list[JobStanding]
    orphans: list[str]
    deep: bool  # whether every file was read whole

    def well(self) -> bool:
        """Whether all that is there is current and nothing is to be done."""
        return not any(job.state != "current" or job.runs for job in self.jobs)


def check(results: Path, *, configfile: Path | None = None, deep: bool = False) -> Checked:
    """Compare results with what a config asks for, as the plain command would.

    Args:
        results: the folder of results.
        configfile: the config; None is the one that the plain command takes.
        deep: whether to read every file whole and compare it with its own checksums. Without,
            weights, images and embeddings are believed to be what their records say.

    Raises:
        InputError: Snakemake refuses the config; or there are results, and not in that folder.
    """
    jobs = ask_snakemake([] if configfile is None else ["--configfile", str(configfile)])
    if not results.is_dir() and any(job.state != "missing" for job in jobs):
        raise InputError(results, found="no such folder", expected="a folder of results")
    if deep:
        with progress("read", len(jobs), "jobs' results") as told:
            for number, job in enumerate(jobs):
                jobs[number] = _read_whole(job)
                told(1)
    return Checked(jobs=jobs, orphans=[str(path) for path in orphans(results, jobs)], deep=deep)


def ask_snakemake(arguments: Sequence[str]) -> list[JobStanding]:
    """Every job that a dry run with these arguments finds, and how its outputs stand.

    Raises:
        InputError: Snakemake refuses, and its own words say why; or it plans nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "standings.json"
        snakemake = str(Path(sys.executable).with_name("snakemake"))
        done = subprocess.run(
            [snakemake, "--dry-run", "--quiet", "all", "--nolock", "--cores", "1", *arguments],
            env={**os.environ, STANDINGS: str(told)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines()
            # A fault of the config: a line each, below one that says where Snakemake met them.
            faults = [line for line in lines[1:] if not line.startswith("  File ")] or lines
            raise ManyFaultsError(
                [
                    InputError("snakemake --dry-run", found=line, expected="a plan")
                    for line in faults or ["nothing"]
                ]
            )
        # Another workflow's Snakefile writes none.
        jobs = read_record(JobStandings, told).jobs if told.exists() else []
    if not jobs:
        expected = "the Snakefile of mstkd, in the folder where it is run"
        raise InputError("snakemake --dry-run", found="a plan without jobs", expected=expected)
    return jobs


def _read_whole(job: JobStanding) -> JobStanding:
    for output in map(Path, job.outputs):
        try:
            found = told_by(output, large=True) if output.is_file() else None
        except (InputError, OSError, ValueError) as error:
            return job.model_copy(update={"state": "damaged", "why": str(error)})
        if found is not None and found.unchanged is False:
            why = anew("other contents than were written", output)
            return job.model_copy(update={"state": "damaged", "why": why})
    return job


def orphans(results: Path, jobs: Sequence[JobStanding]) -> Iterator[Path]:
    """Results below a folder that no job of the config makes."""
    wanted = {os.path.normpath(output) for job in jobs for output in job.outputs}
    for room in OWNED:
        for path in sorted((results / room).rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(results).parts)
            # A threshold is a person's, of a model that the config asks for.
            if path.suffix not in RESULTS or path.name.endswith(CALIBRATION):
                continue
            if not hidden and path.is_file() and os.path.normpath(owner(path)) not in wanted:
                yield path


def show(checked: Checked, console: Console) -> None:
    """Print a row a rule, then what is not current, and what to do."""
    columns = [*STATES, "a plain run makes"]
    table = Table("rule", *columns, box=None, header_style="bold")
    rules = list(dict.fromkeys(job.rule for job in checked.jobs))
    for rule in rules:
        of_rule = [job for job in checked.jobs if job.rule == rule]
        states = Counter(job.state for job in of_rule)
        counts = [*(states[state] for state in STATES), sum(job.runs for job in of_rule)]
        table.add_row(rule, *(f"{count:,}" if count else "" for count in counts))
    console.print(table)
    bad = [job for job in checked.jobs if job.state in ("stale", "damaged")]
    for job in bad[:SHOWN]:
        console.print(f"{job.state}: {job.outputs[0]}: {job.why}", soft_wrap=True, markup=False)
    if len(bad) > SHOWN:
        console.print(f"and {len(bad) - SHOWN:,} more; --json lists all")
    for path in checked.orphans[:SHOWN]:
        console.print(f"orphaned: {path}: the config asks for no such result", markup=False)
    if len(checked.orphans) > SHOWN:
        console.print(f"and {len(checked.orphans) - SHOWN:,} orphans more; --json lists all")
    believed = "" if checked.deep else "; weights, images and embeddings were not read (--deep)"
    missing = [job for job in checked.jobs if job.state == "missing" and not job.runs]
    if missing:
        console.print(f"{len(missing):,} jobs' results are not there and nothing needs them")
    runs = sum(job.runs for job in checked.jobs)
    verdict = f"a plain run makes {runs:,} jobs" if runs else "nothing to be done"
    console.print(verdict + believed, style="bold")
