"""The data report: true to the findings file, escaped, in one file, and without torch."""

from __future__ import annotations

import base64
import html.parser
import re
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from mstkd.artifacts.findings import FindingRecord, Findings, PackCounts, Picture
from mstkd.errors import InputError
from mstkd.report.data_report import render_data_report

VOID = {"meta", "img", "br"}
PNG = base64.b64encode(b"\x89PNG bytes").decode()
ATTACK = "<script>alert(1)</script> | a*b_c `d` [e](f)\n# g"
SHOWN = "<script>alert(1)</script> | a*b_c `d` [e](f)\\n# g"


class Page(html.parser.HTMLParser):
    """Collects what a browser would load, the tags, the words, and whether tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def counts(kind: str, group: str, *numbers: int | None) -> PackCounts:
    """Counts of a pack from which nothing is missing."""
    keys = ("images", "identities", "left_out", "genuine", "impostor")
    given: dict[str, object] = dict(zip(keys, numbers, strict=True))
    given |= {"images_found": given["images"], "identities_found": given["identities"]}
    return PackCounts.model_validate({"kind": kind, "group": group, "sha256": "0" * 64, **given})


def finding(severity: str, message: str, **others: object) -> FindingRecord:
    given = {"check": "a check", "group": None, "examples": [], "pictures": [], **others}
    return FindingRecord.model_validate({"severity": severity, "message": message, **given})


@pytest.fixture
def findings(tmp_path: Path) -> Path:
    """Group A is trained on and verified, B only trained on, C only verified."""
    packs = [
        counts("train", "A", 1200, 30, 5, None, None),
        counts("train", "B", 800, 20, 0, None, None),
        counts("verification", "A", 400, 90, 0, 600, 601),
        counts("verification", "C", 300, 80, 0, 500, 501),
    ]
    found = [
        finding("note", "None found.", check="repeated pairs"),
        finding(
            "warning",
            "Uneven.",
            group="B",
            examples=[ATTACK, "b"],
            pictures=[Picture(name=ATTACK, png=PNG), Picture(name="second", png=PNG)],
        ),
        finding("fatal", "Stop."),
        finding("warning", "Uneven too."),
    ]
    path = tmp_path / "findings.json"
    Findings(packs=packs, findings=found).write(path)
    return path


def render(findings: Path, suffix: str) -> str:
    output = findings.with_name(f"report{suffix}")
    render_data_report(findings, [output])
    return output.read_text(encoding="utf-8")


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown text as a reader of GitHub's dialect parses them."""
    found: list[list[list[str]]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and token.level == 4:  # a cell
            kinds = {child.type for child in token.children or []}
            assert kinds <= {"text", "text_special"}, "a sign in a name became a mark"
            found[-1][-1].append("".join(child.content for child in token.children or []))
    return found


COUNTS = [
    ["A", "1,200", "30", "5", "400", "90", "600", "601"],
    ["B", "800", "20", "0", "–", "–", "–", "–"],
    ["C", "–", "–", "–", "300", "80", "500", "501"],
    ["All", "2,000", "50", "5", "700", "170", "1,100", "1,102"],
]


def test_markdown_has_the_counts_and_the_findings_by_gravity(findings: Path) -> None:
    text = render(findings, ".md")
    first, second = tables(text)
    assert first[0] == [
        "Group", "Training images", "identities", "bad", "Verification images", "identities",
        "genuine pairs", "impostor pairs",
    ]  # fmt: skip
    assert first[1:] == COUNTS
    assert second == [
        ["Severity", "Check", "Group", "Finding", "Examples"],
        ["fatal", "a check", "", "Stop.", ""],
        ["warning", "a check", "B", "Uneven.", f"{SHOWN}; b (with pictures: 2, in HTML)"],
        ["warning", "a check", "", "Uneven too.", ""],
        ["note", "repeated pairs", "", "None found.", ""],
    ]
    assert "\n1 fatal, 2 warnings, 1 note.\n" in text


def test_page_has_the_counts_and_the_findings_by_gravity(findings: Path) -> None:
    page = Page(render(findings, ".html"))
    assert "1 fatal, 2 warnings, 1 note." in page.text
    for row in COUNTS:
        assert " ".join(row) in page.text
    order = ["Stop.", "Uneven.", "Uneven too.", "None found."]
    places = [page.text.index(message) for message in order]
    assert places == sorted(places)
    assert "warning a check, B. Uneven." in page.text


def test_page_is_one_balanced_file_that_loads_nothing_but_its_pictures(findings: Path) -> None:
    text = render(findings, ".html")
    page = Page(text)
    assert page.open == []
    assert page.loaded == [f"data:image/png;base64,{PNG}"] * 2
    assert not {"script", "link", "iframe"} & set(page.tags)
    outside = re.sub(r'src="data:[^"]*"', "", text)
    assert not re.search(r"https?:|url\(|@import", outside)
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_names_are_escaped_and_break_no_line(findings: Path) -> None:
    text = render(findings, ".html")
    assert "<script" not in text
    # As example, as alternative text and as caption.
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3
    assert Page(text).text.count(SHOWN) == 2


def test_png_text_cannot_leave_its_attribute(findings: Path) -> None:
    record = finding("note", "x", pictures=[Picture(name="n", png='"><script>')])
    Findings(packs=[], findings=[record]).write(findings)
    assert "<script" not in render(findings, ".html")


def test_one_group_has_no_sum_and_one_of_each_no_plural(findings: Path) -> None:
    packs = [counts("train", "A_1", 1, 1, 0, None, None)]
    found = [finding(severity, "x") for severity in ("fatal", "warning", "note")]
    Findings(packs=packs, findings=found).write(findings)
    text = render(findings, ".md")
    assert tables(text)[0][1:] == [["A_1", "1", "1", "0", "–", "–", "–", "–"]]
    assert "1 fatal, 1 warning, 1 note." in text


def test_what_was_found_is_told_where_less_is_packed(findings: Path) -> None:
    whole = counts("train", "A", 1000, 30, 0, None, None)
    assert "packed of" not in render(findings, ".md") + render(findings, ".html")
    update = {"images_found": 1205, "identities_found": 31}
    packs = [whole.model_copy(update=update), counts("train", "B", 2000, 30, 0, None, None)]
    Findings(packs=packs, findings=[]).write(findings)
    text, page = render(findings, ".md"), Page(render(findings, ".html"))
    assert [row[:4] for row in tables(text)[0][1:]] == [
        ["A", "1,000 of 1,205", "30 of 31", "0"],
        ["B", "2,000", "30", "0"],
        ["All", "3,000 of 3,205", "60 of 61", "0"],
    ]
    assert "A 1,000 of 1,205 30 of 31 0 –" in page.text
    for shown in (text, page.text):
        assert "“5 of 7”: 5 are packed of 7 that the data held." in shown


def test_same_findings_make_the_same_bytes(findings: Path) -> None:
    assert render(findings, ".html") == render(findings, ".html")


def test_faults_name_the_file(findings: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"report\.pdf: found \.pdf; expected \.html, \.md"):
        render(findings, ".pdf")
    with pytest.raises(InputError, match=r"none\.json: found No such file"):
        render_data_report(tmp_path / "none.json", [tmp_path / "report.md"])
    other = tmp_path / "other.json"
    other.write_text('{"format": "mstkd-metrics"}')
    with pytest.raises(InputError, match=r"other\.json: found .*expected findings\.json"):
        render_data_report(other, [tmp_path / "report.md"])
    assert not list(tmp_path.glob("report*"))


def test_report_needs_neither_torch_nor_packs() -> None:
    code = (
        "import sys, mstkd.report.data_report;"
        "sys.exit(bool({'torch', 'h5py', 'mstkd.data.checks'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
