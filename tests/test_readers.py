"""Only names are read here: the images are bytes that no one decodes."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packs import settings_of

from mstkd.config import DataSettings, HeldOutSettings, PackSettings
from mstkd.data.inspection.inspect import inspect
from mstkd.data.readers import (
    held_out_identities,
    read_training,
    read_verification_images,
    trainable,
)
from mstkd.data.sources import FaceImage, Points
from mstkd.errors import InputError

# By path below a training folder, in the order of packs.
IMAGES = {
    "Asian/m.0c/p.jpg": b"\xffone",
    "Asian/m.0c/q r.jpg": b"\xfftwo",
    "Asian/zoë/p.jpg": b"\xffthree",
    "Indian/m.0a/s.jpg": b"\xfffour",
}
RACE_CODES = {"Indian": 1, "Asian": 2}
FIRST: Points = ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0), (9.0, 10.5))
SECOND: Points = tuple((x + 0.5, y) for x, y in FIRST)
HEADER = "path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\n"


def numbers(points: Points, parted: str) -> str:
    return parted.join(str(number) for point in points for number in point)


def write_rec(rec: Path, images: Sequence[tuple[int, bytes]]) -> None:
    """Labels and encoded images as RecordIO with an index, keys from 0."""
    lines = ""
    with rec.open("wb") as file:
        for key, (label, image) in enumerate(images):
            lines += f"{key}\t{file.tell()}\n"
            payload = struct.pack("<IfQQ", 0, label, key, 0) + image
            file.write(struct.pack("<II", 0xCED7230A, len(payload)))
            file.write(payload + bytes(-len(payload) % 4))
    rec.with_suffix(".idx").write_text(lines)


def write_folder(root: Path, images: dict[str, bytes]) -> PackSettings:
    """A training folder."""
    for name, data in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return settings_of(root)


def write_listing(root: Path, images: dict[str, bytes]) -> PackSettings:
    """A listing, in the wrong order, of images that lie beside it."""
    root.mkdir()
    lines = []
    for name, data in images.items():
        group, identity, file = name.split("/")
        (root / f"{identity} {file}").write_bytes(data)
        lines.append(f'{group},"{identity} {file}",{identity}\n')
    (root / "all.csv").write_text("group,path,identity\n" + "".join(lines[::-1]))
    return settings_of(root / "all.csv")


def write_records(root: Path, images: dict[str, bytes]) -> PackSettings:
    """A .rec of images by groups, and BUPT's list of them."""
    root.mkdir()
    label_of: dict[str, int] = {}
    items, lines = [], []
    for name, data in images.items():
        group, identity, file = name.split("/")
        label = label_of.setdefault(identity, len(label_of))
        items.append((label, data))
        lines.append(f"{identity}/{file}\t{label}\t{RACE_CODES[group]}\n")
    write_rec(root / "train.rec", items)
    (root / "train.lst").write_text("".join(lines))
    return settings_of(root / "train.rec", groups=root / "train.lst")


FORMATS = [write_folder, write_listing, write_records]


def of_group(settings: PackSettings, group: str) -> PackSettings:
    return settings.model_copy(update={"group": group})


# ---------------------------------------------------------------- training images


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("group", ["Asian", "Indian"])
def test_every_format_gives_the_images_of_a_group(tmp_path: Path, write: Any, group: str) -> None:
    settings = of_group(write(tmp_path / "my data", IMAGES), group)
    found = read_training(settings)
    expected = {name: data for name, data in IMAGES.items() if name.startswith(group)}
    assert [image.identity for image in found] == [name.split("/")[1] for name in expected]
    assert [image.source.read_bytes() for image in found] == list(expected.values())
    if write is not write_listing:  # there an image is called by its own path
        assert [image.name for image in found] == list(expected)
    else:
        assert found[0].name.startswith(f"{group}/{found[0].identity}/{found[0].identity} ")
    assert {image.points for image in found} == {None}


def test_groups_of_records_from_a_csv(tmp_path: Path) -> None:
    settings = write_records(tmp_path / "data", IMAGES)
    groups = tmp_path / "groups.csv"
    groups.write_text("identity,group\n0,Älg\n1,Indian\n2,Älg\n")
    found = read_training(of_group(settings.model_copy(update={"groups": groups}), "Älg"))
    assert [image.name for image in found] == ["Älg/0/0", "Älg/0/1", "Älg/2/3"]
    assert [image.source.read_bytes() for image in found] == [b"\xffone", b"\xfftwo", b"\xfffour"]


