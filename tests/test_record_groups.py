from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordfiles import IMAGES, im2rec, insightface, write

from mstkd.data.formats.record_groups import CSV, read_record_groups, read_record_training
from mstkd.data.formats.recordio import Record, RecordFile, open_records
from mstkd.data.sources import FaceImage
from mstkd.errors import InputError

# Identities 0, 1 and 4 of IMAGES.
LIST = (
    "m.0b/1.jpg\t0\t1\nm.0b/a b.jpg\t0\t1\nm.0c/1.jpg\t1\t3\nm.0a/2.jpg\t4\t1\nm.0a/1.jpg\t4\t1\n"
)
TABLE = f"{CSV}\n0,Zoë\n4,Zoë\n1,A b\n"


@pytest.fixture
def rec(tmp_path: Path) -> Path:
    return write(tmp_path / "train.rec", insightface(IMAGES))


def variants(text: str) -> list[bytes]:
    spaced = text.replace("\t", "  ").replace(",", " , ")
    return [
        text.encode(),
        text.replace("\n", "\r\n").encode("utf-8-sig"),
        ("\n" + spaced.replace("\n", " \n\n")).rstrip().encode(),
    ]


@pytest.mark.parametrize("text", variants(LIST), ids=["plain", "CRLF and BOM", "spaces"])
def test_groups_from_a_list(rec: Path, text: bytes) -> None:
    path = rec.with_name("train_balancedface.lst")
    path.write_bytes(text)
    records = open_records(rec)
    groups = read_record_groups(path, records)
    assert groups.identity_names == ["m.0b", "m.0c", "m.0a"]
    assert groups.group_names == ["African", "Indian"]
    assert groups.files == ["1.jpg", "a b.jpg", "1.jpg", "2.jpg", "1.jpg"]
    assert groups.identity.dtype == groups.group.dtype == np.int32
    np.testing.assert_array_equal(groups.identity, [0, 0, 1, 2, 2])
    np.testing.assert_array_equal(groups.group, [1, 1, 0, 1, 1])
    at = records.offsets.tolist()
    assert read_record_training(rec, path, "Indian") == [
        FaceImage(Record(rec, at[3]), "Indian/m.0a/2.jpg", "m.0a"),
        FaceImage(Record(rec, at[4]), "Indian/m.0a/1.jpg", "m.0a"),
        FaceImage(Record(rec, at[0]), "Indian/m.0b/1.jpg", "m.0b"),
        FaceImage(Record(rec, at[1]), "Indian/m.0b/a b.jpg", "m.0b"),
    ]


def test_race_codes_are_those_of_the_provider(tmp_path: Path) -> None:
    rec = write(tmp_path / "train.rec", im2rec([(code, b"image") for code in range(4)]))
    path = tmp_path / "train.lst"
    path.write_text("".join(f"m.{code}/1.jpg\t{code}.000\t{code}\n" for code in range(4)))
    groups = read_record_groups(path, open_records(rec))
    names = [groups.group_names[group] for group in groups.group]
    assert names == ["Caucasian", "Indian", "Asian", "African"]


@pytest.mark.parametrize("name", ["groups.csv", "groups.txt"])
@pytest.mark.parametrize("text", variants(TABLE), ids=["plain", "CRLF and BOM", "spaces"])
def test_groups_from_a_csv(rec: Path, text: bytes, name: str) -> None:
    path = rec.with_name(name)
    path.write_bytes(text)
    records = open_records(rec)
    groups = read_record_groups(path, records)
    assert groups.identity_names == ["0", "1", "4"]
    assert groups.group_names == ["A b", "Zoë"]
    assert groups.files is None
    np.testing.assert_array_equal(groups.identity, [0, 0, 1, 2, 2])
    np.testing.assert_array_equal(groups.group, [1, 1, 0, 1, 1])
    at = records.offsets.tolist()
    assert read_record_training(rec, path, "A b") == [FaceImage(Record(rec, at[2]), "A b/1/3", "1")]
    names = [image.name for image in read_record_training(rec, path, "Zoë")]
    assert names == ["Zoë/0/1", "Zoë/0/2", "Zoë/4/4", "Zoë/4/5"]


