"""Exact state of a run to disk and back.

A checkpoint lies beside the step's outputs but is not one of them: Snakemake deletes the
declared outputs of a failed job. It is bound to a fingerprint of settings and inputs; the state
of other settings is never mixed in.
"""

from __future__ import annotations

import hashlib
import io
import time
from pathlib import Path
from typing import Any, BinaryIO

import torch
import xxhash

from mstkd.artifacts.atomic import KeepingFault, naming, replacing
from mstkd.progress import say

FORMAT = b"mstkd-checkpoint 4 "  # then the digest of all that follows its line
BEGIN = len(FORMAT) + 32 + 1


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
        with replacing(self.path, needed=_bytes(state)) as (part,):
            with naming(part), part.open("wb") as file:
                file.write(bytes(BEGIN))
                written = _Hashed(file)
                whole = {"run": self._run, "state": state}
                torch.save(whole, written)  # type: ignore[arg-type]  # it writes and flushes
                if written.fault is not None:
                    raise written.fault
                file.seek(0)
                file.write(_head(written.digest))
            if self.path.exists():
                self.path.replace(self._previous)
        self._saved = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The newest usable state, or None; says on stderr why a file was not used."""
        for path in (self.path, self._previous):
            if not path.exists():
                continue
            try:
                content = _read(path)
            except Exception as e:  # whatever PyTorch raises over odd bytes with a right digest
                reason = str(e).splitlines()[0] if str(e) else type(e).__name__
                self._refuse(path, f"it cannot be read ({reason})")
                continue
            if content is None:
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


class _Hashed(KeepingFault):
    """A file that is hashed as it is written, for `torch.save`, which raises another fault."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.digest = xxhash.xxh3_128()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return super().write(data)


def _bytes(state: Any) -> int:
    """Of all tensors in containers."""
    if isinstance(state, torch.Tensor):
        return state.nbytes
    if isinstance(state, dict):
        return sum(map(_bytes, state.values()))
    return sum(map(_bytes, state)) if isinstance(state, list | tuple) else 0


def _read(path: Path) -> dict[str, Any] | None:
    """What was saved; None for a file of another kind or version.

    Raises:
        ValueError: the file is not what was written.
    """
    with path.open("rb") as file:
        head, body = file.read(BEGIN), file.read()
    if not head.startswith(FORMAT) and not FORMAT.startswith(head):
        return None
    if head != _head(xxhash.xxh3_128(body)):
        raise ValueError("other bytes than were written")
    content = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or not content.keys() >= {"run", "state"}:
        raise ValueError("no state of a run")
    return content


def _head(digest: Any) -> bytes:
    return FORMAT + digest.hexdigest().encode() + b"\n"
