"""Files that appear whole or not at all: write beside, flush to disk, rename.

A disk without room is told with the file, what it needs and what is free.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from mstkd.artifacts.writers import only_renamer

SUFFIX = ".tmp"  # of the temporary names
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# As libraries that do not raise the system's error have it in their messages.
NO_ROOM_TOLD = re.compile(rf"(?:code: |os error )({'|'.join(map(str, NO_ROOM))})\b")


class NoRoomError(OSError):
    """A file that the disk has no room for.

    `needed` are bytes of it, all that it takes if `whole`, else what was written before it failed.
    """

    needed = 0
    whole = False

    @classmethod
    def of(cls, path: Path, code: int, needed: int, *, whole: bool) -> NoRoomError:
        """For a file, with the system's number of the error."""
        made = cls(code, os.strerror(code), str(path))
        made.needed, made.whole = needed, whole
        return made

    def line(self) -> str:
        """File, needed and free, as faults of the user are told."""
        folder = Path(str(self.filename))
        while not folder.is_dir() and folder != folder.parent:
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        exact = self.whole and free < self.needed
        needed = f"{self.needed:,}" if exact else f"more than {max(self.needed, free):,}"
        found = f"{free:,} bytes free on the disk ({self.strerror})"
        return f"{self.filename}: found {found}; expected {needed}"


def no_room(error: OSError) -> NoRoomError | None:
    """The fault of a full disk with its numbers; None where it is another fault."""
    if isinstance(error, NoRoomError):
        return error
    if error.errno not in NO_ROOM:
        return None
    path = Path(str(error.filename or "standard output"))
    return NoRoomError.of(path, error.errno, _size(path), whole=False)


def need_room(path: Path, needed: int) -> None:
    """Refuse to begin a file of so many bytes where the disk has fewer.

    Raises:
        NoRoomError: it has.
    """
    disk = shutil.disk_usage(path.parent)
    if disk.free < needed and disk.total:  # some file systems tell no sizes at all
        raise NoRoomError.of(path, errno.ENOSPC, needed, whole=True)


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size if path.is_file() else 0
    return 0


def own_name(path: Path, suffix: str) -> Path:
    """A hidden name beside a file that no other process takes, on whatever machine."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{suffix}")


def left_over(path: Path, suffix: str) -> list[Path]:
    """What lies beside a file under such names, of processes alive or dead."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]+{re.escape(suffix)}")
    return sorted(one for one in path.parent.iterdir() if name.fullmatch(one.name))


def remove_left_over(path: Path, suffix: str) -> None:
    """Remove what dead processes left under such names; only where no other is at work."""
    for left in left_over(path, suffix):
        remove(left)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class KeepingFault:
    """A file for a library that must not hear that a write failed.

    The first fault is kept; after it, nothing is written.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.fault: OSError | None = None

    def write(self, data: Any) -> int:
        self._try(lambda: self._file.write(data))
        return len(data)

    def flush(self) -> None:
        self._try(self._file.flush)

    def _try(self, call: Callable[[], object]) -> None:
        if self.fault is None:
            try:
                call()
            except OSError as fault:
                self.fault = fault


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let a fault of the disk name the file, which the system does not of an open one."""
    try:
        yield
    except OSError as error:
        if isinstance(error, NoRoomError) or error.errno is None:
            raise
        if error.errno in NO_ROOM:
            where = Path(str(error.filename or path))
            raise NoRoomError.of(where, error.errno, _size(where), whole=False) from None
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """What has a name in a folder keeps it if the power fails.

    Not every file system can promise that.
    """
    with contextlib.suppress(OSError):
        _sync(folder)


def sync_above(paths: Iterable[Path]) -> None:
    """The same of the folders in which files are to be, which somebody else has just made."""
    for folder in {above for path in paths for above in path.absolute().parents}:
        sync_folder(folder)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, as far as there are none, so that they stay."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in missing:
        sync_folder(one.parent)


@contextlib.contextmanager
def replacing(*paths: Path, needed: int = 0) -> Iterator[tuple[Path, ...]]:
    """Give a temporary name for each path; rename them all, in order, if the block succeeds.

    The renames follow each other directly, the last path last: a reader that finds the last
    path finds the others, and two writers do not mix theirs. On an exception the temporary files
    are removed and the old files stay as they were; so are those of processes that were killed.

    Args:
        paths: the files to be.
        needed: bytes of them all, where that is known: nothing is begun that does not fit.

    Raises:
        NoRoomError: the disk has no room, before or while they are written.
    """
    temporary = tuple(own_name(path, SUFFIX) for path in paths)
    for path in paths:
        make_folder(path.parent)
    with only_renamer(paths[-1]) as turn:
        if turn.alone:
            for path in paths:
                remove_left_over(path, SUFFIX)
        try:
            if needed:
                need_room(paths[-1], needed)
            yield temporary
            for part in temporary:
                with naming(part):
                    _sync(part)
            for part, path in zip(temporary, paths, strict=True):
                part.replace(path)
            for folder in {path.parent for path in paths}:
                sync_folder(folder)
        except OSError as error:
            told = _of_path(error, dict(zip(map(str, temporary), paths, strict=True)))
            if told is error:
                raise
            raise told from None
        finally:
            for part in temporary:
                part.unlink(missing_ok=True)


def move_into_place(whole: Path, path: Path) -> None:
    """Let a file that is finished appear under its name, in one rename.

    Before it, whoever was killed finds the file where it was, after it in its place.
    """
    with only_renamer(path):
        with naming(whole):
            _sync(whole)
        whole.replace(path)
        for folder in {path.parent, whole.parent}:
            sync_folder(folder)


def _of_path(error: OSError, paths: dict[str, Path]) -> OSError:
    """The fault of a full disk, of the file to be in place of its temporary name."""
    if error.errno not in NO_ROOM:
        return error
    begun = [part for part in paths if Path(part).exists()]
    part = str(error.filename or (begun or list(paths))[-1])
    if part not in paths and error.filename is not None:
        return no_room(error) or error
    if isinstance(error, NoRoomError):
        needed, whole = error.needed, error.whole
    else:
        needed, whole = _size(Path(part)), False
    return NoRoomError.of(paths[part], error.errno, needed, whole=whole)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    data = text.encode()
    with replacing(path, needed=len(data)) as (part,), naming(part):
        part.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
