from __future__ import annotations

import copyreg
import math
import os
import pickle
import struct
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstkd.data.formats import unpickling
from mstkd.data.formats.unpickling import DEPTH, PLAIN, load_plain
from mstkd.errors import InputError

WHERE = Path("faces.bin")
PROTOCOLS = range(6)
DAMAGED = "no pickle, or one that is damaged or cut off"


def refusal(data: bytes) -> str:
    """What is found, according to the error that `data` must raise."""
    with pytest.raises(InputError) as error:
        load_plain(data, WHERE)
    assert error.value.where == "faces.bin"
    assert error.value.expected == PLAIN
    assert "\n" not in str(error.value)
    return error.value.found


def same(a: Any, b: Any) -> bool:
    """Equal, and of equal types all the way down; NaN equals NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


# ---------------------------------------------------------------- plain values

atoms = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | st.binary()
    | st.text()
    | st.binary().map(bytearray)
)
values = st.recursive(
    atoms, lambda inner: st.lists(inner, max_size=5) | st.lists(inner, max_size=5).map(tuple)
)


@given(values, st.sampled_from(PROTOCOLS))
def test_plain_values_of_every_protocol(value: Any, protocol: int) -> None:
    assert same(load_plain(pickle.dumps(value, protocol), WHERE), value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_large_values_and_long_lists(protocol: int) -> None:
    value = [bytes(range(256)) * 300, "ä" * 70_000, 7**40_000 if protocol >= 2 else 7**40]
    value.append([[number] for number in range(3000)])
    assert same(load_plain(pickle.dumps(value, protocol), WHERE), value)


def test_what_is_shared_stays_shared() -> None:
    part = [b"x"]
    read = load_plain(pickle.dumps([part, (part,)]), WHERE)
    assert read[0] is read[1][0]


def test_what_follows_the_end_is_not_looked_at() -> None:
    assert load_plain(pickle.dumps([1]) + b"cos\nsystem\n", WHERE) == [1]


# ---------------------------------------------------------------- NumPy

ARRAYS = {
    "bytes": np.array([255, 216, 0, 10, 13, 39], np.uint8),
    "column": np.array([[1], [2], [3]], np.uint8),
    "flags": np.array([True, False, True]),
    "none": np.zeros(0, np.uint8),
    "none of rows": np.zeros((0, 3), np.int32),
    "big-endian": np.array([1, -2, 300], ">i4"),
    "floats": np.array([[0.5, -1], [np.inf, 3]], np.float32),
    "complex": np.array([1 + 2j]),
    "columns first": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    "byte strings": np.array([b"ab", b"", b"cde"]),
    "of no dimension": np.array(7, np.int16),
}


def renamed(data: bytes) -> bytes:
    """The pickle as NumPy 1 wrote it, whose modules were not private."""
    if data[2:3] == pickle.FRAME:  # its length would be wrong afterwards
        data = data[:2] + data[11:]
    for module in (b"numpy.core.multiarray", b"numpy.core.numeric"):
        new = module.replace(b"core", b"_core")
        data = data.replace(b"c" + new + b"\n", b"c" + module + b"\n")
        data = data.replace(b"\x8c%c" % len(new) + new, b"\x8c%c" % len(module) + module)
    assert b"_core" not in data
    return data


@pytest.mark.parametrize("old", [False, True], ids=["NumPy 2", "NumPy 1"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name: str, protocol: int, old: bool) -> None:
    array = ARRAYS[name]
    data = pickle.dumps([array, array], protocol)
    first, second = load_plain(renamed(data) if old else data, WHERE)
    assert type(first) is np.ndarray
    assert first.dtype == array.dtype
    np.testing.assert_array_equal(first, array, strict=True)
    assert second is first


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_scalars_become_those_of_python(protocol: int) -> None:
    scalars = [np.True_, np.uint8(200), np.int64(-5), np.float32(0.5), np.bytes_(b"ab"), np.False_]
    read = load_plain(renamed(pickle.dumps(scalars, protocol)), WHERE)
    assert same(read, [True, 200, -5, 0.5, b"ab", False])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.array(["text", None], object), "a pickle with a NumPy array of dtype O8"),
        (np.array(["text"]), "a pickle with a NumPy array of dtype U4"),
        (np.array(["2020-01-01"], "M8[D]"), "a pickle with a NumPy array of dtype M8"),
        (np.zeros(2, "V4"), "a pickle with a NumPy array of dtype V4"),
        (np.zeros(2, np.longdouble), "a pickle with a NumPy array of dtype f16"),
    ],
    ids=["objects", "text", "dates", "voids", "long doubles"],
)
def test_arrays_of_anything_else(array: np.ndarray, found: str, protocol: int) -> None:
    assert refusal(pickle.dumps([array], protocol)) == found


DTYPE = (
    b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)
START = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"


def array_2(
    shape: bytes = b"K\x03\x85",
    dtype: bytes = DTYPE,
    raw: bytes = b"U\x03\xff\xd8\x00",
    start: bytes = START,
) -> bytes:
    """An array of three numbers as Python 2 pickles it in protocol 2."""
    return b"\x80\x02" + start + b"(K\x01" + shape + dtype + b"\x89" + raw + b"tb."


def long(value: int) -> bytes:
    return b"\x8a\x0a" + value.to_bytes(10, "little", signed=True)


def frombuffer(order: bytes) -> bytes:
    name = b"\x80\x04cnumpy._core.numeric\n_frombuffer\n"
    return name + b"(C\x03abc" + DTYPE + b"K\x03\x85" + order + b"tR."


def test_an_array_of_python_2() -> None:
    np.testing.assert_array_equal(
        load_plain(array_2(), WHERE), np.array([255, 216, 0], np.uint8), strict=True
    )


RECORDS = DTYPE.replace(b"|NNN", b"|NU\x01a\x85N")
SIZES = "a NumPy array of {} bytes with 3 bytes of data"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (array_2(shape=b"K\x04\x85"), SIZES.format("4")),
        (array_2(shape=b"K\x02\x85"), SIZES.format("2")),
        (array_2(shape=long(10**12) + b"\x85"), SIZES.format("1,000,000,000,000")),
        (array_2(shape=long(10**6) * 2 + b"\x86"), SIZES.format("1,000,000,000,000")),
        (
            array_2(dtype=DTYPE.replace(b"U\x02u1", b"U\x0aS999999999")),
            SIZES.format("2,999,999,997"),
        ),
        (array_2(shape=long(10**20) + b"\x85"), "a NumPy array of an impossible shape"),
        (array_2(shape=long(-3) + b"\x85"), "a NumPy array of an impossible shape"),
        (array_2(shape=b"(" + b"K\x01" * 40 + b"t"), "a NumPy array of an impossible shape"),
        (array_2(shape=b"K\x03"), "a NumPy array of an impossible shape"),
        (array_2(shape=b"G" + bytes(8) + b"\x85"), "a NumPy array of an impossible shape"),
        (array_2(raw=b"X\x03\x00\x00\x00abc"), "a NumPy array of another kind of data"),
        (array_2(raw=b"](U\x01aU\x01bU\x01ce"), "a NumPy array of another kind of data"),
        (array_2(dtype=b"U\x02u1"), "a NumPy array of another kind of data"),
        (array_2(dtype=RECORDS), "a pickle with a NumPy array of records"),
        (array_2(dtype=DTYPE.replace(b"U\x02u1", b"N")), "of dtype of type NoneType"),
        (array_2(dtype=DTYPE.replace(b"U\x02u1", b"U\x02O8")), "of dtype O8"),
        (array_2(dtype=DTYPE.replace(b"U\x02u1", b"U\x02S0")), "of dtype S0"),
        (array_2(dtype=DTYPE.replace(b"U\x02u1", b"U\x02b1")), "NumPy booleans that are neither"),
        (
            array_2(start=START.replace(b"cnumpy\nndarray\n", b"N")),
            "calls reconstruct as no pickler",
        ),
        (array_2(start=START.replace(b"numpy\nnd", b"my\nnd")), "a pickle that names my.ndarray"),
        (b"\x80\x02" + START + b"(K\x02NNNNtb.", "a NumPy array of an unknown version"),
        (b"\x80\x02" + START + b".", DAMAGED),
        (b"\x80\x02" + DTYPE + b".", "a function or a type as a value"),
        (b"\x80\x02]" + DTYPE + b"a.", "a function or a type as a value"),
        (b"\x80\x02cnumpy\nndarray\n.", "a function or a type as a value"),
        (b"\x80\x02cnumpy\nndarray\n" + long(10**12) + b"\x85R.", "calls ndarray as no pickler"),
        (b"cbuiltins\nbytearray\n" + long(10**12) + b"\x85R.", "calls bytearray as no pickler"),
        (b"cbuiltins\nbytes\n" + long(10**12) + b"\x85R.", "calls bytes as no pickler"),
        (frombuffer(b"\x8c\x01K"), "its axes in another order"),
        (b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.", "calls encode as"),
        (b"\x80\x02]" + b"N\x85b.", "sets the attributes of an object"),
        (b"\x80\x02cnumpy\nndarray\nN\x85b.", "sets the attributes of an object"),
        (b"\x80\x02NN\x85R.", "damaged or cut off"),
    ],
)
def test_arrays_and_calls_that_no_pickler_makes(data: bytes, found: str) -> None:
    assert found in refusal(data)


def test_a_buffer_in_either_order() -> None:
    for order in (b"\x8c\x01C", b"\x8c\x01F"):
        np.testing.assert_array_equal(load_plain(frombuffer(order), WHERE), list(b"abc"))


# ---------------------------------------------------------------- Python 2


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (
            b"(lp0\nS'\\xff\\n\\'\\\\'\np1\naS\"it's\"\nag1\na.",
            [b"\xff\n'\\", b"it's", b"\xff\n'\\"],
        ),
        (
            b"(lp0\nI01\naI00\naI-7\naL12345678901234567890L\naF0.5\naNa.",
            [True, False, -7, 12345678901234567890, 0.5, None],
        ),
        (b"(S'a'\nVb\\u00e4\ntp0\n.", (b"a", "bä")),
        (
            b"\x80\x02]q\x00(U\x02\xff\x00q\x01T\x03\x00\x00\x00abcq\x02h\x01e.",
            [b"\xff\0", b"abc", b"\xff\0"],
        ),
        (b"\x80\x02(lp0\n\x88a\x89a.", [True, False]),
    ],
)
def test_pickles_of_python_2(data: bytes, value: Any) -> None:
    assert same(load_plain(data, WHERE), value)
    assert same(pickle.loads(data, encoding="bytes"), value)


# ---------------------------------------------------------------- malice


class Call:
    """Pickled, a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Setter:
    def __init__(self, path: str) -> None:
        self.path = path

    def __setstate__(self, state: Any) -> None:
        Path(state["path"]).touch()


