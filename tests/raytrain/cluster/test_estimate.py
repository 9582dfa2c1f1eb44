"""What a job would take in a cluster, from its nodes, its prices and earlier runs."""

import json
from dataclasses import asdict

import pytest

from raytrain.cluster.estimate import estimate, storage_bytes, training_tokens
from raytrain.cluster.prices import read_prices
from raytrain.config.job import FineTuneJob
from raytrain.config.run_layout import RunLayout
from raytrain.kubernetes.client import ApiError
from raytrain.operator.capacity import NODES
from raytrain.runs.record import RunRecord, write_record
from raytrain.telemetry.progress import Progress
from raytrain_core.storage import StorageLocation, open_store
from tests.support.finetunejob_objects import finetunejob

TABLE = "prices: {currency: EUR, gpuHour: {A100: 2.0, H100: 4.0}}"


class Cluster:
    """The API server, as far as an estimate asks it."""

    def __init__(self, *kinds, settings=TABLE):
        self.nodes = [
            {
                "metadata": {"labels": {"nvidia.com/gpu.product": kind}},
                "status": {"allocatable": {"nvidia.com/gpu": "8", "cpu": "32"}},
            }
            for kind in kinds
        ]
        self.settings = settings

    def list(self, kind, namespace=None, selector=""):
        if kind == NODES:
            return self.nodes
        if kind == ("v1", "ConfigMap"):
            if self.settings is None:
                raise ApiError(403, "Forbidden", "no")
            return [{"data": {"settings.yaml": self.settings}}] if self.settings else []
        return []


def job(name="new", **spec):
    body = finetunejob(**spec)
    return FineTuneJob.model_validate(
        {key: body[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": name}}
    )


@pytest.fixture
def store(tmp_path):
    return open_store(StorageLocation(uri=str(tmp_path)))


def trained(store, name, speed, **spec):
    layout = RunLayout(name)
    write_record(store, layout, RunRecord(job(name, **spec), base_folder=None))
    store.put(layout.progress, json.dumps(asdict(Progress(name, 1, tokens_per_second=speed))).encode())


def estimated(store, cluster, tokens=36_000_000, **spec):
    return estimate(job(**spec), api=cluster, namespace="team", tokens=tokens, parameters=1000, stores=[store])


def test_gpu_hours_and_cost_follow_from_the_speed_of_earlier_runs_there(store):
    trained(store, "first", 8_000)  # on two GPUs
    trained(store, "second", 12_000)
    trained(store, "other-model", 1, model="google/flan-t5-xl")
    trained(store, "on-cpus", 2, resources={"training": {"workers": 1}})
    found = estimated(store, Cluster("A100", "H100"))
    assert found.pods == 1 + 2 + 2
    assert (found.gpus, found.resource) == (2, "nvidia.com/gpu")
    assert found.seconds == 3600
    assert found.gpu_hours == 2
    assert (found.cost, found.currency, found.cost_note) == ("4.00 to 8.00", "EUR", "GPUs alone: A100, H100")
    assert found.basis.startswith("5,000 tokens/s per GPU, the median of 2 earlier runs")
    assert found.annotation == {"gpuHours": 2.0, "trainingSeconds": 3600.0}


def test_what_no_run_has_measured_is_unknown_and_told(store):
    found = estimated(store, Cluster("A100"))
    assert (found.seconds, found.gpu_hours, found.cost, found.annotation) == (None, None, None, {})
    told = list(found.lines())
    assert told[0] == "pods: 5 at most, 2 of nvidia.com/gpu"
    assert "known once a run of this model with such GPUs has trained into this storage" in told[1]
    epochs = estimated(store, Cluster("A100"), tokens=None)
    assert "training.epochs" in epochs.basis
    assert training_tokens(job(training={"epochs": 1})) is None


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("", "no operator's settings were found"),
        (None, "you may not read the operator's settings"),
        ("prices: {gpuHour: {A100: -1}}", "the operator's settings are wrong"),
        ("{}", "have no prices"),
    ],
)
def test_without_prices_the_cost_is_unknown_and_says_why(store, settings, told):
    trained(store, "first", 8_000)
    found = estimated(store, Cluster("A100", settings=settings))
    assert found.cost is None
    assert found.gpu_hours is not None
    assert told in found.cost_note


def test_a_price_that_no_node_has_is_told_as_perhaps_misspelt(store):
    assert estimated(store, Cluster("A100")).notes == ["settings.prices.gpuHour names what no node has: H100"]


def test_prices_are_read_from_the_operators_config_map():
    prices, why = read_prices(Cluster())
    assert prices is not None
    assert (prices.gpu_hour, prices.currency, why) == ({"A100": 2.0, "H100": 4.0}, "EUR", "")


def test_checkpoints_and_model_are_counted_with_the_optimizers_state():
    assert storage_bytes(job(training={"steps": 1, "optimizer": "adamw"}), 10)[0] == 4 * 12 * 10 + 40
    assert storage_bytes(job(), None)[0] is None
