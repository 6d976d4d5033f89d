"""The one training loop: teachers, adaptors and students differ in what they hand to `fit`.

It knows no task. An objective turns a batch into named parts, one of them `loss`; a score turns
the parts of an epoch into a number by which the best epoch is kept. Several learners may share
one stream of batches; each ends as it would alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from mstkd.compute.interruption import Interrupted, asked_to_end
from mstkd.compute.ranks import ALONE, Ranks
from mstkd.config import OptimiserSettings
from mstkd.data.loader import Batch
from mstkd.errors import InputError
from mstkd.progress import progress, say
from mstkd.training.checkpoint import Checkpoint
from mstkd.training.divergence import Cause, first_cause
from mstkd.training.events import Events, Row
from mstkd.training.learner import Fit, Learner, Run
from mstkd.training.schedule import learning_rate

# How many steps run between two looks at whether the losses are still finite. A look is at what the
# one before has asked for: the device goes on meanwhile.
STEPS_BETWEEN_CHECKS = 50
LOWER_LR_RETRIES = 3
DUE = 1  # stands where a signal's number would, when it is time to save; no signal we listen to


def fit(
    learners: Sequence[Learner],
    *,
    batches: Callable[[int, int], Iterator[Batch]],
    steps: int,
    settings: OptimiserSettings,
    epochs: int | None = None,
    checkpoint: Checkpoint,
    label: str,
    name_images: Callable[[Batch], Sequence[str]] | None = None,
    ranks: Ranks = ALONE,
) -> list[Fit]:
    """Train by SGD and keep each learner's best epoch.

    Args:
        learners: what is trained; all see the same batches.
        batches: an epoch's number and the number of batches to pass over, both from 0, to the
            rest of the epoch's batches.
        steps: batches in an epoch.
        settings: optimiser and schedule.
        epochs: after how many training ends; unless given, at the end of the schedule.
        checkpoint: where the state is saved, after each epoch and every so many minutes, and
            resumed from.
        label: names the run in progress lines and failures.
        name_images: what a batch's images are called, for the diagnosis of a loss that is not
            finite.
        ranks: who trains together; each has its share of the batches, and the first writes.

    Raises:
        InputError: a loss is no longer finite.
        Interrupted: a signal asked the process to end; the state is saved.
    """
    runs = [Run(learner, settings, alone=len(learners) == 1, ranks=ranks) for learner in learners]
    epochs = epochs or settings.epochs
    stream = _Stream(runs, batches, steps, settings, epochs, checkpoint, label, ranks)
    resumed = stream.resume()
    if not resumed and settings.on_divergence == "retry_lower_lr":
        stream.save()  # there must be a state to go back to
    done = stream.place() * settings.batch_size  # images
    total = epochs * steps * settings.batch_size
    with (
        progress(label, total, "images", done) as told,
        asked_to_end() as signalled,
        contextlib.ExitStack() as opened,
    ):
        folders = [run.learner.events if ranks.is_first else None for run in runs]
        events = [
            opened.enter_context(Events(folder, stream.timed(run)))
            for folder, run in zip(folders, runs, strict=True)
        ]
        while stream.epoch < epochs:
            cause = stream.run_epoch(lambda: told(settings.batch_size), signalled)
            if cause is None:
                for run, written in zip(runs, events, strict=True):
                    written.add(stream.timed(run)[-1])
                continue
            before = stream.place()
            if not stream.go_back(cause):
                raise stream.diverged(cause, name_images)
            told((stream.place() - before) * settings.batch_size)
    return [run.fitted() for run in runs]


class _Snapshot(NamedTuple):
    """Copies of all runs' states at a place."""

    place: int
    slot: Literal[0, 1]  # where they lie
    states: list[dict[str, Any]]


