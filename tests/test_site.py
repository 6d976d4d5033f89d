"""The site of the documentation: built strictly, whole, and asking no server for anything."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer
from browser import CHROMIUM, asked
from markdown_it import MarkdownIt
from runs import ROOT

import mstkd
from mstkd.cli.app import app

PAGES = sorted(path.stem for path in (ROOT / "docs").glob("*.md"))
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Parsed(HTMLParser):
    """A page: what its parts are, what it loads, where it leads, and how much is in its text."""

    VOID = frozenset(("img", "input", "br", "hr", "link", "meta", "source", "wbr", "col", "path"))

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.counts = dict.fromkeys(("table", "li", "pre", "h2", "h3", "img"), 0)
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.ids |= {value for key in ("id", "name") if (value := told.get(key))}
        if tag == "link" or "src" in told:
            self.loaded.append(str(told.get("src", told.get("href"))))
        if tag not in self.VOID:
            self._open.append(tag)
        if "article" in self._open:
            if tag in self.counts:
                self.counts[tag] += 1
            if tag == "a" and told.get("href"):
                self.links.append(str(told["href"]))

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass


@pytest.fixture(scope="module")
def parsed(site) -> dict[Path, Parsed]:
    return {path: Parsed(path) for path in site.rglob("*.html")}


@pytest.mark.slow
def test_every_page_is_there_and_leads_to_what_is_there(site, parsed):
    assert {f"{name}.html" for name in PAGES} <= {path.name for path in parsed}
    followed = 0
    for path, page in parsed.items():
        for link in page.links:
            if link.startswith(("https://", "mailto:")):
                continue
            to, _, fragment = unquote(link).partition("#")
            target = (path.parent / to).resolve() if to else path
            assert target.is_file(), f"{path.name}: {link}"
            assert target.is_relative_to(site)
            if fragment:
                assert fragment in parsed[target].ids, f"{path.name}: {link}"
            followed += 1
    assert followed > 100


@pytest.mark.slow
def test_what_lies_outside_of_docs_comes_along(site, parsed):
    for name in ("benchmarks/results/power.json", "config/paper.yaml"):
        assert (site / name).read_bytes() == (ROOT / name).read_bytes()
    assert "benchmarks/results/power.json" in parsed[site / "uncertainty.html"].links
    assert "../reruns.html" in parsed[site / "config/index.html"].links
    assert not (site / "pages.py").exists()


@pytest.mark.slow
def test_no_server_is_asked_for_anything(site, parsed):
    for path, page in parsed.items():
        assert page.loaded
        assert not [one for one in page.loaded if "//" in one], path
        assert 'class="mermaid"' not in path.read_text(encoding="utf-8")  # drawn by a server's code
    for path in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", path.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_the_parts_that_its_readers_in_the_repository_see(name, parsed, site):
    """Python-Markdown makes no list or table where GitHub does without an empty line before it."""
    text = (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")
    kinds = {"table_open": "table", "list_item_open": "li", "fence": "pre", "code_block": "pre"}
    expected = dict.fromkeys(("table", "li", "pre", "h2", "h3", "img"), 0)
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        part = kinds.get(token.type, token.tag if token.type == "heading_open" else "")
        if part in expected:
            expected[part] += 1
        expected["img"] += sum(child.type == "image" for child in token.children or ())
    assert parsed[site / f"{name}.html"].counts == expected


@pytest.mark.slow
def test_the_reference_has_every_command_and_every_public_name(site, parsed):
    commands = typer.main.get_command(app).list_commands(None)
    assert {f"mstkd-{name}" for name in commands} <= parsed[site / "reference-cli.html"].ids
    assert {f"mstkd.{name}" for name in mstkd.__all__} <= {
        found.replace(f"mstkd.{module}.", "mstkd.")
        for found in parsed[site / "reference-python.html"].ids
        for module in [found.removeprefix("mstkd.").rpartition(".")[0]]
    }


def rows(path: Path) -> dict[str, list[str]]:
    """The first cell of each row of a page's tables, with the others."""
    text = path.read_text(encoding="utf-8")
    found = {}
    for row in re.findall(r"<tr>(.*?)</tr>", text, re.S):
        cells = re.findall(r"<td>(.*?)</td>", row, re.S)
        key, *rest = (html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in cells or [""])
        found[key] = rest
    return found


