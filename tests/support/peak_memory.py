"""Bytes of tensors that are alive while code runs, on any device, `meta` among them."""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that operations make, from when they appear until they are freed.

    What was there before is not counted, nor what a kernel allocates for itself and frees before it
    returns.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given: set[int] = set()
        tree_map_only(torch.Tensor, lambda x: given.add(x.untyped_storage()._cdata), (args, kwargs))
        out = function(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, lambda x: self._note(x.untyped_storage(), given), out)
        return out

    def _note(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive or key in given:
            return
        self._alive.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size
