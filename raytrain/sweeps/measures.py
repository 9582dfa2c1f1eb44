"""What a run gained and forgot, each as one number.

A task counts in its metric's own unit where that is a share (0 to 1). An error counts as the share
of the base model's error that is gone, so that its unit does not matter. Gained is the mean of
after minus before over the trained tasks, forgotten the mean of before minus after over the probes
(backward transfer with its sign turned, `evaluation.forgetting`). Negative values are possible.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raytrain.config.sweep import Objective


@dataclass(frozen=True, slots=True)
class Measures:
    """Gained over the trained tasks, and forgotten over the probes; None without probes."""

    gained: float
    forgotten: float | None

    def value(self, objective: Objective) -> float:
        """Returns what is ranked, higher is better; of `pareto`, gained."""
        match objective:
            case "forgotten":
                return -(self.forgotten or 0.0)
            case "gained-minus-forgotten":
                return self.gained - (self.forgotten or 0.0)
            case _:
                return self.gained


def measure(
    before: Mapping[str, float], now: Mapping[str, float], trained: Sequence[str], probes: Sequence[str]
) -> Measures | None:
    """Compares scores with those before; None unless every task has both.

    Scores are those of `evaluation.results.read_primary_scores`: higher is better, and an error is
    minus the error.
    """
    if any(task not in scores for scores in (before, now) for task in (*trained, *probes)):
        return None
    gains = {task: (now[task] - before[task]) / unit(before[task]) for task in (*trained, *probes)}
    lost = [-gains[task] for task in probes]
    return Measures(sum(gains[task] for task in trained) / len(trained), sum(lost) / len(lost) if lost else None)


def unit(before: float) -> float:
    """Returns what a difference is divided by: the error before, or 1 for a share."""
    return -before if before < 0 else 1.0


def mean(measures: Sequence[Measures]) -> Measures:
    """Returns the mean over seeds."""
    lost = [one.forgotten for one in measures if one.forgotten is not None]
    return Measures(sum(one.gained for one in measures) / len(measures), sum(lost) / len(lost) if lost else None)


def on_front(points: Sequence[Measures]) -> list[bool]:
    """Says of each point whether no other gained at least as much and forgot at most as much.

    Of equal points all are on the front.
    """

    def beaten(one: Measures) -> bool:
        return any(
            other.gained >= one.gained
            and (other.forgotten or 0) <= (one.forgotten or 0)
            and (other.gained > one.gained or (other.forgotten or 0) < (one.forgotten or 0))
            for other in points
        )

    return [not beaten(one) for one in points]
