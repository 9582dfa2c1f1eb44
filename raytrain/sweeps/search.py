"""Proposes settings where earlier results promise most, with Optuna.

The search is rebuilt from the sweep's state for each proposal, so that there is no second record
that could disagree with it, and a killed sweep goes on as if it had not been. A proposal depends on
the seed, its number and the results so far.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING, Any

from raytrain.config.run_layout import RunLayout
from raytrain.sweeps.measures import Measures, mean
from raytrain.sweeps.plan import SweepPlan
from raytrain.sweeps.settings import Chosen, Setting, bounds, options_of
from raytrain.sweeps.state import SweepState
from raytrain.sweeps.validation import validation_measures
from raytrain_core.errors import UsageError
from raytrain_core.storage import Store
from raytrain_core.storage.commit import read_manifest

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

_MOST_AT_RANDOM = 10  # results from which Optuna's estimators start by default
_TRIES = 30  # proposals of settings that were tried already, before the search counts as finished

StoreOf = Callable[[str], Store]


def proposer(plan: SweepPlan, store_of: StoreOf) -> Callable[[SweepState], bool]:
    """Returns what adds the next setting of a search to a state; False when there is none."""

    def propose(state: SweepState) -> bool:
        if not plan.searches or len(state.settings) > (plan.spec.samples or 0):
            return False
        known = {plan.result_key(setting.chosen) for setting in state.settings}
        results = {one.number: result_of(plan, state, one, store_of) for one in state.settings}
        for attempt in range(_TRIES):
            chosen = ask(plan, state.settings, results, seed=plan.spec.seed + len(state.settings) + 1000 * attempt)
            try:
                key = plan.result_key(chosen)
            except UsageError:  # fields that do not fit each other
                continue
            if key not in known:
                state.add(plan, Setting(len(state.settings), chosen))
                return True
        return False

    return propose


def result_of(plan: SweepPlan, state: SweepState, setting: Setting, store_of: StoreOf) -> Measures | None:
    """Returns what a setting reached on validation rows, the mean over its seeds.

    Of a run that was stopped, its last scored checkpoint counts. None while nothing is known.
    """
    found = []
    for run in state.of_setting(setting.number):
        if run.state not in ("complete", "stopped"):
            continue
        store = store_of(run.name)
        measures, manifest = validation_measures(store, run.name, plan), read_manifest(store, RunLayout(run.name).model)
        step = max(measures, default=0) if manifest is None else int(manifest.body["step"])
        found += [measures[step]] if step in measures else []
    return mean(found) if found else None


def ask(plan: SweepPlan, settings: list[Setting], results: dict[int, Measures | None], *, seed: int) -> Chosen:
    """Returns Optuna's next proposal (TPE; with the objective `pareto`, its form for two)."""
    study = _study(plan, seed)
    space = _space(plan)
    _tell(study, plan, settings, results, space)
    trial = study.ask(space)
    return {name: _plain(trial.params[name], plan, name) for name in space}


def _study(plan: SweepPlan, seed: int) -> Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    up, down = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
    directions = [up, down] if plan.spec.objective == "pareto" else [up]
    at_random = min(_MOST_AT_RANDOM, ceil((plan.spec.samples or 1) / 3))  # else a small search would be all random
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=at_random)
    return optuna.create_study(directions=directions, sampler=sampler)


def _tell(
    study: Study,
    plan: SweepPlan,
    settings: list[Setting],
    results: dict[int, Measures | None],
    space: dict[str, BaseDistribution],
) -> None:
    import optuna

    for setting in settings:
        found = results[setting.number]
        if found is None or not setting.chosen:
            continue
        objective = plan.spec.objective
        values = [found.gained, found.forgotten or 0.0] if objective == "pareto" else [found.value(objective)]
        params = {name: _index(setting.chosen[name], plan, name) for name in space}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, values=values))


def _space(plan: SweepPlan) -> dict[str, BaseDistribution]:
    """Returns a distribution for each parameter; of listed values, their places in the list."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for name, parameter in plan.spec.parameters.items():
        if not parameter.is_range:
            found[name] = CategoricalDistribution(list(range(len(options_of(parameter)))))
            continue
        low, high = bounds(parameter, integer=name in plan.integers)
        if name in plan.integers:
            found[name] = IntDistribution(int(low), int(high), log=parameter.log)
        else:
            found[name] = FloatDistribution(low, high, log=parameter.log)
    return found


def _plain(value: Any, plan: SweepPlan, name: str) -> Any:
    parameter = plan.spec.parameters[name]
    return value if parameter.is_range else options_of(parameter)[value]


def _index(value: Any, plan: SweepPlan, name: str) -> Any:
    parameter = plan.spec.parameters[name]
    return value if parameter.is_range else options_of(parameter).index(value)
