"""progress.json: where a run stands, for people and the command line."""

import json
import math
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self, get_args

from raytrain.config.run_layout import RunLayout
from raytrain.telemetry.attempts import Attempt
from raytrain.telemetry.background import Background
from raytrain.telemetry.redaction import mask_secrets
from raytrain_core.storage import CorruptError, NotFoundError, Store

Phase = Literal[
    "Preparing", "ScoringBefore", "Training", "ScoringAfter", "Reporting", "Complete", "Failed", "Interrupted"
]
PHASES: tuple[Phase, ...] = get_args(Phase)
FINAL: tuple[Phase, ...] = ("Complete", "Failed", "Interrupted")


@dataclass(frozen=True, slots=True)
class TaskScore:
    """A task's headline metric by name, and its value before, at the newest scored checkpoint, and after."""

    primary_metric: str
    before: float | None = None
    now: float | None = None
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """What progress.json holds.

    `tokens` are target and source tokens trained so far; `updated` is ISO 8601 UTC.
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
    updated: str = ""

    def to_json(self) -> dict[str, Any]:
        """The file's content; what is not a finite number becomes null."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        } | {
            "scores": {
                task: {
                    name: None if isinstance(value, float) and not math.isfinite(value) else value
                    for name, value in asdict(score).items()
                }
                for task, score in self.scores.items()
            }
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """Read it back; keys that a newer version added are ignored.

        ValueError or TypeError if it is none.
        """
        if document.get("phase", "Preparing") not in PHASES:
            raise ValueError(f"unknown phase {document['phase']!r}")
        known = {name: value for name, value in document.items() if name in {item.name for item in fields(cls)}}
        names = {item.name for item in fields(TaskScore)}
        known["scores"] = {
            task: TaskScore(**{name: value for name, value in score.items() if name in names})
            for task, score in document.get("scores", {}).items()
        }
        return cls(**known)


def read_progress(store: Store, layout: RunLayout) -> Progress | None:
    """Where the run stands, None if it has not begun; CorruptError if the file is no progress."""
    try:
        document = json.loads(store.get(layout.progress))
        return Progress.from_json(document)
    except NotFoundError:
        return None
    except (ValueError, TypeError, AttributeError) as error:
        raise CorruptError(f"{store.uri}/{layout.progress}: not a progress record ({error})") from None


class ProgressWriter:
    """Keeps progress.json up to date from a thread of its own, at most every `seconds` unless forced.

    Once something was stored it is stored again every `heartbeat` seconds even if nothing changed:
    what is not dead says so, however long a step takes.

    Storage trouble is logged, never raised. Secrets of the environment are masked in the message. A
    superseded attempt stops writing: the file is the newer one's. What was stored is told to
    `on_stored`.
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
        """The newest state, stored or not."""
        with self._lock:
            return self._progress

    def update(self, *, force: bool = False, **changes: Any) -> None:
        """Change fields of `Progress`; `force` stores at once and returns when that was tried (for the last word)."""
        with self._lock:
            self._progress = replace(self._progress, **changes)
        if force:
            self._background.flush()
        else:
            self._background.poke()

    def score(self, task: str, primary_metric: str, **values: float | None) -> None:
        """Set a task's `before`, `now` or `after`, and leave its other values."""
        with self._lock:
            old = self._progress.scores.get(task, TaskScore(primary_metric))
            scores = {**self._progress.scores, task: replace(old, primary_metric=primary_metric, **values)}
            self._progress = replace(self._progress, scores=scores)
        self._background.poke()

    def flush(self) -> bool:
        """Store the newest state now; whether that went well."""
        return self._background.flush()

    def close(self) -> bool:
        """Store the last state; whether that went well."""
        return self._background.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
