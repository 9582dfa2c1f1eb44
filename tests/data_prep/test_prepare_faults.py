"""Preparation with an S3 server that fails, disconnects or damages data, and kills at any moment.

Each time, nothing that a manifest names is missing or damaged, and the same command continues to
the same result.
"""

import multiprocessing
import os
import signal
import threading
import time

import botocore.retries.standard
import psutil
import pytest

from data_prep.config import Mixture, Task
from data_prep.prepare import prepare
from data_prep.shards import task_sources
from data_prep.shards.manifest import PreparedTask, ShardSet
from data_prep.shards.parts import are_stored
from data_prep.shards.reader import open_split
from data_prep.shards.text_reader import read_rows
from raytrain_core.errors import StorageError
from raytrain_core.storage import CorruptError, StorageLocation, open_store, s3_client
from raytrain_core.storage.cache import Cache
from tests.support.data_prep_bench import LIMITS, make_task, numbered
from tests.support.preparing import ROWS_OF_A_UNIT, TASK, prepare_at

pytestmark = pytest.mark.s3
FEW = {"templatesPerExample": 1}
PASSING = ("slow-down", "reset", "lost-answer", "truncated", "flipped", "flipped-request")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(task_sources, "ROWS_OF_A_UNIT", ROWS_OF_A_UNIT)


@pytest.fixture
def no_waiting(monkeypatch):
    """Retries follow each other at once: their number is what is tested."""
    backoff = botocore.retries.standard.ExponentialBackoff
    monkeypatch.setattr(backoff, "delay_amount", lambda self, context: 0.0)
    monkeypatch.setattr("raytrain_core.storage.s3_requests.time.sleep", lambda seconds: None)


@pytest.fixture
def task(bench):
    for name, rows in (("train", 8), ("validation", 3), ("test", 2)):
        path = bench.write(f"rows/{name}.jsonl", numbered(rows, 1000 * rows))
        os.utime(path, (1.5e9, 1.5e9))
    return Task.model_validate(TASK | FEW)


@pytest.fixture
def expected(bench, task):
    return bench.prepare(task)


@pytest.fixture
def store(s3_uri, s3_proxy):
    return open_store(StorageLocation(uri=s3_uri, endpoint=s3_proxy.endpoint))


@pytest.fixture
def direct(s3, s3_uri):
    """The same place, past the proxy."""
    return open_store(StorageLocation(uri=s3_uri, endpoint=s3.endpoint))


def contents(store):
    return {stat.key: store.get(stat.key) for stat in store.list("shards/")}


