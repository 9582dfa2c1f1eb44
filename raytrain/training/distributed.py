"""The few collectives that workers need.

Each does nothing where there is no process group or only one worker.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

_Value = TypeVar("_Value")


def world_size() -> int:
    """Returns the number of workers in the process group; 1 without one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_reduce(tensor: Tensor) -> None:
    """Replaces `tensor` by its sum over all workers."""
    if world_size() > 1:
        dist.all_reduce(tensor)


def least(value: float, device: torch.device) -> float:
    """Returns the smallest `value` of all workers."""
    if world_size() == 1:
        return value
    box = torch.tensor([float(value)], device=device)
    dist.all_reduce(box, op=dist.ReduceOp.MIN)
    return float(box)


def broadcast_from_first(value: _Value) -> _Value:
    """Returns the first worker's `value` (which must pickle) on every worker."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def barrier() -> None:
    """Returns once every worker has called it."""
    if world_size() > 1:
        on_gpu = dist.get_backend() == "nccl"
        dist.barrier(device_ids=[torch.cuda.current_device()] if on_gpu else None)
