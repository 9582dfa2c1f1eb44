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


@dataclass(frozen=True, slots=True)
class Look:
    """What there is of a job in the cluster at one moment."""

    pods: Sequence[Mapping[str, Any]]
    ray_clusters: Sequence[Mapping[str, Any]]
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
        return Look(pods, clusters, {uid: now - since for uid, since in self._since[key].items()})

    def forget(self, key: tuple[str, str]) -> None:
        """Forgets a job that was deleted."""
        self._since.pop(key, None)

    def _list(self, kind: tuple[str, str], namespace: str, selector: str) -> list[dict[str, Any]]:
        try:
            return self._api.list(kind, namespace, selector)
        except ApiError as error:
            if error.status == 404:  # KubeRay is not installed
                return []
            raise
