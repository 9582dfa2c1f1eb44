"""The page in a real browser: clicks through samples and themes without policy violations."""

import asyncio

import pytest

from raytrain.report import render_html
from tests.support.browser import CHROMIUM, chromium, visit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)"),
]

VISIBLE = "[...document.querySelectorAll('.sample')].filter((s) => s.checkVisibility())"


async def walk(tab, url):
    await tab.open(url)
    shown = f"{VISIBLE}.map((s) => [s.dataset.task, s.dataset.kind])"
    assert len(await tab.js(shown)) == 1
    assert await tab.js("document.getElementById('count').textContent") == "1 of 60"

    await tab.js("document.getElementById('next').click()")
    assert await tab.js("document.getElementById('count').textContent") == "2 of 60"
    await tab.js("document.getElementById('next').focus()")
    await tab.key("ArrowLeft")
    await tab.key("ArrowLeft")
    assert await tab.js("document.getElementById('count').textContent") == "60 of 60"

    await tab.js("{const s = document.getElementById('f-task'); s.value = '4'; s.dispatchEvent(new Event('change'))}")
    assert await tab.js("document.getElementById('count').textContent") == "1 of 10"
    await tab.js("document.querySelector('input[name=kind][value=random]').click()")
    assert await tab.js(shown) == [["4", "random"]]
    await tab.js("document.getElementById('next').focus()")
    for key, kind in (("l", "loss"), ("r", "random"), ("g", "gain")):
        await tab.key(key)
        assert await tab.js("document.querySelector('input[name=kind]:checked').value") == kind
    await tab.key("a")
    template = "{const s = document.getElementById('f-template'); s.value = '%s'; s.dispatchEvent(new Event('change'))}"
    await tab.js(template % "1")
    assert set(
        map(
            str,
            await tab.js(
                "[...document.querySelectorAll('.sample')].filter((s) => !s.hidden).map((s) => s.dataset.template)"
            ),
        )
    ) <= {"1"}
    await tab.js(template % "")
    assert await tab.js("document.getElementById('count').textContent") == "1 of 10"

    colour = "getComputedStyle(document.body).backgroundColor"
    first = await tab.js(colour)
    await tab.js("document.getElementById('theme').click()")
    assert await tab.js(colour) != first
    await tab.js("document.getElementById('theme').click()")
    assert await tab.js(colour) == first

    assert await tab.js("typeof window.pwned") == "undefined"
    for width in (1280, 390):
        await tab.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500
        )
        assert await tab.js("document.documentElement.scrollWidth") <= width
    assert tab.complaints() == []


async def read_without_script(tab, url):
    await tab.call("Emulation.setScriptExecutionDisabled", value=True)
    await tab.open(url)
    assert await tab.js(f"{VISIBLE}.length") == 60
    assert not await tab.js("document.getElementById('filters').checkVisibility()")


@pytest.mark.parametrize("script", [walk, read_without_script])
def test_the_page_works_in_a_browser(hostile_data, tmp_path, script):
    path = tmp_path / "index.html"
    path.write_text(render_html(hostile_data), encoding="utf-8")
    with chromium(tmp_path / "profile") as port:
        asyncio.run(visit(port, path.as_uri(), script))
