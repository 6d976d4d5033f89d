"""The history of a run as TensorBoard reads it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from mstkd.artifacts.atomic import NO_ROOM, naming

Row = Mapping[str, float | int | None]


class Events:
    """Writes a scalar for each number of an epoch's row; a folder of None writes nothing.

    What an earlier run wrote there is replaced by `history`: a resumed run shows no epoch twice,
    and one of other settings nothing of the old one.
    """

    def __init__(self, folder: Path | None, history: Sequence[Row]) -> None:
        self._writer = None
        if folder is None:
            return
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        self._told_by_threads, threading.excepthook = threading.excepthook, self._tell
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        with naming(folder):
            self._writer = SummaryWriter(str(folder))
        for row in history:
            self.add(row)

    def add(self, row: Row) -> None:
        """Write the row of one epoch."""
        if self._writer is None:
            return
        with naming(self._folder):
            for name, value in row.items():
                if name != "epoch" and value is not None:
                    self._writer.add_scalar(name, value, row["epoch"])
            self._writer.flush()

    def _tell(self, fault: threading.ExceptHookArgs) -> None:
        """Of TensorBoard's thread: it hands a full disk on to the next call, which raises it."""
        if not (isinstance(fault.exc_value, OSError) and fault.exc_value.errno in NO_ROOM):
            self._told_by_threads(fault)

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is None:
            return
        try:
            with naming(self._folder):
                self._writer.close()
        except OSError:
            if error is None:  # else what ended the training is told
                raise
        finally:
            threading.excepthook = self._told_by_threads
