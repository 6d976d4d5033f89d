"""Memory that does not suffice, told in a line that names what to reduce."""

from __future__ import annotations

import re

from mstkd.errors import InputError

# As NumPy, PyTorch's allocators on CPUs and GPUs, and CUDA's libraries have it in their messages.
TOLD = re.compile(r"DefaultCPUAllocator|out of memory|[Uu]nable to allocate|ALLOC_FAILED")
TRAINING = (
    "more memory, or less to hold: optimiser.batch_size of this kind of model, engine.precision "
    "bfloat16 on a GPU, or more GPUs for one training; it goes on from its last checkpoint"
)
PACKING = "more memory, or fewer processes: --threads, in a workflow --cores"
OTHERS = "more memory, or smaller packs; on a GPU, fewer jobs on it at once (jobs_per_gpu)"


def out_of_memory(error: Exception, step: str | None) -> InputError | None:
    """What to tell of it; None where the fault is another one.

    Args:
        error: that ended the step.
        step: the sub-command, if it is known.
    """
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if not named and not (isinstance(error, RuntimeError) and TOLD.search(str(error))):
        return None
    where = "memory" if step is None else step
    first = (str(error).strip() or "it is used up").splitlines()[0]
    expected = OTHERS
    if step is not None and step.startswith("train-"):
        expected = TRAINING
    elif step is not None and step.startswith("pack-"):
        expected = PACKING
    return InputError(where, found=f"too little memory ({first[:200]})", expected=expected)
