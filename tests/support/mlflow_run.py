"""Two attempts at a run, fed to the MLflow of MLFLOW_TRACKING_URI; prints what its server keeps.

A program of its own: MLflow needs older libraries than the tests do, so it has an environment. Its
arguments are a folder for the run, the model that the run exports, and where torch is installed.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from raytrain.pipeline.tracking import tracking
from tests.support.tracked_run import TrackedContext, job_with

if TYPE_CHECKING:
    from raytrain.pipeline.context import RunContext


def attempts(folder: Path, model: Path) -> TrackedContext:
    job = job_with(["mlflow"], registerModel="notes")
    first = TrackedContext(folder, job)
    first.train(range(1, 4))
    first.score("before", 0.5, 0)
    with tracking(cast("RunContext", first), every=0.1):
        pass
    second = TrackedContext(folder, job)
    with tracking(cast("RunContext", second), every=0.1):
        second.train(range(3, 5))
        second.finish(model)
    assert not first.told, first.told
    assert not second.told, second.told
    return second


def kept_by_the_server(context: TrackedContext) -> dict[str, Any]:
    import mlflow

    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("raytrain")
    runs = client.search_runs([experiment.experiment_id])
    found = runs[0]
    versions = client.search_model_versions("name = 'notes'")
    return {
        "runs": len(runs),
        "status": found.info.status,
        "params": found.data.params,
        "metrics": found.data.metrics,
        "losses": [(m.step, m.value) for m in client.get_metric_history(found.info.run_id, "loss")],
        "artifacts": sorted(
            file.path
            for part in ("report", "model", "model/code")
            for file in client.list_artifacts(found.info.run_id, part)
            if not file.is_dir
        ),
        "versions": [(version.version, version.run_id == found.info.run_id) for version in versions],
        "links": context.progress.progress.links,
        "id": found.info.run_id,
    }


def answers_of_the_registered_model(prompts: list[str]) -> list[str]:
    import mlflow.pyfunc

    sys.path.append(sys.argv[3])  # last: MLflow's own libraries go before those of the tests
    found: list[str] = mlflow.pyfunc.load_model("models:/notes/1").predict(prompts)
    return found


if __name__ == "__main__":
    kept = kept_by_the_server(attempts(Path(sys.argv[1]), Path(sys.argv[2])))
    print(json.dumps({**kept, "answers": answers_of_the_registered_model(["say ab", "again c"])}))
