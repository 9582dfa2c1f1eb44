"""Optional trackers: TensorBoard, MLflow, Weights & Biases.

A tracker that is down or slow never delays training: each has a queue and a thread of its own. If a
tracker cannot keep up, the oldest steps are dropped; the run's own metrics contain them all.
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
"""Maximum number of steps that wait for a tracker."""
DRAIN_SECONDS = 10.0
"""How long the end of training waits for a tracker to accept the remaining steps."""


class Tracker(Protocol):
    """Receives numbers by name; may block and may raise."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Logs the numbers of one step."""

    def close(self) -> None:
        """Is called after the last step."""


class Trackers:
    """All trackers of a run, each with a thread of its own; use as a context manager."""

    def __init__(self, factories: Mapping[str, Callable[[], Tracker]], *, drain_seconds: float = DRAIN_SECONDS) -> None:
        self._threads = [_TrackerThread(name, make) for name, make in factories.items()]
        self._drain_seconds = drain_seconds

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Queues the finite numbers of a step and returns at once."""
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        for thread in self._threads:
            thread.put(step, finite)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for thread in self._threads:
            thread.end()
        for thread in self._threads:
            thread.join(self._drain_seconds)


class _TrackerThread:
    """The queue and the thread of one tracker."""

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
            _log.warning("%s did not accept the last steps within %.0f s", self._name, seconds)

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
            except Exception as error:  # of any kind: training must go on
                if not self._failing:
                    _log.warning("%s does not accept numbers (training continues): %s", self._name, error)
                self._failing = True
        if tracker is not None:
            try:
                tracker.close()
            except Exception as error:
                _log.warning("%s could not be closed: %s", self._name, error)


def tracker_factories(names: Sequence[str], *, run: str, folder: Path) -> dict[str, Callable[[], Tracker]]:
    """Returns a factory for each named tracker; TensorBoard writes into `folder`.

    Raises UsageError if a tracker's package is not installed.
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
                hint=f"install {packages[name]} (in the image, too), or remove {name} from the list",
            )
    return {name: makes[name] for name in names}


class _TensorBoard:
    """Writes event files with tensorboardX, which comes with Ray."""

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
    """Logs a run of the experiment `raytrain` to MLFLOW_TRACKING_URI."""

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
    """Logs a run of the project WANDB_PROJECT, by default `raytrain`."""

    def __init__(self, run: str) -> None:
        import wandb

        self._run: Any = wandb.init(project=os.environ.get("WANDB_PROJECT", "raytrain"), name=run)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()
