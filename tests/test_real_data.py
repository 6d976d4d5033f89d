"""Real formats and real faults, from files on disk to packs."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disks import fill, small_disk
from killedruns import IN_THE_THIRD_CHUNK, WITH_WORKERS, count_decoded, kill, partial_folder
from packs import SIZE, settings_of, write_faces
from packs import write_rfw as write_rfw_faces
from PIL import Image
from test_readers import FORMATS, HEADER, numbers, write_bin, write_folder, write_records

from mstkd.artifacts.atomic import left_over
from mstkd.config import HeldOutSettings, PackSettings, PackUnlabelledSettings
from mstkd.data import partial
from mstkd.data.align import align, centre_crop
from mstkd.data.decode import decode
from mstkd.data.pack import Pack, open_pack
from mstkd.data.packing import pack_heldout, pack_train, pack_unlabelled, pack_verification
from mstkd.data.sources import Points
from mstkd.errors import InputError

STORAGES = ("pixels", "encoded")
both_storages = pytest.mark.parametrize("storage", STORAGES)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "CHUNK", 4)


def encode(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def jpeg(seed: int) -> bytes:
    return encode(Image.fromarray(noise(SIZE, SIZE, 3, seed=seed)), quality=95)


def packed(settings: PackSettings, output: Path, **options: Any) -> Pack:
    pack_train(settings, output=output, **options)
    return open_pack(output)


def assert_same(one: Pack, other: Pack) -> None:
    assert one.sha256 == other.sha256
    assert one.image_paths() == other.image_paths()
    np.testing.assert_array_equal(one.digests, other.digests)
    np.testing.assert_array_equal(one.images[:], other.images[:])


# ---------------------------------------------------------------- formats


def ten_faces() -> dict[str, bytes]:
    """JPEG files of two groups and three identities, by path below a training folder."""
    names = [f"Asian/{identity}/ü {n}.jpg" for identity in ("m.0c", "m.0d") for n in range(4)]
    names += ["Indian/m.0e/1.jpg", "Indian/m.0e/2.jpg"]
    return {name: jpeg(number) for number, name in enumerate(names)}


@both_storages
@pytest.mark.parametrize("write", FORMATS)
def test_every_format_gives_the_same_pixels(tmp_path: Path, write: Any, storage: str) -> None:
    faces = ten_faces()
    settings = write(tmp_path / "my faces", faces)
    settings = settings.model_copy(update={"group": "Asian", "storage": storage})
    pack = packed(settings, tmp_path / "A.h5")
    assert pack.identity_names == ("m.0c", "m.0d")
    np.testing.assert_array_equal(pack.identity, [0] * 4 + [1] * 4)
    pixels = [decode(data) for name, data in faces.items() if name.startswith("Asian")]
    np.testing.assert_array_equal(pack.images[:], pixels)
    np.testing.assert_array_equal(
        pack.digests, [list(partial.pixel_digest(image)) for image in pixels]
    )


def test_a_folder_and_records_of_it_are_one_pack(tmp_path: Path) -> None:
    packs = [
        packed(
            write(tmp_path / write.__name__, ten_faces()).model_copy(update={"group": "Asian"}),
            tmp_path / f"{write.__name__}.h5",
        )
        for write in (write_folder, write_records)
    ]
    assert_same(*packs)


ORANGE = (250, 120, 10)


def from_folder(root: Path, data: bytes) -> Pack:
    return packed(write_folder(root / "faces", {"A/m.0a/1.jpg": data}), root / "A.h5")


def from_records(root: Path, data: bytes) -> Pack:
    settings = write_records(root / "faces", {"Asian/m.0a/1.jpg": data})
    return packed(settings.model_copy(update={"group": "Asian"}), root / "A.h5")


def from_bin(root: Path, data: bytes) -> Pack:
    write_bin(root / "A_test.bin", [data, jpeg(0)], [True])
    pack_verification(settings_of(root), output=root / "A.h5")
    return open_pack(root / "A.h5", "verification")


def from_rfw(root: Path, data: bytes) -> Pack:
    settings = write_rfw_faces(root)
    (root / "data/A/m.0a/m.0a_0001.jpg").write_bytes(data)
    pack_verification(settings, output=root / "A.h5")
    return open_pack(root / "A.h5", "verification")


@pytest.mark.parametrize("pack", [from_folder, from_records, from_bin, from_rfw])
def test_an_orange_is_red_green_blue(tmp_path: Path, pack: Callable[[Path, bytes], Pack]) -> None:
    orange = encode(Image.new("RGB", (SIZE, SIZE), ORANGE), quality=95)
    first = pack(tmp_path, orange).images[0].astype(int)
    assert np.abs(first - ORANGE).max() <= 4


def odd_images() -> dict[str, bytes]:
    """Kinds of images that are no plain colour JPEG."""
    colours = Image.fromarray(noise(SIZE, SIZE, 3))
    turned = Image.Exif()
    turned[0x0112] = 6
    sixteen_bits = Image.fromarray(noise(SIZE, SIZE).astype(np.uint16) * 256 + 77)
    return {
        "A/m.0a/cmyk.jpg": encode(colours.convert("CMYK")),
        "A/m.0a/colours.webp": encode(colours, "WEBP", lossless=True),
        "A/m.0a/grey.jpg": encode(colours.convert("L")),
        "A/m.0a/palette.png": encode(colours.quantize(16), "PNG"),
        "A/m.0a/sixteen bits.png": encode(sixteen_bits, "PNG"),
        "A/m.0a/transparent.png": encode(Image.fromarray(noise(SIZE, SIZE, 4), "RGBA"), "PNG"),
        "A/m.0a/turned.jpg": encode(colours, exif=turned),
    }


@both_storages
def test_odd_kinds_of_training_images(tmp_path: Path, storage: str) -> None:
    odd = odd_images()
    settings = write_folder(tmp_path / "odd", odd).model_copy(update={"storage": storage})
    pack = packed(settings, tmp_path / "A.h5")
    images = dict(zip(pack.image_paths(), pack.images[:], strict=True))
    assert list(images) == list(odd)
    colours = noise(SIZE, SIZE, 3)
    np.testing.assert_array_equal(images["A/m.0a/colours.webp"], colours)
    high = np.repeat(noise(SIZE, SIZE)[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(images["A/m.0a/sixteen bits.png"], high)
    grey = images["A/m.0a/grey.jpg"]
    np.testing.assert_array_equal(grey, np.repeat(grey[:, :, :1], 3, axis=2))
    upright = encode(Image.fromarray(colours))
    np.testing.assert_array_equal(images["A/m.0a/turned.jpg"], np.rot90(decode(upright), 3))
    transparent = noise(SIZE, SIZE, 4)[:, :, :3]
    np.testing.assert_array_equal(images["A/m.0a/transparent.png"], transparent)
    for name, data in odd.items():
        np.testing.assert_array_equal(images[name], decode(data))


@both_storages
def test_paths_with_spaces_and_letters_of_all_kinds(tmp_path: Path, storage: str) -> None:
    faces = {
        f"Ägypten 한/m 0 'ß\"/{name}.jpg": jpeg(0) for name in ("a  b", "é", "日本", "#%s {x}")
    }
    settings = write_folder(tmp_path / "mes données;", faces)
    settings = settings.model_copy(update={"group": "Ägypten 한", "storage": storage})
    pack = packed(settings, tmp_path / "où ?" / "A b.h5")
    assert pack.image_paths() == tuple(sorted(faces))
    assert pack.identity_names == ("m 0 'ß\"",)
    assert pack.group == "Ägypten 한"


def test_links_in_circles_end_and_are_told(tmp_path: Path) -> None:
    settings = write_folder(tmp_path / "faces", {"A/m.0a/1.jpg": jpeg(0)})
    inside = tmp_path / "faces/A/m.0a"
    (inside / "up").symlink_to(tmp_path / "faces")
    (tmp_path / "faces/A/again").symlink_to(".")
    assert packed(settings, tmp_path / "A.h5").image_paths() == ("A/m.0a/1.jpg",)
    (inside / "2.jpg").symlink_to("2.jpg")
    with pytest.raises(InputError) as error:
        pack_train(settings, output=tmp_path / "A.h5")
    told = "A/m.0a/2.jpg: " + os.strerror(errno.ELOOP)
    assert error.value.found == f"1 bad image of 2\n  {told}\n"


def test_unlabelled_images_of_any_depth(tmp_path: Path) -> None:
    faces = {"1.png": jpeg(1), "a b/ü/2.jpg": jpeg(2), "a b/3.JPG": jpeg(3)}
    write_folder(tmp_path / "faces", faces)
    (tmp_path / "faces/a b/ü/loop").symlink_to(tmp_path / "faces")
    settings = PackUnlabelledSettings(
        root=tmp_path / "faces", image_size=SIZE, on_bad_image="error"
    )
    packs = []
    for storage in STORAGES:
        output = tmp_path / f"{storage}.h5"
        pack_unlabelled(settings.model_copy(update={"storage": storage}), output=output)
        packs.append(open_pack(output, "unlabelled"))
    assert_same(*packs)
    assert packs[0].image_paths() == tuple(sorted(faces))
    pixels = [decode(faces[name]) for name in packs[0].image_paths()]
    np.testing.assert_array_equal(packs[0].images, pixels)
    (tmp_path / "faces/bad.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"faces: found 1 bad image of 4\n  bad.jpg: an empty"):
        pack_unlabelled(settings, output=tmp_path / "pixels.h5")


# ---------------------------------------------------------------- held-out identities


THIRD = HeldOutSettings(share=0.34, folds=2, pairs=12)


@pytest.fixture
def dozen(tmp_path: Path) -> PackSettings:
    """Twelve identities of three images, a third of them to be held out."""
    faces = {f"A/m.{i:02}/{n}.jpg": jpeg(3 * i + n) for i in range(12) for n in range(3)}
    return write_folder(tmp_path / "dozen", faces).model_copy(update={"heldout": THIRD})


def trained_and_held_out(settings: PackSettings, folder: Path) -> tuple[Pack, Pack]:
    pack_train(settings, output=folder / "train.h5")
    pack_heldout(settings, output=folder / "heldout.h5")
    return open_pack(folder / "train.h5", "train"), open_pack(folder / "heldout.h5", "verification")


def test_held_out_identities_are_in_one_pack_only(tmp_path: Path, dozen: PackSettings) -> None:
    train, held_out = trained_and_held_out(dozen, tmp_path)
    assert len(held_out.identity_names) == 4
    together = sorted(train.identity_names + held_out.identity_names)
    assert together == [f"m.{i:02}" for i in range(12)]
    assert train.found == (36, 12)
    assert len(train.images) == 24
    assert held_out.pairs is not None and held_out.same is not None
    assert len(held_out.pairs) == 12
    np.testing.assert_array_equal(np.unique(held_out.pairs), np.arange(len(held_out.images)))
    people = held_out.identity[held_out.pairs]
    np.testing.assert_array_equal(people[:, 0] == people[:, 1], held_out.same)
    paths = held_out.image_paths()
    assert [Path(path).parent.name for path in paths] == [
        held_out.identity_names[row] for row in held_out.identity
    ]


def test_the_seed_chooses_who_is_held_out(tmp_path: Path, dozen: PackSettings) -> None:
    chosen = set()
    for seed in (0, 1, 2):
        heldout = THIRD.model_copy(update={"seed": seed})
        settings = dozen.model_copy(update={"heldout": heldout})
        train, held_out = trained_and_held_out(settings, tmp_path)
        assert not set(train.identity_names) & set(held_out.identity_names)
        chosen.add(held_out.identity_names)
    assert len(chosen) == 3


def test_identities_are_excluded_before_any_are_held_out(
    tmp_path: Path, dozen: PackSettings
) -> None:
    _, before = trained_and_held_out(dozen, tmp_path)
    excluded = before.identity_names[0]
    (tmp_path / "rfw/data/B" / excluded).mkdir(parents=True)
    settings = dozen.model_copy(update={"exclude": tmp_path / "rfw"})
    train, held_out = trained_and_held_out(settings, tmp_path)
    together = sorted(train.identity_names + held_out.identity_names)
    assert together == [f"m.{i:02}" for i in range(12) if f"m.{i:02}" != excluded]
    assert train.found == (36, 12)


def test_too_few_held_out_identities_for_the_folds(tmp_path: Path, dozen: PackSettings) -> None:
    settings = dozen.model_copy(update={"heldout": HeldOutSettings(folds=10)})
    with pytest.raises(InputError, match="expected a larger share"):
        trained_and_held_out(settings, tmp_path)
    assert not (tmp_path / "heldout.h5").exists()


def test_a_bad_held_out_image_costs_its_pairs(tmp_path: Path, dozen: PackSettings) -> None:
    _, whole = trained_and_held_out(dozen, tmp_path)
    assert whole.pairs is not None
    paths = whole.image_paths()
    (tmp_path / "dozen" / paths[0]).write_bytes(b"")
    with pytest.raises(InputError, match=r"or data\.on_bad_image: skip to leave some out"):
        pack_heldout(dozen, output=tmp_path / "heldout.h5")
    assert open_pack(tmp_path / "heldout.h5").sha256 == whole.sha256
    skipping = dozen.model_copy(update={"on_bad_image": "skip"})
    pack_heldout(skipping, output=tmp_path / "heldout.h5")
    left = open_pack(tmp_path / "heldout.h5")
    kept = (whole.pairs != 0).all(axis=1)
    assert left.pairs is not None and 0 < kept.sum() < len(kept)
    np.testing.assert_array_equal(left.pairs, whole.pairs[kept] - 1)
    assert left.image_paths() == paths[1:]
    # The folds are those that the pairs had before: by the order alone they would end elsewhere.
    folds = THIRD.folds
    assert left.fold is not None and whole.fold is None
    np.testing.assert_array_equal(left.fold, np.repeat(range(folds), len(kept) // folds)[kept])
    persons = [set(left.identity[left.pairs[left.fold == fold]].ravel()) for fold in range(folds)]
    assert not set.intersection(*persons)


# ---------------------------------------------------------------- alignment

FACE: Points = ((13.5, 10.0), (25.0, 9.0), (20.0, 15.0), (15.0, 21.0), (24.5, 20.0))


@pytest.fixture
def photos(tmp_path: Path) -> tuple[PackSettings, dict[str, bytes]]:
    """Five photographs of several sizes; all but the third have landmarks."""
    photos = {
        f"A/m.0a/ü {n}.jpg": encode(Image.fromarray(noise(30 + n, 40, 3, seed=n)), quality=95)
        for n in range(5)
    }
    settings = write_folder(tmp_path / "photos", photos)
    lines = [f"A/m.0a/ü {n}.jpg,{numbers(moved(n), ',')}\n" for n in (0, 1, 3, 4)]
    (tmp_path / "landmarks.csv").write_text(HEADER + "".join(lines))
    alignment = {"landmarks": tmp_path / "landmarks.csv"}
    return settings_of(settings.root, alignment=alignment), photos


def moved(by: int) -> Points:
    return tuple((x + by, y) for x, y in FACE)


def test_an_image_without_landmarks_is_bad(
    tmp_path: Path, photos: tuple[PackSettings, dict[str, bytes]]
) -> None:
    with pytest.raises(InputError) as error:
        pack_train(photos[0], output=tmp_path / "A.h5")
    assert error.value.found == "1 bad image of 5\n  A/m.0a/ü 2.jpg: no landmarks\n"
    assert error.value.expected.startswith("whole images with landmarks")


@both_storages
def test_aligned_images_are_what_align_makes_of_them(
    tmp_path: Path, photos: tuple[PackSettings, dict[str, bytes]], storage: str
) -> None:
    settings = photos[0].model_copy(update={"on_bad_image": "skip", "storage": storage})
    pack = packed(settings, tmp_path / "A.h5")
    files = list(photos[1].values())
    expected = [align(decode(files[n]), moved(n), SIZE) for n in (0, 1, 3, 4)]
    np.testing.assert_array_equal(pack.images[:], expected)


@both_storages
def test_without_landmarks_the_middle_is_taken_where_the_settings_say_so(
    tmp_path: Path,
    photos: tuple[PackSettings, dict[str, bytes]],
    storage: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings, files = photos
    assert settings.alignment is not None
    landmarks = settings.alignment.landmarks
    cropping = settings_of(
        settings.root,
        storage=storage,
        alignment={"landmarks": landmarks, "without_landmarks": "centre_crop"},
    )
    pack = packed(cropping, tmp_path / "A.h5")
    assert (tmp_path / "A.h5.cropped.txt").read_text() == "A/m.0a/ü 2.jpg\n"
    assert "1 of 5 images have no landmarks, their middle is taken" in capsys.readouterr().err
    third = centre_crop(decode(files["A/m.0a/ü 2.jpg"]), SIZE)
    np.testing.assert_array_equal(pack.images[2], third)
    np.testing.assert_array_equal(
        pack.images[4], align(decode(files["A/m.0a/ü 4.jpg"]), moved(4), SIZE)
    )
    with Path(landmarks).open("a") as file:
        file.write(f"A/m.0a/ü 2.jpg,{numbers(moved(2), ',')}\n")
    again = packed(cropping, tmp_path / "A.h5")
    assert not (tmp_path / "A.h5.cropped.txt").exists()
    np.testing.assert_array_equal(
        again.images[2], align(decode(files["A/m.0a/ü 2.jpg"]), moved(2), SIZE)
    )


@both_storages
def test_images_of_the_right_size_are_aligned_too(tmp_path: Path, storage: str) -> None:
    settings = write_folder(tmp_path / "faces", {"A/m.0a/1.jpg": jpeg(1)})
    csv = tmp_path / "landmarks.csv"
    csv.write_text(HEADER + f"A/m.0a/1.jpg,{numbers(FACE, ',')}\n")
    aligned = settings_of(settings.root, storage=storage, alignment={"landmarks": csv})
    expected = align(decode(jpeg(1)), FACE, SIZE)
    np.testing.assert_array_equal(packed(aligned, tmp_path / "A.h5").images[0], expected)


def test_unlabelled_images_are_aligned_by_their_path(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", {"x/1.jpg": encode(Image.fromarray(noise(30, 40, 3)))})
    csv = tmp_path / "landmarks.csv"
    csv.write_text(HEADER + f"x/1.jpg,{numbers(FACE, ',')}\n")
    settings = PackUnlabelledSettings.model_validate(
        {
            "root": tmp_path / "photos",
            "image_size": SIZE,
            "on_bad_image": "error",
            "alignment": {"landmarks": csv},
        }
    )
    pack_unlabelled(settings, output=tmp_path / "A.h5")
    expected = align(decode(tmp_path / "photos/x/1.jpg"), FACE, SIZE)
    np.testing.assert_array_equal(open_pack(tmp_path / "A.h5").images[0], expected)


# ---------------------------------------------------------------- one pack, however it is made


@pytest.fixture
def mixed(tmp_path: Path) -> PackSettings:
    """22 training images: PNG and JPEG files, one of them bad."""
    write_faces(tmp_path / "mixed faces")
    settings = settings_of(tmp_path / "mixed faces", on_bad_image="skip")
    for n in (1, 4, 6):
        (settings.root / f"A/m.0c/ü {n}.png").write_bytes(jpeg(n))
    (settings.root / "A/m.0c/ü 2.png").write_bytes(b"")
    (settings.root / "A/m.0c/ü 8.jpg").write_bytes(jpeg(8))
    return settings


@pytest.mark.parametrize("bad", [False, True], ids=["all good", "one bad"])
def test_encoded_images_make_the_same_pack(tmp_path: Path, mixed: PackSettings, bad: bool) -> None:
    if not bad:
        (mixed.root / "A/m.0c/ü 2.png").unlink()
    packs = [
        packed(mixed.model_copy(update={"storage": storage}), tmp_path / f"{storage}.h5")
        for storage in STORAGES
    ]
    assert len(packs[0].images) == 21
    assert (tmp_path / "encoded.h5.bad.txt").exists() == bad
    assert_same(*packs)


@both_storages
def test_several_workers_make_the_same_pack(
    tmp_path: Path, mixed: PackSettings, storage: str
) -> None:
    settings = mixed.model_copy(update={"storage": storage})
    one = packed(settings, tmp_path / "one.h5")
    assert_same(packed(settings, tmp_path / "three.h5", workers=3), one)
    listed = [(tmp_path / f"{name}.h5.bad.txt").read_text() for name in ("one", "three")]
    assert listed[0] == listed[1] == f"{mixed.root}/A/m.0c/ü 2.png\tan empty file\n"


# ---------------------------------------------------------------- a killed run


@both_storages
def test_a_killed_run_with_a_bad_image_is_taken_up(
    tmp_path: Path, mixed: PackSettings, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = mixed.model_copy(update={"storage": storage})
    whole = packed(settings, tmp_path / "whole.h5")
    output = tmp_path / "out/A.h5"
    kill(IN_THE_THIRD_CHUNK, settings, output)
    decoded = count_decoded(monkeypatch)
    resumed = packed(settings, output)
    assert len(decoded) == 22 - 8
    assert decoded[-1] == whole.image_paths()[-1]
    assert_same(resumed, whole)
    assert {path.name for path in output.parent.iterdir()} == {"A.h5", "A.h5.bad.txt"}


@both_storages
def test_a_killed_run_of_several_workers_is_taken_up(
    tmp_path: Path, mixed: PackSettings, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = mixed.model_copy(update={"storage": storage})
    output = tmp_path / "out/A.h5"
    kill(WITH_WORKERS, settings, output)
    lines = (partial_folder(output) / "journal").read_text().splitlines()[1:]
    # One chunk, or all that ended together.
    finished = [json.loads(line.split(maxsplit=1)[1])[0] for line in lines]
    assert 1 <= len(finished) <= 6
    decoded = count_decoded(monkeypatch)
    resumed = packed(settings, output)
    assert len(decoded) == 22 - sum(2 if chunk == 5 else 4 for chunk in finished)
    assert_same(resumed, packed(settings, tmp_path / "whole.h5"))


def test_a_chunk_that_was_lost_is_decoded_again(
    tmp_path: Path, mixed: PackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = mixed.model_copy(update={"storage": "encoded"})
    output = tmp_path / "out/A.h5"
    kill(IN_THE_THIRD_CHUNK, settings, output)
    (partial_folder(output) / "000000").write_bytes(b"cut off")
    decoded = count_decoded(monkeypatch)
    resumed = packed(settings, output)
    assert decoded[:4] == list(resumed.image_paths()[:4])
    assert len(decoded) == 22 - 4
    assert_same(resumed, packed(settings, tmp_path / "whole.h5"))


@both_storages
def test_another_storage_starts_anew(
    tmp_path: Path, mixed: PackSettings, storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = next(one for one in STORAGES if one != storage)
    output = tmp_path / "out/A.h5"
    kill(IN_THE_THIRD_CHUNK, mixed.model_copy(update={"storage": other}), output)
    resumed = packed(mixed.model_copy(update={"storage": storage}), output)
    assert "images or settings have changed, starting anew" in capsys.readouterr().err
    assert_same(resumed, packed(mixed, tmp_path / "whole.h5"))


def test_other_pairs_of_the_same_images_start_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = write_rfw_faces(tmp_path / "rfw")
    spoiled = tmp_path / "rfw/data/A/m.0b/m.0b_0003.jpg"
    data, times = spoiled.read_bytes(), spoiled.stat()
    count_decoded(monkeypatch)
    spoiled.write_bytes(bytes(len(data)))
    os.utime(spoiled, ns=(times.st_atime_ns, times.st_mtime_ns))
    output = tmp_path / "out/A.h5"
    with pytest.raises(InputError):  # what was decoded stays, with the first pairs
        pack_verification(settings, output=output)
    spoiled.write_bytes(data)
    os.utime(spoiled, ns=(times.st_atime_ns, times.st_mtime_ns))
    pairs = tmp_path / "rfw/txts/A/A_pairs.txt"
    pairs.write_text("".join(pairs.read_text().splitlines(keepends=True)[::-1]))
    pack_verification(settings, output=output)
    assert "starting anew" in capsys.readouterr().err
    pack_verification(settings, output=tmp_path / "whole.h5")
    resumed, whole = open_pack(output), open_pack(tmp_path / "whole.h5")
    assert resumed.pairs is not None and whole.pairs is not None
    np.testing.assert_array_equal(resumed.pairs, whole.pairs)
    assert_same(resumed, whole)


# ---------------------------------------------------------------- disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 512 KiB."""
    with small_disk(tmp_path / "small disk", "512k") as folder:
        yield folder


