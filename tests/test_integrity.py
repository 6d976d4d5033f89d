"""What is read is what was written, or one line says that it is not."""

from __future__ import annotations

import collections
import contextlib
import io
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from flips import UNSEEN, flips, make
from networks import save_teacher, subject
from packs import settings_of, write_faces
from typer.testing import CliRunner

from mstkd.artifacts import sealed
from mstkd.artifacts.contents import content_sha256, format_of
from mstkd.artifacts.lineage import lineage, lineage_lines
from mstkd.artifacts.records import ModelRecord, file_sha256, read_record
from mstkd.artifacts.sealed import is_as_written
from mstkd.artifacts.told import made_by, told_by
from mstkd.cli.app import app
from mstkd.config import CacheSettings
from mstkd.data.loader import FaceBatches
from mstkd.data.pack import open_pack
from mstkd.data.packing import pack_train
from mstkd.embeddings import cache, embed
from mstkd.embeddings.cache import cache_embeddings, open_cache
from mstkd.errors import InputError
from mstkd.evaluation.embedded import read_embeddings
from mstkd.evaluation.scorefiles import read_scores

FILES = (
    "pixels.h5",
    "encoded.h5",
    "verification.h5",
    "cache.h5",
    "checkpoint.pt",
    "scores.h5",
    "samples.png",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Callable[..., Any]]]:
    folder = tmp_path_factory.mktemp("files")
    with contextlib.redirect_stderr(io.StringIO()):
        return {path.name: (path, read) for path, read in make(folder).items()}


@pytest.fixture
def copy(made: dict[str, Any], tmp_path: Path) -> Callable[[str], Path]:
    """A file of that name, to be spoiled."""

    def copied(name: str) -> Path:
        (tmp_path / name).write_bytes(made[name][0].read_bytes())
        return tmp_path / name

    return copied


@pytest.mark.parametrize("name", FILES)
def test_no_flipped_bit_goes_unseen(made: dict[str, Any], name: str) -> None:
    """Some 80 of them, spread over the file; `python tests/flips.py` turns over any number."""
    path, read = made[name]
    found = collections.Counter()
    for byte, bit, outcome in flips(path, read, 80, seed=2):
        assert outcome != UNSEEN, (byte, bit)
        found[outcome] += 1
    assert found["refused"] > 40, found


# ---------------------------------------------------------------- packs


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 16
    path.write_bytes(data)


def pixel_of(path: Path, row: int) -> int:
    """Where a byte of an image lies in the file."""
    with h5py.File(path) as file:
        if "images" in file:
            return int(file["images"].id.get_offset()) + row * 16 * 16 * 3 + 7
        begin = int(file["encoded"].id.get_offset()) + int(file["offsets"][row])
        return begin + 30


@pytest.mark.parametrize("name", ["pixels.h5", "encoded.h5"])
def test_only_the_image_that_is_damaged_is_refused(copy: Callable[[str], Path], name: str) -> None:
    path = copy(name)
    flip(path, pixel_of(path, 5))
    images = open_pack(path).images
    assert images[np.array([0, 4, 6, 0])].shape == (4, 16, 16, 3)
    for rows in (5, slice(4, 7), np.array([20, 5]), np.arange(21) == 5):
        with pytest.raises(InputError) as error:
            images[rows]
        assert str(error.value) == (
            f"{path}: found image 5: other bytes than were written; "
            f"expected a whole file; rm {path} and run again"
        )


@pytest.mark.parametrize("name", ["pixels.h5", "encoded.h5"])
def test_training_stops_at_a_damaged_image(copy: Callable[[str], Path], name: str) -> None:
    path = copy(name)
    flip(path, pixel_of(path, 12))
    batches = FaceBatches(
        [open_pack(path)], split=None, batch_size=3, seed=0, device=torch.device("cpu")
    )
    with pytest.raises(InputError, match="image 12: other bytes"):
        list(batches.epoch(0))


