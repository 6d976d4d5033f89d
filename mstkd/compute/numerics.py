"""How a process computes, not what: the choice of kernels, determinism, and what float32 means."""

from __future__ import annotations

import importlib
import os
from typing import Any

import torch

from mstkd.compute.devices import prepare


def configure(device: str, threads: int, *, deterministic: bool) -> torch.device:
    """Set up the process, before anything is computed on a GPU, and give the device: `prepare`.

    On a GPU float32 is what PyTorch makes of it by default, whatever the environment says:
    convolutions multiply in TF32, which keeps ten bits behind the point, and add in float32; matrix
    products are float32 throughout.

    Args:
        device: as `prepare` takes it.
        threads: CPU threads of this process.
        deterministic: the same bytes from the same run on a GPU too; else the fastest kernels are
            found by trying.
    """
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        # cuBLAS is deterministic with a workspace of fixed size only.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # Compiled kernels are not chosen by how fast they just were, where PyTorch knows how.
        inductor: Any = importlib.import_module("torch._inductor.config")
        if hasattr(inductor, "deterministic"):
            inductor.deterministic = True
        torch.use_deterministic_algorithms(True)
        # Nothing reads memory that was not written; filling it would take time.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return prepare(device, threads)
