"""What runs inside an evaluation actor. Knows nothing of Ray."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raytrain.generation.requests import Generation, GenerationLimits, ModelRef, Request
from raytrain_core.storage import Store

if TYPE_CHECKING:
    from data_prep.text.tokenizer import Tokenizer
    from raytrain.generation.generator import Generator


@dataclass(frozen=True, slots=True)
class ActorSettings:
    """What an actor needs to load models and to generate; it is sent to the actor's node.

    `shard_set` is the digest of the shard set whose tokenizer is used.
    """

    store: Store
    shard_set: str
    base: ModelRef
    cache_folder: Path
    limits: GenerationLimits
    max_target_tokens: int | None = None
    device: str = "auto"
    positions: int = 0
    """Longest text of a benchmark in tokens."""


class EvaluationActor:
    """Generates with one model at a time, which it loads when it is first used."""

    def __init__(self, settings: ActorSettings) -> None:
        self._settings = settings
        self._tokenizer: Tokenizer | None = None
        self._digest: str | None = None  # of the model that the generator holds
        self._generator: Generator | None = None

    def generate(self, model: ModelRef, requests: Sequence[Request], batch_size: int) -> list[Generation]:
        """Generates with `model`; loads it unless it is the model of the previous call."""
        return self._generator_of(model).generate(requests, batch_size=batch_size)

    def _generator_of(self, model: ModelRef) -> "Generator":
        if self._generator is None or self._digest != model.digest:
            self._generator = None  # never two models in memory
            self._generator = self._load(model)
            self._digest = model.digest
        return self._generator

    def _load(self, model: ModelRef) -> "Generator":
        from data_prep.shards.manifest import ShardSet
        from data_prep.shards.tokenizer_files import load_tokenizer
        from raytrain.generation.generator import Generator, load_model, plain_tokenizer

        s = self._settings
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(ShardSet.load(s.store, s.shard_set), s.store)
        tokenizer, store, cache = self._tokenizer, s.store, s.cache_folder
        return Generator(
            load_model(model, s.base, store=store, cache_folder=cache, tokenizer_size=tokenizer.size),
            tokenizer,
            s.limits,
            device=s.device,
            max_target_tokens=s.max_target_tokens,
            plain=lambda: plain_tokenizer(model, tokenizer, store=store, cache_folder=cache),
            positions=s.positions,
        )
