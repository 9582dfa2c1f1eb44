"""What a model forgot and gained, with the measures of the continual-learning literature.

Fine-tuning on a mixture is one step of learning, so the definitions shrink to: R_before, the scores
of the base model; R_t, those of checkpoint t; R_after. All figures are in the metric's own unit,
with their sign set so that a positive *forgetting* is a loss and a positive *transfer* a gain, for
error measures too.

- Best minus now: f_j = max over t of R_t,j - R_now,j, "before" among the t
  (Chaudhry, Dokania, Ajanthan, Torr 2018, "Riemannian Walk for Incremental Learning", eq. 3).
- Average forgetting: mean of f_j over tasks that were not trained (ibid., F_k, over earlier tasks).
- Backward transfer: mean of R_after,j - R_before,j over tasks that were not trained
  (Lopez-Paz, Ranzato 2017, "Gradient Episodic Memory for Continual Learning", BWT).
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from raytrain.evaluation.metrics import Metric, Paired, paired
from raytrain.evaluation.metrics.base import Floats
from raytrain.evaluation.results import Prediction

_RowKey = tuple[str, int, int]  # id, template, number of earlier rows with the same two


def compare(metric: Metric, before: Sequence[Prediction], after: Sequence[Prediction]) -> Paired | None:
    """Compares the rows that both have, matched by id and template; None if there are none.

    Where several rows share an id and a template, they are matched in their order.
    """
    found = common_stats(before, after)
    return None if found is None else paired(metric, *found)


def common_stats(before: Sequence[Prediction], after: Sequence[Prediction]) -> tuple[Floats, Floats] | None:
    """Returns the statistics of the rows that both have, shape (rows, columns); None without any.

    Rows are matched as by `compare`.
    """
    first, second = _by_row(before), _by_row(after)
    common = [key for key in first if key in second and first[key].stats and second[key].stats]
    return (_stats(first, common), _stats(second, common)) if common else None


def best_minus_now(metric: Metric, scores: Sequence[float]) -> float:
    """Best of `scores` (before, then checkpoints by step) minus the last one; never negative.

    Chaudhry et al. 2018, eq. 3. Raises ValueError without scores.
    """
    if not scores:
        raise ValueError("there are no scores")
    oriented = [metric.improvement(score) for score in scores]
    return max(oriented) - oriented[-1]


def average_forgetting(by_task: Mapping[str, float]) -> float | None:
    """Mean of `best_minus_now` over tasks (Chaudhry et al. 2018, F_k); None without tasks.

    All scores must be in the same unit, such as fractions.
    """
    return float(np.mean(list(by_task.values()))) if by_task else None


def backward_transfer(gains: Sequence[float]) -> float | None:
    """Mean of after minus before of each task (Lopez-Paz, Ranzato 2017); None without any."""
    return float(np.mean(gains)) if gains else None


def _by_row(predictions: Sequence[Prediction]) -> dict[_RowKey, Prediction]:
    seen: Counter[tuple[str, int]] = Counter()
    rows = {}
    for p in predictions:
        rows[p.id, p.template, seen[p.id, p.template]] = p
        seen[p.id, p.template] += 1
    return rows


def _stats(rows: Mapping[_RowKey, Prediction], keys: Sequence[_RowKey]) -> Floats:
    return np.array([rows[key].stats for key in keys], dtype=np.float64)
