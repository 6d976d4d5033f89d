"""`students.target_view`: the target is of the image as it is stored, or as the student sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from imagecounts import a_hundred_of_each
from networks import BACKBONE, DIM, save_teacher, subject
from refusals import refused_in_one_line
from runs import TINY, edited, planned
from torch.nn import functional

from mstkd.artifacts.records import ModelRecord, read_record
from mstkd.bench.work import experiment
from mstkd.config import AdaptorSettings, CacheSettings, Config, StudentSettings, files, validate
from mstkd.data.loader import FaceBatches, normalise
from mstkd.data.pack import open_pack
from mstkd.embeddings.cache import cache_embeddings, open_cache
from mstkd.models.weights import load_adaptor, load_backbone
from mstkd.training.adaptor import train_adaptor
from mstkd.training.student import _fused_targets, train_student

CPU = torch.device("cpu")
OPTIMISER = {"epochs": 2, "batch_size": 8, "milestones": [2], "schedule_epochs": 2}
PLAIN = CacheSettings(dtype="float32")
MIRRORED = CacheSettings(dtype="float32", mirrored=True)


def settings(**edits: Any) -> StudentSettings:
    return StudentSettings.model_validate(
        {
            "embedding_dim": DIM,
            "backbone": BACKBONE,
            "loss": {"classification": False, "kd_weight": 10000},
            "optimiser": OPTIMISER,
            "selection": {"rule": "last"},
        }
        | edits
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, packs: list[Path]) -> dict[str, Any]:
    """Two teachers, both caches, and an adaptor."""
    folder = tmp_path_factory.mktemp("made")
    teachers = [
        save_teacher(folder, subject(f"T-{group}"), [pack], weights_seed=seed)
        for seed, (group, pack) in enumerate(zip("AB", packs, strict=True))
    ]
    caches = [folder / "cache.h5", folder / "mirrored.h5"]
    for cached, output in zip((PLAIN, MIRRORED), caches, strict=True):
        cache_embeddings(cached, teachers=teachers, packs=packs, output=output, device="cpu")
    adaptor = folder / "SL" / "model.safetensors"
    train_adaptor(
        AdaptorSettings.model_validate(
            {
                "embedding_dim": DIM,
                "adaptor": {"architecture": "SL"},
                "optimiser": OPTIMISER,
                "head": {},
            }
        ),
        subject=subject("SL", kind="adaptor"),
        cache=caches[0],
        output=adaptor,
        device="cpu",
    )
    return {"teachers": teachers, "caches": caches, "adaptor": adaptor}


@torch.no_grad()
def embedded(teachers: list[Path], images: np.ndarray) -> torch.Tensor:
    """Unit embeddings (N, T * D) of uint8 images (N, H, H, 3), without the cache's code."""
    blocks = []
    for path in teachers:
        network, _ = load_backbone(path)
        blocks.append(functional.normalize(network.eval()(normalise(torch.from_numpy(images)))))
    return torch.cat(blocks, dim=1)


def pixels(packs: list[Path]) -> np.ndarray:
    return np.concatenate([np.array(open_pack(path).images[:]) for path in packs])


def test_a_cache_of_mirror_images_is_of_the_images_turned_round(
    made: dict[str, Any], packs: list[Path]
) -> None:
    images = pixels(packs)
    for path, seen in zip(made["caches"], (images, images[:, :, ::-1].copy()), strict=True):
        expected = embedded(made["teachers"], seen)
        np.testing.assert_allclose(open_cache(path).embeddings, expected, atol=1e-5)
    stored, turned = map(open_cache, made["caches"])
    assert (stored.mirrored, turned.mirrored) == (False, True)
    assert np.abs(stored.embeddings - turned.embeddings).max() > 1e-3
    assert stored.sha256 != turned.sha256


def test_each_target_is_of_what_the_student_sees(made: dict[str, Any], packs: list[Path]) -> None:
    """Of every batch the teachers' embeddings of its own pixels, through the adaptor."""
    opened = [open_pack(path) for path in packs]
    seen, _ = _fused_targets(
        settings(target_view="seen"), made["caches"], made["adaptor"], opened, CPU
    )
    stored, _ = _fused_targets(settings(), made["caches"][:1], made["adaptor"], opened, CPU)
    batches = FaceBatches(opened, split=None, batch_size=8, seed=0, device=CPU, tell_mirrored=True)
    adaptor, _ = load_adaptor(made["adaptor"], 2)
    images = pixels(packs)
    turned = 0
    for batch in batches.epoch(0):
        shown = ((batch["images"] + 1) * 127.5).round().to(torch.uint8)
        shown = shown.permute(0, 2, 3, 1).contiguous().numpy()
        with torch.no_grad():
            of_seen = functional.normalize(adaptor(embedded(made["teachers"], shown)))
            of_stored = functional.normalize(
                adaptor(embedded(made["teachers"], images[batch["rows"].numpy()]))
            )
        torch.testing.assert_close(seen(batch), of_seen, atol=2e-5, rtol=0)
        torch.testing.assert_close(stored(batch), of_stored, atol=2e-5, rtol=0)
        turned += int(batch["mirrored"].sum())
    assert 0 < turned < batches.steps * 8


def test_batches_are_the_same_whether_they_tell_or_not(packs: list[Path]) -> None:
    opened = [open_pack(path) for path in packs]
    made = [
        FaceBatches(opened, split=None, batch_size=8, seed=3, device=CPU, tell_mirrored=tell)
        for tell in (False, True)
    ]
    for one, other in zip(*(batches.epoch(1) for batches in made), strict=True):
        assert set(other) - set(one) == {"mirrored"}
        assert all(torch.equal(one[name], other[name]) for name in one)


