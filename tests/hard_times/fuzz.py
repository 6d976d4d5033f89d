"""Files of strangers, made up by the ten thousand: does every reader refuse them in one line?

    PYTHONPATH=.:tests python tests/hard_times/fuzz.py --seconds 30 [--output FILE]

Where atheris is installed (`pip install atheris`), which is not needed for the tests, files are
bred by the lines of the readers that they reach (libFuzzer); else, or with --plain, good files are
changed by chance. A reader may give a result or raise InputError with a message of one line, in 10
seconds and 4 GB. What did anything else is kept in `corpus/`, and tried again by test_fuzz.py.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import pickle
import random
import re
import resource
import struct
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from networks import save_teacher, subject
from PIL import Image
from recordfiles import IMAGES, im2rec, insightface, write
from reporting import write_metrics

from mstkd.artifacts.records import Metrics, read_record
from mstkd.artifacts.told import told_by
from mstkd.config import Config, read_settings
from mstkd.data.decode import BadImage, decode
from mstkd.data.formats.bins import read_bin
from mstkd.data.formats.landmarks import read_landmarks_csv, read_rfw_landmarks
from mstkd.data.formats.layouts import parse_pairs
from mstkd.data.formats.listing import read_listing_groups
from mstkd.data.formats.pairlists import pair_list_groups, read_pair_list
from mstkd.data.formats.record_groups import read_record_training
from mstkd.data.formats.recordio import Record, open_records
from mstkd.data.splits import read_split
from mstkd.errors import InputError
from mstkd.evaluation.embedded import read_embeddings
from mstkd.evaluation.foreign import read_rates
from mstkd.evaluation.scorefiles import read_scores
from mstkd.models.weights import load_backbone
from mstkd.training.checkpoint import Checkpoint, _head

CORPUS = Path(__file__).with_name("corpus")
SECONDS, BYTES = 10, 4 << 30
READERS = ("mstkd.data", "mstkd.config", "mstkd.artifacts", "mstkd.evaluation", "mstkd.models")


@dataclass(frozen=True)
class Target:
    """A kind of file: good ones, and what reads one."""

    name: str  # of the file
    seeds: Callable[[Path], list[bytes]]  # made in a folder, with what lies beside
    read: Callable[[Path], Any]


def texts(*lines: str, files: tuple[str, ...] = ()) -> Callable[[Path], list[bytes]]:
    def seeds(folder: Path) -> list[bytes]:
        for name in files:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
        return [line.encode() for line in lines]

    return seeds


def records(folder: Path) -> list[bytes]:
    paths = [folder / "a.rec", folder / "b.rec"]
    return [
        write(path, kind(IMAGES)).read_bytes()
        for path, kind in zip(paths, (im2rec, insightface), strict=True)
    ]


def read_records(path: Path) -> None:
    path.with_suffix(".idx").unlink(missing_ok=True)
    _all_records(path)


def _all_records(path: Path) -> None:
    for offset in open_records(path).offsets[:10].tolist():
        with contextlib.suppress(OSError):  # as of any file that cannot be read: a bad image
            Record(path, offset).read_bytes()


def index(folder: Path) -> list[bytes]:
    write(folder / "train.rec", im2rec(IMAGES))
    return [(folder / "train.idx").read_bytes()]


def groups(folder: Path) -> list[bytes]:
    write(folder / "train.rec", im2rec(IMAGES))
    labels = sorted({int(label) for label, _ in IMAGES})
    return [
        ("identity,group\n" + "".join(f"{one},African\n" for one in labels)).encode(),
        "".join(f"m.{label}/{n}.jpg\t{label}\t3\n" for n, (label, _) in enumerate(IMAGES)).encode(),
    ]


def bins(folder: Path) -> list[bytes]:
    data = io.BytesIO()
    Image.new("RGB", (4, 4)).save(data, "PNG")
    images = [data.getvalue()] * 4
    arrays = [np.frombuffer(one, np.uint8) for one in images]
    return [pickle.dumps((images, [True, False]), protocol) for protocol in (0, 2, 4)] + [
        pickle.dumps((arrays, [True, False]), 2),
        pickle.dumps((arrays, np.array([True, False])), 4),
    ]


def pictures(folder: Path) -> list[bytes]:
    found = []
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, kind)
        found.append(data.getvalue())
    return found


def read_picture(path: Path) -> None:
    with contextlib.suppress(BadImage):
        decode(path)


def teacher(file: str) -> Callable[[Path], list[bytes]]:
    def seeds(folder: Path) -> list[bytes]:
        made = save_teacher(folder / "made", subject("T-A"), [])
        for one in made.parent.glob("*.*"):
            (folder / one.name).write_bytes(one.read_bytes())
        if file == "model.json":  # as a stranger's, without the hash of itself
            record = json.loads((folder / file).read_text())
            del record["record_sha256"]
            return [json.dumps(record).encode()]
        return [(folder / file).read_bytes()]

    return seeds


def checkpoints(folder: Path) -> list[bytes]:
    state = {"epoch": 1, "weights": torch.randn(5), "history": [{"loss": 0.5}]}
    content = io.BytesIO()
    torch.save({"run": "run", "state": state}, content)
    return [content.getvalue()]


def read_checkpoint(path: Path) -> None:
    """Of any content, with the digest of it."""
    body = path.read_bytes()
    path.write_bytes(_head(xxhash.xxh3_128(body)) + body)
    with contextlib.redirect_stderr(io.StringIO()):
        Checkpoint(path.with_name("model.safetensors"), "run").load()


def metrics(folder: Path) -> list[bytes]:
    path = write_metrics(folder, {"A": 90.0, "B": 91.0})
    record = json.loads(path.read_text())
    record.pop("record_sha256", None)
    return [json.dumps(record).encode()]


def embeddings(folder: Path) -> list[bytes]:
    data = io.BytesIO()
    np.savez(data, embeddings=np.ones((3, 4), np.float32), images=np.array(["a", "b", "c"]))
    return [data.getvalue()]


def told(suffix: str, text: str) -> Target:
    return Target(f"x.{suffix}", texts(text), told_by)


MADE = json.dumps({"step": "split", "settings": {}, "sources": [], "sha256": "0" * 64})
LANDMARKS = "/test/data/A/a/a_0001.jpg\t0\t30\t40\t70\t40\t50\t60\t35\t80\t65\t80\n"
TARGETS: dict[str, Target] = {
    "rec": Target("train.rec", records, read_records),
    "idx": Target("train.idx", index, lambda path: _all_records(path.with_suffix(".rec"))),
    "lst": Target(
        "groups.txt",
        groups,
        lambda path: read_record_training(path.with_name("train.rec"), path, "African"),
    ),
    "bin": Target("A_test.bin", bins, read_bin),
    "pairs": Target(
        "A_pairs.txt",
        texts("m.0a\t1\t2\nm.0a\t1\tm.0b\t3\n", "1\t1\na\t1\t2\na\t1\tb\t2\n"),
        lambda path: parse_pairs(path.read_bytes(), path),
    ),
    "landmarks": Target(
        "landmarks.csv",
        texts("path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\nA/a.jpg,30,40,70,40,50,60,35,80,65,80\n"),
        read_landmarks_csv,
    ),
    "landmarks of RFW": Target(
        "A_lmk.txt", texts(LANDMARKS), lambda path: read_rfw_landmarks(path, "A")
    ),
    "listing": Target(
        "train.csv",
        texts("path,identity,group\na/1.jpg,a,A\nb/1.jpg,b,B\n"),
        read_listing_groups,
    ),
    "pair list": Target(
        "pairs.csv",
        texts(
            "image1,image2,same,group\na/1.jpg,a/2.jpg,1,A\na/1.jpg,b/1.jpg,0,A\n",
            "image1,image2,identity1,identity2,group1,group2,fold\n"
            "a/1.jpg,a/2.jpg,x,x,A,A,0\na/1.jpg,b/1.jpg,x,y,A,A,1\n",
            files=("a/1.jpg", "a/2.jpg", "b/1.jpg"),
        ),
        lambda path: [read_pair_list(path, group) for group in pair_list_groups(path)[:3]],
    ),
    "config": Target(
        "config.yaml",
        texts(
            (Path(__file__).parents[1] / "configs/tiny.yaml").read_text(),
        ),
        lambda path: read_settings(Config, str(path)),
    ),
    "model.json": Target(
        "model.json",
        teacher("model.json"),
        lambda path: load_backbone(path.with_suffix(".safetensors")),
    ),
    "safetensors": Target("model.safetensors", teacher("model.safetensors"), load_backbone),
    "checkpoint": Target("checkpoint.pt", checkpoints, read_checkpoint),
    "scores": Target(
        "scores.csv",
        texts(
            "image1,image2,similarity,same,group1,group2\nx/1,x/2,0.5,1,A,A\nx/1,y/1,0.25,0,A,A\nx/3,x/2,0.5,1,A,A\nx/3,y/1,0.25,0,A,A\n",
            "similarity,identity1,identity2,group1,group2,fold\n0.5,p,p,A,A,0\n0.25,q,r,B,B,1\n0.1,p,s,A,A,1\n0.7,q,q,B,B,0\n",
        ),
        lambda path: read_scores(path, folds=2),
    ),
    "rates": Target(
        "rates.csv", texts("system,group,fmr,fnmr\nx,A,0.1,0.2\nx,B,0.2,0.1\n"), read_rates
    ),
    "embeddings": Target("x.npz", embeddings, read_embeddings),
    "split": Target("split.csv", texts("group,identity\nA,a\nB,b\n"), read_split),
    "metrics.json": Target("metrics.json", metrics, lambda path: read_record(Metrics, path)),
    "picture": Target("x.img", pictures, read_picture),
    "told by JSON": told("json", f'{{"format": "mstkd-metrics", "provenance": {MADE}}}'),
    "told by HTML": told(
        "html", f'<title></title>\n<meta name="mstkd-provenance" content="{MADE}">\n'
    ),
    "told by SVG": told("svg", f"<dc:description>mstkd-provenance {MADE}</dc:description>"),
    "told by PDF": told("pdf", f"/Subject (mstkd-provenance {MADE})"),
    "told by PNG": Target("x.png", lambda folder: pictures(folder)[:1], told_by),
}


class ReadWronglyError(AssertionError):
    """A reader that did anything but give a result or refuse in a line."""


def fault_of(target: Target, folder: Path, data: bytes) -> str | None:
    """What is wrong with how a file of such bytes is read; None if nothing is."""
    path = folder / target.name
    path.write_bytes(data)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            target.read(path)
    except InputError as error:
        # Several faults of settings are a line each.
        lines = [str(one) for one in error.faults]
        if any("\n" in line for line in lines) and str(error).count("\n") >= len(lines):
            return f"more than a line: {str(error)[:300]!r}"
        if any(not char.isprintable() and char != "\n" for char in str(error)):
            return f"characters for a terminal: {str(error)[:300]!r}"
        if max(map(len, str(error).splitlines()), default=0) > 5_000:
            return f"a line of {len(str(error))} characters"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    return None


# ---------------------------------------------------------------- by chance

PIECES = (
    *(
        b"\0",
        b"\xff",
        b"\n",
        b"\r",
        b"\t",
        b",",
        b'"',
        b"'",
        b"\\",
        b"-1",
        b"nan",
        b"inf",
        b"1e999",
    ),
    *(b"99999999999999999999", b"\xef\xbb\xbf", b"\xc3", b"../", b"/", b"=", b"<", b"\x1b[31m"),
    *(
        "\u2028".encode(),
        "\u202e".encode(),
        "é".encode(),
        "e\u0301".encode(),
        b"{}",
        b"[]",
        b"null",
    ),
    *(struct.pack("<I", 0x7FFFFFFF), struct.pack("<I", 0xFFFFFFFF), struct.pack("<Q", 1 << 62)),
)


def changed(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """A file with a few changes."""
    new = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(new))
        end = min(len(new), at + int(chance.expovariate(1 / 8)) + 1)
        match chance.randrange(7):
            case 0 if new:
                new[min(at, len(new) - 1)] ^= 1 << chance.randrange(8)
            case 1:
                new[at:end] = b""
            case 2:
                new[at:at] = chance.choice(PIECES)
            case 3:
                new[at:end] = chance.choice(PIECES)
            case 4:
                new[at:at] = new[at:end] * chance.randint(1, 50)
            case 5:
                other = chance.choice(others)
                begin = chance.randint(0, len(other))
                new[at:end] = other[begin : begin + chance.randint(0, 64)]
            case _:
                del new[at:]
    return bytes(new)


def by_chance(name: str, folder: Path, seed: int) -> Iterator[tuple[bytes, str | None]]:
    """Files and their faults, without end."""
    target, chance = TARGETS[name], random.Random(f"{name} {seed}")
    seeds = target.seeds(folder)
    for data in seeds:
        yield data, fault_of(target, folder, data)
    while True:
        data = changed(chance.choice(seeds), seeds, chance)
        yield data, fault_of(target, folder, data)


def kept(name: str) -> list[Path]:
    """Files that were read wrongly once."""
    return sorted((CORPUS / name.replace(" ", "-")).glob("*"))


def keep(name: str, data: bytes) -> Path:
    place = CORPUS / name.replace(" ", "-")
    place.mkdir(parents=True, exist_ok=True)
    path = place / xxhash.xxh3_64_hexdigest(data)
    path.write_bytes(data)
    return path


# ---------------------------------------------------------------- by coverage


def bred(name: str, folder: Path, seconds: float) -> None:
    """Breed files in this process until the time is over, or one is read wrongly."""
    import atheris

    target = TARGETS[name]
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith(READERS):
            for function in _functions(module):
                function.__code__ = atheris.instrument_func(function).__code__
    seeds = folder / "seeds"
    seeds.mkdir()
    for number, data in enumerate(target.seeds(folder)):
        (seeds / str(number)).write_bytes(data)
        fault = fault_of(target, folder, data)
        assert fault is None, fault

    def one(data: bytes) -> None:
        fault = fault_of(target, folder, data)
        if fault is not None:
            keep(name, data)
            raise ReadWronglyError(fault)

    options = [f"-max_total_time={seconds:.0f}", f"-timeout={SECONDS}", "-rss_limit_mb=4096"]
    options += ["-max_len=20000", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *options, str(seeds)], one)
    atheris.Fuzz()


def _functions(module: Any) -> Iterator[Any]:
    for value in list(vars(module).values()):
        inner = list(vars(value).values()) if isinstance(value, type) else [value]
        for one in inner:
            if isinstance(one, types.FunctionType) and one.__module__ == module.__name__:
                yield one


def breed(name: str, seconds: float) -> dict[str, Any]:
    """The same in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--breed", name, "--seconds", str(seconds)]
        done = subprocess.run(
            [*command, "--folder", folder], capture_output=True, text=True, check=False
        )
    lines = done.stderr.splitlines()
    tries = [int(found[1]) for line in lines if (found := re.match(r"#(\d+)\s", line))]
    faults = [line for line in lines if "ReadWronglyError:" in line or "ERROR:" in line]
    if done.returncode and not faults:
        faults = lines[-1:] or ["it said nothing"]
    return {"tries": max(tries, default=0), "faults": faults[:1], "exit": done.returncode}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--seconds", type=float, default=30, help="for each kind of file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="by chance, not by coverage")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--breed", choices=TARGETS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.breed:
        bred(given.breed, given.folder, given.seconds)
        return
    plain = given.plain
    try:
        import atheris  # noqa: F401
    except ImportError:
        plain = True
    resource.setrlimit(resource.RLIMIT_AS, (BYTES * 8, BYTES * 8))
    result: dict[str, Any] = {}
    for name in given.only:
        if plain:
            begin, tries, faults = time.monotonic(), 0, {}
            last, slowest = begin, 0.0
            with tempfile.TemporaryDirectory() as folder:
                for data, fault in by_chance(name, Path(folder), given.seed):
                    tries += 1
                    now = time.monotonic()
                    slowest, last = max(slowest, now - last), now
                    if fault is not None and (kind := fault.partition(":")[0]) not in faults:
                        faults[kind] = fault, str(keep(name, data))
                    if now - begin > given.seconds:
                        break
            result[name] = {"tries": tries, "slowest_s": round(slowest, 2)}
            result[name]["faults"] = [" ".join(one) for one in faults.values()]
        else:
            result[name] = breed(name, given.seconds)
        print(name, result[name], flush=True)
    if given.output:
        told = {"by": "chance" if plain else "coverage", "seconds_each": given.seconds}
        given.output.write_text(json.dumps({**told, "files": result}, indent=2) + "\n")
    sys.exit(any(one["faults"] for one in result.values()))


if __name__ == "__main__":
    main()
