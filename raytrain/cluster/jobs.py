"""FineTuneJobs in a cluster: submit, get, watch, cancel, delete."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raytrain.check.model_size import size_of
from raytrain.cluster.estimate import ClusterEstimate, estimate, stores_of, training_tokens
from raytrain.cluster.fit import check_fit
from raytrain.cluster.upload import upload_sources
from raytrain.config.job import FineTuneJob
from raytrain.config.job_status import Status
from raytrain.config.locations import RunLocation, storage_location
from raytrain.kubernetes.client import JOBS, RAY_JOBS, KubernetesApi
from raytrain.operator.render.names import CANCEL_ANNOTATION, ESTIMATE_ANNOTATION
from raytrain_core.errors import ClusterError, UsageError, UserError
from raytrain_core.storage import StorageLocation, open_store
from raytrain_core.storage.bucket_uri import is_in_bucket
from raytrain_core.text import did_you_mean

MANAGER = "raytrain"
ENDED_PHASES = ("Complete", "Failed", "Cancelled")
_POLL_SECONDS = 2.0
_UNSEEN = "the operator has not seen the job yet"


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """The status of a FineTuneJob, flattened for display."""

    name: str
    namespace: str
    phase: str
    message: str
    percent: str
    step: int
    steps: int | None
    eta_seconds: float | None
    loss: float | None
    workers: str
    attempts: list[dict[str, Any]]
    tasks: list[dict[str, Any]]
    conditions: dict[str, str] = field(default_factory=dict)
    """Type -> "True", "False" or "Unknown"."""
    report: str = ""
    updated: str = ""

    @property
    def ended(self) -> bool:
        """Whether the job has ended."""
        return self.phase in ENDED_PHASES


def submit(
    job: FineTuneJob,
    *,
    api: KubernetesApi,
    namespace: str,
    storage: str | None,
    base_folder: Path,
    say: Callable[[str], None],
    owner: Mapping[str, Any] | None = None,
) -> ClusterStatus:
    """Uploads local sources and models, then creates (or updates) the FineTuneJob.

    With the object `owner`, the job is deleted together with it.

    Raises UsageError for a storage that pods cannot reach, ClusterError for pods that could never
    start.
    """
    location = storage_location(storage, job, base_folder=base_folder)
    if not is_in_bucket(location.uri):
        raise UsageError(
            f"storage {location.uri} is on this machine, where pods cannot reach it",
            hint="set spec.storage.uri or --storage to s3://bucket/prefix, gs://bucket/prefix or az://container/prefix",
        )
    check_fit(job, api, namespace, say)
    store = open_store(location)
    submitted = upload_sources(job, base_folder, store, say)
    submitted = submitted.model_copy(update={"spec": submitted.spec.model_copy(update={"storage": location})})
    body = submitted.model_dump(mode="json", by_alias=True, exclude_unset=True)
    body["metadata"] = body["metadata"] | {"name": job.metadata.name, "namespace": namespace}
    found = _estimated(job, api, namespace, location, base_folder)
    for line in found.lines():
        say(line)
    if told := found.annotation:
        annotations = body["metadata"].get("annotations") or {}
        body["metadata"]["annotations"] = annotations | {ESTIMATE_ANNOTATION: json.dumps(told)}
    if owner is not None:
        body["metadata"]["ownerReferences"] = [_reference(owner)]
    return of_object(api.apply(body, manager=MANAGER))


def _estimated(
    job: FineTuneJob, api: KubernetesApi, namespace: str, location: StorageLocation, base_folder: Path
) -> ClusterEstimate:
    """What the job will take, from what is known without reading rows."""
    parameters = None
    with contextlib.suppress(UserError):
        parameters = size_of(job.spec.model, base_folder).parameters
    tokens, stores = training_tokens(job), stores_of(location, namespace)
    return estimate(job, api=api, namespace=namespace, tokens=tokens, parameters=parameters, stores=stores)


def _reference(owner: Mapping[str, Any]) -> dict[str, Any]:
    found = {"apiVersion": owner["apiVersion"], "kind": owner["kind"]}
    return found | {"name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}


def get(api: KubernetesApi, namespace: str, name: str) -> dict[str, Any]:
    """Returns the object; UsageError with the closest name if it does not exist."""
    found = api.get(JOBS, namespace, name)
    if found is not None:
        return found
    names = sorted(item["metadata"]["name"] for item in api.list(JOBS, namespace))
    raise UsageError(
        f"there is no FineTuneJob {name} in namespace {namespace}{did_you_mean(name, names)}",
        hint=f"there are {', '.join(names[:20])}" if names else "there are none; `raytrain submit` creates one",
    )


def of_object(body: Mapping[str, Any]) -> ClusterStatus:
    """Reads an object's status."""
    status = Status.model_validate(body.get("status") or {})
    progress = status.progress
    return ClusterStatus(
        name=body["metadata"]["name"],
        namespace=body["metadata"]["namespace"],
        phase=status.phase,
        message=status.message or (progress.message if progress else "") or ("" if body.get("status") else _UNSEEN),
        percent=progress.percent if progress else "",
        step=progress.step if progress else 0,
        steps=progress.steps if progress else None,
        eta_seconds=progress.eta_seconds if progress and status.phase not in ENDED_PHASES else None,
        loss=progress.loss if progress else None,
        workers=status.workers,
        attempts=[attempt.model_dump(mode="json") for attempt in status.attempts],
        tasks=[task.model_dump(mode="json") for task in status.tasks],
        conditions={condition.type: condition.status for condition in status.conditions},
        report=status.result.report if status.result else "",
        updated=progress.updated if progress else "",
    )