@pytest.mark.slow
def test_the_settings_are_told_with_limits_and_defaults(site):
    found = rows(site / "reference-config.html")
    assert found["groups"] == ["list of 2 to 16: string", "required"]
    assert found["teachers.optimiser.lr"] == ["number, > 0; or a list of them", "0.1"]
    assert found["data.storage"] == ["pixels, encoded", "pixels"]
    assert found["data.image_size"] == ["integer, ≥ 16, ≤ 4,096, a multiple of 16", "112"]
    assert found["adaptors.architectures"] == ["names, each a section", "SL, DuL, DLDP"]
    assert found["backbones.<name>.widths"][0] == "list of 4: integer, ≥ 1, ≤ 65,536"
    assert found["students.losses.<name>.classification"] == ["boolean", "required"]
    # What the page of keys tells one by one; elsewhere it says "as the teachers'".
    keys = {key for key in rows(site / "config/index.html") if re.fullmatch(r"[\w.<>]+", key)}
    assert len(keys) > 60
    assert {key for key in keys if not key.endswith(".yaml")} <= set(found)


# ---------------------------------------------------------------- as a browser shows it

WIDE = """(page, view) => ({
  page: page.documentElement.scrollWidth,
  article: page.querySelector("article").getBoundingClientRect().width,
  hidden: [...page.querySelectorAll("article img")].filter((one) => !one.naturalWidth).length,
  heads: [...page.querySelectorAll("thead")].filter(
    (one) => one.offsetHeight && !one.innerText.trim()).length,
})"""


@pytest.mark.slow
@in_browser
@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("name", ["index", "method", "models", "reference-config"])
def test_a_page_is_no_wider_than_the_screen(site, name, width):
    told = asked(site / f"{name}.html", WIDE, site, width=width)
    assert told["page"] <= width
    assert told["article"] > min(width, 1000) * 0.8
    assert told["hidden"] == told["heads"] == 0


# Of anything but files a browser then tells instead of asking for it.
POLICY = "default-src file: data: blob: 'unsafe-inline' 'unsafe-eval'"
SEARCH = """
const asked = [];
addEventListener("securitypolicyviolation", (event) => asked.push(event.blockedURI));
addEventListener("load", async () => {
  const box = document.querySelector(".md-search__input");
  let found = [];
  for (let round = 0; round < 100 && !found.length; round++) {
    box.focus();
    box.value = "Partial-FC";
    box.dispatchEvent(new Event("keyup", {bubbles: true}));
    await new Promise((next) => setTimeout(next, 200));
    found = [...document.querySelectorAll(".md-search-result__link")].map((one) => one.href);
  }
  const told = document.createElement("pre");
  told.id = "told";
  told.textContent = JSON.stringify({found, asked});
  document.body.append(told);
});
"""


@pytest.mark.slow
@in_browser
def test_a_search_finds_what_is_there_where_the_site_is_opened_as_a_file(site, tmp_path):
    copy = tmp_path / "site"
    shutil.copytree(site, copy)
    page = copy / "index.html"
    text = page.read_text(encoding="utf-8")
    added = f"<meta http-equiv=Content-Security-Policy content={json.dumps(POLICY)}>"
    text = text.replace("<head>", f"<head>{added}<script>{SEARCH}</script>", 1)
    page.write_text(text, encoding="utf-8")
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=30000"]
    done = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, timeout=300, check=True
    )
    told = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    assert told is not None, done.stderr
    seen = json.loads(html.unescape(told[1]))
    assert any("/config/index.html" in one for one in seen["found"]), seen
    assert seen["asked"] == []
