"""Scores and metrics of a model against a plain computation."""

import json

import h5py
import numpy as np
import pytest
import torch
from networks import save_teacher, subject
from packs import bin_pack
from typer.testing import CliRunner

from mstkd.artifacts.records import Metrics, read_record
from mstkd.cli.app import app
from mstkd.config import EvaluationSettings
from mstkd.data.pack import open_pack
from mstkd.errors import InputError
from mstkd.evaluation.evaluate import evaluate, group_accuracy
from mstkd.evaluation.scorefiles import read_scores
from mstkd.models.weights import load_backbone


@pytest.fixture
def evaluated(tmp_path, packs, verification_packs):
    teacher = save_teacher(tmp_path, subject("T-A"), packs[:1])
    scores, metrics = tmp_path / "scores.h5", tmp_path / "metrics.json"
    evaluate(
        EvaluationSettings(folds=2),
        model=teacher,
        packs=verification_packs,
        scores=scores,
        metrics=metrics,
        device="cpu",
    )
    return teacher, scores, metrics


def plain_cosines(teacher, path):
    model, _ = load_backbone(teacher)
    pack = open_pack(path)
    with torch.no_grad():
        images = torch.from_numpy(np.array(pack.images)).permute(0, 3, 1, 2) / 255.0 * 2 - 1
        summed = (model(images) + model(images.flip(3))).double().numpy()
    unit = summed / np.linalg.norm(summed, axis=1, keepdims=True)
    return (unit[pack.pairs[:, 0]] * unit[pack.pairs[:, 1]]).sum(1)


def test_scores_hold_every_pair_of_every_group(evaluated, verification_packs):
    teacher, scores, _ = evaluated
    with h5py.File(scores) as file:
        assert file["groups"][:].tolist() == [b"A", b"B"]
        assert file["group"][:].tolist() == [0] * 12 + [1] * 12
        assert file["fold"][:].tolist() == ([0] * 6 + [1] * 6) * 2
        assert file["same"][:].tolist() == ([True] * 3 + [False] * 3) * 4
        expected = np.concatenate([plain_cosines(teacher, path) for path in verification_packs])
        np.testing.assert_allclose(file["similarity"][:], expected, atol=1e-5)


def test_scores_name_identities_and_images(evaluated, verification_packs):
    _, scores, _ = evaluated
    table = read_scores(scores)
    assert table.groups == ("A", "B")
    for number, path in enumerate(verification_packs):
        pack, rows = open_pack(path), np.flatnonzero(table.group1 == number)
        names = np.array(pack.identity_names)[pack.identity[pack.pairs]]
        images = np.array(pack.image_paths())[pack.pairs]
        for side in (1, 2):
            codes = getattr(table, f"identity{side}")[rows]
            assert [table.identities[code] for code in codes] == names[:, side - 1].tolist()
            codes = getattr(table, f"image{side}")[rows]
            assert [table.images[code] for code in codes] == images[:, side - 1].tolist()


def test_identities_that_no_file_names_are_their_groups_own(tmp_path, packs):
    """Two .bin files may call two persons `bin0000000`, and two images `test.bin/00000`."""
    paths = [bin_pack(tmp_path, group) for group in ("A", "B")]
    teacher = save_teacher(tmp_path, subject("T-A"), packs[:1])
    outputs = {"scores": tmp_path / "s.h5", "metrics": tmp_path / "m.json", "device": "cpu"}
    evaluate(EvaluationSettings(folds=2), model=teacher, packs=paths, **outputs)
    table = read_scores(tmp_path / "s.h5")
    assert len(table.identities) == 12 and len(table.images) == 16
    assert {table.identities[code] for code in table.identity1[:4]} == {
        f"A/bin{n:07}" for n in (0, 2, 4, 6)
    }
    assert table.images[0] == "A/test.bin/00000"


def test_one_pack_has_no_comparison_of_groups(tmp_path, evaluated, verification_packs):
    teacher, _, metrics = evaluated
    outputs = {"scores": tmp_path / "s.h5", "metrics": tmp_path / "m.json", "device": "cpu"}
    evaluate(EvaluationSettings(folds=2), model=teacher, packs=verification_packs[:1], **outputs)
    alone, both = read_record(Metrics, tmp_path / "m.json"), read_record(Metrics, metrics)
    assert alone.own_threshold.groups == {"A": both.own_threshold.groups["A"]}
    assert alone.own_threshold == alone.shared_threshold
    assert alone.own_threshold.global_accuracy == both.own_threshold.groups["A"].accuracy
    assert alone.own_threshold.std is None and alone.own_threshold.ser is None


