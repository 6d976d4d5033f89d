"""`--device cpu` leaves the GPUs of a machine alone: no context is opened on one."""

import functools
from types import FunctionType

import pytest
import torch
import torch._dynamo  # SGD loads it, and it looks at functions of torch.cuda
from networks import save_teacher, subject, teacher_settings

from mstkd.config import CacheSettings, EvaluationSettings
from mstkd.embeddings.cache import cache_embeddings
from mstkd.evaluation.evaluate import evaluate
from mstkd.training import learner
from mstkd.training.teacher import train_teacher

# Ask the driver what there is, or put something off until a GPU is in use.
HARMLESS = ("is_available", "device_count", "is_initialized", "manual_seed_all", "is_built")


@pytest.fixture(autouse=True)
def _gpus_that_nobody_may_touch(monkeypatch):
    """Two GPUs, of which nothing can be asked that would open a context there."""

    def refusing(whole):
        @functools.wraps(whole)
        def refused(*args, **options):
            raise AssertionError(f"torch.cuda.{whole.__name__} was called")

        return refused

    for name, whole in vars(torch.cuda).copy().items():
        public = not name.startswith("_") and name not in HARMLESS
        if isinstance(whole, FunctionType) and (public or name == "_lazy_init"):
            monkeypatch.setattr(torch.cuda, name, refusing(whole))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)


def test_the_made_up_gpus_notice_whoever_asks():
    with pytest.raises(AssertionError, match=r"torch\.cuda\.get_rng_state"):
        torch.cuda.get_rng_state()
    with pytest.raises(AssertionError, match=r"torch\.cuda\.set_device"):
        torch.cuda.set_device(0)


def test_a_teacher_is_trained_stopped_and_resumed(tmp_path, monkeypatch, packs, verification_packs):
    """With checkpoints, whose random streams are a GPU's too where one is in use."""
    split = tmp_path / "T-A.csv"
    split.write_text("group,identity\n" + "".join(f"A,A{i}\n" for i in range(5)))
    job = {
        "subject": subject("T-A"),
        "packs": packs[:1],
        "selection": verification_packs[:1],
        "split": split,
        "device": "cpu",
    }
    saved, end_epoch = [], learner.Run.end_epoch

    def second_ends(run, epoch, *others):
        if epoch == 1 and not saved:
            saved.append(epoch)
            raise KeyboardInterrupt
        end_epoch(run, epoch, *others)

    monkeypatch.setattr(learner.Run, "end_epoch", second_ends)
    output = tmp_path / "T-A" / "model.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train_teacher(teacher_settings(), output=output, **job)
    assert output.with_name("checkpoint.pt").exists()
    train_teacher(teacher_settings(), output=output, **job)
    assert output.exists()


def test_a_cache_is_made_and_a_model_evaluated(tmp_path, packs, verification_packs):
    teacher = save_teacher(tmp_path, subject("T-A"), packs[:1])
    cache = tmp_path / "cache.h5"
    cache_embeddings(CacheSettings(), teachers=[teacher], packs=packs, output=cache, device="cpu")
    scores, metrics = tmp_path / "scores.h5", tmp_path / "metrics.json"
    evaluate(
        EvaluationSettings(folds=2),
        model=teacher,
        packs=verification_packs,
        scores=scores,
        metrics=metrics,
        device="cpu",
    )
    assert cache.exists()
    assert scores.exists()
