"""Pictures of all models with intervals: what they show is what claims.json says."""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from reporting import errors, verification_pairs, write_scored

from mstkd.artifacts.told import told_by
from mstkd.config import ClaimsSettings
from mstkd.errors import InputError
from mstkd.report import intervals
from mstkd.report.claims import Claims, compute_claims
from mstkd.report.intervals import draw_groups, draw_std, render_intervals

GROUPS = ("A", "B", "C")
FORMATS = ("png", "svg", "pdf", "csv")


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Claims]:
    folder = tmp_path_factory.mktemp("claims")
    pairs = verification_pairs(GROUPS)
    metrics = []
    for place, (who, accuracies) in enumerate(
        (
            ({"name": "SL"}, (95, 80, 90)),
            ({"name": "SL", "set": "baseline"}, (85, 85, 80)),
            ({"name": "none", "set": "none", "loss": "none"}, (70, 75, 70)),
            ({"name": "T-A", "kind": "teacher", "loss": None}, (90, 60, 60)),
        )
    ):
        wrong = errors(pairs, dict(zip(GROUPS, accuracies, strict=True)), seed=place)
        metrics.append(write_scored(folder, pairs, wrong, **who))
    path = folder / "claims.json"
    return path, compute_claims(ClaimsSettings(draws=200), metrics=metrics, output=path)


def test_pictures_and_their_numbers(claims: tuple[Path, Claims], tmp_path: Path) -> None:
    path, told = claims
    outputs = [tmp_path / f"i-{kind}.{suffix}" for kind in ("groups", "std") for suffix in FORMATS]
    render_intervals(claims=path, outputs=outputs)
    for output in outputs:
        made = told_by(output)
        assert made is not None and made.made.step == "render-intervals"
        assert len(made.made.sources) == 1
    groups, std = (pd.read_csv(tmp_path / f"i-{kind}.csv") for kind in ("groups", "std"))
    assert len(groups) == 4 * 3 and len(std) == 4
    models = {model.label: model for model in told.models if model.threshold == "own"}
    for row in groups.to_dict("records"):
        expected = models[row["label"]].groups[row["group"]]
        assert (row["accuracy"], row["low"], row["high"]) == pytest.approx(
            (expected.value, expected.low, expected.high)
        )
    for row in std.to_dict("records"):
        model = models[row["label"]]
        assert row["global_accuracy"] == pytest.approx(model.global_accuracy.value)
        assert row["std_corrected"] == pytest.approx(model.std.corrected)
        assert row["std_low"] == pytest.approx(model.std.low)


def test_what_the_pictures_say(claims: tuple[Path, Claims], tmp_path: Path) -> None:
    path, told = claims
    models = [model for model in told.models if model.threshold == "own"]
    outputs = {kind: tmp_path / f"i-{kind}.png" for kind in ("groups", "std")}
    render_intervals(claims=path, outputs=list(outputs.values()))
    said = {}
    for kind, output in outputs.items():
        with Image.open(output) as image:
            said[kind] = image.info["Comment"]
    apart = sum(
        any(one.low > other.high for one, other in itertools.permutations(model.groups.values(), 2))
        for model in models
    )
    assert 0 < apart < len(models)
    assert f"Of 4 models {apart} have two groups whose intervals do not overlap" in said["groups"]
    assert "Highest: A of specialized SL, a-KD, 95.00" in said["groups"]
    uneven = sum(model.std.value > model.std.floor_high for model in models)
    assert f"Of 4 models {uneven} have a STD above" in said["std"]
    least = max(models, key=lambda model: model.std.corrected)
    assert f"the least even {least.label} with {least.std.corrected:.2f}" in said["std"]


def test_every_group_has_a_mark_with_its_interval(claims: tuple[Path, Claims]) -> None:
    _, told = claims
    (axes,) = draw_groups(told).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    models = {model.label: model for model in told.models if model.threshold == "own"}
    assert labels[0].endswith("T-A"), "teachers first"
    assert set(labels) == set(models)
    bars, marks = axes.lines[::2], axes.lines[1::2]
    for number, (bar, mark) in enumerate(zip(bars, marks, strict=True)):
        row, group = divmod(number, len(GROUPS))
        expected = models[labels[row]].groups[GROUPS[group]]
        assert list(bar.get_xdata()) == [expected.low, expected.high]
        assert list(mark.get_xdata()) == [expected.value]
    assert len({mark.get_marker() for mark in marks}) == len(GROUPS), "grey tells them apart"


def test_seeds_share_a_row_and_their_mean_stands_out(tmp_path: Path) -> None:
    pairs = verification_pairs(GROUPS)
    metrics = [
        write_scored(
            tmp_path,
            pairs,
            errors(pairs, dict.fromkeys(GROUPS, 90 - 3 * seed), seed=seed),
            name=name,
            seed=seed,
        )
        for name in ("SL", "DuL")
        for seed in (1, 2, 3)
    ]
    told = compute_claims(
        ClaimsSettings(draws=200), metrics=metrics, output=tmp_path / "claims.json"
    )
    (axes,) = draw_groups(told).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == 2 and all("seed" not in label for label in labels)
    marks = [line for line in axes.lines if line.get_marker() not in ("None", None, "")]
    large = [line for line in marks if line.get_markersize() > 5]
    assert len(large) == 2 * len(GROUPS)
    assert len(marks) == len(large) * (1 + 3)
    for number, mark in enumerate(large):
        row, group = divmod(number, len(GROUPS))
        values = [
            model.groups[GROUPS[group]].value
            for model in told.models
            if model.threshold == "own" and model.label == labels[row]
        ]
        assert len(values) == 3
        assert mark.get_xdata()[0] == pytest.approx(sum(values) / 3)


def test_std_stands_against_accuracy(
    claims: tuple[Path, Claims], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, told = claims
    (axes,) = draw_std(told).axes
    marks = [line for line in axes.lines if line.get_marker() in ("^", "s", "X")]
    shown = {(float(m.get_xdata()[0]), float(m.get_ydata()[0])) for m in marks}
    own = [model for model in told.models if model.threshold == "own"]
    assert shown == {(model.global_accuracy.value, model.std.corrected) for model in own}
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text().split("  ")[0] for text in legend.get_texts()] == ["1", "2", "3", "4"]
    hollow = [mark for mark in marks if mark.get_markerfacecolor() == "white"]
    assert len(hollow) == 1, "the teacher"
    monkeypatch.setattr(intervals, "NUMBERED", 3)
    legend = draw_std(told).axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        *("Specialized", "Baseline", "Controls")
    ]


def test_faults(claims: tuple[Path, Claims], tmp_path: Path) -> None:
    for name, message in (
        ("i.png", r"found i; expected a name \.\.\.-groups or \.\.\.-std"),
        ("i-std.gif", r"found \.gif"),
    ):
        with pytest.raises(InputError, match=message):
            render_intervals(claims=claims[0], outputs=[tmp_path / name])
    assert not list(tmp_path.iterdir())
