"""Run and operator write one status, the run with its own account, on a real API server."""

import json
import os
import subprocess
import sys

import pytest

from raytrain.config.job_status import ATTEMPT_VARIABLE, OBJECT_VARIABLE
from raytrain.telemetry.kubernetes_status import OwnObject, StatusMirror
from raytrain.telemetry.progress import Progress, TaskScore
from tests.support.finetunejob_objects import finetunejob
from tests.support.operator_play import Play

pytestmark = pytest.mark.cluster


@pytest.fixture
def started(kubernetes, namespace, operator, tmp_path, monkeypatch):
    """A job whose first attempt runs, with this process as its driver, using the run's account."""
    kubernetes.apply({**finetunejob(), "metadata": {"name": "assistant", "namespace": namespace}})
    play = Play(kubernetes, namespace)
    play.until("Pending")
    play.kuberay("assistant-a01", "Running", "RUNNING")
    token = kubernetes.kubectl("create", "token", "assistant-raytrain", "-n", namespace).stdout.strip()
    kubeconfig = json.loads(kubernetes.kubeconfig().read_text())
    kubeconfig["users"][0]["user"] = {"token": token}
    path = tmp_path / "run.kubeconfig"
    path.write_text(json.dumps(kubeconfig))
    for name, value in (("KUBECONFIG", path), (OBJECT_VARIABLE, f"{namespace}/assistant"), (ATTEMPT_VARIABLE, "1")):
        monkeypatch.setenv(name, str(value))
    return play


def test_progress_and_scores_do_not_touch_the_fields_of_the_operator(started):
    scores = {"chats": TaskScore("rougeL", before=0.2, now=0.3), "puzzles": TaskScore("accuracy", before=0.5)}
    progress = Progress("assistant", 1, phase="Training", step=40, steps=100, scores=scores, message="training")
    with StatusMirror(OwnObject.of_environment(), ["puzzles"]) as mirror:
        mirror.show(progress)
    started.until("Training")
    status = started.status()
    assert (status["progress"]["percent"], status["progress"]["rougeL"]) == ("40%", "20.0 → 30.0")
    assert [task["name"] for task in status["tasks"]] == ["chats", "puzzles"]
    assert [attempt["outcome"] for attempt in status["attempts"]] == ["Running"]
    with StatusMirror(OwnObject.of_environment(), ["puzzles"]) as mirror:
        after = {"chats": TaskScore("rougeL", 0.2, 0.3, 0.35), "puzzles": TaskScore("accuracy", 0.5, None, 0.5)}
        mirror.show(Progress("assistant", 1, phase="Reporting", step=100, steps=100, scores=after))
    started.until("Reporting")
    assert {"DataReady", "Evaluated"} <= {c["type"] for c in started.status()["conditions"] if c["status"] == "True"}


def test_an_error_found_by_the_command_line_is_not_retried(started, tmp_path):
    job_file = tmp_path / "job.yaml"
    job_file.write_text("apiVersion: raytrain.dev/v1alpha1\nkind: FineTuneJob\nspec: {}\n")
    done = subprocess.run(
        [sys.executable, "-m", "raytrain", "run", str(job_file)],
        env=dict(os.environ), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    result = started.status()["result"]
    assert (result["attempt"], result["exitCode"], result["reason"]) == (1, 2, "ConfigError")
    started.kuberay("assistant-a01", "Failed", "FAILED", reason="AppFailed", message="exit status 2")
    started.until("Failed")
    status = started.status()
    assert [attempt["exitCode"] for attempt in status["attempts"]] == [2]
    assert "spec.model" in status["message"]
