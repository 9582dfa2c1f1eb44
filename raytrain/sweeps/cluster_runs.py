"""Runs of a sweep as FineTuneJobs in a cluster, which the operator runs.

They carry the sweep's name as a label, and belong to one ConfigMap: deleting that deletes them all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from raytrain.cluster import jobs
from raytrain.config.job import FineTuneJob
from raytrain.config.load import to_yaml
from raytrain.config.locations import RunLocation
from raytrain.kubernetes.client import JOBS, KubernetesApi
from raytrain.sweeps.engine import Seen
from raytrain.sweeps.plan import SweepPlan
from raytrain_core.errors import UsageError
from raytrain_core.storage import Store, open_store

SWEEP_LABEL = "raytrain.dev/sweep"
_CONFIG_MAPS = ("v1", "ConfigMap")
_FRESH_SECONDS = 2.0  # for which a list of the sweep's objects is not asked for again
_ENDED_BADLY = ("Failed", "Cancelled", "Rejected")


class ClusterRuns:
    """FineTuneJobs of one sweep in one namespace."""

    def __init__(
        self,
        api: KubernetesApi,
        namespace: str,
        plan: SweepPlan,
        *,
        storage: str | None,
        store: Store,
        remembered: Mapping[str, Store],
        say: Callable[[str], None],
    ) -> None:
        self._api, self._namespace, self._plan = api, namespace, plan
        self._storage, self._store, self._remembered, self._say = storage, store, remembered, say
        self._owner: dict[str, Any] | None = None
        self._objects: dict[str, dict[str, Any]] = {}
        self._asked = float("-inf")
        self._places: dict[str, RunLocation] = {}

    def start(self, job: FineTuneJob) -> None:
        """Submits the job; UsageError if another FineTuneJob has its name."""
        name = job.metadata.name
        existing = self._api.get(JOBS, self._namespace, name)
        if existing is not None and not self._is_ours(existing):
            raise UsageError(
                f"there is a FineTuneJob {name} in namespace {self._namespace} that is not of this sweep",
                hint="give the sweep another metadata.name",
            )
        self._owner = self._owner or _owner(self._api, self._namespace, self._plan)
        labels = {**job.metadata.labels, SWEEP_LABEL: self._plan.name}
        jobs.submit(
            job.model_copy(update={"metadata": job.metadata.model_copy(update={"labels": labels})}),
            api=self._api,
            namespace=self._namespace,
            storage=self._storage,
            base_folder=self._plan.base_folder,
            say=self._say,
            owner=self._owner,
        )
        self._asked = float("-inf")

    def look(self, name: str) -> Seen:
        """Reads the phase of the object. The operator has retried what may pass."""
        body = self._listed().get(name)
        if body is None:
            return Seen("absent")
        status = jobs.of_object(body)
        if status.phase == "Complete":
            return Seen("complete")
        if status.phase in _ENDED_BADLY:
            return Seen("failed", f"{status.phase}: {status.message}" if status.message else status.phase)
        return Seen("running")

    def stop(self, name: str) -> None:
        """Cancels the job; its object and storage stay."""
        jobs.cancel(self._api, self._namespace, name)

    def store_of(self, name: str) -> Store:
        """Opens the storage that the operator gave the run.

        If its FineTuneJob was deleted, it is what the sweep remembers; before anything tells it,
        that of another run, or of the sweep itself.
        """
        if name not in self._places and (body := self._listed().get(name)) is not None:
            place = (body.get("status") or {}).get("storage")
            self._places |= {name: jobs.run_location(body, None)} if place else {}
        if name not in self._places and name in self._remembered:
            return self._remembered[name]
        place = self._places.get(name) or next(iter(self._places.values()), None)
        return self._store if place is None else open_store(place.storage)

    def _listed(self) -> dict[str, dict[str, Any]]:
        if time.monotonic() - self._asked > _FRESH_SECONDS:
            found = self._api.list(JOBS, self._namespace, f"{SWEEP_LABEL}={self._plan.name}")
            self._objects = {body["metadata"]["name"]: body for body in found}
            self._asked = time.monotonic()
        return self._objects

    def _is_ours(self, body: dict[str, Any]) -> bool:
        return bool((body["metadata"].get("labels") or {}).get(SWEEP_LABEL) == self._plan.name)


def _owner(api: KubernetesApi, namespace: str, plan: SweepPlan) -> dict[str, Any]:
    """Returns the ConfigMap that owns the jobs and shows the sweep; creates it if it is missing."""
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"sweep-{plan.name}", "namespace": namespace, "labels": {SWEEP_LABEL: plan.name}},
        "data": {"sweep.yaml": to_yaml(plan.sweep.model_dump(mode="json", by_alias=True, exclude_unset=True))},
    }
    created = api.create(body, manager=jobs.MANAGER)
    found = created or api.get(_CONFIG_MAPS, namespace, body["metadata"]["name"])  # type: ignore[index]
    assert found is not None
    return {"apiVersion": "v1", "kind": "ConfigMap", **found}
