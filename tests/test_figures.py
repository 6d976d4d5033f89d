"""Figures: the data handed to the artists, the size of the files, faults of the user."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from edits import rewrite
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from reporting import write_metrics, write_model, write_pack

from mstkd.artifacts.records import ModelRecord, Provenance, read_record
from mstkd.artifacts.sealed import piece_checksum
from mstkd.artifacts.told import told_by
from mstkd.config import TableSettings, teachers_of
from mstkd.data.pack import Content, Found, Stored, create_pack, seal_pack
from mstkd.errors import InputError
from mstkd.report.accuracies import GROUP_MARKS, draw_dots, draw_map
from mstkd.report.canvas import ink, laid_out, new_figure, save, set_title, write_picture
from mstkd.report.curves import draw_curves, line_styles, read_history
from mstkd.report.figures import render_accuracies, render_curves, render_samples
from mstkd.report.rows import Row, read_rows
from mstkd.report.samples import draw_faces, read_faces
from mstkd.report.style import STYLE

GROUPS = ("A", "B", "C", "D")


def settings(caption: str, **others: object) -> TableSettings:
    return TableSettings(caption=caption, groups=GROUPS, **others)


def accuracies(*values: float) -> dict[str, float]:
    return dict(zip(GROUPS, values, strict=True))


TEACHER: dict[str, Any] = {"kind": "teacher", "loss": None}


def teachers(folder: Path) -> list[Path]:
    metrics = [
        write_metrics(
            folder,
            {group: 95.0 if group == own else 70.0 + i for i, group in enumerate(GROUPS)},
            name=f"T-{own}",
            **TEACHER,
        )
        for own in GROUPS
    ]
    for set_, name in (("baseline", "BT-1"), ("single", "T-all")):
        metrics.append(
            write_metrics(folder, accuracies(80, 81, 82, 83), set_=set_, name=name, **TEACHER)
        )
    return metrics


def students(folder: Path) -> list[Path]:
    return [
        write_metrics(folder, accuracies(90, 91, 93, 94), name="SL", seed=0),
        write_metrics(folder, accuracies(92, 93, 95, 96), name="SL", seed=1),
        write_metrics(folder, accuracies(80, 81, 82, 87), set_="baseline"),
        write_metrics(folder, accuracies(70, 70, 70, 70), set_="none", name="none", loss="none"),
    ]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def rows_of(metrics: list[Path]) -> list[Row]:
    return read_rows(metrics, GROUPS)


@pytest.mark.parametrize("name", ["Blues", "cividis", "Greys"])
def test_letters_stand_out_from_every_shade(name: str) -> None:
    """By the contrast ratio of WCAG 2.2, written out."""

    def luminance(colour: Any) -> float:
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    for share in np.linspace(0, 1, 101):
        colour = mpl.colormaps[name](share)
        letters = 0.0 if ink(colour) == "black" else 1.0
        darker, lighter = sorted((luminance(colour), letters))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5


# ---------------------------------------------------------------- accuracies


def test_map_frames_own_groups_and_prints_every_number(tmp_path: Path) -> None:
    figure = draw_map(rows_of(teachers(tmp_path)), settings("Teachers"))
    (axes,) = figure.axes
    frames = [p for p in axes.patches if isinstance(p, Rectangle) and not p.get_fill()]
    assert [frame.get_xy() for frame in frames] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    cells = [p for p in axes.patches if isinstance(p, Rectangle) and p.get_fill()]
    assert len(cells) == 24
    assert texts(figure)[:8] == [
        "Specialized",
        *("95.00", "71.00", "72.00", "73.00"),
        *("77.75", f"{np.std([95, 71, 72, 73], ddof=1):.2f}"),
        "70.00",
    ]
    assert {"Baseline", "Controls"} <= set(texts(figure))
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        *("T-A", "T-B", "T-C", "T-D", "BT-1", "T-all")
    ]
    assert [label.get_text() for label in axes.get_xticklabels()] == [*GROUPS, "Global", "STD"]
    brightest = max(cells, key=lambda cell: sum(cell.get_facecolor()[:3]))
    assert brightest.get_xy() == (0, 0)


def test_a_teacher_of_all_groups_is_not_that_of_a_group_called_all(tmp_path: Path) -> None:
    groups = ("A", "all")
    metrics = [
        write_metrics(tmp_path, dict.fromkeys(groups, 80.0), set_=set_, name=name, **TEACHER)
        for set_, name in (("specialized", "T-A"), ("specialized", "T-all"), ("single", "T-all"))
    ]
    rows = read_rows(metrics, groups)
    assert [row.own_group(groups) for row in rows] == ["A", "all", None]
    (axes,) = draw_map(rows, settings("Teachers").model_copy(update={"groups": groups})).axes
    frames = [p for p in axes.patches if isinstance(p, Rectangle) and not p.get_fill()]
    assert [frame.get_xy() for frame in frames] == [(0, 0), (1, 1)]


def test_map_of_equal_accuracies_can_be_drawn(tmp_path: Path) -> None:
    path = write_metrics(tmp_path, accuracies(*[80] * 4), name="BT-1", kind="teacher", loss=None)
    figure = draw_map(rows_of([path]), settings("Teachers"))
    assert texts(figure)[1:] == ["80.00"] * 5 + ["0.00"]


def test_dots_stand_at_the_accuracies(tmp_path: Path) -> None:
    figure = draw_dots(rows_of(students(tmp_path)), settings("Students"))
    (axes,) = figure.axes
    dots = [line for line in axes.lines if line.get_marker() in {m for _, m in GROUP_MARKS}]
    assert [float(line.get_xdata()[0]) for line in dots[:4]] == [91, 92, 94, 95]  # seeds' mean
    assert [line.get_color() for line in dots[:4]] == [colour for colour, _ in GROUP_MARKS[:4]]
    assert [float(line.get_xdata()[0]) for line in dots[4:8]] == [80, 81, 82, 87]
    bars = [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "|"]
    assert bars == [93, 82.5, 70]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["SL", "SL", "no distillation"]
    assert [t for t in texts(figure) if t in ("Specialized", "Baseline", "Controls")] == [
        *("Specialized", "Baseline", "Controls")
    ]
    assert {"93.00", "1.83", "Global", "STD"} <= set(texts(figure))
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [*GROUPS, "global"]
    assert axes.get_xlabel() == "Verification accuracy, percent"
    assert figure.get_suptitle() == "Students"


def test_numbers_have_the_decimals_of_the_settings(tmp_path: Path) -> None:
    metrics = [write_metrics(tmp_path, accuracies(90.25, 90, 90, 90))]
    figure = draw_dots(rows_of(metrics), settings("Students", decimals=1))
    assert texts(figure)[:3] == ["Specialized", "90.1", "0.1"]


def test_marks_tell_sixteen_groups_apart() -> None:
    assert len(set(GROUP_MARKS)) == 16


@pytest.mark.parametrize(("make", "size"), [(teachers, (870, 583)), (students, (1080, 495))])
def test_figures_have_their_size_and_are_the_same_again(
    tmp_path: Path, make: object, size: tuple[int, int]
) -> None:
    metrics = make(tmp_path)  # type: ignore[operator]
    for suffix in (".png", ".svg", ".pdf"):
        outputs = [tmp_path / f"{name}{suffix}" for name in ("one", "two")]
        for output in outputs:
            render_accuracies(settings("A <title> & more"), metrics=metrics, outputs=[output])
        assert outputs[0].read_bytes() == outputs[1].read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        assert image.size == size
    assert "A &lt;title&gt; &amp; more" in (tmp_path / "one.svg").read_text()


def test_a_picture_is_drawn_once_and_does_not_depend_on_its_other_formats(tmp_path: Path) -> None:
    drawn = []

    def draw() -> Figure:
        figure = new_figure(4, 2)
        left, right = figure.subplots(1, 2)
        left.plot([0, 1], [0, 123456], label="a long name")
        right.set_ylabel("what is\nmeasured")
        drawn.append(set_title(figure, "Title"))
        return figure

    def write(folder: Path, *suffixes: str) -> None:
        outputs = [folder / f"one{suffix}" for suffix in suffixes]
        numbers = pd.DataFrame({"a": [1]})
        folder.mkdir()
        write_picture("s", {}, outputs, draw=draw, title="t", message="m", numbers=numbers)

    formats = (".html", ".png", ".svg", ".pdf", ".csv")
    write(tmp_path / "numbers", ".csv")
    assert not drawn
    with mpl.rc_context(STYLE):
        write(tmp_path / "all", *formats)
        assert len(drawn) == 1
        for suffix in formats:
            write(tmp_path / suffix, suffix)
            alone = (tmp_path / suffix / f"one{suffix}").read_bytes()
            assert alone == (tmp_path / f"all/one{suffix}").read_bytes(), suffix


def test_each_format_is_drawn_once_and_the_layout_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a layout, or the place of one, Matplotlib draws each once more, without ink."""
    drawn: list[Figure] = []
    plain = Figure.draw

    def draw(figure: Figure, renderer: Any) -> None:
        drawn.append(figure)
        plain(figure, renderer)

    monkeypatch.setattr(Figure, "draw", draw)
    outputs = [tmp_path / f"one{suffix}" for suffix in (".html", ".png", ".svg", ".pdf")]
    with mpl.rc_context(STYLE):
        write_picture("s", {}, outputs, draw=lambda: new_figure(2, 2), title="t", message="m")
    assert len(drawn) == 1 + len(outputs)
    with mpl.rc_context({"figure.autolayout": True}):  # of somebody's matplotlibrc
        assert laid_out(new_figure(1, 1)).get_layout_engine() is None


