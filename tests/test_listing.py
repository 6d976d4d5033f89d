from __future__ import annotations

import csv
import io
import os
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mstkd.data.formats.listing import (
    UNKNOWN,
    listing_rows,
    read_listing,
    read_listing_groups,
    read_unlabelled,
    walk_images,
)
from mstkd.data.sources import FaceImage
from mstkd.errors import InputError

HEADER = "path,identity,group\n"


def write(folder: Path, text: str | bytes) -> Path:
    file = folder / "images.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


# ---------------------------------------------------------------- a CSV

ROWS = "b 2/é.jpg,zoë,B\nx/2.jpg,m.2,A\nx/10.jpg,m.2,A\nz.jpg,m.1,A\n"


@pytest.mark.parametrize(
    "text",
    [
        HEADER + ROWS,
        (HEADER + ROWS).replace("\n", "\r\n").encode("utf-8-sig"),
        HEADER + "\n" + ROWS.replace("\n", "\n\n").rstrip(),
        "group,path,identity\nB,b 2/é.jpg,zoë\nA,x/2.jpg,m.2\nA,./x//10.jpg,m.2\nA,q/../z.jpg,m.1",
    ],
    ids=["plain", "CRLF and BOM", "blank lines", "columns in another order, paths with dots"],
)
def test_images_are_sorted_by_identity_then_path(tmp_path: Path, text: str | bytes) -> None:
    file = write(tmp_path, text)
    a = [
        FaceImage(tmp_path / "z.jpg", "A/m.1/z.jpg", "m.1"),
        FaceImage(tmp_path / "x" / "10.jpg", "A/m.2/x/10.jpg", "m.2"),
        FaceImage(tmp_path / "x" / "2.jpg", "A/m.2/x/2.jpg", "m.2"),
    ]
    b = [FaceImage(tmp_path / "b 2" / "é.jpg", "B/zoë/b 2/é.jpg", "zoë")]
    assert read_listing(file, "A") == a
    assert read_listing(file, "B") == b
    assert list(read_listing_groups(file).items()) == [("A", a), ("B", b)]


def test_an_unknown_group_names_the_groups_and_the_nearest(tmp_path: Path) -> None:
    file = write(tmp_path, HEADER + "1.jpg,a,African\n2.jpg,b,Asian\n")
    with pytest.raises(InputError) as error:
        read_listing(file, "african")
    assert str(error.value) == (
        f"{file}: group 'african': found the groups African, Asian; "
        "expected one of them; did you mean 'African'?"
    )


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path,idenity,group", "found the column 'idenity'; .*; did you mean 'identity'?"),
        ("path,identity,group,Path", "found the column 'Path'; .*; did you mean 'path'?"),
        ("path, identity,group", "found the column ' identity'; .*; did you mean 'identity'?"),
        ("path,identity,group,qqq", "found the column 'qqq'; expected .* alone$"),
        ("path,identity", "found the columns path, identity; expected .* each once"),
        ("path,identity,group,path", "found the columns path, identity, group, path; expected"),
    ],
)
def test_a_wrong_header(tmp_path: Path, header: str, message: str) -> None:
    file = write(tmp_path, header + "\n1.jpg,a,A\n")
    with pytest.raises(InputError, match=message.replace("?", r"\?")) as error:
        read_listing(file, "A")
    assert error.value.where == f"{file}:1"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2.jpg,a", "found 2 fields; expected path, identity, group"),
        ("2.jpg,a,A,", "found 4 fields; expected path, identity, group"),
        (",a,A", "found an empty field; expected the path"),
        ("2.jpg, ,A", "found an empty field; expected the identity"),
        ("2.jpg,a,", "found an empty field; expected the group"),
        ("2\0.jpg,a,A", "found a zero byte in the path; expected text"),
        ("/etc/passwd,a,A", "found the absolute path '/etc/passwd'; expected a path told"),
        ("//x/2.jpg,a,A", "found the absolute path '//x/2.jpg'"),
        ("../2.jpg,a,A", "found the path '../2.jpg'; expected a file in the CSV's folder"),
        ("x/../../2.jpg,a,A", "found the path 'x/../../2.jpg'; expected a file in"),
        ("x/..,a,A", "found the path 'x/..'; expected a file in"),
        ("..,a,A", "found the path '..'; expected a file in"),
        ("1.jpg,a,A", "found the path '1.jpg' again, as on line 2; expected every image once"),
        ("x/../1.jpg,a,A", "found the path '1.jpg' again, as on line 2"),
        ("2.jpg,a,B", "found identity 'a' in group 'B'; expected group 'A', as on line 2"),
        ('"2.jpg,a,A', "found unexpected end of data; expected CSV"),
        ('"2"x.jpg,a,A', "expected CSV"),
        ("x" * 200_000 + ",a,A", "found field larger than field limit"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = write(tmp_path, f"{HEADER}1.jpg,a,A\n\n{line}\n")
    with pytest.raises(InputError) as error:
        read_listing(file, "A")
    assert str(error.value).startswith(f"{file}:4: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "images.csv:1: found an empty file; expected a CSV file with the columns"),
        (b"\xef\xbb\xbf\n", "images.csv:1: found an empty file"),
        (HEADER.encode(), "images.csv: found no images; expected a line for each image"),
        (HEADER.encode() + b"\xff.jpg,a,A\n", "found after line 0, a byte that is not UTF-8"),
        (HEADER.encode("utf-16"), "a byte that is not UTF-8; expected a CSV file in UTF-8"),
    ],
)
def test_a_file_without_images(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError) as error:
        read_listing_groups(write(tmp_path, content))
    assert message in str(error.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.csv: found no such file; expected a CSV file"):
        read_listing(tmp_path / "no.csv", "A")
    with pytest.raises(InputError, match="found Is a directory; expected a readable CSV file"):
        read_listing(tmp_path, "A")


def test_faults_are_told_and_the_other_lines_read(tmp_path: Path) -> None:
    lines = "1.jpg,a,A\n,a,A\n2.jpg,a,B\n3.jpg,a,B\n1.jpg,b,B\n4.jpg,b,B\n"
    faults: list[InputError] = []
    rows = list(listing_rows(write(tmp_path, HEADER + lines), faults.append))
    assert [(row.line, row.path) for row in rows] == [(2, "1.jpg"), (7, "4.jpg")]
    # Identity a in group B is one fault, however many images it has there.
    assert [fault.where.rpartition(":")[2] for fault in faults] == ["3", "4", "6"]


texts = st.text(st.sampled_from('ab/.,"\n\r\0 é\ufeff'), max_size=12)
tables = st.lists(
    st.lists(texts | st.sampled_from(["a", "b", "1.jpg", "../x"]), max_size=4).map(",".join)
).map("\n".join)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=100)
    | texts.map(str.encode)
    | tables.map(lambda text: (HEADER + text).encode())
)
def test_no_bytes_raise_anything_but_input_error(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder), data)
        try:
            groups = read_listing_groups(file)
        except InputError as error:
            assert error.where.startswith(str(file))
            return
        images = [image for group in groups.values() for image in group]
        assert images
        for image in images:
            assert isinstance(image.source, Path)
            inside = os.path.normpath(image.source)
            assert inside.startswith(folder + "/")
        assert len({image.source for image in images}) == len(images)


