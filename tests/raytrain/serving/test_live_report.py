"""The report of a run in progress over HTTP: the same page, filling up."""

import asyncio
import json
import time
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from raytrain.evaluation.results import read_card, write_scores
from raytrain.report import gather, render_html
from raytrain.serving.live_report import LiveReport, application
from raytrain_core.storage import open_store
from tests.raytrain.report.conftest import RunFolder
from tests.support.browser import CHROMIUM, chromium, visit
from tests.support.served import served as listening


@pytest.fixture
def run(tmp_path):
    return RunFolder(open_store(str(tmp_path / "storage")), rows=12, stages=("before",))


def in_phase(run, phase, step):
    run.write()
    progress = {"run": run.name, "attempt": 2, "phase": phase, "step": step, "steps": run.steps}
    run.store.put(run.layout.progress, json.dumps(progress).encode())


def served(run, *, every=0.0):
    return application(LiveReport(run.store, run.layout, every=every))


def test_an_unfinished_run_looks_for_news_and_a_finished_one_does_not(run):
    client = TestClient(served(run, every=0.01), base_url="http://localhost")
    in_phase(run, "Training", 400)
    first = client.get("/")
    policy, live = first.headers["Content-Security-Policy"], first.text
    time.sleep(0.02)
    in_phase(run, "Complete", 1000)
    done = client.get("/").text
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert 'data-live="0.01"' in live
    assert "not finished: Training" in live
    assert "data-live" not in done
    assert "connect-src &#39;none&#39;" in done


@pytest.mark.parametrize("phase", ["Failed", "Interrupted"])
def test_a_run_that_has_ended_without_a_report_is_not_looked_at_again(run, phase):
    in_phase(run, phase, 400)
    page = TestClient(served(run), base_url="http://localhost").get("/").text
    assert f"not finished: {phase}" in page
    assert "data-live" not in page
    assert "Live:" not in page


def test_other_hosts_and_other_paths_are_refused(run):
    in_phase(run, "Training", 400)

    client = TestClient(served(run), base_url="http://localhost")
    for host in ("evil.example", "[", "[::2]"):
        assert client.get("/", headers={"Host": host}).status_code == 421
    assert client.get("/other").status_code == 404


def test_the_page_is_made_once_however_many_read_it(run, monkeypatch):
    in_phase(run, "Training", 400)
    made = []

    async def ask():
        report = LiveReport(run.store, run.layout, every=60)
        monkeypatch.setattr(report, "_make", lambda: made.append(1) or "page")
        assert set(await asyncio.gather(*(report.page() for _ in range(10)))) == {"page"}

    asyncio.run(ask())
    assert made == [1]


class Counted:
    """A store that notes every read below scores/ and of segments."""

    def __init__(self, store):
        self._store, self.uri, self.reads = store, store.uri, []

    def __getattr__(self, name):
        return getattr(self._store, name)

    def get(self, key):
        if "/scores/" in key or "/metrics/" in key or "/events/" in key:
            self.reads.append(key.rpartition("/scores/")[2])
        return self._store.get(key)


def test_a_page_reads_only_the_scores_that_are_new(run):
    run.stages = ("before", "checkpoints")
    in_phase(run, "Training", 400)
    counted = Counted(run.store)
    report = LiveReport(counted, run.layout, every=0.0)
    first = asyncio.run(report.page())
    assert len(counted.reads) == len(set(counted.reads)) > 2 * 6 * len(run.checkpoints)
    counted.reads.clear()
    assert asyncio.run(report.page()) == first
    assert counted.reads == []
    scored = run.layout.scores("step-000400", "code")
    card = read_card(run.store, run.layout, "step-000400", "code")
    write_scores(run.store, run.layout, replace(card, step=401), [], fingerprint="f")
    asyncio.run(report.page())
    folder = scored.rpartition("/scores/")[2]
    assert counted.reads == [f"{folder}/manifest.json", f"{folder}/scores.json"]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)")
def test_the_page_fills_up_in_a_browser_and_keeps_what_was_opened(run, tmp_path, monkeypatch):
    pages = []
    everything = ("before", "checkpoints", "after")
    for phase, stages in (("Training", ("before",)), ("ScoringAfter", everything), ("Complete", everything)):
        run.stages = stages
        in_phase(run, phase, 400)
        pages.append(render_html(gather(run.store, run.layout), every=0.1))
    shown = 0
    monkeypatch.setattr(LiveReport, "_make", lambda report: pages[shown])

    async def until(tab, expression):
        for _ in range(200):
            if await tab.js(expression):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(expression)

    async def watch(tab, url):
        nonlocal shown
        await tab.open(url)
        assert await tab.js(
            "document.querySelector('h1').textContent.includes('not been scored both before and after')"
        )
        await tab.js("document.querySelectorAll('.task')[1].open = true")
        shown = 1
        await until(tab, "document.querySelector('h1').textContent.startsWith('After fine-tuning')")
        assert await tab.js("[...document.querySelectorAll('.task')].map((d) => d.open)") == [False, True] + [False] * 4
        assert await tab.js("document.getElementById('count').textContent") == "1 of 60"
        await tab.js("document.getElementById('next').click()")
        assert await tab.js("document.getElementById('count').textContent") == "2 of 60"
        shown = 2
        await until(tab, "!document.getElementById('live')")
        assert await tab.js("document.getElementById('count').textContent") == "2 of 60"
        assert tab.complaints() == []

    with chromium(tmp_path / "profile") as port, listening(served(run, every=0.1)) as url:
        asyncio.run(visit(port, url, watch))
