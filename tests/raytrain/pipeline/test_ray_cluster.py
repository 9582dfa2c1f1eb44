"""What is set for Ray before it starts."""

import pytest

from raytrain.config.job import Resources
from raytrain.pipeline import ray_cluster as ray_local
from raytrain.pipeline.ray_cluster import _environment
from raytrain_core.errors import ClusterError


@pytest.mark.parametrize(
    ("training", "seconds"),
    [({"workers": 4}, "300"), ({"workers": 4, "minWorkers": 4}, "300"), ({"workers": 4, "minWorkers": 2}, "90")],
)
def test_an_elastic_group_waits_less_long_for_a_node_that_is_gone(training, seconds):
    found = _environment(Resources.model_validate({"training": training}))
    assert found["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] == seconds


def test_a_ray_that_does_not_start_is_no_bug(monkeypatch):
    import ray

    def init(**_):
        raise RuntimeError

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray_local, "_environment", lambda resources: {})
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with (
        pytest.raises(ClusterError, match="could not be started or reached: no reason given") as raised,
        ray_local.ray_cluster(Resources()),
    ):
        pass
    assert "session_latest/logs" in raised.value.hint