def test_accuracies_refuse_what_is_not_one_table(tmp_path: Path) -> None:
    mixed = [*teachers(tmp_path), *students(tmp_path)]
    with pytest.raises(InputError, match="found kind student; expected teacher"):
        render_accuracies(settings(""), metrics=mixed, outputs=[tmp_path / "a.png"])
    with pytest.raises(
        InputError, match=r"found \.gif; expected \.png or \.svg or \.pdf or \.html"
    ):
        render_accuracies(settings(""), metrics=mixed, outputs=[tmp_path / "a.gif"])
    assert not list(tmp_path.glob("a.*"))


# ---------------------------------------------------------------- curves


def models(folder: Path) -> list[Path]:
    return [
        write_model(folder, accuracies=[50, 60.0], name="T-A", kind="teacher", loss=None),
        write_model(folder, accuracies=[None, None], name="SL", kind="adaptor", loss=None),
        write_model(folder, accuracies=[None, 70, None, 69.0], name="SL"),
        write_model(folder, accuracies=[60, 75, 80, 81.0], name="SL", seed=1),
        write_model(folder, accuracies=[60, 75, 80, 70.0], name="SL", set_="baseline"),
        write_model(folder, accuracies=[40, 45.0], set_="none", name="none", loss="none"),
    ]


