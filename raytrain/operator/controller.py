"""The effects around `mapping.reconcile`: what was seen last, one object at a time, apply, patch, wake up again.

What is seen is kept in memory, so that nothing is asked of the API server while nothing changes. It
is asked where memory may lag: whether a RayJob is really gone, and for the run's result once its
RayJob has ended.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from raytrain.kubernetes.client import JOBS, RAY_JOBS, ApiError, KubernetesApi
from raytrain.operator.admission import Refusal
from raytrain.operator.reconcile import TRY_AGAIN_SECONDS, Decision, Event, Observed, changes, reconcile
from raytrain.operator.render import names
from raytrain.operator.render.kuberay import kept, seen
from raytrain.operator.settings import Settings
from raytrain_core.errors import ClusterError

Key = tuple[str, str]
"""Namespace and name of a FineTuneJob."""
Post = Callable[[Mapping[str, Any], Event], None]

RESYNC_SECONDS = 600.0
_KUBERAY_SECONDS = 600.0

_log = logging.getLogger(__name__)


class Controller:
    """Brings the cluster to what the jobs say.

    All methods run in one event loop; calls to the API in threads.
    """

    def __init__(self, api: KubernetesApi, settings: Settings, post: Post) -> None:
        self._api, self._settings, self._post = api, settings, post
        self._jobs: dict[Key, dict[str, Any]] = {}
        self._ray_jobs: defaultdict[Key, dict[str, dict[str, Any]]] = defaultdict(dict)
        self._locks: defaultdict[Key, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._alarms: dict[Key, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._kuberay_until = 0.0

    async def saw_job(self, body: dict[str, Any], *, deleted: bool) -> None:
        """A FineTuneJob was listed, made, changed or deleted."""
        key = _key(body)
        if deleted:
            self._forget(key)
            return
        known = self._jobs.get(key)
        if known is None or known["metadata"].get("uid") != body["metadata"].get("uid") or not _older(body, known):
            self._jobs[key] = _slim(body)
        await self.reconcile(key)

    async def saw_ray_job(self, body: dict[str, Any], *, deleted: bool) -> None:
        """A RayJob of ours was listed, made, changed or deleted."""
        metadata = body["metadata"]
        key = (metadata["namespace"], (metadata.get("labels") or {})[names.JOB_LABEL])
        before = self._ray_jobs[key].get(metadata["name"])
        if deleted:
            self._ray_jobs[key].pop(metadata["name"], None)
        else:
            self._ray_jobs[key][metadata["name"]] = kept(body)
        if deleted or before is None or before.get("status") != body.get("status"):
            await self.reconcile(key, fresh=deleted or seen(body).over)

    async def resync(self) -> None:
        """Look at everything again from time to time, from memory: nothing that was missed stays missed."""
        while True:
            await asyncio.sleep(RESYNC_SECONDS)
            for key in list(self._jobs):
                await self.reconcile(key)

    async def reconcile(self, key: Key, *, fresh: bool = False) -> None:
        """Do what `mapping.reconcile` says about one object; what goes wrong is logged and tried again."""
        async with self._locks[key]:
            try:
                await self._reconcile(key, fresh=fresh)
            except ApiError as error:
                if error.status == 404:  # the object is gone; its event is on the way
                    return
                self._trouble(key, error)
            except ClusterError as error:
                self._trouble(key, error)

    def _trouble(self, key: Key, error: ClusterError) -> None:
        _log.warning("%s/%s: %s; trying again", *key, error.message)
        self._wake(key, TRY_AGAIN_SECONDS)

    async def _reconcile(self, key: Key, *, fresh: bool) -> None:
        if fresh and (body := await self._get(JOBS, key[0], key[1])) is not None and key in self._jobs:
            self._jobs[key] = _slim(body)
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
            observed = Observed(body, observed.ray_jobs, observed.kuberay, trouble=refused)
            decision = reconcile(observed, self._settings, datetime.now(UTC))
        await self._write(key, body, decision)
        self._wake(key, decision.wake_after)

    async def _observe(self, key: Key, body: Mapping[str, Any]) -> Observed:
        uid = body["metadata"]["uid"]
        ray_jobs = {name: found for name, found in self._ray_jobs[key].items() if names.is_owned(found, uid)}
        attempts = (body.get("status") or {}).get("attempts") or []
        for attempt in attempts[-1:]:
            name = attempt["rayJob"]
            if attempt["outcome"] == "Running" and name not in ray_jobs:
                found = await self._get(RAY_JOBS, key[0], name)
                if found is not None and names.is_owned(found, uid):
                    ray_jobs[name] = self._ray_jobs[key][name] = kept(found)
        return Observed(body, ray_jobs, kuberay=await self._has_kuberay())

    async def _act(self, key: Key, body: Mapping[str, Any], decision: Decision) -> None:
        uid = body["metadata"]["uid"]
        for wanted in decision.apply:
            await self._make(wanted, uid)
        for name in decision.delete:
            await asyncio.to_thread(self._api.delete, RAY_JOBS, key[0], name)
        if decision.delete_self:
            await asyncio.to_thread(self._api.delete, JOBS, *key)

    async def _make(self, wanted: Mapping[str, Any], uid: str) -> None:
        """Make an object, or bring it up to date if it is ours already."""
        if await asyncio.to_thread(self._api.create, wanted, manager=names.MANAGER) is not None:
            return
        metadata = wanted["metadata"]
        kind = (wanted["apiVersion"], wanted["kind"])
        there = await self._get(kind, metadata["namespace"], metadata["name"])
        if there is not None and not names.is_owned(there, uid):
            name = f"{kind[1]} {metadata['name']}"
            raise ApiError(409, "NameTaken", f"{name} is there and belongs to someone else: rename the job, or it")
        await asyncio.to_thread(self._api.apply, wanted, manager=names.MANAGER)

    async def _write(self, key: Key, body: Mapping[str, Any], decision: Decision) -> None:
        patch = changes(body, decision.status)
        if patch:
            answer = await asyncio.to_thread(
                self._api.patch, JOBS, *key, {"status": patch}, manager=names.MANAGER, status=True
            )
            if key in self._jobs and not _older(answer, self._jobs[key]):
                self._jobs[key] = _slim(answer)
        for event in decision.events:
            self._post(body, event)

    async def _has_kuberay(self) -> bool:
        if time.monotonic() < self._kuberay_until:
            return True
        try:
            answer = await asyncio.to_thread(self._api.call, "GET", f"/apis/{RAY_JOBS[0]}")
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        there = any(resource.get("kind") == RAY_JOBS[1] for resource in answer.get("resources", []))
        self._kuberay_until = time.monotonic() + _KUBERAY_SECONDS if there else 0.0
        return there

    async def _get(self, kind: tuple[str, str], namespace: str, name: str) -> dict[str, Any] | None:
        return await asyncio.to_thread(self._api.get, kind, namespace, name)

    def _wake(self, key: Key, seconds: float | None) -> None:
        """Look at the object again after some seconds; an earlier wish is forgotten."""
        if (alarm := self._alarms.pop(key, None)) is not None:
            alarm.cancel()
        if seconds is not None:
            self._alarms[key] = asyncio.get_running_loop().call_later(seconds, self._ring, key)

    def _ring(self, key: Key) -> None:
        self._alarms.pop(key, None)
        task = asyncio.get_running_loop().create_task(self.reconcile(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _forget(self, key: Key) -> None:
        self._wake(key, None)
        for held in (self._jobs, self._ray_jobs, self._locks):
            held.pop(key, None)


def _slim(body: Mapping[str, Any]) -> dict[str, Any]:
    """Without the record of who wrote what, which is longer than the job."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    return {**body, "metadata": metadata}


def _key(body: Mapping[str, Any]) -> Key:
    return body["metadata"]["namespace"], body["metadata"]["name"]


def _older(body: Mapping[str, Any], than: Mapping[str, Any]) -> bool:
    """Resource versions are numbers that grow (promised since Kubernetes 1.35, true since ever)."""
    try:
        return int(body["metadata"]["resourceVersion"]) < int(than["metadata"]["resourceVersion"])
    except (KeyError, ValueError):
        return False
