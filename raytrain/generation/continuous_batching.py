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

from data_prep.text.tokenizer import PAD, Ids
from raytrain.generation.slots import Decoding, Slots
from raytrain.generation.t5_engine import EncoderOutput, T5Engine

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
    """Decodes given prompts in a fixed number of slots."""

    def __init__(
        self, engine: T5Engine, sources: Sequence[Ids], slots: int, max_new_tokens: int | Sequence[int]
    ) -> None:
        limits = [max_new_tokens] * len(sources) if isinstance(max_new_tokens, int) else max_new_tokens
        self._decodings = [Decoding(len(source), limit) for source, limit in zip(sources, limits, strict=True)]
        self._slots = Slots(engine, slots, target_length=max(limits), source_length=max(map(len, sources)))

    def run(self, waiting: Iterator[_EncodedPrompt]) -> list[list[int]]:
        """Decodes until no prompt is left; returns the generated ids of each."""
        slots = self._slots
        for _, prompt in zip(range(slots.free), waiting, strict=False):
            slots.add(self._decodings[prompt.prompt], prompt.encoded, prompt.place)
        while slots.in_use:
            slots.step()
            for slot in reversed(range(len(slots.in_use))):
                if slots.in_use[slot].has_ended:
                    self._refill(slot, waiting)
        return [decoding.generated for decoding in self._decodings]

    def _refill(self, slot: int, waiting: Iterator[_EncodedPrompt]) -> None:
        """Gives the slot to the next prompt; when none is left, to that of the last slot."""
        following = next(waiting, None)
        if following is None:
            self._slots.drop(slot)
        else:
            self._slots.replace(slot, self._decodings[following.prompt], following.encoded, following.place)
