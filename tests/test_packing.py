from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killedruns import IN_THE_THIRD_CHUNK, count_decoded, kill, partial_folder
from packs import settings_of, write_faces, write_rfw
from PIL import Image

from mstkd.data import partial
from mstkd.data.pack import open_pack
from mstkd.data.packing import pack_train, pack_verification
from mstkd.errors import InputError


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "CHUNK", 4)


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    write_faces(tmp_path / "my faces")
    return tmp_path / "my faces"


@pytest.fixture
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of the folder, written without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    write_faces(folder / "faces")
    pack_train(settings_of(folder / "faces"), output=folder / "out" / "A.h5")
    return folder / "out" / "A.h5"


# ---------------------------------------------------------------- bad images


def spoil(root: Path) -> list[str]:
    """Make three images bad, the last two in one identity; the lines that report them."""
    first, second, third = (root / "A" / f"m.0a/ü {n}.png" for n in (1, 4, 5))
    Image.new("RGB", (40, 30)).save(first)
    second.write_bytes(second.read_bytes()[:200])
    third.write_bytes(b"")
    return [
        "A/m.0a/ü 1.png: found 40x30, expected 16x16",
        "A/m.0a/ü 4.png: damaged: ",
        "A/m.0a/ü 5.png: an empty file",
    ]


def test_all_bad_images_are_reported_at_once(faces: Path, tmp_path: Path) -> None:
    lines = spoil(faces)
    with pytest.raises(InputError) as error:
        pack_train(settings_of(faces), output=tmp_path / "A.h5")
    told = str(error.value).splitlines()
    assert told[0] == f"{faces}: found 3 bad images of 21"
    assert [line[2:].startswith(start) for line, start in zip(told[1:4], lines, strict=True)]
    assert told[4] == (
        "; expected whole images of 16x16 pixels, or data.on_bad_image: skip to leave some out"
    )
    listed = (tmp_path / "A.h5.bad.txt").read_text().splitlines()
    assert listed[0] == f"{faces}/A/m.0a/ü 1.png\tfound 40x30, expected 16x16"
    assert len(listed) == 3
    assert not (tmp_path / "A.h5").exists()


def test_a_message_names_twenty_bad_images(faces: Path, tmp_path: Path) -> None:
    output = tmp_path / "A.h5"
    for skip in ("error", "skip"):  # with all images bad there is nothing to skip to
        with pytest.raises(InputError) as error:
            pack_train(settings_of(faces, image_size=32, on_bad_image=skip), output=output)
        told = str(error.value).splitlines()
        assert sum("found 16x16, expected 32x32" in line for line in told) == 20
        assert told[21] == f"  and 1 more, all listed in {output}.bad.txt"
    assert len(Path(f"{output}.bad.txt").read_text().splitlines()) == 21


def test_skipping_gives_the_pack_of_the_good_images(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(faces)
    for path in (faces / "A/zoë b").iterdir():
        path.write_bytes(b"GIF89a")
    settings = settings_of(faces, on_bad_image="skip")
    pack_train(settings, output=tmp_path / "skipped.h5")
    listing = tmp_path / "skipped.h5.bad.txt"
    assert f"10 bad images of 21 left out, see {listing}" in capsys.readouterr().err
    listed = [line.split("\t")[0] for line in listing.read_text().splitlines()]
    assert len(listed) == 10
    for path in listed:
        Path(path).unlink()
    pack_train(settings, output=tmp_path / "good.h5")
    skipped, good = open_pack(tmp_path / "skipped.h5"), open_pack(tmp_path / "good.h5")
    assert skipped.identity_names == ("m.0a", "m.0c")
    assert skipped.image_paths() == good.image_paths()
    assert skipped.sha256 == good.sha256
    np.testing.assert_array_equal(skipped.images, good.images)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"my faces", "good.h5", "skipped.h5", "skipped.h5.bad.txt"}


