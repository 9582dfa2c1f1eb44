"""Requests that arrive while others are decoded get the answers that they would get alone."""

import threading

import pytest
import torch

from data_prep.text.tokenizer_folder import read_tokenizer
from raytrain.generation.generator import Generator
from raytrain.generation.requests import GenerationLimits
from raytrain.model.loading import load
from tests.raytrain.generation.test_generator import PROMPTS, make_responsive
from tests.support.tiny_t5 import save_tiny


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = save_tiny(tmp_path_factory.mktemp("live") / "model")
    tokenizer = read_tokenizer(folder)
    model = make_responsive(load(folder, tokenizer_size=tokenizer.size))
    return Generator(model, tokenizer, GenerationLimits(64, 12, 4), device="cpu"), tokenizer.encode_batch(PROMPTS, 64)


@pytest.fixture
def live(world):
    batcher = world[0].live(slots=3)
    yield batcher
    batcher.close()


def alone(world, number):
    return world[0].generate([PROMPTS[number]])[0]


def tokens(ids):
    return ids.index(1) if 1 in ids else len(ids)


def test_all_at_once_are_answered_as_alone(world, live):
    answers = [live.submit(source, 12) for source in world[1]]
    for number, answer in enumerate(answers):
        assert tokens(answer.result(30)) == alone(world, number).tokens
    decoded = [world[0]._tokenizer.decode(answer.result()[: tokens(answer.result())]) for answer in answers]
    assert decoded == [alone(world, number).text for number in range(len(PROMPTS))]


def test_one_that_comes_later_joins_and_a_short_one_overtakes(world, live, monkeypatch):
    """A request for one token is answered while one for twelve is still being decoded."""
    gate, steps = threading.Semaphore(0), []
    step = live._in_slots.step

    def slow():
        gate.acquire()
        steps.append(len(live._in_slots.in_use))
        step()

    monkeypatch.setattr(live._in_slots, "step", slow)
    number = next(n for n in range(len(PROMPTS)) if alone(world, n).cut_off)  # twelve tokens
    long = live.submit(world[1][number], 12)
    gate.release(3)
    while len(steps) < 3:
        pass
    short = live.submit(world[1][1], 1)
    gate.release(2)  # one step may have begun before it came
    assert len(short.result(30)) == 1
    assert not long.done()
    gate.release(20)
    assert tokens(long.result(30)) == alone(world, number).tokens
    assert max(steps) == 2


def test_with_one_slot_answers_come_in_the_order_of_requests(world):
    """Several are encoded at once, the longest first; that must not change whose turn it is."""
    batcher, ended = world[0].live(slots=1), []
    answers = [batcher.submit(source, 3) for source in world[1][:20]]
    for number, answer in enumerate(answers):
        answer.add_done_callback(lambda _, number=number: ended.append(number))
    batcher.close()
    assert ended == sorted(ended)
    assert len(ended) == 20


def test_a_cancelled_request_frees_its_slot(world, live):
    answers = [live.submit(source, 12) for source in world[1]]
    assert all(answer.cancel() or answer.done() for answer in answers)
    again = live.submit(world[1][0], 12)
    assert tokens(again.result(30)) == alone(world, 0).tokens


def test_an_error_reaches_whoever_asked_and_nobody_else(world, live, monkeypatch):
    with monkeypatch.context() as patched:

        def full():
            raise RuntimeError("can't allocate memory")

        patched.setattr(live._in_slots, "step", full)
        with pytest.raises(RuntimeError, match="allocate"):
            live.submit(world[1][0], 12).result(30)
    assert tokens(live.submit(world[1][0], 12).result(30)) == alone(world, 0).tokens
    with monkeypatch.context() as patched:
        patched.setattr(live._engine, "encode", lambda *_: (_ for _ in ()).throw(MemoryError("no room")))
        with pytest.raises(MemoryError, match="no room"):
            live.submit(world[1][0], 12).result(30)
    assert live.is_alive


def test_closing_answers_what_was_accepted_and_refuses_the_rest(world):
    batcher = world[0].live(slots=2)
    answers = [batcher.submit(source, 12) for source in world[1][:8]]
    batcher.close()
    assert all(answer.done() and answer.result() for answer in answers)
    assert not batcher.is_alive
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(world[1][0], 12)


def test_lengths_that_the_cache_has_no_room_for_are_refused(world, live):
    for source, limit in ((torch.zeros(65).numpy(), 12), (world[1][0], 13), (world[1][0], 0), (world[1][0][:0], 1)):
        with pytest.raises(ValueError, match="not within those of this engine"):
            live.submit(source, limit)


def test_closing_ends_when_answers_end_one_after_the_other(world):
    batcher = world[0].live(slots=2)
    answers = [batcher.submit(world[1][number], 12) for number in (1, 0)]  # of 2 and of 12 tokens
    closing = threading.Thread(target=batcher.close, daemon=True)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()
    assert [len(answer.result(0)) for answer in answers] == [2, 12]


def test_closing_does_not_wait_for_a_thread_that_has_ended(world, monkeypatch):
    class Ended:
        is_alive = False

        def wake(self):
            pass

    batcher = world[0].live(slots=2)
    monkeypatch.setattr(batcher, "_thread", Ended())
    monkeypatch.setattr(batcher, "turn", lambda: False)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    assert not batcher.is_alive
