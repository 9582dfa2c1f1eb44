"""What `reconcile` decides from: the object, its RayJobs and its surroundings at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from raytrain.config.job import ClusterSpec, FineTuneJob
from raytrain.config.job_status import AttemptStatus, Status
from raytrain.operator.admission import MAX_JOB_BYTES, Refusal, check_admission
from raytrain.operator.ray_job_status import RayJobStatus, ray_job_status
from raytrain.operator.render import names
from raytrain.operator.settings import Settings
from raytrain.operator.timestamps import format_time, readable
from raytrain_core.config.loader import ConfigError, from_mapping

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Observed:
    """The object as the API server has it, its RayJobs by name, and what surrounds them."""

    body: Object
    ray_jobs: Mapping[str, Object] = field(default_factory=dict)
    kuberay: bool = True
    """Whether KubeRay is installed."""
    apply_error: Refusal | None = None
    """How the API server just refused the objects of a decision on this same object."""

    @property
    def name(self) -> str:
        """Name of the object."""
        return str(self.body["metadata"]["name"])

    @property
    def generation(self) -> int | None:
        """Generation of the object's spec."""
        generation: int | None = self.body["metadata"].get("generation")
        return generation


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a decision is drawn from, parsed once."""

    observed: Observed
    settings: Settings
    now: datetime
    old: Status
    """The status before this decision."""
    job: FineTuneJob | None
    """None if the spec is invalid."""
    refused: Refusal | None
    """Why the job cannot run, None if it can."""
    attempts: tuple[AttemptStatus, ...]
    current: RayJobStatus | None
    """The newest attempt's RayJob, None if there is none."""

    @property
    def time(self) -> str:
        """The present moment, as Kubernetes writes it."""
        return format_time(self.now)

    @property
    def newest(self) -> AttemptStatus | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def cluster(self) -> ClusterSpec:
        """`spec.cluster`, with its defaults."""
        return (self.job.spec.cluster if self.job else None) or ClusterSpec()

    @property
    def cancelled(self) -> bool:
        """Whether the annotation that ends the job for good is set."""
        annotations = self.observed.body["metadata"].get("annotations") or {}
        return str(annotations.get(names.CANCEL_ANNOTATION, "")).lower() == "true"

    @property
    def has_leftovers(self) -> bool:
        """Whether an ended attempt's RayJob is still working: the next attempt waits for it."""
        ended = {attempt.ray_job for attempt in self.attempts if attempt.outcome != "Running"}
        return any(
            name in ended and not ray_job_status(ray_job).ended for name, ray_job in self.observed.ray_jobs.items()
        )


def take_snapshot(observed: Observed, settings: Settings, now: datetime, old: Status) -> Snapshot:
    """Parses the spec and finds the attempts and the newest attempt's RayJob."""
    job, refused = _read_job(observed, settings)
    attempts = _adopt_attempts(observed, old.attempts, now)
    ray_job = observed.ray_jobs.get(attempts[-1].ray_job) if attempts else None
    current = ray_job_status(ray_job) if ray_job is not None else None
    return Snapshot(observed, settings, now, old, job, refused, attempts, current)


def read_status(body: Object) -> Status:
    """Returns the object's status; an empty one if another version wrote it unreadably.

    Times that cannot be read are left out: anyone with permission may write a status.
    """
    try:
        status = Status.model_validate(body.get("status") or {})
    except ValidationError:
        return Status()
    attempts = [
        attempt.model_copy(update={"started": readable(attempt.started) or "", "ended": readable(attempt.ended)})
        for attempt in status.attempts
    ]
    return status.model_copy(update={"attempts": attempts, "completion_time": readable(status.completion_time)})


def _read_job(observed: Observed, settings: Settings) -> tuple[FineTuneJob | None, Refusal | None]:
    body = observed.body
    metadata = {key: body["metadata"][key] for key in ("name", "namespace") if key in body["metadata"]}
    content = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata, "spec": body.get("spec")}
    try:
        job = from_mapping(content, FineTuneJob, name="job")
    except ConfigError as error:
        lines = [line.removeprefix("job: ") for line in error.lines]
        return None, Refusal("InvalidSpec", "; ".join(lines)[:4000])
    if refused := check_admission(job, settings):
        return job, refused
    if len(job.model_dump_json(by_alias=True, exclude_unset=True)) > MAX_JOB_BYTES:
        return job, Refusal("SpecTooLarge", f"the job is larger than {MAX_JOB_BYTES:,} bytes")
    if not observed.kuberay:
        return job, Refusal(
            "KubeRayMissing",
            "KubeRay is not installed: install version 1.6 or newer "
            "(helm install kuberay-operator kuberay/kuberay-operator); the job then starts on its own",
        )
    return job, None


def _adopt_attempts(observed: Observed, known: Iterable[AttemptStatus], now: datetime) -> tuple[AttemptStatus, ...]:
    """Returns the attempts in the status, and those whose RayJob exists without being in it."""
    attempts = {attempt.number: attempt for attempt in known}
    for name, ray_job in observed.ray_jobs.items():
        number = names.attempt_of(name)
        if number is not None and number not in attempts and name == names.ray_job_name(observed.name, number):
            started = ray_job["metadata"].get("creationTimestamp") or format_time(now)
            attempts[number] = AttemptStatus(number=number, ray_job=name, started=started)
    return tuple(attempts[number] for number in sorted(attempts))
