"""Which checkpoint becomes the model: validation rows choose, test rows never do."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen step and, in a sentence, why."""

    step: int
    reason: str


def choose(
    headlines: Mapping[int, Mapping[str, float]], steps: list[int], tasks: list[str], *, select: str = "best"
) -> Choice:
    """Pick one of `steps`, the committed checkpoints.

    `headlines` maps step to task to the headline value on validation rows (higher is better, 0..1). A step counts only
    if every trained task was scored there; the largest unweighted mean wins, the later step wins a tie.
    Raises ValueError where there is no checkpoint at all.
    """
    if not steps:
        raise ValueError("no checkpoint to choose from")
    last = max(steps)
    complete = {
        step: sum(headlines[step][task] for task in tasks) / len(tasks)
        for step in steps
        if all(task in headlines.get(step, {}) for task in tasks)
    }
    if select == "last":
        return Choice(last, "the last one, as the document asks")
    if not complete:
        return Choice(last, "the last one: no checkpoint was scored on every task")
    best = max(complete, key=lambda step: (complete[step], step))
    mean = 100 * complete[best]
    return Choice(best, f"best mean of the tasks' headline scores on validation rows ({mean:.1f} of 100)")
