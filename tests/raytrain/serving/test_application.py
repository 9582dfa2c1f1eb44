"""The application that serves models: what it answers, and what it refuses with which words."""

import asyncio
import json
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from data_prep.config import Source, Task
from raytrain.generation.requests import GenerationLimits
from raytrain.serving.application import application
from raytrain.serving.http import serve_forever
from raytrain.serving.service import Service, ServiceLimits
from raytrain_core.errors import ClusterError
from tests.support.browser import CHROMIUM, chromium, visit
from tests.support.served import served

HOSTILE = "<script>window.pwned = 1</script><img src=x onerror=window.pwned=1>"
TOKEN = "0123456789abcdef"
EOS = 1


class Words:
    """A tokenizer whose tokens are the words."""

    def __init__(self):
        self.words = ["<pad>", "</s>"]
        self.size = 1000

    def _id(self, word):
        if word not in self.words:
            self.words.append(word)
        return self.words.index(word)

    def encode_open(self, texts):
        return [[self._id(word) for word in text.split()] for text in texts]

    def encode_batch(self, texts, limit):
        return [[*ids[: limit - 1], EOS] for ids in self.encode_open(texts)]

    def first_tokens(self, text, count):
        return " ".join(text.split()[:count])

    def decode(self, ids):
        return " ".join(self.words[i] for i in ids)


class Echo:
    """A model that answers with its own name and the prompt."""

    def __init__(self, tokenizer, name):
        self.tokenizer, self.name = tokenizer, name
        self.asked = 0
        self.gate = None

    async def generate(self, source, limit):
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        ids = [self.tokenizer._id(f"{self.name}:"), *source[:-1]]
        return ids[:limit] if len(ids) > limit else [*ids, EOS]


class Models:
    """Tasks, tokenizer, lengths and backends of a run."""

    def __init__(self, *, tuned=True):
        source = Source(uri="x.jsonl")
        self.tasks = [
            Task(name="echo", type="text", source=source, templates=["say {input}", f"{HOSTILE} {{input}}"]),
            Task(name="stars", type="rating", source=source, probe=True),
        ]
        self.limits = GenerationLimits(max_input_tokens=20, max_new_tokens=12)
        self.tokenizer = Words()
        self.models = {which: Echo(self.tokenizer, which) for which in (["before", "after"] if tuned else ["before"])}
        self.closed = False

    def available(self):
        return list(self.models)

    async def backend(self, which):
        return self.models[which]

    async def close(self):
        self.closed = True


def client(models=None, *, limits=None, **options):
    models = models or Models()
    service = Service(models, models, run="support", limits=limits)
    return TestClient(application(service, **options), base_url="http://127.0.0.1", raise_server_exceptions=False)


def post(path, body, **options):
    return client(**options).post(path, json=body)


def error(path, body, **options):
    found = post(path, body, **options)
    return found.status_code, found.json()["error"]


def test_generate_with_and_without_a_task():
    found = post("/generate", {"text": "hello", "task": "echo"}).json()
    assert found.pop("seconds") >= 0
    assert found == {
        "model": "support", "text": "after: say hello", "tokens": 3, "cut_off": False,
        "prompt_tokens": 3, "read_tokens": 3, "notice": None,
    }  # fmt: skip
    assert post("/generate", {"text": "hello"}).json()["text"] == "after: hello"
    assert post("/generate", {"text": "hello", "model": "before"}).json()["text"] == "before: hello"
    other = post("/generate", {"text": "hello", "task": "echo", "template": 1, "model": "support"}).json()
    assert other["text"] == f"after: {HOSTILE} hello"


def test_an_answer_that_is_cut_off_says_so():
    found = post("/generate", {"text": "a b c", "max_new_tokens": 2}).json()
    assert (found["text"], found["tokens"], found["cut_off"]) == ("after: a", 2, True)
    assert (
        post("/v1/completions", {"prompt": "a b c", "max_tokens": 2}).json()["choices"][0]["finish_reason"] == "length"
    )


def test_completions_are_those_of_openai():
    found = post("/v1/completions", {"model": "support", "prompt": ["a", "b c"], "temperature": 0, "top_p": 1}).json()
    assert found.pop("id").startswith("cmpl-")
    assert found.pop("created") > 1_700_000_000
    assert found == {
        "object": "text_completion",
        "model": "support",
        "choices": [
            {"index": 0, "text": "after: a", "logprobs": None, "finish_reason": "stop"},
            {"index": 1, "text": "after: b c", "logprobs": None, "finish_reason": "stop"},
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10},
    }
    assert post("/v1/completions", {"prompt": "a"}).json()["choices"][0]["text"] == "after: a"
    listed = client().get("/v1/models").json()
    assert [model["id"] for model in listed["data"]] == ["support", "before"]


