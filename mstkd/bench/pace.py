"""Timing a loop from outside: the items that feed it also hold the watch.

On a GPU the device is waited for before the first timed item and after the last, never between.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

Item = TypeVar("Item")

# Kernels are chosen, memory is laid out and code is loaded in the first steps.
WARM_UP_GPU, WARM_UP_CPU = 20, 3
WARM_UP_SECONDS_CPU = 0.5
LONG_STEP_SECONDS_CPU = 5.0  # beside a step that takes longer, warming up is nothing: it counts


@dataclass
class Span:
    """What was timed: complete only after the last item."""

    steps: int = 0
    seconds: float = 0.0
    peak_gpu_bytes: int | None = None


def paced(
    items: Iterator[Item], span: Span, *, device: torch.device, seconds: float
) -> Iterator[Item]:
    """Pass items on, some to warm up and then for so many seconds, at least one; fill the span."""
    on_cpu = device.type != "cuda"
    begin = time.perf_counter()
    for done in range(1, 1 + (WARM_UP_CPU if on_cpu else WARM_UP_GPU)):
        yield next(items)
        elapsed = time.perf_counter() - begin
        if on_cpu and done == 1 and elapsed >= max(seconds, LONG_STEP_SECONDS_CPU):
            span.steps, span.seconds = 1, elapsed
            return
        if on_cpu and elapsed >= WARM_UP_SECONDS_CPU:
            break
    wait_for(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    begin = time.perf_counter()
    while span.steps == 0 or time.perf_counter() - begin < seconds:
        yield next(items)
        span.steps += 1
    wait_for(device)
    span.seconds = time.perf_counter() - begin
    if device.type == "cuda":
        span.peak_gpu_bytes = torch.cuda.max_memory_allocated(device)


def repeat(step: Callable[[], object], *, device: torch.device, seconds: float) -> Span:
    """Call a step again and again for so many seconds."""
    span = Span()
    for _ in paced(itertools.repeat(None), span, device=device, seconds=seconds):
        step()
    return span


def wait_for(device: torch.device) -> None:
    """Until all that the device was asked for is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
