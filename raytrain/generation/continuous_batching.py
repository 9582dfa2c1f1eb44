"""Greedy generation with continuous batching: a slot whose request ends takes the next request.

Prompts are encoded longest first, in prefill batches of a bounded number of tokens, so that little
of them is padding; every step decodes one token for each slot. What is generated for a prompt
depends only on the prompts of the same call, never on timing.

Shapes are written as suffixes of tensor names, as in `t5_engine`: B requests in a batch or slots
being decoded, S source (prompt) length, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep.text.tokenizer import EOS, PAD, Ids
from raytrain.generation.t5_engine import EncoderOutput, KVCache, T5Engine

PREFILL_TOKENS = 4096  # prompt tokens encoded at once
CACHE_TOKENS = 16_384  # prompt tokens of all slots: long prompts get fewer slots


@dataclass(frozen=True, slots=True)
class PrefillBatch:
    """Prompts that were encoded together: their numbers, in the order of `encoded`."""

    prompts: tuple[int, ...]
    encoded: EncoderOutput


OnPrefill = Callable[[PrefillBatch], None]
"""Called with each prefill batch before it is decoded, for example to score targets."""


def prefill_batches(
    engine: T5Engine, sources: Sequence[Ids], *, max_prompts: int, max_tokens: int = PREFILL_TOKENS
) -> Iterator[PrefillBatch]:
    """Encodes `sources`, longest first (ties in the given order), at most `max_prompts` at once."""
    order = sorted(range(len(sources)), key=lambda i: -len(sources[i]))
    start = 0
    while start < len(order):
        longest = len(sources[order[start]])
        prompts = tuple(order[start : start + max(1, min(max_prompts, max_tokens // longest))])
        lengths_B = torch.tensor([len(sources[i]) for i in prompts])
        ids_BS = pad([sources[i] for i in prompts])
        yield PrefillBatch(prompts, engine.encode(ids_BS.to(engine.device), lengths_B.to(engine.device)))
        start += len(prompts)


def pad(rows: Sequence[Ids]) -> torch.Tensor:
    """Returns rows of ids as one matrix, padded with PAD on the right."""
    matrix: NDArray[np.int64] = np.full((len(rows), max(map(len, rows))), PAD, dtype=np.int64)
    for line, row in zip(matrix, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(matrix)


def generate_greedy(
    engine: T5Engine,
    sources: Sequence[Ids],
    *,
    slots: int,
    max_new_tokens: int | Sequence[int],
    on_prefill: OnPrefill | None = None,
) -> list[list[int]]:
    """Returns the generated ids for each source, EOS included unless the token limit came first.

    `max_new_tokens` is one limit for all sources, or one for each.
    """
    if not sources:
        return []
    slots = max(1, min(slots, len(sources), CACHE_TOKENS // max(map(len, sources))))
    with torch.inference_mode():
        waiting = _encoded_prompts(prefill_batches(engine, sources, max_prompts=slots), on_prefill)
        return ContinuousBatcher(engine, sources, slots, max_new_tokens).run(waiting)


@dataclass(frozen=True, slots=True)
class _EncodedPrompt:
    """One prompt of a prefill batch: its number, and its place in `encoded`."""

    prompt: int
    encoded: EncoderOutput
    place: int


def _encoded_prompts(batches: Iterator[PrefillBatch], on_prefill: OnPrefill | None) -> Iterator[_EncodedPrompt]:
    for batch in batches:
        if on_prefill is not None:
            on_prefill(batch)
        for place, prompt in enumerate(batch.prompts):
            yield _EncodedPrompt(prompt, batch.encoded, place)


class ContinuousBatcher:
    """Decodes prompts in a fixed number of slots.

    Slots in use are always the first ones of the cache: `self._prompt_of[slot]` is the number of
    the prompt that a slot decodes.
    """

    def __init__(
        self, engine: T5Engine, sources: Sequence[Ids], slots: int, max_new_tokens: int | Sequence[int]
    ) -> None:
        self._engine, self._sources, self._slots = engine, sources, slots
        self._limits = [max_new_tokens] * len(sources) if isinstance(max_new_tokens, int) else max_new_tokens
        self._generated: list[list[int]] = [[] for _ in sources]
        self._cache = KVCache(engine, slots, target_length=max(self._limits), source_length=max(map(len, sources)))
        self._prompt_of: list[int] = []

    def run(self, waiting: Iterator[_EncodedPrompt]) -> list[list[int]]:
        """Decodes until no prompt is left; returns the generated ids of each."""
        for slot, prompt in zip(range(self._slots), waiting, strict=False):
            self._prompt_of.append(prompt.prompt)
            self._fill(slot, prompt)
        while self._prompt_of:
            self._step()
            for slot in reversed(range(len(self._prompt_of))):
                if self._has_ended(self._prompt_of[slot]):
                    self._refill(slot, waiting)
        return self._generated

    def _step(self) -> None:
        """Decodes one token for every slot in use."""
        generated = [self._generated[prompt] for prompt in self._prompt_of]
        tokens = [ids[-1] if ids else self._engine.start_token for ids in generated]
        positions = [len(ids) for ids in generated]
        logits_BV = self._engine.decode_step(
            torch.tensor(tokens, device=self._engine.device),
            torch.tensor(positions, device=self._engine.device),
            self._cache,
            max(positions) + 1,
            max(len(self._sources[prompt]) for prompt in self._prompt_of),
        )
        for ids, token in zip(generated, logits_BV.argmax(dim=-1).tolist(), strict=True):
            ids.append(token)

    def _has_ended(self, prompt: int) -> bool:
        return self._generated[prompt][-1] == EOS or len(self._generated[prompt]) >= self._limits[prompt]

    def _refill(self, slot: int, waiting: Iterator[_EncodedPrompt]) -> None:
        """Gives the slot to the next prompt; when none is left, to that of the last slot."""
        if (following := next(waiting, None)) is not None:
            self._prompt_of[slot] = following.prompt
            self._fill(slot, following)
            return
        moved = self._prompt_of.pop()
        last = len(self._prompt_of)
        if slot < last:
            generated, length = len(self._generated[moved]), len(self._sources[moved])
            self._cache.move(last, slot, target_length=generated, source_length=length)
            self._prompt_of[slot] = moved

    def _fill(self, slot: int, prompt: _EncodedPrompt) -> None:
        self._cache.fill(slot, prompt.encoded, prompt.place, len(self._sources[prompt.prompt]))
