"""A captured step takes the same steps, on a recorder that stands in for a CUDA graph."""

import functools
import os
import signal
from types import SimpleNamespace

import pytest
import torch
from recordedsteps import Recorder
from torch import nn

from mstkd.compute.interruption import Interrupted
from mstkd.config import EngineSettings, HeadSettings, OptimiserSettings
from mstkd.errors import InputError
from mstkd.losses.head_loss import build_head_loss
from mstkd.models.iresnet import IResNet
from mstkd.training import captured, learner, loop
from mstkd.training.checkpoint import Checkpoint
from mstkd.training.engine import Embedder

CLASSES, DIM, SIDE, BATCH, STEPS = 6, 4, 16, 4, 5
SETTINGS = OptimiserSettings(
    epochs=3, batch_size=BATCH, lr=0.1, lr_scaling="none", milestones=(3,), schedule_epochs=3
)
NEVER = 10**9


@pytest.fixture(autouse=True)
def recorder(monkeypatch):
    """Steps are recorded, and SGD takes a rate that is a tensor, as on a GPU."""
    whole = torch.optim.SGD
    monkeypatch.setattr(captured, "Cuda", Recorder)
    monkeypatch.setattr(captured, "WARM_UP", 2)
    monkeypatch.setattr(
        torch.optim, "SGD", lambda *a, **k: whole(*a, **{**k, "fused": True, "foreach": False})
    )
    Recorder.captures = Recorder.replays = 0


def teacher(seed=0, *, capture=True, plus=False, tail=None):
    """A tiny backbone with dropout under an elastic head."""
    torch.manual_seed(seed)
    backbone = IResNet(
        (1, 1, 1, 1), widths=(4, 4, 4, 4), embedding_dim=DIM, image_size=SIDE, dropout=0.3
    )
    margins = torch.Generator().manual_seed(seed + 1)
    head = build_head_loss(HeadSettings(plus=plus), DIM, CLASSES, margins)
    embed = Embedder(backbone, EngineSettings(), torch.device("cpu"))
    embed.captured = capture

    def objective(batch):
        loss = head(embed(batch["images"]), batch["labels"])
        return {"loss": loss if tail is None else tail(loss), "twice": 2 * loss}

    return learner.Learner(
        nn.ModuleDict({"backbone": backbone, "head": head}),
        objective,
        kept=backbone,
        score=lambda epoch, parts: -parts["loss"],
        score_name=None,
        generators=[margins],
        label="train tiny",
        embed=embed,
    )


def batches(epoch, first, *, bad=None, end_at=None):
    generator = torch.Generator().manual_seed(epoch)
    for step in range(STEPS):
        images = torch.randn(BATCH, 3, SIDE, SIDE, generator=generator)
        labels = torch.randint(CLASSES, (BATCH,), generator=generator)
        if (epoch, step) == bad:
            images[1] = float("nan")
        if (epoch, step) == end_at:
            os.kill(os.getpid(), signal.SIGTERM)
        if step >= first:
            yield {"images": images, "labels": labels}


def fitted(folder, learners, *, settings=SETTINGS, batches=batches):
    return loop.fit(
        learners,
        batches=batches,
        steps=STEPS,
        settings=settings,
        checkpoint=Checkpoint(folder / "model.safetensors", "run"),
        label="train tiny",
    )


def same(one, other):
    rows = [[{**row, "seconds": 0} for row in fit.history] for fit in (one, other)]
    assert rows[0] == rows[1]
    for name, tensor in one.state.items():
        assert torch.equal(other.state[name], tensor), name


def step_by_step(monkeypatch, folder, learners, **options):
    """What the same run gives that never captures anything."""
    with monkeypatch.context() as patch:
        patch.setattr(captured, "WARM_UP", NEVER)
        return fitted(folder, learners, **options)


@pytest.mark.parametrize("plus", [False, True])
def test_a_captured_run_ends_as_one_that_launches_each_operation(tmp_path, monkeypatch, plus):
    (expected,) = step_by_step(monkeypatch, tmp_path / "plain", [teacher(plus=plus)])
    assert Recorder.replays == 0
    (found,) = fitted(tmp_path / "captured", [teacher(plus=plus)])
    assert (Recorder.captures, Recorder.replays) == (1, STEPS * SETTINGS.epochs - 2)
    same(found, expected)
    assert int(found.state["bn1.num_batches_tracked"]) == STEPS * found.epoch


def test_without_capture_nothing_is_captured(tmp_path):
    fitted(tmp_path, [teacher(capture=False)])
    assert Recorder.captures == 0


@pytest.mark.parametrize("end_at", [(0, 1), (1, 0), (1, 3)])
def test_a_captured_run_that_was_ended_goes_on_to_the_same_bytes(tmp_path, end_at):
    (whole,) = fitted(tmp_path / "whole", [teacher()])
    with pytest.raises(Interrupted):
        fitted(tmp_path, [teacher()], batches=functools.partial(batches, end_at=end_at))
    (resumed,) = fitted(tmp_path, [teacher()])
    assert Recorder.captures >= 2
    same(resumed, whole)


