"""Names and files as other systems write them, and what is passed over for them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from packs import SIZE, settings_of
from PIL import Image
from recordfiles import IMAGES, im2rec, write

from mstkd.data.formats.layouts import parse_pairs
from mstkd.data.formats.pairlists import read_pair_list
from mstkd.data.formats.recordio import open_records
from mstkd.data.readers import read_training, read_verification_images, trainable
from mstkd.data.watched import watched
from mstkd.errors import InputError
from mstkd.evaluation.scorefiles import read_scores

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (SIZE, SIZE)).save(path, "JPEG")


def verification(root: Path, name: str, listed: str) -> None:
    """Two identities with two images each; `listed` is how the pairs spell the first."""
    for identity in (name, "b"):
        for number in (1, 2):
            photo(root / "data/A" / identity / f"{identity}_{number:04}.jpg")
    (root / "txts/A").mkdir(parents=True)
    (root / "txts/A/A_pairs.txt").write_text(f"{listed} 1 2\n{listed} 1 b 1\n")


@pytest.mark.parametrize("on_disk", [COMPOSED, DECOMPOSED], ids=["NFC", "NFD"])
@pytest.mark.parametrize("listed", [COMPOSED, DECOMPOSED], ids=["listed NFC", "listed NFD"])
def test_pairs_find_a_folder_in_another_spelling(tmp_path: Path, on_disk: str, listed: str) -> None:
    verification(tmp_path, on_disk, listed)
    found = read_verification_images(settings_of(tmp_path))
    assert {image.identity for image in found.images} == {COMPOSED, "b"}
    assert all(image.source.read_bytes() for image in found.images)


def test_an_excluded_identity_leaves_training_in_any_spelling(tmp_path: Path) -> None:
    verification(tmp_path / "test", COMPOSED, COMPOSED)
    for name in (DECOMPOSED, "c"):
        photo(tmp_path / "train/A" / name / "1.jpg")
    settings = settings_of(tmp_path / "train", exclude=tmp_path / "test")
    left = trainable(read_training(settings), settings)
    assert [image.identity for image in left] == ["c"]


def test_landmarks_find_an_image_in_another_spelling(tmp_path: Path) -> None:
    photo(tmp_path / "train/A" / DECOMPOSED / "é.jpg")
    csv = tmp_path / "landmarks.csv"
    header = ",".join(["path", *(f"{axis}{n}" for n in range(1, 6) for axis in "xy")])
    csv.write_text(f"{header}\nA/{COMPOSED}/é.jpg,1,2,3,4,5,6,7,8,9,10\n")
    settings = settings_of(tmp_path / "train", alignment={"landmarks": csv})
    assert read_training(settings)[0].points == ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10))


def test_two_spellings_of_a_name_are_one_identity(tmp_path: Path) -> None:
    for number, name in enumerate((COMPOSED, DECOMPOSED)):
        photo(tmp_path / "A" / name / f"{number}.jpg")
    assert [image.identity for image in read_training(settings_of(tmp_path))] == [COMPOSED] * 2


def united(where: object) -> str:
    told = f"{COMPOSED!r} in two spellings of one name (NFC and NFD), taken for one"
    return f"{where}: {told}\n"


def test_two_spellings_in_a_listing_are_one_identity(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = tmp_path / "list.csv"
    rows = [f"{number}.jpg,{name},A\n" for number, name in enumerate((COMPOSED, DECOMPOSED, "c"))]
    listing.write_text("path,identity,group\n" + "".join(rows))
    found = read_training(settings_of(listing))
    assert [image.identity for image in found] == [COMPOSED] * 2 + ["c"]
    assert capsys.readouterr().err == united(listing)
    listing.write_text("path,identity,group\n" + "".join(rows[1:]))
    read_training(settings_of(listing))
    assert capsys.readouterr().err == ""


def test_an_identity_in_two_groups_is_found_in_any_spelling(tmp_path: Path) -> None:
    listing = tmp_path / "list.csv"
    listing.write_text(f"path,identity,group\n1.jpg,{COMPOSED},A\n2.jpg,{DECOMPOSED},B\n")
    with pytest.raises(InputError, match="in group 'B'; expected group 'A', as on line 2"):
        read_training(settings_of(listing))


@pytest.mark.parametrize("named", [True, False], ids=["by columns", "by the images' names"])
def test_two_spellings_in_a_list_of_pairs_are_one_identity(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], named: bool
) -> None:
    persons = {f"{COMPOSED}/1.jpg": COMPOSED, f"{DECOMPOSED}/2.jpg": DECOMPOSED, "c/1.jpg": "c"}
    for path in persons:
        photo(tmp_path / path)
    one, other, third = persons
    pairs = tmp_path / "pairs.csv"
    header, lines = "path1,path2,same,group", []
    for first, second, same in ((one, other, 1), (one, third, 0), (other, third, 0)):
        own = f",{persons[first]},{persons[second]}" if named else ""
        lines.append(f"{first},{second},{same},A{own}")
    pairs.write_text("\n".join([header + ",identity1,identity2" * named, *lines]) + "\n")
    found = read_pair_list(pairs, "A")
    assert {image.identity for image in found.images} == {COMPOSED, "c"}
    assert sorted(found.same.tolist()) == [False, False, True]
    assert capsys.readouterr().err == united(pairs)


@pytest.mark.parametrize("named", [True, False], ids=["by columns", "by the images' names"])
def test_two_spellings_in_a_table_of_scores_are_one_identity(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], named: bool
) -> None:
    header = "identity1,identity2" if named else "image1,image2"
    ends = ((COMPOSED, DECOMPOSED, 1), (COMPOSED, "c", 0), (DECOMPOSED, "c", 0), ("c", "c", 1))
    lines = [f"same,similarity,group,fold,{header}"]
    for row, (one, other, same) in enumerate(ends):
        names = (one, other) if named else (f"{one}/1.jpg", f"{other}/2.jpg")
        lines.append(f"{same},{same - row / 10},A,{row % 2},{','.join(names)}")
    scores = tmp_path / "scores.csv"
    scores.write_text("\n".join(lines) + "\n")
    table = read_scores(scores)
    assert table.identities == (COMPOSED, "c")
    assert table.same.tolist() == [True, False, False, True]
    assert (table.identity1 == table.identity2).tolist() == table.same.tolist()
    assert capsys.readouterr().err == united(scores)
    scores.write_text(scores.read_text().replace("1,1.0,", "0,1.0,"))
    with pytest.raises(InputError, match="found same 0 of the identities"):
        read_scores(scores)


# ---------------------------------------------------------------- passed over, and told


def test_what_is_passed_over_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(tmp_path / "A/a/1.jpg")
    photo(tmp_path / "A/a/2.JFIF")
    for other in ("A/a/3.bmp", "A/a/4.TIF", "A/@eaDir/1.jpg", "A/a/@eaDir/1.jpg", "A/a/notes.txt"):
        photo(tmp_path / other)
    found = read_training(settings_of(tmp_path))
    assert [image.name for image in found] == ["A/a/1.jpg", "A/a/2.JFIF"]
    told = f"{tmp_path}/A: passed over: 2 folder @eaDir, 1 images .bmp, 1 images .tif"
    told += "; data.more_suffixes: [.bmp, .tif] or --more-suffixes .bmp,.tif reads such images\n"
    assert capsys.readouterr().err == told


def test_nothing_is_told_of_a_clean_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "A/a/1.jpg")
    read_training(settings_of(tmp_path))
    assert capsys.readouterr().err == ""


def test_a_record_file_in_capitals_has_its_index(tmp_path: Path) -> None:
    """The index leaves out a record, which without it would be read."""
    items = im2rec(IMAGES)
    rec = write(tmp_path / "TRAIN.REC", items)
    index = rec.with_suffix(".IDX")
    lines = rec.with_suffix(".idx").read_text().splitlines(keepends=True)
    index.write_text("".join(lines[:-1]))
    assert len(open_records(rec).keys) == len(items)  # that in small letters comes first
    rec.with_suffix(".idx").unlink()
    assert len(open_records(rec).keys) == len(items) - 1
    assert index in watched(settings_of(rec))


def test_bin_files_in_capitals_are_watched(tmp_path: Path) -> None:
    (tmp_path / "A_test.BIN").touch()
    assert watched(settings_of(tmp_path)) == [tmp_path / "A_test.BIN"]


# ---------------------------------------------------------------- LFW's lists of one part

DEV = ["a 1 2", "b 1 2", "a 1 b 1", "a 2 b 2"]


def test_the_header_of_a_list_of_one_part_is_read(tmp_path: Path) -> None:
    """LFW's pairsDevTest.txt begins with 500, for 500 genuine pairs and as many impostor ones."""
    pairs = parse_pairs("\n".join(["2", *DEV]).encode(), tmp_path)
    assert [pair.same for pair in pairs] == [True, True, False, False]
    with pytest.raises(InputError, match="found 4 pairs; expected 6, as line 1 says"):
        parse_pairs("\n".join(["3", *DEV]).encode(), tmp_path)
    with pytest.raises(InputError, match="found 1 fields"):
        parse_pairs("\n".join([*DEV, "2"]).encode(), tmp_path)
