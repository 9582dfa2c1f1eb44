"""Shards parameters, gradients and optimizer state over the workers (FSDP2).

For models too large for one device. Each worker holds some rows (of dimension 0) of every
parameter. torch's `fully_shard` gathers a layer when it is computed and reduces its gradients over
the workers afterwards. Everything after that (norm, optimizer, averages, anchor) is arithmetic on a
worker's own rows, as plain tensors. A checkpoint holds complete tensors, so it does not depend on
the number of workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch import distributed as dist

if TYPE_CHECKING:
    from raytrain.training.model.packed_t5 import PackedT5


class Sharding:
    """How the rows of a tensor are distributed over the workers.

    By `torch.chunk`'s rule, which is FSDP2's too. Chunks have equal size; the last ones may be
    shorter or empty. With one worker nothing is sharded.
    """

    def __init__(self, rank: int = 0, workers: int = 1) -> None:
        self.rank, self.workers = rank, workers

    @property
    def active(self) -> bool:
        """Whether there is more than one worker."""
        return self.workers > 1

    def local(self, full: Tensor) -> Tensor:
        """Returns this worker's rows of a complete tensor; scalars are replicated."""
        if not (self.active and full.ndim):
            return full
        size = -(-len(full) // self.workers)
        return full[self.rank * size : (self.rank + 1) * size]

    def gather(self, local: Tensor, rows: int) -> Tensor:
        """Returns all `rows` rows of a tensor of which this worker holds `local`.

        Every worker must call this, in the same order.
        """
        if not (self.active and local.ndim):
            return local
        size = -(-rows // self.workers)
        padded = local.new_zeros((size, *local.shape[1:]))
        padded[: len(local)] = local
        out = local.new_empty((size * self.workers, *local.shape[1:]))
        dist.all_gather_into_tensor(out, padded)
        return out[:rows]

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Replaces `tensor` by its sum over the workers that hold shards, and returns it."""
        if self.active:
            dist.all_reduce(tensor)
        return tensor

    def all_max(self, count: int) -> int:
        """Returns the largest of the workers' counts."""
        if not self.active:
            return count
        box = torch.tensor(count)
        if dist.get_backend() == "nccl":
            box = box.cuda()
        dist.all_reduce(box, dist.ReduceOp.MAX)
        return int(box)


def local_parameter(parameter: nn.Parameter) -> nn.Parameter:
    """Returns this worker's rows as a plain parameter that shares their memory.

    A parameter that is not sharded is returned as it is.
    """
    local = getattr(parameter, "_local_tensor", None)
    return parameter if local is None else nn.Parameter(local, requires_grad=parameter.requires_grad)


def shard(packed_model: PackedT5, device: torch.device, *, bf16: bool = False) -> Sharding:
    """Shards the parameters of a model over the workers, layer by layer.

    The model then has new parameters. With `bf16` layers are gathered and computed in bf16, and
    gradients are reduced in fp32. Parameters may still be in CPU memory: the rows of each layer
    move to `device` as it is sharded.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    if device.type == "cuda":
        torch.cuda.set_device(device)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    half = torch.bfloat16 if bf16 else None
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32 if bf16 else None)
    tables = [m for name, m in packed_model.named_modules() if name.endswith("relative_attention_bias")]
    for module in (
        *tables,
        *packed_model.layers,
        packed_model,
    ):  # the tables are used before the first layer is computed
        fully_shard(module, mesh=mesh, mp_policy=policy)
    for module in packed_model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # losses are sums; the step divides by its target tokens
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other
    return Sharding(dist.get_rank(), dist.get_world_size())
