"""Single bits of a file turned over, one at a time: what does a reader make of each?

PYTHONPATH=. python tests/flips.py [--flips 1500] [--seed 0]

A flip may be refused, or change nothing that is read. It may not go unseen.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import io
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import save_teacher, subject
from packs import settings_of, write_faces, write_rfw
from PIL import Image

from mstkd.artifacts.told import told_by
from mstkd.config import CacheSettings, EvaluationSettings
from mstkd.data.pack import open_pack
from mstkd.data.packing import pack_train, pack_verification
from mstkd.embeddings.cache import cache_embeddings, open_cache
from mstkd.errors import InputError
from mstkd.evaluation.evaluate import evaluate
from mstkd.evaluation.scorefiles import read_scores
from mstkd.report.samples import render_samples
from mstkd.training.checkpoint import Checkpoint

REFUSED, HARMLESS, UNSEEN = "refused", "harmless", "UNSEEN"


def flips(
    path: Path, read: Callable[[Path], Any], count: int, seed: int
) -> Iterator[tuple[int, int, str]]:
    """Byte, bit and outcome of so many flips of a file, which is as it was afterwards.

    Args:
        path: the file.
        read: gives all that can be read of it, to be compared, or raises InputError.
        count: how many bits, no two alike.
        seed: which.
    """
    whole, good = bytearray(path.read_bytes()), read(path)
    for place in random.Random(seed).sample(range(8 * len(whole)), count):
        byte, bit = divmod(place, 8)
        whole[byte] ^= 1 << bit
        path.write_bytes(whole)
        try:
            outcome = HARMLESS if alike(read(path), good) else UNSEEN
        except InputError as error:
            assert "\n" not in str(error), error
            outcome = REFUSED
        whole[byte] ^= 1 << bit
        yield byte, bit, outcome
    path.write_bytes(whole)


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray | torch.Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and bool((one == other).all())
    return type(one) is type(other) and one == other


def all_of_a_pack(path: Path) -> dict[str, Any]:
    pack = open_pack(path)
    fields = {field.name: getattr(pack, field.name) for field in dataclasses.fields(pack)}
    return fields | {"path": None, "images": pack.images[:]}


def all_of_a_cache(path: Path) -> dict[str, Any]:
    cache = open_cache(path)
    return {field.name: getattr(cache, field.name) for field in dataclasses.fields(cache)}


def newest_of(path: Path) -> dict[str, Any]:
    """The state of a checkpoint, or the fault: that it was not the newest file that was used."""
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        state = Checkpoint(path.with_name("model.safetensors"), "run").load()
    assert state is not None
    if state["epoch"] == 1:
        line = told.getvalue().rstrip("\n")
        raise InputError(path, found=line, expected="the newest state")
    return state


def all_of_scores(path: Path) -> dict[str, Any]:
    table = read_scores(path)
    return {field.name: getattr(table, field.name) for field in dataclasses.fields(table)}


def all_of_a_figure(path: Path) -> dict[str, Any]:
    told = told_by(path)
    if told is None or not told.unchanged:
        raise InputError(path, found="other contents than were written", expected="a figure")
    with Image.open(path) as image:
        return {"pixels": np.array(image), "made": told.made}


def make(folder: Path) -> dict[Path, Callable[[Path], Any]]:
    """One file of each kind, and what reads it."""
    write_faces(folder / "faces")
    pixels, encoded = folder / "pixels.h5", folder / "encoded.h5"
    pack_train(settings_of(folder / "faces"), output=pixels)
    pack_train(settings_of(folder / "faces", storage="encoded"), output=encoded)
    pack_verification(write_rfw(folder / "rfw"), output=folder / "verification.h5")
    teacher = save_teacher(folder, subject("T-A"), [pixels])
    cache = folder / "cache.h5"
    cache_embeddings(CacheSettings(), teachers=[teacher], packs=[pixels], output=cache)
    checkpoint = Checkpoint(folder / "model.safetensors", "run")
    for epoch in (1, 2):
        checkpoint.save({"epoch": epoch, "weights": torch.randn(50), "history": [{"loss": 0.5}]})
    evaluate(
        EvaluationSettings(folds=2),
        model=teacher,
        packs=[folder / "verification.h5"],
        scores=folder / "scores.h5",
        metrics=folder / "metrics.json",
    )
    render_samples(packs=[pixels], output=folder / "samples.png", per_group=2)
    return {
        pixels: all_of_a_pack,
        encoded: all_of_a_pack,
        folder / "verification.h5": all_of_a_pack,
        cache: all_of_a_cache,
        checkpoint.path: newest_of,
        folder / "scores.h5": all_of_scores,
        folder / "samples.png": all_of_a_figure,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=1500, help="of each file")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stderr(io.StringIO()):
            files = make(Path(folder))
        for path, read in files.items():
            bits = 8 * path.stat().st_size
            found = collections.Counter(
                outcome
                for _, _, outcome in flips(path, read, min(arguments.flips, bits), arguments.seed)
            )
            told = ", ".join(f"{found[name]} {name}" for name in (REFUSED, HARMLESS, UNSEEN))
            print(f"{path.name}: {sum(found.values())} of {bits} bits flipped: {told}", flush=True)


if __name__ == "__main__":
    main()
