"""The page in a real browser: clicks through the samples and the theme, and listens for complaints of the policy."""

import asyncio
import contextlib
import itertools
import json
import shutil
import subprocess
import time

import aiohttp
import pytest

from raytrain.evaluation.report import render_html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)"),
]


@contextlib.contextmanager
def chromium(folder):
    """A browser of its own; gives the port of its debugging interface."""
    process = subprocess.Popen(
        [CHROMIUM, *SWITCHES, f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port = folder / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not (port.is_file() and port.read_text().count("\n")):
            assert process.poll() is None, "the browser ended"
            assert time.monotonic() < deadline, "the browser did not come up"
            time.sleep(0.05)
        yield int(port.read_text().split()[0])
    finally:
        process.terminate()
        process.wait(timeout=30)


class Tab:
    """One tab, over the DevTools protocol."""

    def __init__(self, socket):
        self.socket, self.numbers, self.events = socket, itertools.count(1), []

    async def call(self, method, **parameters):
        number = next(self.numbers)
        await self.socket.send_str(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads((await self.socket.receive(timeout=60)).data)
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    async def js(self, expression):
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def key(self, key):
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    async def open(self, url):
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)
        while await self.js("document.readyState") != "complete" or await self.js("location.href") != url:
            await asyncio.sleep(0.02)

    def complaints(self):
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Page.javascriptDialogOpening")
        return [e for e in self.events if e.get("method") in kinds]


async def visit(port, url, script):
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            page = next(t for t in await answer.json() if t["type"] == "page")
        async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            await script(Tab(socket), url)


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
