"""What `precision: auto` becomes on this machine: bf16 where it is native everywhere, else fp32.

bf16 without instructions for it is emulated and slower than fp32. Where it is native, a product is
twice as fast or more, and T5 was pre-trained in it (Raffel et al. 2020, arXiv:1910.10683).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raytrain.config.training import TrainingSpec

if TYPE_CHECKING:
    import torch

_CPU_FEATURES = ("amx_bf16", "avx512_bf16", "sve_bf16", "bf16")
"""Instructions that multiply bf16, as `torch.cpu.get_capabilities` names them; fastest first."""


@dataclass(frozen=True, slots=True)
class NativeBf16:
    """Whether a device multiplies bf16 natively, and by what one knows it."""

    here: bool
    reason: str


def native_bf16(device: torch.device) -> NativeBf16:
    """Returns whether `device` multiplies bf16 without emulation."""
    import torch

    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        here = torch.cuda.is_bf16_supported(including_emulation=False)
        return NativeBf16(here, f"{name} {'has' if here else 'lacks'} native bf16")
    has = torch.cpu.get_capabilities()
    found = next((feature for feature in _CPU_FEATURES if has.get(feature)), None)
    return NativeBf16(found is not None, f"this CPU has {found}" if found else "this CPU lacks native bf16")


def resolved(training: TrainingSpec, device: torch.device) -> tuple[TrainingSpec, str]:
    """Replaces `precision: auto` by what all workers can do, and says why ("" if it is not auto).

    Every worker must call it. One that lacks native bf16 makes all of them use fp32: their
    gradients are parts of one sum.
    """
    from raytrain.training.distributed import least

    if training.precision != "auto":
        return training, ""
    own = native_bf16(device)
    everywhere = least(own.here, device)
    reason = own.reason if everywhere == own.here else "another worker's device lacks native bf16"
    precision = "bf16" if everywhere else "fp32"
    return training.model_copy(update={"precision": precision}), f"precision {precision}, because {reason}"
