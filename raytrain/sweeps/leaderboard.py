"""The leaderboard of a sweep: settings by what they gained and forgot, next to the job as written.

Settings are ranked on validation rows. What is said about them, and about the best one in
particular, rests on test rows, which nothing was chosen by.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from raytrain.evaluation.holm import adjust
from raytrain.sweeps import results
from raytrain.sweeps.differences import MeanDifference, is_shown
from raytrain.sweeps.measures import Measures, mean, on_front
from raytrain.sweeps.plan import SweepPlan
from raytrain.sweeps.results import RunScores
from raytrain.sweeps.settings import Setting
from raytrain.sweeps.state import SweepRun, SweepState
from raytrain_core.errors import UserError
from raytrain_core.storage import Store


@dataclass(frozen=True, slots=True)
class Against:
    """A setting minus the job as written on test rows; positive is better.

    `p` is corrected for the number of comparisons of the leaderboard (Holm). `better` and `worse`
    are more than chance, and the same in every seed.
    """

    difference: MeanDifference
    p: float | None

    @property
    def verdict(self) -> str:
        """better, worse, not shown, or too few rows."""
        if self.p is None:
            return "too few rows"
        if not is_shown(self.difference, self.p):
            return "not shown"
        return "better" if self.difference.value > 0 else "worse"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A setting against the job as written: by what it gained, what it kept, and the objective."""

    gained: Against | None = None
    kept: Against | None = None
    objective: Against | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One setting.

    `validation` is the mean over seeds by which it is ranked. `gained` and `kept` are changes on
    test rows over the trained tasks and over the probes: what was forgotten is minus `kept`. The
    job as written is not compared with itself. `problem` says why a setting is not ranked.
    """

    number: int
    label: str
    runs: tuple[str, ...]
    validation: Measures | None = None
    gained: MeanDifference | None = None
    kept: MeanDifference | None = None
    against: Comparison = Comparison()
    on_front: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class SweepLeaderboard:
    """All settings of a sweep, best first, then those that are not ranked."""

    name: str
    storage: str
    objective: str
    seeds: int
    trained: tuple[str, ...]
    probes: tuple[str, ...]
    lines: tuple[Line, ...]
    waiting: int
    """Runs that have not ended."""
    notes: tuple[str, ...] = ()

    @property
    def ranked(self) -> tuple[Line, ...]:
        """The lines that are ranked, best first."""
        return tuple(line for line in self.lines if not line.problem)

    @property
    def as_written(self) -> Line | None:
        """The job as written, if it is ranked."""
        return next((line for line in self.ranked if line.number == 0), None)


def make_leaderboard(
    plan: SweepPlan,
    state: SweepState,
    store_of: Callable[[str], Store],
    *,
    storage: str,
    notes: Sequence[str] = (),
) -> SweepLeaderboard:
    """Reads what the runs left in storage and ranks their settings."""
    scores = {setting.number: _scores(plan, state, setting, store_of) for setting in state.settings}
    base = scores.get(0)
    ranked, problems = list[Line](), list[Line]()
    for setting in state.settings:
        found, runs = scores[setting.number], state.of_setting(setting.number)
        if isinstance(found, str):
            problems.append(Line(setting.number, setting.label, tuple(run.name for run in runs), problem=found))
        else:
            ranked.append(_line(plan, setting, runs, found, base if isinstance(base, dict) else None))
    ranked = _corrected(_with_front(ranked))
    objective = plan.spec.objective
    order = sorted(
        ranked,
        key=lambda line: (
            not line.on_front if objective == "pareto" else False,
            -(line.validation.value(objective) if line.validation else 0.0),
            line.number,
        ),
    )
    lines = [line for line in order if not line.problem] + [line for line in order if line.problem] + problems
    return SweepLeaderboard(
        plan.name, storage, objective, len(plan.seeds), plan.trained, plan.probes, tuple(lines), len(state.waiting),
        tuple(notes),
    )  # fmt: skip


_BySeed = dict[int | None, RunScores]


def _scores(plan: SweepPlan, state: SweepState, setting: Setting, store_of: Callable[[str], Store]) -> _BySeed | str:
    """Returns the scores of a setting's runs by seed, or why the setting is not ranked."""
    runs = state.of_setting(setting.number)
    if reasons := list(dict.fromkeys(_why_not(run) for run in runs if run.state != "complete")):
        return "; ".join(reasons)
    found: _BySeed = {}
    for run in runs:
        try:
            found[run.seed] = results.read_run_scores(store_of(run.name), run.name, plan)
        except UserError as error:
            return error.message
    if any(one.measures is None for one in found.values()):
        return "its model was not scored on validation rows of every task that counts"
    return found


def _why_not(run: SweepRun) -> str:
    return run.reason or ("not finished" if run.state == "waiting" else run.state)


def _line(plan: SweepPlan, setting: Setting, runs: Sequence[SweepRun], found: _BySeed, base: _BySeed | None) -> Line:
    ours = list(found.values())
    names = tuple(run.name for run in runs)
    validation = mean([one.measures for one in ours if one.measures is not None])
    gained, kept = results.change(ours, plan.trained), results.change(ours, plan.probes)
    line = Line(setting.number, setting.label, names, validation, gained, kept)
    if base is None or setting.number == 0:
        return line
    theirs = list(base.values())
    if reasons := results.incomparable(theirs, ours):
        text = f"not comparable with the job as written: {'; '.join(reasons)}"
        return Line(setting.number, setting.label, names, problem=text)
    return replace(line, against=Comparison(*(_against(theirs, ours, groups) for groups in _compared(plan))))


def _against(theirs: Sequence[RunScores], ours: Sequence[RunScores], groups: Sequence[Sequence[str]]) -> Against | None:
    found = results.difference(theirs, ours, groups)
    return None if found is None else Against(found, found.p)


def _compared(plan: SweepPlan) -> tuple[list[tuple[str, ...]], ...]:
    """The tasks that each part of a `Comparison` is about."""
    return [plan.trained], [plan.probes], _groups(plan)


def _groups(plan: SweepPlan) -> list[tuple[str, ...]]:
    """The tasks whose means add up to the objective; of pareto, gained counts."""
    match plan.spec.objective:
        case "forgotten":
            return [plan.probes]
        case "gained-minus-forgotten":
            return [plan.trained, plan.probes]
        case _:
            return [plan.trained]


def _with_front(lines: Sequence[Line]) -> list[Line]:
    """Marks what no other setting beats, on validation rows."""
    known = [line for line in lines if line.validation is not None]
    front = on_front([line.validation for line in known if line.validation is not None])
    marks = {line.number: mark for line, mark in zip(known, front, strict=True)}
    return [replace(line, on_front=marks.get(line.number, False)) for line in lines]


def _corrected(lines: Sequence[Line]) -> list[Line]:
    """Corrects the p-values of each kind of comparison for the number of settings (Holm)."""
    gained = _adjusted([line.against.gained for line in lines])
    kept = _adjusted([line.against.kept for line in lines])
    objective = _adjusted([line.against.objective for line in lines])
    compared = [Comparison(*parts) for parts in zip(gained, kept, objective, strict=True)]
    return [replace(line, against=one) for line, one in zip(lines, compared, strict=True)]


def _adjusted(found: Sequence[Against | None]) -> list[Against | None]:
    adjusted = adjust([None if one is None else one.p for one in found])
    return [None if one is None else Against(one.difference, p) for one, p in zip(found, adjusted, strict=True)]
