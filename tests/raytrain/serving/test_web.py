"""The page and the JSON interface: what they return, and which requests they refuse."""

import asyncio
import contextlib
import threading

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from data_prep.config import Source, Task
from raytrain.generation.requests import Generation, GenerationLimits
from raytrain.serving.playground import Playground
from raytrain.serving.web import application, serve
from raytrain_core.errors import ClusterError
from tests.support.browser import CHROMIUM, chromium, visit

HOSTILE = "<script>window.pwned = 1</script><img src=x onerror=window.pwned=1>"


class Model:
    """Generates its own name and the prompt."""

    def __init__(self, name):
        self.name = name

    def generate(self, prompts):
        return [Generation(f"{self.name}: {prompt}", 3, False, prompt_tokens=7) for prompt in prompts]


class Words:
    """A tokenizer whose tokens are the words."""

    def encode_open(self, texts):
        return [text.split() for text in texts]

    def first_tokens(self, text, count):
        return " ".join(text.split()[:count])


class Models:
    def __init__(self, *, tuned=True):
        source = Source(uri="x.jsonl")
        self.tasks = [
            Task(name="echo", type="text", source=source, templates=["say {input}", f"{HOSTILE} {{input}}"]),
            Task(name="stars", type="rating", source=source, probe=True),
        ]
        self._tuned = tuned

    def is_tuned(self):
        return self._tuned

    def generator(self, which):
        return Model(which)

    limits = GenerationLimits(max_input_tokens=20, max_new_tokens=5)
    tokenizer = Words()


def send(*requests, models=None, **options):
    """Statuses, bodies and headers of (method, path, options) sent one after the other."""

    async def run():
        app = application(Playground(models or Models()), run="support", **options)
        async with TestClient(TestServer(app)) as client:
            found = []
            for method, path, settings in requests:
                response = await client.request(method, path, **settings)
                text = await response.text()
                body = await response.json() if response.content_type == "application/json" else text
                found.append((response.status, body, response.headers))
            return found

    return asyncio.run(run())


def generate(run_models=None, **body):
    [(status, found, _)] = send(("POST", "/api/generate", {"json": body}), models=run_models)
    return status, found


def test_both_models_generate_with_the_tasks_template():
    status, found = generate(task="echo", text="hello")
    assert status == 200
    assert found["prompt"] == "say hello"
    assert {name: generation["text"] for name, generation in found["generations"].items()} == {
        "before": "before: say hello",
        "after": "after: say hello",
    }
    assert found["generations"]["after"]["tokens"] == 3
    assert found["generations"]["after"]["prompt_tokens"] == 7
    _, other = generate(task="echo", text="hello", template=1, models=["after"])
    assert list(other["generations"]) == ["after"]
    assert other["prompt"] == f"{HOSTILE} hello"


def test_a_long_text_is_said_to_be_cut_or_refused_on_request():
    text = " ".join(["word"] * 60)
    status, found = generate(task="echo", text=text)
    assert status == 200
    assert (found["prompt_tokens"], found["read_tokens"]) == (62, 20)
    assert "of which the model read 20" in found["notice"]
    status, found = generate(task="echo", text=text, refuse_long=True)
    assert (status, found["error"]) == (400, "the prompt has 62 tokens, but the model reads at most 20")
    assert generate(task="echo", text="hello", refuse_long=True)[1]["notice"] is None
    assert generate(task="echo", text="hello", refuse_long="yes")[0] == 400


def test_a_run_without_a_tuned_model_offers_the_base_model():
    _, found = generate(Models(tuned=False), task="echo", text="x")
    assert list(found["generations"]) == ["before"]
    status, found = generate(Models(tuned=False), task="echo", text="x", models=["after"])
    assert (status, found["error"]) == (400, "models must be a non-empty list of: before")


def test_tasks_and_templates_are_listed():
    [(status, body, _)] = send(("GET", "/api/tasks", {}))
    assert status == 200
    assert next((t["name"], t["probe"], t["templates"][0]) for t in body["tasks"]) == ("echo", False, "say {input}")
    assert len(body["tasks"][1]["templates"]) > 3
    assert body["models"] == ["before", "after"]


