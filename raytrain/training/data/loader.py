"""The data loader of a run: from a job and its prepared shards to the packed rows of each step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from data_prep.shards.manifest import ShardSet
from data_prep.shards.parts import PartCache
from data_prep.shards.reader import open_split
from raytrain.config.job import FineTuneJob
from raytrain.config.training import TrainingSpec
from raytrain.training.data.batch import BatchPrefetcher, TokenReader, token_reader
from raytrain.training.data.default_shape import packing_shape
from raytrain.training.data.packing import ExampleLengths, PackedOrder, rows_per_step
from raytrain.training.data.sampling_order import SamplingOrder, TaskStream
from raytrain_core.errors import DataError
from raytrain_core.storage import Store


@dataclass(frozen=True, slots=True)
class DataLoader:
    """All packed rows of a run, independent of the number of workers."""

    tasks: tuple[str, ...]
    packed_order: PackedOrder
    read_tokens: TokenReader
    rows_per_step: int

    @classmethod
    def open(cls, job: FineTuneJob, shard_set: ShardSet, store: Store, cache: PartCache) -> DataLoader:
        """Fetches and maps the token parts of every trained task.

        DataError if a task has no training rows.
        """
        training = job.spec.training
        names = tuple(task.name for task in job.spec.trained_tasks)
        readers = [open_split(shard_set, name, "train", store, cache) for name in names]
        for name, reader in zip(names, readers, strict=True):
            if not reader.examples:
                raise DataError(f"task {name} has no training rows", hint="make it a probe, or remove it")
        rates = [shard_set.rates[name] for name in names]
        lengths = ExampleLengths.of([(r.source_lengths, r.target_lengths) for r in readers])
        shape = training.packing or packing_shape(
            training.batch_tokens, training.max_input_tokens, training.max_target_tokens, *lengths.means(rates)
        )
        streams = [
            TaskStream(name, r.examples, r.variants, rate) for name, r, rate in zip(names, readers, rates, strict=True)
        ]
        order = PackedOrder(SamplingOrder(streams, job.spec.mixture.seed), lengths, shape)
        return cls(names, order, token_reader(readers), rows_per_step(training.batch_tokens, shape))

    def last_step(self, training: TrainingSpec) -> int:
        """Returns the number of steps that the job asks for.

        Epochs and tokens are converted and rounded up.
        """
        if training.steps is not None:
            return training.steps
        order = self.packed_order
        streams = order.order.streams
        if training.tokens is not None:
            examples = training.tokens / sum(order.lengths.means([stream.rate for stream in streams]))
        else:
            examples = (training.epochs or 0.0) * sum(stream.examples for stream in streams)
        block, beyond = divmod(examples, order.block)
        first, following = (order.first_row(int(block) + n) for n in (0, 1))
        rows = first + (following - first) * beyond / order.block
        return max(1, math.ceil(rows / self.rows_per_step))

    def batches(self, start: int, stop: int, *, worker: int, workers: int) -> BatchPrefetcher:
        """Returns a context manager: the packed rows of steps `start` .. `stop`-1 of one worker."""
        return BatchPrefetcher(
            self.packed_order,
            self.read_tokens,
            rows_per_step=self.rows_per_step,
            worker=worker,
            workers=workers,
            start=start,
            stop=stop,
        )
