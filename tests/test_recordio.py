from __future__ import annotations

import io
import pickle
import struct
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from recordfiles import IMAGES, WORD, frame, im2rec, insightface, part, several, single, write

from mstkd.data.decode import BadImage, decode
from mstkd.data.formats.recordio import Record, RecordFile, open_records
from mstkd.errors import InputError


def contents(records: RecordFile) -> list[tuple[int, bytes]]:
    offsets = records.offsets.tolist()
    images = [Record(records.path, offset).read_bytes() for offset in offsets]
    return list(zip(records.labels.tolist(), images, strict=True))


# ---------------------------------------------------------------- records


def test_bytes_written_by_hand(tmp_path: Path) -> None:
    rec = tmp_path / "train.rec"
    rec.write_bytes(
        bytes.fromhex(
            "0a23d7ce 1b000000  00000000 0000e040 0900000000000000 0000000000000000 616263 00"
            "0a23d7ce 1c000020  01000000 00000000 0300000000000000 0000000000000000 00000040"
            "0a23d7ce 00000040"
            "0a23d7ce 02000060  7879 0000"
        )
    )
    records = open_records(rec)
    assert records.path == rec
    assert records.stated is None
    for array in (records.offsets, records.keys, records.labels):
        assert array.dtype == np.int64
    np.testing.assert_array_equal(records.offsets, [36, 0])
    np.testing.assert_array_equal(records.keys, [3, 9])
    assert contents(records) == [(2, WORD + WORD + b"xy"), (7, b"abc")]


@pytest.mark.parametrize("index", [True, False], ids=["index", "no index"])
@pytest.mark.parametrize("convention", [im2rec, insightface])
def test_images_of_both_conventions(tmp_path: Path, convention: object, index: bool) -> None:
    items = convention(IMAGES)  # type: ignore[operator]
    records = open_records(write(tmp_path / "train.rec", items, index=index))
    assert contents(records) == IMAGES
    first = 0 if convention is im2rec else 1
    np.testing.assert_array_equal(records.keys, np.arange(len(IMAGES)) + first)


def test_images_are_in_the_order_of_the_keys(tmp_path: Path) -> None:
    items = insightface(IMAGES)
    records = open_records(write(tmp_path / "train.rec", items[::-1]))
    np.testing.assert_array_equal(records.keys, [1, 2, 3, 4, 5])
    assert contents(records) == IMAGES


@pytest.mark.parametrize("ids", [[7] * 5, [4, 3, 2, 1, 2**64 - 1]])
def test_ids_that_cannot_be_keys(tmp_path: Path, ids: list[int]) -> None:
    pairs = zip(ids, IMAGES, strict=True)
    items = [(0, single(label, image, number=number)) for number, (label, image) in pairs]
    records = open_records(write(tmp_path / "train.rec", items, index=False))
    np.testing.assert_array_equal(records.keys, range(5))
    assert contents(records) == IMAGES


def test_parts_are_padded(tmp_path: Path) -> None:
    rec = tmp_path / "train.rec"
    rec.write_bytes(part(1, single(2, b"abc")) + part(2, b"d") + part(3, b"e") + part(0, single(1)))
    assert contents(open_records(rec)) == [(2, b"abc" + WORD + b"d" + WORD + b"e"), (1, b"")]


def test_two_labels_and_no_image_are_an_image_where_the_key_is_not_0(tmp_path: Path) -> None:
    items = [(1, several([5, 2])), (2, single(6, b"image"))]
    records = open_records(write(tmp_path / "train.rec", items))
    assert contents(records) == [(5, b""), (6, b"image")]


def test_record_0_with_two_labels_and_an_image_is_an_image(tmp_path: Path) -> None:
    items = [(key, several([label, 9], image)) for key, (label, image) in enumerate(IMAGES)]
    assert contents(open_records(write(tmp_path / "train.rec", items))) == IMAGES


