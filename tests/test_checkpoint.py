"""Checkpoints: what is refused, and what is used instead."""

import pickle

import pytest
import torch

from mstkd.training.checkpoint import Checkpoint, fingerprint


@pytest.fixture
def checkpoint(tmp_path):
    made = Checkpoint(tmp_path / "model.safetensors", fingerprint("settings"))
    made.save({"epoch": 1, "weight": torch.arange(3.0)})
    made.save({"epoch": 2, "weight": torch.arange(4.0)})
    return made


def test_the_newest_state_comes_back(checkpoint):
    state = checkpoint.load()
    assert state["epoch"] == 2
    assert torch.equal(state["weight"], torch.arange(4.0))


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_a_truncated_file_gives_way_to_the_one_before(checkpoint, keep, capsys):
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:keep])
    assert checkpoint.load()["epoch"] == 1
    assert "is not used: it cannot be read" in capsys.readouterr().err


def test_a_pickle_that_runs_code_is_not_run(checkpoint, tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    with checkpoint.path.open("wb") as file:
        pickle.dump(Evil(), file)
    assert checkpoint.load()["epoch"] == 1
    torch.save({"format": Evil()}, checkpoint.path)
    assert checkpoint.load()["epoch"] == 1
    assert not (tmp_path / "ran").exists()


def test_a_foreign_file_is_refused(checkpoint, capsys):
    torch.save({"state": 1}, checkpoint.path)
    assert checkpoint.load()["epoch"] == 1
    assert "not a checkpoint of this version" in capsys.readouterr().err


def test_another_run_is_refused(tmp_path, checkpoint, capsys):
    other = Checkpoint(tmp_path / "model.safetensors", fingerprint("other settings"))
    assert other.load() is None
    assert capsys.readouterr().err.count("belongs to other settings") == 2


def test_remove_leaves_nothing(checkpoint, tmp_path):
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == []
    assert checkpoint.load() is None
