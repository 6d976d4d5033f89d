"""What all stages of the GPU benchmark are told, and where they write what they find."""

from __future__ import annotations

import gc
import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _gpu_networks import Sizes

from mstkd.artifacts.atomic import write_json
from mstkd.bench.pace import Span


class Bench(NamedTuple):
    """What all stages are told, and what they have found so far."""

    device: torch.device
    seconds: float
    sizes: Sizes
    networks: tuple[str, str]  # the student's, of which all is measured, and the teachers'
    smallest: str  # of which whole runs are made
    everything: bool
    until: float  # by time.monotonic
    output: Path
    result: dict[str, Any]

    def put(self, *keys: str, measured: Callable[[], Any]) -> None:
        """Measure, and write what was found, or why nothing was; free the memory."""
        print(f"{' '.join(keys)}: ", end="", flush=True)
        begin = time.monotonic()
        found: Any
        if begin > self.until:
            found = "not measured: no time left"
        else:
            try:
                found = measured()
            except Exception as error:
                found = reason(error)
        *outer, last = keys
        inside = self.result
        for key in outer:
            inside = inside.setdefault(key, {})
        inside[last] = found
        write_json(self.output, self.result)
        print(f"{short(found)} [{time.monotonic() - begin:.1f} s]", flush=True)
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def span(self, span: Span, images: int, flops: int = 0) -> dict[str, Any]:
        """Rate, share of the matrix product's and memory of steps of so many images."""
        rate = span.steps * images / span.seconds
        peak = self.result.get("matmul_tflops")
        known = flops and isinstance(peak, float) and peak > 0
        return {
            "images_a_second": round(rate),
            "share_of_bfloat16_matmul_peak": round(rate * flops / peak / 1e12, 3)
            if known
            else None,
            "peak_memory_gib": round((span.peak_gpu_bytes or 0) / 2**30, 2),
            "batches": span.steps,
        }


def reason(error: Exception) -> str:
    """What failed, and where, in one line."""
    trace = traceback.extract_tb(error.__traceback__)[-1]
    first = (str(error).splitlines() or [""])[0][:300]
    where = f"{Path(trace.filename).name}:{trace.lineno}: {trace.line}"
    return f"failed: {type(error).__name__}: {first} ({where})"


def short(found: Any) -> str:
    text = json.dumps(found) if not isinstance(found, str) else found
    return text if len(text) <= 300 else f"{text[:300]} ..."