@pytest.mark.parametrize("write", [write_listing, write_records])
def test_an_ending_in_capitals_is_the_same_ending(tmp_path: Path, write: Any) -> None:
    """For packing and for what is told beforehand; the setting of a .REC has its groups too."""
    settings = of_group(write(tmp_path / "data", IMAGES), "Asian")
    expected = read_training(settings)
    loud = settings.root.rename(settings.root.with_suffix(settings.root.suffix.upper()))
    found = read_training(settings.model_copy(update={"root": loud}))
    assert [image.name for image in found] == [image.name for image in expected]
    told = inspect(loud, groups=settings.groups)
    assert {one.name: one.images for one in told.groups} == {"Asian": 3, "Indian": 1}
    data = {"train": loud, "train_groups": settings.groups, "verification": tmp_path}
    DataSettings.model_validate(data)


def test_bins_in_capitals_are_bins(tmp_path: Path) -> None:
    loud = tmp_path / "Asian_test.BIN"
    write_bin(loud, [b"\xffa", b"\xffb"], [False])
    for root in (loud, tmp_path):
        settings = of_group(settings_of(root), "Asian")
        assert len(read_verification_images(settings).images) == 2
        assert [(one.name, one.images) for one in inspect(root).groups] == [("Asian", 2)]


def test_bins_are_read_before_the_folders_beside_them(tmp_path: Path) -> None:
    """And inspection tells what will be read."""
    settings = write_rfw(tmp_path, landmarks="")
    write_bin(tmp_path / "A_test.bin", [b"\xffa", b"\xffb"], [False])
    found = read_verification_images(settings.model_copy(update={"alignment": None}))
    assert len(found.images) == inspect(tmp_path).groups[0].images == 2


def test_records_without_groups(tmp_path: Path) -> None:
    settings = write_records(tmp_path / "data", IMAGES).model_copy(update={"groups": None})
    with pytest.raises(InputError) as error:
        read_training(settings)
    assert str(error.value) == (
        f"{settings.root}: found no train_groups; expected a .lst or a CSV of groups"
    )


@pytest.mark.parametrize("write", FORMATS)
def test_an_unknown_group_is_told_with_those_there_are(tmp_path: Path, write: Any) -> None:
    settings = write(tmp_path / "data", IMAGES)
    with pytest.raises(InputError) as error:
        read_training(of_group(settings, "Indien"))
    assert "Asian, Indian" in error.value.found
    assert "'Indian'" in error.value.expected


# ---------------------------------------------------------------- verification images


def write_bin(path: Path, images: Sequence[bytes], same: Sequence[bool]) -> None:
    path.write_bytes(pickle.dumps((list(images), list(same)), protocol=2))


def test_a_bin_file_and_a_folder_of_them(tmp_path: Path) -> None:
    path = tmp_path / "Asian_test.bin"
    write_bin(path, [b"\xffa", b"\xffb", b"\xffc", b"\xffa"], [True, False])
    write_bin(tmp_path / "Indian_test.bin", [b"\xffz", b"\xffy"], [False])
    for root in (path, tmp_path):
        found = read_verification_images(of_group(settings_of(root), "Asian"))
        assert [image.source.read_bytes() for image in found.images] == [
            b"\xffa",
            b"\xffb",
            b"\xffc",
        ]
        np.testing.assert_array_equal(found.pairs, [[0, 1], [2, 0]])
        np.testing.assert_array_equal(found.same, [True, False])


def write_rfw(root: Path, *, landmarks: str) -> PackSettings:
    """Two identities of group A with two images, two pairs, and a landmarks file."""
    for name in ("m.0a/m.0a_0001", "m.0a/m.0a_0002", "m.0b/m.0b_0001", "m.0b/m.0b_0002"):
        (root / "data/A" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "data/A" / f"{name}.jpg").write_bytes(name.encode())
    (root / "txts/A").mkdir(parents=True)
    (root / "txts/A/A_pairs.txt").write_text("m.0a\t1\t2\nm.0a\t2\tm.0b\t1\n")
    (root / "txts/A/A_lmk.txt").write_text(landmarks)
    return settings_of(root, alignment={"landmarks": "rfw"})


LMK = "/test/data/A/{0}/{0}_{1:04}.jpg\t0\t{2}\n"


@pytest.mark.parametrize("inside", ["", "test"], ids=["the folder", "the folder above test"])
def test_rfw_with_its_own_landmarks(tmp_path: Path, inside: str) -> None:
    lines = LMK.format("m.0a", 2, numbers(FIRST, "\t")) + LMK.format(
        "m.0b", 1, numbers(SECOND, " ")
    )
    settings = write_rfw(tmp_path / inside, landmarks=lines.replace(" ", "\t"))
    found = read_verification_images(settings.model_copy(update={"root": tmp_path}))
    assert found.images == [
        FaceImage(tmp_path / inside / name, name, identity, points)
        for name, identity, points in [
            ("data/A/m.0a/m.0a_0001.jpg", "m.0a", None),
            ("data/A/m.0a/m.0a_0002.jpg", "m.0a", FIRST),
            ("data/A/m.0b/m.0b_0001.jpg", "m.0b", SECOND),
        ]
    ]


