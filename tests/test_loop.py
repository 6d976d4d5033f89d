"""The loop: arithmetic against a hand-written step, exact resume, and stopping in time."""

import copy
import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

from mstkd.compute.interruption import Interrupted
from mstkd.config import OptimiserSettings
from mstkd.errors import InputError
from mstkd.training.checkpoint import Checkpoint, fingerprint
from mstkd.training.learner import Learner
from mstkd.training.loop import fit

STEPS, BATCH = 3, 4
SETTINGS = OptimiserSettings(
    epochs=4, batch_size=BATCH, lr=0.2, lr_scaling="none", milestones=(3,), schedule_epochs=4
)


class KilledError(Exception):
    """Stands for a signal."""


def toy(seed, *, kill_at=None, end_at=None, poison=None, score=None):
    """A small learner with dropout and its own random stream, and the list of its steps."""
    torch.manual_seed(seed)
    kept = nn.Sequential(nn.Linear(5, 6), nn.Dropout(0.3), nn.Linear(6, 3))
    trained = nn.ModuleDict({"kept": kept, "head": nn.Linear(3, 3)})
    noise = torch.Generator().manual_seed(seed + 7)
    taken = []

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

    learner = Learner(
        trained,
        objective,
        kept=kept,
        score=score or (lambda epoch, parts: -parts["loss"]),
        score_name="minus_loss",
        generators=[noise],
        label="train toy",
    )
    return learner, taken


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


def run_all(
    tmp_path,
    learners,
    *,
    settings=SETTINGS,
    name="a",
    minutes=10,
    batches=batches,
    steps=STEPS,
    epochs=None,
):
    output = tmp_path / name / "model.safetensors"
    fitted = fit(
        learners,
        batches=batches,
        steps=steps,
        settings=settings,
        epochs=epochs,
        checkpoint=Checkpoint(output, fingerprint(settings.dump()), minutes=minutes),
        label="train toy",
        name_images=lambda batch: [f"image {i}" for i in range(len(batch["x"]))],
    )
    return fitted, [copy.deepcopy(learner.trained.state_dict()) for learner in learners]


def run(tmp_path, *, settings=SETTINGS, name="a", minutes=10, **options):
    """Train one toy; give the result, its last state and how many steps it took."""
    learner, taken = toy(0, **options)
    (fitted,), (state,) = run_all(
        tmp_path, [learner], settings=settings, name=name, minutes=minutes
    )
    return fitted, state, len(taken)


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


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("previous", [True, False], ids=["one damaged", "both damaged"])
def test_a_run_with_a_damaged_state_goes_on_from_the_one_before(tmp_path, capsys, share, previous):
    with pytest.raises(KilledError):
        run(tmp_path, kill_at=2 * STEPS + 1, name="killed")
    for name in ("checkpoint.pt", *([] if previous else ["checkpoint.previous.pt"])):
        path = tmp_path / "killed" / name
        data = bytearray(path.read_bytes())
        data[int(share * (len(data) - 1))] ^= 8
        path.write_bytes(data)
    left = SETTINGS.epochs - 1 if previous else SETTINGS.epochs
    assert same_as_whole(tmp_path, "killed") == left * STEPS
    refused = [line for line in capsys.readouterr().err.splitlines() if "is not used" in line]
    assert len(refused) == (1 if previous else 2)


def test_a_run_asked_to_end_in_its_last_step_ends_as_it_would(tmp_path):
    run(tmp_path, end_at=STEPS * SETTINGS.epochs, name="ended")
    assert same_as_whole(tmp_path, "ended") == 0


