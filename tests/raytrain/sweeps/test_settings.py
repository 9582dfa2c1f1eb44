"""The settings of a sweep, and the job of each."""

import pytest

from raytrain.sweeps.settings import candidates, drawn
from tests.support.sweep_runs import tiny_sweep

GRID = "  parameters:\n    training.learningRate: {values: [1.0e-3, 3.0e-4]}\n    training.anchor: {values: [0, 5]}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sweep")


def chosen(plan):
    return [dict(one.chosen) for one in plan.settings()[0]]


def test_a_grid_has_all_combinations_after_the_job_as_written(folder):
    rate, anchor = "training.learningRate", "training.anchor"
    assert chosen(tiny_sweep(folder, GRID)) == [
        {},
        {rate: 1e-3, anchor: 0},
        {rate: 1e-3, anchor: 5},
        {rate: 3e-4, anchor: 0},
        {rate: 3e-4, anchor: 5},
    ]


def test_one_at_a_time_changes_one_parameter_and_merges_what_is_the_job_as_written(folder):
    plan = tiny_sweep(folder, f"  method: one-at-a-time\n{GRID}")
    assert chosen(plan)[1:] == [
        {"training.learningRate": 1e-3},
        {"training.learningRate": 3e-4},
        {"training.anchor": 5},
    ]
    assert plan.settings()[1] == ["anchor 0 is the same job as guards-0 (as written): it is run once"]


def test_random_settings_depend_on_seed_and_number_alone(folder):
    spec = """  method: random
  samples: 20
  parameters:
    training.learningRate: {low: 1.0e-4, high: 1.0e-2, log: true}
    training.warmupSteps: {low: 0, high: 3}
    training.optimizer: {values: [adamw, adafactor]}"""
    plan = tiny_sweep(folder, spec)
    found = list(candidates(plan.spec, plan.integers))
    assert found == list(candidates(plan.spec, plan.integers))
    assert found[7] == drawn(plan.spec, plan.integers, 7)
    assert all(1e-4 <= one["training.learningRate"] <= 1e-2 for one in found)
    assert {one["training.warmupSteps"] for one in found} == {0, 1, 2, 3}
    assert {one["training.optimizer"] for one in found} == {"adamw", "adafactor"}
    below = sum(one["training.learningRate"] < 1e-3 for one in found)
    assert 5 <= below <= 15, "half of a log-uniform range is below its middle"
    assert found != list(candidates(plan.spec.model_copy(update={"seed": 1}), plan.integers))


def test_the_job_of_a_run_has_the_values_the_seeds_and_the_name(folder):
    plan = tiny_sweep(folder, f"  seeds: [3, 4]\n{GRID}")
    setting = plan.settings()[0][4]
    job = plan.job_of(setting, 4)
    assert job.metadata.name == "guards-4-4"
    assert (job.spec.training.learning_rate, job.spec.training.anchor) == (3e-4, 5)
    assert (job.spec.training.seed, job.spec.mixture.seed) == (4, 4)
    assert plan.job_of(setting, None).metadata.name == "guards-4"
    same = {"learning_rate": 1.0, "anchor": 0.0, "seed": 0}
    assert job.spec.training.model_copy(update=same) == plan.job.spec.training.model_copy(update=same)
    assert job.spec.tasks == plan.job.spec.tasks


def test_alternatives_set_several_fields_and_tasks_by_name(folder):
    spec = """  parameters:
    replay:
      alternatives:
        none: {}
        tenth: {"tasks[first].probe": false, mixture.replay: {share: 0.1, tasks: [first], strategy: equal}}"""
    plan = tiny_sweep(folder, spec)
    settings = plan.settings()[0]
    assert [one.label for one in settings] == ["as written", "replay tenth"]
    job = plan.job_of(settings[1], None)
    assert [task.name for task in job.spec.trained_tasks] == ["echo", "stars", "first"]
    assert job.spec.mixture.replay.share == 0.1
    assert plan.trained == ("echo", "stars")
    assert plan.probes == (), "a probe that some run trains does not show what is forgotten"


def test_the_mixture_is_a_dimension(folder):
    spec = """  parameters:
    mixture:
      alternatives:
        hot: {mixture.strategy: temperature, mixture.temperature: 4}
        weighed: {mixture.strategy: weights, mixture.weights: {echo: 1, stars: 3}}"""
    plan = tiny_sweep(folder, spec)
    hot, weighed = (plan.job_of(one, None).spec.mixture for one in plan.settings()[0][1:])
    assert (hot.strategy, hot.temperature) == ("temperature", 4)
    assert weighed.weights == {"echo": 1, "stars": 3}
