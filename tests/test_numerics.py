"""All steps that compute on a GPU set up the process alike."""

import contextlib
import os
from pathlib import Path

import pytest
import torch
from networks import save_teacher, subject
from torch._inductor import config as inductor

from mstkd.artifacts.sources import compared
from mstkd.compute.numerics import configure
from mstkd.config import CacheSettings, Config, EvaluationSettings, read_config
from mstkd.embeddings.cache import cache_embeddings
from mstkd.evaluation.evaluate import evaluate

_TOLD = hasattr(inductor, "deterministic")  # older PyTorch has no such entry


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    """What is set is set back; the environment hands other defaults to torch."""
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    # The undo of both removes what `configure` sets.
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    threads = torch.get_num_threads()
    # Not by monkeypatch, whose undo deletes an entry of this module, and inductor ends at the gap.
    with inductor.patch(deterministic=False) if _TOLD else contextlib.nullcontext():
        yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.set_num_threads(threads)


def test_float32_means_the_same_whatever_was_set_before():
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = True
    configure("cpu", 1, deterministic=False)
    assert torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("deterministic", [False, True])
def test_deterministic_is_without_trials(deterministic):
    configure("cpu", 1, deterministic=deterministic)
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert torch.backends.cudnn.benchmark != deterministic
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == deterministic
    if _TOLD:
        assert inductor.deterministic == deterministic


@pytest.mark.parametrize("deterministic", [None, True])
@pytest.mark.parametrize("step", ["cache-embeddings", "evaluate"])
def test_every_step_computes_as_training_does(
    tmp_path, packs, verification_packs, step, deterministic
):
    teacher = save_teacher(tmp_path, subject("T-A"), packs[:1])
    if step == "evaluate":
        evaluate(
            EvaluationSettings(folds=2, deterministic=deterministic),
            model=teacher,
            packs=verification_packs,
            scores=tmp_path / "scores.h5",
            metrics=tmp_path / "metrics.json",
            device="cpu",
        )
    else:
        settings = CacheSettings(deterministic=deterministic)
        made = tmp_path / "cache.h5"
        cache_embeddings(settings, teachers=[teacher], packs=packs, output=made, device="cpu")
    assert torch.are_deterministic_algorithms_enabled() == bool(deterministic)
    assert torch.backends.cudnn.benchmark != bool(deterministic)


def test_what_was_made_before_is_still_asked_for(shipped_config):
    """These are the settings of caches and metrics from before the key was theirs."""
    config = Config.model_validate(shipped_config)
    cache, evaluation = config.cache_settings(), config.evaluation_settings()
    groups = shipped_config["groups"]
    before = {"recipe": 1, "dtype": "float16", "precision": "auto", "groups": groups}
    assert compared(cache.model_dump(mode="json", exclude_none=True)) == before
    assert evaluation.dump() == '{"recipe":3,"folds":10}'


def test_determinism_is_asked_of_them_where_it_is_on(shipped_config):
    config = Config.model_validate(shipped_config | {"engine": {"deterministic": True}})
    assert config.cache_settings().deterministic
    assert config.evaluation_settings().deterministic


@pytest.fixture
def shipped_config():
    config = read_config(Path(__file__).parent.parent / "config/config.yaml")
    return config.model_dump(mode="json", exclude_none=True, by_alias=True)
