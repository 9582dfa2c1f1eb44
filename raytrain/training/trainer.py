"""The training loop of one worker. No Ray here: workers meet in a torch process group, or there is only one.

One step is R global rows; worker w of N computes those whose number is w modulo N, one after the
other, and adds up the gradients of the sums of their losses. The workers' sums are added, divided
by the step's target tokens, clipped, and applied by every worker alike. So the result does not
depend on how rows are shared, but for the order of the sums.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch import distributed as dist

from raytrain.config.job import TrainingSpec
from raytrain.training.checkpoint import Position, Snapshot
from raytrain.training.data.batch import EMPTY, PackedBatch, cut
from raytrain.training.flops import peak, step_flops
from raytrain.training.model.loss import Objective
from raytrain.training.model.packed_t5 import DeviceBatch, PackedT5, seed_row, set_dropout
from raytrain.training.optim import optimizer as optim
from raytrain.training.optim.fsdp import Shards, shard
from raytrain.training.optim.lr_schedule import learning_rate
from raytrain.training.optim.weights import Weights
from raytrain_core.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import T5ForConditionalGeneration

_log = logging.getLogger(__name__)

MOST_SKIPPED = 3
"""A step whose loss or gradient is no finite number changes nothing; with so many in a row training ends."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step over all workers: a line of the metric segments.

    Losses are per target token. `gradient_norm` is before clipping. `seconds_by_part` are this
    worker's.
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
    """Share of what the workers' devices could compute at most (`flops.peak`) that the step's arithmetic without
    padding took; None where that is not known."""
    peak_memory_bytes: int = 0
    """Most so far of this worker: of its GPU's memory, else of its process's."""

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(slots=True)
class Sums:
    """What the workers add up of a step; float64 holds these counts exactly."""

    losses: Tensor
    tokens: Tensor
    source_tokens: float = 0.0
    examples: float = 0.0
    flops: float = 0.0
    stop: float = 0.0
    """Above 0 where training is to end after this step."""
    keep: float = 0.0
    """Above 0 where a checkpoint is wanted after this step."""

    def over_workers(self) -> Sums:
        """The sums of all workers, on the CPU."""
        tasks = len(self.losses)
        numbers = [self.source_tokens, self.examples, self.flops, self.stop, self.keep]
        rest = torch.tensor(numbers, dtype=torch.float64)
        packed = torch.cat([self.losses, self.tokens, rest.to(self.losses.device)])
        add_up(packed)
        packed = packed.cpu()
        return Sums(packed[:tasks], packed[tasks : 2 * tasks], *packed[2 * tasks :].tolist())


