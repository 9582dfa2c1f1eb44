"""One attempt at a job: everything that its objects are rendered from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raytrain.config.job import ClusterSpec, FineTuneJob
from raytrain.operator.render import names
from raytrain.operator.settings import Runs


@dataclass(frozen=True, slots=True)
class Attempt:
    """The job, the settings of this cluster, the attempt's number, and where and for whom its objects are made.

    Without an `owner` they are for people who run no operator: no accounts, nothing that speaks to
    the API server.
    """

    job: FineTuneJob
    runs: Runs
    number: int = 1
    namespace: str | None = None
    owner: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """Name of the RayJob and of the ConfigMap with the job."""
        return names.ray_job_name(self.job.metadata.name, self.number)

    @property
    def cluster(self) -> ClusterSpec:
        """What the job says about the cluster."""
        return self.job.spec.cluster or ClusterSpec()

    @property
    def managed(self) -> bool:
        """Whether an operator makes the objects."""
        return self.owner is not None

    def object(self, api_version: str, kind: str, name: str, *, lasting: bool = False) -> dict[str, Any]:
        """The beginning of one of its objects; `lasting` ones serve later attempts too."""
        job = self.job.metadata.name
        metadata: dict[str, Any] = {"name": name}
        if self.namespace:
            metadata["namespace"] = self.namespace
        metadata["labels"] = names.labels(job) if lasting else names.labels(job, self.number)
        if self.owner is not None:
            metadata["ownerReferences"] = [dict(self.owner)]
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata}
