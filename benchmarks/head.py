"""A margin head, forward and backward, against the textbook head of the public ElasticFace.

OMP_NUM_THREADS=1 python benchmarks/head.py [--classes 28000] [--batch 128] [--dim 512]

Memory is the rise of the process's own highest resident size (VmHWM of Linux, which knows what the
system handed out) over one step, each head in a fresh process, the gradients of the weight and
the embeddings included. `getrusage` would not do: a child inherits its parent's highest size.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _machine import describe
from _memory import rise_in_mib
from _textbook import TextbookHead
from torch import nn
from torch.nn import functional as F

from mstkd.artifacts.atomic import write_json
from mstkd.losses.heads import ElasticArcFace

RESULT = Path(__file__).parent / "results" / "head.json"
REPEATS = 9


HEADS: dict[str, Callable[[int, int], nn.Module]] = {
    "ours": ElasticArcFace,
    "textbook": TextbookHead,
}


def make_step(name: str, classes: int, batch: int, dim: int) -> Callable[[], None]:
    torch.manual_seed(0)
    head = HEADS[name](dim, classes)
    embeddings = torch.randn(batch, dim, requires_grad=True)
    labels = torch.randint(classes, (batch,))

    def step() -> None:
        F.cross_entropy(head(embeddings, labels), labels).backward()
        head.zero_grad(set_to_none=True)
        embeddings.grad = None

    return step


def rise(name: str, arguments: argparse.Namespace) -> float:
    """MiB that a step needs on top of head and inputs, in this fresh process."""
    make_step(name, 50, arguments.batch, arguments.dim)()  # libraries load their parts once
    step = make_step(name, arguments.classes, arguments.batch, arguments.dim)
    return rise_in_mib(step)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--classes", type=int, default=28000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--memory-of", choices=HEADS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(rise(arguments.memory_of, arguments))
        return
    machine = describe("torch", "numpy")
    sizes = (arguments.classes, arguments.batch, arguments.dim)

    memory = {}
    for name in HEADS:
        command = [sys.executable, __file__, "--memory-of", name]
        command += ["--classes", str(sizes[0]), "--batch", str(sizes[1]), "--dim", str(sizes[2])]
        memory[name] = float(subprocess.check_output(command, text=True))

    steps = {name: make_step(name, *sizes) for name in HEADS}
    seconds: dict[str, list[float]] = {name: [] for name in HEADS}
    for repeat in range(REPEATS + 1):  # in turns, so that other programs disturb both alike
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            if repeat:
                seconds[name].append(time.perf_counter() - begin)
    best = {name: min(values) for name, values in seconds.items()}
    result = {
        "what": "a training step of the head with cross entropy, forward and backward, on the "
        f"CPU; seconds: best of {REPEATS} in turns; MiB: rise of VmHWM, one process a head",
        "classes": sizes[0],
        "batch": sizes[1],
        "dim": sizes[2],
        "torch_threads": torch.get_num_threads(),
        "textbook_seconds": round(best["textbook"], 4),
        "ours_seconds": round(best["ours"], 4),
        "time_ratio": round(best["ours"] / best["textbook"], 3),
        "textbook_mib": round(memory["textbook"], 1),
        "ours_mib": round(memory["ours"], 1),
        "memory_ratio": round(memory["ours"] / memory["textbook"], 3),
        **machine,
    }
    write_json(RESULT, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
