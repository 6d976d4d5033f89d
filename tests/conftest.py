"""Small packs that tests of several modules share."""

import multiprocessing
from multiprocessing import forkserver

import h5py
import numpy as np
import pytest
from gloo import Team
from leftovers import _nothing_outlives_a_test, _nothing_outlives_the_tests, mark  # noqa: F401
from PIL import Image
from quickjobs import handed_to, serving
from runs import TINY, snakemake

from mstkd.config import PackSettings
from mstkd.data.packing import pack_train, pack_verification

SIZE = 16


def write_images(root, group, identities, images, rng):
    for identity in range(identities):
        folder = root / group / f"{group}{identity}"
        folder.mkdir(parents=True)
        for number in range(images):
            pixels = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{folder.name}_{number + 1:04}.png")


@pytest.fixture(scope="session")
def packs(tmp_path_factory):
    """Training packs of groups A (5 identities x 4 images) and B (3 x 4), of random pixels."""
    folder = tmp_path_factory.mktemp("packs")
    rng = np.random.default_rng(0)
    made = []
    for group, identities in (("A", 5), ("B", 3)):
        write_images(folder / "train", group, identities, 4, rng)
        settings = PackSettings(
            root=folder / "train", group=group, image_size=SIZE, on_bad_image="error"
        )
        made.append(folder / f"{group}.h5")
        pack_train(settings, output=made[-1])
    return made


@pytest.fixture(scope="session")
def verification_packs(tmp_path_factory):
    """Verification packs of groups A and B: 6 identities x 3 images, 12 pairs in 2 folds."""
    folder = tmp_path_factory.mktemp("verification")
    rng = np.random.default_rng(1)
    made = []
    for group in ("A", "B"):
        write_images(folder / "data", group, 6, 3, rng)
        lines = []
        for fold in (0, 3):
            lines += [f"{group}{fold + i}\t1\t{2 + i % 2}" for i in range(3)]
            lines += [f"{group}{fold + i}\t1\t{group}{fold + (i + 1) % 3}\t2" for i in range(3)]
        pairs = folder / "txts" / group / f"{group}_pairs.txt"
        pairs.parent.mkdir(parents=True)
        pairs.write_text("\n".join(lines) + "\n")
        settings = PackSettings(root=folder, group=group, image_size=SIZE, on_bad_image="error")
        made.append(folder / f"{group}.h5")
        pack_verification(settings, output=made[-1])
    return made


@pytest.fixture(scope="session")
def job_server():
    """The process whose forks quick jobs are, for all tests that want them."""
    with serving() as address:
        yield address


@pytest.fixture
def quick_jobs(job_server):
    """Jobs of this test's runs do not import torch anew.

    That they do as jobs of their own would, test_the_same_inputs_give_the_same_bytes holds.
    """
    with handed_to(job_server):
        yield


@pytest.fixture
def own_processes(quick_jobs, monkeypatch):
    """Jobs of this test are processes of their own all the same, as users' are."""
    monkeypatch.delenv("QUICK_JOBS")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, job_server):
    """A folder in which the tiny configuration has run to the end. To be copied, not written."""
    folder = tmp_path_factory.mktemp("tiny")
    with handed_to(job_server):
        snakemake(folder, TINY)
    return folder


@pytest.fixture
def pixels():
    """A function that reads a pack's images the plain way."""

    def read(path):
        with h5py.File(path) as file:
            return file["images"][:]

    return read


@pytest.fixture(scope="session")
def fork_server():
    """Imports torch once for all ranks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch", "mstkd.losses.head_loss", "mstkd.compute.synchronised"]
    )
    yield context
    forkserver._forkserver._stop()  # it would stay until this process ends


@pytest.fixture(scope="session", params=[2, 3], ids=["two ranks", "three ranks"])
def team(request, fork_server):
    """Two processes, then three, that run functions together over gloo."""
    started = Team(fork_server, request.param)
    yield started
    started.end()
