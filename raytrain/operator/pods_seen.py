"""Looks at the pods and Ray clusters of a job, which are too many to be watched all the time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raytrain.kubernetes.client import ApiError, KubernetesApi
from raytrain.operator.render import names

PODS = ("v1", "Pod")
RAY_CLUSTERS = ("ray.io/v1", "RayCluster")
EVENTS = ("v1", "Event")


@dataclass(frozen=True, slots=True)
class Look:
    """What there is of a job in the cluster at one moment."""

    pods: Sequence[Mapping[str, Any]]
    ray_clusters: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    """The newest event of each pod whose containers are being created."""
    leaving: Mapping[str, float]
    """For how many seconds the deletion of a pod has been known, by UID."""


class PodsSeen:
    """Reads a job's pods, and remembers by our own clock since when a pod has been stopping."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api
        self._since: dict[tuple[str, str], dict[str, float]] = {}

    def look(self, key: tuple[str, str]) -> Look:
        """Lists pods and Ray clusters of a job: a blocking call."""
        namespace, name = key
        selector = f"{names.JOB_LABEL}={name}"
        # Ray clusters first: they make pods, and not the other way round.
        clusters = self._list(RAY_CLUSTERS, namespace, selector)
        pods = self._list(PODS, namespace, selector)
        before, now = self._since.get(key, {}), time.monotonic()
        stopping = (str(pod["metadata"].get("uid")) for pod in pods if pod["metadata"].get("deletionTimestamp"))
        self._since[key] = {uid: before.get(uid, now) for uid in stopping}
        events = [event for pod in pods if _is_creating(pod) for event in self._newest_event(namespace, pod)]
        return Look(pods, clusters, events, {uid: now - since for uid, since in self._since[key].items()})

    def forget(self, key: tuple[str, str]) -> None:
        """Forgets a job that was deleted."""
        self._since.pop(key, None)

    def _newest_event(self, namespace: str, pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Only events say that a volume cannot be mounted; an older one may be over."""
        fields = f"involvedObject.uid={pod['metadata'].get('uid')}"
        try:
            found = self._api.list(EVENTS, namespace, fields=fields)
        except ApiError as error:
            if error.status == 403:  # the operator's role is older than its image
                return []
            raise
        return [max(found, key=_time_of)] if found else []

    def _list(self, kind: tuple[str, str], namespace: str, selector: str) -> list[dict[str, Any]]:
        try:
            return self._api.list(kind, namespace, selector)
        except ApiError as error:
            if error.status == 404:  # KubeRay is not installed
                return []
            raise


def _is_creating(pod: Mapping[str, Any]) -> bool:
    """Whether a pod has a node, and none of its containers has begun: volumes are mounted then."""
    status = pod.get("status") or {}
    if status.get("phase") != "Pending" or pod["metadata"].get("deletionTimestamp"):
        return False
    statuses = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    reasons = [((item.get("state") or {}).get("waiting") or {}).get("reason") for item in statuses]
    return bool(reasons) and all(reason in ("ContainerCreating", "PodInitializing") for reason in reasons)


def _time_of(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return max((str(time)[:19] for time in times if time), default="")
