"""Why a loss is no longer finite: the last steps are taken again, with a look at each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mstkd.artifacts.atomic import write_json
from mstkd.data.loader import Batch
from mstkd.training.learner import Run

NAMED = 3  # parameters in a message; the file has all


@dataclass(frozen=True)
class Cause:
    """The first thing that was not finite."""

    run: int  # which of the learners, from 0
    step: int  # with the loss that is not finite, from 0
    earlier: int | None  # step of the first gradient that is not finite, if not the same
    again: bool  # whether it happened again when the steps were taken again
    parts: dict[str, str]  # of the objective in that first step, as text: JSON has no NaN
    parameters: tuple[str, ...]  # whose gradients are not finite
    batch: Batch

    def told(self, steps: int) -> str:
        """The cause in a clause, for an epoch of so many steps."""
        told = f"a loss that is not finite in step {self.step} (epoch {self.step // steps + 1}"
        if not self.again:
            return told + "; taken again, it was finite)"
        if not self.parameters:
            return told + "; all gradients are finite)"
        names = ", ".join(self.parameters[:NAMED])
        more = len(self.parameters) - NAMED
        names += f" and {more} more" if more > 0 else ""
        when = f" in step {self.earlier}" if self.earlier is not None else ""
        return told + f"; first gradients that are not finite{when}: {names})"

    def write(self, path: Path, name_images: Callable[[Batch], Sequence[str]] | None) -> None:
        """Write all of it as JSON, with the batch's images by name."""
        write_json(
            path,
            {
                "step": self.step,
                "first_step_with_a_gradient_that_is_not_finite": self.earlier,
                "parts": self.parts,
                "parameters": list(self.parameters),
                "images": None if name_images is None else list(name_images(self.batch)),
            },
        )


class _Found(Exception):  # noqa: N818, it ends the replay, nothing went wrong
    pass


def first_cause(
    number: int,
    run: Run,
    bad: int,
    replay: Iterable[tuple[tuple[int, float], Batch]],
) -> Cause:
    """Take steps again until a gradient is not finite.

    Args:
        number: of the run among its like.
        run: in the state before the first of these steps.
        bad: the step whose loss was not finite.
        replay: step number and learning rate, and the batch, up to `bad`.
    """
    parts: dict[str, str] = {}
    names: tuple[str, ...] = ()

    def look(found: Mapping[str, Tensor]) -> None:
        nonlocal parts, names
        parts = {name: f"{float(part.detach()):g}" for name, part in found.items()}
        gradients = {
            name: parameter.grad
            for name, parameter in run.learner.trained.named_parameters()
            if parameter.grad is not None
        }
        bad = [not bool(torch.isfinite(gradient).all()) for gradient in gradients.values()]
        on_any_rank = run.ranks.keep_largest(torch.tensor(bad, dtype=torch.uint8)).tolist()
        names = tuple(name for name, is_bad in zip(gradients, on_any_rank, strict=True) if is_bad)
        if names or not bool(torch.isfinite(found["loss"])):
            raise _Found

    batch: Batch = {}
    step, again = bad, False
    try:
        for (step, rate), batch in replay:
            run.step(batch, rate, step, look)
    except _Found:
        again = True
    return Cause(
        run=number,
        step=bad,
        earlier=step if again and step != bad else None,
        again=again,
        parts=parts,
        parameters=names,
        batch=batch,
    )