def fault_of_a_full_disk(settings: PackSettings, output: Path) -> str:
    """Pack on a full disk; the fault, after a look at what it left."""
    old = output.read_bytes()
    with pytest.raises((InputError, OSError)) as error:
        pack_train(settings, output=output)
    assert output.read_bytes() == old
    left = set(output.parent.iterdir()) - {output, output.with_name("filler")}
    assert left <= set(left_over(output, partial.SUFFIX))
    message = str(error.value)
    assert "\n" not in message
    assert str(output.parent) in message
    return message


@pytest.fixture
def full(disk: Path, faces: PackSettings) -> Path:
    """Where an older pack lies, on a disk that is to be filled."""
    (faces.root / "A/m.0a/ü 9.png").write_bytes(jpeg(9))
    pack_train(faces, output=disk / "A.h5")
    (faces.root / "A/m.0a/ü 9.png").unlink()
    return disk / "A.h5"


@pytest.fixture
def faces(tmp_path: Path) -> PackSettings:
    write_faces(tmp_path / "my faces")
    return settings_of(tmp_path / "my faces")


def test_what_does_not_fit_the_disk_is_told_before_the_work(
    tmp_path: Path, faces: PackSettings, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = count_decoded(monkeypatch)
    filler = fill(full.parent, free=40)
    message = fault_of_a_full_disk(faces, full)
    free = 40 * 1024 - 4096  # less the lock
    assert message.startswith(f"{full.parent}: found {free:,} bytes free on the disk; expected ")
    assert decoded == []
    filler.unlink()
    assert_same(packed(faces, full), packed(faces, tmp_path / "whole.h5"))


@pytest.mark.parametrize("free", [0, 4, 16, 28, 60])
def test_a_disk_that_fills_up_while_images_are_decoded(
    tmp_path: Path,
    faces: PackSettings,
    full: Path,
    free: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the journal's first line over the chunks to the pack that is put together of them."""
    settings = faces.model_copy(update={"storage": "encoded"})
    filler = fill(full.parent, free=free)
    message = fault_of_a_full_disk(settings, full)
    assert "No space left on device" in message or "bytes free on the disk" in message
    filler.unlink()
    decoded = count_decoded(monkeypatch)
    resumed = packed(settings, full)
    finished = max(free // 4 - 2, 0) * 4  # a page of the disk for lock, journal and each chunk
    assert len(decoded) == max(21 - finished, 0)
    assert_same(resumed, packed(settings, tmp_path / "whole.h5"))
    assert list(full.parent.iterdir()) == [full]


def test_a_disk_that_another_program_fills(
    tmp_path: Path, faces: PackSettings, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        decoded = count_decoded(patch)
        count = partial.face_pixels

        def fill_at_the_tenth(*image: Any) -> np.ndarray:
            if len(decoded) == 10:
                fill(full.parent, free=0)
            return count(*image)

        patch.setattr(partial, "face_pixels", fill_at_the_tenth)
        message = fault_of_a_full_disk(faces, full)
    place = re.escape(f"{full.parent}/.A.h5.")
    assert re.fullmatch(
        rf"\[Errno 28\] No space left on device: '{place}[0-9a-f]+\.partial/pack'", message
    )
    (full.parent / "filler").unlink()
    decoded = count_decoded(monkeypatch)
    assert_same(packed(faces, full), packed(faces, tmp_path / "whole.h5"))
    assert len(decoded) >= 21 + 21 - 8


def test_a_disk_without_room_to_seal_the_pack(
    tmp_path: Path, faces: PackSettings, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        decoded = count_decoded(patch)
        count = partial.face_pixels

        def fill_at_the_last(*image: Any) -> np.ndarray:
            if len(decoded) == 20:
                fill(full.parent, free=8)  # for the last chunk
            return count(*image)

        patch.setattr(partial, "face_pixels", fill_at_the_last)
        assert "bytes free on the disk" in fault_of_a_full_disk(faces, full)
    (full.parent / "filler").unlink()
    decoded = count_decoded(monkeypatch)
    resumed = packed(faces, full)
    assert decoded == []
    assert_same(resumed, packed(faces, tmp_path / "whole.h5"))


@both_storages
def test_a_disk_that_may_not_be_written(faces: PackSettings, full: Path, storage: str) -> None:
    old = full.read_bytes()
    subprocess.run(["mount", "-o", "remount,ro", str(full.parent)], check=True)
    with pytest.raises(OSError, match="Read-only file system") as error:
        pack_train(faces.model_copy(update={"storage": storage}), output=full)
    assert str(error.value.filename).startswith(str(full.parent))
    assert "\n" not in str(error.value)
    assert full.read_bytes() == old
    assert list(full.parent.iterdir()) == [full]


@both_storages
def test_an_output_below_a_file(tmp_path: Path, faces: PackSettings, storage: str) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(OSError, match="results") as error:
        pack_train(faces.model_copy(update={"storage": storage}), output=tmp_path / "results/A.h5")
    assert "\n" not in str(error.value)
    assert (tmp_path / "results").read_text() == "a file"
