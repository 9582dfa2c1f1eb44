"""Checks whether a valid job can run in this cluster, and whether its policy allows it."""

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from raytrain.config.cluster import ClusterSpec
from raytrain.config.job import FineTuneJob
from raytrain.operator.pod_policy import Pod, check_pod, check_priority
from raytrain.operator.render import names
from raytrain.operator.render.attempt import Attempt
from raytrain.operator.render.rayjob import ray_job
from raytrain.operator.render.serving_pods import serving_head, serving_pod
from raytrain.operator.settings import Policy, Settings
from raytrain_core.storage.uri import is_hub_model

MAX_JOB_BYTES = 900_000
"""In bytes; a ConfigMap holds 1 MiB."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a job is not accepted: a word for programs, and a sentence with the remedy for people."""

    reason: str
    message: str


def check_admission(job: FineTuneJob, settings: Settings) -> Refusal | None:
    """Returns the first obstacle, None if the job can run."""
    cluster = job.spec.cluster or ClusterSpec()
    checks = (
        _storage(job, settings, cluster),
        _own_model(job),
        _local_files(job, cluster),
        _pod_template(cluster.pod_template, settings.policy),
        _policy(job, settings),
    )
    return next((found for check in checks for found in check), None)


def _storage(job: FineTuneJob, settings: Settings, cluster: ClusterSpec) -> Iterator[Refusal]:
    uri = job.spec.storage.uri if job.spec.storage else settings.runs.storage
    if uri is None:
        yield Refusal(
            "NoStorage",
            "no storage: set spec.storage.uri to s3://bucket/prefix (or gs://, az://), or runs.storage in the "
            "operator's settings",
        )
    elif _is_local(uri, cluster):
        yield Refusal(
            "LocalStorage",
            f"storage {uri} is a folder in a pod and is lost with the pod: use s3://bucket/prefix, or mount a "
            "shared volume there with cluster.podTemplate",
        )


def _own_model(job: FineTuneJob) -> Iterator[Refusal]:
    if job.spec.model.removeprefix("run://").strip("/") == job.metadata.name and job.spec.model.startswith("run://"):
        message = f"spec.model: {job.spec.model} is this run itself: name another run, or the model to start from"
        yield Refusal("ModelCircle", message)


def _local_files(job: FineTuneJob, cluster: ClusterSpec) -> Iterator[Refusal]:
    remedy = "use `raytrain submit`, which uploads it, or copy it to the bucket and give its URI there"
    for task in job.spec.tasks:
        for uri in [task.source.uri] if task.source.uri else (task.source.splits or {}).values():
            if _is_local(str(uri), cluster):
                yield Refusal(
                    "LocalSource", f"task {task.name}: {uri} is a local file, which pods cannot read: {remedy}"
                )
    model = job.spec.model
    if not is_hub_model(model) and not model.startswith("run://") and _is_local(model, cluster):
        yield Refusal("LocalModel", f"model {model} is a local folder, which pods cannot read: {remedy}")


def _is_local(uri: str, cluster: ClusterSpec) -> bool:
    """Whether `uri` is a path outside the volumes mounted into the pods."""
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        return False
    path = PurePosixPath(parts.path if parts.scheme else uri)
    return not any(path.is_relative_to(mount) for mount in _mounts(cluster.pod_template))


def _mounts(template: Mapping[str, Any]) -> Iterator[PurePosixPath]:
    for container in template.get("spec", {}).get("containers", []):
        for mount in container.get("volumeMounts", []):
            yield PurePosixPath(mount["mountPath"])


def _pod_template(template: Mapping[str, Any], policy: Policy) -> Iterator[Refusal]:
    """Refuses what no finished pod shows: a template at all, and labels that are not the job's."""
    if template and not policy.pod_template:
        yield Refusal("PodTemplateNotAllowed", "cluster.podTemplate is disabled in the operator's settings")
        return
    metadata = template.get("metadata", {})
    wrong = [key for key in template if key not in ("metadata", "spec")]
    wrong += [f"metadata.{key}" for key in metadata if key not in ("labels", "annotations")]
    for kind in ("labels", "annotations"):
        reserved = (key for key in metadata.get(kind, {}) if names.is_reserved(key) or key.startswith(names.KUEUE))
        wrong += [f"metadata.{kind}.{key}" for key in reserved]
    for path in wrong:
        yield Refusal("PodTemplateNotAllowed", f"a job may not set cluster.podTemplate.{path}")


def _policy(job: FineTuneJob, settings: Settings) -> Iterator[Refusal]:
    """Refuses what the platform's policy does not allow in the finished pods, and their storage."""
    attempt = Attempt(job, settings.runs, namespace=job.metadata.namespace, owner={})
    yield from _place(attempt, settings.policy)
    plain = _without_template(attempt)
    for (name, found), (_, ours) in zip(_pods(attempt), _pods(plain), strict=True):
        pod = Pod(name, found["metadata"], found["spec"], ours["spec"])
        for reason, problem in check_pod(pod, settings.policy, settings.runs):
            yield Refusal(reason, problem)
    for label in (names.PRIORITY_LABEL, names.GANG_PRIORITY_LABEL):
        for problem in check_priority(job.metadata.labels.get(label, ""), settings.policy):
            yield Refusal("PriorityClassNotAllowed", f"metadata.labels: {label}: {problem}")


def _pods(attempt: Attempt) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The finished pods of an attempt, by the name of their group."""
    cluster = ray_job(attempt)["spec"]["rayClusterSpec"]
    yield "head", cluster["headGroupSpec"]["template"]
    for group in cluster["workerGroupSpecs"]:
        yield group["groupName"], group["template"]
    if (serving := attempt.job.spec.serving) is not None:
        yield "serving head", serving_head(attempt, serving)
        yield "serving", serving_pod(attempt, serving)


def _without_template(attempt: Attempt) -> Attempt:
    cluster = attempt.cluster.model_copy(update={"pod_template": {}})
    spec = attempt.job.spec.model_copy(update={"cluster": cluster})
    return replace(attempt, job=attempt.job.model_copy(update={"spec": spec}))


def _place(attempt: Attempt, policy: Policy) -> Iterator[Refusal]:
    """Refuses a storage outside the prefixes of the job's namespace."""
    namespace, place = attempt.namespace or "", f"{attempt.place}/"
    if not policy.storage_prefixes:
        return
    allowed = [
        prefix.replace("{namespace}", namespace).rstrip("/")
        for pattern, prefixes in policy.storage_prefixes.items()
        if fnmatch.fnmatchcase(namespace, pattern)
        for prefix in prefixes
    ]
    if ".." in place.split("/") or not any(place.startswith(f"{prefix}/") for prefix in allowed):
        where = f"allowed are {' or '.join(allowed)}" if allowed else "none is allowed in this namespace"
        yield Refusal("StorageNotAllowed", f"the run would be stored in {attempt.place}: {where}")
