"""Training's numbers as Ray metrics, which Ray exports to Prometheus as `ray_raytrain_...`.

They carry Ray Train's own tags, so that a dashboard filters ours and Ray's by run alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_prep.tally import Tally
    from raytrain.training.step import StepRecord

RUN, RUN_ID, RANK = "ray_train_run_name", "ray_train_run_id", "ray_train_worker_world_rank"
_GAUGES = {
    "raytrain_step": "Steps done.",
    "raytrain_loss": "Cross entropy per target token of the last step.",
    "raytrain_tokens_per_second": "Tokens a second, source and target, without padding.",
    "raytrain_examples_per_second": "Examples a second.",
    "raytrain_step_seconds": "Seconds of the last step.",
    "raytrain_learning_rate": "Learning rate of the last step.",
    "raytrain_gradient_norm": "Norm of the last step's gradient before clipping.",
    "raytrain_mfu": "Model FLOPs utilization of the last step, 0..1.",
    "raytrain_peak_memory_bytes": "Highest memory use so far: of the GPU, or of the process without one.",
    "raytrain_unsaved_intervals": (
        "Steps since the newest committed checkpoint, in units of training.checkpointEvery."
    ),
}
_BY_TASK = "raytrain_task_loss"
_BY_PART = "raytrain_part_seconds"
WAITING = "raytrain_unscored_checkpoints"
DATA_ROWS, DATA_EVENTS = "raytrain_data_rows", "raytrain_data_events"


class Gauges:
    """Gauges that the first worker sets after every step.

    Setting one takes microseconds and never waits.
    """

    def __init__(self, run: str, run_id: str, rank: int = 0, *, checkpoint_every: int = 1) -> None:
        from ray.util.metrics import Gauge

        tags = {RUN: run, RUN_ID: run_id, RANK: str(rank)}

        def gauge(name: str, description: str, *more: str) -> Any:
            created = Gauge(name, description=description, tag_keys=(*tags, *more))
            created.set_default_tags(tags)
            return created

        self._gauges = {name: gauge(name, description) for name, description in _GAUGES.items()}
        self._by_task = gauge(_BY_TASK, "Cross entropy per target token of a task in the last step.", "task")
        self._by_part = gauge(_BY_PART, "Seconds of a part of the last step.", "part")
        self._every = checkpoint_every
        self._saved: int | None = None

    def checkpoint_committed(self, step: int) -> None:
        """Notes that the checkpoint of `step` is in storage."""
        self._saved = max(self._saved or 0, step)

    def show_step(self, record: StepRecord) -> None:
        """Sets the gauges to the numbers of a step."""
        if self._saved is None:
            self._saved = record.step - 1  # a group begins at a checkpoint, or at step 0
        unsaved = (record.step - self._saved) / self._every
        for name, value in (gauge_values(record) | {"raytrain_unsaved_intervals": unsaved}).items():
            self._gauges[name].set(value)
        for task, loss in record.loss_by_task.items():
            if math.isfinite(loss):
                self._by_task.set(loss, tags={"task": task})
        for part, seconds in record.seconds_by_part.items():
            self._by_part.set(seconds, tags={"part": part})


def gauge_values(record: StepRecord) -> dict[str, float]:
    """Returns the gauges' values for a step, by name, without those that are not finite."""
    values = {
        "raytrain_step": float(record.step),
        "raytrain_loss": record.loss,
        "raytrain_tokens_per_second": record.tokens_per_second,
        "raytrain_examples_per_second": record.examples / record.seconds if record.seconds else math.nan,
        "raytrain_step_seconds": record.seconds,
        "raytrain_learning_rate": record.learning_rate,
        "raytrain_gradient_norm": record.gradient_norm,
        "raytrain_mfu": math.nan if record.mfu is None else record.mfu,
        "raytrain_peak_memory_bytes": float(record.peak_memory_bytes),
    }
    return {name: value for name, value in values.items() if math.isfinite(value)}


def show_data(run: str, tallies: Mapping[str, Tally]) -> None:
    """Sets the gauges of what happened to each task's rows: by effect, and by kind of event."""
    from ray.util.metrics import Gauge

    rows = Gauge(DATA_ROWS, description="Rows by what became of them in preparation.", tag_keys=(RUN, "task", "effect"))
    events = Gauge(DATA_EVENTS, description="What happened to rows in preparation.", tag_keys=(RUN, "task", "kind"))
    for task, tally in tallies.items():
        for effect, count in tally.rows.items():
            rows.set(count, tags={RUN: run, "task": task, "effect": effect})
        for kind, entry in tally:
            events.set(entry.count, tags={RUN: run, "task": task, "kind": kind})


def waiting_gauge(run: str) -> Callable[[int], None]:
    """Returns a function that sets the number of stored checkpoints without scores."""
    from ray.util.metrics import Gauge

    gauge = Gauge(WAITING, description="Checkpoints waiting to be scored.", tag_keys=(RUN,))
    gauge.set_default_tags({RUN: run})
    return gauge.set
