"""Several packers of one output, and packers whose work does not reach the disk."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flips import alike, all_of_a_pack
from killedruns import IN_THE_THIRD_CHUNK, count_decoded, kill, partial_folder
from packs import settings_of, write_faces
from scripts import Script, scripts

from mstkd.config import PackSettings
from mstkd.data import partial
from mstkd.data.pack import check_pack, open_pack
from mstkd.data.packing import pack_train
from mstkd.data.sources import FaceImage
from mstkd.errors import InputError

# Says when it decodes the sixth image, in the second chunk, and waits there for a line.
STOPPING = """
import errno, fcntl, sys
from pathlib import Path
from mstkd.config import PackSettings
from mstkd.data import packing, partial

if sys.argv[3] == "no locks":
    def refuse(*of):
        raise OSError(errno.ENOLCK, "No locks available")
    fcntl.flock = refuse
decoded = 0

def decode_and_wait(*image):
    global decoded
    decoded += 1
    if decoded == 6:
        print("in the second chunk", flush=True)
        sys.stdin.readline()
    return whole(*image)

partial.CHUNK = 4
whole, partial.face_pixels = partial.face_pixels, decode_and_wait
packing.pack_train(PackSettings.model_validate_json(sys.argv[1]), output=Path(sys.argv[2]))
"""
both_storages = pytest.mark.parametrize("storage", ["pixels", "encoded"])


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "CHUNK", 4)


@pytest.fixture
def settings(tmp_path: Path, storage: str) -> PackSettings:
    write_faces(tmp_path / "faces")
    return settings_of(tmp_path / "faces", storage=storage)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "A.h5"


Start = Callable[..., Script]  # takes "no locks" where there are none


@pytest.fixture
def start(settings: PackSettings, output: Path) -> Iterator[Start]:
    """A function that starts a packer of one output."""
    with scripts() as start:
        yield lambda locks="locks": start(STOPPING, settings.model_dump_json(), output, locks)


def assert_whole(output: Path, settings: PackSettings) -> None:
    """The pack is that of the images, pixel for pixel, and nothing lies beside it."""
    check_pack(output)
    pack = open_pack(output)
    pixels = [partial.face_pixels(_image(settings, name), 16, None) for name in pack.image_paths()]
    np.testing.assert_array_equal(pack.images[:], pixels)
    assert [bytes(one) for one in pack.digests] == [partial.pixel_digest(one) for one in pixels]
    assert len(pixels) == 21
    assert list(output.parent.iterdir()) == [output]


def _image(settings: PackSettings, name: str) -> FaceImage:
    return FaceImage(settings.root / name, name, "")


@both_storages
def test_a_second_packer_that_is_killed_does_no_harm(
    start: Start, settings: PackSettings, output: Path
) -> None:
    """It once took away the first one's chunks, whose images were black in the sealed pack."""
    first = start()
    assert first.says() == "in the second chunk"
    second = start()
    assert f"{output}: waiting for process {first.pid} on " in second.complains()
    second.kill()
    first.end()
    assert_whole(output, settings)


@both_storages
def test_a_second_packer_waits_and_finds_the_work_done(
    start: Start, settings: PackSettings, output: Path
) -> None:
    first = start()
    assert first.says() == "in the second chunk"
    second = start()
    assert "waiting for process" in second.complains()
    first.end()
    before = output.stat()
    told = "pack train A: another process has packed the same images meanwhile"
    assert second.complains() == told
    second.end()
    assert output.stat() == before
    assert_whole(output, settings)


@both_storages
def test_who_waited_for_a_killed_packer_goes_on_with_its_work(
    start: Start, settings: PackSettings, output: Path
) -> None:
    first = start()
    assert first.says() == "in the second chunk"
    second = start()
    assert "waiting for process" in second.complains()
    first.kill()
    assert second.complains() == "pack train A: 4 of 21 images taken over from an earlier run"
    second.end()
    assert_whole(output, settings)


@both_storages
def test_who_waited_for_other_work_does_its_own(
    start: Start, settings: PackSettings, output: Path
) -> None:
    first = start()
    assert first.says() == "in the second chunk"
    (settings.root / "A/m.0a/ü 0.png").touch()
    second = start()
    assert "waiting for process" in second.complains()
    first.end()
    assert second.says() == "in the second chunk"
    second.end()
    assert_whole(output, settings)


