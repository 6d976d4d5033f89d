"""Resources that are not there: memory, open files, shared memory, GPUs, a writable disk, time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from law import Walks, World, differing, settle
from networks import BACKBONE, DIM, save_teacher, subject, teacher_settings
from packs import settings_of, write_faces, write_rfw
from processes import wait_for
from quickjobs import handed_to

from mstkd.config import SplitSettings
from mstkd.data.packing import pack_train, pack_verification
from mstkd.data.splits import split
from mstkd.embeddings.embed import Extractor
from mstkd.models.weights import build_backbone

MSTKD = (sys.executable, "-c", "from mstkd.cli.app import main; main()")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces, packs, a split and a teacher."""
    base = tmp_path_factory.mktemp("made")
    write_faces(base / "faces")
    pack_train(settings_of(base / "faces"), output=base / "A.h5")
    pack_verification(write_rfw(base / "rfw"), output=base / "V.h5")
    split(SplitSettings(), packs=[base / "A.h5"], outputs=[base / "1.csv", base / "2.csv"])
    save_teacher(base, subject("T-A"), [base / "A.h5"])
    return base


def steps(base: Path, out: Path, *more: object) -> dict[str, list[str]]:
    """Commands of the steps that read images and train."""
    weights = base / "specialized/T-A/seed0/model.safetensors"
    pack = settings_of(base / "faces").model_dump_json()
    told: dict[str, tuple[object, ...]] = {
        "pack-train": ("--settings", pack, "--output", out / "A.h5", "--threads", 2),
        "train-teacher": (
            *("--settings", teacher_settings().model_dump_json(), "--packs", base / "A.h5"),
            *("--split", base / "1.csv", "--selection", base / "V.h5"),
            *("--output", out / "T/model.safetensors", "--backbone", "tiny"),
            *("--set", "specialized", "--name", "T-A", "--seed", 0, *(more or ("--device", "cpu"))),
        ),
        "cache-embeddings": (
            *("--settings", "{}", "--teachers", weights, "--packs", base / "A.h5"),
            *("--output", out / "cache.h5", *(more or ("--device", "cpu"))),
        ),
        "evaluate": (
            *("--settings", '{"folds": 2}', "--model", weights, "--packs", base / "V.h5"),
            *("--scores", out / "scores.h5", "--metrics", out / "metrics.json"),
            *(more or ("--device", "cpu")),
        ),
    }
    return {name: [*MSTKD, name, *map(str, words)] for name, words in told.items()}


def run(command: Sequence[object], shell: str = "") -> subprocess.CompletedProcess[str]:
    """A command, after some words of a shell."""
    whole = ["bash", "-c", f'{shell}\nexec "$@"', "bash", *map(str, command)]
    return subprocess.run(whole, capture_output=True, text=True, check=False)


