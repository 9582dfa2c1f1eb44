"""Reads what `reconcile` has to know, from memory or from the API server.

The API server is asked where memory may lag behind or does not reach: whether a RayJob and its
pods are really gone, for pods while some are missing, for the run's result once its RayJob has
ended, and for all jobs before one of them begins, if their number is limited.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from raytrain.kubernetes.client import JOBS, RAY_JOBS, RAY_SERVICES, ApiError, KubernetesApi
from raytrain.operator.admission import Refusal
from raytrain.operator.capacity import may_add_nodes, misfit, read_capacity
from raytrain.operator.memory import Key, Memory
from raytrain.operator.parent import find_parent, parent_name
from raytrain.operator.pods_seen import PodsSeen
from raytrain.operator.prices import price_of
from raytrain.operator.queue_systems import QueueSystems
from raytrain.operator.ray_job_status import ray_job_status
from raytrain.operator.render import names
from raytrain.operator.settings import Settings
from raytrain.operator.snapshot import Observed, Parent, has_queue, queues_of, read_job

NAMESPACES = ("v1", "Namespace")
_KUBERAY_SECONDS = 600.0
"""How long it is taken for granted that KubeRay is installed."""


class Observer:
    """Observes one job at a time; calls to the API run in threads."""

    def __init__(
        self, api: KubernetesApi, settings: Settings, memory: Memory, namespaces: Sequence[str | None]
    ) -> None:
        self._api, self._settings, self._memory, self._namespaces = api, settings, memory, namespaces
        self._pods = PodsSeen(api)
        self._queue_systems = QueueSystems(api, settings)
        self._tenants: dict[str, str] = {}
        self._kuberay_until = 0.0

    async def observe(self, key: Key, body: Mapping[str, Any]) -> Observed:
        """What is known of a job, without a look at its pods."""
        return Observed(
            body,
            await self._ray_jobs(key, body),
            kuberay=await self._has_kuberay(),
            tenant=await self._tenant(key[0]),
            ray_service=await self._ray_service(key, body),
            queue_systems=await self.queue_systems(),
            queue_problem=await self._queue_problem(key, body),
            parent=await self._parent(key, body),
        )

    async def look(self, key: Key, observed: Observed) -> Observed:
        """Adds what there is of pods, and whether the remembered RayJobs still exist."""
        await self.refresh_ray_jobs(key)
        ray_jobs = self._memory.ray_jobs_of(key, observed.body["metadata"]["uid"])
        seen = await asyncio.to_thread(self._pods.look, key)
        return replace(
            observed,
            ray_jobs=ray_jobs,
            pods=seen.pods,
            pod_events=seen.events,
            ray_clusters=seen.ray_clusters,
            leaving=seen.leaving,
        )

    async def survey(self, body: Mapping[str, Any], observed: Observed) -> Observed:
        """Adds why the pods could never start here, and what their GPUs cost.

        A queue may send them to another cluster. Both are forecasts: where they cannot be made,
        the scheduler, the quota and the bill decide.
        """
        job = read_job(body)
        if job is None:
            return observed
        try:
            capacity = await asyncio.to_thread(read_capacity, self._api, body["metadata"]["namespace"])
            price, _ = price_of(job, self._settings.prices, capacity.nodes)
            observed = replace(observed, gpu_price=price)
            if has_queue(body, await self.queue_systems()):
                return observed
            found = misfit(job, self._settings.runs, capacity)
            grows = bool(found.nodes) and await asyncio.to_thread(may_add_nodes, self._api)
        except ApiError:
            return observed
        return replace(observed, misfit="; ".join([*found.quotas, *([] if grows else found.nodes)]))

    async def jobs(self) -> list[Mapping[str, Any]]:
        """All FineTuneJobs; asked of the API server if turns are limited: memory may have gaps."""
        limits = self._settings.max_running_jobs
        if limits.in_all is None and limits.per_namespace is None:
            return list(self._memory.jobs.values())
        lists = [await asyncio.to_thread(self._api.list, JOBS, where) for where in self._namespaces]
        return [body for found in lists for body in found]

    async def queue_systems(self) -> frozenset[str]:
        """The queue systems that are there; asked only if a job names a queue."""
        if not any(queues_of(body) for body in self._memory.jobs.values()):
            return frozenset()
        return await asyncio.to_thread(self._queue_systems.present)

    async def refresh_job(self, key: Key) -> None:
        """Reads a FineTuneJob again."""
        if (body := await self._get(JOBS, *key)) is not None:
            self._memory.keep_answer(body)

    async def refresh_ray_jobs(self, key: Key) -> None:
        """Reads the remembered RayJobs again, and forgets those that are gone."""
        for name in list(self._memory.ray_jobs[key]):
            found = await self._get(RAY_JOBS, key[0], name)
            if found is None:
                self._memory.ray_jobs[key].pop(name, None)
            else:
                self._memory.keep_ray_job(key, found)

    def forget(self, key: Key) -> None:
        """Forgets a job that was deleted."""
        self._tenants.pop(key[0], None)  # the namespace may be on its way out too
        self._pods.forget(key)

    async def _ray_jobs(self, key: Key, body: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The job's RayJobs; that of a running attempt is asked for if it is not remembered."""
        uid = body["metadata"]["uid"]
        found = self._memory.ray_jobs_of(key, uid)
        attempts = (body.get("status") or {}).get("attempts") or []
        for attempt in attempts[-1:]:
            name = attempt["rayJob"]
            if attempt["outcome"] == "Running" and name not in found:
                ray_job = await self._get(RAY_JOBS, key[0], name)
                if ray_job is not None and names.is_owned(ray_job, uid):
                    found[name] = self._memory.keep_ray_job(key, ray_job)
        return found

    async def _ray_service(self, key: Key, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """The RayService of a complete job; asked of the API server where none is remembered."""
        if (body.get("status") or {}).get("phase") != "Complete" or not _serves(body):
            return None
        known = self._memory.ray_services
        if key not in known and (found := await self._get(RAY_SERVICES, *key)) is not None:
            self._memory.keep_ray_service(key, found)
        service = known.get(key)
        return service if service is not None and names.is_owned(service, body["metadata"]["uid"]) else None

    async def _queue_problem(self, key: Key, body: Mapping[str, Any]) -> Refusal | None:
        """Why Kueue admits nothing, if a RayJob waits for it."""
        queue = queues_of(body).get("kueue")
        waits = any(ray_job_status(found).state == "Queued" for found in self._memory.ray_jobs[key].values())
        return await asyncio.to_thread(self._queue_systems.problem, key[0], queue) if queue and waits else None

    async def _parent(self, key: Key, body: Mapping[str, Any]) -> Parent | None:
        """The job whose model this one starts from, asked for if it is not known yet."""
        if not parent_name(body) or (body.get("status") or {}).get("attempts"):
            return None

        def get(name: str) -> Mapping[str, Any] | None:
            return self._memory.jobs.get((key[0], name)) or self._api.get(JOBS, key[0], name)

        return await asyncio.to_thread(find_parent, body, get)

    async def _tenant(self, namespace: str) -> str:
        """The namespace and its UID: a name alone may exist in another cluster too."""
        if namespace not in self._tenants:
            found = await asyncio.to_thread(self._api.get, NAMESPACES, None, namespace)
            uid = found["metadata"]["uid"] if found is not None else ""
            self._tenants[namespace] = f"namespace {namespace} ({uid})" if uid else ""
        return self._tenants[namespace]

    async def _has_kuberay(self) -> bool:
        if time.monotonic() < self._kuberay_until:
            return True
        installed = await asyncio.to_thread(self._api.serves, RAY_JOBS)
        self._kuberay_until = time.monotonic() + _KUBERAY_SECONDS if installed else 0.0
        return installed

    async def _get(self, kind: tuple[str, str], namespace: str, name: str) -> dict[str, Any] | None:
        return await asyncio.to_thread(self._api.get, kind, namespace, name)


def _serves(body: Mapping[str, Any]) -> bool:
    """Whether a job has something to do with serving, now or until now."""
    return bool((body.get("spec") or {}).get("serving") or (body.get("status") or {}).get("serving"))
