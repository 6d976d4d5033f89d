"""A student's card: what a hub reads in it, and that no name breaks out of its place."""

from __future__ import annotations

import html.parser
from pathlib import Path

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt
from reporting import errors, verification_pairs, write_scored

from mstkd.artifacts.records import Metrics, ModelRecord, NetworkSize, read_record
from mstkd.artifacts.told import told_by
from mstkd.config import ClaimsSettings, ModelCardSettings
from mstkd.errors import InputError
from mstkd.report.claims import compute_claims
from mstkd.report.model_card import render_model_card

SETTINGS = ModelCardSettings(draws=100, procedural=False)
# Words to YAML, and marks to Markdown.
GROUPS = ("no", "1e3", "a_b_c")


def write_student(
    folder: Path, *, groups: tuple[str, ...] = GROUPS, **who: str
) -> tuple[Path, Path]:
    """model.json and metrics.json of a student."""
    pairs = verification_pairs(groups, identities=12, pairs=60)
    accuracies = dict(zip(groups, (95, 90, 85, 91), strict=False))
    metrics = write_scored(folder, pairs, errors(pairs, accuracies, seed=1), **who)
    model = metrics.with_name("model.json")
    ModelRecord(
        subject=read_record(Metrics, metrics).subject,
        settings={"embedding_dim": 512, "loss": {"kd_weight": 10_000.0}},
        image_size=112,
        inputs={f"{groups[0]}": "1" * 64},
        weights_sha256="0" * 64,
        chosen_epoch=3,
        chosen_by="best accuracy on the verification pairs",
    ).write(model)
    return model, metrics


def card_of(folder: Path, settings: ModelCardSettings = SETTINGS, **who: str) -> tuple[dict, str]:
    """The header of a card, parsed, and the text below it."""
    model, metrics = write_student(folder, **who)
    output = metrics.with_name("README.md")
    render_model_card(settings, model=model, metrics=metrics, output=output)
    empty, header, body = output.read_text(encoding="utf-8").split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(header), body