class Array(np.ndarray):
    """Does its mischief when it is made."""

    path = ""

    def __array_finalize__(self, whole: Any) -> None:
        if Array.path:
            Path(Array.path).touch()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def subclass(marker: str) -> Any:
    array = np.zeros(3, np.uint8).view(Array)
    Array.path = marker
    return array


def objects(marker: str) -> Any:
    array = np.empty(1, object)
    array[0] = Call(os.system, f"touch {marker}")
    return array


DUMPED: dict[str, tuple[Callable[[str], Any], str]] = {
    "system": (lambda marker: Call(os.system, f"touch {marker}"), f"{os.name}.system"),
    "eval": (lambda marker: Call(eval, f"open({marker!r}, 'w')"), ".eval"),
    "inside": (lambda marker: ([b""], [Call(os.mkdir, marker)]), f"{os.name}.mkdir"),
    "setstate": (Setter, ""),
    "objects": (objects, f"{os.name}.system"),
    "subclass": (subclass, "test_unpickling.Array"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", DUMPED)
def test_nothing_that_is_named_runs(name: str, protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    make, found = DUMPED[name]
    data = pickle.dumps(make(str(marker)), protocol)
    if marker.exists():
        marker.unlink()
    pickle.loads(data)
    assert marker.exists()  # the payload works
    marker.rmdir() if marker.is_dir() else marker.unlink()

    message = refusal(data)
    assert not marker.exists()
    assert message.startswith("a pickle that names ")
    if name == "setstate" and protocol < 2:
        assert message.endswith("copy_reg._reconstructor")
    else:
        assert message.endswith(found or "test_unpickling.Setter")


WRITTEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "REDUCE": (lambda touch: b"cos\nsystem\n" + touch + b"\x85R.", "names os.system"),
    "INST": (lambda touch: b"(" + touch + b"ios\nsystem\n.", "names os.system"),
    "OBJ": (lambda touch: b"(cos\nsystem\n" + touch + b"o.", "names os.system"),
    "STACK_GLOBAL": (
        lambda touch: b"\x80\x04\x8c\x02os\x8c\x06system\x93" + touch + b"\x85R.",
        "names os.system",
    ),
    "EXT1": (lambda touch: b"\x80\x02\x82\xf7" + touch + b"\x85R.", "the opcode EXT1"),
    "EXT2": (lambda touch: b"\x80\x02\x83\xf7\0" + touch + b"\x85R.", "the opcode EXT2"),
    "EXT4": (lambda touch: b"\x80\x02\x84\xf7\0\0\0" + touch + b"\x85R.", "the opcode EXT4"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_nothing_runs_by_any_opcode(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    make, found = WRITTEN[name]
    data = make(text(f"touch {marker}"))
    copyreg.add_extension("os", "system", 0xF7)
    try:
        pickle.loads(data)
        assert marker.exists()  # the payload works
        marker.unlink()
        assert found in refusal(data)
    finally:
        copyreg.remove_extension("os", "system", 0xF7)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"\x80\x02csubprocess\nPopen\n)\x81.", "a pickle that names subprocess.Popen"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "a pickle with the opcode NEWOBJ, or no pickle"),
        (b"\x80\x04cnumpy\nndarray\n)]\x92.", "a pickle with the opcode NEWOBJ_EX, or no pickle"),
        (b"(cnumpy\nndarray\no.", "a pickle with the opcode OBJ, or no pickle"),
        (b"(inumpy\nndarray\n.", DAMAGED),
        (b"\x80\x04\x8c\x05numpy\x8c\x0andarray.os\x93.", "a pickle that names numpy.ndarray.os"),
        (b"Pos.system\n.", "a pickle with the opcode PERSID, or no pickle"),
        (b"\x80\x02NQ.", "a pickle with the opcode BINPERSID, or no pickle"),
        (b"\x80\x05\x97.", "a pickle with the opcode NEXT_BUFFER, or no pickle"),
        (b"c_codecs\ndecode\n.", "a pickle that names _codecs.decode"),
        (b"cnumpy\nload\n.", "a pickle that names numpy.load"),
        (b"cos\nsystem\x1b[31m\n.", "a pickle that names os.system\\x1b[31m"),
        (b"cos\n" + b"s" * 99 + b"\n.", "a pickle that names os." + "s" * 80 + "..."),
        (pickle.dumps({}, 1), "a pickle with the opcode EMPTY_DICT, or no pickle"),
        (pickle.dumps({1}, 4), "a pickle with the opcode EMPTY_SET, or no pickle"),
        (pickle.dumps(np.zeros(2, "i4,f8")), "a pickle with the opcode EMPTY_DICT, or no pickle"),
        (pickle.dumps(OrderedDict()), "a pickle that names collections.OrderedDict"),
        (pickle.dumps(1j), "a pickle that names builtins.complex"),
        (pickle.dumps(len), "a pickle that names builtins.len"),
        (b"cnumpy\nmatrix\n.", "a pickle that names numpy.matrix"),
        (pickle.dumps(np.dtype(object)), "a pickle with a NumPy array of dtype O8"),
        (b"PK\x03\x04 a zip file", "a pickle with the opcode PERSID, or no pickle"),
        (b"\xff\xd8\xff\xe0 a photograph", DAMAGED),
        (b"", DAMAGED),
        (b"\x80\x06N.", DAMAGED),
    ],
)
def test_what_is_refused_is_named(data: bytes, found: str) -> None:
    assert refusal(data) == found


# ---------------------------------------------------------------- memory

NEST = 100_000
ONCE = b"c_codecs\nencode\n"


def many_copies() -> bytes:
    """A megabyte of string, and 2,000 calls that each make bytes of it."""
    arguments = text("x" * 10**6) + text("latin1") + b"\x86q\x00"
    return ONCE + b"q\x01" + arguments + b"](" + b"h\x01h\x00R" * 2000 + b"e."


@pytest.mark.parametrize(
    "data",
    [
        b"B" + struct.pack("<I", 2**32 - 1) + b"abc.",
        b"T" + struct.pack("<i", 2**31 - 1) + b"abc.",
        b"X" + struct.pack("<I", 2**32 - 1) + b"abc.",
        b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"abc.",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.",
        b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"abc.",
        b"\x80\x05\x96" + struct.pack("<Q", 2**36) + b"abc.",
        b"\x80\x05\x96" + struct.pack("<Q", 2**64 - 1) + b"abc.",
        array_2(shape=long(10**12) + b"\x85"),
        b"\x80\x04\x95\x02\0\0\0\0\0\0\0J\x01\x02\x03\x04.",
        b"]q\x00h\x00a.",
        b"]q\x00h\x00\x85a.",
        b"]" * 50 + b"a" * 49 + b".",
    ],
)
def test_numbers_in_a_pickle_allocate_nothing(data: bytes) -> None:
    assert peak(refusal, data) < 2**18


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02Nr" + struct.pack("<I", 2**31) + b".",  # an index of the memo
        b"Np1000000000000\n.",
        b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",  # the length of a frame
    ],
)
def test_numbers_that_need_no_memory_do_no_harm(data: bytes) -> None:
    assert peak(lambda data: load_plain(data, WHERE), data) < 2**18


