"""The length of training: epochs become steps after preparation, and patience stops early."""

import types
from pathlib import Path

import pytest

from raytrain.pipeline import stages
from raytrain.pipeline.evaluation import Evaluation
from raytrain.runs.record import RunRecord
from raytrain.training.data.loader import DataLoader
from tests.support.tiny_run import tiny_run


class PartialContext(types.SimpleNamespace):
    """The part of a RunContext that the stages here need."""

    @property
    def job(self):
        return self.record.job

    def save(self, record):
        self.saved.append(record)
        self.record = record


def context_of(run, record):
    updates = []
    progress = types.SimpleNamespace(update=lambda **fields: updates.append(fields))
    console = types.SimpleNamespace(line=updates.append)
    return PartialContext(
        record=record, store=run.store, cache=run.cache, saved=[], progress=progress, console=console, updates=updates
    )


def test_epochs_are_resolved_once_and_cover_every_example(tmp_path):
    """Two tasks of 120 and 60 rows (minus validation and test rows), two epochs."""
    run = tiny_run(tmp_path).named("epochs", steps=None, epochs=2.0)
    context = context_of(run, RunRecord(run.job, Path()))
    stages.resolve_steps(context, run.shard_set)
    (record,) = context.saved
    assert record.written.spec.training.steps is None
    assert context.updates[0] == {"steps": record.steps}
    loader = DataLoader.open(context.job, run.shard_set, run.store, run.cache)
    expected = 2 * sum(stream.examples for stream in loader.packed_order.order.streams)
    seen = sum(len(row) for row in loader.packed_order.rows(0, record.steps * loader.rows_per_step))
    in_a_step = seen / record.steps
    assert expected - 2 * in_a_step <= seen <= expected + 2 * in_a_step
    stages.resolve_steps(context, run.shard_set)  # a later attempt knows
    assert len(context.saved) == 1


@pytest.mark.parametrize(("patience", "stops"), [(None, False), (1, True), (5, False)])
def test_patience_is_compared_with_the_scores_so_far(tmp_path, patience, stops):
    run = tiny_run(tmp_path)
    spec = run.job.spec
    evaluation = spec.evaluation.model_copy(update={"patience": patience})
    job = run.job.model_copy(update={"spec": spec.model_copy(update={"evaluation": evaluation})})
    of_run = object.__new__(Evaluation)
    of_run._context = context_of(run, RunRecord(job, Path()))
    of_run._primary_scores = {step: {"first": 0.5 - step / 100, "second": 0.5} for step in (0, 2, 4, 6)}
    assert of_run.has_stopped_improving() is stops