class Cells(html.parser.HTMLParser):
    """The rows of the tables, and every tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self._in_cell = False
        self.feed(MarkdownIt("commonmark").enable("table").render(text))

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self._in_cell = tag in ("td", "th") or (self._in_cell and tag == "code")

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.rows[-1][-1] += data.strip("\n")


def test_the_model_index_holds_the_metrics_of_each_group_with_the_claims_intervals(
    tmp_path: Path,
) -> None:
    header, _ = card_of(tmp_path)
    (index,) = header["model-index"]
    metrics = next(tmp_path.rglob("metrics.json"))
    run = read_record(Metrics, metrics)
    other = write_scored(
        tmp_path / "other",
        verification_pairs(GROUPS, identities=12, pairs=60),
        np.zeros(3 * 10 * 60, bool),
        set="baseline",
    )
    claims = compute_claims(
        ClaimsSettings(draws=100), metrics=[metrics, other], output=tmp_path / "claims.json"
    )
    told = next(m for m in claims.models if (m.subject, m.threshold) == (run.subject, "own"))
    by_group = {one["dataset"].get("config"): one["metrics"][0] for one in index["results"][:4]}
    assert list(by_group) == [*GROUPS, None]
    for group in GROUPS:
        assert by_group[group]["value"] == run.own_threshold.groups[group].accuracy
        assert by_group[group]["args"]["pairs"] == run.own_threshold.groups[group].pairs
        limits = [by_group[group]["args"][name] for name in ("low", "high")]
        expected = [told.groups[group].low, told.groups[group].high]
        np.testing.assert_allclose(limits, expected, rtol=1e-9)
    std, ser = (one["metrics"][0] for one in index["results"][4:])
    assert (std["type"], std["value"]) == ("std", run.own_threshold.std)
    assert (ser["type"], ser["value"]) == ("ser", run.own_threshold.ser)
    # What noise alone would show: simulated with other draws there, where there are more models.
    assert std["args"]["even_system"] == pytest.approx(told.std.floor, rel=0.15)
    for one in index["results"]:  # what hubs ask of every result
        assert one["task"]["type"] and one["dataset"]["type"] and one["dataset"]["name"]


def test_the_table_shows_the_same_numbers(tmp_path: Path) -> None:
    header, body = card_of(tmp_path)
    rows = {cells[0]: cells[1:] for cells in Cells(body).rows if len(cells) == 4}
    for result in header["model-index"][0]["results"][:3]:
        group, metric = result["dataset"]["config"], result["metrics"][0]
        value, interval, pairs = rows[f"{group}, percent"]
        assert value == f"{metric['value']:.2f}" and pairs == "6,000"
        assert interval == f"{metric['args']['low']:.2f} to {metric['args']['high']:.2f}"


@pytest.mark.parametrize("procedural", [True, False])
@pytest.mark.parametrize("chosen", [None, ("students",), ("teachers", "students")])
def test_what_is_to_be_known_of_the_numbers_stands_beside_them(
    tmp_path: Path, procedural: bool, chosen: tuple[str, ...] | None
) -> None:
    settings = ModelCardSettings.model_validate(
        {"draws": 100, "procedural": procedural, "chosen_on_test": chosen}
    )
    header, body = card_of(tmp_path, settings)
    assert ("drawings made by a program" in body) == procedural
    assert ("biometric data" in body) != procedural
    assert ("was chosen by looking at the very pairs" in body) == (chosen is not None)
    assert ("of this student and of its teachers" in body) == (len(chosen or ()) == 2)
    floor = header["model-index"][0]["results"][4]["metrics"][0]["args"]["even_system"]
    assert f"a perfectly even model shows {floor:.2f} on average" in body
    assert "license" not in header and "None was told" in body


def test_a_licence_of_any_letters_stays_one(tmp_path: Path) -> None:
    licence = 'no: "x"\n---\n# <b>*bold*</b> | [a](javascript:b)'
    header, body = card_of(tmp_path, SETTINGS.model_copy(update={"licence": licence}))
    assert header["license"] == " ".join(licence.split())
    shown = Cells(body)
    assert not {"b", "a"} & shown.tags
    rendered = MarkdownIt("commonmark").render(body.rpartition("## Licence")[2])
    assert "&lt;b&gt;*bold*&lt;/b&gt; | [a](javascript:b)" in rendered


def test_a_card_says_what_made_it_and_ends_with_it(tmp_path: Path) -> None:
    model, metrics = write_student(tmp_path)
    output = metrics.with_name("README.md")
    render_model_card(SETTINGS, model=model, metrics=metrics, output=output)
    told = told_by(output)
    assert told is not None and told.unchanged and told.made.step == "render-model-card"
    assert {Path(one.path).name for one in told.made.sources} == {
        *("model.json", "metrics.json", "scores.h5")
    }
    first = output.read_bytes()
    render_model_card(SETTINGS, model=model, metrics=metrics, output=output)
    assert output.read_bytes() == first


@pytest.mark.parametrize(
    ("who", "words"),
    [
        ({}, "from the specialized teachers (iresnet34) through the adaptor SL, loss a-KD"),
        ({"set": "single", "name": "direct"}, "from one teacher (iresnet34) that has seen all"),
        ({"set": "none", "name": "none", "loss": "none"}, "by the labels alone, with no teacher:"),
        ({"loss": "a-KD+kd_weight=100"}, "loss a-KD (kd_weight=100)"),
    ],
)
def test_it_says_how_the_student_was_taught(
    tmp_path: Path, who: dict[str, str], words: str
) -> None:
    _, body = card_of(tmp_path, **who)
    assert words in body.replace("\\", "")


def test_files_of_two_models_are_refused(tmp_path: Path) -> None:
    model, metrics = write_student(tmp_path)
    record = read_record(ModelRecord, model)
    record.model_copy(update={"weights_sha256": "2" * 64}).write(model)
    with pytest.raises(InputError, match=r"found weights 000000000000; expected 222222222222"):
        render_model_card(SETTINGS, model=model, metrics=metrics, output=tmp_path / "README.md")
    with pytest.raises(InputError, match=r"expected \.md"):
        render_model_card(SETTINGS, model=model, metrics=metrics, output=tmp_path / "card.txt")


def test_a_card_says_how_large_the_network_is(tmp_path: Path) -> None:
    """Where metrics.json tells it; that of a run before it did tells none."""
    model, metrics = write_student(tmp_path)
    output = metrics.with_name("README.md")
    render_model_card(SETTINGS, model=model, metrics=metrics, output=output)
    assert "multiplications" not in output.read_text(encoding="utf-8")
    network = NetworkSize(parameters=1_200_000, multiply_adds=220_965_376)
    read_record(Metrics, metrics).model_copy(update={"network": network}).write(metrics)
    render_model_card(SETTINGS, model=model, metrics=metrics, output=output)
    told = "; 1,200,000 parameters, 220,965,376 multiplications an image"
    assert told in output.read_text(encoding="utf-8")
