"""A job in Python: the same fields, the same sentences as in a job file."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import raytrain as rt
from raytrain.cluster import jobs
from raytrain.config.job import FineTuneJob
from raytrain.config.load import load_job
from raytrain_core.config.loader import ConfigError
from raytrain_core.errors import UsageError

QUESTIONS = {
    "name": "questions",
    "type": "question-answering",
    "source": {"uri": "questions.jsonl"},
    "columns": {"input": "question", "target": "answer"},
    "probe": True,
}


def reviews(**more):
    columns = rt.Columns(input="text", target="stars")
    return rt.Task(name="reviews", type="rating", source=rt.Source(uri="reviews.csv"), columns=columns, **more)


def a_job(**changes):
    fields = {"model": "./model", "tasks": [reviews(), QUESTIONS], "training": rt.Training(steps=3)}
    return rt.Job("mine", **fields | changes)


def test_importing_the_package_imports_no_library():
    heavy = "{'torch', 'ray', 'transformers', 'pydantic', 'pandas', 'numpy'}"
    code = f"import sys, raytrain; assert not {heavy} & set(sys.modules); assert 'Job' in dir(raytrain)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_job_from_fields_is_the_one_of_its_file(tmp_path):
    built = a_job(storage="s3://bucket/runs")
    (tmp_path / "job.yaml").write_text(built.to_yaml())
    assert load_job(tmp_path / "job.yaml").job == built.document
    assert rt.Job.from_yaml(tmp_path / "job.yaml").document == built.document
    assert built.document.spec.tasks[0].model_fields_set == {"name", "type", "source", "columns"}
    assert "maxInputTokens" not in built.to_yaml()
    assert repr(built) == "Job('mine', model='./model', tasks: reviews, questions (probe))"


def test_every_part_of_a_job_can_be_given():
    given = set(inspect.signature(rt.Job).parameters) - {"name", "base_folder"}
    assert given == set(FineTuneJob.model_fields["spec"].annotation.model_fields)
    job = a_job(probes=[{"benchmark": "arc_easy"}], serving={"maxQueued": 8})
    assert (job.document.spec.probes[0].benchmark, job.document.spec.serving.max_queued) == ("arc_easy", 8)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: rt.Task(name="a", type="ratin", source={"uri": "a.csv"}), 'Task: type: must be one of .*"ratin"'),
        (lambda: rt.Task(name="a", type="rating"), "Task: source: is required but missing"),
        (lambda: rt.Training(stepps=3), "Training: stepps: unknown field, did you mean steps?"),
        (lambda: rt.Training(steps=3, epochs=1), "Training: give exactly one of steps, epochs and tokens"),
        (lambda: a_job(training={}), "Job: spec.training: give exactly one of steps, epochs and tokens"),
        (lambda: a_job(tasks=[reviews(), reviews()]), "Job: spec: .*reviews"),
        (lambda: a_job(model=None), "Job: spec.model: is required but missing"),
        (lambda: a_job(tasks=None), "Job: spec.tasks: is required but missing"),
        (lambda: a_job(tasks="reviews.csv"), 'Job: spec.tasks: must be a list, got "reviews.csv"'),
        (lambda: a_job(probes="mmlu"), 'Job: spec.probes: must be a list, got "mmlu"'),
        (
            lambda: a_job(tasks=[{**QUESTIONS, "typ": 1}]),
            r"Job: spec.tasks\[0\].typ: unknown field, did you mean type?",
        ),
    ],
)
def test_a_wrong_field_is_told_in_a_sentence(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()


def test_a_path_is_a_uri():
    assert rt.Source(uri=Path("rows") / "a.csv").uri == "rows/a.csv"
    assert a_job(model=Path("model")).document.spec.model == "model"
    assert rt.Source(uri=Path("a.csv")).model_fields_set == {"uri"}


def test_editors_complete_the_fields():
    assert {"uri", "splits", "format"} <= set(inspect.signature(rt.Source).parameters)
    assert {"steps", "batch_tokens"} <= set(inspect.signature(rt.Training).parameters)
    assert {"model", "tasks", "training"} <= set(inspect.signature(rt.Job).parameters)


def test_the_sample_is_a_job_that_can_be_checked(tmp_path):
    job = rt.Job.sample(tmp_path / "sample")
    assert [task.rows for task in job.check(storage=str(tmp_path / "storage")).tasks]
    with pytest.raises(UsageError, match="already exists"):
        rt.Job.sample(tmp_path / "sample")


def test_submitting_gives_its_run(monkeypatch, tmp_path):
    sent = {}

    class Api:
        @classmethod
        def connect(cls):
            return cls()

    monkeypatch.setattr("raytrain.kubernetes.client.KubernetesApi", Api)
    monkeypatch.setattr(jobs, "submit", lambda job, **given: sent.update(given, job=job))
    run = a_job(base_folder=tmp_path).submit(namespace="team")
    assert (sent["job"].metadata.name, sent["namespace"], sent["base_folder"]) == ("mine", "team", tmp_path)
    assert repr(run) == "ClusterRun('mine', namespace='team')"


def test_a_storage_on_this_machine_is_refused_by_submit(monkeypatch, tmp_path):
    monkeypatch.setattr("raytrain.kubernetes.client.KubernetesApi.connect", lambda: None)
    with pytest.raises(UsageError, match="where pods cannot reach it"):
        a_job(storage=str(tmp_path)).submit()


def test_ipython_shows_the_sentence_alone():
    with pytest.raises(UsageError) as caught:
        rt.open_run("a/b")
    (shown,) = caught.value._render_traceback_()
    assert shown.startswith("UsageError: a/b is not the name of a run\n  give its name")
