"""False matches across groups of a table's models: counted as an audit does, and drawn."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mstkd.artifacts.records import Subject
from mstkd.config import MapSettings
from mstkd.errors import InputError
from mstkd.evaluation.auditing.all_impostors import (
    EmbeddedImages,
    ImpostorRow,
    all_impostors,
    uncounted,
)
from mstkd.evaluation.auditing.tables import as_frame
from mstkd.evaluation.scores import ScoreTable
from mstkd.report.audit_matrix import SHADES
from mstkd.report.impostors import draw_impostors, read_impostors, render_impostors

GROUPS = ("A", "B")
SETTINGS = MapSettings(caption="False matches", groups=GROUPS)


def write_rows(path: Path, *rows: tuple[Subject, tuple[ImpostorRow, ...]]) -> Path:
    frames = []
    for subject, of_model in rows:
        frame = as_frame(of_model, ImpostorRow).drop(columns="system")
        frames.append(pd.DataFrame(subject.model_dump(), index=frame.index).join(frame))
    pd.concat(frames).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def measured() -> tuple[ImpostorRow, ...]:
    """Of embeddings of which those of A lie closer together, counted."""
    random = np.random.default_rng(2)
    people, images = 40, 3
    identity = np.repeat(np.arange(2 * people), images)
    group = identity // people
    centre = np.where(group == 0, 1.2, 0.9)[:, None] * np.eye(2, 16)[group]
    vectors = (
        centre
        + random.normal(size=(2 * people, 16))[identity]
        + random.normal(0, 0.3, (len(identity), 16))
    )
    first = np.arange(0, len(identity), images)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = np.sum(unit[first] * unit[first + 1], axis=1)
    codes = identity[first].astype(np.int32)
    side = group[first].astype(np.int16)
    table = ScoreTable(
        similarity=similarity,
        same=np.ones(len(first), bool),
        fold=np.zeros(len(first), np.int16),
        group1=side,
        group2=side,
        groups=GROUPS,
        identity1=codes,
        identity2=codes,
        identities=tuple(map(str, range(2 * people))),
    )
    shown = EmbeddedImages(vectors, identity, group)
    return all_impostors({"x": (table, shown)}, thresholds=(), fmrs=(0.05,), draws=100).rows


def subject(set_: str = "specialized", **others: object) -> Subject:
    given = {"kind": "student", "backbone": "small", "name": "SL", "loss": "a-KD", "seed": 0}
    return Subject.model_validate(given | {"set": set_} | others)


def test_the_map_shows_the_rates_as_the_audit_shades_them(
    tmp_path: Path, measured: tuple[ImpostorRow, ...]
) -> None:
    path = write_rows(tmp_path / "impostors-table2.csv", (subject(), measured))
    models = read_impostors(path)
    assert list(models) == ["specialized SL, a-KD"]
    figure = draw_impostors(models, MapSettings(caption="c", groups=("B", "A")))
    (axes,) = [one for one in figure.axes if one.get_title(loc="left")]
    known = {(r.group1, r.group2): r for r in measured if r.measure == "fmr"}
    whole = known["", ""].value
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    colours = {patch.get_xy(): patch.get_facecolor() for patch in axes.patches}
    for y, a in enumerate("BA"):
        for x, b in enumerate("BA"):
            row = known.get((a, b)) or known[b, a]
            assert not math.isnan(row.value), "enough false matches"
            assert texts[x + 0.5, y + 0.5] == f"{100 * row.value:#.3g}"
            step = sum(row.value / whole >= one for one in (0.1, 1 / 3, 1, 3, 10))
            red = int(SHADES[step][1:3], 16) / 255 if len(SHADES[step]) == 7 else 1.0
            assert colours[x, y][0] == pytest.approx(red, abs=1 / 255)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["B", "A"]


def test_the_picture_says_where_false_matches_are_most_frequent(
    tmp_path: Path, measured: tuple[ImpostorRow, ...]
) -> None:
    models = (subject(), measured), (subject("baseline"), measured)
    path = write_rows(tmp_path / "impostors-table2.csv", *models)
    outputs = [tmp_path / f"impostors-table2.{suffix}" for suffix in ("png", "svg", "pdf", "html")]
    render_impostors(SETTINGS, impostors=path, outputs=outputs)
    rates = {r.value: (r.group1, r.group2) for r in measured if r.measure == "fmr" and r.group1}
    with Image.open(outputs[0]) as image:
        message = image.info["Comment"]
    (a, b), most = rates[max(rates)], f"{100 * max(rates):#.3g} percent"
    assert f"most frequent within {a}" in message if a == b else f"between {a} and {b}" in message
    assert most in message and message in outputs[3].read_text()


def test_where_no_rate_can_be_told_the_map_is_empty_and_says_so(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "i.csv", (subject(), uncounted("x", (), (0.01,), "too few")))
    output = tmp_path / "i.png"
    render_impostors(SETTINGS, impostors=path, outputs=[output])
    with Image.open(output) as image:
        assert image.info["Comment"].startswith("Too few false matches")
    (axes,) = draw_impostors(read_impostors(path), SETTINGS).axes[:1]
    assert {text.get_text() for text in axes.texts} == {"few"}


def test_groups_may_be_called_as_what_is_missing(
    tmp_path: Path, measured: tuple[ImpostorRow, ...]
) -> None:
    names = {"A": "NA", "B": "null", "": ""}
    rows = tuple(
        row._replace(group1=names[row.group1], group2=names[row.group2]) for row in measured
    )
    (found,) = read_impostors(write_rows(tmp_path / "i.csv", (subject(), rows))).values()
    assert ("NA", "null", "fmr") in found and ("", "", "fmr") in found


def test_other_files_are_refused(tmp_path: Path, measured: tuple[ImpostorRow, ...]) -> None:
    path = write_rows(tmp_path / "i.csv", (subject(), measured))
    other = MapSettings(caption="c", groups=("A", "C"))
    with pytest.raises(InputError, match=r"found groups B; expected groups A, C"):
        render_impostors(other, impostors=path, outputs=[tmp_path / "i.png"])
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="expected a column 'kind'"):
        render_impostors(SETTINGS, impostors=path, outputs=[tmp_path / "i.png"])
    path.unlink()
    with pytest.raises(InputError, match="expected impostors of a table"):
        render_impostors(SETTINGS, impostors=path, outputs=[tmp_path / "i.png"])


def test_the_numbers_of_the_maps_are_not_written_anew(
    tmp_path: Path, measured: tuple[ImpostorRow, ...]
) -> None:
    path = write_rows(tmp_path / "rows.csv", (subject(), measured))
    with pytest.raises(InputError, match=r"found \.csv; expected \.png or "):
        render_impostors(SETTINGS, impostors=path, outputs=[tmp_path / "maps.csv"])
