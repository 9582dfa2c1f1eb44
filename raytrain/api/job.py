"""A job: what to train, on which data, and how."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from raytrain.api.cluster_run import ClusterRun
from raytrain.api.extras import missing_extras_named
from raytrain.api.stored_run import StoredRun
from raytrain.config.cluster import ClusterSpec
from raytrain.config.evaluation import EvaluationSpec
from raytrain.config.job import API_VERSION, KIND, FineTuneJob
from raytrain.config.load import load_job, to_yaml
from raytrain.config.locations import storage_location
from raytrain.config.resources import Resources as ResourcesSpec
from raytrain.config.run_layout import RunLayout
from raytrain.config.training import TrainingSpec
from raytrain.telemetry.console import Console
from raytrain_core.config.loader import from_mapping
from raytrain_core.storage import StorageLocation, open_store

if TYPE_CHECKING:
    from data_prep.config import Mixture, Task
    from raytrain.check import CheckReport
    from raytrain.config.benchmark import Benchmark
    from raytrain.config.serving import ServingSpec

Fields = Mapping[str, Any]
"""A part of a job as a dictionary, with the names of the job file."""


class Job:
    """A job, from its fields; `Job.from_yaml` reads one from a file.

    A part may be given as its class (`Task`, `Training`, ...) or as a dictionary. Relative paths
    start at `base_folder`. Raises ConfigError that lists every problem.
    """

    def __init__(
        self,
        name: str,
        *,
        model: str | Path,
        tasks: Sequence[Task | Fields],
        training: TrainingSpec | Fields,
        probes: Sequence[Benchmark | Fields | str] | None = None,
        mixture: Mixture | Fields | None = None,
        evaluation: EvaluationSpec | Fields | None = None,
        resources: ResourcesSpec | Fields | None = None,
        storage: StorageLocation | Fields | str | None = None,
        cluster: ClusterSpec | Fields | None = None,
        serving: ServingSpec | Fields | None = None,
        base_folder: str | Path = ".",
    ) -> None:
        spec = {
            "model": str(model) if isinstance(model, Path) else model,
            "storage": {"uri": storage} if isinstance(storage, str) else storage,
            "tasks": _listed(tasks),
            "probes": _listed(probes),
            "mixture": mixture,
            "training": training,
            "evaluation": evaluation,
            "resources": resources,
            "cluster": cluster,
            "serving": serving,
        }
        written = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name},
            "spec": {field: value for field, value in spec.items() if value is not None},
        }
        self._take(from_mapping(written, FineTuneJob, name="Job"), Path(base_folder))

    def _take(self, document: FineTuneJob, base_folder: Path) -> None:
        self.document = document
        """All fields of the job."""
        self.base_folder = base_folder
        """Where relative paths start."""

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Reads a job file; ConfigError lists every problem with line and column."""
        loaded, job = load_job(path), cls.__new__(cls)
        job._take(loaded.job, loaded.base_folder)
        return job

    @classmethod
    def sample(cls, folder: str | Path, *, force: bool = False) -> Self:
        """Writes a small project into `folder` (rows, a tiny model, a job) and reads its job.

        It trains within a minute and needs no network. UsageError if one of its files exists,
        unless `force`.
        """
        from raytrain.config.sample_project import write_sample

        return cls.from_yaml(write_sample(Path(folder), force=force))

    @property
    def name(self) -> str:
        """The name of the job and of its run."""
        return self.document.metadata.name

    def to_yaml(self) -> str:
        """Returns the job as the text of a job file, with the fields that were given."""
        return to_yaml(self.document.model_dump(mode="json", by_alias=True, exclude_unset=True))

    def check(self, *, storage: str | None = None) -> CheckReport:
        """Says what the job would do, as `raytrain check`; nothing is written or started."""
        from raytrain.check import check

        return check(self.document, storage=storage, base_folder=self.base_folder)

    def run(self, *, storage: str | None = None, fresh: bool = False, progress: bool = True) -> StoredRun:
        """Runs the job on this machine to its end, or resumes it; needs the extra `train`.

        A finished run is left as it is. `fresh` discards earlier attempts. Interrupting the cell
        (Ctrl-C) stops the run so that the same call resumes it. Raises a UserError for a mistake in
        the job, its data or the environment.
        """
        with missing_extras_named():
            from raytrain.pipeline.run import run

            with Console(stream=None if progress else io.StringIO()) as console:
                run(self.document, storage=storage, base_folder=self.base_folder, fresh=fresh, console=console)
        location = storage_location(storage, self.document, base_folder=self.base_folder)
        return StoredRun(open_store(location), RunLayout(self.name))

    def submit(self, *, namespace: str = "default", storage: str | None = None) -> ClusterRun:
        """Submits the job to the cluster of the current kubeconfig context, and returns at once.

        Sources and models on this machine are uploaded first. Raises UsageError for a storage that
        pods cannot reach, ClusterError for a cluster that cannot be reached or pods that could
        never start.
        """
        from raytrain.cluster import jobs
        from raytrain.kubernetes.client import KubernetesApi

        api, console = KubernetesApi.connect(), Console()
        jobs.submit(
            self.document,
            api=api,
            namespace=namespace,
            storage=storage,
            base_folder=self.base_folder,
            say=console.line,
        )
        return ClusterRun(api, self.name, namespace, storage=storage)

    def __repr__(self) -> str:
        spec = self.document.spec
        tasks = ", ".join(f"{task.name} (probe)" if task.probe else task.name for task in spec.tasks)
        return f"Job({self.name!r}, model={spec.model!r}, tasks: {tasks})"


def _listed(items: object) -> object:
    """Any series of items as a list; what is none is left for the check that says so."""
    return list(items) if isinstance(items, Iterable) and not isinstance(items, str | Mapping) else items
