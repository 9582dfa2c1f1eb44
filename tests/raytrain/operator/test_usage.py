"""What a job has used, from change to change; what its GPUs cost."""

import json

import pytest

from raytrain.config.job import FineTuneJob
from raytrain.config.job_status import AttemptStatus, Usage
from raytrain.operator.prices import PriceRange, Prices, price_of, unused_prices
from raytrain.operator.ray_job_status import ray_job_status
from raytrain.operator.usage import comparison, estimate_of, gpus_held, live, next_usage
from raytrain_core.config.loader import ConfigError, from_mapping
from tests.support.finetunejob_objects import after, finetunejob, rayjob

FIRST = AttemptStatus(number=1, ray_job="assistant-a01")
ENDED = FIRST.model_copy(update={"outcome": "Failed"})


def job(**spec):
    body = finetunejob(**spec)
    return FineTuneJob.model_validate(
        {key: body[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": "a"}}
    )


def current(ready, desired, gpus):
    cluster = {"readyWorkerReplicas": ready, "desiredWorkerReplicas": desired, "desiredGPU": str(gpus)}
    return ray_job_status(rayjob(1, deployment="Running", job="RUNNING", rayClusterStatus=cluster))


def told(*steps, estimate=None, price=None):
    """The usage after steps of (second, GPUs, waiting, attempt, time of the newest checkpoint)."""
    usage = None
    for second, gpus, waiting, attempt, checkpointed in steps:
        usage = next_usage(
            usage, after(second), gpus=gpus, waiting=waiting, attempt=attempt, checkpointed=checkpointed,
            estimate=estimate or {}, price=price,
        )  # fmt: skip
    return usage


def test_gpus_are_counted_while_their_pods_are_ready():
    usage = told((0, 0, False, FIRST, ""), (60, 2, False, FIRST, ""), (160, 1, False, FIRST, ""),
                 (260, 0, False, ENDED, ""))  # fmt: skip
    assert usage.gpu_seconds == 300
    assert usage.gpus == 0
    assert live(usage, after(999)).gpu_seconds == 300


def test_only_what_came_after_the_last_checkpoint_is_lost_with_an_attempt():
    usage = told((0, 2, False, FIRST, ""), (100, 2, False, FIRST, "2026-11-23T12:01:30Z"),
                 (130, 0, False, ENDED, "2026-11-23T12:01:30Z"))  # fmt: skip
    assert (usage.gpu_seconds, usage.wasted_gpu_seconds, usage.unsaved_gpu_seconds) == (260, 80, 0)
    assert told((0, 2, False, FIRST, ""), (130, 0, False, ENDED, "")).wasted_gpu_seconds == 260
    done = FIRST.model_copy(update={"outcome": "Succeeded"})
    assert told((0, 2, False, FIRST, ""), (130, 0, False, done, "")).wasted_gpu_seconds == 0


def test_time_in_line_is_counted_and_nothing_is_written_while_nothing_changes():
    waiting = told((0, 0, True, None, ""))
    assert told((0, 0, True, None, ""), (50, 0, True, None, "")) == waiting
    assert live(waiting, after(50)).waiting_seconds == 50
    assert told((0, 0, True, None, ""), (50, 0, False, FIRST, "")).waiting_seconds == 50


def test_a_job_that_neither_began_nor_waits_has_used_nothing():
    assert told((0, 0, False, None, "")) is None


def test_a_clock_that_was_set_back_takes_nothing_away():
    usage = told((100, 2, False, FIRST, ""), (40, 0, False, ENDED, ""))
    assert (usage.gpu_seconds, usage.wasted_gpu_seconds) == (0, 0)


@pytest.mark.parametrize(
    ("name", "gpus_told", "ready", "held"),
    [
        ("nvidia.com/gpu", 2, 3, 2),
        ("nvidia.com/gpu", 2, 2, 1),
        ("nvidia.com/gpu", 2, 0, 0),
        ("nvidia.com/mig-1g.10gb", 0, 3, 2),  # KubeRay does not count these
    ],
)
def test_gpus_held_are_those_of_ready_pods(name, gpus_told, ready, held):
    resources = {
        "training": {"workers": 2, "gpus": 1, "cpus": 4, "resourceName": name},
        "evaluation": {"gpus": 1},
    }
    found = gpus_held(job(resources=resources), current(ready, desired=3, gpus=gpus_told))
    assert found == held


def test_cost_and_estimate_stand_beside_what_was_used():
    price = PriceRange(2.0, 3.0, "EUR")
    usage = told((0, 4, False, FIRST, ""), (1800, 0, False, ENDED, ""), estimate={"gpuHours": 1.5}, price=price)
    assert (usage.cost, usage.currency, usage.estimated_gpu_seconds) == ("4.00 to 6.00", "EUR", 5400)
    assert comparison(usage) == (
        "used 2.00 GPU-hours, estimated 1.50, 2.00 of them lost to retries, cost 4.00 to 6.00 EUR"
    )
    assert comparison(Usage(since="2026-11-23T12:00:00Z")) == ""


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"gpuHours": "x"}', '{"gpuHours": -1}', '{"gpuHours": NaN}'])
def test_an_estimate_that_somebody_else_wrote_is_left_out(text):
    assert estimate_of({"raytrain.dev/estimate": text}).get("gpuHours") is None
    assert estimate_of({"raytrain.dev/estimate": json.dumps({"gpuHours": 2})}) == {"gpuHours": 2.0}


def node(kind, resource="nvidia.com/gpu"):
    labels = {"nvidia.com/gpu.product": kind} if kind else {}
    return {"metadata": {"labels": labels}, "status": {"allocatable": {resource: "4"}}}


TABLE = Prices(currency="EUR", gpu_hour={"A100": 2.5, "H100": 4.0, "amd.com/gpu": 1.0})


def test_the_price_is_that_of_the_nodes_on_which_the_pods_may_run():
    assert price_of(job(), TABLE, [node("A100")])[0] == PriceRange(2.5, 2.5, "EUR")
    assert price_of(job(), TABLE, [node("A100"), node("H100")])[0] == PriceRange(2.5, 4.0, "EUR")
    chosen = job(cluster={"nodeSelector": {"nvidia.com/gpu.product": "H100"}})
    assert price_of(chosen, TABLE, None)[0] == PriceRange(4.0, 4.0, "EUR")
    amd = job(resources={"training": {"gpus": 1, "resourceName": "amd.com/gpu"}})
    assert price_of(amd, TABLE, None)[0] == PriceRange(1.0, 1.0, "EUR")


def test_a_price_that_is_not_in_the_table_is_unknown_and_named():
    price, why = price_of(job(), TABLE, [node("A100"), node("L4")])
    assert price is None
    assert why == "settings.prices.gpuHour has no price of L4, and none of nvidia.com/gpu"
    assert "nodes without nvidia.com/gpu.product" in price_of(job(), TABLE, [node("")])[1]
    assert "have no prices" in price_of(job(), Prices(), [node("A100")])[1]
    assert unused_prices(TABLE, [node("A100")]) == ["H100", "amd.com/gpu"]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"gpuHour": {"A100": -1}}, "gpuHour"),
        ({"gpuHour": {"A100": float("inf")}}, "gpuHour"),
        ({"gpuhour": {"A100": 1}}, "gpuhour"),
        ({"currency": "Euro"}, "currency"),
    ],
)
def test_a_table_that_is_wrong_is_refused_by_field(table, told):
    with pytest.raises(ConfigError, match=told):
        from_mapping(table, Prices, name="settings")
