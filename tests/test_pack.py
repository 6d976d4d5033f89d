from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from packs import IDENTITIES, SIZE, settings_of, write_faces, write_rfw
from PIL import Image

import mstkd
from mstkd.data import partial
from mstkd.data.decode import decode
from mstkd.data.pack import open_pack
from mstkd.data.packing import pack_train, pack_verification
from mstkd.data.pixels import PixelImages
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


# ---------------------------------------------------------------- what was packed is read


def test_a_training_pack_holds_the_images(tmp_path: Path, whole: Path) -> None:
    pack = open_pack(whole, "train")
    pixels = write_faces(tmp_path)
    paths = sorted(pixels)
    assert (pack.path, pack.kind, pack.group, pack.image_size) == (whole, "train", "A", SIZE)
    assert pack.image_paths() == tuple(paths)
    assert pack.identity_names == tuple(sorted(IDENTITIES))
    assert pack.identity.dtype == np.int32
    assert [pack.identity_names[n] for n in pack.identity] == [p.split("/")[1] for p in paths]
    np.testing.assert_array_equal(pack.images, [pixels[path] for path in paths])
    assert pack.pairs is None
    assert pack.same is None
    assert len(pack.sha256) == 64


def test_images_are_a_read_only_map_at_the_right_place(whole: Path) -> None:
    images = open_pack(whole).images
    assert isinstance(images, PixelImages)
    stored = images.stored
    assert isinstance(stored, np.memmap)
    assert not stored.flags.writeable
    with h5py.File(whole) as file:
        dataset = file["images"]
        assert (dataset.chunks, dataset.compression) == (None, None)
        assert stored.offset == dataset.id.get_offset()
        np.testing.assert_array_equal(stored, dataset[:])
        np.testing.assert_array_equal(images, dataset[:])
        assert file.attrs["package_version"].decode() == mstkd.__version__


def test_nothing_is_left_behind(whole: Path) -> None:
    assert list(whole.parent.iterdir()) == [whole]
    faces = whole.parents[1] / "faces"
    assert sum(path.is_file() for path in faces.rglob("*")) == 21


def test_a_verification_pack_holds_images_and_pairs(tmp_path: Path) -> None:
    pack_verification(write_rfw(tmp_path), output=tmp_path / "A.h5")
    pack = open_pack(tmp_path / "A.h5", "verification")
    names = ["m.0a/m.0a_0001", "m.0a/m.0a_0002", "m.0b/m.0b_0001", "m.0b/m.0b_0003"]
    assert pack.image_paths() == tuple(f"data/A/{name}.jpg" for name in names)
    assert pack.pairs is not None
    assert pack.same is not None
    assert (pack.pairs.dtype, pack.same.dtype) == (np.int32, np.bool_)
    np.testing.assert_array_equal(pack.pairs, [[2, 3], [0, 1], [0, 3], [2, 1]])
    np.testing.assert_array_equal(pack.same, [True, True, False, False])
    np.testing.assert_array_equal(pack.identity, [0, 0, 1, 1])
    for row, path in enumerate(pack.image_paths()):
        np.testing.assert_array_equal(pack.images[row], decode(tmp_path / path, SIZE))


# ---------------------------------------------------------------- the digest


def test_processes_do_not_change_the_digest(faces: Path, whole: Path, tmp_path: Path) -> None:
    pack_train(settings_of(faces), output=tmp_path / "A.h5", workers=2)
    two, one = open_pack(tmp_path / "A.h5"), open_pack(whole)
    assert two.sha256 == one.sha256
    np.testing.assert_array_equal(two.images, one.images)


def swap_identities(root: Path) -> None:
    (root / "A/m.0a").rename(root / "A/m.0z")


def rename_image(root: Path) -> None:
    (root / "A/m.0a/ü 0.png").rename(root / "A/m.0a/ü 00.png")


def change_pixel(root: Path) -> None:
    path = root / "A/m.0c/ü 6.png"
    pixels = np.array(Image.open(path))
    pixels[3, 4, 1] ^= 1
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("change", [swap_identities, rename_image, change_pixel])
def test_another_content_has_another_digest(
    faces: Path, whole: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    output = tmp_path / "A.h5"
    pack_train(settings_of(faces), output=output)
    assert open_pack(output).sha256 == open_pack(whole).sha256  # the place does not matter
    change(faces)
    pack_train(settings_of(faces), output=output)
    assert open_pack(output).sha256 != open_pack(whole).sha256


def test_pairs_count_in_the_digest(tmp_path: Path) -> None:
    settings = write_rfw(tmp_path)
    file = tmp_path / "txts/A/A_pairs.txt"
    digests = set()
    for text in (file.read_text(), "".join(file.read_text().splitlines(keepends=True)[::-1])):
        file.write_text(text)
        pack_verification(settings, output=tmp_path / "A.h5")
        digests.add(open_pack(tmp_path / "A.h5").sha256)
    assert len(digests) == 2


# ---------------------------------------------------------------- what is no pack


def edit(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return spoil


def chunked(file: h5py.File) -> None:
    images = file["images"][:]
    del file["images"]
    file.create_dataset("images", data=images, chunks=(1, SIZE, SIZE, 3))


def float_images(file: h5py.File) -> None:
    images = file["images"][:]
    del file["images"]
    file.create_dataset("images", data=images.astype(np.float32))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3000])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Path.unlink, "no such file; expected a pack"),
        (lambda path: path.write_bytes(b""), "not an HDF5 file; expected a pack"),
        (lambda path: path.write_bytes(b"PK" * 900), "not an HDF5 file; expected a pack"),
        (cut, "a damaged file ("),
        (edit(lambda file: file.attrs.clear()), "HDF5 with format None; expected a pack, format"),
        (edit(lambda file: file.attrs.modify("format", "x")), "HDF5 with format 'x'; expected"),
        (edit(lambda file: file.attrs.modify("version", 1)), "a pack of version 1; expected ver"),
        (edit(lambda file: file.attrs.modify("version", 3)), "a pack of version 3; expected ver"),
        (edit(lambda file: file.attrs.modify("image_size", 8)), "images uint8 (21, 16, 16, 3);"),
        (edit(lambda file: file.attrs.modify("sha256", np.bytes_("0" * 64))), "an unfinished"),
        (edit(lambda file: file.attrs.__delitem__("group")), "a damaged file ("),
        (edit(lambda file: file.__delitem__("identity")), "a damaged file ("),
        (edit(lambda file: file["identity"].write_direct(np.full(21, 3, np.int32))),
         "a damaged file (identity outside 0 to 2); expected a whole pack"),
        (edit(chunked), "images that do not lie contiguous in the file; expected contiguous"),
        (edit(float_images), "images float32 (21, 16, 16, 3); expected images uint8"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_pack(
    whole: Path, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "A.h5"
    shutil.copy(whole, path)
    change(path)
    with pytest.raises(InputError) as error:
        open_pack(path, "train")
    assert str(error.value).startswith(f"{path}: found {message}")


def test_another_kind_is_refused(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found a train pack; expected a verification pack"):
        open_pack(whole, "verification")
    pack_verification(write_rfw(tmp_path), output=tmp_path / "A.h5")
    with pytest.raises(InputError, match="found a verification pack; expected a train pack"):
        open_pack(tmp_path / "A.h5", "train")
    assert open_pack(tmp_path / "A.h5").kind == "verification"
