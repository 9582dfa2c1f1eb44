"""Requests that are decoded together, one token of each at a step; one that ends frees its slot.

Shapes are written as suffixes of tensor names, as in `t5_engine`.
"""

from dataclasses import dataclass, field

import torch

from data_prep.text.tokenizer import EOS
from raytrain.generation.t5_engine import EncoderOutput, KVCache, T5Engine


@dataclass(slots=True, eq=False)
class Decoding:
    """One request being decoded: how long its prompt is, its limit, and its ids so far."""

    source_length: int
    limit: int
    generated: list[int] = field(default_factory=list)

    @property
    def has_ended(self) -> bool:
        """Whether the last token was EOS or the limit has been reached."""
        return bool(self.generated) and (self.generated[-1] == EOS or len(self.generated) >= self.limit)


class Slots:
    """A fixed number of slots of a cache; those in use are always the first ones.

    `target_length` and `source_length` bound the tokens of each request.
    """

    def __init__(self, engine: T5Engine, count: int, *, target_length: int, source_length: int) -> None:
        self._engine, self._count = engine, count
        self._cache = KVCache(engine, count, target_length=target_length, source_length=source_length)
        self.in_use: list[Decoding] = []

    @property
    def free(self) -> int:
        """How many requests can be added."""
        return self._count - len(self.in_use)

    def add(self, decoding: Decoding, encoded: EncoderOutput, place: int) -> None:
        """Puts a request, number `place` of `encoded`, into the next free slot."""
        self._cache.fill(len(self.in_use), encoded, place, decoding.source_length)
        self.in_use.append(decoding)

    def replace(self, slot: int, decoding: Decoding, encoded: EncoderOutput, place: int) -> None:
        """Gives a slot to another request."""
        self._cache.fill(slot, encoded, place, decoding.source_length)
        self.in_use[slot] = decoding

    def drop(self, slot: int) -> None:
        """Frees a slot; the request of the last slot moves there."""
        moved = self.in_use.pop()
        last = len(self.in_use)
        if slot < last:
            lengths = {"target_length": len(moved.generated), "source_length": moved.source_length}
            self._cache.move(last, slot, **lengths)
            self.in_use[slot] = moved

    def step(self) -> None:
        """Decodes one token for every slot in use."""
        tokens = [d.generated[-1] if d.generated else self._engine.start_token for d in self.in_use]
        positions = [len(d.generated) for d in self.in_use]
        next_B = self._engine.next_tokens(
            torch.tensor(tokens, device=self._engine.device),
            torch.tensor(positions, device=self._engine.device),
            self._cache,
            max(positions) + 1,
            max(d.source_length for d in self.in_use),
        )
        for decoding, token in zip(self.in_use, next_B.tolist(), strict=True):
            decoding.generated.append(token)
