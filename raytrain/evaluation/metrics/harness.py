"""Metrics that lm-evaluation-harness computes row by row, under the names it gives them."""

from collections.abc import Sequence

import numpy as np

from raytrain.evaluation.metrics.base import MeanMetric, Meta, Scale
from raytrain_core.errors import DataError

SUFFIX = "@lm-eval"
SCORES = "harness_scores"
"""Key of a row's meta: what the harness gave the row, by metric."""
_FRACTIONS = (
    "acc",
    "acc_norm",
    "acc_bytes",
    "acc_mutual_info",
    "exact_match",
    "em",
    "f1",
    "rouge1",
    "rouge2",
    "rougeL",
)


class HarnessMetric(MeanMetric):
    """Mean over rows of a metric of lm-evaluation-harness; its name is `METRIC@lm-eval`."""

    measured = (SCORES,)

    def __init__(self, name: str) -> None:
        self.name = name
        self._metric = name.removesuffix(SUFFIX)
        self.scale: Scale = "percent" if self._metric.partition(",")[0] in _FRACTIONS else "raw"

    @property
    def protocol(self) -> str:
        """Whose metric it is."""
        return f"{self._metric} as lm-evaluation-harness computes it for each row, mean over rows"

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Returns the row's value; raises DataError where the harness gave none."""
        found = (meta.get(SCORES) or {}).get(self._metric)
        if found is None or not np.isfinite(found):
            raise DataError(f"{self.name}: the harness gave a row no such score")
        return float(found)
