"""Images that are read only where `data.more_suffixes` names their endings."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packs import SIZE, settings_of
from PIL import Image
from pydantic import ValidationError
from runs import TINY
from typer.testing import CliRunner

from mstkd.cli.app import app
from mstkd.config import Config, DataSettings, PackUnlabelledSettings
from mstkd.config.data import Suffix
from mstkd.data.decode import MORE_FORMATS, BadImage, decode, formats_of
from mstkd.data.formats.landmarks import read_landmarks_csv
from mstkd.data.inspection.inspect import inspect
from mstkd.data.pack import open_pack
from mstkd.data.packing import pack_train, pack_unlabelled, pack_verification
from mstkd.errors import InputError

MORE = (".bmp", ".pgm", ".tif")
KINDS = {".png": "PNG", ".bmp": "BMP", ".pgm": "PPM", ".tif": "TIFF"}
EVERY = formats_of(get_args(Suffix))
POINTS = ((4.0, 5.0), (11.0, 5.0), (8.0, 8.0), (5.0, 12.0), (10.0, 12.0))


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def encoded(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind, **options)
    return data.getvalue()


def write(root: Path, suffix: str) -> None:
    """Two identities of two grey images each, in one format."""
    for identity in range(2):
        folder = root / f"A/m.{identity}"
        folder.mkdir(parents=True)
        for number in range(2):
            pixels = noise(SIZE, SIZE, seed=10 * identity + number)
            ending = suffix.upper() if number else suffix
            (folder / f"{folder.name}_{number + 1:04}{ending}").write_bytes(
                encoded(pixels, KINDS[suffix])
            )


def digests(pack: Path) -> list[list[int]]:
    return open_pack(pack).digests.tolist()


@pytest.mark.parametrize("storage", ["pixels", "encoded"])
@pytest.mark.parametrize("suffix", MORE)
def test_a_pack_of_them_has_the_pixels_of_one_of_png(
    tmp_path: Path, suffix: str, storage: str
) -> None:
    for one, more in ((".png", None), (suffix, [suffix])):
        write(tmp_path / one, one)
        given_settings = settings_of(tmp_path / one, storage=storage, more_suffixes=more)
        pack_train(given_settings, output=tmp_path / f"{one}.h5")
    assert digests(tmp_path / f"{suffix}.h5") == digests(tmp_path / ".png.h5")


def test_every_layout_reads_them(tmp_path: Path) -> None:
    """RFW's, a listing, a list of pairs, and unlabelled images; without the setting none does."""
    write(tmp_path / "data", ".bmp")
    (tmp_path / "txts/A").mkdir(parents=True)
    (tmp_path / "txts/A/A_pairs.txt").write_text("m.0 1 2\nm.0 1 m.1 2\nm.1 1 2\nm.0 2 m.1 1\n")
    paths = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.[bB]*"))
    rows = [f"{path},{path.parent.name},A\n" for path in paths]
    (tmp_path / "list.csv").write_text("path,identity,group\n" + "".join(rows))
    one, two, three, four = paths
    pairs = [(one, two, 1), (three, four, 1), (one, three, 0), (two, four, 0)]
    lines = [f"{first},{second},{same},A\n" for first, second, same in pairs]
    (tmp_path / "pairs.csv").write_text("path1,path2,same,group\n" + "".join(lines))
    unlabelled = {"root": tmp_path / "data", "image_size": SIZE, "on_bad_image": "error"}
    found = {}
    for name, more in (("with", [".bmp"]), ("without", None)):
        for pack, root in (
            (pack_verification, tmp_path),
            (pack_verification, tmp_path / "pairs.csv"),
            (pack_train, tmp_path / "list.csv"),
            (pack_unlabelled, None),
        ):
            chosen = (
                PackUnlabelledSettings.model_validate(unlabelled | {"more_suffixes": more})
                if root is None
                else settings_of(root, more_suffixes=more)
            )
            output = tmp_path / f"{name}-{len(found)}.h5"
            if more is None:
                with pytest.raises(InputError):
                    pack(chosen, output=output)
            else:
                pack(chosen, output=output)
                found[output] = sorted(digests(output))
    assert len(found) == 4
    assert all(one == next(iter(found.values())) for one in found.values())


def test_without_the_setting_they_are_passed_over_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, ".bmp")
    told = "data.more_suffixes: [.bmp] or --more-suffixes .bmp reads such images"
    with pytest.raises(InputError, match="found no image"):
        pack_train(settings_of(tmp_path), output=tmp_path / "A.h5")
    assert capsys.readouterr().err.endswith(f"passed over: 4 images .bmp; {told}\n")
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "A/m.0/m.0_0003.png")
    problems = inspect(tmp_path).problems
    assert sum(line.endswith(told) for line in problems) == 4


