"""A run in a Ray cluster like the operator's: a head without CPUs, nodes that join on demand."""

import threading
import time

import pytest

from raytrain.config.run_layout import RunLayout
from raytrain.telemetry.progress import read_progress
from raytrain_core.storage import open_store
from tests.support.running import run_job_file
from tests.support.tiny_job import write_job

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_training_waits_for_its_nodes_and_takes_their_gpus_though_it_trains_on_cpus(tmp_path, monkeypatch):
    """`device: cpu` with `gpus: 1`: the pod with a GPU is asked for, and its GPU left alone."""
    import ray
    from ray.cluster_utils import Cluster

    job_file = write_job(tmp_path, workers=2)
    text = job_file.read_text().replace("training: {workers: 2}", "training: {workers: 2, gpus: 1, cpus: 1}")
    job_file.write_text(text)
    # Nodes come in a thread, where Ray cannot set the signal handlers that would shut them down.
    cluster = Cluster(initialize_head=True, shutdown_at_exit=False, head_node_args={"num_cpus": 0})
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path / "cache"))
    storage = str(tmp_path / "storage")
    phase_at_arrival = []

    def grow():
        """Adds two nodes with a GPU each once the run waits for them, like Ray's autoscaler."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            progress = read_progress(open_store(storage), RunLayout("tiny"))
            if progress is not None and progress.phase == "Training":
                break
            time.sleep(0.5)
        time.sleep(5)
        phase_at_arrival.append(progress.phase if progress else None)
        for _ in range(2):
            cluster.add_node(num_cpus=1, num_gpus=1)

    try:
        cluster.add_node(num_cpus=2)  # the CPU group: evaluation
        growing = threading.Thread(target=grow, daemon=True)
        growing.start()
        outcome = run_job_file(job_file, storage=storage)
        growing.join(10)
        assert not outcome.done_before
        assert phase_at_arrival == ["Training"]
        progress = read_progress(open_store(storage), RunLayout("tiny"))
        assert (progress.phase, progress.step) == ("Complete", 12)
    finally:
        ray.shutdown()
        cluster.shutdown()
