"""Estimates memory and time of training, with the basis of each figure."""

import shutil
import time
from dataclasses import dataclass

from raytrain.check.model_size import ModelSize
from raytrain.config.training import PackingShape, TrainingSpec
from raytrain.training.model.memory_plan import memory_plan
from raytrain_core.extras import how_to_install

# Training FLOPs per parameter and real token without padding (forward and backward; a token passes
# about half of an encoder-decoder), and the share of a plain matrix product's speed that a whole
# step reaches on CPUs: both measured.
FLOPS_PER_PARAMETER = 2.0
EFFICIENCY = 0.4

BYTES_PER_PARAMETER = {"adamw": 16, "adafactor": 8}  # fp32 weights and gradients, and adamw's two moments


GPU_GIB = (8, 12, 16, 24, 32, 40, 48, 80, 96, 141, 180)
"""Memory of GPUs that are sold."""
HEADROOM = 1.1
"""For what CUDA takes for itself and its allocator cannot use; an assumption, not a measurement."""
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that each worker needs to train, in all and by part, and what is to be said of them."""

    bytes: int | None
    parts: dict[str, int]
    """Empty where only weights, gradients and optimizer are known."""
    note: str


def memory(model: ModelSize, training: TrainingSpec, row: PackingShape | None, *, shards: int = 1) -> Memory:
    """Returns what each of `shards` workers needs that the model is sharded over.

    See `training.model.memory_plan`. Without the model's shape or that of a packed row
    only what belongs to each parameter is counted.
    """
    if model.shape is None or row is None:
        return _by_parameters(model.parameters, training, shards)
    plan = memory_plan(model.shape, training, row, shards=shards, on_gpu=training.device != "cpu")
    parts = {name: size for name, size in plan.parts.items() if size}
    note = "each worker: " + ", ".join(f"{name} {size / _GIB:.2f}" for name, size in parts.items())
    if training.device != "cpu":
        gpu = next((size for size in GPU_GIB if plan.total * HEADROOM <= size * _GIB), None)
        note += f"; fits a GPU of {gpu} GiB" if gpu else f"; more than a GPU of {GPU_GIB[-1]} GiB holds"
    return Memory(plan.total, parts, note)


def _by_parameters(parameters: int | None, training: TrainingSpec, shards: int) -> Memory:
    each, what = BYTES_PER_PARAMETER[training.optimizer], str(training.optimizer)
    if training.method == "lora":
        each, what = 4, "frozen weights and small adapters"
    elif training.precision == "bf16-pure":
        each, what = each + 2, f"{what} and weights in both bf16 and fp32"
    if training.method == "full":
        each += 4 * ((training.ema is not None) + bool(training.anchor or training.interpolation < 1))
    if parameters is None:
        return Memory(None, {}, "unknown, because the size of the model is")
    spread = f" over {shards} workers" if shards > 1 else ""
    note = f"each worker: {each} bytes a parameter{spread} with {what}, plus activations"
    return Memory(parameters * each // shards, {}, note)


def duration(
    parameters: int | None, tokens: int, training: TrainingSpec, *, measured: float | None
) -> tuple[float | None, str]:
    """Returns the seconds of the training steps alone, and the basis of the figure.

    `measured` is the speed of an earlier attempt in tokens/s.
    """
    if measured:
        return tokens / measured, f"{measured:,.0f} tokens/s, measured by this run before; without scoring"
    if training.device == "cuda" or (training.device == "auto" and shutil.which("nvidia-smi")):
        return None, "unknown for a GPU before the first steps"
    if parameters is None:
        return None, "unknown, because the size of the model is"
    try:
        rate = matrix_flops()
    except ModuleNotFoundError:
        return None, f"numpy is not installed; {how_to_install('train')} measures this machine"
    seconds = tokens * FLOPS_PER_PARAMETER * parameters / (rate * EFFICIENCY)
    return seconds, f"rough: this machine multiplies {rate / 1e9:,.0f} GFLOP/s now; scoring comes on top"


def matrix_flops(size: int = 768, least_seconds: float = 0.1) -> float:
    """Measures the FLOP/s of fp32 matrix products on all cores of this machine."""
    import numpy as np

    left = np.full((size, size), 0.5, np.float32)
    right = left.copy()
    np.matmul(left, right)  # the first one starts threads
    count, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < least_seconds or count == 0:
        np.matmul(left, right)
        count += 1
    return 2.0 * size**3 * count / spent if spent > 0 else 1e9
