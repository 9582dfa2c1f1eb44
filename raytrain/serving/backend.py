"""What answers token ids with token ids: a model in this process, or replicas elsewhere."""

import asyncio
from typing import TYPE_CHECKING, Protocol

from raytrain.serving.errors import unavailable

if TYPE_CHECKING:
    from data_prep.text.tokenizer import Ids
    from raytrain.generation.live_batching import LiveBatcher
    from raytrain.serving.models import RunModels, Which


class Backend(Protocol):
    """One model."""

    async def generate(self, source: "Ids", limit: int) -> list[int]:
        """Returns the generated ids, at most `limit`; raises RequestError where it cannot."""
        ...


class Backends(Protocol):
    """The models of one run."""

    def available(self) -> "list[Which]":
        """Returns the models that there are now."""
        ...

    async def backend(self, which: "Which") -> Backend:
        """Returns one of them, loaded."""
        ...

    async def close(self) -> None:
        """Ends once everything that was accepted has been answered."""
        ...


class BatcherBackend:
    """A model in this process."""

    def __init__(self, batcher: "LiveBatcher") -> None:
        self._batcher = batcher

    async def generate(self, source: "Ids", limit: int) -> list[int]:
        """Returns the generated ids; what is cancelled while it waits or is decoded ends there."""
        if not self._batcher.is_alive:
            raise unavailable("the model's thread has ended")
        return await asyncio.wrap_future(self._batcher.submit(source, limit))

    async def close(self) -> None:
        """Ends once everything that was accepted has been answered."""
        await asyncio.to_thread(self._batcher.close)


class LocalBackends:
    """The models of a run in this process, each loaded on first use."""

    def __init__(self, models: "RunModels") -> None:
        self._models = models
        self._loaded: dict[Which, BatcherBackend] = {}
        self._one_at_a_time = asyncio.Lock()

    def available(self) -> "list[Which]":
        """Returns the models that the run has now."""
        return ["before", "after"] if self._models.is_tuned() else ["before"]

    async def backend(self, which: "Which") -> BatcherBackend:
        """Returns a model; raises DataError where the run has none yet."""
        async with self._one_at_a_time:
            if which not in self._loaded:
                self._loaded[which] = BatcherBackend(await asyncio.to_thread(self._models.live, which))
        return self._loaded[which]

    async def close(self) -> None:
        """Ends once everything that was accepted has been answered."""
        for backend in self._loaded.values():
            await backend.close()
