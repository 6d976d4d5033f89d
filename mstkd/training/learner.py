"""One network in training: what the loop must be told of it, and its state."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mstkd.compute.ranks import ALONE, Ranks
from mstkd.config import OptimiserSettings
from mstkd.data.loader import Batch
from mstkd.training.shards import own_state, sharded, whole_state

Objective = Callable[[Batch], Mapping[str, Tensor]]
History = list[dict[str, float | int | None]]


@dataclass(frozen=True)
class Fit:
    """What training gave: a row an epoch, and the state of the epoch that scored best."""

    history: History
    epoch: int  # counted from 1
    score: float
    state: dict[str, Tensor]  # of the kept module, on the CPU


@dataclass(frozen=True)
class Learner:
    """One network to train.

    Args:
        trained: everything with parameters to train.
        objective: a batch to its parts, 0-d tensors; `loss` is minimised.
        kept: the part of `trained` whose gradient is clipped and whose best state is returned.
        score: an epoch's number, from 0, and the means of its parts to a score, higher is
            better, or None for "not looked at"; the last epoch must give a number.
        score_name: the score's column in the history, if it has one.
        generators: random streams that the objective draws from, to save with the state.
        label: names the learner in failures.
        events: the folder of TensorBoard's events; None writes none.
        random: state of torch's own random streams once everything is initialised.
    """

    trained: nn.Module
    objective: Objective
    kept: nn.Module
    score: Callable[[int, Mapping[str, float]], float | None]
    score_name: str | None
    generators: Sequence[torch.Generator]
    label: str
    events: Path | None = None
    random: dict[str, Any] = field(default_factory=lambda: random_state())


class Run:
    """A learner's optimiser, history and best epoch so far.

    Learners that share a stream of batches each have torch's random streams to themselves, so
    that dropout draws what it would draw alone. All ranks have the same gradients after each step,
    but for the parameters of which each has some rows.
    """

    def __init__(
        self,
        learner: Learner,
        settings: OptimiserSettings,
        *,
        alone: bool,
        ranks: Ranks = ALONE,
    ) -> None:
        named = {n: p for n, p in learner.trained.named_parameters() if p.requires_grad}
        parameters = list(named.values())
        self.ranks = ranks
        self._names = list(named)
        self._rows = sharded(learner.trained)
        self._shared = [p for name, p in named.items() if name not in self._rows]
        on_gpu = parameters[0].is_cuda
        self.learner = learner
        self.halvings = 0  # of the learning rate, after losses that were not finite
        self.history: History = []
        self._optimiser = torch.optim.SGD(
            parameters,
            lr=1.0,  # set anew in every step
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            fused=on_gpu,
            foreach=not on_gpu,
        )
        self._clipped = [p for p in learner.kept.parameters() if p.requires_grad]
        self._norm = settings.gradient_norm
        self._best: dict[str, Any] = {"epoch": 0, "score": -float("inf"), "state": {}}
        self._sums: dict[str, Tensor] = {}  # of the epoch's parts so far
        self._bad_step: Tensor | None = None
        self._random = None if alone else learner.random

    def factor(self) -> float:
        """What the schedule's learning rate is multiplied by."""
        return float(0.5**self.halvings)

    def begin_epoch(self) -> None:
        self.learner.trained.train()
        self._bad_step = None

    def step(
        self,
        batch: Batch,
        rate: float,
        number: int,
        look: Callable[[Mapping[str, Tensor]], None] | None = None,
    ) -> None:
        """One step of SGD; `look` sees parts and gradients before they are clipped."""
        for group in self._optimiser.param_groups:
            group["lr"] = rate * self.factor()
        with self._own_random_streams():
            parts = dict(self.learner.objective(batch))
            self._optimiser.zero_grad(set_to_none=True)
            parts["loss"].backward()  # type: ignore[no-untyped-call]
        parts = self._over_all_ranks(parts)
        if look is not None:
            look(parts)
        nn.utils.clip_grad_norm_(self._clipped, self._norm, foreach=True)
        self._optimiser.step()
        for name, part in parts.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(part)) + part.detach()
        # Stays on the device: reading it would wait for all steps so far.
        loss = parts["loss"].detach()
        before = self._bad_step
        if before is None:
            before = torch.full((), -1, device=loss.device)
        self._bad_step = torch.where((before < 0) & ~torch.isfinite(loss), number, before)

    def _over_all_ranks(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """The means of parts over the ranks; those of the gradients go the same way."""
        if self.ranks.size == 1:
            return parts
        means = {name: part.detach().clone() for name, part in parts.items()}
        gradients = [p.grad for p in self._shared if p.grad is not None]
        self.ranks.average([*gradients, *means.values()])
        return means

    def first_bad_step(self) -> int | None:
        """The epoch's first step with a loss that is not finite; waits for the device."""
        number = -1 if self._bad_step is None else int(self._bad_step)
        return None if number < 0 else number

    def end_epoch(self, epoch: int, steps: int, rate: float) -> None:
        """Write the epoch's row, from 0, and keep the weights if they score best so far."""
        means = {name: float(total) / steps for name, total in self._sums.items()}
        with self._own_random_streams():
            # Of the first rank alone: two GPUs that round differently would keep two epochs.
            value = self.learner.score(epoch, means) if self.ranks.is_first else None
        value = self.ranks.first_says(value)
        row: dict[str, float | int | None] = {"epoch": epoch + 1}
        row["learning_rate"] = rate * self.factor()
        row |= means
        if self.learner.score_name is not None:
            row[self.learner.score_name] = value
        self.history.append(row)
        self._sums = {}
        if value is not None and value > self._best["score"]:
            state = _on_cpu(self.learner.kept.state_dict())
            self._best = {"epoch": epoch + 1, "score": value, "state": state}

    def fitted(self) -> Fit:
        best = self._best
        return Fit(self.history, best["epoch"], best["score"], best["state"])

    # State ------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that a run needs to go on, on any number of ranks; of use on the first."""
        return {
            **whole_state(self._exact(), self._rows, self._names, self.ranks),
            "history": self.history,
            "best": self._best,
            "sums": self._sums,
            "halvings": self.halvings,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.restore_exact(own_state(state, self._rows, self._names, self.ranks))
        self.history, self._best = state["history"], state["best"]
        device = next(self.learner.trained.parameters()).device
        self._sums = {name: total.to(device) for name, total in state["sums"].items()}
        self.halvings, self._bad_step = state["halvings"], None

    def copied(self) -> dict[str, Any]:
        """A copy of what the steps to come depend on, on the same device."""
        return copy.deepcopy(self._exact())

    def restore_exact(self, state: dict[str, Any]) -> None:
        """Go back to what `copied` gave."""
        self.learner.trained.load_state_dict(state["trained"])
        self._optimiser.load_state_dict(state["optimiser"])
        for generator, saved in zip(self.learner.generators, state["generators"], strict=True):
            generator.set_state(saved)
        if self._random is None:
            _set_random_state(state["random"])
        else:
            self._random = state["random"]

    def _exact(self) -> dict[str, Any]:
        return {
            "trained": self.learner.trained.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "generators": [generator.get_state() for generator in self.learner.generators],
            "random": random_state() if self._random is None else self._random,
        }

    @contextmanager
    def _own_random_streams(self) -> Iterator[None]:
        if self._random is not None:
            _set_random_state(self._random)
        yield
        if self._random is not None:
            self._random = random_state()


def _on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: copy.deepcopy(value.detach()).cpu() for name, value in state.items()}


def random_state() -> dict[str, Any]:
    """The state of torch's own random streams, of the CPU and of this process's GPU."""
    return {
        "cpu": torch.get_rng_state(),
        # Of this process's GPU alone: a run may go on with another one.
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])
