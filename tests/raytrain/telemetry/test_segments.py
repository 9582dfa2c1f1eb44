import logging
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytrain.config.run_layout import RunLayout
from raytrain.telemetry.segments import SegmentWriter, _without_repeated, read_segments
from raytrain_core.errors import StorageError
from raytrain_core.storage import CorruptError, LocalStore

LAYOUT = RunLayout("demo")
NEVER = 3600.0  # seconds: nothing is written by the clock


class Failing:
    """A store that refuses the next puts, or stores them and loses the answer."""

    def __init__(self, store, refuse=0, lose=0):
        self._store, self.refuse, self.lose = store, refuse, lose
        self.uri = store.uri

    def __getattr__(self, name):
        return getattr(self._store, name)

    def put(self, key, data, *, if_absent=False):
        if self.refuse:
            self.refuse -= 1
            raise StorageError("no room")
        self._store.put(key, data, if_absent=if_absent)
        if self.lose:
            self.lose -= 1
            raise StorageError("the answer was lost")


def test_lines_come_back_in_order(any_store):
    with SegmentWriter(any_store, LAYOUT, "events", 1, seconds=NEVER) as writer:
        for number in range(5):
            writer.append({"kind": "Tried", "message": "é\n", "number": number})
            if number == 2:
                assert writer.flush()
    lines = read_segments(any_store, LAYOUT, "events")
    assert [line["number"] for line in lines] == list(range(5))
    assert all(line["attempt"] == 1 and line["time"].endswith("+00:00") and line["message"] == "é\n" for line in lines)
    keys = [stat.key for stat in any_store.list(f"{LAYOUT.root}/events/")]
    assert len(keys) in (2, 3)  # the first line may have been stored before the others came
    assert keys == [LAYOUT.segment("events", 1, n + 1) for n in range(len(keys))]


def test_nothing_appended_stores_nothing(tmp_path):
    with SegmentWriter(LocalStore(tmp_path), LAYOUT, "events", 1):
        pass
    assert read_segments(LocalStore(tmp_path), LAYOUT, "events") == []
    assert list(LocalStore(tmp_path).list("")) == []


def test_a_full_segment_is_written_without_waiting(tmp_path):
    store = LocalStore(tmp_path)
    stored = threading.Event()
    put = store.put

    class Noticing(Failing):
        def put(self, key, data, *, if_absent=False):
            put(key, data, if_absent=if_absent)
            stored.set()

    writer = SegmentWriter(Noticing(store), LAYOUT, "metrics", 1, seconds=0, lines=3)
    try:
        for step in range(3):
            writer.append({"step": step})
        assert stored.wait(60)
    finally:
        writer.close()
    assert [line["step"] for line in read_segments(store, LAYOUT, "metrics")] == [0, 1, 2]


def test_a_reopened_writer_goes_on_with_the_numbering(any_store):
    for number in range(3):
        with SegmentWriter(any_store, LAYOUT, "events", 2) as writer:
            writer.append({"number": number})
    assert [line["number"] for line in read_segments(any_store, LAYOUT, "events")] == [0, 1, 2]
    assert len(list(any_store.list(f"{LAYOUT.root}/events/a02-"))) == 3


def test_two_writers_of_one_attempt_overwrite_nothing(tmp_path):
    store = LocalStore(tmp_path)
    writers = [SegmentWriter(store, LAYOUT, "events", 1, seconds=NEVER) for _ in range(2)]
    for number in range(6):
        writers[number % 2].append({"number": number})
        assert writers[number % 2].flush()
    for writer in writers:
        assert writer.close()
    assert [line["number"] for line in read_segments(store, LAYOUT, "events")] == list(range(6))


def test_storage_errors_are_logged_once_and_nothing_is_lost_or_raised(tmp_path, caplog):
    store = Failing(LocalStore(tmp_path), refuse=10**9)
    writer = SegmentWriter(store, LAYOUT, "metrics", 1, seconds=NEVER)
    with caplog.at_level(logging.INFO, logger="raytrain"):
        for step in range(3):
            writer.append({"step": step})
            assert not writer.flush()
        store.refuse = 0
        writer.append({"step": 3})
        assert writer.close()
    assert [line["step"] for line in read_segments(store, LAYOUT, "metrics")] == [0, 1, 2, 3]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "metrics could not be stored and will be retried: no room" in caplog.text


