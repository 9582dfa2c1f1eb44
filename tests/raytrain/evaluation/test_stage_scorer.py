"""The stage scorer on a pool without Ray and without processes."""

from collections import deque

import pytest

from raytrain.evaluation.chunks import ChunkDone, GroupFailed
from raytrain.evaluation.results import read_card
from raytrain.evaluation.stage_scorer import StageScorer
from raytrain.generation.requests import Generation

WAIT = 60  # seconds; a test that needs them has failed


class InstantPool:
    """Serves a chunk per poll; groups of `failing` tasks and the first `broken` polls fail."""

    def __init__(self, *, failing=(), broken=0):
        self.failing, self.broken = failing, broken
        self.waiting, self.closed = deque(), False

    @property
    def is_idle(self):
        return not self.waiting

    def submit(self, group, chunks):
        self.waiting.extend((group, chunk) for chunk in chunks)

    def poll(self):
        if self.broken:
            self.broken -= 1
            raise ConnectionError("the cluster is gone")
        if not self.waiting:
            return
        group, chunk = self.waiting.popleft()
        if group.fields["task"] in self.failing:
            self.waiting = deque(item for item in self.waiting if item[0] is not group)
            yield GroupFailed(group, "no actor is left")
        else:
            yield ChunkDone(group, chunk, [Generation("x", 1, False)] * len(chunk.requests))

    def abandon(self):
        self.waiting.clear()

    def close(self):
        self.closed = True


@pytest.fixture
def events():
    return []


def scorer_on(pool, world, events):
    def on_event(kind, message, **fields):
        events.append((kind, fields["stage"], fields["task"]))

    return StageScorer(world.evaluator(), pool, on_event=on_event)


def test_stages_are_scored_in_their_order_and_committed(world, events):
    pool = InstantPool()
    with scorer_on(pool, world, events) as scorer:
        stages = [scorer.score(stage, world.base, "test", ["stars", "echo"]) for stage in ("before", "after")]
        cards = [stage.result(WAIT) for stage in stages]
    assert [[(card.stage, card.task, card.error) for card in found] for found in cards] == [
        [(stage, "stars", None), (stage, "echo", None)] for stage in ("before", "after")
    ]
    assert read_card(world.store, world.layout, "after", "echo") == cards[1][1]
    assert events == [
        ("EvaluationFinished", stage, task) for stage in ("before", "after") for task in ("stars", "echo")
    ]
    assert pool.closed


def test_a_group_that_fails_is_the_error_of_its_card_alone(world, events):
    with scorer_on(InstantPool(failing=["echo"]), world, events) as scorer:
        echo, stars = scorer.score("before", world.base, "test", ["echo", "stars"]).result(WAIT)
    assert (echo.error, stars.error) == ("no actor is left", None)
    assert events == [("EvaluationFailed", "before", "echo"), ("EvaluationFinished", "before", "stars")]


def test_a_pool_that_breaks_fails_open_stages_and_later_ones_go_on(world, events):
    with scorer_on(InstantPool(broken=1), world, events) as scorer:
        [first] = scorer.score("before", world.base, "test", ["echo"]).result(WAIT)
        [second] = scorer.score("after", world.base, "test", ["echo"]).result(WAIT)
    assert first.error == "ConnectionError: the cluster is gone"
    assert second.error is None


def test_the_same_task_twice_gives_its_card_twice(world, events):
    with scorer_on(InstantPool(), world, events) as scorer:
        first, second = scorer.score("before", world.base, "test", ["echo", "echo"]).result(WAIT)
    assert first == second
