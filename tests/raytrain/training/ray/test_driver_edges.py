"""What training on Ray decides and says without a cluster: devices, restarts, errors of the group."""

import pytest
from ray.train import ControllerError, WorkerGroupError

from raytrain.config.job import FineTuneJob
from raytrain.training.ray import driver as ray_train
from raytrain_core.errors import ClusterError, DataError, StorageError, TrainingError


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
        (0, "cpu", 2, 1, False, 1),  # the pod that the job speaks of, though its GPU is left alone
    ],
)
def test_gpus_of_a_worker(monkeypatch, there, device, workers, gpus, local, expected):
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4, **({"GPU": there} if there else {})})
    found = ray_train._gpus_of_worker(job(device=device, workers=workers, gpus=gpus), local=local)
    assert found == (expected, "")


def test_fewer_gpus_than_workers_are_not_left_idle_in_silence(monkeypatch):
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4.0, "GPU": 1.0})
    with pytest.raises(ClusterError, match="device is auto, but there are 1 GPUs here for 2 workers") as raised:
        ray_train._gpus_of_worker(job(), local=True)
    assert "workers to 1, or training.device to cpu" in raised.value.hint
    assert ray_train._gpus_of_worker(job(workers=1), local=True) == (1, "")
    gpus, why = ray_train._gpus_of_worker(job(), local=False)
    assert gpus == 0 and "the cluster has 1 GPUs" in why


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4.0})
    with pytest.raises(ClusterError, match="device is cuda, but there are 0 GPUs here for 2 workers"):
        ray_train._gpus_of_worker(job(device="cuda"), local=True)


def test_a_dying_group_in_a_sentence():
    cause = RuntimeError("Traceback\n  File x\nRuntimeError: out of memory")
    told = ray_train._told(WorkerGroupError("long text", {1: cause}), job())
    assert isinstance(told, TrainingError)
    assert told.message.startswith("the training workers died 4 times; at last rank 1: RuntimeError: out of memory (")
    assert "edges" in (told.hint or "")


@pytest.mark.parametrize(
    ("cause", "named"),
    [
        ("The worker died.\n(1) The process is killed by SIGKILL by OOM killer due to high memory usage.", True),
        ("Connection reset by peer", False),
    ],
)
def test_workers_that_may_have_run_out_of_memory_name_the_setting(cause, named):
    told = ray_train._told(WorkerGroupError("long text", {0: RuntimeError(cause)}), job())
    assert ("resources.training.memory" in told.message) == named


def test_a_worker_that_ray_ended_for_its_memory_in_a_sentence():
    cause = RuntimeError(
        "Task was killed due to the node running low on memory.\nTo disable worker killing, set x to 0."
    )
    told = ray_train._told(ControllerError(cause), job())
    assert isinstance(told, ClusterError)
    assert "memory of its machine or pod ran out: raise resources.training.memory" in told.message


def test_a_group_that_cannot_start_in_a_sentence():
    told = ray_train._told(ControllerError(RuntimeError("no room for 9 workers")), job())
    assert isinstance(told, ClusterError)
    assert told.message.endswith("no room for 9 workers")


def test_the_board_remembers_the_first_final_error():
    board = ray_train._Board()
    assert not board.failed()
    assert board.begin() == 1
    board.fail(StorageError("the network"), final=False)
    assert not board.failed()
    assert str(board.failure()) == "the network"
    assert board.begin() == 2
    board.fail(DataError("a broken shard"), final=True)
    board.fail(StorageError("collateral"), final=False)
    assert board.failed()
    assert isinstance(board.failure(), DataError)


def test_the_board_passes_on_in_order_and_once():
    board = ray_train._Board()
    for n in range(3):
        board.tell("progress", n)
    assert board.drain() == [("progress", 0), ("progress", 1), ("progress", 2)]
    assert board.drain() == []
    assert not board.asked_to_stop()
    board.ask_to_stop()
    assert board.asked_to_stop()
