"""Finished models are put back instead of being trained again, and only where they are the same."""

import os

import pytest
from networks import subject, teacher_settings

from mstkd.config import SplitSettings
from mstkd.data.splits import split
from mstkd.models.kept import FOLDER
from mstkd.training.teacher import train_teacher

FILES = ("model.safetensors", "model.json", "history.csv")


@pytest.fixture
def trained(packs, tmp_path):
    """A function that trains a tiny teacher, and what it wrote."""
    splits = tmp_path / "split.csv"
    split(SplitSettings(), packs=packs[:1], outputs=[splits])
    output = tmp_path / "teacher/model.safetensors"

    def train(lr=0.1):
        optimiser = {"epochs": 1, "batch_size": 4, "milestones": [1], "schedule_epochs": 1}
        settings = teacher_settings(optimiser=optimiser | {"lr": lr}, selection={"rule": "last"})
        train_teacher(
            settings, subject=subject("teacher"), packs=packs[:1], split=splits, output=output
        )
        return {name: output.with_name(name).read_bytes() for name in FILES}

    train.output = output
    return train


def remove(output):
    for name in FILES:
        output.with_name(name).unlink()


def test_deleted_outputs_are_put_back_as_they_were(trained, capfd):
    first = trained()
    number = trained.output.stat().st_ino
    remove(trained.output)
    assert trained() == first
    assert "put back" in capfd.readouterr().err
    assert trained.output.stat().st_ino == number


def test_other_settings_train_anew_and_back_again(trained, capfd):
    first = trained()
    remove(trained.output)
    other = trained(lr=0.2)
    assert other["model.safetensors"] != first["model.safetensors"]
    assert "put back" not in capfd.readouterr().err
    remove(trained.output)
    assert trained() == first


@pytest.mark.parametrize("name", FILES)
def test_a_kept_file_that_is_damaged_is_not_used(trained, capfd, name):
    first = trained()
    remove(trained.output)
    path = trained.output.parent / FOLDER / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert trained() == first
    assert "put back" not in capfd.readouterr().err


def test_without_hard_links_nothing_is_kept(trained, monkeypatch):
    def refuse(*paths):
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    first = trained()
    assert not (trained.output.parent / FOLDER / FILES[0]).exists()
    remove(trained.output)
    assert trained() == first