@pytest.mark.parametrize(
    ("body", "words"),
    [({"task": "ecko", "text": "x"}, "did you mean echo"), ({"task": "echo", "text": " "}, "no text"),
     ({"task": "echo", "text": "x", "template": 9}, "has no template 9"), ({"task": "echo"}, "must be strings"),
     ({"task": "echo", "text": "x", "template": True}, "must be an integer"),
     ({"task": "echo", "text": "x", "a": 1}, "'a'"), ({"task": "echo", "text": "x" * 100_001}, "longer than"),
     ({"task": "echo", "text": "x", "models": []}, "models must be"), ([], "not a JSON object")],
)  # fmt: skip
def test_an_invalid_request_is_explained(body, words):
    [(status, found, _)] = send(("POST", "/api/generate", {"json": body}))
    assert status == 400
    assert words in found["error"]


def test_requests_of_other_websites_are_refused():
    foreign = {"headers": {"Host": "evil.example:8080"}}
    form = {"data": '{"task": "echo", "text": "x"}', "headers": {"Content-Type": "text/plain"}}
    large = {"json": {"task": "echo", "text": "x" * (1 << 21)}}
    requests = [
        ("GET", "/", foreign),
        ("POST", "/api/generate", form),
        ("POST", "/api/generate", large),
        ("GET", "/no", {}),
    ]
    found = send(*requests, ("POST", "/api/generate", {"data": "{", "headers": {"Content-Type": "application/json"}}))
    assert [status for status, _, _ in found] == [421, 415, 413, 404, 400]
    assert all("error" in body for _, body, _ in found)
    assert send(("GET", "/api/tasks", foreign), hosts=None)[0][0] == 200


def test_the_page_allows_only_itself():
    [(status, text, headers)] = send(("GET", "/", {}))
    policy = headers["Content-Security-Policy"]
    assert status == 200
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Try the model" in text


@contextlib.contextmanager
def served():
    """A real server in a thread; yields its address."""
    ready, address = threading.Event(), []

    def on_ready(at):
        address.append(at)
        ready.set()

    options = {"run": "support", "host": "127.0.0.1", "port": 0, "on_ready": on_ready}
    threading.Thread(target=serve, args=(Playground(Models()),), kwargs=options, daemon=True).start()
    assert ready.wait(60)
    yield address[0]


def test_it_listens_where_it_says_and_reports_a_port_in_use():
    async def look(at):
        async with aiohttp.ClientSession() as session, session.get(f"{at}api/tasks") as response:
            return response.status

    with served() as at:
        assert at.startswith("http://127.0.0.1:")
        assert asyncio.run(look(at)) == 200
        port = int(at.rstrip("/").rpartition(":")[2])
        with pytest.raises(ClusterError, match="cannot listen on"):
            serve(Playground(Models()), run="r", host="127.0.0.1", port=port, on_ready=print)


async def walk(tab, url):
    await tab.open(url)
    while await tab.js("document.getElementById('template').options.length") != 2:
        await asyncio.sleep(0.02)
    await tab.js("document.getElementById('template').value = '1'")
    await tab.js("document.getElementById('text').value = 'a <b>text</b>'")
    await tab.js("document.getElementById('send').click()")
    texts = "[...document.querySelectorAll('#generations .text')].map((t) => t.textContent)"
    while len(await tab.js(texts)) != 2:
        await asyncio.sleep(0.02)
    assert await tab.js(texts) == [f"{who}: {HOSTILE} a <b>text</b>" for who in ("before", "after")]
    assert await tab.js("document.querySelector('#generations b').textContent") == "Before"
    assert await tab.js("typeof window.pwned") == "undefined"
    assert await tab.js("document.querySelectorAll('#generations img, #generations script').length") == 0
    await tab.js("{const s = document.getElementById('task'); s.value = 'stars'; s.dispatchEvent(new Event('change'))}")
    assert await tab.js("document.getElementById('template').options.length") > 3
    assert tab.complaints() == []


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)")
def test_the_page_in_a_browser(tmp_path):
    with served() as at, chromium(tmp_path / "profile") as port:
        asyncio.run(visit(port, at, walk))
