"""Ranks for the tests: processes that wait for functions to run together."""

from __future__ import annotations

import multiprocessing
import tempfile
import traceback
from datetime import timedelta

import torch
import torch.distributed as dist

from mstkd.compute.ranks import Ranks

STUCK_SECONDS = 120  # only a fault waits so long


class Team:
    """So many processes of one gloo group on this machine."""

    def __init__(self, size: int) -> None:
        # A fork server imports torch once for all of them.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            ["torch", "mstkd.losses.head_loss", "mstkd.compute.synchronised"]
        )
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
        answers = []
        for pipe in self.pipes:
            assert pipe.poll(STUCK_SECONDS), "the ranks are stuck"
            failure, answer = pipe.recv()
            assert failure is None, failure
            answers.append(answer)
        return answers

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()
        self._folder.cleanup()


def _serve(pipe, store, rank, size):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=store, rank=rank, world_size=size, timeout=timedelta(seconds=60)
    )
    while True:
        function, arguments = pipe.recv()
        try:
            pipe.send((None, function(Ranks(rank, size), *arguments)))
        except Exception:
            pipe.send((traceback.format_exc(), None))
