"""`snakemake --report report.zip` of a finished run: what it holds, says and looks like."""

import json
import re
import shutil
import subprocess
import warnings
import zipfile

import jinja2
import pytest
import yaml
from docutils.core import publish_parts
from docutils.utils import SystemMessage
from runs import ROOT, SNAKEFILES, TINY, snakemake

from mstkd.config import Config, read_config, validate

CAPTIONS = ROOT / "workflow/report"
DRAWINGS = "The faces are drawings made by a program"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
# Goes through all menus as a reader does, and leaves what it saw in the page.
READER = """
const seen = {errors: [], menus: {}, shown: {}};
window.addEventListener("error", event => seen.errors.push(String(event.message)));
const pause = () => new Promise(done => setTimeout(done, 100));
async function read() {
  await pause();
  seen.start = document.querySelector("#app").innerText;
  for (const category in categories) {
    for (const subcategory in categories[category]) {
      app.setView({navbarMode: "menu"});
      await pause();
      app.setView({navbarMode: "subcategory", category, subcategory});
      await pause();
      const rows = [...document.querySelectorAll("tbody tr")].map(row => row.innerText.trim());
      seen.menus[`${category}/${subcategory}`] = rows;
      for (const button of document.querySelectorAll("tbody tr td:last-child a:first-child")) {
        if (button.hasAttribute("download")) continue;
        button.click();
        await pause();
        const path = app.state.resultPath, address = results[path].data_uri;
        const frame = document.querySelector("iframe");
        const image = document.querySelector(`#app img[src="${address}"]`);
        for (let tries = 0; tries < 50; tries++) {
          const shown = frame && frame.contentDocument;
          if (image && image.complete) break;
          if (shown && shown.URL.endsWith(address) && shown.readyState === "complete") break;
          await pause();
        }
        seen.shown[path] = frame
          ? {text: frame.contentDocument.body.innerText,
             font: getComputedStyle(frame.contentDocument.body).fontFamily,
             wide: frame.contentDocument.documentElement.scrollWidth <= frame.clientWidth}
          : {pixels: image.naturalWidth, top: image.getBoundingClientRect().top};
      }
    }
  }
}
read().catch(error => seen.errors.push(String(error))).finally(() => {
  const told = document.createElement("script");
  told.id = "told";
  told.type = "application/json";
  told.textContent = JSON.stringify(seen).replaceAll("<", "\\\\u003c");
  document.body.append(told);
});
"""


@pytest.fixture(scope="module", params=SNAKEFILES, ids=str)
def report(request, finished, tmp_path_factory):
    """The folder of the unpacked report, and its results and categories as it holds them."""
    folder = tmp_path_factory.mktemp("report")
    entry = ("--snakefile", ROOT / request.param)
    snakemake(finished, TINY, *entry, "--report", folder / "report.zip")
    with zipfile.ZipFile(folder / "report.zip") as file:
        file.extractall(folder)
    page = (folder / "report/report.html").read_text()
    held = {}
    for name in ("results", "categories", "workflow-desc"):
        start = re.search(rf'<script id="{name}">\s*var \w+ = ', page).end()
        held[name], _ = json.JSONDecoder().raw_decode(page, start)
    return folder / "report", held


@pytest.mark.slow
@pytest.mark.workflow
def test_the_report_holds_the_results_in_labelled_categories(report, finished):
    folder, held = report
    results = held["results"]
    assert set(held["categories"]) == {
        *("Data", "Error rates", "Figures", "Model cards", "Settings", "Summary", "Tables")
    }
    tables = held["categories"]["Tables"]["tiny teachers"]
    assert len(tables) == 3 * 4 * 2
    assert results["results/tables/table3-shared-threshold.csv"]["labels"] == {
        "table": "3: EAF-KD students",
        "format": "csv",
        "threshold": "one for all groups",
    }
    rates = held["categories"]["Error rates"]["tiny teachers"]
    assert len(rates) == 3 * 4
    assert results["results/error-rates/table2.tex"]["labels"] == {
        "table": "2: a-KD students",
        "format": "tex",
    }
    figures = held["categories"]["Figures"]
    assert [results[path]["labels"] for path in figures["tiny teachers"]] == [
        {"table": "1: teachers"},
        {"table": "2: a-KD students"},
        {"table": "3: EAF-KD students"},
    ]
    for kind in ("Scores of pairs", "False matches across groups"):
        assert len(figures[kind]) == 3
    (cards,) = held["categories"]["Model cards"].values()
    assert len(cards) == 15  # a student
    assert results["results/students/tiny/specialized/SL/a-KD/seed0/README.md"]["labels"] == {
        "model": "specialized, SL, a-KD, seed0; teachers tiny"
    }
    assert set(results) == {
        *tables,
        *rates,
        *cards,
        "results/cards/train.jsonld",
        "results/cards/verification.jsonld",
        *(path for paths in figures.values() for path in paths),
        "results/figures/training.html",
        "results/figures/samples-train.png",
        "results/figures/samples-verification.png",
        "results/data-report.html",
        "results/data-report.md",
        "results/report.html",
        "results/claims.json",
        "results/config.yaml",
        "results/provenance.html",
        "results/provenance.json",
    }
    for path, result in results.items():
        assert (folder / result["data_uri"]).read_bytes() == (finished / path).read_bytes()


