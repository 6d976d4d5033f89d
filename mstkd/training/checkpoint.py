"""Exact state of a run to disk and back.

A checkpoint lies beside the step's outputs but is not one of them: Snakemake deletes the
declared outputs of a failed job. It is bound to a fingerprint of settings and inputs; the state
of other settings is never mixed in.
"""

from __future__ import annotations

import hashlib
import pickle
import time
from pathlib import Path
from typing import Any

import torch

from mstkd.artifacts.atomic import replacing
from mstkd.progress import say

FORMAT = "mstkd-checkpoint 3"


def fingerprint(*parts: object) -> str:
    """A hash of everything that determines a run."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()


class Checkpoint:
    """The newest state of one run, and the one before it.

    Args:
        output: the step's main output; the checkpoint lies beside it.
        run: the run's fingerprint.
        minutes: how long a run may go on without saving; a kill loses no more than that.
    """

    def __init__(self, output: Path, run: str, *, minutes: float = 10) -> None:
        self.path = output.with_name("checkpoint.pt")
        self._previous = output.with_name("checkpoint.previous.pt")
        self._run = run
        self._seconds = 60 * minutes
        self._saved = time.monotonic()

    def is_due(self) -> bool:
        """Whether the last state saved is older than it may be."""
        return time.monotonic() - self._saved >= self._seconds

    def save(self, state: dict[str, Any]) -> None:
        """Write tensors, numbers, strings and containers of them; keep the state before."""
        with replacing(self.path) as (part,):
            torch.save({"format": FORMAT, "run": self._run, "state": state}, part)
            if self.path.exists():
                self.path.replace(self._previous)
        self._saved = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The newest usable state, or None; says on stderr why a file was not used."""
        for path in (self.path, self._previous):
            if not path.exists():
                continue
            try:
                content = torch.load(path, map_location="cpu", weights_only=True)
            except (RuntimeError, EOFError, OSError, KeyError, ValueError, pickle.PickleError) as e:
                reason = str(e).splitlines()[0] if str(e) else type(e).__name__
                self._refuse(path, f"it cannot be read ({reason})")
                continue
            if not isinstance(content, dict) or content.get("format") != FORMAT:
                self._refuse(path, "it is not a checkpoint of this version")
            elif content["run"] != self._run:
                self._refuse(path, "it belongs to other settings, inputs or another seed")
            else:
                state: dict[str, Any] = content["state"]
                return state
        return None

    def remove(self) -> None:
        """Delete the files, once the outputs are whole."""
        self.path.unlink(missing_ok=True)
        self._previous.unlink(missing_ok=True)

    @staticmethod
    def _refuse(path: Path, reason: str) -> None:
        say(f"checkpoint {path} is not used: {reason}")
