"""Checkpoints: written in the background by the commit rule, found newest first, never trusted before verified.

A checkpoint holds the weights with their configuration (a folder that `raytrain.model.load` reads),
the optimizer's state, and in its manifest the place in the plan. No generator state: randomness is
keyed by the row.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytrain.config.run_layout import RunLayout
from raytrain.model.source import WEIGHTS_FILE
from raytrain.runs.checkpoints import CommittedCheckpoint as CheckpointRef
from raytrain.runs.checkpoints import committed_checkpoints as committed
from raytrain_core.errors import DataError, StorageError, TrainingError
from raytrain_core.storage import CorruptError, Store
from raytrain_core.storage.commit import MANIFEST, Manifest, check, commit, fetch, read_manifest
from raytrain_core.storage.scratch import scratch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "CheckpointRef",
    "CheckpointWriter",
    "Origin",
    "Position",
    "Snapshot",
    "committed",
    "fetch_files",
    "fetch_newest",
    "load_model",
    "manifest_of",
    "newest",
    "position_of",
    "prune",
    "read_optimizer",
    "write",
]

OPTIMIZER = "optimizer.safetensors"
CONFIG = "config.json"
MOST_MISSES = 3
"""So many checkpoints in a row may fail to be stored before training ends with the reason."""

OnUnusable = Callable[["CheckpointRef", str], None]
_NUMBERS = "numbers"  # key in the header of the optimizer's file


@dataclass(frozen=True, slots=True)
class Position:
    """How far training has come: steps done, and real tokens (source and target) and examples seen in them."""

    step: int = 0
    tokens: int = 0
    examples: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything of a checkpoint, in memory of its own: training may go on while it is being written."""

    position: Position
    next_row: int
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    optimizer_numbers: dict[str, float]


def newest(store: Store, layout: RunLayout, on_unusable: OnUnusable = lambda ref, why: None) -> CheckpointRef | None:
    """The newest checkpoint whose manifest can be read and whose files are there with their sizes.

    `on_unusable` hears of newer ones that are not whole. None if there is none to go on from;
    DataError if there are several and none is whole.
    """
    return next(_whole(store, layout, on_unusable), None)


def fetch_newest(
    store: Store,
    layout: RunLayout,
    folder: Path,
    on_unusable: OnUnusable = lambda ref, why: None,
    identity: str | None = None,
) -> tuple[CheckpointRef, Path] | None:
    """As `newest`, and the checkpoint is fetched under `folder`, every file's sha256 checked.

    With `identity` (a digest) only a checkpoint of that identity will do.
    """
    for ref in _whole(store, layout, on_unusable):
        try:
            if identity not in (None, manifest_of(store, ref).body.get("identity")):
                raise CorruptError(f"{store.uri}/{ref.prefix}: it is the checkpoint of another identity")
            return ref, fetch_files(store, ref, folder)
        except CorruptError as error:
            on_unusable(ref, error.message)
    return None


def fetch_files(store: Store, ref: CheckpointRef, folder: Path, names: Collection[str] | None = None) -> Path:
    """Fetch a checkpoint's files into a folder of its own under `folder`; several processes may ask at once."""
    from filelock import FileLock

    target = folder / Path(ref.prefix).name
    target.mkdir(parents=True, exist_ok=True)
    with FileLock(target / ".lock"):
        return fetch(store, manifest_of(store, ref), target, names)


def load_model(store: Store, layout: RunLayout, ref: CheckpointRef, folder: Path) -> Path:
    """A folder under `folder` with the weights and their configuration, as `raytrain.model.load` reads it."""
    assert ref.prefix.startswith(layout.checkpoints)
    names = [entry.name for entry in manifest_of(store, ref).files if entry.name != OPTIMIZER]
    return fetch_files(store, ref, folder, names)


def manifest_of(store: Store, ref: CheckpointRef) -> Manifest:
    """The manifest; CorruptError if it is gone or broken."""
    manifest = read_manifest(store, ref.prefix)
    if manifest is None:
        raise CorruptError(f"{store.uri}/{ref.prefix}: its manifest is gone")
    return manifest


def position_of(manifest: Manifest) -> Position:
    """Where a checkpoint stands."""
    body = manifest.body
    return Position(int(body["step"]), int(body["tokens"]), int(body["examples"]))


def read_optimizer(path: Path) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Tensors and numbers of an optimizer's file, as `raytrain.training.optim.optimizer.state` gives them."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        numbers = json.loads((file.metadata() or {}).get(_NUMBERS, "{}"))
        return {name: file.get_tensor(name) for name in file.keys()}, numbers  # noqa: SIM118 (it is no mapping)


