"""A tracker takes what a step tells; one that is down, slow or broken costs nothing."""

import sys
import threading
import time
import types

import pytest

from raytrain.telemetry.trackers import MAX_QUEUED_STEPS, Trackers, tracker_factories
from raytrain_core.errors import UsageError


class Kept:
    def __init__(self):
        self.lines, self.closed = [], False

    def log(self, step, values):
        self.lines.append((step, dict(values)))

    def close(self):
        self.closed = True


def test_every_step_arrives_in_order_without_what_is_not_finite():
    kept = Kept()
    with Trackers({"kept": lambda: kept}) as trackers:
        for step in range(50):
            trackers.log(step, {"loss": 1.0 / (step + 1), "norm": float("nan")})
    assert kept.lines == [(step, {"loss": 1.0 / (step + 1)}) for step in range(50)]
    assert kept.closed


def test_one_that_blocks_costs_no_step_and_not_the_end():
    stuck = threading.Event()

    class Stuck(Kept):
        def log(self, step, values):
            stuck.wait(30)

    kept = Kept()
    began = time.monotonic()
    with Trackers({"stuck": Stuck, "kept": lambda: kept}, drain_seconds=0.3) as trackers:
        for step in range(3 * MAX_QUEUED_STEPS):
            trackers.log(step, {"loss": 1.0})
        reported = time.monotonic() - began
        while len(kept.lines) == 0:
            time.sleep(0.01)
    stuck.set()
    assert reported < 1.0
    assert time.monotonic() - began < 10
    assert kept.lines[-1][0] == 3 * MAX_QUEUED_STEPS - 1


def test_a_tracker_that_is_down_is_retried_and_reported_once(caplog):
    kept, calls = Kept(), []

    def make():
        calls.append(None)
        if len(calls) < 3:
            raise ConnectionError("no route")
        return kept

    with Trackers({"remote": make}) as trackers:
        for step in range(5):
            trackers.log(step, {"loss": 1.0})
    assert [step for step, _ in kept.lines] == [2, 3, 4]
    assert [r.message for r in caplog.records] == ["remote does not accept numbers (training continues): no route"]


def test_tensorboard_s_files_can_be_read(tmp_path):
    pytest.importorskip("tensorboardX")
    with Trackers(tracker_factories(["tensorboard"], run="a", folder=tmp_path)) as trackers:
        trackers.log(1, {"loss": 0.5})
    (path,) = tmp_path.iterdir()
    assert b"loss" in path.read_bytes()


def test_mlflow_and_wandb_are_called_as_they_want_it(monkeypatch, tmp_path):
    reported = []
    client = types.SimpleNamespace(
        get_experiment_by_name=lambda name: None,
        create_experiment=lambda name: f"{name}-7",
        create_run=lambda experiment, run_name: types.SimpleNamespace(
            info=types.SimpleNamespace(run_id=f"{experiment}/{run_name}")
        ),
        log_batch=lambda run, metrics: reported.append(("mlflow", run, [m[:2] + m[3:] for m in metrics])),
        set_terminated=lambda run: reported.append(("mlflow", run, "end")),
    )
    mlflow = types.ModuleType("mlflow")
    mlflow.MlflowClient = lambda: client
    mlflow.entities = types.SimpleNamespace(Metric=lambda *fields: fields)
    run = types.SimpleNamespace(
        log=lambda values, step: reported.append(("wandb", step, values)),
        finish=lambda: reported.append(("wandb", "end")),
    )
    wandb = types.ModuleType("wandb")
    wandb.init = lambda project, name: reported.append(("wandb", project, name)) or run
    for module in (mlflow, wandb):
        module.__spec__ = types.SimpleNamespace(name=module.__name__)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("mlflow", "wandb"):
        with Trackers(tracker_factories([name], run="notes", folder=tmp_path)) as trackers:
            trackers.log(4, {"loss": 0.5})
    assert reported == [
        ("mlflow", "raytrain-7/notes", [("loss", 0.5, 4)]),
        ("mlflow", "raytrain-7/notes", "end"),
        ("wandb", "raytrain", "notes"),
        ("wandb", 4, {"loss": 0.5}),
        ("wandb", "end"),
    ]


def test_a_package_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="wandb needs the package wandb, which is not installed"):
        tracker_factories(["wandb"], run="a", folder=tmp_path)
