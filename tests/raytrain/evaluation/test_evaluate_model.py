"""`raytrain evaluate`: any model on a job's tasks, in this process."""

import json
from dataclasses import replace

import pytest

from raytrain.cli import render
from raytrain.config.run_layout import EvaluationLayout, RunLayout
from raytrain.evaluation import local
from raytrain.evaluation.evaluate_model import evaluate_model, evaluation_name
from raytrain.evaluation.results import BaselineScore, MetricScore, ScoreCard, Stage, read_card, write_scores
from raytrain.generation.generator import Generator, load_model
from raytrain.generation.requests import Generation
from raytrain.report.leaderboard import rank_models
from raytrain.telemetry.progress import Progress
from raytrain_core.errors import TrainingError, UsageError
from raytrain_core.storage import open_store


@pytest.fixture
def scored(world, tmp_path, monkeypatch):
    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path / "cache"))

    def score(target, **options):
        options = {"storage": str(world.folder / "store"), "base_folder": world.folder, **options}
        return evaluate_model(target, world.job, **options)

    return score


def test_a_model_folder_is_scored_like_a_run_and_its_scores_are_stored(world, scored, score_locally):
    progress = []
    found = scored(str(world.folder / "model"), on_progress=lambda *call: progress.append(call))
    spec = world.job.spec
    limits = replace(
        world.limits, max_new_tokens=spec.training.max_target_tokens, batch_size=spec.evaluation.batch_size
    )
    evaluator = world.evaluator(limits=limits, examples_per_task=spec.evaluation.examples_per_task)
    options = {"store": world.store, "cache_folder": world.folder / "c", "tokenizer_size": world.tokenizer.size}
    generator = Generator(load_model(world.base, world.base, **options), world.tokenizer, limits, device="cpu")
    cards = score_locally(
        evaluator, lambda m, requests: generator.generate(requests), Stage("test", world.base, "test")
    )
    assert [replace(c, seconds=0) for c in found.cards] == [replace(c, seconds=0) for c in cards]
    assert read_card(world.store, EvaluationLayout(found.name), "test", "echo") == found.cards[0]
    assert progress[-1][0] == progress[-1][1] == sum(card.rows for card in found.cards)
    progress.clear()
    assert scored(str(world.folder / "model"), on_progress=lambda *call: progress.append(call)) == found
    assert progress == []  # nothing was generated again


def test_only_requested_tasks_and_rows_are_scored(scored, world):
    found = scored(str(world.folder / "model"), tasks=["stars"], split="validation")
    assert [(card.task, card.split) for card in found.cards] == [("stars", "validation")]
    with pytest.raises(UsageError, match="no task 'star', did you mean stars"):
        scored(str(world.folder / "model"), tasks=["star"])


def test_a_run_is_named_by_its_name_or_uri(world, scored):
    world.export(world.checkpoint(31))
    by_name = scored(world.layout.name, tasks=["echo"])
    by_uri = scored(f"{world.folder}/store/runs/{world.layout.name}", tasks=["echo"])
    assert by_name.cards[0].metrics == by_uri.cards[0].metrics
    assert by_name.cards[0].model["digest"] != world.base.digest


def test_a_missing_model_is_reported(scored):
    with pytest.raises(TrainingError, match="there is no folder"):
        scored("./nowhere")


def test_names_are_readable_and_unique_to_models():
    assert evaluation_name("google/flan-t5-small", "ab" * 32) == "flan-t5-small-abababababab"
    assert evaluation_name("/x/My Model/", "cd" * 32) == "my-model-cdcdcdcdcdcd"
    assert evaluation_name("///", "ef" * 32) == "model-efefefefefef"


def test_out_of_memory_halves_the_batch_size(world):
    sizes = []

    class Small:
        def generate(self, requests, *, batch_size):
            sizes.append(batch_size)
            if batch_size > 1:
                raise MemoryError("too much")
            return [Generation("x", 1, False)] * len(requests)

    [card] = local.score_locally(world.evaluator(), Stage("test", world.base, "test"), Small, tasks=["echo"])
    assert card.scored == card.rows
    assert sizes[:3] == [5, 2, 1]

    class Full(Small):
        def generate(self, requests, *, batch_size):
            raise MemoryError("too much")

    with pytest.raises(TrainingError, match="one example at a time"):
        local.score_locally(world.evaluator(), Stage("after", world.base, "test"), Full, tasks=["echo"])


def test_the_leaderboard_ranks_runs_and_models(world, scored, tmp_path, score_locally):
    storage = str(tmp_path / "board")
    model = scored(str(world.folder / "model"), storage=storage, tasks=["echo", "stars"])
    store = open_store(storage)
    assert [e.name for e in rank_models(store).entries] == [model.name]
    spec = world.job.spec
    limits = replace(
        world.limits, max_new_tokens=spec.training.max_target_tokens, batch_size=spec.evaluation.batch_size
    )
    options = {"limits": limits, "examples_per_task": spec.evaluation.examples_per_task}
    evaluator = world.evaluator(layout=RunLayout("perfect"), **options)
    correct = {e.input: e.targets[0] for task in ("echo", "stars") for e in evaluator.examples(task, "test")}
    stage = Stage("after", replace(world.base, digest="perfect"), "test")
    score_locally(
        evaluator, lambda m, q: [Generation(correct[x.prompt], 1, False) for x in q], stage, ["echo", "stars"]
    )
    for stat in list(world.store.list("runs/perfect/")):
        store.put(stat.key, world.store.get(stat.key))
    board = rank_models(store)
    assert [(e.name, e.kind, e.rank) for e in board.entries] == [("perfect", "run", 1.0), (model.name, "model", 2.0)]
    assert [c.label for c in board.columns] == ["echo rougeL", "stars accuracy"]
    assert board.entries[0].scores[0][0] == 1.0
    few = world.evaluator(layout=RunLayout("few"), limits=limits, examples_per_task=3)
    score_locally(few, lambda m, q: [Generation(correct[x.prompt], 1, False) for x in q], stage, ["echo"])
    for stat in list(world.store.list("runs/few/")):
        store.put(stat.key, world.store.get(stat.key))
    assert len(rank_models(store).columns) == 3  # other rows are another column


