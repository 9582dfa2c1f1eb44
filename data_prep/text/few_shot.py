"""Few-shot prompts: some training rows with their targets before the row itself.

Which rows get shots, and which shots, depends on the row, the seed and the set of training rows,
not on the reading order. A row is never its own shot.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_prep.text.templates import Template
from data_prep.text.tokenizer import Tokenizer
from raytrain_core.hashing import content_key, splitmix64, unit

POOL = 1000  # training rows that shots are chosen from: they are sent with every work unit


@dataclass(frozen=True, slots=True)
class Shot:
    """A row with its target."""

    input: str
    target: str


class ShotPool:
    """Collects the rows that shots are chosen from: those with the smallest keys."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._heap: list[tuple[int, str, str]] = []  # negated keys: the largest key is the first to go
        self._held: set[tuple[str, str]] = set()

    def add(self, text: str, target: str) -> None:
        """Adds a training row; adding an equal one again changes nothing."""
        if (text, target) in self._held:
            return
        entry = (-content_key("shot", self._seed, text, target), text, target)
        self._held.add((text, target))
        if len(self._heap) < POOL:
            heapq.heappush(self._heap, entry)
        else:
            _, *gone = heapq.heappushpop(self._heap, entry)
            self._held.remove((gone[0], gone[1]))

    def shots(self) -> tuple[Shot, ...]:
        """Returns the rows in a fixed order."""
        return tuple(Shot(text, target) for _, text, target in sorted(self._heap))


@dataclass(frozen=True, slots=True)
class Shots:
    """Chooses the shots of each row."""

    pool: tuple[Shot, ...]
    share: float
    examples: int
    seed: int

    def shots_of(self, text: str, variant: int) -> list[Shot]:
        """Returns the shots of one variant of the row with input `text`.

        Only `share` of the rows have any.
        """
        key = content_key("few-shot", self.seed, variant, text)
        if unit(key) >= self.share:
            return []
        if not self.pool:
            return []
        import numpy as np

        keys = splitmix64(np.arange(len(self.pool), dtype=np.uint64) ^ np.uint64(splitmix64(key)))
        nearest = np.argsort(keys, kind="stable")[: 2 * self.examples + 8]
        return [shot for shot in (self.pool[i] for i in nearest) if shot.input != text][: self.examples]

    def prompts(
        self, inputs: Sequence[str], templates: Sequence[Template], variant: int, tokenizer: Tokenizer, limit: int
    ) -> Mapping[int, str]:
        """Renders input i with `templates[i]` and returns the prompts that have shots, by i.

        A prompt gets as many of its shots as fit into `limit` tokens with it; one without any is
        left out.
        """
        remaining = {i: shots for i, text in enumerate(inputs) if (shots := self.shots_of(text, variant))}
        found: dict[int, str] = {}
        while remaining:
            tried = {i: _prompt(templates[i], shots, inputs[i]) for i, shots in remaining.items()}
            lengths = map(len, tokenizer.encode_open(list(tried.values())))
            fits = {i: length < limit for i, length in zip(tried, lengths, strict=True)}  # and one for EOS
            found |= {i: prompt for i, prompt in tried.items() if fits[i]}
            remaining = {i: shots[:-1] for i, shots in remaining.items() if not fits[i] and len(shots) > 1}
        return dict(sorted(found.items()))


def _prompt(template: Template, shots: Sequence[Shot], text: str) -> str:
    answered = [f"{template.render(shot.input)}\n{shot.target}" for shot in shots]
    return "\n\n".join([*answered, template.render(text)])
