"""Ranks that train together: the curve of one process, exact resume, one opinion of everything."""

import csv
import os
import signal

import pytest
import safetensors.torch
import torch
from networks import DIM, save_teacher, subject, teacher_settings
from torch import nn

from mstkd.compute.interruption import Interrupted
from mstkd.compute.ranks import ALONE, Ranks
from mstkd.compute.synchronised import synchronised
from mstkd.config import (
    AdaptorSettings,
    CacheSettings,
    HeadSettings,
    OptimiserSettings,
    StudentSettings,
)
from mstkd.embeddings.cache import cache_embeddings
from mstkd.errors import InputError
from mstkd.losses.head_loss import build_head_loss
from mstkd.training.adaptor import train_adaptor
from mstkd.training.checkpoint import Checkpoint
from mstkd.training.learner import Learner
from mstkd.training.loop import fit
from mstkd.training.student import train_student
from mstkd.training.teacher import train_teacher

STEPS, BATCH, CLASSES = 3, 12, 7
SETTINGS = OptimiserSettings(
    epochs=3, batch_size=BATCH, lr=0.1, lr_scaling="none", milestones=(3,), schedule_epochs=3
)
HEAD = HeadSettings(scale=4, margin_std=0.2, plus=True, sampling={"above": 3, "share": 0.5})
SIX = {"epochs": 2, "batch_size": 6, "milestones": [2], "schedule_epochs": 2, "lr": 0.5}
EQUATION_5 = {"classification": True, "kd_weight": 100.0}


class KilledError(Exception):
    """Stands for a signal."""


def toy(ranks, folder, *, kill_at=None, end_at=None, poison_at=None, divergence="stop"):
    """Train a small network with everything that spans a batch; rows, weights, steps taken."""
    torch.manual_seed(0)
    kept = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 4))
    stream = torch.Generator().manual_seed(7)
    head = build_head_loss(HEAD, 4, CLASSES, stream, ranks)
    trained = nn.ModuleDict({"kept": kept, "head": head})
    synchronised(trained, ranks, torch.device("cpu"))
    own, taken = ranks.share(BATCH), []

    def batches(epoch, first):
        generator = torch.Generator().manual_seed(epoch)
        for step in range(STEPS):
            x = torch.randn(BATCH, 5, generator=generator)
            labels = torch.randint(CLASSES, (BATCH,), generator=generator)
            if epoch * STEPS + step == poison_at:
                x[-1] = float("nan")  # of one rank alone
            if step >= first:
                yield {"x": x[own], "labels": labels[own], "rows": torch.arange(BATCH)[own]}

    def objective(batch):
        taken.append(1)
        if kill_at is not None and len(taken) > kill_at:
            raise KilledError
        if len(taken) == end_at and ranks.rank == ranks.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        loss = head(kept(batch["x"]), batch["labels"])
        return {"loss": loss, "width": batch["x"].square().mean()}

    learner = Learner(
        trained,
        objective,
        kept=kept,
        # Only the first is asked; the others would say something else.
        score=lambda epoch, parts: [2.0, 1.0, 0.0][epoch] if ranks.is_first else 5.0 + epoch,
        score_name="score",
        generators=[stream],
        label="train toy",
        events=None,
    )
    settings = SETTINGS.model_copy(update={"on_divergence": divergence})
    (fitted,) = fit(
        [learner],
        batches=batches,
        steps=STEPS,
        settings=settings,
        checkpoint=Checkpoint(folder / "model.safetensors", "toy"),
        label="train toy",
        name_images=lambda batch: [f"image {row}" for row in batch["rows"].tolist()],
        ranks=ranks,
    )
    weight = ranks.whole(head.head.weight.detach(), CLASSES)
    return fitted.history, fitted, {**kept.state_dict(), "head": weight}, len(taken)


def stopped(ranks, folder, how):
    """A run that ends early, by what `how` says."""
    try:
        toy(ranks, folder, **how)
    except (KilledError, Interrupted, InputError) as error:
        return type(error).__name__, str(error)
    return None


