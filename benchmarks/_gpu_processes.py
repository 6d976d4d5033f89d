"""Runs in processes of their own: whether two are the same to the byte, and two at once.

python benchmarks/_gpu_processes.py teacher|rate JSON    what gpu.py starts
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _files import write_pixels
from _gpu_networks import WAYS, Sizes, settings_of, training_step

from mstkd.artifacts.records import Subject, file_sha256
from mstkd.bench.pace import repeat, wait_for
from mstkd.compute.interruption import Interrupted
from mstkd.config import TeacherSettings
from mstkd.data.pack import Content, Found
from mstkd.training.learner import Run
from mstkd.training.teacher import train_teacher

INTERRUPTED = 143


# ------------------------------------------------------------------ in the process


def train(of: dict[str, Any]) -> None:
    """Train a teacher; asked to end after `end_at` steps, if that is not 0. Prints the hash."""
    steps, end_at = 0, of["end_at"]
    whole = Run.step

    def step(self: Run, *arguments: Any) -> None:
        nonlocal steps
        whole(self, *arguments)
        steps += 1
        if steps == end_at:
            os.kill(os.getpid(), signal.SIGTERM)

    Run.step = step  # type: ignore[method-assign]
    folder = Path(of["folder"])
    output = folder / of["name"] / "model.safetensors"
    try:
        train_teacher(
            TeacherSettings.model_validate(of["settings"]),
            subject=Subject(kind="teacher", backbone="r", set="single", name="T-A", seed=0),
            packs=[folder / "A.h5"],
            selection=[],
            split=folder / "split.csv",
            output=output,
            device=of["device"],
        )
    except Interrupted as interrupted:
        sys.exit(interrupted.exit_code)
    print(json.dumps({"sha256": file_sha256(output), "steps": steps}))


def rate(of: dict[str, Any]) -> None:
    """Train by itself until told, then for so many seconds; prints the images a second."""
    device, sizes = torch.device(of["device"]), Sizes(*of["sizes"])
    torch.backends.cudnn.benchmark = True
    step = training_step(of["network"], WAYS["+ bfloat16"], sizes.batch, device, sizes)
    for _ in range(3):
        step()
    wait_for(device)
    print("ready", flush=True)
    sys.stdin.readline()
    span = repeat(step, device=device, seconds=of["seconds"])
    print(json.dumps({"rate": span.steps * sizes.batch / span.seconds}))


# ------------------------------------------------------------------ of the processes


def start(task: str, of: dict[str, Any]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, task, json.dumps(of)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MSTKD_JOBS_PER_GPU": "9"},
    )


def result(process: subprocess.Popen[str], seconds: int, expected: int = 0) -> dict[str, Any]:
    """What a process printed in its last line.

    Raises:
        RuntimeError: it failed; says how.
    """
    try:
        told, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise RuntimeError(f"a process took more than {seconds} s") from None
    if process.returncode != expected:
        last = [line for line in errors.splitlines() if line.strip()] or ["no message"]
        raise RuntimeError(f"a process ended with {process.returncode}: {last[-1]}")
    found = json.loads(told.splitlines()[-1]) if expected == 0 else {}
    slower = [line for line in errors.splitlines() if "which is slower" in line]
    return {**found, "slower": slower[0]} if slower else found


def write_data(folder: Path, sizes: Sizes) -> None:
    """A training pack of noise, and the split that names all its identities."""
    random = np.random.default_rng(0)
    count, side = sizes.run_images, sizes.side
    names = [f"m.{number:03}" for number in range(sizes.run_identities)]
    content = Content(
        kind="train",
        group="A",
        image_size=side,
        paths=[f"{number}.jpg" for number in range(count)],
        identity_names=names,
        identity=(np.arange(count) % len(names)).astype(np.int32),
        found=Found(count, len(names)),
    )
    pack = folder / "A.h5"
    write_pixels(pack, content, [random.integers(0, 256, (count, side, side, 3), np.uint8)])
    (folder / "split.csv").write_text("\n".join(["group,identity", *(f"A,{n}" for n in names)]))


def same_bytes(
    name: str,
    folder: Path,
    device: torch.device,
    sizes: Sizes,
    *,
    compile_mode: str,
    kinds: Sequence[str] = ("deterministic 1", "deterministic 2", "any 1", "any 2"),
) -> dict[str, Any]:
    """Whether runs of two epochs end alike: twice, and once interrupted and resumed.

    With dropout, so that a random stream of the device's is drawn from.
    """
    write_data(folder, sizes)
    steps = sizes.run_images // sizes.run_batch
    end_at = steps + steps // 2

    def teacher(kind: str, end_at: int = 0) -> subprocess.Popen[str]:
        engine = {
            "deterministic": kind.startswith("deterministic"),
            "compile": compile_mode,
        }
        settings = {
            "embedding_dim": sizes.dim,
            "backbone": {**settings_of(name).model_dump(exclude_none=True), "dropout": 0.4},
            "optimiser": {"epochs": 2, "batch_size": sizes.run_batch},
            "head": {},
            "selection": {"rule": "last"},
            "engine": engine,
        }
        of = {"folder": str(folder), "name": kind, "settings": settings, "end_at": end_at}
        return start("teacher", {**of, "device": device.type})

    begin = time.monotonic()
    processes = {kind: teacher(kind) for kind in kinds}
    interrupted = teacher("deterministic, interrupted", end_at)
    found: dict[str, Any] = {"steps": 2 * steps, "interrupted_after": end_at}
    try:
        result(interrupted, sizes.run_seconds, INTERRUPTED)
        processes["resumed"] = teacher("deterministic, interrupted")
    except RuntimeError as error:
        found["interrupted"] = f"failed: {error}"
    hashes: dict[str, str] = {}
    for kind, process in processes.items():
        try:
            ended = result(process, sizes.run_seconds)
        except RuntimeError as error:
            found[kind] = f"failed: {error}"
            continue
        hashes[kind] = ended["sha256"]
        found[kind] = f"{ended['steps']} steps, {ended['sha256'][:12]}"
        if "slower" in ended:
            found[f"{kind}, not as asked"] = ended["slower"]
    first = hashes.get("deterministic 1")
    found["same_twice"] = first is not None and first == hashes.get("deterministic 2")
    found["same_resumed"] = first is not None and first == hashes.get("resumed")
    if "any 1" in kinds:
        same = "any 1" in hashes and hashes["any 1"] == hashes.get("any 2")
        found["same_twice_without_deterministic"] = same
    found["seconds"] = round(time.monotonic() - begin, 1)
    return found


def rates_of_processes(
    name: str, count: int, device: torch.device, sizes: Sizes, seconds: float
) -> list[float]:
    """Images a second of each of so many processes that train at once."""
    of = {"network": name, "device": str(device), "sizes": sizes, "seconds": seconds}
    processes = [start("rate", of) for _ in range(count)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()  # all are ready, or have failed
    for process in processes:
        assert process.stdin is not None
        if process.poll() is None:
            process.stdin.write("go\n")
            process.stdin.flush()
    return [result(process, sizes.run_seconds)["rate"] for process in processes]


def rate_of_streams(
    name: str, count: int, device: torch.device, sizes: Sizes, seconds: float
) -> float:
    """Images a second of so many networks in one process, each on a stream, summed."""
    way = WAYS["+ bfloat16"]
    steps = [training_step(name, way, sizes.batch, device, sizes) for _ in range(count)]
    if device.type != "cuda":
        streams: Sequence[Any] = [None] * count
    else:
        streams = [torch.cuda.Stream(device) for _ in range(count)]
        wait_for(device)

    def all_steps() -> None:
        for step, stream in zip(steps, streams, strict=True):
            with torch.cuda.stream(stream):  # does nothing where there is none
                step()

    span = repeat(all_steps, device=device, seconds=seconds)
    return span.steps * count * sizes.batch / span.seconds


if __name__ == "__main__":
    {"teacher": train, "rate": rate}[sys.argv[1]](json.loads(sys.argv[2]))
