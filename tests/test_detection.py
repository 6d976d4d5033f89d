from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packs import SIZE, settings_of, write_rfw
from PIL import Image

from mstkd.data.align import align
from mstkd.data.detection import detect_landmarks
from mstkd.data.formats.landmarks import read_landmarks_csv
from mstkd.data.pack import open_pack
from mstkd.data.packing import pack_train
from mstkd.data.readers import read_verification_images
from mstkd.data.sources import Points
from mstkd.errors import InputError

WIDTH, HEIGHT = 40, 30
FACE: Points = ((13.5, 10.0), (25.0, 9.0), (20.0, 15.0), (15.0, 21.0), (24.5, 20.0))


def make_detector() -> Any:
    """Finds a face shifted by the red of the first pixel, and none in a black picture."""

    def detect(pixels: np.ndarray) -> Points | None:
        assert pixels.shape == (HEIGHT, WIDTH, 3)
        shift = float(pixels[0, 0, 0])
        return tuple((x + shift, y) for x, y in FACE) if pixels.any() else None

    return detect


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that a package with the plug-in `ours` is installed."""
    points = EntryPoints(
        [EntryPoint("ours", f"{__name__}:make_detector", "mstkd.detectors")],
    )
    monkeypatch.setattr(
        "mstkd.data.formats.landmarks.entry_points", lambda **wanted: points.select(**wanted)
    )


@pytest.fixture
def photos(tmp_path: Path) -> dict[str, np.ndarray]:
    """A training folder of six photographs: a black one, one cut off, four with a face."""
    random = np.random.default_rng(0)
    pixels = {}
    for number, name in enumerate(
        ["m.0a/1", "m.0a/2 ü", "m.0a/3", "zoë b/1", "zoë b/2", "zoë b/3"]
    ):
        path = tmp_path / f"photos/A/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels[f"A/{name}.png"] = random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        pixels[f"A/{name}.png"][0, 0, 0] = number
        Image.fromarray(pixels[f"A/{name}.png"]).save(path)
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "photos/A/m.0a/3.png")
    cut = tmp_path / "photos/A/zoë b/2.png"
    cut.write_bytes(cut.read_bytes()[:-300])
    return pixels


MISSED = ["A/m.0a/3.png", "A/zoë b/2.png"]


@pytest.mark.usefixtures("photos")
def test_images_without_a_face_are_told_and_left_out(tmp_path: Path) -> None:
    output = tmp_path / "landmarks.csv"
    assert detect_landmarks(tmp_path / "photos", detector="ours", output=output) == MISSED
    shifts = {"A/m.0a/1.png": 0, "A/m.0a/2 ü.png": 1, "A/zoë b/1.png": 3, "A/zoë b/3.png": 5}
    assert read_landmarks_csv(output) == {
        name: tuple((x + shift, y) for x, y in FACE) for name, shift in shifts.items()
    }


def test_what_is_detected_aligns_a_training_folder(
    tmp_path: Path, photos: dict[str, np.ndarray]
) -> None:
    output = tmp_path / "landmarks.csv"
    detect_landmarks(tmp_path / "photos", detector="ours", output=output)
    settings = settings_of(
        tmp_path / "photos", alignment={"landmarks": output}, on_bad_image="skip"
    )
    pack_train(settings, output=tmp_path / "A.h5")
    pack = open_pack(tmp_path / "A.h5")
    assert pack.image_paths() == tuple(name for name in photos if name not in MISSED)
    detect = make_detector()
    for path, image in zip(pack.image_paths(), pack.images, strict=True):
        np.testing.assert_array_equal(image, align(photos[path], detect(photos[path]), SIZE))
    listed = (tmp_path / "A.h5.bad.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == [
        str(tmp_path / "photos" / name) for name in MISSED
    ]
    assert listed[0].endswith("\tno landmarks")


def test_what_is_detected_in_rfw_s_layout_is_called_as_packing_does(tmp_path: Path) -> None:
    pairs = write_rfw(tmp_path / "rfw/test")
    for path in (pairs.root / "data/A").rglob("*.jpg"):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 3, np.uint8)).save(path)
    output = tmp_path / "landmarks.csv"
    assert detect_landmarks(tmp_path / "rfw", detector="ours", output=output) == []
    assert set(read_landmarks_csv(output)) == {
        f"A/m.0{who}/m.0{who}_000{number}.jpg" for who in "ab" for number in (1, 2, 3)
    }
    settings = settings_of(tmp_path / "rfw", alignment={"landmarks": output})
    images = read_verification_images(settings).images
    assert images and all(image.points is not None for image in images)


def test_no_face_at_all_leaves_the_old_csv(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "photos/1.png")
    output = tmp_path / "landmarks.csv"
    output.write_text("as it was")
    with pytest.raises(InputError) as error:
        detect_landmarks(tmp_path / "photos", detector="ours", output=output)
    assert (error.value.where, error.value.found) == (str(output), "no landmarks")
    assert output.read_text() == "as it was"
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "landmarks.csv"}


def test_an_unknown_detector_is_told_before_any_image_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found no such plug-in; .* installed: ours"):
        detect_landmarks(tmp_path / "gone", detector="theirs", output=tmp_path / "landmarks.csv")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone"):
        detect_landmarks(tmp_path / "gone", detector="ours", output=tmp_path / "landmarks.csv")
    assert not list(tmp_path.iterdir())
