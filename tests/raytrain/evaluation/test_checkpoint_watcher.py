"""Evaluation learns of checkpoints from storage alone."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from raytrain.config.run_layout import RunLayout
from raytrain.evaluation.checkpoint_watcher import AT_ONCE, CheckpointWatcher, due
from raytrain.runs.checkpoints import committed_checkpoints
from raytrain_core.errors import StorageError
from raytrain_core.storage import open_store
from raytrain_core.storage.commit import commit

LAYOUT = RunLayout("run")


def put(store, step, attempt=1, weights=b"w"):
    files = {"model.safetensors": weights + bytes([step % 256, attempt]), "optimizer.pt": b"o"}
    return commit(store, LAYOUT.checkpoint(step, attempt), files, {"kind": "checkpoint", "step": step})


def test_multiples_and_the_last_in_order_of_steps():
    prefixes = [LAYOUT.checkpoint(step, 1) for step in (700, 500, 250, 1000, 0, 750)]
    assert [d.step for d in due(prefixes, every=500, last_step=1000)] == [500, 1000]
    assert [d.step for d in due(prefixes, every=500, last_step=700)] == [500, 700, 1000]
    assert [d.step for d in due(prefixes, every=250, last_step=1000, submitted=[250, 750])] == [500, 1000]


def test_the_newest_attempt_at_a_step_counts():
    prefixes = [LAYOUT.checkpoint(500, attempt) for attempt in (2, 10, 1)]
    [found] = due(prefixes, every=500, last_step=1000)
    assert (found.attempt, found.prefix, found.stage) == (10, LAYOUT.checkpoint(500, 10), "step-000500")


def test_other_things_are_no_checkpoints():
    assert due(["runs/run/model", "runs/run/checkpoints/junk", ""], every=1, last_step=1) == []


@given(st.lists(st.integers(0, 60), max_size=30), st.integers(1, 20), st.sets(st.integers(0, 60)))
def test_due_is_exactly_the_rule(steps, every, submitted):
    found = due([LAYOUT.checkpoint(s, 1) for s in steps], every=every, last_step=60, submitted=submitted)
    wanted = {s for s in steps if s > 0 and (s % every == 0 or s == 60)} - submitted
    assert [d.step for d in found] == sorted(wanted)


def test_only_committed_checkpoints_are_seen(tmp_path):
    store = open_store(str(tmp_path))
    put(store, 500)
    store.put(f"{LAYOUT.checkpoint(1000, 1)}/model.safetensors", b"half")
    assert [c.prefix for c in committed_checkpoints(store, LAYOUT)] == [LAYOUT.checkpoint(500, 1)]


def test_the_watcher_submits_each_once_and_the_last_at_the_end(tmp_path):
    store = open_store(str(tmp_path))
    submitted, seen = [], threading.Event()

    def submit(stage, model):
        submitted.append((stage, model.uri, model.step, model.digest))
        seen.set()

    first = put(store, 500)
    with CheckpointWatcher(store, LAYOUT, submit, every=500, last_step=1200, interval=0.01):
        assert seen.wait(30)
        put(store, 700)
        put(store, 1000)
        last = put(store, 1200)  # perhaps seen by the thread, surely by the last look
    assert [s[:3] for s in submitted] == [
        (f"step-{step:06d}", LAYOUT.checkpoint(step, 1), step) for step in (500, 1000, 1200)
    ]
    assert submitted[0][3] == first.file("model.safetensors").sha256
    assert submitted[2][3] == last.file("model.safetensors").sha256


class Trouble:
    """A store that cannot be listed at first."""

    uri = "s3://broken"

    def __init__(self, store, times):
        self.store, self.times = store, times
        self.over = threading.Event()

    def list(self, prefix):
        if self.times:
            self.times -= 1
            raise StorageError("no answer")
        self.over.set()
        return self.store.list(prefix)

    def get(self, key):
        return self.store.get(key)


def test_trouble_with_the_store_is_said_once_and_borne(tmp_path):
    store = open_store(str(tmp_path))
    put(store, 500)
    broken, said, submitted = Trouble(store, 3), [], []
    with CheckpointWatcher(
        broken, LAYOUT, lambda *a: submitted.append(a), every=500, last_step=500, interval=0.01, on_trouble=said.append
    ):
        assert broken.over.wait(30)
    assert said == ["checkpoints cannot be looked for: no answer"]
    assert len(submitted) == 1


def watcher(store, submitted, **options):
    options = {"every": 100, "last_step": 1000, **options}
    return CheckpointWatcher(store, LAYOUT, lambda stage, model: submitted.append(model.step), **options)


def test_where_evaluation_lags_the_oldest_that_wait_are_skipped(tmp_path):
    store, submitted, skipped, unfinished, counted = open_store(str(tmp_path)), [], [], [0], []
    hears = {"on_skip": skipped.append, "on_look": counted.append}
    watch = watcher(store, submitted, max_pending_checkpoints=2, unfinished=lambda: unfinished[0], **hears)
    put(store, 100)
    watch.look()
    unfinished[0] = AT_ONCE  # the pool is busy from here on
    for step in (200, 300):
        put(store, step)
        watch.look()
    assert (submitted, skipped) == ([100], [])
    put(store, 400)
    watch.look()
    assert (submitted, skipped) == ([100], [200])
    assert watch.skipped == {200}
    assert counted == [0, AT_ONCE + 1, AT_ONCE + 2, AT_ONCE + 2], "those at work, and those that wait"
    unfinished[0] = AT_ONCE - 1
    watch.look()  # stand-in pools do not count up, so that all that wait are taken
    assert submitted == [100, 300, 400]


def test_the_last_checkpoint_is_scored_however_busy_the_pool_is(tmp_path):
    store, submitted = open_store(str(tmp_path)), []
    with watcher(store, submitted, max_pending_checkpoints=1, unfinished=lambda: 99, interval=60):
        for step in (800, 900, 1000):
            put(store, step)
    assert submitted == [1000]


def test_what_an_earlier_attempt_scored_is_neither_skipped_nor_waits(tmp_path):
    store, submitted, skipped = open_store(str(tmp_path)), [], []
    for step in (100, 200, 300, 400):
        put(store, step)
    watcher(
        store,
        submitted,
        max_pending_checkpoints=1,
        known={100, 200, 300},
        unfinished=lambda: 99,
        on_skip=skipped.append,
    ).look()
    assert (submitted, skipped) == ([100, 200, 300], [])