def test_curves_draw_the_history_and_ring_the_kept_epoch(tmp_path: Path) -> None:
    paths = models(tmp_path)
    runs = [(read_record(ModelRecord, path), read_history(path)) for path in paths[2:5]]
    figure = draw_curves({"Students, a-KD": runs})
    losses, accuracy = figure.axes
    assert accuracy.lines[0].get_xdata().tolist() == [2, 4]  # blank where not evaluated
    assert accuracy.lines[0].get_ydata().tolist() == [70, 69]
    rings = [line for line in accuracy.lines if line.get_marker() == "o"]
    assert [(r.get_xdata().item(), r.get_ydata().item()) for r in rings] == [
        *((2, 70), (4, 81), (3, 80))
    ]
    assert losses.lines[0].get_xdata().tolist() == [1, 2, 3, 4]
    assert losses.get_title(loc="left") == "Students, a-KD: loss"
    assert accuracy.get_title(loc="left") == "Students, a-KD: groups' mean accuracy, percent"
    assert losses.get_xlabel() == "epoch"
    legend = accuracy.get_legend()
    assert legend is not None
    # Two seeds of a model share a line of the legend.
    assert [t.get_text() for t in legend.get_texts()] == ["specialized SL", "baseline SL"]


def set_teachers(folder: Path) -> list[Path]:
    """All teachers of four groups, each with the packs that it was trained on in its record."""
    paths = []
    for set_ in ("specialized", "baseline", "single"):
        for teacher in teachers_of(set_, GROUPS):
            who: dict[str, Any] = {"set_": set_, "name": teacher.name, **TEACHER}
            path = write_model(folder, accuracies=[50.0, 60.0], **who)
            record = read_record(ModelRecord, path)
            inputs = dict.fromkeys(teacher.groups, "0" * 64)
            record.model_copy(update={"inputs": inputs}).write(path)
            paths.append(path)
    return paths


