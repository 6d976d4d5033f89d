"""What a process does to the files of a folder, call by call, and what a power cut leaves of it.

`recorded` lets strace(1) write down each call of a process, of all its threads and children: what
Python, HDF5, torch and safetensors do is seen as the kernel sees it. `Disk` replays the first so
many of them, and gives the folder as it lies there after a power cut: of what was not synced, any
part may be lost, the bytes of files and the names in folders alike (POSIX promises no more; what
file systems do is between that and everything).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

CALLS = (
    "open,openat,creat,close,dup,dup2,dup3,fcntl,read,readv,write,pwrite64,writev,pwritev,lseek,"
    "truncate,ftruncate,fallocate,fsync,fdatasync,sync,syncfs,rename,renameat,renameat2,link,"
    "linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,mmap,chdir,fork,vfork,clone,"
    "clone3,copy_file_range,sendfile,splice"
)
SECTOR = 512
PR_SET_PTRACER, ANY_PROCESS = 0x59616D61, ctypes.c_ulong(-1)


def can_record() -> bool:
    """Whether strace is there and may look on."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], check=False).returncode == 0


@contextlib.contextmanager
def recorded(log: Path) -> Iterator[None]:
    """Write down what this process does in the block."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANY_PROCESS, 0, 0, 0)
    command = ["strace", "-f", "-xx", "-s", "100000000", "-e", f"trace={CALLS}"]
    command += ["-e", "signal=none", "-o", str(log), "-p", str(os.getpid())]
    tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = monotonic() + 60
        while f"TracerPid:\t{tracer.pid}\n" not in Path("/proc/self/status").read_text():
            assert tracer.poll() is None and monotonic() < deadline, "strace does not look on"
            sleep(0.01)
        yield
    finally:
        tracer.terminate()
        tracer.wait()


# ---------------------------------------------------------------- what is done


@dataclass(frozen=True)
class Write:
    file: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Truncate:
    file: int
    size: int


@dataclass(frozen=True)
class Names:
    """Names that change at once: (folder, name) to a file or folder, or to nothing."""

    changes: tuple[tuple[int, str, int | None], ...]


@dataclass(frozen=True)
class New:
    """A file or folder that has no name yet."""

    file: int
    is_folder: bool


@dataclass(frozen=True)
class Sync:
    file: int | None  # None: everything


Event = Write | Truncate | Names | New | Sync
Tree = dict[str, bytes | None]  # paths from the folder; None of folders


@dataclass
class _Open:
    file: int
    offset: int = 0
    append: bool = False


LINE = re.compile(rb"^(\d+) +(\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+|\?)(.*)$", re.DOTALL)
UNFINISHED = re.compile(rb"^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$", re.DOTALL)
RESUMED = re.compile(rb"^(\d+) +<\.\.\. (\w+) resumed>(.*)$", re.DOTALL)


def calls(log: Path) -> Iterator[tuple[int, str, str, int]]:
    """Process, name, arguments and result of each call that succeeded, in order of their ends."""
    begun: dict[bytes, bytes] = {}
    for line in log.read_bytes().splitlines():
        if match := UNFINISHED.match(line):
            begun[match[1]] = match[3]
            continue
        if match := RESUMED.match(line):
            line = match[1] + b" " + match[2] + b"(" + begun.pop(match[1], b"") + match[3]
        if (match := LINE.match(line)) and not match[4].startswith((b"-", b"?")):
            yield int(match[1]), match[2].decode(), match[3].decode(), int(match[4], 0)


def _text(argument: str) -> bytes:
    return bytes.fromhex(argument.strip().strip('"').replace("\\x", ""))


class _Reader:
    """From calls to events on what lies in a folder, as it was before them."""

    def __init__(self, folder: Path, cwd: Path, tree: Tree) -> None:
        self.folder, self.events = folder, list[Event]()
        self._names: dict[int, dict[str, int]] = {0: {}}
        self._sizes: dict[int, int] = {}
        self._cwd = cwd
        self._tables: dict[int, dict[int, _Open]] = {}
        self._shared: dict[int, int] = {}  # a thread's process
        self._next = 1
        for path, content in sorted(tree.items()):
            folder_, name = self._place(folder / path)
            assert folder_ is not None
            self._names[folder_][name] = self._new(is_folder=content is None)
            self._sizes[self._names[folder_][name]] = len(content or b"")
        self.begin = list(self.events), {k: dict(v) for k, v in self._names.items()}
        self.events.clear()

    def _new(self, *, is_folder: bool) -> int:
        number, self._next = self._next, self._next + 1
        self.events.append(New(number, is_folder))
        if is_folder:
            self._names[number] = {}
        self._sizes[number] = 0
        return number

    def _place(self, path: Path) -> tuple[int | None, str]:
        """The folder in which a path is or would be, and its name there; None outside."""
        whole = os.path.normpath(self._cwd / path)
        if not whole.startswith(f"{self.folder}/"):
            return None, ""
        *parents, name = Path(whole).relative_to(self.folder).parts
        here = 0
        for parent in parents:
            here = self._names[here][parent]
        return here, name

    def _find(self, path: Path) -> int | None:
        if os.path.normpath(self._cwd / path) == str(self.folder):
            return 0
        try:
            folder, name = self._place(path)
        except KeyError:
            return None
        return None if folder is None else self._names[folder].get(name)

    def _change(self, *changes: tuple[int, str, int | None]) -> None:
        for folder, name, file in changes:
            if file is None:
                del self._names[folder][name]
            else:
                self._names[folder][name] = file
        self.events.append(Names(changes))

    def read(self, log: Path) -> None:
        for process, name, told, result in calls(log):
            process = self._shared.get(process, process)
            table = self._tables.setdefault(process, {})
            arguments = _split(told)
            method = getattr(self, f"_{name}", None)
            if name in ("fork", "vfork", "clone", "clone3"):
                if "CLONE_FILES" in told:
                    self._shared[result] = process
                else:  # open files are shared, the table is not; it may have been used already
                    self._tables[result] = {**table, **self._tables.get(result, {})}
            elif name == "mmap":
                opened = table.get(_number(arguments[4]))
                if opened is not None and "PROT_WRITE" in told and "MAP_SHARED" in told:
                    raise AssertionError("a file is written through memory, which no call shows")
            elif name in ("copy_file_range", "sendfile", "splice", "symlink", "symlinkat"):
                if name.startswith("symlink") or any(
                    _number(one) in table for one in arguments if one.strip().isdigit()
                ):
                    raise AssertionError(f"{name} is not replayed")
            elif method is not None:
                method(table, arguments, result)

    # Of each call: the open files of its process, its arguments and what it returned.

    def _open(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        path, flags = Path(os.fsdecode(_text(arguments[0]))), arguments[1]
        table.pop(result, None)
        if os.path.normpath(self._cwd / path) == str(self.folder):
            table[result] = _Open(0)
            return
        folder, name = self._place(path)
        if folder is None:
            return
        file = self._names[folder].get(name)
        if file is None:
            assert "O_CREAT" in flags, path
            file = self._new(is_folder=False)
            self._change((folder, name, file))
        elif "O_TRUNC" in flags and self._sizes[file]:
            self._truncated(file, 0)
        table[result] = _Open(file, 0, "O_APPEND" in flags)

    def _openat(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        self._open(table, self._at(table, arguments[0], arguments[1]) + arguments[2:], result)

    def _at(self, table: dict[int, _Open], descriptor: str, path: str) -> list[str]:
        if descriptor.strip() == "AT_FDCWD" or _text(path).startswith(b"/"):
            return [path]
        opened = table.get(int(descriptor))
        whole = b"/nowhere" if opened is None else os.fsencode(self._path(opened.file))
        joined = whole + b"/" + _text(path)
        return ["".join(f"\\x{byte:02x}" for byte in joined)]

    def _path(self, file: int) -> Path:
        if file == 0:
            return self.folder
        for folder, names in self._names.items():
            for name, one in names.items():
                if one == file:
                    return self._path(folder) / name
        raise AssertionError("an open folder without a name")

    def _close(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        table.pop(_number(arguments[0]), None)

    def _dup(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        table.pop(result, None)
        if _number(arguments[0]) in table:
            table[result] = table[_number(arguments[0])]

    _dup2 = _dup3 = _dup

    def _fcntl(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        if "F_DUPFD" in arguments[1]:
            self._dup(table, arguments, result)

    def _read(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        if (opened := table.get(_number(arguments[0]))) is not None:
            opened.offset += result

    _readv = _read

    def _lseek(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        if (opened := table.get(_number(arguments[0]))) is not None:
            opened.offset = result

    def _wrote(self, file: int, offset: int, data: bytes) -> None:
        if data:
            self._sizes[file] = max(self._sizes[file], offset + len(data))
            self.events.append(Write(file, offset, data))

    def _write(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        if (opened := table.get(_number(arguments[0]))) is None:
            return
        if opened.append:
            opened.offset = self._sizes[opened.file]
        self._wrote(opened.file, opened.offset, _text(arguments[1])[:result])
        opened.offset += result

    def _writev(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        parts = re.findall(r'iov_base="([^"]*)"', ",".join(arguments))
        self._write(table, [arguments[0], "".join(parts)], result)

    def _pwrite64(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        if (opened := table.get(_number(arguments[0]))) is not None:
            self._wrote(opened.file, int(arguments[3]), _text(arguments[1])[:result])

    def _pwritev(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        assert _number(arguments[0]) not in table, "pwritev is not replayed"

    def _truncated(self, file: int, size: int) -> None:
        self._sizes[file] = size
        self.events.append(Truncate(file, size))

    def _ftruncate(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        if (opened := table.get(_number(arguments[0]))) is not None:
            self._truncated(opened.file, int(arguments[1]))

    def _truncate(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        if (file := self._find(Path(os.fsdecode(_text(arguments[0]))))) is not None:
            self._truncated(file, int(arguments[1]))

    def _fallocate(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        assert _number(arguments[0]) not in table, "fallocate is not replayed"

    def _fsync(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        if (opened := table.get(_number(arguments[0]))) is not None:
            self.events.append(Sync(opened.file))

    _fdatasync = _fsync

    def _sync(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        self.events.append(Sync(None))

    _syncfs = _sync

    def _rename(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        old, new = (Path(os.fsdecode(_text(one))) for one in arguments[:2])
        file = self._find(old)
        folder, name = self._place(new)
        if file is None and folder is None:
            return
        assert file is not None and folder is not None, f"{old} to {new}: over the border"
        from_, was = self._place(old)
        assert from_ is not None
        self._change((from_, was, None), (folder, name, file))

    def _renameat(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        paths = self._at(table, *arguments[:2]) + self._at(table, *arguments[2:4])
        self._rename(table, paths, result)

    _renameat2 = _renameat

    def _link(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        file = self._find(Path(os.fsdecode(_text(arguments[0]))))
        folder, name = self._place(Path(os.fsdecode(_text(arguments[1]))))
        if folder is not None:
            assert file is not None
            self._change((folder, name, file))

    def _linkat(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        paths = self._at(table, *arguments[:2]) + self._at(table, *arguments[2:4])
        self._link(table, paths, result)

    def _unlink(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        folder, name = self._place(Path(os.fsdecode(_text(arguments[0]))))
        if folder is not None:
            self._change((folder, name, None))

    _rmdir = _unlink

    def _unlinkat(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        self._unlink(table, self._at(table, *arguments[:2]), result)

    def _mkdir(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        folder, name = self._place(Path(os.fsdecode(_text(arguments[0]))))
        if folder is not None:
            self._change((folder, name, self._new(is_folder=True)))

    def _mkdirat(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        self._mkdir(table, self._at(table, *arguments[:2]), result)

    def _chdir(self, table: dict[int, _Open], arguments: list[str], result: int) -> None:
        self._cwd = self._cwd / os.fsdecode(_text(arguments[0]))


def _number(argument: str) -> int:
    found = re.match(r"-?\d+", argument.strip())
    return int(found[0]) if found else -1


def _split(told: str) -> list[str]:
    """The arguments of a call: no string of strace's -xx has a comma in it."""
    return told.split(", ") if told else []


