"""The pool where actors hang, have no room, or are lost in rarer ways: on a stand-in for Ray that does so on demand."""

import time
from itertools import pairwise
from types import SimpleNamespace

import pytest
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayTaskError

from raytrain.evaluation import ray_pool as ray_actors
from raytrain.evaluation.ray_pool import TRIES, ActorSettings, EvaluationPool
from raytrain.generation.requests import Generation

WAIT = 60  # seconds; a test that needs them has failed
HANG = object()


class StandIn:
    """What the pool uses of Ray. Each call of an actor ends as the next of `outcomes` says, then all are answered.

    An outcome is an exception, HANG, None for an answer, or a function that says whether the answer
    is there.
    """

    def __init__(self, *outcomes):
        self.outcomes, self.started, self.killed, self.asked, self.sizes = list(outcomes), 0, [], [], []

    def remote(self, actor):
        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=self._start))

    def _start(self, settings):
        self.started += 1
        return SimpleNamespace(generate=SimpleNamespace(remote=self._answer), number=self.started)

    def _answer(self, model, questions, batch_size):
        self.asked.append(questions)
        self.sizes.append(batch_size)
        outcome = self.outcomes.pop(0) if self.outcomes else None
        answers = [Generation("x", 1, False)] * len(questions)
        return Reference(answers if outcome is None or callable(outcome) else outcome, outcome)

    def wait(self, references, num_returns, timeout):
        ready = [reference for reference in references if reference.ready()][:num_returns]
        if not ready:
            time.sleep(min(timeout, 0.005))
        return ready, [reference for reference in references if reference not in ready]

    def get(self, reference):
        if isinstance(reference.outcome, Exception):
            raise reference.outcome
        return reference.outcome

    def kill(self, actor):
        self.killed.append(actor.number)


class Reference:
    def __init__(self, outcome, condition):
        self.outcome, self.condition = outcome, condition

    def ready(self):
        return self.condition() if callable(self.condition) else self.outcome is not HANG


@pytest.fixture
def events():
    return []


@pytest.fixture
def progress():
    return []


@pytest.fixture
def pool_on(world, monkeypatch, events, progress):
    """A pool on a stand-in, closed at the end of the test."""
    pools = []

    def make(stand_in, *, on_progress=lambda *call: progress.append(call), **options):
        monkeypatch.setattr(ray_actors, "ray", stand_in)
        settings = ActorSettings(world.store, world.shard_set.digest, world.base, world.folder / "cache", world.limits)
        pool = EvaluationPool(
            world.evaluator(),
            settings,
            on_event=lambda kind, message, **fields: events.append((kind, message, fields)),
            on_progress=on_progress,
            **options,
        )
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close()


def kinds(events):
    return [kind for kind, _, _ in events]


@pytest.mark.parametrize("error", [OutOfMemoryError("too much"), NodeDiedError("node n1 is gone")])
def test_however_an_actor_is_lost_another_one_takes_its_place(world, pool_on, events, error):
    stand_in = StandIn(error)
    [card] = pool_on(stand_in).score("before", world.base, "test", ["echo"]).result(WAIT)
    assert card.error is None
    assert kinds(events) == ["ActorRestarted", "EvaluationFinished"]
    assert str(error) in events[0][1]
    assert stand_in.started == 2
    assert stand_in.killed == [1]  # it may still have lived
    assert stand_in.asked[0] == stand_in.asked[1]


def test_an_actor_that_throws_a_ray_error_has_answered(world, pool_on, events):
    """What was raised inside the actor comes back as both: a RayTaskError and the class of its cause."""
    raised = RayTaskError("answer", "traceback", OutOfMemoryError("in there")).as_instanceof_cause()
    assert isinstance(raised, OutOfMemoryError)
    stand_in = StandIn(raised)
    [card] = pool_on(stand_in).score("before", world.base, "test", ["echo"]).result(WAIT)
    assert card.error is None
    assert kinds(events) == ["EvaluationFinished"]
    assert stand_in.started == 1


