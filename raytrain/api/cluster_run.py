"""Runs that are found by their job in a cluster."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Self

from raytrain.api.progress import ProgressView
from raytrain.api.run import Run
from raytrain_core.errors import ClusterError
from raytrain_core.storage import Store

if TYPE_CHECKING:
    from raytrain.cluster.jobs import ClusterStatus
    from raytrain.config.run_layout import RunLayout
    from raytrain.kubernetes.client import KubernetesApi


class ClusterRun(Run):
    """The run of a job that was submitted to a cluster.

    Its storage is known once the operator has seen the job; until then, what reads it raises
    UsageError.
    """

    def __init__(self, api: KubernetesApi, name: str, namespace: str, *, storage: str | None = None) -> None:
        self._api, self._name, self._storage = api, name, storage
        self.namespace = namespace
        """The namespace of the job."""

    @property
    def name(self) -> str:
        """The name of the job and of its run."""
        return self._name

    def _open(self) -> tuple[Store, RunLayout]:
        return self._place

    @cached_property
    def _place(self) -> tuple[Store, RunLayout]:
        from raytrain.cluster import jobs
        from raytrain.runs.status import open_run

        return open_run(jobs.run_location(jobs.get(self._api, self.namespace, self._name), self._storage))

    def cluster_status(self) -> ClusterStatus:
        """Returns the status of the job in the cluster."""
        from raytrain.cluster import jobs

        return jobs.of_object(jobs.get(self._api, self.namespace, self._name))

    def wait(self, *, progress: bool = True, timeout: float | None = None) -> Self:
        """Waits until the job has ended, and shows its progress.

        Raises ClusterError if it ended without a result, or after `timeout` seconds.
        """
        from raytrain.cluster import jobs

        with ProgressView(progress=progress) as view:
            for found in jobs.watch(self._api, self.namespace, self._name, timeout=timeout):
                view.show(found)
                if found.ended and found.phase != "Complete":
                    raise ClusterError(f"{self._name} ended as {found.phase}: {found.message}")
        return self

    def cancel(self) -> None:
        """Ends the job for good; the object and its storage are kept."""
        from raytrain.cluster import jobs

        jobs.cancel(self._api, self.namespace, self._name)

    def __repr__(self) -> str:
        return f"ClusterRun({self._name!r}, namespace={self.namespace!r})"


def open_job(name: str, namespace: str = "default", storage: str | None = None) -> ClusterRun:
    """Finds a job in the cluster of the current kubeconfig context, and its run.

    Raises UsageError with the closest name if there is no such job.
    """
    from raytrain.cluster import jobs
    from raytrain.kubernetes.client import KubernetesApi

    api = KubernetesApi.connect()
    jobs.get(api, namespace, name)
    return ClusterRun(api, name, namespace, storage=storage)