def test_an_image_is_compared_when_it_is_read_first(
    copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mstkd.artifacts import sealed

    compared = []
    whole = sealed.piece_checksum

    def count(stored: Any) -> int:
        compared.append(stored)
        return whole(stored)

    images = open_pack(copy("pixels.h5")).images
    monkeypatch.setattr(sealed, "piece_checksum", count)
    images[np.array([3, 1])]
    assert len(compared) == 2
    images[np.array([1, 2, 3])]
    images[0:4]
    assert len(compared) == 4
    images[:]
    assert len(compared) == 21


def moved(file: Any, name: str, target: Any) -> None:
    del file[name]
    file[name] = target


def into_a_group(file: Any) -> None:
    file.move("identity", "other/identity")
    file["identity"] = h5py.SoftLink("/other/identity")


def outside(file: Any) -> None:
    """The pixels, from any file that the reader may read."""
    shape = file["images"].shape
    del file["images"]
    file.create_dataset("images", shape, "u1", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def virtual(file: Any) -> None:
    shape = file["images"].shape
    layout = h5py.VirtualLayout(shape, "u1")
    layout[:] = h5py.VirtualSource("/elsewhere.h5", "images", shape)
    del file["images"]
    file.create_virtual_dataset("images", layout)


def replaced(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any], None]:
    def replace(file: Any) -> None:
        values = change(file[name][:])
        del file[name]
        file[name] = values

    return replace


def more(name: str) -> Callable[[Any], None]:
    return lambda file: file.create_dataset(name, data=np.arange(3))


@pytest.mark.parametrize(
    ("name", "change", "found"),
    [
        ("pixels.h5", lambda f: moved(f, "identity", h5py.SoftLink("/digests")),
         "a damaged file (identity is a link to elsewhere)"),
        ("pixels.h5", lambda f: moved(f, "images", h5py.ExternalLink("other.h5", "images")),
         "a damaged file (images is a link to elsewhere)"),
        ("pixels.h5", lambda f: moved(f, "paths", h5py.ExternalLink("other.h5", "paths")),
         "a damaged file (paths is a link to elsewhere)"),
        ("pixels.h5", into_a_group, "a damaged file (identity is a link to elsewhere)"),
        ("pixels.h5", lambda f: f.create_group("other"), "a damaged file (other is no data set)"),
        ("pixels.h5", outside, "a damaged file (images lies in another file)"),
        ("pixels.h5", virtual, "a damaged file (images lies in another file)"),
        ("pixels.h5", more("extra"), "a damaged file (a data set extra, which has no meaning)"),
        ("pixels.h5", more("embeddings"), "a damaged file (a data set embeddings, which has no"),
        ("pixels.h5", replaced("identity", lambda v: v[:-5]), "identity int32 (16,)"),
        ("pixels.h5", replaced("identity", lambda v: v.astype(np.int64)), "identity int64 (21,)"),
        ("pixels.h5", replaced("identity", lambda v: v.astype(">i4")), "identity >i4 (21,)"),
        ("pixels.h5", replaced("digests", lambda v: v.ravel()), "digests uint8 (336,)"),
        ("pixels.h5", replaced("checksums", lambda v: v[1:]), "checksums uint64 (20,)"),
        ("pixels.h5", replaced("paths", lambda v: v[:-9]), "a damaged file ("),
        ("pixels.h5", replaced("images", lambda v: v[:, :8]), "images uint8 (21, 8, 16, 3)"),
        ("pixels.h5", replaced("images", lambda v: v.reshape(21, -1)), "images uint8 (21, 768)"),
        ("encoded.h5", replaced("offsets", lambda v: v[:-1]), "identity int32 (21,)"),
        ("encoded.h5", replaced("offsets", lambda v: v.astype(float)), "offsets float64 (22,)"),
        ("encoded.h5", replaced("encoded", lambda v: v[:-1]), "offsets that do not fit"),
        ("verification.h5", replaced("pairs", lambda v: v[:, 0]), "pairs int32 (4,)"),
        ("verification.h5", replaced("same", lambda v: v[:-1]), "same bool (3,)"),
        ("verification.h5", replaced("same", lambda v: ~v),
         "a damaged file (other contents than were written)"),
        ("cache.h5", replaced("labels", lambda v: v[:-5]), "labels int64 (16,)"),
        ("cache.h5", replaced("labels", lambda v: v.astype(np.int32)), "labels int32 (21,)"),
        ("cache.h5", replaced("labels", lambda v: v + 1), "other contents than were written"),
        ("cache.h5", replaced("embeddings", lambda v: v.astype(float)), "embeddings float64 (21,"),
        ("cache.h5", replaced("embeddings", lambda v: v.ravel()), "embeddings float16 (168,)"),
        ("cache.h5", replaced("embeddings", lambda v: v[:-5]), "labels int64 (21,)"),
        ("cache.h5", replaced("embeddings", lambda v: v[::-1]), "block 0: other bytes than were"),
        ("cache.h5", lambda f: moved(f, "labels", h5py.SoftLink("/offsets")),
         "labels is a link to elsewhere"),
    ],
)  # fmt: skip
def test_links_ranks_shapes_and_types_are_refused_on_opening(
    copy: Callable[[str], Path], name: str, change: Callable[[Any], None], found: str
) -> None:
    path = copy(name)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(InputError) as error:
        (open_cache if name == "cache.h5" else open_pack)(path)
    assert str(error.value).startswith(f"{path}: found {found}")
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- caches


@pytest.fixture
def teacher(tmp_path: Path, copy: Callable[[str], Path]) -> tuple[Path, Path]:
    """A teacher's weights and the pack that it was trained on."""
    pack = copy("pixels.h5")
    return save_teacher(tmp_path, subject("T-A"), [pack]), pack


@pytest.mark.parametrize(("value", "told"), [(float("nan"), "not finite"), (0.0, "zero")])
def test_an_embedding_without_a_direction_reaches_no_cache(
    tmp_path: Path,
    teacher: tuple[Path, Path],
    value: float,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forward, batches = embed.Extractor.forward, []

    def spoil(self: Any, images: torch.Tensor) -> torch.Tensor:
        embeddings = forward(self, images)
        batches.append(len(images))
        if len(batches) == 2:
            embeddings[3] = value
        return embeddings

    monkeypatch.setattr(embed, "BATCH", 8)
    monkeypatch.setattr(cache, "BATCH", 8)
    monkeypatch.setattr(embed.Extractor, "forward", spoil)
    weights, pack = teacher
    with pytest.raises(InputError) as error:
        cache_embeddings(
            CacheSettings(),
            teachers=[weights],
            packs=[pack],
            output=tmp_path / "c.h5",
            device="cpu",
        )
    assert str(error.value) == (
        f"teacher T-A: found an embedding that is {told} of image 11 of {pack} "
        f"({open_pack(pack).image_paths()[11]}); expected finite numbers that are not all zero"
    )
    assert not [path for path in tmp_path.iterdir() if "c.h5" in path.name]


def version(path: Path) -> tuple[int, int]:
    """Tells one file of a name from the next, whenever it was read."""
    state = path.stat()
    return state.st_ino, state.st_mtime_ns


def test_a_cache_that_another_process_has_made_is_left_as_it_is(
    tmp_path: Path, teacher: tuple[Path, Path]
) -> None:
    weights, pack = teacher
    output = tmp_path / "c.h5"
    for settings in (CacheSettings(), CacheSettings(), CacheSettings(dtype="float32")):
        before = version(output) if output.exists() else None
        cache_embeddings(settings, teachers=[weights], packs=[pack], output=output, device="cpu")
        assert (version(output) == before) == (before is not None and settings == CacheSettings())
    flip(output, -20)
    cache_embeddings(settings, teachers=[weights], packs=[pack], output=output, device="cpu")
    assert is_as_written(output, large=True)


# ---------------------------------------------------------------- weights and records


def test_weights_of_which_a_bit_is_flipped_are_refused(teacher: tuple[Path, Path]) -> None:
    from mstkd.models.weights import load_backbone

    load_backbone(teacher[0])
    flip(teacher[0], -3)
    with pytest.raises(InputError, match="other weights than its model"):
        load_backbone(teacher[0])


def test_a_record_of_which_a_digit_is_another_is_refused(teacher: tuple[Path, Path]) -> None:
    record = teacher[0].with_suffix(".json")
    good = record.read_text()
    told = read_record(ModelRecord, record)
    record.write_text(json.dumps(json.loads(good)))  # spaces hold nothing
    assert read_record(ModelRecord, record) == told
    for old, new in (('"seed": 0', '"seed": 1'), ('"image_size": 16', '"image_size": 32')):
        assert old in good
        record.write_text(good.replace(old, new))
        with pytest.raises(InputError) as error:
            read_record(ModelRecord, record)
        assert str(error.value).startswith(f"{record}: found other contents than were written;")
    older = {key: value for key, value in json.loads(good).items() if key != "record_sha256"}
    record.write_text(json.dumps(older))
    assert read_record(ModelRecord, record) == told


def test_a_model_holds_the_hash_of_its_history(teacher: tuple[Path, Path]) -> None:
    history = teacher[0].with_name("history.csv")
    record = read_record(ModelRecord, teacher[0].with_suffix(".json"))
    assert record.history_sha256 == file_sha256(history)
    assert lineage(history).results[0].unchanged is True
    flip(history, -3)
    assert lineage(history).results[0].unchanged is False


# ---------------------------------------------------------------- what mstkd provenance says


@pytest.mark.parametrize("name", ["pixels.h5", "encoded.h5", "cache.h5"])
def test_a_damaged_file_is_not_called_unchanged(copy: Callable[[str], Path], name: str) -> None:
    path = copy(name)
    told = CliRunner().invoke(app, ["provenance", str(path)])
    assert "  unchanged yes: all of it was read and compared" in told.stdout.splitlines()
    with h5py.File(path) as file:
        large = next(file[one] for one in ("images", "encoded", "embeddings") if one in file)
        begin, size = large.id.get_offset(), large.id.get_storage_size()
    flip(path, begin + size // 2)
    told = CliRunner().invoke(app, ["provenance", str(path)])
    assert told.exit_code == 0
    assert "  unchanged NO, it was edited or damaged" in told.stdout.splitlines()


def test_provenance_says_what_it_did_not_read(tmp_path: Path, teacher: tuple[Path, Path]) -> None:
    weights, pack = teacher
    output = tmp_path / "c.h5"
    cache_embeddings(CacheSettings(), teachers=[weights], packs=[pack], output=output, device="cpu")
    told = lineage(output)
    read = {Path(result.path).name: (result.unchanged, result.read) for result in told.results}
    assert read["c.h5"] == (True, "all")
    assert read["pixels.h5"] == (True, "all but what is large")
    assert (
        "Of packs and caches above, all but images and embeddings was read and compared; "
        "asked for by name, a file is read whole."
    ) in lineage_lines(told)
    with h5py.File(pack) as file:
        identity = file["identity"].id.get_offset()
    flip(pack, identity)
    (source,) = [one for one in lineage(output).results[0].sources if one.path == str(pack)]
    assert source.state == "changed"


# ---------------------------------------------------------------- others' embeddings


def linked(file: Any, name: str, other: Path) -> None:
    file[name] = h5py.ExternalLink(str(other), name)


def soft(file: Any, name: str, other: Path) -> None:
    file[name] = h5py.SoftLink(f"/of/{name}")
    file[f"of/{name}"] = h5py.ExternalLink(str(other), name)


def kept_outside(file: Any, name: str, other: Path) -> None:
    file.create_dataset(name, (3, 4), "f4", external=[(str(other), 0, 48)])


def put_together(file: Any, name: str, other: Path) -> None:
    layout = h5py.VirtualLayout((3, 4), "f4")
    layout[:] = h5py.VirtualSource(str(other), name, (3, 4))
    file.create_virtual_dataset(name, layout)


@pytest.mark.parametrize("way", [linked, soft, kept_outside, put_together])
def test_embeddings_of_another_file_are_refused(
    tmp_path: Path, way: Callable[[Any, str, Path], None]
) -> None:
    other, path = tmp_path / "other.h5", tmp_path / "e.h5"
    with h5py.File(other, "w") as file:
        file["embeddings"] = np.eye(3, 4, dtype=np.float32)
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=list("abc"), dtype=h5py.string_dtype())
        way(file, "embeddings", other)
    with pytest.raises(InputError, match=r"found embeddings (is a link to elsewhere|lies in ano)"):
        read_embeddings(path)


def test_embeddings_without_names_are_refused(tmp_path: Path) -> None:
    for names, told in ((None, "no images"), ([["a"], ["b"]], r"images \(2, 1\)")):
        path = tmp_path / "e.h5"
        with h5py.File(path, "w") as file:
            file["embeddings"] = np.eye(2, 4, dtype=np.float32)
            if names is not None:
                file.create_dataset("images", data=names, dtype=h5py.string_dtype())
        with pytest.raises(InputError, match=f"found {told}; expected an .npz or HDF5"):
            read_embeddings(path)


# ---------------------------------------------------------------- files that crash HDF5


def crash(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def loop(path: Path) -> None:
    while True:
        pass


@pytest.mark.parametrize(("look", "name"), [(crash, "SIGSEGV"), (loop, "SIGALRM")])
def test_a_file_on_which_hdf5_crashes_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: Callable[[Path], None], name: str
) -> None:
    write_faces(tmp_path / "faces")
    pack_train(settings_of(tmp_path / "faces"), output=tmp_path / "A.h5")
    other = tmp_path / "B.h5"
    shutil.copy(tmp_path / "A.h5", other)
    monkeypatch.setattr(sealed, "_look_at", look)
    monkeypatch.setattr(sealed, "SECONDS", 1)
    for read in (open_pack, open_cache, read_scores):
        with pytest.raises(InputError, match=f"HDF5 ended by {name} on it"):
            read(other)
    assert len(content_sha256(other)) == 64
    assert sealed.is_as_written(other, large=True) is False


# Of the heap of texts of variable length (HDF5 file format III.E): the size of its first text.
HEAP, SIZE_OF_A_TEXT = b"GCOL", 24


def a_heap_without_end(path: Path, name: str) -> Path:
    """A file whose attribute, of variable length, HDF5 reads for ever: a single bit is turned."""
    with h5py.File(path, "w", libver="earliest") as file:
        file.attrs[name] = "mstkd-pack"
    data = bytearray(path.read_bytes())
    data[data.index(HEAP) + SIZE_OF_A_TEXT] ^= 1 << 7
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (open_pack, "format"),
        (open_cache, "format"),
        (read_scores, "format"),
        (told_by, "provenance"),
        (lambda path: told_by(path, large=True), "provenance"),
        (made_by, "provenance"),
        (lambda path: format_of(path) or made_by(path), "format"),
        (lambda path: content_sha256(path) and made_by(path), "sha256"),
    ],
)
def test_no_attribute_of_variable_length_is_read(
    tmp_path: Path, read: Callable[[Path], Any], name: str
) -> None:
    """Not even in the process that may crash: it is in this one that HDF5 would go round."""
    path = a_heap_without_end(tmp_path / "a.h5", name)
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        with contextlib.suppress(InputError):
            read(path)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