def test_without_enough_memory_half_as_many_are_asked_at_once(world, pool_on, events):
    raised = RayTaskError("answer", "traceback", MemoryError("you tried to allocate a lot")).as_instanceof_cause()
    stand_in = StandIn(raised, OutOfMemoryError("the node is full"))
    [card] = pool_on(stand_in).score("before", world.base, "test", ["echo"]).result(WAIT)
    assert (card.error, card.scored) == (None, card.rows)
    size = world.limits.batch_size
    assert stand_in.sizes[:3] == [size, size // 2, max(1, size // 4)]
    assert stand_in.asked[0] == stand_in.asked[1] == stand_in.asked[2]  # the same examples
    assert kinds(events) == ["ActorRestarted", "EvaluationFinished"]


def test_memory_that_never_suffices_is_a_reason_and_no_other_task_suffers(world, pool_on):
    raised = RayTaskError("answer", "traceback", MemoryError("too much")).as_instanceof_cause()
    echo, stars = (
        pool_on(StandIn(*[raised] * TRIES)).score("before", world.base, "test", ["echo", "stars"]).result(WAIT)
    )
    assert echo.error == f"out of memory with {max(1, world.limits.batch_size // 4)} examples at once: too much"
    assert stars.error is None


def test_an_actor_that_hangs_is_ended_and_its_chunk_asked_again(world, pool_on, events):
    stand_in = StandIn(None, HANG)
    [card] = pool_on(stand_in, patience=0.05).score("before", world.base, "test", ["echo"]).result(WAIT)
    assert (card.error, card.scored) == (None, card.rows)
    assert kinds(events) == ["ActorRestarted", "EvaluationFinished"]
    assert "no answer within 0.05 s" in events[0][1]
    assert stand_in.killed == [1]
    assert stand_in.asked[1] == stand_in.asked[2]


def test_what_always_hangs_is_given_up(world, pool_on, events):
    stand_in = StandIn(*[HANG] * TRIES)
    pool = pool_on(stand_in, patience=0.02)
    echo, stars = pool.score("before", world.base, "test", ["echo", "stars"]).result(WAIT)
    assert echo.error == f"evaluation actors were lost {TRIES} times over the same examples: no answer within 0.02 s"
    assert stars.error is None


def test_of_an_actor_that_never_answered_an_event_speaks_once(world, pool_on, events):
    looks = []

    def started():
        """Whether the pool has looked often enough after it spoke to have spoken again."""
        looks.extend(events)
        return len(looks) > 20

    pool = pool_on(StandIn(started), notice=0.02, cpus=3, gpus=1)
    [card] = pool.score("before", world.base, "test", ["echo"]).result(WAIT)
    assert card.error is None
    (kind, message, fields), finished = events
    assert (kind, finished[0]) == ("ActorWaiting", "EvaluationFinished")
    assert "waits for room in the cluster (3 CPU, 1 GPU)" in message
    assert (fields["stage"], fields["actor"]) == ("before", 0)


def test_an_actor_that_has_answered_does_not_wait_for_room(world, pool_on, events):
    pool = pool_on(StandIn(None, HANG), notice=0.01, patience=0.2)
    pool.score("before", world.base, "test", ["echo"]).result(WAIT)
    assert kinds(events) == ["ActorRestarted", "EvaluationFinished"]


def test_progress_counts_the_examples_of_a_stage(world, pool_on, progress):
    cards = pool_on(StandIn()).score("before", world.base, "test").result(WAIT)
    total = sum(card.rows for card in cards)
    assert {(stage, everything) for stage, _, everything in progress} == {("before", total)}
    done = [done for _, done, _ in progress]
    assert done == sorted(set(done))  # each step is told once
    assert (done[0], done[-1]) == (0, total)
    assert max(b - a for a, b in pairwise(done)) <= 2 * world.limits.batch_size


def test_progress_begins_with_what_is_there_already(world, pool_on, progress):
    pool = pool_on(StandIn())
    [echo] = pool.score("before", world.base, "test", ["echo"]).result(WAIT)
    progress.clear()
    _, stars = pool.score("before", world.base, "test", ["echo", "stars"]).result(WAIT)
    assert progress[0] == ("before", echo.rows, echo.rows + stars.rows)
    assert progress[-1] == ("before", echo.rows + stars.rows, echo.rows + stars.rows)


def test_what_is_given_up_leaves_the_total(world, pool_on, progress):
    pool = pool_on(StandIn(*[NodeDiedError("gone")] * TRIES))
    echo, stars = pool.score("before", world.base, "test", ["echo", "stars"]).result(WAIT)
    assert echo.error is not None
    assert progress[-1] == ("before", stars.rows, stars.rows)


def test_a_listener_of_progress_that_throws_does_no_harm(world, pool_on):
    def throw(stage, done, total):
        raise RuntimeError("the terminal is gone")

    [card] = pool_on(StandIn(), on_progress=throw).score("before", world.base, "test", ["echo"]).result(WAIT)
    assert card.error is None


def test_closing_in_the_middle_is_no_failure(world, pool_on, events):
    pool = pool_on(StandIn(None, HANG))
    future = pool.score("before", world.base, "test")
    pool.close()
    assert {card.error for card in future.result(WAIT)} == {"evaluation was closed"}
    assert events == []