def test_a_header_that_holds_the_magic_word(tmp_path: Path) -> None:
    number = int.from_bytes(WORD * 2, "little")
    items = [(key, single(key, b"image", number=number)) for key in (1, 2)]
    items.append((3, several([3, struct.unpack("<f", WORD)[0]], b"image")))
    items.append((4, several([4, 0], b"image", number=number)))
    records = open_records(write(tmp_path / "train.rec", items))
    assert contents(records) == [(label, b"image") for label in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff0\t0\r\n\r\n1\t{}\r\n",
        "\n \n0 0\n 1   {} \n",
        "1\t{}\n0\t0",
    ],
    ids=["CRLF and BOM", "spaces and blanks", "no last line end"],
)
def test_ways_to_write_an_index(tmp_path: Path, text: str) -> None:
    rec = write(tmp_path / "train.rec", im2rec(IMAGES[:2]))
    text = text.format(len(frame(single(0, b"first"))))
    rec.with_suffix(".idx").write_bytes(text.encode())
    assert contents(open_records(rec)) == IMAGES[:2]


def test_what_property_states(tmp_path: Path) -> None:
    rec = write(tmp_path / "train.rec", insightface(IMAGES))
    (tmp_path / "property").write_bytes(b"\xef\xbb\xbf3, 112,96\r\n")
    assert open_records(rec).stated == (3, 112, 96)
    (tmp_path / "property").write_text("5,112,96")
    with pytest.raises(InputError) as error:
        open_records(rec)
    assert str(error.value) == (
        f"{tmp_path}/property: found 5 classes; expected 3, the identities in train.rec"
    )


@pytest.mark.parametrize("classes", [3, 4])
def test_labels_in_runs_leave_the_classes_uncertain(tmp_path: Path, classes: int) -> None:
    """Labels 0, 4, 0, 0, 1: three identities in four ranges."""
    (tmp_path / "property").write_text(f"{classes},112,96")
    items = insightface([IMAGES[row] for row in (0, 4, 1, 1, 2)])
    assert open_records(write(tmp_path / "train.rec", items)).stated == (classes, 112, 96)


def test_classes_are_not_checked_without_ranges(tmp_path: Path) -> None:
    (tmp_path / "property").write_text("9,112,96")
    assert open_records(write(tmp_path / "train.rec", im2rec(IMAGES))).stated == (9, 112, 96)


@pytest.mark.parametrize("text", ["", "3,112", "3,112,112,3", "3,112,x", "-3,112,112", "٣,1,1"])
def test_a_property_file_of_other_things(tmp_path: Path, text: str) -> None:
    rec = write(tmp_path / "train.rec", im2rec(IMAGES))
    (tmp_path / "property").write_text(text)
    with pytest.raises(InputError, match=r"property: found '.*'; expected three numbers"):
        open_records(rec)


# ---------------------------------------------------------------- the source


