"""What is set for Ray before it starts."""

import os

import pytest

from raytrain.config.resources import Resources
from raytrain.pipeline import ray_cluster as ray_local
from raytrain.pipeline.ray_cluster import _environment
from raytrain_core.errors import ClusterError

PATIENCE = "RAY_gcs_server_port_wait_time_s"


@pytest.mark.parametrize(
    ("training", "seconds"),
    [({"workers": 4}, "300"), ({"workers": 4, "minWorkers": 4}, "300"), ({"workers": 4, "minWorkers": 2}, "90")],
)
def test_an_elastic_group_waits_less_long_for_a_node_that_is_gone(training, seconds):
    found = _environment(Resources.model_validate({"training": training}))
    assert found["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] == seconds


@pytest.fixture
def starts(monkeypatch):
    """What `ray.init` does at each call, and with which limit it was called."""
    import ray

    outcomes, limits = [], []

    def init(**_):
        limits.append(os.environ.get(PATIENCE))
        if (outcome := outcomes.pop(0)) is not None:
            raise outcome

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray_local, "_environment", lambda resources: {})
    monkeypatch.setattr(ray_local, "_protect_token", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv(PATIENCE, "")  # so that it is restored at the end
    monkeypatch.delenv(PATIENCE)
    return outcomes, limits


def test_a_ray_that_does_not_start_is_no_bug(starts):
    outcomes, limits = starts
    outcomes += [RuntimeError(), RuntimeError()]
    with (
        pytest.raises(ClusterError, match=r"could not be started, tried twice: no reason given \(load \d") as raised,
        ray_local.ray_cluster(Resources()),
    ):
        pass
    assert "run the same command again" in raised.value.hint
    assert "session_latest/logs" in raised.value.hint
    assert limits == [None, "180"]


def test_a_ray_that_starts_late_is_tried_once_more(starts, caplog):
    outcomes, limits = starts
    outcomes += [TimeoutError("the raylet did not register in time"), None]
    with ray_local.ray_cluster(Resources()) as handle:
        assert handle.own
    assert limits == [None, "180"]
    assert "did not register in time" in caplog.text
    assert "load" in caplog.text


def test_a_ray_elsewhere_is_named(starts, monkeypatch):
    outcomes, limits = starts
    outcomes += [ConnectionError("refused")]
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.7:6379")
    with (
        pytest.raises(ClusterError, match=r"Ray at 10\.0\.0\.7:6379 could not be reached: refused"),
        ray_local.ray_cluster(Resources()),
    ):
        pass
    assert len(limits) == 1
