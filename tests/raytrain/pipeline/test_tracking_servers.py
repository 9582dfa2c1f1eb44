"""Real trackers: an MLflow server on SQLite, and W&B's offline files."""

import json
import os
import struct
import subprocess
import sys
import time

import pytest
from transformers import AutoTokenizer

from raytrain.model.export import export
from raytrain.pipeline.tracking import tracking
from tests.support import REPOSITORY
from tests.support.mlflow_server import mlflow_environment, mlflow_server
from tests.support.tiny_t5 import tiny_model, tiny_tokenizer
from tests.support.tracked_run import TrackedContext, job_with

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return mlflow_environment(tmp_path_factory.mktemp("mlflow") / "environment")


@pytest.fixture
def exported(tmp_path):
    """A folder with the model of a run, and its answers by plain transformers."""
    model = tiny_model()
    export(model, tiny_tokenizer(tmp_path / "tokenizer"), tmp_path / "exported", max_new_tokens=5)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "exported")
    inputs = tokenizer(["say ab", "again c"], return_tensors="pt", padding=True)
    ids = model.generate(inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=5)
    return tmp_path / "exported", tokenizer.batch_decode(ids, skip_special_tokens=True)


def test_mlflow_has_one_run_of_two_attempts_with_everything_and_a_registered_model(environment, tmp_path, exported):
    model, answers = exported
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    with mlflow_server(environment, tmp_path) as url:
        kept = {**os.environ, "MLFLOW_TRACKING_URI": url, "PYTHONPATH": str(REPOSITORY)}
        command = [
            environment / "python",
            "-m",
            "tests.support.mlflow_run",
            *map(str, (tmp_path / "run", model, libraries)),
        ]
        done = subprocess.run(command, env=kept, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)  # nothing but the result
    assert (found["runs"], found["status"]) == (1, "FINISHED")
    assert found["params"]["spec.tasks.0.source.uri"] == "notes.jsonl"
    assert [step for step, _ in found["losses"]] == [1, 2, 3, 4]
    assert found["metrics"]["test/notes/exact/high"] == 0.75
    files = {f"model/{path.name}" for path in model.iterdir()}
    flavour = {"MLmodel", "requirements.txt", "python_env.yaml", "code/raytrain_mlflow_loader.py"}
    assert set(found["artifacts"]) == {*files, *(f"model/{name}" for name in flavour), "report/index.html"}
    assert found["answers"] == answers
    assert found["versions"] == [["1", True]]
    assert found["links"] == {"mlflow": f"{url}/#/experiments/1/runs/{found['id']}"}


def test_wandb_s_offline_files_are_of_one_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    first = TrackedContext(tmp_path, job_with(["wandb"]))
    first.train(range(1, 4))
    with pytest.raises(KeyboardInterrupt), tracking(first, every=0.1):
        raise KeyboardInterrupt
    second = TrackedContext(tmp_path, job_with(["wandb"]))
    with tracking(second, every=0.1):
        second.train(range(3, 5))
        second.score("before", 0.5, 0)
        second.finish()
    assert [*first.told, *second.told] == []
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert len({path.name for path in files}) == 1
    records = [record for path in files for record in _all_records(path)]
    rows = [{item.key or item.nested_key[0]: json.loads(item.value_json) for item in r.history.item} for r in records]
    assert [row["trained_steps"] for row in rows if "loss" in row] == [1, 2, 3, 4]
    assert any(row.get("test/notes/exact") == 0.5 for row in rows)
    assert [r.exit.exit_code for r in records if r.WhichOneof("record_type") == "exit"] == [130, 0]
    assert [r.artifact.type for r in records if r.WhichOneof("record_type") == "artifact"] == ["report", "model"]


def _all_records(path):
    """The records of a W&B file; its service writes the last ones after `finish` has returned."""
    from google.protobuf.message import DecodeError

    deadline = time.monotonic() + 60
    while True:
        try:
            found = list(_records(path))
            if found[-1].WhichOneof("record_type") == "exit":
                return found
        except (DecodeError, IndexError, struct.error):
            found = []
        assert time.monotonic() < deadline, f"{path} is not complete: {len(found)} records"
        time.sleep(0.05)


def _records(path):
    """The records of a W&B file: 7 bytes, then checksum (4), length (2), kind (1), record."""
    from wandb.proto import wandb_internal_pb2

    content, at = path.read_bytes(), 7
    assert len(content) < 1 << 15  # one block: no record is divided
    while at < len(content):
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        assert kind == 1
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content[at + 7 : at + 7 + length])
        yield record
        at += 7 + length
