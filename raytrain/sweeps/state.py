"""What a sweep remembers: its settings and how each run ended. `sweeps/NAME/sweep.json`.

It is replaced as a whole after every change, so a killed sweep goes on where it was. Whether a run
is going on is not kept here: that is seen from the run itself.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from raytrain.config.identity import diff, identity
from raytrain.config.job import FineTuneJob
from raytrain.config.sweep import Sweep
from raytrain.sweeps.jobs import as_written
from raytrain.sweeps.plan import SweepPlan
from raytrain.sweeps.settings import Setting
from raytrain_core.config.loader import ConfigError, from_mapping
from raytrain_core.errors import StorageError, UsageError
from raytrain_core.storage import NotFoundError, Store

FORMAT = 2
RunState = Literal["waiting", "complete", "failed", "stopped"]
_MAY_CHANGE = ("maxConcurrent", "limit", "samples", "job")


@dataclass(frozen=True, slots=True)
class SweepLayout:
    """Keys of a sweep's files under its storage URI."""

    name: str

    @property
    def root(self) -> str:
        """Prefix of everything that belongs to the sweep; its runs are under `runs/`."""
        return f"sweeps/{self.name}"

    @property
    def state(self) -> str:
        """The settings, and how each run ended."""
        return f"{self.root}/sweep.json"

    def leaderboard(self, suffix: str) -> str:
        """The leaderboard as html, svg, md or json."""
        return f"{self.root}/leaderboard.{suffix}"


@dataclass(slots=True)
class SweepRun:
    """One run: a setting with a seed.

    `stopped` was ended by the sweep because it was behind; a waiting run that has a `reason` was
    asked to end for it. `retry` says of a failed run that the next start of the sweep tries it
    again.
    """

    name: str
    setting: int
    seed: int | None
    state: RunState = "waiting"
    reason: str = ""
    retry: bool = False
    seconds: float | None = None
    """From its start to its end, in the process that saw both."""
    storage: str | None = None
    """The URI where its files were when it ended: an operator chooses that, and its job may go."""


@dataclass(slots=True)
class SweepState:
    """All settings and runs of a sweep so far."""

    settings: list[Setting] = field(default_factory=list)
    runs: list[SweepRun] = field(default_factory=list)

    def add(self, plan: SweepPlan, setting: Setting) -> None:
        """Adds a setting with a run for each seed."""
        self.settings.append(setting)
        self.runs += [SweepRun(plan.run_name(setting, seed), setting.number, seed) for seed in plan.seeds]

    def of_setting(self, number: int) -> list[SweepRun]:
        """Returns the runs of a setting, by seed."""
        return [run for run in self.runs if run.setting == number]

    def run(self, name: str) -> SweepRun:
        """Returns the run of that name."""
        return next(run for run in self.runs if run.name == name)

    @property
    def waiting(self) -> list[SweepRun]:
        """The runs that have not ended."""
        return [run for run in self.runs if run.state == "waiting"]


def open_state(store: Store, plan: SweepPlan) -> SweepState:
    """Returns the state of a sweep, with all settings that are known now; stores nothing.

    Runs that failed for a reason that may pass are waiting again. Raises UsageError if a sweep of
    this name has another job or other parameters, StorageError if its state cannot be read.
    """
    state = _read(store, plan)
    known = {plan.result_key(setting.chosen) for setting in state.settings}
    for setting in plan.settings()[0]:
        if plan.result_key(setting.chosen) not in known:
            state.add(plan, Setting(len(state.settings), setting.chosen))
    for run in state.runs:
        if run.state == "failed" and run.retry:
            run.state, run.reason, run.retry = "waiting", "", False
    return state


def save_state(store: Store, plan: SweepPlan, state: SweepState) -> None:
    """Stores the state, replacing the one before."""
    body = {
        "format": FORMAT,
        "sweep": as_written(plan.sweep),
        "job": as_written(plan.job),
        "settings": [{"number": one.number, "chosen": dict(one.chosen)} for one in state.settings],
        "runs": [asdict(run) for run in state.runs],
    }
    store.put(SweepLayout(plan.name).state, (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode())


def _read(store: Store, plan: SweepPlan) -> SweepState:
    key = SweepLayout(plan.name).state
    try:
        body = json.loads(store.get(key))
        changes = _changes(body, plan)
        settings = [Setting(one["number"], one["chosen"]) for one in body["settings"]]
        state = SweepState(settings, [SweepRun(**run) for run in body["runs"]])
    except NotFoundError:
        return SweepState()
    except (ConfigError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(
            f"{store.uri}/{key}: not the state of a sweep that this version can read ({error})",
            hint="give the sweep another name; its runs are not affected",
        ) from None
    if changes:
        raise UsageError(
            f"{store.uri}/{SweepLayout(plan.name).root} is another sweep of this name:\n"
            + "\n".join(f"    {change}" for change in changes),
            hint="give the sweep another metadata.name",
        )
    return state


def _changes(body: dict[str, Any], plan: SweepPlan) -> Sequence[str]:
    """Returns what differs from a stored sweep and its job.

    Both sides have today's defaults, so that a field which is new in this version is no difference.
    """
    if body["format"] != FORMAT:
        raise ValueError(f"its format is {body['format']}, not {FORMAT}")
    sweep, job = from_mapping(body["sweep"], Sweep), from_mapping(body["job"], FineTuneJob)
    return [
        *diff({"sweep": _identity(sweep)}, {"sweep": _identity(plan.sweep)}),
        *diff({"job": identity(job)}, {"job": identity(plan.job)}),
    ]


def _identity(sweep: Sweep) -> dict[str, Any]:
    """Returns the fields of a sweep that decide its results."""
    spec = sweep.spec.model_dump(mode="json", by_alias=True)
    return {name: value for name, value in spec.items() if name not in _MAY_CHANGE}
