"""Scripts that say how far they are and go on when they are told."""

from __future__ import annotations

import subprocess
import sys

from processes import STUCK_SECONDS, read_line


class Script:
    """A script under way."""

    def __init__(self, script: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self.pid = self._process.pid

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
        self._process.communicate(b"", timeout=STUCK_SECONDS)
        assert self._process.returncode == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()
