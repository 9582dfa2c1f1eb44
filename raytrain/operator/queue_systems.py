"""Which queue systems are there, and why a queue of Kueue's admits nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from raytrain.kubernetes.client import ApiError, KubernetesApi
from raytrain.operator.admission import Refusal
from raytrain.operator.settings import Settings

LOCAL_QUEUES = (("kueue.x-k8s.io/v1beta2", "LocalQueue"), ("kueue.x-k8s.io/v1beta1", "LocalQueue"))
"""Newest first; Kueue before 0.14 serves the older one only."""
_THERE_SECONDS, _MISSING_SECONDS = 600.0, 30.0
"""How long an answer is taken for granted."""


class QueueSystems:
    """Asks the API server about Kueue, seldom; the rest is in the settings. All calls block."""

    def __init__(self, api: KubernetesApi, settings: Settings) -> None:
        self._api = api
        self._named = {settings.runs.batch_scheduler} - {None}
        self._kind: tuple[str, str] | None = None
        self._until = 0.0

    def present(self) -> frozenset[str]:
        """The queue systems that look after RayJobs."""
        if time.monotonic() >= self._until:
            self._kind = next((kind for kind in LOCAL_QUEUES if self._api.serves(kind)), None)
            self._until = time.monotonic() + (_THERE_SECONDS if self._kind else _MISSING_SECONDS)
        return frozenset(name for name in (*self._named, "kueue" if self._kind else None) if name)

    def problem(self, namespace: str, queue: str) -> Refusal | None:
        """Why Kueue admits no job of this queue; None if nothing is known against it."""
        if self._kind is None:
            return None
        try:
            found = self._api.get(self._kind, namespace, queue)
        except ApiError as error:
            if error.status == 403:  # not told is better than wrongly told
                return None
            raise
        if found is None:
            return Refusal(
                "LocalQueueMissing",
                f"waiting: the namespace {namespace} has no LocalQueue {queue}: create it, or change cluster.queue",
            )
        return _inactive(found)


def _inactive(queue: Mapping[str, Any]) -> Refusal | None:
    conditions = (queue.get("status") or {}).get("conditions") or []
    active: Mapping[str, Any] = next((c for c in conditions if c.get("type") == "Active"), {})
    if active.get("status") != "False":
        return None
    name, why = queue["metadata"]["name"], active.get("message") or active.get("reason")
    return Refusal("LocalQueueInactive", f"waiting: the LocalQueue {name} is not active: {why}")
