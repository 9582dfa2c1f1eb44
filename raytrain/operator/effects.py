"""Carries out what `reconcile` decided: objects of a job that are created, updated and deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from raytrain.kubernetes.client import JOBS, RAY_JOBS, RAY_SERVICES, ApiError, KubernetesApi
from raytrain.operator.actions import Decision
from raytrain.operator.memory import Key, Memory
from raytrain.operator.render import names


async def carry_out(api: KubernetesApi, memory: Memory, key: Key, uid: str, decision: Decision) -> None:
    """Changes what belongs to the FineTuneJob with this uid, and remembers it; raises ApiError."""
    for desired in decision.apply:
        await create_or_update(api, desired, uid)
        if desired["kind"] == RAY_JOBS[1]:
            if desired["metadata"]["name"] not in memory.ray_jobs[key]:
                memory.keep_ray_job(key, desired)
        elif desired["kind"] == RAY_SERVICES[1]:
            memory.keep_applied_service(key, desired)
    for name in decision.delete:
        await asyncio.to_thread(api.delete, RAY_JOBS, key[0], name)
    if decision.delete_service:
        await asyncio.to_thread(api.delete, RAY_SERVICES, *key)
    if decision.delete_self:
        await asyncio.to_thread(api.delete, JOBS, *key)


async def create_or_update(api: KubernetesApi, desired: Mapping[str, Any], uid: str) -> None:
    """Creates an object, or updates it if it belongs to the FineTuneJob with this uid."""
    if await asyncio.to_thread(api.create, desired, manager=names.MANAGER) is not None:
        return
    metadata = desired["metadata"]
    kind = (desired["apiVersion"], desired["kind"])
    existing = await asyncio.to_thread(api.get, kind, metadata["namespace"], metadata["name"])
    if existing is not None and not names.is_owned(existing, uid):
        name = f"{kind[1]} {metadata['name']}"
        raise ApiError(409, "NameTaken", f"{name} exists and belongs to something else: rename the job, or delete it")
    await asyncio.to_thread(api.apply, _without_suspend(desired), manager=names.MANAGER)


def _without_suspend(desired: Mapping[str, Any]) -> Mapping[str, Any]:
    """Once a RayJob exists, `suspend` is its queue's."""
    if desired["kind"] != RAY_JOBS[1]:
        return desired
    return {**desired, "spec": {key: value for key, value in desired["spec"].items() if key != "suspend"}}
