"""Notifications received by a real HTTP server, a good one and bad ones; what is due when."""

import asyncio
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from raytrain.operator.notification_settings import Channel, Notifications
from raytrain.operator.notifications import delivery
from raytrain.operator.notifications.delivery import Delivery
from raytrain.operator.notifications.due import due, remembered
from raytrain.operator.snapshot import read_status
from tests.support.finetunejob_objects import UID, after, finetunejob

ENDED = {
    "phase": "Failed",
    "message": "1 of 1 attempts failed: <disk> & more",
    "startTime": "2026-11-23T12:00:00Z",
    "completionTime": "2026-11-23T12:05:00Z",
    "usage": {"since": "2026-11-23T12:05:00Z", "gpuSeconds": 7200, "cost": "4.00", "currency": "EUR"},
}


def settings(**channel):
    return Notifications(channels=[Channel(name="team", **channel)])


def found(status=ENDED, seconds=310, **channel):
    return due(finetunejob(status=status), settings(**channel), after(seconds))


@contextmanager
def receiver(*answers, hang=0.0):
    """A server that answers with these codes in turn, then the last; yields (url, requests)."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((dict(self.headers), json.loads(body)))
            time.sleep(hang)
            self.send_response(answers[min(len(got), len(answers)) - 1])
            self.send_header("Location", f"http://127.0.0.1:{server.server_port}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook-secret", got
    finally:
        server.shutdown()
        server.server_close()


def told(folder, *notifications):
    """Sends, and returns how each delivery ended."""
    ends = []

    async def done(notification, problem):
        ends.append((notification.mark, problem))

    async def everything():
        sender = Delivery(folder, done, waits=(0.01, 0.01))
        for notification in notifications:
            sender.send(notification)
        while len(ends) < len({n.id for n in notifications}):
            await asyncio.sleep(0.005)
        await sender.close()

    asyncio.run(asyncio.wait_for(everything(), 20))
    return ends


def secret(folder, url, token=""):
    (folder / "team.url").write_text(f"{url}\n")
    if token:
        (folder / "team.token").write_text(token)
    return folder


def test_a_cloud_event_is_received_with_its_token(tmp_path):
    (failed,) = found(format="cloudevents", events=["failed"])
    with receiver(202) as (url, got):
        assert told(secret(tmp_path, url, "s3cr3t"), failed) == [("team.failed", "")]
    ((headers, event),) = got
    assert headers["Content-Type"] == "application/cloudevents+json"
    assert headers["Authorization"] == "Bearer s3cr3t"
    assert {"specversion", "id", "source", "type"} <= event.keys()
    assert event["type"] == "dev.raytrain.finetunejob.failed"
    assert event["id"] == f"{UID}.team.failed"
    assert event["data"]["gpuHours"] == 2.0
    assert event["data"]["cost"] == "4.00 EUR"


def test_slack_gets_a_line_with_its_signs_escaped(tmp_path):
    with receiver(200) as (url, got):
        told(secret(tmp_path, url), *found(format="slack", events=["failed"]))
    assert got[0][1] == {"text": "team/assistant has failed: 1 of 1 attempts failed: &lt;disk&gt; &amp; more"}
    assert "Authorization" not in got[0][0]


def test_a_receiver_that_answers_500_is_asked_again(tmp_path):
    (failed,) = found(events=["failed"])
    with receiver(500, 429, 200) as (url, got):
        assert told(secret(tmp_path, url), failed, failed) == [("team.failed", "")]
    assert [body["id"] for _, body in got] == [failed.id] * 3


@pytest.mark.parametrize(
    ("code", "requests", "problem"),
    [
        (500, 3, "the receiver answered 500"),
        (404, 1, "the receiver answered 404: see team.url and .token"),
        (302, 1, "the receiver answered 302: redirects are not followed, give its final URL"),
    ],
)
def test_after_all_tries_or_a_mistake_it_is_given_up_and_told(tmp_path, code, requests, problem):
    with receiver(code) as (url, got):
        assert told(secret(tmp_path, url, "s3cr3t"), *found(events=["failed"])) == [("team.failed", problem)]
    assert len(got) == requests


def test_a_receiver_that_hangs_keeps_nobody_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(delivery, "TIMEOUT_SECONDS", 0.1)
    with receiver(200, hang=1.0) as (url, _):
        ((_, problem),) = told(secret(tmp_path, url), *found(events=["failed"]))
    assert "cannot be reached (ReadTimeoutError)" in problem


@pytest.mark.parametrize(
    "url", ["", "hooks.slack.com/services/x", "ftp://host/x", "https:///x", "https://[x/", "https://x:y/"]
)
def test_a_wrong_url_is_told_without_showing_it(tmp_path, url):
    ((_, problem),) = told(secret(tmp_path, url), *found(events=["failed"]))
    assert problem == "the Secret has no URL (https://...) under team.url"
    assert "no URL" in told(None, *found(events=["failed"]))[0][1]


def test_a_problem_never_shows_the_url_or_the_token(tmp_path):
    with receiver(401) as (url, _):
        ((_, problem),) = told(secret(tmp_path, url, "s3cr3t"), *found(events=["failed"]))
    assert "hook-secret" not in problem
    assert "s3cr3t" not in problem


def marks(status, seconds=310, **channel):
    return [n.mark for n in found(status, seconds, **channel)]


def test_what_is_due_follows_from_the_state_and_what_was_told():
    assert marks(ENDED) == ["team.started", "team.failed"]
    assert marks(ENDED | {"notified": ["team.started"]}) == ["team.failed"]
    assert marks(ENDED, events=["finished"]) == []
    assert marks(ENDED | {"phase": "Complete"}, events=["finished"]) == ["team.finished"]
    assert marks(ENDED, namespaces=["other-*"]) == []
    assert marks(ENDED, seconds=86400) == []
    assert marks({}) == []


def test_a_refused_job_is_told_as_failed_once_for_each_edit():
    refused = {"type": "Accepted", "status": "False", "lastTransitionTime": "2026-11-23T12:00:00Z"}
    status = {
        "phase": "Rejected",
        "observedGeneration": 3,
        "conditions": [refused | {"reason": "NoStorage", "message": "no storage"}],
    }
    assert marks(status) == ["team.failed-3"]


def test_a_run_without_news_is_told_once_as_stalled():
    progress = {"attempt": 1, "phase": "Training", "updated": "2026-11-23T12:00:00Z"}
    status = {"phase": "Training", "progress": progress}
    assert marks(status, seconds=1700) == []
    assert marks(status, seconds=1900) == ["team.stalled-2026-11-23T12:00:00Z"]
    (stalled,) = found(status, seconds=1900)
    assert stalled.message.startswith("no news from the run since 2026-11-23T12:00:00Z")


def test_what_is_remembered_is_bounded():
    status = read_status(finetunejob(status={"notified": [str(i) for i in range(100)]}))
    assert remembered(status, "new")[-1] == "new"
    assert len(remembered(status, "new")) == 100
