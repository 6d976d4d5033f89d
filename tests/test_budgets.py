"""Small files that ask for much: refused, or read in memory and time that go with their size."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from recordfiles import IMAGES, WORD, im2rec, part, write

from mstkd.data.decode import MOST_PIXELS, BadImage, decode
from mstkd.data.formats.bins import read_bin
from mstkd.data.formats.recordio import open_records
from mstkd.data.formats.unpickling import OPCODES, load_plain
from mstkd.errors import InputError
from mstkd.evaluation.embedded import read_embeddings


def peak(code: str) -> int:
    """Megabytes that some lines take, over what their imports do."""
    before = "import resource\nbefore = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
    after = "\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    imports, _, rest = code.partition("---\n")
    told = subprocess.run(
        [sys.executable, "-c", imports + before + rest + after],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(told.stdout) // 1024


def test_one_array_many_times_is_copied_once(tmp_path: Path) -> None:
    """20 MB named 200,000 times: copied each time, 4 TB."""
    array = np.zeros(20_000_000, np.uint8)
    array[:4] = 0xFF, 0xD8, 0xFF, 0xE0
    path = tmp_path / "A_test.bin"
    path.write_bytes(pickle.dumps(([array] * 200_000, [True, False] * 50_000)))
    found = read_bin(path)
    assert len(found.images) == 1 and len(found.pairs) == 100_000


@pytest.mark.slow
def test_empty_lists_stay_within_what_is_promised(tmp_path: Path) -> None:
    """Of each kind of value as many as there may be opcodes; `load_plain` promises 400 MB."""
    for opcode in (b"]", b")", b"N", b"}"):
        path = tmp_path / "many.bin"
        path.write_bytes(b"\x80\x04(" + opcode * (OPCODES - 10) + b"l.")
        code = f"""
from pathlib import Path
from mstkd.data.formats.unpickling import load_plain
from mstkd.errors import InputError
path = Path({str(path)!r})
---
data = path.read_bytes()
try:
    load_plain(data, path)
except InputError:
    pass
"""
        assert peak(code) < 400


def test_the_most_empty_lists_that_are_read(tmp_path: Path) -> None:
    data = b"\x80\x04(" + b"]" * (OPCODES + 1) + b"l."
    with pytest.raises(InputError, match="opcodes"):
        load_plain(data, tmp_path)


# ---------------------------------------------------------------- records


def test_records_that_share_their_parts_are_refused(tmp_path: Path) -> None:
    """Each of 200 first parts reaches to the same last one: read, that is 200 times the file."""
    count, size = 200, 40
    header = struct.pack("<IfQQ", 0, 1.0, 0, 0) + bytes(8)
    begun = b""
    for number in range(count):
        length = (count - number) * size - 8
        begun += WORD + struct.pack("<I", 1 << 29 | length) + header
    rec = tmp_path / "train.rec"
    rec.write_bytes(begun + part(3, bytes(1_000_000)))
    rec.with_suffix(".idx").write_text("".join(f"{n}\t{n * size}\n" for n in range(count)))
    with pytest.raises(InputError, match="record 0, byte 0: found a length of 7992 bytes"):
        open_records(rec)


def test_a_record_within_another_is_refused(tmp_path: Path) -> None:
    """The first record's bytes hold the second, and an index names both."""
    inner = part(0, struct.pack("<IfQQ", 0, 2.0, 1, 0) + b"image")
    outer = part(0, struct.pack("<IfQQ", 0, 1.0, 0, 0) + bytes(8) + inner)
    rec = tmp_path / "train.rec"
    rec.write_bytes(outer)
    rec.with_suffix(".idx").write_text(f"0\t0\n1\t{len(outer) - len(inner)}\n")
    with pytest.raises(InputError, match="record 0, byte 0"):
        open_records(rec)
    assert len(open_records(write(tmp_path / "good.rec", im2rec(IMAGES))).keys) == len(IMAGES)


# ---------------------------------------------------------------- pictures


def png_of(width: int, height: int) -> bytes:
    """A black PNG, which compresses to a thousandth."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + 3 * width)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    begin = b"\x89PNG\r\n\x1a\n"
    return begin + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_picture_of_too_many_pixels_is_not_decoded() -> None:
    side = int(MOST_PIXELS**0.5)
    data = png_of(side + 10, side)
    assert len(data) < 1_000_000
    with pytest.raises(BadImage, match=f"{side + 10}x{side} pixels, more than"):
        decode(data)


def test_a_jpeg_of_a_few_bytes_and_many_pixels() -> None:
    image = io.BytesIO()
    Image.new("RGB", (8, 8)).save(image, "JPEG")
    data = bytearray(image.getvalue())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 12_000, 14_000)
    with pytest.raises(BadImage, match="14000x12000 pixels, more than"):
        decode(bytes(data))


def test_a_photograph_as_large_as_may_be_is_read() -> None:
    side = int(MOST_PIXELS**0.5)
    assert decode(png_of(side, side)).shape == (side, side, 3)


def one_text_many_times(path: Path, times: int, length: int) -> Path:
    """Embeddings whose images' names are all one text of the file, in its heap."""
    with h5py.File(path, "w") as file:
        file["embeddings"] = np.ones((times, 1), np.float32)
        names = file.create_dataset("images", (times,), dtype=h5py.string_dtype())
        names[0] = "x" * length
        begin = names.id.get_offset()
    data = bytearray(path.read_bytes())
    data[begin : begin + 16 * times] = data[begin : begin + 16] * times
    path.write_bytes(data)
    return path


def test_one_name_many_times_is_not_unpacked(tmp_path: Path) -> None:
    """1 MB that would be 2 GB."""
    path = one_text_many_times(tmp_path / "e.h5", 2000, 1_000_000)
    code = f"""
from pathlib import Path
from mstkd.errors import InputError
from mstkd.evaluation.embedded import read_embeddings
---
try:
    read_embeddings(Path({str(path)!r}))
except InputError as error:
    assert "bytes once unpacked" in str(error), error
else:
    raise AssertionError
"""
    assert peak(code) < 600


def test_names_that_are_read_in_parts_are_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"a/{row}.png" for row in range(50)]
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file["embeddings"] = np.ones((50, 1), np.float32)
        file.create_dataset("images", data=names, dtype=h5py.string_dtype(), chunks=(8,))
    size = (tmp_path / "e.h5").stat().st_size
    monkeypatch.setattr("mstkd.evaluation.embedded.BESIDE_THE_FILE", 0)
    monkeypatch.setattr("mstkd.evaluation.embedded.TIMES_THE_FILE", 7)  # so many at a time
    assert size * 7 > 16 * 50
    assert list(read_embeddings(tmp_path / "e.h5").images) == names


def test_a_chunk_is_not_larger_than_may_be_unpacked(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "e.h5", "w") as file:
        many = {"chunks": (1 << 26, 1), "maxshape": (None, 1), "compression": "gzip"}
        file.create_dataset("embeddings", (2, 1), "f4", **many)
        file.create_dataset("images", data=["a", "b"], dtype=h5py.string_dtype())
    with pytest.raises(InputError, match="found 268,435,456 bytes once unpacked"):
        read_embeddings(tmp_path / "e.h5")
