"""The effects around `reconcile`: it remembers what was observed, and acts on one object at a time.

Objects are kept in memory, so nothing is asked of the API server while nothing changes. It is asked
where memory may lag behind: whether a RayJob is really gone, and for the run's result once its
RayJob has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from raytrain.kubernetes.client import JOBS, RAY_JOBS, ApiError, KubernetesApi
from raytrain.operator.actions import Decision, Event
from raytrain.operator.admission import Refusal
from raytrain.operator.metrics import RECONCILE_ERRORS
from raytrain.operator.ray_job_status import ray_job_status, trim
from raytrain.operator.reconcile import TRY_AGAIN_SECONDS, reconcile
from raytrain.operator.render import names
from raytrain.operator.settings import Settings
from raytrain.operator.snapshot import Observed
from raytrain.operator.status import status_patch
from raytrain_core.errors import ClusterError

Key = tuple[str, str]
"""Namespace and name of a FineTuneJob."""
Post = Callable[[Mapping[str, Any], Event], None]
"""Posts an event of an object."""

RESYNC_SECONDS = 600.0
BUG_SECONDS = 60.0
"""When to look again at an object that the operator could not handle."""
_KUBERAY_SECONDS = 600.0
"""How long it is taken for granted that KubeRay is installed."""

_log = logging.getLogger(__name__)


class Controller:
    """Brings the cluster into the state that the FineTuneJobs describe.

    All methods run in one event loop, calls to the API in threads.
    """

    def __init__(self, api: KubernetesApi, settings: Settings, post: Post) -> None:
        self._api, self._settings, self._post = api, settings, post
        self._jobs: dict[Key, dict[str, Any]] = {}
        self._ray_jobs: defaultdict[Key, dict[str, dict[str, Any]]] = defaultdict(dict)
        self._locks: defaultdict[Key, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._kuberay_until = 0.0

    async def on_job_event(self, body: dict[str, Any], *, deleted: bool) -> None:
        """Handles a FineTuneJob that was listed, created, changed or deleted."""
        key = _key(body)
        if deleted:
            self._forget(key)
            return
        known = self._jobs.get(key)
        if known is None or known["metadata"].get("uid") != body["metadata"].get("uid") or not _is_older(body, known):
            self._jobs[key] = _without_managed_fields(body)
        await self.reconcile(key)

    async def on_ray_job_event(self, body: dict[str, Any], *, deleted: bool) -> None:
        """Handles a RayJob of a FineTuneJob that was listed, created, changed or deleted."""
        metadata = body["metadata"]
        key = (metadata["namespace"], (metadata.get("labels") or {})[names.JOB_LABEL])
        before = self._ray_jobs[key].get(metadata["name"])
        if deleted:
            self._ray_jobs[key].pop(metadata["name"], None)
        else:
            self._ray_jobs[key][metadata["name"]] = trim(body)
        if deleted or before is None or before.get("status") != body.get("status"):
            await self.reconcile(key, fresh=deleted or ray_job_status(body).ended)

    async def resync(self) -> None:
        """Reconciles everything again from time to time, in case an event was lost."""
        while True:
            await asyncio.sleep(RESYNC_SECONDS)
            for key in list(self._jobs):
                await self.reconcile(key)

    async def reconcile(self, key: Key, *, fresh: bool = False) -> None:
        """Reconciles one object; `fresh` reads it again first. After an error it is tried again."""
        async with self._locks[key]:
            try:
                await self._reconcile(key, fresh=fresh)
            except ApiError as error:
                if error.status == 404:  # the object is gone; its event is on the way
                    return
                self._retry_later(key, error)
            except ClusterError as error:
                self._retry_later(key, error)
            except Exception as error:  # a bug of ours: it may harm this object and no other
                await self._confess(key, error)

    async def _confess(self, key: Key, error: Exception) -> None:
        """Counts and logs a bug, tells it on the object that ran into it, and looks again later."""
        _log.exception("%s/%s: cannot be reconciled", *key, exc_info=error)
        RECONCILE_ERRORS.labels(*key).inc()
        self._wake_after(key, BUG_SECONDS)
        body = self._jobs.get(key)
        if body is None:
            return
        message = f"the operator cannot handle this object ({type(error).__name__}): please report it as a bug"
        status = body.get("status") or {}
        if status.get("message") == message:
            return
        with contextlib.suppress(ClusterError):
            await self._patch_status(key, {"phase": status.get("phase") or "Pending", "message": message})
            self._post(body, Event("ReconcileError", message, warning=True))

    def _retry_later(self, key: Key, error: ClusterError) -> None:
        _log.warning("%s/%s: %s; trying again", *key, error.message)
        self._wake_after(key, TRY_AGAIN_SECONDS)

    async def _reconcile(self, key: Key, *, fresh: bool) -> None:
        if fresh and (body := await self._get(JOBS, key[0], key[1])) is not None and key in self._jobs:
            self._jobs[key] = _without_managed_fields(body)
        body = self._jobs.get(key)
        if body is None:
            return
        observed = await self._observe(key, body)
        decision = reconcile(observed, self._settings, datetime.now(UTC))
        try:
            await self._act(key, body, decision)
        except ApiError as error:
            if error.status == 404:
                raise
            refused = Refusal(error.reason, error.message)
            observed = Observed(body, observed.ray_jobs, observed.kuberay, apply_error=refused)
            decision = reconcile(observed, self._settings, datetime.now(UTC))
        await self._record(key, body, decision)
        self._wake_after(key, decision.wake_after)

    async def _observe(self, key: Key, body: Mapping[str, Any]) -> Observed:
        uid = body["metadata"]["uid"]
        ray_jobs = {name: ray_job for name, ray_job in self._ray_jobs[key].items() if names.is_owned(ray_job, uid)}
        attempts = (body.get("status") or {}).get("attempts") or []
        for attempt in attempts[-1:]:
            name = attempt["rayJob"]
            if attempt["outcome"] == "Running" and name not in ray_jobs:
                ray_job = await self._get(RAY_JOBS, key[0], name)
                if ray_job is not None and names.is_owned(ray_job, uid):
                    ray_jobs[name] = self._ray_jobs[key][name] = trim(ray_job)
        return Observed(body, ray_jobs, kuberay=await self._has_kuberay())

    async def _act(self, key: Key, body: Mapping[str, Any], decision: Decision) -> None:
        uid = body["metadata"]["uid"]
        for desired in decision.apply:
            await self._create_or_update(desired, uid)
        for name in decision.delete:
            await asyncio.to_thread(self._api.delete, RAY_JOBS, key[0], name)
        if decision.delete_self:
            await asyncio.to_thread(self._api.delete, JOBS, *key)

    async def _create_or_update(self, desired: Mapping[str, Any], uid: str) -> None:
        """Creates an object, or updates it if it belongs to the FineTuneJob with this uid."""
        if await asyncio.to_thread(self._api.create, desired, manager=names.MANAGER) is not None:
            return
        metadata = desired["metadata"]
        kind = (desired["apiVersion"], desired["kind"])
        existing = await self._get(kind, metadata["namespace"], metadata["name"])
        if existing is not None and not names.is_owned(existing, uid):
            name = f"{kind[1]} {metadata['name']}"
            raise ApiError(
                409, "NameTaken", f"{name} exists and belongs to something else: rename the job, or delete it"
            )
        await asyncio.to_thread(self._api.apply, desired, manager=names.MANAGER)

    async def _record(self, key: Key, body: Mapping[str, Any], decision: Decision) -> None:
        """Writes the status and posts the events."""
        if patch := status_patch(body, decision.status):
            await self._patch_status(key, patch)
        for event in decision.events:
            self._post(body, event)

    async def _patch_status(self, key: Key, status: Mapping[str, Any]) -> None:
        """Patches the object's status, and remembers the object as the API server answers it."""
        patch = {"status": status}
        answer = await asyncio.to_thread(self._api.patch, JOBS, *key, patch, manager=names.MANAGER, status=True)
        if key in self._jobs and not _is_older(answer, self._jobs[key]):
            self._jobs[key] = _without_managed_fields(answer)

    async def _has_kuberay(self) -> bool:
        if time.monotonic() < self._kuberay_until:
            return True
        installed = await asyncio.to_thread(self._api.serves, RAY_JOBS)
        self._kuberay_until = time.monotonic() + _KUBERAY_SECONDS if installed else 0.0
        return installed

    async def _get(self, kind: tuple[str, str], namespace: str, name: str) -> dict[str, Any] | None:
        return await asyncio.to_thread(self._api.get, kind, namespace, name)

    def _wake_after(self, key: Key, seconds: float | None) -> None:
        """Sets the object's one timer, which reconciles it again; None removes it."""
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        if seconds is not None:
            self._timers[key] = asyncio.get_running_loop().call_later(seconds, self._on_timer, key)

    def _on_timer(self, key: Key) -> None:
        self._timers.pop(key, None)
        task = asyncio.get_running_loop().create_task(self.reconcile(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _forget(self, key: Key) -> None:
        self._wake_after(key, None)
        for held in (self._jobs, self._ray_jobs, self._locks):
            held.pop(key, None)


def _without_managed_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Without the record of who wrote which field, which is longer than the job."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    return {**body, "metadata": metadata}


def _key(body: Mapping[str, Any]) -> Key:
    return body["metadata"]["namespace"], body["metadata"]["name"]


def _is_older(body: Mapping[str, Any], than: Mapping[str, Any]) -> bool:
    """Resource versions are increasing numbers (guaranteed since Kubernetes 1.35)."""
    try:
        return int(body["metadata"]["resourceVersion"]) < int(than["metadata"]["resourceVersion"])
    except (KeyError, ValueError):
        return False
