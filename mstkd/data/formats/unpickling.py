"""A pickle read as data: whatever it names or calls, nothing of it is imported or run.

Python's C unpickler is not used: a memo index in eight bytes of a pickle makes it allocate and
clear gigabytes, and it reads on across the end of a frame, so a check beforehand can see other
opcodes than it does. Python's own version in Python is, cut down to the opcodes of plain data.
It never has anything callable on its stack: a name becomes a `_Global`, a call a `_Call`. The
few calls that NumPy and old protocols need are worked out afterwards, by `_Values`.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mstkd.errors import InputError

PLAIN = "a pickle of lists, tuples, bytes, strings, numbers, booleans and NumPy arrays of those"
OPCODES = 1_500_000  # 12,000 images as arrays take 0.3 million; each costs up to 232 bytes
DEPTH = 32

# What a name may stand for; NumPy 2 renamed its `core`, Python 3 `__builtin__`.
_GLOBALS = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy.core.multiarray", "scalar"): "scalar",
    ("numpy._core.multiarray", "scalar"): "scalar",
    ("numpy.core.numeric", "_frombuffer"): "frombuffer",
    ("numpy._core.numeric", "_frombuffer"): "frombuffer",
    ("_codecs", "encode"): "encode",  # bytes, in protocols 0 to 2 of Python 3
    ("__builtin__", "bytes"): "bytes",  # no bytes at all, in the same protocols
    ("builtins", "bytes"): "bytes",
    ("__builtin__", "bytearray"): "bytearray",
    ("builtins", "bytearray"): "bytearray",
}
_OPCODES = b"".join(
    [
        *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK),
        *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
        *(pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2),
        *(pickle.LONG, pickle.LONG1, pickle.LONG4, pickle.FLOAT, pickle.BINFLOAT),
        *(pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING),
        *(pickle.SHORT_BINBYTES, pickle.BINBYTES, pickle.BINBYTES8),
        *(pickle.UNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE, pickle.BINUNICODE8),
        *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
        *(pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND, pickle.APPENDS),
        *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE),
        *(pickle.GET, pickle.BINGET, pickle.LONG_BINGET),
        *(pickle.GLOBAL, pickle.STACK_GLOBAL),
        pickle.INST,  # ends with the name that `find_class` refuses, or with a call that fails
    ]
)
_DTYPE = re.compile("b1|[iu][1248]|f[248]|c(?:8|16)|S[1-9][0-9]{0,8}")
_ATOMS = (bytes, str, int, bool, float, bytearray, type(None))

# What the standard unpickler, NumPy and the unpacking below raise on damaged pickles.
_DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    struct.error,
)


def load_plain(data: bytes, where: Path) -> Any:
    """The value of a pickle of protocol 0 to 5, of Python 2 or 3, if it is plain data.

    Plain are lists, tuples, bytes, bytearrays, strings, integers, floats, booleans, None and
    NumPy arrays of numbers, booleans or bytes (read-only where the pickle keeps them as bytes).
    Strings of Python 2 come back as bytes, NumPy scalars as Python's. Memory stays within a
    small multiple of `data`, and 400 MB. What follows the end of the pickle is not looked at.

    Raises:
        InputError: anything else; names `where` and the type or opcode at fault.
    """
    try:
        return _Values(2 * len(data)).value(_Reader(data).load())
    except _Refused as refused:
        raise InputError(where, found=refused, expected=PLAIN) from None
    except _DAMAGE:
        found = "no pickle, or one that is damaged or cut off"
        raise InputError(where, found=found, expected=PLAIN) from None


class _Refused(Exception):  # noqa: N818, it is a finding, not a fault of ours
    """Completes "found ..."."""


@dataclass(frozen=True, slots=True)
class _Global:
    """A name of `_GLOBALS`."""

    kind: str


@dataclass(eq=False, slots=True)
class _Call:
    """A call that was not made, and the state to be set on its result."""

    kind: str
    arguments: tuple[Any, ...]
    state: Any = None


class _Reader(pickle._Unpickler):
    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self.dispatch = _Opcodes()  # type: ignore[misc, assignment]

    def find_class(self, module: str, name: str) -> _Global:
        kind = _GLOBALS.get((module, name))
        if kind is None:
            raise _Refused(f"a pickle that names {_shown(module)}.{_shown(name)}")
        return _Global(kind)

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        if type(function) is not _Global or type(arguments) is not tuple:
            raise pickle.UnpicklingError
        self.stack[-1] = _Call(function.kind, arguments)

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is not _Call or target.kind not in ("reconstruct", "dtype"):
            raise _Refused("a pickle that sets the attributes of an object")
        target.state = state

    def load_bytearray8(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(size)))  # the inherited one allocates before it reads


class _Opcodes(dict[int, Callable[[_Reader], None]]):
    """What each opcode does, `OPCODES` times."""

    def __init__(self) -> None:
        inherited: dict[int, Any] = pickle._Unpickler.dispatch
        super().__init__({code: inherited[code] for code in _OPCODES})
        self[pickle.REDUCE[0]] = _Reader.load_reduce
        self[pickle.BUILD[0]] = _Reader.load_build
        self[pickle.BYTEARRAY8[0]] = _Reader.load_bytearray8
        self.left = OPCODES

    def __getitem__(self, code: int) -> Callable[[_Reader], None]:
        self.left -= 1
        if self.left < 0:
            raise _Refused(f"a pickle of more than {OPCODES:,} opcodes")
        return super().__getitem__(code)

    def __missing__(self, code: int) -> Callable[[_Reader], None]:
        for opcode in pickletools.opcodes:
            if ord(opcode.code) == code:
                raise _Refused(f"a pickle with the opcode {opcode.name}, or no pickle")
        raise pickle.UnpicklingError


class _Values:
    """Values of what a `_Reader` read. What is shared there is shared here, and made once.

    A pickle can ask for copies of one long string many times; `budget` is how many bytes may be
    copied in all. A pickle that was not made to harm needs twice its size at most: a bytearray
    of protocol 2 is made from bytes that are made from a string.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.made: dict[int, Any] = {}  # by id: the tree outlives it

    def value(self, item: Any, depth: int = 0) -> Any:
        made = self.part(item, depth)
        if isinstance(made, (_Global, np.dtype)):
            raise _Refused("a pickle with a function or a type as a value")
        return made

    def part(self, item: Any, depth: int) -> Any:
        """A value, or what only a call may take: a `_Global`, a dtype."""
        if type(item) in _ATOMS or type(item) is _Global:
            return item
        if depth > DEPTH:
            raise _Refused(f"a pickle nested more than {DEPTH} deep, or that contains itself")
        made = self.made.get(id(item))
        if made is None:
            if type(item) is _Call:
                made = self.call(item, depth + 1)
            else:  # a list or a tuple: no opcode makes anything else
                made = type(item)([self.value(part, depth + 1) for part in item])
            self.made[id(item)] = made
        return made

    def call(self, call: _Call, depth: int) -> Any:
        arguments = [self.part(argument, depth) for argument in call.arguments]
        match call.kind, arguments:
            case "reconstruct", [_Global("ndarray"), _, _]:
                # `__setstate__` of an array: version, shape, dtype, Fortran's order, data.
                version, *state = (self.part(part, depth) for part in call.state)
                if version != 1:
                    raise _Refused("a NumPy array of an unknown version")
                shape, dtype, fortran, raw = state
                return _array(shape, dtype, raw, "F" if fortran else "C")
            case "frombuffer", [raw, dtype, shape, order, *rest]:
                if _text(order) not in ("C", "F") or rest not in ([], [None]):
                    raise _Refused("a NumPy array with its axes in another order")
                return _array(shape, dtype, raw, _text(order))
            case "dtype", [name, *_]:
                return _dtype(_text(name), call.state)
            case "scalar", [dtype, raw]:
                return self.copied(_array((), dtype, raw, "C").item())
            case "encode", [str(text), codec] if _text(codec) in ("latin1", "latin-1"):
                return self.copied(text.encode("latin-1"))
            case "bytes", []:
                return b""
            case "bytearray", []:
                return bytearray()
            case "bytearray", [bytes(raw)]:
                return self.copied(bytearray(raw))
            case "bytearray", [str(text), codec] if _text(codec) in ("latin1", "latin-1"):
                return self.copied(bytearray(text, "latin-1"))
        raise _Refused(f"a pickle that calls {call.kind} as no pickler does")

    def copied(self, made: Any) -> Any:
        self.budget -= len(made) if isinstance(made, (bytes, bytearray)) else 0
        if self.budget < 0:
            raise _Refused("a pickle that unpacks to far more than its size")
        return made


