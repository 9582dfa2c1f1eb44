"""The effects around `reconcile`: it remembers what was observed, and acts on one object at a time.

Objects are kept in memory, so nothing is asked of the API server while nothing changes. It is asked
where memory may lag behind or does not reach: whether a RayJob and its pods are really gone, for
pods while some are missing, for the run's result once its RayJob has ended, and for all jobs before
one of them begins, if their number is limited.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from raytrain.kubernetes.client import JOBS, RAY_JOBS, RAY_SERVICES, ApiError, KubernetesApi
from raytrain.operator.actions import Decision, Event
from raytrain.operator.admission import Refusal
from raytrain.operator.capacity import may_add_nodes, misfit, read_capacity
from raytrain.operator.line import holds_turn, turn_of
from raytrain.operator.metrics import RECONCILE_ERRORS
from raytrain.operator.notifications.delivery import Delivery
from raytrain.operator.notifications.due import Notification, due, remembered
from raytrain.operator.parent import WAITING, find_parent, parent_name
from raytrain.operator.pods_seen import PodsSeen
from raytrain.operator.prices import price_of
from raytrain.operator.queue_systems import QueueSystems
from raytrain.operator.ray_job_status import ray_job_status, trim
from raytrain.operator.reconcile import TRY_AGAIN_SECONDS, reconcile
from raytrain.operator.render import names
from raytrain.operator.serving import trim_service
from raytrain.operator.settings import Settings
from raytrain.operator.snapshot import Observed, Parent, Turn, has_queue, queues_of, read_job, read_status
from raytrain.operator.status import status_patch
from raytrain.operator.timestamps import utc_now
from raytrain_core.errors import ClusterError

NAMESPACES = ("v1", "Namespace")
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

    def __init__(
        self,
        api: KubernetesApi,
        settings: Settings,
        post: Post,
        *,
        namespaces: Sequence[str] = (),
        now: Callable[[], datetime] = utc_now,
        secrets: Path | None = None,
    ) -> None:
        self._api, self._settings, self._post, self._now = api, settings, post, now
        self._namespaces: Sequence[str | None] = list(namespaces) or [None]
        self._pods = PodsSeen(api)
        self._queue_systems = QueueSystems(api, settings)
        self._delivery = Delivery(secrets, self._on_delivered)
        self._beginning = asyncio.Lock()
        """Held while an attempt begins: the next one to begin counts it."""
        self._jobs: dict[Key, dict[str, Any]] = {}
        self._ray_jobs: defaultdict[Key, dict[str, dict[str, Any]]] = defaultdict(dict)
        self._ray_services: dict[Key, dict[str, Any]] = {}
        self._locks: defaultdict[Key, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tenants: dict[str, str] = {}
        self._kuberay_until = 0.0

    async def on_job_event(self, body: dict[str, Any], *, deleted: bool) -> None:
        """Handles a FineTuneJob that was listed, created, changed or deleted."""
        key = _key(body)
        if deleted:
            self._forget(key)
            self._tell_children(key)
            return
        known = self._jobs.get(key)
        if known is None or known["metadata"].get("uid") != body["metadata"].get("uid") or not _is_older(body, known):
            self._jobs[key] = _without_managed_fields(body)
        await self.reconcile(key)
        self._tell_children(key)

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

    def bodies(self) -> list[Mapping[str, Any]]:
        """The FineTuneJobs as they are known; may be called from any thread."""
        return list(self._jobs.values())

    async def on_ray_service_event(self, body: dict[str, Any], *, deleted: bool) -> None:
        """Handles a RayService of a FineTuneJob that was listed, created, changed or deleted."""
        key = _key(body)
        before = self._ray_services.get(key)
        if deleted:
            self._ray_services.pop(key, None)
        else:
            self._ray_services[key] = trim_service(body)
        if deleted or before is None or before != self._ray_services[key]:
            await self.reconcile(key)

    async def resync(self) -> None:
        """Reconciles everything again from time to time, in case an event was lost."""
        while True:
            await asyncio.sleep(RESYNC_SECONDS)
            for key in list(self._jobs):
                await self.reconcile(key, verify=True)

    async def reconcile(self, key: Key, *, fresh: bool = False, verify: bool = False) -> None:
        """Reconciles one object. After an error it is tried again.

        `fresh` reads it again first, `verify` its RayJobs: the event of a deletion can be lost.
        """
        async with self._locks[key]:
            try:
                if verify:
                    await self._refresh_ray_jobs(key)
                await self._reconcile(key, fresh=fresh)
            except ApiError as error:
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
        if (body.get("status") or {}).get("place"):  # still in line, as far as is known
            systems = await self._present_systems()
            turn = turn_of(key, self._jobs.values(), self._settings, self._now(), queue_systems=systems)
            observed = replace(observed, turn=turn)
        decision = self._decide(observed)
        if decision.look:
            observed = await self._look(key, observed)
            decision = self._decide(observed)
        if decision.starts:
            async with self._beginning:
                observed = await self._surveyed(body, replace(observed, turn=await self._turn(key)))
                await self._carry_out(key, observed, self._decide(observed))
        else:
            await self._carry_out(key, observed, decision)

    def _decide(self, observed: Observed) -> Decision:
        return reconcile(observed, self._settings, self._now())

    async def _carry_out(self, key: Key, observed: Observed, decision: Decision) -> None:
        """Does what was decided; where the API server refuses, its reason is written down."""
        body = observed.body
        try:
            await self._act(key, body, decision)
        except ApiError as error:
            observed = replace(observed, apply_error=Refusal(error.reason, error.message))
            decision = self._decide(observed)
        await self._record(key, body, decision)
        self._wake_after(key, decision.wake_after)

    async def _turn(self, key: Key) -> Turn | None:
        """Whose turn it is, asked of the API server if turns are limited: memory may have gaps."""
        limits, bodies = self._settings.max_running_jobs, list(self._jobs.values())
        if limits.in_all is not None or limits.per_namespace is not None:
            lists = [await asyncio.to_thread(self._api.list, JOBS, where) for where in self._namespaces]
            bodies = [body for found in lists for body in found]
        begun = [
            known for known, found in self._ray_jobs.items() if any(not ray_job_status(r).ended for r in found.values())
        ]
        systems = await self._present_systems()
        return turn_of(key, bodies, self._settings, self._now(), begun=begun, queue_systems=systems)

    async def _present_systems(self) -> frozenset[str]:
        """The queue systems that are there; asked only if a job names a queue."""
        if not any(queues_of(body) for body in self._jobs.values()):
            return frozenset()
        return await asyncio.to_thread(self._queue_systems.present)

    async def _queue_problem(self, key: Key, body: Mapping[str, Any]) -> Refusal | None:
        """Why Kueue admits nothing, if a RayJob waits for it."""
        queue = queues_of(body).get("kueue")
        waits = any(ray_job_status(found).state == "Queued" for found in self._ray_jobs[key].values())
        return await asyncio.to_thread(self._queue_systems.problem, key[0], queue) if queue and waits else None

    async def _surveyed(self, body: Mapping[str, Any], observed: Observed) -> Observed:
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
            if has_queue(body, await self._present_systems()):
                return observed
            found = misfit(job, self._settings.runs, capacity)
            grows = bool(found.nodes) and await asyncio.to_thread(may_add_nodes, self._api)
        except ApiError:
            return observed
        return replace(observed, misfit="; ".join([*found.quotas, *([] if grows else found.nodes)]))

    async def _look(self, key: Key, observed: Observed) -> Observed:
        """Adds what there is of pods, and whether the remembered RayJobs still exist."""
        await self._refresh_ray_jobs(key)
        uid = observed.body["metadata"]["uid"]
        ray_jobs = {name: found for name, found in self._ray_jobs[key].items() if names.is_owned(found, uid)}
        seen = await asyncio.to_thread(self._pods.look, key)
        return replace(
            observed,
            ray_jobs=ray_jobs,
            pods=seen.pods,
            pod_events=seen.events,
            ray_clusters=seen.ray_clusters,
            leaving=seen.leaving,
        )

    async def _refresh_ray_jobs(self, key: Key) -> None:
        """Reads the remembered RayJobs again, and forgets those that are gone."""
        for name in list(self._ray_jobs[key]):
            found = await self._get(RAY_JOBS, key[0], name)
            if found is None:
                self._ray_jobs[key].pop(name, None)
            else:
                self._ray_jobs[key][name] = trim(found)

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
        tenant = await self._tenant(key[0])
        return Observed(
            body,
            ray_jobs,
            kuberay=await self._has_kuberay(),
            tenant=tenant,
            ray_service=await self._ray_service(key, body),
            queue_systems=await self._present_systems(),
            queue_problem=await self._queue_problem(key, body),
            parent=await self._parent(key, body),
        )

    async def _ray_service(self, key: Key, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """The RayService of a complete job; asked of the API server where none is remembered."""
        if (body.get("status") or {}).get("phase") != "Complete" or not _serves(body):
            return None
        if key not in self._ray_services and (found := await self._get(RAY_SERVICES, *key)) is not None:
            self._ray_services[key] = trim_service(found)
        found = self._ray_services.get(key)
        return found if found is not None and names.is_owned(found, body["metadata"]["uid"]) else None

    async def _parent(self, key: Key, body: Mapping[str, Any]) -> Parent | None:
        """The job whose model this one starts from, asked for if it is not known yet."""
        if not parent_name(body) or (body.get("status") or {}).get("attempts"):
            return None

        def get(name: str) -> Mapping[str, Any] | None:
            return self._jobs.get((key[0], name)) or self._api.get(JOBS, key[0], name)

        return await asyncio.to_thread(find_parent, body, get)

    async def _tenant(self, namespace: str) -> str:
        """The namespace and its UID: a name alone may exist in another cluster too."""
        if namespace not in self._tenants:
            found = await asyncio.to_thread(self._api.get, NAMESPACES, None, namespace)
            uid = found["metadata"]["uid"] if found is not None else ""
            self._tenants[namespace] = f"namespace {namespace} ({uid})" if uid else ""
        return self._tenants[namespace]

    async def _act(self, key: Key, body: Mapping[str, Any], decision: Decision) -> None:
        uid = body["metadata"]["uid"]
        for desired in decision.apply:
            await self._create_or_update(desired, uid)
            if desired["kind"] == RAY_JOBS[1]:
                self._ray_jobs[key].setdefault(desired["metadata"]["name"], trim(desired))
            elif desired["kind"] == RAY_SERVICES[1]:
                known = self._ray_services.get(key) or {}
                self._ray_services[key] = {**trim_service(desired), "status": known.get("status")}
        for name in decision.delete:
            await asyncio.to_thread(self._api.delete, RAY_JOBS, key[0], name)
        if decision.delete_service:
            await asyncio.to_thread(self._api.delete, RAY_SERVICES, *key)
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
        await asyncio.to_thread(self._api.apply, _without_suspend(desired), manager=names.MANAGER)

    async def _record(self, key: Key, body: Mapping[str, Any], decision: Decision) -> None:
        """Writes the status and posts the events."""
        if patch := status_patch(body, decision.status):
            await self._patch_status(key, patch)
        for event in decision.events:
            self._post(body, event)
        for notification in due(self._jobs.get(key, body), self._settings.notifications, self._now()):
            self._delivery.send(notification)

    async def _on_delivered(self, found: Notification, problem: str) -> None:
        """Writes down that something was told, or that it could not be."""
        key = (found.namespace, found.job)
        async with self._locks[key]:
            body = self._jobs.get(key)
            if body is None:
                return
            if problem:
                message = f"{found.kind} could not be told to {found.channel.name}: {problem}"
                self._post(body, Event("NotificationFailed", message, warning=True))
            with contextlib.suppress(ClusterError):  # it is told once more after a restart
                await self._patch_status(key, {"notified": remembered(read_status(body), found.mark)})

    async def close(self) -> None:
        """Ends what is under way outside of reconciliations."""
        await self._delivery.close()

    async def _patch_status(self, key: Key, status: Mapping[str, Any]) -> None:
        """Patches the object's status, and remembers the object as the API server answers it."""
        patch, before = {"status": status}, self._jobs.get(key)
        answer = await asyncio.to_thread(self._api.patch, JOBS, *key, patch, manager=names.MANAGER, status=True)
        if key in self._jobs and not _is_older(answer, self._jobs[key]):
            self._jobs[key] = _without_managed_fields(answer)
        if before is not None and holds_turn(before) != holds_turn(answer):
            self._call_next()

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

    def _call_next(self) -> None:
        """Has the jobs in line ask for their turn again."""
        for key, body in self._jobs.items():
            if (body.get("status") or {}).get("place"):
                self._wake_after(key, 0.0)

    def _tell_children(self, key: Key) -> None:
        """Has the jobs look again that wait for the model of this one."""
        for other, body in self._jobs.items():
            waits = (body.get("status") or {}).get("phase") == WAITING
            if waits and other[0] == key[0] and parent_name(body) == key[1]:
                self._wake_after(other, 0.0)

    def _on_timer(self, key: Key) -> None:
        self._timers.pop(key, None)
        task = asyncio.get_running_loop().create_task(self.reconcile(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _forget(self, key: Key) -> None:
        self._wake_after(key, None)
        self._tenants.pop(key[0], None)  # the namespace may be on its way out too
        self._pods.forget(key)
        self._call_next()
        for held in (self._jobs, self._ray_jobs, self._ray_services, self._locks):
            held.pop(key, None)


def _serves(body: Mapping[str, Any]) -> bool:
    """Whether a job has something to do with serving, now or until now."""
    return bool((body.get("spec") or {}).get("serving") or (body.get("status") or {}).get("serving"))


def _without_suspend(desired: Mapping[str, Any]) -> Mapping[str, Any]:
    """Once a RayJob exists, `suspend` is its queue's."""
    if desired["kind"] != RAY_JOBS[1]:
        return desired
    return {**desired, "spec": {key: value for key, value in desired["spec"].items() if key != "suspend"}}


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
