"""The effects around `reconcile`: what happens to an object, one event or timer at a time.

Objects are kept in memory (`memory`), so nothing is asked of the API server while nothing changes;
`observer` says when it is asked nevertheless. What was decided is carried out by `effects`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from raytrain.kubernetes.client import JOBS, ApiError, KubernetesApi
from raytrain.operator.actions import Decision, Event
from raytrain.operator.admission import Refusal
from raytrain.operator.effects import carry_out
from raytrain.operator.line import holds_turn, turn_of
from raytrain.operator.memory import Key, Memory, key_of
from raytrain.operator.metrics import RECONCILE_ERRORS
from raytrain.operator.notifications.delivery import Delivery
from raytrain.operator.notifications.due import Notification, due, remembered
from raytrain.operator.observer import Observer
from raytrain.operator.ray_job_status import ray_job_status
from raytrain.operator.reconcile import TRY_AGAIN_SECONDS, reconcile
from raytrain.operator.render import names
from raytrain.operator.settings import Settings
from raytrain.operator.snapshot import Observed, Turn, read_status
from raytrain.operator.status import status_patch
from raytrain.operator.timers import Timers
from raytrain.operator.timestamps import utc_now
from raytrain_core.errors import ClusterError

Post = Callable[[Mapping[str, Any], Event], None]
"""Posts an event of an object."""

RESYNC_SECONDS = 600.0
BUG_SECONDS = 60.0
"""When to look again at an object that the operator could not handle."""

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
        self._memory = Memory()
        self._observer = Observer(api, settings, self._memory, list(namespaces) or [None])
        self._delivery = Delivery(secrets, self._on_delivered)
        self._timers = Timers(self.reconcile)
        self._beginning = asyncio.Lock()
        """Held while an attempt begins: the next one to begin counts it."""
        self._locks: defaultdict[Key, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def on_job_event(self, body: dict[str, Any], *, deleted: bool) -> None:
        """Handles a FineTuneJob that was listed, created, changed or deleted."""
        key = key_of(body)
        if deleted:
            self._forget(key)
        else:
            self._memory.keep_job(body)
            await self.reconcile(key)
        self._tell_children(key)

    async def on_ray_job_event(self, body: dict[str, Any], *, deleted: bool) -> None:
        """Handles a RayJob of a FineTuneJob that was listed, created, changed or deleted."""
        metadata = body["metadata"]
        key = (metadata["namespace"], (metadata.get("labels") or {})[names.JOB_LABEL])
        before = self._memory.ray_jobs[key].get(metadata["name"])
        if deleted:
            self._memory.ray_jobs[key].pop(metadata["name"], None)
        else:
            self._memory.keep_ray_job(key, body)
        if deleted or before is None or before.get("status") != body.get("status"):
            await self.reconcile(key, fresh=deleted or ray_job_status(body).ended)

    async def on_ray_service_event(self, body: dict[str, Any], *, deleted: bool) -> None:
        """Handles a RayService of a FineTuneJob that was listed, created, changed or deleted."""
        key = key_of(body)
        before = self._memory.ray_services.get(key)
        if deleted:
            self._memory.ray_services.pop(key, None)
            await self.reconcile(key)
        elif before != self._memory.keep_ray_service(key, body):
            await self.reconcile(key)

    def bodies(self) -> list[Mapping[str, Any]]:
        """The FineTuneJobs as they are known; may be called from any thread."""
        return list(self._memory.jobs.values())

    async def resync(self) -> None:
        """Reconciles everything again from time to time, in case an event was lost."""
        while True:
            await asyncio.sleep(RESYNC_SECONDS)
            for key in list(self._memory.jobs):
                await self.reconcile(key, verify=True)

    async def reconcile(self, key: Key, *, fresh: bool = False, verify: bool = False) -> None:
        """Reconciles one object. After an error it is tried again.

        `fresh` reads it again first, `verify` its RayJobs: the event of a deletion can be lost.
        """
        async with self._locks[key]:
            try:
                if verify:
                    await self._observer.refresh_ray_jobs(key)
                await self._reconcile(key, fresh=fresh)
            except ClusterError as error:
                _log.warning("%s/%s: %s; trying again", *key, error.message)
                self._timers.set(key, TRY_AGAIN_SECONDS)
            except Exception as error:  # a bug of ours: it may harm this object and no other
                await self._confess(key, error)

    async def close(self) -> None:
        """Ends what is under way outside of reconciliations."""
        await self._delivery.close()

    async def _reconcile(self, key: Key, *, fresh: bool) -> None:
        if fresh:
            await self._observer.refresh_job(key)
        body = self._memory.jobs.get(key)
        if body is None:
            return
        observed = await self._observer.observe(key, body)
        if (body.get("status") or {}).get("place"):  # still in line, as far as is known
            observed = replace(observed, turn=await self._turn(key, self.bodies()))
        decision = self._decide(observed)
        if decision.look:
            observed = await self._observer.look(key, observed)
            decision = self._decide(observed)
        if decision.starts:
            async with self._beginning:
                turn = await self._turn(key, await self._observer.jobs(), begun=self._begun())
                observed = await self._observer.survey(body, replace(observed, turn=turn))
                await self._carry_out(key, observed, self._decide(observed))
        else:
            await self._carry_out(key, observed, decision)

    def _decide(self, observed: Observed) -> Decision:
        return reconcile(observed, self._settings, self._now())

    async def _turn(self, key: Key, bodies: Sequence[Mapping[str, Any]], *, begun: Sequence[Key] = ()) -> Turn | None:
        """Whose turn it is among these jobs."""
        systems = await self._observer.queue_systems()
        return turn_of(key, bodies, self._settings, self._now(), begun=begun, queue_systems=systems)

    def _begun(self) -> list[Key]:
        """Jobs with a RayJob that has not ended."""
        return [
            key
            for key, found in self._memory.ray_jobs.items()
            if any(not ray_job_status(ray_job).ended for ray_job in found.values())
        ]

    async def _carry_out(self, key: Key, observed: Observed, decision: Decision) -> None:
        """Does what was decided; where the API server refuses, its reason is written down."""
        body = observed.body
        try:
            await carry_out(self._api, self._memory, key, body["metadata"]["uid"], decision)
        except ApiError as error:
            observed = replace(observed, apply_error=Refusal(error.reason, error.message))
            decision = self._decide(observed)
        await self._record(key, body, decision)
        self._timers.set(key, decision.wake_after)

    async def _record(self, key: Key, body: Mapping[str, Any], decision: Decision) -> None:
        """Writes the status, posts the events and sends the notifications."""
        if patch := status_patch(body, decision.status):
            await self._patch_status(key, body, patch)
        for event in decision.events:
            self._post(body, event)
        for notification in due(self._memory.jobs.get(key, body), self._settings.notifications, self._now()):
            self._delivery.send(notification)

    async def _patch_status(self, key: Key, body: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        """Patches the object's status, and remembers the object as the API server answers it.

        Not if it was deleted meanwhile: a new one of its name has a status of its own.
        """
        patch, before = {"status": status}, self._memory.jobs.get(key)
        if before is None or before["metadata"].get("uid") != body["metadata"].get("uid"):
            return
        answer = await asyncio.to_thread(self._api.patch, JOBS, *key, patch, manager=names.MANAGER, status=True)
        self._memory.keep_answer(answer)
        if holds_turn(before) != holds_turn(answer):
            self._call_next()

    async def _on_delivered(self, found: Notification, problem: str) -> None:
        """Writes down that something was told, or that it could not be."""
        key = (found.namespace, found.job)
        async with self._locks[key]:
            body = self._memory.jobs.get(key)
            if body is None:
                return
            if problem:
                message = f"{found.kind} could not be told to {found.channel.name}: {problem}"
                self._post(body, Event("NotificationFailed", message, warning=True))
            with contextlib.suppress(ClusterError):  # it is told once more after a restart
                await self._patch_status(key, body, {"notified": remembered(read_status(body), found.mark)})

    async def _confess(self, key: Key, error: Exception) -> None:
        """Counts and logs a bug, tells it on the object that ran into it, and looks again later."""
        _log.exception("%s/%s: cannot be reconciled", *key, exc_info=error)
        RECONCILE_ERRORS.labels(*key).inc()
        self._timers.set(key, BUG_SECONDS)
        body = self._memory.jobs.get(key)
        if body is None:
            return
        message = f"the operator cannot handle this object ({type(error).__name__}): please report it as a bug"
        status = body.get("status") or {}
        if status.get("message") == message:
            return
        with contextlib.suppress(ClusterError):
            await self._patch_status(key, body, {"phase": status.get("phase") or "Pending", "message": message})
            self._post(body, Event("ReconcileError", message, warning=True))

    def _call_next(self) -> None:
        """Has the jobs in line ask for their turn again."""
        for key in self._memory.in_line():
            self._timers.set(key, 0.0)

    def _tell_children(self, key: Key) -> None:
        """Has the jobs look again that wait for the model of this one."""
        for child in self._memory.waiting_children(key):
            self._timers.set(child, 0.0)

    def _forget(self, key: Key) -> None:
        self._timers.set(key, None)
        self._observer.forget(key)
        self._memory.forget(key)
        self._call_next()
        if not self._locks[key].locked():  # what is under way would not hold back a new one of this name
            del self._locks[key]