def tree_of(folder: Path) -> Tree:
    """All that lies in a folder."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def lay_out(tree: Tree, folder: Path) -> None:
    """Put it there, in place of what is."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path, content in sorted(tree.items()):
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)


# ---------------------------------------------------------------- what is left


@dataclass
class _File:
    synced: bytes = b""
    after: list[Write | Truncate] = field(default_factory=list)


def _applied(content: bytes, changes: Sequence[Write | Truncate]) -> bytes:
    data = bytearray(content)
    for change in changes:
        if isinstance(change, Truncate):
            del data[change.size :]
            data.extend(bytes(change.size - len(data)))
        else:
            data.extend(bytes(max(0, change.offset - len(data))))
            data[change.offset : change.offset + len(change.data)] = change.data
    return bytes(data)


# What is left of changes of names that were not synced, and of a file's, the last maybe torn.
LeftOfNames = Callable[[list[Names]], list[Names]]
LeftOfFile = Callable[[_File], bytes]


def _with_zeros(file: _File) -> bytes:
    """The size came to the disk, the bytes did not: XFS, or ext4 with delayed allocation."""
    return file.synced.ljust(len(_applied(file.synced, file.after)), b"\0")


class Disk:
    """The folder after so many events, with what was synced of it."""

    def __init__(self, folder: Path, tree: Tree, log: Path, cwd: Path | None = None) -> None:
        reader = _Reader(folder, cwd or Path.cwd(), tree)
        reader.read(log)
        self.events = reader.events
        made, self._names = reader.begin
        self._folders = {0} | {one.file for one in made if isinstance(one, New) and one.is_folder}
        self._files = {
            one.file: _File() for one in made if isinstance(one, New) and not one.is_folder
        }
        for path, content in tree.items():
            if content is not None:
                self._files[self._at(path)].synced = content
        self._waiting: list[Names] = []

    def _at(self, path: str) -> int:
        here = 0
        for part in Path(path).parts:
            here = self._names[here][part]
        return here

    def after_each(self) -> Iterator[int]:
        """Replay the events; between them the folder can be asked for."""
        yield 0
        for number, event in enumerate(self.events, 1):
            self._do(event)
            yield number

    def _do(self, event: Event) -> None:
        if isinstance(event, New):
            if event.is_folder:
                self._folders.add(event.file)
                self._names[event.file] = {}
            else:
                self._files[event.file] = _File()
        elif isinstance(event, Names):
            self._waiting.append(event)
        elif isinstance(event, Write | Truncate):
            self._files[event.file].after.append(event)
        elif event.file is None:
            for file in self._files.values():
                file.synced, file.after = _applied(file.synced, file.after), []
            self._settle(lambda names: True)
        elif event.file in self._folders:
            self._settle(lambda names: any(one == event.file for one, _, _ in names.changes))
        else:
            file = self._files[event.file]
            file.synced, file.after = _applied(file.synced, file.after), []

    def _settle(self, is_synced: Callable[[Names], bool]) -> None:
        for names in self._waiting:
            if is_synced(names):
                _rename(self._names, names)
        self._waiting = [names for names in self._waiting if not is_synced(names)]

    def left(self, of_names: LeftOfNames, of_file: LeftOfFile) -> Tree:
        """The folder after a power cut."""
        names = {folder: dict(entries) for folder, entries in self._names.items()}
        for change in of_names(list(self._waiting)):
            _rename(names, change)
        tree: Tree = {}

        def walk(folder: int, path: str, above: tuple[int, ...]) -> None:
            for name, one in names[folder].items():
                if one in self._folders:
                    if one not in above:
                        tree[f"{path}{name}"] = None
                        walk(one, f"{path}{name}/", (*above, one))
                else:
                    tree[f"{path}{name}"] = of_file(self._files[one])

        walk(0, "", (0,))
        return tree

    def guaranteed(self) -> Tree:
        """What was synced, and nothing else."""
        return self.left(lambda names: [], lambda file: file.synced)

    def whole(self) -> Tree:
        """All of it: what a killed process leaves."""
        return self.left(lambda names: names, lambda file: _applied(file.synced, file.after))

    def cuts(self, chance: random.Random, drawn: int) -> Iterator[tuple[str, Tree]]:
        """What a power cut may leave now: the four corners, and so many drawn by chance."""
        yield "nothing that was not synced", self.guaranteed()
        yield "all", self.whole()
        yield "names without bytes", self.left(lambda names: names, lambda file: file.synced)
        yield "names, and zeros for bytes", self.left(lambda names: names, _with_zeros)
        for _ in range(drawn):
            ordered = chance.random() < 0.5

            def of_names(names: list[Names], ordered: bool = ordered) -> list[Names]:
                if ordered:  # as a file system with a journal
                    return names[: chance.randint(0, len(names))]
                return [one for one in names if chance.random() < 0.5]

            def of_file(file: _File) -> bytes:
                kept: list[Write | Truncate] = []
                for one in file.after:
                    if chance.random() < 0.6:
                        if isinstance(one, Write) and chance.random() < 0.3:
                            sectors = chance.randint(0, len(one.data) // SECTOR)
                            one = Write(one.file, one.offset, one.data[: sectors * SECTOR])
                        kept.append(one)
                return _applied(file.synced, kept)

            yield "drawn", self.left(of_names, of_file)


def _rename(names: dict[int, dict[str, int]], change: Names) -> None:
    for folder, name, file in change.changes:
        if file is None:
            names[folder].pop(name, None)
        else:
            names[folder][name] = file


def told(event: Any) -> str:
    """An event in a few words, for messages."""
    text = repr(event)
    return text if len(text) < 120 else f"{text[:120]}..."
