"""Processes that tests start: waited for without a fixed time, and gone when the tests are.

All that the tests start, and all that those start, carry a mark: a variable of the environment.
As a script this is a guard: `python processes.py MARK` waits for the end of its input, which comes
when the tests end, however they end, and kills every process that carries the mark. It uses
Python's own modules only, so that the guard starts at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from time import monotonic, sleep  # some tests put another sleep into the module
from typing import IO, Any, TypeVar

STUCK_SECONDS = 300  # only a fault waits so long

Value = TypeVar("Value")


def wait_for(condition: Callable[[], Value], seconds: float = STUCK_SECONDS) -> Value:
    """The first true value that `condition` gives."""
    deadline = monotonic() + seconds
    while not (value := condition()):
        assert monotonic() < deadline, f"{seconds} s went by, and still not so"
        sleep(0.02)
    return value


def read_line(pipe: IO[bytes], seconds: float = STUCK_SECONDS) -> str:
    """The next line of a pipe that is not buffered; at its end, what is left."""
    deadline, line = monotonic() + seconds, b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([pipe], [], [], max(0, deadline - monotonic()))
        assert ready, f"{seconds} s went by, and no more than {line!r}"
        byte = pipe.read(1)
        if not byte:
            break
        line += byte
    return line.decode()


@contextlib.contextmanager
def started(command: Sequence[Any], **options: Any) -> Iterator[subprocess.Popen]:
    """A process, which is killed in the end with all that it started.

    By a mark of their own: the number of a process that has ended, or of its group, may soon be
    another's.
    """
    mark = new_mark()
    environment = {**(options.pop("env", None) or os.environ), mark: "1"}
    # What runs in a shell's background ignores SIGINT, and so does all that it starts.
    options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    with subprocess.Popen(command, env=environment, **options) as process:
        try:
            yield process
        finally:
            process.kill()
            kill_marked(mark)


def new_mark() -> str:
    return f"MSTKD_TESTS_{uuid.uuid4().hex}"


def marked(mark: str) -> dict[int, str]:
    """Command lines, by process id, of the other processes that carry the mark.

    A process keeps it wherever it goes: another group, another parent. A zombie has none.
    """
    wanted, found = f"{mark}=1".encode(), {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # another user's, or gone
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(entry.name)] = words.decode(errors="replace").strip()
    found.pop(os.getpid(), None)
    return found


def kill(processes: Iterable[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def kill_marked(mark: str) -> None:
    while left := marked(mark):
        kill(left)


def main() -> None:
    sys.stdin.read()
    kill_marked(sys.argv[1])


if __name__ == "__main__":
    main()
