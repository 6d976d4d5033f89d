from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mstkd.data.decode import BadImage, decode
from mstkd.data.sources import READ_AT_ONCE

SIZE = 16


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_lossless_pixels_are_kept(kind: str) -> None:
    pixels = noise(SIZE, SIZE, 3)
    options = {"lossless": True} if kind == "WEBP" else {}
    read = decode(encode(Image.fromarray(pixels), kind, **options), SIZE)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_channels_are_red_green_blue(kind: str) -> None:
    read = decode(encode(Image.new("RGB", (SIZE, SIZE), (250, 120, 10)), kind), SIZE)
    assert np.abs(read.astype(int) - [250, 120, 10]).max() <= 4


def test_grey_is_repeated() -> None:
    grey = noise(SIZE, SIZE)
    np.testing.assert_array_equal(
        decode(encode(Image.fromarray(grey)), SIZE), np.stack([grey] * 3, axis=2)
    )


def test_sixteen_bits_are_cut_to_the_high_byte() -> None:
    grey = noise(SIZE, SIZE).astype(np.uint16) * 256 + 200
    read = decode(encode(Image.fromarray(grey)), SIZE)
    np.testing.assert_array_equal(read, np.stack([grey >> 8] * 3, axis=2))


def test_a_palette_is_looked_up() -> None:
    image = Image.new("P", (SIZE, SIZE), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    read = decode(encode(image, transparency=1), SIZE)
    np.testing.assert_array_equal(read, np.full((SIZE, SIZE, 3), [200, 100, 50]))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_dropped(mode: str) -> None:
    pixels = noise(SIZE, SIZE, len(mode))
    colours = pixels[:, :, :-1]
    read = decode(encode(Image.fromarray(pixels, mode)), SIZE)
    np.testing.assert_array_equal(read, np.broadcast_to(colours, (SIZE, SIZE, 3)))


def test_cmyk() -> None:
    cyan = Image.new("CMYK", (SIZE, SIZE), (255, 0, 0, 0))
    read = decode(encode(cyan, "JPEG"), SIZE)
    assert np.abs(read.astype(int) - [0, 255, 255]).max() <= 4


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_the_orientation_of_a_camera_is_applied(orientation: int, turns: int) -> None:
    pixels = noise(SIZE, SIZE, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = decode(encode(Image.fromarray(pixels), exif=exif), SIZE)
    np.testing.assert_array_equal(read, np.rot90(pixels, turns))


WHOLE = {kind: encode(Image.fromarray(noise(SIZE, SIZE, 3)), kind) for kind in ("PNG", "JPEG")}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "an empty file"),
        (b"not an image at all", "not a JPEG, PNG or WebP image"),
        (encode(Image.new("RGB", (SIZE, SIZE)), "GIF"), "not a JPEG, PNG or WebP image"),
        (encode(Image.new("RGB", (40, 40))), "found 40x40, expected 16x16"),
        (encode(Image.new("RGB", (16, 15))), "found 16x15, expected 16x16"),
        (encode(Image.new("RGB", (40, 40)), "JPEG"), "found 40x40, expected 16x16"),
        (encode(Image.new("RGB", (16, 8)), "JPEG"), "found 16x8, expected 16x16"),
        (WHOLE["PNG"][:-200], "damaged: "),
        (WHOLE["JPEG"][:-60], "damaged: image file is truncated"),
    ],
)
def test_bad_images(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage) as error:
        decode(data, SIZE)
    assert error.value.reason.startswith(reason)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "é a.jpg"  # what it is, not what it is called
    path.write_bytes(WHOLE["PNG"])
    np.testing.assert_array_equal(decode(path, SIZE), decode(WHOLE["PNG"], SIZE))
    with pytest.raises(BadImage, match="No such file"):
        decode(tmp_path / "gone.jpg", SIZE)
    with pytest.raises(BadImage, match="Is a directory"):
        decode(tmp_path, SIZE)


def test_a_large_file_is_read_to_its_end(tmp_path: Path) -> None:
    pixels = noise(600, 600, 3)
    (tmp_path / "large.png").write_bytes(encode(Image.fromarray(pixels)))
    assert (tmp_path / "large.png").stat().st_size > 3 * READ_AT_ONCE
    np.testing.assert_array_equal(decode(tmp_path / "large.png"), pixels)


KINDS = {**WHOLE, "WEBP": encode(Image.fromarray(noise(SIZE, SIZE, 3)), "WEBP")}


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from(sorted(KINDS)))
def test_damage_is_a_bad_image_or_an_image(data: st.DataObject, kind: str) -> None:
    damaged = bytearray(KINDS[kind])
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(1, len(damaged))) :]
    try:
        assert decode(bytes(damaged), SIZE).shape == (SIZE, SIZE, 3)
    except BadImage as error:
        assert error.reason


# ---------------------------------------------------------------- plain JPEGs


PLAIN = {
    "4:2:0": {"quality": 95},
    "4:4:4": {"subsampling": "4:4:4"},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 2},
    "not YCbCr": {"keep_rgb": True},
}


def plain(kind: str) -> bytes:
    return encode(Image.fromarray(noise(SIZE, SIZE, 3)), "JPEG", **PLAIN[kind])


@pytest.mark.parametrize("kind", ["4:2:0", "4:4:4", "progressive", "restarts"])
def test_a_plain_jpeg_needs_no_reader(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = plain(kind)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image)
    monkeypatch.setattr(Image, "open", lambda *file, **options: pytest.fail("opened"))
    np.testing.assert_array_equal(decode(data, SIZE), expected)


def test_a_jpeg_with_an_orientation_is_not_plain() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = Image.fromarray(noise(SIZE, SIZE, 3))
    turned = decode(encode(pixels, "JPEG", exif=exif), SIZE)
    np.testing.assert_array_equal(turned, np.rot90(decode(encode(pixels, "JPEG"), SIZE), 3))


def outcome(data: bytes, image_size: int | None) -> bytes | str:
    try:
        return decode(data, image_size).tobytes()
    except BadImage as error:
        return error.reason


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(sorted(PLAIN)))
def test_a_damaged_plain_jpeg_is_what_the_reader_makes_of_it(
    data: st.DataObject, kind: str
) -> None:
    damaged = bytearray(plain(kind))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.sampled_from(range(256)) | st.sampled_from(b"\xff\xc0\xc4\xda"))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(1, len(damaged))) :]
    read = outcome(bytes(damaged), None)  # of any size: by the reader
    made = outcome(bytes(damaged), SIZE)
    assert made == read or str(made).endswith(f"expected {SIZE}x{SIZE}")
