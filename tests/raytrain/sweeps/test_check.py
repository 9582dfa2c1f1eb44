"""What is wrong with a sweep is told by line and field before anything starts."""

import pytest

from raytrain.sweeps.plan import load_sweep
from raytrain_core.config.loader import ConfigError
from tests.support.sweep_runs import tiny_sweep, write_sweep


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sweep")


def problems(folder, spec):
    with pytest.raises(ConfigError) as error:
        tiny_sweep(folder, spec)
    return error.value.message.replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("parameter", "problem"),
    [
        (
            "training.learnigRate: {values: [1]}",
            "sweep.yaml:7:5: spec.parameters.training.learnigRate: the job has no field training.learnigRate, did you "
            "mean spec.training.learningRate?",
        ),
        (
            "training.learningRate: {values: [0.1, -1]}",
            "sweep.yaml:7:43: spec.parameters.training.learningRate.values[1]: must be more than 0, got -1",
        ),
        (
            "training.optimizer: {values: [adamv]}",
            "sweep.yaml:7:35: spec.parameters.training.optimizer.values[0]: must be one of adafactor, adamw; got "
            '"adamv", did you mean adamw?',
        ),
        (
            "tasks[star].probe: {values: [true]}",
            "sweep.yaml:7:5: spec.parameters.tasks[star].probe: tasks[star]: the job has no such item, did you mean "
            "stars?",
        ),
        (
            "tasks.probe: {values: [true]}",
            "sweep.yaml:7:5: spec.parameters.tasks.probe: the job has no field tasks.probe: it is spec.tasks[].probe, "
            "so name the item, e.g. tasks[NAME].probe",
        ),
        (
            "guard: {alternatives: {none: {}, tenth: {mixture.replay: {share: 2, tasks: [echo]}}}}",
            "sweep.yaml:7:38: spec.parameters.guard.alternatives.tenth: spec.mixture.replay.share: must be less than "
            "1, got 2",
        ),
        (
            "training..anchor: {values: [1]}",
            "sweep.yaml:7:5: spec.parameters.training..anchor: 'training..anchor' is not the path of a field; write it "
            "like training.learningRate",
        ),
    ],
)
def test_a_wrong_field_or_value_is_told_with_its_place(folder, parameter, problem):
    assert problems(folder, f"  parameters:\n    {parameter}") == problem


@pytest.mark.parametrize(
    "path",
    [
        *("training.precision", "training.maxInputTokens", "training.maxTargetTokens", "evaluation.examplesPerTask"),
        *("evaluation.maxNewTokens", "evaluation.beams", "tasks[echo].templates", "tasks[echo].source.uri"),
        "probes",
    ],
)
def test_fields_that_change_what_is_scored_are_refused(folder, path):
    text = problems(folder, f"  parameters:\n    {path}: {{values: [1]}}")
    assert f"{path} cannot be swept: it changes which rows are scored, or how" in text


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("metadata.name", "names are the sweep's to give"),
        ("storage.uri", "all runs of a sweep share one storage"),
        ("resources.training.workers", "results do not depend on it"),
        ("training.registerModel", "results do not depend on it"),
        ("serving", "results do not depend on it"),
        ("training.seed", "set seeds instead"),
        ("mixture.seed", "set seeds instead"),
        ("training", "name a field below it"),
    ],
)
def test_fields_that_no_sweep_is_about_are_refused(folder, path, reason):
    assert f"{path} cannot be swept: {reason}" in problems(folder, f"  parameters:\n    {path}: {{values: [1]}}")


def test_a_grid_above_the_limit_is_refused_without_being_listed(folder):
    values = ", ".join(map(str, range(1, 101)))
    spec = (
        f"  parameters:\n    training.warmupSteps: {{values: [{values}]}}\n    training.anchor: {{values: [{values}]}}"
    )
    assert "10,000 settings and the job as written are 10,001 runs, more than spec.limit (200)" in problems(
        folder, spec
    )


def test_a_raised_limit_lets_a_larger_grid_through(folder):
    values = ", ".join(map(str, range(1, 16)))
    grid = f"    training.warmupSteps: {{values: [{values}]}}\n    training.anchor: {{values: [{values}]}}"
    assert len(tiny_sweep(folder, f"  limit: 300\n  parameters:\n{grid}").settings()[0]) == 226


def test_combinations_that_do_not_fit_each_other_are_told(folder):
    grid = "  parameters:\n    training.method: {values: [full, lora]}\n    training.lora.rank: {values: [4, 8]}"
    text = problems(folder, grid)
    assert "method full, rank 4: spec.training: lora is set, but method is full" in text
    assert "method lora" not in text


def test_a_field_that_two_parameters_set_is_refused(folder):
    two = "training.anchor: {values: [1]}\n    guard: {alternatives: {some: {training.anchor: 2}}}"
    assert "sets training.anchor, and so does the parameter training.anchor" in problems(
        folder, f"  parameters:\n    {two}"
    )
    load_sweep(write_sweep(folder, f"  method: one-at-a-time\n  parameters:\n    {two}"))  # no setting has both


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("method: random", "method random needs samples"),
        ("samples: 3", "samples has no effect with method grid"),
        ("objective: pareto\n  stopping: {firstStep: 4}", "stopping needs one number"),
        ("seeds: [1, 1]", "seeds names a seed twice"),
        ("metod: grid", "unknown field, did you mean method?"),
    ],
)
def test_settings_of_the_sweep_that_do_not_fit_are_told(folder, spec, problem):
    assert problem in problems(folder, f"  {spec}\n  parameters:\n    training.anchor: {{values: [1]}}")


@pytest.mark.parametrize(
    ("parameter", "problem"),
    [
        ("training.anchor: {low: 1, high: 2}", "method grid needs values, and training.anchor has a range"),
        ("training.anchor: {low: 2, high: 1}", "low must be less than high"),
        ("training.anchor: {values: [1], low: 1, high: 2}", "give exactly one of values, low with high, and"),
        ("training.anchor: {low: 0, high: 2, log: true}", "with log, low must be more than 0"),
    ],
)
def test_ranges_that_make_no_sense_are_told(folder, parameter, problem):
    assert problem in problems(folder, f"  parameters:\n    {parameter}")


def test_an_integer_field_needs_an_integer_in_its_range(folder):
    spec = "  method: random\n  samples: 2\n  parameters:\n    training.warmupSteps: {low: 1.2, high: 1.8}"
    assert "the field holds integers, and there is none between low and high" in problems(folder, spec)


def test_an_objective_about_forgetting_needs_a_probe_that_no_run_trains(folder):
    spec = "  objective: forgotten\n  parameters:\n    'tasks[first].probe': {values: [false]}"
    assert "forgotten needs a task with probe: true that no run trains, and there is none" in problems(folder, spec)


def test_stopping_compares_runs_at_the_same_steps(folder):
    spec = "  stopping: {firstStep: 4}\n  parameters:\n    training.steps: {values: [20]}"
    assert "so training.steps cannot be swept" in problems(folder, spec)


def test_a_missing_job_is_told(tmp_path):
    path = write_sweep(tmp_path, "  parameters:\n    training.anchor: {values: [1]}")
    (tmp_path / "job.yaml").rename(tmp_path / "jop.yaml")
    with pytest.raises(ConfigError, match=r"job.yaml: there is no such file, did you mean .*jop.yaml\?"):
        load_sweep(path)
