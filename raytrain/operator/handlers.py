"""Connects kopf, which watches, to the controller, which decides. No timers, daemons or finalizers.

Only low-level event handlers are used, so kopf stores nothing in the objects, and a stopped
operator never blocks a deletion.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import kopf
from prometheus_client import REGISTRY

from raytrain.kubernetes.client import JOBS, RAY_JOBS, KubernetesApi
from raytrain.operator.actions import Event
from raytrain.operator.controller import Controller
from raytrain.operator.metrics import JobCollector
from raytrain.operator.notification_settings import FOLDER_VARIABLE
from raytrain.operator.render import names
from raytrain.operator.render.names import PLURAL
from raytrain.operator.settings import VARIABLE, Settings
from raytrain.operator.settings_watch import until_changed

_GROUP, _VERSION = JOBS[0].split("/")
_log = logging.getLogger(__name__)
_RAY_GROUP, _RAY_VERSION = RAY_JOBS[0].split("/")


def registry(api: KubernetesApi, settings: Settings, *, namespaces: Sequence[str] = ()) -> kopf.OperatorRegistry:
    """Registers kopf's handlers; with given `namespaces`, kopf does not scan for them."""
    handlers = kopf.OperatorRegistry()
    folder = os.environ.get(FOLDER_VARIABLE)
    secrets = Path(folder) if folder else None
    controller = Controller(api, settings, _post, namespaces=namespaces, secrets=secrets)
    tasks: list[asyncio.Task[None]] = []
    collector = JobCollector(controller.bodies)

    @kopf.on.startup(registry=handlers)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.peering.standalone = True
        settings.scanning.disabled = bool(namespaces)
        settings.posting.reporting_component = names.MANAGER
        settings.networking.request_timeout = 30
        settings.watching.server_timeout = 300  # reopens a watch that has gone silent
        settings.watching.client_timeout = 330
        REGISTRY.register(collector)
        tasks.append(asyncio.get_running_loop().create_task(controller.resync()))
        if path := os.environ.get(VARIABLE):
            tasks.append(asyncio.get_running_loop().create_task(_end_when_changed(Path(path))))

    @kopf.on.login(registry=handlers)
    def login(**known: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_via_client(**known)

    @kopf.on.cleanup(registry=handlers)
    async def stop(**_: Any) -> None:
        REGISTRY.unregister(collector)
        await controller.close()
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @kopf.on.event(_GROUP, _VERSION, PLURAL, registry=handlers)
    async def job(body: kopf.Body, type: str | None, **_: Any) -> None:
        await controller.on_job_event(dict(body), deleted=type == "DELETED")

    @kopf.on.event(_RAY_GROUP, _RAY_VERSION, "rayjobs", labels={names.JOB_LABEL: kopf.PRESENT}, registry=handlers)
    async def ray_job(body: kopf.Body, type: str | None, **_: Any) -> None:
        await controller.on_ray_job_event(dict(body), deleted=type == "DELETED")

    @kopf.on.event(_RAY_GROUP, _RAY_VERSION, "rayservices", labels={names.JOB_LABEL: kopf.PRESENT}, registry=handlers)
    async def ray_service(body: kopf.Body, type: str | None, **_: Any) -> None:
        await controller.on_ray_service_event(dict(body), deleted=type == "DELETED")

    return handlers


def serve(settings: Settings, *, namespaces: Sequence[str] = (), liveness: str | None = None) -> None:
    """Runs the operator until it is stopped; without `namespaces`, for the whole cluster."""
    api = KubernetesApi.connect()
    kopf.run(
        registry=registry(api, settings, namespaces=namespaces),
        namespaces=list(namespaces),
        clusterwide=not namespaces,
        liveness_endpoint=liveness,
        standalone=True,
    )


async def _end_when_changed(settings: Path) -> None:
    """Stops this process when its settings change: Kubernetes starts it again with the new ones."""
    await until_changed(settings)
    _log.warning("%s has changed: the operator stops, to start again with the new settings", settings)
    os.kill(os.getpid(), signal.SIGTERM)


def _post(body: Mapping[str, Any], event: Event) -> None:
    raw: Any = body
    kopf.event(
        kopf.Body(raw), type="Warning" if event.warning else "Normal", reason=event.reason, message=event.message
    )
