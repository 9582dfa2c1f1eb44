"""The application in a real Ray Serve: answers, a replica that is killed, a full queue."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from raytrain.serving.errors import RequestError

TOKEN = "0123456789abcdef"


@pytest.mark.ray
def test_a_request_whose_replica_dies_is_tried_once_more_and_no_more():
    from ray.exceptions import RayActorError

    from raytrain.serving.ray_serve import ReplicaBackend

    class Replica:
        def __init__(self, deaths):
            self.deaths, self.asked = deaths, 0
            self.generate = self

        async def remote(self, source, limit):
            self.asked += 1
            if self.asked <= self.deaths:
                raise RayActorError
            return [5, 1]

    once, always = Replica(1), Replica(9)
    assert asyncio.run(ReplicaBackend(once).generate([1], 2)) == [5, 1]
    with pytest.raises(RequestError) as refused:
        asyncio.run(ReplicaBackend(always).generate([1], 2))
    assert (once.asked, always.asked, refused.value.status) == (2, 2, 503)


@pytest.fixture(scope="module")
def at(prepared_world, tmp_path_factory):
    """An application in Ray Serve with two replicas; yields its address."""
    from dataclasses import replace

    import ray
    from ray import serve

    from raytrain.config.run_layout import RunLayout
    from raytrain.runs.record import RunRecord, write_record
    from raytrain.serving.ray_serve import ServeArgs, build

    world = replace(prepared_world, layout=RunLayout("served"))
    write_record(
        world.store, world.layout, RunRecord(world.job, world.folder, world.shard_set.digest, world.base.digest)
    )
    world.export(world.checkpoint(9))
    variables = {"RAYTRAIN_SERVE_TOKEN": TOKEN, "RAYTRAIN_CACHE": str(tmp_path_factory.mktemp("cache"))}
    ray.init(
        address="local", num_cpus=4, include_dashboard=False, runtime_env={"env_vars": variables}, log_to_driver=False
    )
    serve.start(http_options={"port": 18127})
    args = ServeArgs(
        run="served",
        storage=str(world.folder / "store"),
        min_replicas=2,
        max_replicas=2,
        cpus=1,
        max_queued=40,
        token=True,
    )
    serve.run(build(args))
    yield "http://127.0.0.1:18127"
    serve.shutdown()
    ray.shutdown()


def ask(at, path="/generate", token=TOKEN, **body):
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(at + path, json.dumps(body).encode() if body else None, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response), response.headers
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), error.headers


@pytest.mark.ray
@pytest.mark.slow
def test_it_answers_and_refuses_as_it_does_alone(at):
    status, answer, headers = ask(at, text="abc", task="echo")
    assert (status, answer["model"], headers["Connection"]) == (200, "served", "close")
    assert ask(at, text="abc", task="echo", token="wrong")[0] == 401
    assert ask(at, text="abc", task="ecko")[1]["error"]["field"] == "task"
    assert ask(at, "/readyz")[0] == 200
    assert ask(at, "/v1/completions", prompt=["abc", "xyz"])[1]["usage"]["total_tokens"] > 0
    assert ask(at, text="abc", model="before")[0] == 404


@pytest.mark.ray
@pytest.mark.slow
def test_a_full_queue_answers_429(at):
    texts = ["abc"] * 30
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: ask(at, "/generate/batch", texts=texts), range(8)))
    assert {status for status, _, _ in found} == {200, 429}
    assert all(int(headers["Retry-After"]) >= 1 for status, _, headers in found if status == 429)


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_replica_loses_no_request(at):
    import ray
    from ray.util import list_named_actors

    names = [one["name"] for one in list_named_actors(all_namespaces=True) if "#Model#" in one["name"]]
    assert len(names) == 2
    statuses = []
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, at, text=f"abc {n}", task="echo") for n in range(200)]
        time.sleep(0.1)
        ray.kill(ray.get_actor(names[0], namespace="serve"))
        statuses = [one.result()[0] for one in asked]
    assert set(statuses) == {200}
