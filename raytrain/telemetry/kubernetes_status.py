"""Reports the state of a run in a pod to its FineTuneJob: progress, tasks and result.

Outside such a pod (without RAYTRAIN_KUBERNETES_OBJECT in the environment) nothing happens. The rest
of the status belongs to the operator; merge patches under our own field manager do not touch it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean
from types import TracebackType
from typing import Any, Self

from raytrain.config.job_status import (
    ATTEMPT_VARIABLE,
    OBJECT_VARIABLE,
    RAY_CLUSTER_VARIABLE,
    RunProgress,
    RunResult,
    TaskStatus,
)
from raytrain.kubernetes.client import JOBS, KubernetesApi
from raytrain.telemetry.background import Background
from raytrain.telemetry.progress import Progress
from raytrain.telemetry.redaction import mask_secrets
from raytrain_core.errors import ClusterError, ExitCode, UserError
from raytrain_core.storage.scratch import full_disk

MANAGER = "raytrain-run"
SECONDS = 10.0
"""Minimum time between two patches."""
_TRIES = 3
_PAUSE = 1.0
_MAX_MESSAGE = 1000  # characters

_log = logging.getLogger(__name__)

Patch = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class OwnObject:
    """The FineTuneJob that this process runs for, and the start that this process belongs to."""

    namespace: str
    name: str
    attempt: int
    ray_cluster: str = ""

    @classmethod
    def of_environment(cls) -> OwnObject | None:
        """Reads what the operator put into the pod's environment; None outside such a pod."""
        namespace, found, name = os.environ.get(OBJECT_VARIABLE, "").partition("/")
        attempt = os.environ.get(ATTEMPT_VARIABLE, "")
        cluster = os.environ.get(RAY_CLUSTER_VARIABLE, "")
        return cls(namespace, name, int(attempt), cluster) if found and attempt.isdigit() else None

    def patch(self, status: dict[str, Any]) -> None:
        """Merges `status` into the object's status; raises ClusterError if that fails."""
        api = KubernetesApi.connect()
        api.patch(JOBS, self.namespace, self.name, {"status": status}, manager=MANAGER, status=True)


class StatusMirror:
    """Copies the progress into the object from a background thread; only logs errors."""

    def __init__(
        self, own: OwnObject | None, probes: Collection[str], *, seconds: float = SECONDS, patch: Patch | None = None
    ) -> None:
        self._own, self._probes, self._lock = own, frozenset(probes), threading.Lock()
        self._patch = patch or (own.patch if own is not None else None)
        self._newest: Progress | None = None
        self._shown: dict[str, Any] = {}
        self._background = Background("status of the FineTuneJob", self._write, seconds)

    def show(self, progress: Progress) -> None:
        """Requests that `progress` is written; returns at once."""
        if self._own is None:
            return
        with self._lock:
            self._newest = progress
        self._background.poke()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own is not None:
            self._background.close()

    def _write(self) -> None:
        with self._lock:
            progress = self._newest
        if progress is None or self._own is None or self._patch is None:
            return
        status = as_status(progress, self._own.attempt, self._probes)
        without_time = {key: value for key, value in status["progress"].items() if key != "updated"}
        if (now := {"progress": without_time, "tasks": status["tasks"], "links": status["links"]}) != self._shown:
            self._patch(status)
            self._shown = now


def as_status(progress: Progress, attempt: int, probes: Collection[str]) -> dict[str, Any]:
    """Returns `progress` and `tasks` of the status; nulls remove values of earlier attempts."""
    where = RunProgress(
        attempt=attempt,
        phase=progress.phase,
        step=progress.step,
        steps=progress.steps,
        percent=_percent(progress),
        tokens=progress.tokens,
        tokens_per_second=_rounded(progress.tokens_per_second, 1),
        eta_seconds=_rounded(progress.eta_seconds, 0),
        loss=_rounded(progress.loss, 4),
        rouge_l=_rouge_l(progress, probes),
        message=mask_secrets(progress.message)[:_MAX_MESSAGE],
        report=progress.report or "",
        checkpointed=progress.checkpointed,
        updated=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    tasks = [
        TaskStatus(
            name=name,
            metric=score.primary_metric,
            probe=name in probes,
            before=_rounded(score.before, 4),
            now=_rounded(score.now, 4),
            after=_rounded(score.after, 4),
            scale=score.scale,
        ).model_dump(mode="json", by_alias=True, exclude_none=True)
        for name, score in progress.scores.items()
    ]
    return {"progress": where.model_dump(mode="json", by_alias=True), "tasks": tasks, "links": progress.links}


@dataclass(slots=True)
class Ending:
    """Facts about the end of a run that its caller fills in."""

    report: str = ""


@contextlib.contextmanager
def report_result(own: OwnObject | None = None, patch: Patch | None = None) -> Iterator[Ending]:
    """Writes to `status.result` how this context ends; the operator decides about retries by it.

    Exit codes are those of the command line. A run without a result was cut off. The result of an
    earlier start is removed first: it must not explain how this one ends.
    """
    own, ending = own or OwnObject.of_environment(), Ending()
    if own is None:
        yield ending
        return
    patch = patch or own.patch
    _patch_result(patch, None, tries=1)
    try:
        yield ending
    except BaseException as error:
        _patch_result(patch, result_of(error, own))
        raise
    done = RunResult(
        attempt=own.attempt, ray_cluster=own.ray_cluster, exit_code=0, reason="Complete", report=ending.report
    )
    _patch_result(patch, done)


def result_of(error: BaseException, own: OwnObject) -> RunResult:
    """Converts an error to the result of this start."""
    error = full_disk(error) or error
    if isinstance(error, UserError):
        code, reason, message = error.exit_code, type(error).__name__, str(error)
    elif isinstance(error, KeyboardInterrupt):
        code, reason = ExitCode.INTERRUPTED, "Interrupted"
        message = "the driver was told to stop: its pod, its node or its Ray job was to end"
    else:
        code, reason, message = ExitCode.BUG, type(error).__name__, f"{type(error).__name__}: {error}"
    return RunResult(
        attempt=own.attempt,
        ray_cluster=own.ray_cluster,
        exit_code=int(code),
        reason=reason,
        message=mask_secrets(message)[:_MAX_MESSAGE],
    )


def _patch_result(patch: Patch, result: RunResult | None, *, tries: int = _TRIES) -> None:
    status = {"result": result.model_dump(mode="json", by_alias=True) if result else None}
    for attempt in range(tries):
        try:
            patch(status)
        except ClusterError as error:
            _log.warning("the result could not be written to the FineTuneJob: %s", error.message)
            if attempt + 1 < tries:
                time.sleep(_PAUSE)
        else:
            return


def _percent(progress: Progress) -> str:
    if not progress.steps:
        return "100%" if progress.phase == "Complete" else ""
    return f"{min(100, 100 * progress.step // progress.steps)}%"


def _rouge_l(progress: Progress, probes: Collection[str]) -> str:
    scores = [
        s for name, s in progress.scores.items() if name not in probes and s.primary_metric.lower().startswith("rougel")
    ]
    before = [s.before for s in scores if s.before is not None]
    now = [value for s in scores if (value := s.after if s.after is not None else s.now) is not None]
    return " → ".join(f"{100 * fmean(values):.1f}" for values in (before, now) if values)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, digits)
