"""Which runs are behind: asynchronous successive halving.

Li, Jamieson, Rostamizadeh et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", in
the form that stops runs instead of pausing them: a run goes on at a rung while its score is among
the best 1/factor of all that have reached the rung so far.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from raytrain.config.sweep import Stopping


@dataclass(frozen=True, slots=True)
class Behind:
    """Why a run is ended: its rung, its score there, and its place among those that reached it."""

    step: int
    value: float
    place: int
    of: int

    @property
    def reason(self) -> str:
        """The reason as a sentence."""
        return f"stopped by the sweep at step {self.step}: {100 * self.value:.1f}, place {self.place} of {self.of}"


def rungs(stopping: Stopping, *, every: int, last_step: int) -> list[int]:
    """Returns the steps at which runs are compared: scored ones before the last step.

    Each is the first step at or after first_step × factor^k whose checkpoint is scored.
    """
    found, step = list[int](), stopping.first_step
    while (scored := ceil(step / every) * every) < last_step:
        found += [scored] if scored not in found else []
        step *= stopping.factor
    return found


def behind(run: str, scores: Mapping[str, Mapping[int, float]], steps: list[int], stopping: Stopping) -> Behind | None:
    """Returns why `run` should end now, None if it should go on.

    `scores` maps every run, ended or not, to its values by step, higher is better. Only the
    latest rung that the run has reached counts: at earlier ones it was let through. With fewer
    than `factor` runs at a rung, nobody is stopped there.
    """
    reached = [step for step in steps if step in scores.get(run, {})]
    if not reached:
        return None
    step = reached[-1]
    values = [by_step[step] for by_step in scores.values() if step in by_step]
    own = scores[run][step]
    place = 1 + sum(value > own for value in values)
    if len(values) < stopping.factor or place <= len(values) // stopping.factor:
        return None
    return Behind(step, own, place, len(values))
