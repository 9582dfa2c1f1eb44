"""Checkpoints in storage: finding the newest intact one, reading it, removing old ones.

A checkpoint holds the weights with their configuration (a folder that
`raytrain.model.loading.load` reads), the optimizer's state, and in its manifest the position in the
sampling order. It holds no generator state: randomness is keyed by the row.
`checkpoint_writer` describes how one is written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raytrain.config.run_layout import RunLayout
from raytrain.runs.checkpoints import CommittedCheckpoint, committed_checkpoints
from raytrain_core.errors import DataError
from raytrain_core.storage import CorruptError, Store
from raytrain_core.storage.commit import MANIFEST, Manifest, check, fetch, read_manifest

if TYPE_CHECKING:
    from torch import Tensor

OPTIMIZER_FILE = "optimizer.safetensors"
NUMBERS_KEY = "numbers"
"""Key in the header of the optimizer's file: its state's plain numbers, as JSON."""

OnUnusable = Callable[[CommittedCheckpoint, str], None]
"""Called with a checkpoint that cannot be used, and the reason."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far training is: steps done, and the tokens and examples in them.

    Tokens are source and target tokens without padding.
    """

    step: int = 0
    tokens: int = 0
    examples: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state that a checkpoint holds, copied: training may go on while it is being written."""

    position: Position
    next_row: int
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    optimizer_numbers: dict[str, float]


def newest(
    store: Store, layout: RunLayout, on_unusable: OnUnusable = lambda ref, why: None
) -> CommittedCheckpoint | None:
    """Returns the newest intact checkpoint: its manifest is readable, its files have their sizes.

    `on_unusable` is called for newer ones that are damaged. None if there is none to resume from;
    DataError if there are several and all are damaged.
    """
    return next(_intact(store, layout, on_unusable), None)


def fetch_newest(
    store: Store,
    layout: RunLayout,
    folder: Path,
    on_unusable: OnUnusable = lambda ref, why: None,
    identity: str | None = None,
) -> tuple[CommittedCheckpoint, Path] | None:
    """Like `newest`, and fetches the checkpoint into `folder`, verifying the sha256 of every file.

    With `identity` (a digest) checkpoints of another identity are unusable.
    """
    for ref in _intact(store, layout, on_unusable):
        try:
            _require_identity(store, ref, identity)
            return ref, fetch_files(store, ref, folder)
        except CorruptError as error:
            on_unusable(ref, error.message)
    return None


def _require_identity(store: Store, ref: CommittedCheckpoint, identity: str | None) -> None:
    if identity not in (None, manifest_of(store, ref).body.get("identity")):
        raise CorruptError(f"{store.uri}/{ref.prefix}: this checkpoint belongs to a run with another identity")


def fetch_files(store: Store, ref: CommittedCheckpoint, folder: Path, names: Collection[str] | None = None) -> Path:
    """Fetches a checkpoint's files (all, or `names`) into its own folder under `folder`.

    Safe to call concurrently.
    """
    from filelock import FileLock

    target = folder / Path(ref.prefix).name
    target.mkdir(parents=True, exist_ok=True)
    with FileLock(target / ".lock"):
        return fetch(store, manifest_of(store, ref), target, names)


def manifest_of(store: Store, ref: CommittedCheckpoint) -> Manifest:
    """Returns the checkpoint's manifest; CorruptError if it is missing or damaged."""
    manifest = read_manifest(store, ref.prefix)
    if manifest is None:
        raise CorruptError(f"{store.uri}/{ref.prefix}: its manifest is missing")
    return manifest


def position_of(manifest: Manifest) -> Position:
    """Returns the position that a checkpoint was taken at."""
    body = manifest.body
    return Position(int(body["step"]), int(body["tokens"]), int(body["examples"]))


def read_optimizer(path: Path) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Reads the tensors and numbers of an optimizer's file, keyed as by `optimizer.state`."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        numbers = json.loads((file.metadata() or {}).get(NUMBERS_KEY, "{}"))
        return {name: file.get_tensor(name) for name in file.keys()}, numbers  # noqa: SIM118 (it is no mapping)


def prune(store: Store, layout: RunLayout, *, last: int, keep: Collection[int] = ()) -> list[CommittedCheckpoint]:
    """Removes all checkpoints except those of the newest `last` steps and of the steps in `keep`.

    Returns the removed. Of each step only the newest attempt's is kept. A checkpoint's manifest is
    removed first, so that nobody finds half of one.
    """
    refs = committed_checkpoints(store, layout)
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


def _intact(store: Store, layout: RunLayout, on_unusable: OnUnusable) -> Iterator[CommittedCheckpoint]:
    """Yields checkpoints whose files look intact, newest first.

    Raises DataError where there are several and the consumer has used none of them.
    """
    refs = committed_checkpoints(store, layout)
    for ref in refs:
        try:
            check(store, manifest_of(store, ref))
        except CorruptError as error:
            on_unusable(ref, error.message)
        else:
            yield ref
    if len(refs) > 1:
        raise DataError(
            f"run {layout.name}: all of its {len(refs)} checkpoints under {store.uri}/{layout.checkpoints} are damaged",
            hint="restore one from a backup, or start over with --fresh",
        )
