"""The loop of a sweep: starts runs, sees them end, ends those that are behind.

The same loop drives processes on this machine and FineTuneJobs in a cluster (`Runs`).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from raytrain.config.job import FineTuneJob
from raytrain.config.run_layout import RunLayout
from raytrain.runs.record import read_record
from raytrain.sweeps.data_key import data_key
from raytrain.sweeps.plan import SweepPlan
from raytrain.sweeps.settings import label_of
from raytrain.sweeps.state import SweepRun, SweepState
from raytrain.sweeps.stopping import behind, rungs
from raytrain.sweeps.validation import validation_measures
from raytrain_core.errors import UserError
from raytrain_core.storage import Store


@dataclass(frozen=True, slots=True)
class Seen:
    """What is seen of a run: `absent` was not started or was interrupted, and can be (re)started.

    `retry` says of a failure that it may pass.
    """

    state: Literal["absent", "running", "complete", "failed"]
    reason: str = ""
    retry: bool = False


class Runs(Protocol):
    """Where the runs of a sweep happen."""

    def start(self, job: FineTuneJob) -> None:
        """Starts the run of this job, or resumes it; raises a UserError if that is refused."""
        ...

    def look(self, name: str) -> Seen:
        """Returns what is seen of a run now."""
        ...

    def stop(self, name: str) -> None:
        """Asks a run to end at the next safe point."""
        ...

    def store_of(self, name: str) -> Store:
        """Returns the storage of a run."""
        ...


@dataclass(slots=True)
class _Loop:
    plan: SweepPlan
    state: SweepState
    runs: Runs
    most: int
    save: Callable[[], None]
    say: Callable[[str], None]
    propose: Callable[[SweepState], bool]
    live: dict[str, float] = field(default_factory=dict)
    """Names of the runs that go on, with when they were first seen here."""
    judged: dict[str, int] = field(default_factory=dict)
    """The latest rung at which each run was judged."""
    prepared: set[str] = field(default_factory=set)
    keys: dict[str, str] = field(default_factory=dict)
    """Of each run: the data that it trains and is scored on."""
    ended: dict[str, dict[int, float]] = field(default_factory=dict)
    """The values of runs that have ended, by step."""

    def first_look(self) -> None:
        """Finds runs that ended or go on since the sweep was here last."""
        for run in self.state.waiting:
            self.see(run)
            if run.reason and run.name in self.live:  # asked to end, by a sweep that was killed meanwhile
                self.runs.stop(run.name)

    def turn(self) -> bool:
        """One look at what goes on; returns whether something is left to do."""
        for run in [run for run in self.state.waiting if run.name in self.live]:
            self.see(run)
        self.stop_those_behind()
        self.start_next()
        return bool(self.state.waiting)

    def see(self, run: SweepRun) -> None:
        """Notices that a run goes on or has ended."""
        seen = self.runs.look(run.name)
        if seen.state == "running":
            self.live.setdefault(run.name, time.monotonic())
            return
        if seen.state == "absent" and not run.reason:
            self.live.pop(run.name, None)
            return
        began = self.live.pop(run.name, None)
        run.seconds = None if began is None else round(time.monotonic() - began, 1)
        if seen.state == "complete":
            run.state, run.reason = "complete", ""
        elif run.reason:
            run.state = "stopped"
        else:
            run.state, run.reason, run.retry = "failed", seen.reason, seen.retry
        run.storage = self.runs.store_of(run.name).uri
        self.save()
        self.say(self.line(run))

    def start_next(self) -> None:
        """Starts runs while there is room."""
        while len(self.live) < self.most:
            waiting, busy = [run for run in self.state.waiting if run.name not in self.live], self.being_prepared()
            run = next((run for run in waiting if self.key_of(run) not in busy), None)
            if run is None:
                if waiting or not self.propose(self.state):
                    return
                self.save()
                continue
            self.start(run)

    def start(self, run: SweepRun) -> None:
        """Starts a run; one that is refused is a failed one."""
        setting = self.state.settings[run.setting]
        try:
            self.runs.start(self.plan.job_of(setting, run.seed))
        except UserError as error:
            run.state, run.reason = "failed", error.message.splitlines()[0]
            self.save()
            self.say(self.line(run))
            return
        self.live[run.name] = time.monotonic()
        self.say(f"{run.name}: started ({label_of(setting.chosen)})")

    def being_prepared(self) -> set[str]:
        """The data that a run prepares right now: another run that started would do it twice."""
        keys = {self.key_of(run) for run in self.state.waiting if run.name in self.live} - self.prepared
        for run in self.state.runs if keys else []:
            if self.key_of(run) in keys - self.prepared and self.has_prepared(run):
                self.prepared.add(self.key_of(run))
        return keys - self.prepared

    def key_of(self, run: SweepRun) -> str:
        """The data that a run trains and is scored on."""
        if run.name not in self.keys:
            self.keys[run.name] = data_key(self.plan.job_of(self.state.settings[run.setting], run.seed))
        return self.keys[run.name]

    def has_prepared(self, run: SweepRun) -> bool:
        """Whether a run's shard set is known to be complete."""
        if run.state != "waiting":
            return run.state != "failed"
        record = read_record(self.runs.store_of(run.name), RunLayout(run.name)) if run.name in self.live else None
        return record is not None and record.shard_set is not None

    def stop_those_behind(self) -> None:
        """Judges each run that has reached a further rung.

        The job as written always goes on, as every setting is compared with it.
        """
        stopping = self.plan.spec.stopping
        if stopping is None:
            return
        spec = self.plan.job.spec
        steps = rungs(stopping, every=spec.evaluation.every, last_step=spec.training.last_step)
        scores = {run.name: self.values(run) for run in self.state.runs}
        for run in [run for run in self.state.waiting if run.name in self.live and run.setting and not run.reason]:
            reached = max((step for step in steps if step in scores[run.name]), default=0)
            if reached <= self.judged.get(run.name, 0):
                continue
            self.judged[run.name] = reached
            if (found := behind(run.name, scores, steps, stopping)) is not None:
                run.reason = found.reason
                self.save()
                self.runs.stop(run.name)

    def values(self, run: SweepRun) -> dict[int, float]:
        """The objective of a run's checkpoints on validation rows, by step."""
        if run.name in self.ended:
            return self.ended[run.name]
        if run.state == "waiting" and run.name not in self.live:
            return {}
        found = validation_measures(self.runs.store_of(run.name), run.name, self.plan)
        values = {step: one.value(self.plan.spec.objective) for step, one in found.items()}
        if run.state != "waiting":
            self.ended[run.name] = values
        return values

    def line(self, run: SweepRun) -> str:
        """What happened to a run, in a line."""
        ended = sum(one.state != "waiting" for one in self.state.runs)
        took = "" if run.seconds is None else f" after {run.seconds:.0f} s"
        reason = f": {run.reason}" if run.reason else ""
        return f"{run.name}: {run.state}{took}{reason} ({ended} of {len(self.state.runs)})"


def run_sweep(
    plan: SweepPlan,
    state: SweepState,
    runs: Runs,
    *,
    most: int,
    save: Callable[[], None],
    say: Callable[[str], None],
    propose: Callable[[SweepState], bool] = lambda state: False,
    poll_seconds: float = 1.0,
) -> None:
    """Runs what has not ended, at most `most` at once, until everything has.

    `save` is called after every change of `state`. `propose` adds the next setting of a search, and
    returns False when there is none.
    """
    loop = _Loop(plan, state, runs, most, save, say, propose)
    save()
    loop.first_look()
    while loop.turn():
        time.sleep(poll_seconds)
