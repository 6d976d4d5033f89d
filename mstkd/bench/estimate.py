"""Rates and work to hours; a line of it for a dry run. No torch here: the Snakefile asks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mstkd.bench.result import BenchResult, Estimate, PartHours, read_result
from mstkd.bench.work import Load, count_images, experiment
from mstkd.config import Config
from mstkd.errors import InputError


def estimate(loads: Sequence[Load], result: BenchResult, *, counted_from: str) -> Estimate:
    """The hours of all loads, one job after another.

    Raises:
        InputError: a load whose rate was not measured; names it.
    """
    parts = []
    for load in loads:
        rate = result.rate_of(load.subject)
        if rate is None:
            raise InputError(
                "the bench result",
                found=f"no rate for {load.part} of this config",
                expected="a result of `mstkd bench` with this config",
            )
        hours = load.images / rate.per_second / 3600
        parts.append(PartHours(part=load.part, jobs=load.jobs, images=load.images, hours=hours))
    total = sum(part.hours for part in parts)
    return Estimate(counted_from=counted_from, parts=parts, hours=total)


def dry_run_line(config: Config, path: Path, packs: Path | None = None) -> str | None:
    """What a dry run says of the whole experiment, or None where nothing was measured.

    The rates of the result meet the work of the present config, so an edit of the epochs or
    the seeds needs no new measurement. Never raises for a file that is not what it must be.

    Args:
        config: the experiment.
        path: the bench result.
        packs: the folder of packs; the experiment's own if None.
    """
    if not path.exists():
        return None
    try:
        result = read_result(path)
        counts = count_images(config, packs or config.inputs() / "packs")
        found = estimate(experiment(config, counts), result, counted_from=counts.source)
    except (InputError, OSError) as error:
        return f"mstkd: no estimate by {path}: {error}"
    where = result.gpu
    if result.device == "cpu":
        where = f"{result.machine.get('cpu', 'a CPU')}, {result.torch_threads} threads a job"
    more = ""
    if result.jobs_at_once > 1:
        at_once = duration(found.hours / result.jobs_at_once)
        more = f", {at_once} at best with {result.jobs_at_once} at once"
    return (
        f"mstkd: the whole experiment takes about {duration(found.hours)} one job after another"
        f"{more} ({where}; {path} of {str(result.machine.get('date', '?'))[:10]})"
    )


def duration(hours: float) -> str:
    """Hours in words: days, hours, minutes or seconds, whichever reads best."""
    if hours >= 48:
        return f"{significant(hours / 24)} days"
    if hours >= 1:
        return f"{significant(hours)} hours"
    if hours >= 1 / 60:
        return f"{hours * 60:.0f} minutes"
    return f"{hours * 3600:.0f} seconds"


def significant(value: float) -> str:
    """A number to at least three digits, and to the last where it has more before the point."""
    decimals = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{decimals}f}"
