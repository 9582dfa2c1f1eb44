"""The operator's own metrics, for Prometheus: its errors, and the state of every job."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from prometheus_client import Counter, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from raytrain.config.job_status import Status
from raytrain.operator.snapshot import read_status
from raytrain.operator.status import ENDED_PHASES
from raytrain.operator.timestamps import parse_time, utc_now
from raytrain.operator.usage import checkpoint_age, live

RECONCILE_ERRORS = Counter(
    "raytrain_reconcile_errors",
    "Reconciliations of a FineTuneJob that ended in an unexpected exception: a bug of the operator.",
    ["namespace", "name"],
)
"""`raytrain_reconcile_errors_total` by object."""

NOTIFICATIONS = Counter(
    "raytrain_notifications",
    "Notifications by channel and outcome: sent, or failed after all tries.",
    ["channel", "outcome"],
)
"""`raytrain_notifications_total`."""

SHOWN_AFTER_END = timedelta(minutes=10)
"""How long the last values of a job that has ended can be scraped; then its labels are gone."""
_LABELS = ("namespace", "name")
AMOUNTS: Mapping[str, str] = {
    "raytrain_job_waiting_seconds": "Seconds that a job has waited for a turn, room or quota.",
    "raytrain_job_gpu_seconds": "GPU-seconds that a job has used.",
    "raytrain_job_gpu_seconds_wasted": "GPU-seconds since the last checkpoint of attempts that did not succeed.",
}
"""Counters by job."""
LEVELS: Mapping[str, str] = {
    "raytrain_job_gpus": "GPUs of a job's ready pods.",
    "raytrain_job_checkpoint_age_seconds": "Seconds since a training job committed its newest checkpoint.",
}
"""Gauges by job."""
NAMES = (
    *("raytrain_reconcile_errors_total", "raytrain_notifications_total"),
    *("raytrain_job_phase", "raytrain_job_attempts"),
    *(f"{name}_total" for name in AMOUNTS),
    *LEVELS,
)
"""Every metric of the operator as Prometheus has it."""


class JobCollector(Collector):
    """Reads the state of all jobs when it is scraped, so nothing is left of a deleted one."""

    def __init__(
        self, bodies: Callable[[], Iterable[Mapping[str, Any]]], now: Callable[[], datetime] = utc_now
    ) -> None:
        self._bodies, self._now = bodies, now

    def describe(self) -> Iterable[Metric]:
        """Names nothing: what there is is known when it is asked for."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics of every job that goes on, or that ended a moment ago."""
        phase = GaugeMetricFamily("raytrain_job_phase", "1 for the phase of a job.", labels=(*_LABELS, "phase"))
        attempts = GaugeMetricFamily(
            "raytrain_job_attempts", "Attempts of a job by outcome.", labels=(*_LABELS, "outcome")
        )
        families: dict[str, Metric] = {
            **{name: CounterMetricFamily(name, text, labels=_LABELS) for name, text in AMOUNTS.items()},
            **{name: GaugeMetricFamily(name, text, labels=_LABELS) for name, text in LEVELS.items()},
        }
        now = self._now()
        for key, status in self._shown(now):
            phase.add_metric((*key, status.phase), 1)
            for outcome, number in Tally(attempt.outcome for attempt in status.attempts).items():
                attempts.add_metric((*key, outcome), number)
            for name, value in _values(status, now).items():
                families[name].add_metric(key, value)  # type: ignore[attr-defined]
        yield from (phase, attempts, *families.values())

    def _shown(self, now: datetime) -> Iterator[tuple[tuple[str, str], Status]]:
        for body in list(self._bodies()):
            status, metadata = read_status(body), body["metadata"]
            ended = status.phase in ENDED_PHASES
            at = status.completion_time
            if not ended or (at is not None and now - parse_time(at) <= SHOWN_AFTER_END):
                yield (str(metadata["namespace"]), str(metadata["name"])), status


def _values(status: Status, now: datetime) -> dict[str, float]:
    """The amounts and levels of one job."""
    if status.usage is None:
        return {}
    usage = live(status.usage, now)
    found = {
        "raytrain_job_waiting_seconds": usage.waiting_seconds,
        "raytrain_job_gpu_seconds": usage.gpu_seconds,
        "raytrain_job_gpu_seconds_wasted": usage.wasted_gpu_seconds,
        "raytrain_job_gpus": usage.gpus,
    }
    age = checkpoint_age(usage, now) if status.phase == "Training" else None
    return found | ({} if age is None else {"raytrain_job_checkpoint_age_seconds": age})


def serve_metrics(port: int) -> None:
    """Serves the metrics at /metrics on every address, in a thread of its own."""
    start_http_server(port)
