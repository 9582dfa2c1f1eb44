"""Which checkpoint becomes the model: validation rows choose, test rows never do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen step and, in a sentence, why."""

    step: int
    reason: str


def choose(
    primary_scores: Mapping[int, Mapping[str, float]],
    steps: list[int],
    tasks: list[str],
    *,
    select: str = "best",
    probes: Sequence[str] = (),
    max_forgetting: float | None = None,
) -> Choice:
    """Pick one of `steps`, the committed checkpoints.

    `headlines` maps step to task to the headline value on validation rows, turned so that higher is
    better: a fraction (0..1), or an error measure as minus the error, in whatever unit it has. A
    step counts only if every trained task was scored there; the largest unweighted mean wins, the
    later step wins a tie. An error counts as the share of the task's worst error so far (the
    model's before training among them) that is gone, so that its unit has no say. With
    `most_forgetting` a step does not count where the headline of one of `probes` is further than
    that below the base model's (step 0), unless that would leave none. Raises ValueError where
    there is no checkpoint at all.
    """
    if not steps:
        raise ValueError("no checkpoint to choose from")
    last = max(steps)
    if select == "last":
        return Choice(last, "the last one, as the job asks")
    worst = {task: _worst_error(primary_scores, task) for task in tasks}
    complete = {
        step: sum(_share(primary_scores[step][task], worst[task]) for task in tasks) / len(tasks)
        for step in steps
        if all(task in primary_scores.get(step, {}) for task in tasks)
    }
    if not complete:
        return Choice(last, "the last one: no checkpoint was scored on every task")
    forgot = []
    if max_forgetting is not None:
        forgot = [step for step in complete if _forgetting(primary_scores, step, probes) > max_forgetting]
    within = {step: value for step, value in complete.items() if step not in forgot} or complete
    best = max(within, key=lambda step: (within[step], step))
    errors = [task for task in tasks if worst[task] > 0]
    how = (
        f", where an error ({', '.join(errors)}) counts as the share of its worst value that is gone" if errors else ""
    )
    mean = 100 * complete[best]
    why = f"best mean of the tasks' headline scores on validation rows ({mean:.1f} of 100{how})"
    if forgot and within is complete:
        why += "; every checkpoint forgot more than evaluation.maxForgetting allows"
    elif forgot:
        why += f" among those that forgot no more than evaluation.maxForgetting ({len(forgot)} others did)"
    return Choice(best, why)


def stale(primary_scores: Mapping[int, Mapping[str, float]], tasks: list[str], patience: int) -> bool:
    """Whether the last `patience` checkpoints that were scored on every task are no better than one before them."""
    scored = sorted(step for step, found in primary_scores.items() if step > 0 and all(task in found for task in tasks))
    if len(scored) <= patience:
        return False
    worst = {task: _worst_error(primary_scores, task) for task in tasks}
    means = [sum(_share(primary_scores[step][task], worst[task]) for task in tasks) for step in scored]
    return max(means[-patience:]) <= max(means[:-patience])


def _forgetting(primary_scores: Mapping[int, Mapping[str, float]], step: int, probes: Sequence[str]) -> float:
    """How far the worst of the probes has fallen since step 0, in its metric's unit; 0 where that is not known."""
    base, now = primary_scores.get(0, {}), primary_scores[step]
    return max([0.0, *(base[probe] - now[probe] for probe in probes if probe in base and probe in now)])


def _worst_error(primary_scores: Mapping[int, Mapping[str, float]], task: str) -> float:
    """The largest error of the task at any step; 0 where its headline is a fraction, or was always without error."""
    return max([0.0, *(-scores[task] for scores in primary_scores.values() if task in scores)])


def _share(value: float, worst_error: float) -> float:
    """A headline as a fraction: 0 for the worst error, 1 for none; what is a fraction already stays."""
    return 1 + value / worst_error if worst_error > 0 else value
