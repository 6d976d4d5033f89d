"""Where the time of some steps goes on a device, by families of kernels."""

from __future__ import annotations

import collections
import re
import time
from typing import Any

import torch
from _gpu_networks import Step
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from mstkd.bench.pace import wait_for

# The first that fits a kernel's name counts.
FAMILIES = {
    "copies and layouts": r"memcpy|memset|copy_kernel|nhwcto|nchwto|tensortransform|transpose",
    "fused by the compiler": r"^triton_",
    "batch normalisation": r"batch_?norm|cudnn.*bn_|bn_fw|bn_bw|welford",
    "convolutions": r"fprop|dgrad|wgrad|conv|implicit|cudnn",
    "PReLU": r"prelu",
    "optimiser and clipping": r"multi_tensor|fused_sgd|foreach|lpnorm",
    "softmax": r"softmax|nll_loss",
    "matrix products": r"gemm|nvjet|cublas|cutlass|splitk|gemv",
    "additions": r"functor_add|addfunctor|add_kernel",
    "reductions": r"reduce",
}


def family(kernel: str) -> str:
    for name, pattern in FAMILIES.items():
        if re.search(pattern, kernel, re.IGNORECASE):
            return name
    return "other"


def kernels(step: Step, device: torch.device, *, steps: int = 10, top: int = 15) -> dict[str, Any]:
    """Milliseconds a step by family and of the longest kernels, and the device's busy share."""
    for _ in range(3):
        step()
    wait_for(device)
    on_gpu = device.type == "cuda"
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    with profile(activities=[activity]) as profiled:
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        wait_for(device)
        elapsed = 1e6 * (time.perf_counter() - begin)
    wanted = DeviceType.CUDA if on_gpu else DeviceType.CPU
    events = [
        event
        for event in profiled.events()
        if event.device_type == wanted and not re.match(r"Optimizer\.|ProfilerStep|##", event.name)
    ]
    by_family: collections.Counter[str] = collections.Counter()
    by_kernel: collections.Counter[str] = collections.Counter()
    calls: collections.Counter[str] = collections.Counter()
    for event in events:
        microseconds = event.time_range.elapsed_us()
        by_family[family(event.name)] += microseconds
        by_kernel[event.name] += microseconds
        calls[event.name] += 1
    spans = sorted((event.time_range.start, event.time_range.end) for event in events)
    busy, until = 0.0, 0.0
    for start, end in spans:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    span = until - spans[0][0] if spans else 0.0
    by_family["idle"] = span - busy

    def a_step(microseconds: float) -> float:
        return round(microseconds / 1e3 / steps, 4)

    return {
        "ms": a_step(elapsed),  # with the profiler's own cost
        "ms_from_first_to_last_kernel": a_step(span),
        "busy_share": round(busy / span, 4) if span else None,
        "kernels": len(events) // steps,
        "ms_by_family": {name: a_step(us) for name, us in by_family.most_common()},
        "longest": [
            {"kernel": name[:160], "ms": a_step(us), "calls": calls[name] / steps}
            for name, us in by_kernel.most_common(top)
        ],
    }
