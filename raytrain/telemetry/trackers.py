"""Optional trackers: TensorBoard, MLflow, Weights & Biases. A tracker that is down, slow or full costs no step.

What a step tells is put into a queue; a thread of its own passes it on. If the tracker does not
keep up, the oldest lines are dropped: the run's own metric segments have them all.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from raytrain_core.errors import UsageError

_log = logging.getLogger(__name__)

NAMES = ("tensorboard", "mlflow", "wandb")
MAX_QUEUED_STEPS = 1000
"""Steps that wait for a tracker at most."""
LAST_SECONDS = 10.0
"""So long the end of training waits for a tracker to take the rest."""


class Tracker(Protocol):
    """Takes numbers by name; may block, may raise."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """The numbers of one step."""

    def close(self) -> None:
        """No more will come."""


class Trackers:
    """All trackers of a run, each in a thread of its own. Use as a context manager."""

    def __init__(self, factories: Mapping[str, Callable[[], Tracker]], *, last_seconds: float = LAST_SECONDS) -> None:
        self._lines = [_Line(name, make) for name, make in factories.items()]
        self._last_seconds = last_seconds

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Hand on the numbers of a step; returns at once. What is not finite is left out."""
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        for line in self._lines:
            line.put(step, finite)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for line in self._lines:
            line.end()
        for line in self._lines:
            line.join(self._last_seconds)


class _Line:
    """One tracker's queue and thread."""

    def __init__(self, name: str, make: Callable[[], Tracker]) -> None:
        self._name, self._make = name, make
        self._waiting: deque[tuple[int, Mapping[str, float]]] = deque(maxlen=MAX_QUEUED_STEPS)
        self._changed = threading.Condition()
        self._ended = self._failing = False
        self._thread = threading.Thread(target=self._run, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def put(self, step: int, values: Mapping[str, float]) -> None:
        with self._changed:
            self._waiting.append((step, values))
            self._changed.notify()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)
        if self._thread.is_alive():
            _log.warning("%s did not take the last numbers within %.0f s", self._name, seconds)

    def _run(self) -> None:
        tracker: Tracker | None = None
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if not self._waiting:
                    break
                step, values = self._waiting.popleft()
            try:
                tracker = tracker or self._make()
                tracker.log(step, values)
                self._failing = False
            except Exception as error:  # whatever it is: training is worth more
                if not self._failing:
                    _log.warning("%s does not take numbers (training goes on): %s", self._name, error)
                self._failing = True
        if tracker is not None:
            try:
                tracker.close()
            except Exception as error:
                _log.warning("%s could not be closed: %s", self._name, error)


def tracker_factories(names: Sequence[str], *, run: str, folder: Path) -> dict[str, Callable[[], Tracker]]:
    """Each tracker by name; `folder` is where TensorBoard's files go.

    UsageError if its package is not installed.
    """
    from importlib.util import find_spec

    packages = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
    makes: dict[str, Callable[[], Tracker]] = {
        "tensorboard": lambda: _TensorBoard(folder),
        "mlflow": lambda: _MLflow(run),
        "wandb": lambda: _WandB(run),
    }
    for name in names:
        if find_spec(packages[name]) is None:
            raise UsageError(
                f"training.trackers: {name} needs the package {packages[name]}, which is not installed",
                hint=f"install {packages[name]} (in the image too), or leave {name} out",
            )
    return {name: makes[name] for name in names}


class _TensorBoard:
    """Event files, by tensorboardX, which comes with Ray."""

    def __init__(self, folder: Path) -> None:
        import tensorboardX

        package: Any = tensorboardX  # untyped
        self._writer: Any = package.SummaryWriter(str(folder), flush_secs=10)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _MLflow:
    """A run in the experiment `raytrain`, at MLFLOW_TRACKING_URI."""

    def __init__(self, run: str) -> None:
        import mlflow

        self._entities: Any = mlflow.entities
        self._client: Any = mlflow.MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "raytrain")
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        self._run: str = self._client.create_run(experiment, run_name=run).info.run_id

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        metrics = [self._entities.Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self) -> None:
        self._client.set_terminated(self._run)


class _WandB:
    """A run in the project WANDB_PROJECT, by default `raytrain`."""

    def __init__(self, run: str) -> None:
        import wandb

        self._run: Any = wandb.init(project=os.environ.get("WANDB_PROJECT", "raytrain"), name=run)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()
