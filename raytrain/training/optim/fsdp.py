"""A model too large for one device: its parameters, gradients and optimizer state lie over the workers (FSDP2).

Each worker holds some rows (of dimension 0) of every parameter. torch's `fully_shard` brings a
layer together when it is computed and adds up its gradients over the workers, row by row, when it
has been. Everything after that (norm, optimizer, averages, anchors) is arithmetic on a worker's own
rows, as plain tensors. A checkpoint holds whole tensors, so that it does not know how many workers
wrote it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch import distributed as dist

if TYPE_CHECKING:
    from raytrain.training.model.packed_t5 import Root


class Shards:
    """How the rows of a tensor lie over the workers: in stretches of equal size, the last ones shorter or empty.

    That is `torch.chunk`'s rule, and FSDP2's. Of one worker, everything is whole.
    """

    def __init__(self, rank: int = 0, workers: int = 1) -> None:
        self.rank, self.workers = rank, workers

    @property
    def split(self) -> bool:
        """Whether there is more than one."""
        return self.workers > 1

    def mine(self, whole: Tensor) -> Tensor:
        """This worker's rows of a tensor that every worker holds; numbers (0 dimensions) are everybody's."""
        if not (self.split and whole.ndim):
            return whole
        size = -(-len(whole) // self.workers)
        return whole[self.rank * size : (self.rank + 1) * size]

    def whole(self, mine: Tensor, rows: int) -> Tensor:
        """All `rows` rows, of which this worker has `mine`.

        Every worker must call this, in the same order.
        """
        if not (self.split and mine.ndim):
            return mine
        size = -(-rows // self.workers)
        padded = mine.new_zeros((size, *mine.shape[1:]))
        padded[: len(mine)] = mine
        out = mine.new_empty((size * self.workers, *mine.shape[1:]))
        dist.all_gather_into_tensor(out, padded)
        return out[:rows]

    def add_up(self, tensor: Tensor) -> Tensor:
        """Replace `tensor` by its sum over the workers that hold shards; it is returned too."""
        if self.split:
            dist.all_reduce(tensor)
        return tensor

    def most(self, count: int) -> int:
        """The largest of the workers' counts."""
        if not self.split:
            return count
        box = torch.tensor(count)
        if dist.get_backend() == "nccl":
            box = box.cuda()
        dist.all_reduce(box, dist.ReduceOp.MAX)
        return int(box)


def own(parameter: nn.Parameter) -> nn.Parameter:
    """This worker's rows as a plain parameter that shares their memory; a parameter that is not sharded is returned."""
    local = getattr(parameter, "_local_tensor", None)
    return parameter if local is None else nn.Parameter(local, requires_grad=parameter.requires_grad)


def shard(root: Root, device: torch.device, *, bf16: bool = False) -> Shards:
    """Spread the parameters of a flat forward over the workers, layer by layer; the model's parameters are new then.

    With `bf16` layers are brought together and computed in bf16, gradients are added up in fp32.
    The parameters may still be in the processor's memory: each layer's rows go to `device` as it is
    spread.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    if device.type == "cuda":
        torch.cuda.set_device(device)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    half = torch.bfloat16 if bf16 else None
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32 if bf16 else None)
    tables = [m for name, m in root.named_modules() if name.endswith("relative_attention_bias")]
    for module in (*tables, *root.layers, root):  # the tables are looked up before the first layer is computed
        fully_shard(module, mesh=mesh, mp_policy=policy)
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # losses are sums; the step divides by its target tokens
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other
    return Shards(dist.get_rank(), dist.get_world_size())