def changed(line: int, text: str) -> str:
    lines = LIST.splitlines()
    lines[line - 1 : line] = text.splitlines()
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": found an empty file; expected a CSV with the header identity,group, or lines of"),
        (LIST + "\nm.0a/3.jpg\t4\t1\n", ":7: found one more; expected 5 lines, one for each image"),
        (LIST[:-15], ": found 4 lines; expected 5, one for each image record of"),
        (changed(5, "m.0d/1.jpg\t5\t1"), ":5: found identity label 5; expected 4, as record 5 of"),
        (changed(3, "m.0b/3.jpg\t0\t1"), ":3: found identity label 0; expected 1, as record 3 of"),
        (changed(3, ""), ":3: found identity label 4; expected 1, as record 3 of"),
        (
            changed(2, "m.0b/2.jpg\t0\t2"),
            ":2: found identity m.0b with label 0 in group Asian; "
            "expected identity m.0b with label 0 in group Indian, as above",
        ),
        (
            changed(3, "m.0b/1.jpg\t1\t3"),
            ":3: found identity m.0b with label 1 in group African; "
            "expected identity m.0b with label 0 in group Indian, as above",
        ),
        (
            changed(2, "m.0x/2.jpg\t0\t1"),
            ":2: found identity m.0x with label 0 in group Indian; "
            "expected identity m.0b with label 0 in group Indian, as above",
        ),
        (changed(2, "m.0b/2.jpg\t0\t4"), ":2: found race code 4; expected 0 to 3"),
        (changed(2, "m.0b/2.jpg\t0"), ":2: found 'm.0b/2.jpg\\t0'; expected <identity>/<file>"),
        (changed(2, "m.0b\t0\t1"), ":2: found 'm.0b\\t0\\t1'; expected <identity>/<file>"),
        (changed(2, "/1.jpg\t0\t1"), ":2: found '/1.jpg\\t0\\t1'; expected <identity>/<file>"),
        (changed(2, "m.0b/\t0\t1"), ":2: found 'm.0b/\\t0\\t1'; expected <identity>/<file>"),
        (changed(2, "m.0b/1.jpg\t0.5\t1"), ":2: found 'm.0b/1.jpg\\t0.5\\t1'; expected <identity>"),
        (changed(2, "m.0b/1.jpg\t0\t-1"), ":2: found 'm.0b/1.jpg\\t0\\t-1'; expected <identity>"),
        (changed(2, "m.0\udcff/1.jpg\t0\t1"), ":2: found bytes that are not UTF-8; expected text"),
    ],
)
def test_a_bad_list_is_named_with_the_line(rec: Path, text: str, message: str) -> None:
    path = rec.with_name("train.lst")
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError) as error:
        read_record_groups(path, open_records(rec))
    assert str(error.value).startswith(f"{path}{message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": found an empty file; expected a CSV with the header identity,group"),
        ("0,A\n1,A\n4,B\n", ":1: found '0,A'; expected identity,group"),
        (f"{CSV}\n0,A\n", ": found no line for identity 1 and 1 more; expected every identity of"),
        (f"{CSV}\n0,A\n1,B\n", ": found no line for identity 4; expected every identity of"),
        (f"{CSV}\n\n0,A\n2,B\n", ":4: found identity 2; expected a label that the records have"),
        (
            f"{CSV}\n0,A\n1,A\n0,B\n",
            ":4: found identity 0 in group B; "
            "expected every identity once: above, it is in group A",
        ),
        (f"{CSV}\n0\n", ":2: found '0'; expected an identity label, a comma, a group"),
        (f"{CSV}\n0,A,B\n", ":2: found '0,A,B'; expected an identity label, a comma, a group"),
        (f"{CSV}\n0, \n", ":2: found '0,'; expected an identity label, a comma, a group"),
        (f"{CSV}\nm.0a,A\n", ":2: found 'm.0a,A'; expected an identity label, a comma, a group"),
        (f'{CSV}\n0,"A\n', ":2: found unexpected end of data; expected CSV"),
    ],
)
def test_a_bad_csv_is_named_with_the_line(rec: Path, text: str, message: str) -> None:
    path = rec.with_name("groups.csv")
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_record_groups(path, open_records(rec))
    assert str(error.value).startswith(f"{path}{message}")


def test_group_files_that_cannot_be_read(rec: Path) -> None:
    records = open_records(rec)
    with pytest.raises(InputError, match=r"none.lst: found no such file; expected a list or CSV"):
        read_record_groups(rec.with_name("none.lst"), records)
    with pytest.raises(InputError, match="found Is a directory"):
        read_record_groups(rec.parent, records)


def test_an_unknown_group_names_the_groups_and_the_nearest(rec: Path) -> None:
    path = rec.with_name("train.lst")
    path.write_text(LIST)
    with pytest.raises(InputError) as error:
        read_record_training(rec, path, "african")
    assert str(error.value) == (
        f"{path}: found the groups African, Indian; "
        "expected group 'african'; did you mean 'African'?"
    )


def test_a_file_that_is_listed_twice(rec: Path) -> None:
    path = rec.with_name("train.lst")
    path.write_text(LIST.replace("a b.jpg", "1.jpg"))
    with pytest.raises(InputError, match=r"lst: found Indian/m.0b/1.jpg twice; expected every"):
        read_record_training(rec, path, "Indian")


@given(st.binary(max_size=120) | st.text(max_size=60).map(str.encode), st.booleans())
def test_arbitrary_groups_are_refused_or_read(data: bytes, csv: bool) -> None:
    records = RecordFile(Path("a.rec"), *(np.array([n, n + 1]) for n in (0, 1, 0)), stated=None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.csv" if csv else "a.lst")
        path.write_bytes(data)
        with pytest.raises(InputError, match=str(path)):
            read_record_groups(path, records)
