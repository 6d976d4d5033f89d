from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstkd.data.formats.layouts import (
    TRAINING_LAYOUT,
    VERIFICATION_LAYOUT,
    parse_pairs,
    read_training_folder,
    read_verification,
    verification_identities,
)
from mstkd.data.sources import FaceImage
from mstkd.errors import InputError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def rfw(root: Path, pairs: str | bytes, group: str = "African") -> Path:
    """Two identities, m.0a with images 1 to 3 and m.0b with 1, 2 and 12, and a pairs file."""
    folder = root / "data" / group
    touch(*(folder / "m.0a" / f"m.0a_{n:04d}.jpg" for n in (1, 2, 3)))
    touch(*(folder / "m.0b" / f"m.0b_{n:04d}.jpg" for n in (1, 2, 12)))
    file = root / "txts" / group / f"{group}_pairs.txt"
    file.parent.mkdir(parents=True)
    file.write_bytes(pairs if isinstance(pairs, bytes) else pairs.encode())
    return file


# ---------------------------------------------------------------- training folders


def test_training_images_are_sorted_and_hidden_files_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "A"
    touch(
        folder / "zoë 2" / "b.JPG",
        folder / "zoë 2" / "a.jpeg",
        folder / "m.1" / "x.PnG",
        folder / "m.1" / "y.webp",
        folder / "m.1" / ".z.jpg",
        folder / "m.1" / "notes.txt",
        folder / ".git" / "x.jpg",
        folder / "sheet.jpg",
        tmp_path / "B" / "m.9" / "1.jpg",
    )
    (folder / "empty").mkdir()
    (folder / "m.1" / "folder.jpg").mkdir()
    assert read_training_folder(tmp_path, "A") == [
        FaceImage(folder / "m.1" / "x.PnG", "A/m.1/x.PnG", "m.1"),
        FaceImage(folder / "m.1" / "y.webp", "A/m.1/y.webp", "m.1"),
        FaceImage(folder / "zoë 2" / "a.jpeg", "A/zoë 2/a.jpeg", "zoë 2"),
        FaceImage(folder / "zoë 2" / "b.JPG", "A/zoë 2/b.JPG", "zoë 2"),
    ]


