"""One attempt at a job: the input of all rendering."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raytrain.config.cluster import ClusterSpec
from raytrain.config.job import FineTuneJob
from raytrain.operator.render import names
from raytrain.operator.settings import Runs


@dataclass(frozen=True, slots=True)
class Attempt:
    """The job, the operator's settings for runs, the attempt's number, namespace and owner.

    Without an `owner` the objects are for clusters without the operator: no service accounts,
    nothing that talks to the API server.
    """

    job: FineTuneJob
    runs: Runs
    number: int = 1
    namespace: str | None = None
    owner: Mapping[str, Any] | None = None
    kueue: bool = True
    """Whether Kueue is there: without it a queue has no effect."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Those of the FineTuneJob that its RayJob and pods get too."""
    tenant: str = ""
    """To whom the run belongs in its storage: the namespace and its UID."""

    @property
    def name(self) -> str:
        """Name of the RayJob and of the ConfigMap with the job."""
        return names.ray_job_name(self.job.metadata.name, self.number)

    @property
    def cluster(self) -> ClusterSpec:
        """`spec.cluster`, with its defaults."""
        return self.job.spec.cluster or ClusterSpec()

    @property
    def queue(self) -> str | None:
        """Kueue's queue: the job's own, or the one in its label."""
        if not self.kueue:
            return None
        return self.cluster.queue or self.job.metadata.labels.get(names.QUEUE_LABEL) or None

    @property
    def gang(self) -> bool:
        """Whether KubeRay's batch scheduler starts the pods together, in a queue of its own."""
        system = self.runs.batch_scheduler
        return system is not None and bool(self.job.metadata.labels.get(names.QUEUE_LABELS[system]))

    @property
    def place(self) -> str | None:
        """URI under which everything of the run is stored, None without a storage.

        It is the job's or the default storage, then the cluster's name, if it has one, and the
        namespace: jobs of one name in two namespaces are two runs.
        """
        base = self.job.spec.storage.uri if self.job.spec.storage else self.runs.storage
        if base is None or not self.managed:
            return base
        return "/".join([base.rstrip("/"), *filter(None, (self.runs.cluster_name, self.namespace))])

    @property
    def managed(self) -> bool:
        """Whether the operator creates the objects."""
        return self.owner is not None

    def object(self, api_version: str, kind: str, name: str, *, lasting: bool = False) -> dict[str, Any]:
        """Starts one of the attempt's objects; `lasting` ones are shared with later attempts."""
        job = self.job.metadata.name
        metadata: dict[str, Any] = {"name": name}
        if self.namespace:
            metadata["namespace"] = self.namespace
        metadata["labels"] = names.labels(job) if lasting else names.labels(job, self.number)
        if self.owner is not None:
            metadata["ownerReferences"] = [dict(self.owner)]
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata}
