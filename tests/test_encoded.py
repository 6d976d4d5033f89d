from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from mstkd.artifacts.sealed import Pieces, piece_checksum
from mstkd.data.decode import BadImage, decode
from mstkd.data.encoded import EncodedImages, to_jpeg_or_png
from mstkd.errors import InputError

SIZE = 64  # whole blocks of every subsampling
JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG"


def picture(number: int, mode: str = "RGB", *, smooth: float = 2, size: int = SIZE) -> Image.Image:
    """Blurred noise over the whole range of levels: like a photograph to a JPEG encoder."""
    noise = np.random.default_rng(number).integers(0, 256, (size, size, len(mode)), np.uint8)
    bands = [Image.fromarray(noise[:, :, band]) for band in range(len(mode))]
    blurred = [np.asarray(band.filter(ImageFilter.GaussianBlur(smooth))) for band in bands]
    levels = np.stack(blurred, axis=2).astype(np.float64)
    levels = (levels - levels.min()) / np.ptp(levels) * 255
    return Image.fromarray(levels.astype(np.uint8).squeeze(), mode)


def encode(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def resampled(data: bytes, luma: int) -> bytes:
    """The same JPEG with other sampling factors of its first component, from those of 4:2:0."""
    at = data.index(b"\xff\xc0") + 11
    assert data[at] == 0x22
    return data[:at] + bytes([luma]) + data[at + 1 :]


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
PLAIN = {
    "rgb": encode(picture(0), quality=95),
    "4:4:4": encode(picture(1), quality=100, subsampling="4:4:4"),
    "progressive": encode(picture(2), quality=80, progressive=True),
    "grey": encode(picture(3, "L"), quality=90),
    "upright": encode(picture(4), exif=turned(1)),
    "no such turn": encode(picture(4), exif=turned(9)),
    "not YCbCr": encode(picture(5), keep_rgb=True),
    "restarts": encode(picture(6), restart_marker_blocks=3, comment=b"a comment"),
}
OTHERS = {
    "turned": encode(picture(7), exif=turned(6)),
    "turned by XMP": encode(picture(7), xmp=XMP),
    "CMYK": encode(picture(8, "CMYK")),
    "several": encode(picture(9), "MPO", save_all=True, append_images=[picture(10)]),
    "fill bytes": PLAIN["rgb"][:2] + b"\xff" + PLAIN["rgb"][2:],
    "PNG": encode(picture(11, "RGBA"), "PNG"),
    "palette": encode(picture(12).quantize(16), "PNG"),
    "16 bits": encode(
        Image.fromarray(np.arange(SIZE * SIZE, dtype=np.uint16).reshape(SIZE, -1)), "PNG"
    ),
    "WebP": encode(picture(13), "WEBP", quality=80),
}
IMAGES = {**PLAIN, **OTHERS}


def stored(*images: bytes, size: int = SIZE) -> EncodedImages:
    """Images as a pack holds them."""
    kept = [to_jpeg_or_png(data, decode(data, size)) for data in images]
    return laid_out(*kept, size=size)


def laid_out(*kept: bytes, size: int = SIZE) -> EncodedImages:
    offsets = np.cumsum([0, *map(len, kept)])
    data = np.frombuffer(b"".join(kept), np.uint8)
    return EncodedImages(data, offsets, image_size=size, where="faces.h5", pieces=pieces_of(*kept))


def pieces_of(*kept: bytes) -> Pieces:
    return Pieces(np.array([piece_checksum(data) for data in kept], np.uint64), "image")


ALL = stored(*IMAGES.values())
PIXELS = np.stack([decode(data, SIZE) for data in IMAGES.values()])


# ---------------------------------------------------------------- what is stored


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_jpeg_keeps_its_bytes(name: str) -> None:
    assert to_jpeg_or_png(PLAIN[name], decode(PLAIN[name], SIZE)) == PLAIN[name]


@pytest.mark.parametrize("name", OTHERS)
def test_anything_else_becomes_png_without_loss(name: str) -> None:
    pixels = decode(OTHERS[name], SIZE)
    kept = to_jpeg_or_png(OTHERS[name], pixels)
    assert kept.startswith(PNG)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(kept))), pixels)


def test_aligned_pixels_are_stored_not_the_file() -> None:
    aligned = np.asarray(picture(14))
    kept = to_jpeg_or_png(PLAIN["rgb"], aligned, aligned=True)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(kept))), aligned)


def test_a_jpeg_of_another_size_is_not_kept() -> None:
    pixels = np.asarray(picture(15, size=32))
    assert to_jpeg_or_png(PLAIN["rgb"], pixels).startswith(PNG)


# ---------------------------------------------------------------- pixels


@pytest.mark.parametrize("smooth", [0, 2])
@pytest.mark.parametrize("size", [33, 112])
def test_the_pixels_are_those_of_pillows_reader(size: int, smooth: float) -> None:
    image = picture(20, smooth=smooth, size=size)
    grey = picture(21, "L", smooth=smooth, size=size)
    options = [
        {"subsampling": subsampling, "progressive": progressive}
        for subsampling in ("4:4:4", "4:2:2", "4:2:0")
        for progressive in (False, True)
    ]
    for quality in range(75, 101):
        files = [encode(image, quality=quality, **choice) for choice in options]
        files += [encode(grey, quality=quality), encode(image, quality=quality, keep_rgb=True)]
        assert_alike(files)