def check_visible(store):
    """Whatever a manifest names is there with its contents."""
    for kind, folder in ((PreparedTask, "tasks"), (ShardSet, "sets")):
        for stat in store.list(f"shards/{folder}/"):
            found = kind.load(store, stat.key.rpartition("/")[2].removesuffix(".json"))
            parts = found.all_parts() if isinstance(found, PreparedTask) else found.tokenizer.files.values()
            assert are_stored(store, list(parts), read=True)


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_every_put(bench, task, expected, s3, s3_bucket, s3_proxy, base_folder, step):
    """The process is killed at its n-th PUT, before it reaches the server.

    For every `step`-th n.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preparing", "raytrain_core.storage.s3"])
    environment = s3.environment | {"AWS_ENDPOINT_URL": s3_proxy.endpoint, "TMPDIR": str(bench.folder)}
    puts = 0

    def kill(method, path, moment):
        nonlocal puts
        if method == "PUT" and moment == "requested":
            puts += 1
            if puts == n:
                os.kill(process.pid, signal.SIGKILL)
                psutil.Process(process.pid).wait(60)
                raise ConnectionAbortedError  # nobody is there any more: the request goes no further

    s3_proxy.watch = kill
    n = 0
    while True:
        n += step
        puts = 0
        uri = f"s3://{s3_bucket}/killed-{n}"
        process = context.Process(target=prepare_at, args=(environment, bench.folder, uri, base_folder, FEW))
        process.start()
        process.join()
        direct = open_store(StorageLocation(uri=uri, endpoint=s3.endpoint))
        check_visible(direct)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        parts = {stat.key: stat.etag for stat in direct.list("shards/parts/")}
        assert bench.prepare(task, store=direct) == expected
        assert {stat.key: stat.etag for stat in direct.list("shards/parts/")}.items() >= parts.items()  # none put again
        done = {key: data for key, data in contents(direct).items() if not key.startswith("shards/units/")}
        assert done == contents(bench.store)
    assert n > 20


@pytest.mark.parametrize("seed", range(2))
def test_transient_errors_of_every_kind_change_nothing(
    bench, task, expected, store, direct, s3_proxy, no_waiting, seed, tmp_path
):
    s3_proxy.chaos(seed, 0.25, PASSING)
    assert bench.prepare(task, store=store) == expected
    assert contents(direct) == contents(bench.store)
    cache = Cache(tmp_path / "node", 1 << 20)
    for split in ("train", "test"):
        here = open_split(expected, "notes", split, bench.store, bench.cache)
        there = open_split(expected, "notes", split, store, cache)
        for example in range(here.examples):
            for variant in range(here.variants):
                assert there.tokens(example, variant)[0].tolist() == here.tokens(example, variant)[0].tolist()
        assert read_rows(expected, "notes", split, store, cache) == read_rows(
            expected, "notes", split, bench.store, bench.cache
        )
    assert len({fault for _, _, fault in s3_proxy.seen if fault}) >= 5


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("expired", "the credentials have expired"),
        ("denied", "access denied: no permission to write;"),
        ("full", "the store is full"),
        ("slow-down", "kept answering 503 SlowDown when asked to write"),
    ],
)
@pytest.mark.parametrize("after", [3, 11])
def test_a_permanent_error_ends_with_one_message_and_the_next_run_resumes(
    bench, task, expected, store, direct, s3_proxy, no_waiting, fault, message, after
):
    def begin(method, path, moment):
        if method == "PUT" and moment == "requested" and len(s3_proxy.requests("PUT")) == after:
            s3_proxy.break_(fault, "PUT")

    s3_proxy.watch = begin
    with pytest.raises(StorageError, match=message) as caught:
        bench.prepare(task, store=store)
    assert caught.value.hint
    assert store.bucket in caught.value.message
    check_visible(direct)
    assert not list(direct.list("shards/sets/"))
    s3_proxy.watch = None
    s3_proxy.heal()
    assert bench.prepare(task, store=store) == expected
    assert contents(direct) == contents(bench.store)


def test_permanent_mistakes_are_reported_in_one_message_before_any_work(bench, task, s3, s3_uri, monkeypatch):
    def refused(uri=s3_uri, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        began = time.process_time()
        with pytest.raises(StorageError) as caught:
            bench.prepare(task, store=open_store(uri))
        assert time.process_time() - began < 5  # asking again would not help
        assert "\n" not in caught.value.message
        return caught.value.message

    assert "no such bucket" in refused("s3://there-is-no-such-bucket/x")
    assert "access denied" in refused(AWS_ACCESS_KEY_ID="reader", AWS_SECRET_ACCESS_KEY="reader-secret")
    assert "credentials are wrong" in refused(AWS_SECRET_ACCESS_KEY="wrong")


def test_a_corrupt_part_in_the_store_is_named_and_never_read(bench, task, expected, direct, tmp_path):
    bench.prepare(task, store=direct)
    pair = expected.split("notes", "train").parts[0][1]
    for part, read in (
        (pair.tokens, lambda cache: open_split(expected, "notes", "train", direct, cache)),
        (
            expected.split("notes", "test").parts[0][0].text,
            lambda cache: read_rows(expected, "notes", "test", direct, cache),
        ),
    ):
        good = direct.get(part.key)
        direct.put(part.key, good[:40] + bytes([good[40] ^ 1]) + good[41:])
        with pytest.raises(CorruptError, match=part.sha256) as caught:
            read(Cache(tmp_path / "node", 1 << 20))
        assert "Delete that object" in caught.value.hint
        direct.delete([part.key])  # what the hint says
        assert bench.prepare(task, store=direct) == expected
        assert direct.get(part.key) == good
        assert read(Cache(tmp_path / "node", 1 << 20))


def cut_off(s3_proxy, seconds, *, after):
    """From the PUT number `after` on no request reaches the server, for some time."""

    def begin(method, path, moment):
        if method == "PUT" and moment == "requested" and len(s3_proxy.requests("PUT")) == after:
            s3_proxy.watch = None
            for verb in ("PUT", "GET", "HEAD", "POST", "DELETE"):
                s3_proxy.break_("reset", verb)
            threading.Timer(seconds, s3_proxy.heal).start()

    s3_proxy.watch = begin


def test_a_short_outage_is_survived(bench, task, expected, store, direct, s3_proxy, monkeypatch):
    backoff = botocore.retries.standard.ExponentialBackoff
    original = backoff.delay_amount
    monkeypatch.setattr(backoff, "delay_amount", lambda self, context: original(self, context) / 40)
    monkeypatch.setattr(s3_client, "DEADLINE_SECONDS", s3_client.DEADLINE_SECONDS / 40)
    cut_off(s3_proxy, 60 / 40, after=6)
    assert bench.prepare(task, store=store) == expected
    assert s3_proxy.requests("PUT").count("reset") >= 3
    assert contents(direct) == contents(bench.store)


@pytest.mark.slow
def test_an_outage_of_a_minute_is_survived(bench, task, expected, store, direct, s3_proxy):
    cut_off(s3_proxy, 60, after=6)
    began = time.monotonic()
    assert bench.prepare(task, store=store) == expected
    assert time.monotonic() - began > 60
    assert contents(direct) == contents(bench.store)


def test_nothing_is_put_for_a_task_without_rows(bench, direct):
    bench.write("empty.jsonl", [])
    from raytrain_core.errors import DataError

    with pytest.raises(DataError, match="no rows in"):
        prepare(
            [make_task(source={"uri": "empty.jsonl"})],
            Mixture(),
            store=direct,
            tokenizer=bench.tokenizer,
            limits=LIMITS,
            base_folder=bench.folder,
        )
    assert not list(direct.list("shards/parts/"))