def student(folder: Path, packs: list[Path], made: dict[str, Any], **edits: Any) -> Path:
    output = folder / "model.safetensors"
    seen = edits.get("target_view") == "seen"
    train_student(
        settings(**edits),
        subject=subject("SL", kind="student", loss="a-KD"),
        packs=packs,
        cache=made["caches"][0],
        mirrored=made["caches"][1] if seen else None,
        adaptor=made["adaptor"],
        output=output,
        device="cpu",
    )
    return output


def test_students_of_the_two_views_differ_and_say_what_they_learnt_from(
    tmp_path: Path, packs: list[Path], made: dict[str, Any]
) -> None:
    stored = student(tmp_path / "stored", packs, made)
    seen = student(tmp_path / "seen", packs, made, target_view="seen")
    assert stored.read_bytes() != seen.read_bytes()
    records = [read_record(ModelRecord, path.with_name("model.json")) for path in (stored, seen)]
    assert "target_view" not in records[0].settings
    assert records[1].settings["target_view"] == "seen"
    shas = [open_cache(path).sha256 for path in made["caches"]]
    assert records[0].inputs["embeddings"] == records[1].inputs["embeddings"] == shas[0]
    assert "mirrored embeddings" not in records[0].inputs
    assert records[1].inputs["mirrored embeddings"] == shas[1]


def test_caches_that_do_not_fit_are_refused_in_one_line(
    tmp_path: Path, packs: list[Path], made: dict[str, Any]
) -> None:
    opened = [open_pack(path) for path in packs]
    stored, turned = made["caches"]
    others = [save_teacher(tmp_path, subject(f"T-{n}"), packs, weights_seed=9) for n in "AB"]
    foreign = tmp_path / "foreign.h5"
    cache_embeddings(MIRRORED, teachers=others, packs=packs, output=foreign, device="cpu")
    for caches, message in (
        ([None], "--cache: found nothing; expected an embedding cache to distil from"),
        ([stored, None], "--mirrored: found nothing; expected an embedding cache of mirror images"),
        ([stored, stored], "found none of mirror images; expected an embedding cache of mirror"),
        ([turned], "found embeddings of mirror images; expected an embedding cache"),
        ([stored, foreign], f"foreign.h5: found other teachers; expected those of {stored}"),
    ):
        with refused_in_one_line(message):
            _fused_targets(settings(), caches, made["adaptor"], opened, CPU)


# ---------------------------------------------------------------- the config


def config(**edits: Any) -> Config:
    plain = {
        "groups": ["A", "B"],
        "data": {"synthetic": {}},
        "backbones": {"small": {"blocks": [1, 1, 1, 1]}},
        "teachers": {"backbones": ["small"]},
        "students": {"backbone": "small"},
    }
    made = {path.replace("__", "."): value for path, value in edits.items()}
    return validate(Config, edited(plain, made), "config")


def test_who_has_which_target_and_reads_which_cache() -> None:
    plain, seen = config(), config(students__target_view="seen")
    assert plain == config(students__target_view="stored")
    for set_, loss in (("specialized", "a-KD"), ("single", "EAF-KD"), ("none", "none")):
        assert "target_view" not in plain.student_settings(set_, loss).dump()
        assert files.mirrored_cache(plain, "small", set_) == []
    assert seen.student_settings("specialized", "EAF-KD").target_view == "seen"
    assert seen.student_settings("none", "none") == plain.student_settings("none", "none")
    assert files.mirrored_cache(seen, "small", "baseline") == [
        "results/embeddings/small/baseline/mirrored/seed{seed}.h5"
    ]
    assert files.mirrored_cache(seen, "small", "none") == []
    assert seen.cache_settings() == plain.cache_settings()
    assert "mirrored" not in plain.cache_settings().dump()
    assert seen.settings_of("cache-embeddings", mirrored=True) == seen.cache_settings(mirrored=True)


def test_what_is_no_view_is_refused_in_one_line() -> None:
    for edits, message in (
        ({"students__target_view": "flipped"}, "students.target_view: found 'flipped'; expected"),
        (
            {
                "students__target_view": "seen",
                "data__unlabelled": "u",
                "students__losses": {"b": {"classification": False, "images": "unlabelled"}},
            },
            "students.target_view: stored with unlabelled images, as of b",
        ),
    ):
        with refused_in_one_line(message):
            config(**edits)


def test_what_it_costs_counts_the_caches_of_mirror_images() -> None:
    counts = a_hundred_of_each("AB")
    one, two = (
        {load.part: load for load in experiment(config(students__target_view=view), counts)}
        for view in ("stored", "seen")
    )
    assert two["small caches"].jobs == 2 * one["small caches"].jobs
    assert two["small caches"].images == 2 * one["small caches"].images


@pytest.mark.workflow
def test_a_written_default_reruns_nothing_and_the_other_view_what_it_must(finished: Path) -> None:
    assert planned(finished, edited(TINY, {"students.target_view": "stored"})) == {}
    jobs = planned(finished, edited(TINY, {"students.target_view": "seen"}))
    assert jobs["cache_mirrored"] == 3
    assert jobs["train_student"] == 14  # all but the one without distillation
    assert not {"train_teacher", "train_adaptor", "cache_embeddings"} & jobs.keys()
