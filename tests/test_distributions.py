"""Histograms of scores: true to the pairs, with the thresholds of the protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from reporting import verification_pairs, write_scored
from sklearn.metrics import roc_auc_score

from mstkd.config import DistributionSettings
from mstkd.errors import InputError
from mstkd.evaluation.verification import THRESHOLDS
from mstkd.report import distributions
from mstkd.report.distributions import BINS, histograms, render_distributions, thresholds
from mstkd.report.scored import read_scored

GROUPS = ("B", "A")  # not the order of the pairs


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[np.ndarray]]:
    """Two models with two seeds each, and their similarities."""
    folder, random = tmp_path_factory.mktemp("scores"), np.random.default_rng(5)
    pairs = verification_pairs(("A", "B"), identities=12, pairs=60)
    metrics, similarities = [], []
    for set_ in ("specialized", "baseline"):
        for seed in range(2):
            shift = 0.2 + 0.2 * (pairs.group1 == 1)  # B is told apart more easily
            values = np.clip(random.normal(shift * pairs.same, 0.2), -1, 1)
            similarities.append(values)
            metrics.append(
                write_scored(
                    folder,
                    pairs,
                    np.zeros(len(pairs), bool),
                    similarity=values,
                    set=set_,
                    seed=seed,
                )
            )
    return metrics, similarities


def test_each_histogram_holds_its_pairs_once(
    scored: tuple[list[Path], list[np.ndarray]],
) -> None:
    metrics, similarities = scored
    frame = histograms(read_scored(metrics), GROUPS)
    pairs = verification_pairs(("A", "B"), identities=12, pairs=60)
    assert list(dict.fromkeys(frame["group"])) == list(GROUPS)
    for label, values in zip(dict.fromkeys(frame["label"]), similarities[::2], strict=True):
        for group, kind in ((g, k) for g in GROUPS for k in ("genuine", "impostor")):
            chosen = (frame["label"] == label) & (frame["group"] == group) & (frame["kind"] == kind)
            bins = frame[chosen]
            inside = (pairs.group1 == "AB".index(group)) & (pairs.same == (kind == "genuine"))
            expected = [
                np.count_nonzero((values[inside] >= low) & (values[inside] < high))
                for low, high in zip(bins["low"], bins["high"], strict=True)
            ]
            assert bins["pairs"].tolist() == expected and sum(expected) == inside.sum()
            assert (bins["density"] * (bins["high"] - bins["low"])).sum() == pytest.approx(1)
            assert len(bins) == BINS


def test_thresholds_are_those_that_are_best_on_the_other_folds(
    scored: tuple[list[Path], list[np.ndarray]],
) -> None:
    metrics, similarities = scored
    marks = thresholds(read_scored(metrics), GROUPS)
    pairs = verification_pairs(("A", "B"), identities=12, pairs=60)
    for column, groups in (("threshold_own", [1]), ("threshold_shared", [0, 1])):
        inside = np.isin(pairs.group1, groups)
        distance = 2 - 2 * similarities[0]
        chosen = []
        for fold in range(10):
            others = inside & (pairs.fold != fold)
            right = [
                np.mean((distance[others] < limit) == pairs.same[others]) for limit in THRESHOLDS
            ]
            chosen.append(1 - THRESHOLDS[int(np.argmax(right))] / 2)
        found = marks[marks["group"] == "B"][column].iloc[0]
        assert found == pytest.approx(np.mean(chosen), abs=1e-9)


def test_the_picture_its_numbers_and_what_it_says(
    scored: tuple[list[Path], list[np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics, similarities = scored
    settings = DistributionSettings(caption="Scores", groups=GROUPS)
    outputs = [
        tmp_path / f"scores-table2.{suffix}" for suffix in ("png", "svg", "pdf", "html", "csv")
    ]
    render_distributions(settings, metrics=metrics, outputs=outputs)
    assert len(pd.read_csv(outputs[-1])) == 2 * 2 * 2 * BINS
    pairs = verification_pairs(("A", "B"), identities=12, pairs=60)
    areas = {
        100
        * roc_auc_score(
            pairs.same[pairs.group1 == group], values[pairs.group1 == group]
        ): f"{'AB'[group]} of {set_} SL"
        for set_, values in zip(("specialized", "baseline"), similarities[::2], strict=True)
        for group in (0, 1)
    }
    with Image.open(outputs[0]) as image:
        message = image.info["Comment"]
    for area in (max(areas), min(areas)):
        assert areas[area] in message and f"{area:.1f}" in message
    assert message in outputs[3].read_text()
    monkeypatch.setattr(distributions, "MOST", 1)
    scores = read_scored(metrics)
    figure = distributions.draw_distributions(
        histograms(scores, GROUPS), thresholds(scores, GROUPS), settings
    )
    assert len([axes for axes in figure.axes if axes.get_title(loc="left")]) == 1
    assert "1 further models are in the CSV file alone." in figure._supxlabel.get_text()
    with pytest.raises(InputError, match="expected"):
        render_distributions(settings, metrics=metrics, outputs=[tmp_path / "a.gif"])
