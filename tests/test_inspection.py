from __future__ import annotations

import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mstkd.data.formats.layouts import read_training_folder
from mstkd.data.inspection import found as inspected
from mstkd.data.inspection import inspect as inspection
from mstkd.data.inspection import rfw as inspection_rfw
from mstkd.data.inspection.found import GroupFound, Inspection
from mstkd.data.inspection.inspect import inspect
from mstkd.data.inspection.text import report_lines
from mstkd.errors import InputError


def encode(kind: str = "JPEG", mode: str = "RGB", size: tuple[int, int] = (12, 8)) -> bytes:
    data = io.BytesIO()
    Image.new(mode, size).save(data, kind)
    return data.getvalue()


JPEG = encode()


def image(*paths: Path, data: bytes = JPEG) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def training(root: Path, **counts: list[int]) -> Path:
    """Groups of identities with as many images as `counts` say."""
    for group, numbers in counts.items():
        for identity, number in enumerate(numbers):
            for n in range(number):
                image(root / group / f"{group}{identity}" / f"{n}.jpg")
    return root


def only(found: Inspection) -> GroupFound:
    (group,) = found.groups
    return group


def counts(group: GroupFound) -> tuple[Any, ...]:
    return group.name, group.identities, group.images, group.images_an_identity, group.single


def problem(found: Inspection, text: str) -> str:
    """The one problem that has `text` in it."""
    (line,) = [line for line in found.problems if text in line]
    return line


# ---------------------------------------------------------------- training folders


def test_a_training_folder_is_counted(tmp_path: Path) -> None:
    training(tmp_path, A=[1, 4, 2, 1], B=[3, 3, 1, 1])
    image(tmp_path / "A" / "A0" / ".hidden.jpg", tmp_path / ".git" / "x" / "1.jpg")
    (tmp_path / "A" / "A0" / "notes.txt").touch()
    found = inspect(tmp_path)
    assert found.kind == inspection.TRAINING
    assert [counts(group) for group in found.groups] == [
        ("A", 4, 8, (1, 1.5, 4), 2),
        ("B", 4, 8, (1, 2.0, 3), 2),
    ]
    assert found.groups[0].genuine is None
    assert found.groups[0].headers == inspected.Headers(8, {"12x8": 8}, {"RGB": 8})
    assert found.problems == []


def test_spaces_and_letters_of_other_alphabets(tmp_path: Path) -> None:
    root = tmp_path / "a b é"
    image(root / "Ä 1" / "zoë 愛" / "ü 1.JPG")
    found = inspect(root)
    assert counts(only(found)) == ("Ä 1", 1, 1, (1, 1.0, 1), 1)
    assert not found.problems


def test_what_the_reader_takes_for_an_image_is_counted(tmp_path: Path) -> None:
    """It asks no link where it leads: a link to a folder is a bad image, and must not vanish."""
    training(tmp_path, A=[1])
    (tmp_path / "A" / "A0" / "x.jpg").symlink_to(tmp_path)
    (tmp_path / "A" / "A0" / "y.jpg").symlink_to(tmp_path / "A" / "A0" / "y.jpg")
    (tmp_path / "A" / "A0" / "z.jpg").mkdir()
    found = inspect(tmp_path)
    assert only(found).images == len(read_training_folder(tmp_path, "A")) == 3
    assert problem(found, "x.jpg").endswith("its header cannot be read: Is a directory")


