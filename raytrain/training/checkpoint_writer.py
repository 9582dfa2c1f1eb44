"""A checkpoint's way from a snapshot to "committed"; `CheckpointWriter` tells it step by step."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytrain.config.run_layout import RunLayout
from raytrain.model.source import WEIGHTS_FILE
from raytrain.runs.checkpoints import CommittedCheckpoint
from raytrain.training.checkpoint import NUMBERS_KEY, OPTIMIZER_FILE
from raytrain_core.errors import StorageError, TrainingError
from raytrain_core.storage import Store
from raytrain_core.storage.commit import commit
from raytrain_core.storage.scratch import scratch

if TYPE_CHECKING:
    from raytrain.training.checkpoint import Snapshot

MAX_FAILURES = 3
"""Checkpoints in a row that may fail to be stored before training ends with the reason."""


@dataclass(frozen=True, slots=True)
class CheckpointOrigin:
    """What all checkpoints of an attempt share.

    `body` (JSON) goes into the manifests, the `config` files are stored next to the weights.
    """

    attempt: int
    body: Mapping[str, Any]
    config: Mapping[str, bytes]


class CheckpointWriter:
    """Writes snapshots in the background, one at a time, so that training waits for the copy only.

    A checkpoint's way:

    1. `save(snapshot)` waits until the checkpoint before is done and starts a thread.
    2. The thread checks that every weight is finite, writes the files to a scratch folder, and
       uploads them; each is read back and compared by size and checksum (`write_checkpoint`).
    3. `guard` is called; it raises if this attempt may not write any more.
    4. The manifest is put in one call. From now on the checkpoint exists: `on_committed(ref)`.

    What can go wrong:

    - It cannot be stored (StorageError): `on_failed(step, reason)`, and training goes on without
      it; the next checkpoint is the next try. After `MAX_FAILURES` in a row the error is raised.
    - `finish()` waits for the last one. If that failed it is tried once more, and then raised.
    - Anything else, a newer attempt above all, is raised in the training thread: by
      `raise_errors()` (called at every step), or by the next `save`, `wait` or `finish`.
    """

    def __init__(
        self,
        store: Store,
        layout: RunLayout,
        origin: CheckpointOrigin,
        *,
        guard: Callable[[], None],
        on_committed: Callable[[CommittedCheckpoint], None],
        on_failed: Callable[[int, str], None],
    ) -> None:
        self._store, self._layout, self._origin, self._guard = store, layout, origin, guard
        self._on_committed, self._on_failed = on_committed, on_failed
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._failures = 0
        self._not_stored: Snapshot | None = None

    def save(self, snapshot: Snapshot) -> None:
        """Starts to write a snapshot, once the one before is done.

        Returns while it is being written.
        """
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(snapshot,), name="checkpoint", daemon=True)
        self._thread.start()

    def raise_errors(self) -> None:
        """Raises what has ended the writing, without waiting."""
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Waits for the checkpoint that is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.raise_errors()

    def finish(self) -> None:
        """Waits for the last checkpoint; one that could not be stored is tried once more."""
        self.wait()
        if self._not_stored is not None:
            self._failures = MAX_FAILURES  # the next failure is final
            self.save(self._not_stored)
            self.wait()

    def _write(self, snapshot: Snapshot) -> None:
        """In the thread."""
        try:
            ref = write_checkpoint(self._store, self._layout, self._origin, snapshot, guard=self._guard)
        except StorageError as error:
            self._not_stored = snapshot
            self._failures += 1
            if self._failures >= MAX_FAILURES:
                self._error = error
            else:
                self._on_failed(snapshot.position.step, error.message)
        except BaseException as error:  # raised in the training thread
            self._error = error
        else:
            self._failures, self._not_stored = 0, None
            self._on_committed(ref)


def write_checkpoint(
    store: Store,
    layout: RunLayout,
    origin: CheckpointOrigin,
    snapshot: Snapshot,
    *,
    guard: Callable[[], None] | None = None,
) -> CommittedCheckpoint:
    """Writes and commits one checkpoint, in this thread.

    Raises TrainingError if a weight is not finite (nobody could use such a checkpoint),
    StorageError if files cannot be written or stored, and whatever `guard` raises before the
    manifest is put.
    """
    position = snapshot.position
    ref = CommittedCheckpoint(position.step, origin.attempt, layout.checkpoint(position.step, origin.attempt))
    if broken := [name for name, tensor in snapshot.weights.items() if not bool(tensor.isfinite().all())]:
        raise TrainingError(
            f"step {position.step}: {broken[0]} has values that are not finite", hint="lower training.learningRate"
        )
    body = {
        "kind": "checkpoint",
        "step": position.step,
        "attempt": origin.attempt,
        "next_row": snapshot.next_row,
        "tokens": position.tokens,
        "examples": position.examples,
        **origin.body,
    }
    with scratch("checkpoint") as folder:
        commit(store, ref.prefix, {**origin.config, **_write_files(snapshot, folder)}, body, guard=guard)
    return ref


def _write_files(snapshot: Snapshot, folder: Path) -> dict[str, Path]:
    from safetensors.torch import save_file

    files = {name: folder / name for name in (WEIGHTS_FILE, OPTIMIZER_FILE)}
    try:
        save_file(snapshot.weights, files[WEIGHTS_FILE], {"format": "pt"})
        numbers = json.dumps(snapshot.optimizer_numbers, allow_nan=False)
        save_file(snapshot.optimizer, files[OPTIMIZER_FILE], {NUMBERS_KEY: numbers})
    except Exception as error:  # safetensors raises its own kinds for a full disk
        raise StorageError(f"{folder}: cannot write the checkpoint of step {snapshot.position.step}: {error}") from None
    return files
