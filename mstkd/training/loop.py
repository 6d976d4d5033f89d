"""The one training loop: teachers, adaptors and students differ in what they hand to `fit`.

It knows no task. An objective turns a batch into named parts, one of them `loss`; a score turns
the parts of an epoch into a number by which the best epoch is kept.
"""

from __future__ import annotations

import copy
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mstkd.config import OptimiserSettings
from mstkd.data.loader import Batch
from mstkd.errors import InputError
from mstkd.progress import progress
from mstkd.training.checkpoint import Checkpoint
from mstkd.training.interruption import Interrupted, asked_to_end
from mstkd.training.schedule import learning_rate

# How many steps run between two looks at whether the loss is still finite: each look waits for
# the device.
STEPS_BETWEEN_CHECKS = 50

Objective = Callable[[Batch], Mapping[str, Tensor]]
History = list[dict[str, float | int | None]]


@dataclass(frozen=True)
class Fit:
    """What training gave: a row an epoch, and the state of the epoch that scored best."""

    history: History
    epoch: int  # counted from 1
    score: float
    state: dict[str, Tensor]  # of the kept module, on the CPU


def fit(
    trained: nn.Module,
    objective: Objective,
    *,
    batches: Callable[[int, int], Iterator[Batch]],
    steps: int,
    kept: nn.Module,
    score: Callable[[int, Mapping[str, float]], float | None],
    score_name: str | None,
    settings: OptimiserSettings,
    generators: Iterable[torch.Generator],
    checkpoint: Checkpoint,
    label: str,
) -> Fit:
    """Train by SGD and keep the best epoch.

    Args:
        trained: everything with parameters to train.
        objective: a batch to its parts, 0-d tensors; `loss` is minimised.
        batches: an epoch's number and the number of batches to pass over, both from 0, to the
            rest of the epoch's batches.
        steps: batches in an epoch.
        kept: the part of `trained` whose gradient is clipped and whose best state is returned.
        score: an epoch's number, from 0, and the means of its parts to a score, higher is
            better, or None for "not looked at"; the last epoch must give a number.
        score_name: the score's column in the history, if it has one.
        settings: optimiser and schedule.
        generators: random streams that the objective draws from, to save with the state.
        checkpoint: where the state is saved, after each epoch and every so many minutes, and
            resumed from.
        label: names the run in progress lines and failures.

    Raises:
        InputError: the loss is no longer finite.
        Interrupted: a signal asked the process to end; the state is saved.
    """
    generators = tuple(generators)
    optimiser = torch.optim.SGD(
        [parameter for parameter in trained.parameters() if parameter.requires_grad],
        lr=1.0,  # set anew in every step
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        foreach=True,
    )
    clipped = [parameter for parameter in kept.parameters() if parameter.requires_grad]
    history: History = []
    best: dict[str, Any] = {"epoch": 0, "score": -float("inf"), "state": {}}
    # What an epoch has so far: batches taken, sums of the parts, seconds.
    taken, sums, seconds = 0, dict[str, Tensor](), 0.0
    state = checkpoint.load()
    if state is not None:
        trained.load_state_dict(state["trained"])
        optimiser.load_state_dict(state["optimiser"])
        _restore_random(state["random"], generators)
        history, best = state["history"], state["best"]
        device = next(trained.parameters()).device
        taken, seconds = state["taken"], state["seconds"]
        sums = {name: total.to(device) for name, total in state["sums"].items()}
        place = f"epoch {len(history)}" + (f" and {taken} steps" if taken else "")
        print(f"{label}: resumed after {place} from {checkpoint.path}", flush=True)

    def save() -> None:
        checkpoint.save(
            {
                "trained": trained.state_dict(),
                "optimiser": optimiser.state_dict(),
                "random": _random_state(generators),
                "history": history,
                "best": best,
                "taken": taken,
                "sums": sums,
                "seconds": seconds,
            }
        )

    done = (len(history) * steps + taken) * settings.batch_size  # images
    total = settings.epochs * steps * settings.batch_size
    with progress(label, total, "images", done) as told, asked_to_end() as signalled:
        for epoch in range(len(history), settings.epochs):
            begin = time.monotonic() - seconds
            trained.train()
            bad_step: Tensor | None = None
            for step, batch in enumerate(batches(epoch, taken), start=epoch * steps + taken):
                rate = learning_rate(settings, step, steps)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                parts = objective(batch)
                loss = parts["loss"]
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(clipped, settings.gradient_norm, foreach=True)
                optimiser.step()
                for name, part in parts.items():
                    sums[name] = sums.get(name, torch.zeros_like(part)) + part.detach()
                bad_step = _first_bad(bad_step, loss.detach(), step)
                taken, seconds = step + 1 - epoch * steps, time.monotonic() - begin
                save_now = taken < steps and (signalled() > 0 or checkpoint.is_due())
                if save_now or taken == steps or (step + 1) % STEPS_BETWEEN_CHECKS == 0:
                    _stop_if_not_finite(bad_step, settings, steps, checkpoint, label)
                told(settings.batch_size)
                if save_now:
                    save()
                    _end_if(signalled(), label, checkpoint)
            means = {name: float(total) / steps for name, total in sums.items()}
            value = score(epoch, means)
            row: dict[str, float | int | None] = {"epoch": epoch + 1, "learning_rate": rate}
            row |= means
            if score_name is not None:
                row[score_name] = value
            row["seconds"] = round(time.monotonic() - begin, 3)
            taken, sums, seconds = 0, {}, 0.0
            history.append(row)
            if value is not None and value > best["score"]:
                best = {"epoch": epoch + 1, "score": value, "state": _on_cpu(kept.state_dict())}
            save()
            if epoch + 1 < settings.epochs:
                _end_if(signalled(), label, checkpoint)
    return Fit(history, best["epoch"], best["score"], best["state"])


def _end_if(number: int, label: str, checkpoint: Checkpoint) -> None:
    if number > 0:
        name = signal.Signals(number).name
        raise Interrupted(number, f"{label}: {name} received, state saved in {checkpoint.path}")


def _first_bad(bad_step: Tensor | None, loss: Tensor, step: int) -> Tensor:
    """The first step with a loss that is not finite, or -1; stays on the device."""
    if bad_step is None:
        bad_step = torch.full((), -1, device=loss.device)
    return torch.where((bad_step < 0) & ~torch.isfinite(loss), step, bad_step)


def _stop_if_not_finite(
    bad_step: Tensor,
    settings: OptimiserSettings,
    steps: int,
    checkpoint: Checkpoint,
    label: str,
) -> None:
    step = int(bad_step)
    if step < 0:
        return
    rate = learning_rate(settings, step, steps)
    saved = checkpoint.path if checkpoint.path.exists() else "none yet"
    raise InputError(
        label,
        found=f"a loss that is not finite in step {step} (epoch {step // steps + 1}, "
        f"learning rate {rate:g})",
        expected=f"a finite loss; try a lower optimiser.lr; last good checkpoint: {saved}",
    )


def _on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: copy.deepcopy(value.detach()).cpu() for name, value in state.items()}


def _random_state(generators: tuple[torch.Generator, ...]) -> dict[str, Any]:
    return {
        "cpu": torch.get_rng_state(),
        # Of this process's GPU alone: a run may go on with another one.
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "generators": [generator.get_state() for generator in generators],
    }


def _restore_random(state: dict[str, Any], generators: tuple[torch.Generator, ...]) -> None:
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])
    for generator, saved in zip(generators, state["generators"], strict=True):
        generator.set_state(saved)