def assert_close(found, expected):
    for row, other in zip(found[0], expected[0], strict=True):
        assert row == pytest.approx(other, rel=1e-4)
    for name, value in expected[2].items():
        torch.testing.assert_close(found[2][name], value, rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return toy(ALONE, tmp_path_factory.mktemp("alone"))


def test_the_curve_is_that_of_one_process(team, alone, tmp_path):
    answers = team.run(toy, tmp_path)
    assert_close(answers[0], alone)
    for answer in answers[1:]:
        assert answer[0] == answers[0][0]
        assert answer[1].epoch == answers[0][1].epoch == 1, "the first rank chose"
        for name, value in answers[0][1].state.items():
            assert torch.equal(answer[1].state[name], value)


@pytest.mark.parametrize("kill_at", [1, 4, 8])
def test_a_killed_run_ends_with_the_same_bytes(team, tmp_path, kill_at):
    whole = team.run(toy, tmp_path / "whole")[0]
    killed = team.run(stopped, tmp_path / "killed", {"kill_at": kill_at})
    assert {name for name, _ in killed} == {"KilledError"}
    again = team.run(toy, tmp_path / "killed")[0]
    assert again[3] == STEPS * (SETTINGS.epochs - kill_at // STEPS)
    assert_bytes(again, whole)


def assert_bytes(found, expected):
    assert found[0] == expected[0]
    for name, value in expected[2].items():
        assert torch.equal(found[2][name], value), name


@pytest.mark.parametrize("end_at", [2, 3])
def test_one_signal_ends_all_ranks_at_one_step(team, tmp_path, end_at):
    whole = team.run(toy, tmp_path / "whole")[0]
    ended = team.run(stopped, tmp_path / "ended", {"end_at": end_at})
    assert {name for name, _ in ended} == {"Interrupted"}
    again = team.run(toy, tmp_path / "ended")
    assert {answer[3] for answer in again} == {STEPS * SETTINGS.epochs - end_at}
    assert_bytes(again[0], whole)


def test_another_number_of_ranks_goes_on(team, alone, tmp_path):
    team.run(stopped, tmp_path / "fewer", {"end_at": 4})
    fewer = toy(ALONE, tmp_path / "fewer")
    assert fewer[3] == STEPS * SETTINGS.epochs - 4
    assert_close(fewer, alone)
    stopped(ALONE, tmp_path / "more", {"end_at": 4})
    more = team.run(toy, tmp_path / "more")[0]
    assert more[3] == STEPS * SETTINGS.epochs - 4
    assert_close(more, alone)


def test_a_fault_of_one_rank_s_image_is_told_alike_by_all(team, tmp_path):
    told = team.run(stopped, tmp_path, {"poison_at": 4})
    assert len(set(told)) == 1
    assert told[0][0] == "InputError"
    assert "a loss that is not finite in step 4" in told[0][1]
    assert f"image {BATCH - 1}" in (tmp_path / "divergence.json").read_text()


def test_all_ranks_go_back_together(team, tmp_path):
    told = team.run(stopped, tmp_path, {"poison_at": 4, "divergence": "retry_lower_lr"})
    assert len(set(told)) == 1 and "learning rate 0.0125" in told[0][1]


# ---------------------------------------------------------------- the steps


def history(model):
    with model.with_name("history.csv").open() as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def same_training(one, other):
    for row, expected in zip(history(one), history(other), strict=True):
        # A pair more or less on the right side of a threshold is 8 %.
        assert row.pop("accuracy", 0) == pytest.approx(expected.pop("accuracy", 0), abs=9)
        assert row == pytest.approx(expected, rel=1e-3)


def _teacher(ranks, folder, packs, verification_packs, split):
    train_teacher(
        teacher_settings(optimiser=SIX),
        subject=subject("T-A"),
        packs=packs[:1],
        selection=verification_packs[:1],
        split=split,
        output=folder / "model.safetensors",
        device="cpu",
        ranks=ranks,
    )
    return folder / "model.safetensors"


def _adaptor(ranks, folder, cache):
    settings = {
        "embedding_dim": DIM,
        "adaptor": {"architecture": "DLDP"},
        "optimiser": SIX,
        "head": {},
    }
    train_adaptor(
        AdaptorSettings.model_validate(settings),
        subject=subject("DLDP", kind="adaptor"),
        cache=cache,
        output=folder / "model.safetensors",
        device="cpu",
        ranks=ranks,
    )
    return folder / "model.safetensors"


def _student(ranks, folder, packs, verification_packs, cache, adaptor):
    settings = {
        "embedding_dim": DIM,
        "backbone": {"blocks": [1, 1, 1, 1], "widths": [4, 4, 4, 4]},
        "loss": EQUATION_5,
        "optimiser": SIX,
        "selection": {"folds": 2},
        "head": {},
    }
    train_student(
        StudentSettings.model_validate(settings),
        subject=subject("DLDP", kind="student", loss="EAF-KD"),
        packs=packs,
        selection=verification_packs,
        cache=cache,
        adaptor=adaptor,
        output=folder / "model.safetensors",
        device="cpu",
        ranks=ranks,
    )
    return folder / "model.safetensors"


def test_the_three_steps_train_as_one_process_does(team, tmp_path, packs, verification_packs):
    split = tmp_path / "T-A.csv"
    split.write_text("group,identity\n" + "".join(f"A,A{i}\n" for i in range(5)))
    teachers = [save_teacher(tmp_path, subject(f"T-{g}"), packs, weights_seed=1) for g in "AB"]
    cache = tmp_path / "cache.h5"
    cache_embeddings(CacheSettings(), teachers=teachers, packs=packs, output=cache, device="cpu")
    steps = [(_teacher, packs, verification_packs, split), (_adaptor, cache)]
    made = {}
    for step, *arguments in steps:
        alone = step(ALONE, tmp_path / f"alone{step.__name__}", *arguments)
        together = team.run(step, tmp_path / f"together{step.__name__}", *arguments)[0]
        same_training(together, alone)
        assert not together.with_name("checkpoint.pt").exists()
        made[step] = alone
    arguments = (packs, verification_packs, cache, made[_adaptor])
    alone = _student(ALONE, tmp_path / "alone", *arguments)
    together = team.run(_student, tmp_path / "together", *arguments)[0]
    same_training(together, alone)
    one, other = map(safetensors.torch.load_file, (together, alone))
    assert one.keys() == other.keys()


def test_a_batch_that_the_ranks_do_not_divide(tmp_path, packs, verification_packs):
    split = tmp_path / "T-A.csv"
    split.write_text("group,identity\nA,A0\nA,A1\nA,A2\n")
    with pytest.raises(InputError, match="batch_size: found 6 for 4 ranks; expected a multiple"):
        _teacher(Ranks(0, 4), tmp_path, packs, verification_packs, split)