def prune(store: Store, layout: RunLayout, *, last: int, keep: Collection[int] = ()) -> list[CheckpointRef]:
    """Remove checkpoints but the newest `last` steps and the steps in `keep`; what was removed.

    Of one step only the newest attempt stays. A checkpoint's manifest goes first, so that nobody
    finds half of one.
    """
    refs = committed(store, layout)
    steps = sorted({ref.step for ref in refs}, reverse=True)
    kept = {*steps[:last], *keep}
    seen: set[int] = set()
    removed = []
    for ref in refs:
        if ref.step in kept and ref.step not in seen:
            seen.add(ref.step)
            continue
        store.delete([f"{ref.prefix}/{MANIFEST}"])
        store.delete([stat.key for stat in store.list(f"{ref.prefix}/")])
        removed.append(ref)
    return removed


class CheckpointWriter:
    """Writes snapshots in a thread, one at a time: a new one waits for the one before.

    `guard` is called before each manifest and raises where this attempt may not write any more. A
    checkpoint that cannot be stored is reported (`on_missed`) and training goes on from the one
    before; after `MOST_MISSES` in a row `save` raises. Anything else that goes wrong, a newer
    attempt above all, is raised by the next call.
    """

    def __init__(
        self,
        store: Store,
        layout: RunLayout,
        origin: Origin,
        *,
        guard: Callable[[], None],
        on_committed: Callable[[CheckpointRef], None],
        on_missed: Callable[[int, str], None],
    ) -> None:
        self._store, self._layout, self._origin, self._guard = store, layout, origin, guard
        self._on_committed, self._on_missed = on_committed, on_missed
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._missed = 0
        self._last: Snapshot | None = None

    def save(self, snapshot: Snapshot) -> None:
        """Begin to write; returns while it is being written."""
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(snapshot,), name="checkpoint", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what went wrong so far, without waiting."""
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Wait for the checkpoint being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def finish(self) -> None:
        """Wait for the last checkpoint; one that could not be stored is tried once more, and then it is an error."""
        self.wait()
        if self._last is not None:
            self._missed = MOST_MISSES
            self.save(self._last)
            self.wait()

    def _run(self, snapshot: Snapshot) -> None:
        try:
            ref = write(self._store, self._layout, self._origin, snapshot, guard=self._guard)
        except StorageError as error:
            self._last = snapshot
            self._missed += 1
            if self._missed >= MOST_MISSES:
                self._error = error
            else:
                self._on_missed(snapshot.position.step, error.message)
        except BaseException as error:  # raised in the training thread
            self._error = error
        else:
            self._missed, self._last = 0, None
            self._on_committed(ref)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a run's checkpoints have in common: `body` (JSON) goes into the manifests, `config` beside the weights."""

    attempt: int
    body: Mapping[str, Any]
    config: Mapping[str, bytes]


def write(
    store: Store, layout: RunLayout, origin: Origin, snapshot: Snapshot, *, guard: Callable[[], None] | None = None
) -> CheckpointRef:
    """Commit a checkpoint. StorageError if it cannot be written or stored; what `guard` raises.

    TrainingError if a weight is not a finite number: such a checkpoint is of no use to anyone.
    """
    from safetensors.torch import save_file

    position = snapshot.position
    ref = CheckpointRef(position.step, origin.attempt, layout.checkpoint(position.step, origin.attempt))
    if broken := [name for name, tensor in snapshot.weights.items() if not bool(tensor.isfinite().all())]:
        raise TrainingError(
            f"step {position.step}: {broken[0]} holds numbers that are not finite", hint="lower training.learningRate"
        )
    with scratch("checkpoint") as folder:
        files: dict[str, Path | bytes] = dict(origin.config)
        try:
            save_file(snapshot.weights, folder / WEIGHTS_FILE, {"format": "pt"})
            numbers = json.dumps(snapshot.optimizer_numbers, allow_nan=False)
            save_file(snapshot.optimizer, folder / OPTIMIZER, {_NUMBERS: numbers})
        except Exception as error:  # safetensors raises kinds of its own for a full disk
            raise StorageError(f"{folder}: the checkpoint of step {position.step} cannot be written: {error}") from None
        files |= {WEIGHTS_FILE: folder / WEIGHTS_FILE, OPTIMIZER: folder / OPTIMIZER}
        whole = {
            "kind": "checkpoint",
            "step": position.step,
            "attempt": origin.attempt,
            "next_row": snapshot.next_row,
            "tokens": position.tokens,
            "examples": position.examples,
            **origin.body,
        }
        commit(store, ref.prefix, files, whole, guard=guard)
    return ref


def _whole(store: Store, layout: RunLayout, on_unusable: OnUnusable) -> Iterator[CheckpointRef]:
    """Checkpoints that look whole, newest first; DataError where several were tried and the consumer wants more."""
    refs = committed(store, layout)
    for ref in refs:
        try:
            check(store, manifest_of(store, ref))
        except CorruptError as error:
            on_unusable(ref, error.message)
        else:
            yield ref
    if len(refs) > 1:
        raise DataError(
            f"run {layout.name}: none of its {len(refs)} checkpoints under {store.uri}/{layout.checkpoints} is whole",
            hint="bring one back, or start over with --fresh",
        )
