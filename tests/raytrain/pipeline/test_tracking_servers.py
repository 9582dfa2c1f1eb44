"""Real trackers: an MLflow server on SQLite, and W&B's offline files."""

import json
import os
import socket
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from raytrain.pipeline.tracking import tracking
from tests.support import REPOSITORY
from tests.support.tracked_run import TrackedContext, job_with

pytestmark = pytest.mark.slow
CLIENT = ("boto3", "jinja2", "pydantic", "rich", "ruamel.yaml", "typer")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Programs of an environment with MLflow, which needs an older pyarrow than the tests."""
    folder = tmp_path_factory.mktemp("mlflow") / "environment"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--no-project", "--python", sys.executable, folder], check=True)
    python = folder / "bin/python"
    subprocess.run([*uv, "pip", "install", "--quiet", "--python", python, "mlflow>=3", *CLIENT], check=True)
    return folder / "bin"


@contextmanager
def mlflow_server(programs, folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = ["--backend-store-uri", f"sqlite:///{folder}/db.sqlite", "--artifacts-destination", str(folder / "files")]
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen([programs / "mlflow", "server", *store, *where], cwd=folder, stdout=log, stderr=log)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)


def _wait_for(url):
    deadline = time.monotonic() + 180
    while True:
        try:
            return urlopen(url, timeout=5).read()
        except (URLError, ConnectionError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def test_mlflow_has_one_run_of_two_attempts_with_everything_and_a_registered_model(environment, tmp_path):
    with mlflow_server(environment, tmp_path) as url:
        kept = {**os.environ, "MLFLOW_TRACKING_URI": url, "PYTHONPATH": str(REPOSITORY)}
        command = [environment / "python", "-m", "tests.support.mlflow_run", str(tmp_path / "run")]
        done = subprocess.run(command, env=kept, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)  # nothing but the result
    assert (found["runs"], found["status"]) == (1, "FINISHED")
    assert found["params"]["spec.tasks.0.source.uri"] == "notes.jsonl"
    assert [step for step, _ in found["losses"]] == [1, 2, 3, 4]
    assert found["metrics"]["test/notes/exact/high"] == 0.75
    assert found["artifacts"] == ["model/config.json", "model/model.safetensors", "report/index.html"]
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