def test_a_panel_of_teachers_says_on_which_groups_pairs_its_lines_are(tmp_path: Path) -> None:
    outputs = [tmp_path / f"curves.{suffix}" for suffix in ("svg", "csv", "pdf")]
    render_curves(models=set_teachers(tmp_path), outputs=outputs)
    text = outputs[0].read_text()
    for title in ("Teachers: accuracy on the group in brackets", "groups' mean accuracy"):
        assert title in text
    for label in ("T-A (A)", "T-D (D)", "BT-1 (A)", "BT-4 (D)", "single teacher", "T-all"):
        assert (f">{label}<" in text) == (label != "single teacher")
    frame = pd.read_csv(outputs[1], keep_default_na=False)
    assert frame.groupby("name")["accuracy_of"].first().to_dict() == {
        **{f"T-{group}": group for group in GROUPS},
        **{f"BT-{number}": group for number, group in enumerate(GROUPS, 1)},
        "T-all": "A B C D",
    }
    row = frame[(frame["name"] == "BT-2") & (frame["epoch"] == 2)].iloc[0]
    assert (row["accuracy"], row["training_loss"], row["kept"]) == (60, 10 + 4 / 4, 2)
    told = told_by(outputs[1])
    assert told is not None and told.unchanged and len(told.made.sources) == 2 * 9


def test_lines_differ_without_colour(tmp_path: Path) -> None:
    runs = [(read_record(ModelRecord, path), read_history(path)) for path in set_teachers(tmp_path)]
    losses, _ = draw_curves({"Teachers": runs}).axes
    lines = [line for line in losses.lines if line.get_marker() != "o"]
    assert len({(line.get_marker(), str(line._dash_pattern)) for line in lines}) == 9


def test_sets_differ_in_hue_and_names_in_dash(tmp_path: Path) -> None:
    runs = []
    for set_, name in (("specialized", "SL"), ("specialized", "DuL"), ("baseline", "SL")):
        path = write_model(tmp_path, accuracies=[1.0], set_=set_, name=name)
        runs.append((read_record(ModelRecord, path), read_history(path)))
    (_, one, dash_one), (_, two, dash_two), (_, other, dash_other) = line_styles(runs)
    assert one[2] > one[0]  # blue
    assert two[2] > two[0]
    assert other[0] > other[2]  # orange
    assert (dash_one, dash_two, dash_other) == ("-", "--", "-")


def test_curves_have_a_row_for_each_kind_and_loss(tmp_path: Path) -> None:
    paths = models(tmp_path)
    render_curves(models=paths, outputs=[tmp_path / "curves.png"])
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1350, 75 + 4 * 315)  # teachers, adaptors, students, control
    render_curves(models=paths, outputs=[tmp_path / "curves.svg"])
    assert "Student without distillation: loss" in (tmp_path / "curves.svg").read_text()


