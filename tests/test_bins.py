from __future__ import annotations

import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mstkd.data.decode import decode
from mstkd.data.formats import bins
from mstkd.data.formats.bins import LAYOUT, BinImage, read_bin
from mstkd.data.formats.layouts import VerificationList
from mstkd.data.formats.unpickling import PLAIN
from mstkd.data.sources import FaceImage, file_of
from mstkd.errors import InputError

PROTOCOLS = range(6)


def write(folder: Path, value: Any, protocol: int = 4, name: str = "African_test.bin") -> Path:
    path = folder / name
    path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, protocol))
    return path


def fault(path: Path) -> InputError:
    with pytest.raises(InputError) as error:
        read_bin(path)
    assert error.value.where == str(path)
    return error.value


# Pairs 0 to 3 of seven different images; a and d occur twice.
IMAGES = [b"\xffa", b"\xffb", b"\xffc", b"\xffd", b"\xffe", b"\xffa", b"\xffd", b"\xfff"]
FLAGS = [True, False, True, False]


def check_four_pairs(path: Path) -> None:
    listed = read_bin(path)
    data = [b"\xffa", b"\xffb", b"\xffc", b"\xffd", b"\xffe", b"\xfff"]
    numbers = [0, 1, 2, 3, 4, 7]
    people = [0, 0, 2, 3, 0, 7]  # a is b and e is a; c and d meet in an impostor pair
    assert listed.images == [
        FaceImage(BinImage(path, n, d), f"{path.name}/{n:05}", f"bin{p:07}")
        for d, n, p in zip(data, numbers, people, strict=True)
    ]
    assert listed.pairs.dtype == np.int32
    assert listed.same.dtype == np.bool_
    np.testing.assert_array_equal(listed.pairs, [[0, 1], [2, 3], [4, 0], [3, 5]])
    np.testing.assert_array_equal(listed.same, FLAGS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value",
    [
        (IMAGES, FLAGS),
        [tuple(IMAGES), tuple(FLAGS)],
        ([bytearray(image) for image in IMAGES], [1, 0, 1.0, 0.0]),
        ([np.frombuffer(image, np.uint8) for image in IMAGES], np.array(FLAGS)),
        ([np.frombuffer(image, np.uint8)[:, None] for image in IMAGES], np.array([1, 0, 1, 0])),
        ([np.frombuffer(image, np.uint8)[None] for image in IMAGES], list(map(np.bool_, FLAGS))),
    ],
    ids=["bytes", "tuples", "bytearrays", "arrays", "columns", "rows"],
)
def test_pairs_of_every_protocol(tmp_path: Path, value: Any, protocol: int) -> None:
    check_four_pairs(write(tmp_path, value, protocol))


def test_a_file_of_python_2_by_protocol_0(tmp_path: Path) -> None:
    images = "".join(f"S'\\xff{chr(image[1])}'\np{n}\na" for n, image in enumerate(IMAGES, 2))
    flags = "".join(f"I0{flag:d}\na" for flag in FLAGS)
    check_four_pairs(write(tmp_path, f"((lp1\n{images}(lp90\n{flags}tp0\n.".encode()))


def test_a_file_of_python_2_by_protocol_2(tmp_path: Path) -> None:
    images = b"".join(
        b"T" + struct.pack("<i", len(image)) + image + b"q" + bytes([n])
        for n, image in enumerate(IMAGES, 2)
    )
    flags = b"".join(b"\x88" if flag else b"\x89" for flag in FLAGS)
    data = b"\x80\x02]q\x01(" + images + b"e]q\x32(" + flags + b"e\x86q\x33."
    check_four_pairs(write(tmp_path, data))


def test_an_image_is_decoded_from_its_bytes_and_sent_to_workers(tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), (250, 120, 10)).save(data, "PNG")
    path = write(tmp_path, ([data.getvalue(), b"other"], [False]))
    source = read_bin(path).images[0].source
    assert source.read_bytes() == data.getvalue()
    assert file_of(source) == path
    assert pickle.loads(pickle.dumps(source)) == source
    np.testing.assert_array_equal(decode(source, 8), np.full((8, 8, 3), [250, 120, 10]))


def test_identities_are_linked_over_several_pairs(tmp_path: Path) -> None:
    ends = ["gh", "ef", "cd", "hd", "fa", "ba", "xy"]
    images = [letter.encode() for pair in ends for letter in pair]
    listed = read_bin(write(tmp_path, (images, [True] * 6 + [False])))
    named: dict[str, set[bytes]] = {}
    for image in listed.images:
        named.setdefault(image.identity, set()).add(image.source.read_bytes())
    assert named == {
        "bin0000000": {b"g", b"h", b"d", b"c"},
        "bin0000002": {b"e", b"f", b"a", b"b"},
        "bin0000012": {b"x"},
        "bin0000013": {b"y"},
    }


@pytest.mark.parametrize("flag", [True, False])
def test_a_pair_of_one_image_is_kept(tmp_path: Path, flag: bool) -> None:
    listed = read_bin(write(tmp_path, ([b"a", b"a"], [flag])))
    assert [image.identity for image in listed.images] == ["bin0000000"]
    np.testing.assert_array_equal(listed.pairs, [[0, 0]])
    np.testing.assert_array_equal(listed.same, [flag])


