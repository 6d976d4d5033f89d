"""Scripts that say how far they are and go on when they are told."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator

from processes import STUCK_SECONDS, read_line, started

Start = Callable[..., "Script"]  # takes the script and its arguments


class Script:
    """A script under way."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def says(self) -> str:
        """The next line of its output."""
        assert self._process.stdout is not None
        return read_line(self._process.stdout).strip()

    def complains(self) -> str:
        """The next line of its errors."""
        assert self._process.stderr is not None
        return read_line(self._process.stderr).strip()

    def end(self) -> None:
        """Let it go on to its end, which must be a good one."""
        _, told = self._process.communicate(b"", timeout=STUCK_SECONDS)
        assert self._process.returncode == 0, told.decode()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def scripts() -> Iterator[Start]:
    """Give a function that starts a script; in the end all are killed."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with contextlib.ExitStack() as ended:

        def start(script: str, *arguments: object) -> Script:
            command = [sys.executable, "-c", script, *map(str, arguments)]
            return Script(ended.enter_context(started(command, bufsize=0, **pipes)))

        yield start
