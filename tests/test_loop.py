"""The loop: arithmetic against a hand-written step, exact resume, and stopping in time."""

import copy
import os
import signal

import pytest
import torch
from torch import nn

from mstkd.config import OptimiserSettings
from mstkd.errors import InputError
from mstkd.training.checkpoint import Checkpoint, fingerprint
from mstkd.training.interruption import Interrupted
from mstkd.training.loop import fit

STEPS, BATCH = 3, 4
SETTINGS = OptimiserSettings(
    epochs=4, batch_size=BATCH, lr=0.2, lr_scaling="none", milestones=(3,), schedule_epochs=4
)


class KilledError(Exception):
    """Stands for a signal."""


def run(
    tmp_path,
    *,
    settings=SETTINGS,
    kill_at=None,
    end_at=None,
    poison=None,
    score=None,
    name="a",
    minutes=10,
):
    """Train a small network with dropout and its own random stream; give the result."""
    torch.manual_seed(0)
    kept = nn.Sequential(nn.Linear(5, 6), nn.Dropout(0.3), nn.Linear(6, 3))
    trained = nn.ModuleDict({"kept": kept, "head": nn.Linear(3, 3)})
    noise = torch.Generator().manual_seed(7)
    taken = []

    def batches(epoch, first):
        generator = torch.Generator().manual_seed(epoch)
        whole = [
            {
                "x": torch.randn(BATCH, 5, generator=generator),
                "y": torch.randint(0, 3, (BATCH,), generator=generator),
            }
            for _ in range(STEPS)
        ]
        yield from whole[first:]

    def objective(batch):
        taken.append(1)
        if kill_at is not None and len(taken) > kill_at:
            raise KilledError
        if len(taken) == end_at:
            os.kill(os.getpid(), signal.SIGTERM)
        logits = trained["head"](kept(batch["x"]))
        logits = logits + torch.randn(logits.shape, generator=noise)
        loss = nn.functional.cross_entropy(logits, batch["y"])
        if poison is not None and len(taken) == poison + 1:
            loss = loss * float("nan")
        return {"loss": loss, "twice": 2 * loss}

    output = tmp_path / name / "model.safetensors"
    checkpoint = Checkpoint(output, fingerprint(settings.dump()), minutes=minutes)
    fitted = fit(
        trained,
        objective,
        batches=batches,
        steps=STEPS,
        kept=kept,
        score=score or (lambda epoch, parts: -parts["loss"]),
        score_name="minus_loss",
        settings=settings,
        generators=[noise],
        checkpoint=checkpoint,
        label="train toy",
    )
    return fitted, copy.deepcopy(trained.state_dict()), len(taken)


