"""Asked to end: SIGTERM, as schedulers send it before they kill, becomes a checkpoint first."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # SLURM's --signal=USR1@60 warns a minute before


class Interrupted(Exception):  # noqa: N818, nothing went wrong
    """The process was asked to end; its state is saved."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number
        self.exit_code = 128 + number  # as a shell reports a process that a signal ended

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.number, str(self))


@contextlib.contextmanager
def asked_to_end() -> Iterator[Callable[[], int]]:
    """Give a function that tells the signal that asked this process to end, or 0.

    Outside the main thread, where Python lets no one listen to signals, it always tells 0.
    """
    received = 0

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = number

    with contextlib.ExitStack() as restored:
        for number in SIGNALS:
            with contextlib.suppress(ValueError):  # not the main thread
                restored.callback(signal.signal, number, signal.signal(number, remember))
        yield lambda: received
