"""A Ray to run in: the cluster this process belongs to, or one of its own on this machine."""

import contextlib
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from raytrain.config.job import Resources
from raytrain_core.errors import ClusterError

TOKEN_FILE = Path("~/.ray/auth_token")

# Read by Ray when it is imported or started. A user's own setting wins.
_ENVIRONMENT = {
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",  # without it /api/train/v2/runs/v1 stays empty
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # reports are drained this often; the default of 2 s blocks them
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "120",  # a hanging worker is found in two minutes, not ten
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}


def _environment(resources: Resources) -> dict[str, str]:
    """Importing torch on a busy machine takes longer than the minute that Ray gives a group to start.

    But an elastic group must not wait that long for a node that is gone: Ray counts it until it has
    missed its heartbeats, so that the first group after its loss is too large and never starts.
    """
    training = resources.training
    elastic = (training.min_workers or training.workers) < training.workers
    return _ENVIRONMENT | {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "90" if elastic else "300"}


@dataclass(frozen=True, slots=True)
class RayHandle:
    """Where the dashboard is, if there is one, and whether this process started the cluster, on this machine alone."""

    dashboard: str | None
    own: bool


@contextlib.contextmanager
def ray_cluster(resources: Resources) -> Iterator[RayHandle]:
    """Connect to RAY_ADDRESS, or start Ray here with room for every worker and actor; stop what was started.

    Here the counts of workers and actors hold and their CPUs are only bookkeeping: two workers and
    an actor on two cores share them, as they would share any machine.
    """
    for name, value in _environment(resources).items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield RayHandle(dashboard=_address(ray.get_runtime_context()), own=False)
        return
    logging.getLogger("ray").setLevel(logging.ERROR)  # a new token is no reason to warn
    elsewhere = bool(os.environ.get("RAY_ADDRESS"))
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        if elsewhere:
            context = ray.init(log_to_driver=False, logging_level=logging.ERROR)
        else:
            context = ray.init(
                address="local",
                num_cpus=_logical_cpus(resources),
                include_dashboard=True,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=_short_temporary_folder(),
            )
    except Exception as error:  # for a dashboard that does not start Ray raises just that, without a word
        folder = _short_temporary_folder() or f"{tempfile.gettempdir()}/ray"
        raise ClusterError(
            f"Ray could not be started or reached: {str(error) or 'it gave no reason'}",
            hint=f"see the logs under {folder}/session_latest/logs, and whether the disk there has room",
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_terminate)  # ray.init puts a handler of its own there, which just exits
    _protect_token()
    try:
        yield RayHandle(dashboard=_address(context), own=not elsewhere)
    finally:
        ray.shutdown()


def _logical_cpus(resources: Resources) -> int:
    training, evaluation = resources.training, resources.evaluation
    needed = training.workers * training.cpus + evaluation.actors * evaluation.cpus
    return int(needed) + 2  # Ray Train's controller and small tasks of its own


def _address(context: object) -> str | None:
    url = getattr(context, "dashboard_url", None)
    return f"http://{url}" if url else None


def _short_temporary_folder() -> str | None:
    """Unix sockets allow 107 characters: with a long TMPDIR Ray's own choice would not start."""
    return "/tmp/ray" if len(tempfile.gettempdir()) > 40 else None


def _protect_token() -> None:
    """Ray writes its token readable by everyone (seen in 2.60)."""
    with contextlib.suppress(OSError):
        TOKEN_FILE.expanduser().chmod(0o600)
