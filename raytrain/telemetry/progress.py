"""progress.json: the current state of a run, for people and the command line."""

import json
import math
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self, get_args

from raytrain.config.run_layout import RunLayout
from raytrain.telemetry.attempts import Attempt
from raytrain.telemetry.background import Background, BackgroundWriter
from raytrain.telemetry.redaction import mask_secrets
from raytrain_core.storage import CorruptError, NotFoundError, Store

Phase = Literal[
    "Preparing", "ScoringBefore", "Training", "ScoringAfter", "Reporting", "Complete", "Failed", "Interrupted"
]
PHASES: tuple[Phase, ...] = get_args(Phase)
FINAL: tuple[Phase, ...] = ("Complete", "Failed", "Interrupted")


@dataclass(frozen=True, slots=True)
class TaskScore:
    """A task's primary metric: before, at the newest scored checkpoint, and after.

    Fractions (`scale` percent), or values in a unit of their own (raw).
    """

    primary_metric: str
    before: float | None = None
    now: float | None = None
    after: float | None = None
    scale: Literal["percent", "raw"] = "percent"


@dataclass(frozen=True, slots=True)
class Progress:
    """The content of progress.json.

    `tokens` counts source and target tokens trained so far; `checkpointed` (when the newest
    checkpoint was committed) and `updated` are ISO 8601 in UTC.
    """

    run: str
    attempt: int
    phase: Phase = "Preparing"
    step: int = 0
    steps: int | None = None
    tokens: int = 0
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
    loss: float | None = None
    scores: dict[str, TaskScore] = field(default_factory=dict)
    message: str = ""
    dashboard: str | None = None
    report: str | None = None
    links: dict[str, str] = field(default_factory=dict)
    """The pages of the run at its trackers."""
    checkpointed: str = ""
    updated: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns the file's content; numbers that are not finite become null."""
        scores = {task: _finite(asdict(score)) for task, score in self.scores.items()}
        return _finite(asdict(self)) | {"scores": scores}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Parses the file's content and ignores unknown keys of newer versions.

        Raises ValueError or TypeError if it is not a progress record.
        """
        if content.get("phase", "Preparing") not in PHASES:
            raise ValueError(f"unknown phase {content['phase']!r}")
        known = {name: value for name, value in content.items() if name in {item.name for item in fields(cls)}}
        names = {item.name for item in fields(TaskScore)}
        known["scores"] = {
            task: TaskScore(**{name: value for name, value in score.items() if name in names})
            for task, score in content.get("scores", {}).items()
        }
        return cls(**known)


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }


def read_progress(store: Store, layout: RunLayout) -> Progress | None:
    """Reads the state of a run; returns None if it has not begun.

    Raises CorruptError if the file is damaged.
    """
    try:
        return Progress.from_json(json.loads(store.get(layout.progress)))
    except NotFoundError:
        return None
    except (ValueError, TypeError, AttributeError) as error:
        raise CorruptError(f"{store.uri}/{layout.progress}: not a progress record ({error})") from None


class ProgressWriter(BackgroundWriter):
    """Writes progress.json from a background thread, at most every `seconds` unless forced.

    The file is also written every `heartbeat` seconds, even if nothing changed: it shows that the
    run is alive, however long a step takes.

    Storage errors are logged, never raised. Secrets of the environment are masked in the message. A
    superseded attempt stops writing, because the file belongs to the newer one. `on_stored` is
    called with every state that was stored.
    """

    def __init__(
        self,
        attempt: Attempt,
        *,
        seconds: float = 2.0,
        heartbeat: float = 30.0,
        on_stored: Callable[[Progress], None] = lambda progress: None,
        **first: Any,
    ) -> None:
        self._attempt, self._on_stored = attempt, on_stored
        self._lock = threading.Lock()
        self._progress = Progress(run=attempt.layout.name, attempt=attempt.number, **first)
        self._superseded = False
        self._background = Background("progress", self._write, seconds, heartbeat=heartbeat)

    @property
    def progress(self) -> Progress:
        """The current state, stored or not."""
        with self._lock:
            return self._progress

    def update(self, *, force: bool = False, **changes: Any) -> None:
        """Changes fields of `Progress`; `force` stores at once and waits for it."""
        with self._lock:
            self._progress = replace(self._progress, **changes)
        if force:
            self._background.flush()
        else:
            self._background.poke()

    def link(self, name: str, uri: str) -> None:
        """Sets a link; several threads may set theirs."""
        with self._lock:
            self._progress = replace(self._progress, links={**self._progress.links, name: uri})
        self._background.poke()

    def score(
        self, task: str, primary_metric: str, scale: Literal["percent", "raw"] = "percent", **values: float | None
    ) -> None:
        """Sets a task's `before`, `now` or `after` and keeps its other values."""
        with self._lock:
            old = self._progress.scores.get(task, TaskScore(primary_metric))
            scores = {**self._progress.scores, task: replace(old, primary_metric=primary_metric, scale=scale, **values)}
            self._progress = replace(self._progress, scores=scores)
        self._background.poke()

    def _write(self) -> None:
        if self._superseded:
            return
        if self._attempt.superseded():
            self._superseded = True
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        progress = self.progress
        progress = replace(progress, message=mask_secrets(progress.message), updated=now)
        text = json.dumps(progress.to_json(), indent=1, ensure_ascii=False) + "\n"
        self._attempt.store.put(self._attempt.layout.progress, text.encode())
        self._on_stored(progress)
