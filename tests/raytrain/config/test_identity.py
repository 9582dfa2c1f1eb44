"""The identity of a run, and how differences are reported."""

from typing import Any

import pytest

from raytrain.config.benchmark import Benchmark
from raytrain.config.identity import diff, digest, identity
from raytrain.config.job import FineTuneJob
from tests.support.job_mapping import job_from


def job(**changes: Any) -> FineTuneJob:
    spec: dict[str, Any] = {
        "model": "google/flan-t5-base",
        "tasks": [
            {"name": "a", "type": "text", "source": {"uri": "a.csv"}},
            {"name": "b", "type": "text", "source": {"uri": "b.csv"}},
        ],
        "training": {"steps": 3},
    }
    for key, value in changes.items():
        spec[key] = {**spec[key], **value} if isinstance(value, dict) and key in spec else value
    mapping = {
        "apiVersion": "raytrain.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "run", "labels": {"a": "b"}},
        "spec": spec,
    }
    return job_from(mapping)


BASE = job()


@pytest.mark.parametrize(
    "changes",
    [
        {"storage": {"uri": "s3://other/place"}},
        {"resources": {"training": {"workers": 8, "cpus": 4}}},
        {"cluster": {"queue": "gpus"}},
        {"training": {"device": "cpu"}},
        {"training": {"keepCheckpoints": 7}},
        {"evaluation": {"batchSize": 7}},
        {"training": {"learningRate": 0.001}},  # the default, written out
        {"mixture": {"strategy": "proportional"}},
        {
            "tasks": [
                {"name": "a", "type": "text", "source": {"uri": "a.csv", "licence": "CC BY 4.0"}},
                {"name": "b", "type": "text", "source": {"uri": "b.csv"}},
            ]
        },
    ],
)
def test_what_may_change_between_attempts(changes: dict[str, Any]) -> None:
    assert diff(identity(BASE), identity(job(**changes))) == []
    assert digest(identity(BASE)) == digest(identity(job(**changes)))


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"model": "other"}, ['spec.model: was "google/flan-t5-base", is "other"']),
        ({"training": {"steps": 4}}, ["spec.training.steps: was 3, is 4"]),
        (
            {"mixture": {"replay": {"share": 0.25, "tasks": ["b"]}}},
            ['spec.mixture.replay: was not set, is {"strategy": "proportional", "cap": null, "temperature": 2.0, '
             '"weights": null, "share": 0.25, "tasks": ["b"]}'],
        ),
        ({"training": {"checkpointEvery": 7}}, ["spec.training.checkpointEvery: was 250, is 7"]),
        ({"training": {"dropout": 0.1}}, ["spec.training.dropout: was not set, is 0.1"]),
        ({"training": {"packing": {"source": 512, "target": 128}}},
         ['spec.training.packing: was not set, is {"source": 512, "target": 128}']),
        ({"evaluation": {"examplesPerTask": 9}}, ["spec.evaluation.examplesPerTask: was 200, is 9"]),
        ({"mixture": {"cap": 10}}, ["spec.mixture.cap: was not set, is 10"]),
    ],
)  # fmt: skip
def test_what_changes_the_identity(changes: dict[str, Any], lines: list[str]) -> None:
    other = identity(job(**changes))
    assert diff(identity(BASE), other) == lines
    assert digest(identity(BASE)) != digest(other)


def test_tasks_are_compared_by_name() -> None:
    a, b = BASE.spec.model_dump(mode="json", by_alias=True)["tasks"]
    c = {**a, "name": "c"}
    changed = {**b, "columns": {"input": "question"}}
    assert diff(identity(BASE), identity(job(tasks=[c, changed]))) == [
        "spec.tasks: a was removed",
        "spec.tasks: c was added",
        'spec.tasks[b].columns.input: was "input", is "question"',
    ]
    assert diff(identity(BASE), identity(job(tasks=[b, a]))) == ["spec.tasks: the order was a, b, is b, a"]


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    found = identity(BASE)
    turned = {"spec": dict(reversed(list(found["spec"].items()))), "apiVersion": found["apiVersion"]}
    assert digest(turned) == digest(found)
    assert len(digest(found)) == 64


def test_every_field_of_the_spec_is_in_the_identity_or_left_out() -> None:
    """A new field belongs to the identity unless it is left out by name."""
    found = identity(BASE)["spec"]
    written = BASE.spec.model_dump(mode="json", by_alias=True)
    assert set(written) - set(found) == {"storage", "resources", "cluster", "probes", "serving"}
    assert set(written["training"]) - set(found["training"]) == {
        "device",
        "keepCheckpoints",
        "hangTimeoutSeconds",
        "trackers",
        "registerModel",
    }
    assert set(written["evaluation"]) - set(found["evaluation"]) == {"batchSize"}


def test_benchmarks_count_and_their_absence_does_not() -> None:
    """A run without benchmarks is the run that it was before there were any."""
    spec = BASE.spec.model_copy(update={"probes": [Benchmark(benchmark="arc_easy")]})
    with_probe = identity(BASE.model_copy(update={"spec": spec}))
    assert with_probe["spec"]["probes"][0]["benchmark"] == "arc_easy"
    assert "probes" not in identity(BASE)["spec"]
