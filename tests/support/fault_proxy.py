"""An HTTP proxy that breaks chosen S3 requests, as networks and overloaded stores do."""

import io
import random
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal[
    "slow-down",  # 503 SlowDown
    "full",  # 507 InsufficientStorage
    "denied",  # 403 AccessDenied
    "expired",  # 400 ExpiredToken
    "reset",  # the connection is reset before the server sees the request
    "lost-answer",  # the server handles the request, the connection is reset before its answer
    "swallowed",  # the proxy answers 200 itself, the server never sees the request
    "truncated",  # the answer's body ends halfway
    "flipped",  # one byte of the answer's body is changed
    "flipped-request",  # one byte of the request's body is changed
]
Headers = list[tuple[str, str]]
Answer = tuple[int, Headers, bytes]
Moment = Literal["requested", "answered"]
_HOP_BY_HOP = ("connection", "transfer-encoding", "content-length", "keep-alive")
_ANSWERS: dict[str | None, tuple[int, str]] = {
    "slow-down": (503, "SlowDown"),
    "full": (507, "InsufficientStorage"),
    "denied": (403, "AccessDenied"),
    "expired": (400, "ExpiredToken"),
}


@dataclass
class Rule:
    """Applies a fault to the next `count` matching requests, or to all if None."""

    fault: Fault
    method: str
    pattern: str
    count: int | None = None


@dataclass
class FaultProxy:
    """A running proxy; `seen` lists requests as (method, path with query, fault or None)."""

    endpoint: str
    rules: list[Rule] = field(default_factory=list)
    seen: list[tuple[str, str, Fault | None]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    watch: Callable[[str, str, Moment], None] | None = None
    """Called with method and path when a request arrives and when the server has answered it."""
    refuse: Callable[[str, str, Headers], Answer | None] = lambda method, path, headers: None
    """Answers instead of the server: given method, path and headers; None forwards the request."""
    rewrite: Callable[[str, str, Answer], Answer] = lambda method, path, answer: answer
    """Changes the server's answer, as a store of another make would give it."""
    _chaos: tuple[random.Random, float, Sequence[Fault]] | None = None

    def break_(self, fault: Fault, method: str, pattern: str = "", count: int | None = None) -> None:
        self.rules.append(Rule(fault, method, pattern, count))

    def chaos(self, seed: int, share: float, faults: Sequence[Fault]) -> None:
        """Breaks this share of all requests, at random, with one of these faults each."""
        self._chaos = random.Random(seed), share, faults

    def heal(self) -> None:
        self.rules.clear()
        self._chaos = None

    def requests(self, method: str, pattern: str = "") -> list[Fault | None]:
        """Returns the fault or None of every matching request, in order."""
        return [fault for verb, path, fault in self.seen if verb == method and re.search(pattern, path)]

    def decide(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for rule in self.rules:
                if rule.method == method and re.search(rule.pattern, path) and rule.count != 0:
                    if rule.count is not None:
                        rule.count -= 1
                    self.seen.append((method, path, rule.fault))
                    return rule.fault
            drawn = None
            if self._chaos is not None:
                rng, share, faults = self._chaos
                drawn = rng.choice(faults) if rng.random() < share else None
            self.seen.append((method, path, drawn))
            return drawn

    def notify(self, method: str, path: str, moment: Moment) -> None:
        if self.watch is not None:
            self.watch(method, path, moment)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.proxy = FaultProxy(f"http://127.0.0.1:{self.server_port}")

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignores clients that disconnect, which these tests provoke."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        proxy = self.server.proxy
        proxy.notify(self.command, self.path, "requested")
        fault = proxy.decide(self.command, self.path)
        if (refusal := proxy.refuse(self.command, self.path, list(self.headers.items()))) is not None:
            self._answer(*refusal)
        elif fault in _ANSWERS:
            status, code = _ANSWERS[fault]
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as told</Message></Error>"
            self._answer(status, [("Content-Type", "application/xml")], text.encode())
        elif fault == "reset":
            self._reset()
        elif fault == "swallowed":
            self._answer(200, [("ETag", '"0123456789abcdef0123456789abcdef"')], b"")
        else:
            self._forward(_flip(body) if fault == "flipped-request" else body, fault)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle

    def _forward(self, body: bytes, fault: Fault | None) -> None:
        """Forwards the request and the response, except for what the fault breaks."""
        connection = HTTPConnection(self.server.target, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        self.server.proxy.notify(self.command, self.path, "answered")
        if fault == "lost-answer":
            self._reset()
            return
        headers = [(name, value) for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP]
        length = response.getheader("Content-Length") if self.command == "HEAD" else None
        content = _flip(content) if fault == "flipped" else content
        status, headers, content = self.server.proxy.rewrite(
            self.command, self.path, (response.status, headers, content)
        )
        self._answer(status, headers, content, length=length, cut=fault == "truncated")

    def _answer(
        self,
        status: int,
        headers: Sequence[tuple[str, str]],
        content: bytes,
        *,
        length: str | None = None,
        cut: bool = False,
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if cut:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.close_connection = True
        elif self.command != "HEAD":
            self.wfile.write(content)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()
        self.wfile = self.rfile = _ClosedStream()


class _ClosedStream(io.BufferedIOBase):
    """Replaces the streams of a connection that was reset."""

    @property
    def closed(self) -> bool:
        return True

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


@contextmanager
def fault_proxy(endpoint: str) -> Iterator[FaultProxy]:
    """Runs a proxy to `endpoint` on a free port; it keeps the Host header, so signatures hold."""
    server = _Server(urlsplit(endpoint).netloc)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def error_answer(status: int, code: str) -> Answer:
    """An S3 error with this code."""
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as told</Message></Error>"
    return status, [("Content-Type", "application/xml")], text.encode()


def _flip(content: bytes) -> bytes:
    if not content:
        return content
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
