"""Actors that hang, get no resources or are lost in rarer ways, on a stand-in for Ray."""

import time
from itertools import pairwise
from types import SimpleNamespace

import pytest
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayTaskError

from raytrain.evaluation import actor_pool
from raytrain.evaluation.actor import ActorSettings, EvaluationActor
from raytrain.evaluation.actor_pool import MAX_TRIES, ActorPool, PoolSettings
from raytrain.evaluation.stage_scorer import StageScorer
from raytrain.generation.requests import Generation

WAIT = 60  # seconds; a test that needs them has failed
HANG = object()


class StandIn:
    """The part of Ray that the pool uses: each call takes the next of `outcomes`, then all succeed.

    An outcome is an exception, HANG, None for success, or a function that returns whether the
    result is there.
    """

    def __init__(self, *outcomes):
        self.outcomes, self.started, self.killed, self.requests, self.sizes = list(outcomes), 0, [], [], []

    def remote(self, actor):
        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=self._start))

    def _start(self, settings):
        self.started += 1
        return SimpleNamespace(generate=SimpleNamespace(remote=self._generate), number=self.started)

    def _generate(self, model, requests, batch_size):
        self.requests.append(requests)
        self.sizes.append(batch_size)
        outcome = self.outcomes.pop(0) if self.outcomes else None
        generations = [Generation("x", 1, False)] * len(requests)
        return Reference(generations if outcome is None or callable(outcome) else outcome, outcome)

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
def scorer_on(world, monkeypatch, events, progress):
    """A stage scorer whose pool runs on a stand-in; closed at the end of the test."""
    scorers = []

    def make(stand_in, *, on_progress=lambda *call: progress.append(call), **settings):
        def on_event(kind, message, **fields):
            events.append((kind, message, fields))

        monkeypatch.setattr(actor_pool, "ray", stand_in)
        actor_settings = ActorSettings(
            world.store, world.shard_set.digest, world.base, world.folder / "cache", world.limits
        )
        pool = ActorPool(EvaluationActor, actor_settings, PoolSettings(**settings), on_event=on_event)
        scorer = StageScorer(world.evaluator(), pool, on_event=on_event, on_progress=on_progress)
        scorers.append(scorer)
        return scorer

    yield make
    for scorer in scorers:
        scorer.close()


def kinds(events):
    return [kind for kind, _, _ in events]


@pytest.mark.parametrize("error", [OutOfMemoryError("too much"), NodeDiedError("node n1 is gone")])
def test_a_lost_actor_is_replaced(world, scorer_on, events, error):
    stand_in = StandIn(error)
    [card] = scorer_on(stand_in).score("before", world.base, "test", ["echo"]).result(WAIT)
    assert card.error is None
    assert kinds(events) == ["ActorRestarted", "EvaluationFinished"]
    assert str(error) in events[0][1]
    assert stand_in.started == 2
    assert stand_in.killed == [1]  # it may still have been alive
    assert stand_in.requests[0] == stand_in.requests[1]


def test_a_ray_error_raised_inside_an_actor_is_not_a_lost_actor(world, scorer_on, events):
    """Ray raises it as both: a RayTaskError and the class of its cause."""
    raised = RayTaskError("answer", "traceback", OutOfMemoryError("in there")).as_instanceof_cause()
    assert isinstance(raised, OutOfMemoryError)
    stand_in = StandIn(raised)
    [card] = scorer_on(stand_in).score("before", world.base, "test", ["echo"]).result(WAIT)
    assert card.error is None
    assert kinds(events) == ["EvaluationFinished"]
    assert stand_in.started == 1


