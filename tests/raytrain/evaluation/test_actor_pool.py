"""Stages scored on real Ray actors: what a lost actor held is scored again."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from raytrain.evaluation.actor import ActorSettings, EvaluationActor
from raytrain.evaluation.actor_pool import ActorPool, PoolSettings
from raytrain.evaluation.metrics import METRICS
from raytrain.evaluation.results import Stage, read_card, read_predictions
from raytrain.evaluation.stage_scorer import StageScorer
from raytrain.generation.generator import Generator, load_model
from raytrain_core.errors import StorageError

# Many actors on one machine: minutes where it is busy, so `make test-all`. The tiny run in
# tests/raytrain/pipeline scores with the same pool in `make test`, and
# test_actor_pool_failures.py needs no Ray.
pytestmark = [pytest.mark.ray, pytest.mark.slow]

WAIT = 400  # seconds; a test that needs them has failed


@pytest.fixture(scope="module")
def cluster():
    ray.init(address="local", num_cpus=5, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def events():
    return []


@pytest.fixture
def scorer_with(world, cluster, events):
    """Stage scorers, each with a pool of its own, that are closed at the end of the test."""
    scorers = []

    def make(*, evaluator=None, actor=EvaluationActor, events=events, **settings):
        def on_event(kind, message, **fields):
            events.append((kind, message, fields))

        actor_settings = ActorSettings(
            store=world.store,
            shard_set=world.shard_set.digest,
            base=world.base,
            cache_folder=world.folder / "cache",
            limits=world.limits,
            device="cpu",
        )
        pool = ActorPool(actor, actor_settings, PoolSettings(**settings), on_event=on_event)
        scorer = StageScorer(evaluator or world.evaluator(), pool, on_event=on_event)
        scorers.append(scorer)
        return scorer

    yield make
    for scorer in scorers:
        scorer.close()


def kinds(events):
    return [kind for kind, _, _ in events]


def timeless(cards):
    return [replace(card, seconds=0.0) for card in cards]


def fake(folder: Path, behave: str):
    """An actor class (pickled by value) without a model; adds a line to `folder`/calls per call.

    It answers at once, but `behave`s where a prompt contains "which".
    """

    class Actor:
        def __init__(self, settings):
            self.folder = folder

        def generate(self, model, requests, batch_size):
            import os
            import signal

            from raytrain.generation.requests import Generation
            from raytrain_core.errors import DataError

            with (self.folder / "calls").open("a") as file:
                file.write(f"{os.getpid()} {model.digest} {len(requests)}\n")
            if "which" in requests[0].prompt:
                if behave == "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                if behave == "die once" and not (self.folder / "died").exists():
                    (self.folder / "died").touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                if behave == "refuse":
                    raise DataError("that cannot be answered", hint="never")
                if behave == "throw":
                    raise RuntimeError("CUDA out of memory\nlong story")
                if behave == "throw once" and not (self.folder / "thrown").exists():
                    (self.folder / "thrown").touch()
                    raise RuntimeError("a hiccup")
            return [Generation(request.prompt[-3:], 1, False) for request in requests]

    return Actor


def calls(folder):
    return (folder / "calls").read_text().splitlines()


@pytest.fixture
def scored_locally(world, score_locally):
    """The same stage without Ray, under another run's name: its cards and its layout."""

    def score(stage, **limits):
        options = {"store": world.store, "cache_folder": world.folder / "cache", "tokenizer_size": world.tokenizer.size}
        limits = replace(world.limits, **limits)
        decoder = Generator(load_model(stage.model, world.base, **options), world.tokenizer, limits, device="cpu")
        layout = replace(world.layout, name=f"{world.layout.name}-here")
        evaluator = world.evaluator(layout=layout, limits=limits)
        return score_locally(evaluator, lambda model, requests: decoder.generate(requests), stage), layout

    return score


def test_actors_give_the_same_scores_as_this_process(world, scorer_with, events, scored_locally):
    checkpoint = world.checkpoint(11)
    scorer = scorer_with(actors=2)
    before = scorer.score("before", world.base, "test")
    middle = scorer.score("step-000011", checkpoint, "validation", ["first", "echo"])
    assert timeless(before.result(WAIT)) == timeless(scored_locally(Stage("before", world.base, "test"))[0])
    assert [card.task for card in middle.result(WAIT)] == ["first", "echo"]
    assert [card.step for card in middle.result()] == [11, 11]
    for stage, task in (("before", "echo"), ("before", "stars"), ("step-000011", "first")):
        card = read_card(world.store, world.layout, stage, task)
        assert card is not None
        predictions = read_predictions(world.store, world.layout, stage, task)
        sums = [sum(column) for column in zip(*(p.stats for p in predictions), strict=True)]
        assert METRICS[card.primary_metric].combine(sums) == card.value
    assert kinds(events) == ["EvaluationFinished"] * 5


