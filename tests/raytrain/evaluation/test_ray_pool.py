"""The pool on real Ray actors: what dies is scored again, and nothing of it reaches the caller."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from raytrain.evaluation.evaluator import Stage
from raytrain.evaluation.metrics import METRICS
from raytrain.evaluation.ray_pool import ActorSettings, EvaluationPool
from raytrain.evaluation.results import read_card, read_predictions
from raytrain.generation.generator import Generator, load_model
from raytrain_core.errors import StorageError

# Many actors on one machine: minutes where it is busy, so `make test-all`. The tiny run in
# tests/raytrain/pipeline scores with the same pool in `make test`, and
# test_evaluation_pool_troubles.py needs no Ray.
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
def pool_of(world, cluster, events):
    """Pools that are closed at the end of the test."""
    pools = []

    def make(*, evaluator=None, events=events, **options):
        settings = ActorSettings(
            store=world.store,
            shard_set=world.shard_set.digest,
            base=world.base,
            cache_folder=world.folder / "cache",
            limits=world.limits,
            device="cpu",
        )
        pool = EvaluationPool(
            evaluator or world.evaluator(),
            settings,
            on_event=lambda kind, message, **fields: events.append((kind, message, fields)),
            **options,
        )
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close()


def kinds(events):
    return [kind for kind, _, _ in events]


def timeless(cards):
    return [replace(card, seconds=0.0) for card in cards]


def fake(folder: Path, behave: str):
    """An actor class (pickled by value) without a model: it answers at once, but `behave`s where a prompt has "which".

    It leaves a line in `folder`/calls for each call.
    """

    class Actor:
        def __init__(self, settings):
            self.folder = folder

        def generate(self, model, questions, batch_size):
            import os
            import signal

            from raytrain.generation.requests import Generation
            from raytrain_core.errors import DataError

            with (self.folder / "calls").open("a") as file:
                file.write(f"{os.getpid()} {model.digest} {len(questions)}\n")
            if "which" in questions[0].prompt:
                if behave == "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                if behave == "die once":
                    try:
                        (self.folder / "died").touch(exist_ok=False)
                    except FileExistsError:
                        pass
                    else:
                        os.kill(os.getpid(), signal.SIGKILL)
                if behave == "refuse":
                    raise DataError("that cannot be answered", hint="never")
                if behave == "throw":
                    raise RuntimeError("CUDA out of memory\nlong story")
                if behave == "throw once" and not (self.folder / "thrown").exists():
                    (self.folder / "thrown").touch()
                    raise RuntimeError("a hiccup")
            return [Generation(question.prompt[-3:], 1, False) for question in questions]

    return Actor


def calls(folder):
    return (folder / "calls").read_text().splitlines()


@pytest.fixture
def scored_here(world, score_locally):
    """The same stage without Ray, under another run's name: its cards and its layout."""

    def score(stage, **limits):
        options = {"store": world.store, "cache_folder": world.folder / "cache", "tokenizer_size": world.tokenizer.size}
        limits = replace(world.limits, **limits)
        decoder = Generator(load_model(stage.model, world.base, **options), world.tokenizer, limits, device="cpu")
        layout = replace(world.layout, name=f"{world.layout.name}-here")
        evaluator = world.evaluator(layout=layout, limits=limits)
        return score_locally(evaluator, lambda model, questions: decoder.generate(questions), stage), layout

    return score


def test_a_stage_on_actors_is_the_stage_in_process(world, pool_of, events, scored_here):
    checkpoint = world.checkpoint(11)
    pool = pool_of(actors=2)
    before = pool.score("before", world.base, "test")
    middle = pool.score("step-000011", checkpoint, "validation", ["first", "echo"])
    assert timeless(before.result(WAIT)) == timeless(scored_here(Stage("before", world.base, "test"))[0])
    assert [card.task for card in middle.result(WAIT)] == ["first", "echo"]
    assert [card.step for card in middle.result()] == [11, 11]
    for stage, task in (("before", "echo"), ("before", "stars"), ("step-000011", "first")):
        card = read_card(world.store, world.layout, stage, task)
        assert card is not None
        predictions = read_predictions(world.store, world.layout, stage, task)
        sums = [sum(column) for column in zip(*(p.stats for p in predictions), strict=True)]
        assert METRICS[card.primary_metric].combine(sums) == card.value
    assert kinds(events) == ["EvaluationFinished"] * 5