def write_card(store, name, task="stars", *, value=0.5, layout=RunLayout, stage="after", **changes):
    accuracy = MetricScore(value, value - 0.1, value + 0.1, "higher", "percent", 10)
    model = {"kind": "run", "uri": name, "digest": name}
    card = ScoreCard(stage, task, "rating", False, "test", 1, model, 10, 10, "accuracy", {"accuracy": accuracy})
    card = replace(card, **{"rows_digest": "the same", **changes})
    write_scores(store, layout(name), card, [], fingerprint="any")


@pytest.fixture
def board(tmp_path):
    return open_store(str(tmp_path / "board"))


def test_the_same_rows_are_one_column_whatever_the_baselines(board):
    """The most frequent label comes from training rows, which a probe does not have."""
    for name, probe, baseline in (("one", True, 0.2), ("two", False, 0.3)):
        write_card(board, name, probe=probe, baselines={"most-frequent": BaselineScore(baseline)})
    assert len(rank_models(board).columns) == 1


def test_other_limits_and_inputs_are_other_columns_unless_forced(board):
    write_card(board, "long", value=0.9, protocol={"max_input_tokens": 512})
    write_card(board, "short", value=0.4, protocol={"max_input_tokens": 160})
    found = rank_models(board)
    assert len(found.columns) == 2
    assert [entry.rank for entry in found.entries] == [None, None]
    assert "no ranks" in render.leaderboard(found)
    forced = rank_models(board, force=True)
    assert [(entry.name, entry.rank) for entry in forced.entries] == [("long", 1.0), ("short", 2.0)]
    assert forced.mixed == ("stars accuracy: max input tokens: 512 and 160",)
    assert "NOT COMPARABLE" in render.leaderboard(forced)


def test_nobody_is_first_in_a_column_that_it_has_alone(board):
    for name, value in (("good", 0.9), ("bad", 0.2)):
        write_card(board, name, value=value)
    write_card(board, "bad", "alone", value=0.1)
    found = rank_models(board)
    assert [(entry.name, entry.rank) for entry in found.entries] == [("good", 1.0), ("bad", 2.0)]
    assert found.ranked_by == (1,)
    assert found.entries[0].scores[0] is None  # the gap is shown
    assert "1 of 2 columns, those that all 2 have" in render.leaderboard(found)


def test_a_damaged_score_card_is_told_and_its_run_comes_last(board):
    for name, value in (("fine", 0.2), ("damaged", 0.9)):
        write_card(board, name, value=value)
    write_card(board, "damaged", "echo", value=0.9)
    [key] = [stat.key for stat in board.list("runs/damaged/scores/after/stars/") if stat.key.endswith("scores.json")]
    board.put(key, b"{}")
    found = rank_models(board)
    assert [(entry.name, entry.rank) for entry in found.entries] == [("fine", 1.0), ("damaged", None)]
    assert f"{board.uri}/{key}: not the bytes that were committed" in found.entries[1].problem
    assert "not ranked: damaged: a score card is damaged: " in render.leaderboard(found)


def test_a_model_is_not_blamed_for_a_run_of_its_name(board):
    write_card(board, "twin", value=0.2)
    write_card(board, "twin", value=0.9, layout=EvaluationLayout, stage="test")
    progress = Progress(run="twin", attempt=1, phase="Failed", step=5, message="")
    board.put(RunLayout("twin").progress, json.dumps(progress.to_json()).encode())
    found = rank_models(board)
    assert [(entry.kind, entry.rank) for entry in found.entries] == [("model", 1.0), ("run", None)]


def test_runs_that_failed_come_last_with_their_reason(board):
    write_card(board, "fine", value=0.2)
    write_card(board, "broken", value=0.9)
    for name, phase, message in (
        ("broken", "Failed", "out of memory"),
        ("empty", "Interrupted", ""),
        ("young", "Training", "step 5 of 10"),
        ("fine", "Complete", ""),
    ):
        progress = Progress(run=name, attempt=1, phase=phase, step=5, message=message)
        board.put(RunLayout(name).progress, json.dumps(progress.to_json()).encode())
    found = rank_models(board)
    assert [(entry.name, entry.rank, entry.problem) for entry in found.entries] == [
        ("fine", 1.0, None),
        ("broken", None, "failed at step 5: out of memory"),
        ("empty", None, "interrupted at step 5"),
        ("young", None, "not finished (Training, step 5)"),
    ]
    assert "not ranked: broken: failed at step 5: out of memory" in render.leaderboard(found)
