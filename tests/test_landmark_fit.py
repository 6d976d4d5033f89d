from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from packs import settings_of
from PIL import Image

from mstkd.data.align import TEMPLATE
from mstkd.data.landmark_fit import FIELDS, check_landmarks, fit
from mstkd.data.packing import pack_train
from mstkd.data.sources import FaceImage
from mstkd.errors import InputError

SIDE = 200  # of the photographs, in pixels
# Where numbers of a file stand against ours: number k of a line is ours[ORDERS[...][k]].
NUMBERS = np.arange(10).reshape(5, 2)
ORDERS = {
    "left and right are the person's": NUMBERS[[1, 0, 2, 4, 3]].ravel(),
    "the eyes exchanged": NUMBERS[[1, 0, 2, 3, 4]].ravel(),
    "the mouth exchanged": NUMBERS[[0, 1, 2, 4, 3]].ravel(),
    "x of all, then y": NUMBERS.T.ravel(),
    "y of all, then x": NUMBERS[:, ::-1].T.ravel(),
    "y before x": NUMBERS[:, ::-1].ravel(),
    "y before x, the person's left": NUMBERS[[1, 0, 2, 4, 3]][:, ::-1].ravel(),
    "nose first": NUMBERS[[2, 0, 1, 3, 4]].ravel(),
}


def faces(count: int, seed: int = 0) -> np.ndarray:
    """Landmarks (count, 5, 2) of upright faces that differ, somewhere in photographs."""
    random = np.random.default_rng(seed)
    shape = TEMPLATE - TEMPLATE.mean(axis=0) + random.normal(0, 2.5, (count, 5, 2))
    angle = np.radians(random.uniform(-25, 25, count))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])  # (2, 2, N)
    scale = random.uniform(0.8, 1.1, (count, 1, 1))
    centre = random.uniform((85, 95), (115, 125), (count, 1, 2))
    return np.einsum("ijn,nkj->nki", turn, shape) * scale + centre


def images(points: np.ndarray) -> list[FaceImage]:
    return [
        FaceImage(Path("x.jpg"), f"{n}.jpg", "x", tuple(map(tuple, p)))
        for n, p in enumerate(points)
    ]


def fault(points: np.ndarray) -> InputError:
    with pytest.raises(InputError) as error:
        check_landmarks(images(points), "landmarks.csv")
    return error.value


def test_the_fit_is_that_of_a_least_squares_solver() -> None:
    points = faces(20) + np.random.default_rng(3).normal(0, 8, (20, 5, 2))
    found = fit(points)
    for number, one in enumerate(points):
        x, y = one.T
        system = np.block(
            [[x, -y, np.ones(5), np.zeros(5)], [y, x, np.zeros(5), np.ones(5)]]
        ).reshape(2, 4, 5)
        system = np.concatenate([system[0].T, system[1].T])
        (a, b, *_), left, *_ = np.linalg.lstsq(system, TEMPLATE.T.ravel())
        assert found.residual[number] == pytest.approx(np.sqrt(left[0] / 5), rel=1e-9)
        assert found.scale[number] == pytest.approx(np.hypot(a, b), rel=1e-9)
        assert found.turn[number] == pytest.approx(np.degrees(np.arctan2(b, a)), abs=1e-9)


def test_upright_faces_are_not_doubted() -> None:
    assert (check_landmarks(images(faces(300)), "x") < 1).all()


def test_profiles_are_let_pass() -> None:
    """A face from the side has its points nearly in a line; no order makes it a better one."""
    side = faces(100)
    side[:, :, 0] = side[:, :, 0].mean() + 0.25 * (side[:, :, 0] - side[:, :, 0].mean())
    check_landmarks(images(side), "x")


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_another_order_is_told_with_the_one_that_fits(order: np.ndarray) -> None:
    told = fault(faces(100).reshape(-1, 10)[:, order].reshape(-1, 5, 2))
    assert told.where == "landmarks.csv" and "fit no face" in told.found
    names = ",".join(FIELDS[number] for number in order)
    assert told.expected.endswith(f"in the order {names} they would fit")


def test_parts_of_the_sides_are_no_pixels() -> None:
    told = fault(faces(100) / SIDE)
    assert told.found.startswith("landmarks less than a few pixels apart in 100 of 100 images")
    assert "parts of the sides" in told.expected


def test_a_few_wrong_ones_stop_nothing_and_are_doubted() -> None:
    points = faces(100)
    points[7] = points[7][[1, 0, 2, 4, 3]]
    points[8] = 2 * points[8].mean(axis=0) - points[8]  # upside down
    doubt = check_landmarks(images(points), "x")
    assert set(np.flatnonzero(doubt >= 1)) == {7, 8}
    some = images(points)
    some[8] = some[8]._replace(points=None)
    assert check_landmarks(some, "x")[8] == 0


# ---------------------------------------------------------------- packs


def write_photos(folder: Path, points: np.ndarray) -> Path:
    """A training folder of photographs, two of each identity, and their landmarks; the CSV."""
    rows = ["path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5"]
    random = np.random.default_rng(1)
    for number, one in enumerate(points):
        name = f"A/{number // 2:02}/{number % 2}.png"
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(1, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / name)
        rows.append(f"{name},{','.join(map(str, one.ravel()))}")
    (folder / "landmarks.csv").write_text("\n".join(rows))
    return folder / "landmarks.csv"


def pack(folder: Path, storage: str = "pixels") -> Path:
    settings = settings_of(
        folder / "photos",
        alignment={"landmarks": folder / "landmarks.csv"},
        storage=storage,
        on_bad_image="skip",
    )
    pack_train(settings, output=folder / "A.h5")
    return folder / "A.h5"


def test_a_file_in_another_order_is_not_packed(tmp_path: Path) -> None:
    csv = write_photos(tmp_path, faces(10)[:, [1, 0, 2, 4, 3]])
    with pytest.raises(InputError, match="in the order x2,y2,x1,y1,x3,y3,x5,y5,x4,y4") as error:
        pack(tmp_path)
    assert error.value.where == str(csv)
    assert not (tmp_path / "A.h5").exists()


def test_landmarks_of_larger_pictures_are_not_packed(tmp_path: Path) -> None:
    write_photos(tmp_path, 4 * faces(10))
    with pytest.raises(InputError, match="outside of the pictures: of 10 images aligned, 100 %"):
        pack(tmp_path)


@pytest.mark.parametrize("storage", ["pixels", "encoded"])
def test_doubtful_ones_are_listed_and_kept_in_the_pack(
    tmp_path: Path, storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    points = faces(10)
    points[3] = points[3][[1, 0, 2, 4, 3]]
    points[6] += SIDE - 40  # most of the face lies outside
    write_photos(tmp_path, points)
    (tmp_path / "photos/A/00/0.png").write_bytes(b"")  # bad, and left out
    path = pack(tmp_path, storage)
    assert "2 of 10 images have landmarks unlike a face's" in capsys.readouterr().err
    lines = (tmp_path / "A.h5.doubtful.txt").read_text().splitlines()
    assert {line.split("\t")[0] for line in lines} == {"A/01/1.png", "A/03/0.png"}
    assert "% black or one colour" in next(line for line in lines if "03/0" in line)
    with h5py.File(path) as file:
        assert set(np.flatnonzero(file["doubt"][:] >= 1)) == {2, 5}  # one row before was left out
    write_photos(tmp_path, faces(10))
    with h5py.File(pack(tmp_path, storage)) as file:
        assert (file["doubt"][:] < 1).all()
    assert not (tmp_path / "A.h5.doubtful.txt").exists()
