"""How far long work is: a bar on a terminal, a plain line every few seconds in a log."""

from __future__ import annotations

import contextlib
import errno
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

SECONDS_BETWEEN_LINES = 5.0

Advance = Callable[[int], None]


def say(line: str, file: TextIO | None = None) -> None:
    """Write a line to `file`, by default stderr, at once and whole.

    `print` writes the end of a line by itself where Python does not buffer (PYTHONUNBUFFERED, as
    containers set it), and a line of another process may come between.
    """
    file = file or sys.stderr
    try:
        file.write(f"{line}\n")
        file.flush()
    except OSError as error:
        # A log on a full disk is no reason to give up work that is written elsewhere.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


@contextlib.contextmanager
def progress(label: str, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
    """Give a function to call with the number of units just done.

    Args:
        label: what is being done.
        total: units in all.
        unit: the plural noun of a unit, "images" say.
        done: units that an earlier run has finished; they do not count in the rate.
    """
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{unit}, {{task.fields[rate]}}/s,"),
            TimeRemainingColumn(),
        )
        begin = time.monotonic()
        with Progress(*columns, console=Console(stderr=True)) as bars:
            task = bars.add_task(label, total=total, completed=done, rate="?")

            def advance_bar(count: int) -> None:
                bars.advance(task, count)
                elapsed = max(time.monotonic() - begin, 1e-9)
                bars.update(task, rate=f"{(bars.tasks[0].completed - done) / elapsed:,.0f}")

            yield advance_bar
        return

    begin = last = time.monotonic()
    finished = done

    def advance_line(count: int) -> None:
        nonlocal finished, last
        finished += count
        now = time.monotonic()
        if now - last < SECONDS_BETWEEN_LINES and finished < total:
            return
        last = now
        rate = (finished - done) / max(now - begin, 1e-9)
        left = _duration((total - finished) / rate) if rate > 0 else "?"
        say(f"{label}: {finished:,} of {total:,} {unit}, {rate:,.0f} a second, {left} left")

    yield advance_line
