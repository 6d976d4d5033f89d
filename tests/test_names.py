"""Names and files as other systems write them, and what is passed over for them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from packs import SIZE, settings_of
from PIL import Image
from recordfiles import IMAGES, im2rec, write

from mstkd.data.formats.layouts import parse_pairs
from mstkd.data.formats.recordio import open_records
from mstkd.data.readers import read_training, read_verification_images, trainable
from mstkd.data.watched import watched
from mstkd.errors import InputError

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


# ---------------------------------------------------------------- passed over, and told


def test_what_is_passed_over_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(tmp_path / "A/a/1.jpg")
    photo(tmp_path / "A/a/2.JFIF")
    for other in ("A/a/3.bmp", "A/a/4.TIF", "A/@eaDir/1.jpg", "A/a/@eaDir/1.jpg", "A/a/notes.txt"):
        photo(tmp_path / other)
    found = read_training(settings_of(tmp_path))
    assert [image.name for image in found] == ["A/a/1.jpg", "A/a/2.JFIF"]
    told = f"{tmp_path}/A: passed over: 2 folder @eaDir, 1 images .bmp, 1 images .tif\n"
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
