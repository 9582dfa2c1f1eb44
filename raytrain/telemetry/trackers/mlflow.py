"""MLflow: a run of the experiment MLFLOW_EXPERIMENT_NAME (raytrain) at MLFLOW_TRACKING_URI."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from posixpath import normpath
from typing import Any

from raytrain.telemetry.trackers.base import Ending, Steps, flat
from raytrain.telemetry.trackers.mlflow_flavour import flavour_files

_STATUS: dict[Ending, str] = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
_MAX_METRICS, _MAX_PARAMS = 1000, 100  # of one request, by MLflow's REST API
_MAX_VALUE, _MAX_KEY = 6000, 250  # characters of a parameter, by MLflow
_NOT_IN_A_NAME = re.compile(r"[^\w.\-/ :]")  # MLflow refuses these, and paths with // or ..


class MLflowTracker:
    """A run at MLflow; needs mlflow-skinny alone.

    Parameters are the job's fields by their paths. A value that is too long for one is in the
    artifact job.yaml only, and the parameter says so.
    """

    def __init__(self, run: str, known: str) -> None:
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # results go to standard output
        import mlflow

        package: Any = mlflow  # untyped
        self._entities: Any = package.entities
        self._client: Any = package.MlflowClient()
        self.id = known or self._create(run)
        info = self._client.get_run(self.id).info
        if known:
            self._client.update_run(self.id, status="RUNNING")
        server = str(package.get_tracking_uri()).rstrip("/")
        self.link = f"{server}/#/experiments/{info.experiment_id}/runs/{self.id}" if server.startswith("http") else ""
        self._artifacts = str(info.artifact_uri)

    def _create(self, run: str) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "raytrain")
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        return str(self._client.create_run(experiment, run_name=run).info.run_id)

    def describe(self, job: Mapping[str, Any], text: str) -> None:
        """Logs the parameters, which MLflow takes again only if they are the same."""
        param = self._entities.Param
        too_long = f"longer than {_MAX_VALUE} characters: see job.yaml"
        params = [
            param(parameter_name(path), value if len(value) <= _MAX_VALUE else too_long)
            for path, value in flat(job).items()
        ]
        for start in range(0, len(params), _MAX_PARAMS):
            self._client.log_batch(self.id, params=params[start : start + _MAX_PARAMS])
        self._client.log_text(self.id, text, "job.yaml")

    def log(self, steps: Steps) -> None:
        """Logs the numbers of some steps."""
        now, metric = int(1000 * time.time()), self._entities.Metric
        metrics = [metric(name, value, now, step) for step, values in steps for name, value in values.items()]
        for start in range(0, len(metrics), _MAX_METRICS):
            self._client.log_batch(self.id, metrics=metrics[start : start + _MAX_METRICS])

    def put_files(self, folder: Path, name: str) -> None:
        """Uploads the files of a folder as the artifacts `name`."""
        self._client.log_artifacts(self.id, str(folder), artifact_path=name)

    def register(self, name: str) -> None:
        """Makes the artifacts `model` the next version of the registered model `name`.

        The version has the flavour python_function.
        """
        for path, text in flavour_files(self.id).items():
            self._client.log_text(self.id, text, f"model/{path}")
        if name not in {found.name for found in self._client.search_registered_models(f"name = '{name}'")}:
            self._client.create_registered_model(name)
        self._client.create_model_version(name, f"{self._artifacts}/model", run_id=self.id)

    def end(self, ending: Ending) -> None:
        """Sets the run's status."""
        self._client.set_terminated(self.id, status=_STATUS[ending])


def parameter_name(path: str) -> str:
    """Returns the path of a field as MLflow takes a name.

    Keys that users choose may hold any character.
    """
    return normpath(_NOT_IN_A_NAME.sub("_", path)).lstrip("/")[:_MAX_KEY]
