"""What a job will take in a cluster: pods, GPU-hours, storage, cost.

Speeds are those that earlier runs of the same model reached there; the machine that asks is not
measured, because it is not the one that trains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from raytrain.check.estimate import BYTES_PER_PARAMETER
from raytrain.cluster.prices import read_prices
from raytrain.config.cluster import ClusterSpec
from raytrain.config.job import FineTuneJob
from raytrain.config.run_layout import RunLayout
from raytrain.kubernetes.client import KubernetesApi
from raytrain.operator.capacity import read_capacity
from raytrain.operator.prices import price_of, unused_prices
from raytrain.operator.render.groups import groups
from raytrain.runs.record import read_record
from raytrain.runs.status import run_names
from raytrain.telemetry.progress import read_progress
from raytrain_core.errors import StorageError, UserError
from raytrain_core.storage import StorageLocation, Store, open_store

_MOST_RUNS = 100
"""Earlier runs that are read, the last by name."""
_LEARN = "known once a run of this model with such GPUs has trained into this storage"


@dataclass(frozen=True, slots=True)
class ClusterEstimate:
    """What a job will take; None stands for what is unknown, the notes say why."""

    pods: int
    """At most, with the head."""
    gpus: int
    """Of all pods together, at most."""
    resource: str
    seconds: float | None
    """Of training alone."""
    basis: str
    gpu_hours: float | None
    storage_bytes: int | None
    storage_note: str
    cost: str | None
    currency: str
    cost_note: str
    notes: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """What a person wants to know, a line each."""
        kind = f", {self.gpus} of {self.resource}" if self.gpus else ", no GPUs"
        yield f"pods: {self.pods} at most{kind}"
        if self.gpus:
            hours = "unknown" if self.gpu_hours is None else f"about {self.gpu_hours:.2f}"
            yield f"GPU-hours: {hours} ({self.basis.removeprefix('unknown: ')})"
            cost = "unknown" if self.cost is None else f"about {self.cost} {self.currency}"
            yield f"cost: {cost} ({self.cost_note.removeprefix('unknown: ')})"
        size = "unknown" if self.storage_bytes is None else f"{self.storage_bytes / 2**30:.1f} GiB"
        yield f"storage: {size} ({self.storage_note.removeprefix('unknown, ')})"
        yield from (f"note: {note}" for note in self.notes)

    @property
    def annotation(self) -> dict[str, float]:
        """What the operator compares with at the end."""
        known = {"gpuHours": self.gpu_hours, "trainingSeconds": self.seconds}
        return {key: round(value, 4) for key, value in known.items() if value is not None}


def estimate(
    job: FineTuneJob,
    *,
    api: KubernetesApi,
    namespace: str,
    tokens: int | None,
    parameters: int | None,
    stores: Sequence[Store],
) -> ClusterEstimate:
    """Estimates from the cluster's nodes, the platform's prices and earlier runs in `stores`.

    `tokens` are those of training, None if the job's length depends on rows that were not counted.
    Raises ClusterError if the API server does not answer.
    """
    found = groups(job.spec.resources)
    gpus, resource = sum(g.gpus * g.most for g in found), job.spec.resources.training.resource_name
    seconds, basis, notes = _seconds(job, tokens, stores)
    hours = 0.0 if not gpus else None if seconds is None else gpus * seconds / 3600
    nodes = read_capacity(api, namespace).nodes
    prices, why = read_prices(api)
    price, why = price_of(job, prices, nodes) if prices is not None else (None, why)
    if prices is not None and nodes:
        unused = unused_prices(prices, nodes)
        notes += [f"settings.prices.gpuHour names what no node has: {', '.join(unused)}"] if unused else []
    known = price is not None and hours is not None and gpus > 0
    size, size_note = storage_bytes(job, parameters)
    return ClusterEstimate(
        pods=1 + sum(group.most for group in found),
        gpus=gpus,
        resource=resource,
        seconds=seconds,
        basis=basis,
        gpu_hours=hours,
        storage_bytes=size,
        storage_note=size_note,
        cost=price.of_hours(hours) if known and price is not None and hours is not None else None,
        currency=price.currency if price is not None else "",
        cost_note="no GPUs" if not gpus else f"GPUs alone: {why}" if known else why if price is None else basis,
        notes=notes,
    )


def stores_of(location: StorageLocation, namespace: str) -> list[Store]:
    """Where earlier runs may be: the operator stores those of a namespace below its name."""
    own = location.model_copy(update={"uri": f"{location.uri.rstrip('/')}/{namespace}"})
    return [open_store(own), open_store(location)]


def training_tokens(job: FineTuneJob) -> int | None:
    """Tokens of training at most; None if they depend on the rows (`training.epochs`)."""
    training = job.spec.training
    if training.steps is not None:
        return training.steps * training.batch_tokens
    return training.tokens


def storage_bytes(job: FineTuneJob, parameters: int | None) -> tuple[int | None, str]:
    """Bytes of checkpoints and the exported model; rows and scores come on top."""
    if parameters is None:
        return None, "unknown, because the size of the model is"
    training = job.spec.training
    weights = 4 * parameters
    states = (BYTES_PER_PARAMETER[training.optimizer] - 4) * parameters if training.method == "full" else weights
    kept = training.keep_checkpoints + 1
    return kept * states + weights, f"{kept} checkpoints and the model, at most; shards and scores on top"


def _seconds(job: FineTuneJob, tokens: int | None, stores: Sequence[Store]) -> tuple[float | None, str, list[str]]:
    if tokens is None:
        return None, "unknown: training.epochs depends on the rows, which `raytrain check -n` counts", []
    speeds, notes = list[float](), list[str]()
    for store in stores:
        try:
            speeds += _speeds(job, store)
        except StorageError as error:
            notes.append(f"earlier runs are not known, because the storage does not answer: {error.message}")
    if not speeds:
        return None, f"unknown: {_LEARN}", notes
    speed = median(speeds) * _processors(job)
    each = "GPU" if job.spec.resources.training.gpus else "worker"
    basis = f"{median(speeds):,.0f} tokens/s per {each}, the median of {len(speeds)} earlier runs; training alone"
    return tokens / speed, basis, notes


def _speeds(job: FineTuneJob, store: Store) -> Iterator[float]:
    """Tokens/s per GPU (or worker) of runs of the same model on the same kind of processor."""
    for name in run_names(store)[-_MOST_RUNS:]:
        layout = RunLayout(name)
        try:
            record, progress = read_record(store, layout), read_progress(store, layout)
        except StorageError:
            raise
        except UserError:  # of another version: another run may tell
            continue
        if record is None or progress is None or not progress.tokens_per_second:
            continue
        if _kind(record.written) == _kind(job):
            yield progress.tokens_per_second / _processors(record.written)


def _kind(job: FineTuneJob) -> tuple[object, ...]:
    """What speed depends on, as far as a job says it."""
    spec, training = job.spec, job.spec.resources.training
    selector = (spec.cluster or ClusterSpec()).node_selector
    on_gpu = (training.resource_name, bool(training.gpus)) if training.gpus else ("cpus", training.cpus)
    where = tuple(sorted(selector.items()))
    return (spec.model, spec.training.method, spec.training.precision, training.sharding, on_gpu, where)


def _processors(job: FineTuneJob) -> float:
    training = job.spec.resources.training
    return training.workers * (training.gpus or 1)
