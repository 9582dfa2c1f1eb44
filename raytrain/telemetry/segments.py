"""Events and metrics as numbered JSONL segments.

Object stores cannot append to an object, so every few seconds of lines become an object of their
own.
"""

import json
import math
import re
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Literal

from raytrain.config.run_layout import RunLayout
from raytrain.telemetry.background import Background, BackgroundWriter
from raytrain.telemetry.redaction import mask_secrets
from raytrain_core.storage import AlreadyExistsError, CorruptError, Store

Kind = Literal["events", "metrics"]
_SEGMENT = re.compile(r"/a(\d+)-(\d+)\.jsonl$")
_READERS = 16


class SegmentWriter(BackgroundWriter):
    """Collects lines and stores them as segments of one attempt from a background thread.

    A segment is written every `seconds`, after `lines` lines, and on close. Storage errors are
    logged, never raised, and lines are kept until they are stored. Several writers of the same
    attempt (driver and worker) do not overwrite each other.
    """

    def __init__(
        self, store: Store, layout: RunLayout, kind: Kind, attempt: int, *, seconds: float = 10.0, lines: int = 1000
    ) -> None:
        self._store, self._layout, self._kind, self._attempt = store, layout, kind, attempt
        self._limit = lines
        self._lock = threading.Lock()
        self._lines: list[str] = []
        self._sending: bytes | None = None  # a segment that may not have arrived: sent again unchanged
        self._number: int | None = None
        self._background = Background(f"{kind}", self._store_lines, seconds)

    def append(self, line: Mapping[str, Any]) -> None:
        """Adds one line, with `attempt` and `time` (ISO 8601, UTC) filled in.

        NaN and infinities become null. Secrets of the environment are masked in texts.
        """
        complete = {"attempt": self._attempt, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **line}
        text = json.dumps(_clean(complete), ensure_ascii=False)
        with self._lock:
            self._lines.append(text)
            full = len(self._lines) >= self._limit
        self._background.poke(now=full)

    def _store_lines(self) -> None:
        if self._number is None:
            prefix = self._layout.segment(self._kind, self._attempt, 0).rpartition("-")[0] + "-"
            taken = [int(match[2]) for stat in self._store.list(prefix) if (match := _SEGMENT.search(stat.key))]
            self._number = max(taken, default=0) + 1
        while True:
            if self._sending is None:
                with self._lock:
                    lines, self._lines = self._lines, []
                if not lines:
                    return
                self._sending = ("\n".join(lines) + "\n").encode()
            key = self._layout.segment(self._kind, self._attempt, self._number)
            try:
                self._store.put(key, self._sending, if_absent=True)
            except AlreadyExistsError:
                if self._store.get(key) != self._sending:  # another writer's, not ours with a lost response
                    self._number += 1
                    continue
            self._sending = None
            self._number += 1


def read_segments(store: Store, layout: RunLayout, kind: Kind) -> list[dict[str, Any]]:
    """Returns all lines of a run in order of attempt and segment.

    Metrics of steps that were repeated later (by the next attempt, or after a worker restart) are
    left out, and so are the steps after them: their results no longer exist.

    Raises CorruptError for a segment that is not JSONL.
    """
    segments = read_segments_after(store, layout, kind, (0, 0))
    lines = [line for _, some in segments for line in some]
    return _without_repeated(lines) if kind == "metrics" else lines


def read_segments_after(
    store: Store, layout: RunLayout, kind: Kind, position: tuple[int, int]
) -> list[tuple[tuple[int, int], list[dict[str, Any]]]]:
    """Returns the segments behind a position, with their positions (attempt, number), in order.

    Raises CorruptError for a segment that is not JSONL.
    """
    matches = ((_SEGMENT.search(stat.key), stat.key) for stat in store.list(f"{layout.root}/{kind}/"))
    found = sorted(((int(match[1]), int(match[2])), key) for match, key in matches if match)
    new = [(at, key) for at, key in found if at > position]
    with ThreadPoolExecutor(_READERS) as pool:
        bodies = list(pool.map(store.get, [key for _, key in new]))
    return [(at, _parse(f"{store.uri}/{key}", body)) for (at, key), body in zip(new, bodies, strict=True)]


def _without_repeated(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keeps the lines of the surviving history, with strictly increasing steps."""
    kept: list[dict[str, Any]] = []
    for line in lines:
        while kept and kept[-1]["step"] >= line["step"]:
            kept.pop()
        kept.append(line)
    return kept


def _parse(where: str, body: bytes) -> list[dict[str, Any]]:
    lines = []
    for number, text in enumerate(body.decode(errors="replace").split("\n"), 1):
        if not text:  # only line feeds end a line: texts may contain U+2028 and the like
            continue
        try:
            line = json.loads(text)
        except ValueError as error:
            raise CorruptError(f"{where}:{number}: not JSON ({error})") from None
        if not isinstance(line, dict):
            raise CorruptError(f"{where}:{number}: not an object")
        lines.append(line)
    return lines


def _clean(value: Any) -> Any:
    """Converts a value to JSON types: NaN becomes null, and secrets in texts are masked."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return mask_secrets(str(value))
