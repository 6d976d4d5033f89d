"""No process outlives the one that started it: what was killed must not compute on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def end_with_parent() -> None:
    """Let this process, started by `multiprocessing`, be killed when its parent ends.

    Else a rank would train on, and a worker of a pool wait for work for ever.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a child"

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