def test_an_actor_killed_in_mid_score_changes_nothing(world, pool_of, events, tmp_path, scored_here):
    """kill -9 of the real actor while it holds the model and has answered a part of the stage."""
    checkpoint = world.checkpoint(12, noise=0.3)
    wanted, undisturbed = scored_here(Stage("after", checkpoint, "test"), batch_size=2)
    assert all(card.error is None for card in wanted)

    from raytrain.evaluation.ray_pool import EvaluationActor

    marks = tmp_path

    class Mortal(EvaluationActor):
        """Stops in its fourth answer of its first life and waits for the end."""

        def generate(self, model, questions, batch_size):
            answers = super().generate(model, questions, batch_size)
            self.answered = getattr(self, "answered", 0) + 1
            if self.answered == 4 and not (marks / "pid").exists():
                (marks / "pid.part").write_text(str(os.getpid()))
                (marks / "pid.part").rename(marks / "pid")
                time.sleep(3600)
            return answers

    evaluator = world.evaluator(limits=replace(world.limits, batch_size=2))
    pool = pool_of(evaluator=evaluator, actor=Mortal)
    future = pool.score("after", checkpoint, "test")
    deadline = time.monotonic() + WAIT
    while not (marks / "pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not future.done()
    os.kill(int((marks / "pid").read_text()), signal.SIGKILL)
    assert timeless(future.result(WAIT)) == timeless(wanted)
    for task in evaluator.tasks:
        rows = read_predictions(world.store, world.layout, "after", task)
        assert rows == read_predictions(world.store, undisturbed, "after", task)
    assert kinds(events).count("ActorRestarted") == 1
    assert "EvaluationFailed" not in kinds(events)


def test_the_number_of_actors_does_not_matter(world, pool_of):
    """Real models: every prediction and every score, to the last bit."""
    model = world.checkpoint(14, noise=0.3)
    found = []
    for actors in (1, 2, 5):
        evaluator = world.evaluator(
            layout=replace(world.layout, name=f"{world.layout.name}-{actors}"),
            limits=replace(world.limits, batch_size=2),
        )
        pool = pool_of(evaluator=evaluator, actors=actors)
        cards = timeless(pool.score("after", model, "test").result(WAIT))
        rows = {task: read_predictions(world.store, evaluator.layout, "after", task) for task in evaluator.tasks}
        assert sum(len(evaluator.chunks(task, "test")) for task in evaluator.tasks) >= 5
        found.append((cards, rows))
        pool.close()
    assert found[0] == found[1] == found[2]


def test_what_is_scored_already_is_not_asked_again(world, pool_of, tmp_path):
    first = pool_of(actor=fake(tmp_path, "")).score("before", world.base, "test").result(WAIT)
    asked = len(calls(tmp_path))
    pool = pool_of(actor=fake(tmp_path, ""))
    assert pool.score("before", world.base, "test").result(WAIT) == first
    assert len(calls(tmp_path)) == asked
    pool.score("before", replace(world.base, digest="another"), "test", ["echo"]).result(WAIT)
    assert len(calls(tmp_path)) > asked


@pytest.mark.parametrize("behave", ["die once", "throw once"])
def test_an_accident_is_made_good(world, pool_of, events, tmp_path, behave):
    cards = pool_of(actor=fake(tmp_path, behave)).score("before", world.base, "test").result(WAIT)
    assert [card.error for card in cards] == [None] * 3
    assert kinds(events).count("ActorRestarted") == (behave == "die once")
    elsewhere = world.evaluator(layout=replace(world.layout, name=f"{world.layout.name}-2"))
    undisturbed = pool_of(evaluator=elsewhere, actor=fake(tmp_path, ""))
    assert timeless(undisturbed.score("before", world.base, "test").result(WAIT)) == timeless(cards)


@pytest.mark.parametrize(
    ("behave", "reason", "tries"),
    [("die", "were lost 3 times over the same examples", 3), ("throw", "RuntimeError: CUDA out of memory", 3),
     ("refuse", "that cannot be answered", 1)],
)  # fmt: skip
def test_a_task_that_cannot_be_scored_is_given_up_and_the_others_are_not(
    world, pool_of, events, tmp_path, behave, reason, tries
):
    pool = pool_of(actor=fake(tmp_path, behave))
    echo, stars, first = pool.score("before", world.base, "test").result(WAIT)
    assert (echo.error, stars.error) == (None, None)
    assert reason in first.error
    assert first.value is None
    assert read_card(world.store, world.layout, "before", "first") is None
    assert kinds(events).count("EvaluationFailed") == 1
    others = sum(len(world.evaluator().chunks(card.task, "test")) for card in (echo, stars))
    assert len(calls(tmp_path)) == others + tries
    assert pool.score("after", world.base, "test", ["echo"]).result(WAIT)[0].error is None


def test_when_all_actors_are_spent_what_is_left_fails_with_the_reason(world, pool_of, events, tmp_path):
    pool = pool_of(actor=fake(tmp_path, "die"), max_restarts=0)
    [first] = pool.score("before", world.base, "test", ["first"]).result(WAIT)
    assert "no evaluation actor is left" in first.error
    [later] = pool.score("after", world.base, "test", ["echo"]).result(WAIT)
    assert "no evaluation actor is left" in later.error
    assert "ActorLost" in kinds(events)


def test_an_actor_that_cannot_start_is_a_reason_too(world, pool_of, tmp_path):
    class Stillborn:
        def __init__(self, settings):
            raise RuntimeError("no GPU in sight")

        def generate(self, model, questions, batch_size):
            return []

    [card] = pool_of(actor=Stillborn).score("before", world.base, "test", ["echo"]).result(WAIT)
    assert "no GPU in sight" in card.error


def test_a_superseded_attempt_stores_nothing(world, pool_of, tmp_path):
    def guard():
        raise StorageError("a newer attempt runs")

    pool = pool_of(evaluator=world.evaluator(guard=guard), actor=fake(tmp_path, ""))
    [card] = pool.score("before", world.base, "test", ["echo"]).result(WAIT)
    assert "a newer attempt runs" in card.error
    assert read_card(world.store, world.layout, "before", "echo") is None


def test_a_metric_that_throws_is_a_reason(world, pool_of, tmp_path, monkeypatch):
    monkeypatch.setattr(METRICS["accuracy"].__class__, "value", lambda *a: 1 / 0)
    echo, stars = pool_of(actor=fake(tmp_path, "")).score("before", world.base, "test", ["echo", "stars"]).result(WAIT)
    assert echo.error is None
    assert (stars.error, stars.value, stars.scored) == (None, None, 0)
    assert "ZeroDivisionError" in stars.metrics["accuracy"].error
    assert stars.metrics["mae"].rows == stars.rows > 0
    assert read_card(world.store, world.layout, "before", "stars") == stars


def test_listeners_that_throw_and_empty_stages_do_no_harm(world, pool_of, tmp_path):
    class Listener(list):
        def append(self, event):
            raise RuntimeError("the disk is full")

    pool = pool_of(actor=fake(tmp_path, ""), events=Listener())
    assert pool.score("before", world.base, "test", []).result(WAIT) == ()
    with pytest.raises(ValueError, match="no such task: ecko"):
        pool.score("before", world.base, "test", ["echo", "ecko"])
    [card] = pool.score("before", world.base, "test", ["echo"]).result(WAIT)
    assert card.error is None


def test_closing_gives_up_what_is_open_and_calls_it_no_failure(world, pool_of, events):
    class Slow:
        def __init__(self, settings):
            pass

        def generate(self, model, questions, batch_size):
            time.sleep(3600)

    pool = pool_of(actor=Slow)
    first, second = (pool.score(stage, world.base, "test", ["echo"]) for stage in ("before", "after"))
    pool.close()
    late = pool.score("later", world.base, "test", ["echo"])
    for future in (first, second, late):
        assert [card.error for card in future.result(WAIT)] == ["evaluation was closed"]
    assert events == []


def test_all_actors_killed_at_once_change_nothing(world, pool_of, events, tmp_path):
    """kill -9 of every actor while each of them holds work."""
    marks = tmp_path / "marks"
    marks.mkdir()

    class Mortal(fake(tmp_path, "")):
        """The first two wait for their end in their first answer."""

        def generate(self, model, questions, batch_size):
            if len(list(marks.iterdir())) < 2:
                (marks / str(os.getpid())).touch()
                time.sleep(3600)
            return super().generate(model, questions, batch_size)

    pool = pool_of(actors=2, actor=Mortal)
    future = pool.score("before", world.base, "test")
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
    undisturbed = pool_of(evaluator=elsewhere, actor=fake(tmp_path, ""))
    assert timeless(undisturbed.score("before", world.base, "test").result(WAIT)) == timeless(cards)
