"""What `reconcile` decides from: the object, its RayJobs and its surroundings at one moment."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from raytrain.config.cluster import ClusterSpec
from raytrain.config.job import FineTuneJob
from raytrain.config.job_status import AttemptStatus, RunResult, Status
from raytrain.operator.admission import MAX_JOB_BYTES, Refusal, check_admission
from raytrain.operator.prices import PriceRange
from raytrain.operator.ray_job_status import RayJobStatus, ray_job_status
from raytrain.operator.render import names
from raytrain.operator.settings import Settings
from raytrain.operator.timestamps import format_time, readable
from raytrain_core.config.loader import ConfigError, from_mapping

Object = Mapping[str, Any]

LOST_SECONDS = 120.0
"""A pod is taken for lost this long after its grace period: its node no longer answers."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A place in the line of jobs that wait for a turn; 1 is next."""

    place: int
    of: int
    reason: str


@dataclass(frozen=True, slots=True)
class Parent:
    """The job of the run whose model a job starts from."""

    name: str
    phase: str | None
    """None if there is no such job."""
    message: str = ""
    circle: tuple[str, ...] = ()
    """The names from the job through its parents back to itself, if they go in a circle."""


@dataclass(frozen=True, slots=True)
class Observed:
    """The object as the API server has it, its RayJobs by name, and what surrounds them."""

    body: Object
    ray_jobs: Mapping[str, Object] = field(default_factory=dict)
    kuberay: bool = True
    """Whether KubeRay is installed."""
    apply_error: Refusal | None = None
    """How the API server just refused the effects of a decision on this same object."""
    pods: Sequence[Object] | None = None
    """The pods with the job's label, None if they were not looked at."""
    pod_events: Sequence[Object] = ()
    """The newest event of each pod whose containers are being created."""
    ray_clusters: Sequence[Object] = ()
    """The RayClusters with the job's label, if the pods were looked at."""
    leaving: Mapping[str, float] = field(default_factory=dict)
    """For how many seconds, by our own clock, the deletion of a pod has been known; by UID."""
    tenant: str = ""
    """To whom the runs of this namespace belong in storage: its name and UID."""
    queue_systems: Collection[str] = ("kueue",)
    """Queue systems that are there: the queue of another one has no effect."""
    queue_problem: Refusal | None = None
    """Why the job's queue admits nothing, as far as is known."""
    turn: Turn | None = None
    """Set if other jobs have their turn first."""
    parent: Parent | None = None
    """Where the model comes from, if it is another run's."""
    gpu_price: PriceRange | None = None
    """Price of one of the job's GPUs for an hour, looked up when an attempt begins."""
    misfit: str = ""
    """Why the pods could never start here, as far as that was looked into."""
    ray_service: Object | None = None
    """The RayService that serves the job's model."""

    @property
    def name(self) -> str:
        """Name of the object."""
        return str(self.body["metadata"]["name"])

    @property
    def own_ray_jobs(self) -> dict[str, Object]:
        """Those RayJobs that have the name of an attempt."""
        numbers = {name: names.attempt_of(name) for name in self.ray_jobs}
        return {
            name: self.ray_jobs[name]
            for name, number in numbers.items()
            if number is not None and name == names.ray_job_name(self.name, number)
        }

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
    def suspended(self) -> bool:
        """Whether the job is to have no pods."""
        return is_suspended(self.observed.body)

    @property
    def queued_elsewhere(self) -> bool:
        """Whether the job waits in the line of a queue system."""
        return has_queue(self.observed.body, self.observed.queue_systems)

    @property
    def ignored_queue(self) -> str:
        """Why the job's queue has no effect; empty if it has one, or if there is no queue."""
        asked = queues_of(self.observed.body)
        if not asked or self.queued_elsewhere:
            return ""
        system, queue = next(iter(asked.items()))
        remedy = (
            "install Kueue" if system == "kueue" else f"set runs.batchScheduler: {system} in the operator's settings"
        )
        missing = "Kueue is not installed" if system == "kueue" else f"{system} is not KubeRay's batch scheduler here"
        return f"{missing}, so the queue {queue} has no effect and the operator's own limits apply; {remedy}"

    @property
    def cancelled(self) -> bool:
        """Whether the annotation that ends the job for good is set."""
        annotations = self.observed.body["metadata"].get("annotations") or {}
        return str(annotations.get(names.CANCEL_ANNOTATION, "")).lower() == "true"

    @property
    def result(self) -> RunResult | None:
        """The result that the newest attempt's newest start has written, None if there is none."""
        result, newest = self.old.result, self.newest
        if result is None or newest is None or result.attempt != newest.number:
            return None
        cluster = (self.current.cluster if self.current else None) or self.old.ray_cluster
        other_start = bool(cluster and result.ray_cluster and result.ray_cluster != cluster)
        return None if other_start else result

    def to_delete(self, attempts: Sequence[AttemptStatus], *, ended: bool) -> tuple[str, ...]:
        """RayJobs of attempts that are over, whose deletion has not been accepted yet.

        `ended` includes RayJobs that KubeRay has done with: their Ray cluster may still be there.
        """
        running = attempts[-1].ray_job if attempts and attempts[-1].outcome == "Running" else None
        own = sorted(self.observed.own_ray_jobs.items())
        over = [(name, body) for name, body in own if name != running and not _is_leaving(body)]
        return tuple(name for name, body in over if ended or not ray_job_status(body).ended)

    @property
    def remains(self) -> str | None:
        """What is still there of earlier attempts, in words; None if it was seen to be gone."""
        pods = [pod for pod in self.observed.pods or () if _is_alive(pod, self.observed.leaving)]
        if own := self.observed.own_ray_jobs:
            return f"RayJob {', '.join(sorted(own))}"
        if pods:
            listed = ", ".join(sorted(str(pod["metadata"].get("name")) for pod in pods)[:3])
            return f"{len(pods)} pods ({listed}{', ...' if len(pods) > 3 else ''})"
        names_ = sorted(str(cluster["metadata"].get("name")) for cluster in self.observed.ray_clusters)
        return f"RayCluster {', '.join(names_)}" if names_ else None


