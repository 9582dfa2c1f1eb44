"""A pod that is told to end waits until its requests are answered, and not for ever."""

import http.server
import json
import threading

import pytest

from raytrain.serving import drain


@pytest.fixture
def server():
    """Answers /healthz with the numbers of a list, the last one for ever."""
    left = [0]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"waiting": left.pop(0) if len(left) > 1 else left[0]}).encode())

        def log_message(self, *arguments):
            pass

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield left, f"http://127.0.0.1:{listening.server_port}/healthz"
    listening.shutdown()
    listening.server_close()


def test_it_waits_for_what_was_accepted(server, monkeypatch):
    left, url = server
    monkeypatch.setattr(drain.time, "sleep", lambda seconds: None)
    left[:] = [3, 2, 1, 0]
    assert drain.drain(30, url, least=0)
    assert left == [0]


def test_it_gives_up_and_a_server_that_is_gone_has_nothing_to_wait_for(server, monkeypatch):
    left, url = server
    left[:] = [7]
    assert not drain.drain(0.01, url, least=0)
    assert drain.waiting("http://127.0.0.1:9/healthz") == 0
    assert drain.drain(5, "http://127.0.0.1:9/healthz", least=0)
