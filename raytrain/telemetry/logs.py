"""Uploads the log of a driver or a worker to storage, so that it outlives the machine."""

import contextlib
import logging
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from raytrain.config.run_layout import RunLayout
from raytrain.telemetry.background import Background
from raytrain.telemetry.redaction import mask_secrets
from raytrain_core.errors import StorageError
from raytrain_core.storage import Store
from raytrain_core.storage.scratch import scratch

_OURS = ("raytrain", "data_prep")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class RunLog:
    """Uploads everything that our modules (INFO and up) and libraries (WARNING and up) log.

    Use as a context manager around the run. The log is uploaded every `seconds` and at the end,
    with secrets of the environment masked. Errors of the store or the local disk are not raised.
    `source` is `driver` or `rank-000`. A worker that is restarted within an attempt continues its
    log, which shows why it was restarted.
    """

    def __init__(
        self, store: Store, layout: RunLayout, attempt: int, source: str = "driver", *, seconds: float = 30.0
    ) -> None:
        self._store, self._key = store, layout.log(attempt, source)
        self._stored = -1
        self._background = Background(f"log of {source}", self._upload, seconds)
        self._added: list[logging.Handler] = []
        self._levels: dict[str, int] = {}
        self._scratch = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._file = self._scratch.enter_context(scratch("log")) / "log"
        # No earlier log, an unreachable store or a full disk are no reason to go without a log.
        with contextlib.suppress(StorageError, OSError):
            self._file.write_bytes(self._store.get(self._key))
        handler = _File(self._file, self._background)
        formatter = _Masking(_FORMAT)
        handler.setFormatter(formatter)
        handler.addFilter(_worth_keeping)  # in a Ray worker, libraries log everything
        root = logging.getLogger()
        if not root.handlers and logging.lastResort is not None:  # else warnings would not reach the terminal any more
            self._added.append(logging.lastResort)
        self._added.append(handler)
        for added in self._added:
            root.addHandler(added)
        for ours in _OURS:
            logger = logging.getLogger(ours)
            if logger.getEffectiveLevel() > logging.INFO:
                self._levels[ours] = logger.level
                logger.setLevel(logging.INFO)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, KeyboardInterrupt):
            self._write_error(error)
        self._background.close()
        for added in self._added:
            logging.getLogger().removeHandler(added)
            if isinstance(added, _File):
                with contextlib.suppress(OSError):  # of unwritten lines: it would hide how the run ended
                    added.close()
        for ours, level in self._levels.items():
            logging.getLogger(ours).setLevel(level)
        self._scratch.close()

    def flush(self) -> bool:
        """Stores the log so far; returns whether that succeeded."""
        return self._background.flush()

    def _write_error(self, error: BaseException) -> None:
        """Writes the traceback into the file only: whoever catches the error prints a sentence."""
        exc_info = (type(error), error, error.__traceback__)
        for added in self._added:
            if isinstance(added, _File):
                added.handle(
                    logging.LogRecord(__name__, logging.ERROR, __file__, 0, "ended with an error", None, exc_info)
                )

    def _upload(self) -> None:
        data = self._file.read_bytes()  # a snapshot: the file grows while it is uploaded
        if len(data) != self._stored:
            self._store.put(self._key, data)
            self._stored = len(data)


def _worth_keeping(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name.split(".")[0] in _OURS


class _File(logging.FileHandler):
    """Writes to the local file and requests an upload."""

    def __init__(self, path: Path, background: Background) -> None:
        super().__init__(path, encoding="utf-8")
        self._background = background

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        self._background.poke()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Ignores a full disk, which is reported once by whoever needs the space."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class _Masking(logging.Formatter):
    """Masks secrets of the environment."""

    def format(self, record: logging.LogRecord) -> str:
        return mask_secrets(super().format(record))
