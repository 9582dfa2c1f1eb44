"""Tasks of the runs that a base model came from, scored again as probes.

They show what a second run forgets.
Their rows are those that the earlier run prepared in the same storage; the sources are not read
again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from data_prep.config import Task
from raytrain.config.job import FineTuneJob
from raytrain.config.run_layout import RunLayout
from raytrain.runs.record import RunRecord, read_record
from raytrain_core.errors import StorageError
from raytrain_core.storage import Store

if TYPE_CHECKING:
    from data_prep.shards.manifest import PreparedTask

_RUN = "run://"


@dataclass(frozen=True, slots=True)
class InheritedProbe:
    """A task of an earlier run that this run scores as a probe, and its prepared rows."""

    run: str
    task: Task
    prepared: PreparedTask


def inherited_probes(store: Store, job: FineTuneJob) -> tuple[list[InheritedProbe], list[str]]:
    """Returns the tasks of the runs that the base model came from, nearest run first.

    A task is left out if the job or a nearer run has one of that name: its own rows tell more. The
    second value is a warning for each earlier run whose rows are missing.
    """
    from data_prep.shards.manifest import ShardSet

    taken = {task.name for task in job.spec.tasks}
    probes: list[InheritedProbe] = []
    warnings: list[str] = []
    for name, record in _ancestors(store, job):
        try:
            shards = ShardSet.load(store, record.shard_set) if record.shard_set else None
        except StorageError as error:
            shards, why = None, f": {error.message}"
        else:
            why = ""
        if shards is None:
            warnings.append(f"the tasks of run {name} are not scored, because their rows no longer exist{why}")
            continue
        for task in record.job.spec.tasks:
            prepared = next((p for p in shards.tasks if p.name == task.name), None)
            if task.name not in taken and prepared is not None:
                taken.add(task.name)
                as_probe = task.model_copy(update={"probe": True})
                probes.append(InheritedProbe(name, as_probe, replace(prepared, probe=True)))
    return probes, warnings


def _ancestors(store: Store, job: FineTuneJob) -> Iterator[tuple[str, RunRecord]]:
    """Yields the runs that the base model came from, nearest first, while records exist."""
    seen = {job.metadata.name}
    model = job.spec.model
    while model.startswith(_RUN):
        name = model.removeprefix(_RUN).strip("/")
        record = None if name in seen else read_record(store, RunLayout(name))
        if record is None:
            return
        yield name, record
        seen.add(name)
        model = record.job.spec.model
