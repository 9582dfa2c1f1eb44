"""Our metrics as `evaluate.Metric` modules that need no network.

    evaluate.load(raytrain.evaluation.metrics.evaluate_module.__file__, "rougeL")
    raytrain.evaluation.metrics.evaluate_module.as_module("rougeL")

Both give a module whose `compute(predictions=[...], references=[...])` returns `{"rougeL": value}`.
References are lists of strings, one or more for a prediction.
"""

from typing import Any

import datasets
import evaluate

from raytrain.evaluation.metrics import METRICS


class RaytrainMetric(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """One of METRICS, chosen by `config_name`."""

    def _info(self) -> Any:
        if self.config_name not in METRICS:
            raise ValueError(f"config_name must be one of {', '.join(METRICS)}, not {self.config_name!r}")
        metric = METRICS[self.config_name]
        return evaluate.MetricInfo(
            description=f"{metric.name} ({metric.better} is better): {metric.protocol}",
            citation="",
            inputs_description="predictions: strings; references: a list of strings for each; meta: JSON, optional.",
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.Sequence(datasets.Value("string")),
                }
            ),
        )

    def _compute(
        self, predictions: list[str], references: list[list[str]], labels: list[str] | None = None
    ) -> dict[str, float]:
        metric = METRICS[self.config_name]
        meta = {"labels": labels} if labels else {}
        stats = metric.stats_many(predictions, references, [meta] * len(predictions))
        return {metric.name: metric.score(stats)}


def as_module(name: str) -> RaytrainMetric:
    """The metric `name` as an `evaluate.Metric` that keeps its rows in memory."""
    return RaytrainMetric(config_name=name, keep_in_memory=True)
