"""A writer of RecordIO files, made from the description of the format, apart from the reader."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

WORD = bytes.fromhex("0a23d7ce")
Item = tuple[int, bytes]  # a key and a payload


def part(kind: int, data: bytes) -> bytes:
    return WORD + struct.pack("<I", kind << 29 | len(data)) + data + bytes(-len(data) % 4)


def frame(payload: bytes) -> bytes:
    """A record, parted where the magic word stands at a multiple of 4 bytes."""
    pieces = [b""]
    for at in range(0, len(payload), 4):
        word = payload[at : at + 4]
        if word == WORD:
            pieces.append(b"")
        else:
            pieces[-1] += word
    if len(pieces) == 1:
        return part(0, pieces[0])
    kinds = [1] + [2] * (len(pieces) - 2) + [3]
    return b"".join(map(part, kinds, pieces))


def single(label: float, image: bytes = b"", *, number: int = 0) -> bytes:
    return struct.pack("<IfQQ", 0, label, number, 0) + image


def several(labels: Sequence[float], image: bytes = b"", *, number: int = 0) -> bytes:
    header = struct.pack("<IfQQ", len(labels), -5.0, number, 0)
    return header + struct.pack(f"<{len(labels)}f", *labels) + image


def im2rec(images: Sequence[tuple[int, bytes]]) -> list[Item]:
    return [(key, single(label, image, number=key)) for key, (label, image) in enumerate(images)]


def insightface(images: Sequence[tuple[int, bytes]]) -> list[Item]:
    """Images, record 0 and a range for each run of a label, in the order they are written."""
    items = [
        (key, several([label, 0], image, number=key))
        for key, (label, image) in enumerate(images, start=1)
    ]
    firsts = [
        key
        for key, (label, _) in enumerate(images, start=1)
        if key == 1 or images[key - 2][0] != label
    ]
    after = len(images) + 1
    items.append((0, several([after, after + len(firsts)])))
    for key, first, end in zip(range(after, 10**6), firsts, [*firsts[1:], after], strict=False):
        items.append((key, several([first, end], number=key)))
    return items


def write(rec: Path, items: Sequence[Item], *, index: bool = True) -> Path:
    lines = ""
    with rec.open("wb") as file:
        for key, payload in items:
            lines += f"{key}\t{file.tell()}\n"
            file.write(frame(payload))
    if index:
        rec.with_suffix(".idx").write_text(lines)
    return rec


IMAGES = [(0, b"first"), (0, b"second image"), (1, b"third"), (4, WORD), (4, b"fifth!!!")]