def test_a_batch_is_answered_in_order():
    found = post("/generate/batch", {"texts": ["a", "b", "c"], "task": "echo"}).json()
    assert [one["text"] for one in found["generations"]] == [f"after: say {text}" for text in "abc"]


LONG = " ".join(["word"] * 60)


@pytest.mark.parametrize(
    ("path", "body", "field", "words"),
    [
        ("/generate", {}, "text", "field required"),
        ("/generate", {"text": ""}, "text", "empty"),
        ("/generate", {"text": " \n"}, "text", "empty"),
        ("/generate", {"text": 3}, "text", "valid string"),
        ("/generate", {"text": None}, "text", "valid string"),
        ("/generate", {"text": ["x"]}, "text", "valid string"),
        ("/generate", {"text": "x" * 100_001}, "text", "100,001 characters"),
        ("/generate", {"text": LONG}, "text", "61 tokens, but the model reads at most 20"),
        ("/generate", {"text": LONG, "task": "echo"}, "text", "62 tokens, but the model reads at most 20"),
        ("/generate", {"text": "x", "task": "ecko"}, "task", "did you mean echo"),
        ("/generate", {"text": "x", "task": 1}, "task", "valid string"),
        ("/generate", {"text": "x", "task": "echo", "template": 9}, "template", "has no template 9"),
        ("/generate", {"text": "x", "task": "echo", "template": -1}, "template", "greater than or equal to 0"),
        ("/generate", {"text": "x", "task": "echo", "template": True}, "template", "valid integer"),
        ("/generate", {"text": "x", "template": 1}, "template", "without a task"),
        ("/generate", {"text": "x", "max_new_tokens": 0}, "max_new_tokens", "greater than or equal to 1"),
        ("/generate", {"text": "x", "max_new_tokens": 13}, "max_new_tokens", "at most 12 tokens here, not 13"),
        ("/generate", {"text": "x", "max_new_tokens": "5"}, "max_new_tokens", "valid integer"),
        ("/generate", {"text": "x", "truncate": "yes"}, "truncate", "valid boolean"),
        ("/generate", {"text": "x", "truncat": True}, "truncat", "did you mean truncate"),
        ("/generate/batch", {"texts": []}, "texts", "at least 1 item"),
        ("/generate/batch", {"texts": "abc"}, "texts", "valid list"),
        ("/generate/batch", {"texts": ["a", 5]}, "texts[1]", "valid string"),
        ("/generate/batch", {"texts": ["a", " "]}, "texts[1]", "empty"),
        ("/generate/batch", {"texts": ["a", LONG]}, "texts[1]", "61 tokens"),
        ("/generate/batch", {"texts": ["a"] * 129}, "texts", "129 prompts are too many"),
        ("/v1/completions", {"prompt": []}, "prompt", "empty"),
        ("/v1/completions", {"prompt": [1, 2]}, "prompt[0]", "valid string"),
        ("/v1/completions", {"prompt": ["a", ""]}, "prompt[1]", "empty"),
        ("/v1/completions", {"prompt": "a", "temperature": 0.7}, "temperature", "can only be 0"),
        ("/v1/completions", {"prompt": "a", "n": 2}, "n", "1"),
        ("/v1/completions", {"prompt": "a", "stream": True}, "stream", "False"),
        ("/v1/completions", {"prompt": "a", "stop": ["."]}, "stop", "None"),
        ("/v1/completions", {"prompt": "a", "max_tokens": 99}, "max_tokens", "at most 12"),
        ("/api/generate", {"task": "echo", "text": "x", "models": []}, "models", "at least 1 item"),
        ("/api/generate", {"task": "echo", "text": "x", "models": ["mine"]}, "models[0]", "'before' or 'after'"),
        ("/api/generate", {"task": "echo"}, "text", "field required"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_and_nothing_is_generated(path, body, field, words):
    models = Models()
    status, found = error(path, body, models=models)
    assert (status, found["type"], found["field"]) == (400, "invalid_request", field)
    assert words in found["message"]
    assert models.models["after"].asked == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "not JSON"), (b"", "not JSON"), (b"[]", "not a JSON object"), (b'"x"', "not a JSON object"),
        (b'{"text": "a", "text": "b"}', "given twice"), (b'{"text": NaN}', "NaN is no JSON number"),
        (b"\xff\xfe{", "not UTF-8"), (b"[" * 100_000, "nested too deeply"), (b'{"text": "\xff"}', "not UTF-8"),
        (b'{"text": "\\ud800"}', "half of a surrogate pair"),
        (b'{"text": "a", "max_new_tokens": ' + b"9" * 9000 + b"}", "not JSON"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_json_object_is_refused(content, words):
    headers = {"Content-Type": "application/json"}
    found = client().post("/generate", content=content, headers=headers)
    assert found.status_code == 400
    assert words in found.json()["error"]["message"]


def test_the_number_of_further_mistakes_is_said():
    _, found = error("/generate", {"text": 3, "template": "a", "x": 1})
    assert "(2 more fields are wrong)" in found["message"]


def test_other_requests_are_refused_as_json():
    one = client()
    form = {"content": '{"text": "x"}', "headers": {"Content-Type": "text/plain"}}
    large = {"json": {"text": "x" * (1 << 21)}}
    found = [
        one.post("/generate", **form), one.post("/generate", **large), one.get("/no"), one.get("/generate"),
        one.post("/generate", json={"text": "x", "model": "other"}),
        one.get("/", headers={"Host": "evil.example:8080"}),
    ]  # fmt: skip
    assert [one.status_code for one in found] == [415, 413, 404, 405, 404, 421]
    assert all(one.json()["error"]["message"] for one in found)
    assert found[4].json()["error"]["field"] == "model"
    assert client(hosts=None).get("/api/tasks", headers={"Host": "evil.example"}).status_code == 200


def test_an_error_that_nobody_expected_is_json_without_its_text(caplog):
    models = Models()
    models.models["after"].generate = None
    found = post("/generate", {"text": "x"}, models=models)
    assert found.status_code == 500
    assert found.json()["error"]["type"] == "bug"
    assert "NoneType" not in found.json()["error"]["message"]
    assert "/generate: an error that was not expected" in caplog.text


def test_a_text_that_is_cut_on_request_is_told():
    found = post("/generate", {"text": LONG, "task": "echo", "truncate": True}).json()
    assert (found["prompt_tokens"], found["read_tokens"]) == (62, 20)
    assert "of which the model read 20" in found["notice"]
    choices = post("/v1/completions", {"prompt": ["a", LONG], "truncate": True}).json()["choices"]
    assert "notice" not in choices[0]
    assert "of which the model read 20" in choices[1]["notice"]


def test_a_token_is_asked_of_everything_but_health():
    one = client(token=TOKEN)
    for path in ("/generate", "/generate/batch", "/v1/completions", "/api/generate"):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": "Bearer é"}):
            found = one.post(path, json={"text": "x"}, headers={k: v.encode() for k, v in headers.items()})
            assert (found.status_code, found.json()["error"]["field"]) == (401, "Authorization")
            assert found.headers["WWW-Authenticate"] == "Bearer"
    given = {"Authorization": f"Bearer {TOKEN}"}
    assert one.post("/generate", json={"text": "x"}, headers=given).status_code == 200
    for path in ("/metrics", "/v1/models", "/api/tasks"):
        assert (one.get(path).status_code, one.get(path, headers=given).status_code) == (401, 200)
    assert [one.get(path).status_code for path in ("/healthz", "/readyz", "/")] == [200, 200, 404]


def test_a_run_without_a_tuned_model_offers_the_base_model():
    models = Models(tuned=False)
    status, found = error("/generate", {"text": "x"}, models=models)
    assert (status, found["message"]) == (503, "run support has no tuned model yet")
    assert post("/generate", {"text": "x", "model": "before"}, models=models).status_code == 200
    assert list(post("/api/generate", {"task": "echo", "text": "x"}, models=models).json()["generations"]) == ["before"]
    status, found = error("/api/generate", {"task": "echo", "text": "x", "models": ["after"]}, models=models)
    assert (status, found["field"]) == (400, "models")
    assert client(models).get("/readyz").status_code == 200


def test_the_page_compares_both_models():
    found = post("/api/generate", {"task": "echo", "text": "hello"}).json()
    assert found["prompt"] == "say hello"
    assert {name: one["text"] for name, one in found["generations"].items()} == {
        "before": "before: say hello",
        "after": "after: say hello",
    }
    found = post("/api/generate", {"task": "echo", "text": LONG, "truncate": True, "models": ["after"]}).json()
    assert list(found["generations"]) == ["after"]
    assert "of which the model read 20" in found["notice"]


def test_tasks_and_templates_are_listed():
    body = client().get("/api/tasks").json()
    assert next((t["name"], t["probe"], t["templates"][0]) for t in body["tasks"]) == ("echo", False, "say {input}")
    assert len(body["tasks"][1]["templates"]) > 3
    assert body["models"] == ["before", "after"]
    assert (body["decoding"], body["notice"]) == ("greedy", None)


def test_a_run_that_was_scored_with_beams_says_that_it_is_served_without():
    models = Models()
    models.limits = replace(models.limits, beams=4)
    for path in ("/api/tasks", "/v1/models"):
        assert "scored with beam search, 4 beams" in client(models).get(path).json()["notice"]


def test_readiness_means_that_the_model_answers():
    models = Models()

    async def broken(source, limit):
        raise TimeoutError

    works, models.models["after"].generate = models.models["after"].generate, broken
    one = client(models)
    assert (one.get("/readyz").status_code, one.get("/healthz").status_code) == (503, 200)
    models.models["after"].generate = works
    assert one.get("/readyz").status_code == 200
    assert models.models["after"].asked == 1
    assert one.get("/readyz").status_code == 200
    assert models.models["after"].asked == 1  # it has answered a moment ago


def test_metrics_count_what_was_answered_and_refused():
    one = client()
    one.post("/generate", json={"text": "a b"})
    one.post("/generate", json={"text": LONG, "truncate": True})
    one.post("/generate", json={"text": ""})
    text = one.get("/metrics").text
    for line in (
        'raytrain_serving_requests_total{endpoint="/generate",status="200"} 2.0',
        'raytrain_serving_requests_total{endpoint="/generate",status="400"} 1.0',
        "raytrain_serving_prompts_total 2.0",
        "raytrain_serving_prompt_tokens_total 23.0",
        "raytrain_serving_truncated_prompts_total 1.0",
        "raytrain_serving_queue_prompts 0.0",
    ):
        assert line in text


def test_a_full_queue_answers_429_and_takes_a_batch_whole_or_not_at_all():
    models = Models()
    service = Service(models, models, run="support", limits=ServiceLimits(max_queued=3))

    async def ask():
        model = models.models["after"]
        model.gate = asyncio.Event()
        prompts = service.prompts(["a", "b"], ["x", "y"], task=None, template=None, truncate=False)
        first = asyncio.create_task(service.answer(prompts, which="after", new_tokens=5))
        await asyncio.sleep(0)
        refused = []
        try:
            await service.answer(prompts, which="after", new_tokens=5)
        except Exception as error:
            refused.append(error)
        last = asyncio.create_task(service.answer(prompts[:1], which="after", new_tokens=5))
        await asyncio.sleep(0)
        assert service.queue.inside == 3
        model.gate.set()
        return refused, [one.text for one in await first + await last], service.queue.inside

    [refusal], texts, left = asyncio.run(ask())
    assert (refusal.status, refusal.type) == (429, "overloaded")
    assert 1 <= int(refusal.headers["Retry-After"]) <= 60
    assert (texts, left) == (["after: a", "after: b", "after: a"], 0)


def test_a_batch_that_the_queue_never_has_room_for_is_refused_for_good():
    status, found = error("/generate/batch", {"texts": ["a"] * 4}, limits=ServiceLimits(max_queued=3))
    assert (status, found["field"]) == (400, "texts")
    assert "4 prompts are too many for one request; 3 are the most" in found["message"]


def test_closing_the_application_closes_its_models():
    models = Models()
    with client(models) as one:
        assert one.get("/healthz").json() == {"status": "ok", "waiting": 0}
        assert not models.closed
    assert models.closed


def test_the_page_allows_only_itself():
    found = client().get("/")
    policy = found.headers["Content-Security-Policy"]
    assert found.status_code == 200
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    assert "Try the model" in found.text


def real_application():
    models = Models()
    return application(Service(models, models, run="support"))


def test_it_listens_where_it_says_and_reports_a_port_in_use():
    import urllib.request

    with served(real_application()) as at:
        assert at.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{at}api/tasks", timeout=30) as response:
            assert json.load(response)["run"] == "support"
        port = int(at.rstrip("/").rpartition(":")[2])
        with pytest.raises(ClusterError, match="cannot listen on"):
            serve_forever(real_application(), host="127.0.0.1", port=port, on_ready=print)


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
    with served(real_application()) as at, chromium(tmp_path / "profile") as port:
        asyncio.run(visit(port, at, walk))