def test_a_segment_whose_answer_was_lost_is_not_doubled(tmp_path):
    store = Failing(LocalStore(tmp_path), lose=2)
    writer = SegmentWriter(store, LAYOUT, "events", 1, seconds=NEVER)
    for n in (1, 2):
        writer.append({"n": n})  # the thread may store it before flush() does: either of them loses the answer
        writer.flush()
    writer.append({"n": 3})
    assert writer.close()
    assert store.lose == 0
    assert [line["n"] for line in read_segments(store, LAYOUT, "events")] == [1, 2, 3]


def test_a_store_that_stays_broken_ends_nothing(tmp_path):
    writer = SegmentWriter(Failing(LocalStore(tmp_path), refuse=10**9), LAYOUT, "metrics", 1, seconds=NEVER)
    writer.append({"step": 1})
    assert writer.close() is False


def test_many_threads_may_append(tmp_path):
    store = LocalStore(tmp_path)
    writer = SegmentWriter(store, LAYOUT, "events", 1, seconds=0, lines=7)
    threads = [
        threading.Thread(target=lambda base=base: [writer.append({"n": base + n}) for n in range(50)])
        for base in range(0, 400, 100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.close()
    found = [line["n"] for line in read_segments(store, LAYOUT, "events")]
    assert sorted(found) == [base + n for base in range(0, 400, 100) for n in range(50)]


def test_numbers_that_json_does_not_know_become_null(tmp_path):
    store = LocalStore(tmp_path)
    with SegmentWriter(store, LAYOUT, "metrics", 1) as writer:
        writer.append({"step": 1, "loss": float("nan"), "by": {"a": [float("inf"), 1.5]}, "path": tmp_path})
    (line,) = read_segments(store, LAYOUT, "metrics")
    assert (line["loss"], line["by"], line["path"]) == (None, {"a": [None, 1.5]}, str(tmp_path))


def test_steps_that_a_later_attempt_did_again_are_dropped(tmp_path):
    store = LocalStore(tmp_path)
    for attempt, steps in ((1, range(1, 11)), (2, range(6, 9)), (10, range(8, 12))):
        with SegmentWriter(store, LAYOUT, "metrics", attempt, seconds=NEVER, lines=4) as writer:
            for step in steps:
                writer.append({"step": step})
    lines = read_segments(store, LAYOUT, "metrics")
    assert [(line["attempt"], line["step"]) for line in lines] == [
        *((1, step) for step in range(1, 6)),
        *((2, step) for step in (6, 7)),
        *((10, step) for step in range(8, 12)),
    ]


def test_steps_done_again_within_an_attempt_count_once(tmp_path):
    """A worker restart goes back to the newest checkpoint in the same attempt."""
    lines = [{"step": step, "round": 1} for step in (1, 2, 3, 4)] + [{"step": step, "round": 2} for step in (3, 4, 5)]
    kept = [(line["step"], line["round"]) for line in _without_repeated(lines)]
    assert kept == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 10)), max_size=6))
def test_the_surviving_history_rises_and_is_the_newest(pieces):
    lines = [{"step": start + n, "piece": k} for k, (start, count) in enumerate(pieces) for n in range(count)]
    kept = _without_repeated(lines)
    steps = [line["step"] for line in kept]
    assert steps == sorted(set(steps))
    for line in kept:  # no later piece began at or before this step
        assert all(start > line["step"] for start, _ in pieces[line["piece"] + 1 :])
    if pieces:
        start, count = pieces[-1]
        assert steps[-count:] == list(range(start, start + count))


@pytest.mark.parametrize("body", [b"{", b"[1]\n", b'{"step": 1}\n{"st'])
def test_a_damaged_segment_is_named(tmp_path, body):
    store = LocalStore(tmp_path)
    store.put(LAYOUT.segment("metrics", 1, 3), body)
    with pytest.raises(CorruptError, match=r"metrics/a01-000003\.jsonl:\d"):
        read_segments(store, LAYOUT, "metrics")


def test_only_a_line_feed_ends_a_line(tmp_path):
    store, layout = LocalStore(tmp_path), LAYOUT
    message = "one\u2028two\u0085three\x0bfour"
    with SegmentWriter(store, layout, "events", 1) as writer:
        writer.append({"kind": "Odd", "message": message})
    assert [line["message"] for line in read_segments(store, layout, "events")] == [message]


def test_secrets_of_the_environment_are_masked(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", 'canary"secret+1')
    store = LocalStore(tmp_path)
    with SegmentWriter(store, LAYOUT, "events", 1) as writer:
        writer.append(
            {"kind": "RunFailed", "message": 'no canary"secret+1', "more": [{"path": tmp_path / 'canary"secret+1'}]}
        )
    (line,) = read_segments(store, LAYOUT, "events")
    assert line["message"] == "no ***"
    assert line["more"] == [{"path": f"{tmp_path}/***"}]