def test_a_source_is_picklable_and_decodes(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    records = open_records(write(tmp_path / "train.rec", im2rec([(0, data.getvalue())])))
    source = pickle.loads(pickle.dumps(Record(records.path, int(records.offsets[0]))))
    assert len(pickle.dumps(source)) < 300
    np.testing.assert_array_equal(decode(source, 8), pixels)


DAMAGED_RECORDS = [
    (b"", "found the end of the file; expected a record"),
    (frame(single(0, b"image"))[:-4], "found a length of 29 bytes; expected 28 or fewer, up to"),
    (b"\x0a\x23\xd7\x3e" + frame(single(0))[4:], "found 0x3ed7230a; expected 0xced7230a"),
    (part(2, single(0)), "found part kind 2; expected 0 or 1: parts out of order"),
    (part(3, single(0)), "found part kind 3; expected 0 or 1: parts out of order"),
    (part(7, single(0)), "found part kind 7; expected 0 or 1: parts out of order"),
    (part(1, single(0)), "found the end of the file; expected a record"),
    (part(1, single(0)) + part(0, b""), "found part kind 0; expected 2 or 3: parts out of order"),
    (part(1, single(0)) + part(1, b""), "found part kind 1; expected 2 or 3: parts out of order"),
    (part(0, bytes(23)), "found a record of 23 bytes; expected 24 or more"),
    (part(0, several([1, 2])[:-1]), "found a record of 31 bytes; expected 32 or more"),
    (part(0, b"\xff" * 60), "found a record of 60 bytes; expected 17179869204 or more"),
]


@pytest.mark.parametrize(("data", "message"), DAMAGED_RECORDS)
def test_a_damaged_record_is_a_bad_image(tmp_path: Path, data: bytes, message: str) -> None:
    rec = tmp_path / "train.rec"
    rec.write_bytes(frame(single(0, b"image")) + data)
    with pytest.raises(OSError, match=r"train.rec: byte \d+: found ") as error:
        Record(rec, 40).read_bytes()
    assert message in str(error.value)
    with pytest.raises(BadImage, match=r"train.rec: byte \d+: found "):
        decode(Record(rec, 40), 8)


def test_a_missing_file_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Record(tmp_path / "gone.rec", 0).read_bytes()


# ---------------------------------------------------------------- damaged files


@pytest.mark.parametrize(("data", "message"), DAMAGED_RECORDS[1:])
@pytest.mark.parametrize("index", [True, False], ids=["index", "no index"])
def test_a_damaged_record_is_named(tmp_path: Path, data: bytes, message: str, index: bool) -> None:
    rec = tmp_path / "train.rec"
    rec.write_bytes(frame(single(0, b"image")) + data.ljust(32, b"\0"))
    if len(data) < 32:  # the zeros that make room for an indexed record would hide the end
        message = message.replace("the end of the file; expected a record", "0x00000000")
    if "29 bytes" in message:
        rec.write_bytes(frame(single(0, b"image")) + data)
    where = rf"{rec}: byte (40|72)"
    if index:
        rec.with_suffix(".idx").write_text("0\t0\n17\t40\n")
        where = rf"{rec}: record 17, byte (40|72)"
    with pytest.raises(InputError) as error:
        open_records(rec)
    assert message in str(error.value)
    with pytest.raises(InputError, match=where):
        open_records(rec)


@pytest.mark.parametrize("cut", range(1, 36))
def test_a_file_that_is_cut_off(tmp_path: Path, cut: int) -> None:
    """The last record has 36 bytes; without it, only an index or record 0 can tell."""
    items = im2rec(IMAGES)
    rec = write(tmp_path / "train.rec", items[:3])
    rec.write_bytes(rec.read_bytes() + frame(single(0, b"four"))[:-cut])
    with pytest.raises(InputError, match=r"train.rec: byte \d+: .* is it cut off\?"):
        rec.with_suffix(".idx").unlink()
        open_records(rec)
    rec.with_suffix(".idx").write_text(f"0\t0\n9\t{rec.stat().st_size - 36 + cut}\n")
    with pytest.raises(InputError, match=r"(key|record) 9.*cut off\?"):
        open_records(rec)


@pytest.mark.parametrize("index", [True, False], ids=["index", "no index"])
def test_a_record_that_is_missing(tmp_path: Path, index: bool) -> None:
    items = insightface(IMAGES)
    rec = write(tmp_path / "train.rec", items[:2] + items[3:], index=index)
    with pytest.raises(InputError) as error:
        open_records(rec)
    assert str(error.value) == (
        f"{rec}: found no record 3; expected images 1 to 5, as record 0 says: is a file cut off?"
    )


def test_an_index_that_is_cut_off(tmp_path: Path) -> None:
    items = insightface(IMAGES)
    rec = write(tmp_path / "train.rec", items[5:] + items[:5])
    index = rec.with_suffix(".idx")
    index.write_text("".join(index.read_text().splitlines(keepends=True)[:-2]))
    with pytest.raises(InputError, match="found no record 4; expected images 1 to 5"):
        open_records(rec)


@pytest.mark.parametrize(
    ("bounds", "found"),
    [
        ((0, 3), "found labels 0 and 3"),
        ((3, 2), "found labels 3 and 2"),
        ((1.5, 3), "found labels 1.5 and 3"),
        ((float("nan"), 3), "found labels nan and 3"),
        ((3, float("inf")), "found labels 3 and inf"),
        ((1e30, 1e30), "found no record 2"),
        ((1, 2), "found no images"),
    ],
)
def test_a_record_0_that_cannot_be(tmp_path: Path, bounds: tuple[float, float], found: str) -> None:
    items = [(0, several(bounds)), (1, single(0, b"image", number=1))]
    with pytest.raises(InputError, match=found):
        open_records(write(tmp_path / "train.rec", items))


@pytest.mark.parametrize("label", [-1.0, 0.5, float("nan"), float("inf"), 2.0**24 + 2])
def test_a_label_of_no_identity(tmp_path: Path, label: float) -> None:
    rec = write(tmp_path / "train.rec", [(3, single(0)), (8, single(label))])
    with pytest.raises(InputError, match=r"train.rec: record 8, byte 32: found label "):
        open_records(rec)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": found no keys; expected a line for each record"),
        ("\r\n \n", ": found no keys; expected a line for each record"),
        ("0\t0\n1\n", ":2: found '1\\n'; expected a line for each record"),
        ("0\t0\n\n1\t40\t2\n", ":3: found '1\\t40\\t2\\n'; expected a line for each record"),
        ("0\t-4\n", ":1: found '0\\t-4\\n'; expected"),
        ("0\t4.0\n", ":1: found '0\\t4.0\\n'; expected"),
        ("0\t٤\n", ":1: found '0\\t٤\\n'; expected"),
        ("0\t1234567890123456789\n", ":1: found '0\\t1234567890123456789\\n'; expected"),
        ("0\t0\n1\t40\n0\t80\n", ": key 0: found it twice; expected every key once"),
        ("0\t0\n0\t0\n", ": key 0: found it twice; expected every key once"),
        ("0\t0\n1\t0\n", ": key 1: found offset 0, within the record of key 0; expected a"),
        ("0\t0\n5\t121\n", ": key 5: found offset 121; expected a record in the 152 bytes of"),
        ("0\t0\n5\t123456789012345678\n", ": key 5: found offset 123456789012345678; expected"),
    ],
)
def test_a_bad_index(tmp_path: Path, text: str, message: str) -> None:
    rec = write(tmp_path / "train.rec", [(key, single(0, b"image")) for key in range(4)])
    rec.write_bytes(rec.read_bytes()[:-8])
    index = rec.with_suffix(".idx")
    index.write_bytes(text.encode())
    with pytest.raises(InputError) as error:
        open_records(rec)
    assert str(error.value).startswith(f"{index}{message}")


