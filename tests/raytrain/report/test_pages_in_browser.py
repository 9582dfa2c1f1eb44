"""All pages in a real browser: readable by everybody, at every width, in the dark and on paper."""

import asyncio
import base64
import json

import pytest

from raytrain.report import gather, render_html, review_page
from raytrain.report.comparison import ComparedRun, compare_runs
from raytrain.report.render_comparison import comparison_html
from raytrain.report.review import choose_rows
from raytrain.report.review_choices import read_choices
from raytrain.report.side_by_side import render_side_by_side
from raytrain.report.stored import read_run
from tests.support.axe import axe_source, violations
from tests.support.browser import CHROMIUM, chromium, visit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)"),
]
WIDTHS = (390, 820, 1280)
OPEN_ALL = "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
"""Elements of the content that reach beyond the right edge or scroll sideways.

The picture of a comparison may: the table below it has the same figures."""
TOO_WIDE = """[...document.querySelectorAll('main *, header *')].filter((e) => e.checkVisibility()
  && !e.closest('svg, .visually-hidden, .side-by-side') && getComputedStyle(e).clipPath === 'none'
  && !e.closest('thead') && !e.querySelector(':scope > .side-by-side')
  && (e.getBoundingClientRect().right > innerWidth + 1
      || (e.scrollWidth > e.clientWidth + 1 && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX))))
  .map((e) => e.tagName + '.' + e.className + ': ' + e.textContent.slice(0, 40)).slice(0, 5)"""

WRAPPED = """[...document.querySelectorAll('.chip')].filter((e) => e.checkVisibility()
  && e.offsetHeight > 1.9 * parseFloat(getComputedStyle(e).lineHeight)).map((e) => e.textContent)"""
"""Verdicts that take two lines."""


@pytest.fixture(scope="module")
def pages(run_folder, hostile_data, make_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    data = gather(run_folder.store, run_folder.layout)
    many = [task.model_copy(update={"name": f"{task.name}-{n}"}) for n in range(9) for task in data.tasks][:50]
    other = make_run(folder / "other", name="a-run-with-a-long-name", seed=9)
    runs = [ComparedRun("first", data), ComparedRun("second", gather(other.store, other.layout))]
    part = data.model_copy(update={"phase": "Training", "finished": None})
    written = {
        "report": render_html(data),
        "hostile": render_html(hostile_data),
        "fifty": render_html(data.model_copy(update={"tasks": many})),
        "unfinished": render_html(part),
        "contrast": render_side_by_side(runs).html,
        "comparison": comparison_html(compare_runs(runs), runs),
        "review": review_page(run_folder.store, run_folder.layout, rows=6, seed=1),
    }
    for name, html in written.items():
        (folder / f"{name}.html").write_text(html, encoding="utf-8")
    return folder


def browse(pages, name, script, tmp_path):
    with chromium(tmp_path / "profile") as port:
        asyncio.run(visit(port, (pages / f"{name}.html").as_uri(), script))


async def resize(tab, width, scheme):
    await tab.call("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=False)
    await tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


ALL = ["report", "hostile", "fifty", "unfinished", "contrast", "comparison", "review"]


@pytest.mark.parametrize("name", ALL)
def test_axe_finds_no_serious_violation(pages, tmp_path, name):
    if axe_source() is None:
        pytest.skip("axe-core cannot be fetched: npm or its registry is missing")

    async def look(tab, url):
        await tab.open(url)
        for width, scheme in ((1280, "light"), (390, "dark")):
            await resize(tab, width, scheme)
            await tab.js(OPEN_ALL)
            assert await violations(tab) == []

    browse(pages, name, look, tmp_path)


@pytest.mark.parametrize("name", ALL)
def test_nothing_scrolls_sideways_or_is_cut(pages, tmp_path, name):
    async def measure(tab, url):
        await tab.open(url)
        for width in WIDTHS:
            await resize(tab, width, "light")
            await tab.js(OPEN_ALL)
            assert await tab.js("document.documentElement.scrollWidth") <= width
            assert await tab.js(TOO_WIDE) == []
            assert await tab.js(WRAPPED) == []
        assert tab.complaints() == []

    browse(pages, name, measure, tmp_path)


def test_paper_shows_what_is_folded_on_screen(pages, tmp_path):
    async def print_it(tab, url):
        await tab.open(url)
        await tab.js("dispatchEvent(new Event('beforeprint'))")
        assert await tab.js("document.querySelectorAll('details:not([open])').length") == 0
        await tab.js("dispatchEvent(new Event('afterprint'))")
        assert await tab.js("document.querySelectorAll('details:not([open])').length") > 0
        paper = base64.b64decode((await tab.call("Page.printToPDF"))["data"])
        assert paper.startswith(b"%PDF")

    browse(pages, "report", print_it, tmp_path)


def test_a_review_is_done_by_keyboard_and_its_file_is_read_back(pages, run_folder, tmp_path):
    review = choose_rows(read_run(run_folder.store, run_folder.layout), run_folder.name, wanted=6, seed=1)
    saved = tmp_path / "saved"

    async def choose(tab, url):
        await tab.open(url)
        await tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(saved), eventsEnabled=True)
        for row in review.rows[:5]:
            await tab.key("1" if row.after_first else "2")
        await tab.key("3")
        assert await tab.js("document.getElementById('state').textContent") == "All rows are chosen: save the file."
        await tab.key("ArrowLeft")
        await tab.open(url)  # the browser remembers
        assert await tab.js("document.getElementById('done').value") == 6
        await tab.js("document.getElementById('save').click()")
        for _ in range(600):
            if list(saved.glob("*-choices.json")):
                break
            await asyncio.sleep(0.05)
        assert tab.complaints() == []

    browse(pages, "review", choose, tmp_path)
    text = next(saved.glob("*-choices.json")).read_text()
    assert json.loads(text)["choices"].keys() == {row.key for row in review.rows}
    found = read_choices(text, read_run(run_folder.store, run_folder.layout), run_folder.name, where="saved")
    assert (found.preferences[0].after, found.preferences[0].ties) == (5, 1)
