"""Snakemake killed while its job goes on: what the same command finds, and does."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import yaml
from packs import settings_of
from PIL import Image
from processes import STUCK_SECONDS, started, wait_for
from runs import ROOT, SNAKEMAKE, TINY

from mstkd.data.pack import check_pack, open_pack
from mstkd.data.packing import pack_train
from mstkd.data.watched import listing_path

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
PACK, SLOW = Path("results/packs/train/A.h5"), Path("train/A/a3/15.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Training images, one of which comes through a pipe: who reads it waits for us."""
    random = np.random.default_rng(0)
    for number in range(20):
        path = tmp_path / f"train/A/a{number % 4}/{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    shutil.copytree(tmp_path / "train", tmp_path / "whole")
    (tmp_path / SLOW).unlink()
    os.mkfifo(tmp_path / SLOW)
    config = TINY | {"data": {"image_size": 16, "train": "train", "verification": "train"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


@pytest.fixture
def command(folder: Path) -> list[str | Path]:
    options = ["--directory", folder, "--configfile", folder / "config.yaml", "--cores", "1"]
    return [SNAKEMAKE, "--snakefile", ROOT / "Snakefile", *options]


@pytest.fixture
def pipe(folder: Path, command: list[str | Path]) -> Iterator[BinaryIO]:
    """Snakemake is killed, its job still waits at the pipe: the end of it that we write to."""
    output = folder / "snakemake.log"
    with (
        output.open("w") as log,
        started([*command, PACK], stdout=log, stderr=subprocess.STDOUT) as run,
    ):

        def opened() -> int | None:
            assert run.poll() is None, output.read_text()
            try:
                return os.open(folder / SLOW, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                assert error.errno == errno.ENXIO  # nobody reads it yet
                return None

        with open(wait_for(opened), "wb", buffering=0) as pipe:  # noqa: PTH123, a descriptor
            os.set_blocking(pipe.fileno(), True)
            run.kill()
            assert run.wait() == -signal.SIGKILL
            yield pipe


def test_the_same_command_waits_for_the_job_and_finds_its_pack(
    folder: Path, command: list[str | Path], pipe: BinaryIO
) -> None:
    locked = subprocess.run([*command, PACK], capture_output=True, text=True, check=False)
    assert locked.returncode != 0
    assert "can be removed with the --unlock argument" in locked.stderr + locked.stdout
    subprocess.run([*command, "--unlock"], check=True, capture_output=True)
    log = folder / "results/logs/pack_train/A.log"
    with started(
        [*command, "--rerun-incomplete", PACK],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as again:
        wait_for(lambda: again.poll() or (log.exists() and "waiting for" in log.read_text()))
        pipe.write((folder / "whole/A/a3/15.png").read_bytes())
        pipe.close()
        told, _ = again.communicate(timeout=STUCK_SECONDS)
    assert again.returncode == 0, told
    assert "another process has packed the same images meanwhile" in log.read_text()
    check_pack(folder / PACK)
    assert list((folder / PACK).parent.iterdir()) == [folder / PACK]
    assert list(listing_path(folder / PACK).parent.iterdir()) == [listing_path(folder / PACK)]
    pack_train(settings_of(folder / "whole"), output=folder / "plain.h5")
    plain, packed = open_pack(folder / "plain.h5"), open_pack(folder / PACK)
    assert packed.sha256 == plain.sha256
    np.testing.assert_array_equal(packed.images[:], plain.images[:])
