"""What a model lost and gained: the figures of the continual-learning literature, on plain numbers.

Fine-tuning on a mixture is one step of learning, so the definitions shrink to: R_before, the scores of the base
model; R_t, those of checkpoint t; R_after. All figures here are in the metric's own unit, turned so that a
positive *forgetting* is a loss and a positive *transfer* a gain, for error measures too.

- Best so far minus now: f_j = max over t of R_t,j - R_now,j, "before" among the t
  (Chaudhry, Dokania, Ajanthan, Torr 2018, "Riemannian Walk for Incremental Learning", eq. 3).
- Average forgetting: mean of f_j over tasks (ibid., F_k).
- Backward transfer: mean of R_after,j - R_before,j over tasks that were not trained on
  (Lopez-Paz, Ranzato 2017, "Gradient Episodic Memory for Continual Learning", BWT).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raytrain.evaluation.metrics import Metric, Paired, paired
from raytrain.evaluation.metrics.base import Floats
from raytrain.evaluation.scores import Prediction

_Row = tuple[str, int, int]  # id, wording, how many of the same came before it


@dataclass(frozen=True, slots=True)
class Forgetting:
    """One task: before minus after (positive is a loss) with its 95 % interval, on the rows that both answered."""

    task: str
    metric: str
    before: float
    after: float
    lost: float
    low: float
    high: float
    rows: int
    verdict: str


def compare(metric: Metric, before: Sequence[Prediction], after: Sequence[Prediction]) -> Paired | None:
    """After against before on the rows that both have, by id and wording; None if there is none.

    Where several rows share an id and a wording, the first of one side stands against the first of the other.
    """
    first, second = _by_row(before), _by_row(after)
    common = [key for key in first if key in second]
    if not common:
        return None
    return paired(metric, _stats(metric, first, common), _stats(metric, second, common))


def forgetting(
    task: str, metric: Metric, before: Sequence[Prediction], after: Sequence[Prediction]
) -> Forgetting | None:
    """What the task lost, None where no row was answered by both."""
    result = compare(metric, before, after)
    if result is None:
        return None
    sides = sorted((-metric.improvement(result.low), -metric.improvement(result.high)))
    return Forgetting(
        task=task,
        metric=metric.name,
        before=result.before,
        after=result.after,
        lost=-metric.improvement(result.difference) + 0.0,  # + 0.0: no "-0.0"
        low=sides[0] + 0.0,
        high=sides[1] + 0.0,
        rows=result.rows,
        verdict={"worse": "forgotten", "better": "gained"}.get(result.verdict, result.verdict),
    )


def best_minus_now(metric: Metric, scores: Sequence[float]) -> float:
    """Best of `scores` (before and checkpoints, in order of steps) minus the last; never negative."""
    if not scores:
        raise ValueError("there are no scores")
    turned = [metric.improvement(score) for score in scores]
    return max(turned) - turned[-1]


def average_forgetting(by_task: Mapping[str, float]) -> float | None:
    """Mean over tasks of `best_minus_now`; None without tasks. Only tasks whose scores are fractions may be mixed."""
    return float(np.mean(list(by_task.values()))) if by_task else None


def backward_transfer(results: Sequence[Forgetting]) -> float | None:
    """Mean of after minus before over `results`, positive is a gain; None without any."""
    return float(np.mean([-result.lost for result in results])) if results else None


def verdict_sentence(results: Sequence[Forgetting]) -> str:
    """What happened to the probes, in a sentence."""
    if not results:
        return "No probe was scored, so nothing can be said about what was forgotten."
    lost = [r for r in results if r.verdict == "forgotten"]
    gained = [r for r in results if r.verdict == "gained"]
    same = [r for r in results if r not in lost and r not in gained]
    parts = []
    if lost:
        parts.append("forgot " + _list([f"{r.task} ({_change(r)})" for r in lost]))
    if gained:
        parts.append("gained on " + _list([f"{r.task} ({_change(r)})" for r in gained]))
    if same:
        parts.append(
            ("kept " if not parts else "shows no change beyond the noise on ")
            + _list([f"{r.task} ({_change(r)})" for r in same])
        )
    end = "" if lost or gained or len(same) > 1 else ": the difference is inside the noise"
    if not lost and not gained and len(same) > 1:
        end = ": all differences are inside the noise"
    return "The model " + _list(parts) + end + "."


def _change(result: Forgetting) -> str:
    return f"{result.metric} {result.before:.3f} to {result.after:.3f}"


def _list(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _by_row(predictions: Sequence[Prediction]) -> dict[_Row, Prediction]:
    seen: Counter[tuple[str, int]] = Counter()
    found = {}
    for p in predictions:
        found[p.id, p.template, seen[p.id, p.template]] = p
        seen[p.id, p.template] += 1
    return found


def _stats(metric: Metric, rows: Mapping[_Row, Prediction], keys: Sequence[_Row]) -> Floats:
    return np.array([rows[key].stats for key in keys], dtype=np.float64).reshape(len(keys), len(metric.columns))
