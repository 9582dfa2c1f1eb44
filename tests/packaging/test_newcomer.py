"""A newcomer with nothing but the wheel: from the sample to a model on a hub and at MLflow."""

import json

import pytest

from tests.support.built_wheel import installed, run
from tests.support.mlflow_server import mlflow_environment, mlflow_server
from tests.support.model_hub import TOKEN, model_hub

pytestmark = [pytest.mark.slow, pytest.mark.ray]
PLAIN = """
from huggingface_hub import ModelCard
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
import json
tokenizer = AutoTokenizer.from_pretrained("me/sample", revision="v1")
model = AutoModelForSeq2SeqLM.from_pretrained("me/sample", revision="v1")
inputs = tokenizer("How many stars? It broke at once.", return_tensors="pt")
answer = tokenizer.decode(model.generate(**inputs)[0], skip_special_tokens=True)
card = ModelCard.load("me/sample").data
print(json.dumps({"answer": answer, "card": [card.model_name, card.library_name, len(card.eval_results)]}))
"""
AT_MLFLOW = """
import json, mlflow
client = mlflow.MlflowClient()
(run,) = client.search_runs([client.get_experiment_by_name("raytrain").experiment_id])
versions = [version.version for version in client.search_model_versions("name = 'sample'")]
files = [file.path for file in client.list_artifacts(run.info.run_id)]
print(json.dumps({"run": run.info.run_name, "status": run.info.status, "versions": versions, "files": files}))
"""


def test_from_the_wheel_to_a_hub_and_mlflow(wheel, tmp_path):
    (tmp_path / "server").mkdir()
    programs = installed(wheel, tmp_path, extra="mlflow")
    with model_hub() as hub, mlflow_server(mlflow_environment(tmp_path / "mlflow"), tmp_path / "server") as url:
        variables = {"MLFLOW_TRACKING_URI": url, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN}
        variables["HF_HUB_DISABLE_XET"] = "1"  # the hub of the tests does not speak it
        run([programs / "raytrain", "init", "--sample", "project"], tmp_path)
        project = tmp_path / "project"
        job = (project / "job.yaml").read_text()
        tracked = "  training:\n    trackers: [mlflow]\n    registerModel: sample\n"
        (project / "job.yaml").write_text(job.replace("  training:\n", tracked))

        def raytrain(*arguments):
            return run([programs / "raytrain", *arguments], project, variables)

        raytrain("run", "job.yaml")
        assert "# sample" in raytrain("report", "sample").lower()
        raytrain("export", "sample", "--to", "hf://me/sample", "--tag", "v1")
        repository = hub.repositories["me/sample"]
        assert repository.private
        weights = (project / "raytrain-storage/runs/sample/model/model.safetensors").read_bytes()
        assert repository.commits[repository.tags["v1"]]["model.safetensors"] == weights

        plain = json.loads(run([programs / "python", "-c", PLAIN], project, variables))
        assert plain["answer"]
        assert plain["card"][:2] == ["sample", "transformers"]
        assert plain["card"][2] >= 2

        kept = json.loads(run([programs / "python", "-c", AT_MLFLOW], project, variables))
        assert kept == {
            "run": "sample", "status": "FINISHED", "versions": ["1"], "files": ["job.yaml", "model", "report"],
        }  # fmt: skip
