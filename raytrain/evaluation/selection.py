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

    `headlines` maps step to task to the headline value on validation rows, turned so that higher is better: a fraction
    (0..1), or an error measure as minus the error, in whatever unit it has. A step counts only if every trained task
    was scored there; the largest unweighted mean wins, the later step wins a tie. An error counts as the share of the
    task's worst error so far (the model's before training among them) that is gone, so that its unit has no say.
    Raises ValueError where there is no checkpoint at all.
    """
    if not steps:
        raise ValueError("no checkpoint to choose from")
    last = max(steps)
    if select == "last":
        return Choice(last, "the last one, as the document asks")
    worst = {task: _worst_error(headlines, task) for task in tasks}
    complete = {
        step: sum(_share(headlines[step][task], worst[task]) for task in tasks) / len(tasks)
        for step in steps
        if all(task in headlines.get(step, {}) for task in tasks)
    }
    if not complete:
        return Choice(last, "the last one: no checkpoint was scored on every task")
    best = max(complete, key=lambda step: (complete[step], step))
    errors = [task for task in tasks if worst[task] > 0]
    how = (
        f", where an error ({', '.join(errors)}) counts as the share of its worst value that is gone" if errors else ""
    )
    mean = 100 * complete[best]
    return Choice(best, f"best mean of the tasks' headline scores on validation rows ({mean:.1f} of 100{how})")


def _worst_error(headlines: Mapping[int, Mapping[str, float]], task: str) -> float:
    """The largest error of the task at any step; 0 where its headline is a fraction, or was always without error."""
    return max([0.0, *(-scores[task] for scores in headlines.values() if task in scores)])


def _share(value: float, worst_error: float) -> float:
    """A headline as a fraction: 0 for the worst error, 1 for none; what is a fraction already stays."""
    return 1 + value / worst_error if worst_error > 0 else value