def run_location(body: Mapping[str, Any], storage: str | None) -> RunLocation:
    """Returns name and storage of an object's run: the operator writes it into the status.

    Raises UsageError if the operator has not done so yet, and no `storage` is given.
    """
    name, given = body["metadata"]["name"], body["spec"].get("storage") or {}
    place = storage or (body.get("status") or {}).get("storage")
    if not place:
        raise UsageError(
            f"{name} does not tell yet where it is stored: {_UNSEEN}",
            hint="wait for it, or give --storage s3://bucket/prefix/NAMESPACE",
        )
    if storage is not None:
        return RunLocation(name, storage_location(storage))
    return RunLocation(name, StorageLocation.model_validate({**given, "uri": place}))


def watch(
    api: KubernetesApi, namespace: str, name: str, *, timeout: float | None = None, poll_seconds: float = _POLL_SECONDS
) -> Iterator[ClusterStatus]:
    """Yields the status now and after each change, until the job has ended.

    Raises ClusterError after `timeout` seconds.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    last = None
    while True:
        found = of_object(get(api, namespace, name))
        if found != last:
            last = found
            yield found
        if found.ended:
            return
        if deadline is not None and time.monotonic() > deadline:
            raise ClusterError(f"{name} is still {found.phase} after {timeout:.0f} s")
        time.sleep(poll_seconds)


def cancel(api: KubernetesApi, namespace: str, name: str) -> None:
    """Ends the job for good; the object and its storage are kept."""
    get(api, namespace, name)
    body = {"metadata": {"annotations": {CANCEL_ANNOTATION: "true"}}}
    api.patch(JOBS, namespace, name, body, manager=MANAGER)


def delete(api: KubernetesApi, namespace: str, name: str) -> None:
    """Deletes the object and everything it owns in the cluster; storage is kept."""
    get(api, namespace, name)
    api.delete(JOBS, namespace, name)


def ray_cluster(api: KubernetesApi, body: Mapping[str, Any]) -> str:
    """Returns the name of the job's current Ray cluster; UsageError if there is none."""
    namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
    attempts = Status.model_validate(body.get("status") or {}).attempts
    ray_job = api.get(RAY_JOBS, namespace, attempts[-1].ray_job) if attempts else None
    found = ((ray_job or {}).get("status") or {}).get("rayClusterName")
    if not found:
        raise UsageError(
            f"{name} has no Ray cluster at the moment", hint=f"`raytrain status {name} -n {namespace}` says why"
        )
    return str(found)
