import pytest

from raytrain.config.run_layout import RunLayout
from raytrain.runs.checkpoints import committed_checkpoints
from raytrain.runs.status import read_status
from raytrain.telemetry.segments import SegmentWriter
from raytrain_core.storage import LocalStore

LAYOUT = RunLayout("demo")


@pytest.fixture
def store(tmp_path):
    """Checkpoints in no order of listing, one of them without a manifest, one of another run."""
    store = LocalStore(tmp_path)
    for step, attempt in ((999_999, 9), (1_000_000, 9), (500, 2), (500, 10)):
        for name in ("manifest.json", "model.safetensors"):
            store.put(f"{LAYOUT.checkpoint(step, attempt)}/{name}", b"{}")
    store.put(f"{LAYOUT.checkpoint(2_000_000, 10)}/model.safetensors", b"half")
    store.put(f"{LAYOUT.checkpoints}/notes/manifest.json", b"{}")
    store.put(f"{RunLayout('demo-two').checkpoint(3_000_000, 1)}/manifest.json", b"{}")
    store.put(LAYOUT.job, b"{}")
    return store


def test_committed_are_those_with_a_manifest_newest_first(store):
    assert committed_checkpoints(store, LAYOUT) == [
        (step, attempt, LAYOUT.checkpoint(step, attempt))
        for step, attempt in ((1_000_000, 9), (999_999, 9), (500, 10), (500, 2))
    ]
    assert committed_checkpoints(store, RunLayout("none")) == []


def test_the_newest_is_where_a_status_says_that_the_run_resumes(store):
    assert read_status(store, "demo").checkpoint_step == 1_000_000
    store.put(RunLayout("new").job, b"{}")
    assert read_status(store, "new").checkpoint_step is None


def test_a_status_reads_events_whatever_their_messages_hold(store):
    with SegmentWriter(store, LAYOUT, "events", 1) as events:
        events.append({"kind": "WorkerRestarted", "message": "one\u2028two\x85three"})
    status = read_status(store, "demo")
    assert (status.restarts, status.unreadable) == ({"WorkerRestarted": 1}, [])
