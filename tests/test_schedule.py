"""The learning rate against the public code's rule, written out another way."""

import pytest

from mstkd.config import AdaptorOptimiser, StudentOptimiser, TeacherOptimiser
from mstkd.training.schedule import base_rate, learning_rate


def public_rate(settings, epoch):
    """The public code: 0.1 to the number of milestones m with m - 1 <= the 0-based epoch."""
    return 0.1 ** len([m for m in settings.milestones if m - 1 <= epoch])


@pytest.mark.parametrize("settings", [TeacherOptimiser(), StudentOptimiser(), AdaptorOptimiser()])
def test_every_epoch_of_the_paper(settings):
    steps = 7
    for epoch in range(settings.epochs):
        for step in (epoch * steps, epoch * steps + steps - 1):
            expected = settings.lr * 128 / 512 * public_rate(settings, epoch)
            assert learning_rate(settings, step, steps) == pytest.approx(expected, rel=1e-12)


def test_the_sixteenth_epoch_already_runs_at_the_lower_rate():
    settings, steps = TeacherOptimiser(), 10
    assert learning_rate(settings, 15 * steps - 1, steps) == pytest.approx(0.025)
    assert learning_rate(settings, 15 * steps, steps) == pytest.approx(0.0025)


def test_milestones_fall_at_the_same_fraction_of_a_shorter_run():
    settings, steps = TeacherOptimiser(epochs=26), 4
    rates = [learning_rate(settings, step, steps) for step in range(26 * steps)]
    drops = [step for step in range(1, len(rates)) if rates[step] < rates[step - 1]]
    assert drops == [30, 54, 78, 98]  # (m - 1) / 52 of 104 steps: 30, 54, 78, 98


def test_scaling_is_the_batch_over_512_or_none():
    assert base_rate(TeacherOptimiser(batch_size=64)) == pytest.approx(0.0125)
    assert base_rate(TeacherOptimiser(batch_size=64, lr_scaling="none")) == pytest.approx(0.1)
