"""Reading a run's logs: merged by time, in order within a log, followed until the run ends."""

import pytest

from raytrain.config.run_layout import RunLayout
from raytrain.runs import logs
from raytrain_core.storage import open_store

LAYOUT = RunLayout("a")


def _at(second: int, text: str) -> str:
    return f"2026-11-23 10:00:{second:02d},000 INFO raytrain: {text}\n"


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path))


def _texts(lines):
    return [(line.source, line.text.partition(": ")[2]) for line in lines]


def test_sources_are_merged_by_time_and_attempts_come_one_after_the_other(store):
    store.put(LAYOUT.log(2, "driver"), _at(1, "again").encode())
    store.put(LAYOUT.log(1, "driver"), (_at(1, "one") + _at(5, "five")).encode())
    store.put(LAYOUT.log(1, "rank-000"), _at(3, "three").encode())
    found = logs.read(store, LAYOUT)
    assert _texts(found) == [("driver", "one"), ("rank-000", "three"), ("driver", "five"), ("driver", "again")]
    assert [line.attempt for line in found] == ["a01", "a01", "a01", "a02"]


def test_a_traceback_stays_with_its_entry(store):
    text = _at(2, "broken") + "Traceback:\n  File x\u2028y\n\nValueError: no\n" + _at(4, "next")
    store.put(LAYOUT.log(1, "driver"), text.encode())
    store.put(LAYOUT.log(1, "rank-000"), _at(3, "between").encode())
    first, between, last = logs.read(store, LAYOUT)
    assert first.text.endswith("broken\nTraceback:\n  File x\u2028y\n\nValueError: no")
    assert (between.source, last.text.endswith("next")) == ("rank-000", True)


def test_one_source_or_attempt_can_be_asked_for(store):
    for attempt in (1, 2):
        for source in ("driver", "rank-000"):
            store.put(LAYOUT.log(attempt, source), _at(attempt, source).encode())
    assert _texts(logs.read(store, LAYOUT, source="rank-000", attempt=2)) == [("rank-000", "rank-000")]
    assert logs.read(store, LAYOUT, source="rank-007") == ()


def test_following_tells_each_line_once_and_ends_with_the_run(store):
    """A partial line is returned once it is complete."""
    key = LAYOUT.log(1, "driver")
    states = iter(
        [
            (_at(1, "one") + _at(2, "two")[:-5], False),
            (_at(1, "one") + _at(2, "two"), False),
            (_at(1, "one") + _at(2, "two"), False),
            (_at(1, "one") + _at(2, "two") + _at(3, "three"), True),
        ]
    )

    def over() -> bool:
        text, last = next(states)
        store.put(key, text.encode())
        return last

    found = logs.follow(store, LAYOUT, has_ended=over, every=0)
    assert _texts(found) == [("driver", "one"), ("driver", "two"), ("driver", "three")]