def is_suspended(body: Object) -> bool:
    """Whether `cluster.suspend` is set, even if the rest of the spec cannot be read."""
    return cluster_of(body).get("suspend") is True


def has_queue(body: Object, systems: Collection[str]) -> bool:
    """Whether one of these queue systems decides when the job begins."""
    return any(system in systems for system in queues_of(body))


def queues_of(body: Object) -> dict[str, str]:
    """The queues that a job names, by queue system."""
    labels = body["metadata"].get("labels")
    given = labels if isinstance(labels, Mapping) else {}
    found = {system: str(given[label]) for system, label in names.QUEUE_LABELS.items() if given.get(label)}
    own = cluster_of(body).get("queue")
    return found | {"kueue": str(own)} if own else found


def cluster_of(body: Object) -> Object:
    """`spec.cluster` as it is written, empty if it is no mapping."""
    spec = body.get("spec")
    cluster = spec.get("cluster") if isinstance(spec, Mapping) else None
    return cluster if isinstance(cluster, Mapping) else {}


def _is_alive(pod: Object, leaving: Mapping[str, float]) -> bool:
    """Whether a pod may still hold resources or write."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return False
    grace = metadata.get("deletionGracePeriodSeconds") or 0
    return leaving.get(str(metadata.get("uid")), 0.0) <= grace + LOST_SECONDS


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
    times = ("completion_time", "not_before", "waiting_since")
    read: dict[str, Any] = {name: readable(getattr(status, name)) for name in times}
    if status.usage is not None and readable(status.usage.since) is None:
        read["usage"] = None
    return status.model_copy(update={"attempts": [_with_readable_times(a) for a in status.attempts], **read})


def _with_readable_times(attempt: AttemptStatus) -> AttemptStatus:
    times: dict[str, Any] = {"started": readable(attempt.started) or "", "ended": readable(attempt.ended)}
    if attempt.obstacle is not None:
        since = readable(attempt.obstacle.since) or ""
        times["obstacle"] = attempt.obstacle.model_copy(update={"since": since})
    return attempt.model_copy(update=times)


def _read_job(observed: Observed, settings: Settings) -> tuple[FineTuneJob | None, Refusal | None]:
    try:
        job = _parse(observed.body)
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


def read_job(body: Object) -> FineTuneJob | None:
    """The job, None if its spec is invalid."""
    try:
        return _parse(body)
    except ConfigError:
        return None


def _parse(body: Object) -> FineTuneJob:
    metadata = {
        key: body["metadata"][key] for key in ("name", "namespace", "labels", "annotations") if key in body["metadata"]
    }
    content = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata, "spec": body.get("spec")}
    return from_mapping(content, FineTuneJob, name="job")


def _adopt_attempts(observed: Observed, known: Iterable[AttemptStatus], now: datetime) -> tuple[AttemptStatus, ...]:
    """Returns the attempts in the status, and those whose RayJob exists without being in it."""
    attempts = {attempt.number: attempt for attempt in known}
    for name, ray_job in observed.own_ray_jobs.items():
        number = names.attempt_of(name)
        if number is not None and number not in attempts and not _is_leaving(ray_job):
            started = ray_job["metadata"].get("creationTimestamp") or format_time(now)
            attempts[number] = AttemptStatus(number=number, ray_job=name, started=started)
    ordered = [attempts[number] for number in sorted(attempts)]
    return (*(_overtaken(attempt, format_time(now)) for attempt in ordered[:-1]), *ordered[-1:])


def _overtaken(attempt: AttemptStatus, time: str) -> AttemptStatus:
    """An attempt that is not the newest has ended, even if how it ended was never written down."""
    if attempt.outcome != "Running":
        return attempt
    lost = {"outcome": "Failed", "reason": "StatusLost", "message": "how it ended is not known", "ended": time}
    return attempt.model_copy(update=lost)


def _is_leaving(body: Object) -> bool:
    return bool(body["metadata"].get("deletionTimestamp"))