def peak(reader: Callable[[bytes], object], data: bytes) -> int:
    """Bytes that reading allocates at most."""
    tracemalloc.start()
    try:
        reader(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        b"]" * NEST + b"a" * (NEST - 1) + b".",
        b"(" * NEST + b"t" * NEST + b".",
        b"N" + b"\x85" * NEST + b".",
        ONCE * NEST + b"N" + b"\x85R" * NEST + b".",
        b"]" * (DEPTH + 2) + b"a" * (DEPTH + 1) + b".",
    ],
)
def test_deep_nesting(data: bytes) -> None:
    assert "nested more than 32 deep" in refusal(data)


def test_nesting_within_the_limit() -> None:
    read = load_plain(b"]" * (DEPTH + 1) + b"a" * DEPTH + b".", WHERE)
    for _ in range(DEPTH):
        (read,) = read
    assert read == []


def test_copies_of_one_string_are_counted() -> None:
    data = many_copies()
    assert peak(refusal, data) < 6 * len(data)
    assert refusal(data) == "a pickle that unpacks to far more than its size"


def test_lists_that_unfold_without_end_are_read_once() -> None:
    read = load_plain(b"]" + b"q\x00h\x00\x86" * 30 + b".", WHERE)
    for _ in range(30):
        assert read[0] is read[1]
        read = read[0]
    assert read == []


