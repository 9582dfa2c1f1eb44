"""Sends notifications over HTTP, in tasks of their own: nobody waits for a receiver."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from raytrain.operator.metrics import NOTIFICATIONS
from raytrain.operator.notifications.due import Notification
from raytrain.operator.notifications.payload import payload

if TYPE_CHECKING:
    from urllib3 import PoolManager

TIMEOUT_SECONDS = 10.0
WAITS = (1.0, 4.0, 15.0, 60.0)
"""Seconds before each further try."""
_AT_ONCE = 4
_log = logging.getLogger(__name__)

Done = Callable[[Notification, str], Awaitable[None]]
"""Called at the end of a delivery with why it failed, empty if it did not."""


class UndeliverableError(Exception):
    """A receiver or its secret is wrong; another try would meet the same."""


class Delivery:
    """Sends each notification at most once at a time; retries with growing waits, then gives up.

    All methods run in one event loop, requests in threads. The URL is a secret (Slack's is all that
    a sender needs), so no message has it.
    """

    def __init__(self, folder: Path | None, done: Done, *, waits: tuple[float, ...] = WAITS) -> None:
        self._folder, self._done, self._waits = folder, done, waits
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._threads = ThreadPoolExecutor(_AT_ONCE, "notification")  # a receiver that hangs holds these alone

    def send(self, found: Notification) -> None:
        """Begins to send; returns at once."""
        if found.id not in self._under_way:
            task = asyncio.get_running_loop().create_task(self._send(found))
            self._under_way[found.id] = task
            task.add_done_callback(lambda _: self._under_way.pop(found.id, None))

    async def close(self) -> None:
        """Gives up what is under way: it is sent after the next start."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _send(self, found: Notification) -> None:
        problem = ""
        for wait in (0.0, *self._waits):
            await asyncio.sleep(wait)
            try:
                problem = await asyncio.get_running_loop().run_in_executor(self._threads, post, found, self._folder)
            except UndeliverableError as error:
                problem = str(error)
                break
            if not problem:
                break
        NOTIFICATIONS.labels(found.channel.name, "failed" if problem else "sent").inc()
        if problem:
            _log.warning(
                "%s/%s: %s not told to %s: %s", found.namespace, found.job, found.kind, found.channel.name, problem
            )
        await self._done(found, problem)


def post(found: Notification, folder: Path | None) -> str:
    """Makes one request; returns what went wrong, if another may help.

    Raises UndeliverableError where it cannot.
    """
    from urllib3.exceptions import HTTPError

    kind, body = payload(found)
    url, token = _secret(found.channel.name, "url", folder), _secret(found.channel.name, "token", folder)
    if not _is_http(url):
        raise UndeliverableError(f"the Secret has no URL (https://...) under {found.channel.name}.url")
    headers = {"Content-Type": kind, "User-Agent": "raytrain-operator"} | (
        {"Authorization": f"Bearer {token}"} if token else {}
    )
    try:
        answer = _pool().request("POST", url, body=body, headers=headers, redirect=False, preload_content=False)
    except (HTTPError, ValueError) as error:
        return f"the receiver cannot be reached ({type(error).__name__})"
    status = answer.status
    answer.close()
    if status >= 500 or status in (408, 425, 429):
        return f"the receiver answered {status}"
    if 300 <= status < 400:
        raise UndeliverableError(f"the receiver answered {status}: redirects are not followed, give its final URL")
    if status >= 400:
        raise UndeliverableError(f"the receiver answered {status}: see {found.channel.name}.url and .token")
    return ""


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that are none
        return False


def _pool() -> PoolManager:
    from urllib3 import PoolManager, Timeout

    return PoolManager(timeout=Timeout(total=TIMEOUT_SECONDS), retries=False)


def _secret(channel: str, what: str, folder: Path | None) -> str:
    """A value of the mounted Secret, read anew each time: it may have been rotated."""
    try:
        return (folder / f"{channel}.{what}").read_text(encoding="utf-8").strip() if folder else ""
    except (OSError, UnicodeDecodeError):
        return ""