def test_learners_that_share_a_stream_are_captured_each(tmp_path, monkeypatch):
    together = fitted(tmp_path / "together", [teacher(0), teacher(1)])
    assert Recorder.captures == 2
    for seed, one in enumerate(together):
        (alone,) = step_by_step(monkeypatch, tmp_path / f"alone {seed}", [teacher(seed)])
        same(one, alone)


def test_the_diagnosis_of_a_captured_run_names_step_and_parameter(tmp_path):
    with pytest.raises(InputError, match=r"in step 8 \(epoch 2; first gradients .*backbone\."):
        fitted(tmp_path, [teacher()], batches=functools.partial(batches, bad=(1, 3)))
    assert Recorder.replays > 0


def test_a_captured_run_goes_back_and_on_at_half_the_rate(tmp_path, monkeypatch):
    settings = SETTINGS.model_copy(update={"on_divergence": "retry_lower_lr"})

    def run(folder, how):
        # The bad number comes the first time only, and when the steps are looked at.
        def poisoned(epoch, first):
            if (epoch, first) == (1, 0):
                poisoned.seen += 1
            yield from batches(epoch, first, bad=(1, 3) if poisoned.seen <= 2 else None)

        poisoned.seen = 0
        return how(folder, [teacher()], settings=settings, batches=poisoned)

    (expected,) = run(tmp_path / "plain", functools.partial(step_by_step, monkeypatch))
    (found,) = run(tmp_path / "captured", fitted)
    assert [row["learning_rate"] for row in found.history] == pytest.approx([0.1, 0.05, 0.005])
    assert Recorder.captures == 2
    same(found, expected)


def test_a_step_that_cannot_be_captured_is_told_in_a_line_and_taken(tmp_path, monkeypatch, capsys):
    def asks_the_device(loss):
        return loss * (1.0 if float(loss.detach()) else 0.0)

    (expected,) = step_by_step(monkeypatch, tmp_path / "plain", [teacher()])
    (found,) = fitted(tmp_path / "asks", [teacher(tail=asks_the_device)])
    told = [line for line in capsys.readouterr().err.splitlines() if "captured" in line]
    assert told == [
        "train tiny: steps are not captured as a CUDA graph, which is slower: "
        "operation not permitted when stream is capturing"
    ]
    assert Recorder.replays == 0
    same(found, expected)


def test_a_network_that_cannot_be_compiled_is_told_in_a_line_and_trained(
    tmp_path, monkeypatch, capsys
):
    def compiled(network, **options):
        def call(images):
            network(images)  # the statistics have moved when it fails
            raise RuntimeError("no compiler\nat all")

        return call

    (expected,) = fitted(tmp_path / "plain", [teacher()])
    monkeypatch.setattr(torch, "compile", compiled)
    tiny = teacher()
    embed = Embedder(tiny.kept, EngineSettings(compile="default"), torch.device("cpu"))
    embed.captured = True
    head = tiny.trained["head"]
    (found,) = fitted(
        tmp_path / "failed",
        [
            learner.Learner(
                tiny.trained,
                lambda batch: dict(
                    zip(
                        ("loss", "twice"),
                        (lambda loss: (loss, 2 * loss))(
                            head(embed(batch["images"]), batch["labels"])
                        ),
                        strict=True,
                    )
                ),
                kept=tiny.kept,
                score=tiny.score,
                score_name=None,
                generators=tiny.generators,
                label=tiny.label,
                embed=embed,
            )
        ],
    )
    told = [line for line in capsys.readouterr().err.splitlines() if "compiled" in line]
    assert told == ["train tiny: not compiled, which is slower: no compiler"]
    same(found, expected)


@pytest.mark.parametrize(
    ("device", "ranks", "mode", "expected"),
    [
        ("cuda", 1, "auto", (True, True)),
        ("cuda", 2, "auto", (False, False)),
        ("cuda", 1, "off", (False, False)),
        ("cuda", 1, "default", (True, False)),
        ("cpu", 1, "auto", (False, False)),
        ("cpu", 1, "default", (True, False)),
    ],
)
def test_auto_compiles_and_captures_on_one_gpu_alone(monkeypatch, device, ranks, mode, expected):
    monkeypatch.setattr(torch, "compile", lambda network, **options: network)
    settings = EngineSettings(compile=mode)
    size = SimpleNamespace(size=ranks)
    network = IResNet((1, 1, 1, 1), widths=(4, 4, 4, 4), embedding_dim=DIM, image_size=SIDE)
    embed = Embedder(network, settings, torch.device(device), size)
    assert (embed.compiled, embed.captured) == expected
    adaptor = Embedder(nn.Linear(2, 2), settings, torch.device(device), size)
    assert adaptor.captured == expected[1]
    assert adaptor.compiled == (expected[0] and mode != "auto")


def test_a_random_stream_of_another_kind_of_device_becomes_a_seed():
    drawn = []
    for _ in range(2):
        generator = torch.Generator().manual_seed(3)
        learner._set_state(generator, torch.arange(16, dtype=torch.uint8))
        drawn.append(torch.randn(4, generator=generator))
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0], torch.randn(4, generator=torch.Generator().manual_seed(3)))
    own = torch.Generator().manual_seed(5)
    generator = torch.Generator()
    learner._set_state(generator, own.get_state())
    assert torch.equal(torch.randn(4, generator=generator), torch.randn(4, generator=own))
