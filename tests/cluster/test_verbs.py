"""Cluster commands against a real API server; without an operator the test writes the status."""

import json
import os
import subprocess
import sys

import pytest


@pytest.fixture
def raytrain(target, bucket):
    def call(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "raytrain", *arguments],
            env=os.environ | {"KUBECONFIG": str(target.kubeconfig)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    return call


def test_submit_status_wait_cancel_and_delete(target, definition, namespace, bucket, raytrain, tmp_path):
    rows = [json.dumps({"input": f"say {i}", "target": str(i)}) for i in range(20)]
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    (tmp_path / "job.yaml").write_text(
        f"""
apiVersion: raytrain.dev/v1alpha1
kind: FineTuneJob
metadata: {{name: sent}}
spec:
  model: google/flan-t5-small
  storage: {{uri: "s3://{bucket}/raytrain"}}
  tasks: [{{name: say, type: text, source: {{uri: train.jsonl}}}}]
  training: {{steps: 3}}
"""
    )
    where = ("-n", namespace)
    assert json.loads(raytrain("submit", str(tmp_path / "job.yaml"), *where, "-o", "json"))["phase"] == "Pending"
    source = target.get("ftj", "sent", namespace)["spec"]["tasks"][0]["source"]["uri"]
    assert source.startswith(f"s3://{bucket}/raytrain/uploads/")
    assert source.endswith("/files/train.jsonl")
    assert "has not seen the job yet" in raytrain("status", "sent", *where)
    assert "did you mean sent?" in raytrain("status", "snet", *where, code=2)

    status = {"phase": "Failed", "message": "no such column", "conditions": [], "attempts": []}
    target.kubectl(
        "patch", "ftj", "sent", *where, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status})
    )
    assert "no such column" in raytrain("wait", "sent", *where, code=5)
    raytrain("cancel", "sent", *where)
    assert target.get("ftj", "sent", namespace)["metadata"]["annotations"]["raytrain.dev/cancel"] == "true"
    assert json.loads(raytrain("delete", "sent", *where, "-o", "json"))["deleted"]
    assert "there is no FineTuneJob sent" in raytrain("delete", "sent", *where, code=2)
