"""A data loader of two tasks in memory, and training of a tiny model without storage or Ray."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from raytrain.config.training import PackingShape, TrainingSpec
from raytrain.training.checkpoint import Position, Snapshot
from raytrain.training.data.loader import DataLoader
from raytrain.training.data.packing import ExampleLengths, PackedOrder
from raytrain.training.data.sampling_order import SamplingOrder, TaskStream
from raytrain.training.step import StepRecord
from raytrain.training.trainer import Callbacks, Trainer
from tests.support.tiny_t5 import state, tiny_model

TASKS = ("long", "short")


class Memory:
    """A split in memory; each target is the start of its source, so that it can be learned."""

    def __init__(self, examples: int, longest: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.examples, self.variants = examples, 1
        self._sources = [random.integers(3, 40, random.integers(4, longest)).astype(np.uint16) for _ in range(examples)]
        for source in self._sources:
            source[-1] = 1
        self._targets = [np.append(source[:2], 1).astype(np.uint16) for source in self._sources]
        self.source_lengths = [np.array([len(s) for s in self._sources], np.int32)]
        self.target_lengths = [np.array([len(t) for t in self._targets], np.int32)]

    def tokens(self, example: int, variant: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
        assert variant == 0
        return self._sources[example], self._targets[example]


def tiny_loader(*, row: tuple[int, int] = (64, 32), rows_per_step: int = 4) -> DataLoader:
    readers = [Memory(80, 30, 1), Memory(40, 8, 2)]
    streams = [TaskStream(name, r.examples, 1, 0.5) for name, r in zip(TASKS, readers, strict=True)]
    lengths = ExampleLengths.of([(r.source_lengths, r.target_lengths) for r in readers])
    order = PackedOrder(SamplingOrder(streams, 3), lengths, PackingShape(source=row[0], target=row[1]))
    return DataLoader(TASKS, order, lambda p: readers[p.task].tokens(p.example, p.variant), rows_per_step=rows_per_step)


def settings(**changes: Any) -> TrainingSpec:
    defaults = {"steps": 6, "batch_tokens": 384, "learning_rate": 3e-3, "optimizer": "adafactor", "dropout": 0.1}
    return TrainingSpec.model_validate({**defaults, **changes})


def trainer_of(training: TrainingSpec, *, new_rows: range = range(0), sharded: bool = False, **model: Any) -> Trainer:
    return Trainer(tiny_model(seed=1, **model), training, TASKS, new_rows=new_rows, sharded=sharded)


def train(
    loader: DataLoader,
    trainer: Trainer,
    *,
    start: Position | None = None,
    stop: int | None = None,
    worker: int = 0,
    workers: int = 1,
    every: int = 100,
    callbacks: dict[str, Callable[..., Any]] | None = None,
) -> tuple[list[StepRecord], list[Snapshot], tuple[Position, bool]]:
    """Train as `train_worker` does; the records, the snapshots, and (position, interrupted)."""
    records: list[StepRecord] = []
    snapshots: list[Snapshot] = []
    trainer.checkpoint_every = every
    trainer.position = start or Position()
    hooks = Callbacks()
    defaults = {
        "on_step": lambda result: records.extend([result.record] * (result.record is not None)),
        "on_checkpoint": snapshots.append,
    }
    for name, function in ({**defaults, **(callbacks or {})} if worker == 0 else {}).items():
        assert hasattr(hooks, name)
        setattr(hooks, name, function)
    end = trainer.training.steps if stop is None else stop
    assert end is not None
    with loader.batches(trainer.position.step, end, worker=worker, workers=workers) as batches:
        for step, rows in trainer.timer.waiting("data", batches):
            hooks.raise_errors()
            stop_requested, requested = hooks.stop_requested(), hooks.checkpoint_requested()
            result = trainer.step(step, rows, stop=stop_requested, checkpoint=requested)
            hooks.on_step(result)
            if result.checkpoint_due and (worker == 0 or trainer.sharding.active):
                with trainer.timer.time("checkpoint"):
                    hooks.on_checkpoint(trainer.snapshot(next_row=(step + 1) * loader.rows_per_step))
            if result.stop:
                break
    return records, snapshots, (trainer.position, trainer.interrupted)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in state(trainer.model).items()}


def off(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Returns the relative distance of two sets of weights."""
    apart = sum(((one[name] - other[name]) ** 2).sum().item() for name in one)
    return math.sqrt(apart / sum((tensor**2).sum().item() for tensor in one.values()))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