def same_as_whole(tmp_path, name):
    """Go on with a run, compare it with one that was never stopped; how many steps it took."""
    whole, whole_state, _ = run(tmp_path, name="whole")
    resumed, resumed_state, steps = run(tmp_path, name=name)
    assert resumed.history == whole.history
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

    learner = Learner(
        trained,
        lambda batch: {"loss": nn.functional.cross_entropy(head(kept(x)), y)},
        kept=kept,
        score=lambda epoch, parts: 0.0,
        score_name=None,
        generators=[],
        label="one step",
    )
    fit(
        [learner],
        batches=lambda epoch, first: iter([{}]),
        steps=1,
        settings=settings,
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
    assert f"in step {poison} (epoch {poison // STEPS + 1}; " in message
    # The toy's poison comes but once.
    assert "taken again, it was finite" in message
    assert f"learning rate {rate:g}; expected" in message
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
    assert fitted.history == fresh.history


def same_fit(one, other):
    assert one.history == other.history
    assert one.epoch == other.epoch
    assert one.state.keys() == other.state.keys()
    for name, tensor in one.state.items():
        assert torch.equal(other.state[name], tensor), name


def test_learners_that_share_a_stream_end_as_they_would_alone(tmp_path):
    together, _ = run_all(tmp_path, [toy(seed)[0] for seed in (0, 1, 0)])
    for number, seed in enumerate((0, 1, 0)):
        (alone,), _ = run_all(tmp_path, [toy(seed)[0]], name=f"alone {number}")
        same_fit(alone, together[number])
    assert together[0].history != together[1].history


@pytest.mark.parametrize("kill_at", [1, STEPS, STEPS + 2, STEPS * SETTINGS.epochs - 1])
@pytest.mark.parametrize("minutes", [0, 10])
def test_learners_that_share_a_stream_are_resumed_together(tmp_path, kill_at, minutes):
    whole, _ = run_all(tmp_path, [toy(0)[0], toy(1)[0]], name="whole")
    with pytest.raises(KilledError):
        run_all(tmp_path, [toy(0)[0], toy(1, kill_at=kill_at)[0]], minutes=minutes)
    resumed, _ = run_all(tmp_path, [toy(0)[0], toy(1)[0]], minutes=minutes)
    for one, other in zip(whole, resumed, strict=True):
        same_fit(one, other)


def with_a_huge_number(bad_epoch, bad_step):
    """The batches, one of them with a pixel that no float32 square holds."""

    def poisoned(epoch, first):
        for step, batch in enumerate(batches(epoch, first), start=first):
            if (epoch, step) == (bad_epoch, bad_step):
                batch["x"][2, 1] = 1e38
            yield batch

    return poisoned


def test_the_diagnosis_names_the_parameter_and_the_images(tmp_path):
    learner, _ = toy(1)
    with torch.no_grad():
        learner.kept[0].weight[:, 1] = 10.0  # times 1e38 is infinite
    with pytest.raises(InputError) as error:
        run_all(tmp_path, [toy(0)[0], learner], batches=with_a_huge_number(2, 1), minutes=0)
    # Learner 0 meets the same number, but its weights are small.
    assert "in step 7 (epoch 3; first gradients that are not finite: kept.0." in str(error.value)
    report = json.loads((tmp_path / "a" / "divergence.json").read_text())
    assert report["step"] == 7
    assert report["parts"]["loss"] in ("nan", "inf")
    assert "kept.0.weight" in report["parameters"]
    assert report["images"] == [f"image {i}" for i in range(BATCH)]


@pytest.mark.parametrize("bad", range(8))
def test_a_look_is_at_what_the_one_before_asked_for(tmp_path, monkeypatch, bad):
    """So no step waits for it; what went wrong is found all the same, from the state before."""
    monkeypatch.setattr("mstkd.training.loop.STEPS_BETWEEN_CHECKS", 2)

    def eight(epoch, first):
        whole = [batch for part in range(3) for batch in batches(3 * epoch + part, 0)][:8]
        if epoch == 1:
            whole[bad]["x"][2, 1] = float("nan")
        yield from whole[first:]

    learner, taken = toy(0)
    with pytest.raises(InputError) as error:
        run_all(tmp_path, [learner], batches=eight, steps=8)
    told = f"in step {8 + bad} (epoch 2; first gradients that are not finite: kept.0."
    assert told in str(error.value)
    asked = bad - bad % 2 + 2  # steps of the epoch when it was asked for first
    again = bad % 2 + 1  # from the look before
    assert len(taken) == 8 + min(asked + 2, 8) + again  # the end of an epoch is looked at at once


def hot(limit):
    """A learner whose loss is infinite after a step in which a weight moved farther."""
    learner, _ = toy(0)
    weight = learner.kept[0].weight
    before = None

    def objective(batch):
        nonlocal before
        parts = learner.objective(batch)
        blown = before is not None and float((weight - before).detach().abs().max()) > limit
        before = None if blown else weight.detach().clone()
        return {**parts, "loss": parts["loss"] + (float("inf") if blown else 0.0)}

    return replace(learner, objective=objective)


def test_half_the_rate_from_the_last_checkpoint_where_the_settings_say_so(tmp_path):
    settings = SETTINGS.model_copy(update={"on_divergence": "retry_lower_lr"})
    (plain,), _ = run_all(tmp_path, [toy(0)[0]], settings=settings, name="plain")
    assert [row["learning_rate"] for row in plain.history] == pytest.approx([0.2, 0.2, 0.02, 0.02])

    (cooled, beside), _ = run_all(tmp_path, [hot(0.03), toy(0)[0]], settings=settings, name="hot")
    rates = [row["learning_rate"] for row in cooled.history]
    assert rates == pytest.approx([0.2, 0.1, 0.005, 0.005])
    same_fit(beside, plain)  # who shares the stream is not slowed down

    with pytest.raises(InputError, match=r"epoch 1; all gradients are finite\), learning rate"):
        run_all(tmp_path, [hot(0.0)], settings=settings, name="hopeless")


def test_tensorboard_reads_the_history(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "events"
    with pytest.raises(KilledError):
        run_all(tmp_path, [replace(toy(0, kill_at=2 * STEPS + 1)[0], events=folder)])
    (fitted,), _ = run_all(tmp_path, [replace(toy(0)[0], events=folder)])
    read = EventAccumulator(str(folder))
    read.Reload()
    for name in ("loss", "twice", "learning_rate", "minus_loss"):
        told = [(event.step, event.value) for event in read.Scalars(name)]
        expected = [(row["epoch"], pytest.approx(row[name])) for row in fitted.history]
        assert told == expected
    assert all("seconds" not in row for row in fitted.history)  # no run is like another in them
    assert [event.step for event in read.Scalars("seconds")] == [1, 2, 3, 4]


@pytest.mark.parametrize("epochs", [1, 3])
def test_what_stops_early_is_the_beginning_of_the_whole(tmp_path, epochs):
    """Same rates, same rows, same last state as of the whole run after so many epochs."""
    states = []

    def score(epoch, parts):
        states.append(copy.deepcopy(learner.trained.state_dict()))
        return -parts["loss"]

    learner, _ = toy(0, score=score)
    (whole,), _ = run_all(tmp_path, [learner])
    stopped, taken = toy(0)
    (part,), (last,) = run_all(tmp_path, [stopped], name="b", epochs=epochs)
    assert part.history == whole.history[:epochs]
    assert len(taken) == epochs * STEPS
    assert all(torch.equal(last[name], states[epochs - 1][name]) for name in last)
    best = min(whole.history[:epochs], key=lambda row: row["loss"])
    assert part.epoch == best["epoch"]


@pytest.mark.parametrize("kill_at", [2, 4])
def test_what_stops_early_is_resumed(tmp_path, kill_at):
    learner, _ = toy(0)
    (whole,), (state,) = run_all(tmp_path, [learner], epochs=2)
    killed, _ = toy(0, kill_at=kill_at)
    with pytest.raises(KilledError):
        run_all(tmp_path, [killed], name="b", epochs=2)
    again, _ = toy(0)
    (found,), (last,) = run_all(tmp_path, [again], name="b", epochs=2)
    assert found.history == whole.history
    assert all(torch.equal(last[name], state[name]) for name in last)
