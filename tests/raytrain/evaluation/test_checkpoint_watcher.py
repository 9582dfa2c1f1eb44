"""Checkpoints to score are found in storage alone."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from raytrain.config.run_layout import RunLayout, stage_of_step
from raytrain.evaluation.checkpoint_watcher import MAX_UNFINISHED, CheckpointWatcher, due_checkpoints
from raytrain.runs.checkpoints import CommittedCheckpoint, committed_checkpoints, is_scored
from raytrain_core.errors import StorageError
from raytrain_core.storage import open_store
from raytrain_core.storage.commit import commit

LAYOUT = RunLayout("run")


def put(store, step, attempt=1, weights=b"w"):
    files = {"model.safetensors": weights + bytes([step % 256, attempt]), "optimizer.pt": b"o"}
    return commit(store, LAYOUT.checkpoint(step, attempt), files, {"kind": "checkpoint", "step": step})


def listed(*steps, attempt=1):
    return [CommittedCheckpoint(step, attempt, LAYOUT.checkpoint(step, attempt)) for step in steps]


def test_multiples_and_the_last_step_are_due_in_order():
    checkpoints = listed(700, 500, 250, 1000, 0, 750)
    assert [d.step for d in due_checkpoints(checkpoints, every=500, last_step=1000)] == [500, 1000]
    assert [d.step for d in due_checkpoints(checkpoints, every=500, last_step=700)] == [500, 700, 1000]
    due = due_checkpoints(checkpoints, every=250, last_step=1000, submitted=[250, 750])
    assert [d.step for d in due] == [500, 1000]


def test_the_newest_attempt_at_a_step_counts():
    checkpoints = [checkpoint for attempt in (2, 10, 1) for checkpoint in listed(500, attempt=attempt)]
    [found] = due_checkpoints(checkpoints, every=500, last_step=1000)
    assert (found.attempt, found.prefix) == (10, LAYOUT.checkpoint(500, 10))
    assert stage_of_step(found.step) == "step-000500"


def test_other_committed_folders_are_not_checkpoints(tmp_path):
    store = open_store(str(tmp_path))
    for prefix in ("runs/run/model", "runs/run/checkpoints/junk"):
        commit(store, prefix, {"file": b"x"}, {"kind": "other"})
    checkpoints = committed_checkpoints(store, LAYOUT)
    assert due_checkpoints(checkpoints, every=1, last_step=1) == []


@given(st.lists(st.integers(0, 60), max_size=30), st.integers(1, 20), st.sets(st.integers(0, 60)))
def test_due_follows_the_rule_exactly(steps, every, submitted):
    due = due_checkpoints(listed(*steps), every=every, last_step=60, submitted=submitted)
    expected = {s for s in steps if s > 0 and (s % every == 0 or s == 60)} - submitted
    assert [d.step for d in due] == sorted(expected)
    assert {s for s in steps if is_scored(s, every=every, last_step=60)} - submitted == expected


def test_only_committed_checkpoints_are_found(tmp_path):
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
        last = put(store, 1200)  # at the latest found by the last look
    assert [s[:3] for s in submitted] == [
        (f"step-{step:06d}", LAYOUT.checkpoint(step, 1), step) for step in (500, 1000, 1200)
    ]
    assert submitted[0][3] == first.file("model.safetensors").sha256
    assert submitted[2][3] == last.file("model.safetensors").sha256


class BrokenStore:
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


def test_storage_errors_are_reported_once_and_tolerated(tmp_path):
    store = open_store(str(tmp_path))
    put(store, 500)
    broken, reported, submitted = BrokenStore(store, 3), [], []
    with CheckpointWatcher(
        broken,
        LAYOUT,
        lambda *a: submitted.append(a),
        every=500,
        last_step=500,
        interval=0.01,
        on_error=reported.append,
    ):
        assert broken.over.wait(30)
    assert reported == ["cannot look for checkpoints to score: no answer"]
    assert len(submitted) == 1


def watcher(store, submitted, **options):
    options = {"every": 100, "last_step": 1000, **options}
    return CheckpointWatcher(store, LAYOUT, lambda stage, model: submitted.append(model.step), **options)


def test_the_oldest_pending_are_skipped_when_evaluation_lags(tmp_path):
    store, submitted, skipped, unfinished, counted = open_store(str(tmp_path)), [], [], [0], []
    callbacks = {"on_skip": skipped.append, "on_look": counted.append}
    watch = watcher(store, submitted, max_pending_checkpoints=2, unfinished=lambda: unfinished[0], **callbacks)
    put(store, 100)
    watch.look()
    unfinished[0] = MAX_UNFINISHED  # the pool is busy from here on
    for step in (200, 300):
        put(store, step)
        watch.look()
    assert (submitted, skipped) == ([100], [])
    put(store, 400)
    watch.look()
    assert (submitted, skipped) == ([100], [200])
    assert watch.skipped == {200}
    assert counted == [0, MAX_UNFINISHED + 1, MAX_UNFINISHED + 2, MAX_UNFINISHED + 2], "unfinished and pending ones"
    unfinished[0] = MAX_UNFINISHED - 1
    watch.look()  # this stand-in does not count up, so everything pending is submitted
    assert submitted == [100, 300, 400]


def test_the_last_checkpoint_is_scored_even_if_the_pool_is_busy(tmp_path):
    store, submitted = open_store(str(tmp_path)), []
    with watcher(store, submitted, max_pending_checkpoints=1, unfinished=lambda: 99, interval=60):
        for step in (800, 900, 1000):
            put(store, step)
    assert submitted == [1000]


def test_steps_scored_by_an_earlier_attempt_are_submitted_at_once(tmp_path):
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