@dataclass(slots=True)
class Clock:
    """Seconds of a step, in all and by part."""

    parts: dict[str, float] = field(default_factory=dict)
    start: float = field(default_factory=time.perf_counter)

    def seconds(self) -> float:
        """Since it began."""
        return time.perf_counter() - self.start

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        """Add the time inside to `part`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.parts[part] = self.parts.get(part, 0.0) + time.perf_counter() - start


class Trainer:
    """Model, optimizer and gradients of one worker: applies one step after the other."""

    def __init__(
        self,
        model: T5ForConditionalGeneration,
        training: TrainingSpec,
        tasks: Sequence[str],
        *,
        device: torch.device | str = "cpu",
        new_rows: range = range(0),
        sharded: bool = False,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        """`new_rows` are the ids of the pieces that preparation added to the vocabulary; `sharded` spreads parameters,
        gradients and the optimizer's state over the workers, if there are several; `beat` is called whenever the work
        has got further."""
        self._beat = beat
        self.device = torch.device(device)
        self.model: Any = model
        self.model.train()
        if training.dropout is not None:
            set_dropout(self.model, training.dropout)
        self.training, self.tasks = training, tuple(tasks)
        self._counts = torch.tensor([training.task_weights.get(task, 1.0) for task in tasks], dtype=torch.float64)
        pure = training.precision == "bf16-pure"
        self._forward = PackedT5(
            self.model,
            objective=Objective(training.label_smoothing, training.z_loss),
            task_weights=self._counts.float().to(self.device) if training.task_weights else None,
            checkpointing=training.activation_checkpointing,
            dtype=torch.bfloat16 if pure else torch.float32,
        )
        if sharded and workers() > 1:
            self.shards = shard(self._forward.root, self.device, bf16=pure)
        else:
            self.shards = Shards()
            self.model = model.to(self.device)  # type: ignore[arg-type]
        self.weights = Weights(self.model, training, new_rows, self.shards)
        values, learning = self.weights.values, self.weights.rows
        self._rows = {name: len(parameter) for name, parameter in self.model.named_parameters()}
        self.optimizer = optim.build(values, training, spared=learning, shards=self.shards, rows=self._rows)
        self.gradients = optim.Gradients(values, self.weights.used, learning, self.shards)
        self.peak = peak(self.device, training.precision)
        """Floating point operations a second that the device could make at most; None where that is not known."""
        self._micro = training.micro_batch_tokens
        self._skipped = 0

    @property
    def micro_batch_tokens(self) -> int | None:
        """Tokens in one forward pass at most: as the job says, or as was found to fit; None for whole rows."""
        return self._micro

    def step(
        self, step: int, rows: Sequence[PackedBatch], clock: Clock, *, stop: bool = False, keep: bool = False
    ) -> tuple[Sums, float]:
        """Apply step number `step` (from 0) of which `rows` are this worker's; the step's sums and gradient norm.

        `stop` and `keep` reach all workers with the sums. The norm is NaN where the step was
        skipped, see `MOST_SKIPPED`; with the last of them TrainingError.
        """
        own = self._accumulate(rows, clock)
        own.stop, own.keep = float(stop), float(keep)
        with clock.time("grad_sync"):
            if not self.shards.split:  # else the backward pass has added them up
                add_up(self.gradients.buffer)
            sums = own.over_workers()
        if float(sums.tokens.sum()) == 0:
            raise TrainingError(f"step {step + 1} has no target tokens")
        total = float((sums.tokens * self._counts).sum())
        with clock.time("optimizer"):
            norm = self.gradients.norm() / total if total else 0.0
            if not (math.isfinite(norm) and math.isfinite(float(sums.losses.sum()))):
                self._skip(step, sums)
                return sums, math.nan
            self._skipped = 0
            clip, rate = self.training.gradient_clip, learning_rate(step, self.training)
            if total:  # else only tasks that do not count
                self.gradients.scale((min(1.0, clip / (norm + 1e-6)) if clip is not None else 1.0) / total)
            optim.set_learning_rate(self.optimizer, rate)
            self.optimizer.step()
            self.weights.after_step(rate)
        self._beat()
        return sums, norm

    def snapshot(self, position: Position, next_row: int) -> Snapshot:
        """Copies in the processor's memory of all that a checkpoint holds.

        Of a sharded model every worker must ask for it, in the same step; only the first one's
        holds tensors.
        """
        tensors, numbers = optim.state(self.optimizer, self.weights.values)
        state = self._copies({**tensors, **self.weights.state()})
        return Snapshot(position, next_row, self._copies(self.weights.outcome()), state, numbers)

    def _copies(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """By name, or by `<entry>/<name>`."""
        copies = {}
        for key, tensor in tensors.items():
            whole = tensor.detach()
            if self.shards.split and not optim.is_shared(key):
                whole = self.shards.whole(whole, self._rows[key.rpartition("/")[2]])
            if self.shards.rank == 0:
                copies[key] = whole.to("cpu", copy=True).contiguous()
        return copies

    def restore(
        self, weights: dict[str, Tensor], optimizer: dict[str, Tensor], optimizer_numbers: dict[str, float]
    ) -> None:
        """Put a checkpoint's state in place. TrainingError if it is that of another model."""
        tensors = self.weights.restore(weights, optimizer)
        optim.load_state(self.optimizer, self.weights.values, tensors, optimizer_numbers, self.shards)

    def _accumulate(self, rows: Sequence[PackedBatch], clock: Clock) -> Sums:
        """Gradients and sums of this worker's rows.

        What does not fit the GPU's memory is tried in halves.
        """
        while True:
            parts = [part for row in rows for part in self._parts(row)]
            try:
                return self._passes(parts, clock)
            except torch.OutOfMemoryError as error:
                if self.shards.split:
                    raise TrainingError(
                        "the GPU's memory does not hold a pass over a row",
                        hint="workers that share a model cannot try again one by one: set training.microBatchTokens, "
                        "or training.activationCheckpointing",
                    ) from error
                largest = max(part.source_tokens + part.target_tokens for part in parts)
                if all(part.examples == 1 for part in parts):
                    raise TrainingError(
                        f"the GPU's memory does not hold one example (of up to {largest} tokens)",
                        hint="set training.activationCheckpointing, training.precision: bf16, or method: lora; "
                        "or lower training.maxInputTokens",
                    ) from error
                self._micro = min(largest, self._micro or largest) // 2  # one example may be longer than the limit
            _log.warning("the GPU's memory is too small: at most %d tokens at once from now on", self._micro)
            torch.cuda.empty_cache()

    def _parts(self, row: PackedBatch) -> list[PackedBatch]:
        return [row] if self._micro is None else cut(row, self._micro)

    def _passes(self, parts: Sequence[PackedBatch], clock: Clock) -> Sums:
        tasks = len(self.tasks)
        losses = torch.zeros(tasks, dtype=torch.float64, device=self.device)
        tokens = torch.zeros(tasks, dtype=torch.float64)
        sums = Sums(losses, tokens)
        self.gradients.clear()
        passes = self.shards.most(len(parts))  # a layer comes together only if all workers ask for it
        bf16 = self.training.precision == "bf16"
        seeded = -1
        for row in parts:
            with clock.time("forward"):
                batch = DeviceBatch.of(row, dtype=self._forward.dtype, device=self.device)
                if row.index != seeded:
                    seed_row(self.training.seed, row.index)
                    seeded = row.index
                with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                    loss, by_task = self._forward.loss(batch, tasks)
            with clock.time("backward"):
                loss.backward()  # type: ignore[no-untyped-call]
            losses += by_task
            tokens.index_add_(0, torch.from_numpy(row.task).long(), torch.from_numpy(row.target_lengths).double())
            sums.source_tokens += row.source_tokens
            sums.examples += row.examples
            sums.flops += step_flops(self.model.config, row.source_lengths, row.target_lengths)
            self._beat()
        for _ in range(passes - len(parts)):
            loss, _ = self._forward.loss(DeviceBatch.of(EMPTY, dtype=self._forward.dtype, device=self.device), tasks)
            (0 * loss).backward()  # type: ignore[no-untyped-call]
        sums.tokens = tokens.to(self.device)
        return sums

    def _skip(self, step: int, sums: Sums) -> None:
        self._skipped += 1
        if self._skipped < MOST_SKIPPED:
            return
        broken = [t for t, loss in zip(self.tasks, sums.losses.tolist(), strict=True) if not math.isfinite(loss)]
        there = [t for t, n in zip(self.tasks, sums.tokens.tolist(), strict=True) if n]
        what = f"the loss of {', '.join(broken)}" if broken else "the gradient"
        raise TrainingError(
            f"step {step + 1}: {what} is not a finite number, for the {self._skipped}rd time in a row "
            f"(tasks in this step: {', '.join(there)})",
            hint="lower training.learningRate, or lengthen training.warmupSteps; the last checkpoint is sound",
        )


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What the loop tells, and asks, while it runs.

    `check` is every worker's, the others the first's.
    """

    on_step: Callable[[StepRecord, Position], None] = lambda record, position: None
    on_skipped: Callable[[int, str], None] = lambda step, message: None
    on_checkpoint: Callable[[Snapshot], None] = lambda snapshot: None
    stop: Callable[[], bool] = lambda: False
    keep: Callable[[], bool] = lambda: False
    """Whether a checkpoint is wanted after the step that begins: a node may be about to go."""
    check: Callable[[], None] = lambda: None
    """Raises what went wrong elsewhere (in the thread that writes checkpoints)."""


def run(
    stepper: Trainer,
    steps: Iterable[tuple[int, Sequence[PackedBatch]]],
    *,
    position: Position,
    rows_per_step: int,
    checkpoint_every: int,
    hooks: Callbacks,
    first: bool = True,
) -> tuple[Position, bool]:
    """Train through `steps`, which begin at `position.step`; where it ended, and whether it was asked to stop there.

    `first` says whether this is the first worker. A checkpoint is taken every `checkpoint_every`
    steps, at the last step, where training was asked to stop, and where one was asked for.
    """
    last = stepper.training.last_step
    rows_of = iter(steps)
    stopped = False
    clock = Clock()
    while position.step < last and not stopped:
        with clock.time("data"):
            step, rows = next(rows_of)
        hooks.check()
        sums, norm = stepper.step(step, rows, clock, stop=first and hooks.stop(), keep=first and hooks.keep())
        stopped = sums.stop > 0
        tokens = int(sums.source_tokens + float(sums.tokens.sum()))
        position = Position(step + 1, position.tokens + tokens, position.examples + int(sums.examples))
        if first and math.isnan(norm):
            hooks.on_skipped(step + 1, f"step {step + 1} was skipped: its loss or gradient is not a finite number")
        elif first:  # before the checkpoint, so that no checkpoint exists whose steps were not told
            hooks.on_step(_record(stepper, step, sums, norm=norm, clock=clock), position)
        clock = Clock()
        due = position.step % checkpoint_every == 0 or position.step == last or stopped or sums.keep > 0
        if due and (first or stepper.shards.split):
            with clock.time("checkpoint"):
                snapshot = stepper.snapshot(position, position.step * rows_per_step)
                if first:
                    hooks.on_checkpoint(snapshot)
    return position, stopped and position.step < last


def _record(stepper: Trainer, step: int, sums: Sums, *, norm: float, clock: Clock) -> StepRecord:
    counts = {t: int(n) for t, n in zip(stepper.tasks, sums.tokens.tolist(), strict=True) if n}
    losses = dict(zip(stepper.tasks, sums.losses.tolist(), strict=True))
    target, seconds = sum(counts.values()), clock.seconds()
    possible = stepper.peak * workers() if stepper.peak else None
    return StepRecord(
        step=step + 1,
        loss=sum(losses.values()) / target,
        loss_by_task={t: losses[t] / n for t, n in counts.items()},
        target_tokens_by_task=counts,
        source_tokens=int(sums.source_tokens),
        target_tokens=target,
        examples=int(sums.examples),
        learning_rate=learning_rate(step, stepper.training),
        gradient_norm=norm,
        seconds=round(seconds, 6),
        tokens_per_second=(sums.source_tokens + target) / seconds,
        seconds_by_part={part: round(s, 6) for part, s in clock.parts.items()},
        mfu=sums.flops / seconds / possible if possible else None,
        peak_memory_bytes=_peak_memory(stepper.device),
    )


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def workers() -> int:
    """How many there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def add_up(tensor: Tensor) -> None:
    """Replace `tensor` by its sum over all workers; alone, nothing happens."""
    if workers() > 1:
        dist.all_reduce(tensor)
