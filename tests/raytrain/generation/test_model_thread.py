"""One thread computes for everybody, and gives turns to those who have something to do."""

import threading

import pytest

from raytrain.generation.model_thread import ModelThread


class Counter:
    """Has `left` turns to take."""

    def __init__(self, left):
        self.left, self.seen, self.done = left, [], threading.Event()

    def turn(self):
        if self.left:
            self.left -= 1
            self.seen.append(threading.get_ident())
        if not self.left:
            self.done.set()
        return self.left > 0


def test_all_turns_are_taken_in_the_thread_that_loads():
    thread = ModelThread()
    loaded_in = thread.call(threading.get_ident)
    one, other = Counter(3), Counter(5)
    thread.join(one)
    thread.join(other)
    assert one.done.wait(10)
    assert other.done.wait(10)
    assert set(one.seen + other.seen) == {loaded_in}
    assert loaded_in != threading.get_ident()


def test_who_was_idle_is_woken_and_who_left_has_no_turn():
    thread, one = ModelThread(), Counter(0)
    thread.join(one)
    assert one.done.wait(10)
    one.done.clear()
    one.left = 2
    thread.wake()
    assert one.done.wait(10)
    thread.leave(one)
    one.left = 1
    thread.wake()
    assert thread.call(lambda: one.left) == 1


def test_errors_reach_the_caller_and_the_thread_goes_on():
    thread = ModelThread()
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 / 0)
    assert thread.call(lambda: "still here") == "still here"
    assert thread.is_alive


def test_a_call_does_not_wait_for_a_turn_for_each_request_before_it():
    turns = threading.Semaphore(0)

    class Busy:
        def turn(self):
            turns.acquire()
            return True

    thread, called = ModelThread(), threading.Event()
    thread.join(Busy())
    for _ in range(50):
        thread.wake()
    caller = threading.Thread(target=lambda: thread.call(called.set))
    caller.start()
    turns.release(3)
    assert called.wait(10)
    caller.join()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_turn_that_fails_ends_the_thread_and_it_says_so():
    class Broken:
        def turn(self):
            raise ZeroDivisionError

    thread = ModelThread()
    thread.join(Broken())
    thread._thread.join(10)
    assert not thread.is_alive
