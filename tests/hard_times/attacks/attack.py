"""Files made to harm, and what mstkd says to each.

    PYTHONPATH=.:tests python tests/hard_times/attacks/attack.py [FOLDER]

Each attack writes its file into a folder and lets mstkd read it. An attack that runs code would
leave a file `pwned` there, and nothing worse. README.md says what each would do elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import pickle
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import xxhash
from packs import settings_of, write_faces
from PIL import Image

from mstkd.config import Config, read_settings
from mstkd.data.decode import BadImage, decode
from mstkd.data.formats.bins import read_bin
from mstkd.data.formats.listing import read_listing
from mstkd.data.pack import open_pack
from mstkd.data.packing import pack_train
from mstkd.errors import InputError
from mstkd.evaluation.embedded import read_embeddings
from mstkd.evaluation.scorefiles import read_scores
from mstkd.models.weights import load_weights
from mstkd.training.checkpoint import Checkpoint, _head

PWNED = "pwned"


class Runs:
    """Unpickled, it runs a command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.folder / PWNED}'",)


def verification_pickle(folder: Path) -> None:
    path = folder / "A_test.bin"
    path.write_bytes(pickle.dumps(([Runs(folder)], [True])))
    read_bin(path)


def verification_pickle_by_names(folder: Path) -> None:
    """No class of ours in it: opcodes that look up `getattr` in `builtins`, of protocol 4."""
    path = folder / "A_test.bin"
    path.write_bytes(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x0213\x85R.")
    read_bin(path)


def checkpoint(folder: Path) -> None:
    body = io.BytesIO()
    torch.save({"run": "run", "state": Runs(folder)}, body)
    data = body.getvalue()
    path = folder / "checkpoint.pt"
    path.write_bytes(_head(xxhash.xxh3_128(data)) + data)
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        assert Checkpoint(folder / "model.safetensors", "run").load() is None
    raise InputError(path, found=told.getvalue().rstrip("\n"), expected="a checkpoint")


def config_tag(folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_text(f"groups: !!python/object/apply:os.system ['touch {folder / PWNED}']\n")
    read_settings(Config, str(path))


def object_array(folder: Path) -> None:
    path = folder / "x.npz"
    array = np.empty(1, object)
    array[0] = Runs(folder)
    np.savez(path, embeddings=array, images=np.array(["a"]))
    read_embeddings(path)


def zip_bomb(folder: Path) -> None:
    path = folder / "x.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (500_000, 512)}
    )
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file,
        file.open("embeddings.npy", "w", force_zip64=True) as part,
    ):
        part.write(header.getvalue())
        for _ in range(200):
            part.write(bytes(5_120_000))
    read_embeddings(path)


def _good_pack(folder: Path) -> Path:
    write_faces(folder / "faces")
    pack_train(settings_of(folder / "faces"), output=folder / "A.h5")
    return folder / "A.h5"


def external_link(folder: Path) -> None:
    path = _good_pack(folder)
    with h5py.File(path, "r+") as file:
        del file["images"]
        file["images"] = h5py.ExternalLink("/etc/passwd", "images")
    open_pack(path)


def external_bytes(folder: Path) -> None:
    """A data set whose bytes lie in another file."""
    path = _good_pack(folder)
    with h5py.File(path, "r+") as file:
        shape = file["images"].shape
        del file["images"]
        file.create_dataset("images", shape, "u1", external=[("/etc/passwd", 0, 1 << 30)])
    open_pack(path)


def climbing_path(folder: Path) -> None:
    path = folder / "train.csv"
    path.write_text("path,identity,group\n../../../etc/passwd,a,A\n")
    read_listing(path, "A")


def safetensors_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    load_weights(torch.nn.Linear(1, 1), path)


def billion_laughs(folder: Path) -> None:
    path = folder / "config.yaml"
    lines = ["groups:\n- &a0 [x, x, x, x, x, x, x, x, x]\n"]
    lines += [f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)]
    path.write_text("".join(lines))
    read_settings(Config, str(path))


def picture_bomb(folder: Path) -> None:
    data = bytearray(_jpeg())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    path = folder / "face.jpg"
    path.write_bytes(data)
    try:
        decode(path)
    except BadImage as error:
        raise InputError(path, found=error.reason, expected="a picture") from None


def _jpeg() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, "JPEG")
    return data.getvalue()


def terminal_title(folder: Path) -> None:
    path = folder / "scores.csv"
    path.write_text("\x1b]0;you are hacked\x07\x1b[2J,same\n0.5,1\n")
    read_scores(path)


ATTACKS: dict[str, Callable[[Path], None]] = {
    attack.__name__: attack
    for attack in (
        verification_pickle,
        verification_pickle_by_names,
        checkpoint,
        config_tag,
        object_array,
        zip_bomb,
        external_link,
        external_bytes,
        climbing_path,
        safetensors_header,
        billion_laughs,
        picture_bomb,
        terminal_title,
    )
}


def refusal(name: str, folder: Path) -> str:
    """What mstkd says to an attack.

    Raises:
        AssertionError: it succeeded, or was not noticed.
    """
    try:
        ATTACKS[name](folder)
    except InputError as error:
        assert not (folder / PWNED).exists(), f"{name} has run code"
        return str(error)
    raise AssertionError(f"{name} was taken for a good file")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="where the files stay")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as own:
        for name in ATTACKS:
            folder = (given.folder or Path(own)) / name
            folder.mkdir(parents=True)
            print(f"{name}: {refusal(name, folder)[:300]}")


if __name__ == "__main__":
    main()
