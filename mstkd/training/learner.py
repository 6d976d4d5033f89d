"""One network in training: what the loop must be told of it, and its state."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mstkd.compute.ranks import ALONE, Ranks
from mstkd.config import OptimiserSettings
from mstkd.data.loader import Batch
from mstkd.training.captured import CapturedStep
from mstkd.training.engine import Embedder
from mstkd.training.shards import own_state, sharded, whole_state

Objective = Callable[[Batch], Mapping[str, Tensor]]
Look = Callable[[Mapping[str, Tensor]], None]
History = list[dict[str, float | int | None]]
NEVER = torch.iinfo(torch.int64).max  # the number of a step that does not come


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
        embed: what the objective embeds with, if it may be compiled and the step captured.
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
    embed: Embedder | None = None


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
        device = parameters[0].device
        on_gpu = device.type == "cuda"
        self.learner = learner
        self.halvings = 0  # of the learning rate, after losses that were not finite
        self.history: History = []
        self._optimiser = torch.optim.SGD(
            parameters,
            lr=1.0,  # set in every step
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            fused=on_gpu,
            foreach=not on_gpu,
        )
        self._clipped = [p for p in learner.kept.parameters() if p.requires_grad]
        self._norm = settings.gradient_norm
        self._best: dict[str, Any] = {"epoch": 0, "score": -float("inf"), "state": {}}
        self._random = None if alone else learner.random
        # What changes from step to step lies where it is: a captured step knows no other place.
        self._rate = torch.zeros((), device=device)  # float32; not used on a CPU
        self._number = torch.zeros((), dtype=torch.int64, device=device)
        self._bad_step = torch.full((), NEVER, device=device)  # the epoch's first, or NEVER
        self._parts: list[str] = []  # names of the objective's parts
        self._sums: Tensor | None = None  # of the epoch's parts so far, in that order
        self._told = torch.full((), NEVER, pin_memory=on_gpu)  # what `ask` has asked for
        self._arrived: torch.cuda.Event | None = None
        self._copies: tuple[list[Tensor], list[Tensor]] = ([], [])  # what `copied` copies to
        self._compiles = learner.embed is not None and learner.embed.compiled
        self._captured: CapturedStep | None = None
        if learner.embed is not None and learner.embed.captured:
            self._captured = CapturedStep(
                self._compute,
                generators=learner.generators,
                device=device,
                alone=alone,
                label=learner.label,
            )
        self._rate_on_device = on_gpu or self._captured is not None

    @property
    def is_captured(self) -> bool:
        """Whether the next step is the replay of one that was captured."""
        return self._captured is not None and self._captured.is_captured

    def factor(self) -> float:
        """What the schedule's learning rate is multiplied by."""
        return float(0.5**self.halvings)

    def begin_epoch(self) -> None:
        self.learner.trained.train()
        self._bad_step.fill_(NEVER)

    def step(self, batch: Batch, rate: float, number: int, look: Look | None = None) -> None:
        """One step of SGD; `look` sees parts and gradients before they are clipped."""
        self._rate.fill_(rate * self.factor())
        self._number.fill_(number)
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate if self._rate_on_device else rate * self.factor()
        with self._own_random_streams():
            if self._captured is not None and look is None:
                self._captured(batch)
            else:
                self._compute(batch, look)

    def _compute(self, batch: Batch, look: Look | None = None) -> None:
        """What a step asks the device for; the first that is compiled may have to do without."""
        if not self._compiles:
            return self._compute_as_it_is(batch, look)
        self._compiles = False
        before = self.copied()
        try:
            self._compute_as_it_is(batch, look)
        except Exception as error:  # whatever it is: the step can be taken without
            assert self.learner.embed is not None, "what compiles"
            self.learner.embed.uncompile(self.learner.label, error)
            self.restore_exact(before)
            self._compute_as_it_is(batch, look)

    def _compute_as_it_is(self, batch: Batch, look: Look | None) -> None:
        self._optimiser.zero_grad(set_to_none=True)
        parts = dict(self.learner.objective(batch))
        parts["loss"].backward()  # type: ignore[no-untyped-call]
        parts = self._over_all_ranks(parts)
        if look is not None:
            look(parts)
        nn.utils.clip_grad_norm_(self._clipped, self._norm, foreach=True)
        self._optimiser.step()
        # All stays on the device: reading it would wait for all steps so far.
        values = torch.stack([part.detach() for part in parts.values()])
        if self._sums is None:
            self._parts, self._sums = list(parts), torch.zeros_like(values)
        self._sums.add_(values)
        loss = parts["loss"].detach()
        so_far = torch.minimum(self._bad_step, self._number)
        # The difference is 0 where the loss is finite, else NaN.
        torch.where(loss - loss == 0, self._bad_step, so_far, out=self._bad_step)

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
        return _step_or_none(self._bad_step)

    def ask(self) -> None:
        """Have the host told the first bad step so far, which does not wait for it."""
        self._told.copy_(self._bad_step, non_blocking=True)
        if self._bad_step.is_cuda:
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()

    def first_bad_step_when_asked(self) -> int | None:
        """What `ask` asked for; waits for the device no longer than that takes."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return _step_or_none(self._told)

    def end_epoch(self, epoch: int, steps: int, rate: float) -> None:
        """Write the epoch's row, from 0, and keep the weights if they score best so far."""
        means = {name: total / steps for name, total in self._epoch_sums().items()}
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
        if self._sums is not None:
            self._sums.zero_()
        if value is not None and value > self._best["score"]:
            state = _on_cpu(self.learner.kept.state_dict())
            self._best = {"epoch": epoch + 1, "score": value, "state": state}

    def _epoch_sums(self) -> dict[str, float]:
        sums = [] if self._sums is None else self._sums.tolist()
        return dict(zip(self._parts, sums, strict=True))

    def fitted(self) -> Fit:
        best = self._best
        return Fit(self.history, best["epoch"], best["score"], best["state"])

    # State ------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that a run needs to go on, on any number of ranks; of use on the first."""
        sums = [] if self._sums is None else list(self._sums.cpu().unbind())
        return {
            **whole_state(self._exact(), self._rows, self._names, self.ranks),
            "history": self.history,
            "best": self._best,
            "sums": dict(zip(self._parts, sums, strict=True)),
            "halvings": self.halvings,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.restore_exact(own_state(state, self._rows, self._names, self.ranks))
        self.history, self._best = state["history"], state["best"]
        self._parts, self._sums = list(state["sums"]), None
        if self._parts:
            sums = torch.stack(list(state["sums"].values()))
            self._sums = sums.to(self._bad_step.device)
        self.halvings = state["halvings"]
        self._bad_step.fill_(NEVER)

    def copied(self, slot: Literal[0, 1] = 0) -> dict[str, Any]:
        """A copy of what the steps to come depend on, on the same device, till the slot's next."""
        exact, kept = self._exact(), self._copies[slot]
        trained, momenta = exact["trained"], exact["optimiser"]["state"]
        live = [value.detach() for value in trained.values()]
        live += [value for entry in momenta.values() for value in entry.values()]
        if [value.shape for value in live] != [value.shape for value in kept]:
            kept[:] = [torch.empty_like(value) for value in live]
        for dtype in {value.dtype for value in live}:  # of one type, they are one operation
            of_type = [number for number, value in enumerate(live) if value.dtype == dtype]
            torch._foreach_copy_([kept[i] for i in of_type], [live[i] for i in of_type])
        copies = iter(kept)
        return {
            **exact,
            "trained": {name: next(copies) for name in trained},
            "optimiser": {
                **exact["optimiser"],
                "state": {n: {key: next(copies) for key in entry} for n, entry in momenta.items()},
            },
        }

    def restore_exact(self, state: dict[str, Any]) -> None:
        """Go back to what `copied` gave."""
        self.learner.trained.load_state_dict(state["trained"])
        self._optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))
        for generator, saved in zip(self.learner.generators, state["generators"], strict=True):
            _set_state(generator, saved)
        if self._random is None:
            _set_random_state(state["random"])
        else:
            self._random = state["random"]
        if self._captured is not None:
            self._captured.forget()

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


def _step_or_none(number: Tensor) -> int | None:
    return None if int(number) == NEVER else int(number)


def _on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: copy.deepcopy(value.detach()).cpu() for name, value in state.items()}


def _set_state(generator: torch.Generator, saved: Tensor) -> None:
    """Go on where the saved stream was; of another kind of device, it is a seed."""
    if saved.shape == generator.get_state().shape:
        generator.set_state(saved)
    else:
        digest = hashlib.sha256(saved.numpy().tobytes()).digest()
        generator.manual_seed(int.from_bytes(digest[:7], "big"))


def random_state() -> dict[str, Any]:
    """The state of torch's own random streams, of the CPU and of this process's GPU."""
    return {
        "cpu": torch.get_rng_state(),
        # Of this process's GPU alone: a run may go on with another one. Asking where none is in
        # use would open one.
        "cuda": torch.cuda.get_rng_state() if _on_gpu() else None,
    }


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if _on_gpu() and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])


def _on_gpu() -> bool:
    initialised: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return initialised
