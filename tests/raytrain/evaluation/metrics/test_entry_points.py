"""Metrics that another package adds with an entry point."""

from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from data_prep.config import Source, Task
from raytrain.evaluation import metrics
from raytrain.evaluation.metrics import METRICS, MeanMetric, find, metrics_for
from raytrain.evaluation.metrics.evaluate_module import as_module
from raytrain_core.errors import UsageError


class Shouting(MeanMetric):
    """Share of predictions in capitals."""

    name = "shouting"
    protocol = "all letters are capitals"

    def value(self, prediction, targets, meta):
        return float(prediction.isupper())


class Misnamed(Shouting):
    name = "whispering"


def broken():
    raise RuntimeError("no licence")


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    points = [
        SimpleNamespace(name=name, value=f"{__name__}:{made.__name__}", load=lambda made=made: made)
        for name, made in (("shouting", Shouting), ("misnamed", Misnamed), ("broken", broken))
    ]
    monkeypatch.setattr(metrics, "entry_points", lambda group, name=None: [p for p in points if name in (None, p.name)])
    metrics._find_entry_point.cache_clear()
    yield
    metrics._find_entry_point.cache_clear()


def task(*names):
    return Task(name="t", type="text", source=Source(uri="x"), metrics=list(names))


def test_an_entry_point_is_loaded_and_scores():
    found = metrics_for(task("shouting", "rougeL"))
    assert [metric.name for metric in found] == ["shouting", "rougeL"]
    assert found[0].score(found[0].stats_many(["A", "b"], [["x"]] * 2, [{}] * 2)) == 0.5
    assert as_module("shouting").compute(predictions=["A"], references=[["x"]]) == {"shouting": 1.0}


def test_built_in_metrics_cannot_be_replaced_and_unknown_ones_are_none():
    assert find("rougeL") is METRICS["rougeL"]
    assert find("nothing") is None


@pytest.mark.parametrize(
    ("name", "words"), [("broken", "RuntimeError: no licence"), ("misnamed", "not a raytrain Metric with that name")]
)
def test_a_broken_entry_point_is_reported(name, words):
    with pytest.raises(UsageError, match=words):
        metrics_for(task(name))


def test_entry_points_are_listed_among_known_metrics():
    with pytest.raises(UsageError, match="did you mean shouting") as caught:
        metrics_for(task("shoutin"))
    assert "shouting" in caught.value.hint


def test_the_name_of_the_entry_point_group():
    assert EntryPoint("x", "y:z", metrics.ENTRY_POINTS).group == "raytrain.metrics"
