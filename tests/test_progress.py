"""Lines of progress: whole, however the process is started."""

import contextlib
import io
import socket
import sys

from mstkd import progress


@contextlib.contextmanager
def unbuffered_stderr(monkeypatch):
    """Give a function that tells what has been written to stderr, a text a system call."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with here, io.FileIO(there.detach(), "w") as raw, monkeypatch.context() as patch:
        here.setblocking(False)
        patch.setattr(sys, "stderr", io.TextIOWrapper(raw, write_through=True))

        def texts():
            with contextlib.suppress(BlockingIOError):
                while True:
                    yield here.recv(1 << 16).decode()

        yield lambda: list(texts())


def test_a_line_is_one_system_call(monkeypatch):
    with unbuffered_stderr(monkeypatch) as written:
        progress.say("pack train A: 2 bad images")
        assert written() == ["pack train A: 2 bad images\n"]


def test_progress_is_told_in_whole_lines(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    with unbuffered_stderr(monkeypatch) as written:
        with progress.progress("embed", 3, "images") as told:
            for _ in range(3):
                told(1)
        texts = written()
    assert [text.split(" images")[0] for text in texts] == [
        f"embed: {count} of 3" for count in (1, 2, 3)
    ]
    assert all(text.endswith(" left\n") and text.count("\n") == 1 for text in texts)
