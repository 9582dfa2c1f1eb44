"""Estimates memory and time of training, with the basis of each figure."""

import shutil
import time

from raytrain.config.training import TrainingSpec
from raytrain_core.extras import how_to_install

# Training FLOPs per parameter and real token without padding (forward and backward; a token passes
# about half of an encoder-decoder), and the share of a plain matrix product's speed that a whole
# step reaches on CPUs: both measured.
FLOPS_PER_PARAMETER = 2.0
EFFICIENCY = 0.4

BYTES_PER_PARAMETER = {"adamw": 16, "adafactor": 8}  # fp32 weights and gradients, and adamw's two moments


def memory(parameters: int | None, training: TrainingSpec, *, shards: int = 1) -> tuple[int | None, str]:
    """Returns the bytes that each worker needs for weights, gradients and optimizer, and a note.

    `shards` is the number of workers that the model is sharded over.
    """
    each, what = BYTES_PER_PARAMETER[training.optimizer], str(training.optimizer)
    if training.method == "lora":
        each, what = 4, "frozen weights and small adapters"
    elif training.precision == "bf16-pure":
        each, what = each + 2, f"{what} and weights in both bf16 and fp32"
    if training.method == "full":
        each += 4 * ((training.ema is not None) + bool(training.anchor or training.interpolation < 1))
    if parameters is None:
        return None, "unknown, because the size of the model is"
    spread = f" over {shards} workers" if shards > 1 else ""
    return (
        parameters * each // shards,
        f"each worker: {each} bytes a parameter{spread} with {what}, plus activations",
    )


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
