"""Stands in for a GPU's capture: what a step asks PyTorch for is recorded on the CPU.

A replay does the recorded operations again on the very same tensors, with the very same numbers
where they were Python's. So what a CUDA graph would get wrong goes wrong here too: a number that
was fixed when it was captured, a tensor that is another one now, a value that the host asked for.
"""

import contextlib

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Writes to the running statistics, which its schema does not say.
WRITES_UNSAID = {"aten::native_batch_norm": (3, 4)}


def tensors(of):
    return [leaf for leaf in tree_leaves(of) if isinstance(leaf, torch.Tensor)]


def storage(tensor):
    return tensor.untyped_storage()


class Recorded(TorchDispatchMode):
    """The operations of a step; all that they wrote to has its old content again afterwards."""

    def __init__(self):
        super().__init__()
        self.operations = []
        self.before = {}  # storages from before, and their content
        self.made = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        written = [
            kwargs.get(argument.name, args[place] if place < len(args) else None)
            for place, argument in enumerate(func._schema.arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        written += [args[place] for place in WRITES_UNSAID.get(func._schema.name, ())]
        for tensor in tensors(written):
            where = storage(tensor)
            if where._cdata not in self.made and where._cdata not in self.before:
                self.before[where._cdata] = (where, where.clone())
        out = func(*args, **kwargs)
        known = {storage(tensor)._cdata for tensor in tensors((args, kwargs))}
        self.made |= {storage(tensor)._cdata for tensor in tensors(out)} - known
        self.operations.append((func, args, kwargs, out))
        return out

    def undo(self):
        for where, content in self.before.values():
            where.copy_(content)

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, out in self.operations:
            for old, new in zip(tensors(out), tensors(func(*args, **kwargs)), strict=True):
                if storage(old)._cdata != storage(new)._cdata:
                    old.copy_(new)


class Recorder:
    """As `mstkd.training.captured.Cuda`."""

    captures = 0
    replays = 0

    def __init__(self, device, *, alone):
        pass

    def aside(self):
        return contextlib.nullcontext()

    def capture(self, step, generators):
        states = [generator.get_state() for generator in generators]
        own = torch.get_rng_state()
        recorded = Recorded()
        try:
            with recorded:
                step()
        finally:
            recorded.undo()
            torch.set_rng_state(own)
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)
        Recorder.captures += 1

        class Graph:
            def replay(self):
                Recorder.replays += 1
                recorded.replay()

        return Graph()
