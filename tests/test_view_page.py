"""The page of `mstkd view` in a browser: pointer, keyboard, narrow, dark; and hostile names."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from browser import CHROMIUM, Tab, tab
from processes import read_line, started
from test_view import SETTINGS, drawn, experiment, write_csv  # noqa: F401

from mstkd.evaluation.intervals import rate_interval, rates_at
from mstkd.evaluation.scorefiles import read_scores

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]
MSTKD = Path(sys.executable).with_name("mstkd")
EVIL = "<img src=x onerror='window.harmed=1'>"
SETTLED = """!document.getElementById('shown').hidden &&
    [...document.querySelectorAll('.interval')].every(one => one.textContent !== '…')"""
ROWS = """[...document.querySelectorAll('#rates tr')].map(row =>
    [...row.children].map(cell => [...cell.childNodes].map(one => one.textContent).join('|')))"""
CHOOSE = """(() => {{
    const select = document.getElementById('tables');
    select.selectedIndex = {0};
    select.dispatchEvent(new Event('change'));
}})()"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, experiment):  # noqa: F811
    """The results of an experiment, with a table of hostile names beside them."""
    evil = [
        {**row, "group": f"{EVIL}{group}", "image1": f"{EVIL}{row['image1']}"}
        for group in "AB"
        for row in drawn(20, group=group, seed=ord(group))
    ]
    write_csv(experiment / f"z{EVIL}.csv", evil)
    (experiment / "zz.csv").write_text("similarity\n")
    return experiment


@pytest.fixture(scope="module")
def served(folder, tmp_path_factory):
    """A tab of the page, and the page's address."""
    pipes = {"stdout": subprocess.PIPE, "bufsize": 0}
    with started([MSTKD, "view", folder], **pipes) as server:
        address = read_line(server.stdout).strip()
        with tab(tmp_path_factory.mktemp("chromium")) as page:
            yield page, address


@pytest.fixture
def page(served) -> Tab:
    """The page, anew."""
    own, address = served
    own.resize(1400)
    own.dark(False)
    own.said.clear()
    own.open(address)
    own.until(SETTLED)
    return own


def test_the_slider_changes_the_table(page, folder):
    table = read_scores(folder / "adaptors/DuL/seed0/scores.h5")
    seen = []
    for fraction in (0.1, 0.5, 1):
        page.ask(
            f"""(() => {{
                const slider = document.getElementById('threshold');
                slider.value = Math.round({fraction} * slider.max);
                slider.dispatchEvent(new Event('input'));
            }})()"""
        )
        threshold = page.ask("table.thresholds[place]")
        page.until(SETTLED)
        assert f"similarity {threshold}" in page.ask("document.getElementById('at').textContent")
        rows = page.ask(ROWS)
        assert [row[0] for row in rows] == ["A", "B", "all groups"]
        assert rows not in seen
        seen.append(rows)
        for name, *cells in rows:
            here = table.group1 == "AB".find(name) if name in "AB" else table.group1 >= 0
            for rate, errors, same in ((*cells[:2], False), (*cells[2:], True)):
                kind = table.similarity[here & (table.same == same)]
                wrong = int(((kind >= threshold) != same).sum())
                assert errors == f"{wrong} of {len(kind)}"
                assert rate.startswith(f"{100 * wrong / len(kind):.2f}|")
        expected = rate_interval(rates_at([table], threshold=threshold).fmr)
        told = f"{100 * expected.low[0, 0]:.2f} to {100 * expected.high[0, 0]:.2f}"
        assert rows[0][1].split("|")[1].removesuffix(", few") == told


def test_pairs_say_if_they_are_wrong_at_the_threshold(page):
    words = (
        "[...document.querySelectorAll('.pairs button')].map(one => one.children[2].textContent)"
    )
    page.ask("move(0)")
    assert set(page.ask(words)) == {"false match", "accepted"}
    page.ask("move(table.thresholds.length - 1)")
    assert set(page.ask(words)) == {"rejected", "false non-match"}


def test_a_clicked_pair_shows_its_pictures_and_shares(page):
    page.ask("document.querySelector('.pairs button').click()")
    page.until("!document.getElementById('shares').hidden")
    rows = page.ask(
        """[...document.querySelectorAll('#teachers tr')].map(row =>
            [...row.children].map(cell => cell.textContent))"""
    )
    assert [row[0] for row in rows] == ["T-A", "T-B", "none"]
    title = page.ask("document.getElementById('pair-title').textContent")
    score = float(title.rpartition(" ")[2].replace("−", "-"))
    parts = [float(row[1].replace("−", "-")) for row in rows]
    # An adaptor's own scores are the fused space's similarities.
    assert sum(parts) == pytest.approx(score, abs=0.003)
    page.until("[...document.querySelectorAll('#faces img')].every(one => one.naturalWidth === 16)")
    assert page.ask("document.querySelectorAll('#faces img').length") == 2


def test_a_pair_without_teachers_says_why(page):
    page.ask(CHOOSE.format(1))
    page.until("table.number === 1 && " + SETTLED)
    page.ask("document.querySelector('.pairs button').click()")
    page.until("!document.getElementById('pair-fault').hidden")
    fault = page.ask("document.getElementById('pair-fault').textContent")
    assert "There are no shares" in fault and "found those of a teacher" in fault


def test_a_table_that_cannot_be_read_leaves_the_others(page):
    page.ask(CHOOSE.format(4))
    page.until("!document.getElementById('fault').hidden")
    assert "zz.csv" in page.ask("document.getElementById('fault').textContent")
    assert page.ask("document.getElementById('shown').hidden")
    page.ask(CHOOSE.format(2))
    page.until("table.number === 2 && " + SETTLED)
    assert page.ask("document.getElementById('fault').hidden")