def test_opcodes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickling, "OPCODES", 10)
    assert load_plain(b"]" + b"Na" * 4 + b".", WHERE) == [None] * 4
    assert refusal(b"]" + b"Na" * 4 + b"].") == "a pickle of more than 10 opcodes"


# ---------------------------------------------------------------- properties

WHOLE = [
    pickle.dumps(([b"\xff\xd8", np.arange(9, dtype=np.uint8), "ä"], [True, np.False_]), protocol)
    for protocol in PROTOCOLS
] + [array_2(), frombuffer(b"\x8c\x01C"), many_copies()[-40:]]
pieces = st.sampled_from(
    [bytes([code]) for code in range(256)] + [DTYPE, START, ONCE, b"cnumpy\nndarray\n"]
)


def read(data: bytes) -> None:
    try:
        check_plain(load_plain(data, WHERE))
    except InputError as error:
        assert error.where == "faces.bin"


def check_plain(value: Any) -> None:
    if type(value) in (list, tuple):
        for part in value:
            check_plain(part)
    elif type(value) is np.ndarray:
        assert value.dtype.kind in "biufcS"
    else:
        assert type(value) in (bytes, bytearray, str, int, float, complex, bool, type(None))


@given(st.binary(max_size=60) | st.lists(pieces, max_size=30).map(b"".join))
def test_no_bytes_raise_anything_but_input_error(data: bytes) -> None:
    read(data)
    read(b"\x80\x04" + data + b".")


@given(st.data(), st.sampled_from(WHOLE))
def test_damage_raises_nothing_but_input_error(data: st.DataObject, whole: bytes) -> None:
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(1, len(damaged))) :]
    read(bytes(damaged))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_cut_off_anywhere(protocol: int) -> None:
    for size in range(len(WHOLE[protocol])):
        found = refusal(WHOLE[protocol][:size])
        assert found == DAMAGED or found.startswith("a pickle that names ")  # the half of a name