def test_the_sample_is_spread_over_all_identities(tmp_path: Path) -> None:
    """The k-th of 64 images of 200 is number 200 k / 64: each has its own width to tell."""
    for n in range(200):
        data = encode("PNG", "L", (n + 1, 1))
        image(tmp_path / "A" / f"{n // 50:02}" / f"{n:03}.png", data=data)
    headers = only(inspect(tmp_path)).headers
    assert headers.sampled == 64
    widths = sorted(int(size.partition("x")[0]) for size in headers.sizes)
    assert widths == [200 * k // 64 + 1 for k in range(64)]
    assert headers.modes == {"L": 64}


def test_every_problem_of_a_training_folder(tmp_path: Path) -> None:
    training(tmp_path, A=[2, 2], B=[2], C=[2])
    image(tmp_path / "B" / "A1" / "1.jpg", tmp_path / "0.jpg", tmp_path / "C" / "0.jpg")
    image(tmp_path / "A" / "A0" / "deep" / "1.jpg")
    image(tmp_path / "A" / "A1" / "broken.jpg", data=b"")
    image(tmp_path / "A" / "A1" / "cut.jpg", data=encode()[:3])
    image(tmp_path / "A" / "A1" / "\udcff.jpg")
    (tmp_path / "A" / "A1" / "gone.jpg").symlink_to(tmp_path / "nothing")
    (tmp_path / "A" / "A1" / "loop").symlink_to(tmp_path / "A" / "A1" / "loop")
    (tmp_path / "B" / "hollow").mkdir()
    (tmp_path / "D").mkdir()
    found = inspect(tmp_path)
    assert [(group.name, group.identities, group.images) for group in found.groups] == [
        ("A", 2, 7),
        ("B", 2, 3),
        ("C", 1, 2),
        ("D", 0, 0),
    ]
    a1 = tmp_path / "A" / "A1"
    for text in (
        f"{a1}/broken.jpg: its header cannot be read: no JPEG, PNG or WebP image",
        f"{a1}/cut.jpg: its header cannot be read: no JPEG, PNG or WebP image",
        f"{a1}/gone.jpg: its header cannot be read: No such file or directory",
        f"{a1}: the name '\\udcff.jpg' is not UTF-8",
        f"{tmp_path}/A/A0: 1 folders in an identity's folder are passed over",
        f"{tmp_path}/B/hollow: no image in it",
        f"{tmp_path}/D: no image in it",
        f"{tmp_path}: 1 images lie outside an identity's folder, passed over",
        f"{tmp_path}/C: 1 images lie outside an identity's folder, passed over",
        f"{tmp_path}: 1 identities in more than one group: A1 (A, B)",
    ):
        assert found.problems.count(text) == 1
    assert len(found.problems) == 10
    assert found.notes[:2] == [
        f"{tmp_path}: groups of unequal size: identities: A 2, B 2, C 1, D 0",
        f"{tmp_path}: groups of unequal size: images: A 7, B 3, C 2, D 0",
    ]


def test_what_systems_leave_and_formats_not_read_are_told(tmp_path: Path) -> None:
    training(tmp_path, A=[2, 2], B=[2, 2])
    image(tmp_path / "A" / "@eaDir" / "thumbnail.jpg", tmp_path / "A" / "A0" / "2.jfif")
    (tmp_path / "A" / "A0" / "3.BMP").touch()
    (tmp_path / "A" / "A0" / "notes.txt").touch()
    found = inspect(tmp_path)
    assert [(group.identities, group.images) for group in found.groups] == [(2, 5), (2, 4)]
    (line,) = found.problems
    assert line == (
        f"{tmp_path}/A/A0/3.BMP: an image of a format that is not read, passed over"
        "; data.more_suffixes: [.bmp] or --more-suffixes .bmp reads such images"
    )
    assert f"{tmp_path}/A/@eaDir: a system's folder, passed over" in found.notes


def test_uneven_groups_and_a_system_s_folder_are_no_problem(tmp_path: Path) -> None:
    training(tmp_path, A=[2, 2], B=[2])
    image(tmp_path / "A" / "@eaDir" / "thumbnail.jpg")
    assert inspect(tmp_path).problems == []


def test_a_list_that_has_all_genuine_pairs_first(tmp_path: Path) -> None:
    data = [encode("PNG", "L", (n, n)) for n in range(1, 41)]
    found = inspect(write_bin(tmp_path / "A_test.bin", [True] * 10 + [False] * 10, data))
    assert "all pairs of one kind come first" in problem(found, "A: all pairs")


def test_many_problems_of_one_sort_are_counted(tmp_path: Path) -> None:
    training(tmp_path, A=[1])
    for n in range(9):
        (tmp_path / "A" / f"hollow{n}").mkdir()
    found = inspect(tmp_path)
    assert sum("hollow" in line for line in found.problems) == 5
    assert problem(found, "more") == "... and 4 more empty folders"
    assert only(found).identities == 1


def test_files_are_not_looked_at_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The promise for a million paths: no image but those of the sample is opened."""
    training(tmp_path, A=[150, 150])
    opened = []
    original = Image.open
    monkeypatch.setattr(
        inspected.Image, "open", lambda *a, **k: opened.append(a) or original(*a, **k)
    )
    assert only(inspect(tmp_path)).images == 300
    assert len(opened) == 64


# ---------------------------------------------------------------- listings


def test_a_listing_is_counted_and_its_faults_told(tmp_path: Path) -> None:
    image(*(tmp_path / "a b" / f"{n}.jpg" for n in range(5)), tmp_path / "é.jpg")
    file = tmp_path / "images.csv"
    file.write_text(
        "group,path,identity\nA,a b/0.jpg,m.1\nA,a b/1.jpg,m.1\nB,a b/2.jpg,m.2\nB,é.jpg,m.3\n"
        "B,gone.jpg,m.3\nB,a b/3.jpg,m.1\nB,a b/4.jpg\nB,no/x.jpg,m.3\n"
    )
    found = inspect(file)
    assert found.kind == inspection.LISTING
    assert [counts(group) for group in found.groups] == [
        ("A", 1, 2, (2, 2.0, 2), 0),
        ("B", 2, 4, (1, 2.0, 3), 1),
    ]
    assert [group.headers.sampled for group in found.groups] == [2, 2]
    assert problem(found, "gone") == f"{file}:6: the image 'gone.jpg' is missing"
    assert problem(found, "no/x") == f"{file}:9: the image 'no/x.jpg' is missing"
    assert problem(found, "m.1").startswith(f"{file}:7: found identity 'm.1' in group 'B'")
    assert problem(found, "fields").startswith(f"{file}:8: found 2 fields")
    assert inspect(tmp_path).kind == inspection.LISTING  # its folder, which has no groups


def test_a_listing_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "images.csv"
    file.write_text("file,identity,group\n")
    found = inspect(file)
    assert found.groups == ()
    assert problem(found, "'file'").startswith(f"{file}:1: found the column 'file'")


# ---------------------------------------------------------------- RFW


def rfw(root: Path, group: str = "African", **texts: str) -> Path:
    """Two identities, a with images 1 to 3 and b with 1, 2 and 12, and the files of `texts`."""
    folder = root / "data" / group
    image(*(folder / f"{group}.a" / f"{group}.a_{n:04d}.jpg" for n in (1, 2, 3)))
    image(*(folder / f"{group}.b" / f"{group}.b_{n:04d}.jpg" for n in (1, 2, 12)))
    (root / "txts" / group).mkdir(parents=True)
    for kind, text in texts.items():
        path = root / "txts" / group / f"{group}_{kind}.txt"
        path.write_text(text.replace("a_", f"{group}.a_").replace("b_", f"{group}.b_"))
    return root / "txts" / group / f"{group}"


def pairs(*lines: str, group: str = "African") -> str:
    return "".join(
        line.replace("a", f"{group}.a").replace("b", f"{group}.b") + "\n" for line in lines
    )


FOLD = ("a 1 2", "a 1 3", "a 1 b 1", "a 2 b 12")
LMK = "".join(
    f"/test/data/African/African.{i}/African.{i}_{n:04d}.jpg\t0" + "\t1.5" * 10 + "\n"
    for i, numbers in (("a", (1, 2, 3)), ("b", (1, 2, 12)))
    for n in numbers
)
IMAGES = "a_0001.jpg 0\na_0002.jpg 0\na_0003.jpg 0\nb_0001.jpg 1\nb_0002.jpg 1\nb_0012.jpg 1\n"


@pytest.mark.parametrize("above", [False, True], ids=["test", "the folder above test"])
def test_rfw_is_counted(tmp_path: Path, above: bool) -> None:
    for group in ("African", "Asian"):
        rfw(tmp_path / "test", group, pairs=pairs(*FOLD * 3, group=group))
    rfw_people = tmp_path / "test" / "txts" / "African" / "African_people.txt"
    rfw_people.write_text("African.a 3\nAfrican.b\t3\n")
    rfw_people.with_name("African_lmk.txt").write_text(LMK)
    found = inspect(tmp_path if above else tmp_path / "test")
    assert found.kind == inspection.RFW
    assert [counts(group) for group in found.groups] == [
        ("African", 2, 6, (3, 3.0, 3), 0),
        ("Asian", 2, 6, (3, 3.0, 3), 0),
    ]
    assert [(g.genuine, g.impostor, g.folds) for g in found.groups] == [(6, 6, 3)] * 2
    assert found.groups[1].headers.sizes == {"12x8": 6}
    assert found.problems == []


@pytest.mark.parametrize(
    "lines",
    [
        FOLD[::-1],  # impostor pairs first
        (*FOLD, "a 1 2", "a 1 b 1"),  # a smaller fold
        ("a 1 2", "a 1 b 1") * 4,  # in turns: any number of folds
        ("a 1 2", "a 1 3"),
    ],
)
def test_folds_that_the_order_does_not_tell(tmp_path: Path, lines: tuple[str, ...]) -> None:
    rfw(tmp_path, pairs=pairs(*lines))
    assert only(inspect(tmp_path)).folds is None


def test_bad_lines_of_pairs_are_all_told_and_the_others_counted(tmp_path: Path) -> None:
    lines = pairs("a 1 2", "a 1", "a 1 2 3 4", "a 1 b 1", "a x 2", "a 1 4", "c 1 b 1")
    file = Path(f"{rfw(tmp_path, pairs=lines)}_pairs.txt")
    found = inspect(tmp_path)
    assert (only(found).genuine, only(found).impostor) == (2, 2)
    data = tmp_path / "data" / "African"
    for text in (
        f"{file}:2: found 2 fields",
        f"{file}:3: found 5 fields",
        f"{file}:5: found 'x'",
        f"{file}:6: missing: {data}/African.a/African.a_0004.jpg",
        f"{file}:7: missing: {data}/c/c_0001.jpg",
    ):
        assert sum(line.startswith(text) for line in found.problems) == 1
    assert len(found.problems) == 5


def test_a_pairs_file_whose_first_line_is_wrong(tmp_path: Path) -> None:
    rfw(tmp_path, pairs="1 1\n" + pairs("a 1 2"))
    found = inspect(tmp_path)
    assert problem(found, "as line 1 says").endswith("found 1 pairs; expected 2, as line 1 says")
    assert only(found).genuine == 1


def test_an_image_that_two_files_could_be(tmp_path: Path) -> None:
    file = rfw(tmp_path, pairs=pairs("a 1 2"))
    image(tmp_path / "data/African/African.a/African.a_00002.png")
    assert problem(inspect(tmp_path), "two files").startswith(f"{file}_pairs.txt:1: two files are ")


def test_a_pairs_file_that_is_missing_empty_or_no_text(tmp_path: Path) -> None:
    file = Path(f"{rfw(tmp_path)}_pairs.txt")
    assert problem(inspect(tmp_path), "pairs") == f"{file}: no such file"
    file.touch()
    assert problem(inspect(tmp_path), "pairs").startswith(f"{file}: found no pairs")
    file.write_bytes(b"a 1 2\n\xff")
    assert problem(inspect(tmp_path), "pairs") == f"{file}: byte 6 is not UTF-8"


def test_a_file_of_bad_lines_is_given_up(tmp_path: Path) -> None:
    rfw(tmp_path, pairs="x\n" * 5000)
    assert (
        f"... and {inspection_rfw.BAD_LINES - 5} more faults of pairs" in inspect(tmp_path).problems
    )


def test_lists_that_disagree_with_the_folders(tmp_path: Path) -> None:
    texts = {
        "pairs": pairs(*FOLD),
        "people": "African.a 2\nAfrican.c 0\nAfrican.d 4\nAfrican.b x\n",
        "images": IMAGES.replace("a_0002.jpg 0", "a_0009.jpg 0").replace("a_0001.jpg 0", "a_0001"),
        "lmk": LMK.replace("b_0012", "b_0013"),
    }
    file = rfw(tmp_path, **{k: v for k, v in texts.items() if k != "lmk"})
    Path(f"{file}_lmk.txt").write_text(texts["lmk"])
    found = inspect(tmp_path)
    for text in (
        f"{file}_people.txt:1: African.a with 2 images, and 3 in its folder",
        f"{file}_people.txt:2: African.c with 0 images, and 0 in its folder",
        f"{file}_people.txt:3: African.d with 4 images, and 0 in its folder",
        f"{file}_people.txt:4: 'African.b x' is no identity and number",
        f"{file}_people.txt: 1 in the folders are not in it: African.b",
        f"{file}_images.txt:1: 'African.a_0001' is no file name and label",
        f"{file}_images.txt:2: missing: African.a_0009.jpg",
        f"{file}_images.txt: 2 in the folders are not in it: "
        "African.a/African.a_0001.jpg, African.a/African.a_0002.jpg",
        f"{file}_lmk.txt: missing: African.b/African.b_0013.jpg",
        f"{file}_lmk.txt: 1 in the folders are not in it: African.b/African.b_0012.jpg",
    ):
        assert found.problems.count(text) == 1
    assert len(found.problems) == 10


def test_landmarks_that_are_no_numbers(tmp_path: Path) -> None:
    file = rfw(tmp_path, pairs=pairs(*FOLD))
    Path(f"{file}_lmk.txt").write_text(LMK.replace("1.5\n", "nan\n", 1))
    assert problem(inspect(tmp_path), "nan").startswith(f"{file}_lmk.txt:1: ")


def test_groups_without_pairs_or_without_images_and_persons_in_two(tmp_path: Path) -> None:
    rfw(tmp_path, "African", pairs=pairs(*FOLD))
    (tmp_path / "txts" / "Indian").mkdir()
    for n in range(13):
        image(tmp_path / "data" / "Asian" / f"m.{n:02}" / "1.jpg")
        image(tmp_path / "data" / "African" / f"m.{n:02}" / "1.jpg")
    found = inspect(tmp_path)
    assert [group.name for group in found.groups] == ["African", "Asian", "Indian"]
    shared = problem(found, "in more than one group")
    assert shared.startswith(f"{tmp_path}: 13 identities in more than one group: m.00 (African, A")
    assert shared.endswith("m.12 (African, Asian)")
    assert f"{tmp_path}/txts/Asian/Asian_pairs.txt: no such file" in found.problems
    assert f"{tmp_path}/data/Indian: No such file or directory" in found.problems
    unequal = f"{tmp_path}: groups of unequal size: genuine pairs: African 2, Asian 0, Indian 0"
    assert unequal in found.problems


# ---------------------------------------------------------------- .bin and .rec


def write_bin(path: Path, flags: list[bool], data: list[bytes] | None = None) -> Path:
    images = data or [JPEG + bytes([n]) for n in range(2 * len(flags))]
    path.write_bytes(pickle.dumps((images, flags), protocol=2))
    return path


def test_a_folder_of_bins_and_one_bin(tmp_path: Path) -> None:
    a = write_bin(tmp_path / "African_test.bin", [True, True, False, False] * 2)
    write_bin(tmp_path / "Asian_test.bin", [True, False], [JPEG, b"x", JPEG, b"y"])
    (tmp_path / "Indian_test.bin").write_bytes(b"no pickle")
    found = inspect(tmp_path)
    assert found.kind == inspection.BINS
    got = [(g.name, g.identities, g.images, g.genuine, g.impostor, g.folds) for g in found.groups]
    assert got == [("African", None, 16, 4, 4, 2), ("Asian", None, 3, 1, 1, None)]
    assert found.groups[0].headers.sizes == {"12x8": 16}
    assert sum("Asian_test.bin: Asian_test.bin/00001: its header" in p for p in found.problems) == 1
    assert problem(found, "Indian_test.bin").startswith(f"{tmp_path}/Indian_test.bin: found ")
    one = inspect(a.rename(tmp_path / "lfw.bin"))
    assert (one.kind, only(one).name) == (inspection.BINS, "lfw")


def record(data: bytes, label: float, key: int) -> bytes:
    """By the format's description: magic, length, IRHeader, image, zeros up to 4 bytes."""
    payload = struct.pack("<IfQQ", 0, label, key, 0) + data
    return struct.pack("<II", 0xCED7230A, len(payload)) + payload + bytes(-len(payload) % 4)


def write_rec(path: Path, labels: list[int], data: bytes = JPEG) -> Path:
    records = [record(data, label, key) for key, label in enumerate(labels)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(records))
    offset, lines = 0, ""
    for key, one in enumerate(records):
        lines += f"{key}\t{offset}\n"
        offset += len(one)
    path.with_suffix(".idx").write_text(lines)
    return path


def test_records_with_and_without_groups(tmp_path: Path) -> None:
    rec = write_rec(tmp_path / "train.rec", [0, 0, 0, 1, 2, 2])
    bare = inspect(tmp_path)  # the folder that holds train.rec
    assert bare.kind.startswith(inspection.RECORDS)
    assert "groups are not known" in bare.kind
    assert counts(only(bare)) == ("all", 3, 6, (1, 2.0, 3), 1)
    groups = tmp_path / "groups.csv"
    groups.write_text("identity,group\n0,B\n1,A\n2,A\n")
    found = inspect(rec, groups=groups)
    assert found.kind.endswith(f"groups from {groups}")
    assert [counts(group) for group in found.groups] == [
        ("A", 2, 3, (1, 1.5, 2), 1),
        ("B", 1, 3, (3, 3.0, 3), 0),
    ]
    assert found.groups[0].headers.sizes == {"12x8": 3}
    assert found.notes[0].endswith("identities: A 2, B 1")


def test_damaged_records_and_groups_are_problems(tmp_path: Path) -> None:
    rec = write_rec(tmp_path / "x.rec", [0, 1], data=b"no image")
    groups = tmp_path / "groups.csv"
    groups.write_text("identity,group\n0,B\n")
    found = inspect(rec, groups=groups)
    assert only(found).images == 2
    assert problem(found, "groups.csv").startswith(f"{groups}: found no line for identity 1")
    assert problem(found, "record 1: its header").startswith(f"{rec}: record 1: ")
    rec.write_bytes(rec.read_bytes()[:-20])
    damaged = inspect(rec)
    assert damaged.groups == ()
    assert len(damaged.problems) == 1
    assert report_lines(damaged)


def test_groups_for_another_kind_are_refused(tmp_path: Path) -> None:
    training(tmp_path, A=[1])
    with pytest.raises(InputError, match=r"g\.csv: found groups for a training folder"):
        inspect(tmp_path, groups=tmp_path / "g.csv")


# ---------------------------------------------------------------- unlabelled, and precedence


def test_unlabelled_images_and_a_link_loop(tmp_path: Path) -> None:
    image(tmp_path / "a" / "1.jpg", tmp_path / "2.webp", data=encode("WEBP", "RGB"))
    image(tmp_path / "a" / "b" / "c" / "3.png", data=encode("PNG", "P", (3, 3)))
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    found = inspect(tmp_path)
    assert found.kind == inspection.UNLABELLED
    assert counts(only(found)) == ("all", None, 3, None, None)
    assert only(found).headers.sizes == {"12x8": 2, "3x3": 1}
    assert only(found).headers.modes == {"RGB": 2, "P": 1}
    assert found.problems == []


def test_a_link_loop_in_a_training_folder(tmp_path: Path) -> None:
    root = training(tmp_path / "root", A=[1])
    image(root / "0.jpg", tmp_path / "outside" / "1.jpg", root / "A" / "0.jpg")
    (root / "A" / "A0" / "up").symlink_to(root)
    (root / "A" / "self").symlink_to(root / "A" / "self")
    (root / "A" / "linked").symlink_to(tmp_path / "outside")  # no circle: an identity
    for name, target in (("root", root), ("group", root / "A"), ("above", tmp_path)):
        (root / "A" / name).symlink_to(target)
    (root / "circle").symlink_to(root)
    found = inspect(root)
    assert counts(only(found)) == ("A", 2, 2, (1, 1.0, 1), 2)
    for name in ("A/root", "A/group", "A/above", "circle"):
        assert f"{root}/{name}: a link to a folder that holds it" in found.problems


def test_the_first_kind_that_fits_is_told(tmp_path: Path) -> None:
    """A folder that could be all of them; one sign after the other is taken away."""
    image(tmp_path / "0.jpg")
    training(tmp_path, A=[1])
    (tmp_path / "images.csv").write_text("path,identity,group\n0.jpg,m,A\n")
    bins = write_bin(tmp_path / "A_test.bin", [True, False])
    rfw(tmp_path, pairs=pairs(*FOLD))
    rec = write_rec(tmp_path / "train.rec", [0, 1])
    assert inspect(tmp_path).kind.startswith(inspection.RECORDS)
    rec.unlink()
    assert inspect(tmp_path).kind == inspection.BINS  # as packing reads them
    bins.unlink()
    assert inspect(tmp_path).kind == inspection.RFW
    (tmp_path / "txts").rename(tmp_path / "none")
    assert inspect(tmp_path).kind == inspection.TRAINING
    (tmp_path / "A" / "A0" / "0.jpg").unlink()
    for path in sorted((tmp_path / "data").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert inspect(tmp_path).kind == inspection.LISTING
    (tmp_path / "images.csv").unlink()
    assert inspect(tmp_path).kind == inspection.UNLABELLED
    (tmp_path / "0.jpg").unlink()
    with pytest.raises(InputError, match="found no image at any depth; expected training folder"):
        inspect(tmp_path)


@pytest.mark.parametrize(
    ("name", "found"),
    [("nowhere", "no such file or folder"), ("train.lst", "a .lst file"), ("x", "a nameless")],
)
def test_a_path_that_is_of_no_kind(tmp_path: Path, name: str, found: str) -> None:
    if name != "nowhere":
        (tmp_path / name).touch()
    with pytest.raises(InputError) as error:
        inspect(tmp_path / name)
    assert error.value.where == str(tmp_path / name)
    assert error.value.found.startswith(found)


def test_a_path_that_cannot_be_looked_at(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found File name too long"):
        inspect(tmp_path / ("x" * 300))


# ---------------------------------------------------------------- the report


def test_the_report_is_aligned(tmp_path: Path) -> None:
    training(tmp_path, A=[1, 2], Long=[1, 12])
    image(tmp_path / "A" / "A1" / "2.png", data=encode("PNG", "L", (100, 7)))
    assert report_lines(inspect(tmp_path)) == [
        str(tmp_path),
        "training folder: <group>/<identity>/<image>",
        "",
        "group  identities  images  an identity: least  median  most  of one image",
        "A               2       4                   1       2     3             1",
        "Long            2      13                   1     6.5    12             1",
        "",
        "Headers of a sample, at most 64 images a group, evenly spread:",
        "group  images  width x height       mode",
        "A           4  12x8 (3), 100x7 (1)  RGB (3), L (1)",
        "Long       13  12x8                 RGB",
        "",
        "Notes:",
        f"  {tmp_path}: groups of unequal size: images: A 4, Long 13",
        f"  {tmp_path}: images of 2 sizes or no squares: not aligned faces, as it seems; "
        "data.train_alignment and data.verification_alignment take landmarks",
        "",
        "No problems found.",
    ]


def test_the_report_of_pairs_and_many_sizes(tmp_path: Path) -> None:
    data = [encode("PNG", "L", (n, n)) for n in range(1, 9)]
    lines = report_lines(
        inspect(write_bin(tmp_path / "A_test.bin", [True] * 2 + [False] * 2, data))
    )
    assert lines[3:5] == [
        "group  images  genuine pairs  impostor pairs  folds",
        "A           8              2               2      1",
    ]
    assert lines[8] == "A           8  1x1 (1), 2x2 (1), 3x3 (1), 5 more  L"
    assert lines[-1] == "No problems found."


def test_no_name_from_the_disk_moves_the_cursor(tmp_path: Path) -> None:
    root = tmp_path / "r\x1b[2J"
    training(root, **{"A\n\x1b[1m": [1]})
    (root / "A\n\x1b[1m" / "b\x07\udcff").mkdir()
    (root / "A\n\x1b[1m" / "b\x07").mkdir()
    lines = report_lines(inspect(root))
    assert all(line.isprintable() for line in lines)
    assert any(r"A\n\x1b[1m" in line for line in lines)
    assert os.fsencode("".join(lines)).isascii()