def test_names_stay_names(page):
    page.ask(CHOOSE.format(3))
    page.until("table.number === 3 && " + SETTLED)
    assert [row[0] for row in page.ask(ROWS)] == [f"{EVIL}A", f"{EVIL}B", "all groups"]
    page.ask("document.querySelector('.pairs button').click()")
    page.until("!document.getElementById('pair-fault').hidden")
    assert EVIL in page.ask("document.getElementById('names').textContent")
    assert page.ask("document.querySelectorAll('[onerror], img[src=x]').length") == 0
    assert page.ask("window.harmed === undefined")
    assert EVIL in page.ask("document.getElementById('tables').options[3].textContent")


def test_the_keyboard_is_enough(page):
    """From the top: the list, the slider, the buttons; a pair opens and closes."""

    def focused() -> str:
        return page.ask("document.activeElement.id || document.activeElement.textContent")

    page.ask("document.activeElement.blur()")
    seen = []
    while "threshold" not in seen:
        page.press("Tab")
        seen.append(focused())
    assert seen == ["tables", "threshold"]
    before = page.ask("place")
    page.press("ArrowLeft")
    page.press("ArrowLeft")
    assert page.ask("place") == before - 2
    text = page.ask("document.getElementById('threshold').getAttribute('aria-valuetext')")
    assert text == f"similarity {page.ask('table.thresholds[place]')}"
    page.press("Tab")
    page.press("Enter")
    assert page.ask("place") == before
    while not page.ask("document.activeElement.matches('.pairs button')"):
        page.press("Tab")
    page.press("Enter")
    page.until("!document.getElementById('shares').hidden")
    assert focused() == "close"
    page.press("Escape")
    page.until("!document.getElementById('pair').open")
    assert page.ask("document.activeElement.matches('.pairs button')"), "where it was"


@pytest.mark.parametrize("width", [320, 390, 768, 1400])
@pytest.mark.parametrize("number", [0, 3], ids=["model", "long names"])
def test_nothing_is_wider_than_the_screen(page, width, number):
    page.resize(width)
    page.ask(CHOOSE.format(number))
    page.until(f"table.number === {number} && {SETTLED}")
    wide = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    scroll, client = page.ask(wide)
    assert scroll <= client
    page.ask("document.querySelector('.pairs button').click()")
    page.until("document.getElementById('pair-state').hidden")
    left, right, own, inner = page.ask(
        """(() => {
            const dialog = document.getElementById('pair');
            const box = dialog.getBoundingClientRect();
            return [box.left, box.right, dialog.scrollWidth, dialog.clientWidth];
        })()"""
    )
    assert left >= 0 and right <= width and own <= inner


# Of every text that is seen, its colour and what lies behind it.
COLOURS = """[...document.querySelectorAll('body *')].filter(one =>
    one.checkVisibility() && [...one.childNodes].some(part =>
        part.nodeType === Node.TEXT_NODE && part.textContent.trim())
).map(one => {
    let behind = one;
    while (behind && getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)')
        behind = behind.parentElement;
    return [one.textContent.trim().slice(0, 40), getComputedStyle(one).color,
        behind ? getComputedStyle(behind).backgroundColor : 'none'];
})"""


def luminance(colour: str) -> float:
    """WCAG 2.2."""
    channels = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_texts_stand_out_by_day_and_night(page):
    for dark, dialog in itertools.product((False, True), (False, True)):
        page.dark(dark)
        if dialog:
            page.ask("document.querySelector('.pairs button').click()")
            page.until("!document.getElementById('shares').hidden")
        found = page.ask(COLOURS)
        assert len(found) > 30
        for text, own, behind in found:
            low, high = sorted((luminance(own), luminance(behind)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, own, behind, dark)
        page.ask("document.getElementById('pair').close()")
    assert luminance(found[0][2]) < 0.1, "dark at last"


def test_all_that_is_asked_for_is_asked_of_this_server_and_no_rule_is_broken(page, served):
    address = served[1]
    page.ask("document.querySelector('.pairs button').click()")
    page.until("!document.getElementById('shares').hidden")
    asked = [
        told["params"]["request"]["url"]
        for told in page.said
        if told.get("method") == "Network.requestWillBeSent"
    ]
    assert len(asked) > 5
    origin = address.split("/")[2]
    icon = f"http://{origin}/favicon.ico"  # a browser's own wish
    assert all(one.startswith(address) for one in asked if one != icon)
    wrong = [
        told["params"]
        for told in page.said
        if told.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")
    ]
    assert [one for one in wrong if one.get("entry", {}).get("url") != icon] == []
    # What somebody would put into the page does not run.
    page.ask(
        """(() => {
            const evil = document.createElement('script');
            evil.setAttribute('nonce', 'guessed');
            try { evil.textContent = 'window.harmed = 1'; } catch {}
            document.body.append(evil);
        })()"""
    )
    assert page.ask("window.harmed === undefined")
    outside = "fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')"
    assert page.ask(outside) == "refused"
    violations = [
        told["params"]["entry"]["text"]
        for told in page.said
        if told.get("method") == "Log.entryAdded"
    ]
    assert any("Content Security Policy" in one and "connect-src" in one for one in violations)


def test_a_server_that_has_ended_is_told(folder, tmp_path):
    pipes = {"stdout": subprocess.PIPE, "bufsize": 0}
    with tab(tmp_path) as page:
        with started([MSTKD, "view", folder], **pipes) as server:
            page.open(read_line(server.stdout).strip())
            page.until(SETTLED)
        page.ask(CHOOSE.format(2))
        page.until("!document.getElementById('fault').hidden")
        told = page.ask("document.getElementById('fault').textContent")
        assert told == "mstkd view does not answer any more; was it ended?"