def test_an_index_that_points_between_records(tmp_path: Path) -> None:
    rec = write(tmp_path / "train.rec", im2rec(IMAGES))
    rec.with_suffix(".idx").write_text("0\t0\n1\t44\n")
    with pytest.raises(InputError, match=r"rec: record 1, byte 44: found 0x.*expected 0xced7230a"):
        open_records(rec)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    rec = tmp_path / "train.rec"
    with pytest.raises(InputError, match=r"train.rec: found no such file; expected a RecordIO"):
        open_records(rec)
    with pytest.raises(InputError, match=r"found Is a directory; expected a RecordIO file"):
        open_records(tmp_path)
    rec.touch()
    with pytest.raises(InputError, match=r"train.rec: found an empty file; expected a RecordIO"):
        open_records(rec)
    write(rec, im2rec(IMAGES), index=False)
    for name in ("train.idx", "property"):
        (tmp_path / name).mkdir()
        with pytest.raises(InputError, match=rf"{name}: found Is a directory"):
            open_records(rec)
        (tmp_path / name).rmdir()


# ---------------------------------------------------------------- properties

MORE_BYTES = 1 << 20  # of buffers, whatever the size of the file

pieces = st.lists(st.binary(max_size=6) | st.sampled_from([WORD, WORD[:2], b"\0"]), max_size=6)
payloads = pieces.map(b"".join)
labelled = st.lists(st.tuples(st.integers(0, 1 << 24), payloads), min_size=1, max_size=8)


