"""Events and metrics as numbered JSONL segments: an object store cannot append, so every few seconds are an object."""

import json
import math
import re
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self

from raytrain.config.run_layout import RunLayout
from raytrain.telemetry.background import Background
from raytrain.telemetry.redaction import mask_secrets
from raytrain_core.storage import AlreadyExistsError, CorruptError, Store

Kind = Literal["events", "metrics"]
_SEGMENT = re.compile(r"/a(\d+)-(\d+)\.jsonl$")
_READERS = 16


class SegmentWriter:
    """Collects lines and stores them as segments of one attempt, in a thread of its own.

    A segment is written every `seconds`, as soon as `lines` have come together, and at close.
    Storage trouble is logged and lines are kept until they are stored; nothing is ever raised into
    the caller. Several writers of the same attempt (driver and worker) do not overwrite each other.
    """

    def __init__(
        self, store: Store, layout: RunLayout, kind: Kind, attempt: int, *, seconds: float = 10.0, lines: int = 1000
    ) -> None:
        self._store, self._layout, self._kind, self._attempt = store, layout, kind, attempt
        self._limit = lines
        self._lock = threading.Lock()
        self._lines: list[str] = []
        self._sending: bytes | None = None  # a segment that may or may not have arrived: sent again as it is
        self._number: int | None = None
        self._background = Background(f"{kind}", self._store_lines, seconds)

    def append(self, line: Mapping[str, Any]) -> None:
        """Add one line; `attempt` and `time` (ISO 8601, UTC) are filled in.

        NaN and infinities become null; secrets of the environment are masked in texts.
        """
        whole = {"attempt": self._attempt, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **line}
        text = json.dumps(_clean(whole), ensure_ascii=False)
        with self._lock:
            self._lines.append(text)
            full = len(self._lines) >= self._limit
        self._background.poke(now=full)

    def flush(self) -> bool:
        """Store what there is now; whether that went well."""
        return self._background.flush()

    def close(self) -> bool:
        """Store the rest; whether everything is stored."""
        return self._background.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
                if self._store.get(key) != self._sending:  # another writer's; else ours, whose answer was lost
                    self._number += 1
                    continue
            self._sending = None
            self._number += 1


def read_segments(store: Store, layout: RunLayout, kind: Kind) -> list[dict[str, Any]]:
    """All lines of a run in order of attempt and segment; CorruptError names a segment that is no JSONL.

    Of metrics, lines of steps that were done again later (by the next attempt, or after a worker
    restart) are left out, and so are the steps after them: they led to nothing that still exists.
    """
    found = ((_SEGMENT.search(stat.key), stat.key) for stat in store.list(f"{layout.root}/{kind}/"))
    keys = [key for _, _, key in sorted((int(match[1]), int(match[2]), key) for match, key in found if match)]
    with ThreadPoolExecutor(_READERS) as pool:
        bodies = list(pool.map(store.get, keys))
    lines = [line for key, body in zip(keys, bodies, strict=True) for line in _parse(f"{store.uri}/{key}", body)]
    return _without_redone(lines) if kind == "metrics" else lines


def _without_redone(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines in order of writing → those of the surviving history, with strictly rising steps."""
    kept: list[dict[str, Any]] = []
    for line in lines:
        while kept and kept[-1]["step"] >= line["step"]:
            kept.pop()
        kept.append(line)
    return kept


def _parse(where: str, body: bytes) -> list[dict[str, Any]]:
    lines = []
    for number, text in enumerate(body.decode(errors="replace").split("\n"), 1):
        if not text:  # only a line feed ends a line: texts may hold U+2028 and its kin
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
    """As JSON can hold it: it has no NaN, so a loss that is none becomes null; texts are masked."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return mask_secrets(str(value))
