"""A folder's page on a port of this machine, until Ctrl-C."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

from mstkd.config import AuditSettings
from mstkd.config.data import Suffixes
from mstkd.errors import InputError
from mstkd.view.app import View

LOOPBACK = "127.0.0.1"


class _Silent(WSGIRequestHandler):
    """Its log would hold the token, and what others send."""

    timeout = 30  # seconds that a connection may say nothing

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002, werkzeug's name
        pass


def serve(
    folder: Path,
    settings: AuditSettings,
    *,
    images: Path | None = None,
    more: Suffixes = None,
    port: int = 0,
    tell: Callable[[str], None],
) -> None:
    """Serve the page of a folder to this machine's browser; Ctrl-C ends it.

    Args:
        folder: of results.
        settings: how CSVs are read.
        images: a folder of the pictures that tables name.
        more: endings of further formats of these.
        port: 0 for any that is free.
        tell: takes the address, as soon as it answers.

    Raises:
        InputError: as `View`, or a port that cannot be had.
    """
    view = View(folder, settings, images, more)
    try:
        opened = socket.create_server((LOOPBACK, port))
    except (OSError, OverflowError) as error:
        expected = "a free port of 1,024 to 65,535, or 0 for any"
        raise InputError("--port", found=f"{port}: {error}", expected=expected) from None
    with opened:
        number = opened.getsockname()[1]
        server = make_server(
            LOOPBACK,
            number,
            view,
            threaded=True,
            request_handler=_Silent,
            fd=opened.fileno(),
        )
    tell(f"http://{LOOPBACK}:{number}/{view.token}/")
    server.serve_forever()  # till KeyboardInterrupt
