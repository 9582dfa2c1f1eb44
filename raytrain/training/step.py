"""What a training step yields: its sums over rows and workers, times, record and result."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from raytrain.training import distributed
from raytrain.training.checkpoint import Position

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step over all workers: a line of the metric segments.

    Losses are per target token. `gradient_norm` is before clipping. `seconds_by_part` and
    `peak_memory_bytes` are this worker's.
    """

    step: int
    loss: float
    loss_by_task: dict[str, float]
    target_tokens_by_task: dict[str, int]
    source_tokens: int
    target_tokens: int
    examples: int
    learning_rate: float
    gradient_norm: float
    seconds: float
    tokens_per_second: float
    seconds_by_part: dict[str, float]
    mfu: float | None = None
    """Model FLOPs utilization over all workers, 0..1 (see `flops`).

    None where the peak is not known.
    """
    peak_memory_bytes: int = 0
    """Highest memory use so far: of the GPU, or of the process without one."""

    def as_json(self) -> dict[str, Any]:
        """Returns plain data."""
        return asdict(self)


@dataclass(slots=True)
class StepSums:
    """Sums over the rows of a step, of one worker; `reduced` gives those of all.

    float64 holds these counts exactly.
    """

    losses: Tensor
    tokens: Tensor
    source_tokens: float = 0.0
    examples: float = 0.0
    flops: float = 0.0
    stop: float = 0.0
    """Above 0 if training should end after this step."""
    checkpoint: float = 0.0
    """Above 0 if a checkpoint was requested after this step."""

    def reduced(self) -> StepSums:
        """Returns the sums over all workers, on the CPU."""
        tasks = len(self.losses)
        numbers = [self.source_tokens, self.examples, self.flops, self.stop, self.checkpoint]
        rest = torch.tensor(numbers, dtype=torch.float64)
        packed = torch.cat([self.losses, self.tokens, rest.to(self.losses.device)])
        distributed.all_reduce(packed)
        packed = packed.cpu()
        return StepSums(packed[:tasks], packed[tasks : 2 * tasks], *packed[2 * tasks :].tolist())


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step came to over all workers."""

    position: Position
    """Position after the step."""
    sums: StepSums
    gradient_norm: float
    """Before clipping; NaN if the step was skipped."""
    record: StepRecord | None
    """None if the step was skipped because its loss or gradient was not finite."""
    checkpoint_due: bool
    stop: bool
    """Whether training ends here because a stop was requested."""


@dataclass(slots=True)
class StepTimer:
    """Seconds of a step, in total and by part.

    Parts are data, forward, backward, grad_sync, optimizer and checkpoint.
    """

    parts: dict[str, float] = field(default_factory=dict)
    start: float = field(default_factory=time.perf_counter)

    def seconds(self) -> float:
        """Returns the seconds since the step began."""
        return time.perf_counter() - self.start

    def restart(self) -> None:
        """Begins the next step."""
        self.parts, self.start = {}, time.perf_counter()

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        """Adds the time spent inside to `part`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.parts[part] = self.parts.get(part, 0.0) + time.perf_counter() - start

    def waiting(self, part: str, items: Iterable[_Item]) -> Iterator[_Item]:
        """Yields `items`; the time spent waiting for each is added to `part`."""
        iterator = iter(items)
        while True:
            with self.time(part):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item
