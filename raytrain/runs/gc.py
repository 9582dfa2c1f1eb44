"""Garbage collection: finds what nothing in a storage needs, and deletes it on request.

Everything that a manifest, a record or a job file mentions is kept, whichever version wrote it:
digests are searched in their text. A preparation writes its parts first, then its finished work
units (`shards/units/`), then the manifests of its tasks, and that of the set last. It also reuses
parts, units and tasks of earlier preparations. So if anything below shards/ that nothing names is
younger than the grace period, all of shards/ is left alone.
"""

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from raytrain.config.run_layout import RunLayout
from raytrain.runs.checkpoints import committed_checkpoints
from raytrain.runs.record import read_record
from raytrain.runs.status import run_names
from raytrain.telemetry.progress import read_progress
from raytrain_core.errors import StorageError
from raytrain_core.storage import CorruptError, NotFoundError, Stat, Store
from raytrain_core.storage.commit import MANIFEST, read_manifest

GRACE = 24 * 3600.0
"""Age in seconds below which nothing is deleted; exceeds any clock skew and any upload."""

_PARTS, _UNITS, _TASKS, _SETS = (f"shards/{kind}/" for kind in ("parts", "units", "tasks", "sets"))
_DIGEST = re.compile(rb"[0-9a-f]{64}")
_COMMITTED = re.compile(r"(runs/[^/]+/(?:checkpoints/[^/]+|scores/[^/]+/[^/]+|report|model))/")
"""Prefixes of artifacts of a run that exist only with their manifest."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """An object that can be deleted, and why; `age` in seconds."""

    key: str
    bytes: int
    age: float
    reason: str


@dataclass(frozen=True, slots=True)
class GarbageReport:
    """The garbage of a storage, sorted by key.

    `preparing` names a young object if a preparation may be in progress. Then nothing below shards/
    counts as garbage, because the preparation may rely on it.
    """

    garbage: list[Garbage]
    preparing: str | None


def find_garbage(
    store: Store, *, grace: float = GRACE, unused_sets: bool = False, now: float | None = None
) -> GarbageReport:
    """Finds garbage; with `unused_sets` also shard sets that no run of this storage has used.

    Raises StorageError if a manifest cannot be read, because then it is unknown what it needs.
    """
    clock = _Clock(time.time() if now is None else now, grace)
    shards, preparing = _of_shards(store, clock, unused_sets)
    found = sorted([*shards, *_of_runs(store, clock)], key=lambda garbage: garbage.key)
    return GarbageReport(found, preparing)


def delete_garbage(
    store: Store, found: GarbageReport, *, grace: float = GRACE, unused_sets: bool = False
) -> GarbageReport:
    """Deletes what is still garbage on a second look, and returns it.

    Manifests are deleted before the objects that they name.
    """
    again = find_garbage(store, grace=grace, unused_sets=unused_sets)
    still = {one.key for one in again.garbage}
    going = [one for one in found.garbage if one.key in still]
    naming = [one.key for one in going if one.key.endswith((f"/{MANIFEST}", ".json"))]
    store.delete(naming)
    store.delete(sorted({one.key for one in going} - set(naming)))
    return GarbageReport(going, again.preparing)


@dataclass(frozen=True, slots=True)
class _Clock:
    """The current time and the grace period, in seconds."""

    now: float
    grace: float

    def young(self, stat: Stat) -> bool:
        return self.now - stat.modified < self.grace

    def garbage(self, stat: Stat, reason: str) -> Garbage:
        return Garbage(stat.key, stat.bytes, self.now - stat.modified, reason)


def _of_shards(store: Store, clock: _Clock, unused_sets: bool) -> tuple[list[Garbage], str | None]:
    """Works top-down: a set keeps its tasks and a task its parts; garbage keeps nothing."""
    in_runs = {digest for name in run_names(store) for digest in _mentioned(store, RunLayout(name).job)}
    unnamed: list[tuple[Stat, str]] = []
    kept: set[str] = set()
    for stat in store.list(_SETS):
        if unused_sets and not clock.young(stat) and _name(stat) not in in_runs:
            unnamed.append((stat, "a shard set that no run has used"))
        else:
            kept |= _mentioned(store, stat.key)
    parts = set(kept)  # a set names the files of its tokenizer
    for stat in store.list(_TASKS):
        if _name(stat) in kept:
            parts |= _mentioned(store, stat.key)
        else:
            unnamed.append((stat, "a prepared task that no shard set names"))
    unnamed += [(stat, "left by an unfinished preparation") for stat in store.list(_UNITS)]
    unnamed += [(stat, "a part that no prepared task names") for stat in store.list(_PARTS) if _name(stat) not in parts]
    preparing = next((stat.key for stat, _ in unnamed if clock.young(stat)), None)
    return ([clock.garbage(*one) for one in unnamed] if preparing is None else []), preparing


def _of_runs(store: Store, clock: _Clock) -> Iterator[Garbage]:
    things: dict[str, list[Stat]] = defaultdict(list)
    for stat in store.list("runs/"):
        if match := _COMMITTED.match(stat.key):
            things[match[1]].append(stat)
    superfluous = {prefix for name in run_names(store) for prefix in _superfluous_checkpoints(store, RunLayout(name))}
    for prefix, stats in things.items():
        if any(clock.young(stat) for stat in stats):
            continue
        if prefix in superfluous:
            yield from (clock.garbage(stat, "a checkpoint that its finished run does not keep") for stat in stats)
            continue
        manifest = read_manifest(store, prefix)
        named = set() if manifest is None else {manifest.key(file.name) for file in manifest.files}
        reason = "incomplete: it has no manifest" if manifest is None else "not a file of its manifest"
        own = f"{prefix}/{MANIFEST}"
        yield from (clock.garbage(stat, reason) for stat in stats if stat.key != own and stat.key not in named)


def _superfluous_checkpoints(store: Store, layout: RunLayout) -> Iterable[str]:
    """Returns the checkpoints that a finished run need not keep."""
    progress, record = read_progress(store, layout), read_record(store, layout)
    if progress is None or progress.phase != "Complete" or record is None:
        return []
    model = read_manifest(store, layout.model)
    if model is None:
        return []
    found = committed_checkpoints(store, layout)
    newest = {step: prefix for step, _, prefix in reversed(found)}  # of one step the newest attempt's
    steps = sorted(newest, reverse=True)[: record.job.spec.training.keep_checkpoints]
    kept = {model.body.get("checkpoint"), *(newest[step] for step in steps)}
    return [prefix for _, _, prefix in found if prefix not in kept]


def _mentioned(store: Store, key: str) -> set[str]:
    """Returns every digest that an object mentions; raises StorageError if it is damaged."""
    try:
        data = store.get(key)
    except NotFoundError:  # deleted since it was listed, or a run without a job file
        return set()
    except CorruptError as error:
        raise StorageError(f"{error.message}; it is unknown what it needs, so nothing is collected") from None
    if key.startswith("shards/") and not data.rstrip().endswith(b"}"):
        raise StorageError(
            f"{store.uri}/{key}: not a complete manifest; it is unknown what it needs, so nothing is collected",
            hint="`raytrain data verify` shows what is damaged; preparing again rewrites it",
        )
    return {digest.decode() for digest in _DIGEST.findall(data)}


def _name(stat: Stat) -> str:
    """Returns the digest in a key."""
    return stat.key.rpartition("/")[2].partition(".")[0]