def _array(shape: Any, dtype: Any, raw: Any, order: Any) -> NDArray[Any]:
    if not isinstance(dtype, np.dtype) or type(raw) not in (bytes, bytearray):
        raise _Refused("a NumPy array of another kind of data")
    if type(shape) is not tuple or len(shape) > 32 or not all(map(_is_length, shape)):
        raise _Refused("a NumPy array of an impossible shape")
    size = math.prod(shape) * dtype.itemsize
    if size != len(raw):
        raise _Refused(f"a NumPy array of {size:,} bytes with {len(raw):,} bytes of data")
    if dtype.kind == "b" and raw.translate(None, b"\0\1"):
        raise _Refused("NumPy booleans that are neither 0 nor 1")
    return np.ndarray(shape, dtype, buffer=raw, order=order)


def _is_length(length: Any) -> bool:
    return type(length) is int and 0 <= length < 2**48


def _dtype(name: Any, state: Any) -> np.dtype[Any]:
    """`state` is that of `dtype.__setstate__`: version, byte order, three of records, sizes."""
    if type(name) is not str or not _DTYPE.fullmatch(name):
        raise _Refused(f"a pickle with a NumPy array of dtype {_shown(name)}")
    if type(state) is not tuple or state[0] != 3 or state[2:5] != (None, None, None):
        raise _Refused("a pickle with a NumPy array of records")
    return np.dtype(name).newbyteorder(_text(state[1]))


def _text(value: Any) -> Any:
    """A name that Python 2 may have written, as a string."""
    return value.decode("ascii") if type(value) is bytes else value


def _shown(text: Any) -> str:
    """Fit for a terminal and a single line."""
    if type(text) is not str:
        return f"of type {type(text).__name__}"
    shown = text.encode("unicode_escape").decode("ascii")
    return shown if len(shown) <= 80 else shown[:80] + "..."