def test_of_a_listing_a_format_not_named_is_a_bad_image(tmp_path: Path) -> None:
    write(tmp_path, ".bmp")
    path = next(tmp_path.rglob("*.bmp")).relative_to(tmp_path)
    (tmp_path / "list.csv").write_text(f"path,identity,group\n{path},a,A\n")
    for more, reason in ((None, "JPEG, PNG or WebP"), ([".tif"], "JPEG, PNG, WebP or TIFF")):
        with pytest.raises(InputError, match=f"not a {reason} image"):
            pack_train(
                settings_of(tmp_path / "list.csv", more_suffixes=more), output=tmp_path / "A.h5"
            )


def test_settings_without_it_are_what_they_were() -> None:
    """So that nothing is packed anew; with it each packing step knows."""
    before = Config.model_validate(TINY)
    after = Config.model_validate(TINY | {"data": TINY["data"] | {"more_suffixes": [".bmp"]}})
    for name in ("train_pack_settings", "verification_pack_settings"):
        assert "suffixes" not in getattr(before, name)("A").dump()
        assert '"more_suffixes":[".bmp"]' in getattr(after, name)("A").dump()
    folders = {"train": "a", "verification": "b", "unlabelled": "c", "more_suffixes": [".tif"]}
    unlabelled = Config.model_validate(TINY | {"data": {"image_size": 16} | folders})
    assert '"more_suffixes":[".tif"]' in unlabelled.unlabelled_pack_settings().dump()


@pytest.mark.parametrize("value", [[], [".gif"], [".png"], ["bmp"], [".bmp", ".bmp"], ".bmp"])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        DataSettings.model_validate(TINY["data"] | {"more_suffixes": value})


# ---------------------------------------------------------------- the option of commands


def typed(*words: object, code: int = 0) -> str:
    told = CliRunner().invoke(app, [str(word) for word in words])
    assert told.exit_code == code, (told.output, told.exception)
    return told.output


BMP = ("--more-suffixes", ".bmp")


def test_inspect_tells_of_them_what_it_tells_of_others(tmp_path: Path) -> None:
    for suffix in (".png", ".bmp"):
        write(tmp_path / suffix, suffix)
    plain = typed("inspect", tmp_path / ".png")
    assert typed("inspect", tmp_path / ".bmp", *BMP) == plain.replace(".png", ".bmp")
    assert f"{SIZE}x{SIZE}" in plain
    assert "--more-suffixes .bmp reads such images" in typed("inspect", tmp_path / ".bmp", code=2)
    (unlabelled := tmp_path / "all").mkdir()
    (tmp_path / ".bmp/A/m.0/m.0_0001.bmp").rename(unlabelled / "a.bmp")
    assert inspect(unlabelled, more=(".bmp",)).groups[0].headers.sizes == {f"{SIZE}x{SIZE}": 1}


def test_inspect_says_how_a_list_of_them_is_read(tmp_path: Path) -> None:
    write(tmp_path, ".bmp")
    names = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.[bB]*"))
    rows = [f"{path},{path.parent.name},A\n" for path in names]
    (tmp_path / "list.csv").write_text("path,identity,group\n" + "".join(rows))
    told = typed("inspect", tmp_path / "list.csv", code=1)
    assert told.count("no JPEG, PNG or WebP image; data.more_suffixes: [.bmp] or --more-") == 4
    assert f"{SIZE}x{SIZE}" in typed("inspect", tmp_path / "list.csv", *BMP)


def test_make_pairs_pairs_them(tmp_path: Path) -> None:
    for suffix in (".png", ".bmp"):
        for group in "ABCD":
            write(tmp_path / suffix / group, suffix)
            for folder in (tmp_path / suffix / group / "A").iterdir():
                folder.rename(tmp_path / suffix / "A" / f"{group}{folder.name}")
    lists = {}
    for suffix, more in ((".png", ()), (".bmp", BMP)):
        root = tmp_path / suffix
        arguments = ("make-pairs", root, "--groups", "A", "--folds", 2, "--output")
        typed(*arguments, root / "pairs.csv", *more)
        lists[suffix] = (root / "pairs.csv").read_text().lower()
    assert lists[".bmp"] == lists[".png"].replace(".png", ".bmp")
    assert "found no image" in typed(*arguments, tmp_path / ".bmp/x.csv", code=2)


