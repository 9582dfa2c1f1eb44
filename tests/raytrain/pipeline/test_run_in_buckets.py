"""Whole runs of the command line: rows, model, storage and export lie in GCS or Azure."""

import json
import subprocess
import sys

import pytest

from raytrain_core.storage import open_store
from tests.support.tiny_job import write_job

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.parametrize("cloud", ["gcs", "azure"])
def test_a_run_from_bucket_to_bucket(cloud, request, tmp_path, monkeypatch):
    uri = request.getfixturevalue(f"{cloud}_uri")
    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path / "cache"))
    store = open_store(uri)
    job = write_job(tmp_path / "project", steps=4, checkpoint_every=2, every=2)
    for path in (tmp_path / "project").rglob("*"):
        if path.is_file() and path != job:
            store.upload(f"given/{path.relative_to(tmp_path / 'project')}", path)
            path.unlink()
    here = job.read_text()
    job.write_text(here.replace("./model", f"{uri}/given/model").replace("uri: ", f"uri: {uri}/given/"))

    def raytrain(*arguments: str) -> str:
        command = [sys.executable, "-m", "raytrain", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    raytrain("run", str(job), "--storage", uri)
    keys = {stat.key for stat in store.list("runs/tiny")}
    (progress,) = [json.loads(store.get(key)) for key in keys if key.endswith("/progress.json")]
    assert (progress["phase"], progress["step"]) == ("Complete", 4)
    assert "tiny" in raytrain("report", "tiny", "--storage", uri)
    assert raytrain("run", str(job), "--storage", uri)
    assert {stat.key for stat in store.list("runs/tiny")} == keys  # found finished; nothing was written again
    raytrain("export", "tiny", "--storage", uri, "--to", f"{uri}/taken")
    assert {"taken/README.md", "taken/model.safetensors", "taken/tokenizer.json"} <= {
        stat.key for stat in store.list("taken")
    }