@pytest.mark.parametrize(
    ("value", "found", "expected"),
    [
        (b"N.", "of type NoneType", LAYOUT),
        ("text", "of type str", LAYOUT),
        ([IMAGES, FLAGS, []], "a list of 3", LAYOUT),
        ((b"ab", FLAGS), "a tuple of 2", LAYOUT),
        ((IMAGES, b"1010"), "flags that are of type bytes", LAYOUT),
        ((IMAGES, 5), "flags that are 5", LAYOUT),
        ((IMAGES, np.ones((4, 1))), "flags that are an array of float64 (4, 1)", LAYOUT),
        ((IMAGES[:7], FLAGS), "7 images, an odd number, and 4 flags", LAYOUT),
        ((IMAGES[:6], FLAGS), "6 images and 4 flags", LAYOUT),
        ((IMAGES, FLAGS * 2), "8 images and 8 flags", LAYOUT),
        ((IMAGES, FLAGS[:3]), "8 images and 3 flags", LAYOUT),
        (([], []), "no pairs", LAYOUT),
        ((["é", b"b"], [True]), "image 0 is of type str", "the bytes of a JPEG, PNG or WebP file"),
        (([b"a", None], [True]), "image 1 is of type NoneType", "the bytes of"),
        (([b"a", [1, 2]], [True]), "image 1 is a list of 2", "the bytes of"),
        (([b"a", np.ones(3)], [True]), "image 1 is an array of float64 (3,)", "the bytes of"),
        (([b"a", np.ones((2, 2), np.uint8)], [True]), "image 1 is an array of uint8 (2, 2)", "the"),
        (([b"a", np.ones((1, 1, 3), np.uint8)], [True]), "image 1 is an array of uint8", "the"),
        (([b"a", np.ones((), np.uint8)], [True]), "image 1 is an array of uint8 ()", "the bytes"),
        (([b"a", b"b"], [2]), "flag 0 is 2", "true, false, 1 or 0"),
        (([b"a", b"b"], [float("nan")]), "flag 0 is nan", "true, false, 1 or 0"),
        (([b"a", b"b"], [10**5000]), "flag 0 is of type int", "true, false, 1 or 0"),
        (([b"a", b"b"], ["1"]), "flag 0 is of type str", "true, false, 1 or 0"),
        (([b"a"] * 4, [True, None]), "flag 1 is of type NoneType", "true, false, 1 or 0"),
        (([b"a", b"b"], np.array([-1])), "flag 0 is -1", "true, false, 1 or 0"),
        (([b"a", b"b"], np.array([b"1"])), "flag 0 is of type bytes", "true, false, 1 or 0"),
        (pickle.dumps((IMAGES, FLAGS))[:-9], "no pickle, or one that is damaged", PLAIN),
        ({"bins": IMAGES}, "a pickle with the opcode EMPTY_DICT", PLAIN),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, value: Any, found: str, expected: str) -> None:
    error = fault(write(tmp_path, value, name="Zoë test.bin"))
    assert error.found.startswith(found)
    assert error.expected.startswith(expected)
    assert "\n" not in str(error)


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def test_a_malicious_file_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    error = fault(write(tmp_path, (IMAGES, [*FLAGS[:3], Payload(marker)])))
    assert error.found == f"a pickle that names {os.name}.mkdir"
    assert not marker.exists()


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fault(tmp_path / "none.bin").found == "no such file"
    assert fault(tmp_path).found == "no regular file"
    os.mkfifo(tmp_path / "pipe.bin")
    assert fault(tmp_path / "pipe.bin").found == "no regular file"
    (tmp_path / "loop.bin").symlink_to(tmp_path / "loop.bin")
    assert "symbolic links" in fault(tmp_path / "loop.bin").found
    monkeypatch.setattr(bins, "LARGEST", 4000)
    path = write(tmp_path, b"\0" * 4001)
    assert str(fault(path)) == f"{path}: found 4,001 bytes; expected 4,000 at most"
    assert fault(write(tmp_path, b"\0" * 4000)).expected == PLAIN


# ---------------------------------------------------------------- properties

letters = st.sampled_from([b"", b"a", b"b", b"c", b"d", b"e", b"f"])
pair_lists = st.lists(st.tuples(letters, letters, st.booleans()), min_size=1, max_size=12)


def read_data(folder: Path, data: bytes) -> VerificationList | None:
    try:
        return read_bin(write(folder, data))
    except InputError as error:
        assert error.where == str(folder / "African_test.bin")
        return None


@given(pair_lists, st.sampled_from(PROTOCOLS))
def test_pairs_written_are_pairs_read(
    tmp_path_factory: pytest.TempPathFactory,
    pairs: list[tuple[bytes, bytes, bool]],
    protocol: int,
) -> None:
    images = [image for a, b, _ in pairs for image in (a, b)]
    flags = [same for _, _, same in pairs]
    listed = read_data(tmp_path_factory.getbasetemp(), pickle.dumps((images, flags), protocol))
    assert listed is not None
    data = [image.source.read_bytes() for image in listed.images]
    assert len(set(data)) == len(data)
    assert [data[row] for row in listed.pairs.ravel()] == images
    assert listed.same.tolist() == flags

    # People by another route: join the sets of images until nothing changes.
    people = [{image} for image in data]
    for a, b, same in pairs * len(data):
        if same:
            one, other = (next(p for p in people if end in p) for end in (a, b))
            if one is not other:
                people.remove(other)
                one |= other
    for image, face in zip(data, listed.images, strict=True):
        own = next(p for p in people if image in p)
        assert face.identity == f"bin{min(images.index(member) for member in own):07}"


VALID = [pickle.dumps((IMAGES[:4], [True, np.False_]), protocol) for protocol in PROTOCOLS]


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_input_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    read_data(tmp_path_factory.getbasetemp(), data)


@given(st.data(), st.sampled_from(VALID))
def test_damage_raises_nothing_but_input_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, whole: bytes
) -> None:
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    listed = read_data(tmp_path_factory.getbasetemp(), bytes(damaged))
    if listed is not None:
        assert listed.pairs.shape == (len(listed.same), 2)
        assert 0 <= listed.pairs.min() <= listed.pairs.max() < len(listed.images)