def test_killing_an_actor_changes_no_score(world, scorer_with, events, tmp_path, scored_locally):
    """SIGKILL for the real actor while it holds the model and has served a part of the stage."""
    checkpoint = world.checkpoint(12, noise=0.3)
    expected, undisturbed = scored_locally(Stage("after", checkpoint, "test"), batch_size=2)
    assert all(card.error is None for card in expected)

    marks = tmp_path

    class Mortal(EvaluationActor):
        """Hangs in the fourth call of its first life."""

        def generate(self, model, requests, batch_size):
            generations = super().generate(model, requests, batch_size)
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls == 4 and not (marks / "pid").exists():
                (marks / "pid.part").write_text(str(os.getpid()))
                (marks / "pid.part").rename(marks / "pid")
                time.sleep(3600)
            return generations

    evaluator = world.evaluator(limits=replace(world.limits, batch_size=2))
    scorer = scorer_with(evaluator=evaluator, actor=Mortal)
    future = scorer.score("after", checkpoint, "test")
    deadline = time.monotonic() + WAIT
    while not (marks / "pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not future.done()
    os.kill(int((marks / "pid").read_text()), signal.SIGKILL)
    assert timeless(future.result(WAIT)) == timeless(expected)
    for task in evaluator.tasks:
        rows = read_predictions(world.store, world.layout, "after", task)
        assert rows == read_predictions(world.store, undisturbed, "after", task)
    assert kinds(events).count("ActorRestarted") == 1
    assert "EvaluationFailed" not in kinds(events)


def test_the_number_of_actors_does_not_matter(world, scorer_with):
    """Real models: every prediction and every score, to the last bit."""
    model = world.checkpoint(14, noise=0.3)
    found = []
    for actors in (1, 2, 5):
        evaluator = world.evaluator(
            layout=replace(world.layout, name=f"{world.layout.name}-{actors}"),
            limits=replace(world.limits, batch_size=2),
        )
        scorer = scorer_with(evaluator=evaluator, actors=actors)
        cards = timeless(scorer.score("after", model, "test").result(WAIT))
        rows = {task: read_predictions(world.store, evaluator.layout, "after", task) for task in evaluator.tasks}
        assert sum(len(evaluator.chunks(task, "test")) for task in evaluator.tasks) >= 5
        found.append((cards, rows))
        scorer.close()
    assert found[0] == found[1] == found[2]


def test_stored_scores_are_not_computed_again(world, scorer_with, tmp_path):
    first = scorer_with(actor=fake(tmp_path, "")).score("before", world.base, "test").result(WAIT)
    asked = len(calls(tmp_path))
    scorer = scorer_with(actor=fake(tmp_path, ""))
    assert scorer.score("before", world.base, "test").result(WAIT) == first
    assert len(calls(tmp_path)) == asked
    scorer.score("before", replace(world.base, digest="another"), "test", ["echo"]).result(WAIT)
    assert len(calls(tmp_path)) > asked


@pytest.mark.parametrize("behave", ["die once", "throw once"])
def test_one_accident_changes_no_score(world, scorer_with, events, tmp_path, behave):
    cards = scorer_with(actor=fake(tmp_path, behave)).score("before", world.base, "test").result(WAIT)
    assert [card.error for card in cards] == [None] * 3
    assert kinds(events).count("ActorRestarted") == (behave == "die once")
    elsewhere = world.evaluator(layout=replace(world.layout, name=f"{world.layout.name}-2"))
    undisturbed = scorer_with(evaluator=elsewhere, actor=fake(tmp_path, ""))
    assert timeless(undisturbed.score("before", world.base, "test").result(WAIT)) == timeless(cards)


@pytest.mark.parametrize(
    ("behave", "reason", "tries"),
    [("die", "were lost 3 times over the same examples", 3), ("throw", "RuntimeError: CUDA out of memory", 3),
     ("refuse", "that cannot be answered", 1)],
)  # fmt: skip
def test_only_the_task_that_cannot_be_scored_is_given_up(world, scorer_with, events, tmp_path, behave, reason, tries):
    scorer = scorer_with(actor=fake(tmp_path, behave))
    echo, stars, first = scorer.score("before", world.base, "test").result(WAIT)
    assert (echo.error, stars.error) == (None, None)
    assert reason in first.error
    assert first.value is None
    assert read_card(world.store, world.layout, "before", "first") is None
    assert kinds(events).count("EvaluationFailed") == 1
    others = sum(len(world.evaluator().chunks(card.task, "test")) for card in (echo, stars))
    assert len(calls(tmp_path)) == others + tries
    assert scorer.score("after", world.base, "test", ["echo"]).result(WAIT)[0].error is None


def test_without_any_actor_left_tasks_fail_with_the_reason(world, scorer_with, events, tmp_path):
    scorer = scorer_with(actor=fake(tmp_path, "die"), max_restarts=0)
    [first] = scorer.score("before", world.base, "test", ["first"]).result(WAIT)
    assert "no evaluation actor is left" in first.error
    [later] = scorer.score("after", world.base, "test", ["echo"]).result(WAIT)
    assert "no evaluation actor is left" in later.error
    assert "ActorLost" in kinds(events)


def test_an_actor_that_cannot_start_is_reported_as_the_reason(world, scorer_with, tmp_path):
    class Stillborn:
        def __init__(self, settings):
            raise RuntimeError("no GPU in sight")

        def generate(self, model, requests, batch_size):
            return []

    [card] = scorer_with(actor=Stillborn).score("before", world.base, "test", ["echo"]).result(WAIT)
    assert "no GPU in sight" in card.error


def test_a_superseded_attempt_stores_nothing(world, scorer_with, tmp_path):
    def guard():
        raise StorageError("a newer attempt runs")

    scorer = scorer_with(evaluator=world.evaluator(guard=guard), actor=fake(tmp_path, ""))
    [card] = scorer.score("before", world.base, "test", ["echo"]).result(WAIT)
    assert "a newer attempt runs" in card.error
    assert read_card(world.store, world.layout, "before", "echo") is None


def test_a_metric_that_fails_is_reported_on_the_card(world, scorer_with, tmp_path, monkeypatch):
    monkeypatch.setattr(METRICS["accuracy"].__class__, "value", lambda *a: 1 / 0)
    echo, stars = (
        scorer_with(actor=fake(tmp_path, "")).score("before", world.base, "test", ["echo", "stars"]).result(WAIT)
    )
    assert echo.error is None
    assert (stars.error, stars.value, stars.scored) == (None, None, 0)
    assert "ZeroDivisionError" in stars.metrics["accuracy"].error
    assert stars.metrics["mae"].rows == stars.rows > 0
    assert read_card(world.store, world.layout, "before", "stars") == stars


def test_failing_callbacks_and_empty_stages_are_harmless(world, scorer_with, tmp_path):
    class Listener(list):
        def append(self, event):
            raise RuntimeError("the disk is full")

    scorer = scorer_with(actor=fake(tmp_path, ""), events=Listener())
    assert scorer.score("before", world.base, "test", []).result(WAIT) == ()
    with pytest.raises(ValueError, match="no such task: ecko"):
        scorer.score("before", world.base, "test", ["echo", "ecko"])
    [card] = scorer.score("before", world.base, "test", ["echo"]).result(WAIT)
    assert card.error is None


def test_closing_gives_up_open_stages_without_calling_it_a_failure(world, scorer_with, events):
    class Slow:
        def __init__(self, settings):
            pass

        def generate(self, model, requests, batch_size):
            time.sleep(3600)

    scorer = scorer_with(actor=Slow)
    first, second = (scorer.score(stage, world.base, "test", ["echo"]) for stage in ("before", "after"))
    scorer.close()
    late = scorer.score("later", world.base, "test", ["echo"])
    for future in (first, second, late):
        assert [card.error for card in future.result(WAIT)] == ["evaluation was closed"]
    assert events == []


def test_killing_all_actors_at_once_changes_no_score(world, scorer_with, events, tmp_path):
    """SIGKILL for every actor while each of them holds a chunk."""
    marks = tmp_path / "marks"
    marks.mkdir()

    class Mortal(fake(tmp_path, "")):
        """The first two hang in their first call."""

        def generate(self, model, requests, batch_size):
            if len(list(marks.iterdir())) < 2:
                (marks / str(os.getpid())).touch()
                time.sleep(3600)
            return super().generate(model, requests, batch_size)

    scorer = scorer_with(actors=2, actor=Mortal)
    future = scorer.score("before", world.base, "test")
    deadline = time.monotonic() + WAIT
    while len(pids := list(marks.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for pid in pids:
        os.kill(int(pid.name), signal.SIGKILL)
    cards = future.result(WAIT)
    assert [card.error for card in cards] == [None] * 3
    assert kinds(events).count("ActorRestarted") == 2
    elsewhere = world.evaluator(layout=replace(world.layout, name=f"{world.layout.name}-2"))
    undisturbed = scorer_with(evaluator=elsewhere, actor=fake(tmp_path, ""))
    assert timeless(undisturbed.score("before", world.base, "test").result(WAIT)) == timeless(cards)
