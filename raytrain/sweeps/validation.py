"""What the checkpoints of a run gained and forgot on validation rows."""

from raytrain.config.run_layout import RunLayout
from raytrain.evaluation.results import read_primary_scores
from raytrain.sweeps.measures import Measures, measure
from raytrain.sweeps.plan import SweepPlan
from raytrain_core.storage import Store


def validation_measures(store: Store, name: str, plan: SweepPlan) -> dict[int, Measures]:
    """Returns what a run's scored checkpoints gained and forgot, by step.

    Checkpoints that were not scored on every task that counts are left out.
    """
    scores = read_primary_scores(store, RunLayout(name))
    before = scores.pop(0, {})
    found = {step: measure(before, now, plan.trained, plan.probes) for step, now in scores.items()}
    return {step: one for step, one in found.items() if one is not None}
