"""A listing of files changes with their names, sizes and times, and with nothing else."""

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import write_images

from mstkd.artifacts.records import read_record
from mstkd.config import AlignmentSettings, PackSettings
from mstkd.data.packing import pack_train
from mstkd.data.watched import Noted, listing, listing_path, noting, watched


@pytest.fixture
def images(tmp_path):
    write_images(tmp_path / "train", "A", 2, 3, np.random.default_rng(0))
    return tmp_path / "train/A"


def replace(folder):
    path = folder / "A0/A0_0001.png"
    data, times = path.read_bytes(), path.stat()
    path.write_bytes(data + b"x")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


CHANGES = {
    "another size": replace,
    "another time": lambda folder: os.utime(folder / "A1/A1_0002.png"),
    "one more": lambda folder: shutil.copy2(folder / "A0/A0_0001.png", folder / "A0/new.png"),
    "one less": lambda folder: (folder / "A1/A1_0003.png").unlink(),
    "another name": lambda folder: (folder / "A0").rename(folder / "A2"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(images, change):
    before = listing([images])
    assert before == listing([images])
    assert before.files == 6
    CHANGES[change](images)
    assert listing([images]) != before


def test_a_moved_folder_is_the_same(images, tmp_path):
    before = listing([images])
    images.parent.rename(tmp_path / "elsewhere")
    assert listing([tmp_path / "elsewhere/A"]) == before


def test_links_that_lead_back_end(images):
    (images / "A0/loop").symlink_to(images)
    (images / "A0/nowhere.png").symlink_to(images / "none")
    assert listing([images]).files == 7


def test_what_is_gone_and_what_is_no_folder_has_a_state(images, tmp_path):
    gone = listing([tmp_path / "none"])
    (tmp_path / "none").write_text("a list")
    assert listing([tmp_path / "none"]) != gone


def test_a_pack_notes_what_it_was_made_from(images, tmp_path):
    settings = PackSettings(root=images.parent, group="A", image_size=16, on_bad_image="error")
    output = tmp_path / "packs/A.h5"
    with noting("pack-train", settings, output):
        pack_train(settings, output=output)
    noted = read_record(Noted, listing_path(output))
    assert noted.is_of(listing(watched(settings)))
    with h5py.File(output) as file:
        assert noted.content == file.attrs["sha256"].decode()
    os.utime(images / "A0/A0_0001.png")
    assert not noted.is_of(listing(watched(settings)))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"root": "/d/train"}, ["/d/train/A"]),
        (
            {"root": "/d/faces.REC", "groups": "/d/a.lst"},
            ["/d/faces.REC", "/d/faces.idx", "/d/faces.lst", "/d/a.lst"],
        ),
        ({"root": "/d/list.csv"}, ["/d"]),
        ({"root": "/d/A.bin"}, ["/d/A.bin"]),
        ({"root": "/d/train", "exclude": "/d/rfw"}, ["/d/train/A", "/d/rfw"]),
        (
            {"root": "/d/train", "alignment": AlignmentSettings(landmarks="/d/marks.csv")},
            ["/d/train/A", "/d/marks.csv"],
        ),
    ],
)
def test_where_each_kind_of_data_is_looked_at(given, expected):
    settings = PackSettings(group="A", image_size=16, on_bad_image="error", **given)
    assert [str(path) for path in watched(settings)] == expected


@pytest.mark.parametrize(
    ("output", "place"),
    [
        ("results/packs/train/A.h5", "results/.packs/train/A.h5.files.json"),
        ("results/e/packs/unlabelled.h5", "results/e/.packs/unlabelled.h5.files.json"),
        ("/packs/results/data/index.csv", "/packs/results/data/.index.csv.files.json"),
        ("elsewhere/A.h5", "elsewhere/.A.h5.files.json"),
    ],
)
def test_who_deletes_packs_leaves_what_they_were_made_from(output, place):
    assert listing_path(Path(output)) == Path(place)
