"""Packing runs that kill themselves, for the tests of what the next run takes over."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import STUCK_SECONDS

from mstkd.artifacts.atomic import left_over
from mstkd.config import PackSettings
from mstkd.data import partial
from mstkd.data.partial import face_pixels
from mstkd.data.sources import FaceImage

IN_THE_THIRD_CHUNK = """
import os, signal, sys
from pathlib import Path
from mstkd.config import PackSettings
from mstkd.data import packing, partial

decoded = 0

def decode_some(*image):
    global decoded
    decoded += 1
    if decoded > 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*image)

partial.CHUNK = 4
whole, partial.face_pixels = partial.face_pixels, decode_some
settings = PackSettings.model_validate_json(sys.argv[1])
packing.pack_train(settings, output=Path(sys.argv[2]))
"""

WITH_WORKERS = """
import contextlib, os, signal, sys
from pathlib import Path
from mstkd.config import PackSettings
from mstkd.data import packing, partial

@contextlib.contextmanager
def progress(*of):
    yield lambda count: os.kill(os.getpid(), signal.SIGKILL)

partial.CHUNK = 4
partial.progress = progress
settings = PackSettings.model_validate_json(sys.argv[1])
packing.pack_train(settings, output=Path(sys.argv[2]), workers=2)
"""


def kill(script: str, settings: PackSettings, output: Path) -> None:
    """Run until the script kills itself; its workers hold the pipe, so they have ended too."""
    command = [sys.executable, "-c", script, settings.model_dump_json(), str(output)]
    run = subprocess.run(command, capture_output=True, timeout=STUCK_SECONDS, check=False)
    assert run.returncode == -signal.SIGKILL
    lock = output.with_name(f".{output.name}.lock")
    assert set(output.parent.iterdir()) == {lock, partial_folder(output)}


def partial_folder(output: Path) -> Path:
    """What a killed run has left."""
    (folder,) = left_over(output, partial.SUFFIX)
    return folder


def count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list to which the names of the images are added that are decoded from now on."""
    decoded = []

    def decode_and_count(image: FaceImage, *rest: Any) -> np.ndarray:
        decoded.append(image.name)
        return face_pixels(image, *rest)

    monkeypatch.setattr(partial, "face_pixels", decode_and_count)
    return decoded
