"""The page as a browser lays it out: a wide screen, a telephone, paper, a keyboard, the dark."""

import itertools
import re
from pathlib import Path

import pytest
from browser import CHROMIUM, asked
from reporting import errors, verification_pairs, write_scored

from mstkd.config import ClaimsSettings, ErrorRateSettings, PageSettings, TableSettings
from mstkd.report.claims import compute_claims
from mstkd.report.error_rates import render_error_rates
from mstkd.report.figures import render_accuracies
from mstkd.report.page import render_page
from mstkd.report.tables import render_table

GROUPS = ("African", "Asian", "Caucasian", "Indian")
A4 = 688  # pixels, of 210 mm less margins of 14
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """Teachers and students of both sets, by two adaptors and two losses, with long names."""
    folder = tmp_path_factory.mktemp("layout")
    pairs = verification_pairs(GROUPS, identities=12, pairs=60)
    models = [
        {"kind": "teacher", "set": set_, "name": name, "loss": None}
        for set_, name in (
            *(("specialized", f"T-{group}") for group in GROUPS),
            *(("baseline", f"BT-{number}") for number in range(1, 5)),
        )
    ]
    losses = ("a-KD", "EAF-KD")
    for loss, set_, name in itertools.product(
        losses, ("specialized", "baseline"), ("SL", "an-adaptor-of-a-long-name")
    ):
        models.append({"set": set_, "name": name, "loss": loss})
    metrics: dict[str, list[Path]] = {}
    for seed, who in enumerate(models):
        accuracies = [80 + seed % 7, 84, 88, 90 - seed % 5]
        wrong = errors(pairs, dict(zip(GROUPS, accuracies, strict=True)), seed=seed)
        metrics.setdefault(str(who["loss"]), []).append(write_scored(folder, pairs, wrong, **who))
    claims, tables, figures = folder / "claims.json", [], []
    every = [path for paths in metrics.values() for path in paths]
    compute_claims(
        ClaimsSettings(draws=100, chosen_on_test=("students",)), metrics=every, output=claims
    )
    for loss, paths in metrics.items():
        settings = TableSettings(
            caption=f"Accuracy of {loss}.", groups=GROUPS, published=True, draws=100
        )
        tables.append(folder / "tables" / f"{loss}.html")
        figures.append(folder / f"{loss}.png")
        render_table(settings, metrics=paths, outputs=tables[-1:])
        tables.append(folder / "error-rates" / f"{loss}.html")
        rates = ErrorRateSettings(caption=f"Of {loss}.", groups=GROUPS, fmr=0.1, draws=100)
        render_error_rates(rates, metrics=paths, outputs=tables[-1:])
        render_accuracies(settings, metrics=paths, outputs=[figures[-1]])
    output = folder / "report.html"
    settings = PageSettings(title="A title", procedural=True)
    render_page(settings, tables=tables, figures=figures, claims=claims, output=output)
    return output


@in_browser
def test_the_answer_is_on_the_first_screen(page, tmp_path):
    places = """(page) => ['.question', '.answer', '.caution', '.forest.claims', '.forest.groups',
        'nav', '.mstkd-table', 'figure'].map(one => page.querySelector(one).getBoundingClientRect())
        .map(box => [box.top, box.bottom])"""
    (question, answer, caution, claims, groups, *rest) = asked(
        page, places, tmp_path, width=1400, height=900
    )
    assert question[0] < answer[0] < caution[0] < claims[0]
    assert caution[1] < 450
    assert groups[1] < 900, "the differences for each group are seen whole"
    assert [claims, *rest] == sorted([claims, *rest])


WIDTHS = """(page) => {
  page.querySelectorAll('details').forEach(one => one.open = true);
  return [page.documentElement.scrollWidth, page.documentElement.clientWidth];
}"""


@in_browser
@pytest.mark.parametrize("width", [320, 390, 768, 1400])
def test_nothing_is_wider_than_the_screen(page, tmp_path, width):
    scroll, client = asked(page, WIDTHS, tmp_path, width=width)
    assert scroll <= client == width


@in_browser
def test_nothing_is_wider_than_the_paper(page, tmp_path):
    """What is folded away is not printed."""
    script = "(page) => page.documentElement.scrollWidth"
    assert asked(page, script, tmp_path, width=A4, media="print") <= A4


@in_browser
def test_names_of_rows_and_captions_stay_where_a_table_is_scrolled(page, tmp_path):
    script = """(page) => {
      page.querySelectorAll('details').forEach(one => one.open = true);
      return [...page.querySelectorAll('.wide')].map(box => {
        box.scrollLeft = 1e6;
        const names = [...box.querySelectorAll('th[scope=row]:first-child')];
        const captions = [...box.querySelectorAll('caption')];
        return [box.scrollLeft, names.map(one => one.getBoundingClientRect()).map(
            one => [one.left, one.right]), captions.map(one => one.getBoundingClientRect().right)];
      });
    }"""
    boxes = asked(page, script, tmp_path, width=390)
    scrolled = [box for box in boxes if box[0] > 0]
    assert len(scrolled) > 3
    for _, names, captions in scrolled:
        assert names
        assert all(0 <= left < right <= 0.6 * 390 for left, right in names)
        assert all(right <= 390 for right in captions)


@in_browser
def test_all_that_scrolls_or_opens_is_reached_by_the_keyboard_and_has_a_name(page, tmp_path):
    script = """(page, view) => {
      page.querySelectorAll('details').forEach(one => one.open = true);
      const scrolls = [...page.querySelectorAll('*')].filter(one =>
        one.scrollWidth > one.clientWidth + 1 && view.getComputedStyle(one).overflowX == 'auto');
      const name = one => one.getAttribute('aria-label') || one.textContent.trim();
      return [scrolls.map(one => [one.tabIndex, name(one)]),
        [...page.querySelectorAll('a, summary')].map(one => [one.tabIndex, name(one)]),
        [...page.querySelectorAll('table')].filter(one => !one.caption).length,
        [...page.querySelectorAll('tbody tr')].filter(
            one => !one.querySelector('th[scope]')).length,
        [...page.querySelectorAll('thead th')].filter(one => one.scope != 'col').length];
    }"""
    scrolls, others, unnamed, nameless, unscoped = asked(page, script, tmp_path, width=390)
    assert scrolls
    assert all(index == 0 and name for index, name in (*scrolls, *others))
    assert (unnamed, nameless, unscoped) == (0, 0, 0)


def test_pictures_say_what_they_show(page):
    text = page.read_text()
    alts = re.findall(r'<img [^>]*alt="([^"]*)"', text)
    assert len(alts) == 3
    for alt in alts:
        assert re.search(r"Highest global accuracy: specialized .+ \d\d\.\d\d", alt)
    # The plots say the same as the words beside them.
    assert text.count('<svg class="plot" aria-hidden="true">') == text.count('class="verdict-text')


def _luminance(colour: str) -> float:
    """WCAG 2.1."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_texts_stand_out_from_their_background_by_day_and_night(page):
    text = page.read_text()
    colours: dict[str, list[str]] = {}
    for name, value in re.findall(r"--(\w+): (#[0-9a-f]{6});", text):
        colours.setdefault(name, []).append(value)
    assert {len(values) for values in colours.values()} == {2}, "of day and of night"
    for name, ground in itertools.product(("ink", "quiet", "good", "bad"), ("paper", "tint")):
        for one, other in zip(colours[name], colours[ground], strict=True):
            low, high = sorted((_luminance(one), _luminance(other)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (name, ground)