def the_line(done: subprocess.CompletedProcess[str]) -> str:
    """The last line, which tells the fault; there is no stack trace."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pack-train", "train-teacher"])
def test_64_open_files_are_enough(made: Path, tmp_path: Path, name: str) -> None:
    done = run(steps(made, tmp_path)[name], "ulimit -n 64")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["train-teacher", "evaluate"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told(made: Path, tmp_path: Path, name: str) -> None:
    line = the_line(run(steps(made, tmp_path, "--device", "cuda")[name]))
    assert line == "mstkd: error: --device: found no GPU; expected a GPU that torch can use"
    assert not list(tmp_path.rglob("*.safetensors"))


LIMITED = """
import resource
from pathlib import Path
import mstkd.training.teacher
from mstkd.cli.app import main
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400_000_000,) * 2)
main()
"""


def test_too_little_memory_says_what_to_reduce(made: Path, tmp_path: Path) -> None:
    """Of a network of 600 MB."""
    huge = teacher_settings(backbone={"blocks": (1, 1, 1, 1), "widths": (4096, 4096, 4, 4)})
    command = steps(made, tmp_path)["train-teacher"]
    command[command.index("--settings") + 1] = huge.model_dump_json()
    command[command.index("-c") + 1] = LIMITED
    line = the_line(run(command))
    assert line.startswith("mstkd: error: train-teacher: found too little memory (")
    assert "optimiser.batch_size" in line


# ---------------------------------------------------------------- a GPU's memory


class Small(torch.nn.Module):
    """Stands in for a network on a GPU that holds so many images at once."""

    def __init__(self, network: torch.nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most, self.seen = network, most, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(images))
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.network(images)


def test_a_full_gpu_embeds_fewer_at_a_time_with_the_same_result(
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.manual_seed(0)
    extractor = Extractor(build_backbone(BACKBONE, embedding_dim=DIM, image_size=16), CPU)
    images = torch.randn(13, 3, 16, 16)
    with torch.no_grad():
        whole = extractor(images)
        extractor.network = small = Small(extractor.network, 4)
        parts = extractor(images)
        assert torch.allclose(parts, whole, rtol=1e-6, atol=1e-7)
        assert small.seen == [13, 7, 4, 4, 4, 1]
        extractor(images)  # it is known now
        assert small.seen[6:] == [4, 4, 4, 1]
    told = capsys.readouterr().err.splitlines()
    assert told == [
        f"embedding: the GPU is out of memory; {n} images at a time, the same result"
        for n in (7, 4)
    ]


def test_a_compiled_network_is_not_padded_to_what_was_too_large() -> None:
    torch.manual_seed(0)
    extractor = Extractor(build_backbone(BACKBONE, embedding_dim=DIM, image_size=16), CPU)
    images = torch.randn(13, 3, 16, 16)
    with torch.no_grad():
        whole = extractor(images)
        extractor._compiled = small = Small(extractor.network, 4)
        parts = extractor(images)
        assert torch.allclose(parts, whole, rtol=1e-6, atol=1e-7)
        assert small.seen == [13, 7, 4, 4, 4, 4]


def test_a_gpu_that_holds_not_one_image_is_a_fault() -> None:
    extractor = Extractor(build_backbone(BACKBONE, embedding_dim=DIM, image_size=16), CPU)
    extractor.network = Small(extractor.network, 0)
    with pytest.raises(torch.OutOfMemoryError):
        extractor(torch.randn(5, 3, 16, 16))


# ---------------------------------------------------------------- mounts


def can_unshare() -> bool:
    told = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    return os.geteuid() == 0 and told.returncode == 0


needs_mounts = pytest.mark.skipif(
    shutil.which("unshare") is None or not can_unshare(), reason="only root can mount"
)


@needs_mounts
@pytest.mark.slow
@pytest.mark.parametrize("name", ["pack-train", "train-teacher", "cache-embeddings"])
def test_neither_shared_memory_nor_writable_inputs_are_needed(
    made: Path, tmp_path: Path, name: str
) -> None:
    mounts = f"mount -t tmpfs -o ro none /dev/shm && mount --bind -o ro {made} {made} || exit 9"
    command = ["unshare", "-m", "bash", "-c", f'{mounts}\nexec "$@"', "bash"]
    done = run([*command, *steps(made, tmp_path)[name]])
    assert done.returncode == 0, done.stderr


@needs_mounts
@pytest.mark.parametrize("name", ["pack-train", "evaluate"])
def test_an_output_that_cannot_be_written_is_told(made: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "T").mkdir()
    command = ["unshare", "-m", "bash", "-c"]
    command += [f'mount --bind -o ro {tmp_path} {tmp_path} || exit 9\nexec "$@"', "bash"]
    line = the_line(run([*command, *steps(made, tmp_path)[name]]))
    assert line.startswith("mstkd: error: [Errno 30] Read-only file system: ")
    assert str(tmp_path) in line


# ---------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory, job_server: str) -> Iterator[Walks]:
    with handed_to(job_server):
        yield Walks(tmp_path_factory.mktemp("walks"))


@pytest.mark.slow
@pytest.mark.workflow
def test_a_clock_set_back(walks: Walks, tmp_path: Path) -> None:
    """All results are of tomorrow: no job starts whose results Snakemake would remove for that."""
    world = World(tmp_path / "world")
    shutil.copytree(walks.start, world.folder)
    tomorrow = (world.folder / "results/report.html").stat().st_mtime + 86_400
    for path in (world.folder / "results").rglob("*"):
        os.utime(path, (tomorrow, tomorrow))
    world.choice["students.losses"] = 1
    told = world.run()
    assert told.returncode == 1
    lines = [line for line in (told.stdout + told.stderr).splitlines() if "mstkd: error" in line]
    assert lines and all("ahead of this machine's clock; expected" in line for line in lines)
    assert "Removing output files" not in told.stdout + told.stderr
    for path in (world.folder / "results").rglob("*"):
        os.utime(path)
    settle(world)
    assert not differing(world.digests(), walks.of_fresh_run(world))
    again = world.run("--dry-run")
    assert "Nothing to be done" in again.stdout + again.stderr, again.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.workflow
def test_two_snakemakes(walks: Walks, tmp_path: Path) -> None:
    """The second says that the folder is locked; the first ends as it would alone."""
    world = World(tmp_path / "world")
    world.folder.mkdir()
    shutil.copytree(walks.start / "faces", world.folder / "faces")
    with (world.folder / "told").open("w") as told:
        first = subprocess.Popen(world.command(), stdout=told, stderr=told)
        wait_for(lambda: "[" in (world.folder / "told").read_text() or first.poll() is not None)
        second = world.run()
        assert first.wait() == 0, (world.folder / "told").read_text()
    assert second.returncode == 1 and "unlock" in second.stdout + second.stderr
    assert not differing(world.digests(), walks.of_fresh_run(world))
