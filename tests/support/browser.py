"""Headless Chromium over the DevTools protocol: clicks through pages and collects their errors."""

import asyncio
import contextlib
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp

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


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[int]:
    """Runs a separate browser; yields the port of its debugging interface."""
    assert CHROMIUM is not None
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
            assert time.monotonic() < deadline, "the browser did not start"
            time.sleep(0.05)
        yield int(port.read_text().split()[0])
    finally:
        process.terminate()
        process.wait(timeout=30)


class Tab:
    """One tab, over the DevTools protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket, self.numbers = socket, itertools.count(1)
        self.events: list[dict[str, Any]] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self.numbers)
        await self.socket.send_str(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads((await self.socket.receive(timeout=60)).data)
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    async def js(self, expression: str) -> Any:
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def key(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    async def open(self, url: str) -> None:
        """Loads a page, the same one again too, and waits until it is painted.

        Until then the browser of a loaded machine may answer for the page before, and drops keys.
        """
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        await self.js("window.isLeft = true")
        await self.call("Page.navigate", url=url)
        while not await self._is_loaded(url):
            await asyncio.sleep(0.02)
        await self.js("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))")

    async def _is_loaded(self, url: str) -> bool:
        expression = "document.readyState === 'complete' && !window.isLeft && location.href"
        try:
            return bool(await self.js(expression) == url)
        except AssertionError:  # between two pages there is nothing to evaluate in
            return False

    def complaints(self) -> list[dict[str, Any]]:
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Page.javascriptDialogOpening")
        return [e for e in self.events if e.get("method") in kinds]


async def visit(port: int, url: str, script: Callable[[Tab, str], Awaitable[None]]) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            page = next(t for t in await answer.json() if t["type"] == "page")
        async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            await script(Tab(socket), url)
