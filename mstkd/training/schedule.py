"""Step to learning rate, a pure function (section 4.6)."""

from __future__ import annotations

import math

from mstkd.config import OptimiserSettings


def base_rate(settings: OptimiserSettings) -> float:
    """The learning rate before any decay; `batch/512` is the public code's scaling (D1, D2)."""
    if settings.lr_scaling == "batch/512":
        return settings.lr * settings.batch_size / 512
    return settings.lr


def learning_rate(settings: OptimiserSettings, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step counted from 0.

    A milestone m, written for `schedule_epochs`, lowers the rate from the m-th epoch on,
    counted from 1 as the paper and its code do (D19). Where other `epochs` are asked for, it
    falls at the same fraction of the run, to the step.
    """
    total = settings.epochs * steps_per_epoch
    passed = sum(
        step >= math.ceil((milestone - 1) * total / settings.schedule_epochs)
        for milestone in settings.milestones
    )
    return base_rate(settings) * settings.decay**passed
