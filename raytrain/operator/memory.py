"""What the operator remembers of the cluster, so that it asks nothing while nothing changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from raytrain.operator.parent import WAITING, parent_name
from raytrain.operator.ray_job_status import trim
from raytrain.operator.render import names
from raytrain.operator.serving import trim_service

Key = tuple[str, str]
"""Namespace and name of a FineTuneJob."""


class Memory:
    """The newest version seen of each FineTuneJob, of its RayJobs and of its RayService."""

    def __init__(self) -> None:
        self.jobs: dict[Key, dict[str, Any]] = {}
        self.ray_jobs: defaultdict[Key, dict[str, dict[str, Any]]] = defaultdict(dict)
        """By the key of their job, then by name; without what the operator does not read."""
        self.ray_services: dict[Key, dict[str, Any]] = {}

    def keep_job(self, body: Mapping[str, Any]) -> None:
        """Keeps a version of a FineTuneJob, unless a newer one of the same object is known."""
        key = key_of(body)
        known = self.jobs.get(key)
        if known is None or known["metadata"].get("uid") != body["metadata"].get("uid") or not _is_older(body, known):
            self.jobs[key] = _without_managed_fields(body)

    def keep_answer(self, body: Mapping[str, Any]) -> None:
        """Keeps what the API server answered about a FineTuneJob, unless that is gone by now."""
        key = key_of(body)
        if key in self.jobs and not _is_older(body, self.jobs[key]):
            self.jobs[key] = _without_managed_fields(body)

    def keep_ray_job(self, key: Key, body: Mapping[str, Any]) -> dict[str, Any]:
        """Keeps a RayJob of the FineTuneJob `key`, and returns what is kept of it."""
        kept = self.ray_jobs[key][body["metadata"]["name"]] = trim(body)
        return kept

    def keep_ray_service(self, key: Key, body: Mapping[str, Any]) -> dict[str, Any]:
        """Keeps the RayService of the FineTuneJob `key`, and returns what is kept of it."""
        kept = self.ray_services[key] = trim_service(body)
        return kept

    def keep_applied_service(self, key: Key, desired: Mapping[str, Any]) -> None:
        """Keeps a RayService as it was just applied, with the status that was known before."""
        known = self.ray_services.get(key) or {}
        self.ray_services[key] = {**trim_service(desired), "status": known.get("status")}

    def ray_jobs_of(self, key: Key, uid: str) -> dict[str, dict[str, Any]]:
        """RayJobs, by name, that belong to the FineTuneJob with this uid."""
        return {name: found for name, found in self.ray_jobs[key].items() if names.is_owned(found, uid)}

    def in_line(self) -> list[Key]:
        """Jobs that wait for their turn."""
        return [key for key, body in self.jobs.items() if (body.get("status") or {}).get("place")]

    def waiting_children(self, key: Key) -> Iterator[Key]:
        """Jobs that wait for the model of this one."""
        for other, body in self.jobs.items():
            waits = (body.get("status") or {}).get("phase") == WAITING
            if waits and other[0] == key[0] and parent_name(body) == key[1]:
                yield other

    def forget(self, key: Key) -> None:
        """Forgets a job that was deleted, and what belonged to it."""
        for held in (self.jobs, self.ray_jobs, self.ray_services):
            held.pop(key, None)


def key_of(body: Mapping[str, Any]) -> Key:
    """The key of a FineTuneJob, or of the RayService that bears its name."""
    return body["metadata"]["namespace"], body["metadata"]["name"]


def _without_managed_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Without the record of who wrote which field, which is longer than the job."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    return {**body, "metadata": metadata}


def _is_older(body: Mapping[str, Any], than: Mapping[str, Any]) -> bool:
    """Resource versions are increasing numbers (guaranteed since Kubernetes 1.35)."""
    try:
        return int(body["metadata"]["resourceVersion"]) < int(than["metadata"]["resourceVersion"])
    except (KeyError, ValueError):
        return False