def test_values_of_a_grid_stand_beside_dots_and_above_curves(tmp_path: Path) -> None:
    losses = ("a-KD+kd_weight=1", "a-KD+kd_weight=10")
    metrics = [
        write_metrics(tmp_path, accuracies(90, 91, 93, 94), loss=loss, backbone="t+margin=0.3")
        for loss in losses
    ]
    figure = draw_dots(rows_of(metrics), settings("Students"))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [
        "SL (teachers margin=0.3; kd_weight=1)",
        "SL (teachers margin=0.3; kd_weight=10)",
    ]
    paths = [write_model(tmp_path, accuracies=[70.0, 71.0], loss=loss) for loss in losses]
    render_curves(models=paths, outputs=[tmp_path / "curves.svg"])
    text = (tmp_path / "curves.svg").read_text()
    for weight in (1, 10):
        assert f"Students, a-KD (kd_weight={weight}): loss" in text


def test_a_long_caption_is_broken_and_not_cut_off(tmp_path: Path) -> None:
    """Wide labels and few groups leave little room; the image is as wide as it says."""
    caption = "Verification accuracy (%) on held-out pairs of the iresnet34 teachers."
    figure = draw_map(rows_of(teachers(tmp_path)), settings(caption))
    assert figure.get_suptitle().replace("\n", " ") == caption
    figure.canvas.draw()
    (text,) = figure.texts
    assert text.get_window_extent().x1 < figure.bbox.x1


def test_teachers_of_each_value_have_curves_of_their_own(tmp_path: Path) -> None:
    paths = [
        write_model(tmp_path / str(margin), accuracies=[1.0], kind="teacher", loss=None, name="T-A")
        for margin in (1, 2)
    ]
    for margin, path in enumerate(paths, 1):
        rewrite(path, path.read_text().replace('"small"', f'"small+margin={margin}"'))
    render_curves(models=paths, outputs=[tmp_path / "curves.svg"])
    for margin in (1, 2):
        assert f"Teachers (margin={margin}): loss" in (tmp_path / "curves.svg").read_text()


def test_a_figure_of_any_length_can_be_saved(tmp_path: Path) -> None:
    """Matplotlib refuses a side of more than 65,535 pixels: a grid is drawn less finely instead."""
    made = Provenance(step="render-curves", settings={}, sources=[])
    save(new_figure(1, 500), tmp_path / "long.png", title="Long", made=made)
    with Image.open(tmp_path / "long.png") as image:
        assert image.size == (120, 60_000)


def comment(path: Path) -> str:
    with Image.open(path) as image:
        return str(image.info["Comment"])


def test_a_picture_says_what_is_to_be_seen_in_it(tmp_path: Path) -> None:
    """Where there is more to say than its title."""
    packs = [write_pack(tmp_path / f"{group}.h5", group, identities=4) for group in "AB"]
    samples = tmp_path / "samples.png"
    render_samples(packs=packs, output=samples, per_group=6)
    assert "faces of 32 by 32 pixels" in comment(samples)
    assert "images a group: A 6, B 6" in comment(samples)
    models = [
        write_model(tmp_path, accuracies=[60.0, 70.0, None], name="T-A", kind="teacher", loss=None),
        write_model(tmp_path, accuracies=[60.0, 65.0, 75.5], name="T-B", kind="teacher", loss=None),
    ]
    outputs = [tmp_path / "training.png", tmp_path / "training.html"]
    render_curves(models=models, outputs=outputs)
    ends = [20 / epoch + len("T-A") / 4 for epoch in (1, 3)]
    assert comment(outputs[0]) == (
        f"Teachers: the loss fell in 2 of 2, from {ends[0]:.3g} to {ends[1]:.3g}, and the epochs "
        "kept have 70–75.5 percent."
    )
    assert comment(outputs[0]) in outputs[1].read_text(encoding="utf-8")
    metrics = [
        write_metrics(tmp_path, dict(zip(GROUPS, values, strict=True)), name=name)
        for name, values in (("SL", (90, 80, 70, 60)), ("DuL", (76, 75, 74, 73)))
    ]
    drawn = [tmp_path / "table.png", tmp_path / "table.csv"]
    render_accuracies(settings("Students"), metrics=metrics, outputs=drawn)
    assert comment(drawn[0]) == (
        "Highest global accuracy: specialized SL 75.00; lowest STD: specialized DuL 1.29."
    )
    numbers = pd.read_csv(drawn[1])
    assert numbers["name"].tolist() == ["SL", "DuL"]
    np.testing.assert_allclose(numbers[list(GROUPS)], [[90, 80, 70, 60], [76, 75, 74, 73]])