def without_seconds(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.mark.parametrize("kill_at", range(1, STEPS * SETTINGS.epochs))
def test_a_killed_run_ends_with_the_same_bytes(tmp_path, kill_at):
    with pytest.raises(KilledError):
        run(tmp_path, kill_at=kill_at, name="killed")
    assert same_as_whole(tmp_path, "killed") == STEPS * (SETTINGS.epochs - kill_at // STEPS)


@pytest.mark.parametrize("kill_at", range(1, STEPS * SETTINGS.epochs))
def test_a_run_that_saves_often_loses_no_more_than_since_then(tmp_path, kill_at):
    with pytest.raises(KilledError):
        run(tmp_path, kill_at=kill_at, name="killed", minutes=0)
    assert same_as_whole(tmp_path, "killed") == STEPS * SETTINGS.epochs - kill_at


@pytest.mark.parametrize("end_at", range(1, STEPS * SETTINGS.epochs))
def test_a_run_asked_to_end_saves_its_state_and_loses_nothing(tmp_path, end_at):
    before = signal.getsignal(signal.SIGTERM)
    told = r"SIGTERM received, state saved in .*checkpoint\.pt"
    with pytest.raises(Interrupted, match=told) as e:
        run(tmp_path, end_at=end_at, name="ended")
    assert e.value.exit_code == 128 + 15
    assert signal.getsignal(signal.SIGTERM) == before
    assert same_as_whole(tmp_path, "ended") == STEPS * SETTINGS.epochs - end_at


def test_a_run_asked_to_end_in_its_last_step_ends_as_it_would(tmp_path):
    run(tmp_path, end_at=STEPS * SETTINGS.epochs, name="ended")
    assert same_as_whole(tmp_path, "ended") == 0


def same_as_whole(tmp_path, name):
    """Go on with a run, compare it with one that was never stopped; how many steps it took."""
    whole, whole_state, _ = run(tmp_path, name="whole")
    resumed, resumed_state, steps = run(tmp_path, name=name)
    assert without_seconds(resumed.history) == without_seconds(whole.history)
    assert resumed.epoch == whole.epoch
    for name, tensor in whole_state.items():
        assert torch.equal(resumed_state[name], tensor), name
    for name, tensor in whole.state.items():
        assert torch.equal(resumed.state[name], tensor), name
    return steps


def test_one_step_is_sgd_with_momentum_decay_and_clipping_of_the_kept_part_alone():
    settings = SETTINGS.model_copy(update={"epochs": 1, "gradient_norm": 1e-3})
    kept, head = nn.Linear(2, 2), nn.Linear(2, 2)
    trained = nn.ModuleDict({"kept": kept, "head": head})
    before = {name: p.detach().clone() for name, p in trained.named_parameters()}
    x, y = torch.randn(BATCH, 2), torch.randint(0, 2, (BATCH,))

    loss = nn.functional.cross_entropy(head(kept(x)), y)
    gradients = dict(
        zip(before, torch.autograd.grad(loss, list(trained.parameters())), strict=True)
    )
    norm = torch.sqrt(sum((gradients[n] ** 2).sum() for n in before if n.startswith("kept")))
    shrink = 1e-3 / (norm + 1e-6)

    class Nowhere:
        path = None

        def load(self):
            return None

        def save(self, state):
            pass

        def is_due(self):
            return False

    fit(
        trained,
        lambda batch: {"loss": nn.functional.cross_entropy(head(kept(x)), y)},
        batches=lambda epoch, first: iter([{}]),
        steps=1,
        kept=kept,
        score=lambda epoch, parts: 0.0,
        score_name=None,
        settings=settings,
        generators=[],
        checkpoint=Nowhere(),
        label="one step",
    )
    for name, parameter in trained.named_parameters():
        gradient = gradients[name] * (shrink if name.startswith("kept") else 1.0)
        expected = before[name] - 0.2 * (gradient + 5e-4 * before[name])
        torch.testing.assert_close(parameter.detach(), expected)


def test_the_best_epoch_is_kept_and_the_first_of_equals(tmp_path):
    scores = [1.0, 3.0, None, 3.0]
    fitted, last, _ = run(tmp_path, score=lambda epoch, parts: scores[epoch])
    assert (fitted.epoch, fitted.score) == (2, 3.0)
    assert not torch.equal(fitted.state["0.weight"], last["kept.0.weight"])
    assert [row["minus_loss"] for row in fitted.history] == scores
    assert [row["twice"] / row["loss"] for row in fitted.history] == pytest.approx([2] * 4)


@pytest.mark.parametrize("poison", [0, 4, 11])
def test_a_loss_that_is_not_finite_stops_with_step_rate_and_checkpoint(tmp_path, poison):
    with pytest.raises(InputError) as error:
        run(tmp_path, poison=poison)
    rate = 0.2 if poison < 2 * STEPS else 0.02
    message = str(error.value)
    assert f"in step {poison} (epoch {poison // STEPS + 1}, learning rate {rate:g})" in message
    saved = tmp_path / "a" / "checkpoint.pt"
    assert (str(saved) if poison >= STEPS else "none yet") in message
    assert saved.exists() == (poison >= STEPS)


def test_other_settings_start_anew_and_say_so(tmp_path, capsys):
    with pytest.raises(KilledError):
        run(tmp_path, kill_at=2 * STEPS)
    other = SETTINGS.model_copy(update={"lr": 0.1})
    fitted, _, _ = run(tmp_path, settings=other)
    assert "belongs to other settings" in capsys.readouterr().err
    fresh, _, _ = run(tmp_path, settings=other, name="fresh")
    assert without_seconds(fitted.history) == without_seconds(fresh.history)
