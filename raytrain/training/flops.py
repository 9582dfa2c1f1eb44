"""Floating point operations (FLOPs) of a training step, and the peak of a device: for MFU.

MFU (model FLOPs utilization; PaLM, arXiv:2204.02311, appendix B) counts what the model needs
without padding and without recomputation, as if every weight were trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

PEAKS = {  # dense bf16 FLOPs a second, from data sheets; "H100 PCIe" stands before "H100", which it begins with
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "A10G": 70e12,
    "A10": 125e12,
    "A30": 165e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
}
_FP32_ON_TENSOR_CORES = 0.5
"""TF32 runs at half of bf16's speed.

Plain fp32, torch's default, is far slower: its MFU is rightly small.
"""


def step_flops(config: Any, source_lengths: npt.NDArray[Any], target_lengths: npt.NDArray[Any]) -> float:
    """Returns the FLOPs of forward and backward pass over examples of these lengths.

    They are three times those of the forward pass. Counts matrix products only, without padding.
    Attention stays within examples; of the decoder's self-attention only the causal half is
    counted.
    """
    d, inner = config.d_model, config.d_kv * config.num_heads
    feed_forward = (3 if config.is_gated_act else 2) * d * config.d_ff
    s, t = source_lengths.astype(np.float64), target_lengths.astype(np.float64)
    encoder = config.num_layers * (4 * d * inner + feed_forward) * s.sum()
    decoder = config.num_decoder_layers * (6 * d * inner + feed_forward) * t.sum()
    cross_kv = config.num_decoder_layers * 2 * d * inner * s.sum()
    head = d * config.vocab_size * t.sum()
    pairs = config.num_layers * (s**2).sum() + config.num_decoder_layers * ((t**2).sum() / 2 + (s * t).sum())
    return float(3 * 2 * (encoder + decoder + cross_kv + head + 2 * inner * pairs))


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Returns a GPU's peak FLOPs a second in this precision.

    None for a CPU or a GPU that is not in `PEAKS`.
    """
    if device.type != "cuda":
        return None
    import torch

    name = torch.cuda.get_device_name(device)
    found = next((value for known, value in PEAKS.items() if known in name), None)
    return found if found is None or precision != "fp32" else found * _FP32_ON_TENSOR_CORES
