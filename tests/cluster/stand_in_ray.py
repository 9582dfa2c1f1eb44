#!/usr/bin/env python3
"""Stands in for the program `ray` where a test is about pods and not about what they compute.

It answers KubeRay as Ray does: health checks on every node, the job API on the head. A job that is
submitted ends well after a second. Only the standard library is needed.
"""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

DASHBOARD, AGENT = 8265, 52365
JOB_SECONDS = 1.0
_submitted: dict[str, float] = {}


class Handler(BaseHTTPRequestHandler):
    """Health checks, and Ray's job API as far as KubeRay uses it."""

    def do_GET(self) -> None:
        name = self.path.removeprefix("/api/jobs/").strip("/")
        if not self.path.startswith("/api/jobs"):
            self._answer(200, "success")
        elif name in _submitted:
            self._answer(200, _job(name))
        elif name:
            self._answer(404, f"job {name} does not exist")
        else:
            self._answer(200, [_job(known) for known in _submitted])

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        name = content.get("submission_id")
        if name is None:
            self._answer(200, {"stopped": True})
            return
        _submitted[name] = time.time()
        self._answer(200, {"job_id": name, "submission_id": name})

    def do_DELETE(self) -> None:
        self._answer(200, {})

    def log_message(self, format: str, *args: object) -> None:
        """Health checks are not worth a line."""

    def _answer(self, code: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _job(name: str) -> dict[str, object]:
    since = _submitted[name]
    done = time.time() - since >= JOB_SECONDS
    times = {"start_time": int(1000 * since)} | ({"end_time": int(1000 * (since + JOB_SECONDS))} if done else {})
    status = "SUCCEEDED" if done else "RUNNING"
    return {"job_id": name, "submission_id": name, "status": status, "entrypoint": "stand-in", "message": "", **times}


def _start(ports: list[int]) -> None:
    servers = [ThreadingHTTPServer(("", port), Handler) for port in ports]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Event().wait()


def _until_head_answers(address: str, seconds: float = 60) -> int:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            urlopen(f"http://{address.rpartition(':')[0]}:{DASHBOARD}/api/version", timeout=2).close()
        except OSError:
            time.sleep(0.2)
        else:
            return 0
    return 1


def main(arguments: list[str]) -> int:
    """`start`, `health-check` and `kuberay-autoscaler`, as KubeRay calls them."""
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    if arguments[0] == "health-check":
        return _until_head_answers(arguments[arguments.index("--address") + 1])
    _start([] if arguments[0] != "start" else [AGENT, DASHBOARD] if "--head" in arguments else [AGENT])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