@given(labelled, st.sampled_from([im2rec, insightface]), st.booleans(), st.randoms())
def test_images_written_are_images_read(
    images: list[tuple[int, bytes]], convention: object, index: bool, random: object
) -> None:
    items = convention(images)  # type: ignore[operator]
    random.shuffle(items)  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        assert contents(open_records(write(Path(folder, "a.rec"), items, index=index))) == images


def check_survives(rec: Path) -> None:
    """Whatever the files hold: an InputError, or records of which each is read or damaged."""
    size = sum(path.stat().st_size for path in rec.parent.iterdir())
    tracemalloc.start()
    try:
        records = open_records(rec)
        for offset in records.offsets.tolist():
            assert len(Record(rec, offset).read_bytes()) < size
    except InputError as error:
        assert error.where.startswith(str(rec.parent))
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MORE_BYTES + 6 * size


@settings(deadline=None)
@given(payloads | st.binary(max_size=200), st.none() | st.binary(max_size=30), st.integers(0, 99))
def test_arbitrary_bytes_are_refused_or_read(data: bytes, index: bytes | None, at: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rec = Path(folder, "a.rec")
        rec.write_bytes(data)
        if index is not None:
            rec.with_suffix(".idx").write_bytes(index)
        check_survives(rec)
        try:
            assert len(Record(rec, at).read_bytes()) < len(data)
        except OSError as error:
            assert "a.rec: byte" in str(error)


VALID = insightface([*IMAGES, (5, b"part" + WORD + b"part"), (5, b"last")])
NUMBERS = [0, 1, 0xFF, 0x20000000, 0x3FFFFFFF, 0x7FFFFFFF, 0x9FFFFFFF, 0xFFFFFFFF, 0x7FC00000]
words = st.sampled_from([struct.pack("<I", number) for number in NUMBERS]) | st.binary(max_size=9)
damages = st.lists(
    st.tuples(st.sampled_from([".rec", ".idx"]), st.integers(0, 600), words, st.booleans()),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)
@given(damages, st.booleans(), st.none() | st.integers(1, 300))
def test_damaged_files_are_refused_or_read(
    changes: list[tuple[str, int, bytes, bool]], index: bool, cut: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rec = write(Path(folder, "a.rec"), VALID, index=index)
        for ending, at, new, over in changes:
            path = rec.with_suffix(ending)
            if path.exists():
                data = path.read_bytes()
                at = min(at, len(data)) // 4 * 4 if ending == ".rec" else min(at, len(data))
                path.write_bytes(data[:at] + new + data[at + over * len(new) :])
        rec.write_bytes(rec.read_bytes()[: -cut if cut else None])
        check_survives(rec)


@pytest.mark.parametrize(
    "data",
    [
        b"".join(part(0, single(0, number=key)) for key in range(20_000)),
        part(0, b"") * 50_000,
        part(1, single(0)) + part(2, b"") * 40_000 + part(3, b""),
    ],
    ids=["headers", "nothing", "parts"],
)
def test_memory_follows_the_file_for_the_smallest_records(tmp_path: Path, data: bytes) -> None:
    rec = tmp_path / "a.rec"
    rec.write_bytes(data)
    tracemalloc.start()
    try:
        Record(rec, int(open_records(rec).offsets[0])).read_bytes()
    except InputError:
        assert data.startswith(part(0, b""))
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MORE_BYTES + 6 * len(data)


def test_no_memory_for_what_a_file_only_claims(tmp_path: Path) -> None:
    claims = several([2**24, 2**25])
    check_survives(write(tmp_path / "a.rec", [(0, claims), (1, single(0, number=1))]))
    huge = WORD + struct.pack("<I", (1 << 29) - 1) + single(0)
    (tmp_path / "a.rec").write_bytes(huge)
    check_survives(tmp_path / "a.rec")
    (tmp_path / "a.idx").unlink()
    check_survives(tmp_path / "a.rec")
    with pytest.raises(OSError, match="a length of 536870911 bytes"):
        Record(tmp_path / "a.rec", 0).read_bytes()
