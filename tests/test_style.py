"""The one style of all figures: readable on white, in grey, and by colour-blind readers."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from pydantic import TypeAdapter
from reporting import write_model

from mstkd.artifacts.records import ModelRecord, read_record
from mstkd.config.base import Groups
from mstkd.report import audit_matrix, style
from mstkd.report.canvas import ink
from mstkd.report.curves import line_styles

# Severity 1, Machado et al. (2009), table 1; of linear RGB.
BLIND = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "none": np.eye(3).tolist(),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    channels = np.array(to_rgb(colour))
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    light, dark = sorted((linear(c) @ [0.2126, 0.7152, 0.0722] for c in (one, other)), reverse=True)
    return float((light + 0.05) / (dark + 0.05))


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE 1976 of linear RGB under D65."""
    xyz = XYZ @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("colour", [*style.COLOURS, style.FRAME, style.QUIET])
def test_what_must_be_seen_stands_out_from_white(colour: str) -> None:
    assert contrast(colour, "white") >= 4.5


@pytest.mark.parametrize("kind", BLIND)
def test_the_colours_of_four_groups_lie_apart_for_every_reader(kind: str) -> None:
    seen = [lab(np.array(BLIND[kind]) @ linear(colour)) for colour in style.COLOURS[:4]]
    apart = [float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2)]
    assert min(apart) > 40  # 2.3 is just noticeable


def test_no_two_groups_share_a_mark_or_a_line() -> None:
    schema = TypeAdapter(Groups).json_schema()
    most = schema["maxItems"]
    for looks in (style.GROUP_MARKS, style.GROUP_LINES):
        assert len(looks) == len(set(looks)) == most
        # By the form alone as long as there are forms: in grey.
        forms = len({form for _, form in looks})
        assert len({form for _, form in looks[:forms]}) == forms >= 4


def test_every_line_of_training_curves_stands_out_from_white(tmp_path: Path) -> None:
    names = [f"T-{number}" for number in range(16)]
    for set_ in ("specialized", "baseline", "single"):
        runs = [
            (read_record(ModelRecord, path), pd.DataFrame())
            for name in names
            for path in [
                write_model(
                    tmp_path, accuracies=[1.0], set_=set_, name=name, kind="teacher", loss=None
                )
            ]
        ]
        for _, colour, _ in line_styles(runs):
            assert contrast(to_hex(colour), "white") >= 4.5


def test_letters_on_every_shade_can_be_read_and_shades_grow_darker() -> None:
    shades = audit_matrix.SHADES
    assert len(shades) == len(audit_matrix.STEPS) + 1
    assert all(contrast(one, ink(one)) >= 4.5 for one in shades)
    light = [float(linear(one) @ [0.2126, 0.7152, 0.0722]) for one in shades]
    assert light == sorted(light, reverse=True)