names = st.text(
    st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=5
).filter(lambda text: text.strip() and text not in (".", ".."))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(names, st.tuples(names, st.sampled_from("AB")), min_size=1))
def test_what_a_csv_writer_wrote_is_read(rows: dict[str, tuple[str, str]]) -> None:
    rows = {path: (group + identity, group) for path, (identity, group) in rows.items()}
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["identity", "group", "path"])
    writer.writerows([identity, group, path] for path, (identity, group) in rows.items())
    with tempfile.TemporaryDirectory() as folder:
        groups = read_listing_groups(write(Path(folder), text.getvalue()))
    read = {
        str(image.source)[len(folder) + 1 :]: (image.identity, group)
        for group, images in groups.items()
        for image in images
    }
    composed = unicodedata.normalize  # an identity is one in whatever form it is written
    assert read == {path: (composed("NFC", name), group) for path, (name, group) in rows.items()}


# ---------------------------------------------------------------- unlabelled images


def test_images_of_any_depth_are_sorted_and_hidden_ones_passed_over(tmp_path: Path) -> None:
    touch(
        tmp_path / "b.jpg",
        tmp_path / "a b" / "é" / "2.PNG",
        tmp_path / "a b" / "10.webp",
        tmp_path / "a b" / ".x.jpg",
        tmp_path / ".git" / "1.jpg",
        tmp_path / "notes.txt",
    )
    (tmp_path / "folder.jpg").mkdir()
    assert read_unlabelled(tmp_path) == [
        FaceImage(tmp_path / name, name, UNKNOWN)
        for name in ("a b/10.webp", "a b/é/2.PNG", "b.jpg")
    ]
    assert UNKNOWN == "unknown"


def test_links_in_a_circle_end_and_no_image_comes_twice(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(root / "z" / "1.jpg", tmp_path / "out" / "2.jpg", tmp_path / "out" / "deep" / "3.jpg")
    (root / "a").symlink_to(root / "z")  # below root already: read as z
    (root / "z" / "up").symlink_to(root)
    (root / "z" / "self").symlink_to(root / "z" / "self")
    (root / "b").symlink_to(tmp_path / "out")
    (root / "c").symlink_to(tmp_path / "out")  # a second link to one folder
    (root / "d").symlink_to(tmp_path)  # the folder above
    (root / "gone.jpg").symlink_to(tmp_path / "nothing")
    names = [image.name for image in read_unlabelled(root)]
    assert names == ["b/2.jpg", "b/deep/3.jpg", "gone.jpg", "z/1.jpg"]


def test_a_folder_without_images_and_one_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found no image; expected images below it \(.jpg"):
        read_unlabelled(tmp_path)
    with pytest.raises(InputError, match="found No such file or directory; expected a readable"):
        read_unlabelled(tmp_path / "nowhere")


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    touch(*(tmp_path / "a" / name for name in ("\udcff.jpg", "c.jpg", "b.jpg")))
    with pytest.raises(InputError, match=r"/a: found the name '\\udcff.jpg'; expected names in"):
        read_unlabelled(tmp_path)
    faults: list[InputError] = []
    assert list(walk_images(tmp_path, faults.append)) == [("", []), ("a", ["b.jpg", "c.jpg"])]
    assert len(faults) == 1
