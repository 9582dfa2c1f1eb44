"""The watchdog notices silence, not a long step, and its stacks show the place."""

import threading
import time

import pytest

from raytrain.training import watchdog
from raytrain.training.watchdog import Watchdog


def waits_here(event):
    event.wait(20)


def test_silence_is_noticed_and_the_stacks_name_the_place():
    hangs, done = [], threading.Event()

    def on_hang(seconds, stacks):
        hangs.append((seconds, stacks))
        done.set()

    with Watchdog(0.2, on_hang) as dog:
        for _ in range(3):
            dog.heartbeat()
        began = time.monotonic()
        waits_here(done)
    assert 0.2 <= hangs[0][0] < 5
    assert time.monotonic() - began < 5
    assert "waits_here" in hangs[0][1]
    assert "thread MainThread" in hangs[0][1]


def test_regular_heartbeats_are_no_hang():
    hangs = []
    with Watchdog(0.5, lambda *hang: hangs.append(hang)) as dog:
        for _ in range(12):
            dog.heartbeat()
            time.sleep(0.1)
    assert not hangs


def test_no_call_after_the_end_nor_without_a_limit():
    hangs = []
    with Watchdog(0.1, lambda *hang: hangs.append(hang)) as dog:
        dog.heartbeat()
    with Watchdog(0, lambda *hang: hangs.append(hang)):
        time.sleep(0.3)
    time.sleep(0.3)
    assert not hangs


def test_a_long_step_is_no_hang(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: now[0])
    dog = Watchdog(120, pytest.fail)
    assert dog.limit == 600  # nothing is known yet
    for pause in (0, 40, 50):
        now[0] += pause
        dog.heartbeat()
    assert dog.limit == 500
    now[0] += 1
    dog.heartbeat()
    assert dog.limit == 500
