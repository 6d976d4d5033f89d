"""From teachers through the fused space to students, against plain accuracies of the scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from reporting import errors, verification_pairs, write_scored

from mstkd.artifacts.records import Metrics, Provenance, Source, read_record
from mstkd.artifacts.told import told_by
from mstkd.errors import InputError
from mstkd.evaluation.uncertainty import fold_weights, group_rates
from mstkd.report.rows import read_rows
from mstkd.report.scored import read_scored
from mstkd.report.stages import draw_stages, render_stages, stages_frame

GROUPS = ("A", "B")
PAIRS = verification_pairs(GROUPS, identities=12, pairs=24)


def write(folder: Path, accuracies: tuple[float, float], **subject: Any) -> Path:
    who = "".join(map(str, subject.values()))
    wrong = errors(PAIRS, dict(zip(GROUPS, accuracies, strict=True)), seed=len(who))
    return write_scored(folder, PAIRS, wrong, **subject)


def models(folder: Path, seed: int = 0, lift: float = 0) -> list[Path]:
    """Two sets of teachers, an adaptor and two students each."""
    teacher: dict[str, Any] = {"kind": "teacher", "loss": None, "seed": seed}
    adaptor: dict[str, Any] = {"kind": "adaptor", "loss": None, "name": "SL", "seed": seed}
    paths = [
        write(folder, (90, 70), name="T-A", **teacher),
        write(folder, (60, 85), name="T-B", **teacher),
        write(folder, (80, 75), name="BT-1", set="baseline", **teacher),
        write(folder, (82, 80), name="BT-2", set="baseline", **teacher),
    ]
    for set_, accuracies in (("specialized", (85 + lift, 85)), ("baseline", (80, 80))):
        paths.append(write(folder, accuracies, set=set_, **adaptor))
        for loss in ("a-KD", "EAF-KD"):
            lower = (accuracies[0] - 5, accuracies[1] - len(loss))
            paths.append(write(folder, lower, set=set_, name="SL", loss=loss, seed=seed))
    return paths


def accuracy(path: Path, group: str) -> float:
    return read_record(Metrics, path).own_threshold.groups[group].accuracy


def path_of(paths: list[Path], *words: str) -> Path:
    (found,) = [path for path in paths if path.parent.name.startswith("-".join(words))]
    return found


def test_each_specialized_teacher_stands_for_its_own_group(tmp_path: Path) -> None:
    paths = models(tmp_path)
    frame = stages_frame(read_scored(paths))
    assert frame[["set", "stage", "adaptor", "loss"]].to_numpy().tolist() == [
        [set_, *rest]
        for set_ in ("specialized", "baseline")
        for rest in (
            ["teachers", "", ""],
            ["fused", "SL", ""],
            ["student", "SL", "a-KD"],
            ["student", "SL", "EAF-KD"],
        )
    ]
    own, fused, *students = frame[frame["set"] == "specialized"].to_dict("records")
    teachers = [path_of(paths, "teacher-iresnet34-specialized", f"T-{group}") for group in GROUPS]
    expected = [accuracy(path, group) for path, group in zip(teachers, GROUPS, strict=True)]
    assert [own[f"accuracy_{group}"] for group in GROUPS] == pytest.approx(expected)
    assert own["global_accuracy"] == pytest.approx(np.mean(expected))
    assert np.isnan(own["change"])
    change = fused["global_accuracy"] - own["global_accuracy"]
    assert fused["change"] == pytest.approx(change)
    for student in students:
        change = student["global_accuracy"] - fused["global_accuracy"]
        assert student["change"] == pytest.approx(change)
        assert student["change_low"] <= change <= student["change_high"]
    of_all = frame[frame["set"] == "baseline"].iloc[0]
    mean = np.mean(
        [accuracy(path_of(paths, "teacher-iresnet34-baseline", f"BT-{n}"), "A") for n in (1, 2)]
    )
    assert of_all["accuracy_A"] == pytest.approx(mean)


def test_the_change_of_a_student_has_the_joint_interval(tmp_path: Path) -> None:
    """By the covariance of both error rates, written out."""
    paths = models(tmp_path)
    frame = stages_frame(read_scored(paths))
    row = frame[(frame["stage"] == "student") & (frame["set"] == "specialized")].iloc[0]
    wrong = []
    for words in (("adaptor-iresnet34-specialized",), ("student-iresnet34-specialized-SL-a-KD",)):
        scores = read_scored([path_of(paths, *words)]).tables[0]
        wrong.append((scores.similarity > 0) != scores.same)
    columns = (PAIRS.group1, PAIRS.identity1, PAIRS.identity2)
    weights = fold_weights(PAIRS.fold, PAIRS.group1)
    rates = group_rates(np.stack(wrong).astype(float), *columns, weights)
    contrast = np.array([[50, 50], [-50, -50]]).ravel()
    variance = contrast @ rates.covariance.reshape(4, 4) @ contrast
    independent = contrast @ rates.independent.reshape(4, 4) @ contrast
    half = (row["change_high"] - row["change_low"]) / 2
    # Thresholds that are chosen on folds may add to it; these scores leave them no choice.
    assert half == pytest.approx(1.959964 * np.sqrt(max(variance, independent)), rel=1e-3)


def test_seeds_stand_together(tmp_path: Path) -> None:
    paths = [*models(tmp_path), *models(tmp_path, seed=1, lift=2)]
    frame = stages_frame(read_scored(paths))
    assert len(frame) == 8 and (frame["seeds"] == 2).all()
    fused = frame[(frame["stage"] == "fused") & (frame["set"] == "specialized")].iloc[0]
    both = [
        accuracy(path_of(paths, f"adaptor-iresnet34-specialized-SL-None-seed{seed}"), "A")
        for seed in (0, 1)
    ]
    assert fused["accuracy_A"] == pytest.approx(np.mean(both))
    with pytest.raises(InputError, match="a model of some seeds; expected of every seed"):
        stages_frame(read_scored(paths[:-1]))


def test_figure_and_numbers(tmp_path: Path) -> None:
    paths = models(tmp_path)
    outputs = [tmp_path / f"figures/stages.{suffix}" for suffix in ("csv", "png", "svg", "pdf")]
    render_stages(metrics=paths, outputs=outputs)
    for output in outputs:
        told = told_by(output)
        assert told is not None and told.made.step == "render-stages"
        assert len(told.made.sources) == 2 * len(paths)
    frame = pd.read_csv(outputs[0], keep_default_na=False)
    assert frame["change"].tolist()[0] == ""
    with Image.open(outputs[1]) as image:
        message = image.info["Comment"]
    low, high = sorted(float(value) for value in frame["global_accuracy"][2:4])
    assert f"students {low:.2f} to {high:.2f}; Baseline: teachers" in message
    figure = draw_stages(stages_frame(read_scored(paths)))
    own, of_all = figure.axes
    assert [label.get_text() for label in own.get_yticklabels()] == [
        "teachers, each on its own group",
        "SL: fused space",
        "SL: a-KD student",
        "SL: EAF-KD student",
    ]
    marks = [line for line in own.lines if line.get_marker() in ("s", "D", "o")]
    shown = [float(line.get_xdata()[0]) for line in marks]
    assert shown == pytest.approx([float(value) for value in frame["global_accuracy"][:4]])
    assert of_all.get_title("left") == "Baseline"
    with pytest.raises(InputError, match=r"found \.gif"):
        render_stages(metrics=paths, outputs=[tmp_path / "stages.gif"])


def source(path: str, content: str) -> Source:
    return Source(path=path, sha256=content * 64)


def test_fused_spaces_must_have_been_scored_on_the_same_pairs(tmp_path: Path) -> None:
    """They were made from more files, and those are no pairs."""
    student = "0" * 64

    def rows(*, content: str = "a", folds: int = 10, cache: str = "2") -> None:
        made = Provenance(
            step="evaluate",
            settings={"folds": 10},
            sources=[Source(path="model.safetensors", sha256=student), source("A.h5", "a")],
        )
        fused = [
            Provenance(
                step="trace-adaptors",
                settings={"folds": folds},
                sources=[
                    source("../t/model.safetensors", other),
                    source("A.h5", content),
                    source("../seed0.h5", other),
                ],
            )
            for other in ("2", cache)
        ]
        wrong = errors(PAIRS, dict.fromkeys(GROUPS, 90.0), seed=0)
        paths = [
            write_scored(tmp_path, PAIRS, wrong, provenance=made),
            *(
                write_scored(tmp_path, PAIRS, wrong, kind="adaptor", set=set_, **who)
                for set_, who in zip(
                    ("specialized", "baseline"),
                    ({"loss": None, "provenance": one} for one in fused),
                    strict=True,
                )
            ),
        ]
        read_rows(paths)

    rows()
    rows(cache="3")
    with pytest.raises(InputError, match=r"evaluated on A\.h5: content bbbb"):
        rows(content="b")
    with pytest.raises(InputError, match="evaluated by folds: 5; expected 10"):
        rows(folds=5)
