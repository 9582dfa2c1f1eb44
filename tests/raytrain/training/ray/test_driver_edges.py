"""What the driver decides and says without a cluster: GPUs of a worker, errors of a group."""

import pytest
from ray.train import ControllerError, WorkerGroupError

from raytrain.config.job import FineTuneJob
from raytrain.training.ray import driver
from raytrain_core.errors import ClusterError, TrainingError


def job(*, device="auto", workers=2, gpus=0):
    return FineTuneJob.model_validate(
        {
            "apiVersion": "raytrain.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": "edges"},
            "spec": {
                "model": "nowhere",
                "tasks": [{"name": "only", "type": "text", "source": {"uri": "rows.jsonl"}}],
                "training": {"steps": 1, "device": device},
                "resources": {"training": {"workers": workers, "gpus": gpus}},
            },
        }
    )


@pytest.mark.parametrize(
    ("there", "device", "workers", "gpus", "local", "expected"),
    [
        (0, "auto", 2, 1, True, 0),
        (2, "auto", 2, 0, True, 1),
        (2, "cpu", 2, 1, True, 0),
        (2, "cuda", 2, 0, True, 1),
        (0, "auto", 2, 1, False, 1),  # an autoscaler brings it
        (0, "auto", 2, 0, False, 0),
        (0, "cuda", 2, 0, False, 1),
        (0, "cpu", 2, 1, False, 1),  # the pod that the job describes, though its GPU is left alone
    ],
)
def test_gpus_of_a_worker(monkeypatch, there, device, workers, gpus, local, expected):
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4, **({"GPU": there} if there else {})})
    found = driver._gpus_per_worker(job(device=device, workers=workers, gpus=gpus), local=local)
    assert found == (expected, "")


def test_fewer_gpus_than_workers_are_not_left_idle_in_silence(monkeypatch):
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4.0, "GPU": 1.0})
    with pytest.raises(ClusterError, match="device is auto, but this machine has 1 GPUs for 2 workers") as raised:
        driver._gpus_per_worker(job(), local=True)
    assert "workers to 1, or training.device to cpu" in raised.value.hint
    assert driver._gpus_per_worker(job(workers=1), local=True) == (1, "")
    gpus, why = driver._gpus_per_worker(job(), local=False)
    assert gpus == 0
    assert "the cluster has 1 GPUs" in why


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4.0})
    with pytest.raises(ClusterError, match="device is cuda, but this machine has 0 GPUs for 2 workers"):
        driver._gpus_per_worker(job(device="cuda"), local=True)


def test_a_dying_group_in_a_sentence():
    cause = RuntimeError("Traceback\n  File x\nRuntimeError: out of memory")
    error = driver._as_user_error(WorkerGroupError("long text", {1: cause}), job())
    assert isinstance(error, TrainingError)
    assert error.message.startswith(
        "the training workers died 4 times; last cause: rank 1: RuntimeError: out of memory ("
    )
    assert "edges" in (error.hint or "")


@pytest.mark.parametrize(
    ("cause", "named"),
    [
        ("The worker died.\n(1) The process is killed by SIGKILL by OOM killer due to high memory usage.", True),
        ("Connection reset by peer", False),
    ],
)
def test_workers_that_may_have_run_out_of_memory_name_the_setting(cause, named):
    error = driver._as_user_error(WorkerGroupError("long text", {0: RuntimeError(cause)}), job())
    assert ("resources.training.memory" in error.message) == named


def test_a_worker_that_ray_ended_for_its_memory_in_a_sentence():
    cause = RuntimeError(
        "Task was killed due to the node running low on memory.\nTo disable worker killing, set x to 0."
    )
    error = driver._as_user_error(ControllerError(cause), job())
    assert isinstance(error, ClusterError)
    assert "its machine or pod ran out of memory: raise resources.training.memory" in error.message


def test_a_group_that_cannot_start_in_a_sentence():
    error = driver._as_user_error(ControllerError(RuntimeError("no room for 9 workers")), job())
    assert isinstance(error, ClusterError)
    assert error.message.endswith("no room for 9 workers")
