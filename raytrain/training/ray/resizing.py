"""A checkpoint before Ray Train restarts the workers with another number of them.

An elastic group (`minWorkers`) that has lost workers grows again when there is room: Ray ends the
whole group and starts a larger one. Without a checkpoint just before, every growth would repeat the
steps since the last one.
"""

from __future__ import annotations

import logging
from typing import Any

from ray.train.v2._internal.execution.callback import ControllerCallback

from raytrain.training.ray.channel import DriverChannel

GRACE_SECONDS = 120.0
"""How long Ray's controller waits for the checkpoint before it ends the group all the same."""

_log = logging.getLogger(__name__)


class CheckpointBeforeResize(ControllerCallback):
    """Runs in Ray Train's controller; `RunConfig(callbacks=...)` is where Ray takes it from.

    The controller does not look at the workers while it waits. An error here would end training, so
    the worst that may happen is what would happen without it: steps are repeated.
    """

    def __init__(self, channel: DriverChannel, seconds: float = GRACE_SECONDS) -> None:
        self._channel, self._seconds = channel, seconds

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """Asks for a checkpoint when a healthy group is about to be resized."""
        if type(current_state).__name__ != "ResizingState":  # a group that has died is restarted without this state
            return
        try:
            workers = current_state.scaling_decision.num_workers
            what = f"{workers} worker{'s' if workers != 1 else ''}"
            message = f"the cluster has room for {what}: taking a checkpoint, then training resumes with {what}"
            self._channel.emit("WorkersChange", message, workers=workers)
            if not self._channel.request_checkpoint(wait=self._seconds):
                message = (
                    f"no checkpoint was committed within {self._seconds:g} s: "
                    f"the {what} repeat the steps since the last one"
                )
                self._channel.emit("CheckpointStale", message, workers=workers)
        except Exception:
            _log.exception("no checkpoint before the number of workers changes")