class _Stream:
    """How far all learners are in the batches that they share."""

    def __init__(
        self,
        runs: Sequence[Run],
        batches: Callable[[int, int], Iterator[Batch]],
        steps: int,
        settings: OptimiserSettings,
        epochs: int,
        checkpoint: Checkpoint,
        label: str,
        ranks: Ranks,
    ) -> None:
        self.ranks = ranks
        self.runs, self.batches, self.steps, self.epochs = runs, batches, steps, epochs
        self.settings, self.checkpoint, self.label = settings, checkpoint, label
        self.epoch = 0  # epochs finished
        self.taken, self.seconds = 0, 0.0  # of the epoch under way
        self.durations: list[float] = []  # of finished epochs, in seconds
        self.snapshots: list[_Snapshot] = []  # of the last two looks of the epoch under way

    def place(self) -> int:
        """Steps taken in all."""
        return self.epoch * self.steps + self.taken

    def timed(self, run: Run) -> list[Row]:
        """A run's history with the seconds that each epoch took.

        For the events alone: in the history they would make every run another result.
        """
        return [
            {**row, "seconds": seconds}
            for row, seconds in zip(run.history, self.durations, strict=True)
        ]

    def resume(self) -> bool:
        """Go on from the checkpoint, if there is a usable one."""
        state = self._load()
        if state is None:
            return False
        self.restore(state)
        place = f"epoch {self.epoch}" + (f" and {self.taken} steps" if self.taken else "")
        say(f"{self.label}: resumed after {place} from {self.checkpoint.path}", sys.stdout)
        return True

    def restore(self, state: dict[str, Any]) -> None:
        self.epoch, self.taken, self.seconds = state["epoch"], state["taken"], state["seconds"]
        self.durations = list(state["durations"])
        for run, its in zip(self.runs, state["runs"], strict=True):
            run.restore(its)

    def save(self) -> None:
        state = {
            "epoch": self.epoch,
            "taken": self.taken,
            "seconds": self.seconds,
            "durations": self.durations,
            "runs": [run.state() for run in self.runs],
        }
        if self.ranks.is_first:
            self.checkpoint.save(state)

    def run_epoch(self, told: Callable[[], None], signalled: Callable[[], int]) -> Cause | None:
        """The rest of the epoch under way; the cause where a loss is not finite."""
        begin = time.monotonic() - self.seconds
        first = self.place()
        for run in self.runs:
            run.begin_epoch()
        self.snapshots = []
        self._remember()
        for step, batch in enumerate(self.batches(self.epoch, self.taken), start=first):
            rate = learning_rate(self.settings, step, self.steps)
            for run in self.runs:
                run.step(batch, rate, step)
            self.taken = step + 1 - self.epoch * self.steps
            self.seconds = time.monotonic() - begin
            last = self.taken == self.steps
            asked = 0 if last else self._asked(signalled)
            save_now = asked != 0
            if save_now or last or (step + 1) % STEPS_BETWEEN_CHECKS == 0:
                cause = self._cause(at_once=save_now or last)
                if cause is not None:
                    return cause
                if not last:
                    self._remember()
            told()
            if save_now:
                self.save()
                self._end_if(asked)
        for run in self.runs:
            run.end_epoch(self.epoch, self.steps, rate)
        self.durations.append(round(time.monotonic() - begin, 3))
        self.epoch, self.taken, self.seconds = self.epoch + 1, 0, 0.0
        self.save()
        if self.epoch < self.epochs:
            self._end_if(self._asked(signalled))
        return None

    def go_back(self, cause: Cause) -> bool:
        """Restore the last saved state with half the learning rate, where the settings say so."""
        run = self.runs[cause.run]
        retries = run.halvings + 1
        if self.settings.on_divergence == "stop" or retries > LOWER_LR_RETRIES:
            return False
        state = self._load()
        if state is None:
            return False
        self.restore(state)
        run.halvings = retries
        self.save()  # a run that is killed now must not try the same again
        say(
            f"{self.label}: {cause.told(self.steps)}; going on after {self.place()} steps with "
            f"the learning rate times {run.factor():g} (try {retries} of {LOWER_LR_RETRIES})"
        )
        return True

    def diverged(
        self, cause: Cause, name_images: Callable[[Batch], Sequence[str]] | None
    ) -> InputError:
        """What to tell; the images of the batch are listed beside the checkpoint."""
        report = self.checkpoint.path.with_name("divergence.json")
        batch = {name: self.ranks.gather(part) for name, part in cause.batch.items()}
        cause = dataclasses.replace(cause, batch=batch)
        if self.ranks.is_first:
            cause.write(report, name_images)
        rate = learning_rate(self.settings, cause.step, self.steps)
        rate *= self.runs[cause.run].factor()
        saved = self.checkpoint.path if self.checkpoint.path.exists() else "none yet"
        return InputError(
            self.runs[cause.run].learner.label,
            found=f"{cause.told(self.steps)}, learning rate {rate:g}",
            expected="a finite loss; try a lower optimiser.lr, or on_divergence: retry_lower_lr; "
            f"the batch is in {report}, the last good checkpoint: {saved}",
        )

    def _load(self) -> dict[str, Any] | None:
        """The saved state, read by all ranks before the first may write the next."""
        state = self.checkpoint.load()
        self.ranks.wait_for_all()
        return state

    def _asked(self, signalled: Callable[[], int]) -> int:
        """The number of a signal that any rank has heard, or DUE, or 0: the same on all ranks."""
        due = self.ranks.is_first and self.checkpoint.is_due()
        return self.ranks.largest(signalled() or (DUE if due else 0))

    def _remember(self) -> None:
        """Copy all states, and ask whether they are good ones: the next look hears of it."""
        last = self.snapshots[-1:]  # not known to be good; the one before is, or never needed again
        slot: Literal[0, 1] = 1 if last and last[0].slot == 0 else 0
        states = [run.copied(slot) for run in self.runs]
        self.snapshots = [*last, _Snapshot(self.place(), slot, states)]
        for run in self.runs:
            run.ask()

    def _cause(self, *, at_once: bool) -> Cause | None:
        """Why a loss is not finite, by taking the last steps again; None where all are.

        All so far where it must be known at once, else all up to the look before.
        """
        for number, run in enumerate(self.runs):
            bad = run.first_bad_step() if at_once else run.first_bad_step_when_asked()
            if bad is None:
                continue
            begin, _, states = [one for one in self.snapshots if one.place <= bad][-1]
            run.restore_exact(states[number])
            again = self.batches(self.epoch, begin - self.epoch * self.steps)
            rates = (
                (step, learning_rate(self.settings, step, self.steps))
                for step in range(begin, bad + 1)
            )
            return first_cause(number, run, bad, zip(rates, again, strict=False))
        return None

    def _end_if(self, number: int) -> None:
        if number > DUE:
            self.ranks.wait_for_all()  # the first may still be writing
            name = signal.Signals(number).name
            message = f"{self.label}: {name} received, state saved in {self.checkpoint.path}"
            raise Interrupted(number, message)