def test_a_page_holds_the_image_and_its_title_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    outputs = [tmp_path / "curves.png", tmp_path / "curves.html"]
    render_curves(models=models(tmp_path), outputs=outputs)
    page = outputs[1].read_text()
    assert page.count("Training: loss and accuracy over the epochs") == 2
    (address,) = re.findall(r'src="data:image/png;base64,([^"]*)"', page)
    assert base64.b64decode(address) == outputs[0].read_bytes()
    assert not re.search("https?:|<script|<link", page.replace(address, ""))


def test_what_made_a_figure_is_read_from_every_format_whatever_stands_in_it(tmp_path: Path) -> None:
    odd = {"caption": "Accuracy (%) of a\\b ) and ( é <x> & --"}
    made = Provenance(step="render-curves", settings=odd, sources=[])
    for suffix in ("png", "svg", "pdf", "html"):
        save(new_figure(1, 1), tmp_path / f"a.{suffix}", title="(a \\ é)", made=made)
        told = told_by(tmp_path / f"a.{suffix}")
        assert told is not None and told.made.settings == odd, suffix


def test_curves_refuse_a_missing_or_strange_history(tmp_path: Path) -> None:
    path = write_model(tmp_path, accuracies=[1.0])
    history = path.with_name("history.csv")
    history.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="found a, b; expected a column 'epoch'"):
        render_curves(models=[path], outputs=[tmp_path / "curves.png"])
    history.unlink()
    with pytest.raises(InputError, match=r"history\.csv: found No such file"):
        render_curves(models=[path], outputs=[tmp_path / "curves.png"])
    with pytest.raises(InputError, match="found no file"):
        render_curves(models=[], outputs=[tmp_path / "curves.png"])


# ---------------------------------------------------------------- samples


def test_samples_show_two_images_of_each_identity(tmp_path: Path) -> None:
    path = write_pack(tmp_path / "A.h5", "A")
    _, group, faces, _ = read_faces(path, count=6)
    assert (group, faces.shape, faces.dtype) == ("A", (6, 32, 32, 3), np.uint8)
    pixels = faces[:, 0, 0].tolist()
    # The first of eight identities, one in the middle and the last: not those of A and B alone.
    assert pixels == [[16 * i, 64 * take, 100] for i in (0, 4, 7) for take in range(2)]
    figure = draw_faces([(group, faces)])
    images = figure.axes[0].images
    assert [image.get_interpolation() for image in images] == ["nearest"] * 6
    np.testing.assert_array_equal(images[3].get_array(), faces[3])
    assert texts(figure) == ["A"]


def test_samples_are_square_pixels_in_a_row_a_group(tmp_path: Path) -> None:
    """The top left pixel block of each face has the face's own colour: nothing is blended."""
    packs = [write_pack(tmp_path / f"{group}.h5", group) for group in GROUPS]
    render_samples(packs=packs, output=tmp_path / "samples.png", per_group=4)
    with Image.open(tmp_path / "samples.png") as image:
        found = {colour for _, colour in image.convert("RGB").getcolors(1 << 20) or []}
        assert image.width == 1350
    assert {(16 * i, 64 * take, 100) for i in (0, 7) for take in range(2)} <= found
    again = tmp_path / "again.png"
    render_samples(packs=packs, output=again, per_group=4)
    assert again.read_bytes() == (tmp_path / "samples.png").read_bytes()


def test_pack_with_few_faces_gives_a_short_row(tmp_path: Path) -> None:
    few = write_pack(tmp_path / "A.h5", "A", identities=1, images=1)
    many = write_pack(tmp_path / "B.h5", "B")
    render_samples(packs=[few, many], output=tmp_path / "samples.svg")
    assert len(read_faces(few, count=12).images) == 1


