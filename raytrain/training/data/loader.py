"""From a job and its prepared shards to the rows that its steps take."""

from __future__ import annotations

import math
from dataclasses import dataclass

from data_prep.shards.manifest import ShardSet
from data_prep.shards.parts import PartCache
from data_prep.shards.reader import open_split
from raytrain.config.job import FineTuneJob, TrainingSpec
from raytrain.training.data.batch import BatchPrefetcher, TokenReader, token_reader
from raytrain.training.data.packing import ExampleLengths, PackedOrder, packing_shape, rows_per_step
from raytrain.training.data.sampling_order import SamplingOrder, TaskStream
from raytrain_core.errors import DataError
from raytrain_core.storage import Store


@dataclass(frozen=True, slots=True)
class DataLoader:
    """All rows of a run, whoever computes them: the names of its trained tasks, its plan, and how to read tokens."""

    tasks: tuple[str, ...]
    packed_order: PackedOrder
    read_tokens: TokenReader
    rows_per_step: int

    @classmethod
    def open(cls, job: FineTuneJob, shard_set: ShardSet, store: Store, cache: PartCache) -> DataLoader:
        """Fetch and map the token parts of every trained task; DataError if one of them has no rows."""
        training = job.spec.training
        names = tuple(task.name for task in job.spec.trained_tasks)
        readers = [open_split(shard_set, name, "train", store, cache) for name in names]
        for name, reader in zip(names, readers, strict=True):
            if not reader.examples:
                raise DataError(f"task {name} has no training rows", hint="make it a probe, or leave it out")
        rates = [shard_set.rates[name] for name in names]
        lengths = ExampleLengths.of([(r.source_lengths, r.target_lengths) for r in readers])
        shape = training.packing or packing_shape(
            training.batch_tokens, training.max_input_tokens, training.max_target_tokens, *lengths.means(rates)
        )
        streams = [
            TaskStream(name, r.examples, r.variants, rate) for name, r, rate in zip(names, readers, rates, strict=True)
        ]
        plan = PackedOrder(SamplingOrder(streams, job.spec.mixture.seed), lengths, shape)
        return cls(names, plan, token_reader(readers), rows_per_step(training.batch_tokens, shape))

    def last_step(self, training: TrainingSpec) -> int:
        """How many steps the job wants; what its epochs or tokens come to is rounded up."""
        if training.steps is not None:
            return training.steps
        streams = self.packed_order.order.streams
        if training.tokens is not None:
            examples = training.tokens / sum(self.packed_order.lengths.means([stream.rate for stream in streams]))
        else:
            examples = (training.epochs or 0.0) * sum(stream.examples for stream in streams)
        block, beyond = divmod(examples, self.packed_order.block)
        first, following = (self.packed_order.first_row(int(block) + n) for n in (0, 1))
        rows = first + (following - first) * beyond / self.packed_order.block
        return max(1, math.ceil(rows / self.rows_per_step))

    def batches(self, start: int, stop: int, *, worker: int, workers: int) -> BatchPrefetcher:
        """The rows of steps `start` .. `stop`-1 of one worker, read ahead; a context manager."""
        return BatchPrefetcher(
            self.packed_order,
            self.read_tokens,
            rows_per_step=self.rows_per_step,
            worker=worker,
            workers=workers,
            start=start,
            stop=stop,
        )
