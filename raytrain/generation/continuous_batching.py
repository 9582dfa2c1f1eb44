"""Greedy answers to many texts: as many as there are slots are written at once, and a slot that ends takes the next.

Texts are read longest first, in waves of a bounded number of tokens, so that little is padding;
each step writes one token of every slot. What a text is answered depends on the texts of the call
alone, never on the clock.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep.text.tokenizer import EOS, PAD, Ids
from raytrain.generation.t5_engine import Cache, Inference, Memory

WAVE_TOKENS = 4096  # of texts read at once
CACHE_TOKENS = 16_384  # of texts being answered at once: with long texts there are fewer slots


@dataclass(frozen=True, slots=True)
class Wave:
    """Texts that were just read: their numbers, and the memory that holds them in this order."""

    texts: tuple[int, ...]
    memory: Memory


OnWave = Callable[[Wave], None]
"""Called with each wave before its texts are answered, for whatever else is to be asked of them."""


def waves(model: Inference, sources: Sequence[Ids], *, at_once: int, wave_tokens: int = WAVE_TOKENS) -> Iterator[Wave]:
    """All sources, longest first (equals in their order), in waves of at most `at_once` texts."""
    order = sorted(range(len(sources)), key=lambda i: -len(sources[i]))
    start = 0
    while start < len(order):
        longest = len(sources[order[start]])
        texts = tuple(order[start : start + max(1, min(at_once, wave_tokens // longest))])
        lengths = torch.tensor([len(sources[i]) for i in texts])
        ids = padded([sources[i] for i in texts])
        yield Wave(texts, model.read(ids.to(model.device), lengths.to(model.device)))
        start += len(texts)


def padded(rows: Sequence[Ids]) -> torch.Tensor:
    """Rows of ids as one matrix, filled up with PAD behind."""
    found: NDArray[np.int64] = np.full((len(rows), max(map(len, rows))), PAD, dtype=np.int64)
    for line, row in zip(found, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(found)


def greedy(
    model: Inference,
    sources: Sequence[Ids],
    *,
    slots: int,
    max_new_tokens: int | Sequence[int],
    on_wave: OnWave | None = None,
) -> list[list[int]]:
    """For each source the ids that the model writes, EOS included where it got there within `max_new_tokens`.

    `max_new_tokens` holds for all of them, or there is one for each.
    """
    if not sources:
        return []
    slots = max(1, min(slots, len(sources), CACHE_TOKENS // max(map(len, sources))))
    with torch.inference_mode():
        coming = _texts(waves(model, sources, at_once=slots), on_wave)
        return _Writing(model, sources, slots, max_new_tokens).run(coming)


def _texts(found: Iterator[Wave], on_wave: OnWave | None) -> Iterator[tuple[int, Memory, int]]:
    """Text by text: its number, and where it lies in which memory."""
    for wave in found:
        if on_wave is not None:
            on_wave(wave)
        for place, text in enumerate(wave.texts):
            yield text, wave.memory, place


class _Writing:
    """The slots: who answers what, and how far.

    The first `len(self._owner)` of the cache are at work, none is idle.
    """

    def __init__(
        self, model: Inference, sources: Sequence[Ids], slots: int, max_new_tokens: int | Sequence[int]
    ) -> None:
        self._model, self._sources, self._slots = model, sources, slots
        self._most = [max_new_tokens] * len(sources) if isinstance(max_new_tokens, int) else max_new_tokens
        self._answers: list[list[int]] = [[] for _ in sources]
        self._cache = Cache(model, slots, written=max(self._most), length=max(map(len, sources)))
        self._owner: list[int] = []

    def run(self, coming: Iterator[tuple[int, Memory, int]]) -> list[list[int]]:
        """Write until no text is left."""
        for slot, found in zip(range(self._slots), coming, strict=False):
            self._owner.append(found[0])
            self._begin(slot, found)
        while self._owner:
            tokens = [self._answers[text][-1] if self._answers[text] else self._model.start for text in self._owner]
            at = [len(self._answers[text]) for text in self._owner]
            logits = self._model.write(
                torch.tensor(tokens, device=self._model.device),
                torch.tensor(at, device=self._model.device),
                self._cache,
                max(at) + 1,
                max(len(self._sources[text]) for text in self._owner),
            )
            for text, token in zip(self._owner, logits.argmax(dim=-1).tolist(), strict=True):
                self._answers[text].append(token)
            for slot in reversed(range(len(self._owner))):
                if self._ended(self._owner[slot]):
                    self._refill(slot, coming)
        return self._answers

    def _ended(self, text: int) -> bool:
        return self._answers[text][-1] == EOS or len(self._answers[text]) >= self._most[text]

    def _refill(self, slot: int, coming: Iterator[tuple[int, Memory, int]]) -> None:
        """The next text takes the place, or, where none comes any more, the last slot does."""
        if (found := next(coming, None)) is not None:
            self._owner[slot] = found[0]
            self._begin(slot, found)
            return
        last = self._owner.pop()
        if slot < len(self._owner):
            written, length = len(self._answers[last]), len(self._sources[last])
            self._cache.move(len(self._owner), slot, written=written, length=length)
            self._owner[slot] = last

    def _begin(self, slot: int, found: tuple[int, Memory, int]) -> None:
        text, memory, place = found
        self._cache.take(slot, memory, place, len(self._sources[text]))