def test_out_of_memory_halves_the_batch_size(world, scorer_on, events):
    raised = RayTaskError("answer", "traceback", MemoryError("you tried to allocate a lot")).as_instanceof_cause()
    stand_in = StandIn(raised, OutOfMemoryError("the node is full"))
    [card] = scorer_on(stand_in).score("before", world.base, "test", ["echo"]).result(WAIT)
    assert (card.error, card.scored) == (None, card.rows)
    size = world.limits.batch_size
    assert stand_in.sizes[:3] == [size, size // 2, max(1, size // 4)]
    assert stand_in.requests[0] == stand_in.requests[1] == stand_in.requests[2]  # the same examples
    assert kinds(events) == ["ActorRestarted", "EvaluationFinished"]


def test_running_out_of_memory_every_time_fails_only_that_task(world, scorer_on):
    raised = RayTaskError("answer", "traceback", MemoryError("too much")).as_instanceof_cause()
    echo, stars = (
        scorer_on(StandIn(*[raised] * MAX_TRIES)).score("before", world.base, "test", ["echo", "stars"]).result(WAIT)
    )
    assert echo.error == f"out of memory with {max(1, world.limits.batch_size // 4)} examples at once: too much"
    assert stars.error is None


def test_an_actor_that_hangs_is_killed_and_its_chunk_retried(world, scorer_on, events):
    stand_in = StandIn(None, HANG)
    [card] = scorer_on(stand_in, chunk_timeout=0.05).score("before", world.base, "test", ["echo"]).result(WAIT)
    assert (card.error, card.scored) == (None, card.rows)
    assert kinds(events) == ["ActorRestarted", "EvaluationFinished"]
    assert "no result within 0.05 s" in events[0][1]
    assert stand_in.killed == [1]
    assert stand_in.requests[1] == stand_in.requests[2]


def test_a_chunk_that_always_hangs_is_given_up(world, scorer_on, events):
    stand_in = StandIn(*[HANG] * MAX_TRIES)
    scorer = scorer_on(stand_in, chunk_timeout=0.02)
    echo, stars = scorer.score("before", world.base, "test", ["echo", "stars"]).result(WAIT)
    assert (
        echo.error == f"evaluation actors were lost {MAX_TRIES} times over the same examples: no result within 0.02 s"
    )
    assert stars.error is None


def test_an_actor_that_is_slow_to_start_is_mentioned_once(world, scorer_on, events):
    looks = []

    def started():
        """Whether the pool has polled often enough after its event to have emitted another."""
        looks.extend(events)
        return len(looks) > 20

    scorer = scorer_on(StandIn(started), startup_notice=0.02, cpus=3, gpus=1)
    [card] = scorer.score("before", world.base, "test", ["echo"]).result(WAIT)
    assert card.error is None
    (kind, message, fields), finished = events
    assert (kind, finished[0]) == ("ActorWaiting", "EvaluationFinished")
    assert "waits for resources in the cluster (3 CPU, 1 GPU)" in message
    assert (fields["stage"], fields["actor"]) == ("before", 0)


def test_an_actor_that_has_worked_is_not_called_slow_to_start(world, scorer_on, events):
    scorer = scorer_on(StandIn(None, HANG), startup_notice=0.01, chunk_timeout=0.2)
    scorer.score("before", world.base, "test", ["echo"]).result(WAIT)
    assert kinds(events) == ["ActorRestarted", "EvaluationFinished"]


def test_progress_counts_the_examples_of_a_stage(world, scorer_on, progress):
    cards = scorer_on(StandIn()).score("before", world.base, "test").result(WAIT)
    total = sum(card.rows for card in cards)
    assert {(stage, everything) for stage, _, everything in progress} == {("before", total)}
    done = [done for _, done, _ in progress]
    assert done == sorted(set(done))  # each step is reported once
    assert (done[0], done[-1]) == (0, total)
    assert max(b - a for a, b in pairwise(done)) <= 2 * world.limits.batch_size


def test_progress_begins_with_stored_scores(world, scorer_on, progress):
    scorer = scorer_on(StandIn())
    [echo] = scorer.score("before", world.base, "test", ["echo"]).result(WAIT)
    progress.clear()
    _, stars = scorer.score("before", world.base, "test", ["echo", "stars"]).result(WAIT)
    assert progress[0] == ("before", echo.rows, echo.rows + stars.rows)
    assert progress[-1] == ("before", echo.rows + stars.rows, echo.rows + stars.rows)


def test_a_task_that_is_given_up_leaves_the_total(world, scorer_on, progress):
    scorer = scorer_on(StandIn(*[NodeDiedError("gone")] * MAX_TRIES))
    echo, stars = scorer.score("before", world.base, "test", ["echo", "stars"]).result(WAIT)
    assert echo.error is not None
    assert progress[-1] == ("before", stars.rows, stars.rows)


def test_a_failing_progress_callback_is_harmless(world, scorer_on):
    def throw(stage, done, total):
        raise RuntimeError("the terminal is gone")

    [card] = scorer_on(StandIn(), on_progress=throw).score("before", world.base, "test", ["echo"]).result(WAIT)
    assert card.error is None


def test_closing_in_the_middle_is_not_a_failure(world, scorer_on, events):
    scorer = scorer_on(StandIn(None, HANG))
    future = scorer.score("before", world.base, "test")
    scorer.close()
    assert {card.error for card in future.result(WAIT)} == {"evaluation was closed"}
    assert events == []
