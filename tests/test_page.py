"""The page: all in one file, escaped, and true to the claims."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import re
from pathlib import Path

import pytest
from PIL import Image
from reporting import errors, verification_pairs, write_pack, write_scored

from mstkd import __version__
from mstkd.artifacts.records import read_record
from mstkd.config import (
    ClaimsSettings,
    DataCardSettings,
    OriginSettings,
    PageSettings,
    TableSettings,
)
from mstkd.errors import InputError
from mstkd.report.claims import Claims, compute_claims
from mstkd.report.data_card import describe_data
from mstkd.report.figures import render_accuracies
from mstkd.report.judgements import JudgedClaim, needs, p_text
from mstkd.report.page import render_page
from mstkd.report.rounding import signed
from mstkd.report.tables import render_table

GROUPS = ("A", "B", "C", "D")
VOID = {"meta", "img", "br"}


class Page(html.parser.HTMLParser):
    """Collects what a browser would load, the headings, and whether tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.links: list[str] = []  # to places in the page
        self.ids: list[str] = []
        self.alts: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        addresses = [value or "" for name, value in attrs if name in ("src", "href", "srcset")]
        self.links += [one for one in addresses if one.startswith("#")]
        self.loaded += [one for one in addresses if not one.startswith("#")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.alts += [value or "" for name, value in attrs if name == "alt"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("page")
    pairs = verification_pairs(GROUPS, identities=12, pairs=60)
    models = (
        ("specialized", "SL", "a-KD", (95, 94, 93, 92)),
        ("baseline", "SL", "a-KD", (90, 92, 93, 95)),
        ("none", "none", "none", (80, 80, 80, 80)),
    )
    metrics = []
    for seed, (set_, name, loss, values) in enumerate(models):
        wrong = errors(pairs, dict(zip(GROUPS, values, strict=True)), seed=seed)
        metrics.append(write_scored(folder, pairs, wrong, set=set_, name=name, loss=loss))
    settings = TableSettings(caption="Students <a-KD>", groups=GROUPS)
    names = {"table": "table.html", "png": "students_a-KD.png", "svg": "again.svg"}
    found = {part: folder / name for part, name in names.items()}
    render_table(settings, metrics=metrics, outputs=[found["table"]])
    for part in ("png", "svg"):
        render_accuracies(
            settings.model_copy(update={"caption": "Students & <co>"}),
            metrics=metrics,
            outputs=[found[part]],
        )
    found["claims"] = folder / "claims.json"
    compute_claims(ClaimsSettings(draws=100), metrics=metrics, output=found["claims"])
    return found


def one(claims: Claims, measure: str) -> JudgedClaim:
    """On specialized and baseline teachers, each group at its own threshold."""
    return next(
        claim
        for claim in claims.claims
        if (claim.topic, claim.threshold, claim.measure)
        == ("specialized or baseline", "own", measure)
    )


def render(
    parts: dict[str, Path],
    output: Path,
    title: str = "A title",
    procedural: bool = True,
    **others: object,
) -> str:
    given = {
        "tables": [parts["table"]],
        "figures": [parts["png"], parts["svg"]],
        "claims": parts["claims"],
        **others,
    }
    settings = PageSettings(title=title, procedural=procedural)
    render_page(settings, output=output, **given)  # type: ignore[arg-type]
    return output.read_text(encoding="utf-8")


def test_page_is_one_balanced_file_that_loads_nothing(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    text = render(parts, tmp_path / "page.html")
    page = Page(text)
    assert page.open == []
    assert [address.split(",")[0] for address in page.loaded] == [
        "data:image/png;base64",
        "data:image/svg+xml;base64",
    ]
    assert sorted(page.links[1:]) == sorted(f"#{one}" for one in page.ids if one != "contents")
    assert base64.b64decode(page.loaded[0].split(",")[1]) == parts["png"].read_bytes()
    assert not {"script", "link", "iframe"} & set(page.tags)
    outside = re.sub(r'src="data:[^"]*"', "", text)
    assert not re.search(r"https?:|url\(|@import", outside)
    assert "default-src 'none'" in text
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_page_tells_tables_claims_figures_and_protocol(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    page = Page(render(parts, tmp_path / "page.html"))
    assert "Students <a-KD>" in page.text
    # What a picture says, where it holds that; a drawing of vectors has its title alone.
    assert page.alts[0].startswith("Students & <co> Highest global accuracy: specialized SL ")
    assert page.alts[1] == "Students & <co>"
    assert "The faces are drawings made by a program" in page.text
    claims = read_record(Claims, parts["claims"])
    for claim in claims.claims:  # each sentence stands with its claim, which is said once
        begin, _, rest = claim.sentence.partition(": ")
        assert begin == claim.claim
        assert f"{claim.verdict} {rest[0].upper()}{rest[1:]}" in page.text
        assert claim.cells[0].label in page.text
    gain = one(claims, "global_accuracy")
    assert f"{signed(gain.value)} {signed(gain.low)} to {signed(gain.high)} {gain.verdict}" in (
        page.text
    )
    assert gain.cells[0].mcnemar is not None
    assert f"McNemar {p_text(gain.cells[0].mcnemar)}" in page.text
    assert claims.note in page.text
    assert "better" not in page.text  # of one seed
    assert page.text.count("Students & <co>") == 2  # the titles in the PNG and the SVG
    assert "nothing is known of training done anew" in page.text
    for model in claims.models:
        assert f"{model.std.value:.2f} {model.std.low:.2f} to {model.std.high:.2f}" in page.text
        assert f"{model.ser.floor:.2f} to {model.ser.floor_high:.2f}" in page.text
    power = one(claims, "std").power
    assert power.published is not None
    needed = needs(power.published, with_seeds=False)
    assert f"{power.smallest:.2f} {signed(one(claims, 'std').value)}" in page.text
    assert f"−0.18 {needed}" in page.text
    assert claims.published.assumption in page.text
    assert "sample standard deviation of the groups' accuracies" in page.text
    assert f"mstkd {__version__}" in page.text
    assert page.tags.count("h1") == 1
    assert page.tags.count("h2") == len(page.ids) == 7


def test_page_says_which_values_the_config_gives(parts: dict[str, Path], tmp_path: Path) -> None:
    assert "several values" not in Page(render(parts, tmp_path / "plain.html")).text
    grids = ("teachers.head.margin (0.3, 0.5)", "students.losses.<a>.kd_weight (1, 2)")
    settings = PageSettings(title="A title", procedural=False, grids=grids)
    render_page(settings, tables=[], figures=[], claims=parts["claims"], output=tmp_path / "p.html")
    page = Page((tmp_path / "p.html").read_text(encoding="utf-8"))
    assert f"values of {grids[0]}; of {grids[1]}. Each makes models" in page.text


def test_page_shows_the_data_cards_and_where_model_cards_lie(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    card = tmp_path / "cards/train.jsonld"
    card.parent.mkdir()
    settings = DataCardSettings(
        part="train", procedural=False, origin=OriginSettings(licence="<b>none</b>")
    )
    pack = write_pack(tmp_path / "A_B.h5", "A_B", identities=40, images=30)
    describe_data(settings, packs=[pack], output=card)
    page = Page(render(parts, tmp_path / "page.html", cards=[card]))
    assert page.open == [] and "b" not in page.tags
    assert "The train data. Licence: <b>none</b>." in page.text
    assert "A_B 1,200 40 1,200 40 32" in page.text
    assert f"A_B.h5: {hashlib.sha256(pack.read_bytes()).hexdigest()}" in page.text
    assert "#cards" in page.links and "cards" in page.ids
    # Of each student, from where the claims were made: here the page lies elsewhere.
    links = [one for one in page.loaded if not one.startswith("data:")]
    assert links == [] and "0 model cards" in page.text


def test_title_is_escaped(parts: dict[str, Path], tmp_path: Path) -> None:
    attack = "<script>alert(1)</script> & co"
    text = render(parts, tmp_path / "page.html", title=attack)
    assert "<script" not in text
    assert (
        text.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; co") == 2 + 1
    )  # and in the settings, that a program reads


def test_figure_without_title_is_called_by_its_name(parts: dict[str, Path], tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "four_pixels.png")
    (tmp_path / "plain.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    figures = [tmp_path / "four_pixels.png", tmp_path / "plain.svg"]
    page = Page(render(parts, tmp_path / "page.html", figures=figures))
    assert "four pixels plain The claims in detail" in page.text


def test_page_without_note_tables_and_figures_has_no_empty_sections(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    page = Page(render(parts, tmp_path / "page.html", tables=[], figures=[]))
    assert page.tags.count("h2") == len(page.ids) == 5
    assert page.loaded == []
    photographs = render(parts, tmp_path / "page.html", procedural=False)
    assert 'class="note"' not in photographs.split("<h2")[0]
    assert "drawings" not in photographs


def test_page_is_the_same_every_time_and_knows_dark_and_print(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    text = render(parts, tmp_path / "page.html")
    assert text == render(parts, tmp_path / "page.html")
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_faults_name_the_file(parts: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    with pytest.raises(InputError, match=r"none\.html: found No such file"):
        render(parts, output, tables=[tmp_path / "none.html"])
    other = tmp_path / "other.html"
    other.write_text("<script>alert(1)</script>")
    with pytest.raises(InputError, match="expected a table in HTML of mstkd"):
        render(parts, output, tables=[other])
    with pytest.raises(InputError, match=r"found \.html; expected \.png or \.svg"):
        render(parts, output, figures=[other])
    other.with_suffix(".png").write_text("no image")
    with pytest.raises(InputError, match="found other data; expected a PNG image"):
        render(parts, output, figures=[other.with_suffix(".png")])
    with pytest.raises(InputError, match=r"none\.json: found No such file"):
        render(parts, output, claims=tmp_path / "none.json")
    assert not output.exists()