@both_storages
def test_without_locks_two_packers_do_each_other_no_harm(
    start: Start, settings: PackSettings, output: Path
) -> None:
    first, second = start("no locks"), start("no locks")
    for packer in (first, second):
        assert packer.says() == "in the second chunk"
        assert "the file system has no locks" in packer.complains()
    second.end()
    assert len(open_pack(output).images) == 21
    first.end()
    assert_whole(output, settings)


# ---------------------------------------------------------------- what does not reach the disk


@both_storages
def test_a_write_that_never_happened_is_seen_before_the_pack_is_there(
    settings: PackSettings, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode_chunk = partial._decode_chunk

    def lose_the_third_image(chunk: Any) -> Any:
        done = decode_chunk(chunk)
        sizes = done.sizes if chunk.storage == "encoded" else [16 * 16 * 3] * len(chunk.images)
        if chunk.number == 0:
            with chunk.target.open("r+b") as file:
                file.seek(chunk.offset + sum(sizes[:2]))
                file.write(bytes(sizes[2]))
        return done

    with monkeypatch.context() as patch:
        patch.setattr(partial, "_decode_chunk", lose_the_third_image)
        with pytest.raises(InputError) as error:
            pack_train(settings, output=output)
    found = "image 2: other bytes than were written"
    assert str(error.value) == f"{output}: found {found}; expected what was decoded; pack again"
    assert not output.exists()
    decoded = count_decoded(monkeypatch)
    pack_train(settings, output=output)
    assert len(decoded) == 4  # of the chunk that was not as it should be
    assert_whole(output, settings)


def test_of_several_halves_the_one_that_is_whole_is_taken_over(
    tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_faces(tmp_path / "faces")
    settings = settings_of(tmp_path / "faces")
    kill(IN_THE_THIRD_CHUNK, settings, output)
    good = partial_folder(output)
    for name in (".A.h5.00000000.partial", ".A.h5.00000001.partial"):  # read before it
        shutil.copytree(good, output.with_name(name))
        journal = output.with_name(name) / "journal"
        journal.write_text(journal.read_text().splitlines()[0] + "\n")
    (output.parent / ".A.h5.ffffffff.partial").mkdir()
    decoded = count_decoded(monkeypatch)
    pack_train(settings, output=output)
    assert len(decoded) == 21 - 8
    assert_whole(output, settings)


def test_what_was_damaged_since_it_was_killed_is_decoded_again(
    tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_faces(tmp_path / "faces")
    settings = settings_of(tmp_path / "faces")
    kill(IN_THE_THIRD_CHUNK, settings, output)
    folder = partial_folder(output)
    pack = bytearray((folder / "pack").read_bytes())
    pack[-21 * 16 * 16 * 3 + 5 * 16 * 16 * 3] ^= 1  # of the sixth image
    (folder / "pack").write_bytes(pack)
    decoded = count_decoded(monkeypatch)
    pack_train(settings, output=output)
    assert len(decoded) == 21 - 4
    assert_whole(output, settings)


@pytest.mark.parametrize("part", ["journal", "pack"])
def test_a_flipped_bit_of_half_a_pack_reaches_no_pack(
    tmp_path: Path, output: Path, part: str
) -> None:
    """Of its lines on what is done, and of all that the pack to be holds beside the images."""
    write_faces(tmp_path / "faces")
    settings = settings_of(tmp_path / "faces")
    pack_train(settings, output=tmp_path / "whole.h5")
    whole = all_of_a_pack(tmp_path / "whole.h5")
    kill(IN_THE_THIRD_CHUNK, settings, output)
    killed = partial_folder(output)
    saved = tmp_path / "saved"
    killed.rename(saved)
    good = (saved / part).read_bytes()
    for place in random.Random(0).sample(range(8 * len(good)), 30):
        damaged = bytearray(good)
        damaged[place // 8] ^= 1 << place % 8
        shutil.copytree(saved, killed)
        (killed / part).write_bytes(damaged)
        pack_train(settings, output=output)
        assert alike(all_of_a_pack(output), whole), place  # a bit that holds nothing may stay
        assert list(output.parent.iterdir()) == [output]
        output.unlink()
