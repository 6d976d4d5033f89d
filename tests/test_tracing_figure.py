"""The figures and the table of teachers' shares: what is handed to the artists, and its files."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle
from PIL import Image
from scipy import stats

from mstkd.artifacts.told import told_by
from mstkd.errors import InputError
from mstkd.evaluation.shares import Share, TracedImage, TracedImages, TracedPair, Tracing
from mstkd.report.figures import render_tracing
from mstkd.report.traced import draw_traced, render_traced, traced_lines
from mstkd.report.tracing import draw_shares, shares_frame, shares_message

GROUPS = ["A", "B"]
TEACHERS = {"specialized": ["T-A", "T-B"], "baseline": ["BT-1", "BT-2"]}
MEASURES = ("embedding", "genuine", "impostor", "separation")


def record(set_="specialized", seed=0, *, shift=0.0, unknown=False, **changed) -> Tracing:
    """Own teachers give 0.6, others 0.3 and nobody 0.1, and `shift` from nobody to the first."""
    shares = []
    names = (*TEACHERS[set_], "none")
    for adaptor, measure, method, (y, group) in itertools.product(
        ("SL", "DuL"), MEASURES, ("projection", "Shapley"), enumerate(GROUPS)
    ):
        for x, teacher in enumerate(names):
            value = 0.1 - shift if teacher == "none" else 0.6 if x == y else 0.3
            value += shift if x == 0 else 0
            known = not (unknown and measure == "separation")
            limits = (value, value - 0.02, value + 0.02) if known else (None,) * 3
            kept = {"adaptor": adaptor, "measure": measure, "method": method, "group": group}
            kept |= dict(zip(("value", "low", "high"), limits, strict=True))
            shares.append(Share(teacher=teacher, **kept))
    counts = dict.fromkeys(GROUPS, 12)
    told = {"backbone": "small", "set": set_, "seed": seed, "groups": GROUPS}
    told |= {"teachers": TEACHERS[set_], "adaptors": ["SL", "DuL"], "absent": "the mean"}
    told |= {"faces": counts, "identities": counts, "pairs": counts, "shares": shares}
    return Tracing(**(told | changed))


def write(folder: Path, *records: Tracing) -> list[Path]:
    paths = [folder / f"{one.set}-{one.seed}.json" for one in records]
    for path, one in zip(paths, records, strict=True):
        one.write(path)
    return paths


def test_a_panel_an_adaptor_and_set_with_every_number() -> None:
    frame = shares_frame([record(), record("baseline")])
    figure = draw_shares(frame, GROUPS, "embedding")
    assert [axes.get_title("left") for axes in figure.axes] == [
        *("Specialized, SL", "Specialized, DuL", "Baseline, SL", "Baseline, DuL")
    ]
    own, other = figure.axes[0], figure.axes[2]
    texts = [text.get_text() for text in own.texts]
    assert texts == [
        *("60 ± 2", "(60)", "30 ± 2", "(30)", "10 ± 2", "(10)"),
        *("30 ± 2", "(30)", "60 ± 2", "(60)", "10 ± 2", "(10)"),
    ]
    frames = [p for p in own.patches if isinstance(p, Rectangle) and not p.get_fill()]
    assert [(int(p.get_x()), int(p.get_y())) for p in frames] == [(0, 0), (1, 1)]
    assert not [p for p in other.patches if not p.get_fill()], "no baseline teacher is of a group"
    cells = {
        (p.get_x(), p.get_y()): sum(p.get_facecolor()[:3]) for p in own.patches if p.get_fill()
    }
    assert cells[0, 0] < cells[1, 0] < cells[2, 0] == 3, "the more the darker, none is white"
    assert [label.get_text() for label in own.get_xticklabels()] == ["T-A", "T-B", "none"]
    assert [label.get_text() for label in own.get_yticklabels()] == GROUPS


def test_it_says_whose_share_is_the_largest_for_each_group() -> None:
    frame = shares_frame([record(), record("baseline", shift=-0.25)])
    assert shares_message(frame, "embedding") == (
        "Largest share on average over adaptors: Specialized: of A T-A with 60, of B T-B with 60; "
        "Baseline: of A BT-1 with 35, of B BT-2 with 60 percent."
    )
    unknown = shares_frame([record(unknown=True)])
    assert shares_message(unknown, "separation") == "No share is known."


def test_what_is_not_known_is_a_dash() -> None:
    figure = draw_shares(shares_frame([record(unknown=True)]), GROUPS, "separation")
    assert {text.get_text() for axes in figure.axes for text in axes.texts} == {"–"}


def test_seeds_are_averaged_and_what_they_differ_by_is_in_the_interval() -> None:
    shifts = [-0.05, 0.0, 0.08]
    records = [record(seed=seed, shift=shift) for seed, shift in enumerate(shifts)]
    frame = shares_frame(records)
    assert (frame["seeds"] == 3).all()
    row = frame[(frame["group"] == "A") & (frame["teacher"] == "T-A")].iloc[0]
    assert row["value"] == pytest.approx(0.6 + np.mean(shifts))
    training = stats.t.ppf(0.975, 2) * np.std(shifts, ddof=1) / np.sqrt(3)
    assert row["high"] - row["value"] == pytest.approx(np.hypot(0.02, training))
    assert row["value"] - row["low"] == pytest.approx(np.hypot(0.02, training))
    still = frame[(frame["group"] == "A") & (frame["teacher"] == "T-B")].iloc[0]
    assert still["high"] - still["value"] == pytest.approx(0.02)


def test_pictures_in_every_format_and_the_numbers_beside_them(tmp_path: Path) -> None:
    paths = write(tmp_path, record(), record("baseline"))
    names = ["t.csv", *(f"t-{m}.{s}" for m in ("embedding", "separation") for s in FORMATS)]
    outputs = [tmp_path / "figures" / name for name in names]
    render_tracing(tracing=paths, outputs=outputs)
    for path in outputs:
        told = told_by(path)
        assert told is not None and told.made.step == "render-tracing", path
        sources = [source.path for source in told.made.sources]
        assert sources == ["../specialized-0.json", "../baseline-0.json"]
    frame = pd.read_csv(outputs[0], keep_default_na=False)
    assert len(frame) == 2 * 2 * 4 * 2 * 2 * 3
    chosen = frame.query("set == 'baseline' and measure == 'genuine' and teacher == 'none'")
    assert chosen["value"].to_numpy(float) == pytest.approx(0.1)
    with Image.open(outputs[1]) as image:
        assert image.size[0] > 900
    before = [path.read_bytes() for path in outputs]
    render_tracing(tracing=paths, outputs=outputs)
    assert [path.read_bytes() for path in outputs] == before


FORMATS = ("png", "svg", "pdf")


def test_faults(tmp_path: Path) -> None:
    output = tmp_path / "t-embedding.png"
    one, two = write(tmp_path, record(), record("baseline", groups=["B", "A"]))
    again = tmp_path / "again.json"
    again.write_bytes(one.read_bytes())
    other = write(tmp_path, record("baseline", seed=1, backbone="wide"))[0]
    for paths, message in (
        ([], "tracing: found no file"),
        ([one, two], r"found groups \['B', 'A'\]; expected \['A', 'B'\]"),
        ([one, again], "found specialized, seed 0 twice; expected each once"),
        ([one, other], "found backbone wide; expected small"),
    ):
        with pytest.raises(InputError, match=message):
            render_tracing(tracing=paths, outputs=[output])
    with pytest.raises(InputError, match=r"found shares; expected a name \.\.\.-embedding or"):
        render_tracing(tracing=[one], outputs=[tmp_path / "shares.png"])
    assert not output.exists()


# ---------------------------------------------------------------- images of one's own


def traced(folder: Path, *, shapley: bool = True) -> TracedImages:
    images = []
    for number in (1, 2):
        path = folder / f"face{number}.png"
        Image.fromarray(np.full((16, 16, 3), 60 * number, np.uint8)).save(path)
        values = {"T-A": 0.75, "T-B": 0.3, "none": -0.05}
        images.append(TracedImage(image=str(path), projection=values, shapley=values))
    parts = {"T-A": 0.5, "T-B": 0.1, "none": 0.0}
    pair = TracedPair(similarity=0.6, projection=parts, shapley=parts if shapley else None)
    if not shapley:
        images = [one.model_copy(update={"shapley": None}) for one in images]
    told = {"adaptor": "SL", "teachers": ["T-A", "T-B"], "absent": "the mean block"}
    return TracedImages(images=images, pair=pair, **told)


def test_lines_and_bars_of_images(tmp_path: Path) -> None:
    told = traced(tmp_path)
    lines = traced_lines(told)
    assert lines[2:6] == [
        "face1.png: percent, by projection (Shapley value)",
        "  T-A     75.0 (  75.0)",
        "  T-B     30.0 (  30.0)",
        "  none    -5.0 (  -5.0)",
    ]
    assert lines[12] == "similarity of the two, 0.600: cosine, by projection (Shapley value)"
    figure = draw_traced(told, "title")
    bars = [axes for axes in figure.axes if axes.patches]
    assert [bar.get_width() for bar in bars[0].patches] == pytest.approx([75, 30, -5])
    assert [bar.get_width() for bar in bars[2].patches] == pytest.approx([0.5, 0.1, 0])
    assert len(bars) == 3
    render_traced(told, tmp_path / "traced.png")
    assert told_by(tmp_path / "traced.png").made.step == "trace"
    without = traced_lines(traced(tmp_path, shapley=False))
    assert without[3] == "  T-A     75.0"
