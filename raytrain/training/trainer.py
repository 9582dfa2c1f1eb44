"""Trains one worker's share of each step.

No Ray here: workers meet in a torch process group, or there is only one. A step is R packed rows.
Worker w of N computes those whose number is w modulo N, one after the other, and accumulates the
gradients of their summed losses. The workers' gradients are all-reduced, divided by the step's
target tokens, clipped, and applied by every worker alike. So the result does not depend on how rows
are distributed, except for the order of the sums.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from raytrain.config.training import TrainingSpec
from raytrain.training import distributed
from raytrain.training.checkpoint import Position, Snapshot
from raytrain.training.data.batch import EMPTY, PackedBatch, split
from raytrain.training.flops import peak_flops, step_flops
from raytrain.training.model.loss import Objective
from raytrain.training.model.packed_t5 import DeviceBatch, PackedT5, seed_dropout, set_dropout
from raytrain.training.optim import optimizer as optim
from raytrain.training.optim.fsdp import Sharding, shard
from raytrain.training.optim.lr_schedule import learning_rate
from raytrain.training.optim.weights import Weights
from raytrain.training.step import StepRecord, StepResult, StepSums, StepTimer
from raytrain_core.errors import TrainingError

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration

_log = logging.getLogger(__name__)

MAX_SKIPPED = 3
"""A step whose loss or gradient is not finite changes nothing; this many in a row end training."""


class Callbacks:
    """What the first worker reports after each step, and what it asks before.

    Here nothing, as for all others.
    """

    def raise_errors(self) -> None:
        """Raises what went wrong in the background, such as in the checkpoint thread."""

    def stop_requested(self) -> bool:
        """Returns whether training should end after the next step."""
        return False

    def checkpoint_requested(self) -> bool:
        """Returns whether to take a checkpoint after the next step: a node may leave."""
        return False

    def on_step(self, result: StepResult) -> None:
        """Called after every step, before its checkpoint: its records come first."""

    def on_checkpoint(self, snapshot: Snapshot) -> None:
        """Called with the state to store."""


class Trainer:
    """Model, optimizer and gradients of one worker; applies one step after the other."""

    def __init__(
        self,
        model: T5ForConditionalGeneration,
        training: TrainingSpec,
        tasks: Sequence[str],
        *,
        device: torch.device | str = "cpu",
        new_rows: range = range(0),
        sharded: bool = False,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        """Puts `model` on `device` and prepares what `training` asks for.

        `new_rows` are the ids of the tokens that preparation added to the vocabulary. `sharded`
        distributes parameters, gradients and optimizer state over the workers, if there are
        several. `heartbeat` is called after every piece of progress.
        """
        if training.precision == "auto":
            raise ValueError("precision is auto: see training.precision.resolved")
        self._heartbeat = heartbeat
        self.device = torch.device(device)
        self.model: Any = model
        self.model.train()
        if training.dropout is not None:
            set_dropout(self.model, training.dropout)
        self.training, self.tasks = training, tuple(tasks)
        self.position, self.checkpoint_every = Position(), training.checkpoint_every
        self.timer = StepTimer()
        self._task_weights = torch.tensor([training.task_weights.get(task, 1.0) for task in tasks], dtype=torch.float64)
        bf16 = training.precision == "bf16-pure"
        self.packed_model = PackedT5(
            self.model,
            objective=Objective(training.label_smoothing, training.z_loss),
            task_weights=self._task_weights.float().to(self.device) if training.task_weights else None,
            checkpointing=training.activation_checkpointing,
            dtype=torch.bfloat16 if bf16 else torch.float32,
        )
        if sharded and distributed.world_size() > 1:
            self.sharding = shard(self.packed_model, self.device, bf16=bf16)
        else:
            self.sharding = Sharding()
            self.model = model.to(self.device)  # type: ignore[arg-type]
        self.weights = Weights(self.model, training, new_rows, self.sharding)
        values, row_masks = self.weights.values, self.weights.row_masks
        self._rows = {name: len(parameter) for name, parameter in self.model.named_parameters()}
        self.optimizer = optim.build(values, training, no_decay=row_masks, sharding=self.sharding, rows=self._rows)
        self.gradients = optim.Gradients(values, self.weights.used, row_masks, self.sharding)
        self.peak_flops = peak_flops(self.device, training.precision)
        self.micro_batch_tokens = training.micro_batch_tokens
        """Most tokens in one forward pass: the job's setting, or less if that did not fit.

        None for entire rows.
        """
        self._skipped = 0
        self._stopped = False

    def step(
        self, step: int, batches: Sequence[PackedBatch], *, stop: bool = False, checkpoint: bool = False
    ) -> StepResult:
        """Applies step number `step` (from 0), of which `batches` are this worker's rows.

        `stop` and `checkpoint` are requests of this worker that reach all workers with the sums. A
        step whose loss or gradient is not finite is skipped; TrainingError after `MAX_SKIPPED` in a
        row, and for a step without target tokens.
        """
        while True:
            micro_batches = [part for batch in batches for part in split(batch, self.micro_batch_tokens)]
            try:
                own = self.forward_backward(micro_batches)
                break
            except torch.OutOfMemoryError as error:
                self.micro_batch_tokens = self._smaller_micro_batch(micro_batches, error)
            _log.warning("GPU memory is too small: at most %d tokens at once from now on", self.micro_batch_tokens)
            torch.cuda.empty_cache()
        own.stop, own.checkpoint = float(stop), float(checkpoint)
        with self.timer.time("grad_sync"):
            if not self.sharding.active:  # otherwise the backward pass has reduced them
                distributed.all_reduce(self.gradients.buffer)
            sums = own.reduced()
        if float(sums.tokens.sum()) == 0:
            raise TrainingError(f"step {step + 1} has no target tokens")
        with self.timer.time("optimizer"):
            norm = self._update(step, sums)
        self._heartbeat()
        return self._finish_step(step, sums, norm)

    def forward_backward(self, micro_batches: Sequence[PackedBatch]) -> StepSums:
        """Accumulates the gradients of this worker's micro-batches and returns their sums."""
        tasks = len(self.tasks)
        losses = torch.zeros(tasks, dtype=torch.float64, device=self.device)
        tokens = torch.zeros(tasks, dtype=torch.float64)
        sums = StepSums(losses, tokens)
        self.gradients.clear()
        passes = self.sharding.all_max(len(micro_batches))  # a layer is gathered only if all workers ask for it
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.training.precision == "bf16")
        seeded = -1
        for batch in micro_batches:
            with self.timer.time("forward"):
                on_device = DeviceBatch.of(batch, dtype=self.packed_model.dtype, device=self.device)
                if batch.index != seeded:  # once a row: the micro-batches of a row share its random numbers
                    seed_dropout(self.training.seed, batch.index)
                    seeded = batch.index
                with autocast:
                    loss, loss_by_task = self.packed_model(on_device, tasks)
            with self.timer.time("backward"):
                loss.backward()
            losses += loss_by_task
            tokens.index_add_(0, torch.from_numpy(batch.task).long(), torch.from_numpy(batch.target_lengths).double())
            sums.source_tokens += batch.source_tokens
            sums.examples += batch.examples
            sums.flops += step_flops(self.model.config, batch.source_lengths, batch.target_lengths)
            self._heartbeat()
        for _ in range(passes - len(micro_batches)):
            empty = DeviceBatch.of(EMPTY, dtype=self.packed_model.dtype, device=self.device)
            (0 * self.packed_model(empty, tasks)[0]).backward()
        sums.tokens = tokens.to(self.device)
        return sums

    @property
    def interrupted(self) -> bool:
        """Whether a requested stop ended training before its last step."""
        return self._stopped and self.position.step < self.training.last_step

    def snapshot(self, next_row: int) -> Snapshot:
        """Copies everything that a checkpoint holds into CPU memory.

        `next_row` is the first row not yet trained. All workers of a sharded model must call it
        after the same step; only the first one's snapshot holds tensors.
        """
        tensors, numbers = optim.state(self.optimizer, self.weights.values)
        state = self._gather_copies({**tensors, **self.weights.state()})
        return Snapshot(self.position, next_row, self._gather_copies(self.weights.export_state()), state, numbers)

    def restore(
        self,
        position: Position,
        weights: dict[str, Tensor],
        optimizer: dict[str, Tensor],
        optimizer_numbers: dict[str, float],
    ) -> None:
        """Restores a checkpoint's state; TrainingError if it is that of another model."""
        tensors = self.weights.restore(weights, optimizer)
        optim.load_state(self.optimizer, self.weights.values, tensors, optimizer_numbers, self.sharding)
        self.position = position

    def _gather_copies(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copies tensors, keyed by name or `<entry>/<name>`, to the CPU.

        Of shards, the first worker gets all rows.
        """
        copies = {}
        for key, tensor in tensors.items():
            full = tensor.detach()
            if self.sharding.active and not optim.is_replicated(key):
                full = self.sharding.gather(full, self._rows[key.rpartition("/")[2]])
            if self.sharding.rank == 0:
                copies[key] = full.to("cpu", copy=True).contiguous()
        return copies

    def _smaller_micro_batch(self, micro_batches: Sequence[PackedBatch], error: torch.OutOfMemoryError) -> int:
        """Returns half of what did not fit; TrainingError if nothing smaller can be tried."""
        if self.sharding.active:
            raise TrainingError(
                "GPU memory does not hold the forward and backward pass of a packed row",
                hint="a sharded model cannot retry with smaller pieces: set training.microBatchTokens or "
                "training.activationCheckpointing",
            ) from error
        largest = max(batch.source_tokens + batch.target_tokens for batch in micro_batches)
        if all(batch.examples == 1 for batch in micro_batches):
            raise TrainingError(
                f"GPU memory does not hold one example (of up to {largest} tokens)",
                hint="set training.activationCheckpointing, training.precision: bf16, or method: lora; "
                "or lower training.maxInputTokens",
            ) from error
        return min(largest, self.micro_batch_tokens or largest) // 2  # one example may be longer than the limit

    def _update(self, step: int, sums: StepSums) -> float:
        """Moves the weights by the accumulated gradient.

        Returns its norm, NaN if the step was skipped.
        """
        total = float((sums.tokens * self._task_weights).sum())
        norm = self.gradients.norm() / total if total else 0.0
        if not (math.isfinite(norm) and math.isfinite(float(sums.losses.sum()))):
            self._skip(step, sums)
            return math.nan
        self._skipped = 0
        clip, rate = self.training.gradient_clip, learning_rate(step, self.training)
        if total:  # otherwise all target tokens are of tasks with weight 0
            self.gradients.scale((min(1.0, clip / (norm + 1e-6)) if clip is not None else 1.0) / total)
        optim.set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        self.weights.after_step(rate)
        return norm

    def _skip(self, step: int, sums: StepSums) -> None:
        self._skipped += 1
        if self._skipped < MAX_SKIPPED:
            return
        broken = [t for t, loss in zip(self.tasks, sums.losses.tolist(), strict=True) if not math.isfinite(loss)]
        present = [t for t, n in zip(self.tasks, sums.tokens.tolist(), strict=True) if n]
        what = f"the loss of {', '.join(broken)}" if broken else "the gradient"
        raise TrainingError(
            f"step {step + 1}: {what} is not a finite number, for the {self._skipped}rd time in a row "
            f"(tasks in this step: {', '.join(present)})",
            hint="lower training.learningRate or raise training.warmupSteps; the last checkpoint is intact",
        )

    def _finish_step(self, step: int, sums: StepSums, norm: float) -> StepResult:
        """Moves the position, decides on checkpoint and stop, and begins the next step's times."""
        tokens = int(sums.source_tokens + float(sums.tokens.sum()))
        before = self.position
        self.position = Position(step + 1, before.tokens + tokens, before.examples + int(sums.examples))
        self._stopped = sums.stop > 0
        record = None if math.isnan(norm) else self._record(step, sums, norm)
        self.timer.restart()
        last = self.position.step == self.training.last_step
        due = self.position.step % self.checkpoint_every == 0 or last or self._stopped or sums.checkpoint > 0
        return StepResult(self.position, sums, norm, record, checkpoint_due=due, stop=self._stopped)

    def _record(self, step: int, sums: StepSums, norm: float) -> StepRecord:
        counts = {t: int(n) for t, n in zip(self.tasks, sums.tokens.tolist(), strict=True) if n}
        losses = dict(zip(self.tasks, sums.losses.tolist(), strict=True))
        target, seconds = sum(counts.values()), self.timer.seconds()
        peak = self.peak_flops * distributed.world_size() if self.peak_flops else None
        return StepRecord(
            step=step + 1,
            loss=sum(losses.values()) / target,
            loss_by_task={t: losses[t] / n for t, n in counts.items()},
            target_tokens_by_task=counts,
            source_tokens=int(sums.source_tokens),
            target_tokens=target,
            examples=int(sums.examples),
            learning_rate=learning_rate(step, self.training),
            gradient_norm=norm,
            seconds=round(seconds, 6),
            tokens_per_second=(sums.source_tokens + target) / seconds,
            seconds_by_part={part: round(s, 6) for part, s in self.timer.parts.items()},
            mfu=sums.flops / seconds / peak if peak else None,
            peak_memory_bytes=_peak_memory(self.device),
        )


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
