"""Ranks for the tests: processes that wait for functions to run together."""

from __future__ import annotations

import tempfile
import traceback
from datetime import timedelta

import torch
import torch.distributed as dist
from processes import STUCK_SECONDS

from mstkd.compute.ranks import Ranks

PATIENCE = timedelta(seconds=STUCK_SECONDS / 3)  # less than the tests have


class Team:
    """So many processes of one gloo group on this machine."""

    def __init__(self, context, size: int) -> None:
        self._folder = tempfile.TemporaryDirectory()
        store = f"file://{self._folder.name}/store"
        self.pipes, self.processes = [], []
        for rank in range(size):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, store, rank, size), daemon=True)
            process.start()
            there.close()
            self.pipes.append(here)
            self.processes.append(process)

    def run(self, function, *arguments):
        """What `function(ranks, *arguments)`, of a module, returns on each rank."""
        for pipe in self.pipes:
            pipe.send((function, arguments))
        told = []
        for pipe in self.pipes:  # all of them, or the next test would hear of this one
            if not pipe.poll(STUCK_SECONDS):
                self.end()
                raise AssertionError("the ranks were stuck")
            told.append(pipe.recv())
        for failure, _ in told:
            assert failure is None, failure
        return [answer for _, answer in told]

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()
        self._folder.cleanup()


def _serve(pipe, store, rank, size):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size, timeout=PATIENCE)
    while True:
        function, arguments = pipe.recv()
        try:
            pipe.send((None, function(Ranks(rank, size), *arguments)))
        except Exception:
            pipe.send((traceback.format_exc(), None))