@pytest.mark.slow
@pytest.mark.workflow
def test_every_result_of_the_report_has_a_caption(report):
    _, held = report
    for path, result in held["results"].items():
        assert len(result["caption"]) > 100
        of_faces = not path.startswith(("results/config", "results/provenance"))
        assert (DRAWINGS in result["caption"]) == of_faces
        assert "system-message" not in result["caption"]
    assert DRAWINGS in held["workflow-desc"]
    assert "system-message" not in held["workflow-desc"]
    for category in held["categories"]:
        assert f"<strong>{category}</strong>" in held["workflow-desc"]


@pytest.mark.slow
@pytest.mark.workflow
def test_the_config_of_the_report_is_that_of_the_run(report, finished):
    folder, held = report
    path = folder / held["results"]["results/config.yaml"]["data_uri"]
    assert read_config(path) == validate(Config, TINY, "tiny")
    assert yaml.safe_load(path.read_text())["teachers"]["optimiser"]["momentum"] == 0.9
    assert "Nothing to be done" in snakemake(finished, path, "--dry-run").stdout


@pytest.mark.slow
@pytest.mark.workflow
def test_the_provenance_of_the_report_goes_back_to_the_data(report):
    folder, held = report
    results = held["results"]
    chain = json.loads((folder / results["results/provenance.json"]["data_uri"]).read_text())
    steps = {result["step"] for result in chain["results"]}
    assert {"pack-train", "split", "train-teacher", "train-student", "render-table"} <= steps
    page = (folder / results["results/provenance.html"]["data_uri"]).read_text()
    assert all(step in page for step in steps)


@pytest.mark.slow
@pytest.mark.workflow
@pytest.mark.skipif(BROWSER is None, reason="neither chromium nor google-chrome is installed")
def test_a_browser_shows_every_result_of_the_report(report, tmp_path):
    folder, held = report
    text = (folder / "report.html").read_text()
    end = text.rindex("</body>")
    page = folder / "read.html"
    page.write_text(f"{text[:end]}<script>{READER}</script>{text[end:]}")
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path}", "--allow-file-access-from-files"]
    command += ["--window-size=1400,900", "--virtual-time-budget=60000", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    told = re.search(r'<script id="told".*?>(.*?)</script>', done.stdout, re.DOTALL)
    assert told is not None
    seen = json.loads(told[1])
    assert seen["errors"] == []
    assert DRAWINGS in seen["start"]
    for category, parts in held["categories"].items():
        for name, paths in parts.items():
            # Both thresholds of a table share a row, and a switch above the rows chooses.
            rows = len(paths) // (2 if category == "Tables" else 1)
            assert len(seen["menus"][f"{category}/{name}"]) == rows
    shown = {path for path in held["results"] if path.endswith((".html", ".png"))}
    assert set(seen["shown"]) == {path for path in shown if "-shared-threshold" not in path}
    for path, look in seen["shown"].items():
        if path.endswith(".png"):
            assert look["pixels"] > 100
            assert look["top"] >= 0  # else its head cannot be scrolled to
        else:
            assert look["wide"]
    table = seen["shown"]["results/tables/table3.html"]
    assert table["text"].startswith("Verification accuracy (%) of the EAF-KD students")
    assert "sans-serif" in table["font"]
    assert "pack-train" in seen["shown"]["results/provenance.html"]["text"]


# ---------------------------------------------------------------- captions without a run


def rendered(path, config, table="table1"):
    """A caption as HTML, as Snakemake makes it: Jinja, then reStructuredText."""
    job = {"config": config, "wildcards": {"table": table}}
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    text = environment.from_string(path.read_text()).render(snakemake=job)
    settings = {"halt_level": 2, "report_level": 5}  # a warning raises, and prints nothing
    with warnings.catch_warnings(action="ignore"):  # docutils renames the argument
        return publish_parts(text, writer_name="html", settings_overrides=settings)["html_body"]


@pytest.mark.parametrize("path", sorted(CAPTIONS.glob("*.rst")), ids=lambda path: path.stem)
def test_captions_speak_of_drawings_where_the_faces_are_drawn_and_only_there(path):
    drawn = rendered(path, {"data": {"synthetic": {}}})
    people = rendered(path, {"data": {"train": "a", "verification": "b"}})
    unset = rendered(path, {"data": {"synthetic": None, "train": "a", "verification": "b"}})
    assert "drawing" not in people
    assert people == unset
    assert (DRAWINGS in " ".join(drawn.split())) == (path.stem not in ("config", "provenance"))


def test_a_table_s_caption_says_whose_threshold_it_is():
    own = rendered(CAPTIONS / "table.rst", TINY, "table2")
    shared = rendered(CAPTIONS / "table.rst", TINY, "table2-shared-threshold")
    assert "a threshold for each group" in own
    assert "one threshold for all groups" in shared
    assert "one threshold" not in own


def test_the_start_page_speaks_of_controls_where_there_are_some():
    path = CAPTIONS / "workflow.rst"
    assert "Two controls" in rendered(path, TINY)
    assert "control" not in rendered(path, {**TINY, "controls": False})


def test_a_broken_caption_would_be_seen(tmp_path):
    broken = tmp_path / "broken.rst"
    broken.write_text("An ``unclosed literal.\n")
    with pytest.raises(SystemMessage):
        rendered(broken, TINY)
