"""An HTTP proxy in front of the S3 server that breaks chosen requests, as networks and overloaded stores do."""

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
    "lost-answer",  # the server does what was asked, the connection is reset before its answer
    "swallowed",  # the proxy answers 200 itself, the server never hears of it
    "truncated",  # the answer's body ends half-way
    "flipped",  # one byte of the answer's body is another
    "flipped-request",  # one byte of the request's body is another
]
_ANSWERS = {
    "slow-down": (503, "SlowDown"),
    "full": (507, "InsufficientStorage"),
    "denied": (403, "AccessDenied"),
    "expired": (400, "ExpiredToken"),
}


@dataclass
class Rule:
    """The next `count` requests (None: all) with this method whose path and query match get the fault."""

    fault: Fault
    method: str
    pattern: str
    count: int | None = None


@dataclass
class FaultProxy:
    """Where the proxy listens, what it breaks, and what it has seen: (method, path with query, fault or None)."""

    endpoint: str
    rules: list[Rule] = field(default_factory=list)
    seen: list[tuple[str, str, Fault | None]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    watch: Callable[[str, str, Literal["asked", "answered"]], None] | None = None
    """Called with the method and path of a request when it has come, and when the server has answered it."""
    _chaos: tuple[random.Random, float, Sequence[Fault]] | None = None

    def break_(self, fault: Fault, method: str, pattern: str = "", count: int | None = None) -> None:
        self.rules.append(Rule(fault, method, pattern, count))

    def chaos(self, seed: int, share: float, faults: Sequence[Fault]) -> None:
        """Break that share of all requests, at random, with one of these faults each."""
        self._chaos = random.Random(seed), share, faults

    def heal(self) -> None:
        self.rules.clear()
        self._chaos = None

    def requests(self, method: str, pattern: str = "") -> list[Fault | None]:
        """The fate of every request of this kind, in order."""
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

    def tell(self, method: str, path: str, moment: Literal["asked", "answered"]) -> None:
        if self.watch is not None:
            self.watch(method, path, moment)


@contextmanager
def fault_proxy(endpoint: str) -> Iterator[FaultProxy]:
    """A proxy to `endpoint` on a free port of this machine; the Host header stays, so signatures hold."""
    target = urlsplit(endpoint).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def _handle(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            proxy.tell(self.command, self.path, "asked")
            fault = proxy.decide(self.command, self.path)
            if fault in _ANSWERS:
                status, code = _ANSWERS[fault]
                text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as told</Message></Error>"
                return self._answer(status, [("Content-Type", "application/xml")], text.encode())
            if fault == "reset":
                return self._reset()
            if fault == "swallowed":
                return self._answer(200, [("ETag", '"0123456789abcdef0123456789abcdef"')], b"")
            if fault == "flipped-request":
                body = _flip(body)
            connection = HTTPConnection(target, timeout=60)
            try:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in ("connection", "expect"):
                        connection.putheader(name, value)
                connection.endheaders(body or None)
                answer = connection.getresponse()
                content = answer.read()
                headers = [
                    (name, value)
                    for name, value in answer.getheaders()
                    if name.lower() not in ("connection", "transfer-encoding", "content-length", "keep-alive")
                ]
                length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            finally:
                connection.close()
            proxy.tell(self.command, self.path, "answered")
            if fault == "lost-answer":
                return self._reset()
            if fault == "flipped":
                content = _flip(content)
            return self._answer(answer.status, headers, content, length=length, cut=fault == "truncated")

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle

        def _answer(self, status, headers, content, *, length=None, cut=False):
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

        def _reset(self):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            self.wfile = self.rfile = _Nothing()

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request, client_address):
            """A client that goes away is what these tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    proxy = FaultProxy(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Nothing:
    """In place of the streams of a connection that was reset."""

    closed = True

    def flush(self):
        pass

    def close(self):
        pass


def _flip(content: bytes) -> bytes:
    if not content:
        return content
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
