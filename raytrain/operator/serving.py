"""Serving of a complete run's model: what should exist, and what is told of it. Pure functions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raytrain.config.job import FineTuneJob
from raytrain.config.job_status import ServingStatus, Status
from raytrain.operator.actions import Event, Object
from raytrain.operator.admission import check_admission
from raytrain.operator.render import names
from raytrain.operator.render.attempt import Attempt
from raytrain.operator.render.rayservice import ray_service, served_run, service_url, serving_policy
from raytrain.operator.settings import Settings
from raytrain.operator.snapshot import Observed, read_job

DIGEST_ANNOTATION = "raytrain.dev/serving"
"""Digest of what was rendered: equal means that nothing has to be applied."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What is to be done for serving, and its status; None removes it."""

    apply: tuple[Object, ...] = ()
    delete: bool = False
    status: ServingStatus | None = None
    events: tuple[Event, ...] = ()


def decide_serving(observed: Observed, old: Status, settings: Settings) -> Serving:
    """Decides about the RayService of a complete job."""
    job = read_job(observed.body)
    if job is None:  # what was served before goes on
        return Serving(status=old.serving)
    if job.spec.serving is None:
        return Serving(delete=observed.ray_service is not None)
    if refused := check_admission(job, settings):
        return _told(observed, old, ServingStatus(run=_run_now(old), message=f"{refused.reason}: {refused.message}"))
    if observed.apply_error is not None:
        error = observed.apply_error
        return _told(observed, old, ServingStatus(run=_run_now(old), message=f"{error.reason}: {error.message}"))
    return _wanted(observed, old, job, settings)


def _wanted(observed: Observed, old: Status, job: FineTuneJob, settings: Settings) -> Serving:
    serving = job.spec.serving
    assert serving is not None
    namespace = str(observed.body["metadata"]["namespace"])
    attempt = Attempt(
        job, settings.runs, namespace=namespace, owner=names.owner_of(observed.body), tenant=observed.tenant
    )
    rendered = ray_service(attempt, serving)
    digest = hashlib.sha256(json.dumps(rendered, sort_keys=True).encode()).hexdigest()
    rendered["metadata"]["annotations"] = {DIGEST_ANNOTATION: digest}
    policies = (serving_policy(attempt, serving),) if settings.runs.network_policy else ()
    apply = () if _digest(observed.ray_service) == digest else (*policies, rendered)
    run, url = served_run(attempt, serving), service_url(job.metadata.name, namespace)
    return _told(observed, old, _status(observed.ray_service, old, run, url, changing=bool(apply)), apply)


def _told(observed: Observed, old: Status, status: ServingStatus, apply: tuple[Object, ...] = ()) -> Serving:
    events = tuple(_events(old.serving, status))
    return Serving(apply=apply, status=status, events=events)


def _status(service: Object | None, old: Status, run: str, url: str, *, changing: bool) -> ServingStatus:
    """What KubeRay says of the RayService, in our words."""
    found: Mapping[str, Any] = (service or {}).get("status") or {}
    conditions = {c["type"]: c for c in found.get("conditions") or []}
    changing = changing or _is_stale(service)
    ready = conditions.get("Ready", {}).get("status") == "True"
    upgrading = conditions.get("UpgradeInProgress", {}).get("status") == "True" or changing
    answering = _run_now(old) if upgrading and old.serving is not None and old.serving.ready else run
    if ready and not upgrading:
        return ServingStatus(ready=True, run=run, url=url, message=f"the model of run {run} answers")
    if old.serving is not None and old.serving.ready and answering != run:
        message = f"the model of run {answering} answers until that of run {run} does"
        return ServingStatus(ready=True, run=answering, url=url, message=message)
    if ready:
        return ServingStatus(ready=True, run=run, url=url, message=f"the model of run {run} answers; its pods change")
    reason = str(conditions.get("Ready", {}).get("message") or "the Ray cluster is starting")
    return ServingStatus(
        ready=False, run=run, url=url, message=f"run {run}: {_application_problem(found) or reason}"[:1024]
    )


def _is_stale(service: Object | None) -> bool:
    """Whether KubeRay has not looked at the newest RayService yet."""
    generation = ((service or {}).get("metadata") or {}).get("generation")
    seen = ((service or {}).get("status") or {}).get("observedGeneration")
    return generation is None or seen != generation


def _application_problem(status: Mapping[str, Any]) -> str:
    """Why the application does not run, as Ray Serve says it."""
    for part in ("pendingServiceStatus", "activeServiceStatus"):
        for application in ((status.get(part) or {}).get("applicationStatuses") or {}).values():
            if application.get("status") in ("DEPLOY_FAILED", "UNHEALTHY") and application.get("message"):
                return str(application["message"])
    return ""


def _run_now(old: Status) -> str:
    return old.serving.run if old.serving is not None else ""


def _digest(service: Object | None) -> str | None:
    annotations = ((service or {}).get("metadata") or {}).get("annotations") or {}
    found: str | None = annotations.get(DIGEST_ANNOTATION)
    return found


def _events(old: ServingStatus | None, new: ServingStatus) -> list[Event]:
    if new.ready and (old is None or not old.ready or old.run != new.run):
        return [Event("Serving", new.message)]
    if old is not None and old.ready and not new.ready:
        return [Event("ServingUnready", new.message, warning=True)]
    return []


def trim_service(service: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that the operator looks at."""
    metadata = {key: value for key, value in service["metadata"].items() if key != "managedFields"}
    return {"metadata": metadata, "status": service.get("status")}