def write_pack_of(path: Path, images: Sequence[int], doubt: Sequence[float] | None) -> Path:
    """A pack whose image of identity i is all (16 i, 64 take, 100); some images of each."""
    identity = np.repeat(np.arange(len(images), dtype=np.int32), images)
    take = np.concatenate([np.arange(number) for number in images])
    pixels = np.stack([identity * 16, take * 64, np.full(len(take), 100)], axis=1).astype(np.uint8)
    pixels = np.ascontiguousarray(np.broadcast_to(pixels[:, None, None], (len(take), 16, 16, 3)))
    content = Content(
        kind="verification",
        group="A",
        image_size=16,
        paths=[str(row) for row in range(len(take))],
        identity_names=[str(number) for number in range(len(images))],
        identity=identity,
        found=Found(len(take), len(images)),
        pairs=np.zeros((1, 2), np.int32),
        same=np.ones(1, np.bool_),
    )
    begin = create_pack(path, content, aligned=doubt is not None)
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(pixels.data)
    checksums = np.array([piece_checksum(image) for image in pixels], np.uint64)
    digests = np.zeros((len(take), 16), np.uint8)
    told = None if doubt is None else np.array(doubt, np.float32)
    seal_pack(path, content, Stored(digests, checksums, None, told))
    return path


def shown(path: Path, count: int) -> list[tuple[int, int] | None]:
    """Identity and take of each image, None for a blank."""
    pixels = read_faces(path, count=count).images[:, 0, 0].tolist()
    return [None if min(p) == 255 else (p[0] // 16, p[1] // 64) for p in pixels]


def test_samples_never_set_two_people_side_by_side(tmp_path: Path) -> None:
    pack = write_pack_of(tmp_path / "A.h5", [2, 1, 2, 1, 2], None)
    assert shown(pack, 6) == [(0, 0), (0, 1), (2, 0), (2, 1), (4, 0), (4, 1)]
    alone = [(0, 0), (0, 1), (2, 0), (2, 1), (4, 0), (4, 1), (1, 0), None, (3, 0)]
    assert shown(pack, 12) == alone


def test_samples_show_the_worst_landmarks_first(tmp_path: Path) -> None:
    doubt = np.full(16, 0.1)
    doubt[[9, 15]] = 3, 2  # second images of identities 4 and 7
    pack = write_pack_of(tmp_path / "A.h5", [2] * 8, doubt)
    assert shown(pack, 8)[:4] == [(4, 1), (4, 0), (7, 1), (7, 0)]
    assert shown(pack, 8)[4:] == [(0, 0), (0, 1), (6, 0), (6, 1)]
    render_samples(packs=[pack], output=tmp_path / "samples.html", per_group=8)
    assert "the worst landmarks at the left" in (tmp_path / "samples.html").read_text()


def test_samples_refuse_what_is_no_pack(tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    other.write_text("not HDF5")
    with pytest.raises(InputError, match="expected a pack"):
        render_samples(packs=[other], output=tmp_path / "samples.png")
    with pytest.raises(InputError, match="expected a pack"):
        render_samples(packs=[tmp_path / "none.h5"], output=tmp_path / "samples.png")
    with pytest.raises(InputError, match="found no file"):
        render_samples(packs=[], output=tmp_path / "samples.png")


@pytest.mark.parametrize("suffix", [".svg", ".pdf", ".png"])
def test_no_flipped_bit_of_a_picture_passes_for_what_was_drawn(tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"figure{suffix}"
    made = Provenance(step="render-det", settings={"name": "é (a)"}, sources=[])
    figure = new_figure(2, 2)
    figure.subplots().plot([1, 3, 2])
    save(figure, output, title="Title", made=made)
    whole = output.read_bytes()
    told = told_by(output)
    assert told is not None and told.unchanged is True
    assert (told.made.step, told.made.settings) == (made.step, made.settings)
    chance = np.random.default_rng(0)
    for place in chance.integers(0, len(whole), 300):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(chance.integers(8))
        output.write_bytes(damaged)
        try:
            told = told_by(output)
        except (InputError, ValueError):
            continue
        assert told is None or told.unchanged is False, place
