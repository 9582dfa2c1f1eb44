"""A stage scored in this process, on real shards with a real (random) model."""

from dataclasses import replace

import pytest

from data_prep.shards.text_reader import read_rows
from raytrain.evaluation.results import Stage, read_card, read_predictions
from raytrain.generation.generator import Generator, load_model
from raytrain.generation.requests import Generation
from raytrain_core.errors import DataError, StorageError

BASELINES = {"text": {"most-frequent", "copy"}, "rating": {"most-frequent"}, "question-answering": {"most-frequent"}}


class CountingGenerator:
    """Generates with the real model and counts the calls."""

    def __init__(self, world):
        self.world, self.calls, self.loaded = world, 0, {}

    def __call__(self, model, requests):
        self.calls += 1
        if model.digest not in self.loaded:
            world = self.world
            loaded = load_model(
                model,
                world.base,
                store=world.store,
                cache_folder=world.folder / "cache",
                tokenizer_size=world.tokenizer.size,
            )
            self.loaded[model.digest] = Generator(loaded, world.tokenizer, world.limits, device="cpu")
        return self.loaded[model.digest].generate(requests)


def test_a_stage_is_scored_once_and_read_back(world, score_locally):
    generate = CountingGenerator(world)
    stage = Stage("before", world.base, "test")
    cards = score_locally(world.evaluator(), generate, stage)
    assert [card.task for card in cards] == ["echo", "stars", "first"]
    assert [card.primary_metric for card in cards] == ["rougeL", "accuracy", "exact_match"]
    assert [card.probe for card in cards] == [False, False, True]
    assert all(card.error is None and 1 < card.rows <= 12 and card.scored == card.rows for card in cards)
    for card in cards:
        assert read_card(world.store, world.layout, "before", card.task) == card
        assert card.baselines.keys() - {"own-answer"} == BASELINES[card.type]
        assert sum(part["rows"] for part in card.by_length.values()) == card.rows
        assert card.metrics["perplexity"].value > 1
        assert all(score.error is None for score in card.metrics.values())
        assert sum(part["rows"] for part in card.by_template.values()) == card.rows
        rows = {
            row.id: row for row in read_rows(world.shard_set, card.task, "test", world.store, world.evaluator().cache)
        }
        for row in read_predictions(world.store, world.layout, "before", card.task):
            assert (row.input, list(row.targets)) == (rows[row.id].input, rows[row.id].targets)
    calls = generate.calls
    assert calls > 0
    assert score_locally(world.evaluator(), generate, stage) == cards
    assert generate.calls == calls


def test_another_model_or_protocol_is_scored_again(world, score_locally):
    generate = CountingGenerator(world)
    first = score_locally(world.evaluator(), generate, Stage("after", world.base, "test"), ["echo"])
    for evaluator, model in (
        (world.evaluator(), replace(world.base, digest="another")),
        (world.evaluator(limits=replace(world.limits, max_new_tokens=3)), world.base),
        (world.evaluator(examples_per_task=5), world.base),
    ):
        calls = generate.calls
        again = score_locally(evaluator, generate, Stage("after", model, "test"), ["echo"])
        assert generate.calls > calls
        assert again != first
    calls = generate.calls
    batch = world.evaluator(limits=replace(world.limits, batch_size=2), examples_per_task=5)  # not part of the protocol
    score_locally(batch, generate, Stage("after", world.base, "test"), ["echo"])
    assert generate.calls == calls


def test_damaged_scores_are_computed_again(world, score_locally):
    generate, stage = CountingGenerator(world), Stage("before", world.base, "test")
    cards = score_locally(world.evaluator(), generate, stage, ["stars"])
    world.store.put(f"{world.layout.scores('before', 'stars')}/scores.json", b"{}")
    again = score_locally(world.evaluator(), generate, stage, ["stars"])
    assert replace(again[0], seconds=0) == replace(cards[0], seconds=0)


def test_a_checkpoint_and_its_export_generate_the_same(world, score_locally):
    generate = CountingGenerator(world)
    checkpoint = world.checkpoint(7)
    exported = world.export(checkpoint)
    for stage in (
        Stage("before", world.base, "test"),
        Stage("step-000007", checkpoint, "test"),
        Stage("after", exported, "test"),
    ):
        assert score_locally(world.evaluator(), generate, stage, ["echo"])[0].error is None
    texts = {
        stage: [p.prediction for p in read_predictions(world.store, world.layout, stage, "echo")]
        for stage in ("before", "step-000007", "after")
    }
    assert texts["step-000007"] == texts["after"] != texts["before"]


def test_the_same_rows_are_scored_each_time(world):
    few, many = world.evaluator(examples_per_task=4), world.evaluator(examples_per_task=12)
    assert few.examples("echo", "test") == world.evaluator(examples_per_task=4).examples("echo", "test")
    assert len(few.examples("echo", "test")) == 4
    assert {e.id for e in few.examples("echo", "test")} <= {e.id for e in many.examples("echo", "test")}


def test_correct_predictions_score_one_and_baselines_do_not_change(world, score_locally):
    evaluator, stage = world.evaluator(), Stage("after", world.base, "validation")
    before = score_locally(evaluator, lambda m, p: [Generation("", 0, False)] * len(p), stage, ["echo"])[0]
    assert before.value == 0
    correct = {e.input: e.targets[0] for e in evaluator.examples("echo", "validation")}
    perfect = replace(stage, model=replace(world.base, digest="perfect"))
    after = score_locally(
        evaluator, lambda m, p: [Generation(correct[q.prompt], 1, False) for q in p], perfect, ["echo"]
    )[0]
    assert after.value == 1
    values = [{name: score.value for name, score in card.baselines.items()} for card in (before, after)]
    assert values[0] == values[1]
    assert 0 < after.baselines["copy"].value <= 1


def test_a_failed_scoring_gives_a_card_with_the_reason(world):
    first = world.evaluator().failed_card(Stage("before", world.base, "test"), "first", "out of memory")
    assert first.error == "out of memory"
    assert (first.value, first.rows, first.task, first.probe) == (None, 0, "first", True)


def test_a_guard_stops_the_commit(world, score_locally):
    def guard():
        raise StorageError("a newer attempt runs")

    with pytest.raises(StorageError, match="a newer attempt runs"):
        score_locally(
            world.evaluator(guard=guard), CountingGenerator(world), Stage("before", world.base, "test"), ["echo"]
        )
    assert read_card(world.store, world.layout, "before", "echo") is None


def test_a_split_without_rows_is_reported(world):
    task = world.shard_set.task("first")
    without = replace(task, splits={"test": task.splits["test"]})
    evaluator = world.evaluator(shard_set=replace(world.shard_set, tasks=(without,)))
    with pytest.raises(DataError, match="no validation rows"):
        evaluator.examples("first", "validation")
