"""Which checkpoint becomes the model: chosen on validation rows, never on test rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen step, and the reason in a sentence."""

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
    """Chooses one of `steps`, the committed checkpoints.

    `primary_scores` maps step to task to the primary score on validation rows, higher is better: a
    fraction (0 to 1), or minus an error in whatever unit it has. Only steps where every task in
    `tasks` was scored count. The largest unweighted mean wins, of equals the later step. An error
    counts as the share of the task's worst error so far (the base model's included) that is gone,
    so that its unit does not matter.

    With `max_forgetting` a step does not count where the score of one of `probes` is further than
    that below the base model's (step 0), unless no step would be left. Raises ValueError where
    there is no checkpoint at all.
    """
    if not steps:
        raise ValueError("no checkpoint to choose from")
    last = max(steps)
    if select == "last":
        return Choice(last, "the last checkpoint, as evaluation.select requests")
    worst = {task: _worst_error(primary_scores, task) for task in tasks}
    means = {
        step: sum(_share(primary_scores[step][task], worst[task]) for task in tasks) / len(tasks)
        for step in steps
        if _has_all(primary_scores.get(step, {}), tasks)
    }
    if not means:
        return Choice(last, "the last checkpoint: none was scored on every task")
    forgot = []
    if max_forgetting is not None:
        forgot = [step for step in means if _forgetting(primary_scores, step, probes) > max_forgetting]
    candidates = {step: mean for step, mean in means.items() if step not in forgot} or means
    best = max(candidates, key=lambda step: (candidates[step], step))
    errors = [task for task in tasks if worst[task] > 0]
    return Choice(best, _reason(means[best], errors, forgot=len(forgot), all_forgot=candidates is means))


def _reason(mean: float, errors: Sequence[str], *, forgot: int, all_forgot: bool) -> str:
    how = (
        f", where an error ({', '.join(errors)}) counts as the share of its worst value that is gone" if errors else ""
    )
    reason = f"best mean of the tasks' primary scores on validation rows ({100 * mean:.1f} of 100{how})"
    if forgot and all_forgot:
        return f"{reason}; every checkpoint forgot more than evaluation.maxForgetting allows"
    if forgot:
        return f"{reason}, without the {forgot} that forgot more than evaluation.maxForgetting allows"
    return reason


def has_stopped_improving(primary_scores: Mapping[int, Mapping[str, float]], tasks: list[str], patience: int) -> bool:
    """Whether none of the last `patience` complete checkpoints is better than all before them.

    Complete means that every task in `tasks` was scored.
    """
    complete = sorted(step for step, by_task in primary_scores.items() if step > 0 and _has_all(by_task, tasks))
    if len(complete) <= patience:
        return False
    worst = {task: _worst_error(primary_scores, task) for task in tasks}
    sums = [sum(_share(primary_scores[step][task], worst[task]) for task in tasks) for step in complete]
    return max(sums[-patience:]) <= max(sums[:-patience])


def _has_all(by_task: Mapping[str, float], tasks: Sequence[str]) -> bool:
    return all(task in by_task for task in tasks)


def _forgetting(primary_scores: Mapping[int, Mapping[str, float]], step: int, probes: Sequence[str]) -> float:
    """Largest loss of a probe since step 0, in its metric's unit; 0 if unknown."""
    base, now = primary_scores.get(0, {}), primary_scores[step]
    return max([0.0, *(base[probe] - now[probe] for probe in probes if probe in base and probe in now)])


def _worst_error(primary_scores: Mapping[int, Mapping[str, float]], task: str) -> float:
    """Largest error of the task at any step; 0 where its primary score is a fraction."""
    return max([0.0, *(-scores[task] for scores in primary_scores.values() if task in scores)])


def _share(value: float, worst_error: float) -> float:
    """A score as a fraction: of errors, 0 for the worst and 1 for none."""
    return 1 + value / worst_error if worst_error > 0 else value
