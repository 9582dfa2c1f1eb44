"""Connects to the Ray cluster of this process, or starts one on this machine."""

import contextlib
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from raytrain.config.resources import Resources
from raytrain_core.errors import ClusterError

TOKEN_FILE = Path("~/.ray/auth_token")

# Read by Ray when it is imported or started. The user's own settings take precedence.
_ENVIRONMENT = {
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",  # otherwise /api/train/v2/runs/v1 stays empty
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # reports are drained this often; the default of 2 s blocks them
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "120",  # detects a hanging worker in two minutes, not ten
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}


_PATIENCE = ("RAY_gcs_server_port_wait_time_s", "180")  # of the second try; Ray waits 30 s by default
_LOG = logging.getLogger(__name__)


def _environment(resources: Resources) -> dict[str, str]:
    """Returns the environment for Ray, including how long a worker group may take to start.

    Importing torch on a busy machine takes longer than Ray's default of a minute. But an elastic
    group must not wait too long: Ray counts a lost node until it has missed its heartbeats, so the
    first group after the loss is too large and never starts.
    """
    training = resources.training
    elastic = (training.min_workers or training.workers) < training.workers
    return _ENVIRONMENT | {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "90" if elastic else "300"}


@dataclass(frozen=True, slots=True)
class RayHandle:
    """A running Ray cluster; `own` means that this process started it, on this machine alone."""

    dashboard: str | None
    own: bool


@contextlib.contextmanager
def ray_cluster(resources: Resources) -> Iterator[RayHandle]:
    """Connects to RAY_ADDRESS, or starts Ray on this machine and stops it at the end.

    A local Ray has room for all workers and actors of `resources`. Their CPUs are only bookkeeping:
    two workers and an actor on two cores share them.

    Raises ClusterError if Ray cannot be started or reached.
    """
    for name, value in _environment(resources).items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield RayHandle(dashboard=_address(ray.get_runtime_context()), own=False)
        return
    logging.getLogger("ray").setLevel(logging.ERROR)  # it warns about creating a token
    elsewhere = bool(os.environ.get("RAY_ADDRESS"))
    on_terminate = signal.getsignal(signal.SIGTERM)
    context = _connect() if elsewhere else _start(resources)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_terminate)  # ray.init has replaced it by a handler that exits
    _protect_token()
    try:
        yield RayHandle(dashboard=_address(context), own=not elsewhere)
    finally:
        ray.shutdown()


def _connect() -> object:
    import ray

    try:
        return ray.init(log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        raise ClusterError(
            f"Ray at {os.environ.get('RAY_ADDRESS')} could not be reached: {_reason(error)}",
            hint="check RAY_ADDRESS and that this cluster runs",
        ) from error


def _start(resources: Resources) -> object:
    """Starts Ray on this machine; once more, with more patience, where it did not start in time."""
    import ray

    for is_last in (False, True):
        try:
            return ray.init(
                address="local",
                num_cpus=_logical_cpus(resources),
                include_dashboard=True,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=_short_temporary_folder(),
            )
        except Exception as error:  # Ray raises a bare Exception if its dashboard does not start
            if is_last:
                folder = _short_temporary_folder() or f"{tempfile.gettempdir()}/ray"
                raise ClusterError(
                    f"Ray could not be started, tried twice: {_reason(error)} ({_load()})",
                    hint=f"a busy machine is the usual cause: run the same command again when it is quieter; "
                    f"otherwise check the logs in {folder}/session_latest/logs and the free disk space there",
                ) from error
            _LOG.warning("Ray did not start (%s; %s); trying once more", _reason(error), _load())
            ray.shutdown()
            os.environ.setdefault(*_PATIENCE)
    raise AssertionError("unreachable")


def _reason(error: Exception) -> str:
    return str(error) or "no reason given"


def _load() -> str:
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"


def _logical_cpus(resources: Resources) -> int:
    training, evaluation = resources.training, resources.evaluation
    needed = training.workers * training.cpus + evaluation.actors * evaluation.cpus
    return int(needed) + 2  # for Ray Train's controller and its small tasks


def _address(context: object) -> str | None:
    url = getattr(context, "dashboard_url", None)
    return f"http://{url}" if url else None


def _short_temporary_folder() -> str | None:
    """Returns a short folder if TMPDIR is long: Unix socket paths have at most 107 characters."""
    return "/tmp/ray" if len(tempfile.gettempdir()) > 40 else None


def _protect_token() -> None:
    """Restricts the token file, which Ray 2.60 makes readable by everyone."""
    with contextlib.suppress(OSError):
        TOKEN_FILE.expanduser().chmod(0o600)
