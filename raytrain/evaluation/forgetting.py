"""What a model lost and gained: the figures of the continual-learning literature, on plain numbers.

Fine-tuning on a mixture is one step of learning, so the definitions shrink to: R_before, the scores
of the base model; R_t, those of checkpoint t; R_after. All figures here are in the metric's own
unit, turned so that a positive *forgetting* is a loss and a positive *transfer* a gain, for error
measures too.

- Best so far minus now: f_j = max over t of R_t,j - R_now,j, "before" among the t
  (Chaudhry, Dokania, Ajanthan, Torr 2018, "Riemannian Walk for Incremental Learning", eq. 3).
- Average forgetting: mean of f_j over tasks (ibid., F_k).
- Backward transfer: mean of R_after,j - R_before,j over tasks that were not trained on
  (Lopez-Paz, Ranzato 2017, "Gradient Episodic Memory for Continual Learning", BWT).
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from raytrain.evaluation.metrics import Metric, Paired, paired
from raytrain.evaluation.metrics.base import Floats
from raytrain.evaluation.results import Prediction

_Row = tuple[str, int, int]  # id, wording, how many of the same came before it


def compare(metric: Metric, before: Sequence[Prediction], after: Sequence[Prediction]) -> Paired | None:
    """After against before on the rows that both have, by id and wording; None if there is none.

    Where several rows share an id and a wording, the first of one side stands against the first of
    the other.
    """
    first, second = _by_row(before), _by_row(after)
    common = [key for key in first if key in second and first[key].stats and second[key].stats]
    if not common:
        return None
    return paired(metric, _stats(first, common), _stats(second, common))


def best_minus_now(metric: Metric, scores: Sequence[float]) -> float:
    """Best of `scores` (before and checkpoints, in order of steps) minus the last; never negative."""
    if not scores:
        raise ValueError("there are no scores")
    turned = [metric.improvement(score) for score in scores]
    return max(turned) - turned[-1]


def average_forgetting(by_task: Mapping[str, float]) -> float | None:
    """Mean over tasks of `best_minus_now`; None without tasks.

    Only tasks whose scores are fractions may be mixed.
    """
    return float(np.mean(list(by_task.values()))) if by_task else None


def backward_transfer(gains: Sequence[float]) -> float | None:
    """Mean of `gains`, which are after minus before of each task (positive is better); None without any."""
    return float(np.mean(gains)) if gains else None


def _by_row(predictions: Sequence[Prediction]) -> dict[_Row, Prediction]:
    seen: Counter[tuple[str, int]] = Counter()
    found = {}
    for p in predictions:
        found[p.id, p.template, seen[p.id, p.template]] = p
        seen[p.id, p.template] += 1
    return found


def _stats(rows: Mapping[_Row, Prediction], keys: Sequence[_Row]) -> Floats:
    return np.array([rows[key].stats for key in keys], dtype=np.float64)
