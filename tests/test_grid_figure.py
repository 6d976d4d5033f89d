"""Curves along a list of the config: each point is the model's own, as in the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from reporting import errors, verification_pairs, write_scored
from runs import edited

from mstkd.artifacts.told import told_by
from mstkd.config import Config, GridSettings, validate
from mstkd.config.grids import value_text
from mstkd.errors import InputError
from mstkd.report.estimates import rows_told
from mstkd.report.grid import draw_grid, grid_panels, render_grid
from mstkd.report.judgements import RowTold
from mstkd.report.scored import read_scored

GROUPS = ("A", "B", "C")
SHARES = ("0", "0.5")
WEIGHTS = (10, 10000)
SHARE, WEIGHT = (
    GridSettings(section="teachers", key="foreign_share", draws=200),
    GridSettings(section="students", key="kd_weight", draws=200),
)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[RowTold]]:
    """Two shares, two weights, two adaptors; each model has an accuracy of its own."""
    folder = tmp_path_factory.mktemp("claims")
    pairs = verification_pairs(GROUPS)
    models: list[dict[str, Any]] = []
    for share in SHARES:
        backbone = f"small+foreign_share={share}"
        models += [
            {"name": f"T-{group}", "kind": "teacher", "loss": None, "backbone": backbone}
            for group in GROUPS
        ]
        models += [
            {"name": name, "loss": f"a-KD+kd_weight={weight}", "backbone": backbone}
            for name in ("SL", "DuL")
            for weight in WEIGHTS
        ]
    models += [
        {"name": name, "loss": f"a-KD+kd_weight={weight}", "backbone": "small", "set": "baseline"}
        for name in ("SL", "DuL")
        for weight in WEIGHTS
    ]
    models += [
        {"name": "direct", "loss": f"a-KD+kd_weight={one}", "backbone": "small", "set": "single"}
        for one in WEIGHTS
    ]
    models += [{"name": "none", "set": "none", "loss": "none", "backbone": "small"}]
    metrics = []
    for place, who in enumerate(models):
        accuracies = dict(zip(GROUPS, (95 - place, 80 + place % 7, 90 - place // 2), strict=True))
        metrics.append(write_scored(folder, pairs, errors(pairs, accuracies, seed=place), **who))
    found = read_scored(metrics)
    return metrics, rows_told(found, found.rates(["own"]), 200)


def rows_of(told: list[RowTold]) -> dict[tuple[str, str, str, str | None], Any]:
    return {
        (row.subject.backbone, row.subject.set, row.subject.name, row.subject.loss): row
        for row in told
    }


def test_every_point_of_a_share_is_the_models_own(scored: tuple[list[Path], list[RowTold]]) -> None:
    _, told = scored
    known = rows_of(told)
    panels = grid_panels(told, SHARE, GROUPS)
    titles = [[(panel.title, panel.measure) for panel in row] for row in panels]
    assert titles == [
        [("teachers small", "own_group"), ("teachers small", "all_groups")],
        *(
            [(f"{name}, a-KD, kd_weight={weight}", measure) for name in ("SL", "DuL")]
            for weight in WEIGHTS
            for measure in ("global_accuracy", "std")
        ),
    ]
    for weight, (accuracy, std) in zip(WEIGHTS, (panels[1:3], panels[3:5]), strict=True):
        for name, panel, spread in zip(("SL", "DuL"), accuracy, std, strict=True):
            loss = f"a-KD+kd_weight={weight}"
            for measure, drawn in (("global_accuracy", panel), ("std", spread)):
                specialized, baseline = drawn.lines
                assert specialized.points == tuple(
                    (
                        float(share),
                        getattr(
                            known[f"small+foreign_share={share}", "specialized", name, loss],
                            measure,
                        ),
                    )
                    for share in SHARES
                )
                alone = known["small", "baseline", name, loss]
                assert baseline.points == ((None, getattr(alone, measure)),)
    for line, group in zip(panels[0][0].lines, GROUPS, strict=True):
        assert line.label == f"T-{group}"
        assert [point.value for _, point in line.points] == [
            known[f"small+foreign_share={share}", "specialized", f"T-{group}", None]
            .groups[group]
            .value
            for share in SHARES
        ]


def test_lambda_has_a_line_for_each_set_and_share(scored: tuple[list[Path], list[RowTold]]) -> None:
    _, told = scored
    panels = grid_panels(told, WEIGHT, GROUPS)
    titles = [panel.title for row in panels for panel in row if panel.measure == "std"]
    assert titles == [
        *(
            f"{name}, a-KD, teachers foreign_share={share}"
            for share in SHARES
            for name in ("SL", "DuL")
        ),
        *("SL, a-KD", "DuL, a-KD", "single teacher, a-KD"),
    ]
    assert all(
        [value for value, _ in line.points] == [10, 10000]
        for row in panels
        for panel in row
        for line in panel.lines
    )


def test_marks_and_bars_stand_where_the_numbers_are(
    scored: tuple[list[Path], list[RowTold]],
) -> None:
    _, told = scored
    panels = grid_panels(told, SHARE, GROUPS)
    figure = draw_grid(panels, SHARE)
    shown = [axes for axes in figure.axes if axes.axison]
    for axes, panel in zip(shown, (panel for row in panels for panel in row), strict=True):
        assert axes.get_title(loc="left") == panel.title
        curves = [line for line in axes.lines if len(line.get_ydata()) == len(SHARES)]
        varied = [line for line in panel.lines if line.points[0][0] is not None]
        marked = [line for line in curves if line.get_marker() not in ("None", "")]
        assert [list(line.get_ydata()) for line in marked] == [
            [one.value for _, one in line.points] for line in varied
        ]
        for line in marked:
            np.testing.assert_allclose(line.get_xdata(), [0, 0.5], atol=0.03)
        bars = [
            [tuple(segment[:, 1]) for segment in collection.get_segments()]
            for collection in axes.collections
            if hasattr(collection, "get_segments")
        ]
        assert bars == [[(one.low, one.high) for _, one in line.points] for line in varied]
        looks = {(line.get_marker(), str(line.get_linestyle())) for line in marked}
        assert len(looks) == len(marked), "grey tells them apart"
        level = [line.points[0][1].value for line in panel.lines if line not in varied]
        assert [line.get_ydata()[0] for line in axes.lines if line not in marked] == level
        least, most = axes.get_ylim()
        points = [one for line in panel.lines for _, one in line.points]
        assert all(least < one.low and one.high < most for one in points)


def test_values_far_apart_have_a_logarithmic_axis(scored: tuple[list[Path], list[RowTold]]) -> None:
    _, told = scored
    for settings, scale in ((SHARE, "linear"), (WEIGHT, "log")):
        figure = draw_grid(grid_panels(told, settings, GROUPS), settings)
        axes = figure.axes[0]
        assert axes.get_xscale() == scale
        values = SHARES if settings is SHARE else map(value_text, WEIGHTS)
        assert [label.get_text() for label in axes.get_xticklabels()] == list(values)


def test_pictures_and_their_numbers(
    scored: tuple[list[Path], list[RowTold]], tmp_path: Path
) -> None:
    paths, told = scored
    outputs = [tmp_path / f"grid.{suffix}" for suffix in ("png", "svg", "pdf", "html", "csv")]
    render_grid(SHARE, metrics=paths, outputs=outputs)
    for output in outputs:
        made = told_by(output)
        assert made is not None and made.made.step == "render-grid"
        assert made.made.settings["key"] == "foreign_share"
    before = outputs[1].read_bytes()
    render_grid(SHARE, metrics=paths, outputs=outputs)
    assert outputs[1].read_bytes() == before
    frame = pd.read_csv(outputs[-1], keep_default_na=False)
    known = list(rows_of(told).values())
    assert len(frame) == len(known)
    for line, row in zip(frame.to_dict("records"), known, strict=True):
        assert (line["kind"], line["set"], line["name"]) == (
            row.subject.kind,
            row.subject.set,
            row.subject.name,
        )
        share = row.subject.backbone.partition("foreign_share=")[2]
        assert line["value"] == (str(float(share)) if share else "")
        for column in (*GROUPS, "global_accuracy", "std"):
            expected = row.groups[column] if column in GROUPS else getattr(row, column)
            assert [float(line[f"{column}{end}"]) for end in ("", "_low", "_high")] == (
                pytest.approx([expected.value, expected.low, expected.high])
            )


def test_faults_are_one_line(scored: tuple[list[Path], list[RowTold]], tmp_path: Path) -> None:
    margin = GridSettings(section="teachers", key="margin")
    with pytest.raises(InputError, match=r"found none; expected models with values of teachers m"):
        render_grid(margin, metrics=scored[0], outputs=[tmp_path / "grid.png"])
    with pytest.raises(InputError, match=r"found \.gif"):
        render_grid(SHARE, metrics=scored[0], outputs=[tmp_path / "grid.gif"])
    assert not list(tmp_path.iterdir())


def test_which_lists_have_a_curve() -> None:
    plain = {
        "groups": ["A", "B"],
        "data": {"synthetic": {}},
        "backbones": {"small": {"blocks": [1] * 4}, "wide": {"blocks": [1, 1, 1, 2]}},
        "teachers": {"backbones": ["small"]},
        "students": {"backbone": "small"},
    }
    assert validate(Config, plain, "config").grids() == ()
    edits = {
        "teachers.foreign_share": [0, 0.5],
        "teachers.head.margin": [0.3],  # one value is no curve
        "students.backbone": ["small", "wide"],  # and names are none
        "students.head.margin": [0.1, 0.2],
        "students.losses": {"a-KD": {"kd_weight": [1, 2]}, "EAF-KD": {"kd_weight": [1, 2, 3]}},
    }
    made = validate(Config, edited(plain, edits), "config")
    assert set(made.grids()) == {
        "teachers-foreign_share",
        "students-kd_weight",
        "students-margin",
    }
    assert made.grid_settings("students-kd_weight") == GridSettings(
        section="students", key="kd_weight", draws=made.report.draws
    )
