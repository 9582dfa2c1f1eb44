"""Our metrics as `evaluate.Metric` modules that need no network.

    evaluate.load(raytrain.evaluation.metrics.evaluate_module.__file__, "rougeL")
    raytrain.evaluation.metrics.evaluate_module.as_module("rougeL")

Both return a module whose `compute(predictions=[...], references=[...])` returns
`{"rougeL": value}`. References are lists of strings, one or more per prediction. Anything else that
a metric needs is an argument of `compute`: `labels` of a rating scale, or `metas`, one mapping per
row (the loss, the language, the choices).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import evaluate

from raytrain.evaluation.metrics import METRICS, Metric, find


class RaytrainMetric(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """The metric named by `config_name`: one of METRICS or of an entry point."""

    def _info(self) -> Any:
        metric = self._metric()
        return evaluate.MetricInfo(
            description=f"{metric.name} ({metric.better} is better): {metric.protocol}",
            citation="",
            inputs_description="predictions: strings; references: lists of strings; labels, metas: optional.",
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.Sequence(datasets.Value("string")),
                }
            ),
        )

    def _metric(self) -> Metric:
        metric = find(str(self.config_name))
        if metric is None:
            raise ValueError(f"config_name must be one of {', '.join(METRICS)}, not {self.config_name!r}")
        return metric

    def _compute(
        self,
        predictions: list[str],
        references: list[list[str]],
        labels: list[str] | None = None,
        metas: Sequence[Mapping[str, Any]] | None = None,
    ) -> dict[str, float]:
        metric = self._metric()
        known = {"labels": labels} if labels else {}
        rows = [{**known, **meta} for meta in metas or [{}] * len(predictions)]
        return {metric.name: metric.score(metric.stats_many(predictions, references, rows))}


def as_module(name: str) -> RaytrainMetric:
    """Returns the metric `name` as an `evaluate.Metric` that keeps its rows in memory."""
    return RaytrainMetric(config_name=name, keep_in_memory=True)
