"""The metrics as `evaluate.Metric` modules, without a network."""

import socket
import sys

import evaluate
import pytest

from raytrain.evaluation.metrics import METRICS, evaluate_module
from raytrain.evaluation.metrics.evaluate_module import as_module

PREDICTIONS = ["the cat sat", "4", "PER: Ann", "x = 1"]
METAS = [{"loss": 2.0 + i, "loss_tokens": 3, "choice_losses": (0.5, 0.1), "language": "Python"} for i in range(4)]
REFERENCES = [["a cat sat down"], ["5"], ["PER: Ann | LOC: Rome"], ["x  = 1", "y"]]


@pytest.mark.parametrize("name", METRICS)
def test_a_module_computes_the_same_as_the_metric(name):
    module, metric = as_module(name), METRICS[name]
    assert isinstance(module, evaluate.Metric)
    expected = metric.score(metric.stats_many(PREDICTIONS, REFERENCES, METAS))
    assert module.compute(predictions=PREDICTIONS, references=REFERENCES, metas=METAS) == {name: expected}
    for prediction, references in zip(PREDICTIONS, REFERENCES, strict=True):
        module.add(prediction=prediction, reference=references)
    assert module.compute(metas=METAS) == {name: expected}
    assert metric.protocol in module.description


def test_labels_are_an_argument():
    found = as_module("mae").compute(predictions=["good", "?"], references=[["bad"], ["bad"]], labels=["bad", "good"])
    assert found == {"mae": 1.0}


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="config_name must be one of rouge1"):
        as_module("rouge9")


def test_evaluate_load_takes_the_file_without_a_network(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    module = evaluate.load(evaluate_module.__file__, "rougeL", cache_dir=str(tmp_path / "metrics"))
    assert module.compute(predictions=["the cat sat"], references=[["the cat sat"]]) == {"rougeL": 1.0}
