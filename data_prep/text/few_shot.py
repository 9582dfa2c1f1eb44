"""Few-shot prompts: some training rows, with their answers, in front of the row that is asked.

Which rows get shots, and which ones, is a function of the row, of the seed and of the set of
training rows, so the order of reading does not matter. Shots are training rows, never one with the
input of the row itself.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.text.templates import Template
from data_prep.text.tokenizer import Tokenizer
from raytrain_core.hashing import content_key, splitmix64, unit

POOL = 1000  # training rows that shots are taken from: they travel with every piece of work


@dataclass(frozen=True, slots=True)
class Shot:
    """A row with its answer."""

    input: str
    answer: str


class ShotPool:
    """Gathers the rows that shots are taken from: those with the smallest keys of all that it is shown."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._heap: list[tuple[int, str, str]] = []  # negated keys: the largest key is the first to go
        self._held: set[tuple[str, str]] = set()

    def add(self, text: str, answer: str) -> None:
        """One training row; the same one a second time changes nothing."""
        if (text, answer) in self._held:
            return
        entry = (-content_key("shot", self._seed, text, answer), text, answer)
        self._held.add((text, answer))
        if len(self._heap) < POOL:
            heapq.heappush(self._heap, entry)
        else:
            _, *gone = heapq.heappushpop(self._heap, entry)
            self._held.remove((gone[0], gone[1]))

    def shots(self) -> tuple[Shot, ...]:
        """The rows, in an order of their own."""
        return tuple(Shot(text, answer) for _, text, answer in sorted(self._heap))


@dataclass(frozen=True, slots=True)
class Shots:
    """Who gets which shots."""

    pool: tuple[Shot, ...]
    share: float
    examples: int
    seed: int

    def shots_of(self, text: str, variant: int) -> list[Shot]:
        """The shots of the row with input `text` in that of its wordings; none for all but `share` of them."""
        key = content_key("few-shot", self.seed, variant, text)
        if unit(key) >= self.share:
            return []
        if not self.pool:
            return []
        keys = splitmix64(np.arange(len(self.pool), dtype=np.uint64) ^ np.uint64(splitmix64(key)))
        nearest = np.argsort(keys, kind="stable")[: 2 * self.examples + 8]
        return [shot for shot in (self.pool[i] for i in nearest) if shot.input != text][: self.examples]

    def prompts(
        self, inputs: Sequence[str], templates: Sequence[Template], variant: int, tokenizer: Tokenizer, limit: int
    ) -> Mapping[int, str]:
        """The few-shot prompts among those of `inputs`, the i-th in `templates[i]`, by i.

        A prompt gets as many of its shots as fit into `limit` tokens with it; one without any is
        left out.
        """
        wanted = {i: shots for i, text in enumerate(inputs) if (shots := self.shots_of(text, variant))}
        found: dict[int, str] = {}
        while wanted:
            tried = {i: _prompt(templates[i], shots, inputs[i]) for i, shots in wanted.items()}
            lengths = map(len, tokenizer.encode_open(list(tried.values())))
            fits = {i: length < limit for i, length in zip(tried, lengths, strict=True)}  # and one for EOS
            found |= {i: prompt for i, prompt in tried.items() if fits[i]}
            wanted = {i: shots[:-1] for i, shots in wanted.items() if not fits[i] and len(shots) > 1}
        return dict(sorted(found.items()))


def _prompt(template: Template, shots: Sequence[Shot], text: str) -> str:
    answered = [f"{template.render(shot.input)}\n{shot.answer}" for shot in shots]
    return "\n\n".join([*answered, template.render(text)])