def test_skipping_takes_over_what_a_failed_run_decoded(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(faces)
    with pytest.raises(InputError):
        pack_train(settings_of(faces), output=tmp_path / "A.h5")
    pack_train(settings_of(faces, on_bad_image="skip"), output=tmp_path / "A.h5")
    assert "21 of 21 images taken over" in capsys.readouterr().err
    assert len(open_pack(tmp_path / "A.h5").images) == 18


def test_a_mended_folder_leaves_no_list_of_bad_images(faces: Path, tmp_path: Path) -> None:
    spoil(faces)
    with pytest.raises(InputError):
        pack_train(settings_of(faces), output=tmp_path / "A.h5")
    for number in (1, 4, 5):
        shutil.copy(faces / "A/m.0a/ü 0.png", faces / f"A/m.0a/ü {number}.png")
    pack_train(settings_of(faces), output=tmp_path / "A.h5")
    assert {path.name for path in tmp_path.iterdir()} == {"my faces", "A.h5"}


@pytest.mark.parametrize("rule", ["error", "skip"])
def test_a_bad_verification_image_is_always_an_error(tmp_path: Path, rule: str) -> None:
    settings = write_rfw(tmp_path).model_copy(update={"on_bad_image": rule})
    (tmp_path / "data/A/m.0b/m.0b_0003.jpg").write_bytes(b"")
    (tmp_path / "data/A/m.0b/m.0b_0002.jpg").write_bytes(b"")  # in no pair
    with pytest.raises(InputError) as error:
        pack_verification(settings, output=tmp_path / "A.h5")
    assert str(error.value) == (
        f"{tmp_path}: found 1 bad image of 4\n  data/A/m.0b/m.0b_0003.jpg: an empty file\n"
        "; expected whole images of 16x16 pixels; on_bad_image: skip is for training images, "
        "verification needs both images of every pair"
    )


# ---------------------------------------------------------------- a killed run


@pytest.fixture
def killed(faces: Path, tmp_path: Path) -> Path:
    """The output of a run that was killed in the third of six chunks."""
    output = tmp_path / "out" / "A.h5"
    kill(IN_THE_THIRD_CHUNK, settings_of(faces), output)
    return output


def pack_counting(root: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    decoded = count_decoded(monkeypatch)
    pack_train(settings_of(root), output=output)
    return decoded


def test_a_killed_run_is_taken_up(
    faces: Path,
    killed: Path,
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    decoded = pack_counting(faces, killed, monkeypatch)
    assert "8 of 21 images taken over from an earlier run" in capsys.readouterr().err
    resumed = open_pack(killed)
    assert decoded == list(resumed.image_paths()[8:])
    assert resumed.sha256 == open_pack(whole).sha256
    np.testing.assert_array_equal(resumed.images, open_pack(whole).images)
    assert list(killed.parent.iterdir()) == [killed]


def test_a_torn_line_of_the_journal_is_forgotten(
    faces: Path, killed: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = partial_folder(killed) / "journal"
    journal.write_text(journal.read_text()[:-20])
    assert len(pack_counting(faces, killed, monkeypatch)) == 17
    assert open_pack(killed).sha256 == open_pack(whole).sha256


def cut_partial(root: Path, output: Path) -> None:
    pack = partial_folder(output) / "pack"
    pack.write_bytes(pack.read_bytes()[:-1])


def touch_image(root: Path, output: Path) -> None:
    (root / "A/m.0a/ü 0.png").touch()


def drop_image(root: Path, output: Path) -> None:
    (root / "A/zoë b/ü 6.png").unlink()


@pytest.mark.parametrize("change", [cut_partial, touch_image, drop_image])
def test_a_change_starts_anew(
    faces: Path,
    killed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path, Path], None],
) -> None:
    change(faces, killed)
    decoded = pack_counting(faces, killed, monkeypatch)
    assert "images or settings have changed, starting anew" in capsys.readouterr().err
    assert decoded == list(open_pack(killed).image_paths())


def test_another_run_on_the_way_is_not_published(
    faces: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old pack stays as it is until the new one is whole."""
    output = tmp_path / "A.h5"
    shutil.copy(whole, output)

    def full(*image: Any) -> np.ndarray:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(partial, "face_pixels", full)
    with pytest.raises(OSError, match="No space left"):
        pack_train(settings_of(faces), output=output)
    assert output.read_bytes() == whole.read_bytes()


def test_the_journal_is_a_line_a_chunk(killed: Path) -> None:
    lines = (partial_folder(killed) / "journal").read_text().splitlines()
    assert set(json.loads(lines[0])) == {"key", "offset"}
    assert [json.loads(line.split(maxsplit=1)[1])[0] for line in lines[1:]] == [0, 1]


def test_images_that_are_not_aligned_are_told_what_to_do(tmp_path: Path) -> None:
    """To leave out all of them would be no help."""
    for number in range(4):
        path = tmp_path / f"photos/A/a/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(path)
    for rule in ("error", "skip"):
        with pytest.raises(InputError) as error:
            pack_train(
                settings_of(tmp_path / "photos", on_bad_image=rule), output=tmp_path / "A.h5"
            )
        assert "data.train_alignment takes landmarks of them" in error.value.expected
        assert "on_bad_image" not in error.value.expected
