"""The operator's metrics by job: what is scraped while it goes on, and that nothing stays."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from raytrain.operator.metrics import NAMES, JobCollector
from tests.support.finetunejob_objects import after, finetunejob

USAGE = {
    "since": "2026-11-23T12:00:00Z",
    "gpus": 2,
    "attempt": "2.0.Running",
    "checkpointed": "2026-11-23T11:59:00Z",
    "gpuSeconds": 100,
    "wastedGpuSeconds": 30,
    "waitingSeconds": 5,
}
ATTEMPTS = [
    {"number": 1, "rayJob": "assistant-a01", "outcome": "Failed"},
    {"number": 2, "rayJob": "assistant-a02", "outcome": "Running"},
]


def scraped(*statuses, seconds=10):
    bodies = [finetunejob(name=f"job-{i}", status=status) for i, status in enumerate(statuses)]
    registry = CollectorRegistry()
    registry.register(JobCollector(lambda: bodies, lambda: after(seconds)))
    lines = generate_latest(registry).decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def test_a_jobs_state_is_scraped_as_of_now():
    found = scraped({"phase": "Training", "attempts": ATTEMPTS, "usage": USAGE})
    of = '{name="job-0",namespace="team"}'
    assert found == {
        'raytrain_job_phase{name="job-0",namespace="team",phase="Training"}': 1,
        'raytrain_job_attempts{name="job-0",namespace="team",outcome="Failed"}': 1,
        'raytrain_job_attempts{name="job-0",namespace="team",outcome="Running"}': 1,
        f"raytrain_job_waiting_seconds_total{of}": 5,
        f"raytrain_job_gpu_seconds_total{of}": 120,
        f"raytrain_job_gpu_seconds_wasted_total{of}": 30,
        f"raytrain_job_gpus{of}": 2,
        f"raytrain_job_checkpoint_age_seconds{of}": 70,
    }
    assert {name.partition("{")[0] for name in found} <= set(NAMES)


@pytest.mark.parametrize(("seconds", "there"), [(60, True), (3600, False)])
def test_the_labels_of_a_job_that_has_ended_are_gone_after_a_while(seconds, there):
    ended = {"phase": "Complete", "usage": USAGE, "completionTime": "2026-11-23T12:00:00Z"}
    assert bool(scraped(ended, seconds=seconds)) == there


def test_a_job_without_a_status_and_one_with_a_strange_one_break_nothing():
    assert scraped({}, {"usage": {"since": "yesterday", "gpuSeconds": 1}}, {"usage": "x", "phase": "Training"})
