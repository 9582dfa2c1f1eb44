"""How long training takes: epochs become steps once the data is prepared, and patience ends it."""

import types
from pathlib import Path

import pytest

from raytrain.pipeline import stages as steps
from raytrain.runs.record import RunRecord
from raytrain.training.data.loader import DataLoader
from tests.support.tiny_run import tiny_run


class Work(types.SimpleNamespace):
    """As much of a workspace as the steps here need."""

    @property
    def job(self):
        return self.record.job

    def keep(self, record):
        self.kept.append(record)
        self.record = record


def work_of(run, record):
    said = []
    progress = types.SimpleNamespace(update=lambda **fields: said.append(fields))
    console = types.SimpleNamespace(line=said.append)
    return Work(record=record, store=run.store, cache=run.cache, kept=[], progress=progress, console=console, said=said)


def test_epochs_are_settled_once_and_see_every_example(tmp_path):
    """Two tasks of 120 and 60 rows (less what is held back for validation and test), twice."""
    run = tiny_run(tmp_path).named("epochs", steps=None, epochs=2.0)
    work = work_of(run, RunRecord(run.job, Path()))
    steps.settle(work, run.shard_set)
    (record,) = work.kept
    assert record.written.spec.training.steps is None
    assert work.said[0] == {"steps": record.steps}
    loader = DataLoader.open(work.job, run.shard_set, run.store, run.cache)
    wanted = 2 * sum(stream.examples for stream in loader.packed_order.order.streams)
    seen = sum(len(row) for row in loader.packed_order.rows(0, record.steps * loader.rows_per_step))
    in_a_step = seen / record.steps
    assert wanted - 2 * in_a_step <= seen <= wanted + 2 * in_a_step
    steps.settle(work, run.shard_set)  # a later attempt knows
    assert len(work.kept) == 1


@pytest.mark.parametrize(("patience", "enough"), [(None, False), (1, True), (5, False)])
def test_patience_is_asked_of_the_scores_so_far(tmp_path, patience, enough):
    run = tiny_run(tmp_path)
    spec = run.job.spec
    evaluation = spec.evaluation.model_copy(update={"patience": patience})
    job = run.job.model_copy(update={"spec": spec.model_copy(update={"evaluation": evaluation})})
    of_run = object.__new__(steps.Evaluation)
    of_run._work = work_of(run, RunRecord(job, Path()))
    of_run._primary_scores = {step: {"first": 0.5 - step / 100, "second": 0.5} for step in (0, 2, 4, 6)}
    assert of_run.is_enough() is enough