def test_detect_landmarks_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mstkd.data.detection.load_detector", lambda name: lambda pixels: POINTS)
    write(tmp_path, ".bmp")
    arguments = ("detect-landmarks", tmp_path, "--detector", "x", "--output", tmp_path / "l.csv")
    assert "found no image" in typed(*arguments, code=2)
    assert "images without a face: 0" in typed(*arguments, *BMP)
    assert set(read_landmarks_csv(tmp_path / "l.csv").values()) == {POINTS}
    assert len(read_landmarks_csv(tmp_path / "l.csv")) == 4


@pytest.mark.parametrize(
    ("value", "found"),
    [("", "''"), ("bmp", "'bmp'"), (".gif", "'.gif'"), (".png", "'.png'"), (".bmp,", "''")],
)
def test_other_values_of_the_option_are_one_line(tmp_path: Path, value: str, found: str) -> None:
    told = typed("inspect", tmp_path, "--more-suffixes", value, code=2)
    assert told.count("\n") == 1
    assert told.startswith("mstkd: error: --more-suffixes: more_suffixes.")
    assert f"found {found}; expected Input should be '.bmp', '.jpe', '.pgm'" in told


# ---------------------------------------------------------------- the decoder


def test_every_suffix_has_a_format() -> None:
    assert set(MORE_FORMATS) == set(get_args(Suffix))


def test_sixteen_bits_are_cut_to_the_high_byte() -> None:
    grey = noise(SIZE, SIZE).astype(np.uint16) * 256 + 200
    for kind in ("TIFF", "PPM"):
        read = decode(encoded(grey, kind), SIZE, EVERY)
        np.testing.assert_array_equal(read, np.stack([grey >> 8] * 3, axis=2))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_tiff_file_is_applied_once(orientation: int) -> None:
    pixels = noise(SIZE, SIZE, 3)
    tags = Image.Exif()
    tags[0x0112] = orientation
    found = decode(encoded(pixels, "TIFF", exif=tags), SIZE, EVERY)
    expected = decode(encoded(pixels, "PNG", exif=tags), SIZE)
    np.testing.assert_array_equal(found, expected)


def tiled(side: int) -> bytes:
    """A grey TIFF file of 16x16 pixels in one tile, by the tags of TIFF 6.0, that is so large."""
    tags = {256: SIZE, 257: SIZE, 258: 8, 259: 1, 262: 1, 277: 1, 322: side, 323: side}
    begin = 8 + 2 + 12 * (len(tags) + 2) + 4
    tags |= {324: begin, 325: SIZE * SIZE}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    return head + entries + bytes(4) + bytes(SIZE * SIZE)


def test_what_is_too_large_or_has_no_white_is_refused() -> None:
    with pytest.raises(BadImage, match="10000x10000 pixels, more than 50,000,000"):
        decode(b"P5 10000 10000 255\n", formats=EVERY)
    with pytest.raises(BadImage, match="floating-point samples"):
        decode(encoded(np.ones((SIZE, SIZE), np.float32), "TIFF"), formats=EVERY)
    assert decode(tiled(SIZE), formats=EVERY).shape == (SIZE, SIZE, 3)
    with pytest.raises(BadImage, match="tiles of 65520x65520 pixels, more than 50,000,000"):
        decode(tiled(65_520), formats=EVERY)


GOOD = [
    encoded(noise(SIZE, SIZE, 3), "BMP"),
    encoded(noise(SIZE, SIZE, 3), "PPM"),
    b"P2 4 4 255\n" + b" ".join(b"%d" % n for n in range(16)) + b"\n",
    encoded(noise(SIZE, SIZE, 3), "TIFF"),
    encoded(noise(SIZE, SIZE, 3), "TIFF", compression="tiff_lzw"),
    encoded(noise(SIZE, SIZE, 3), "TIFF", compression="tiff_adobe_deflate"),
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own words of what is damaged
@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(GOOD),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    st.floats(0, 1),
)
def test_what_is_damaged_is_pixels_or_a_bad_image(
    data: bytes, edits: list[tuple[float, int]], kept: float
) -> None:
    damaged = bytearray(data)
    for place, value in edits:
        damaged[int(place * min(len(damaged), 200 if value % 2 else len(damaged)))] = value
    try:
        read = decode(bytes(damaged[: max(1, int(kept * len(damaged)))]), formats=EVERY)
    except BadImage:
        return
    assert (read.dtype, read.ndim, read.shape[2]) == (np.uint8, 3, 3)