def test_the_pixels_of_rare_subsamplings_are_those_of_pillows_reader() -> None:
    for quality in (75, 90, 100):
        data = encode(picture(22), quality=quality, subsampling="4:2:0")
        # Four luma blocks a unit in a row, 4:1:1, or in a column: another picture, as valid.
        rare = [resampled(data, 0x41), resampled(data, 0x14)]
        half = encode(picture(22), quality=quality, subsampling="4:2:2")
        at = half.index(b"\xff\xc0") + 11
        rare.append(half[:at] + b"\x12" + half[at + 1 :])  # 4:4:0
        assert_alike(rare)


def assert_alike(files: list[bytes]) -> None:
    for data in files:
        with Image.open(io.BytesIO(data)) as image:
            expected = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(laid_out(data, size=len(expected))[0], expected)


def rows() -> st.SearchStrategy[Any]:
    count = len(IMAGES)
    row = st.integers(-count, count - 1)
    return st.one_of(
        row,
        row.map(np.int64),
        st.slices(count),
        st.lists(row, max_size=6).map(lambda own: np.array(own, np.int64)),
        st.lists(st.booleans(), min_size=count, max_size=count).map(np.array),
    )


@settings(max_examples=100, deadline=None)
@given(rows())
def test_indexing_gives_the_rows_of_the_array(rows: Any) -> None:
    read = ALL[rows]
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, PIXELS[rows])


def test_it_looks_like_the_array() -> None:
    assert (ALL.shape, ALL.dtype, ALL.ndim) == (PIXELS.shape, PIXELS.dtype, PIXELS.ndim)
    assert len(ALL) == len(PIXELS)
    np.testing.assert_array_equal(np.stack(list(ALL)), PIXELS)
    assert ALL[:0].shape == (0, SIZE, SIZE, 3)
    for row in (len(IMAGES), -len(IMAGES) - 1, np.array([0, len(IMAGES)])):
        with pytest.raises(IndexError):
            ALL[row]
    ALL[0][:] = 0  # a copy: what a caller does to it stays with it
    np.testing.assert_array_equal(ALL[0], PIXELS[0])


def test_no_images() -> None:
    assert stored()[:].shape == (0, SIZE, SIZE, 3)


def test_a_memory_map_is_read(tmp_path: Path) -> None:
    kept = [PLAIN["rgb"], PLAIN["grey"]]
    (tmp_path / "data").write_bytes(b"head" + b"".join(kept))
    data = np.memmap(tmp_path / "data", np.uint8, "r", offset=4)
    offsets = np.cumsum([0, *map(len, kept)])
    pieces = pieces_of(*kept)
    images = EncodedImages(data, offsets, image_size=SIZE, where=tmp_path, pieces=pieces)
    np.testing.assert_array_equal(images[:], [decode(jpeg, SIZE) for jpeg in kept])


DAMAGED = {name: IMAGES[name] for name in ("rgb", "progressive", "grey", "restarts", "turned")}


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(sorted(DAMAGED)))
def test_a_damaged_image_that_is_accepted_is_read_as_it_was(data: st.DataObject, name: str) -> None:
    damaged = bytearray(DAMAGED[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        pixels = decode(bytes(damaged), SIZE)
    except BadImage:
        return
    np.testing.assert_array_equal(stored(bytes(damaged))[0], pixels)


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize(
    "data",
    [PLAIN["rgb"][:-200], b"no image", encode(picture(0, size=32)), PLAIN["rgb"][:4]],
)
def test_a_damaged_pack_names_the_image(data: bytes) -> None:
    images = laid_out(PLAIN["rgb"], data)
    np.testing.assert_array_equal(images[0], decode(PLAIN["rgb"], SIZE))
    with pytest.raises(InputError, match=r"^faces\.h5: found image 1: .*; expected a whole pack"):
        images[:]


@pytest.mark.parametrize("offsets", [[], [0], [1, 8], [0, 9], [0, 4, 4, 8], [0, 6, 4, 8], [8, 0]])
def test_offsets_that_do_not_fit_are_refused(offsets: list[int]) -> None:
    data = np.zeros(8, np.uint8)
    with pytest.raises(InputError, match="offsets that do not fit"):
        EncodedImages(
            data, np.array(offsets, np.int64), image_size=SIZE, where="faces.h5", pieces=pieces_of()
        )


# ---------------------------------------------------------------- torch


def test_images_are_read_where_there_is_no_torchvision(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(PLAIN["rgb"])
    np.save(tmp_path / "a.npy", decode(PLAIN["rgb"], SIZE))
    code = f"""
import sys
sys.modules["torch"] = sys.modules["torchvision"] = None
import numpy as np
from mstkd.artifacts.sealed import Pieces, piece_checksum
from mstkd.data.encoded import EncodedImages
data = np.fromfile({str(tmp_path / "a.jpg")!r}, np.uint8)
pieces = Pieces(np.array([piece_checksum(data)], np.uint64))
images = EncodedImages(
    data, np.array([0, len(data)]), image_size={SIZE}, where="-", pieces=pieces
)
assert (images[0] == np.load({str(tmp_path / "a.npy")!r})).all()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_batch_on_the_cpu_is_the_same_pixels() -> None:
    rows = np.array([3, 0, len(IMAGES) - 1, 3])
    batch = ALL.decode_batch(rows, torch.device("cpu"))
    assert batch.dtype == torch.uint8
    np.testing.assert_array_equal(batch.numpy(), PIXELS[rows])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_batch_on_the_gpu_is_close() -> None:
    device = torch.device("cuda")
    rows = np.arange(len(IMAGES))[::-1].copy()
    batch = ALL.decode_batch(rows, device)
    assert batch.device.type == "cuda"
    away = np.abs(batch.cpu().numpy().astype(int) - PIXELS[rows]).mean(axis=(1, 2, 3))
    assert away.max() < 4
    others = rows >= len(PLAIN)
    assert (away[others] == 0).all()  # PNG
