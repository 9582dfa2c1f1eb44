"""What a model learned in the runs that it came from: scored again as probes, so that a second run tells what it costs.

The rows are those which the earlier run prepared; they lie in the same storage and are not read
from their sources again.
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
class Earlier:
    """A task of an earlier run, as a probe of this one, and its rows."""

    run: str
    task: Task
    prepared: PreparedTask


def earlier_tasks(store: Store, job: FineTuneJob) -> tuple[list[Earlier], list[str]]:
    """The tasks and probes of the run that `spec.model` names, and of those that one came from; nearest run first.

    A name that the job itself has, or a nearer run, is left out: its own rows say more. The
    second value says of each earlier run whose rows are not to be had why, in a sentence.
    """
    from data_prep.shards.manifest import ShardSet

    taken = {task.name for task in job.spec.tasks}
    found: list[Earlier] = []
    troubles: list[str] = []
    for name, record in _ancestors(store, job):
        try:
            shards = ShardSet.load(store, record.shard_set) if record.shard_set else None
        except StorageError as error:
            shards, why = None, f": {error.message}"
        else:
            why = ""
        if shards is None:
            troubles.append(f"what run {name} learned is not scored, its rows are not there any more{why}")
            continue
        for task in record.job.spec.tasks:
            prepared = next((p for p in shards.tasks if p.name == task.name), None)
            if task.name not in taken and prepared is not None:
                taken.add(task.name)
                found.append(Earlier(name, task.model_copy(update={"probe": True}), replace(prepared, probe=True)))
    return found, troubles


def _ancestors(store: Store, job: FineTuneJob) -> Iterator[tuple[str, RunRecord]]:
    """The runs that a model came from, the nearest first, as far back as their records are there."""
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
