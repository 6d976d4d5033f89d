"""DET curves against error rates counted by hand, and on axes where normal scores are straight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reporting import verification_pairs, write_scored
from scipy import special
from sklearn.metrics import roc_curve

from mstkd.artifacts.told import told_by
from mstkd.errors import InputError
from mstkd.report import det
from mstkd.report.det import (
    POINTS,
    det_curve,
    det_frame,
    det_message,
    draw_det,
    draw_roc,
    render_det,
)
from mstkd.report.scored import read_scored

GROUPS = ("A", "B")


def test_every_point_is_a_threshold_counted_by_hand() -> None:
    generator = np.random.default_rng(0)
    same = generator.random(60) < 0.5
    similarity = np.round(generator.normal(same, 1), 1)  # with ties
    fmr, fnmr = det_curve(similarity, same)
    found = set(zip(fmr.tolist(), fnmr.tolist(), strict=True))
    expected = set()
    for threshold in np.unique(similarity):
        accepted = similarity >= threshold
        match, miss = accepted[~same].mean(), (~accepted[same]).mean()
        if 0 < match < 1 and 0 < miss < 1:
            expected.add((match, miss))
    assert len(found) == len(expected) > 10
    for point in found:
        assert min(np.hypot(*np.subtract(point, other)) for other in expected) < 1e-12


def test_normal_scores_are_straight_and_a_long_curve_is_thinned() -> None:
    generator = np.random.default_rng(1)
    same = np.repeat([True, False], 100_000)
    fmr, fnmr = det_curve(generator.normal(2 * same, 1), same)
    assert POINTS / 2 < len(fmr) <= POINTS
    inside = (fmr > 0.01) & (fmr < 0.6)
    # Of equal variances: the probits of both rates sum to minus the distance of the means.
    sums = special.ndtri(fmr[inside]) + special.ndtri(fnmr[inside])
    np.testing.assert_allclose(sums, -2, atol=0.03)
    assert (np.diff(fmr) >= 0).all() and (np.diff(fnmr) <= 0).all()


@pytest.fixture
def metrics(tmp_path: Path) -> list[Path]:
    pairs = verification_pairs(GROUPS)
    paths = []
    for seed, name in ((0, "SL"), (1, "SL"), (0, "DuL")):
        generator = np.random.default_rng(seed + len(name))
        similarity = generator.normal(0.4 * pairs.same, 0.2).clip(-1, 1)
        wrong = np.zeros(len(pairs), bool)
        paths.append(
            write_scored(tmp_path, pairs, wrong, similarity=similarity, name=name, seed=seed)
        )
    return paths


def test_a_panel_a_model_and_a_line_a_group(
    metrics: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = det_frame(read_scored(metrics))
    labels = list(dict.fromkeys(frame["label"]))
    assert len(labels) == 2, "of seeds the first"
    figure = draw_det(frame)
    panels = [axes for axes in figure.axes if axes.lines]
    assert [axes.get_title("left") for axes in panels] == labels
    table = read_scored(metrics[:1]).tables[0]
    curves = [line for line in panels[0].lines if line.get_label() in GROUPS]
    assert len({str(line.get_linestyle()) for line in curves}) == 2, "grey tells them apart"
    for place, line in enumerate(curves):
        inside = table.group1 == place
        fmr, fnmr = det_curve(table.similarity[inside], table.same[inside])
        np.testing.assert_allclose(special.ndtr(line.get_xdata()), fmr)
        np.testing.assert_allclose(special.ndtr(line.get_ydata()), fnmr)
    monkeypatch.setattr(det, "MOST", 1)
    figure = draw_det(frame)
    assert len([axes for axes in figure.axes if axes.lines]) == 1
    assert "1 further models are in the CSV file alone." in figure.get_supxlabel()


def test_files(metrics: list[Path], tmp_path: Path) -> None:
    outputs = [tmp_path / f"det.{suffix}" for suffix in ("png", "svg", "pdf", "csv")]
    render_det(metrics=metrics, outputs=outputs)
    for output in outputs:
        told = told_by(output)
        assert told is not None and told.made.step == "render-det"
        assert len(told.made.sources) == 2 * 3
    frame = pd.read_csv(outputs[-1])
    pd.testing.assert_frame_equal(frame, det_frame(read_scored(metrics)))
    with pytest.raises(InputError, match=r"found \.gif"):
        render_det(metrics=metrics, outputs=[tmp_path / "det.gif"])
    with pytest.raises(InputError, match="found curves; expected a name det or roc"):
        render_det(metrics=metrics, outputs=[tmp_path / "curves.png"])


def test_roc_has_the_same_points_the_other_way_up(metrics: list[Path], tmp_path: Path) -> None:
    outputs = [tmp_path / "roc.png", tmp_path / "roc.csv", tmp_path / "det.csv"]
    render_det(metrics=metrics, outputs=outputs)
    roc, frame = (pd.read_csv(path) for path in outputs[1:])
    np.testing.assert_allclose(roc["tar"] + frame["fnmr"], 1)
    pd.testing.assert_frame_equal(roc.drop(columns="tar"), frame.drop(columns="fnmr"))
    panel = draw_roc(frame).axes[0]
    table = read_scored(metrics[:1]).tables[0]
    for place, line in enumerate(one for one in panel.lines if one.get_label() in GROUPS):
        inside = table.group1 == place
        fpr, tpr, _ = roc_curve(
            table.same[inside], table.similarity[inside], drop_intermediate=False
        )
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
            steps = tpr[np.isclose(fpr, x / 100)]  # of one FMR there are several
            assert steps.min() - 1e-9 <= y / 100 <= steps.max() + 1e-9
    assert panel.get_xscale() == "log"


def test_what_the_curves_say(metrics: list[Path]) -> None:
    frame = pd.DataFrame(
        {
            "label": ["one"] * 4 + ["two"] * 2,
            "group": ["A", "A", "B", "B", "A", "A"],
            "fmr": [0.0, 0.02, 0.0, 0.02, 0.02, 0.5],  # the last does not reach to 1 %
            "fnmr": [0.4, 0.2, 0.3, 0.1, 0.01, 0.0],
        }
    )
    message = det_message(frame)
    assert "lowest with 20.0 percent, group B of one" in message
    assert "highest with 30.0 percent, group A of one" in message
    assert det_message(frame[frame["label"] == "two"]) == ""