def test_links_are_images_even_when_they_dangle(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere" / "m.2" / "1.jpg")
    (tmp_path / "A" / "m.1").mkdir(parents=True)
    (tmp_path / "A" / "m.2").symlink_to(tmp_path / "elsewhere" / "m.2")
    (tmp_path / "A" / "m.1" / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    names = [image.source.name for image in read_training_folder(tmp_path, "A")]
    assert names == ["gone.jpg", "1.jpg"]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    """One to itself is no folder; one that leads up is looked into once, and no deeper."""
    touch(tmp_path / "A" / "m.1" / "1.jpg", tmp_path / "B" / "m.2" / "1.jpg")
    before = read_training_folder(tmp_path, "A")
    for folder in (tmp_path, tmp_path / "A", tmp_path / "A" / "m.1"):
        (folder / "self").symlink_to(folder / "self")
        (folder / "up").symlink_to(tmp_path)
    assert read_training_folder(tmp_path, "A") == before
    with pytest.raises(InputError, match=r"found the folders A, B, up; expected"):
        read_training_folder(tmp_path, "self")


def test_a_missing_group_names_the_folders_and_the_nearest(tmp_path: Path) -> None:
    touch(tmp_path / "African" / "m.1" / "1.jpg", tmp_path / "Asian" / "m.2" / "1.jpg")
    with pytest.raises(InputError) as error:
        read_training_folder(tmp_path, "african")
    assert str(error.value) == (
        f"{tmp_path}/african: found the folders African, Asian; "
        f"expected {TRAINING_LAYOUT}; did you mean group 'African'?"
    )


@pytest.mark.parametrize(
    ("made", "where", "found"),
    [
        ([], "A", "no folders"),
        (["A"], "A", "no image"),
        (["A/m.1", "A/m.2"], "A", "no image"),
        ([f"g{n:02}" for n in range(13)], "A", "g09 and 3 more"),
    ],
)
def test_a_folder_without_images(tmp_path: Path, made: list[str], where: str, found: str) -> None:
    for name in made:
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(InputError) as error:
        read_training_folder(tmp_path, "A")
    assert error.value.where == str(tmp_path / where)
    assert found in error.value.found
    assert error.value.expected == TRAINING_LAYOUT


def test_a_missing_root(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: found no such folder"):
        read_training_folder(tmp_path / "nowhere", "A")


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "A" / "m.1").mkdir(parents=True)
    (tmp_path / "A" / "m.1" / "\udcff.jpg").touch()
    with pytest.raises(InputError, match=r"m.1: found the name .*expected names in UTF-8"):
        read_training_folder(tmp_path, "A")


# ---------------------------------------------------------------- RFW

PAIRS = "m.0a\t1\t3\nm.0a\t3\tm.0b\t12\nm.0b\t12\t2\n"


def check_pairs(root: Path, above: Path | None = None) -> None:
    listed = read_verification(above or root, "African")
    folder = root / "data" / "African"
    assert listed.images == [
        FaceImage(folder / "m.0a" / "m.0a_0001.jpg", "data/African/m.0a/m.0a_0001.jpg", "m.0a"),
        FaceImage(folder / "m.0a" / "m.0a_0003.jpg", "data/African/m.0a/m.0a_0003.jpg", "m.0a"),
        FaceImage(folder / "m.0b" / "m.0b_0002.jpg", "data/African/m.0b/m.0b_0002.jpg", "m.0b"),
        FaceImage(folder / "m.0b" / "m.0b_0012.jpg", "data/African/m.0b/m.0b_0012.jpg", "m.0b"),
    ]
    assert listed.pairs.dtype == np.int32
    assert listed.same.dtype == np.bool_
    np.testing.assert_array_equal(listed.pairs, [[0, 1], [1, 3], [3, 2]])
    np.testing.assert_array_equal(listed.same, [True, False, True])


@pytest.mark.parametrize(
    "text",
    [
        PAIRS,
        PAIRS.replace("\n", "\r\n").encode("utf-8-sig"),
        PAIRS.replace("\t", "  "),
        "\n" + PAIRS.replace("\n", " \t\n\n").rstrip(),
    ],
    ids=["tabs", "CRLF and BOM", "spaces", "blanks"],
)
def test_rfw_pairs(tmp_path: Path, text: str | bytes) -> None:
    rfw(tmp_path, text)
    check_pairs(tmp_path)


def test_the_folder_above_test_is_accepted(tmp_path: Path) -> None:
    rfw(tmp_path / "test", PAIRS)
    check_pairs(tmp_path / "test", above=tmp_path)


def test_links_in_a_circle_end_in_rfw_too(tmp_path: Path) -> None:
    rfw(tmp_path, PAIRS)
    for folder in (tmp_path / "data", tmp_path / "data" / "African"):
        (folder / "self").symlink_to(folder / "self")
    (tmp_path / "data" / "African" / "up").symlink_to(tmp_path / "data")
    check_pairs(tmp_path)
    assert verification_identities(tmp_path) == {"m.0a", "m.0b", "up"}


def test_five_digits_and_other_endings(tmp_path: Path) -> None:
    rfw(tmp_path, "m.0c\t0\t1\nm.0c 2 12345\n")
    names = ["m.0c_00000.jpg", "m.0c_00001.png", "m.0c_0002.jpeg", "m.0c_12345.JPG"]
    touch(*(tmp_path / "data/African/m.0c" / name for name in names))
    listed = read_verification(tmp_path, "African")
    assert [image.source.name for image in listed.images] == names
    np.testing.assert_array_equal(listed.pairs, [[0, 1], [2, 3]])


def test_identities_with_spaces_between_tabs(tmp_path: Path) -> None:
    rfw(tmp_path, "Zoë B\t1\t2\n")
    touch(*(tmp_path / "data/African/Zoë B" / f"Zoë B_000{n}.jpg" for n in (1, 2)))
    assert [image.identity for image in read_verification(tmp_path, "African").images] == [
        "Zoë B",
        "Zoë B",
    ]


def test_the_first_line_of_lfw_is_accepted_and_checked(tmp_path: Path) -> None:
    file = rfw(tmp_path, "1\t1\nm.0a\t1\t2\nm.0a\t1\tm.0b\t1\n")
    assert len(read_verification(tmp_path, "African").same) == 2
    file.write_text("1\t2\nm.0a\t1\t2\nm.0a\t1\tm.0b\t1\n")
    with pytest.raises(InputError, match=r"found 2 pairs; expected 4, as line 1 says"):
        read_verification(tmp_path, "African")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("m.0a\t1", "found 2 fields; expected 3 for a genuine pair"),
        ("m.0a 1 m.0b 2 1", "found 5 fields; expected 3 for a genuine pair"),
        ("m.0a\tone\t2", "found 'one'; expected the number of an image"),
        ("m.0a\t1\t-2", "found '-2'; expected the number of an image"),
        ("m.0a\t١\t2", "found '١'; expected the number of an image"),
        ("m.0a\t1\tm.0b\tx", "found 'x'; expected the number of an image"),
        ("m.0a\t1\t\t2", "found an empty field; expected an identity"),
        ("m.0a\t2\t2", "found image 2 of m.0a paired with itself; expected two images"),
        ("m.0a\t2\tm.0a\t2", "found image 2 of m.0a paired with itself; expected two images"),
        ("m.0a\t1\tm.0a\t2", "found an impostor pair within identity m.0a; expected two"),
        ("m.0a\t1\t4", "found a pair whose image is missing; expected {data}/m.0a/m.0a_0004.jpg"),
        ("m.0x\t1\t2", "found a pair whose image is missing; expected {data}/m.0x/m.0x_0001.jpg"),
        ("..\t1\t2", "found a pair whose image is missing"),
        ("m\0x\t1\t2", "found a pair whose image is missing"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = rfw(tmp_path, f"m.0a\t1\t2\n\n{line}\n")
    with pytest.raises(InputError) as error:
        read_verification(tmp_path, "African")
    message = message.format(data=tmp_path / "data" / "African")
    assert str(error.value).startswith(f"{file}:3: {message}")


def test_an_image_twice_is_refused(tmp_path: Path) -> None:
    rfw(tmp_path, "m.0a\t1\t2\n")
    touch(tmp_path / "data/African/m.0a/m.0a_00001.jpg")
    with pytest.raises(InputError, match=r"_pairs.txt:1: found both m.0a_\d+.jpg and m.0a_"):
        read_verification(tmp_path, "African")


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n \r\n"])
def test_an_empty_file(tmp_path: Path, content: bytes) -> None:
    file = rfw(tmp_path, content)
    with pytest.raises(InputError) as error:
        read_verification(tmp_path, "African")
    assert str(error.value).startswith(f"{file}: found no pairs; expected a pair a line")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    rfw(tmp_path, "m.0a\t1\t2\n".encode("utf-16"))
    with pytest.raises(InputError, match="found byte 0 is not UTF-8"):
        read_verification(tmp_path, "African")


def test_missing_files_and_folders_name_the_layout(tmp_path: Path) -> None:
    file = rfw(tmp_path, PAIRS)
    with pytest.raises(InputError) as error:
        read_verification(tmp_path, "Africa")
    assert str(error.value) == (
        f"{tmp_path}/data/Africa: found the folders African; "
        f"expected {VERIFICATION_LAYOUT}; did you mean group 'African'?"
    )
    file.unlink()
    with pytest.raises(InputError) as error:
        read_verification(tmp_path, "African")
    assert str(error.value) == f"{file}: found no such file; expected {VERIFICATION_LAYOUT}"
    with pytest.raises(InputError) as error:
        read_verification(tmp_path / "txts", "African")
    assert str(error.value) == (
        f"{tmp_path}/txts: found the folders African; expected {VERIFICATION_LAYOUT}"
    )
    with pytest.raises(InputError, match=r"nowhere.*: found no such folder; expected <root>"):
        read_verification(tmp_path / "nowhere", "African")


# ---------------------------------------------------------------- properties

fields = st.sampled_from(["m.0a", "m.0b", "1", "2", "07", "", "x", "\t", " ", "\ufeff", "\x0b"])
lines = st.lists(st.lists(fields, max_size=6).map("\t".join), max_size=6).map("\n".join)


@given(st.binary(max_size=200) | st.text(max_size=80).map(str.encode) | lines.map(str.encode))
def test_no_text_raises_anything_but_input_error(data: bytes) -> None:
    try:
        pairs = parse_pairs(data, Path("pairs.txt"))
    except InputError as error:
        assert error.where.startswith("pairs.txt")
        return
    assert pairs
    for pair in pairs:
        assert pair.first != pair.second
        assert pair.same == (pair.first[0] == pair.second[0])


ids = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=6)
images = st.tuples(ids, st.integers(0, 99999))


@given(st.lists(st.tuples(images, images).filter(lambda pair: pair[0] != pair[1]), min_size=1))
def test_pairs_written_are_pairs_read(
    pairs: list[tuple[tuple[str, int], tuple[str, int]]],
) -> None:
    text = "".join(
        f"{a}\t{m}\t{n}\n" if a == b else f"{a}\t{m}\t{b}\t{n}\n" for (a, m), (b, n) in pairs
    )
    read = parse_pairs(text.encode(), Path("pairs.txt"))
    assert [(pair.first, pair.second) for pair in read] == pairs
    assert [pair.line for pair in read] == list(range(1, len(pairs) + 1))
