"""The one training loop: teachers, adaptors and students differ in what they hand to `fit`.

It knows no task. An objective turns a batch into named parts, one of them `loss`; a score turns
the parts of an epoch into a number by which the best epoch is kept.
"""

from __future__ import annotations

import copy
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
    batches: Callable[[int], Iterator[Batch]],
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
        batches: an epoch's number, from 0, to its batches.
        steps: batches in an epoch.
        kept: the part of `trained` whose gradient is clipped and whose best state is returned.
        score: an epoch's number, from 0, and the means of its parts to a score, higher is
            better, or None for "not looked at"; the last epoch must give a number.
        score_name: the score's column in the history, if it has one.
        settings: optimiser and schedule.
        generators: random streams that the objective draws from, to save with the state.
        checkpoint: where the state is saved after each epoch and resumed from.
        label: names the run in progress lines and failures.

    Raises:
        InputError: the loss is no longer finite.
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
    state = checkpoint.load()
    if state is not None:
        trained.load_state_dict(state["trained"])
        optimiser.load_state_dict(state["optimiser"])
        _restore_random(state["random"], generators)
        history, best = state["history"], state["best"]
        print(f"{label}: resumed after epoch {len(history)} from {checkpoint.path}", flush=True)

    images = steps * settings.batch_size  # in an epoch
    with progress(label, settings.epochs * images, "images", len(history) * images) as told:
        for epoch in range(len(history), settings.epochs):
            begin = time.monotonic()
            trained.train()
            sums: dict[str, Tensor] = {}
            bad_step: Tensor | None = None
            for step, batch in enumerate(batches(epoch), start=epoch * steps):
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
                if (step + 1) % STEPS_BETWEEN_CHECKS == 0 or step + 1 == (epoch + 1) * steps:
                    _stop_if_not_finite(bad_step, settings, steps, checkpoint, label)
                told(settings.batch_size)
            means = {name: float(total) / steps for name, total in sums.items()}
            value = score(epoch, means)
            row: dict[str, float | int | None] = {"epoch": epoch + 1, "learning_rate": rate}
            row |= means
            if score_name is not None:
                row[score_name] = value
            row["seconds"] = round(time.monotonic() - begin, 3)
            history.append(row)
            if value is not None and value > best["score"]:
                best = {"epoch": epoch + 1, "score": value, "state": _on_cpu(kept.state_dict())}
            checkpoint.save(
                {
                    "trained": trained.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "random": _random_state(generators),
                    "history": history,
                    "best": best,
                }
            )
    return Fit(history, best["epoch"], best["score"], best["state"])


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
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "generators": [generator.get_state() for generator in generators],
    }


def _restore_random(state: dict[str, Any], generators: tuple[torch.Generator, ...]) -> None:
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    for generator, saved in zip(generators, state["generators"], strict=True):
        generator.set_state(saved)
