"""The loop: arithmetic against a hand-written step, exact resume, and stopping in time."""

import copy

import pytest
import torch
from torch import nn

from mstkd.config import OptimiserSettings
from mstkd.errors import InputError
from mstkd.training.checkpoint import Checkpoint, fingerprint
from mstkd.training.loop import fit

STEPS, BATCH = 3, 4
SETTINGS = OptimiserSettings(
    epochs=4, batch_size=BATCH, lr=0.2, lr_scaling="none", milestones=(3,), schedule_epochs=4
)


class KilledError(Exception):
    """Stands for a signal."""


def run(tmp_path, *, settings=SETTINGS, kill_at=None, poison=None, score=None, name="a"):
    """Train a small network with dropout and its own random stream; give the result."""
    torch.manual_seed(0)
    kept = nn.Sequential(nn.Linear(5, 6), nn.Dropout(0.3), nn.Linear(6, 3))
    trained = nn.ModuleDict({"kept": kept, "head": nn.Linear(3, 3)})
    noise = torch.Generator().manual_seed(7)
    taken = []

    def batches(epoch):
        generator = torch.Generator().manual_seed(epoch)
        for _ in range(STEPS):
            yield {
                "x": torch.randn(BATCH, 5, generator=generator),
                "y": torch.randint(0, 3, (BATCH,), generator=generator),
            }

    def objective(batch):
        taken.append(1)
        if kill_at is not None and len(taken) > kill_at:
            raise KilledError
        logits = trained["head"](kept(batch["x"]))
        logits = logits + torch.randn(logits.shape, generator=noise)
        loss = nn.functional.cross_entropy(logits, batch["y"])
        if poison is not None and len(taken) == poison + 1:
            loss = loss * float("nan")
        return {"loss": loss, "twice": 2 * loss}

    checkpoint = Checkpoint(tmp_path / name / "model.safetensors", fingerprint(settings.dump()))
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
    return fitted, copy.deepcopy(trained.state_dict())


def without_seconds(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.mark.parametrize("kill_at", range(1, STEPS * SETTINGS.epochs))
def test_a_killed_run_ends_with_the_same_bytes(tmp_path, kill_at):
    whole, whole_state = run(tmp_path, name="whole")
    with pytest.raises(KilledError):
        run(tmp_path, kill_at=kill_at, name="killed")
    resumed, resumed_state = run(tmp_path, name="killed")
    assert without_seconds(resumed.history) == without_seconds(whole.history)
    assert resumed.epoch == whole.epoch
    for name, tensor in whole_state.items():
        assert torch.equal(resumed_state[name], tensor), name
    for name, tensor in whole.state.items():
        assert torch.equal(resumed.state[name], tensor), name


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

    fit(
        trained,
        lambda batch: {"loss": nn.functional.cross_entropy(head(kept(x)), y)},
        batches=lambda epoch: iter([{}]),
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
    fitted, last = run(tmp_path, score=lambda epoch, parts: scores[epoch])
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
    fitted, _ = run(tmp_path, settings=other)
    assert "belongs to other settings" in capsys.readouterr().err
    fresh, _ = run(tmp_path, settings=other, name="fresh")
    assert without_seconds(fitted.history) == without_seconds(fresh.history)
