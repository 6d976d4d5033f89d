"""A step as one CUDA graph: the host launches it as a whole, not kernel by kernel.

What is captured reads and writes the same memory in every replay. So a batch is copied into kept
tensors first, and whatever changes from step to step lies on the device: the learning rate, the
step's number, random streams. Nothing captured may ask the device for a value.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from mstkd.data.loader import Batch
from mstkd.progress import say

# Steps before the capture: kernels are compiled and chosen, and momenta get their memory.
WARM_UP = 3


class Cuda:
    """A GPU, by PyTorch's rules for capturing whole networks."""

    def __init__(self, device: torch.device, *, alone: bool) -> None:
        self._device = device
        self._pool = None if alone else _shared_pool()
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            yield
        current.wait_stream(self._stream)

    def capture(
        self, step: Callable[[], None], generators: Sequence[torch.Generator]
    ) -> torch.cuda.CUDAGraph:
        if any(generator.device.type != "cuda" for generator in generators):
            raise RuntimeError("numbers are drawn on the CPU in every step")
        graph = torch.cuda.CUDAGraph()
        for generator in generators:  # PyTorch's own registers itself
            graph.register_generator_state(generator)
        current = torch.cuda.current_stream(self._device)
        used = [torch.cuda.default_generators[self._device.index or 0], *generators]
        before = [generator.clone_state() for generator in used]
        try:
            # Other threads go on reading images, so only this one is kept from what would wait.
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                step()
        except Exception:
            # A capture that broke off leaves its stream current, and random streams that wait
            # for its end.
            torch.cuda.set_stream(current)
            for generator, state in zip(used, before, strict=True):
                generator.graphsafe_set_state(state)
            raise
        return graph


@functools.cache
def _shared_pool() -> Any:
    """Memory for several graphs of this process.

    They run one after the other, and none leaves anything there that another must not overwrite.
    """
    return torch.cuda.graph_pool_handle()


class CapturedStep:
    """Takes steps one kernel at a time first, then by replaying one that was captured.

    Args:
        step: all that a step asks the device for, of a batch; the same shapes every time. It
            keeps nothing in Python that the next step needs.
        generators: random streams that the step draws from, beside PyTorch's own.
        device: the GPU where it runs.
        alone: whether no other steps of the process are captured, whose memory can be shared.
        label: names the run in the line that says why nothing was captured.
    """

    def __init__(
        self,
        step: Callable[[Batch], None],
        *,
        generators: Sequence[torch.Generator],
        device: torch.device,
        alone: bool,
        label: str,
    ) -> None:
        self._step, self._generators = step, generators
        self._cuda, self._label = Cuda(device, alone=alone), label
        self._refused = False
        self._warm = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._last: torch.cuda.CUDAGraph | None = None  # memory of no graph cannot be captured to
        self._kept: Batch = {}

    @property
    def is_captured(self) -> bool:
        """Whether the next step is a replay."""
        return self._graph is not None

    def __call__(self, batch: Batch) -> None:
        """Take a step."""
        if self._graph is None and self._warm == WARM_UP and not self._refused:
            self._capture(batch)
        if self._graph is None:
            with self._cuda.aside():
                self._step(batch)
            self._warm = min(self._warm + 1, WARM_UP)
            return
        for name, kept in self._kept.items():
            kept.copy_(batch[name], non_blocking=True)
        self._graph.replay()

    def forget(self) -> None:
        """Warm up and capture anew: the memory that the step uses is another now."""
        self._last, self._graph = self._graph or self._last, None
        self._kept, self._warm = {}, 0

    def _capture(self, batch: Batch) -> None:
        kept = {name: tensor.clone() for name, tensor in batch.items()}
        try:
            self._graph = self._cuda.capture(lambda: self._step(kept), self._generators)
        except Exception as error:  # whatever it is: the step can be taken without
            self._refused = True
            first = error.__context__ or error  # the end of a broken capture fails too
            reason = (str(first).strip() or type(first).__name__).splitlines()[0]
            say(f"{self._label}: steps are not captured as a CUDA graph, which is slower: {reason}")
        else:
            self._kept, self._last = kept, None
