"""What a run tells its own object: only in a pod, seldom, and always how it ended."""

import errno
import threading

import pytest

from raytrain.config.job_status import ATTEMPT_VARIABLE, OBJECT_VARIABLE, RAY_CLUSTER_VARIABLE, RunResult, Status
from raytrain.telemetry.kubernetes_status import OwnObject, StatusMirror, as_status, report_result, result_of
from raytrain.telemetry.progress import Progress, TaskScore
from raytrain_core.errors import ClusterError, DataError

OWN = OwnObject("team", "assistant", 2)
PROGRESS = Progress(
    run="assistant",
    attempt=5,
    phase="Training",
    step=62,
    steps=100,
    tokens=4_063_232,
    tokens_per_second=1234.56789,
    eta_seconds=610.4,
    loss=float("nan"),
    scores={
        "chats": TaskScore("rougeL", before=0.2, now=0.3),
        "notes": TaskScore("rougeLsum", before=0.3, now=0.5),
        "reviews": TaskScore("accuracy", before=0.5, now=0.75),
        "puzzles": TaskScore("rougeL", before=0.9, now=0.1),
    },
    message="training",
    report="s3://bucket/runs/assistant/report.html",
)


def test_outside_a_pod_there_is_no_object(monkeypatch):
    monkeypatch.delenv(OBJECT_VARIABLE, raising=False)
    assert OwnObject.of_environment() is None
    with StatusMirror(None, []) as mirror:
        mirror.show(PROGRESS)
    with report_result():
        pass


def test_the_environment_names_the_object(monkeypatch):
    monkeypatch.setenv(OBJECT_VARIABLE, "team/assistant")
    monkeypatch.setenv(ATTEMPT_VARIABLE, "2")
    monkeypatch.delenv(RAY_CLUSTER_VARIABLE, raising=False)
    assert OwnObject.of_environment() == OWN
    monkeypatch.setenv(RAY_CLUSTER_VARIABLE, "assistant-a02-x7k2p")
    assert OwnObject.of_environment().ray_cluster == "assistant-a02-x7k2p"


def test_progress_as_the_status_has_it():
    status = as_status(PROGRESS, OWN.attempt, ["puzzles"])
    assert status["progress"] | {"updated": ""} == {
        "attempt": 2,  # the operator's, not the storage's
        "phase": "Training",
        "step": 62,
        "steps": 100,
        "percent": "62%",
        "tokens": 4_063_232,
        "tokensPerSecond": 1234.6,
        "etaSeconds": 610.0,
        "loss": None,
        "rougeL": "25.0 → 40.0",  # probes and other metrics left out
        "message": "training",
        "report": "s3://bucket/runs/assistant/report.html",
        "checkpointed": "",
        "updated": "",
    }
    assert status["tasks"][3] == {
        "name": "puzzles", "metric": "rougeL", "probe": True, "before": 0.9, "now": 0.1, "scale": "percent",
    }  # fmt: skip
    assert Status.model_validate(status).tasks[0].after is None


@pytest.mark.parametrize(
    ("progress", "percent"),
    [
        (Progress("a", 1, step=0, steps=100), "0%"),
        (Progress("a", 1, step=999, steps=1000), "99%"),
        (Progress("a", 1, step=7, steps=None), ""),
        (Progress("a", 1, phase="Complete", step=0, steps=0), "100%"),
    ],
)
def test_percent(progress, percent):
    assert as_status(progress, 1, [])["progress"]["percent"] == percent


def test_it_is_patched_only_on_change_and_seldom():
    patches, patched = [], threading.Event()

    def patch(status):
        patches.append(status)
        patched.set()

    with StatusMirror(OWN, [], seconds=600, patch=patch) as mirror:
        mirror.show(PROGRESS)
        assert patched.wait(10)
        for _ in range(50):
            mirror.show(PROGRESS)
    assert len(patches) == 1  # the last call at the end found nothing new


def test_api_errors_are_retried_and_never_raised():
    patches, again = [], threading.Event()

    def patch(status):
        patches.append(status)
        if len(patches) == 1:
            raise ClusterError("the Kubernetes API does not answer")
        again.set()

    with StatusMirror(OWN, [], seconds=0.01, patch=patch) as mirror:
        mirror.show(PROGRESS)
        assert again.wait(10)
    assert patches[0] == patches[1]


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (DataError("rows.jsonl:3: no field text"), 3, "DataError"),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (ZeroDivisionError("division by zero"), 1, "ZeroDivisionError"),
        (OSError(errno.ENOSPC, "No space left on device"), 4, "StorageError"),
    ],
)
def test_what_ends_a_run_is_reported_and_raised(error, code, reason):
    reported = []
    with pytest.raises(type(error)), report_result(OWN, reported.append):
        raise error
    cleared, status = reported
    assert cleared == {"result": None}, "the result of an earlier start would explain this one's end"
    result = RunResult.model_validate(status["result"])
    assert (result.attempt, result.exit_code, result.reason) == (2, code, reason)


def test_a_good_end_says_where_the_report_is():
    reported = []
    with report_result(OWN, reported.append) as ending:
        ending.report = "s3://bucket/report/index.html"
    assert reported[1]["result"]["exitCode"] == 0
    assert reported[1]["result"]["report"] == "s3://bucket/report/index.html"


def test_a_result_that_cannot_be_reported_does_not_replace_the_error():
    def patch(status):
        raise ClusterError("gone")

    with pytest.raises(DataError, match="no field"), report_result(OWN, patch):
        raise DataError("no field text")


def test_secrets_do_not_reach_the_status(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-0123456789")
    message = "refused: canary-0123456789"
    assert "canary" not in result_of(DataError(message), OWN).message
    assert "canary" not in str(as_status(Progress("a", 1, message=message), 1, []))