def test_metrics_are_those_of_the_scores(evaluated):
    """The protocol written out: best threshold of the other fold, strict, first of equals."""
    _, scores, metrics = evaluated
    with h5py.File(scores) as file:
        distance = 2 - 2 * file["similarity"][:]
        same, fold, group = file["same"][:], file["fold"][:], file["group"][:]
    record = read_record(Metrics, metrics)

    def accuracy(threshold, chosen):
        return np.mean((distance[chosen] < threshold) == same[chosen])

    thresholds = np.arange(0, 4, 0.01)
    for number, name in enumerate(("A", "B")):
        here = group == number
        expected = []
        for test in (0, 1):
            others = [accuracy(t, here & (fold != test)) for t in thresholds]
            best = thresholds[int(np.argmax(others))]
            expected.append(100 * accuracy(best, here & (fold == test)))
        score = record.own_threshold.groups[name]
        assert score.fold_accuracies == pytest.approx(expected)
        assert score.accuracy == pytest.approx(np.mean(expected))
        assert score.pairs == 12
    shared = []
    for test in (0, 1):
        others = [accuracy(t, fold != test) for t in thresholds]
        best = thresholds[int(np.argmax(others))]
        shared.append(100 * accuracy(best, (fold == test) & (group == 1)))
    assert record.shared_threshold.groups["B"].fold_accuracies == pytest.approx(shared)


def test_the_look_during_training_is_the_same_number(evaluated, verification_packs):
    teacher, _, metrics = evaluated
    model, _ = load_backbone(teacher)
    accuracy = group_accuracy(model, open_pack(verification_packs[1]), 2, torch.device("cpu"))
    groups = json.loads(metrics.read_text())["own_threshold"]["groups"]
    assert accuracy == pytest.approx(groups["B"]["accuracy"])


def test_faults(tmp_path, evaluated, packs, verification_packs):
    teacher, _, _ = evaluated
    outputs = {"scores": tmp_path / "s.h5", "metrics": tmp_path / "m.json", "device": "cpu"}
    with pytest.raises(InputError, match="found 12 pairs; expected 50 folds"):
        evaluate(EvaluationSettings(folds=50), model=teacher, packs=verification_packs, **outputs)
    with pytest.raises(InputError, match="verification"):
        evaluate(EvaluationSettings(folds=2), model=teacher, packs=packs, **outputs)
    genuine = bin_pack(tmp_path, "A", same=[True] * 4)
    with pytest.raises(InputError, match="found genuine pairs only; expected genuine and impostor"):
        evaluate(EvaluationSettings(folds=2), model=teacher, packs=[genuine], **outputs)
    wider = save_teacher(tmp_path / "wider", subject("T-A"), packs[:1], size=32)
    with pytest.raises(InputError, match="found 16 pixels; expected 32 pixels"):
        evaluate(EvaluationSettings(folds=2), model=wider, packs=verification_packs, **outputs)
    assert not (tmp_path / "s.h5").exists()


def test_the_command_evaluates_one_group_or_says_in_one_line_why_not(
    tmp_path, packs, verification_packs
):
    teacher = save_teacher(tmp_path, subject("T-A"), packs[:1])

    def told(*of, folds=2):
        given = {"--settings": json.dumps({"folds": folds}), "--model": teacher, "--device": "cpu"}
        given |= {"--scores": tmp_path / "s.h5", "--metrics": tmp_path / "m.json"}
        options = [str(word) for pair in given.items() for word in pair]
        done = CliRunner().invoke(app, ["evaluate", "--packs", *map(str, of), *options])
        return done.exit_code, done.output.rpartition("/")[2].strip()

    assert told(verification_packs[0])[0] == 0
    one_class = bin_pack(tmp_path, "A", same=[False] * 4)
    expected = "pack.h5: found impostor pairs only; expected genuine and impostor pairs"
    assert told(one_class) == (2, expected)
    assert told(*verification_packs, folds=300) == (2, "A.h5: found 12 pairs; expected 300 folds")
    twice = [verification_packs[0]] * 2
    assert told(*twice) == (2, "A.h5: found group A again; expected a pack a group")