def test_a_csv_calls_verification_images_by_group_too(tmp_path: Path) -> None:
    settings = write_rfw(tmp_path / "rfw", landmarks="")
    csv = tmp_path / "own.csv"
    csv.write_text(HEADER + f"A/m.0b/m.0b_0001.jpg,{numbers(FIRST, ',')}\n")
    settings = settings_of(settings.root, alignment={"landmarks": csv})
    points = [image.points for image in read_verification_images(settings).images]
    assert points == [None, None, FIRST]


# ---------------------------------------------------------------- landmarks of training images


@pytest.mark.parametrize("write", [write_folder, write_listing])
def test_a_landmarks_csv_of_training_images(tmp_path: Path, write: Any) -> None:
    settings = of_group(write(tmp_path / "data", IMAGES), "Asian")
    second = read_training(settings)[1].name
    csv = tmp_path / "landmarks.csv"
    csv.write_text(
        HEADER
        + f'Indian/m.0a/s.jpg,{numbers(SECOND, ",")}\n"{second}",'
        + numbers(FIRST, ",")
        + "\n"
    )
    aligned = settings_of(settings.root, group="Asian", alignment={"landmarks": csv})
    assert [image.points for image in read_training(aligned)] == [None, FIRST, None]


def test_landmarks_of_other_images_name_both(tmp_path: Path) -> None:
    settings = write_folder(tmp_path / "data", IMAGES)
    csv = tmp_path / "landmarks.csv"
    csv.write_text(HEADER + f"data/Asian/m.0c/p.jpg,{numbers(FIRST, ',')}\n")
    aligned = settings_of(settings.root, group="Asian", alignment={"landmarks": csv})
    with pytest.raises(InputError) as error:
        read_training(aligned)
    assert str(error.value) == (
        f"{csv}: found landmarks of other images, data/Asian/m.0c/p.jpg say; "
        "expected landmarks of Asian/m.0c/p.jpg and others"
    )


def test_rfw_landmarks_of_other_images_name_both(tmp_path: Path) -> None:
    settings = write_rfw(tmp_path, landmarks=LMK.format("m.0z", 1, numbers(FIRST, "\t")))
    with pytest.raises(InputError) as error:
        read_verification_images(settings)
    assert str(error.value) == (
        f"{tmp_path}/txts/A/A_lmk.txt: found landmarks of other images, m.0z/m.0z_0001.jpg say; "
        "expected landmarks of m.0a/m.0a_0001.jpg and others"
    )


def test_training_images_have_no_rfw_landmarks(tmp_path: Path) -> None:
    settings = write_folder(tmp_path / "data", IMAGES)
    aligned = settings_of(settings.root, group="Asian", alignment={"landmarks": "rfw"})
    with pytest.raises(InputError, match="found 'rfw'; expected a CSV of landmarks"):
        read_training(aligned)


# ---------------------------------------------------------------- identities left out


def test_identities_of_the_verification_data_are_left_out(tmp_path: Path) -> None:
    settings = write_folder(tmp_path / "data", IMAGES)
    for name in ("test/data/Indian/m.0c", "test/data/Asian/m.0d", "test/txts/Asian/zoë"):
        (tmp_path / "rfw" / name).mkdir(parents=True)  # m.0c, though in another group there
    settings = settings_of(settings.root, group="Asian", exclude=tmp_path / "rfw")
    images = read_training(settings)
    assert [image.name for image in trainable(images, settings)] == ["Asian/zoë/p.jpg"]
    assert trainable(images, settings.model_copy(update={"exclude": None})) == images
    (tmp_path / "rfw/test/data/Asian/zoë").mkdir()
    with pytest.raises(InputError) as error:
        trainable(images, settings)
    assert error.value.found == f"no identity of group Asian that {tmp_path}/rfw has not"


def people(count: int) -> list[FaceImage]:
    return [
        FaceImage(Path(f"/{person}/{image}"), f"A/{person:02}/{image}", f"{person:02}")
        for person in range(count)
        for image in range(3)
    ]


def test_held_out_identities_depend_on_seed_and_group_alone() -> None:
    images = people(20)

    def held_out(images: list[FaceImage], seed: int = 0, group: str = "A") -> frozenset[str]:
        return held_out_identities(images, HeldOutSettings(seed=seed, share=0.3), group)

    assert held_out(images) < {image.identity for image in images}
    assert len(held_out(images)) == 6
    assert held_out(images[::-1]) == held_out(images)
    assert len({held_out(images), held_out(images, 1), held_out(images, group="B")}) == 3


def test_too_few_identities_to_hold_any_out() -> None:
    with pytest.raises(InputError, match=r"^data.heldout: found group A has 3 identities"):
        held_out_identities(people(3), HeldOutSettings(), "A")
